"""Budgets of a run: what is used up refuses, what concerns every call pauses, and no failure gives anything back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.budget import NO_BUDGETS, Budgets
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.failure import Failure, FailureClass, Reason
from soothsayer_mcp.model.run import Counters
from soothsayer_mcp.run import count
from soothsayer_mcp.run.budget import refuse_over_budget, why_pause

MINUTE_US = 60_000_000
READ, WRITE = Charge(), Charge(write=True)

SPENT: list[tuple[Budgets, Counters, Charge, Reason | None]] = [
    (Budgets(calls=2), Counters(calls=1), READ, None),
    (Budgets(calls=2), Counters(calls=2), READ, Reason.BUDGET_SPENT),
    (Budgets(minutes=2), Counters(opened_us=MINUTE_US), READ, None),
    (Budgets(minutes=2), Counters(opened_us=0), READ, Reason.BUDGET_SPENT),
    (Budgets(minutes=2), Counters(open_us=MINUTE_US, opened_us=MINUTE_US), READ, Reason.BUDGET_SPENT),
    (Budgets(writes=1), Counters(writes=1), READ, None),
    (Budgets(writes=1), Counters(writes=1), WRITE, Reason.BUDGET_SPENT),
    (Budgets(writes=1), Counters(writes=0), WRITE, None),
    (Budgets(denials=1), Counters(denials=1), READ, Reason.BUDGET_SPENT),
    (Budgets(bytes_returned=10), Counters(bytes_returned=9), READ, None),
    (Budgets(bytes_returned=10), Counters(bytes_returned=6, bytes_reserved=4), READ, Reason.BUDGET_SPENT),
    (Budgets(bytes_returned=10), Counters(bytes_returned=5), Charge(bytes_most=5), None),
    (Budgets(bytes_returned=10), Counters(bytes_returned=5), Charge(bytes_most=6), Reason.BUDGET_SPENT),
    (Budgets(unverified_writes=1), Counters(unverified_writes=1), READ, None),
    (Budgets(unverified_writes=1), Counters(unverified_writes=1), WRITE, Reason.DEBT_LIMIT),
    (NO_BUDGETS, Counters(calls=10**9, denials=10**9), WRITE, None),
]


@pytest.mark.parametrize(("budgets", "counters", "charge", "reason"), SPENT)
def test_a_budget_refuses_once_it_is_used_up(
    budgets: Budgets, counters: Counters, charge: Charge, reason: Reason | None
) -> None:
    failure = refuse_over_budget(counters, charge, budgets, 2 * MINUTE_US)
    assert (None if failure is None else failure.reason) is reason


FAILED = Failure(reason=Reason.TOOL_FAILED, summary="")


@pytest.mark.parametrize(
    ("budgets", "counters", "why"),
    [
        (Budgets(error_streak=2), Counters(error_streak=1), ""),
        (Budgets(error_streak=2), Counters(error_streak=2), "2 calls failed one after the other"),
        (Budgets(denials=3), Counters(denials=3), "the budget denials is used up (3 of 3)"),
        (NO_BUDGETS, Counters(denials=30, error_streak=30), ""),
    ],
)
def test_a_figure_for_every_call_pauses_the_run(budgets: Budgets, counters: Counters, why: str) -> None:
    assert why_pause(counters, FAILED, budgets) == why
    assert why_pause(counters, None, budgets) == ""


def test_what_is_spent_for_one_kind_of_call_only_refuses_that_kind() -> None:
    budgets = Budgets(calls=1, writes=1)
    spent = refuse_over_budget(Counters(writes=1), WRITE, budgets, 0)
    assert spent == Failure(reason=Reason.BUDGET_SPENT, summary="the budget writes (1 of 1)")
    assert why_pause(Counters(writes=1), spent, budgets) == ""
    spent = refuse_over_budget(Counters(calls=1), READ, budgets, 0)
    assert why_pause(Counters(calls=1), spent, budgets) == "the budget calls is used up (1 of 1)"


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 40)), max_size=40), st.data())
def test_reserved_and_settled_never_pass_a_budget_in_any_order(
    calls: list[tuple[bool, bool, int]], data: st.DataObject
) -> None:
    budgets = Budgets(calls=9, writes=4, bytes_returned=200)
    counters = Counters()
    flying: list[tuple[Charge, bool, int]] = []
    for write, fails, size in calls:
        charge = Charge(write=write, bytes_most=40)
        if refuse_over_budget(counters, charge, budgets, 0) is None:
            counters = count.admitted(counters, Cause.AGENT, charge)
            flying.append((charge, fails, size))
        if flying and data.draw(st.booleans()):
            ended, failed, returned = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            failure = FailureClass.TOOL_ERROR if failed else None
            counters = count.ended(counters, Cause.AGENT, ended, failure=failure, size=returned, owes=False)
        assert counters.calls <= 9
        assert counters.writes <= 4
        assert counters.bytes_returned + counters.bytes_reserved <= 200
        assert counters.in_flight == len(flying)


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("used", "costs", "refused", "pauses"),
    [(0, 5, False, False), (6, 5, True, False), (5, 5, False, False), (10, 1, True, True), (10, 0, False, False)],
)
def test_a_cost_that_does_not_fit_is_refused_and_one_that_is_used_up_pauses(
    used: int, costs: int, refused: bool, pauses: bool
) -> None:
    budgets, counters = Budgets(cost_micro=10 * MILLION), Counters(cost_micro=used * MILLION)
    failure = refuse_over_budget(counters, Charge(cost_micro=costs * MILLION), budgets, 0)
    assert (failure is not None) is refused
    assert bool(why_pause(counters, failure, budgets)) is pauses


def test_a_cost_that_nobody_knows_does_not_fit() -> None:
    assert refuse_over_budget(Counters(), Charge(cost_micro=None), Budgets(cost_micro=1), 0) is not None
    assert refuse_over_budget(Counters(), Charge(cost_micro=None), Budgets(calls=1), 0) is None
