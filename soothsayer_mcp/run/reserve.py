"""Whether a step may be admitted on things as they stand inside commit A."""

from collections.abc import Mapping

from soothsayer_mcp.model.facts import Charge, Tally, TallyQuestion
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.run import Run, RunState


def refuse_unless_open(run: Run, *, asks: bool = False) -> Failure | None:
    """Refuse every call of a run that takes none, but what the model `asks` about its own run."""
    if asks:
        return None
    because = f" ({run.why})" if run.why else ""
    match run.state:
        case RunState.OPEN:
            return None
        case RunState.PAUSED:
            return Failure(reason=Reason.RUN_PAUSED, summary=f"{run.id[:4]}{because}")
        case RunState.STOPPED | RunState.COMPLETED | RunState.FAILED:
            return Failure(reason=Reason.RUN_CLOSED, summary=f"{run.id[:4]} is {run.state}{because}")


def refuse_over_cap(charge: Charge, tallies: Mapping[TallyQuestion, Tally]) -> Failure | None:
    """Refuse a call that would pass a figure for calls counted together; what cannot be told is used up."""
    for cap in charge.caps:
        tally = tallies.get(cap.question)
        if tally is None:
            return Failure(reason=Reason.BUDGET_SPENT, summary=f"{cap.words} (what was used is not known)")
        used = tally.sent + tally.doubtful
        if used >= cap.most:
            return Failure(reason=Reason.BUDGET_SPENT, summary=f"{cap.words} ({used} of {cap.most})")
    return None
