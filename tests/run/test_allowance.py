"""What people say of a run's budgets: a figure of their own tightens, what is added raises to the ceiling at most."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.budget import NO_BUDGETS, Allowance, Budgets
from soothsayer_mcp.model.run import Run, RunState
from soothsayer_mcp.run.allowance import budgets_of
from soothsayer_mcp.testing.world import PRINCIPAL, RUN_ID

RUN = Run(id=RUN_ID, principal=PRINCIPAL, state=RunState.OPEN, version=1)
figures = st.integers(min_value=1, max_value=100)


def said(*, own: int | None = None, added: int | None = None) -> Run:
    allowance = Allowance(own={} if own is None else {"calls": own}, added={} if added is None else {"calls": added})
    return replace(RUN, allowance=allowance)


def test_where_nobody_said_anything_the_policys_own_budgets_hold() -> None:
    budgets = Budgets(calls=5)
    assert budgets_of(RUN, budgets) is budgets
    assert budgets_of(RUN, NO_BUDGETS) is NO_BUDGETS


@given(stated=figures, own=figures, above=st.integers(min_value=0, max_value=100), added=st.integers(0, 300))
def test_no_run_may_use_more_than_the_ceiling_nor_less_than_the_smaller_figure(
    stated: int, own: int, above: int, added: int
) -> None:
    budgets = Budgets(calls=stated, ceiling={"calls": stated + above})
    for run, least in ((said(own=own, added=added), min(stated, own)), (said(added=added), stated)):
        most = budgets_of(run, budgets).calls
        assert most is not None
        assert least <= most <= stated + above
        assert most == min(least + added, stated + above)


def test_without_a_budget_of_the_policy_a_persons_own_holds_and_can_be_raised() -> None:
    assert budgets_of(said(own=3), NO_BUDGETS).calls == 3
    assert budgets_of(said(own=3, added=4), NO_BUDGETS).calls == 7
    assert budgets_of(said(added=4), NO_BUDGETS).calls is None
