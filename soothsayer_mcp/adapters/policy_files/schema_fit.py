"""Rules beside the input schemas of the tools that they are about: what arguments may be, and conditions on them."""

import re
from collections.abc import Iterator, Mapping, Sequence

from soothsayer_mcp.adapters.conditions import Conditions
from soothsayer_mcp.model.condition import ConditionError, Names, Sort
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.fit import Possible, argument
from soothsayer_mcp.policy.match import Segment

Schema = Mapping[str, Json]
Fault = tuple[int, int, str]

_HAS = re.compile(r"\bhas\(\s*args\.[A-Za-z_][A-Za-z0-9_]*\s*\)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let"),
        *("loop", "namespace", "null", "package", "return", "true", "var", "void", "while"),
    )
)
"""Words of CEL that are no names."""

_NUMBERS = (Sort.WHOLE, Sort.FRACTION)
_SORTS: Mapping[frozenset[str], Sort] = {
    frozenset({"string"}): Sort.TEXT,
    frozenset({"boolean"}): Sort.TRUTH,
    frozenset({"object"}): Sort.OBJECT,
}
_LIST_OF_TEXTS = frozenset({"array"})


def declared_by(schema: Schema) -> frozenset[str]:
    """The arguments that a schema names."""
    properties = schema.get("properties")
    return frozenset(properties) if isinstance(properties, Mapping) else frozenset()


def possible_of(schemas: Sequence[Schema], ways: Sequence[Sequence[Segment]]) -> list[Possible]:
    """What an argument key can stand for in the calls of some tools; nothing where none of them declares it."""
    return [
        one
        for schema in schemas
        for way in ways
        if way and way[0] in declared_by(schema)
        for one in argument(schema, way)
    ]


def condition_faults(text: str, schemas: Sequence[Schema], names: Names) -> Sequence[Fault]:
    """Why a condition cannot be evaluated for any tool that has its arguments; empty where it can for one."""
    used = {member for name, member in Conditions(names).read(text).fields if name == "args"}
    faults: Sequence[Fault] = ()
    for schema in schemas:
        declared = used & declared_by(schema)
        if not declared:
            continue
        faults = _faults(text, schema, declared, names)
        if not faults:
            return ()
    return faults


def _faults(text: str, schema: Schema, used: set[str] | frozenset[str], names: Names) -> Sequence[Fault]:
    absent = [*_absent(text, schema, used)]
    if absent:
        return absent
    # Declared as a name of its own an argument has a type, and `has` would read its value instead of asking for it.
    plain = _HAS.sub(lambda found: "true".ljust(len(found[0])), text)
    sorts = {name: sort for name in sorted(used) if (sort := _sort(schema, name)) is not None}
    fixed = {f"args.{name}": sort for name, sort in sorts.items() if sort not in _NUMBERS}
    faults = _compiled(plain, {**names, **fixed})
    for name, sort in sorts.items():
        if faults or sort not in _NUMBERS:
            continue
        # JSON has one kind of number, and what compiles for one of CEL's two is evaluated for both.
        tried = [_compiled(plain, {**names, f"args.{name}": one}) for one in _NUMBERS]
        if all(tried):
            faults = tried[0]
    return faults


def _compiled(text: str, names: Names) -> Sequence[Fault]:
    try:
        Conditions(names).compile(text)
    except ConditionError as error:
        return error.faults
    return ()


def _sort(schema: Schema, name: str) -> Sort | None:
    """The type of an argument in conditions; `None` where the schema leaves it open."""
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        return None
    possible = argument(schema, (name,))
    types = {one.types for one in possible}
    if len(types) != 1 or None in types:
        return None
    only = possible[0].types or frozenset()
    if only == frozenset({"number"}):
        return Sort.WHOLE
    if only == _LIST_OF_TEXTS and len(possible) == 1:
        inner = {one.types for one in possible[0].items}
        return Sort.TEXTS if inner == {frozenset({"string"})} else None
    return _SORTS.get(only)


def _absent(text: str, schema: Schema, used: set[str] | frozenset[str]) -> Iterator[Fault]:
    """Arguments that a call may leave out, and that the condition reads as if they were always there."""
    required = schema.get("required")
    always = (
        {str(name) for name in required}
        if isinstance(required, Sequence) and not isinstance(required, str)
        else set[str]()
    )
    for name in sorted(used - always):
        word = re.escape(name)
        asked = rf"""has\(\s*args\.{word}\s*\)|args\.\?{word}\b|args\[\?|["']{word}["']\s+in\s+args\b"""
        if re.search(asked, text):
            continue
        found = re.search(rf"args\.{word}\b", text)
        at = 0 if found is None else found.start()
        before = text[:at]
        told = f"a call may leave {name} out: write has(args.{name}) && ..., or args.?{name}.orValue(...)"
        yield before.count("\n") + 1, at - before.rfind("\n"), told
