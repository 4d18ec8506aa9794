"""How a connection opens, in either era, and how a server that came back is brought to where it was."""

from collections.abc import Mapping
from functools import partial
from typing import Final

import anyio

from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy import merge
from soothsayer_mcp.proxy.connection import SERVER_INFO, HostConnection, client_named, unread
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.guidance import Guidance, says_something
from soothsayer_mcp.proxy.masks import Masks
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.own import Own
from soothsayer_mcp.proxy.pins import Books
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import BATCH_VERSION, META_SERVER_INFO, STATELESS_VERSION
from soothsayer_mcp.wire.frame import Frame, FrameKind, Insert, Replace
from soothsayer_mcp.wire.strict import read_server

OPENING_BOUND_S = 8.0
"""How long several servers may take to open; hosts give up at 10 s."""
_ALONE: Final = (
    b'{"resultType":"complete","supportedVersions":%b,"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private",'
    b'"_meta":{"%b":%b}}'
) % (compact([STATELESS_VERSION]), META_SERVER_INFO.encode(), SERVER_INFO)
"""What is discovered where there is no server: our own tools."""
LISTS: Final = ("tools", "prompts", "resources")


class Opening:
    """The rows of openings, and all that has to be said again to a server that was started again."""

    def __init__(self, connection: HostConnection, books: Books, masks: Masks, own: Own, guidance: Guidance) -> None:
        """Nothing is open yet."""
        self.bound_s = OPENING_BOUND_S
        """How long several servers may take to open."""
        self._connection = connection
        self._books = books
        self._masks = masks
        self._own = own
        self._guidance = guidance
        self._initialize: Frame | None = None
        self._initialized: bytes | None = None
        self._level: Frame | None = None
        self._results: dict[str, Frame] = {}
        self._answered = False
        self.underway: anyio.Event | None = None
        """Set while several servers open: what comes meanwhile waits for it, as hosts that pipe their input expect."""

    # -- rows ---------------------------------------------------------------------------------------------------------

    def initialize(self, request: HostRequest) -> None:
        """`initialize`: one server's own answer, or one answer of several."""
        connection = self._connection
        params = request.frame.params or {}
        offers = params.get("capabilities")
        connection.client = client_named(params.get("clientInfo"), offers)
        connection.offers = offers if isinstance(offers, dict) else {}
        self._initialize = request.frame
        self._initialized = None
        self._results.clear()
        only = connection.fleet.only
        if only is None:
            self.underway = anyio.Event()
            connection.spawn(self._initialize_all, request, self.underway)
            return

        def then(answer: Frame) -> bytes | None:
            if answer.kind is FrameKind.RESULT:
                self._take_initialize(only, answer)
                connection.version = _version(answer)
            return self._opened(request, only, answer)

        connection.pass_on(request, only, then=then, read=unread)

    def initialized(self, frame: Frame) -> None:
        """`notifications/initialized`: to every server that was initialized."""
        self._initialized = frame.raw
        self._connection.listening = True
        if self.underway is not None:
            return  # Said to all of them once they are open.
        for server in self._connection.fleet:
            if server.initialized or self._connection.fleet.only is server:
                server.notify(frame.raw)

    def discover(self, request: HostRequest) -> None:
        """`server/discover`: one server's own answer, or one of several if all speak the stateless era."""
        only = self._connection.fleet.only
        if only is None:
            self._connection.spawn(self._discover_all, request)
        else:
            self._connection.pass_on(request, only, then=partial(self._opened, request, only), read=unread)

    def _opened(self, request: HostRequest, server: Downstream, answer: Frame) -> bytes | None:
        """One server's opening, with its instructions only if they were accepted; `None` where that takes a while."""
        if not says_something(answer):
            return self._as_read(request, server, answer)
        if self._connection.policies.current().mode is Mode.OBSERVE:
            self._connection.spawn(self._compare, server, answer)
            return self._as_read(request, server, answer)
        self._connection.spawn(self._open_compared, request, server, answer)
        return None

    def _as_read(self, request: HostRequest, server: Downstream, answer: Frame) -> bytes:
        readable = self._masks.answer(request, server.name, answer)
        return self._with_ours(readable) if readable.kind is FrameKind.RESULT else readable.raw

    async def _compare(self, server: Downstream, answer: Frame) -> None:
        await self._guidance.without_held(server, answer)

    async def _open_compared(self, request: HostRequest, server: Downstream, answer: Frame) -> None:
        try:
            answer = await self._guidance.without_held(server, answer)
        except PortError as error:
            request.answer(replies.error(request.id, Code.INTERNAL_ERROR, f"{error.summary}."))
            return
        request.answer(self._as_read(request, server, answer))

    def _with_ours(self, answer: Frame) -> bytes:
        """An opening that promises tools and resources, where the server has none and there are ours."""
        theirs = _capabilities(answer)
        ours = (("tools", self._connection.control_tools), ("resources", self._own.any))
        edits = [Insert(("result", "capabilities"), name, b"{}") for name, some in ours if some and name not in theirs]
        return answer.edited(*edits) if edits else answer.raw

    def ping(self, request: HostRequest) -> None:
        """`ping`: the one server answers itself; for several the proxy does."""
        only = self._connection.fleet.only
        if only is None:
            request.answer(replies.result(request.id, {}))
        else:
            self._connection.pass_on(request, only)

    def set_level(self, request: HostRequest) -> None:
        """`logging/setLevel`: to every server that logs."""
        self._level = request.frame
        only = self._connection.fleet.only
        if only is None:
            self._connection.spawn(self._set_level_of_all, request)
        else:
            self._connection.pass_on(request, only)

    # -- several ------------------------------------------------------------------------------------------------------

    async def _initialize_all(self, request: HostRequest, underway: anyio.Event) -> None:
        try:
            await self._open_all(request)
        finally:
            if self.underway is underway:
                self.underway = None
            underway.set()
        if self._initialized is not None:
            for server in self._connection.fleet:
                if server.initialized:
                    server.notify(self._initialized)

    async def _open_all(self, request: HostRequest) -> None:
        connection = self._connection
        params = request.frame.params or {}
        asked = params.get("protocolVersion")
        version = asked if isinstance(asked, str) else ""
        self._answered = False

        async def ask(server: Downstream) -> None:
            await self._initialize_one(server, request.frame)

        await connection.ask_all(list(connection.fleet), ask, within_s=self.bound_s, about="opening")
        self._answered = True
        openings = await self._without_held(self._openings())
        missing = ", ".join(server.name for server in connection.fleet if server.name not in self._results)
        if not openings and len(connection.fleet):
            request.answer(replies.error(request.id, Code.INTERNAL_ERROR, f"No server answered: {missing}."))
            return
        if missing:
            connection.log(f"left out until they are ready: {missing}")
        result = merge.initialize_result(openings, asked=version, server_info=SERVER_INFO, carries=_carries)
        answer = self._with_ours(read_server(merge.answer(request.frame, result)))
        connection.version = _version(read_server(answer))
        request.answer(self._masks.whole(request, self._results, answer))

    async def _initialize_one(self, server: Downstream, frame: Frame, *, early: bool = False) -> None:
        request_id = server.own_id()
        raw = merge.initialize_for(frame, request_id=request_id, forbidden=self._connection.forbidden(server.name))
        answer = await server.ask_as(request_id, raw, early=early)
        if answer.kind is not FrameKind.RESULT:
            raise PortError(Reason.SERVER_UNREACHABLE, f"{server.name} refused the opening", acted=Acted.NO)
        self._take_initialize(server, answer)
        if self._answered and not early:
            self._came_late(server)

    async def _discover_all(self, request: HostRequest) -> None:
        fleet = self._connection.fleet
        if not len(fleet):
            request.answer(merge.answer(request.frame, _ALONE))
            return
        found = await self._ask_the_same(list(fleet), request)
        openings = [
            merge.Opening(server=server.name, frame=found[server.name])
            for server in fleet
            if server.name in found and found[server.name].kind is FrameKind.RESULT
        ]
        whole = len(openings) == len(fleet)
        openings = await self._without_held(openings)
        result = merge.discover_result(openings, server_info=SERVER_INFO, carries=_carries) if whole else None
        if result is None:
            text = "Not all servers speak the stateless revision."
            request.answer(replies.error(request.id, Code.METHOD_NOT_FOUND, text))
            return
        for server in fleet:
            self._results[server.name] = found[server.name]
            server.discovered = True
            server.capabilities = _capabilities(found[server.name])
        answer = self._with_ours(read_server(merge.answer(request.frame, result)))
        request.answer(self._masks.whole(request, self._results, answer))

    async def _set_level_of_all(self, request: HostRequest) -> None:
        logging = [server for server in self._connection.fleet if server.can("logging")]
        found = await self._ask_the_same(logging, request)
        for answer in found.values():
            if answer.kind is FrameKind.ERROR:
                request.answer(answer.edited(Replace(("id",), compact(request.id))))
                return
        request.answer(replies.result(request.id, {}))

    async def _ask_the_same(self, servers: list[Downstream], request: HostRequest) -> dict[str, Frame]:
        """Send one request of the host to several servers, under ids of ours."""

        async def ask(server: Downstream) -> Frame:
            request_id = server.own_id()
            raw = request.frame.edited(Replace(("id",), compact(request_id)))
            return await server.ask_as(
                request_id, self._connection.narrowed(server.name, raw) if request.stateless else raw
            )

        return await self._connection.ask_all(servers, ask, within_s=self.bound_s, about=request.method)

    def _openings(self) -> list[merge.Opening]:
        return [
            merge.Opening(server=server.name, frame=self._results[server.name])
            for server in self._connection.fleet
            if server.name in self._results
        ]

    async def _without_held(self, openings: list[merge.Opening]) -> list[merge.Opening]:
        """Openings whose instructions were accepted, or are left out; one that cannot be read in one way says none."""
        compared: list[merge.Opening] = []
        for opening in openings:
            server = self._connection.fleet.named(opening.server)
            try:
                frame = opening.frame if server is None else await self._guidance.without_held(server, opening.frame)
            except PortError as error:
                self._connection.log(f"{opening.server} is left out: {error.summary}")
                continue
            compared.append(merge.Opening(server=opening.server, frame=frame))
        return compared

    def _came_late(self, server: Downstream) -> None:
        if self._initialized is not None:
            server.notify(self._initialized)
        self._announce(server)

    # -- coming back --------------------------------------------------------------------------------------------------

    async def reopen(self, server: Downstream) -> None:
        """Say again what a server started again has to know. Raises `PortError`."""
        if server.name not in self._results or self._initialize is None:
            return
        await self._initialize_one(server, self._initialize, early=True)
        if self._initialized is not None:
            server.send_early(self._initialized)
        if self._level is not None and server.can("logging"):
            request_id = server.own_id()
            await server.ask_as(request_id, self._level.edited(Replace(("id",), compact(request_id))), early=True)

    def came_back(self, server: Downstream) -> None:
        """Tell the host that the lists of a server which was started again may be others."""
        self._announce(server)

    def _announce(self, server: Downstream) -> None:
        if not self._connection.listening:
            return
        for subject in LISTS:
            if server.can(subject):
                self._connection.send(replies.notification(f"notifications/{subject}/list_changed", None))

    def announce_tools(self) -> None:
        """Tell the host that what it may see of the tools has changed."""
        if self._connection.listening:
            self._connection.send(replies.notification("notifications/tools/list_changed", None))

    def _take_initialize(self, server: Downstream, answer: Frame) -> None:
        self._results[server.name] = answer
        server.initialized = True
        server.capabilities = _capabilities(answer)
        server.batches = _version(answer) == BATCH_VERSION
        self._books.of(server).void()
        self._guidance.void(server.name)


def _capabilities(answer: Frame) -> Mapping[str, Json]:
    result = answer.result
    declared = result.get("capabilities") if isinstance(result, dict) else None
    return declared if isinstance(declared, dict) else {}


def _version(answer: Frame) -> str:
    result = answer.result
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    return version if isinstance(version, str) else ""


def _carries(kind: str, name: str) -> bool:
    """Nothing that needs more than passing is promised for several servers yet, tasks of the handshake era apart."""
    del name
    return kind == "tasks"
