"""Steps whose outcome is not known, settled by asking another tool: those of this process, and what others left."""

from collections.abc import Callable
from functools import partial

from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.outcome import Unknown
from soothsayer_mcp.model.settling import Settling, Unsettled
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.ports import Call, PortError, Readback
from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.paging import Envelope
from soothsayer_mcp.proxy.probing import Probing


class Settles:
    """What one connection has to settle."""

    def __init__(self, connection: HostConnection, probing: Probing) -> None:
        """Nothing is looked for before the first call."""
        self._connection = connection
        self._probing = probing
        self._looked = False

    def look(self, request: HostRequest) -> None:
        """With the first call: ask about what ended processes left behind."""
        if self._looked:
            return
        self._looked = True
        connection = self._connection
        if connection.settling is None or not connection.policies.current().settles:
            return
        try:
            left = connection.settling.book.unsettled(connection.principal.id, connection.workspace)
        except PortError:
            return
        for one in left:
            server = connection.fleet.named(one.server)
            if server is not None and self._same(one.settling):
                # Its process has ended, and what it had started was ended with it or as this one began.
                connection.spawn(self._ask, connection.envelope_of(request), one, partial(bool, server.ends))

    def ask(self, request: HostRequest, call: Call, closed: ClosedStep) -> bool:
        """Begin to ask about a step of this process that has just ended; false where nothing is to be asked."""
        settling = closed.support.settling
        if settling is None or not isinstance(closed.outcome, Unknown) or closed.acted is not Acted.MAYBE:
            return False
        server = self._connection.fleet.named(closed.proposal.server)
        if server is None or self._connection.settling is None:
            return False
        one = Unsettled(
            run=closed.run_id,
            no=closed.intent.no,
            server=closed.proposal.server,
            tool=closed.proposal.tool,
            settling=settling,
        )
        envelope = self._connection.envelope_of(request)
        self._connection.spawn(self._ask, envelope, one, partial(server.is_over, call.start))
        return True

    def _same(self, settling: Settling) -> bool:
        """Whether the servers are those that the step knew: another one would tell of another world."""
        here = self._connection.settling
        return here is not None and all(
            reach is not None and here.reach.get(name) == reach for name, reach in settling.reach.items()
        )

    async def _ask(self, envelope: Envelope, one: Unsettled, over: Callable[[], bool]) -> None:
        settling = self._connection.settling
        assert settling is not None
        read: Readback = partial(self._probing.read_in, envelope)
        await settling.settle(one, read, over)
