"""Frames for tests, from values or, where the value is a string, from that literal line."""

from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.wire.frame import Frame
from soothsayer_mcp.wire.strict import read_host, read_server


def server(value: Json) -> Frame:
    """Read what a server sends."""
    return read_server(value.encode() if isinstance(value, str) else compact(value))


def host(value: Json) -> Frame:
    """Read what a host sends."""
    frame = read_host(value.encode() if isinstance(value, str) else compact(value))
    assert isinstance(frame, Frame)
    return frame


def result(value: Json, request_id: Json = 1) -> Frame:
    """Read a server's answer with a result."""
    return server({"jsonrpc": "2.0", "id": request_id, "result": value})
