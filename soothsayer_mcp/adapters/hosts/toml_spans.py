"""Reads TOML: the standard library says what it means and whether it is right, the scan says where it stands."""

import dataclasses
import datetime as dt
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Final, cast

from soothsayer_mcp.adapters.hosts.tree import Entry, Member, Node, SyntaxFault
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass

_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE: Final = re.compile(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")
_PLACE: Final = re.compile(r"\(at line (\d+), column (\d+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """One `key = value`."""

    section: int
    """The number of the table it stands in; 0 is the top of the file."""
    path: tuple[str, ...]
    start: int
    last: int
    """Where the last part of its key begins."""
    value: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    path: tuple[str, ...]
    start: int
    end: int
    """Where its header ends."""


def load(text: str) -> dict[str, Json]:
    """What a text says. Raises `SyntaxFault`."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        there = _PLACE.search(said)
        at = len(text)
        if there is not None:
            # The library reads CR LF as one line end; columns within a line are the same.
            line, column = int(there.group(1)), int(there.group(2))
            at = sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + column - 1
        what = _PLACE.sub("", said).strip().rstrip("(").split(" (at ")[0].strip()
        raise SyntaxFault(what[:1].lower() + what[1:], min(at, len(text))) from error
    return cast("dict[str, Json]", _plain(found))


def _plain(value: object) -> Json:
    match value:
        case dict():
            return {key: _plain(each) for key, each in cast("dict[str, object]", value).items()}
        case list():
            return [_plain(each) for each in cast("list[object]", value)]
        case dt.date() | dt.time():
            return value.isoformat()
        case str() | int() | float() | bool():
            return value
        case _:
            raise TypeError(type(value).__name__)


def entries(text: str, key: Sequence[str]) -> list[Entry]:
    """The servers below a key of a text that `load` has read."""
    root = load(text)
    found: Json = root
    for part in key:
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return []
    sections, statements = _scan(text)
    made = [_entry(text, (*key, name), value, sections, statements) for name, value in found.items()]
    return sorted(made, key=lambda entry: entry.start)


def scalars(text: str) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Every value that is no table, with the names that lead to it."""
    for statement in _scan(text)[1]:
        yield statement.path, statement.value


def _entry(
    text: str,
    path: tuple[str, ...],
    value: Json,
    sections: Sequence[_Section],
    statements: Sequence[_Statement],
) -> Entry:
    name, size = path[-1], len(path)
    whole = next((each for each in statements if each.path == path), None)
    if whole is not None:
        node = dataclasses.replace(whole.value, value=value)
        return Entry(name=name, node=node, start=node.start, end=node.end)
    own = [each for each in statements if each.path[:size] == path]
    numbers = [n for n, section in enumerate(sections) if n and section.path[:size] == path]
    starts = [each.start for each in own] + [sections[n].start for n in numbers]
    ends = [each.value.end for each in own] + [sections[n].end for n in numbers]
    start, end = min(starts), _line_end(text, max(ends))
    inside = [n for n, section in enumerate(sections) if start <= section.start < end and n]
    between = [each for each in statements if start <= each.start < end]
    fixed = ""
    if inside != numbers or between != own:
        fixed = "its lines do not stand together"
    elif numbers and sections[numbers[0]].path != path:
        fixed = f"it has no table [{'.'.join(path)}] of its own"
    members: list[Member] = []
    for each in own:
        rest = each.path[size:]
        if len(rest) == 1 and (not numbers or each.section == numbers[0]):
            members.append(Member(key=rest[0], start=each.start, value=each.value, prefix=text[each.start : each.last]))
    said = value if isinstance(value, dict) else {}
    for key in said:
        if all(member.key != key for member in members):
            apart = Node(value=said[key], start=end, end=end, block=True, fixed="it stands in a table of its own")
            members.append(Member(key=key, start=end, value=apart))
    if not own:
        fixed = fixed or "it is empty"
    node = Node(value=value, start=start, end=end, members=tuple(members), block=True, fixed=fixed)
    return Entry(name=name, node=node, start=start, end=end)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    return end - 1 if text[:end].endswith("\r") and end > at else end


def _scan(text: str) -> tuple[list[_Section], list[_Statement]]:
    sections: list[_Section] = [_Section(path=(), start=0, end=0)]
    statements: list[_Statement] = []
    at = _skip(text, 0)
    while at < len(text):
        if text[at] == "[":
            double = 2 if text.startswith("[[", at) else 1
            path, _last, end = _keys(text, at + double)
            sections.append(_Section(path=path, start=at, end=end + double))
            at = _skip(text, end + double)
            continue
        path, last, end = _keys(text, at)
        value = _value(text, _skip_blank(text, end + 1))
        whole = (*sections[-1].path, *path)
        statements.append(_Statement(section=len(sections) - 1, path=whole, start=at, last=last, value=value))
        at = _skip(text, value.end)
    return sections, statements


def _skip(text: str, at: int) -> int:
    return cast("re.Match[str]", _SPACE.match(text, at)).end()


def _skip_blank(text: str, at: int) -> int:
    return cast("re.Match[str]", _BLANK.match(text, at)).end()


def _keys(text: str, at: int) -> tuple[tuple[str, ...], int, int]:
    """The parts of a key, where the last begins, and where what follows it stands."""
    parts: list[str] = []
    while True:
        at = _skip_blank(text, at)
        found = cast("re.Match[str]", _KEY.match(text, at))
        word = found.group()
        parts.append(cast("str", tomllib.loads(f"v = {word}")["v"]) if word[0] in "\"'" else word)
        end = _skip_blank(text, found.end())
        if text[end : end + 1] != ".":
            return tuple(parts), at, end
        at = end + 1


def _value(text: str, at: int) -> Node:
    match text[at]:
        case "[":
            items: list[Node] = []
            here = _skip(text, at + 1)
            while text[here] != "]":
                items.append(_value(text, here))
                here = _skip(text, items[-1].end)
                if text[here] == ",":
                    here = _skip(text, here + 1)
            return Node(value=[item.value for item in items], start=at, end=here + 1, items=tuple(items))
        case "{":
            return _inline(text, at)
        case '"' | "'":
            found = cast("re.Match[str]", _STRING.match(text, at))
        case _:
            found = cast("re.Match[str]", _BARE.match(text, at))
    value = _plain(tomllib.loads(f"v = {found.group()}")["v"])
    return Node(value=value, start=at, end=found.end())


def _inline(text: str, at: int) -> Node:
    members: list[Member] = []
    said: dict[str, Json] = {}
    fixed = ""
    here = _skip(text, at + 1)
    while text[here] != "}":
        path, _last, end = _keys(text, here)
        value = _value(text, _skip_blank(text, end + 1))
        after = _skip(text, value.end)
        comma = after if text[after] == "," else None
        if len(path) > 1:
            fixed = "it has dotted names between braces"
        key = ".".join(path)
        said[key] = value.value
        members.append(Member(key=key, start=here, value=value, comma=comma))
        here = after if comma is None else _skip(text, after + 1)
    return Node(value=said, start=at, end=here + 1, members=tuple(members), fixed=fixed)
