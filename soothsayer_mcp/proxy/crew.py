"""Tasks that do one piece of work after another: to start a task costs three times what waking one does."""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import anyio

T = TypeVar("T")


class Crew(Generic[T]):
    """As many tasks as there ever was work at once: no piece of work waits for another."""

    def __init__(self, spawn: Callable[..., None], work: Callable[[T], Coroutine[Any, Any, None]]) -> None:
        """`spawn` starts a task; `work` sees to its own faults."""
        self._spawn = spawn
        self._work = work
        self._waiting: deque[T] = deque()
        self._idle: list[anyio.Event] = []

    def give(self, piece: T) -> None:
        """Have a piece of work done, soon."""
        self._waiting.append(piece)
        if self._idle:
            self._idle.pop().set()
        else:
            self._spawn(self._member)

    async def _member(self) -> None:
        while True:
            if self._waiting:
                await self._work(self._waiting.popleft())
            else:
                woken = anyio.Event()
                self._idle.append(woken)
                await woken.wait()
