"""Notifications, both ways: routed by id or token, joined, passed, or dropped and recorded."""

from functools import partial

import anyio

from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.proxy.connection import HostConnection, quoted, text_of
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.guidance import Guidance
from soothsayer_mcp.proxy.late import Late
from soothsayer_mcp.proxy.pins import Books
from soothsayer_mcp.proxy.requests import Requests
from soothsayer_mcp.proxy.streams import Streams
from soothsayer_mcp.wire.eras import META_SUBSCRIPTION_ID
from soothsayer_mcp.wire.frame import Frame
from soothsayer_mcp.wire.ids import legal
from soothsayer_mcp.wire.strict import read_server

BURST_S = 0.05
"""Changes of one list that come closer than this are told once more, not each."""
NEVER_CANCELLED = frozenset({"initialize", "server/discover"})

BurstKey = tuple[str, str, bytes]
"""Server, method, and the very notice."""


class Notices:
    """The rows of notifications."""

    def __init__(
        self,
        connection: HostConnection,
        *,
        gate: Gate,
        books: Books,
        guidance: Guidance,
        requests: Requests,
        streams: Streams,
        late: Late,
    ) -> None:
        """Route the notifications of one connection."""
        self._connection = connection
        self._gate = gate
        self._books = books
        self._guidance = guidance
        self._requests = requests
        self._streams = streams
        self._late = late
        self._bursts: dict[BurstKey, bool] = {}

    # -- of the host --------------------------------------------------------------------------------------------------

    def cancelled(self, frame: Frame) -> None:
        """`notifications/cancelled`: before the intent is durable nothing is sent; after it, the cancel goes on."""
        params = frame.params or {}
        request_id = legal(params.get("requestId"))
        request = None if request_id is None else self._connection.owed.find(request_id)
        if request is None or request.method in NEVER_CANCELLED:
            self.drop(frame, "answers_nothing" if request is None else "never_cancelled")
            return
        request.cancelled = True
        self._connection.owed.silence(request)
        if request.standing:
            self._streams.cancelled(request, frame)
            return
        call = request.call
        if call is not None:
            reason = params.get("reason")
            call.cancel_reason = quoted(reason) if isinstance(reason, str) else "by the host"
            call.withdrawn = True
            if not call.sent:
                return
        for name in request.servers:
            server = self._connection.fleet.named(name)
            if server is not None:
                server.cancel(request.key, frame.raw)

    def host_progress(self, frame: Frame) -> None:
        """`notifications/progress` of the host: to the server whose question it concerns."""
        if not self._requests.progress(frame):
            self.drop(frame, "answers_nothing")

    def to_all(self, frame: Frame) -> None:
        """`notifications/roots/list_changed`: to every server."""
        for server in self._connection.fleet:
            server.notify(frame.raw)

    def drop(self, frame: Frame, reason: str = "not_in_this_era") -> None:
        """A notification that goes no further."""
        self._connection.dropped(frame.raw, reason, origin="host", method=frame.method)

    def request_without_id(self, frame: Frame) -> None:
        """A request's method without an id: nobody could be answered, so nothing is done."""
        self.drop(frame, "request_without_id")

    def unknown(self, frame: Frame) -> None:
        """A method without a row: passed only where policy lists it."""
        methods = self._connection.policies.current().methods
        only = self._connection.fleet.only
        if only is not None and (methods.unknown_pass or frame.method in methods.passed):
            only.notify(frame.raw)
        else:
            self.drop(frame, "unknown_method")

    # -- of servers ---------------------------------------------------------------------------------------------------

    def server_progress(self, server: Downstream, frame: Frame) -> None:
        """`notifications/progress` of a server: on at once, so that it stays before its result."""
        if self._connection.owed.is_silent((frame.params or {}).get("progressToken")):
            self.drop_of_server(server, frame, "cancelled")
        else:
            self._connection.send(frame.raw)

    def message(self, server: Downstream, frame: Frame) -> None:
        """`notifications/message`: what policy lets through."""
        decision = self._gate.decide(server.name, frame.method, frame.params or {})
        self._connection.store.note_soon(
            self._connection.checked(frame.method, decision, origin="server", server=server.name, size=len(frame.raw))
        )
        if decision.effect is Effect.ALLOW:
            self._connection.send(frame.raw)

    def list_changed(self, server: Downstream, frame: Frame) -> None:
        """`notifications/*/list_changed`: what was compared is void at once; the host is told, bursts joined."""
        if frame.method == "notifications/tools/list_changed":
            self._books.of(server).void()
        else:
            self._connection.owners.void_lists(server.name)
            self._guidance.void(server.name)
        if META_SUBSCRIPTION_ID in frame.meta:
            self._tagged(server, frame)
        else:
            self._join(server, frame.method, frame.raw)

    def _tagged(self, server: Downstream, frame: Frame) -> None:
        """A notice of a listen stream, under the host's own id for it."""
        told = self._streams.notice(server, frame)
        if told is None:
            self.drop_of_server(server, frame, "answers_nothing")
        for raw in told or ():
            self._join(server, frame.method, raw)

    def _join(self, server: Downstream, method: str, raw: bytes) -> None:
        """Tell a change at once, and those that come close after it once more."""
        burst = (server.name, method, raw)
        if burst in self._bursts:
            self._bursts[burst] = True
            return
        self._bursts[burst] = False
        self._connection.send(raw)
        self._connection.spawn(self._end_burst, burst)

    async def _end_burst(self, burst: BurstKey) -> None:
        await anyio.sleep(BURST_S)
        if self._bursts.pop(burst):
            self._connection.send(burst[2])

    def updated(self, server: Downstream, frame: Frame) -> None:
        """`notifications/resources/updated`: to who subscribed."""
        if META_SUBSCRIPTION_ID in frame.meta:
            told = self._streams.notice(server, frame)
            for raw in told or ():
                self._connection.send(raw)
            if told is not None:
                return
        elif self._connection.fleet.only is not None or self._streams.is_watching(
            server, text_of(frame.params, "uri") or ""
        ):
            self._connection.send(frame.raw)
            return
        self.drop_of_server(server, frame, "answers_nothing")

    def acknowledged(self, server: Downstream, frame: Frame) -> None:
        """`notifications/subscriptions/acknowledged`: the first word of a listen stream."""
        if not self._streams.acknowledged(server, frame):
            self.drop_of_server(server, frame, "answers_nothing")

    def listen_ended(self, server: Downstream, frame: Frame) -> None:
        """`notifications/cancelled` of a stateless server: only a listen stream can be ended so."""
        if not self._streams.ended(server, frame):
            self.drop_of_server(server, frame, "answers_nothing")

    def task_status(self, server: Downstream, frame: Frame) -> None:
        """`notifications/tasks*`: how a task of this server stands."""
        self._connection.spawn(self._late.status, server, frame, partial(self._send_status, server, frame))

    def _send_status(self, server: Downstream, frame: Frame, raw: bytes) -> None:
        if META_SUBSCRIPTION_ID not in frame.meta:
            self._connection.send(raw)
            return
        told = self._streams.notice(server, read_server(raw))
        if told is None:
            self.drop_of_server(server, frame, "answers_nothing")
        for one in told or ():
            self._connection.send(one)

    def to_host(self, server: Downstream, frame: Frame) -> None:
        """The same bytes to the host."""
        del server
        self._connection.send(frame.raw)

    def drop_of_server(self, server: Downstream, frame: Frame, reason: str = "not_in_this_era") -> None:
        """A server's notification that goes no further."""
        self._connection.dropped(frame.raw, reason, origin="server", method=frame.method, server=server.name)

    def unknown_of_server(self, server: Downstream, frame: Frame) -> None:
        """A method without a row: passed only where policy lists it."""
        methods = self._connection.policies.current().methods
        if methods.unknown_pass or frame.method in methods.passed:
            self._connection.send(frame.raw)
        else:
            self.drop_of_server(server, frame, "unknown_method")
