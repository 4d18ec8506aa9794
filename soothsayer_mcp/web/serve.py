"""Serving the pages at one address of this machine until a signal ends it."""

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from soothsayer_mcp.adapters.faces import BEAT_S
from soothsayer_mcp.adapters.system import ENDING

HOST = "127.0.0.1"
"""Never another: who reaches it can be anybody with an account here, and nobody else."""
MOST_CONNECTIONS = 64


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, end: Callable[[], None]) -> None:
        super().__init__(config)
        self._end = end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of what would stay open, then wait for what is being answered."""
        self._end()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are ours: what is open has to be closed after the last request, in any case."""
        yield


def listen(port: int) -> socket.socket:
    """The address that is served; any free port where none is wanted. Raises `OSError`."""
    return socket.create_server((HOST, port), backlog=MOST_CONNECTIONS)


def serve(
    app: ASGIApp, listening: socket.socket, ready: Callable[[], None], beat: Callable[[], None], end: Callable[[], None]
) -> int:
    """Serve until a signal asks to end; the number of that signal. `end` lets go of what would stay open.

    `beat` says that we run, and is called again and again.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config, end)
    ended = 0

    def leave(number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = number
        server.should_exit = True

    before = {number: signal.signal(number, leave) for number in ENDING}
    try:
        asyncio.run(_serve(server, listening, ready, beat))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ended


async def _serve(
    server: uvicorn.Server, listening: socket.socket, ready: Callable[[], None], beat: Callable[[], None]
) -> None:
    ready()
    beating = asyncio.create_task(_again(beat))
    try:
        await server.serve(sockets=[listening])
    finally:
        beating.cancel()


async def _again(beat: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        with suppress(OSError):  # A full disk is told by what cannot be answered then.
            beat()
