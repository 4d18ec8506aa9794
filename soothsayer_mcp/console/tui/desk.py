"""What the screens ask of the world. Calls may take a while, so they are made beside the screen's own thread."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from rich.text import Text

from soothsayer_mcp.console.less import Less
from soothsayer_mcp.model.ask import Ask, AskState
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.model.undo import Done
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import LastYes, RunRow, RunStory, RunTally, StepRow, Story
from soothsayer_mcp.undo.plan import Plan

StepName = tuple[str, int]
"""Run and number."""

Key = tuple[int, int]
"""Where a step stands among all: `at_us` and `n`."""


class DeskError(Exception):
    """Something could not be read or written, in one line that says what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A question, and what is known beside it."""

    ask: Ask
    last: LastYes | None
    """The last call of the same tool that a person allowed."""
    why_once: str
    """Why a yes may cover this one call only; empty when it may cover more."""
    shape: Mapping[str, Json]
    """Which further calls of the run a wider yes would cover."""
    yeses: int = 0
    """How often calls of this tool got their yes under these rules."""
    less: Less | None = None
    """What would ask less, after many yeses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """A run, what it came to, and its newest steps, oldest first."""

    story: RunStory
    tally: RunTally
    steps: Sequence[StepRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What went on in the trace since a position."""

    pos: int
    """How far this reaches."""
    touched: frozenset[StepName]
    rows: Sequence[StepRow]
    """Those of the touched steps that fit the filter."""
    many: bool = False
    """So much that it is not listed: look again at what is shown."""


class Desk(Protocol):
    """One state folder. Methods raise `DeskError`; reading ones share one thread, writing ones another."""

    def has_changed(self) -> bool:
        """Whether something was written since this was asked last; true at first."""
        ...

    def now_us(self) -> int:
        """The present moment."""
        ...

    def position(self) -> int:
        """The position of the newest entry."""
        ...

    def news(self, pos: int, wanted: Filter) -> News:
        """What went on since a position."""
        ...

    def before(self, key: Key | None, wanted: Filter, most: int) -> list[StepRow]:
        """The last steps before a place, or of all, oldest first."""
        ...

    def after(self, key: Key | None, wanted: Filter, most: int) -> list[StepRow]:
        """The first steps after a place, or of all, oldest first."""
        ...

    def shorts(self, runs: Sequence[str]) -> Mapping[str, str]:
        """Run id -> the shortest beginning of it that no other run has."""
        ...

    def story(self, step: StepName) -> Story:
        """All that is known about one step."""
        ...

    def explain(self, step: StepName, width: int) -> list[Text]:
        """Every rule that could concern a step, and why it did or did not match."""
        ...

    def runs(self, wanted: Filter, most: int) -> list[RunRow]:
        """Runs, the one with the newest step first."""
        ...

    def run_page(self, run: str, most: int) -> RunPage:
        """A run and its newest steps."""
        ...

    def open_asks(self) -> list[Ask]:
        """Questions that wait for an answer now, oldest first."""
        ...

    def card(self, ask_id: str) -> Card | None:
        """A question as it stands now."""
        ...

    def answer(self, ask: Ask, state: AskState, comment: str, shape: Mapping[str, Json] | None) -> tuple[Ask, bool]:
        """Answer a question as the person at this terminal: as it stands then, and whether this answer counted."""
        ...

    def change_run(self, run: str, to: RunState) -> None:
        """Move a run to another state, as the person at this terminal."""
        ...

    def raise_budgets(self, run: str, typed: str) -> None:
        """Raise budgets of a run by what was typed, such as `calls=50`, and open it where it is paused."""
        ...

    def write_step(self, step: StepName, path: str) -> str:
        """Write all that is on record of a step to a file that is not there yet; where that is."""
        ...

    def plan(self, run: str, to: int, left: Collection[int]) -> Plan:
        """How a run would come back to the state after step `to`, as things stand now; steps in `left` stay."""
        ...

    def roll_back(self, run: str, to: int, left: Collection[int], confirmed: str) -> list[Done]:
        """Pause a run and carry out the plan whose digest was confirmed; nothing, where that is the plan no more."""
        ...

    def beat(self) -> None:
        """Say that somebody looks, so that calls wait for an answer."""
        ...
