"""Tests of a policy as data: calls, and everything that their decisions must be. What is not expected fails."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum

from soothsayer_mcp.model.decision import Decision, Effect
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import Intent
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.rules import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a decision must be."""

    effect: Effect
    whole: bool = True
    """Whether the rest is compared too; not for the short `expect: deny`."""
    rules: tuple[str, ...] = ()
    """Ids of the winning effect's rules, or `default`; those of the policy itself without its name."""
    obligations: tuple[str, ...] = ()
    reason: str | None = None
    """Compared where it is given."""
    risk: int | None = None
    """The upper end of the sum; compared where it is given."""
    would: Effect | None = None
    masks: tuple[str, ...] | None = None
    """What the record of the call hides: detectors, expressions, or paths; compared where it is given."""


class Became(StrEnum):
    """What became of an earlier step."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A step before the test; it was let through, whatever the policy says of it, unless it was refused."""

    step: ProposedStep
    became: Became
    result: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One call of a test, what is expected of it, and what becomes of it when it is allowed."""

    step: ProposedStep
    expected: Expected
    became: Became = Became.SUCCEEDED
    result: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test: a run of its own."""

    name: str
    turns: tuple[Turn, ...]
    given: tuple[Given, ...] = ()
    intent: Intent | None = None
    effects: Mapping[Effect, int] = field(default_factory=dict[Effect, int])
    """For calls that are decided together: how many of each effect; then no turn is compared by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A call of a test as it was decided."""

    step: ProposedStep
    decision: Decision
    said: Mapping[str, bool | None] = field(default_factory=dict[str, bool | None])
    """What the matchers of each rule that can concern it said; `None` for a doubt, which is neither yes nor no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one case went."""

    case: Case
    decided: tuple[Decided, ...]
    differences: tuple[str, ...]
    """Expected against found, one each; empty when the case passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncovered:
    """A rule that the tests did not try both ways."""

    rule: str
    yes: bool
    """Whether it said yes in some test."""
    no: bool

    @property
    def lacks(self) -> str:
        """What is missing."""
        return "never tried" if not (self.yes or self.no) else "never said yes" if not self.yes else "never said no"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """How a suite went."""

    verdicts: tuple[Verdict, ...]
    uncovered: tuple[Uncovered, ...]
    """Rules of the policy's own whose matchers did not say both yes and no; only yes, where there are none."""
    rules: int
    """How many rules of its own there are."""

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The cases that did not go as expected."""
        return tuple(verdict for verdict in self.verdicts if verdict.differences)

    @property
    def covered_percent(self) -> int:
        """How much of the policy's own rules was tried both ways, rounded down."""
        return 100 if not self.rules else 100 * (self.rules - len(self.uncovered)) // self.rules


def conclude(policy: Policy, verdicts: Sequence[Verdict]) -> SuiteResult:
    """Tell which rules no case tried both ways."""
    own = own_rules(policy)
    said = _said(policy, [decided for verdict in verdicts for decided in verdict.decided])
    always = {rule.id for scope in policy.scopes for rule in scope.rules if _matches_all(rule)}
    uncovered = tuple(
        Uncovered(rule=rule, yes=True in said.get(rule, ()), no=False in said.get(rule, ()))
        for rule in own
        if not said.get(rule, frozenset()) >= ({True} if rule in always else {True, False})
    )
    return SuiteResult(verdicts=tuple(verdicts), uncovered=uncovered, rules=len(own))


def _matches_all(rule: Rule) -> bool:
    """Whether a rule has no matcher, and so never says no."""
    bare = replace(
        rule, id="", text="", effect=None, observe=False, hard=False, limit=None, redact=(), demands=None, asks=None
    )
    return bare == Rule(id="", text="", effect=None)


def own_rules(policy: Policy) -> list[str]:
    """The rules of the policies that were named; those that they use count in their own suites."""
    names = set(policy.name.split("+"))
    return [rule.id for scope in policy.scopes for rule in scope.rules if rule.id.partition("/")[0] in names]


def compare(policy: Policy, case: Case, decided: Sequence[Decided]) -> Verdict:
    """Compare what was decided with what was expected."""
    if case.effects:
        found = {effect: sum(one.decision.effect is effect for one in decided) for effect in Effect}
        wrong = [
            f"effects: expected {case.effects.get(effect, 0)} {effect}, found {count}"
            for effect, count in found.items()
            if count != case.effects.get(effect, 0)
        ]
        return Verdict(case=case, decided=tuple(decided), differences=tuple(wrong))
    differences: list[str] = []
    for number, (turn, one) in enumerate(zip(case.turns, decided, strict=True), 1):
        which = f"call {number}: " if len(case.turns) > 1 else ""
        differences += [which + text for text in _differences(policy, one.decision, turn.expected)]
    return Verdict(case=case, decided=tuple(decided), differences=tuple(differences))


def _differences(policy: Policy, decision: Decision, expected: Expected) -> Iterable[str]:
    if decision.effect is not expected.effect:
        by = ", ".join(_ids(policy, decision)) or decision.reason or "default"
        yield f"effect: expected {expected.effect}, found {decision.effect} by {by}"
    if not expected.whole:
        return
    found = tuple(_ids(policy, decision))
    wanted = tuple(_short(policy, rule) for rule in expected.rules)
    if sorted(found) != sorted(wanted):
        yield f"rules: expected {_list(wanted)}, found {_list(found)}"
    obligations = tuple(sorted({one.kind.value for one in decision.obligations}))
    if obligations != tuple(sorted(expected.obligations)):
        yield f"obligations: expected {_list(expected.obligations)}, found {_list(obligations)}"
    if expected.reason is not None and decision.reason != expected.reason:
        yield f"reason: expected {expected.reason}, found {decision.reason}"
    risk = 0 if decision.risk is None else decision.risk.high
    if expected.risk is not None and risk != expected.risk:
        yield f"risk: expected {expected.risk}, found {risk}"
    if decision.would is not expected.would:
        yield f"would: expected {expected.would}, found {decision.would}"
    if expected.masks is not None:
        masks = tuple(sorted({word for spec in decision.masks for word in _hidden(spec)}))
        if masks != tuple(sorted(expected.masks)):
            yield f"masks: expected {_list(expected.masks)}, found {_list(masks)}"


def _hidden(spec: Mapping[str, Json]) -> Iterable[str]:
    """What one mask looks for; where it looks, when it takes all that stands there."""
    for key in ("find", "matches") if "find" in spec or "matches" in spec else ("at",):
        held = spec.get(key)
        yield from (str(word) for word in (held if isinstance(held, list) else ()))


def _ids(policy: Policy, decision: Decision) -> Iterable[str]:
    return (_short(policy, rule.id) for rule in decision.rules)


def _short(policy: Policy, rule: str) -> str:
    """An id without the name of the policy under test."""
    own = tuple(f"{name}/" for name in policy.name.split("+"))
    return rule.partition("/")[2] if rule.startswith(own) else rule


def _list(words: Sequence[str]) -> str:
    return f"[{', '.join(words)}]"


def _said(policy: Policy, all_decided: Sequence[Decided]) -> Mapping[str, frozenset[bool]]:
    """For every rule, what its own matchers said over all calls."""
    said: dict[str, frozenset[bool]] = {}
    for decided in all_decided:
        for scope in policy.scopes:
            for rule in scope.rules:
                answer = decided.said.get(rule.id, False)
                if answer is not None:
                    said[rule.id] = said.get(rule.id, frozenset()) | {answer}
    return said
