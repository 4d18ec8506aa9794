"""Every text of a JSON value, wherever it stands, and changes that leave each byte alone that they do not mean.

Texts that are JSON themselves are read as such, several deep, and written again the same way.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from soothsayer_mcp.model.json import compact
from soothsayer_mcp.wire.places import BLANKS, Inside, Key, Path, Place, Wanted, after_blanks, locate, skip, start

Way: TypeAlias = "Path | None"
"""Where a value stands in what a tool takes or gives; `None` where it stands beside that."""

DEPTH: Final = 32
"""How deep objects and lists are told apart; what lies deeper is read text by text."""
DECODED_LEVELS: Final = 6
"""How deep JSON inside texts is read."""

_Splice: TypeAlias = tuple[int, int, str]


class Change(Protocol):
    """What is to become of texts. What it puts into them is printable."""

    def concerns(self, piece: str) -> bool:
        """Whether anything in a piece of JSON may have to change."""
        ...

    def whole(self, way: Way, piece: str) -> str | None:
        """What the whole value at a place becomes, as a text; `None` leaves it to the texts in it."""
        ...

    def under(self, key: str, text: str) -> str | None:
        """What a text becomes because of the key it stands under."""
        ...

    def text(self, text: str, way: Way) -> str:
        """What a text becomes that is no JSON."""
        ...

    def number(self, spelled: str, way: Way) -> str:
        """What a number becomes; another spelling is written as a text."""
        ...


def changed(text: str, change: Change, roots: Mapping[Path, Way], *, leave: frozenset[Path] = frozenset()) -> str:
    """Change some members of a JSON object, or with `()` the whole value; what `leave` names within them stays.

    Raises `json.JSONDecodeError` or `IndexError` for a text that is no JSON.
    """
    splices: list[_Splice] = []
    at = start(text)
    walk = _Walk(text, change, splices, leave)
    if () in roots:
        walk.value(at, skip(text, at)[1], roots[()], ())
    elif text[at] == "{":
        top = locate(text, at, {path[0]: _TWO_LEVELS for path in roots})
        for path, way in roots.items():
            member = top.last(path[0])
            if member is not None:
                walk.value(member[2], member[3], way, path, place=member[5])
    return _spliced(text, splices)


_TWO_LEVELS: Final[Wanted] = {"content": {}, "structuredContent": {}}
"""What of an answer is looked into while its members are found, so that it need not be read once more."""


def _spliced(text: str, splices: Sequence[_Splice]) -> str:
    pieces: list[str] = []
    done = 0
    for begin, end, new in sorted(splices):
        pieces += (text[done:begin], new)
        done = end
    return "".join((*pieces, text[done:])) if pieces else text


class _Walk:
    """One walk over one text."""

    __slots__ = ("_change", "_decoded", "_leave", "_splices", "_text")

    def __init__(
        self, text: str, change: Change, splices: list[_Splice], leave: frozenset[Path], decoded: int = 0
    ) -> None:
        self._text = text
        self._change = change
        self._splices = splices
        self._leave = leave
        self._decoded = decoded

    def value(
        self, at: int, end: int, way: Way, path: Path, key: str | None = None, *, place: Place | None = None
    ) -> None:
        piece = self._text[at:end]
        whole = self._change.whole(way, piece)
        if whole is not None:
            self._put(at, end, whole)
            return
        first = piece[0]
        if first in "{[":
            if len(path) >= DEPTH:
                self._flat(at, end)
            elif first == "{":
                self._object(place or locate(self._text, at, {}), way, path)
            else:
                self._array(place or locate(self._text, at, {}), way, path)
        elif first == '"':
            self._string(at, end, way, key)
        elif first in "-0123456789":
            spelled = self._change.number(piece, way)
            if spelled != piece:
                self._put(at, end, spelled)

    def _object(self, place: Place, way: Way, path: Path) -> None:
        taken: set[Key] = {member[0] for member in place.inside}
        for key, begin, value_at, value_end, _, inner in self._concerned(place.inside):
            assert isinstance(key, str)
            here = (*path, key)
            if here in self._leave:
                continue
            self._name(key, begin, taken)
            self.value(value_at, value_end, self._below(way, path, key), here, key, place=inner)

    def _concerned(self, inside: list[Inside]) -> list[Inside]:
        """The members in which anything may have to change; those that stand together are ruled out together."""
        found: list[Inside] = []
        stack = [(0, len(inside))] if inside else []
        while stack:
            first, last = stack.pop()
            if last - first == 1:
                found.append(inside[first])
                continue
            middle = (first + last) // 2
            for begin, end in ((middle, last), (first, middle)):
                if self._change.concerns(self._text[inside[begin][1] : inside[end - 1][3]]):
                    stack.append((begin, end))
        return found

    def _below(self, way: Way, path: Path, key: Key) -> Way:
        if way is not None:
            return (*way, key)
        # What a tool gives stands here, or in its texts.
        return ("result",) if key == "structuredContent" and not self._decoded and path[-1:] == ("result",) else None

    def _name(self, key: str, begin: int, taken: set[Key]) -> None:
        """Change a member's name as any text; two that become the same stay two."""
        new = self._change.text(key, None)
        if new == key:
            return
        number, name = 1, new
        while name in taken:
            number += 1
            name = f"{new} {number}"
        taken.add(name)
        self._put(begin, skip(self._text, begin)[1], name)

    def _array(self, place: Place, way: Way, path: Path) -> None:
        for key, _, value_at, value_end, _, inner in self._concerned(place.inside):
            self.value(value_at, value_end, None if way is None else (*way, key), (*path, key), place=inner)

    def _string(self, at: int, end: int, way: Way, key: str | None) -> None:
        said = skip(self._text, at)[0]
        new = None if key is None else self._change.under(key, said)
        if new is None:
            new = self._said(said, way)
        if new != said:
            self._put(at, end, new)

    def _said(self, said: str, way: Way) -> str:
        if self._decoded < DECODED_LEVELS and said.lstrip(BLANKS)[:1] in {"{", "["}:
            try:
                return self._json(said, ("result",) if way is None else way)
            except (ValueError, IndexError, StopIteration, RecursionError):
                pass
        return self._change.text(said, way)

    def _json(self, said: str, way: Way) -> str:
        at = after_blanks(said, 0)
        end = skip(said, at)[1]
        if said[end:].strip(BLANKS):
            raise json.JSONDecodeError("text after the value", said, end)
        splices: list[_Splice] = []
        _Walk(said, self._change, splices, frozenset(), self._decoded + 1).value(at, end, way, ())
        return _spliced(said, splices)

    def _flat(self, at: int, end: int) -> None:
        """Read what lies too deep text by text, without the way to it."""
        key: str | None = None
        for found in _TOKEN.finditer(self._text, at, end):
            begin, stop = found.span()
            if self._text[begin] != '"':
                self.value(begin, stop, None, ())
                continue
            if self._text[stop:end].lstrip(BLANKS)[:1] == ":":
                name: str = skip(self._text, begin)[0]
                self._name(name, begin, set())
                key = name
                continue
            self._string(begin, stop, None, key)
            key = None

    def _put(self, at: int, end: int, said: str) -> None:
        piece = self._text[at:end]
        if piece[0] == '"' and "\\" not in piece and '"' not in said and "\\" not in said:
            # It was spelled without escapes, and what is put into it is printable: it needs none now.
            spelled = f'"{said}"'
        else:
            spelled = compact(said).decode()
        self._splices.append((at, end, spelled))


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)
