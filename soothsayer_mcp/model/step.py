"""The governed step. Its type says how far it has come; nobody but this file constructs the later types.

`Tools.forward` takes a `RecordedStep`: forwarding before recording, although refused, or twice does not type-check.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from functools import cached_property
from typing import Self, TypeVar

from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, RunId, StepId, ToolDefinition
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.dues import NOTHING_DUE, Dues
from soothsayer_mcp.model.entry import Receipt
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding, told, told_undone
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.outcome import Aside, Asked, Outcome, Refused, Returned, Shown, Unknown
from soothsayer_mcp.model.run import NextStep
from soothsayer_mcp.model.undo import Captured
from soothsayer_mcp.model.value import dataclass

NO_FILES: Mapping[str, str] = {}

_Later = TypeVar("_Later", bound="ProposedStep")


@dataclass(frozen=True, kw_only=True)
class ProposedStep:
    """A call, read and attributed; what is wrong with it travels along as flaws and is denied by `decide`."""

    id: StepId
    run_id: RunId
    cause: Cause
    principal: Principal
    client: Client
    tool: ToolDefinition | None
    """`None` when no server offers it; then there is a flaw that says so."""
    proposal: Proposal
    flaws: tuple[Failure, ...]
    proposed_at_us: int
    """Microseconds since 1970, UTC."""
    began_ns: int
    """Monotonic, for durations only."""
    continues: str = ""
    """The step (`RUN.NO`) whose question this call answers; empty for a fresh proposal."""
    of_step: str = ""
    """The step (`RUN.NO`) that this call undoes; empty for all others."""
    owes: Dues = NOTHING_DUE
    """What a call that undoes another owes, as that one declared it."""
    names: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """What the checks of a call that undoes another may name: values of that other one."""

    def decided(self, decision: Decision) -> "DecidedStep":
        """Learn what policy says."""
        return _learn(DecidedStep, self, decision=decision)


@dataclass(frozen=True, kw_only=True)
class DecidedStep(ProposedStep):
    """A step that policy has answered."""

    decision: Decision

    def supported(self, support: Support) -> "SupportedStep":
        """Learn which evidence is held and what is missing."""
        return _learn(SupportedStep, self, support=support)


@dataclass(frozen=True, kw_only=True)
class SupportedStep(DecidedStep):
    """A step with all that is known before anything is sent."""

    support: Support

    def recorded(self, intent: Receipt) -> "RecordedStep":
        """Learn that the intent is durable: it may be forwarded."""
        return _learn(RecordedStep, self, intent=intent)

    def withheld(self, intent: Receipt, outcome: Refused | Asked) -> "WithheldStep":
        """Learn that the refusal is durable: it may not be forwarded."""
        return _learn(WithheldStep, self, intent=intent, outcome=outcome)


@dataclass(frozen=True, kw_only=True)
class RecordedStep(SupportedStep):
    """A step whose intent is durable. The only type that may be forwarded."""

    intent: Receipt

    def answered(self, outcome: Returned | Unknown | Refused) -> "AnsweredStep":
        """Learn how the forward ended."""
        return _learn(AnsweredStep, self, outcome=outcome)


@dataclass(frozen=True, kw_only=True)
class AnsweredStep(SupportedStep):
    """A step whose forward is over, or that was never to be forwarded."""

    intent: Receipt
    outcome: Outcome
    after: Captured | None = None
    """How what may have to be undone stood when the forward was over."""

    def verified(self, findings: tuple[Finding, ...], files: Mapping[str, str] = NO_FILES) -> "VerifiedStep":
        """Learn what the checks found."""
        return _learn(VerifiedStep, self, findings=findings, files=files)

    def looked_at(self, after: Captured | None) -> Self:
        """Learn how things stood when the forward was over."""
        return self if after is None else _learn(type(self), self, after=after)


@dataclass(frozen=True, kw_only=True)
class WithheldStep(AnsweredStep):
    """A step that was refused or asked about, durably, in one commit. Its outcome is `Refused` or `Asked`."""


@dataclass(frozen=True, kw_only=True)
class VerifiedStep(AnsweredStep):
    """A step whose checks are done."""

    findings: tuple[Finding, ...]
    shown: Shown | None = None
    """What the host may read of the answer; `None` where policy masks nothing of it."""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Glob -> digest of the files it means, after the call, for checks of later steps."""
    set_aside: bool = False
    """Whether its result is to be stored whole and shown in part."""

    def redacted(self, shown: Shown | None) -> Self:
        """Learn what the host may read of the answer."""
        if shown is None:
            return self
        made = _learn(type(self), self, shown=shown)
        # Whether it failed may depend on it.
        made.__dict__.pop("failure", None)
        return made

    def aside(self) -> Self:
        """Learn that its result is to be stored whole and shown in part."""
        return _learn(type(self), self, set_aside=True)

    @cached_property
    def failure(self) -> Failure | None:
        """Why the step failed: the first stage that did. `None` when it succeeded."""
        match self.outcome:
            case Refused(failure=failure) | Asked(failure=failure) | Unknown(failure=failure):
                return failure
            case Returned() as returned:
                if self.shown is not None and self.shown.raw is None:
                    return Failure(reason=Reason.NOT_MASKED, summary=self.shown.why)
                return _returned_failure(self, returned)

    @property
    def acted(self) -> Acted:
        """Whether the tool had its effect: `yes` for a success, `maybe` while a task goes on."""
        failure = self.failure
        if failure is not None:
            return failure.acted
        return Acted.MAYBE if isinstance(self.outcome, Returned) and self.outcome.task else Acted.YES

    def closed(self, closing: Receipt, next_step: NextStep, why: str = "", stored: Aside | None = None) -> "ClosedStep":
        """Learn that the outcome is durable: it may be answered."""
        return _learn(ClosedStep, self, closing=closing, next_step=next_step, why=why, stored=stored)


