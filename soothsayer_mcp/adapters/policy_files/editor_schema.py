"""JSON Schemas of policy files and their tests, for editors: draft-07, from the models that read the files.

An editor's check is a help for typing and never stricter than loading; what it cannot say (that globs parse, that names
exist) `policy check` says.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.policy import PolicyDocument
from soothsayer_mcp.adapters.policy_files.key_texts import key_text
from soothsayer_mcp.adapters.policy_files.names import HEADS
from soothsayer_mcp.adapters.policy_files.suites import SuiteDocument
from soothsayer_mcp.model.json import Json, JsonObject

KINDS: Final[Mapping[str, type[Document]]] = {"policy": PolicyDocument, "test": SuiteDocument}
"""Which schemas there are."""

_EFFECTS: JsonObject = {"enum": ["allow", "ask", "deny", "leave"]}
_TEXT: JsonObject = {"type": "string"}

_Widen: TypeAlias = Callable[[JsonObject], JsonObject]


def _or(*others: JsonObject) -> _Widen:
    return lambda inner: {"anyOf": [*others, inner]}


def _or_one(inner: JsonObject) -> JsonObject:
    """Wherever a list may stand, one value may stand alone."""
    items = inner.get("items")
    return {"anyOf": [items if isinstance(items, dict) else {}, inner]}


_READS: Final[Mapping[str, _Widen]] = {
    "listed": _or_one,
    "tools": _or(_TEXT),
    "milliseconds": lambda _: {"type": "string", "pattern": "^[1-9][0-9]{0,5}(ms|s|m|h|d)$"},
    "size": lambda _: {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,9}(B|kB|MB|GB)?$"}]
    },
    "end_of_day": lambda _: {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    "as_default": _or(_EFFECTS),
    "as_server": lambda inner: inner,
    "as_use": _or(_TEXT),
    "as_matchers": _or({"type": ["string", "number", "boolean", "array"]}),
    "as_sink": _or(_TEXT),
    "into": lambda inner: {"anyOf": [{"const": "sinks"}, inner.get("items", {}), inner]},
    "as_scopes": _or(_TEXT, {"type": "array", "items": _TEXT}),
    "as_intent": _or(_TEXT),
    "as_expect": _or({"enum": ["allow", "ask", "deny"]}),
}
"""Function that reads what is written, `_` left out -> what may be written, from what it makes of it."""

_CHECKS: Final[Mapping[str, _Widen]] = {
    "scalar": lambda _: {"type": ["string", "number", "boolean", "null"]},
    "number": lambda _: {"type": "number"},
}


class _Generator(GenerateJsonSchema):
    """Says what may be written, where pydantic says what is made of it."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """No titles: they would only repeat the key."""
        del schema
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Defaults of the models stand for what is absent and mean nothing to a person."""
        return self.generate_inner(schema["schema"])

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """Widen by the function that reads; what is not known of one may be anything."""
        widen = _READS.get(_name(schema["function"]))
        inner = cast("JsonObject", self.generate_inner(schema["schema"]))
        return {} if widen is None else widen(inner)

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        """Narrow where the function says what a value is."""
        inner = cast("JsonObject", self.generate_inner(schema["schema"]))
        narrow = _CHECKS.get(_name(schema["function"]))
        return inner if narrow is None else narrow(inner)


def _name(function: Mapping[str, object]) -> str:
    # A function is private where one module alone reads by it.
    return str(getattr(function.get("function"), "__name__", "")).removeprefix("_")


def schema_of(kind: str) -> JsonObject:
    """Make the schema of `policy` or `test` files."""
    root = KINDS[kind]
    raw = cast("JsonObject", root.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Generator))
    definitions = _map(raw.pop("$defs", {}))
    whole = raw if "properties" in raw else _map(definitions.pop(root.__name__, {}))
    variables = kind == "policy"
    found: JsonObject = {
        name: _described(name, _map(body), variables=variables) for name, body in sorted(definitions.items())
    }
    if variables:
        found["variable"] = {"type": "string", "pattern": r"^\$\{[a-z][a-z0-9_-]*\}$"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Soothsayer policy" if variables else "Soothsayer policy test",
        **_described(root.__name__, whole, variables=variables),
        "definitions": found,
    }


def _described(model: str, body: JsonObject, *, variables: bool) -> JsonObject:
    body.pop("title", None)
    if "properties" not in body:
        return body
    properties: JsonObject = {}
    for key, value in _map(body["properties"]).items():
        if key != "short":
            opened = _open_to_variables(value) if variables and key != "soothsayer" else value
            properties[key] = _with_text(opened, key_text(model, key))
    body["properties"] = properties
    heads: list[Json] = [{"required": [head]} for head in HEADS if head in properties]
    if model == "RuleDocument":
        body["oneOf"] = heads
    elif "required" not in body and model != "ServerDocument":
        body["minProperties"] = 1
    return body


def _with_text(value: Json, said: str) -> Json:
    body = _map(value)
    if "$ref" in body:
        # Draft-07 reads nothing beside a reference.
        return {"allOf": [{"$ref": body["$ref"]}], "description": said}
    return {**body, "description": said}


_NARROW = ("pattern", "enum", "const", "minimum", "maximum")


def _open_to_variables(value: Json) -> Json:
    """A variable may stand for any scalar: it keeps its type when it is filled in."""
    if isinstance(value, list):
        return [_open_to_variables(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    plain = isinstance(kind, str) and kind in {"integer", "number", "boolean"}
    scalar = plain or (kind != "object" and any(word in value for word in _NARROW))
    if scalar:
        return {"anyOf": [value, {"$ref": "#/definitions/variable"}]}
    return {key: value[key] if key in {"$ref", "propertyNames"} else _open_to_variables(value[key]) for key in value}


def _map(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}
