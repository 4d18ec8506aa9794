"""Suggested rules fit what was seen and nothing else."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_kit import judge, policy_from
from policy_kit import tool as make_tool
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.policy.suggest import MOST_VALUES, Seen, Suggested, suggest


def seen(arguments: JsonObject, *, does: tuple[str, ...] = ("write",), tool: str = "put", run: str = "r1") -> Seen:
    return Seen(server="fs", tool=tool, does=does, arguments=arguments, run=run)


def of(*calls: JsonObject) -> Suggested:
    (one,) = suggest([seen(call) for call in calls], "/w")
    return one


def args(*calls: JsonObject) -> Json:
    rule = of(*calls).rule
    assert rule is not None
    return rule["args"]


def test_few_values_become_a_list_and_a_missing_one_may_be_missing() -> None:
    assert args({"mode": "a"}, {"mode": "b", "dry": True}, {"mode": "a"}) == {
        "dry": {"in": [True], "absent": "ok"},
        "mode": {"in": ["a", "b"]},
    }


def test_many_numbers_become_their_range_and_many_addresses_their_hosts() -> None:
    calls: list[JsonObject] = [{"n": n} for n in range(MOST_VALUES + 1)]
    assert args(*calls) == {"n": {"min": 0, "max": MOST_VALUES}}
    calls = [{"url": f"https://h{n % 2}.test/{n}"} for n in range(MOST_VALUES + 1)]
    assert args(*calls) == {"url": {"host": ["h0.test", "h1.test"], "scheme": ["https"]}}


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        (["src/a", "src/b/c", "src/b/d"], {"under": "${workspace}/src"}),
        (["/w/src/b/c", "src/b/d", "src/b/e"], {"under": "${workspace}/src/b"}),
        (["src/a", "src/b"], {"in": ["src/a", "src/b"]}),
        (["a", "b", "c"], {"in": ["a", "b", "c"]}),
        (["/etc/a", "/etc/b", "/etc/c"], {"in": ["/etc/a", "/etc/b", "/etc/c"]}),
        (["src/a", "src/../b", "src/c"], {"in": ["src/../b", "src/a", "src/c"]}),
    ],
)
def test_three_paths_make_a_folder_below_the_workspace(paths: list[str], wanted: Json) -> None:
    calls: list[JsonObject] = [{"path": path} for path in paths]
    assert args(*calls) == {"path": wanted}


@pytest.mark.parametrize(
    ("does", "why"),
    [
        (("pay",), "it can pay"),
        (("write", "delete"), "it can delete"),
        (("unlabelled",), "it is unlabelled"),
        ((), "it is unlabelled"),
    ],
)
def test_what_cannot_be_taken_back_or_is_not_known_stays_with_a_person(does: tuple[str, ...], why: str) -> None:
    (one,) = suggest([seen({"a": 1}, does=does)], "/w")
    assert (one.rule, one.why_not) == (None, why)


@pytest.mark.parametrize(
    "call",
    [{"a": {"b": 1}}, {"a": "${home}"}, {"a.b": 1}, {"a": [[1]]}, {"": 1}],
    ids=["object", "word", "key", "list", "empty"],
)
def test_what_has_no_narrow_shape_stays_with_a_person(call: JsonObject) -> None:
    assert of(call).rule is None
    calls: list[JsonObject] = [{"a": f"text {n}"} for n in range(MOST_VALUES + 1)]
    assert of(*calls).why_not == "the argument a is too varied"


_VALUES = st.one_of(
    st.sampled_from(["a", "b", "src/a", "src/b/c", "/etc/x", "https://a.test/1", "../x", ""]),
    st.integers(-3, 3),
    st.booleans(),
    st.none(),
)
_CALLS = st.lists(
    st.fixed_dictionaries({}, optional={"path": _VALUES, "n": _VALUES, "url": _VALUES}), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=_CALLS, other=st.fixed_dictionaries({}, optional={"path": _VALUES, "n": _VALUES, "zz": _VALUES}))
def test_what_was_seen_is_allowed_and_a_call_with_anything_new_is_not(
    tmp_path: Path, calls: list[JsonObject], other: JsonObject
) -> None:
    one = of(*calls)
    rules = [] if one.rule is None else [one.rule]
    text = "default: ask\nlabels: [{tools: fs.put, does: write}]\n" + (f"rules: {json.dumps(rules)}\n" if rules else "")
    policy = policy_from(text, tmp_path)
    definition = make_tool("fs.put", properties=frozenset({"path", "n", "url", "zz"}))
    if one.rule is not None:
        for call in calls:
            assert judge(policy, definition, call).effect.value == "allow"
    in_folders = [str(call.get("path")) for call in calls]
    fresh = any(
        all(other[name] is not call.get(name, ...) and other[name] != call.get(name, ...) for call in calls)
        and not (name == "path" and any("/" in path for path in in_folders))
        for name in other
    )
    if fresh or one.rule is None:
        assert judge(policy, definition, other).effect.value == "ask"


def test_a_place_in_the_workspace_is_named_by_what_it_is_there() -> None:
    """So that the suggested tests, whose workspace is another, and other people's machines mean the same."""
    spec = args({"path": "/w"}, {"path": "/w/a"}, {"path": "/wide/a"})
    assert spec == {"path": {"in": ["${workspace}", "${workspace}/a", "/wide/a"]}}
