"""What a run may use up."""

from collections.abc import Mapping
from dataclasses import field

from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Figures for one run, the smallest of all scopes; `None` sets none."""

    calls: int | None = None
    writes: int | None = None
    minutes: int | None = None
    """While the run is open."""
    bytes_returned: int | None = None
    denials: int | None = None
    unverified_writes: int | None = None
    error_streak: int | None = None
    cost_micro: int | None = None
    """Declared cost, in millionths."""
    asks: int | None = None
    """Questions that are put to people."""
    same_call_repeats: int | None = None
    """How often the same call may get the same answer while nothing changes."""
    ceiling: Mapping[str, int] = field(default_factory=dict[str, int])
    """How far a person may raise the figures that are set: as far as the policy says, else not at all."""


NO_BUDGETS = Budgets()

RAISED = ("calls", "writes", "minutes", "bytes_returned", "denials")
"""What a person may add to, in a run that has used it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What people said of the budgets of one run, by name."""

    own: dict[str, int] = field(default_factory=dict[str, int])
    """What it was opened with."""
    added: dict[str, int] = field(default_factory=dict[str, int])
