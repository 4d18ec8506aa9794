"""What an item may name of a call: values by path, in texts and in conditions, and what an answer says."""

from dataclasses import replace

import pytest

from soothsayer_mcp.evidence.scope import (
    SHOWN,
    AbsentError,
    fill,
    filled_text,
    named,
    parsed,
    plain,
    result_of,
    shown,
    take,
    uses,
    values_of,
)
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.testing.factories import make_step
from soothsayer_mcp.testing.world import CLIENT, PRINCIPAL, RUN_ID

VALUES: dict[str, Json] = {
    "args": {"path": "/w/a", "n": 7, "half": 0.5, "yes": True, "list": ["x", {"y": 1}], "a-b": None},
    "run": {"id": RUN_ID},
    "workspace": "/w",
}


def test_before_a_call_its_arguments_its_run_and_who_asks_are_known() -> None:
    step = replace(make_step(arguments={"a": 1}), principal=replace(PRINCIPAL, id="ann", groups=("dev", "ops")))
    assert values_of(step, "/w") == {
        "args": {"a": 1},
        "workspace": "/w",
        "run": {"id": RUN_ID},
        "who": {"sub": "ann", "groups": ["dev", "ops"], "client": CLIENT.name},
    }
    undoing = replace(step, names={"args": {"b": 2}, "before": 3})
    assert values_of(undoing, "/w")["args"] == {"b": 2}
    assert values_of(undoing, "/w")["before"] == 3


def test_conditions_see_run_and_who_as_dotted_names_and_the_rest_as_it_is() -> None:
    assert named({"run": {"id": "r"}, "who": {"sub": "s"}, "args": {"id": 1}, "text": "t"}) == {
        "run.id": "r",
        "who.sub": "s",
        "args": {"id": 1},
        "text": "t",
    }
    assert named({"run": "r"}) == {"run": "r"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("args.path", "/w/a"),
        ("args.list.0", "x"),
        ("args.list.1.y", 1),
        ("args.list.01", {"y": 1}),
        ("args.a-b", None),
        ("workspace", "/w"),
        ("run", {"id": RUN_ID}),
    ],
)
def test_a_value_is_taken_by_its_path(path: str, value: Json) -> None:
    assert take(path, VALUES) == value


@pytest.mark.parametrize(
    "path", ["args.no", "args.list.2", "args.list.-1", "args.list.x", "args.list.²", "args.n.0", "workspace.0", ""]
)
def test_a_value_that_is_not_there_is_absent_and_says_which(path: str) -> None:
    with pytest.raises(AbsentError) as caught:
        take(path, VALUES)
    assert str(caught.value) == f"there is no {path}"


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("${args.list}", ["x", {"y": 1}]),
        ("${args.a-b}", None),
        ("${args.n} of ${args.path}", "7 of /w/a"),
        ("${args.half}!", "0.5!"),
        ("plain", "plain"),
        ("$n ${N} ${} {args.n}", "$n ${N} ${} {args.n}"),
        ({"a": ["${args.n}", {"b": "${workspace}/x"}], "c": 1}, {"a": [7, {"b": "/w/x"}], "c": 1}),
        (3, 3),
        (None, None),
        (True, True),
    ],
)
def test_values_are_put_in_and_one_alone_keeps_its_type(template: Json, filled: Json) -> None:
    assert fill(template, VALUES) == filled


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("x ${args.yes}", "args.yes is no text or number"),
        ("x ${args.list}", "args.list is no text or number"),
        ("x ${args.a-b}", "args.a-b is no text or number"),
        (["${args.no}"], "there is no args.no"),
        ({"k": "x ${args.no}"}, "there is no args.no"),
    ],
)
def test_what_has_no_text_is_put_into_none(template: Json, why: str) -> None:
    with pytest.raises(AbsentError) as caught:
        fill(template, VALUES)
    assert str(caught.value) == why


def test_a_text_is_wanted_and_nothing_else() -> None:
    assert filled_text("${args.path}", VALUES) == "/w/a"
    with pytest.raises(AbsentError) as caught:
        filled_text("${args.n}", VALUES)
    assert str(caught.value) == '"${args.n}" is no text'


@pytest.mark.parametrize(
    ("value", "root", "found"),
    [
        ("${args.n}", "args", True),
        ("a ${run.id} ${args}", "args", True),
        ("${arguments.n}", "args", False),
        ("args.n", "args", False),
        ({"k": ["x", {"l": "${returned.id}"}]}, "returned", True),
        ({"${args.n}": "x"}, "args", False),
        (["x", "${args.n}"], "args", True),
        (["x"], "args", False),
        ({}, "args", False),
        (7, "args", False),
        (None, "args", False),
    ],
)
def test_it_is_known_which_values_a_text_uses(value: Json, root: str, found: bool) -> None:
    assert uses(value, root) is found


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, (None, "a\nb")),
        ({"content": [{"type": "text", "text": '{"n": 1}'}]}, ({"n": 1}, '{"n": 1}')),
        ({"content": [{"type": "text", "text": '{"n": 1}'}], "structuredContent": [2]}, ([2], '{"n": 1}')),
        ({"content": [{"type": "text", "text": '{"n": 1}'}], "structuredContent": None}, (None, '{"n": 1}')),
        ({"content": [{"type": "image", "text": "a"}, {"type": "text", "text": 7}, "x", {"type": "text"}]}, (None, "")),
        ({"content": {"type": "text"}}, (None, "")),
        ({}, (None, "")),
        (None, (None, "")),
    ],
)
def test_an_answer_says_its_structured_content_or_what_its_text_holds(
    result: dict[str, Json] | None, said: tuple[Json, str]
) -> None:
    assert result_of(Returned(raw=b"", result=result)) == said


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":1}', {"a": 1}),
        (' \n[1, "x"]', [1, "x"]),
        ("{", None),
        ("", None),
        ("7", None),
        ('"x"', None),
        ("null", None),
        ("[" * 100_000, None),
    ],
)
def test_a_text_is_parsed_when_it_is_an_object_or_a_list(text: str, value: Json) -> None:
    assert parsed(text) == value


def test_the_agent_reads_values_quoted_escaped_and_cut() -> None:
    assert shown("a\u202e\n") == '"a\\u202e\\n"'
    assert shown("x" * (SHOWN - 2)) == f'"{"x" * (SHOWN - 2)}"'
    assert shown("x" * (SHOWN - 1)) == f'"{"x" * (SHOWN - 4)}...'
    assert plain("a\u202e'") == "a\\u202e'"
    assert plain("x" * 40 + "y" * 80) == "y" * 80
    assert SHOWN == 80
