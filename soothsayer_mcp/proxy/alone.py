"""Servers that are called without a host, to undo what was done through them: opened, compared, read, called, ended."""

from collections.abc import Callable, Mapping
from functools import partial

import anyio
from anyio.abc import TaskGroup

from soothsayer_mcp.evidence.checks import ReadFacts
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, RunId, ToolDefinition
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import ProposedStep, RecordedStep
from soothsayer_mcp.policy.decide import bars_undo
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call, Clock, Ids, PortError, Store
from soothsayer_mcp.proxy.connection import Policies
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.paging import Envelope
from soothsayer_mcp.proxy.pins import Books, Schemas
from soothsayer_mcp.proxy.present import END_S, Listening, opened
from soothsayer_mcp.proxy.probing import Probing
from soothsayer_mcp.wire.frame import Frame, FrameKind

ENVELOPE = Envelope(meta=None)
"""Ours are the requests of a handshake host; a server without that era is met through the bridge."""


class Alone:
    """Implements `rollback.Servers` over a fleet that nobody else uses."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        unreachable: Mapping[str, str],
        policies: Policies,
        store: Store,
        schemas: Schemas,
        principal: Principal,
        client: Client,
        clock: Clock,
        ids: Ids,
        log: Callable[[str], None],
    ) -> None:
        """`unreachable` tells of servers that are not in the fleet why they are not."""
        self.fleet = fleet
        self.policies = policies
        self.principal = principal
        self.clock = clock
        self.ids = ids
        self._client = client
        self._down = dict(unreachable)
        self._books = Books(fleet, store=store, schemas=schemas, now_ns=clock.monotonic_ns, log=log)
        self._probing: Probing | None = None

    def govern_by(self, governor: Governor) -> None:
        """Say by whom what is read is governed; it forwards to here."""
        self._probing = Probing(self, self._books, governor)

    async def start(self, tasks: TaskGroup) -> None:
        """Start and open every server; one that does not come up is told of when it is needed."""
        self.fleet.start(_Side(self, tasks))
        async with anyio.create_task_group() as opening:
            for server in self.fleet:
                opening.start_soon(self._open, server)

    async def _open(self, server: Downstream) -> None:
        try:
            await opened(server)
        except PortError as error:
            self._down[server.name] = error.summary

    async def aclose(self) -> None:
        """End them all, in bounded time."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(END_S):
            await self.fleet.aclose()

    @property
    def meta(self) -> JsonObject | None:
        """Requests of a handshake host carry nothing."""
        return ENVELOPE.meta

    def request_id(self, key: str) -> str:
        """The key itself: nobody else asks anything here."""
        return key

    # -- what is asked of them ----------------------------------------------------------------------------------------

    def envelope_of(self, request: HostRequest) -> Envelope:
        """No host causes any request."""
        del request
        return ENVELOPE

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.policies.current()

    async def find(self, tool: str) -> ToolDefinition:
        """A tool by `server.tool`, as its server offers it now. Raises `PortError`, acted no."""
        name, _, own = tool.partition(".")
        server = self.fleet.named(name)
        if server is None or name in self._down:
            raise _cannot(self._down.get(name, f"{name} is not configured"))
        found = await self._books.of(server).find(own, policy=self.policy, envelope=ENVELOPE)
        if found is None:
            raise _cannot(f"{tool}, which would undo it, is not offered by its server")
        if bars_undo(self.policy, found, self.principal):
            raise _cannot(f"{tool}, which would undo it, is denied by policy")
        return found

    async def read(self, run: RunId, tool: str, arguments: JsonObject) -> Json:
        """What a tool that only reads answers. Raises `PortError`."""
        facts = await self.ask(self._about(run), tool, arguments)
        return facts.text if facts.result is None else facts.result

    async def ask(self, of: ProposedStep, tool: str, arguments: JsonObject) -> ReadFacts:
        """The same for a step, as checks compare it. Raises `PortError`."""
        assert self._probing is not None
        name = tool.partition(".")[0]
        if name in self._down:
            raise _cannot(self._down[name])
        return await self._probing.read_in(ENVELOPE, of, tool, arguments)

    def call(self) -> Call:
        """The live side of one call."""
        assert self._probing is not None
        call = Call()
        call.read = partial(self._probing.read_in, ENVELOPE)
        return call

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        """Send a recorded step to its server. Raises `PortError`."""
        return await self.fleet.forward(step, call)

    async def compare(self, server: Downstream, step: RecordedStep) -> None:
        """Compare a tool again. Raises `PortError` when it is another now."""
        await self._books.of(server).compare(step.tool, policy=self.policy, envelope=ENVELOPE)

    def vouches(self, server: Downstream, step: RecordedStep) -> bool:
        """Whether a step's tool is what was compared."""
        return self._books.of(server).vouches(step.tool)

    def void(self, server: Downstream) -> None:
        """Its tools may be others now."""
        self._books.of(server).void()

    def _about(self, run: RunId) -> ProposedStep:
        """Whose run a read is of; no step of it is undone yet."""
        return ProposedStep(
            id=self.ids.step(),
            run_id=run,
            cause=Cause.UNDO,
            principal=self.principal,
            client=self._client,
            tool=None,
            proposal=Proposal(server="", tool="", arguments={}, raw_arguments=b"", raw=b"", request_id=None),
            flaws=(),
            proposed_at_us=self.clock.now_us(),
            began_ns=self.clock.monotonic_ns(),
        )


class _Side(Listening):
    """Hears of what they do: what is called is compared first, and compared again after a change."""

    def __init__(self, alone: Alone, tasks: TaskGroup) -> None:
        super().__init__(tasks)
        self._alone = alone

    def from_server(self, server: Downstream, frame: Frame) -> None:
        if frame.kind is FrameKind.NOTIFICATION and frame.method == "notifications/tools/list_changed":
            self._alone.void(server)
        super().from_server(server, frame)

    def vouches(self, server: Downstream, step: object) -> bool:
        return isinstance(step, RecordedStep) and self._alone.vouches(server, step)

    async def compare(self, server: Downstream, step: object) -> None:
        assert isinstance(step, RecordedStep)
        await self._alone.compare(server, step)

    async def reopen(self, server: Downstream) -> None:
        raise _cannot(f"{server.name} ended while it was called")


def _cannot(why: str) -> PortError:
    return PortError(Reason.SERVER_UNREACHABLE, why, acted=Acted.NO)
