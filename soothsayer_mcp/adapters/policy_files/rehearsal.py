"""Plays the calls of a test against a policy as the proxy would, with a record in memory instead of the store."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from soothsayer_mcp.model.decision import Decision, Effect
from soothsayer_mcp.model.facts import Facts, Mark, Origin, Questions, Seen, Tally, TallyQuestion, ValueQuestion
from soothsayer_mcp.model.failure import FailureClass, Reason
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.model.run import Counters, Run
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.decide import decide, decide_message
from soothsayer_mcp.policy.explain import explain
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.scene import MESSAGE, scene_of_message
from soothsayer_mcp.policy.suite import Became, Case, Decided, SuiteResult, Verdict, compare, conclude
from soothsayer_mcp.run.count import admitted, ended, withheld
from soothsayer_mcp.run.reserve import refuse_over_cap


@dataclass(slots=True, kw_only=True)
class _Counted:
    """A step under one of its marks."""

    mark: Mark
    at_us: int
    became: Became


class Rehearsal:
    """One run, from its first step on."""

    def __init__(self, policy: Policy, run: Run, *, telling: bool) -> None:
        """Begin with nothing counted; `telling` gives each decision what every rule said."""
        self._policy = policy
        self._run = run
        self._telling = telling
        self._counted: list[_Counted] = []
        self._values: dict[str, frozenset[Origin]] = {}

    def propose(self, step: ProposedStep) -> Decided:
        """Decide a call on what was played before."""
        if step.tool is None:
            return self._message(step)
        facts = self._facts(step)
        if not self._telling:
            return Decided(step=step, decision=self._within(decide(self._policy, self._run, step, facts)))
        told = explain(self._policy, self._run, step, facts)
        said = {rule.id: rule.matched for rule in told.rules}
        return Decided(step=step, decision=self._within(told.decision), said=said)

    def _within(self, decision: Decision) -> Decision:
        """What is used up denies, as it does when a step is admitted."""
        caps = decision.charge.caps
        if decision.effect is not Effect.ALLOW or not caps:
            return decision
        spent = refuse_over_cap(decision.charge, {cap.question: self._tally(cap.question) for cap in caps})
        if spent is None:
            return decision
        return replace(decision, effect=Effect.DENY, reason=spent.reason, rules=(), obligations=())

    def _message(self, step: ProposedStep) -> Decided:
        """Decide a request that is no tool call, by what the run did before; it counts for nothing itself."""
        asked, policy = step.proposal, self._policy
        message = Message(
            server=asked.server,
            method=asked.tool.removeprefix(MESSAGE),
            params=asked.arguments,
            principal=step.principal,
            client=step.client,
            run=self._run,
            at_us=step.proposed_at_us,
        )
        facts = self._answers(policy.message_questions(message))
        decision = decide_message(policy, message, facts)
        scene = scene_of_message(message, facts)
        candidates = policy.message_candidates(message.server, message.method)
        found = [one for scope in candidates.scopes for one in scope.prepared]
        answers = {one.rule.id: one.answer(scene) for one in found}
        said = {rule: answer if isinstance(answer, bool) else None for rule, answer in answers.items()}
        return Decided(step=step, decision=decision, said=said)

    def play(self, decided: Decided, became: Became, result: Json) -> None:
        """Record what becomes of a decided call; only one that is allowed is sent."""
        if decided.step.tool is None:
            return
        if decided.decision.effect is Effect.ALLOW:
            self._send(decided.step, decided.decision, became, result)
        else:
            self._withhold(decided.step, decided.decision)

    def suppose(self, step: ProposedStep, became: Became, result: Json) -> None:
        """Record an earlier step as it is said to have been, whatever the policy says of it."""
        decision = decide(self._policy, self._run, step, self._facts(step))
        if became is Became.REFUSED:
            reason = decision.reason or Reason.RULE_DENIED
            self._withhold(step, replace(decision, effect=Effect.DENY, reason=reason))
        else:
            if decision.effect is Effect.ASK and decision.reads.targets is not None:
                # It was let through, so a person said yes.
                for value in decision.reads.targets(dict(step.proposal.arguments)):
                    self._values[value] = self._values.get(value, frozenset()) | {Origin.APPROVED}
            self._send(step, decision, became, result)

    def _send(self, step: ProposedStep, decision: Decision, became: Became, result: Json) -> None:
        charge = decision.charge
        self._count(step, charge.marks, became)
        counters = admitted(self._run.counters, step.cause, charge)
        if became is not Became.IN_FLIGHT:
            failure = None if became is Became.SUCCEEDED else FailureClass.TOOL_ERROR
            size = len(compact(result))
            counters = ended(counters, step.cause, charge, failure=failure, size=size, owes=became is Became.UNKNOWN)
        if became in {Became.SUCCEEDED, Became.FAILED}:
            counters = self._read(step, decision, became, _as_result(result), counters)
        self._counters(counters)

    def _read(
        self, step: ProposedStep, decision: Decision, became: Became, result: JsonObject, counters: Counters
    ) -> Counters:
        """What a result makes of its run: taint, and where its values stood."""
        reads = decision.reads
        if reads.keep is not None and not (reads.trusted and became is Became.FAILED):
            for value in reads.keep(result, dict(step.proposal.arguments)):
                self._values[value] = self._values.get(value, frozenset()) | {reads.origin}
        suspect = reads.signs is not None and reads.signs(result)
        counters = counters._replace(suspect_reads=counters.suspect_reads + suspect)
        return counters if reads.trusted else counters._replace(untrusted_reads=counters.untrusted_reads + 1)

    def _withhold(self, step: ProposedStep, decision: Decision) -> None:
        self._count(step, [mark for mark in decision.charge.marks if mark.denials], Became.REFUSED)
        reason = decision.reason or Reason.RULE_DENIED
        self._counters(withheld(self._run.counters, step.cause, reason, asked=decision.effect is Effect.ASK))

    def _count(self, step: ProposedStep, marks: Iterable[Mark], became: Became) -> None:
        self._counted += [_Counted(mark=mark, at_us=step.proposed_at_us, became=became) for mark in marks]

    def _counters(self, counters: Counters) -> None:
        self._run = replace(self._run, counters=counters, steps=self._run.steps + 1)

    def _facts(self, step: ProposedStep) -> Facts:
        return self._answers(self._policy.questions(step))

    def _answers(self, questions: Questions) -> Facts:
        return Facts(
            # No test has links on a disk: every path leads to itself.
            links={path: path for path in questions.links},
            tallies={question: self._tally(question) for question in questions.tallies},
            values={question: self._seen(question) for question in questions.values},
        )

    def _seen(self, question: ValueQuestion) -> Seen:
        return Seen(origins=self._values.get(question.value, frozenset()))

    def _tally(self, question: TallyQuestion) -> Tally:
        found = [
            one
            for one in self._counted
            if (one.mark.mark, one.mark.holder, one.mark.key) == (question.mark, question.holder, question.key)
            and (not one.mark.window_us or one.at_us >= question.since_us)
        ]
        sure = [one for one in found if one.mark.sure]
        sent = [one for one in sure if one.became is not Became.REFUSED]

        def count(*states: Became) -> int:
            return sum(one.became in states for one in sure)

        return Tally(
            succeeded=count(Became.SUCCEEDED),
            failed=count(Became.FAILED),
            open=count(Became.IN_FLIGHT, Became.UNKNOWN),
            doubtful=len(found) - len(sure),
            denied=count(Became.REFUSED),
            sum_micro=sum(one.mark.amount_micro or 0 for one in sent),
            odd=sum(one.mark.amount_micro is None for one in sent),
        )


def _as_result(said: Json) -> JsonObject:
    """What a test says of a result, as a tool would return it."""
    if isinstance(said, Mapping):
        return {"content": [], "structuredContent": dict(said)}
    text = said if isinstance(said, str) else compact(said).decode()
    return {"content": [{"type": "text", "text": text}]}


def rehearse(policy: Policy, run: Run, case: Case, *, telling: bool = False) -> Verdict:
    """Play one case and compare."""
    rehearsal = Rehearsal(policy, replace(run, intent=case.intent), telling=telling)
    for given in case.given:
        rehearsal.suppose(given.step, given.became, given.result)
    found: list[Decided] = []
    for turn in case.turns:
        decided = rehearsal.propose(turn.step)
        rehearsal.play(decided, turn.became, turn.result)
        found.append(decided)
    return compare(policy, case, found)


def run_suite(policy: Policy, run: Run, cases: Sequence[Case]) -> SuiteResult:
    """Play every case, each in a run of its own."""
    return conclude(policy, [rehearse(policy, run, case, telling=True) for case in cases])
