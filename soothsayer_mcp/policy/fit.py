"""Whether matchers can hold of what a tool's input schema lets through. What a schema leaves open fits everything."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.match import Segment, equal, is_whole

SHOWN = 6
"""How many values of a schema a text names."""

_DEEP = 32
"""How far references and parts of a schema are followed."""

_NUMBER = frozenset({"number"})
_TEXT = frozenset({"string"})
_WORDS = frozenset({"string", "array"})
_READS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("min", "max", "above", "below"), _NUMBER),
    **dict.fromkeys(("max_chars", "matches", "under", "glob", "host", "scheme", "port", "cidr", "email_domain"), _TEXT),
    "find": frozenset({"string", "number"}),
    "max_items": frozenset({"array"}),
    **dict.fromkeys(("argv0", "argv", "no_flags", "no_shell_syntax"), _WORDS),
}
"""Matcher -> the types that it reads; `is` and `in` read those of their values."""

_SAID: Mapping[str, str] = {"string": "text", "array": "a list", "boolean": "true or false", "null": "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Possible:
    """What a schema lets an argument be."""

    types: frozenset[str] | None = None
    """`string number boolean null array object`; `None` leaves it open."""
    values: tuple[Json, ...] | None = None
    """All that it may be, where they are listed."""
    least: float | None = None
    most: float | None = None
    items: Sequence["Possible"] = ()
    """What the members of a list may be; of several one, of none anything."""


OPEN = Possible()


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """A matcher that holds of nothing the schema lets through."""

    id: str
    at: tuple[str, ...]
    """The matcher, below the argument's key."""
    text: str
    near: Sequence[str] = ()
    """What may have been meant."""
    value: str = ""
    """The text that stands there."""


@dataclass(slots=True)
class _Reader:
    root: Json
    deep: int = 0
    found: list[Possible] = field(default_factory=list[Possible])

    def possible(self, schema: Json) -> list[Possible]:
        """The alternatives that a schema lets through."""
        if not isinstance(schema, Mapping) or self.deep >= _DEEP:
            return [OPEN]
        self.deep += 1
        try:
            if isinstance(reference := schema.get("$ref"), str):
                return self.possible(_target(self.root, reference))
            for word in ("anyOf", "oneOf"):
                if isinstance(choices := schema.get(word), list) and choices:
                    return [one for choice in choices for one in self.possible(choice)]
            if isinstance(schema.get("allOf"), list):
                return [OPEN]
            return [self._plain(schema)]
        finally:
            self.deep -= 1

    def _plain(self, schema: Mapping[str, Json]) -> Possible:
        values: tuple[Json, ...] | None = None
        if isinstance(listed := schema.get("enum"), list):
            values = tuple(listed)
        elif "const" in schema:
            values = (schema["const"],)
        stated = schema.get("type")
        words = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
        types = frozenset("number" if word == "integer" else str(word) for word in words) or None
        if types is None and values is not None:
            types = frozenset(map(type_of, values))
        return Possible(
            types=types,
            values=values,
            least=_figure(schema, "minimum", "exclusiveMinimum"),
            most=_figure(schema, "maximum", "exclusiveMaximum"),
            items=self.possible(schema["items"]) if isinstance(schema.get("items"), Mapping) else (),
        )

    def follow(self, schema: Json, way: Sequence[Segment]) -> list[Possible]:
        """The alternatives at the end of a way; open where it cannot be followed."""
        if not way:
            return self.possible(schema)
        if not isinstance(schema, Mapping) or self.deep >= _DEEP:
            return [OPEN]
        self.deep += 1
        try:
            if isinstance(reference := schema.get("$ref"), str):
                return self.follow(_target(self.root, reference), way)
            if any(word in schema for word in ("anyOf", "oneOf", "allOf")):
                return [OPEN]
            first, rest = way[0], way[1:]
            if not isinstance(first, str):
                return self.follow(schema.get("items"), rest)
            properties = schema.get("properties")
            return self.follow(properties.get(first), rest) if isinstance(properties, Mapping) else [OPEN]
        finally:
            self.deep -= 1


def _target(root: Json, reference: str) -> Json:
    """What a reference within the schema leads to; nothing where it leads elsewhere."""
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if reference.startswith("#") else None


