"""Who is told of changes: `resources/subscribe` counted, `subscriptions/listen` split over servers and joined again.

State only: what is to be sent comes back as bytes, and the caller sends it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Final

from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.proxy.merge import answer
from soothsayer_mcp.proxy.stamps import meta_edits
from soothsayer_mcp.wire.eras import META_SUBSCRIPTION_ID
from soothsayer_mcp.wire.frame import Edit, Frame, FrameKind, Replace
from soothsayer_mcp.wire.ids import IdKey, key

FLAGS: Final[Mapping[str, str]] = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
"""Notice -> the member of a filter that asks for it."""

URIS: Final = "resourceSubscriptions"
TASK_IDS: Final = "taskIds"
"""Of the tasks extension."""

HELD_LIMIT: Final = 1_024
"""Notices kept while servers still acknowledge; past it, the acknowledgement goes out with what is known."""


class Watchers:
    """Handshake era: which host connection watches which resource of which server."""

    def __init__(self) -> None:
        """Nobody watches anything."""
        self._by_server: dict[str, dict[str, set[str]]] = {}

    def subscribe(self, connection: str, *, server: str, uri: str) -> bool:
        """Count a connection in; true when it is the first and the server has to be told."""
        holders = self._by_server.setdefault(server, {}).setdefault(uri, set())
        holders.add(connection)
        return len(holders) == 1

    def unsubscribe(self, connection: str, *, server: str, uri: str) -> bool:
        """Count a connection out; true when nobody is left and the server has to be told."""
        uris = self._by_server.get(server, {})
        holders = uris.get(uri, set())
        holders.discard(connection)
        if not holders:
            uris.pop(uri, None)
        return not holders

    def leave(self, connection: str) -> tuple[tuple[str, str], ...]:
        """Count a connection out everywhere; tells (server, URI) of what nobody watches any more."""
        held = [
            (server, uri) for server, uris in self._by_server.items() for uri in uris if connection in uris.get(uri, ())
        ]
        return tuple((server, uri) for server, uri in held if self.unsubscribe(connection, server=server, uri=uri))

    def watching(self, server: str, uri: str) -> frozenset[str]:
        """Tell whom an update goes to.

        A server may name a part of what was subscribed to, in words only it knows, so an update of a URI that nobody
        named goes to all who watch anything there.
        """
        uris = self._by_server.get(server, {})
        exact = uris.get(uri)
        return frozenset(exact) if exact else frozenset[str]().union(*uris.values())

    def watched(self, server: str) -> tuple[str, ...]:
        """Tell what to subscribe to again when a server was started again."""
        return tuple(self._by_server.get(server, {}))


class _Part(Enum):
    """How far one server's part of a listen request has come."""

    OPENING = auto()
    OPEN = auto()
    LOST = auto()
    """Its server died; opened again when that is back."""
    REOPENING = auto()
    ENDED = auto()


