"""Every text of a JSON value, wherever it stands, and changes that leave each byte alone that they do not mean.

Texts that are JSON themselves are read as such, several deep, and written again the same way.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from soothsayer_mcp.model.json import compact
from soothsayer_mcp.wire.places import BLANKS, Key, Path, after_blanks, locate, skip, start

Way: TypeAlias = "Path | None"
"""Where a value stands in what a tool takes or gives; `None` where it stands beside that."""

DEPTH: Final = 32
"""How deep objects and lists are told apart; what lies deeper is read text by text."""
DECODED_LEVELS: Final = 6
"""How deep JSON inside texts is read."""

_Splice: TypeAlias = tuple[int, int, str]


class Change(Protocol):
    """What is to become of texts."""

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
    """Change the values at some paths of a JSON text; what `leave` names within them stays.

    Raises `json.JSONDecodeError` or `IndexError` for a text that is no JSON.
    """
    splices: list[_Splice] = []
    for path, way in roots.items():
        found = _find(text, path)
        if found is not None:
            _Walk(text, change, splices, leave).value(found[0], found[1], way, path)
    return _spliced(text, splices)


def _find(text: str, path: Path) -> tuple[int, int] | None:
    at = start(text)
    end = skip(text, at)[1]
    for key in path:
        if text[at] not in "{[":
            return None
        member = locate(text, at, {}).last(key)
        if member is None:
            return None
        at, end = member[2], member[3]
    return at, end


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

    def value(self, at: int, end: int, way: Way, path: Path, key: str | None = None) -> None:
        piece = self._text[at:end]
        whole = self._change.whole(way, piece)
        if whole is not None:
            self._put(at, end, whole)
            return
        first = piece[0]
        if first in "{[":
            if not self._change.concerns(piece):
                return
            if len(path) >= DEPTH:
                self._flat(at, end)
            elif first == "{":
                self._object(at, way, path)
            else:
                self._array(at, way, path)
        elif first == '"':
            if key is not None or self._change.concerns(piece):
                self._string(at, end, way, key)
        elif first in "-0123456789":
            spelled = self._change.number(piece, way)
            if spelled != piece:
                self._put(at, end, spelled)

    def _object(self, at: int, way: Way, path: Path) -> None:
        place = locate(self._text, at, {})
        taken: set[Key] = {member[0] for member in place.inside}
        for key, begin, value_at, value_end, _, _ in place.inside:
            assert isinstance(key, str)
            here = (*path, key)
            if here in self._leave:
                continue
            self._name(key, begin, taken)
            self.value(value_at, value_end, self._below(way, path, key), here, key)

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

    def _array(self, at: int, way: Way, path: Path) -> None:
        for key, _, value_at, value_end, _, _ in locate(self._text, at, {}).inside:
            self.value(value_at, value_end, None if way is None else (*way, key), (*path, key))

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
        self._splices.append((at, end, compact(said).decode()))


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)
