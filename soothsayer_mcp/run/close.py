"""What follows a step, chosen in the commit that ends it."""

from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.run import Closing, NextStep, Run, RunState
from soothsayer_mcp.model.step import SupportedStep


def close(run: Run, step: SupportedStep, failure: Failure | None) -> Closing:
    """Choose the next step: `stop` when the run takes no more calls, else `continue`."""
    del step, failure
    if run.state is RunState.OPEN:
        return Closing(next_step=NextStep.CONTINUE, run_state=run.state)
    return Closing(next_step=NextStep.STOP, run_state=run.state, why=f"run is {run.state}")
