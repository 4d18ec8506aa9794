"""Tests of a policy as data: a call, and everything that its decision must be. What is not expected fails."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from soothsayer_mcp.model.decision import Decision, Effect
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.rules import Policy, scene_of


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
    would: Effect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call and what is expected of it."""

    name: str
    step: ProposedStep
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one case went."""

    case: Case
    decision: Decision
    differences: tuple[str, ...]
    """Expected against found, one each; empty when the case passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """How a suite went."""

    verdicts: tuple[Verdict, ...]
    uncovered: tuple[str, ...]
    """Rules of the policy's own whose matchers did not say both yes and no."""
    covered_percent: int

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The cases that did not go as expected."""
        return tuple(verdict for verdict in self.verdicts if verdict.differences)


def run_suite(policy: Policy, run: Run, cases: Sequence[Case]) -> SuiteResult:
    """Decide every case, compare, and tell which rules no case tried both ways."""
    verdicts = tuple(_judge(policy, run, case) for case in cases)
    own = [rule.id for scope in policy.scopes for rule in scope.rules if rule.id.startswith(f"{policy.name}/")]
    said = _said(policy, [case.step for case in cases])
    uncovered = tuple(rule for rule in own if said.get(rule) != frozenset({True, False}))
    percent = 100 if not own else 100 * (len(own) - len(uncovered)) // len(own)
    return SuiteResult(verdicts=verdicts, uncovered=uncovered, covered_percent=percent)


def _judge(policy: Policy, run: Run, case: Case) -> Verdict:
    decision = decide(policy, run, case.step, NO_FACTS)
    return Verdict(case=case, decision=decision, differences=tuple(_differences(policy, decision, case.expected)))


def _differences(policy: Policy, decision: Decision, expected: Expected) -> Iterable[str]:
    if decision.effect is not expected.effect:
        yield f"effect: expected {expected.effect}, found {decision.effect} by {', '.join(_ids(policy, decision))}"
    if not expected.whole:
        return
    found = tuple(_ids(policy, decision))
    if sorted(found) != sorted(expected.rules):
        yield f"rules: expected {_list(expected.rules)}, found {_list(found)}"
    obligations = tuple(sorted({one.kind.value for one in decision.obligations}))
    if obligations != tuple(sorted(expected.obligations)):
        yield f"obligations: expected {_list(expected.obligations)}, found {_list(obligations)}"
    if expected.reason is not None and decision.reason != expected.reason:
        yield f"reason: expected {expected.reason}, found {decision.reason}"
    if decision.would is not expected.would:
        yield f"would: expected {expected.would}, found {decision.would}"


def _ids(policy: Policy, decision: Decision) -> Iterable[str]:
    return (rule.id.removeprefix(f"{policy.name}/") for rule in decision.rules)


def _list(words: Sequence[str]) -> str:
    return f"[{', '.join(words)}]"


def _said(policy: Policy, steps: Sequence[ProposedStep]) -> Mapping[str, frozenset[bool]]:
    """For every rule, what its own matchers said over all calls; a doubt is neither yes nor no."""
    said: dict[str, frozenset[bool]] = {}
    for step in steps:
        if step.tool is None:
            continue
        scene = scene_of(step, NO_FACTS)
        for one in policy.candidates(step.tool).scopes:
            answers = {prepared.rule.id: prepared.answer(scene) for prepared in one.prepared}
            for rule in one.scope.rules:
                answer = answers.get(rule.id, False)
                if isinstance(answer, bool):
                    said[rule.id] = said.get(rule.id, frozenset()) | {answer}
    return said