@dataclass(frozen=True, kw_only=True)
class ClosedStep(VerifiedStep):
    """A step whose outcome is durable."""

    closing: Receipt
    next_step: NextStep
    why: str = ""
    """Why the next step is not `continue`, or what the agent should know before it goes on; mostly empty."""
    stored: Aside | None = None
    """Its result as it is stored; `None` where the agent is given all of it, or none of it."""

    def undone(self, next_step: NextStep, why: str, *, back: bool = False) -> "ClosedStep":
        """Learn what follows now that it was tried to undo it; `back` where things are as they were."""
        made = _learn(ClosedStep, self, next_step=next_step, why=why)
        failure = self.failure
        if back and failure is not None and failure.reason is Reason.CHECK_BROKEN:
            # A cached property: what was worked out is told otherwise from here on.
            lines = told_undone(shown=not self.decision.dues.withhold_broken)
            made.__dict__["failure"] = replace(failure, lines=lines)
        return made


def _learn(later: type[_Later], step: ProposedStep, **learned: object) -> _Later:
    """Make the later step out of the earlier one and what was learned.

    The members are handed on as one dictionary: naming each of them again in six constructors costs 15 us a call.
    """
    made = object.__new__(later)
    made.__dict__.update(step.__dict__, **learned)
    return made


def _returned_failure(step: VerifiedStep, returned: Returned) -> Failure | None:
    findings = step.findings
    for finding in findings:
        if finding.reason is Reason.RESULT_TOO_BIG:  # whatever it says, too much is not shown
            return Failure(reason=finding.reason, summary=finding.detail)
    if returned.error is not None:
        return Failure(reason=Reason.PROTOCOL_ERROR, summary="")
    if returned.result is None:
        return Failure(reason=Reason.ANSWER_UNREADABLE, summary="its answer is no result")
    if returned.is_error:
        return Failure(reason=Reason.TOOL_FAILED, summary="")
    for wanted in (Answer.BROKEN, Answer.UNKNOWN):
        for finding in findings:
            if finding.answer is wanted and finding.reason is not None:
                return _check_failure(step, finding, finding.reason)
    return None


def _check_failure(step: VerifiedStep, finding: Finding, reason: Reason) -> Failure:
    dues = step.decision.dues
    shown = not (dues.withhold_broken if finding.answer is Answer.BROKEN else dues.withhold_unknown)
    lines = told(finding, f"{step.proposal.server}.{step.proposal.tool}", shown=shown)
    # What was looked at says more than the name of the check, where it is told.
    summary = finding.detail if finding.detail and finding.subject else f"{finding.check} {finding.detail}".strip()
    return Failure(reason=reason, summary=summary, lines=lines)
