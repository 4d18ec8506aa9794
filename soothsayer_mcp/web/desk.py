"""What the pages ask of the world. Calls may take a while, so they are made beside the loop that serves pages."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.text import Text

from soothsayer_mcp.console.tui.desk import Card, DeskError, Key, RunPage, StepName
from soothsayer_mcp.model.ask import Ask, AskState
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import EntryRow, RunRow, StepRow, Story


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """A change of a policy file by which calls like one are allowed for good; nobody has made it yet."""

    file: str
    lines: Sequence[str]
    """The change as a unified diff."""
    digest: str
    """Of the file before and after."""


class ChangedError(DeskError):
    """What was shown is not what is there now; nothing was done."""


class Desk(Protocol):
    """One state folder. Methods raise `DeskError`; reading ones share one thread, writing ones another."""

    @property
    def approver(self) -> str:
        """Whose key signs answers here; empty where nobody's does."""
        ...

    def has_changed(self) -> bool:
        """Whether something was written since this was asked last; true at first."""
        ...

    def now_us(self) -> int:
        """The present moment."""
        ...

    def position(self) -> int:
        """The position of the newest entry."""
        ...

    def before(self, key: Key | None, wanted: Filter, most: int) -> list[StepRow]:
        """The last steps before a place, or of all, oldest first."""
        ...

    def shorts(self, runs: Sequence[str]) -> Mapping[str, str]:
        """Run id -> the shortest beginning of it that no other run has."""
        ...

    def story(self, step: StepName) -> Story:
        """All that is known about one step."""
        ...

    def runs(self, wanted: Filter, most: int) -> list[RunRow]:
        """Runs, the one with the newest step first."""
        ...

    def run_page(self, run: str, most: int) -> RunPage:
        """A run and its newest steps."""
        ...

    def open_asks(self) -> list[Ask]:
        """Questions that wait for an answer of whoever looks here, oldest first."""
        ...

    def card(self, ask_id: str) -> Card | None:
        """A question as it stands now, whether it is open or not."""
        ...

    def answer(self, ask: Ask, state: AskState, comment: str, shape: Mapping[str, Json] | None) -> tuple[Ask, bool]:
        """Answer a question as the person here: as it stands then, and whether this answer counted."""
        ...

    def rule_change(self, ask: Ask) -> RuleChange:
        """The change of policy by which calls like this one are allowed."""
        ...

    def answer_for_good(self, ask: Ask, comment: str, digest: str) -> tuple[Ask, bool]:
        """A yes to a question, and the change of policy whose digest was shown; nothing where it is another by now."""
        ...

    def entries_of(self, run: str, kinds: Sequence[str], most: int) -> list[EntryRow]:
        """The newest entries of a run that are of these kinds, oldest first."""
        ...

    def explain(self, step: StepName, width: int) -> list[Text]:
        """Every rule that could concern a step, and why it did or did not match."""
        ...

    def change_run(self, run: str, to: RunState) -> None:
        """Move a run to another state, as the person here."""
        ...

    def beat(self) -> None:
        """Say that somebody looks, so that calls wait for an answer."""
        ...
