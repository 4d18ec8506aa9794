"""Checked facts that the proxy holds, and what is missing of them."""

from dataclasses import dataclass
from enum import StrEnum

from soothsayer_mcp.model.ask import Approval
from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.outcome import Asked


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
