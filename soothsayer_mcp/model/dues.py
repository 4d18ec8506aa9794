"""What an admitted step owes beside limits: fixed with the decision, from policy and arguments, never from evidence."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.settlement import SettleTerms
from soothsayer_mcp.model.undo import UndoTerms
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to be shown, before a call or after it."""

    kind: str
    """`step`, `schema`, `artifact`, ..., or `any`."""
    spec: Mapping[str, Json]
    """What stands below the kind, as policy says it."""
    rule: str
    root: str = ""
    """What relative paths are relative to; empty where the server's files are not on this machine."""
    newer_than: tuple[str, ...] = ()
    """Subjects: a write to one of them makes it stale."""
    within: tuple[str, ...] = ()
    """Subjects that may change (`diff`)."""
    pattern: str = ""
    """Under which the steps that may serve are found (`step`)."""
    one_of: tuple["Item", ...] = ()
    """For `any`: one is enough."""


class Sighting(NamedTuple):
    """A step is one that an item somewhere in the policy asks for; later ones find it by the pattern."""

    pattern: str
    sure: bool = True
    """Whether it certainly is; what may be one counts as a later one and never as a pass."""
    results: tuple[str, ...] = ()
    """Paths into its result whose values are kept as digests."""
    unchanged: tuple[str, ...] = ()
    """Globs of files whose digest is taken before and after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dues:
    """What one step owes."""

    require: tuple[Item, ...] = ()
    verify: tuple[Item, ...] = ()
    ok_when: tuple[str, ...] = ()
    """Conditions without which a result is no success."""
    opens: tuple[str, ...] = ()
    """Subjects that it may write to, from its intent to its end."""
    sightings: tuple[Sighting, ...] = ()
    withhold_broken: bool = True
    withhold_unknown: bool = False
    undo: UndoTerms | None = None
    """How it is undone; `None` where nobody says anything of that."""
    settle: SettleTerms | None = None
    """How it is settled where its outcome is not known; `None` where only a late answer or a person can."""

    @property
    def before(self) -> bool:
        """Whether anything has to be looked at before the call."""
        return (
            bool(self.require)
            or self.settle is not None
            or (self.undo is not None and self.undo.keeps)
            or any(sighting.unchanged for sighting in self.sightings)
            or any(item.kind in LOOK_BEFORE or "changed" in item.spec for item in self.verify)
        )

    @property
    def after(self) -> bool:
        """Whether anything has to be looked at after it."""
        return bool(self.verify or self.ok_when or self.sightings)


LOOK_BEFORE = frozenset({"count", "diff"})
"""Checks after a call that compare with a look before it."""

NOTHING_DUE = Dues()


class Seen(NamedTuple):
    """The latest step that fits a pattern."""

    run: RunId
    no: int
    began: int
    """Position of its intent."""
    sure: bool
    at_us: int
    ended: bool
    succeeded: bool
    level: str
    """The highest among its kept checks."""
    why: str
    """Its failure and reason; empty when it succeeded."""
    results: Mapping[str, str]
    """Path -> keyed digest of the value."""
    before: Mapping[str, str]
    after: Mapping[str, str]
    """Glob -> digest of the files."""
    key: bytes
    """What the digests of results are keyed with."""
    policy: str = ""
    """The digest of the policy that decided it; told where steps of other runs are looked for."""

    @property
    def step(self) -> str:
        """As people name it."""
        return f"{self.run[:4]}.{self.no}"


class LastWrite(NamedTuple):
    """The write to a subject that ended last, or one that has not ended."""

    ended: int = -1
    """Its position; -1 when there was none."""
    open: bool = False
    """Whether a write is in flight or its outcome not known."""
    subject: str = ""
    step: str = ""


class Held(Protocol):
    """What the record holds that evidence rests on, as of one moment."""

    def position(self) -> int:
        """Where the record ends: what is written later stands beyond it."""
        ...

    def seen(self, run: RunId, pattern: str, *, across: bool = False) -> Seen | None:
        """The latest step of a run that fits a pattern; `across` all runs of its principal in its workspace."""
        ...

    def last_write(self, subject: str, *, but: tuple[RunId, int] | None) -> LastWrite:
        """The write to a subject that ended last, in any run; one that is open goes first. `but` leaves a step out."""
        ...

    def in_flight(self, subject: str, *, but: tuple[RunId, int] | None = None) -> str:
        """A step that may be writing to a subject right now, if there is one; not one that may write anything."""
        ...

    def spent(self, key: str) -> bool:
        """Whether an intent has used this up."""
        ...
