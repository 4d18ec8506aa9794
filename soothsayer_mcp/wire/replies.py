"""Messages of our own, as bytes without the line end."""

from collections.abc import Sequence
from typing import Final

from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.failure import Acted, FailureClass, Reason
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import META_STEP
from soothsayer_mcp.wire.frame import Frame, Insert, Items
from soothsayer_mcp.wire.strict import WireError

_ANSWER: Final = b'{"jsonrpc":"2.0","id":%b,"%b":%b}'


def result(id: RequestId, value: Json) -> bytes:  # noqa: A002 - the member's name on the wire
    """Answer a request with a result."""
    return _ANSWER % (compact(id), b"result", compact(value))


def error(
    id: RequestId | None,  # noqa: A002 - the member's name on the wire
    code: Code | int,
    message: str,
    data: Json = None,
) -> bytes:
    """Answer a request with an error; without `data` when that is `None`."""
    value: JsonObject = {"code": int(code), "message": message}
    if data is not None:
        value["data"] = data
    return _ANSWER % (compact(id), b"error", compact(value))


def of_wire_error(wrong: WireError) -> bytes:
    """Answer what a host sent and could not be read."""
    return error(wrong.id, wrong.code, wrong.text)


def request(id: RequestId, method: str, params: JsonObject | None) -> bytes:  # noqa: A002 - the member's name on the wire
    """Ask the other side; `None` leaves `params` out."""
    return _call({"jsonrpc": "2.0", "id": id, "method": method}, params)


def notification(method: str, params: JsonObject | None) -> bytes:
    """Tell the other side; `None` leaves `params` out."""
    return _call({"jsonrpc": "2.0", "method": method}, params)


def _call(message: JsonObject, params: JsonObject | None) -> bytes:
    return compact(message if params is None else {**message, "params": params})


def text_block(text: str) -> bytes:
    """Spell one block of text of a tool's result."""
    return compact({"type": "text", "text": text})


def tool_failure(
    id: RequestId,  # noqa: A002 - the member's name on the wire
    text: str,
    *,
    stateless: bool,
    step: str,
    failure: FailureClass,
    reason: Reason,
    acted: Acted,
    content: Sequence[bytes] = (),
) -> bytes:
    """Answer a tool call whose step failed: our one block of text, then the blocks of the server, if any, unchanged."""
    meta: JsonObject = {META_STEP: {"step": step, "class": failure, "reason": reason, "acted": acted}}
    value = b'{%b"isError":true,"content":[%b],"_meta":%b}' % (
        b'"resultType":"complete",' if stateless else b"",
        b",".join((text_block(text), *content)),
        compact(meta),
    )
    return _ANSWER % (compact(id), b"result", value)


def add_block(frame: Frame, text: str) -> bytes:
    """Put one block of text after a tool's own content; every other byte stays.

    A result that is no object, or whose content is no array, has no place for it and goes on as it is.
    """
    found = frame.result
    if not isinstance(found, dict):
        return frame.raw
    if "content" not in found:
        return frame.edited(Insert(("result",), "content", b"[%b]" % text_block(text)))
    if not isinstance(found["content"], list):
        return frame.raw
    return frame.edited(Items(("result", "content"), range(len(found["content"])), (text_block(text),)))
