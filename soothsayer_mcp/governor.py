"""The sentence: what happens to every governed call, in order. Order lives here and nowhere else."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import anyio

from soothsayer_mcp.evidence.admit import outdated, overtaken
from soothsayer_mcp.evidence.approval import why_void
from soothsayer_mcp.evidence.judge import judge_answer, unchecked
from soothsayer_mcp.evidence.weigh import weigh
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.decision import Decision, Effect, Mode
from soothsayer_mcp.model.entry import Receipt
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.facts import NO_FACTS, Facts, Questions
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.outcome import Asked, Refused, Returned, Unknown
from soothsayer_mcp.model.run import Closing, NextStep, Run, RunState
from soothsayer_mcp.model.step import (
    AnsweredStep,
    ClosedStep,
    DecidedStep,
    ProposedStep,
    RecordedStep,
    SupportedStep,
    VerifiedStep,
    WithheldStep,
)
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.within import scope_questions
from soothsayer_mcp.ports import Admit, Call, Inspector, Look, PortError, Standing, Store, Tools
from soothsayer_mcp.redaction import shown
from soothsayer_mcp.run.allowance import budgets_of
from soothsayer_mcp.run.aside import set_aside
from soothsayer_mcp.run.budget import refuse_over_budget
from soothsayer_mcp.run.close import close, undoes
from soothsayer_mcp.run.duplicate import duplicate
from soothsayer_mcp.run.repeat import refuse_repeated
from soothsayer_mcp.run.reserve import refuse_over_cap, refuse_unless_open

RECORD_BOUND_S = 12.0
"""How long the record of an outcome may take after its caller was cancelled: the store's own bound and a little."""

SETTLE_BOUND_S = 30.0
SETTLE_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecorded:
    """A call that could not be put on record. Nothing was sent, unless its failure says `maybe`."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What the stages of the sentence made of a step that is neither recorded nor sent."""

    withheld: Refused | Asked | None
    """Why it would not be admitted."""
    verified: VerifiedStep
    """What it would be if it were, and its tool gave the answer at hand."""
    closing: Closing


