"""What servers define at this moment, seen without a host: each is opened, listed and ended. No tool is called."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from soothsayer_mcp import __version__
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.ports import LegEnd, PortError, SeenTool
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.paging import Envelope, pages_of
from soothsayer_mcp.proxy.pins import ListUnreadableError, digest_of, items_of
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import LATEST_HANDSHAKE
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.strict import WireError

END_S: Final = 10.0
"""How long servers may take to end."""
_ENVELOPE: Final = Envelope(meta=None)


async def present_tools(fleet: Fleet) -> Mapping[str, list[SeenTool] | PortError]:
    """Ask every server of a fleet for its tools and end it: server -> its tools in its order, or why there are none."""
    found: dict[str, list[SeenTool] | PortError] = {}
    try:
        async with anyio.create_task_group() as tasks:
            fleet.start(Listening(tasks))
            async with anyio.create_task_group() as asking:
                for server in fleet:
                    asking.start_soon(_look, server, found)
            with anyio.move_on_after(END_S):
                await fleet.aclose()
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(END_S):
            await fleet.aclose()
    return {server.name: found[server.name] for server in fleet}


async def _look(server: Downstream, found: dict[str, list[SeenTool] | PortError]) -> None:
    try:
        found[server.name] = await _listed(server)
    except PortError as error:
        found[server.name] = error


async def opened(server: Downstream) -> Json:
    """Open a connection; what the server can do. Raises `PortError`."""
    params: JsonObject = {
        "protocolVersion": LATEST_HANDSHAKE,
        "capabilities": {},
        "clientInfo": {"name": "soothsayer", "version": __version__},
    }
    opened = await server.ask("initialize", params)
    if opened.kind is not FrameKind.RESULT:
        raise PortError(Reason.SERVER_UNREACHABLE, f"{server.name} refused the opening", acted=Acted.NO)
    server.initialized = True
    result = opened.result
    capabilities = result.get("capabilities") if isinstance(result, dict) else None
    server.notify(replies.notification("notifications/initialized", None))
    return capabilities


async def _listed(server: Downstream) -> list[SeenTool]:
    capabilities = await opened(server)
    if not isinstance(capabilities, dict) or capabilities.get("tools") is None:
        return []
    pages = await pages_of(server, "tools/list", _ENVELOPE)
    try:
        items = [item for page in pages for item in items_of(page, "tools") if item is not None]
    except ListUnreadableError as error:
        raise PortError(Reason.SERVER_UNREACHABLE, f"{server.name} {error}", acted=Acted.NO) from error
    return [SeenTool(name=item.name, digest=digest_of(item), raw=item.raw) for item in items]


class Listening:
    """Hears of what servers do beside answering: nobody is here to be asked, and nothing is called."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks

    def from_server(self, server: Downstream, frame: Frame) -> None:
        """A request gets an answer, so that no server waits for one."""
        if frame.kind is FrameKind.REQUEST and frame.id is not None:
            ping = frame.method == "ping"
            no = replies.error(frame.id, Code.METHOD_NOT_FOUND, "Only the tools are listed here.")
            server.notify(replies.result(frame.id, {}) if ping else no)

    def garbage_from(self, server: Downstream, line: bytes, wrong: WireError) -> None:
        """A line that is no message answers nothing."""

    def misplaced_from(self, server: Downstream, raw: bytes) -> None:
        """A message without a place answers nothing."""

    def read_from(self, server: Downstream) -> None:
        """Nothing waits for this."""

    def died(self, server: Downstream, end: LegEnd) -> None:
        """What it owed has failed, and that is the answer."""

    async def reopen(self, server: Downstream) -> None:
        """A server that died is not started again to be listed."""
        raise PortError(Reason.SERVER_UNREACHABLE, f"{server.name} ended while it was listed", acted=Acted.NO)

    def reopened(self, server: Downstream) -> None:
        """Nothing was."""

    def late_answer(self, server: Downstream, frame: Frame, step: object, call: object, late: object) -> None:
        """No call was sent that could be answered late."""

    def vouches(self, server: Downstream, step: object) -> bool:
        """No step is ever sent from here."""
        del server, step
        return False

    async def compare(self, server: Downstream, step: object) -> None:
        """The same."""
        del step
        raise PortError(Reason.STATE_CHANGED, f"{server.name} is only listed", acted=Acted.NO)

    def spawn(self, task: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Run a task for as long as servers are looked at."""
        self._tasks.start_soon(task, *args)
