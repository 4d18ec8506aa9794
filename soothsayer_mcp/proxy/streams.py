"""Changes that a host asked to be told of: `subscriptions/listen`, split over servers, and `resources/subscribe`."""

from collections.abc import Sequence
from functools import partial

import anyio

from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.downstream import Answer, Downstream
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.subscriptions import FLAGS, Listen, Listens, Watchers, requested_uris, split
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.ids import key

ACKNOWLEDGE_S = 4.0
"""How long several servers may take to acknowledge before the host is told of those that did."""

HOST = "host"
"""A relay has one host, and counts for it alone."""


class Streams:
    """What the host listens to on this connection."""

    def __init__(self, connection: HostConnection, gate: Gate) -> None:
        """The host listens to nothing."""
        self._connection = connection
        self._gate = gate
        self._listens = Listens()
        self._requests: dict[int, HostRequest] = {}
        self._watchers = Watchers()

    # -- listen streams -----------------------------------------------------------------------------------------------

    def listen(self, request: HostRequest) -> None:
        """`subscriptions/listen`: it stays open, so nothing waits for its end."""
        request.standing = True
        self._connection.spawn(self._open, request)

    async def _open(self, request: HostRequest) -> None:
        connection, frame = self._connection, request.frame
        servers: list[Downstream] = []
        for server in connection.fleet:
            refusal = await self._gate.passes(
                server.name,
                frame.method,
                frame.params or {},
                origin="host",
                size=len(frame.raw),
                request=request,
            )
            if refusal is None:
                servers.append(server)
            elif connection.fleet.only is not None:
                connection.refuse(request, refusal.reason, refusal.summary)
                return
        if request.cancelled:
            request.close()
            return
        only = connection.fleet.only
        parts = split(
            frame,
            [server.name for server in servers],
            owner_of_uri=connection.owners.owner,
            owner_of_task=lambda _task: None,
            refused=self._refused_uris(frame),
        )
        listen = Listen(frame, parts, own=() if only is not None else FLAGS.values())
        self._listens.add(listen)
        self._requests[id(listen)] = request
        to_servers, to_host = listen.begin()
        self._tell(listen, to_host)
        for server in servers:
            if server.name in to_servers:
                self._send(listen, server, to_servers[server.name])
        if only is None:
            connection.spawn(self._hurry, listen)

    def _refused_uris(self, frame: Frame) -> frozenset[str]:
        """The URIs that policy does not let the host read, and so not watch."""
        fleet = self._connection.fleet
        refused: set[str] = set()
        for uri in requested_uris(frame):
            owner = fleet.only.name if fleet.only is not None else self._connection.owners.owner(uri)
            if owner is None or self._gate.decide(owner, "resources/read", {"uri": uri}).effect is not Effect.ALLOW:
                refused.add(uri)
        return frozenset(refused)

    def _send(self, listen: Listen, server: Downstream, raw: bytes) -> None:
        answered = partial(self._part_ended, listen, server)
        server.request(key(listen.leg_id(server.name)), raw, answered, standing=True)

    async def _hurry(self, listen: Listen) -> None:
        await anyio.sleep(ACKNOWLEDGE_S)
        self._tell(listen, listen.hurry())

    def _part_ended(self, listen: Listen, server: Downstream, answer: Answer) -> None:
        if isinstance(answer, PortError):
            told = listen.lost(server.name)
        else:
            server.discovered |= answer.kind is FrameKind.RESULT
            told = listen.ended(server.name, answer)
        self._tell(listen, told)

    def _tell(self, listen: Listen, frames: Sequence[bytes]) -> None:
        """Send what a stream has to say; the last word of a closed one is the answer to its request."""
        closes = listen.closed and bool(frames)
        for raw in frames[:-1] if closes else frames:
            self._connection.send(raw)
        if closes:
            self._cancel_parts(listen, listen.open_servers())
            self._let_go(listen).answer(frames[-1])

    def _let_go(self, listen: Listen) -> HostRequest:
        self._listens.remove(listen)
        return self._requests.pop(id(listen))

    def _cancel_parts(self, listen: Listen, servers: Sequence[str]) -> None:
        for name in servers:
            server = self._connection.fleet.named(name)
            if server is not None:
                request_id = listen.leg_id(name)
                server.forget(key(request_id))
                server.notify(replies.notification("notifications/cancelled", {"requestId": request_id}))

    def cancelled(self, request: HostRequest, notice: Frame) -> None:
        """The host does not listen any more: its cancel goes to every part, and nothing is answered."""
        listen = self._listens.get(request.id)
        if listen is None:
            # Still being checked; it closes itself when that is done.
            return
        for name in listen.close():
            server = self._connection.fleet.named(name)
            if server is not None:
                server.forget(key(listen.leg_id(name)))
                server.notify(notice.raw)
        self._let_go(listen)
        request.close()

    def acknowledged(self, server: Downstream, notice: Frame) -> bool:
        """The first word of a part; false when it belongs to no stream."""
        listen = self._listens.of_notice(server.name, notice)
        if listen is None:
            return False
        server.discovered = True
        self._tell(listen, listen.acknowledged(server.name, notice))
        return True

    def notice(self, server: Downstream, notice: Frame) -> list[bytes] | None:
        """A tagged notice, as the host is to read it; `None` when no stream asked for it."""
        listen = self._listens.of_notice(server.name, notice)
        return None if listen is None else listen.notice(server.name, notice)

    def ended(self, server: Downstream, notice: Frame) -> bool:
        """A server cancels a stream; false when it has none of that id."""
        for listen in self._listens:
            if listen.is_at(server.name) and key(listen.leg_id(server.name)) == key(
                (notice.params or {}).get("requestId")
            ):
                server.forget(key(listen.leg_id(server.name)))
                if self._connection.fleet.only is None:
                    self._tell(listen, listen.ended(server.name, notice))
                else:
                    listen.close()
                    self._connection.send(notice.raw)
                    self._let_go(listen).close()
                return True
        return False

    def announce(self, method: str) -> None:
        """Tell the streams that asked of a change on the proxy's own account."""
        for listen in self._listens:
            self._tell(listen, listen.announce(method))

    # -- handshake subscriptions --------------------------------------------------------------------------------------

    def watch(self, server: Downstream, uri: str) -> None:
        """The server took a subscription."""
        self._watchers.subscribe(HOST, server=server.name, uri=uri)

    def unwatch(self, server: Downstream, uri: str) -> None:
        """The server gave it up."""
        self._watchers.unsubscribe(HOST, server=server.name, uri=uri)

    def is_watching(self, server: Downstream, uri: str) -> bool:
        """Whether an update of this resource is for the host."""
        return bool(self._watchers.watching(server.name, uri))

    # -- death and return ---------------------------------------------------------------------------------------------

    def lost(self, server: Downstream) -> None:
        """Its parts are gone until it is back; the host is not kept waiting for them."""
        for listen in self._listens:
            self._tell(listen, listen.lost(server.name))

    def back(self, server: Downstream) -> None:
        """Open its parts again, and its subscriptions."""
        for listen in self._listens:
            raw = listen.reopen(server.name)
            if raw is not None:
                self._send(listen, server, raw)
        if server.initialized:
            for uri in self._watchers.watched(server.name):
                self._connection.spawn(self._watch_again, server, uri)

    async def _watch_again(self, server: Downstream, uri: str) -> None:
        try:
            answer = await server.ask("resources/subscribe", {"uri": uri})
        except PortError as error:
            self._connection.log(f"{server.name}: {uri!a} is not watched any more: {error.summary}")
            return
        if answer.kind is FrameKind.ERROR:
            self._connection.log(f"{server.name}: {uri!a} is not watched any more: it refused")
