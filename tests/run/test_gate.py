"""What stands against completing a run."""

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.run import Debts
from soothsayer_mcp.run.gate import missing

NUMBERS = st.lists(st.integers(1, 30), max_size=3, unique=True).map(tuple)
CHECKS = st.lists(
    st.tuples(
        st.integers(1, 30), st.sampled_from(["schema:output", "readback:x"]), st.sampled_from(["broken", "unknown"])
    ),
    max_size=3,
).map(tuple)
DEBTS = st.builds(Debts, in_flight=NUMBERS, unsettled=NUMBERS, asked=NUMBERS, unkept=CHECKS, unverified=NUMBERS)


def test_each_kind_of_debt_is_named_with_its_step() -> None:
    debts = Debts(in_flight=(1,), unsettled=(2,), asked=(3,), unkept=((4, "schema:output", "broken"),), unverified=(5,))
    listed = (
        "step 4bf9.1 is still in flight",
        "step 4bf9.2: it is not known whether it happened",
        "step 4bf9.3 waits for a person's answer",
        "step 4bf9.4: its check schema:output is broken",
    )
    assert missing("4bf9", debts, refuse_unverified=False, unmet=()) == listed
    unchecked = "step 4bf9.5 changed something and nothing checked it"
    assert missing("4bf9", debts, refuse_unverified=True, unmet=()) == (*listed, unchecked)


@given(DEBTS)
def test_a_run_is_completed_only_when_no_debt_is_left_but_unchecked_writes_where_policy_lists_them(
    debts: Debts,
) -> None:
    owing = any(getattr(debts, each.name) for each in fields(Debts) if each.name != "unverified")
    assert bool(missing("4bf9", debts, refuse_unverified=False, unmet=())) is owing
    assert bool(missing("4bf9", debts, refuse_unverified=True, unmet=())) is (owing or bool(debts.unverified))
    assert missing("4bf9", debts, refuse_unverified=False, unmet=("the tests",))[-1] == "the tests"
