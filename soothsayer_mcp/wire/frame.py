"""One message: its original bytes, what they say, and edits that change nothing but what they name."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Final, TypeAlias

from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.wire.places import Key, Path, Place, Wanted, locate, start


class FrameKind(Enum):
    """What a message is."""

    REQUEST = auto()
    NOTIFICATION = auto()
    RESULT = auto()
    ERROR = auto()
    AMBIGUOUS = auto()
    """Both or neither of `result` and `error`, or an answer that also has a method. Only servers' frames can be so."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Put another value in the place of one that is there."""

    path: Path
    value: bytes


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a member or an element out; nothing happens when it is absent."""

    path: Path


@dataclass(frozen=True, slots=True)
class Insert:
    """Put a member at the end of the object at `path`, or replace its value when the object has it."""

    path: Path
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Items:
    """Keep the elements with these indices of the array at `path`, and put others after them."""

    path: Path
    keep: Collection[int]
    extra: Sequence[bytes] = ()


Edit: TypeAlias = Replace | Remove | Insert | Items

_KNOWN: Final[frozenset[Path]] = frozenset({(), ("params",)})
"""What a host's message was looked into while it was read, so that a new id or name costs no second look."""

_Tree: TypeAlias = dict[Key, "_Tree"]


class Frame:
    """A message as it came, and what it says. Made by `strict.read_host` and `strict.read_server` only."""

    __slots__ = ("_judge", "_place", "_strict", "_text", "has_id", "id", "kind", "message", "method", "params", "raw")

    raw: bytes
    """The line without its end, byte for byte."""
    message: JsonObject
    kind: FrameKind
    id: RequestId | None
    """`None` when it is absent, or (from a server) of no legal type."""
    has_id: bool
    method: str
    """Empty for answers."""
    params: JsonObject | None
    """`None` when absent, or (from a server) no object."""

    def __init__(
        self,
        raw: bytes,
        message: JsonObject,
        kind: FrameKind,
        *,
        id: RequestId | None,  # noqa: A002 - the member's name on the wire
        has_id: bool,
        method: str,
        params: JsonObject | None,
        text: str | None = None,
        place: Place | None = None,
        judge: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.raw = raw
        self.message = message
        self.kind = kind
        self.id = id
        self.has_id = has_id
        self.method = method
        self.params = params
        self._text = text
        self._place = place
        self._judge = judge
        self._strict = judge is None

    def __repr__(self) -> str:
        """Name the message without its content."""
        return f"<Frame {self.kind.name} {self.method or '-'} id={self.id!r} {len(self.raw)} bytes>"

    @property
    def strict(self) -> bool:
        """Whether the message reads in exactly one way; found out when it is first asked for."""
        if self._judge is not None:
            self._strict = self._judge(self.raw)
            self._judge = None
        return self._strict

    @property
    def result(self) -> Json:
        """The `result` member; `None` when it is absent or null."""
        return self.message.get("result")

    @property
    def error(self) -> Json:
        """The `error` member; `None` when it is absent or null."""
        return self.message.get("error")

    @property
    def meta(self) -> Mapping[str, Json]:
        """`_meta` of the params, or of the result; empty when there is none."""
        holder = self.params if self.params is not None else self.message.get("result")
        found = holder.get("_meta") if isinstance(holder, dict) else None
        return found if isinstance(found, dict) else {}

    def slice(self, path: Path) -> bytes | None:
        """Give the bytes of the value at a path; `None` when there is none."""
        found = self._find(path)
        return None if found is None else _encoded(self._all_text()[found[0] : found[1]])

    def items(self, path: Path) -> list[bytes]:
        """Give the bytes of each element of the array at a path. Raises `LookupError` when there is no array."""
        text = self._all_text()
        _, _, place = self._find(path, into=True) or (0, 0, None)
        if place is None or text[place.at] != "[":
            raise LookupError(path)
        return [_encoded(text[at:end]) for _, _, at, end, _, _ in place.inside]

    def edited(self, *edits: Edit) -> bytes:
        """Give the message with some values changed and every other byte as it was.

        Raises `LookupError` when what an edit needs is not there, `ValueError` when one edit lies within another.
        """
        if not edits:
            return self.raw
        text = self._all_text()
        into = [_into(edit) for edit in edits]
        place = self._place
        if place is None or not _KNOWN.issuperset(into):
            place = locate(text, start(text), _wanted(into))
        return _encoded("".join((text[: place.at], *_spliced(text, place, 0, edits), text[place.end :])))

    def _all_text(self) -> str:
        if self._text is None:
            # Bytes that are no UTF-8 become surrogates of their own, and the same bytes again when encoded.
            self._text = self.raw.decode("utf-8", "surrogateescape")
        return self._text

    def _find(self, path: Path, *, into: bool = False) -> tuple[int, int, Place | None] | None:
        """Tell where the value at a path begins and ends, and with `into` what is in it; `None` when there is none."""
        text = self._all_text()
        wanted = path if into else path[:-1]
        place = self._place or locate(text, start(text), _wanted([wanted]))
        found: tuple[int, int, Place | None] = (place.at, place.end, place)
        for depth, key in enumerate(path):
            if place is None or (member := place.last(key)) is None:
                return None
            _, _, at, end, _, place = member
            if place is None and depth < len(wanted) and text[at] in "{[":
                place = locate(text, at, _wanted([wanted[depth + 1 :]]))
            found = (at, end, place)
        return found


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _into(edit: Edit) -> Path:
    """Which containers an edit needs the members of."""
    return edit.path if isinstance(edit, Insert | Items) else edit.path[:-1]


def _wanted(paths: Iterable[Path]) -> Wanted:
    tree: _Tree = {}
    for path in paths:
        level = tree
        for key in path:
            level = level.setdefault(key, {})
    return tree


class _Plan:
    """What is to happen directly in one object or array."""

    __slots__ = ("added", "below", "dropped", "kept", "swapped")

    def __init__(self, place: Place, *, named: bool, depth: int, edits: Sequence[Edit]) -> None:
        self.dropped: set[Key] = set()
        self.kept: Collection[int] | None = None
        self.swapped: dict[Key, bytes] = {}
        self.below: dict[Key, list[Edit]] = {}
        self.added: dict[Key, bytes] = {}
        for edit in edits:
            match edit:
                case Replace(path=path, value=value) if len(path) == depth + 1:
                    if place.last(path[depth]) is None:
                        raise LookupError(path)
                    self._claim(path[depth])
                    self.swapped[path[depth]] = value
                case Remove(path=path) if len(path) == depth + 1:
                    self._claim(path[depth])
                    self.dropped.add(path[depth])
                case Insert(path=path, key=key, value=value) if len(path) == depth:
                    if not named:
                        raise LookupError(path)
                    self._claim(key)
                    (self.added if place.last(key) is None else self.swapped)[key] = value
                case Items(path=path, keep=keep, extra=extra) if len(path) == depth:
                    if named:
                        raise LookupError(path)
                    if self.kept is not None:
                        raise ValueError(path)
                    self.kept = keep
                    self.added = {len(place.inside) + n: value for n, value in enumerate(extra)}
                case _:
                    self._descend(place, edit, depth)

    def _claim(self, key: Key) -> None:
        if key in self.dropped or key in self.swapped or key in self.added or key in self.below:
            raise ValueError(key)

    def _descend(self, place: Place, edit: Edit, depth: int) -> None:
        key = edit.path[depth]
        member = place.last(key)
        if member is None or member[5] is None:
            if isinstance(edit, Remove):
                return
            raise LookupError(edit.path)
        if key not in self.below:
            self._claim(key)
        self.below.setdefault(key, []).append(edit)

    def keeps(self, key: Key) -> bool:
        return key not in self.dropped and (self.kept is None or key in self.kept)


def _spliced(text: str, place: Place, depth: int, edits: Sequence[Edit]) -> list[str]:
    """Write the object or array at a place with its edits done; `depth` keys of their paths lead there."""
    named = text[place.at] == "{"
    plan = _Plan(place, named=named, depth=depth, edits=edits)
    inside = place.inside
    pieces = [text[place.at : inside[0][1] if inside else place.end - 1]]
    wrote = False
    for n, member in enumerate(inside):
        key, begin, at, end, _, below = member
        if not plan.keeps(key):
            continue
        # A member goes together with the separator before it; the first one that stays needs none.
        pieces.append(text[inside[n - 1][3] if wrote else begin : at])
        wrote = True
        if key in plan.swapped:
            pieces.append(_decoded(plan.swapped[key]))
        elif key in plan.below and below is not None and member is place.last(key):
            pieces += _spliced(text, below, depth + 1, plan.below[key])
        else:
            pieces.append(text[at:end])
    for key, value in plan.added.items():
        name = f"{compact(key).decode()}:" if named else ""
        pieces.append(f"{',' if wrote else ''}{name}{_decoded(value)}")
        wrote = True
    pieces.append(text[inside[-1][3] if inside else place.end - 1 : place.end])
    return pieces
