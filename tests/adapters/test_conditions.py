"""Conditions are yes, no or a stated doubt, whatever the library does; what could grow without bound never compiles."""

import time
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soothsayer_mcp.adapters.conditions import MAX_CONDITION, Conditions
from soothsayer_mcp.model.answer import Answer, Unsure
from soothsayer_mcp.model.condition import ConditionError, Sort, View
from soothsayer_mcp.model.json import Json

NAMES = {
    "args": Sort.OBJECT,
    "result": Sort.ANY,
    "tool.name": Sort.TEXT,
    "who.groups": Sort.TEXTS,
    "risk": Sort.WHOLE,
    "tainted": Sort.TRUTH,
    "now": Sort.TIME,
}
CONDITIONS = Conditions(NAMES)
SUNDAY_US = 1_699_743_600_000_000
"""2023-11-11, 23:00 UTC: in Berlin it is Sunday already."""


def answer(text: str, **values: Json) -> Answer:
    return CONDITIONS.compile(text)(View({name.replace("__", "."): value for name, value in values.items()}))


def faults(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(ConditionError) as caught:
        CONDITIONS.compile(text)
    return list(caught.value.faults)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("args.n > 5", {"args": {"n": 6}}, True),
        ("args.n == 1", {"args": {"n": 1.0}}, True),
        ("args.n == 1", {"args": {"n": True}}, False),
        ('args.to.all(t, t.endsWith("@acme.test"))', {"args": {"to": ["a@acme.test", "b@evil.test"]}}, False),
        ("args.to.filter(t, t > 1).size() == 1", {"args": {"to": [1, 2]}}, True),
        ("args.?cc.orValue([]).size() == 0", {"args": {}}, True),
        ("has(args.cc) || int(args.n) + 1 == 3", {"args": {"n": 2}}, True),
        ('tool.name == "send" && "staff" in who.groups', {"tool__name": "send", "who__groups": ["staff"]}, True),
        ("risk >= 60 && tainted", {"risk": 60, "tainted": True}, True),
        ('now.getDayOfWeek("Europe/Berlin") == 0', {"now": SUNDAY_US}, True),
        ("now.getDayOfWeek() == 6", {"now": SUNDAY_US}, True),
        ("result.ready >= 1", {"result": {"ready": 0}}, False),
        ("result[0] == null", {"result": [None]}, True),
        ('args.name.matches("^v[0-9]+$")', {"args": {"name": "v12"}}, True),
    ],
)
def test_a_condition_reads_what_its_names_stand_for(text: str, values: Mapping[str, Json], expected: bool) -> None:
    assert answer(text, **values) is expected


@pytest.mark.parametrize(
    ("text", "values", "cause"),
    [
        ("args.amount > 5", {"args": {}}, 'Key not found in map : "amount"'),
        ("args.x == 1", {"args": {"x": 2**70}}, "a whole number is beyond 64 bits"),
        ("args.y == 1", {"args": {"x": 2**70, "y": 1}}, "a whole number is beyond 64 bits"),
        ('args.x == "a"', {"args": {"x": "\ud800"}}, "a text holds half a character"),
        ("args.x ? true : false", {"args": {"x": "deny"}}, "No matching overloads found"),
        ('args.x > 5 || args.x == "a"', {"args": {"x": "50"}}, "No matching overloads found"),
        ("risk > 5", {}, 'No value with name "risk"'),
        ("args.n / 0 == 1", {"args": {"n": 1}}, "divide by zero"),
    ],
)
def test_what_cannot_be_evaluated_is_a_doubt_with_its_cause(text: str, values: Mapping[str, Json], cause: str) -> None:
    found = answer(text, **values)
    assert isinstance(found, Unsure)
    assert cause in found.why


def test_a_doubt_quotes_no_value_of_the_call() -> None:
    found = answer("args[args.key] == 1", args={"key": "hunter2"})
    assert isinstance(found, Unsure)
    assert "hunter2" not in found.why


