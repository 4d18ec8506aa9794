"""A closed step as the answer to its call: the server's own bytes when there is nothing to say, else one text."""

from soothsayer_mcp.governor import Unrecorded
from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.json import JsonObject, compact
from soothsayer_mcp.model.outcome import Aside, Returned, Shown
from soothsayer_mcp.model.run import NextStep
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.proxy.connection import with_result_type
from soothsayer_mcp.proxy.resources import DIGEST, result_uri
from soothsayer_mcp.run.aside import is_shown
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.strict import WireError, read_server

THE_SERVERS_OWN = frozenset({Reason.TOOL_FAILED, Reason.PROTOCOL_ERROR})
"""Failures that the server tells in its own bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a host can read on in a result of which it was given the beginning."""

    by_tool: bool = False
    """Whether the model has our tools."""
    by_link: bool = True
    """Whether its version of the protocol has links in results."""


WHOLE = Reading()
"""For results that are not stored."""


def answer(
    request_id: RequestId,
    closed: ClosedStep | Unrecorded,
    *,
    stateless: bool,
    reading: Reading = WHOLE,
    digest: str = "",
) -> bytes:
    """Answer a call (protocol.md 5).

    `reading` is how this host can read on in a result that is stored, `digest` the run in short, for `compact`.
    """
    if isinstance(closed, Unrecorded):
        return failed(request_id, closed.failure, step="", acted=closed.failure.acted, stateless=stateless)
    returned = closed.outcome
    failure = closed.failure
    withheld = closed.shown is not None and closed.shown.raw is None
    stored = closed.stored
    if stored is not None and isinstance(returned, Returned) and (failure is None or failure.reason in THE_SERVERS_OWN):
        return _told(closed, _in_part(request_id, closed, stored, reading, stateless=stateless), digest)
    if isinstance(returned, Returned) and not withheld:
        if closed.decision.mode is Mode.OBSERVE or returned.error is not None:
            return _own_bytes(returned, closed.shown, stateless=stateless)
        if failure is None or failure.reason in THE_SERVERS_OWN:
            return _told(closed, _own_bytes(returned, closed.shown, stateless=stateless), digest)
    assert failure is not None
    content: tuple[bytes, ...] = ()
    if isinstance(returned, Returned) and is_shown(closed, failure):
        raw = _raw_of(returned, closed.shown)
        content = _content(raw) if stored is None else tuple(map(compact, _blocks(closed, stored, reading)))
    return failed(
        request_id,
        failure,
        step=closed.closing.step,
        acted=closed.acted,
        stateless=stateless,
        content=content,
        more=_next(closed, digest),
    )


def _in_part(request_id: RequestId, closed: ClosedStep, stored: Aside, reading: Reading, *, stateless: bool) -> bytes:
    """The beginning of a result that is stored, and where the rest is."""
    value: JsonObject = {"resultType": "complete"} if stateless else {}
    value["content"] = [*_blocks(closed, stored, reading)]
    if isinstance(closed.outcome, Returned) and closed.outcome.is_error:
        value["isError"] = True
    return replies.result(request_id, value)


def _blocks(closed: ClosedStep, stored: Aside, reading: Reading) -> list[JsonObject]:
    closing, size = closed.closing, len(stored.beginning.encode())
    uri = result_uri(closing.run, closing.no)
    said = f"These were the first {size:,} of {stored.size_bytes:,} bytes; all of them are stored."
    if reading.by_tool:
        how = f'To read on: soothsayer_result {{"step": "{closing.step}", "offset": {size}}}'
    else:
        how = f"To read on: the resource {uri}?offset={size}"
    blocks: list[JsonObject] = [
        {"type": "text", "text": stored.beginning},
        {"type": "text", "text": f"{said} {how} [stored, step {closing.step}]"},
    ]
    if reading.by_link:
        link: JsonObject = {
            "type": "resource_link",
            "uri": uri,
            "name": f"result-{closing.step}",
            "description": f"The whole result of step {closing.step}.",
            "mimeType": stored.mime,
            "size": stored.size_bytes,
        }
        blocks.append(link)
    return blocks


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


def _told(closed: ClosedStep, raw: bytes, digest: str) -> bytes:
    """The server's bytes, with one block after them when the agent must not simply go on."""
    text = _next(closed, digest)
    return replies.add_block(read_server(raw), text) if text else raw


def _next(closed: ClosedStep, digest: str) -> str:
    match closed.next_step:
        case NextStep.CONTINUE:
            return f"Note: {closed.why}. [step {closed.closing.step}]" if closed.why else ""
        case NextStep.STOP:
            return f"Stop: {closed.why}. Make no more calls. [next/stop, step {closed.closing.step}]"
        case NextStep.COMPACT:
            end = f"the resource {DIGEST}. [next/compact, step {closed.closing.step}]"
            if not digest:
                return f"Compact: {closed.why}. The run in short is {end}"
            how = "Go on in a fresh context with the run in short, which follows, or with"
            return f"Compact: {closed.why}. {how} {end}\n{digest}"


def _content(raw: bytes) -> tuple[bytes, ...]:
    try:
        return tuple(read_server(raw).items(("result", "content")))
    except (WireError, LookupError):
        return ()
