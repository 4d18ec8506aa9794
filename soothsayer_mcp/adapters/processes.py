"""Tool servers as processes: a connection that knows how its server ends, and ends its whole process group."""

import asyncio
import contextlib
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

from soothsayer_mcp.adapters.launch import INPUT_END_S, TERM_S, Child, Launch, launch
from soothsayer_mcp.adapters.lines import MAX_FRAME
from soothsayer_mcp.adapters.pipes import PipeLeg
from soothsayer_mcp.ports import LegEnd, PortError

SETTLE_S: Final = 0.5
"""How long the exit is awaited after the output ended, and the end of the output after the exit."""

_LOOK_S: Final = 0.01
"""How often a group is looked at that was asked to end: no system tells when a group is empty."""


class ServerProcess:
    """Starts one stdio server, again and again if need be; each time a new process and a new connection."""

    def __init__(
        self,
        how: Launch,
        *,
        max_frame: int = MAX_FRAME,
        first: Child | PortError | None = None,
        started: Callable[[Child], None] | None = None,
    ) -> None:
        """Start nothing yet. `first` is a process that was started before there was an event loop, or why it was not.

        The first connection takes it over, or is told. `started` hears of each process that is started here.
        """
        self._how = how
        self._max_frame = max_frame
        self._early = first
        self._started = started

    async def __call__(self) -> "ProcessLeg":
        """Connect. Raises `PortError` (`server_unreachable`, acted no) when the process cannot be started."""
        early, self._early = self._early, None
        if isinstance(early, PortError):
            raise early
        if early is None:
            early = launch(self._how)
            if self._started is not None:
                self._started(early)
        return ProcessLeg(early, max_frame=self._max_frame)


class ProcessLeg:
    """The connection to a server that we started."""

    def __init__(self, child: Child, *, max_frame: int = MAX_FRAME) -> None:
        """Connect to the pipes of a child, and own the child from here on."""
        self._child = child
        self._pipe = PipeLeg(child.stdout_fd, child.stdin_fd, max_frame=max_frame, ours=True)
        self._exited = asyncio.Event()
        self._output_ended = asyncio.Event()
        self._ended: Callable[[LegEnd], None] | None = None
        self._watch = _watch_exit(child, self._exited.set)
        self._settling: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def child(self) -> Child:
        """The process behind the connection."""
        return self._child

    @property
    def waiting_bytes(self) -> int:
        """How much was given to `send` and is not written yet."""
        return self._pipe.waiting_bytes

    def unsendable(self, tool: str) -> str:  # noqa: ARG002 - all tools are alike here
        """Nothing: every call can be sent."""
        return ""

    def start(self, received: Callable[[Sequence[bytes]], None], ended: Callable[[LegEnd], None]) -> None:
        """Begin to read; `ended` tells how the process ended and what it last said."""
        self._ended = ended
        self._pipe.start(received, lambda _end: self._output_ended.set())
        self._settling = asyncio.create_task(self._settle())

    def send(self, raw: bytes) -> None:
        """Queue one frame without its line end; once nobody reads it does nothing."""
        self._pipe.send(raw)

    def pause(self) -> None:
        """Stop reading until `resume`."""
        self._pipe.pause()

    def resume(self) -> None:
        """Read again."""
        self._pipe.resume()

    async def drained(self) -> bool:
        """Wait until all that was sent is written; false when the server no longer reads."""
        return await self._pipe.drained()

    async def aclose(self) -> None:
        """End the server: its input ends; it has a second, its group half a second more, then the group is killed.

        Goes on to its end even when the caller is cancelled.
        """
        if self._closing is None:
            self._ended = None
            self._closing = asyncio.create_task(self._end_process())
        await asyncio.shield(self._closing)

    async def _settle(self) -> None:
        """Tell the end once: when the output has ended, or when the process has and others hold its output open."""
        exited = asyncio.create_task(self._exited.wait())
        output_ended = asyncio.create_task(self._output_ended.wait())
        try:
            await asyncio.wait({exited, output_ended}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({exited, output_ended}, timeout=SETTLE_S)
        finally:
            exited.cancel()
            output_ended.cancel()
        if self._exited.is_set():
            # Its last words may still be on their way through the thread that shows them.
            await asyncio.to_thread(self._child.wait_for_words, SETTLE_S)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(LegEnd(why=self._child.describe_end(), last_words=self._child.last_words))

    async def _end_process(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
        await self._pipe.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INPUT_END_S):
                await self._exited.wait()
        if await self._group_outlives(0.0):
            self._child.ask_to_end()
            if await self._group_outlives(TERM_S):
                self._child.kill()
                await self._group_outlives(TERM_S)
        self._watch()
        self._child.forget()

    async def _group_outlives(self, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._child.group_lives():
            if loop.time() >= deadline:
                return True
            await asyncio.sleep(_LOOK_S)
        return False


def _watch_exit(child: Child, exited: Callable[[], None]) -> Callable[[], None]:
    """Call `exited` on the loop when the process has ended. Returns what ends the watch."""
    loop = asyncio.get_running_loop()
    if sys.platform == "linux":
        try:
            fd = os.pidfd_open(child.pid)
        except OSError:
            pass  # an old kernel, or a sandbox that forbids it: a thread can wait as well
        else:
            return _watch_descriptor(loop, fd, exited)
    if child.ended() is not None:
        exited()
        return _nothing

    # Not in the thread's own context, where anyio knows of no loop.
    context = contextvars.copy_context()

    def wait() -> None:
        child.process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(exited, context=context)

    threading.Thread(target=wait, name="exit", daemon=True).start()
    return _nothing


def _watch_descriptor(loop: asyncio.AbstractEventLoop, fd: int, exited: Callable[[], None]) -> Callable[[], None]:
    watching = True

    def end() -> None:
        nonlocal watching
        if watching:
            watching = False
            loop.remove_reader(fd)
            os.close(fd)

    def readable() -> None:
        end()
        exited()

    loop.add_reader(fd, readable)
    return end


def _nothing() -> None:
    """End a watch that ends by itself."""
