"""What a rollback would do: which steps, in which order, and what stands against it. Pure."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from enum import StrEnum

from soothsayer_mcp.model.json import Json, JsonObject, canonical
from soothsayer_mcp.model.settling import Settling
from soothsayer_mcp.model.subject import EVERYTHING, overlap
from soothsayer_mcp.model.undo import ABSENT, UndoClass, UndoState
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.undo.kept import Kept

UNSEEN = "it took effect, and nobody saw what it left: put it back by hand"
TRIES = 3
"""How often one step is tried to be undone."""


class MoveKind(StrEnum):
    """What a plan says of one thing; in the order in which people read it."""

    IRREVERSIBLE = "irreversible"
    CONFLICT = "conflict"
    UNSETTLED = "unsettled"
    DELETE = "delete"
    RESTORE = "restore"
    CALL = "call"
    NOT_NEEDED = "not_needed"
    LEFT = "left"


ACTS = frozenset({MoveKind.DELETE, MoveKind.RESTORE, MoveKind.CALL})
BLOCKS = frozenset({MoveKind.CONFLICT, MoveKind.UNSETTLED})
"""Kinds with which nothing is undone at all until somebody leaves these steps by their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One step of the agent's, as the record tells it."""

    no: int
    server: str
    tool: str
    reads: bool
    """Whether its labels say that it only reads."""
    outcome: str
    """Empty while it is in flight."""
    acted: str
    kind: UndoClass | None
    """`None` where nobody said how it is undone."""
    state: UndoState
    ended: int
    """Position of its outcome; -1 while there is none."""
    gone: bool
    """Whether the process that sent it has ended, and its servers with it: it can land no more."""
    kept: Kept | None = None
    tries: tuple[tuple[int, str], ...] = ()
    """The steps that were to undo it, and how each ended."""
    settling: Settling | None = None
    """What tells whether it took effect, where a rule says so."""

    @property
    def unsettled(self) -> bool:
        """Whether it is not known whether it had its effect."""
        return self.outcome in {"", "unknown"} and self.acted != "yes"

    @property
    def asks(self) -> Settling | None:
        """What another tool is asked before a plan is made; nothing of a step that is in flight, or known of."""
        return self.settling if self.outcome == "unknown" and self.acted == "maybe" else None

    @property
    def is_over(self) -> bool:
        """Whether nothing of its call can land any more: what does not run on this machine is never known to be."""
        reach = None if self.settling is None else self.settling.reach.get(self.server)
        return self.gone and isinstance(reach, Mapping) and "url" not in reach

    @property
    def was_settled(self) -> bool:
        """Whether no answer told that it took effect: what was seen of it may be older than its effect."""
        return self.outcome == "unknown" and self.acted == "yes"

    @property
    def has_effect(self) -> bool:
        """Whether there may be something to undo."""
        over = self.state in {UndoState.UNDONE, UndoState.NOT_NEEDED}
        return not (over or self.reads or self.acted == "no" or self.kind is UndoClass.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """How things stand now."""

    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Path -> state."""
    doubts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Path, or look -> why it could not be seen."""
    looks: Mapping[int, str] = field(default_factory=dict[int, str])
    """Step -> the look that tells its state, spelled as one text."""
    seen: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Look -> what it answers."""
    calls: Mapping[int, JsonObject] = field(default_factory=dict[int, JsonObject])
    """Step -> the arguments of its inverse call."""
    barred: Mapping[int, str] = field(default_factory=dict[int, str])
    """Step -> why its inverse call cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One line of a plan."""

    no: int
    kind: MoveKind
    about: str
    """A path, or a tool."""
    why: str = ""
    now: str = ""
    after: str = ""
    """The state that the step left."""
    before: str = ""
    """The state that comes back."""
    args: str = ""
    """Digest of the arguments of an inverse call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done, in the order of doing it."""

    moves: tuple[Move, ...]

    @property
    def digest(self) -> str:
        """What a person confirms."""
        told: list[Json] = [
            [move.no, move.kind.value, move.about, move.now, move.after, move.before, move.args] for move in self.moves
        ]
        return hashlib.sha256(canonical(told)).hexdigest()

    @property
    def shown(self) -> Sequence[Move]:
        """In the order of reading: what cannot be taken back first."""
        kinds = [MoveKind.IRREVERSIBLE, MoveKind.CONFLICT, MoveKind.UNSETTLED]
        first = [move for kind in kinds for move in self.moves if move.kind is kind]
        acts = [move for move in self.moves if move.kind in ACTS]
        last = [move for kind in (MoveKind.NOT_NEEDED, MoveKind.LEFT) for move in self.moves if move.kind is kind]
        return [*first, *acts, *last]

    def of(self, kinds: Collection[MoveKind]) -> list[int]:
        """The steps that have a line of these kinds, in the order of doing."""
        return list(dict.fromkeys(move.no for move in self.moves if move.kind in kinds))


def plan(pasts: Sequence[Past], present: Present, *, to: int = 0, skip: Collection[int] = ()) -> Plan:
    """Work out how to come back to the state after step `to`; steps in `skip` stay, and what lies under them."""
    world = _World(present)
    moves: list[Move] = []
    for past in sorted(pasts, key=lambda one: (one.ended < 0, one.ended, one.no), reverse=True):
        if past.no > to and past.has_effect:
            moves += world.undo(past, skipped=past.no in skip)
    return Plan(moves=tuple(moves))


class _World:
    """How things will stand when what comes before is undone."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self._files = dict(present.files)
        self._seen = dict(present.seen)
        self._left: set[str] = set()
        self._staying: list[str] = []
        """Subjects of calls that stay: an earlier call about one of them is not taken back from under it."""
        self._calls: list[tuple[str, tuple[str, ...]]] = []
        """The look, and the subjects, of each inverse call that is made before."""

    def undo(self, past: Past, *, skipped: bool) -> list[Move]:
        kept = past.kept
        about = f"{past.server}.{past.tool}"
        if past.kind is None or past.kind is UndoClass.NEVER or kept is None:
            why = "nothing that undoes it is known" if past.kind is None else "it cannot be taken back"
            if past.kind in {UndoClass.RESTORE, UndoClass.COMPENSATE}:
                why = "what was kept for it is not on record"
            kind = MoveKind.LEFT if skipped else MoveKind.IRREVERSIBLE
            return [Move(no=past.no, kind=kind, about=about, why=why)]
        things = [one.path for one in kept.before.files] or [self._present.looks.get(past.no, f"{about} {past.no}")]
        if skipped or self._lies_under(kept, things):
            self._leave(kept, things)
            shown = [one.path for one in kept.before.files] or [about]
            why = "left as asked" if skipped else "it lies under a step that stays"
            return [Move(no=past.no, kind=MoveKind.LEFT, about=one, why=why) for one in shown]
        unseen = self._unseen(past, kept, things)
        if unseen:
            self._leave(kept, things)
            return [Move(no=past.no, kind=MoveKind.IRREVERSIBLE, about=one, why=UNSEEN) for one in unseen]
        if kept.terms.tool:
            move = self._by_call(past, kept)
            if move.kind is MoveKind.CALL:
                self._calls.append((self._present.looks.get(past.no, ""), kept.opens))
            elif move.kind is MoveKind.IRREVERSIBLE:
                self._leave(kept, things)
            return [move]
        return [self._by_file(past, kept, one.path, one.state) for one in kept.before.files]

    def _lies_under(self, kept: Kept, things: Sequence[str]) -> bool:
        """Whether a later step stays that is about the same."""
        if not self._left.isdisjoint(things):
            return True
        return any(overlap(one, mine) for one in self._staying for mine in kept.opens if mine != EVERYTHING)

    def _leave(self, kept: Kept, things: Sequence[str]) -> None:
        self._left.update(things)
        self._staying += [one for one in kept.opens if one != EVERYTHING]

    def _unseen(self, past: Past, kept: Kept, things: Sequence[str]) -> Sequence[str]:
        """What a step changed of which nobody saw how it left it: no machine tells that from what came later."""
        if not past.was_settled:
            return ()
        if not kept.terms.tool:
            seen = {one.path: self._files.get(one.path) for one in kept.before.files}
            return [
                one.path
                for one in kept.before.files
                if seen[one.path] not in {None, one.state} and not _left_by(past, kept, one.path, one.state)
            ]
        look = things[0]
        if past.no in self._present.barred or past.no not in self._present.looks or look not in self._seen:
            return ()
        if kept.terms.kind is not UndoClass.RESTORE and not past.tries:
            return ()
        before = state_digest(kept.before.seen)
        if state_digest(self._seen[look]) == before or _left_as(kept) not in {"", before}:
            return ()
        return [kept.terms.tool]

    def _by_file(self, past: Past, kept: Kept, path: str, before: str) -> Move:
        after = _left_by(past, kept, path, before)
        now = self._files.get(path)
        if now is None:
            why = self._present.doubts.get(path, "it was not seen")
            return Move(no=past.no, kind=MoveKind.CONFLICT, about=path, why=why, after=after, before=before)

        def move(kind: MoveKind, why: str = "") -> Move:
            return Move(no=past.no, kind=kind, about=path, why=why, now=now, after=after, before=before)

        kind, why = _compared(past, now=now, after=after, before=before)
        if kind is not None:
            if kind in BLOCKS:
                self._left.add(path)  # who leaves this step leaves what lies under it
            return move(kind, why)
        self._files[path] = before
        return move(MoveKind.DELETE if before == ABSENT else MoveKind.RESTORE)

    def _by_call(self, past: Past, kept: Kept) -> Move:
        present = self._present
        tool = kept.terms.tool

        def move(kind: MoveKind, why: str = "", *, now: str = "", after: str = "") -> Move:
            before = state_digest(kept.before.seen) if kept.before.has_seen else ""
            args = state_digest(present.calls[past.no]) if kind is MoveKind.CALL else ""
            return Move(no=past.no, kind=kind, about=tool, why=why, now=now, after=after, before=before, args=args)

        if any(outcome == "succeeded" for _, outcome in past.tries):
            return move(MoveKind.NOT_NEEDED, "it was undone")
        barred = present.barred.get(past.no)
        if barred is not None:
            return move(MoveKind.IRREVERSIBLE, barred)
        if past.no not in present.calls:
            return move(
                MoveKind.CONFLICT, "a call takes it back, and its server was not asked: soothsayer rollback does"
            )
        look = present.looks.get(past.no)
        if look is not None and (kept.terms.kind is UndoClass.RESTORE or past.unsettled or bool(past.tries)):
            return self._by_look(past, kept, look, move)
        if past.unsettled:
            return move(MoveKind.UNSETTLED, "whether it happened is not known")
        if any(outcome in {"unknown", ""} for _, outcome in past.tries):
            return move(MoveKind.UNSETTLED, "whether its undo happened is not known")
        if len(past.tries) >= TRIES:
            return move(MoveKind.CONFLICT, f"it was tried {len(past.tries)} times")
        return move(MoveKind.CALL)

    def _by_look(self, past: Past, kept: Kept, look: str, move: Callable[..., Move]) -> Move:
        """By what is there now: what the step left, what was there before it, or neither."""
        if look not in self._seen:
            return move(MoveKind.CONFLICT, self._present.doubts.get(look, "the state could not be seen"))
        after = _left_as(kept)
        now, before = state_digest(self._seen[look]), state_digest(kept.before.seen)
        if after and not past.unsettled and self._changes(look, kept):
            now = (
                after  # What is called before this one changes what is seen here: it is looked at when its turn comes.
            )
        kind, why = _compared(past, now=now, after=after, before=before)
        if kind is not None:
            if kind in BLOCKS:
                self._left.add(look)  # who leaves this step leaves what lies under it
            return move(kind, why, now=now, after=after)
        if kept.outlives and any(outcome in {"unknown", ""} for _, outcome in past.tries):
            return move(MoveKind.UNSETTLED, "whether its undo happened is not known, and it may still")
        self._seen[look] = kept.before.seen
        return move(MoveKind.CALL, now=now, after=after)

    def _changes(self, look: str, kept: Kept) -> bool:
        """Whether an inverse call that comes before may change what a look finds, and that is not known from it."""
        return any(
            other != look and any(overlap(one, mine) for one in opens for mine in kept.opens)
            for other, opens in self._calls
        )


def after_of(kept: Kept, path: str) -> str:
    """The state that a step left, or was to leave where nobody saw it."""
    seen = () if kept.after is None else kept.after.files
    return next((one.state for one in seen if one.path == path), kept.expected.get(path, ""))


def _left_by(past: Past, kept: Kept, path: str, before: str) -> str:
    """The same; a look that still found the state before was taken before the effect."""
    after = after_of(kept, path)
    return kept.expected.get(path, "") if past.was_settled and after == before else after


def _left_as(kept: Kept) -> str:
    """The digest of what a look found that a step had left; empty where nobody looked."""
    return "" if kept.after is None or not kept.after.has_seen else state_digest(kept.after.seen)


def _compared(past: Past, *, now: str, after: str, before: str) -> tuple[MoveKind | None, str]:
    """What stands against putting `before` back, or makes it unnecessary; `None` where nothing does."""
    if now == before:
        if past.unsettled and not past.gone:
            return MoveKind.UNSETTLED, "it has not happened yet, and may still"
        return MoveKind.NOT_NEEDED, "it is as it was"
    if not after:
        return MoveKind.UNSETTLED, "what it left is not known"
    if now != after:
        if past.unsettled:
            return MoveKind.UNSETTLED, "whether it happened is not known, and something changed"
        return MoveKind.CONFLICT, "changed by something else since"
    if len(past.tries) >= TRIES:
        return MoveKind.CONFLICT, f"it was tried {len(past.tries)} times"
    return None, ""


def state_digest(value: Json) -> str:
    """The digest of a state that a look told, or of arguments."""
    return hashlib.sha256(canonical(value)).hexdigest()
