"""What a run may use up."""

from dataclasses import dataclass


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


NO_BUDGETS = Budgets()
