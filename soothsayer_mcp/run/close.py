"""What follows a step, chosen in the same commit as its outcome."""

from soothsayer_mcp.model.run import Closing, NextStep, Run, RunState
from soothsayer_mcp.model.step import VerifiedStep


def close(run: Run, step: VerifiedStep) -> Closing:
    """Choose the next step: `stop` when the run takes no more calls, else `continue`."""
    del step  # Budgets and streaks will read it; what a step did changes nothing yet.
    if run.state is RunState.OPEN:
        return Closing(next_step=NextStep.CONTINUE, run_state=run.state)
    return Closing(next_step=NextStep.STOP, run_state=run.state, why=f"run is {run.state}")
