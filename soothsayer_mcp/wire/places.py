"""Where values stand in a JSON text. Values are skipped by json's own scanner, never by a grammar of ours."""

import json
import json.scanner
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from soothsayer_mcp.model.json import Json

Scan: TypeAlias = Callable[[str, int], tuple[Any, int]]
"""Reads the value at a position, which is a text where a quote stands, and tells where it ends.

Raises `StopIteration` where no value begins.
"""

Key: TypeAlias = str | int
"""A member's name, or an element's index."""

Path: TypeAlias = tuple[Key, ...]

Wanted: TypeAlias = Mapping[Key, "Wanted"]
"""Which members to look into, and what of them."""

Inside: TypeAlias = tuple[Key, int, int, int, Json, "Place | None"]
"""Key, where the member begins, where its value begins and ends, its value, and its place when it was looked into."""

BLANKS = " \t\n\r"
BYTE_ORDER_MARK = "\ufeff"


def scanner(decoder: json.JSONDecoder) -> Scan:
    """Give the C scanner that a decoder's settings describe."""
    make = cast("Callable[[json.JSONDecoder], Scan]", json.scanner.make_scanner)
    return make(decoder)


skip = scanner(json.JSONDecoder(parse_int=str, parse_float=str))
"""Reads for the position only: numbers stay text, so that none is too long, and what servers get wrong passes."""


class Place:
    """Where an object or array stands, and what stands directly in it."""

    __slots__ = ("at", "end", "inside")

    def __init__(self, at: int, end: int, inside: list[Inside]) -> None:
        self.at = at
        self.end = end
        self.inside = inside

    def last(self, key: Key) -> Inside | None:
        """Find a member by its key, the last one when there are several, as parsers do."""
        if isinstance(key, int):
            return self.inside[key] if 0 <= key < len(self.inside) and self.inside[key][0] == key else None
        for member in reversed(self.inside):
            if member[0] == key:
                return member
        return None


def after_blanks(text: str, at: int) -> int:
    """Tell where the blanks at a position end. Raises `IndexError` at the end of the text."""
    while text[at] in BLANKS:
        at += 1
    return at


def start(text: str) -> int:
    """Tell where the first value begins: after blanks, and after the byte order mark that some servers write."""
    return after_blanks(text, 1 if text.startswith(BYTE_ORDER_MARK) else 0)


def locate(  # noqa: C901, PLR0912 - one loop, written out because it runs for every member of every message
    text: str, at: int, wanted: Wanted, scan: Scan = skip, *, limit: int | None = None
) -> Place:
    """Find the members of the object or array at `at`, and those of the `wanted` ones in it, in one pass.

    Raises `json.JSONDecodeError` or `IndexError` when the text is broken, `OverflowError` over `limit` members.
    """
    named = text[at] == "{"
    closing = "}" if named else "]"
    inside: list[Inside] = []
    i = after_blanks(text, at + 1)
    if text[i] == closing:
        return Place(at, i + 1, inside)
    while True:
        begin = i
        key: Key = len(inside)
        if named:
            if text[i] != '"':
                raise json.JSONDecodeError("Expecting a member name", text, i)
            key, i = scan(text, i)
            if text[i] in BLANKS:
                i = after_blanks(text, i)
            if text[i] != ":":
                raise json.JSONDecodeError("Expecting ':'", text, i)
            i += 1
            if text[i] in BLANKS:
                i = after_blanks(text, i)
        below = wanted.get(key)
        value: Json = None
        place: Place | None = None
        if below is not None and text[i] in "{[":
            place = locate(text, i, below, scan)
            end = place.end
        else:
            try:
                value, end = scan(text, i)
            except StopIteration:
                raise json.JSONDecodeError("Expecting a value", text, i) from None
        if len(inside) == limit:
            raise OverflowError(limit)
        inside.append((key, begin, i, end, value, place))
        i = end
        if text[i] in BLANKS:
            i = after_blanks(text, i)
        if text[i] == closing:
            return Place(at, i + 1, inside)
        if text[i] != ",":
            raise json.JSONDecodeError("Expecting ','", text, i)
        i += 1
        if text[i] in BLANKS:
            i = after_blanks(text, i)
