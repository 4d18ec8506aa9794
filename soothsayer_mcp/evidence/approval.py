"""What a person's yes is bound to, and whether it still counts; pure (protocol.md 4.3)."""

import hashlib

from soothsayer_mcp.evidence.grants import still_covers
from soothsayer_mcp.model.ask import Approval, Ask, AskState, Grant
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import canonical
from soothsayer_mcp.model.step import ProposedStep

YES_COUNTS_US = 15 * 60 * 1_000_000
"""How long a yes may wait to be used."""


def decision_digest(decision: Decision) -> str:
    """Digest what was asked about: the effect, the rules that ask, and the policy."""
    asking = sorted(rule.id for rule in decision.rules if rule.effect is decision.effect)
    return _digest([decision.effect.value, [*asking], decision.policy_digest])


def call_digest(identity: str, step: ProposedStep, decision: Decision) -> str:
    """Digest a call and the decision about it, in hex: server, tool, definition and arguments, and why it is asked.

    It is over values, not over their spelling, so that the same call in another order of keys is the same.
    """
    definition = "" if step.tool is None else step.tool.digest
    proposal = step.proposal
    return _digest([identity, proposal.tool, definition, proposal.arguments, decision_digest(decision)])


def why_void(
    approval: Approval, ask: Ask | None, grant: Grant | None, step: ProposedStep, decision: Decision, now_us: int
) -> Failure | None:
    """Whether what a step rests on lets it through now, as things stand in commit A; the refusal where it does not."""
    if approval.grant:
        return still_covers(grant, approval.identity, step, decision)
    return counts(approval, ask, step, decision, now_us)


def counts(approval: Approval, ask: Ask | None, step: ProposedStep, decision: Decision, now_us: int) -> Failure | None:
    """Whether a yes to this very call lets the step through now; the refusal where it does not."""
    if ask is None or ask.state is AskState.WITHDRAWN:
        return Failure(reason=Reason.STATE_CHANGED, summary="the question is no longer open")
    if call_digest(approval.identity, step, decision) != approval.digest:
        return Failure(reason=Reason.STATE_CHANGED, summary="what the person was asked about")
    if ask.state is AskState.NO:
        return Failure(reason=Reason.DECLINED, summary=ask.comment or "no reason was given")
    if ask.state is not AskState.YES:
        return Failure(reason=Reason.APPROVAL_PENDING, summary="")
    if ask.spent:
        return Failure(reason=Reason.CONSUMED, summary=f"{step.proposal.server}.{step.proposal.tool}")
    if not is_fresh(ask, now_us):
        return Failure(reason=Reason.APPROVAL_EXPIRED, summary="")
    return None


def is_fresh(ask: Ask, now_us: int) -> bool:
    """Whether a yes is young enough to be used. One from the future is not: a clock was set back."""
    at = ask.answered_at_us
    return at is not None and 0 <= now_us - at <= YES_COUNTS_US


def has_expired(ask: Ask, now_us: int) -> bool:
    """Whether nobody can answer an open question any more. One from the future has: a clock was set back."""
    return ask.state is AskState.OPEN and not ask.asked_at_us <= now_us <= ask.expires_at_us


def _digest(value: object) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()  # type: ignore[arg-type]  # a list of JSON values
