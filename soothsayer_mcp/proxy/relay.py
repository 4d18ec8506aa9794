"""One host connection: frames in, the table, frames out."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import anyio

from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import RecordedStep
from soothsayer_mcp.ports import Call, Leg, LegEnd, OversizedLine, PortError
from soothsayer_mcp.proxy.asking import Asking
from soothsayer_mcp.proxy.calls import Calls
from soothsayer_mcp.proxy.checked import Checked
from soothsayer_mcp.proxy.connection import HostConnection, Surroundings
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.given import Readings
from soothsayer_mcp.proxy.guidance import Guidance
from soothsayer_mcp.proxy.inputs import Inputs
from soothsayer_mcp.proxy.late import Late
from soothsayer_mcp.proxy.lists import Lists
from soothsayer_mcp.proxy.masks import Masks
from soothsayer_mcp.proxy.notices import Notices
from soothsayer_mcp.proxy.opening import Opening
from soothsayer_mcp.proxy.owed import HostRequest, Sink
from soothsayer_mcp.proxy.own import Own
from soothsayer_mcp.proxy.paging import Envelope
from soothsayer_mcp.proxy.pins import Books, Schemas
from soothsayer_mcp.proxy.refusals import Refusals
from soothsayer_mcp.proxy.requests import Requests
from soothsayer_mcp.proxy.routes import MISPLACED, ROUTES, UNKNOWN, Route, Way, route
from soothsayer_mcp.proxy.streams import Streams
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import BATCH_VERSION, META_SUBSCRIPTION_ID, Era, era_of
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.strict import Batch, Fault, Side, WireError, id_of_oversized, read_host

EOF_GRACE_S = 30.0
"""How long what was forwarded may still take once the host has closed its side."""
SIGNAL_GRACE_S = 1.0
"""The same after a signal: hosts wait 2 s before they kill."""
RECORD_S = 0.8
"""How long the records of what is given up may take."""
DRAIN_S = 5.0
"""How long the host may take to read what is left."""
WATCH_S = 0.5
"""How often the policy's files are looked at."""


LOOKED_AT = 4096
"""How much of a line that is no message is searched for secrets."""
SHOWN = 200
"""How much of it people read."""
TASK_NOTICES = "notifications/tasks"
"""How notices of tasks begin; they may carry a result, which is checked before anything in it is masked."""


