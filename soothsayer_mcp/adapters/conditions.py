"""Conditions in CEL, by Google's own library, imported at the first condition. We write no expression language.

The library reports an error as a value that reads as true, so an answer is its own boolean and nothing else. Its budget
bounds turns of loops and not memory, so what lets values grow is refused before it ever runs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import cached_property
from typing import Final, Protocol, cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.patterns import compile_pattern
from soothsayer_mcp.model.answer import Answer, Unsure
from soothsayer_mcp.model.condition import Condition, ConditionError, Names, Sort, View
from soothsayer_mcp.model.value import dataclass

MAX_CONDITION: Final = 2_000
"""Characters of one condition."""
KEPT: Final = 10_000
"""Compiled conditions that are kept for one set of names."""
MAX_WHY: Final = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Type(Protocol):
    BOOL: "_Type"
    DYN: "_Type"

    def __call__(self, signature: str) -> "_Type": ...


class _Value(Protocol):
    def type(self) -> _Type: ...
    def value(self) -> object: ...


class _Program(Protocol):
    def eval(self, activation: object) -> _Value: ...
    def return_type(self) -> _Type: ...
    def serialize(self) -> bytes: ...


class _Environment(Protocol):
    def Activation(self, data: Mapping[str, object]) -> object: ...  # noqa: N802 - the library's name
    def compile(self, expression: str) -> _Program: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a condition reads, as found in its compiled form."""

    names: frozenset[str]
    fields: frozenset[tuple[str, str]]
    """A name of sort `object` or `any`, and a member of it that the condition names."""


class Conditions:
    """Compiles conditions over one set of names. What it compiles may be evaluated on any thread."""

    def __init__(self, names: Names) -> None:
        """Declare the names; nothing is imported yet."""
        self._names = dict(names)
        self._times = tuple(name for name, sort in names.items() if sort is Sort.TIME)
        self._kept: dict[str, tuple[Condition, Reading]] = {}

    def compile(self, text: str) -> Condition:
        """Compile a condition. Raises `ConditionError` with everything that is wrong with it."""
        return self._compiled(text)[0]

    def read(self, text: str) -> Reading:
        """Tell what a condition reads. Raises `ConditionError` as `compile` does."""
        return self._compiled(text)[1]

    def _compiled(self, text: str) -> tuple[Condition, Reading]:
        known = self._kept.get(text)
        if known is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            known = self._kept[text] = self._compile(text)
        return known

    @cached_property
    def _types(self) -> _Type:
        return cast("_Type", resolve("cel_expr_python.cel:Type"))

    @cached_property
    def _environment(self) -> _Environment:
        make = cast("Callable[..., _Environment]", resolve("cel_expr_python.cel:NewEnv"))
        optional = cast("Callable[[], object]", resolve("cel_expr_python.ext.ext_optional:ExtOptional"))
        # No other extension: `bind` and `replace` let memory grow without bound.
        return make(
            variables={name: self._types(_SORTS[sort]) for name, sort in self._names.items()}, extensions=[optional()]
        )

    def _compile(self, text: str) -> tuple[Condition, Reading]:
        if len(text) > MAX_CONDITION:
            raise ConditionError(((1, 1, f"a condition may have {MAX_CONDITION:,} characters and has {len(text):,}"),))
        try:
            program = self._environment.compile(text)
        except (RuntimeError, MemoryError, TypeError) as error:
            raise ConditionError(_faults(str(error))) from error
        returned = program.return_type()
        reader = _Reader(text=text, names=self._names)
        reader.read(program.serialize())
        if returned == self._types.DYN:
            reader.faults.append((1, 1, "a condition is true or false, and this may be anything: write `== true`"))
        elif returned != self._types.BOOL:
            reader.faults.append((1, 1, "a condition is true or false, and this is neither"))
        if reader.faults:
            raise ConditionError(tuple(sorted(set(reader.faults))))
        return self._condition(program, text), Reading(names=frozenset(reader.used), fields=frozenset(reader.fields))

    def _condition(self, program: _Program, text: str) -> Condition:
        truth, environment, times = self._types.BOOL, self._environment, self._times
        evaluate = program.eval

        def condition(view: View) -> Answer:
            try:
                activation = view.converted
                if activation is None:
                    activation = view.converted = environment.Activation(_converted(view.values, times))
                value = evaluate(activation)
                held = value.value()
                if value.type() == truth:
                    if held is True:
                        return True
                    if held is False:
                        return False
                return Unsure(_why(held, text))
            except Exception as error:  # noqa: BLE001 - whatever the library does, a condition is a doubt and never true
                return Unsure(_why(str(error) or type(error).__name__, text))

        return condition


_SORTS: dict[Sort, str] = {
    Sort.TEXT: "string",
    Sort.TEXTS: "list<string>",
    Sort.WHOLE: "int",
    Sort.FRACTION: "double",
    Sort.TRUTH: "bool",
    Sort.TIME: "timestamp",
    Sort.OBJECT: "map<string, dyn>",
    Sort.ANY: "dyn",
}


