"""Secrets in what the trace keeps: found by key and by value, replaced by a marker that names the kind.

Nothing here decides anything: a false alarm costs a reader of the trace one value, never a call. What is not masked is
kept byte for byte; where something is masked, numbers, order and doubled keys stay as they were spelled.
"""

import itertools
import json
import re
import time
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring as _quote
from typing import Protocol, cast

from soothsayer_mcp.adapters import lazy

LIMIT_S = 0.02
"""How long masking one payload may take; then the payload is kept as a digest only."""


class MaskingError(Exception):
    """A payload could not be searched for secrets in time, or not at all."""


class _Found(Protocol):
    @property
    def string(self) -> str: ...
    def group(self, *groups: int) -> str: ...
    def start(self, group: int = 0) -> int: ...
    def end(self, group: int = 0) -> int: ...


class _Pattern(Protocol):
    def finditer(self, text: str) -> Iterable[_Found]: ...


class _Set(Protocol):
    def Add(self, pattern: str) -> int: ...  # noqa: N802 - RE2's own name
    def Compile(self) -> None: ...  # noqa: N802 - the same
    def Match(self, text: bytes) -> list[int] | None: ...  # noqa: N802 - the same


class _Sets(Protocol):
    def SearchSet(self) -> _Set: ...  # noqa: N802 - the same


class _Row:
    """One kind of secret: what it looks like, which group of the pattern is the secret, and what else must hold."""

    __slots__ = ("group", "holds", "kind", "pattern")

    def __init__(self, kind: str, pattern: str, group: int = 0, holds: Callable[[_Found], bool] | None = None) -> None:
        self.kind = kind
        self.pattern = pattern
        self.group = group
        self.holds = holds


_KEY = (
    r"(?:password|passwd|passphrase|secret|token|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|authorization|cookie"
    r"|credentials?)"
)
_PLAIN_WORD_CHARS = 16


def _is_no_plain_word(found: _Found) -> bool:
    """Whether what follows `bearer` or `token:` looks made by a machine and not said by a person."""
    value = found.group(2)
    return len(value) >= _PLAIN_WORD_CHARS or any(char.isdigit() for char in value)


def _stands_alone(found: _Found) -> bool:
    """Whether a run of digits and letters is not a piece of a longer one."""
    text, start, end = found.string, found.start(), found.end()
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() or before in {".", "_", "-"} or after.isalnum() or after in {"_", "-"})


def _is_card(found: _Found) -> bool:
    digits = [int(char) for char in found.group(0) if char.isdigit()]
    if not _stands_alone(found) or not _CARD_START.match("".join(map(str, digits))):
        return False
    total = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]) + sum(digits[-1::-2])
    return total % 10 == 0


def _is_iban(found: _Found) -> bool:
    text = found.group(0).replace(" ", "")
    if not _stands_alone(found):
        return False
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


_CARD_START = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[0689]\d{12}|6\d{15,18}|35\d{14})$"
)

