"""What a run in some state, and figures for calls counted together, let through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.facts import Cap, Charge, Tally, TallyQuestion
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.run import Run, RunState
from soothsayer_mcp.run.reserve import refuse_over_cap, refuse_unless_open
from soothsayer_mcp.testing.world import PRINCIPAL, RUN_ID

ONE, TWO = TallyQuestion("one", "run:1"), TallyQuestion("two", "run:1")


def a_run(state: RunState, why: str = "") -> Run:
    return Run(id=RUN_ID, principal=PRINCIPAL, state=state, version=1, why=why)


@pytest.mark.parametrize("state", list(RunState))
@pytest.mark.parametrize("why", ["", "a person said so"])
def test_only_an_open_run_takes_calls_and_every_run_answers_what_is_asked_about_it(state: RunState, why: str) -> None:
    run = a_run(state, why)
    because = f" ({why})" if why else ""
    expected = {
        RunState.OPEN: None,
        RunState.PAUSED: Failure(reason=Reason.RUN_PAUSED, summary=f"5555{because}"),
    }
    closed = Failure(reason=Reason.RUN_CLOSED, summary=f"5555 is {state}{because}")
    assert refuse_unless_open(run) == expected.get(state, closed)
    assert refuse_unless_open(run, asks=True) is None


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 6))
def test_every_call_that_was_sent_or_may_have_been_uses_up_a_cap(
    succeeded: int, failed: int, in_flight: int, doubtful: int, most: int
) -> None:
    tally = Tally(succeeded=succeeded, failed=failed, open=in_flight, doubtful=doubtful, denied=9)
    refused = refuse_over_cap(Charge(caps=(Cap(question=ONE, most=most, words="it"),)), {ONE: tally})
    used = succeeded + failed + in_flight + doubtful
    if used < most:
        assert refused is None
    else:
        assert refused == Failure(reason=Reason.BUDGET_SPENT, summary=f"it ({used} of {most})")


def test_a_cap_of_which_nothing_is_known_is_used_up_and_the_first_that_is_used_up_is_told() -> None:
    charge = Charge(caps=(Cap(question=ONE, most=2, words="one"), Cap(question=TWO, most=2, words="two")))
    unknown = Failure(reason=Reason.BUDGET_SPENT, summary="two (what was used is not known)")
    assert refuse_over_cap(charge, {ONE: Tally()}) == unknown
    assert refuse_over_cap(charge, {ONE: Tally(), TWO: Tally()}) is None
    assert refuse_over_cap(charge, {ONE: Tally(), TWO: Tally(failed=2)}) == Failure(
        reason=Reason.BUDGET_SPENT, summary="two (2 of 2)"
    )
    assert refuse_over_cap(Charge(), {}) is None
