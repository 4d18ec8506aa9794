"""A configuration file as values that know where they stand, whatever its format; positions count characters."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass

Format: TypeAlias = Literal["json", "commented", "jsonc", "toml", "yaml"]
"""JSON comes strict, with comments, or with comments and trailing commas."""

DEPTH_MAX: Final = 64


class HostFileError(Exception):
    """A host's file is not as it has to be: what, where, and what to do. Nothing was written."""

    def __init__(
        self,
        text: str,
        *,
        id: str,  # noqa: A002 - the word of the JSON form
        where: str = "",
        fix: str = "",
        source: str = "",
        column: int = 0,
    ) -> None:
        """Say what is wrong; `where` is `FILE:LINE:COLUMN` as far as known, `source` the line that is wrong."""
        super().__init__(text)
        self.text = text
        self.id = id
        self.where = where
        self.fix = fix
        self.source = source
        self.column = column


class SyntaxFault(Exception):  # noqa: N818 - it becomes a HostFileError once the file is known
    """What keeps a text from being read, at an offset."""

    def __init__(self, text: str, at: int) -> None:
        """Say what is wrong and where."""
        super().__init__(text)
        self.text = text
        self.at = at


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value and where it stands."""

    value: Json
    start: int
    end: int
    members: tuple["Member", ...] = ()
    items: tuple["Node", ...] = ()
    block: bool = False
    """Whether its parts stand on lines of their own instead of between brackets."""
    fixed: str = ""
    """Why it cannot be edited where it stands; empty when it can."""

    def member(self, key: str) -> "Member | None":
        """The member of that name."""
        return next((member for member in self.members if member.key == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One name and its value."""

    key: str
    start: int
    value: Node
    comma: int | None = None
    """Where the comma after it stands."""
    prefix: str = ""
    """What stands before the name in its own statement: `files.` of `files.command = "npx"`."""

    @property
    def end(self) -> int:
        """Where its value ends."""
        return self.value.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One server of a file."""

    name: str
    node: Node
    start: int
    """Where the text that is the entry's own begins, and with `end` where it ends: all edits lie between."""
    end: int

    @property
    def value(self) -> Json:
        """What it says."""
        return self.node.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file that was read in full and without doubt."""

    format: Format
    lead: str
    """The byte order mark, where the file begins with one."""
    text: str
    """The rest."""
    root: Json
    """The whole as values."""
    entries: tuple[Entry, ...]
    scalars: tuple[tuple[tuple[str, ...], int, int], ...] = ()
    """Every text value: the names that lead to it, and where it stands. For masking."""

    @property
    def newline(self) -> str:
        """How its lines end."""
        return "\r\n" if self.text.count("\r\n") * 2 > self.text.count("\n") else "\n"

    def entry(self, name: str) -> Entry | None:
        """The server of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)


class Splice(NamedTuple):
    """One replacement in a text."""

    start: int
    end: int
    text: str


def spliced(text: str, splices: Sequence[Splice]) -> str:
    """Replace several places at once; they do not overlap."""
    parts: list[str] = []
    at = 0
    for splice in sorted(splices, key=lambda one: (one.start, one.end)):
        parts += [text[at : splice.start], splice.text]
        at = splice.end
    return "".join([*parts, text[at:]])


def place(text: str, at: int) -> tuple[int, int, str]:
    """The line and column of an offset, from 1, and the line itself."""
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[begin : len(text) if end < 0 else end].rstrip("\r")
    return text.count("\n", 0, at) + 1, at - begin + 1, line


def gather_scalars(node: Node, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], int, int]]:
    """Every text value below a node."""
    if isinstance(node.value, str):
        return [(path, node.start, node.end)]
    found: list[tuple[tuple[str, ...], int, int]] = []
    for member in node.members:
        found += gather_scalars(member.value, (*path, member.key))
    for number, item in enumerate(node.items):
        found += gather_scalars(item, (*path, str(number)))
    return found
