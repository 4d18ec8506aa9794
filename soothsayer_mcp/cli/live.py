"""The tools that the servers of a configuration define at this moment: they are started, listed and ended."""

from collections.abc import Mapping
from pathlib import Path

import anyio

from soothsayer_mcp.adapters.config import Config, server_identity
from soothsayer_mcp.adapters.orphans import Orphans
from soothsayer_mcp.adapters.store.folder import prepare
from soothsayer_mcp.adapters.system import RandomIds, SystemClock
from soothsayer_mcp.cli.plan import spawn
from soothsayer_mcp.cli.wiring import connects_of
from soothsayer_mcp.ports import PortError, SeenTool
from soothsayer_mcp.proxy.downstream import Limits, ServerEntry
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.present import present_tools


def live_tools(config: Config, state: Path) -> Mapping[str, list[SeenTool] | PortError]:
    """Start every server as the proxy would and list its tools. Raises `Problem` or `StoreError`."""
    prepare(state)
    orphans = Orphans(state)
    started = spawn(config)
    connects = connects_of(config, started, orphans.note)
    entries = [
        ServerEntry(
            name=spec.name,
            connect=connects[spec.name],
            identity=server_identity(spec),
            start_timeout_s=spec.start_timeout_s,
        )
        for spec in config.servers
    ]

    async def look() -> Mapping[str, list[SeenTool] | PortError]:
        limits = Limits(max_frame=config.max_frame)
        return await present_tools(Fleet(entries, clock=SystemClock(), ids=RandomIds(), limits=limits))

    return anyio.run(look)
