"""What of a result nobody reads, and what of a step nobody keeps: the rules' `redact`, done on texts."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.detectors import (
    KEY_WORDS,
    KEYED,
    Compile,
    Detector,
    Scan,
    Span,
    detectors_of,
    fires,
    is_no_plain_word,
    marker,
    names_a_secret,
    spans,
    turns_pages,
)
from soothsayer_mcp.policy.screen import Screen

ANYWHERE = "**"
STAR = "*"

Segments: TypeAlias = tuple[str, ...]
Way: TypeAlias = "tuple[str | int, ...] | None"


class Part(StrEnum):
    """Where something is masked."""

    RESULT = "result"
    """In what a model reads."""
    TRACE = "trace"
    """In what is kept of a call and its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redact:
    """One thing to be masked."""

    part: Part
    at: tuple[str, ...] = (ANYWHERE,)
    find: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    mark: str = ""
    """What stands where something was masked; empty: a marker that names the kind."""
    digested: bool = False
    """Whether a salted digest stands in the mark, by which somebody who knows the value can tell that it was this."""

    def spec(self) -> Mapping[str, Json]:
        """The same as an obligation has it."""
        said: dict[str, Json] = {"in": self.part.value, "at": list(self.at)}
        if self.find:
            said["find"] = list(self.find)
        if self.matches:
            said["matches"] = list(self.matches)
        if self.mark:
            said["with"] = self.mark
        return said


def read_redact(spec: Mapping[str, Json]) -> Redact:
    """Read what an obligation, or a checked form, says is to be masked."""
    mark = spec.get("with", "")
    return Redact(
        part=Part(str(spec.get("in", Part.TRACE))),
        at=_texts(spec.get("at")) or (ANYWHERE,),
        find=_texts(spec.get("find")),
        matches=_texts(spec.get("matches")),
        mark=mark if isinstance(mark, str) else "",
        digested=spec.get("digest") is True,
    )


def _texts(value: Json) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def read_place(place: str, part: Part) -> Segments:
    """Read where something is masked: `a.b`, `items[*].id`. Raises `ValueError` for what names no place.

    In a result a way begins in what the tool gives; in the trace with `args` or `result`.
    """
    segments: list[str] = []
    for piece in place.split("."):
        name = piece
        stars = 0
        while name.endswith("[*]"):
            name = name[:-3]
            stars += 1
        if not name or any(char in "[]*? " for char in name):
            raise ValueError(f"{place!r} names no place; write a.b or items[*].id")
        segments += (name, *[STAR] * stars)
    if part is Part.RESULT:
        return ("result", *(segments[1:] if segments[0] == "result" else segments))
    if segments[0] not in {"args", "result"}:
        raise ValueError(f"{place!r} is no place in the trace; begin it with args or result")
    return tuple(segments)


