from collections.abc import Sequence

import anyio
import pytest

from soothsayer_mcp.ports import LegEnd


class Listener:
    """Hears one connection and can be waited for."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.ends: list[LegEnd] = []
        self.frames_at_end = -1
        self._news = anyio.Event()

    def received(self, frames: Sequence[bytes]) -> None:
        self.frames.extend(frames)
        self._tell()

    def ended(self, end: LegEnd) -> None:
        self.ends.append(end)
        self.frames_at_end = len(self.frames)
        self._tell()

    async def frame_count(self, count: int) -> list[bytes]:
        with anyio.fail_after(60):
            while len(self.frames) < count:
                await self._news.wait()
        return self.frames

    async def end(self) -> LegEnd:
        with anyio.fail_after(60):
            while not self.ends:
                await self._news.wait()
        return self.ends[0]

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def listener() -> Listener:
    return Listener()