def test_an_error_that_the_answer_did_not_depend_on_is_none() -> None:
    assert answer("args.missing == 1 || args.n == 1", args={"n": 1}) is True
    assert answer("args.missing == 1 && args.n == 1", args={"n": 2}) is False


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("args.x", 1, 1, "may be anything"),
        ("risk", 1, 1, "is neither"),
        ('"deny"', 1, 1, "is neither"),
        ('tool.nam == "x"', 1, 5, 'there is no "tool.nam" here'),
        ('risk >= 1 &&\n risk == "high"', 2, 7, "does not go with (int, string)"),
        ("args.x ==", 1, 10, "Syntax error"),
        ("args.x == foo(1)", 1, 14, 'there is no "foo" here'),
        ("args.x.map(a, a).size() == 1 && args.y.map(a, int(a) * 2).size() == 1", 1, 43, "`map`"),
        ("args.x.map(a, args.x.filter(a, true)).size() == 1", 1, 11, "`map`"),
        ("args.a + args.b == 1", 1, 8, "`+` is for numbers"),
        ('args.a == "x" + "y"', 1, 15, "`+` is for numbers"),
        ("[1] + [2] == [3]", 1, 5, "`+` is for numbers"),
        ("args.x.matches(args.y)", 1, 15, "written out"),
        ('args.x.matches("(?=a)b")', 1, 16, "`matches`"),
        ("args.?x.optMap(v, v == 1).orValue(true)", 1, 15, "`optMap`"),
        ("[1].exists(a, [[a, a]].exists(b, b == b))", 1, 15, "may not hold a loop's variable"),
    ],
)
def test_a_text_that_is_no_safe_condition_does_not_compile(text: str, line: int, column: int, said: str) -> None:
    first = faults(text)[0]
    assert first[:2] == (line, column)
    assert said in first[2]


def test_every_fault_of_a_condition_is_told_at_once() -> None:
    assert [fault[:2] for fault in faults('tool.nam == "x" || risk == "high"')] == [(1, 5), (1, 25)]


def test_a_condition_longer_than_the_limit_does_not_compile() -> None:
    fits = "risk == 1" + " " * (MAX_CONDITION - len("risk == 1"))
    assert answer(fits, risk=1) is True
    assert "2,000 characters" in faults(fits + " ")[0][2]


def test_six_nested_loops_end_within_their_budget_and_say_so() -> None:
    names = "abcdef"
    text = "".join(f"args.x.all({name}, " for name in names) + "a + b + c + d + e + f >= 0" + ")" * len(names)
    text = text.replace("a + b + c + d + e + f", " + ".join(f"int({name})" for name in names))
    began = time.thread_time()
    found = answer(text, args={"x": list(range(200))})
    assert time.thread_time() - began < 0.1
    assert isinstance(found, Unsure)
    assert "too many turns" in found.why


def test_a_condition_tells_which_names_and_members_it_reads() -> None:
    reading = CONDITIONS.read(
        'args.a == 1 && has(args.b.c) && args["d"] == 2 && args.?e.orValue(0) == 0 && tool.name == "x"'
    )
    assert reading.names == {"args", "tool.name"}
    assert reading.fields == {("args", "a"), ("args", "b"), ("args", "d"), ("args", "e")}


def test_a_view_is_converted_once_for_all_conditions_that_read_it() -> None:
    view = View({"args": {"n": 1}})
    assert CONDITIONS.compile("args.n == 1")(view) is True
    converted = view.converted
    assert CONDITIONS.compile("args.n == 2")(view) is False
    assert view.converted is converted


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner), max_leaves=20
)
TEXTS = (
    "args.x == args.y",
    "args.x > args.y",
    "args.x in args.y",
    "args.x.exists(a, a == args.y)",
    "args.x.size() > 1",
    "has(args.x.y) && args.x.y == true",
    'string(args.x) == "1"',
    "int(args.x) + 1 == 2",
    "args.x || args.y",
)


@given(st.sampled_from(TEXTS), st.dictionaries(st.sampled_from(["x", "y"]), VALUES))
@settings(max_examples=300, deadline=None)
def test_every_json_value_gets_one_of_three_answers(text: str, args: dict[str, Json]) -> None:
    found = answer(text, args=args)
    assert found is True or found is False or isinstance(found, Unsure)
