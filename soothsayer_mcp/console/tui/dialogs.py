"""What stands over a screen until it is answered: a question before something is done, a line to type, the keys."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import Suggester
from textual.widgets import Input, Static

from soothsayer_mcp.console.layout import BOLD, DIM
from soothsayer_mcp.console.tui.sheet import Sheet

_BOX = """
{name} {{ align: center middle; background: transparent; }}
{name} Vertical {{ border: solid $primary; background: $background; padding: 0 1; width: 90%; max-width: 100;
    height: auto; max-height: 90%; }}
{name} Sheet {{ height: auto; max-height: 14; }}
"""


class Confirm(ModalScreen[bool]):
    """A question that `y` answers with yes, and every other way out with no."""

    DEFAULT_CSS = _BOX.format(name="Confirm")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "yes"),
        Binding("n,escape,q", "no", "no"),
    ]

    def __init__(self, question: str, lines: Sequence[Text], yes: str) -> None:
        """`lines` say what a yes means; `yes` is what it does."""
        super().__init__()
        self._question = question
        self._lines = lines
        self._yes = yes

    def compose(self) -> ComposeResult:
        """The question, what it means, the two keys."""
        with Vertical():
            yield Static(Text(self._question, style=BOLD))
            yield Sheet(id="meaning")
            yield Static(Text.assemble(("y", BOLD), f" {self._yes}   ", ("Esc", BOLD), " leave it"))

    def on_mount(self) -> None:
        """Show what a yes means."""
        sheet = self.query_one(Sheet)
        sheet.styles.height = len(self._lines)
        sheet.show(lambda _width: self._lines, from_top=True)
        sheet.focus()

    def action_yes(self) -> None:
        """It is wanted."""
        self.dismiss(result=True)

    def action_no(self) -> None:
        """It is not."""
        self.dismiss(result=False)


class Prompt(ModalScreen[str | None]):
    """A line to type; `None` when it was left."""

    DEFAULT_CSS = _BOX.format(name="Prompt")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave it")]

    def __init__(
        self,
        question: str,
        *,
        value: str = "",
        suggester: Suggester | None = None,
        most: int = 0,
        lines: Sequence[Text] = (),
    ) -> None:
        """`value` stands there at first; `most` characters can be typed, 0: any number; `lines` say what it does."""
        super().__init__()
        self._lines = lines
        self._question = question
        self._value = value
        self._suggester = suggester
        self._most = most

    def compose(self) -> ComposeResult:
        """The question and the line."""
        with Vertical():
            yield Static(Text(self._question, style=BOLD))
            yield from (Static(line) for line in self._lines)
            yield Input(
                self._value, suggester=self._suggester, max_length=self._most, compact=True, select_on_focus=False
            )
            more = "   Right complete" if self._suggester is not None else ""
            yield Static(Text.assemble(("Enter", BOLD), " take it   ", ("Esc", BOLD), f" leave it{more}"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """What was typed is taken."""
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Nothing is taken."""
        self.dismiss(None)


class KeyList(ModalScreen[None]):
    """Which keys there are."""

    DEFAULT_CSS = _BOX.format(name="KeyList")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "leave", "back")]

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        """Each key and what it does."""
        super().__init__()
        self._keys = keys

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical():
            yield Static(Text("Keys that work now", style=BOLD))
            yield Sheet(id="keys")
            yield Static(Text("Esc back", style=DIM))

    def on_mount(self) -> None:
        """Show them."""
        sheet = self.query_one(Sheet)
        lines = [Text.assemble((f"{key:<14}", BOLD), does) for key, does in self._keys]
        sheet.styles.height = len(lines)
        sheet.show(lambda _width: lines, from_top=True)
        sheet.focus()

    def action_leave(self) -> None:
        """Back to the screen."""
        self.dismiss(None)
