"""Requests of the host that go nowhere: methods that do not exist in their era, and methods nobody knows."""

from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code


class Refusals:
    """The refused rows."""

    def __init__(self, connection: HostConnection) -> None:
        """Refuse requests of one connection."""
        self._connection = connection

    def no_such_method(self, request: HostRequest) -> None:
        """A method that the request's era does not have."""
        self._refuse(request, "not_in_this_era")

    def unknown(self, request: HostRequest) -> None:
        """A method without a row: it may act on a server, so it passes only where policy lists it."""
        connection = self._connection
        methods = connection.policies.current().methods
        only = connection.fleet.only
        if only is not None and (methods.unknown_pass or request.method in methods.passed):
            connection.pass_on(request, only)
        else:
            self._refuse(request, "unknown_method")

    def _refuse(self, request: HostRequest, reason: str) -> None:
        self._connection.dropped(request.frame.raw, reason, origin="host", method=request.method, answered=True)
        request.answer(replies.error(request.id, Code.METHOD_NOT_FOUND, "Method not found"))