class Listen:
    """One `subscriptions/listen` of a host, and its parts at several servers."""

    def __init__(
        self,
        request: Frame,
        parts: Mapping[str, bytes],
        *,
        own: Collection[str] = (),
        leg_ids: Mapping[str, RequestId] | None = None,
    ) -> None:
        """Take the host's request and, for each server to be asked, the filter (`split`).

        `own` names the filter members that the proxy itself serves. `leg_ids` says under which id a server is asked
        where that is not the host's.
        """
        assert request.id is not None
        self.id: RequestId = request.id
        self._request = request
        self._raw_id = compact(request.id)
        self._filters = dict(parts)
        self._parts = dict.fromkeys(parts, _Part.OPENING)
        self._leg_ids: dict[str, RequestId] = {server: (leg_ids or {}).get(server, request.id) for server in parts}
        self._wanted = _filter(request)
        self._own = [flag for flag in FLAGS.values() if flag in own and self._wanted.get(flag) is True]
        self._taken: dict[str, Frame] = {}
        self._errors: dict[str, Frame] = {}
        self._held: list[bytes] = []
        self._acknowledged = False
        self.closed = False
        """Whether the host got the last word; nothing is sent to it any more."""

    def begin(self) -> tuple[dict[str, bytes], list[bytes]]:
        """Tell what to send to the servers, and to the host: with nobody to ask, the acknowledgement at once."""
        return {server: self._to_server(server) for server in self._parts}, self._try_acknowledge()

    def acknowledged(self, server: str, notice: Frame) -> list[bytes]:
        """Take a server's acknowledgement; the host gets one, when the last server has answered."""
        state = self._parts.get(server)
        if state is None or self.closed:
            return []
        self._parts[server] = _Part.OPEN
        if state is not _Part.OPENING or self._acknowledged:
            return []
        self._taken[server] = notice
        return self._try_acknowledge()

    def notice(self, server: str, notice: Frame) -> list[bytes] | None:
        """Take a change notice of a server, under the host's id; `None` when the host did not ask for such."""
        if self.closed or server not in self._parts or not self._asks_for(notice):
            return None
        return self._tell(self._tagged(notice, "params"))

    def announce(self, method: str) -> list[bytes]:
        """Tell the host of a changed list on the proxy's own account, if it asked."""
        if self.closed or FLAGS.get(method) not in self._own:
            return []
        params = {"_meta": {META_SUBSCRIPTION_ID: self.id}}
        return self._tell(compact({"jsonrpc": "2.0", "method": method, "params": params}))

    def ended(self, server: str, last: Frame) -> list[bytes]:
        """Take a server's answer to its part: it refuses to listen, or it is done.

        A refusal only leaves that server out, unless all refuse. A server that is done ends the whole, so that the host
        knows to listen again; the others (`open_servers`) are then to be cancelled.
        """
        state = self._parts.get(server)
        if self.closed or state in {None, _Part.LOST, _Part.ENDED}:
            return []
        self._parts[server] = _Part.ENDED
        if state is _Part.OPENING and last.kind is FrameKind.ERROR:
            self._errors[server] = last
            return [] if self._acknowledged else self._try_acknowledge()
        told = self._acknowledge()
        self.closed = True
        if len(self._parts) == 1 and last.kind is FrameKind.RESULT:
            return [*told, self._tagged(last, "result")]
        meta = compact({META_SUBSCRIPTION_ID: self.id})
        return [*told, answer(self._request, b'{"resultType":"complete","_meta":' + meta + b"}")]

    def lost(self, server: str) -> list[bytes]:
        """Note that a server died; the host is not kept waiting for its acknowledgement."""
        if self.closed or self._parts.get(server) in {None, _Part.ENDED}:
            return []
        self._parts[server] = _Part.LOST
        return [] if self._acknowledged else self._try_acknowledge()

    def reopen(self, server: str) -> bytes | None:
        """Give what to send to a server that is back; its acknowledgement is not shown again."""
        if self.closed or self._parts.get(server) is not _Part.LOST:
            return None
        self._parts[server] = _Part.REOPENING
        return self._to_server(server)

    def hurry(self) -> list[bytes]:
        """Acknowledge with what is known: a server has taken too long. It may still come."""
        return [] if self.closed else self._acknowledge()

    def close(self) -> tuple[str, ...]:
        """End it without a word, as the host cancelled or left; tells the servers to cancel at."""
        left = () if self.closed else self.open_servers()
        self.closed = True
        return left

    def open_servers(self) -> tuple[str, ...]:
        """Tell the servers whose part is open or opening, with which a cancel has work to do."""
        return tuple(server for server, state in self._parts.items() if state not in {_Part.LOST, _Part.ENDED})

    def leg_id(self, server: str) -> RequestId:
        """Tell under which id a server was asked."""
        return self._leg_ids[server]

    def is_at(self, server: str) -> bool:
        """Tell whether a server was asked at all."""
        return server in self._parts

    def _to_server(self, server: str) -> bytes:
        edits: list[Edit] = []
        current = self._request.slice(("params", "notifications"))
        if current != self._filters[server]:
            edits.append(Replace(("params", "notifications"), self._filters[server]))
        if key(self._leg_ids[server]) != key(self.id):
            edits.append(Replace(("id",), compact(self._leg_ids[server])))
        return self._request.edited(*edits)

    def _try_acknowledge(self) -> list[bytes]:
        if _Part.OPENING in self._parts.values():
            return []
        if self._parts and len(self._errors) == len(self._parts) and not self._own:
            # Nobody listens: the host gets the first refusal, as it would from that server.
            self.closed = True
            first = next(error for server in self._parts if (error := self._errors.get(server)) is not None)
            return [first.edited(Replace(("id",), self._raw_id))]
        return self._acknowledge()

    def _acknowledge(self) -> list[bytes]:
        if self._acknowledged:
            return []
        self._acknowledged = True
        held, self._held = self._held, []
        return [self._acknowledgement(), *held]

    def _acknowledgement(self) -> bytes:
        if len(self._parts) == 1 and len(self._taken) == 1:
            (only,) = self._taken.values()
            took = _filter(only)
            if all(took.get(flag) is True for flag in self._own):
                return self._tagged(only, "params")
        members: dict[str, bytes] = dict.fromkeys(self._own, b"true")
        for name in (URIS, TASK_IDS):
            wanted = self._wanted.get(name)
            took_any = {text for frame in self._taken.values() for text in _texts(_filter(frame).get(name))}
            if wanted is not None and took_any:
                members[name] = compact([text for text in _texts(wanted) if text in took_any])
        for frame in self._taken.values():
            for name, value in _filter(frame).items():
                raw = frame.slice(("params", "notifications", name))
                if raw is not None and value is not False and value is not None and name not in {URIS, TASK_IDS}:
                    members.setdefault(name, raw)
        inner = b",".join(compact(name) + b":" + raw for name, raw in members.items())
        meta = compact({META_SUBSCRIPTION_ID: self.id})
        return (
            b'{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{'
            + inner
            + b'},"_meta":'
            + meta
            + b"}}"
        )

    def _tell(self, raw: bytes) -> list[bytes]:
        if self._acknowledged:
            return [raw]
        if raw not in self._held:
            self._held.append(raw)
        return self._acknowledge() if len(self._held) >= HELD_LIMIT else []

    def _asks_for(self, notice: Frame) -> bool:
        flag = FLAGS.get(notice.method)
        if flag is not None:
            return self._wanted.get(flag) is True
        if notice.method == "notifications/resources/updated":
            # The URI may be a part of what was asked for, in words only the server knows.
            return bool(_texts(self._wanted.get(URIS)))
        if notice.method == "notifications/tasks":
            task_id = (notice.params or {}).get("taskId")
            return task_id in _texts(self._wanted.get(TASK_IDS))
        # Of an extension: asked for if the filter has a member that we do not know.
        return bool(self._wanted.keys() - {*FLAGS.values(), URIS, TASK_IDS})

    def _tagged(self, frame: Frame, holder: str) -> bytes:
        """Give a frame whose subscription id is the host's, with its type; untouched when it already is."""
        edits: list[Edit] = []
        if META_SUBSCRIPTION_ID not in frame.meta or key(frame.meta[META_SUBSCRIPTION_ID]) != key(self.id):
            edits += meta_edits(frame, holder, {META_SUBSCRIPTION_ID: self._raw_id})
        if frame.kind is FrameKind.RESULT and key(frame.id) != key(self.id):
            edits.append(Replace(("id",), self._raw_id))
        return frame.edited(*edits)


