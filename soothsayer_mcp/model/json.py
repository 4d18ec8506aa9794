"""JSON values, their canonical bytes and digests. No reading of foreign text: that is `wire/strict.py`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NewType, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A JSON value as Python's own types; objects are dicts, arrays lists."""

JsonObject: TypeAlias = dict[str, "Json"]

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits."""

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical(value: Json) -> bytes:
    """Spell a value in its one canonical form: sorted keys, no blanks, ASCII escapes, exact integers, shortest floats.

    `1` and `1.0` differ. Raises `ValueError` for NaN and infinities.
    """
    return _canonical(value).encode("ascii")


def compact(value: Json) -> bytes:
    """Spell a value as UTF-8 without blanks, members in the order they have.

    A lone surrogate, which UTF-8 cannot hold, is written as its escape.
    """
    text = _compact(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(raw: bytes) -> Digest:
    """Hash bytes with SHA-256."""
    return Digest("sha256:" + hashlib.sha256(raw).hexdigest())


def as_object(value: Json) -> Mapping[str, Json]:
    """A value of our own record that is an object. Raises `TypeError` for any other, as the three below do."""
    if not isinstance(value, Mapping):
        raise TypeError
    return value


def as_array(value: Json) -> list[Json]:
    """The same for an array."""
    if not isinstance(value, list):
        raise TypeError
    return value


def as_text(value: Json) -> str:
    """The same for a string."""
    if not isinstance(value, str):
        raise TypeError
    return value


def as_whole(value: Json) -> int:
    """The same for a whole number."""
    if not isinstance(value, int):
        raise TypeError
    return value
