"""Secrets in what the trace keeps: found by key and by value, replaced by a marker that names the kind.

Nothing here decides anything: a false alarm costs a reader of the trace one value, never a call. What is not masked is
kept byte for byte; where something is masked, numbers, order and doubled keys stay as they were spelled.
"""

import itertools
import json
import re
import time
from json.encoder import encode_basestring as _quote
from typing import cast

from soothsayer_mcp.adapters.scanning import compile_together
from soothsayer_mcp.policy.detectors import (
    CARDS,
    IBANS,
    KEY_WORDS,
    SECRETS,
    Scan,
    is_marker,
    marker,
    meant,
    names_a_secret,
)

LIMIT_S = 0.02
"""How long masking one payload may take; then the payload is kept as a digest only."""


class MaskingError(Exception):
    """A payload could not be searched for secrets in time, or not at all."""


_VALUES = (*SECRETS, *CARDS, *IBANS)

_RAW_ONLY = (
    rf"(?i)(?:{KEY_WORDS}|pwd|otp|pin)\\*[\"']",  # a key, at any depth of JSON inside strings
    r"\\u00[2-7]|\\/",  # an escape that may spell any of the others
)

_SMALL_BYTES = 4096
_HINTS = (
    b"passw",
    b"passphrase",
    b"secret",
    b"token",
    b"api-key",
    b"api_key",
    b"api key",
    b"apikey",
    b"access-key",
    b"access_key",
    b"access key",
    b"accesskey",
    b"private-key",
    b"private_key",
    b"private key",
    b"privatekey",
    b"authorization",
    b"cookie",
    b"credential",
    b"pwd",
    b"otp'",
    b'otp"',
    b"otp\\",
    b"pin'",
    b'pin"',
    b"pin\\",
    b"eyj",
    b"bearer",
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat",
    b"glpat-",
    b"xox",
    b"npm_",
    b"pypi-",
    b"hf_",
    b"sk-",
    b"sk_",
    b"rk_",
    b"sg.",
    b"akia",
    b"asia",
    b"aiza",
    b"ya29.",
    b"dop_v1_",
    b"://",
    b"\\u00",
    b"\\/",
)
"""What a small payload must contain, lower-cased, to be worth loading the patterns; more than every pattern needs."""

_LOOKS = 100
_looks = itertools.count()
_LEAST_DIGITS = 12
_DIGITS = b"0123456789"
_DIGIT_RUN = re.compile(rb"[2-6]\d(?:[ -]?\d){11}|[A-Z]{2}\d\d ?[A-Z0-9]{4}")


def mask(raw: bytes, *, limit_s: float | None = None) -> tuple[bytes, int]:
    """Replace the secrets in a payload; returns what may be kept and how many values were replaced.

    Bytes without a secret come back as they are. Raises `MaskingError` when it cannot be done, or not within the limit.
    """
    if len(raw) <= _SMALL_BYTES and not _compiled and not _has_hint(raw):
        return raw, 0
    patterns = _patterns()
    try:
        hits = patterns.hits(raw)
        if not hits:
            return raw, 0
        began = time.thread_time()  # its own time: a busy machine must not turn payloads into digests
        masked, count = _Walk(patterns, hits, began + (LIMIT_S if limit_s is None else limit_s)).mask(raw.decode())
        return masked.encode(), count
    except (ValueError, RecursionError, MaskingError) as error:
        raise MaskingError from error


def cleaned(raw: bytes) -> bytes:
    """What people may read of a text from outside, whatever its encoding; nothing of it where that cannot be told."""
    try:
        return mask(raw.decode(errors="replace").encode())[0]
    except MaskingError:
        return b""


def _has_hint(raw: bytes) -> bool:
    """Whether to load the patterns for this payload; after many payloads they cost less than looking without them."""
    if next(_looks) >= _LOOKS:
        return True
    lowered = raw.lower()
    for hint in _HINTS:
        if hint in lowered:
            return True
    many = len(raw) - len(raw.translate(None, _DIGITS)) >= _LEAST_DIGITS
    return many and _DIGIT_RUN.search(raw) is not None


_compiled: list[Scan] = []


def _patterns() -> Scan:
    if not _compiled:
        _compiled.append(compile_together([*(row.pattern for row in _VALUES), *_RAW_ONLY]))
    return _compiled[0]


class _Object(list[tuple[str, object]]):
    """A JSON object as read, with doubled keys."""


class _Number(str):
    """A JSON number as spelled."""

    __slots__ = ()


_decode = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_Number, parse_float=_Number, parse_constant=_Number
).decode

_ESCAPED = len(_VALUES) + 1
_NUMBERS = frozenset("-0123456789")
_DEPTH = 6
_LEAST_CHARS = 6


class _Walk:
    """One walk over one payload."""

    __slots__ = ("_count", "_deadline", "_every", "_hits", "_patterns")

    def __init__(self, patterns: Scan, hits: frozenset[int], deadline: float) -> None:
        self._patterns = patterns
        self._hits = hits
        self._every = _ESCAPED in hits
        self._deadline = deadline
        self._count = 0

    def mask(self, text: str) -> tuple[str, int]:
        masked = self._text(text, 0)
        return masked, self._count

    def _text(self, text: str, depth: int) -> str:
        first = text.lstrip()[:1]
        # A payload may be a bare number; a text that spells one is no JSON.
        if (depth < _DEPTH and first in {"{", "[", '"'}) or (not depth and first in _NUMBERS):
            try:
                value = _decode(text)
            except ValueError:
                return self._plain(text)
            before = self._count
            spelled = self._value(value, depth)
            return spelled if self._count != before else text
        return self._plain(text)

    def _value(self, value: object, depth: int) -> str:
        if time.thread_time() > self._deadline:
            raise MaskingError
        match value:
            case _Object():
                return "{" + ",".join([self._member(key, item, depth) for key, item in value]) + "}"
            case list():
                return "[" + ",".join([self._value(item, depth) for item in cast("list[object]", value)]) + "]"
            case _Number():
                return self._number(value)
            case str():
                return _spell(self._text(value, depth + 1))
            case None:
                return "null"
            case _:
                return "true" if value is True else "false"

    def _member(self, key: str, item: object, depth: int) -> str:
        shown = _spell(self._plain(key))
        if item is None or isinstance(item, bool) or item == "" or not names_a_secret(key):
            return f"{shown}:{self._value(item, depth)}"
        self._count += 1
        return f"{shown}:{_quote(marker('key'))}"

    def _number(self, spelled: _Number) -> str:
        masked = self._plain(spelled) if len(spelled) > _LEAST_DIGITS else spelled
        return masked if masked == spelled else _quote(masked)

    def _plain(self, text: str) -> str:
        if len(text) < _LEAST_CHARS:
            return text
        raw = text.encode(errors="surrogatepass")
        hits = self._patterns.hits(raw)
        if not self._every:
            hits &= self._hits
        for index in sorted(hits):
            if index < len(_VALUES):
                text = self._replaced(text, index)
        return text

    def _replaced(self, text: str, index: int) -> str:
        row = _VALUES[index]
        pieces: list[str] = []
        done = 0
        try:
            for start, end in sorted(meant(self._patterns, index, row, text)):
                if start < done or is_marker(text[start:end]):
                    continue
                pieces += (text[done:start], marker(row.kind))
                done = end
                self._count += 1
        except UnicodeEncodeError:  # a lone surrogate, which RE2 cannot read, beside something that may be a secret
            self._count += 1
            return marker(row.kind)
        return "".join((*pieces, text[done:])) if pieces else text


def _spell(text: str) -> str:
    quoted = _quote(text)
    try:
        quoted.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return quoted
