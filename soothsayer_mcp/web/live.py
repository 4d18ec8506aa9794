"""Telling open pages what changed: one look at the store for all of them, and the sign that somebody looks."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Receive, Send

from soothsayer_mcp.console.tui.desk import DeskError
from soothsayer_mcp.model.value import dataclass

LOOK_S: Final = 0.25
PING_S: Final = 15.0
SLOW_S: Final = 10.0
"""A page that takes nothing for so long is let go; its browser comes again by itself."""
MOST_PAGES: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What can be told of the store in a line."""

    pos: int = -2
    """Nothing was looked at yet; -1 while there is no trace."""
    asks: tuple[str, ...] = ()


class Pulse:
    """Looks while at least one page is open."""

    def __init__(
        self, look: Callable[[], Awaitable[Sight]], beat: Callable[[], Awaitable[None]], beat_s: float
    ) -> None:
        """`look` tells what is there now, `beat` that somebody looks."""
        self._look = look
        self._beat = beat
        self._beat_s = beat_s
        self._pages: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self.sight = Sight()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        beaten = -self._beat_s
        while True:
            with contextlib.suppress(DeskError):  # It is told by whatever page is asked for next.
                if loop.time() - beaten >= self._beat_s:
                    await self._beat()
                    beaten = loop.time()
                seen = await self._look()
                if seen != self.sight:
                    async with self._changed:
                        self.sight = seen
                        self._changed.notify_all()
            await asyncio.sleep(LOOK_S)

    async def other_than(self, known: Sight) -> Sight:
        """Wait until something else is seen, or for a while; what is seen then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PING_S), self._changed:
                await self._changed.wait_for(lambda: self.sight != known)
        return self.sight

    async def stream(self, receive: Receive, send: Send, *, known_pos: int | None) -> None:
        """Answer a page with events until it goes away. `known_pos` is what it has seen already."""
        if len(self._pages) >= MOST_PAGES:
            await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"30")]})
            await send({"type": "http.response.body", "body": b""})
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        telling = asyncio.create_task(self._tell(send, known_pos))
        leaving = asyncio.create_task(_gone(receive))
        self._pages.add(telling)
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            is_over = telling.cancelled()
            telling.cancel()
            self._pages.discard(telling)
            if not self._pages:
                self._task.cancel()
                self._task = None
        if is_over:
            await send({"type": "http.response.body", "body": b""})

    def end(self) -> None:
        """Let every page go: we are about to end."""
        for telling in self._pages:
            telling.cancel()

    async def _tell(self, send: Send, known_pos: int | None) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        with contextlib.suppress(TimeoutError, OSError):
            await _in_time(send, {"type": "http.response.start", "status": 200, "headers": headers})
            known = Sight()
            first = True
            while True:
                seen = await self.other_than(known)
                is_news = seen != known and not (first and seen.pos == known_pos)
                text = _event(seen, is_news=is_news) if seen != known else ": still here\n\n"
                known, first = seen, False
                await _in_time(send, {"type": "http.response.body", "body": text.encode(), "more_body": True})


def _event(seen: Sight, *, is_news: bool) -> str:
    return f"id: {seen.pos}\nevent: {'news' if is_news else 'same'}\ndata: {json.dumps({'asks': seen.asks})}\n\n"


async def _in_time(send: Send, message: dict[str, object]) -> None:
    async with asyncio.timeout(SLOW_S):
        await send(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
