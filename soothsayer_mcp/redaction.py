"""What policy masks in what servers say: the rules' `redact`, done on the bytes of the wire."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from soothsayer_mcp.evidence.judge import is_final
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.outcome import Returned, Shown
from soothsayer_mcp.model.step import VerifiedStep
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.redact import Redactor
from soothsayer_mcp.wire.eras import META_SUBSCRIPTION_ID
from soothsayer_mcp.wire.places import Path
from soothsayer_mcp.wire.strict import read_server
from soothsayer_mcp.wire.texts import changed

RELATED_TASK: Final = "io.modelcontextprotocol/related-task"
_ROOTS: Final[Mapping[Path, None]] = {("result",): None, ("error",): None, ("params",): None}
_LEAVE: Final = frozenset(
    {
        # What a host hands back, or reads as a number: no text for a model, and useless once it is changed.
        ("error", "code"),
        ("params", "level"),
        ("params", "progress"),
        ("params", "progressToken"),
        ("params", "requestId"),
        ("params", "requestState"),
        ("params", "taskId"),
        ("params", "total"),
        ("params", "_meta", "progressToken"),
        ("params", "_meta", META_SUBSCRIPTION_ID),
        ("params", "_meta", RELATED_TASK),
        ("result", "capabilities"),
        ("result", "nextCursor"),
        ("result", "protocolVersion"),
        ("result", "requestState"),
        ("result", "resultType"),
        ("result", "taskId"),
        ("result", "_meta", RELATED_TASK),
    }
)


def shown(policy: Policy, step: VerifiedStep) -> Shown | None:
    """What the host may read of a step's answer; `None` where policy masks nothing of it."""
    outcome = step.outcome
    if not step.decision.obligations or not isinstance(outcome, Returned):
        return None
    found = masked(policy, step.decision, outcome.raw, strict=lambda: read_server(outcome.raw).strict)
    return found if found is None else _fitting(step, outcome, found)


def _fitting(step: VerifiedStep, outcome: Returned, found: Shown) -> Shown:
    """Withhold what masking has made unfit for the tool's own output schema: some hosts end a connection over it."""
    check = None if step.tool is None else step.tool.check_result
    if check is None or found.raw is None or found.raw == outcome.raw or outcome.is_error or not is_final(outcome):
        return found
    result = read_server(found.raw).result
    structured = result.get("structuredContent") if isinstance(result, dict) else None
    if check(structured) is None:
        return found
    return replace(found, raw=None, why="what is left of it does not fit the tool's own output schema")


def masked(policy: Policy, decision: Decision, raw: bytes, *, strict: Callable[[], bool]) -> Shown | None:
    """Mask in a server's frame what a decision says; `None` where nothing in it is masked.

    `strict` tells whether the frame reads in one way; it is asked only where something may have to be masked.
    """
    binding = policy.redactor(decision, observed=False)
    found = None if binding is None else _applied(binding, raw, strict)
    watching = policy.redactor(decision, observed=True)
    would = None if watching is None else _applied(watching, raw, strict)
    if would is None:
        return found
    return Shown(raw=raw, masked={}, would=would.masked) if found is None else replace(found, would=would.masked)


def _applied(redactor: Redactor, raw: bytes, strict: Callable[[], bool]) -> Shown | None:
    if not redactor.concerns_bytes(raw):
        return None
    if not strict():
        return Shown(raw=None, masked={})
    text = raw.decode()
    redaction = redactor.begin()
    new = changed(text, redaction, _ROOTS, leave=_LEAVE)
    return None if new == text else Shown(raw=new.encode(), masked=dict(sorted(redaction.counts.items())))
