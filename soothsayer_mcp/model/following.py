"""What policy says of what follows a step: after failures, and when a host is told to compact."""

from collections.abc import Callable
from enum import StrEnum

from soothsayer_mcp.model.run import Run
from soothsayer_mcp.model.value import dataclass


class OnFailure(StrEnum):
    """What becomes of a run when a step fails, from the mildest to the strictest."""

    CONTINUE = "continue"
    UNDO = "undo"
    """The step is undone at once; the run goes on if that succeeds."""
    PAUSE = "pause"
    STOP = "stop"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRules:
    """What holds for every step of a run; `None` says nothing."""

    compact_calls: int | None = None
    """After how many calls since the last time a host is told to compact."""
    compact_bytes: int | None = None
    """After how many bytes returned since then."""
    compact_when: Callable[[Run, int | None, int], bool] | None = None
    """The run with the step counted, the risk of the step where it is known, microseconds since 1970."""
    pause_unsettled: bool = False
    """Whether a run is paused when it is not known whether a write happened."""

    @property
    def compacts(self) -> bool:
        """Whether a host is ever told to compact."""
        return not (self.compact_calls is self.compact_bytes is self.compact_when is None)


NO_NEXT_RULES = NextRules()
