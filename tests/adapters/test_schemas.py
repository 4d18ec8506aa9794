import json
import socket
import time
from collections.abc import Mapping

import pytest

from soothsayer_mcp.adapters.schemas import Check, compile_input, compile_output
from soothsayer_mcp.model.call import ArgumentFault
from soothsayer_mcp.model.json import Json

SECRET = "hunter2"


def compiled(schema: Json) -> Check:
    check = compile_input(schema)
    assert check is not None
    return check


SCHEMA: Json = {
    "type": "object",
    "required": ["path"],
    "additionalProperties": False,
    "properties": {
        "path": {"type": "string", "maxLength": 40, "pattern": "^/"},
        "mode": {"enum": ["fast", "safe"]},
        "lines": {"type": "array", "items": {"type": ["integer", "null"], "minimum": 1}, "maxItems": 3},
        "a/b~c": {"const": 7},
        "odd": {"not": {"type": "string"}},
    },
}


def test_what_fits_has_no_fault() -> None:
    assert compiled(SCHEMA)({"path": "/a", "mode": "fast", "lines": [1, None], "a/b~c": 7, "odd": 1}) is None


@pytest.mark.parametrize(
    ("arguments", "path", "problem"),
    [
        ({}, "/path", "is required and missing (required)"),
        ({"path": 7}, "/path", "must be of type string (type)"),
        ({"path": "x" + SECRET}, "/path", 'must match "^/" (pattern)'),
        ({"path": "/" + SECRET * 9}, "/path", "must have at most 40 characters (maxLength)"),
        ({"path": "/", "mode": SECRET}, "/mode", 'must be one of "fast", "safe" (enum)'),
        ({"path": "/", "lines": [1, SECRET]}, "/lines/1", "must be of type integer or null (type)"),
        ({"path": "/", "lines": [0]}, "/lines/0", "must be at least 1 (minimum)"),
        ({"path": "/", "lines": [1, 2, 3, 4]}, "/lines", "must have at most 3 items (maxItems)"),
        ({"path": "/", "a/b~c": SECRET}, "/a~1b~0c", "must be 7 (const)"),
        ({"path": "/", "odd": SECRET}, "/odd", "does not fit its schema (not)"),
        ({"path": "/", "pathh": SECRET}, "/pathh", "is not in the schema (additionalProperties)"),
        (SECRET, "", "must be of type object (type)"),
    ],
)
def test_a_fault_names_path_keyword_and_expectation_and_never_the_value(
    arguments: Json, path: str, problem: str
) -> None:
    fault = compiled(SCHEMA)(arguments)
    assert fault == ArgumentFault(path=path, problem=problem)
    assert SECRET not in problem


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        "true",
        '{"type": "object"}',
        [],
        {"type": "strin"},
        {"$ref": "#/$defs/absent"},
        {"pattern": "("},
        {"$schema": "https://example.test/no-such-draft"},
    ],
)
def test_a_schema_that_cannot_be_used_is_none(schema: Json) -> None:
    assert compile_input(schema) is None
    assert compile_output(schema) is None


def test_no_reference_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        assert compile_input({"$ref": f"http://127.0.0.1:{port}/schema.json"}) is None
        with pytest.raises(TimeoutError):
            server.accept()


def doubling(levels: int) -> Mapping[str, Json]:
    parts: dict[str, Json] = {
        f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}, {"$ref": f"#/$defs/d{at + 1}"}]} for at in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": parts | {f"d{levels}": {"type": "object"}}}


def test_references_that_double_at_each_level_are_refused_before_they_cost_anything() -> None:
    assert compiled(doubling(12))({}) is None
    before = time.process_time()
    assert compile_input(doubling(40)) is None
    assert time.process_time() - before < 1


def test_a_schema_that_refers_to_itself_is_used() -> None:
    tree: Json = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    check = compiled(tree)
    assert check({"left": {"right": {}}}) is None
    assert check({"left": {"right": 1}}) == ArgumentFault(path="/left/right", problem="must be of type object (type)")


def test_a_pattern_that_goes_back_without_end_does_not_fit() -> None:
    check = compiled({"type": "object", "properties": {"a": {"pattern": r"^(?=(a+)+b$)x"}}})
    before = time.process_time()
    assert check({"a": "a" * 40}) is not None
    assert time.process_time() - before < 1


@pytest.mark.parametrize("draft", ["draft-04", "draft-06", "draft-07"])
def test_the_draft_is_the_one_that_the_schema_names(draft: str) -> None:
    tuple_items: Json = {"$schema": f"http://json-schema.org/{draft}/schema#", "items": [{"type": "integer"}]}
    assert compiled(tuple_items)(["x"]) is not None
    assert compile_input({"items": [{"type": "integer"}]}) is None, "2020-12 where none is named"


def test_equal_schemas_are_compiled_once_whatever_the_order_of_their_keys() -> None:
    text = json.dumps(SCHEMA)
    assert compiled(json.loads(text)) is compiled(SCHEMA)


def test_a_long_expectation_is_cut() -> None:
    fault = compiled({"enum": [f"word-{at}" for at in range(1_000)]})("x")
    assert fault is not None
    assert len(fault.problem) < 120
