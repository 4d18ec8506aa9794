"""The servers of a connection, as they are called to take back a call that has just failed."""

from functools import partial

from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.call import RunId, ToolDefinition
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import ClosedStep, RecordedStep
from soothsayer_mcp.policy.decide import bars_undo
from soothsayer_mcp.ports import Call, PortError
from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.paging import Envelope
from soothsayer_mcp.proxy.pins import Books
from soothsayer_mcp.proxy.probing import Probing


class Inverse:
    """Implements `rollback.Servers` for one step of a connection."""

    def __init__(
        self, connection: HostConnection, books: Books, governor: Governor, *, of: ClosedStep, envelope: Envelope
    ) -> None:
        """`envelope` is that of the request that made the step."""
        self._connection = connection
        self._books = books
        self._probing = Probing(connection, books, governor)
        self._of = of
        self._envelope = envelope

    @property
    def meta(self) -> JsonObject | None:
        """What requests carry in the era of the host."""
        return self._envelope.meta

    def request_id(self, key: str) -> str:
        """An id that no host can have used, which any could of a name that can be guessed."""
        del key
        return self._connection.fleet.mint.next()

    async def find(self, tool: str) -> ToolDefinition:
        """A tool by `server.tool`, as its server offers it now. Raises `PortError`, acted no."""
        connection = self._connection
        policy = connection.policies.current()
        name, _, own = tool.partition(".")
        server = connection.fleet.named(name)
        found = None
        if server is not None:
            found = await self._books.of(server).find(own, policy=policy, envelope=self._envelope)
        if found is None:
            raise _cannot(f"{tool}, which would undo it, is not offered by its server")
        if bars_undo(policy, found, connection.principal):
            raise _cannot(f"{tool}, which would undo it, is denied by policy")
        return found

    async def read(self, run: RunId, tool: str, arguments: JsonObject) -> Json:
        """What a tool that only reads answers. Raises `PortError`."""
        assert run == self._of.run_id
        facts = await self._probing.read_in(self._envelope, self._of, tool, arguments)
        return facts.text if facts.result is None else facts.result

    def call(self) -> Call:
        """The live side of the inverse call."""
        call = Call()
        call.read = partial(self._probing.read_in, self._envelope)
        return call

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        """Send a recorded step to its server. Raises `PortError`."""
        return await self._connection.fleet.forward(step, call)


def _cannot(why: str) -> PortError:
    return PortError(Reason.SERVER_UNREACHABLE, why, acted=Acted.NO)
