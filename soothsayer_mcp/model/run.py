"""Runs: one piece of work each, with a principal, an intent, a state and steps. They outlive connections."""

from dataclasses import dataclass
from enum import StrEnum

from soothsayer_mcp.model.call import Client, Principal, RunId


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
class RunBinding:
    """By what a call finds its run: a named run, else the open automatic one of principal, workspace and client."""

    principal: Principal
    workspace: str
    """Absolute path of the folder the work is in."""
    client: Client
    named: str = ""
    """A run id that the host, the command line or the environment named; empty when none was."""
    intent: Intent | None = None
    """For a run that this binding opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as `decide` may see it."""

    id: RunId
    principal: Principal
    state: RunState
    version: int
    """Grows whenever something that a decision reads changes; equal versions mean equal facts."""
    why: str = ""
    """Why it is not open; empty while it is."""
    steps: int = 0
    intent: Intent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What commit B writes beside the outcome."""

    next_step: NextStep
    run_state: RunState
    why: str = ""