def _figure(schema: Mapping[str, Json], *words: str) -> float | None:
    figures = [value for word in words if not isinstance(value := schema.get(word), bool)]
    numbers = [value for value in figures if isinstance(value, int | float)]
    return numbers[0] if numbers else None


def type_of(value: Json) -> str:
    """The type of a value in the words of a schema; all numbers are `number`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "object" if isinstance(value, Mapping) else "array"


def argument(schema: Mapping[str, Json], way: Sequence[Segment]) -> tuple[Possible, ...]:
    """What a schema lets one argument be; a way names it as argument keys do."""
    return tuple(_Reader(schema).follow(schema, way))


def misfits(spec: Mapping[str, Json], possible: Sequence[Possible]) -> Iterator[Misfit]:
    """The matchers that hold of nothing that is possible."""
    for name, held in spec.items():
        if name in {"present", "absent"}:
            continue
        choices = held if name == "any_of" and isinstance(held, list) else [held] if name == "not" else None
        if choices is not None:
            for number, choice in enumerate(choices):
                if isinstance(choice, Mapping):
                    way = (name,) if name == "not" else (name, str(number))
                    for one in misfits(choice, possible):
                        yield Misfit(id=one.id, at=(*way, *one.at), text=one.text, near=one.near, value=one.value)
            continue
        yield from _misfit(name, held, [*_judged(possible, whole=is_whole(name, held))])


def _judged(possible: Iterable[Possible], *, whole: bool) -> Iterator[Possible]:
    """What a matcher looks at: a list as a whole, or each of its members."""
    for one in possible:
        if whole or one.types is None or "array" not in one.types:
            yield one
            continue
        if rest := one.types - {"array"}:
            yield Possible(types=rest, values=one.values, least=one.least, most=one.most)
        yield from _judged(one.items or (OPEN,), whole=False) if not _nested(one) else (OPEN,)


def _nested(one: Possible) -> bool:
    return any(inner.types is not None and "array" in inner.types for inner in one.items)


def _misfit(name: str, held: Json, possible: Sequence[Possible]) -> Iterator[Misfit]:
    members = held if name == "in" and isinstance(held, list) else [held]
    reads = frozenset(map(type_of, members)) if name in {"is", "in"} else _READS[name]
    if all(one.types is not None and one.types.isdisjoint(reads) for one in possible):
        allowed = sorted(
            {
                _SAID.get(word, f"a{'n' if word == 'object' else ''} {word}")
                for one in possible
                for word in one.types or ()
            }
        )
        text = f"`{name}` reads {_either(reads)}, and by its schema this is {' or '.join(allowed)}"
        yield Misfit(id="policy-arg-type", at=(name,), text=text)
        return
    if name in {"is", "in"}:
        yield from _unlisted(name, members, possible)
    elif reads is _NUMBER and isinstance(held, int | float):
        over = name in {"min", "above"}
        if all(_beyond(one, name, held) for one in possible):
            ends = {one.most if over else one.least for one in possible}
            end = next(iter(ends)) if len(ends) == 1 else "less" if over else "more"
            text = f"no value is {name} {held}: the schema ends at {end}"
            yield Misfit(id="policy-never", at=(name,), text=text)


def _beyond(one: Possible, name: str, held: float) -> bool:
    if one.types is not None and "number" not in one.types:
        return True
    end = one.most if name in {"min", "above"} else one.least
    if end is None:
        return False
    match name:
        case "min":
            return held > end
        case "above":
            return held >= end
        case "max":
            return held < end
        case _:
            return held <= end


def _unlisted(name: str, members: Sequence[Json], possible: Sequence[Possible]) -> Iterator[Misfit]:
    if any(one.values is None for one in possible if one.types is None or one.types & set(map(type_of, members))):
        return
    listed = [value for one in possible for value in one.values or ()]
    for member in members:
        if not any(equal(value, member) for value in listed):
            some = ", ".join(map(str, listed[:SHOWN])) + (", ..." if len(listed) > SHOWN else "")
            text = f"{_quoted(member)} is none of the values in the schema: {some}"
            near = [value for value in listed if isinstance(value, str)]
            yield Misfit(id="policy-never", at=(name,), text=text, near=near, value=str(member))


def _quoted(value: Json) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _either(types: Iterable[str]) -> str:
    return " or ".join(sorted(_SAID.get(word, f"a {word}") for word in types))