class Governor:
    """Governs calls: propose, decide, evidence, record intent, forward, verify, record outcome, next step."""

    def __init__(
        self,
        *,
        policy: Callable[[], Policy],
        store: Store,
        tools: Tools,
        look: Look,
        inspector: Inspector,
        call_timeout_s: float,
    ) -> None:
        """Govern by the policy in force at each moment; `call_timeout_s` holds where no rule sets a smaller limit."""
        self._policy = policy
        self._store = store
        self._tools = tools
        self._look = look
        self._inspector = inspector
        self._call_timeout_s = call_timeout_s

    async def govern(self, step: ProposedStep, call: Call) -> ClosedStep | Unrecorded:
        """Take one call through the whole loop.

        Nothing is forwarded before its intent is durable, and nothing is answered before its outcome is. A failure of
        ours never allows; what is no `PortError` is raised, and the caller ends the step by `abandon`. When the caller
        is cancelled after the intent, the outcome is recorded first.
        """
        try:
            return await self._sentence(step, call)
        except PortError as error:
            return _unrecorded(error, call)

    async def rehearse(
        self, step: DecidedStep, call: Call, standing: Standing, answer: Returned, receipt: Receipt
    ) -> "Rehearsed":
        """Take a decided step through the stages of the sentence, but for record and forward: nothing is sent or kept.

        For the self-test, which decides what no policy would and has no tool act. Raises `PortError`.
        """
        supported = step.supported(await self._support(step, call))
        basis = self._basis(standing.run, step, standing.recall)
        withheld = self._admit(basis, call)(standing, supported)
        verified = await self._verified(supported.recorded(receipt).answered(answer), call)
        redacted = set_aside(verified.redacted(shown(basis.policy, verified)))
        closing = basis.close(standing.run, redacted, redacted.failure)
        return Rehearsed(withheld=withheld, verified=redacted, closing=closing)

    async def _sentence(self, step: ProposedStep, call: Call) -> ClosedStep:
        run = await self._store.read_run(step.run_id)
        basis = self._basis(run, step, self._store.recall)
        decided = step.decided(decide(basis.policy, run, step, basis.facts))
        supported = decided.supported(await self._support(decided, call))
        recorded = await self._store.record_intent(supported, self._admit(basis, call), basis.close)
        answered = await self._looked_at(await self._forward(recorded, call), call)
        verified = await self._verified(answered, call)
        redacted = verified.redacted(shown(basis.policy, verified))
        return await self._store.record_outcome(set_aside(redacted), basis.close)

    async def _support(self, step: DecidedStep, call: Call) -> Support:
        """What is held before the call, people last: nobody is asked about a call that would be refused anyway."""
        asks = step.decision.effect is Effect.ASK and call.ask is not None
        if not step.decision.dues.before or not (asks or step.decision.effect is Effect.ALLOW):
            return await call.ask(step) if asks and call.ask is not None else weigh(step)
        gathered = await self._inspector.gather(step, call)
        if gathered.gaps or not asks or call.ask is None:
            return gathered
        said = await call.ask(step)
        return replace(
            said,
            evidence=gathered.evidence,
            files=gathered.files,
            before=gathered.before,
            captured=gathered.captured,
            settling=gathered.settling,
        )

    async def _looked_at(self, step: AnsweredStep, call: Call) -> AnsweredStep:
        """How what may have to be undone stands now, whatever was answered, unless it never left."""
        if step.support.captured is None or not isinstance(step.outcome, Returned | Unknown):
            return step
        try:
            return step.looked_at(await self._inspector.look_after(step, call))
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(RECORD_BOUND_S, shield=True), suppress(PortError):
                await self._store.record_outcome(step.verified(unchecked(step, "Soothsayer ended meanwhile")), close)
            raise
        except Exception:  # noqa: BLE001 - what was not seen is not known: the undo will not trust it
            return step

    async def _verified(self, step: AnsweredStep, call: Call) -> VerifiedStep:
        """What the checks of an answer found; error answers owe none, nor does what was never sent."""
        if not step.decision.dues.after or not isinstance(step.outcome, Returned) or isinstance(step, WithheldStep):
            return step.verified(judge_answer(step))
        try:
            findings, files = await self._inspector.verify(step, call)
            return step.verified(findings, files)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(RECORD_BOUND_S, shield=True), suppress(PortError):
                left = step.verified(unchecked(step, "Soothsayer ended meanwhile"))
                await self._store.record_outcome(left, close)
            raise
        except Exception:  # noqa: BLE001 - a check that fails has found nothing out: the step is unchecked, never kept
            return step.verified(unchecked(step, "the checks failed inside Soothsayer"))

    async def settle(self, step: RecordedStep, call: Call, late: Returned) -> None:
        """Take an answer that came after its call had ended as unknown: its checks run, and it settles the step.

        It is never a second answer to the host. Raises `PortError` when it is not recorded.
        """
        checked = await self.checked(step, call, late)
        with anyio.fail_after(SETTLE_BOUND_S):
            while not await self._store.settle(checked):  # noqa: ASYNC110 - only while its end is being committed
                await anyio.sleep(SETTLE_AGAIN_S)

    async def checked(self, step: RecordedStep, call: Call, late: Returned) -> VerifiedStep:
        """A step with an answer that came late: its checks are made, and what its policy masks is masked."""
        verified = await self._verified(step.answered(late), call)
        return verified.redacted(shown(self._policy(), verified))

    async def settle_task(self, checked: VerifiedStep, *, told: bool) -> None:
        """Take the result of a task for the end of its step; `told` says that the agent reads it.

        Raises `PortError` when it is not recorded.
        """

        def closing(run: Run, step: SupportedStep, failure: Failure | None) -> Closing:
            policy = self._policy()
            if run.state is RunState.OPEN and undoes(checked):
                why = "policy has the step undone, and its result came by a task: a person has to undo it"
                return Closing(next_step=NextStep.STOP, run_state=RunState.PAUSED, why=why)
            return close(run, step, failure, budgets_of(run, policy.budgets), policy.next_rules)

        await self._store.settle(checked, told=told, close=closing)

    async def abandon(self, step: ProposedStep, call: Call) -> ClosedStep | Unrecorded:
        """End a step in which a fault of ours showed itself: refused if nothing was sent, unknown if something was."""
        try:
            if call.recorded is None:
                return await self._refuse(step, Failure(reason=Reason.INTERNAL_ERROR, summary=""))
            outcome: Unknown | Refused = Refused(failure=Failure(reason=Reason.INTERNAL_ERROR, summary=""))
            if call.sent:
                summary = "Soothsayer failed after the call was sent"
                outcome = Unknown(failure=Failure(reason=Reason.OUTCOME_LOST, summary=summary))
            return await self._store.record_outcome(call.recorded.answered(outcome).verified(()), close)
        except PortError as error:
            return _unrecorded(error, call)

    async def _refuse(self, step: ProposedStep, failure: Failure) -> ClosedStep:
        decision = Decision(
            effect=Effect.DENY,
            reason=failure.reason,
            rules=(),
            mode=Mode.ENFORCE,
            policy_digest=self._policy().digest,
        )
        decided = step.decided(decision)
        supported = decided.supported(weigh(decided))
        withheld = await self._store.record_intent(supported, lambda _standing, _step: Refused(failure=failure), close)
        if isinstance(withheld, RecordedStep):
            raise PortError(Reason.INTERNAL_ERROR, "", acted=Acted.NO)
        return await self._store.record_outcome(withheld.verified(()), close)

    def _basis(self, run: Run, step: ProposedStep, recall: Callable[[Questions], Facts]) -> "_Basis":
        policy = self._policy()
        questions = policy.questions(step)
        links = questions.links
        if run.scope is not None and step.tool is not None:
            place = policy.place_of(step.tool.server)
            links = (*links, *scope_questions(run.scope, step.proposal.arguments, place))
        facts = self._look(links) if links else NO_FACTS
        if questions.of_the_store:
            facts = replace(recall(questions), links=facts.links)
        counted = tuple(getattr(run.counters, name) for name in questions.counters)
        return _Basis(policy=policy, facts=facts, counted=counted)

    def _admit(self, basis: "_Basis", call: Call) -> Admit:
        def admit(standing: Standing, step: SupportedStep) -> Refused | Asked | None:
            for gap in step.support.gaps:
                return Refused(failure=gap)
            if step.support.asked is not None:
                return step.support.asked
            if call.withdrawn:
                return Refused(failure=Failure(reason=Reason.WITHDRAWN, summary=call.cancel_reason or "by the host"))
            lapsed = _lapsed(standing, step)
            if lapsed is not None:
                return Refused(failure=lapsed)
            if standing.twin is not None and step.decision.mode is not Mode.OBSERVE:
                return Refused(failure=duplicate(standing.twin))
            now = self._basis(standing.run, step, standing.recall)
            same = now.same_as(basis)
            again = step.decision if same else decide(now.policy, standing.run, step, now.facts)
            void = _unapproved(standing, step, again)
            if void is not None:
                return Refused(failure=void)
            kept = again.effect is step.decision.effect and again.obligations == step.decision.obligations
            if not kept or again.dues != step.decision.dues:
                what = "the policy" if now.policy.digest != basis.policy.digest else "what the decision rested on"
                return Refused(failure=Failure(reason=Reason.STATE_CHANGED, summary=what))
            spent = _spent(now.policy, standing, step)
            return None if spent is None else Refused(failure=spent)

        return admit

    async def _forward(self, step: RecordedStep | WithheldStep, call: Call) -> AnsweredStep:
        if not isinstance(step, RecordedStep):
            return step
        call.recorded = step
        try:
            return step.answered(await self._outcome(step, call))
        except anyio.get_cancelled_exc_class():
            # The program is ending and nobody waits for an answer; the record must still say how this call ended.
            with anyio.move_on_after(RECORD_BOUND_S, shield=True), suppress(PortError):
                await self._store.record_outcome(step.answered(_interrupted(step, call)).verified(()), close)
            raise

    async def _outcome(self, step: RecordedStep, call: Call) -> Returned | Unknown | Refused:
        timeout_s = self._call_timeout_s
        if step.decision.timeout_s is not None:
            timeout_s = min(timeout_s, step.decision.timeout_s)
        server, tool = step.proposal.server, step.proposal.tool
        try:
            with anyio.move_on_after(timeout_s):
                return await self._tools.forward(step, call)
        except PortError as error:
            return Refused(failure=error.failure) if error.acted is Acted.NO else Unknown(failure=error.failure)
        except Exception:  # noqa: BLE001 - the world is ugly here; whatever it does, a sent call is unknown, never an answer
            if not call.sent:
                return Refused(failure=Failure(reason=Reason.INTERNAL_ERROR, summary=""))
            summary = f"the call to {server} failed inside Soothsayer"
            return Unknown(failure=Failure(reason=Reason.CONNECTION_LOST, summary=summary))
        if not call.sent:
            summary = f"{server} took no call in {timeout_s:g} s"
            return Refused(failure=Failure(reason=Reason.SERVER_UNREACHABLE, summary=summary))
        summary = f"{server}.{tool} gave no answer in {timeout_s:g} s"
        return Unknown(failure=Failure(reason=Reason.CALL_TIMEOUT, summary=summary))


