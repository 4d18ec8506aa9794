"""Step: all that is on record of one step, why it was decided so, and what was said."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from soothsayer_mcp.console import render
from soothsayer_mcp.console.layout import BOLD
from soothsayer_mcp.console.tui.desk import StepName
from soothsayer_mcp.console.tui.dialogs import Prompt
from soothsayer_mcp.console.tui.sheet import Sheet
from soothsayer_mcp.console.tui.view import View
from soothsayer_mcp.trace.rows import Story


class StepScreen(View):
    """One step."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "more", "what was said"),
        Binding("e", "explain", "every rule"),
        Binding("w", "write", "write"),
    ]

    def __init__(self, step: StepName) -> None:
        """Show this step."""
        super().__init__()
        self._sheet = Sheet(id="story")
        self._step = step
        self._told: Story | None = None
        self._more = False
        self._explained = False
        self._drawn: object = None

    def body(self) -> ComposeResult:
        """One page."""
        yield self._sheet

    def place(self) -> str:
        """Which step."""
        return f"step {self.shorts.get(self._step[0], self._step[0][:4])}.{self._step[1]}"

    def id_under_cursor(self) -> str:
        """The step's full name."""
        return f"{self._step[0]}.{self._step[1]}"

    def on_mount(self) -> None:
        """The page has the keys."""
        super().on_mount()
        self._sheet.focus()

    async def load(self) -> None:
        """Read the step as it stands now."""
        told = await self.read(self.desk.story, self._step)
        await self.look({self._step[0]})
        if self._told is not None and len(told.entries) == len(self._told.entries):
            return
        self._told = told
        if not self._explained:
            self._draw()

    def _draw(self) -> None:
        told = self._told
        if told is None:
            return
        more = self._more

        def made(width: int) -> Sequence[Text]:
            return render.story(told, self.look_for(width), with_payloads=more, with_entries=more)

        self._put(made, from_top=self._drawn is None)
        self._drawn = told

    def _put(self, made: Callable[[int], Sequence[Text]], *, from_top: bool) -> None:
        self._sheet.show(made, from_top=from_top)
        self.refresh_bindings()

    # Keys.

    def action_more(self) -> None:
        """What was said, and the raw entries; and away again."""
        self._more, self._explained = not self._more, False
        self._draw()

    def action_explain(self) -> None:
        """Every rule that could concern it; and back again."""
        if self._explained:
            self._explained = False
            self._draw()
        else:
            self.start(self._explain())

    def action_write(self) -> None:
        """Write it to a file, as `soothsayer show --json` tells it."""
        name = f"step-{self.shorts.get(self._step[0], self._step[0][:4])}.{self._step[1]}.json"

        def typed(text: str | None) -> None:
            if text and text.strip():
                self.start(self._write(text.strip()))

        lines = [Text("All that is on record of it, with what was said. Nothing is written over.")]
        self.watch_app.push_screen(Prompt("Write this step to", value=name, lines=lines), typed)

    async def _write(self, path: str) -> None:
        self.say(f"wrote {await self.read(self.desk.write_step, self._step, path)}")

    async def _explain(self) -> None:
        lines = await self.read(self.desk.explain, self._step, self._sheet.room)
        self._explained = True
        head = Text("Decided again by the policy of that time; e: back", style=BOLD)
        self._put(lambda _width: [head, Text(), *lines], from_top=True)
