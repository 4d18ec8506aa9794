"""What a decided step lacks before it may be recorded as an intent."""

from soothsayer_mcp.model.decision import Decision, Effect
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.step import DecidedStep

_ALLOWED = Support()


def weigh(step: DecidedStep) -> Support:
    """Turn a decision that is no allow into the gap that withholds the step."""
    decision = step.decision
    match decision.effect:
        case Effect.ALLOW:
            return _ALLOWED
        case Effect.ASK | Effect.DENY:
            return Support(gaps=(_gap(step, decision),))


def _gap(step: DecidedStep, decision: Decision) -> Failure:
    for flaw in step.flaws:
        if flaw.reason is decision.reason:
            return flaw
    reason = decision.reason or Reason.INTERNAL_ERROR
    return Failure(reason=reason, summary=_summary(step, decision))


def _summary(step: DecidedStep, decision: Decision) -> str:
    if decision.reason is Reason.DEFINITION_CHANGED:
        return f"{step.proposal.server}.{step.proposal.tool} changed"
    for rule in decision.rules:
        return f"{rule.id}: {rule.text.rstrip('.')}" if rule.text else rule.id
    proposal = step.proposal
    return f"{proposal.server}.{proposal.tool}" if proposal.tool else "the call names no tool"
