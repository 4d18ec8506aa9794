"""What policy answered to a proposal, and why."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from soothsayer_mcp.model.ask import AskTerms
from soothsayer_mcp.model.dues import NOTHING_DUE, Dues
from soothsayer_mcp.model.facts import NO_CHARGE, UNTRUSTED_READS, Charge, Reads
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.following import OnFailure
from soothsayer_mcp.model.json import Digest, Json
from soothsayer_mcp.model.value import dataclass


class Effect(StrEnum):
    """What a rule, and a decision, says. Nothing else is ever called an effect."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        """0 for allow, 1 for ask, 2 for deny."""
        return _STRICTNESS[self]


_STRICTNESS = {Effect.ALLOW: 0, Effect.ASK: 1, Effect.DENY: 2}


class Mode(StrEnum):
    """Whether a decision binds or is only written down."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class ObligationKind(StrEnum):
    """What an allowed step can owe."""

    REQUIRE = "require"
    VERIFY = "verify"
    CAPTURE = "capture"
    UNDO = "undo"
    LIMIT = "limit"
    REDACT = "redact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """One thing that an allowed step owes, and the rule that says so."""

    kind: ObligationKind
    spec: Mapping[str, Json]
    rule: str
    observed: bool = False
    """Only recorded: the rule, or its scope, observes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleMatch:
    """A rule that matched, or that could not be evaluated and therefore counts as matched."""

    id: str
    """`policy/rule`, or a built-in such as `pins/changed`, or `default`."""
    effect: Effect
    text: str
    """The rule's own reason, for people and models."""
    unknown: str = ""
    """Why it could not be evaluated; empty when it matched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskTerm:
    """One reason why a call is risky, and what it adds."""

    add: int
    because: str
    unknown: str = ""
    """Why nobody can tell whether it holds; empty when it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """The sum of the risk terms that match a call, from 0 to 100; a range while a term is unknown."""

    low: int
    high: int
    """What is shown: an unknown term counts as if it held."""
    terms: tuple[RiskTerm, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeResults:
    """From what size on a result is stored instead of shown, and how much of it is shown."""

    over_bytes: int
    keep_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What policy says of one proposal."""

    effect: Effect
    """What holds: in observe mode `allow` even where `would` says otherwise."""
    reason: Reason | None
    """Why it is not an allow; `None` for an allow."""
    rules: tuple[RuleMatch, ...]
    """The rules of the winning effect; in observe mode those behind `would`."""
    mode: Mode
    policy_digest: Digest
    would: Effect | None = None
    """In observe mode, the effect that enforcing would have had; else `None`."""
    obligations: tuple[Obligation, ...] = ()
    does: tuple[str, ...] = ()
    """The labels in force: what the operator says the tool does; `unlabelled` when nothing is said."""
    timeout_s: float | None = None
    """The smallest `limit: {timeout}` of all matching rules; `None` when there is none."""
    risk: Risk | None = None
    """Over the terms of all scopes; `None` where no term can concern the tool."""
    asks: AskTerms | None = None
    """What the answer of a person has to be, where the effect is `ask`; `None` demands nothing special."""
    masks: tuple[Mapping[str, Json], ...] = ()
    """What is masked in the record of this step, whatever the effect: `redact`s `in: trace` and secret arguments."""
    context: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """What the decision read beside the call itself, for computing it again."""
    tier: str = ""
    """The strongest model tier that matches, as a hint for what follows; empty for none."""
    reads: Reads = UNTRUSTED_READS
    """What its result makes of the run."""
    charge: Charge = NO_CHARGE
    """What the step counts for once it is admitted."""
    dues: Dues = NOTHING_DUE
    """What it owes before the call and after it, and what it may write to."""
    on_failure: tuple[Mapping[str, OnFailure], ...] = ()
    """What the matching rules say of its failing, a table each: failure class, or `class/reason` -> what is done."""
    large: LargeResults | None = None
    """The strictest `large_results` of all matching rules; `None` when there is none."""
