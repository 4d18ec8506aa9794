"""Changes of one server's entry, as values and as replacements in the text, in the way its file is already written."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from soothsayer_mcp.adapters.hosts.tree import Document, Entry, Format, Member, Node, Splice
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass


class UneditableError(Exception):
    """An entry is written in a way that is left alone; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Give a member a value; one that is not there yet comes after another."""

    key: str
    value: Json
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepend:
    """Put items before those of a list that is there."""

    key: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Take the first items of a list away."""

    key: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Put members in the place of one; none takes it away."""

    key: str
    members: tuple[tuple[str, Json], ...]


Edit: TypeAlias = Put | Prepend | Shift | Swap


def changed(value: Json, edits: Sequence[Edit]) -> Json:
    """What an entry says after the edits."""
    if not isinstance(value, dict):
        raise UneditableError("it is no list of names and values")
    said = dict(value)
    for edit in edits:
        found = said.get(edit.key)
        match edit:
            case Put():
                said[edit.key] = edit.value
            case Prepend():
                said[edit.key] = [*edit.items, *(found if isinstance(found, list) else [])]
            case Shift():
                said[edit.key] = found[edit.count :] if isinstance(found, list) else found
            case Swap():
                said.pop(edit.key, None)
                said.update(edit.members)
    return said


def splices(document: Document, entry: Entry, edits: Sequence[Edit]) -> list[Splice]:
    """The same as replacements in the text. Raises `UneditableError`."""
    if entry.node.fixed:
        raise UneditableError(entry.node.fixed)
    writer = _Writer(document, entry)
    made = [splice for edit in edits for splice in writer.splices(edit)]
    for splice in made:
        if not entry.start <= splice.start <= splice.end <= entry.end:
            raise UneditableError("its lines do not stand together")
    return made


def spell(value: Json, format: Format) -> str:  # noqa: A002 - the word of the table
    """A value on one line."""
    match value:
        case str():
            return _text(value, format)
        case list():
            return f"[{', '.join(spell(each, format) for each in value)}]"
        case dict():
            sign = " = " if format == "toml" else ": "
            inner = ", ".join(f"{_text(key, format)}{sign}{spell(each, format)}" for key, each in value.items())
            return f"{{ {inner} }}" if format == "toml" and inner else f"{{{inner}}}"
        case None if format == "toml":
            raise UneditableError("TOML has no null")
        case _:
            return json.dumps(value)


_SHORT: Final[Mapping[str, str]] = {
    '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f",
}  # fmt: skip


def _text(text: str, format: Format) -> str:  # noqa: A002 - see spell
    parts: list[str] = []
    for char in text:
        code = ord(char)
        if char in _SHORT:
            parts.append(_SHORT[char])
        elif char.isprintable():
            parts.append(char)
        elif code <= 0xFFFF:  # noqa: PLR2004 - what four digits can say
            parts.append(f"\\u{code:04x}")
        elif format in {"toml", "yaml"}:
            parts.append(f"\\U{code:08x}")
        else:
            parts.append(json.dumps(char)[1:-1])
    return f'"{"".join(parts)}"'


class _Writer:
    """Writes into one entry."""

    def __init__(self, document: Document, entry: Entry) -> None:
        self._format: Format = document.format
        self._text = document.text
        self._newline = document.newline
        self._entry = entry
        self._node = entry.node

    def splices(self, edit: Edit) -> list[Splice]:
        member = self._node.member(edit.key)
        if member is not None and member.value.fixed:
            raise UneditableError(f"`{edit.key}`: {member.value.fixed}")
        match edit:
            case Put() if member is None:
                return [self._insert(edit.key, edit.value, self._member(edit.after))]
            case Put(value=value):
                member = self._member(edit.key)
                return [Splice(member.value.start, member.value.end, self._filled(member, spell(value, self._format)))]
            case Prepend(items=items):
                return [self._prepend(self._member(edit.key).value, items)]
            case Shift(count=count):
                return [self._shift(self._member(edit.key).value, count)]
            case Swap(members=members):
                return self._swap(self._member(edit.key), members)

    def _member(self, key: str) -> Member:
        found = self._node.member(key)
        if found is None:
            raise UneditableError(f"`{key}` is not there")
        if found.value.fixed:
            raise UneditableError(f"`{key}`: {found.value.fixed}")
        return found

    def _filled(self, member: Member, spelled: str) -> str:
        """A value where none stood before needs a space after the colon."""
        bare = member.value.start == member.value.end
        return f" {spelled}" if bare and self._text[: member.value.start].endswith(":") else spelled

    def _spelled(self, key: str, value: Json, prefix: str) -> str:
        quoted = _text(key, self._format) if self._format not in {"toml", "yaml"} else key
        sign = " = " if self._format == "toml" else ": "
        return f"{prefix}{quoted}{sign}{spell(value, self._format)}"

    def _indent(self, at: int) -> str | None:
        """What stands before an offset on its line when that is only space."""
        before = self._text[self._text.rfind("\n", 0, at) + 1 : at]
        return before if not before.strip() else None

    def _line_start(self, at: int) -> str:
        """A new line that begins where the line of `at` has its first member."""
        column = at - (self._text.rfind("\n", 0, at) + 1)
        indent = self._indent(at)
        return self._newline + (indent if indent is not None else " " * column)

    def _insert(self, key: str, value: Json, after: Member) -> Splice:
        spelled = self._spelled(key, value, after.prefix)
        if self._node.block:
            end = self._line_end(after.end)
            return Splice(end, end, self._line_start(after.start) + spelled)
        return Splice(after.end, after.end, f",{self._gap(after.start)}{spelled}")

    def _line_end(self, at: int) -> int:
        end = self._text.find("\n", at)
        end = len(self._text) if end < 0 else end
        return end - 1 if end > at and self._text[end - 1] == "\r" else end

    def _gap(self, at: int) -> str:
        """What separates a part from the one before: a new line where parts have lines of their own."""
        indent = self._indent(at)
        return " " if indent is None else f"{self._newline}{indent}"

    def _prepend(self, node: Node, items: Sequence[str]) -> Splice:
        spelled = [spell(item, self._format) for item in items]
        if node.block:
            gap = self._line_start(node.start)
            return Splice(node.start, node.start, "".join(f"- {each}{gap}" for each in spelled))
        if not node.items:
            return Splice(node.start + 1, node.start + 1, ", ".join(spelled))
        first = node.items[0].start
        return Splice(first, first, f"{', '.join(spelled)},{self._gap(first)}")

    def _shift(self, node: Node, count: int) -> Splice:
        if count >= len(node.items):
            return Splice(node.start, node.end, "[]")
        if node.block:
            return Splice(node.start, self._text.rindex("-", 0, node.items[count].start), "")
        return Splice(node.items[0].start, node.items[count].start, "")

    def _swap(self, member: Member, members: Sequence[tuple[str, Json]]) -> list[Splice]:
        spelled = [self._spelled(key, value, member.prefix) for key, value in members]
        if spelled:
            gap = self._line_start(member.start) if self._node.block else f",{self._gap(member.start)}"
            return [Splice(member.start, member.end, gap.join(spelled))]
        if self._node.block:
            if self._indent(member.start) is None or member is self._node.members[0]:
                raise UneditableError(f"`{member.key}` cannot be taken away")
            begin = self._line_end(self._text.rindex("\n", 0, member.start) - 1)
            return [Splice(begin, self._line_end(member.end), "")]
        if member.comma is not None:
            end = member.comma + 1
            rest = self._text[end : self._line_end(end)]
            if self._indent(member.start) is not None and not rest.strip():
                begin = self._text.rindex("\n", 0, member.start)
                begin -= self._text[:begin].endswith("\r")
                return [Splice(begin, self._line_end(end), "")]
            return [Splice(member.start, end + len(rest) - len(rest.lstrip()), "")]
        index = self._node.members.index(member)
        if index == 0:
            return [Splice(member.start, member.end, "")]
        before = self._node.members[index - 1]
        comma = before.end if before.comma is None else before.comma
        return [Splice(comma, member.end, "")]
