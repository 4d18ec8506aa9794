"""The JSON-RPC error codes that the proxy sends. None but the specifications' own lies in -32768..-32000."""

from enum import IntEnum


class Code(IntEnum):
    """Why an answer is an error."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    """A server that is gone; never for tool calls, which get a result."""
    POLICY = 4030
    """Policy refused something other than a tool call."""
