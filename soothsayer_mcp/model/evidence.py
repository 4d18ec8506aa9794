"""Checked facts that the proxy holds, and what is missing of them."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from soothsayer_mcp.model.ask import Approval
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.outcome import Asked
from soothsayer_mcp.model.settling import Settling
from soothsayer_mcp.model.undo import Captured
from soothsayer_mcp.model.value import dataclass


class Level(StrEnum):
    """How much a fact is worth. The agent's own words are E0 and never become evidence."""

    E1 = "E1"
    """The server that did it, in its structured result."""
    E2 = "E2"
    """Another tool than the one called."""
    E3 = "E3"
    """The proxy itself."""
    E4 = "E4"
    """A person, bound to the exact arguments."""
    E5 = "E5"
    """A signature by a key from outside the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One checked fact, as stored; whether it counts is decided anew at each use."""

    id: str
    kind: str
    level: Level
    subject: str
    source: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Whence it is: a step, a path, a tool, an address, a key."""
    began: int = 0
    """Position of the store when looking began; a later write makes it stale."""
    at_us: int = 0
    expires_us: int | None = None
    spend: str = ""
    """The key under which it is used up by the intent that cites it; empty when it may serve again."""
    newer_than: tuple[str, ...] = ()
    """Subjects no write to which may have ended since, or be under way."""
    made_by: tuple[RunId, int] | None = None
    """The step it is about, whose own writes do not count."""
    pattern: str = ""
    """Under which that step has to be the latest still."""
    across: bool = False
    """Whether the latest of all runs of the same principal in the same workspace is meant, and not of its own alone."""
    title: str = ""
    """What it shows, in the words of a refusal."""
    do: str = ""
    """What would show it anew."""
    root: str = ""
    """The folder that files are named in, in a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What is known before a call, and each requirement that is not met."""

    evidence: tuple[Evidence, ...] = ()
    gaps: tuple[Failure, ...] = ()
    """Why the step may not go on; the first one names the failure."""
    approval: Approval | None = None
    """A person's yes, to be spent with the intent."""
    asked: Asked | None = None
    """The question that a person has yet to answer; the step ends with it."""
    ask: str = ""
    """The question that was put about this step, whatever became of it."""
    newly_asked: bool = False
    """Whether that question was put for this step, so that it counts as an ask."""
    continues: str = ""
    """The earlier step (`RUN.NO`) whose question is taken up here."""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Glob -> digest of the files it means, before the call."""
    before: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """What checks after the call compare with: key of the check -> what was seen."""
    captured: Captured | None = None
    """What an undo of the call would need; `None` where nothing is kept."""
    settling: Settling | None = None
    """What tells whether the call took effect if its outcome is not known; `None` where nothing is to be asked."""
