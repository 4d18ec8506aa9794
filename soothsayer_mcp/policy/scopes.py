"""A scope, the policy of one authority: its rules, labels and defaults."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.dues import LabelOwes, names_files
from soothsayer_mcp.policy.flow import Sink
from soothsayer_mcp.policy.history import mark_id
from soothsayer_mcp.policy.rules import History, Past, Rule, Term, TierRule, ToolPattern
from soothsayer_mcp.policy.sight import SUSPECT


class ScopeKind(StrEnum):
    """From highest to lowest. Project and run can only object, never permit."""

    ORG = "org"
    PROJECT = "project"
    USER = "user"
    RUN = "run"

    @property
    def may_permit(self) -> bool:
        """Whether an allow of this scope lets a call through."""
        return self in {ScopeKind.ORG, ScopeKind.USER}


class Cell(StrEnum):
    """Which default decides where no rule does."""

    READ = "read"
    OTHER = "other"
    CHECKED = "checked"


_UNDO_WORDS = ("none", "restore", "never")


def strictest_undo(said: Iterable[str]) -> str:
    """Of what several labels say of undoing, the word that promises least."""
    return max((word for word in said if word), key=_UNDO_WORDS.index, default="")


class Trust(StrEnum):
    """Who can write what a tool returns."""

    FIRST_PARTY = "first_party"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What the operator knows about some tools."""

    tools: tuple[ToolPattern, ...]
    excepts: tuple[ToolPattern, ...]
    does: frozenset[str] = frozenset()
    trust: Trust | None = None
    sinks: tuple[Sink, ...] = ()
    secret: tuple[str, ...] = ()
    """Arguments whose values are kept as a digest only."""
    cost_micro: int = 0
    """What each call costs, in millionths."""
    cost_args: tuple[str, ...] = ()
    """Arguments that say what a call costs."""
    once: tuple[str, ...] = ()
    """Arguments by which a repetition of a call is known."""
    polling_us: int = 0
    """How soon the same call may be repeated while nothing changes; 0 says nothing."""
    demands: LabelOwes | None = None

    def fits(self, server: str, tool: str) -> bool:
        """Whether the label is about this tool."""
        return any(pattern.fits(server, tool) for pattern in self.tools) and not any(
            pattern.fits(server, tool) for pattern in self.excepts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What the state of a definition says; `None` trusts it."""

    first: Effect | None = None
    """For a server with no pin at all; where it is not trusted, its tools are `new` and the stricter of both holds."""
    new: Effect | None = Effect.ASK
    changed: Effect | None = Effect.DENY
    shadowed: Effect | None = Effect.DENY

    def effect(self, pin: PinState) -> Effect | None:
        """What to say about a tool in this state."""
        match pin:
            case PinState.PINNED:
                return None
            case PinState.NEW:
                return strictest(effect for effect in (self.new, self.first) if effect is not None)
            case PinState.CHANGED:
                return self.changed
            case PinState.SHADOWED:
                return self.shadowed


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentLimits:
    """What holds of every call's arguments, before any rule."""

    undeclared: Effect = Effect.ASK
    no_schema: Effect = Effect.ASK
    max_bytes: int = 1_000_000
    max_depth: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """Methods that the routing table does not know."""

    passed: frozenset[str] = frozenset()
    unknown_pass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The policy of one authority; each decides alone."""

    kind: ScopeKind
    name: str
    mode: Mode
    defaults: Mapping[Cell, Effect | None]
    """`None` leaves it to the other scopes."""
    rules: tuple[Rule, ...] = ()
    labels: tuple[Label, ...] = ()
    terms: tuple[Term, ...] = ()
    tiers: tuple[TierRule, ...] = ()
    trusted: frozenset[str] = frozenset()
    """Servers whose `readOnlyHint: true` labels an unlabelled tool."""


def matching(scope: Scope) -> Iterable[Rule]:
    """The rules of a scope, and what its risk terms match by."""
    yield from scope.rules
    for term in scope.terms:
        yield term.matches
    for tier in scope.tiers:
        yield tier.matches


def looks_at_texts(scopes: Sequence[Scope]) -> tuple[bool, bool]:
    """Whether any rule asks what untrusted results read like, and what definitions do."""
    rules = [rule for scope in scopes for rule in matching(scope)]
    results = any(rule.suspect is not None or SUSPECT in rule.when for rule in rules)
    return results, any(rule.hidden_text is not None or rule.instructions is not None for rule in rules)


def strictest(effects: Iterable[Effect]) -> Effect | None:
    """The strictest of some effects; `None` for none."""
    return max(effects, key=lambda effect: effect.strictness, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBudget:
    """How many calls of some tools a run may make, counted together."""

    tools: ToolPattern
    calls: int

    @property
    def name(self) -> str:
        """The tools as the policy names them."""
        return f"{self.tools.server}.{self.tools.tool}"

    @property
    def mark(self) -> str:
        """Under which its calls are counted."""
        return mark_id("budget", self.name)


_ANY_TOOL = (ToolPattern(server="*", tool="*"),)


def naming_files(scopes: Iterable[Scope]) -> Iterable[str]:
    """The servers, as patterns, whose calls are said to write files, or to need what no write made too old."""
    for scope in scopes:
        for one in (*scope.rules, *scope.labels):
            if one.demands is not None and names_files(one.demands):
                yield from (pattern.server for pattern in one.tools or _ANY_TOOL)


def pasts(scope: Scope) -> Iterable[tuple[Past, History | None]]:
    """Every pattern for earlier steps that a scope's rules and terms name."""
    for rule in matching(scope):
        yield from ((past, None) for past in (*rule.after, *rule.unless_after))
        if rule.history is not None:
            yield rule.history.of, rule.history
