"""Which results are stored and shown in part: what policy says of large ones, asked of a step that is checked."""

from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import VerifiedStep

BROKEN = frozenset({Reason.RESULT_SCHEMA, Reason.CHECK_BROKEN, Reason.SIDE_EFFECT})
"""Failures of checks after the call."""


def is_shown(step: VerifiedStep, failure: Failure) -> bool:
    """Whether the agent still reads what the server said, beside what we say of the failure."""
    dues = step.decision.dues
    if failure.reason in BROKEN:
        return not dues.withhold_broken
    return failure.reason is Reason.NOT_OK or (failure.reason is Reason.UNCHECKED and not dues.withhold_unknown)


def set_aside(step: VerifiedStep) -> VerifiedStep:
    """The step, its result set aside where it is larger than policy lets through.

    A tool that declares an output schema promises structured content, so its result passes whole.
    """
    large, outcome = step.decision.large, step.outcome
    if large is None or step.cause is not Cause.AGENT or not isinstance(outcome, Returned) or outcome.result is None:
        return step
    raw = outcome.raw if step.shown is None else step.shown.raw
    if raw is None or len(raw) <= large.over_bytes or step.decision.mode is Mode.OBSERVE:
        return step
    failure = step.failure
    if failure is not None and failure.reason is not Reason.TOOL_FAILED and not is_shown(step, failure):
        return step
    declared = step.tool is not None and b'"outputSchema"' in step.tool.raw
    # What still asks for something, or comes later, is no result yet.
    return step if declared or not outcome.final else step.aside()
