"""The servers behind one host connection, in the order of the configuration; the governor's `Tools`."""

from collections.abc import Callable, Iterator, Sequence

import anyio

from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import RecordedStep
from soothsayer_mcp.ports import Call, Clock, Ids, PortError
from soothsayer_mcp.proxy.downstream import Downstream, Limits, ServerEntry, ServerSide
from soothsayer_mcp.proxy.names import Names
from soothsayer_mcp.wire.ids import Mint


class Fleet:
    """One or several servers. One server's trouble never touches another."""

    def __init__(self, entries: Sequence[ServerEntry], *, clock: Clock, ids: Ids, limits: Limits | None = None) -> None:
        """Servers that are not started yet."""
        self.mint = mint = Mint(ids.token())
        """Makes the ids of our own requests to servers."""
        limits = limits or Limits()
        self._servers = {
            entry.name: Downstream(entry, clock=clock, mint=mint, bridge_mint=lambda: Mint(ids.token()), limits=limits)
            for entry in entries
        }
        self.tiers: dict[str, str] = {}
        """The model tier of the call that each server was sent last; empty for none."""
        self.names = Names(list(self._servers))
        self.only: Downstream | None = next(iter(self._servers.values())) if len(self._servers) == 1 else None
        """The one server, when there is exactly one."""

    def __iter__(self) -> Iterator[Downstream]:
        """In the order of the configuration."""
        return iter(self._servers.values())

    def __len__(self) -> int:
        """How many servers are configured."""
        return len(self._servers)

    def named(self, name: str) -> Downstream | None:
        """Find a server by its configured name."""
        return self._servers.get(name)

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        """Send a recorded step to its server and wait for the answer. Raises `PortError`, acted no or maybe."""
        server = self._servers.get(step.proposal.server)
        if server is None:
            raise PortError(Reason.TOOL_UNKNOWN, f"no server {step.proposal.server}", acted=Acted.NO)
        self.tiers[server.name] = step.decision.tier
        return await server.forward(step, call)

    def start(self, side: ServerSide) -> None:
        """Start all servers at once; who fails leaves the others alone."""
        for server in self:
            server.attach(side)
            server.start()

    def pause(self) -> None:
        """Stop reading every server."""
        self._each(Downstream.pause)

    def resume(self) -> None:
        """Read every server again."""
        self._each(Downstream.resume)

    def give_up(self, why: str) -> None:
        """Fail all that the servers still owe."""
        for server in self:
            server.give_up(f"{why}: {server.name} had not answered")

    async def aclose(self) -> None:
        """End all connections at once, each in its own bounded time."""
        async with anyio.create_task_group() as tasks:
            for server in self:
                tasks.start_soon(server.aclose)

    def _each(self, act: Callable[[Downstream], None]) -> None:
        for server in self:
            act(server)
