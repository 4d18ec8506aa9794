"""What a decision knows beside the call, looked up before it so that deciding stays pure: links, earlier steps."""

from collections.abc import Callable, Mapping
from dataclasses import field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.value import dataclass


class TallyQuestion(NamedTuple):
    """How many steps bear a mark, what became of them, and what their amounts add up to."""

    mark: str
    holder: str
    """Whose steps count: a run, a principal, a server or a tool."""
    key: str = ""
    """The values that tie those steps to this call; empty when nothing does."""
    since_us: int = 0
    """Steps from this moment on; 0 for all."""


class Tally(NamedTuple):
    """The answer to a `TallyQuestion`."""

    succeeded: int = 0
    failed: int = 0
    open: int = 0
    """In flight, or with an outcome that is not known."""
    doubtful: int = 0
    """Steps of which it is not known whether they bear the mark."""
    denied: int = 0
    """Refused; counted where the mark asks for refusals."""
    sum_micro: int = 0
    """Millionths, over all that were sent."""
    odd: int = 0
    """Steps that were sent and whose amount is no number."""

    @property
    def sent(self) -> int:
        """How many were certainly sent, whatever became of them."""
        return self.succeeded + self.failed + self.open


class Origin(StrEnum):
    """Where a value stood before."""

    INTENT = "intent"
    """In the purpose of the run, as a person or a host declared it."""
    FIRST_PARTY = "first_party"
    """In a result of a tool that is labelled so."""
    APPROVED = "approved"
    """In a target of a call of this run that a person said yes to."""
    UNTRUSTED = "untrusted"
    """In a result of any other tool."""


class ValueQuestion(NamedTuple):
    """Whether a run has met a value, and where."""

    run: RunId
    value: str
    """In the form in which it is compared."""


class Seen(NamedTuple):
    """The answer to a `ValueQuestion`."""

    origins: frozenset[Origin] = frozenset()
    missed: frozenset[Origin] = frozenset()
    """Of what came from there not everything was kept: that the value is not found says nothing."""


Keep: TypeAlias = Callable[[JsonObject, JsonObject], set[str]]
"""Result and arguments of a call -> the values to be remembered, in the forms in which they are compared."""

Signs: TypeAlias = Callable[[JsonObject], bool]
"""A result of a call -> whether it hides something, or reads like an instruction to a model."""

Targets: TypeAlias = Callable[[JsonObject], set[str]]
"""Arguments of a call -> where it goes to, in the forms in which that is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What the result of a step makes of its run."""

    trusted: bool = False
    """Whether the tool is labelled `first_party`; any other result taints the run."""
    keep: Keep | None = field(default=None, compare=False)
    """`None` where no rule asks where a value came from."""
    targets: Targets | None = field(default=None, compare=False)
    """What a person's yes approves of; `None` where no rule asks for that."""
    signs: Signs | None = field(default=None, compare=False)
    """`None` where no rule asks what untrusted results read like."""

    @property
    def origin(self) -> Origin:
        """What the result is an origin of."""
        return Origin.FIRST_PARTY if self.trusted else Origin.UNTRUSTED


UNTRUSTED_READS = Reads()


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What has to be known before one step is decided. Mostly nothing."""

    links: tuple[str, ...] = ()
    """Paths whose links are looked up."""
    tallies: tuple[TallyQuestion, ...] = ()
    values: tuple[ValueQuestion, ...] = ()
    counters: tuple[str, ...] = ()
    """Names of the run's counters that the decision reads."""

    @property
    def of_the_store(self) -> bool:
        """Whether the store has to be asked."""
        return bool(self.tallies or self.values)


NO_QUESTIONS = Questions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts that the candidate rules of one step need. What is absent is not known, and what is not known tightens."""

    links: Mapping[str, str] = field(default_factory=dict[str, str])
    """Absolute path -> the path it leads to through links, resolved up to the nearest existing parent."""
    tallies: Mapping[TallyQuestion, Tally] = field(default_factory=dict[TallyQuestion, Tally])
    values: Mapping[ValueQuestion, Seen] = field(default_factory=dict[ValueQuestion, Seen])


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What an admitted step is counted under, so that later decisions find it without a search."""

    mark: str
    holder: str
    key: str = ""
    window_us: int = 0
    """How long it is of interest; 0 for as long as its holder."""
    sure: bool = True
    """Whether the step certainly fits; what fits in doubt stays in doubt."""
    amount_micro: int | None = 0
    """`None` when its amount is no number."""
    denials: bool = False
    """Whether it is counted when refused too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A figure that the steps under one mark may not pass."""

    question: TallyQuestion
    most: int
    words: str
    """What is used up, as the agent reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What an admitted step costs its run, fixed by policy and arguments before it is sent."""

    write: bool = False
    """Whether the tool is not labelled as one that only reads."""
    cost_micro: int | None = 0
    """`None` when policy gives it a cost that the arguments do not hold as a number."""
    bytes_most: int | None = None
    """The most bytes that its answer may have; `None` without a limit."""
    polling_us: int = 0
    """How soon the same call may be repeated although nothing has changed; 0 says nothing about it."""
    repeats_most: int | None = None
    """How often the same call may get the same answer while nothing changes; `None` compares no answers."""
    marks: tuple[Mark, ...] = ()
    caps: tuple[Cap, ...] = ()
    once: tuple[str, ...] = ()
    """Digests of what only one call may have: with the same one it is a repetition."""


NO_CHARGE = Charge()


def holder_of_run(run: RunId) -> str:
    """The steps of one run."""
    return f"run:{run}"
