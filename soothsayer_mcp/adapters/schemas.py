"""JSON Schemas of tools, compiled into checks that never fetch, never run away, and never quote what they looked at."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeAlias, cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.model.call import ArgumentFault
from soothsayer_mcp.model.json import Digest, Json, canonical, digest

Check: TypeAlias = Callable[[Json], ArgumentFault | None]
"""Tells the first way in which a value does not fit its schema."""

APPLICATIONS_MAX: Final = 100_000
"""How often the parts of a schema may apply once its references are followed: these can double at each level."""

BACKTRACKS_MAX: Final = 10_000
"""How far a pattern may go back; past it the value does not fit."""

_DEFINITIONS: Final = frozenset({"$defs", "definitions"})
"""What stands there applies only where it is referred to. A property of that name is counted too little, which is
why the bound is far below what would be felt."""

KEPT: Final = 4_096
"""How many compiled schemas are kept."""

SHOWN: Final = 80
"""How much is shown of what a schema expects: the words of a schema are those of a stranger."""


def compile_input(schema: Json) -> Check | None:
    """Compile the input schema of a tool; `None` when it cannot be used."""
    return _compile(schema)


def compile_output(schema: Json) -> Check | None:
    """Compile the output schema of a tool; `None` when it cannot be used."""
    return _compile(schema)


class _Kind(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> Json: ...


class _Fault(Protocol):
    """The part of the library's error that is looked at; its message quotes the value and is not."""

    @property
    def kind(self) -> _Kind: ...
    @property
    def instance_path(self) -> Sequence[str | int]: ...


class _Validator(Protocol):
    def is_valid(self, instance: Json) -> bool: ...
    def iter_errors(self, instance: Json) -> Iterator[_Fault]: ...


class _ValidatorFor(Protocol):
    def __call__(self, schema: Json, *, offline: bool, pattern_options: object) -> _Validator: ...


_compiled: OrderedDict[Digest, Check | None] = OrderedDict()


def _compile(schema: Json) -> Check | None:
    if not isinstance(schema, Mapping):
        return None
    key = digest(canonical(schema))
    if key in _compiled:
        _compiled.move_to_end(key)
        return _compiled[key]
    check = _check(schema)
    _compiled[key] = check
    if len(_compiled) > KEPT:
        _compiled.popitem(last=False)
    return check


def _check(schema: Json) -> Check | None:
    if _applications(schema) > APPLICATIONS_MAX:
        return None
    validator_for = cast("_ValidatorFor", resolve("jsonschema_rs:validator_for"))
    options = cast("Callable[..., object]", resolve("jsonschema_rs:FancyRegexOptions"))
    try:
        validator = validator_for(schema, offline=True, pattern_options=options(backtrack_limit=BACKTRACKS_MAX))
    except ValueError:  # what the library raises for every schema that it cannot use
        return None

    def check(value: Json) -> ArgumentFault | None:
        try:
            if validator.is_valid(value):
                return None
            fault = next(validator.iter_errors(value), None)
        except ValueError:
            return ArgumentFault(path="", problem="cannot be checked against its schema")
        if fault is None:
            return ArgumentFault(path="", problem="does not fit its schema")
        return _told(fault)

    return check


def _applications(schema: Json) -> int:
    """Count how often parts of a schema apply to a value; a reference back into its own part counts once."""
    counted: dict[int, int] = {}
    within: set[int] = set()

    def count(part: Json) -> int:
        if isinstance(part, Mapping):
            key = id(part)
            if key in within:
                return 1
            if key not in counted:
                within.add(key)
                total = 1 + sum(count(value) for name, value in part.items() if name not in _DEFINITIONS)
                target = _target(schema, part)
                counted[key] = min(total + (0 if target is None else count(target)), APPLICATIONS_MAX + 1)
                within.discard(key)
            return counted[key]
        return sum(map(count, part)) if isinstance(part, Sequence) and not isinstance(part, str) else 0

    try:
        return count(schema)
    except RecursionError:
        return APPLICATIONS_MAX + 1


def _target(root: Json, part: Mapping[str, Json]) -> Json:
    """Find what a reference within the schema leads to; what leads elsewhere does not compile."""
    reference = part.get("$ref", part.get("$dynamicRef"))
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    if reference == "#":
        return root
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, Sequence) and not isinstance(found, str) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


_PHRASES: Final[Mapping[str, str]] = {
    "type": "must be of type {}",
    "enum": "must be one of {}",
    "const": "must be {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "pattern": "must match {}",
    "format": "must be in the format {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} members",
    "maxProperties": "must have at most {} members",
}
"""Keyword -> what a value must be; other keywords are only named."""


def _told(fault: _Fault) -> ArgumentFault:
    keyword, expected = fault.kind.name, fault.kind.value
    path = [str(step) for step in fault.instance_path]
    match keyword:
        case "required":
            return ArgumentFault(path=_pointer([*path, str(expected)]), problem="is required and missing (required)")
        case "additionalProperties" | "unevaluatedProperties":
            extra = expected[0] if isinstance(expected, Sequence) and expected else ""
            return ArgumentFault(path=_pointer([*path, str(extra)]), problem=f"is not in the schema ({keyword})")
        case _ if keyword in _PHRASES:
            phrase = _PHRASES[keyword].format(_shown(keyword, expected))
            return ArgumentFault(path=_pointer(path), problem=f"{phrase} ({keyword})")
        case _:
            return ArgumentFault(path=_pointer(path), problem=f"does not fit its schema ({keyword})")


def _shown(keyword: str, expected: Json) -> str:
    if keyword == "type" and isinstance(expected, Sequence) and not isinstance(expected, str):
        return " or ".join(sorted(map(str, expected)))  # the library keeps no order
    if keyword == "enum" and isinstance(expected, Sequence) and not isinstance(expected, str):
        text = ", ".join(json.dumps(each) for each in expected)
    else:
        text = json.dumps(expected)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "\u2026"


def _pointer(path: Sequence[str]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)