class Listens:
    """The open listen requests of one host connection."""

    def __init__(self) -> None:
        """None is open."""
        self._open: dict[IdKey, Listen] = {}

    def __iter__(self) -> Iterator[Listen]:
        """Go through the open ones, oldest first."""
        return iter(tuple(self._open.values()))

    def add(self, listen: Listen) -> None:
        """Take a new one in."""
        self._open[key(listen.id)] = listen

    def get(self, request_id: RequestId) -> Listen | None:
        """Find one by the host's id."""
        return self._open.get(key(request_id))

    def remove(self, listen: Listen) -> None:
        """Let one go that is closed."""
        self._open.pop(key(listen.id), None)

    def of_notice(self, server: str, notice: Frame) -> Listen | None:
        """Find the one that a server's notice belongs to, by its subscription id; `None` when that is not clear.

        Some servers write the id with another type; that is mended where only one can be meant.
        """
        tag = notice.meta.get(META_SUBSCRIPTION_ID)
        here = [listen for listen in self._open.values() if listen.is_at(server)]
        exact = [listen for listen in here if key(listen.leg_id(server)) == key(tag)]
        if exact:
            return exact[0]
        if isinstance(tag, str | int) and not isinstance(tag, bool):
            here = [listen for listen in here if str(listen.leg_id(server)) == str(tag)]
        elif tag is not None:
            return None
        return here[0] if len(here) == 1 else None


def split(
    request: Frame,
    servers: Sequence[str],
    *,
    owner_of_uri: Callable[[str], str | None],
    owner_of_task: Callable[[str], str | None],
    refused: Collection[str] = (),
) -> dict[str, bytes]:
    """Divide a listen request's filter over servers: server -> its filter. `refused` holds URIs that policy denies.

    One server alone gets the host's own bytes. A server that has nothing to listen for is not asked.
    """
    wanted = _filter(request)
    raw = request.slice(("params", "notifications")) or b"{}"
    if len(servers) == 1 and not any(uri in refused for uri in _texts(wanted.get(URIS))):
        return {servers[0]: raw}
    parts: dict[str, bytes] = {}
    for server in servers:
        members: dict[str, bytes] = {}
        for name, value in wanted.items():
            if name == URIS:
                own: Iterable[str] = (
                    uri
                    for uri in _texts(value)
                    if uri not in refused and (len(servers) == 1 or owner_of_uri(uri) == server)
                )
            elif name == TASK_IDS:
                own = (task for task in _texts(value) if len(servers) == 1 or owner_of_task(task) == server)
            else:
                if value is not False and value is not None:
                    members[name] = request.slice(("params", "notifications", name)) or b"null"
                continue
            texts: list[Json] = list(own)
            if texts:
                members[name] = compact(texts)
        if members or len(servers) == 1:
            parts[server] = b"{" + b",".join(compact(name) + b":" + part for name, part in members.items()) + b"}"
    return parts


def requested_uris(request: Frame) -> tuple[str, ...]:
    """Tell the URIs that a listen request asks for, for policy to check."""
    return tuple(_texts(_filter(request).get(URIS)))


def _filter(frame: Frame) -> JsonObject:
    value = (frame.params or {}).get("notifications")
    return value if isinstance(value, dict) else {}


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()
