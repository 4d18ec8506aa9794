r"""What secrets, accounts and people's addresses look like: one table, for what a model reads and for what is kept.

A detector finds by what a value is, never by the name of a key alone. The expressions are RE2's, so that a search is
linear in the text; what no expression can say (a checksum, what stands beside it) is asked of each hit.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias
from urllib.parse import unquote

from soothsayer_mcp.model.value import dataclass


class Found(Protocol):
    """One hit of an expression."""

    @property
    def string(self) -> str:
        """The text that was searched."""
        ...

    def group(self, *groups: int) -> str:
        """What a group holds."""
        ...

    def start(self, group: int = 0) -> int:
        """Where a group begins."""
        ...

    def end(self, group: int = 0) -> int:
        """Where a group ends."""
        ...


Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """One thing to look for: its expression, which group of it is meant, and what else must hold."""

    kind: str
    """What stands in the marker."""
    pattern: str
    group: int = 0
    holds: Callable[[Found], bool] | None = None
    within: Callable[[Found], Iterable[Span]] | None = None
    """Finds what is meant in a hit that may hold more, or none of it."""


class Scan(Protocol):
    """Some detectors, compiled together."""

    def hits(self, raw: bytes) -> frozenset[int]:
        """Which of them may fire in this text, by their position; one pass."""
        ...

    def search(self, index: int, text: str) -> Iterable[Found]:
        """The hits of one of them. Raises `UnicodeEncodeError` for a text that UTF-8 cannot hold."""
        ...


Compile = Callable[[Sequence[str]], Scan]
"""Compiles expressions of RE2 to be searched for together. Raises `ValueError` for one that is none."""

KEY_WORDS = (
    r"(?:password|passwd|passphrase|secret|token|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|authorization|cookie"
    r"|credentials?)"
)
_PLAIN_WORD_CHARS = 16


def is_no_plain_word(value: str) -> bool:
    """Whether a text looks made by a machine and not said by a person."""
    return len(value) >= _PLAIN_WORD_CHARS or any(char.isdigit() for char in value)


def _is_no_word(found: Found) -> bool:
    return is_no_plain_word(found.group(2))


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a run of digits and letters is not a piece of a longer one."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() or before in {".", "_", "-"} or after.isalnum() or after in {"_", "-"})


_CARD_START = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[0689]\d{12}|6\d{15,18}|35\d{14})$"
)
_CARD_GROUPS = re.compile(r"(?:4{3,4}[1-4]?|464|465)$")
"""How the digits of a card stand in groups, where they do."""
_GROUP = re.compile(r"\d+")
_MOST_GROUPS = 5


def _cards(found: Found) -> Iterator[Span]:
    """The cards in a run of digits: neighbours in a table are no part of one, and hide none."""
    groups = [group.span() for group in _GROUP.finditer(found.string, found.start(), found.end())]
    done = 0
    for first, (start, _) in enumerate(groups):
        if first < done:
            continue
        for last in range(min(len(groups), first + _MOST_GROUPS) - 1, first - 1, -1):
            end = groups[last][1]
            if _is_card(found.string, start, end, [stop - begin for begin, stop in groups[first : last + 1]]):
                yield start, end
                done = last + 1
                break


def _is_card(text: str, start: int, end: int, sizes: Sequence[int]) -> bool:
    if len(sizes) > 1 and _CARD_GROUPS.match("".join(map(str, sizes))) is None:
        return False
    spelled = "".join(_GROUP.findall(text[start:end]))
    if not _stands_alone(text, start, end) or not _CARD_START.match(spelled):
        return False
    digits = [int(digit) for digit in spelled]
    return (sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]) + sum(digits[-1::-2])) % 10 == 0


_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d\d")
_LEAST_IBAN, _MOST_IBAN = 15, 34


def _ibans(found: Found) -> Iterator[Span]:
    """The account numbers that begin in a hit, without the words after them."""
    done = 0
    for begin in _IBAN_START.finditer(found.string, found.start(), found.end()):
        end = 0 if begin.start() < done else _iban_end(found.string, begin.start())
        if end:
            yield begin.start(), end
            done = end


def _iban_end(text: str, start: int) -> int:
    """Where the longest account number that begins here ends; 0 where none does."""
    spelled, longest, at = "", 0, start
    while at < len(text) and len(spelled) < _MOST_IBAN:
        char = text[at]
        if char.isascii() and (char.isdigit() or char.isupper()):
            spelled += char
        elif char != " ":
            break
        at += 1
        if char != " " and len(spelled) >= _LEAST_IBAN and _stands_alone(text, start, at) and _adds_up(spelled):
            longest = at
    return longest


def _adds_up(iban: str) -> bool:
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


_LEAST_PHONE, _MOST_PHONE = 8, 15


def _phones(found: Found) -> Iterator[Span]:
    """The number in a hit, without numbers that stand after it."""
    text, start = found.string, found.start()
    # A sign before it makes it a piece of a version, an address, a path or a longer number.
    if text[start - 1 : start].isalnum() or text[start - 1 : start] in {"+", ".", "_", "-", "/", ":", "="}:
        return
    groups = [group.span() for group in _GROUP.finditer(text, start, found.end())]
    while groups and sum(stop - begin for begin, stop in groups) > _MOST_PHONE:
        groups.pop()
    if not groups or sum(stop - begin for begin, stop in groups) < _LEAST_PHONE:
        return
    end = groups[-1][1]
    after = text[end : end + 1]
    if not after.isalnum() and after not in {"_", "-", "/"}:
        yield start, end


SECRETS: tuple[Detector, ...] = (
    Detector(
        kind="private_key",
        pattern=r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
    ),
    Detector(kind="jwt", pattern=r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"),
    Detector(kind="bearer", pattern=r"(?i)(bearer[\s\\]+)([A-Za-z0-9._~+/=-]{6,})", group=2, holds=_is_no_word),
    Detector(kind="token", pattern=r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"),
    Detector(
        kind="token",
        pattern=r"xox[abeoprs]-[A-Za-z0-9-]{10,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|hf_[A-Za-z0-9]{30,}",
    ),
    Detector(
        kind="token",
        pattern=r"sk-[A-Za-z0-9_-]{20,}|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}"
        r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    ),
    Detector(
        kind="cloud_key",
        pattern=r"(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}|dop_v1_[a-f0-9]{40,}",
    ),
    Detector(kind="password", pattern=r"([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@\"'\\]*:)([^\s/@\"'\\]+)@", group=2),
    Detector(kind="assigned", pattern=rf"(?i)({KEY_WORDS}|pwd)[\"']?=[\"']?([^\s\"'&;,]{{4,}})", group=2),
    Detector(kind="assigned", pattern=rf"(?i)({KEY_WORDS})\s*:\s*([^\s\"'&;,]{{6,}})", group=2, holds=_is_no_word),
    Detector(kind="assigned", pattern=rf"(?i)({KEY_WORDS}|pwd)\\*[\"']\s*:\s*\\*[\"']([^\"'\\]+)", group=2),
)
CARDS = (Detector(kind="card", pattern=r"\d(?:[ -]?\d){11,}", within=_cards),)
IBANS = (
    Detector(
        kind="iban",
        pattern=r"[A-Z]{2}\d{2} ?[A-Z0-9]{4}(?: ?[A-Z0-9]{4}){1,6}(?: ?[A-Z0-9]{1,4})?",
        within=_ibans,
    ),
)
EMAILS = (Detector(kind="email", pattern=r"[\pL\pN._%+'-]+@[\pL\pN](?:[\pL\pN-]*[\pL\pN])?(?:\.[\pL\pN-]+)*\.\pL{2,}"),)
PHONES = (
    Detector(
        kind="phone",
        # With a country's prefix; as in North America; with the leading zero of many other countries.
        pattern=r"(?:\+|00)[1-9]\d{0,2}(?:[ ./-]?\(?\d+\)?){1,6}|\(?[2-9]\d\d\)?[ .-][2-9]\d\d[ .-]\d{4}"
        r"|0[1-9]\d{1,3}(?: ?/ ?| |-)\d{3,8}(?:[ -]\d{2,5})?",
        within=_phones,
    ),
)

DETECTORS: dict[str, tuple[Detector, ...]] = {
    "secret": SECRETS,
    "email": EMAILS,
    "iban": IBANS,
    "card_number": CARDS,
    "phone": PHONES,
}
"""The words of `find`, and what each looks for."""

KEYED = "secret"
"""The word under which a value counts too because of its key, where it looks made by a machine."""


def detectors_of(words: Iterable[str]) -> tuple[Detector, ...]:
    """What the words of a `find` look for."""
    return tuple(detector for word in words for detector in DETECTORS[word])


def fires(scan: Scan, detectors: Sequence[Detector], text: str) -> bool:
    """Whether one of some detectors, compiled in this order, finds anything in a text."""
    return any(True for _ in spans(scan, detectors, text))


def spans(
    scan: Scan, detectors: Sequence[Detector], text: str, among: frozenset[int] | None = None
) -> Iterator[tuple[int, int, int]]:
    """What detectors find in a text: which one, from where to where; in no order, and they may overlap.

    `among` are the ones to look for; without it all. Raises `UnicodeEncodeError` as `Scan.search` does.
    """
    hits = scan.hits(text.encode(errors="surrogatepass"))
    for index in sorted(hits if among is None else hits & among):
        if index >= len(detectors):
            continue
        detector = detectors[index]
        for start, end in meant(scan, index, detector, text):
            yield index, start, end


_ROUNDS = 3
_BESIDE = 256


def meant(scan: Scan, index: int, detector: Detector, text: str, rounds: int = _ROUNDS) -> Iterator[Span]:
    """What one detector means of what its expression fits. Raises `UnicodeEncodeError` as `Scan.search` does."""
    for found in scan.search(index, text):
        if detector.within is not None:
            yield from detector.within(found)
            continue
        start, end = found.start(detector.group), found.end(detector.group)
        if detector.holds is None or detector.holds(found):
            if start < end:
                yield start, end
        elif rounds:
            # What was taken for a value may itself begin what is looked for: `token: token: ...`.
            piece = text[start : end + _BESIDE]
            yield from (
                (start + begin, start + stop) for begin, stop in meant(scan, index, detector, piece, rounds - 1)
            )


# -- what a text may encode --------------------------------------------------------------------------------------------

_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){8,}")
_MOST_PIECES = 200
_PERCENT_ROUNDS = 3


def spellings(text: str) -> Iterator[str]:
    """A text as it stands, without its percent signs, and what runs of base64 or hex in it decode to.

    What it decodes to is text or nothing; encodings within encodings are not followed.
    """
    yield text
    plain = text
    for _ in range(_PERCENT_ROUNDS):
        decoded = unquote(plain, errors="strict") if "%" in plain and _is_utf8(plain) else plain
        if decoded == plain:
            break
        plain = decoded
    if plain != text:
        yield plain
    for number, run in enumerate(_ENCODED.finditer(plain)):
        if number >= _MOST_PIECES:
            return
        yield from _decoded(run.group())


def _is_utf8(text: str) -> bool:
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _decoded(run: str) -> Iterator[str]:
    body = run.rstrip("=")
    if _HEX.fullmatch(body) is not None:
        yield from _as_text(bytes.fromhex(body))
    standard = body.replace("-", "+").replace("_", "/")
    try:
        yield from _as_text(base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True))
    except binascii.Error:
        return


def _as_text(raw: bytes) -> Iterator[str]:
    try:
        yield raw.decode()
    except UnicodeDecodeError:
        return


# -- what a key says ---------------------------------------------------------------------------------------------------

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
_PAGES = frozenset(
    {"page", "next", "prev", "previous", "continuation", "continue", "sync", "cursor", "progress", "resume"}
)


def names_a_secret(key: str) -> bool:
    """Whether a value under this key is a secret: the key is one of the names, or its last words are."""
    words = [word.lower() for word in _WORD.findall(key)]
    if not words:
        return False
    return words[-1] in _LAST_WORDS or "".join(words).endswith(_LAST_LETTERS)


def turns_pages(key: str) -> bool:
    """Whether a key names what fetches the next page, as `nextPageToken` does: a model has to hand that back."""
    return not _PAGES.isdisjoint(word.lower() for word in _WORD.findall(key))


MARK_BEGINS = "\u2039masked:"


_MARKER = re.compile("\u2039masked:[^\u2039\u203a]{1,90}\u203a")


def is_marker(text: str) -> bool:
    """Whether a text is a marker and nothing else."""
    return _MARKER.fullmatch(text) is not None


def marker(kind: str) -> str:
    """What stands where something was masked."""
    return f"{MARK_BEGINS}{kind}\u203a"
