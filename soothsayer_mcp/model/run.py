"""Runs: one piece of work each, with a principal, an intent, a state and steps. They outlive connections."""

from enum import StrEnum
from typing import Final, NamedTuple

from soothsayer_mcp.model.budget import Allowance
from soothsayer_mcp.model.call import Client, Principal, RunId
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.value import dataclass


class RunState(StrEnum):
    """The states of a run; the last three are terminal."""

    OPEN = "open"
    PAUSED = "paused"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"


TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.OPEN: frozenset({RunState.PAUSED, RunState.STOPPED, RunState.COMPLETED, RunState.FAILED}),
    RunState.PAUSED: frozenset({RunState.OPEN, RunState.STOPPED, RunState.COMPLETED, RunState.FAILED}),
    RunState.STOPPED: frozenset(),
    RunState.COMPLETED: frozenset(),
    RunState.FAILED: frozenset(),
}
"""The legal transitions. Whatever is not here is a bug and refuses."""


IDLE_S: Final = 30 * 60.0
"""How long an automatic run may be idle and still take the next call, where no policy says otherwise."""


class NextStep(StrEnum):
    """What follows a step."""

    CONTINUE = "continue"
    STOP = "stop"
    COMPACT = "compact"


class DeclaredBy(StrEnum):
    """Who said what a run is for. The agent's own words never loosen anything."""

    HOST = "host"
    HUMAN = "human"
    AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a run is for, and whose words these are."""

    text: str
    declared_by: DeclaredBy


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScope:
    """The lowest scope: what a run was opened for. It only tightens; an empty part limits nothing."""

    only: tuple[str, ...] = ()
    """Tools, as `server.tool` with `*` and `?`."""
    under: tuple[str, ...] = ()
    """Absolute folders that every file has to lie below."""

    @property
    def text(self) -> str:
        """The scope in words that follow "limited to"."""
        parts = ["tools " + ", ".join(self.only)] if self.only else []
        parts += ["files under " + ", ".join(self.under)] if self.under else []
        return " and ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRules:
    """What a policy says of the life of runs."""

    idle_s: float = IDLE_S
    """After how long without a call an automatic run ends."""
    abandon_s: float | None = None
    """After how long a paused run fails; `None`: never."""
    refuse_unverified: bool = False
    """Whether a run is not completed while something was changed that nothing checked."""
    required: tuple[Item, ...] = ()
    """What has to hold when a run is completed: earlier steps, all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBinding:
    """By what a call finds its run: a named one, one that a person opened here, else the open automatic one."""

    principal: Principal
    workspace: str
    """Absolute path of the folder the work is in."""
    client: Client
    named: str = ""
    """A run id that the host, the command line or the environment named; empty when none was."""
    intent: Intent | None = None
    """For a run that this binding opens."""
    explicit: bool = False
    """Whether a call that no run was named or opened for is refused."""
    alone: bool = False
    """Whether only an automatic run of its own will do."""
    rules: RunRules = RunRules()


class Counters(NamedTuple):
    """What the steps of a run add up to. Only the agent's own calls count; probes and undo steps have other budgets."""

    calls: int = 0
    """Admitted, whatever became of them."""
    writes: int = 0
    """Of these, calls of tools that are not labelled as only reading."""
    errors: int = 0
    """Admitted calls that failed."""
    denials: int = 0
    asks: int = 0
    in_flight: int = 0
    unverified_writes: int = 0
    """Writes whose owed checks are not all kept, those in flight and unsettled included."""
    bytes_returned: int = 0
    bytes_reserved: int = 0
    """What the calls in flight may still return, as far as policy limits it."""
    cost_micro: int = 0
    """Declared cost in millionths, of calls in flight too."""
    calls_since_compact: int = 0
    bytes_since_compact: int = 0
    error_streak: int = 0
    """Calls that failed one after the other up to now."""
    repeats_refused: int = 0
    """Calls refused as repetitions since something last changed."""
    changes: int = 0
    """Answers that were new, and writes that succeeded, where policy has answers compared."""
    most_same: int = 0
    """How often, at most, one call got the same answer since then."""
    untrusted_reads: int = 0
    """Results of tools that are not labelled `first_party`, as far as the agent was given them."""
    values_kept: int = 0
    """Values of which it is kept where they stood."""
    values_missed: int = 0
    """Of which origins not everything was kept: 1 for first-party results, 2 for others, 4 for approvals."""
    suspect_reads: int = 0
    """Of the untrusted results those that hide characters or read like an instruction, where policy asks."""
    open_us: int = 0
    """How long the run was open before it was opened last."""
    opened_us: int = 0
    """When it was opened last."""

    def minutes(self, now_us: int) -> int:
        """Whole minutes for which the run has been open."""
        return (self.open_us + max(0, now_us - self.opened_us)) // 60_000_000


NOTHING_COUNTED = Counters()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as `decide` may see it."""

    id: RunId
    principal: Principal
    state: RunState
    version: int
    """Grows with its state; what it has counted changes without it."""
    why: str = ""
    """Why it is not open; empty while it is."""
    steps: int = 0
    intent: Intent | None = None
    counters: Counters = NOTHING_COUNTED
    scope: RunScope | None = None
    """What it was opened for; `None` when it is limited to nothing."""
    halted: bool = False
    """Whether it was stopped at once: calls in flight are cancelled."""
    allowance: Allowance | None = None
    """What people said of its budgets; `None` where nobody did."""
    same_answers: int = 0
    """How often the step that is being closed got this answer; 0 where that is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debts:
    """What the steps of a run still owe; steps by their numbers."""

    in_flight: tuple[int, ...] = ()
    unsettled: tuple[int, ...] = ()
    """It is not known whether they happened."""
    asked: tuple[int, ...] = ()
    """A question about them is open."""
    unkept: tuple[tuple[int, str, str], ...] = ()
    """Step, check, and the answer that was given last, where that is not `kept`."""
    unverified: tuple[int, ...] = ()
    """They did more than read and nothing checked them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What became of the wish to complete a run."""

    state: RunState
    missing: tuple[str, ...]
    """What stands against it; empty when it is completed."""
    unverified: tuple[int, ...] = ()
    """Steps that did more than read and that nothing checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What commit B writes beside the outcome."""

    next_step: NextStep
    run_state: RunState
    why: str = ""