class Relay:
    """Everything that happens between one host and its servers."""

    def __init__(self, host: Leg, fleet: Fleet, governor: Governor, *, schemas: Schemas, around: Surroundings) -> None:
        """`governor` forwards to `fleet`. Nothing is read, and no server is started, before `run`."""
        self._host = host
        self._governor = governor
        self._fleet = fleet
        self._connection = connection = HostConnection(host, fleet, around)
        gate = Gate(connection)
        self._books = books = Books(
            fleet,
            store=around.store,
            schemas=schemas,
            now_ns=around.clock.monotonic_ns,
            log=around.log,
        )
        self._streams = streams = Streams(connection, gate)
        self._masks = masks = Masks(connection, gate)
        connection.shown = masks.answer
        late = Late(connection, gate, masks, governor)
        self._requests = requests = Requests(connection, gate)
        readings = Readings(connection)
        own = Own(connection, gate, around.shelf, readings)
        guidance = Guidance(connection)
        self._opening = opening = Opening(connection, books, masks, own, guidance)
        asking = None if around.asks is None else Asking(connection, books, requests, around.asks)
        inputs = Inputs(connection, gate)
        self._calls = calls = Calls(connection, books, governor, inputs, late, asking, own)
        own.run_of = calls.run_of
        readings.run_of = calls.run_beside
        parts: dict[str, object] = {
            "opening": opening,
            "calls": calls,
            "lists": Lists(connection, books, gate, masks, own=own, guidance=guidance),
            "checked": Checked(
                connection, gate, streams, masks, own=own, inputs=inputs, guidance=guidance, readings=readings
            ),
            "streams": streams,
            "late": late,
            "requests": requests,
            "notices": Notices(
                connection, gate=gate, books=books, guidance=guidance, requests=requests, streams=streams, late=late
            ),
            "refusals": Refusals(connection),
        }
        every = [*ROUTES.values(), *UNKNOWN.values(), *MISPLACED.values()]
        self._rows: dict[str, Callable[..., None]] = {row.by: _function(parts, row) for row in every}
        self._policy = around.policies.current()
        self._gone = anyio.Event()
        self._grace_s = EOF_GRACE_S
        self._grace: anyio.CancelScope | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Relay until the host is gone or `stop` is called, and everything owed is answered, recorded or given up."""
        async with anyio.create_task_group() as tasks:
            self._connection.tasks = tasks
            self._fleet.start(self)
            self._host.start(self._received, self._host_ended)
            self._connection.spawn(self._watch_policy)
            self._connection.spawn(self._calls.watch_runs)
            try:
                await self._gone.wait()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._drain()
            tasks.cancel_scope.cancel()

    @property
    def calls_under_way(self) -> int:
        """How many calls are governed now."""
        return self._calls.under_way

    def stop(self, grace_s: float = SIGNAL_GRACE_S) -> None:
        """Admit nothing more, and give what was forwarded this long; callable at any time, on the loop."""
        self._grace_s = min(self._grace_s, grace_s)
        if self._grace is not None:
            self._grace.deadline = min(self._grace.deadline, anyio.current_time() + grace_s)
        self._gone.set()

    async def _drain(self) -> None:
        owed = self._connection.owed
        self._connection.left = True
        self._requests.host_left()
        with anyio.CancelScope(deadline=anyio.current_time() + self._grace_s) as self._grace:
            await owed.settled()
        if self._grace.cancelled_caught:
            self._fleet.give_up("the proxy ended")
            with anyio.move_on_after(RECORD_S):
                await owed.settled()
        with anyio.move_on_after(min(DRAIN_S, self._grace_s)):
            await self._host.drained()
        await self._fleet.aclose()
        await self._host.aclose()

    async def _watch_policy(self) -> None:
        while True:
            await anyio.sleep(WATCH_S)
            self._safely(self._look_at_policy)

    def _look_at_policy(self) -> None:
        policies = self._connection.policies
        policies.check()
        if policies.current() is not self._policy:
            self._policy = policies.current()
            self._opening.announce_tools()
            self._streams.announce("notifications/tools/list_changed")

    # -- of the host --------------------------------------------------------------------------------------------------

    def _received(self, lines: Sequence[bytes]) -> None:
        if self._gone.is_set():
            return
        for line in lines:
            try:
                if isinstance(line, OversizedLine):
                    found = id_of_oversized(line, line.tail)
                    raise WireError(Side.HOST, Fault.TOO_BIG, id=found)  # noqa: TRY301 - the same end as a line read
                read = read_host(line, max_bytes=self._connection.limits.max_frame)
            except WireError as wrong:
                self._unreadable(line, wrong, self._connection.send)
                continue
            if isinstance(read, Batch):
                self._batch(read)
            else:
                self._take(read, self._connection.send)

    def _take(self, frame: Frame, sink: Sink) -> None:
        kind = frame.kind
        if kind is FrameKind.REQUEST:
            self._request(frame, sink)
        elif kind is FrameKind.NOTIFICATION:
            self._safely(self._rows[route(Way.TO_SERVER, era_of(frame), kind, frame.method).by], frame)
        elif not self._requests.take(frame):
            self._connection.dropped(frame.raw, "answers_nothing", origin="host")

    def _request(self, frame: Frame, sink: Sink) -> None:
        era = era_of(frame)
        assert frame.id is not None
        # Our own ids are random: a host that uses one has seen it, and could settle or be settled by what is ours.
        ours = self._connection.mint.made(frame.id) or self._fleet.mint.made(frame.id)
        request = None if ours else self._connection.owed.admit(frame, frame.id, era=era, sink=sink)
        if request is None:
            self._connection.dropped(frame.raw, "id_in_flight", origin="host", method=frame.method, answered=True)
            sink(replies.error(frame.id, Code.INVALID_REQUEST, "A request with this id is in flight already."))
            return
        row = self._rows[route(Way.TO_SERVER, era, FrameKind.REQUEST, frame.method).by]
        underway = self._opening.underway
        if underway is None:
            self._answer(row, request)
        else:
            self._connection.spawn(self._answer_later, underway, row, request)

    async def _answer_later(self, underway: anyio.Event, row: Callable[..., None], request: HostRequest) -> None:
        await underway.wait()
        if not request.answered:
            self._answer(row, request)

    def _answer(self, row: Callable[..., None], request: HostRequest) -> None:
        try:
            row(request)
        except Exception:  # noqa: BLE001 - an edge: the frames that came with this one still have to be read
            self._connection.fault()
            self._connection.fail(request)

    def _safely(self, row: Callable[..., None], *args: object) -> None:
        try:
            row(*args)
        except Exception:  # noqa: BLE001 - an edge: the frames that came with this one still have to be read
            self._connection.fault()

    def _unreadable(self, line: bytes, wrong: WireError, sink: Sink) -> None:
        self._connection.dropped(line, wrong.fault, origin="host", answered=wrong.answerable)
        if wrong.answerable:
            sink(replies.of_wire_error(wrong))

    def _batch(self, batch: Batch) -> None:
        """An array: each element alone where the version has arrays, else refused as a whole."""
        if self._connection.version != BATCH_VERSION:
            self._unreadable(batch.raw, WireError(Side.HOST, Fault.ARRAY), self._connection.send)
            return
        together = _Together(batch, self._connection.send)
        for member in batch.members:
            if isinstance(member, Frame):
                self._take(member, together.take)
            else:
                self._unreadable(batch.raw, member, together.take)

    def _host_ended(self, _end: LegEnd) -> None:
        self._gone.set()

    # -- of servers (ServerSide) --------------------------------------------------------------------------------------

    def from_server(self, server: Downstream, frame: Frame) -> None:
        """A request, a notification, or an answer to nothing."""
        kind = frame.kind
        if kind is FrameKind.REQUEST or kind is FrameKind.NOTIFICATION:
            # A tagged notice belongs to a listen stream, whatever else its server speaks.
            era = Era.STATELESS if META_SUBSCRIPTION_ID in frame.meta else server.era
            if self._masks.any and not frame.method.startswith(TASK_NOTICES):
                self._safely(self._masked, era, server, frame)
                return
            self._safely(self._rows[route(Way.TO_HOST, era, kind, frame.method).by], server, frame)
        else:
            reason = "reads_two_ways" if kind is FrameKind.AMBIGUOUS else "answers_nothing"
            self._connection.dropped(frame.raw, reason, origin="server", server=server.name)

    def _masked(self, era: Era, server: Downstream, frame: Frame) -> None:
        """Take what a server says as the host may read it."""
        shown = self._masks.message(server.name, frame)
        if shown is not None:
            self._rows[route(Way.TO_HOST, era, frame.kind, frame.method).by](server, shown)

    def garbage_from(self, server: Downstream, line: bytes, wrong: WireError) -> None:
        """A line that is no message: on record, and for people; never on."""
        self._connection.dropped(line, wrong.fault, origin="server", server=server.name)
        shown = self._connection.cleaned(line[:LOOKED_AT])[:SHOWN]
        self._connection.log(f"{server.name}: not a message: {shown!a}")

    def misplaced_from(self, server: Downstream, raw: bytes) -> None:
        """A message that has no place in the era its server speaks."""
        self._connection.dropped(raw, "not_in_this_era", origin="server", server=server.name)

    def read_from(self, server: Downstream) -> None:
        """All that came at once was handed on."""
        del server
        self._connection.relieve()

    def late_answer(self, server: Downstream, frame: Frame, step: RecordedStep, call: Call, late: Returned) -> None:
        """The answer to a call that was given up: it settles the step; the host has its answer and gets no other."""
        self._connection.spawn(self._settle, server, frame, step, call, late)

    async def _settle(self, server: Downstream, frame: Frame, step: RecordedStep, call: Call, late: Returned) -> None:
        try:
            await self._governor.settle(step, call, late)
        except (PortError, TimeoutError):
            self._connection.dropped(frame.raw, "answers_nothing", origin="server", server=server.name)

    def vouches(self, server: Downstream, step: RecordedStep) -> bool:
        """Whether the tool of a step still is the one that was compared; only observing lets any tool through."""
        return step.decision.mode is Mode.OBSERVE or self._books.of(server).vouches(step.tool)

    async def compare(self, server: Downstream, step: RecordedStep) -> None:
        """Compare the server's tools again. Raises `PortError`, acted no, when the step's tool is another now."""
        request_id = step.proposal.request_id
        request = None if request_id is None else self._connection.owed.find(request_id)
        envelope = Envelope(meta=None) if request is None else self._connection.envelope_of(request)
        policy = self._connection.policies.current()
        await self._books.of(server).compare(step.tool, policy=policy, envelope=envelope)

    def died(self, server: Downstream, end: LegEnd) -> None:
        """Its connection ended, and all that it owed has failed."""
        self._books.of(server).void()
        self._requests.server_died(server)
        self._streams.lost(server)
        last = f"; its last words:\n{end.last_words}" if end.last_words else ""
        self._connection.log(f"{server.name} {end.why}{last}")
        self._connection.dropped(
            b"", Reason.CONNECTION_LOST, origin="server", server=server.name, why=f"{server.name} {end.why}{last}"
        )

    async def reopen(self, server: Downstream) -> None:
        """Bring a server that was started again to where it was."""
        await self._opening.reopen(server)

    def reopened(self, server: Downstream) -> None:
        """It takes requests again."""
        self._streams.back(server)
        self._opening.came_back(server)

    def spawn(self, task: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Run a task within the connection."""
        self._connection.spawn(task, *args)


class _Together:
    """The answers to an array, sent as one array when all are there."""

    def __init__(self, batch: Batch, send: Sink) -> None:
        self._send = send
        self._answers: list[bytes] = []
        self._owed = sum(
            member.kind is FrameKind.REQUEST if isinstance(member, Frame) else member.answerable
            for member in batch.members
        )

    def take(self, raw: bytes) -> None:
        self._answers.append(raw)
        if len(self._answers) == self._owed:
            self._send(b"[" + b",".join(self._answers) + b"]")


def _function(parts: dict[str, object], row: Route) -> Callable[..., None]:
    part, _, name = row.by.partition(".")
    return cast("Callable[..., None]", getattr(parts[part], name))