_VALUES = (
    _Row("private_key", r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)"),
    _Row("jwt", r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"),
    _Row("bearer", r"(?i)(bearer[\s\\]+)([A-Za-z0-9._~+/=-]{6,})", 2, _is_no_plain_word),
    _Row("token", r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"),
    _Row("token", r"xox[abeoprs]-[A-Za-z0-9-]{10,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|hf_[A-Za-z0-9]{30,}"),
    _Row(
        "token",
        r"sk-[A-Za-z0-9_-]{20,}|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    ),
    _Row(
        "cloud_key", r"(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}|dop_v1_[a-f0-9]{40,}"
    ),
    _Row("password", r"([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@\"'\\]*:)([^\s/@\"'\\]+)@", 2),
    _Row("assigned", rf"(?i)({_KEY}|pwd)[\"']?=[\"']?([^\s\"'&;,]{{4,}})", 2),
    _Row("assigned", rf"(?i)({_KEY})\s*:\s*([^\s\"'&;,]{{6,}})", 2, _is_no_plain_word),
    _Row("assigned", rf"(?i)({_KEY}|pwd)\\*[\"']\s*:\s*\\*[\"']([^\"'\\]+)", 2),
    _Row("card", r"[2-6]\d(?:[ -]?\d){11,17}", 0, _is_card),
    _Row("iban", r"[A-Z]{2}\d{2} ?[A-Z0-9]{4}(?: ?[A-Z0-9]{4}){1,6}(?: ?[A-Z0-9]{1,4})?", 0, _is_iban),
)

_RAW_ONLY = (
    rf"(?i)(?:{_KEY}|pwd|otp|pin)\\*[\"']",  # a key, at any depth of JSON inside strings
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


def mask(raw: bytes) -> tuple[bytes, int]:
    """Replace the secrets in a payload; returns what may be kept and how many values were replaced.

    Bytes without a secret come back as they are. Raises `MaskingError` when it cannot be done, or not in 20 ms.
    """
    if len(raw) <= _SMALL_BYTES and not _compiled and not _has_hint(raw):
        return raw, 0
    patterns = _patterns()
    began = time.thread_time()  # its own time: a busy machine must not turn payloads into digests
    try:
        hits = patterns.hits(raw)
        if not hits:
            return raw, 0
        masked, count = _Walk(patterns, hits, began + LIMIT_S).mask(raw.decode())
        return masked.encode(), count
    except (ValueError, RecursionError, MaskingError) as error:
        raise MaskingError from error


def marker(kind: str) -> str:
    """What stands where a secret stood."""
    return f"\u2039masked:{kind}\u203a"


def names_a_secret(key: str) -> bool:
    """Whether a value under this key is a secret: the key is one of the names, or its last words are."""
    words = [word.lower() for word in _WORD.findall(key)]
    if not words:
        return False
    joined = "".join(words)
    return words[-1] in _LAST_WORDS or joined.endswith(_LAST_LETTERS)


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_LAST_WORDS = frozenset({"otp", "pin", "pwd"})
_LAST_LETTERS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
)


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


class _Patterns:
    """The compiled patterns: one set that says which kinds to look for at all, and one pattern for each."""

    __slots__ = ("_set", "_singles")

    def __init__(self) -> None:
        self._set = cast("_Sets", lazy.resolve("re2:Set")).SearchSet()
        for row in _VALUES:
            self._set.Add(row.pattern)
        for pattern in _RAW_ONLY:
            self._set.Add(pattern)
        self._set.Compile()
        self._singles: dict[int, _Pattern] = {}

    def hits(self, raw: bytes) -> frozenset[int]:
        """The rows that a text may hold; those past the last row are signs that it has to be read."""
        return frozenset(self._set.Match(raw) or ())

    def single(self, index: int) -> _Pattern:
        found = self._singles.get(index)
        if found is None:
            compile_one = cast("Callable[[str], _Pattern]", lazy.resolve("re2:compile"))
            found = self._singles[index] = compile_one(_VALUES[index].pattern)
        return found


_compiled: list[_Patterns] = []


def _patterns() -> _Patterns:
    if not _compiled:
        _compiled.append(_Patterns())
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
_DEPTH = 6
_LEAST_CHARS = 6


class _Walk:
    """One walk over one payload."""

    __slots__ = ("_count", "_deadline", "_every", "_hits", "_patterns")

    def __init__(self, patterns: _Patterns, hits: frozenset[int], deadline: float) -> None:
        self._patterns = patterns
        self._hits = hits
        self._every = _ESCAPED in hits
        self._deadline = deadline
        self._count = 0

    def mask(self, text: str) -> tuple[str, int]:
        masked = self._text(text, 0)
        return masked, self._count

    def _text(self, text: str, depth: int) -> str:
        if depth < _DEPTH and text.lstrip()[:1] in {"{", "[", '"'}:
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
            for found in self._patterns.single(index).finditer(text):
                if row.holds is not None and not row.holds(found):
                    continue
                pieces += (text[done : found.start(row.group)], marker(row.kind))
                done = found.end(row.group)
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
