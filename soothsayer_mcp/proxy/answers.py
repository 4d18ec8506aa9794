"""A closed step as the answer to its call: the server's own bytes when there is nothing to say, else one text."""

from soothsayer_mcp.governor import Unrecorded
from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.outcome import Returned, Shown
from soothsayer_mcp.model.run import NextStep
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.proxy.connection import with_result_type
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.strict import WireError, read_server

THE_SERVERS_OWN = frozenset({Reason.TOOL_FAILED, Reason.PROTOCOL_ERROR})
"""Failures that the server tells in its own bytes."""
BROKEN = frozenset({Reason.RESULT_SCHEMA, Reason.CHECK_BROKEN, Reason.SIDE_EFFECT})
"""Failures of checks after the call."""


def answer(request_id: RequestId, closed: ClosedStep | Unrecorded, *, stateless: bool) -> bytes:
    """Answer a call (protocol.md 5)."""
    if isinstance(closed, Unrecorded):
        return failed(request_id, closed.failure, step="", acted=closed.failure.acted, stateless=stateless)
    returned = closed.outcome
    failure = closed.failure
    withheld = closed.shown is not None and closed.shown.raw is None
    if isinstance(returned, Returned) and not withheld:
        if closed.decision.mode is Mode.OBSERVE or returned.error is not None:
            return _own_bytes(returned, closed.shown, stateless=stateless)
        if failure is None or failure.reason in THE_SERVERS_OWN:
            return _told(closed, _own_bytes(returned, closed.shown, stateless=stateless))
    assert failure is not None
    content = (
        _content(_raw_of(returned, closed.shown))
        if isinstance(returned, Returned) and _is_shown(closed, failure)
        else ()
    )
    return failed(
        request_id,
        failure,
        step=closed.closing.step,
        acted=closed.acted,
        stateless=stateless,
        content=content,
        more=_next(closed),
    )


def _is_shown(closed: ClosedStep, failure: Failure) -> bool:
    """Whether the agent still reads what the server said."""
    dues = closed.decision.dues
    if failure.reason in BROKEN:
        return not dues.withhold_broken
    return failure.reason is Reason.NOT_OK or (failure.reason is Reason.UNCHECKED and not dues.withhold_unknown)


def failed(
    request_id: RequestId,
    failure: Failure,
    *,
    step: str,
    acted: Acted,
    stateless: bool,
    content: tuple[bytes, ...] = (),
    more: str = "",
) -> bytes:
    """The result that tells an agent why its call failed."""
    text = failure.agent_text(step)
    return replies.tool_failure(
        request_id,
        f"{text}\n{more}" if more else text,
        stateless=stateless,
        step=step,
        failure=failure.failure,
        reason=failure.reason,
        acted=acted,
        content=content,
    )


def _own_bytes(returned: Returned, shown: Shown | None, *, stateless: bool) -> bytes:
    raw = _raw_of(returned, shown)
    if stateless and returned.result is not None and "resultType" not in returned.result:
        return with_result_type(read_server(raw))
    return raw


def _raw_of(returned: Returned, shown: Shown | None) -> bytes:
    """What the host may read of the server's bytes."""
    return returned.raw if shown is None or shown.raw is None else shown.raw


def _told(closed: ClosedStep, raw: bytes) -> bytes:
    """The server's bytes, with one block after them when the agent must not simply go on."""
    text = _next(closed)
    return replies.add_block(read_server(raw), text) if text else raw


def _next(closed: ClosedStep) -> str:
    match closed.next_step:
        case NextStep.CONTINUE:
            return ""
        case NextStep.STOP:
            return f"Stop: {closed.why}. Make no more calls. [next/stop, step {closed.closing.step}]"
        case NextStep.COMPACT:
            return f"Compact: {closed.why}. [next/compact, step {closed.closing.step}]"


def _content(raw: bytes) -> tuple[bytes, ...]:
    try:
        return tuple(read_server(raw).items(("result", "content")))
    except (WireError, LookupError):
        return ()
