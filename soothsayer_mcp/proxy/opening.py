"""How a connection opens, in either era, and how a server that came back is brought to where it was."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio

from soothsayer_mcp import __version__
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy import merge
from soothsayer_mcp.proxy.connection import HostConnection, client_named
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.lists import Books
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import BATCH_VERSION
from soothsayer_mcp.wire.frame import Frame, FrameKind, Replace

OPENING_BOUND_S = 8.0
"""How long several servers may take to open; hosts give up at 10 s."""
SERVER_INFO: Final = compact({"name": "soothsayer", "title": "Soothsayer MCP", "version": __version__})
LISTS: Final = ("tools", "prompts", "resources")


class Opening:
    """The rows of openings, and all that has to be said again to a server that was started again."""

    def __init__(self, connection: HostConnection, books: Books) -> None:
        """Nothing is open yet."""
        self._connection = connection
        self._books = books
        self._initialize: Frame | None = None
        self._initialized: bytes | None = None
        self._level: Frame | None = None
        self._results: dict[str, Frame] = {}
        self._answered = False

    # -- rows ---------------------------------------------------------------------------------------------------------

    def initialize(self, request: HostRequest) -> None:
        """`initialize`: one server's own answer, or one answer of several."""
        connection = self._connection
        params = request.frame.params or {}
        connection.client = client_named(params.get("clientInfo"))
        self._initialize = request.frame
        self._results.clear()
        only = connection.fleet.only
        if only is None:
            connection.spawn(self._initialize_all, request)
            return

        def then(answer: Frame) -> bytes:
            if answer.kind is FrameKind.RESULT:
                self._take_initialize(only, answer)
                connection.version = _version(answer)
            return answer.raw

        connection.pass_on(request, only, then=then)

    def initialized(self, frame: Frame) -> None:
        """`notifications/initialized`: to every server that was initialized."""
        self._initialized = frame.raw
        self._connection.listening = True
        for server in self._connection.fleet:
            if server.initialized or self._connection.fleet.only is server:
                server.notify(frame.raw)

    def discover(self, request: HostRequest) -> None:
        """`server/discover`: one server's own answer, or one of several if all speak the stateless era."""
        only = self._connection.fleet.only
        if only is None:
            self._connection.spawn(self._discover_all, request)
        else:
            self._connection.pass_on(request, only)

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

    def has(self, server: Downstream, capability: str) -> bool:
        """Whether a server declared a capability, in the opening that counts; `{}` is one."""
        return capability in self.capabilities(server)

    def capabilities(self, server: Downstream) -> dict[str, Json]:
        """What a server declared."""
        frame = self._results.get(server.name)
        result = None if frame is None else frame.result
        declared = result.get("capabilities") if isinstance(result, dict) else None
        return declared if isinstance(declared, dict) else {}

    async def _initialize_all(self, request: HostRequest) -> None:
        await self._gather(self._initialize_one, request.frame)
        self._answered = True
        openings = self._openings()
        if not openings:
            request.answer(replies.error(request.id, Code.INTERNAL_ERROR, f"No server answered: {self._missing()}."))
            return
        asked = (request.frame.params or {}).get("protocolVersion")
        result = merge.initialize_result(
            openings, asked=asked if isinstance(asked, str) else "", server_info=SERVER_INFO, carries=_carries
        )
        answer = merge.answer(request.frame, result)
        versions = [_version(opening.frame) for opening in openings]
        self._connection.version = merge.merged_version(asked if isinstance(asked, str) else "", versions)
        self._report_missing()
        request.answer(answer)

    async def _initialize_one(self, server: Downstream, frame: Frame) -> None:
        request_id = server.own_id()
        answer = await server.ask_as(request_id, merge.initialize_for(frame, request_id=request_id, forbidden=()))
        if answer.kind is not FrameKind.RESULT:
            raise PortError(Reason.SERVER_UNREACHABLE, f"{server.name} refused the opening", acted=Acted.NO)
        self._take_initialize(server, answer)
        if self._answered:
            self._came_late(server)

    async def _discover_all(self, request: HostRequest) -> None:
        found: dict[str, Frame] = {}

        async def ask(server: Downstream, frame: Frame) -> None:
            request_id = server.own_id()
            answer = await server.ask_as(request_id, frame.edited(Replace(("id",), compact(request_id))))
            if answer.kind is FrameKind.RESULT:
                found[server.name] = answer

        await self._gather(ask, request.frame)
        openings = [
            merge.Opening(server=server.name, frame=found[server.name])
            for server in self._connection.fleet
            if server.name in found
        ]
        whole = len(openings) == len(self._connection.fleet)
        result = merge.discover_result(openings, server_info=SERVER_INFO, carries=_carries) if whole else None
        if result is None:
            request.answer(
                replies.error(request.id, Code.METHOD_NOT_FOUND, "Not all servers speak the stateless revision.")
            )
            return
        self._results.update(found)
        for server in self._connection.fleet:
            server.discovered = True
        request.answer(merge.answer(request.frame, result))

    async def _set_level_of_all(self, request: HostRequest) -> None:
        errors: list[Frame] = []

        async def ask(server: Downstream, frame: Frame) -> None:
            request_id = server.own_id()
            answer = await server.ask_as(request_id, frame.edited(Replace(("id",), compact(request_id))))
            if answer.kind is FrameKind.ERROR:
                errors.append(answer)

        await self._gather(ask, request.frame, having="logging")
        if errors:
            request.answer(errors[0].edited(Replace(("id",), compact(request.id))))
        else:
            request.answer(replies.result(request.id, {}))

    async def _gather(self, ask: "_Ask", frame: Frame, *, having: str = "") -> None:
        """Ask servers at once and wait for all, bounded; who takes longer goes on without being waited for."""
        waiting = {server.name for server in self._connection.fleet if not having or self.has(server, having)}
        done = anyio.Event()
        if not waiting:
            return

        async def one(server: Downstream) -> None:
            try:
                await ask(server, frame)
            except PortError as error:
                self._connection.log(f"{server.name}: {frame.method}: {error.summary}")
            waiting.discard(server.name)
            if not waiting:
                done.set()

        for server in self._connection.fleet:
            if server.name in waiting:
                self._connection.spawn(one, server)
        with anyio.move_on_after(OPENING_BOUND_S):
            await done.wait()

    def _openings(self) -> list[merge.Opening]:
        return [
            merge.Opening(server=server.name, frame=self._results[server.name])
            for server in self._connection.fleet
            if server.name in self._results
        ]

    def _missing(self) -> str:
        return ", ".join(server.name for server in self._connection.fleet if server.name not in self._results)

    def _report_missing(self) -> None:
        missing = self._missing()
        if missing:
            self._connection.log(f"not ready, and left out until they are: {missing}")

    def _came_late(self, server: Downstream) -> None:
        if self._initialized is not None:
            server.notify(self._initialized)
        self._announce(server)

    # -- coming back --------------------------------------------------------------------------------------------------

    async def reopen(self, server: Downstream) -> None:
        """Say again what a server started again has to know. Raises `PortError`."""
        self._books.of(server).void()
        if server.name not in self._results or self._initialize is None:
            return
        request_id = server.own_id()
        raw = merge.initialize_for(self._initialize, request_id=request_id, forbidden=())
        answer = await server.ask_as(request_id, raw, early=True)
        if answer.kind is not FrameKind.RESULT:
            raise PortError(Reason.SERVER_UNREACHABLE, f"{server.name} refused the opening", acted=Acted.NO)
        self._take_initialize(server, answer)
        if self._initialized is not None:
            server.send_early(self._initialized)
        if self._level is not None and self.has(server, "logging"):
            request_id = server.own_id()
            await server.ask_as(request_id, self._level.edited(Replace(("id",), compact(request_id))), early=True)

    def came_back(self, server: Downstream) -> None:
        """Tell the host that the lists of a server which was started again may be others."""
        self._announce(server)

    def _announce(self, server: Downstream) -> None:
        if not self._connection.listening:
            return
        declared = self.capabilities(server)
        for subject in LISTS:
            if subject in declared:
                self._connection.send(replies.notification(f"notifications/{subject}/list_changed", None))

    def announce_tools(self) -> None:
        """Tell the host that what it may see of the tools has changed."""
        if self._connection.listening:
            self._connection.send(replies.notification("notifications/tools/list_changed", None))

    def _take_initialize(self, server: Downstream, answer: Frame) -> None:
        self._results[server.name] = answer
        server.initialized = True
        server.batches = _version(answer) == BATCH_VERSION
        self._books.of(server).void()


_Ask: TypeAlias = Callable[[Downstream, Frame], Awaitable[None]]


def _version(answer: Frame) -> str:
    result = answer.result
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    return version if isinstance(version, str) else ""


def _carries(kind: str, name: str) -> bool:
    """Nothing that needs more than passing is promised for several servers yet, tasks of the handshake era apart."""
    del name
    return kind == "tasks"