def _converted(values: Mapping[str, object], times: tuple[str, ...]) -> Mapping[str, object]:
    if not times:
        return values
    converted = dict(values)
    for name in times:
        micros = converted.get(name)
        if isinstance(micros, int):
            converted[name] = _EPOCH + timedelta(microseconds=micros)
    return converted


_STATUS = re.compile(r"^[A-Z_]+: |\s*\[[A-Z_]+\]$")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_KNOWN = (
    ("out of range", "a whole number is beyond 64 bits"),
    ("Iteration budget", "its loops take too many turns"),
    ("from null", "a text holds half a character"),
)


def _why(held: object, text: str) -> str:
    if not isinstance(held, str):
        return f"the condition yields {type(held).__name__}, not true or false"
    said = next((ours for theirs, ours in _KNOWN if theirs in held), "")
    if not said:
        # Values of the call do not belong into a reason; what the condition itself says may be named.
        said = _QUOTED.sub(lambda found: found[0] if (found[1] or found[2] or "") in text else "…", held)
        said = _STATUS.sub("", " ".join(said.split())).encode("utf-8", "replace").decode()[:MAX_WHY]
    return f"the condition cannot be evaluated: {said}"


_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")


def _faults(said: str) -> tuple[tuple[int, int, str], ...]:
    found = tuple((int(line), int(column), _plain(text)) for line, column, text in _ERROR.findall(said))
    return found or ((1, 1, _plain(" ".join(said.split()))[:MAX_WHY]),)


_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'.*")
_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '([^']*)'")


def _plain(text: str) -> str:
    text = _STATUS.sub("", text)
    text = _UNDECLARED.sub(r'there is no "\1" here', text)
    return _OVERLOAD.sub(lambda found: f"{found[1].strip('_')} does not go with {found[2]}", text)


class _Kind(IntEnum):
    """The kinds of an expression: field numbers of `cel.expr.Expr` in cel/expr/syntax.proto."""

    NONE = 0
    CONST = 3
    IDENT = 4
    SELECT = 5
    CALL = 6
    LIST = 7
    STRUCT = 8
    FOLD = 9


@dataclass(frozen=True, slots=True)
class _Node:
    """One expression of a `CheckedExpr`: its number, which kind of field holds it, and that field's content."""

    id: int
    kind: _Kind
    body: Mapping[int, list["bytes | int"]]


_GROWING = frozenset({"add_string", "add_bytes", "add_list"})


class _Reader:
    """Reads a compiled condition: the names that it uses, and what in it could grow without bound."""

    def __init__(self, *, text: str, names: Names) -> None:
        self._text = text
        self._names = names
        self.used: set[str] = set()
        self.fields: set[tuple[str, str]] = set()
        self.faults: list[tuple[int, int, str]] = []
        self._overloads: dict[int, set[str]] = {}
        self._references: dict[int, str] = {}
        self._positions: dict[int, int] = {}

    def read(self, serialized: bytes) -> None:
        """Walk the whole program."""
        checked = _fields(_bytes(_fields(serialized), 2))
        for entry in map(_fields, _all_bytes(checked, 2)):
            reference = _fields(_bytes(entry, 2))
            number = _number(entry, 1)
            self._overloads[number] = {_text(raw) for raw in _all_bytes(reference, 3)}
            self._references[number] = _text(_bytes(reference, 1))
        for entry in map(_fields, _all_bytes(_fields(_bytes(checked, 5)), 4)):
            self._positions[_number(entry, 1)] = _number(entry, 2)
        self._walk(_node(_bytes(checked, 4)), frozenset())

    def _fault(self, node: _Node, text: str) -> None:
        at = self._positions.get(node.id, 0)
        before = self._text[:at]
        self.faults.append((before.count("\n") + 1, at - before.rfind("\n"), text))

    def _walk(self, node: _Node, bound: frozenset[str]) -> None:
        name = self._name(node, bound)
        if name is not None:
            self.used.add(name)
            return
        match node.kind:
            case _Kind.SELECT:
                self._field(_node(_bytes(node.body, 1)), _text(_bytes(node.body, 2)), bound)
            case _Kind.CALL:
                self._call(node, bound)
            case _Kind.LIST | _Kind.STRUCT:
                if any(inner.kind == _Kind.IDENT and _text(_bytes(inner.body, 1)) in bound for inner in _below(node)):
                    self._fault(node, "a list or map that is written here may not hold a loop's variable")
            case _Kind.FOLD:
                self._fold(node, bound)
                return
            case _:
                pass
        for inner in _children(node):
            self._walk(inner, bound)

    def _name(self, node: _Node, bound: frozenset[str]) -> str | None:
        """The declared name that a node as a whole stands for."""
        reference = self._references.get(node.id, "")
        if node.kind in {_Kind.IDENT, _Kind.SELECT} and reference in self._names and reference not in bound:
            return reference
        return None

    def _field(self, operand: _Node, member: str, bound: frozenset[str]) -> None:
        name = self._name(operand, bound)
        if name is not None:
            self.fields.add((name, member))

    def _call(self, node: _Node, bound: frozenset[str]) -> None:
        function = _text(_bytes(node.body, 2))
        arguments = [_node(raw) for raw in (*_all_bytes(node.body, 1), *_all_bytes(node.body, 3))]
        overloads = self._overloads.get(node.id, set())
        if function in {"_[_]", "_[?_]", "_?._"}:
            member = _literal(arguments[1])
            if member is not None:
                self._field(arguments[0], member, bound)
        elif function == "_+_" and overloads & _GROWING:
            self._fault(node, "`+` is for numbers and times only; say which it is: int(args.a) + 1")
        elif function == "matches":
            self._pattern(node, arguments[-1])

    def _pattern(self, node: _Node, argument: _Node) -> None:
        expression = _literal(argument)
        if expression is None:
            self._fault(node, "`matches` needs its expression written out, as a text in quotes")
            return
        try:
            compile_pattern(expression)
        except ValueError as error:
            self._fault(argument, f"`matches`: {error}")

    def _fold(self, node: _Node, bound: frozenset[str]) -> None:
        variable, gathered = _text(_bytes(node.body, 1)), _text(_bytes(node.body, 3))
        if not gathered.startswith("@"):
            self._fault(node, "`optMap` and `optFlatMap` are not used here; write `.orValue()`")
        over, step = _children(node)
        inside = bound | {variable}
        if _node(_bytes(node.body, 4)).kind == _Kind.LIST:
            # `filter` and `map` gather a list. A filter takes members as they are; a map could make larger ones.
            # The step is `@result + [x]`, or with a predicate `p ? @result + [x] : @result`.
            if not any(self._gathers(one, gathered, variable) for one in (step, *_children(step)[1:2])):
                self._fault(node, "`map` is not used here, since it can make values grow without bound")
            step = _children(step)[0]
        self._walk(over, bound)
        self._walk(step, inside)

    @staticmethod
    def _gathers(node: _Node, gathered: str, variable: str) -> bool:
        """Whether a node adds a loop's own variable, and nothing else, to what the loop gathers."""
        if node.kind != _Kind.CALL or _text(_bytes(node.body, 2)) != "_+_":
            return False
        left, right = (_node(raw) for raw in _all_bytes(node.body, 3))
        members = _children(right) if right.kind == _Kind.LIST else []
        return (
            left.kind == _Kind.IDENT
            and _text(_bytes(left.body, 1)) == gathered
            and len(members) == 1
            and members[0].kind == _Kind.IDENT
            and _text(_bytes(members[0].body, 1)) == variable
        )


