"""The program: three screens over one state folder, a look at the record every 150 ms, a beat every five seconds."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from soothsayer_mcp.console.tui.asks import AsksScreen
from soothsayer_mcp.console.tui.desk import Desk, DeskError
from soothsayer_mcp.console.tui.live import LiveScreen
from soothsayer_mcp.console.tui.runs import RunsScreen
from soothsayer_mcp.console.tui.view import Program, View
from soothsayer_mcp.trace.query import Filter

LOOK_S = 0.15
"""How often it is looked whether something was written; a look takes microseconds."""

SEEN_S = 0.5
"""How long a question has to stand there before a yes counts: nobody has read it sooner."""


class Watch(Program):
    """Shows what goes on in a state folder until it is left; its answer is the exit code."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "quit", show=False, priority=True),
        Binding("ctrl+q", "leave", "quit", show=False),
    ]
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "live": LiveScreen,
        "asks": AsksScreen,
        "runs": RunsScreen,
    }

    def __init__(
        self, desk: Desk, *, wanted: Filter, beat_s: float, interrupted: int, seen_s: float = SEEN_S, mode: str = "live"
    ) -> None:
        """`wanted` limits the steps at first; `interrupted` is the answer after Ctrl-C or a signal."""
        super().__init__(desk, wanted=wanted, seen_s=seen_s)
        self.theme = "ansi-dark"
        self.animation_level = "none"
        self.interrupted = interrupted
        self._beating = ThreadPoolExecutor(1, thread_name_prefix="beating")
        self._beat_s = beat_s
        self._first = mode
        self._trouble = ""

    async def on_mount(self) -> None:
        """Open the first screen, and look and beat from now on."""
        await self.switch_mode(self._first)
        self.run_worker(self._watch(), group="watch")
        self.run_worker(self._beat(), group="beat")
        self.set_interval(1.0, self._tick)

    async def on_unmount(self) -> None:
        """Let go of the threads; what they are at ends by itself."""
        self.leaving = True
        for executor in (self.reading, self.writing, self._beating):
            executor.shutdown(wait=False, cancel_futures=True)

    @property
    def view(self) -> View | None:
        """The screen that is seen, or stands below a dialog."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, View)), None)

    def action_show(self, name: str) -> None:
        """Show one of the three screens, as it was left."""
        if self.current_mode == name:
            while len(self.screen_stack) > 1:
                self.pop_screen()
        else:
            self.switch_mode(name)

    def action_leave(self) -> None:
        """End, as wanted."""
        self.exit(0)

    def action_interrupt(self) -> None:
        """End, as interrupted."""
        self.exit(self.interrupted)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.leaving:
            try:
                if await loop.run_in_executor(self.reading, self.desk.has_changed):
                    await self._count_asks()
                    if self.view is not None:
                        self.view.reload()
            except DeskError as error:
                self._warn(str(error))
            await asyncio.sleep(LOOK_S)

    async def _count_asks(self) -> None:
        if self.leaving:
            return
        loop = asyncio.get_running_loop()
        self.open_asks = len(await loop.run_in_executor(self.reading, self.desk.open_asks))

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.leaving:
            try:
                await loop.run_in_executor(self._beating, self.desk.beat)
            except DeskError as error:
                self._warn(str(error))
            await asyncio.sleep(self._beat_s)

    async def _tick(self) -> None:
        """A question expires without anything being written."""
        try:
            await self._count_asks()
        except DeskError as error:
            self._warn(str(error))
        if self.view is not None:
            self.view.draw_head()
            self.view.tick()

    def _warn(self, text: str) -> None:
        """Say what is wrong, once."""
        if text != self._trouble and self.view is not None:
            self._trouble = text
            self.view.say(text)