def _spent(policy: Policy, standing: Standing, step: SupportedStep) -> Failure | None:
    """Why what the step would use up is not there any more."""
    decision = step.decision
    if decision.mode is Mode.OBSERVE or step.cause is not Cause.AGENT:
        return None
    budgets = budgets_of(standing.run, policy.budgets)
    over = refuse_over_budget(standing.run.counters, decision.charge, budgets, standing.now_us)
    if over is not None:
        return over
    repeated = refuse_repeated(standing.repeat, decision.charge, standing.now_us)
    if repeated is not None:
        return repeated
    caps = decision.charge.caps
    if not caps:
        return None
    told = standing.recall(Questions(tallies=tuple(cap.question for cap in caps)))
    return refuse_over_cap(decision.charge, told.tallies)


def _lapsed(standing: Standing, step: SupportedStep) -> Failure | None:
    """Why the run, or the evidence that the step rests on, admits it no longer. A check of a run may outlast it."""
    outlasts = step.cause in {Cause.PROBE, Cause.UNDO}
    closed = None if outlasts else refuse_unless_open(standing.run, asks=step.cause is Cause.CONTROL)
    if closed is None and step.support.captured is not None:
        closed = overtaken(step, standing.held)
    if closed is not None or not step.support.evidence:
        return closed
    return outdated(step, standing.held, standing.now_us)


