"""Which runs take calls, and what follows a step."""

from dataclasses import replace

import pytest

from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.run import TRANSITIONS, RunState
from soothsayer_mcp.run.reserve import refuse_unless_open
from soothsayer_mcp.testing.world import RUN_ID, World

SHORT = RUN_ID[:4]

REFUSALS = {
    RunState.OPEN: None,
    RunState.PAUSED: Failure(reason=Reason.RUN_PAUSED, summary=SHORT),
    RunState.STOPPED: Failure(reason=Reason.RUN_CLOSED, summary=f"{SHORT} is stopped"),
    RunState.COMPLETED: Failure(reason=Reason.RUN_CLOSED, summary=f"{SHORT} is completed"),
    RunState.FAILED: Failure(reason=Reason.RUN_CLOSED, summary=f"{SHORT} is failed"),
}


@pytest.mark.parametrize("state", RunState)
def test_only_an_open_run_takes_calls(state: RunState) -> None:
    assert refuse_unless_open(replace(World().run, state=state)) == REFUSALS[state]


def test_a_run_that_has_ended_never_changes_again() -> None:
    ended = {RunState.STOPPED, RunState.COMPLETED, RunState.FAILED}
    assert set(TRANSITIONS) == set(RunState)
    assert {state for state, to in TRANSITIONS.items() if not to} == ended
