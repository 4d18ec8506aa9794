"""What follows a step, chosen in the commit that ends it."""

from soothsayer_mcp.model.budget import NO_BUDGETS, Budgets
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.run import Closing, NextStep, Run, RunState
from soothsayer_mcp.model.step import SupportedStep
from soothsayer_mcp.run.budget import why_pause


def close(run: Run, step: SupportedStep, failure: Failure | None, budgets: Budgets = NO_BUDGETS) -> Closing:
    """Choose the next step: `stop` when the run takes no more calls, else `continue`.

    A budget of the whole run that is used up pauses it: a person may lift that.
    """
    if run.state is RunState.OPEN:
        why = why_pause(run.counters, failure, budgets) if step.cause is Cause.AGENT else ""
        if why:
            return Closing(next_step=NextStep.STOP, run_state=RunState.PAUSED, why=why)
        return Closing(next_step=NextStep.CONTINUE, run_state=run.state)
    return Closing(next_step=NextStep.STOP, run_state=run.state, why=f"run is {run.state}")