def _unapproved(standing: Standing, step: SupportedStep, decision: Decision) -> Failure | None:
    """Why a step that policy does not simply allow may not go; only a yes that still counts lets one through."""
    approval = step.support.approval
    if approval is not None:
        return why_void(approval, standing.ask, standing.grant, step, decision, standing.now_us)
    if step.decision.effect is Effect.ALLOW:
        return None
    return Failure(reason=Reason.INTERNAL_ERROR, summary="")


def _unrecorded(error: PortError, call: Call) -> Unrecorded:
    if call.sent and error.failure.acted is Acted.NO:
        # The port speaks of the record; the call is out.
        return Unrecorded(failure=Failure(reason=Reason.OUTCOME_LOST, summary=error.summary))
    return Unrecorded(failure=error.failure)


def _interrupted(step: RecordedStep, call: Call) -> Unknown | Refused:
    if call.sent:
        summary = f"Soothsayer ended before {step.proposal.server} answered"
        return Unknown(failure=Failure(reason=Reason.OUTCOME_LOST, summary=summary))
    return Refused(failure=Failure(reason=Reason.WITHDRAWN, summary="Soothsayer is ending"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Basis:
    """What a decision rested on."""

    policy: Policy
    facts: Facts
    counted: tuple[int, ...]
    """Those of the run's counters that the decision reads."""

    def close(self, run: Run, step: SupportedStep, failure: Failure | None) -> Closing:
        """Choose what follows, under the policy that decided."""
        return close(run, step, failure, budgets_of(run, self.policy.budgets), self.policy.next_rules)

    def same_as(self, other: "_Basis") -> bool:
        """Whether the decision would be the same for certain, so that it need not be made again."""
        return (
            (self.policy is other.policy or self.policy.digest == other.policy.digest)
            and self.counted == other.counted
            and self.facts == other.facts
        )