def _children(node: _Node) -> list[_Node]:
    body = node.body
    match node.kind:
        case _Kind.SELECT:
            return [_node(_bytes(body, 1))]
        case _Kind.CALL:
            return [_node(raw) for raw in (*_all_bytes(body, 1), *_all_bytes(body, 3))]
        case _Kind.LIST:
            return [_node(raw) for raw in _all_bytes(body, 1)]
        case _Kind.STRUCT:
            entries = [_fields(raw) for raw in _all_bytes(body, 2)]
            return [_node(raw) for entry in entries for number in (3, 4) for raw in _all_bytes(entry, number)]
        case _Kind.FOLD:
            # What it goes over, and its step; the other parts hold nothing that people write.
            return [_node(_bytes(body, 2)), _node(_bytes(body, 6))]
        case _:
            return []


def _below(node: _Node) -> Iterator[_Node]:
    stack = [node]
    while stack:
        one = stack.pop()
        yield one
        stack.extend(_children(one))


def _literal(node: _Node) -> str | None:
    """The text that a node is, written out; `None` for anything else."""
    if node.kind != _Kind.CONST or 6 not in node.body:  # noqa: PLR2004 - Constant.string_value
        return None
    return _text(_bytes(node.body, 6))


def _node(raw: bytes) -> _Node:
    fields = _fields(raw)
    kind = next((_Kind(number) for number in fields if number >= _Kind.CONST), _Kind.NONE)
    return _Node(id=_number(fields, 2), kind=kind, body=_fields(_bytes(fields, kind)))


def _fields(raw: bytes) -> Mapping[int, list[bytes | int]]:
    """Read one protobuf message: field number -> its values, whole numbers or bytes."""
    found: dict[int, list[bytes | int]] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004 - the last byte of a varint
                return value

    while at < len(raw):
        key = number()
        wire = key & 7
        if wire == 0:
            found.setdefault(key >> 3, []).append(number())
            continue
        size = 8 if wire == 1 else number()
        found.setdefault(key >> 3, []).append(raw[at : at + size])
        at += size
    return found


def _all_bytes(fields: Mapping[int, list[bytes | int]], number: int) -> list[bytes]:
    return [value for value in fields.get(number, []) if isinstance(value, bytes)]


def _bytes(fields: Mapping[int, list[bytes | int]], number: int) -> bytes:
    found = _all_bytes(fields, number)
    return found[0] if found else b""


def _number(fields: Mapping[int, list[bytes | int]], number: int) -> int:
    value = fields.get(number, [0])[0]
    return value if isinstance(value, int) else 0


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