_SIGNS = (
    rf"(?i)(?:{KEY_WORDS}|pwd|otp|pin)\\*[\"']\s*:",  # a key, at any depth of JSON inside texts
    r"\\u00[2-7]|\\/",  # an escape that may spell what the others look for
)
_DIGITS = frozenset("0123456789")
_LEAST_DIGITS = 6
_OWN = "match"
"""The kind of what an expression of the policy's own finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owner:
    """What one detector belongs to."""

    mark: str
    places: tuple[Segments, ...]
    """Empty: anywhere."""


class Redactor:
    """Some `redact`s, compiled together; one for all calls that owe the same."""

    __slots__ = ("_detectors", "_keyed", "_marks", "_own", "_owners", "_scan", "_screen", "_shipped", "_wholes")

    def __init__(self, redacts: Sequence[Redact], compile_together: Compile) -> None:
        """Compile them. Raises `ValueError` for what is no expression."""
        detectors: list[Detector] = []
        owners: list[_Owner] = []
        wholes: list[tuple[Segments, str, bool]] = []
        self._keyed: str | None = None
        self._own = False
        own_patterns: list[str] = []
        shipped: list[str] = []
        for one in redacts:
            places = () if ANYWHERE in one.at else tuple(read_place(place, one.part) for place in one.at)
            own = tuple(Detector(kind=_OWN, pattern=pattern) for pattern in one.matches)
            found = (*detectors_of(one.find), *own)
            own_patterns += one.matches
            shipped += [detector.pattern for detector in detectors_of(one.find)]
            detectors += found
            owners += [_Owner(mark=one.mark, places=places)] * len(found)
            self._own = self._own or bool(own) or bool(places)
            if not found:
                wholes += [(place, one.mark, one.digested) for place in places]
            if KEYED in one.find and not places and self._keyed is None:
                self._keyed = one.mark
        self._detectors = tuple(detectors)
        self._owners = tuple(owners)
        self._wholes = tuple(wholes)
        self._marks = frozenset(
            mark
            for detector, owner in zip(detectors, owners, strict=True)
            for mark in (owner.mark, marker(detector.kind), marker("key"))
            if mark
        )
        self._scan: Scan = compile_together([*(detector.pattern for detector in detectors), *_SIGNS])
        self._screen = Screen(own_patterns, compile_together) if own_patterns else None
        self._shipped: Scan | None = self._scan
        if own_patterns:
            self._shipped = compile_together([*shipped, *_SIGNS]) if shipped else None

    def begin(self, salt: bytes = b"") -> "Redaction":
        """Begin to mask one message; `salt` goes before what only a digest is kept of."""
        return Redaction(self, salt)

    def concerns(self, piece: str) -> bool:
        """Whether anything in a piece of JSON may have to be masked."""
        if self._wholes or (self._screen is not None and not self._screen.rules_out(piece)):
            return True
        return self._shipped is not None and bool(self._shipped.hits(piece.encode(errors="surrogatepass")))

    def concerns_bytes(self, raw: bytes) -> bool:
        """The same of its bytes, whatever they are."""
        if self._screen is None:
            return bool(self._wholes) or bool(self._scan.hits(raw))
        try:
            return self.concerns(raw.decode())
        except UnicodeDecodeError:
            return True

    def whole(self, way: Way, piece: str, salt: bytes) -> str | None:
        """The mark of a value that is masked as a whole; with a digest where it may be confirmed later."""
        if way is None:
            return None
        for place, mark, digested in self._wholes:
            if _leads(place, way):
                if digested:
                    said = hashlib.sha256(salt + piece.encode(errors="surrogatepass")).hexdigest()
                    return marker(f"secret sha256:{said}")
                return mark or marker("value")
        return None

    def under(self, key: str, text: str) -> str | None:
        """The mark of a text that its key says to be a secret, where it also looks like one."""
        if self._keyed is None or not text or not names_a_secret(key) or turns_pages(key) or text in self._marks:
            return None
        said = "pass" in key.lower() or "pwd" in key.lower() or is_no_plain_word(text)
        return (self._keyed or marker("key")) if said else None

    def masked(self, text: str, way: Way, counts: Counter[str]) -> str:
        """A text without what is looked for in it."""
        try:
            masked = self._masked(text)
            found = sorted(
                (start, -end, index)
                for index, start, end in spans(self._scan, self._detectors, text)
                if self._reaches(index, way) and not any(first <= start and end <= last for first, last in masked)
            )
        except UnicodeEncodeError:  # a lone surrogate, which RE2 cannot read, beside what may have to be masked
            counts["unreadable"] += 1
            return marker("unreadable")
        if not found:
            return text
        pieces: list[str] = []
        done = 0
        begin, end, first = found[0][0], -found[0][1], found[0][2]
        for start, minus, index in (*found[1:], (len(text) + 1, 0, 0)):
            if start < end:
                end = max(end, -minus)
                continue
            pieces += (text[done:begin], self._mark(first))
            counts[self._detectors[first].kind] += 1
            done = end
            begin, end, first = start, -minus, index
        return "".join((*pieces, text[done:]))

    def _masked(self, text: str) -> list[Span]:
        """Where a mark of ours stands already: what it says is no find."""
        places: list[Span] = []
        for mark in self._marks:
            at = text.find(mark)
            while at >= 0:
                places.append((at, at + len(mark)))
                at = text.find(mark, at + len(mark))
        return places

    def looks_at_number(self, spelled: str) -> bool:
        """Whether a number is long enough to be masked as a text would be."""
        return self._own or len(spelled) > _LEAST_DIGITS

    def _mark(self, index: int) -> str:
        return self._owners[index].mark or marker(self._detectors[index].kind)

    def _reaches(self, index: int, way: Way) -> bool:
        places = self._owners[index].places
        return not places or (way is not None and any(_leads(place, way[: len(place)]) for place in places))


class Redaction:
    """One message being masked: the changes, and how many there were of each kind."""

    __slots__ = ("_redactor", "_salt", "counts")

    def __init__(self, redactor: Redactor, salt: bytes) -> None:
        """Nothing is masked yet."""
        self._redactor = redactor
        self._salt = salt
        self.counts: Counter[str] = Counter()

    def concerns(self, piece: str) -> bool:
        """Whether anything in a piece of JSON may have to be masked."""
        return self._redactor.concerns(piece)

    def whole(self, way: Way, piece: str) -> str | None:
        """What the whole value at a place becomes."""
        mark = self._redactor.whole(way, piece, self._salt)
        if mark is not None:
            self.counts["value"] += 1
        return mark

    def under(self, key: str, text: str) -> str | None:
        """What a text becomes because of its key."""
        mark = self._redactor.under(key, text)
        if mark is not None:
            self.counts["key"] += 1
        return mark

    def text(self, text: str, way: Way) -> str:
        """What a text becomes."""
        return self._redactor.masked(text, way, self.counts)

    def number(self, spelled: str, way: Way) -> str:
        """What a number becomes."""
        return self._redactor.masked(spelled, way, self.counts) if self._redactor.looks_at_number(spelled) else spelled


def masks_once(redact: Redact, compile_together: Compile) -> bool:
    """Whether what stands instead is not found itself."""
    detectors = (*detectors_of(redact.find), *(Detector(kind=_OWN, pattern=pattern) for pattern in redact.matches))
    scan = compile_together([detector.pattern for detector in detectors])
    return not fires(scan, detectors, redact.mark)


def _leads(place: Segments, way: Sequence[str | int]) -> bool:
    return len(place) == len(way) and all(
        isinstance(step, int) if want == STAR else str(step) == want for want, step in zip(place, way, strict=True)
    )
