"""How a rule has calls settled: what loads, what an answer says, and what is kept of a call for asking later."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_kit import HEAD, judge, policy_from
from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.evidence.checks import ReadFacts
from soothsayer_mcp.evidence.settle import judge_effect, read_settling, settling_form, settling_of
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.settlement import SettleTerms

RULE = "rules:\n  - also: x\n    tools: a.do\n    settle: {readback: "


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("{tool: a.get}", "happened"),
        ('{tool: a.get, happened: "result.x =="}', "condition"),
        ('{tool: a.get, happened: "result.x == 1", happend: y}', 'unknown key "happend"'),
        ('{tool: a.do, happened: "result.x == 1"}', "cannot speak for itself"),
        ('{tool: a.get, happened: "result.x == returned.x"}', "returned nothing"),
        ('{tool: a.get, happened: "result.x == 1", not_happened: "result == before"}', "there is no `capture`"),
        ('{tool: a.get, args: {id: "${before.id}"}, happened: "result.x == 1"}', "arguments of the call alone"),
        ('{tool: a.get, happened: "result.x == 1", every: 10ms}', "too small"),
    ],
)
def test_what_could_never_settle_does_not_load(tmp_path: Path, wrong: str, told: str) -> None:
    (tmp_path / "p.yaml").write_text(f"{HEAD}{RULE}{wrong}}}\n")
    with pytest.raises(LoadErrors) as errors:
        load([str(tmp_path / "p.yaml")], known_servers=["a"], state=tmp_path / "state")
    assert told in str(errors.value)


def test_what_binds_settles_and_what_observes_does_not(tmp_path: Path) -> None:
    text = RULE + '{tool: a.get, args: {id: "${args.x}"}, happened: "result.x == 1", within: 5s}}\n'
    policy = policy_from(text, tmp_path)
    assert policy.settles
    terms = judge(policy, "a.do").dues.settle
    assert terms is not None
    assert (terms.tool, terms.args, terms.every_s, terms.within_s) == ("a.get", {"id": "${args.x}"}, 1.0, 5.0)
    assert judge(policy, "a.other").dues.settle is None
    assert judge(policy_from("mode: observe\n" + text, tmp_path), "a.do").dues.settle is None
    assert not policy_from("", tmp_path).settles


def terms(happened: str = "result.x == 1", not_happened: str = "") -> SettleTerms:
    return SettleTerms(
        rule="t/x", tool="a.get", args={"id": "${args.id}"}, happened=happened, not_happened=not_happened
    )


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"x": 1}, Acted.YES),
        ({"x": 0}, Acted.NO),
        ({"x": 2}, Acted.MAYBE),
        ({"y": 1}, Acted.MAYBE),
        ("x", Acted.MAYBE),
        (None, Acted.MAYBE),
    ],
)
def test_only_a_clear_answer_says_anything(result: Json, expected: Acted) -> None:
    asks = settling_of(terms(not_happened="result.x == 0"), {"args": {"id": 1}}, verify=(), before={}, reach={})
    assert asks is not None
    facts = ReadFacts(result=result, text="", step="")
    assert judge_effect(asks, facts, EVIDENCE_CONDITIONS.compile) is expected


def test_an_answer_that_says_both_says_nothing_and_without_the_second_condition_none_says_no() -> None:
    facts = ReadFacts(result={"x": 1}, text="", step="")
    both = settling_of(terms(not_happened="result.x == 1"), {"args": {"id": 1}}, verify=(), before={}, reach={})
    one = settling_of(terms(happened="result.x == 2"), {"args": {"id": 1}}, verify=(), before={}, reach={})
    assert both is not None
    assert one is not None
    assert judge_effect(both, facts, EVIDENCE_CONDITIONS.compile) is Acted.MAYBE
    assert judge_effect(one, facts, EVIDENCE_CONDITIONS.compile) is Acted.MAYBE


def test_only_arguments_that_something_names_are_kept_and_what_cannot_be_asked_is_not() -> None:
    item = Item(kind="artifact", spec={"file": "${args.path}"}, rule="t/x")
    values: dict[str, Json] = {"args": {"id": 7, "path": "p", "secret": "s"}}
    asks = settling_of(terms(), values, verify=(item,), before={}, reach={})
    assert asks is not None
    assert asks.values["args"] == {"path": "p"}
    assert asks.terms.args == {"id": 7}
    whole = settling_of(terms(happened="size(args) > 1"), values, verify=(), before={}, reach={})
    assert whole is not None
    assert whole.values == values
    assert settling_of(terms(), {"args": {}}, verify=(), before={}, reach={}) is None


texts = st.text(max_size=5)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(texts, json, max_size=3)
items = st.builds(
    Item,
    kind=st.sampled_from(["artifact", "readback"]),
    spec=objects,
    rule=texts,
    root=texts,
    within=st.lists(texts, max_size=2).map(tuple),
)


@given(
    verify=st.lists(
        st.one_of(items, st.builds(Item, kind=st.just("any"), spec=objects, rule=texts, one_of=st.tuples(items)))
    ),
    before=objects,
    reach=objects,
    args=objects,
)
def test_what_is_kept_is_read_back_as_it_was(
    verify: list[Item], before: dict[str, Json], reach: dict[str, Json], args: dict[str, Json]
) -> None:
    asks = settling_of(terms(), {"args": {**args, "id": 1}}, verify=verify, before=before, reach=reach)
    assert asks is not None
    assert read_settling(settling_form(asks)) == asks
    with pytest.raises(ValueError, match="cannot be read"):
        read_settling({"rule": "x"})
