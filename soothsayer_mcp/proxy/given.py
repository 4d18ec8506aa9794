"""What a host is given to read outside of calls makes of its run what a tool's result would: taint, and origins."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.ports import Given, Note, PortError
from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.owed import HostRequest

READ_BY_MODELS: Final = frozenset({"resources/read", "prompts/get"})
"""Requests whose answers a model reads."""


class Readings:
    """Counts what a host is given, on record before it is given."""

    def __init__(self, connection: HostConnection) -> None:
        """Nothing was read yet."""
        self._connection = connection
        self.run_of: Callable[[HostRequest], Awaitable[RunId]] = _no_run
        """Finds the run that a request belongs to; the relay sets it."""

    async def count(self, request: HostRequest, server: str, result: Json, *, size: int, params: JsonObject) -> None:
        """Count an answer as the host may read it. Raises `PortError` where that is not on record: it is not given."""
        await self._count(request, server, await self.run_of(request), result, size=size, params=params)

    async def count_anew(self, request: HostRequest, server: str, result: JsonObject, *, of: RunId, size: int) -> None:
        """Count what one run was given already, where another reads it now. Raises `PortError`."""
        run = await self.run_of(request)
        if run != of:
            await self._count(request, server, run, result, size=size, params=request.frame.params or {})

    async def _count(
        self, request: HostRequest, server: str, run: RunId, result: Json, *, size: int, params: JsonObject
    ) -> None:
        reads = self._connection.policies.current().message_candidates(server, request.method).reads
        shaped = as_content(result) if isinstance(result, dict) else None
        given = Given(
            origin=reads.origin,
            values=None if reads.keep is None or shaped is None else frozenset(reads.keep(shaped, params)),
            suspect=shaped is not None and reads.signs is not None and reads.signs(shaped),
        )
        fields: dict[str, Json] = {
            "method": request.method,
            "from": "server",
            "server": server,
            "effect": Effect.ALLOW.value,
            "rules": [],
            "bytes": size,
            "read": given.origin.value,
        }
        if given.suspect:
            fields["suspect"] = True
        await self._connection.store.note_given(given, Note(kind=Kind.MESSAGE_CHECKED, run=run, fields=fields))


def as_content(result: Mapping[str, Json]) -> JsonObject:
    """What of a resource or a prompt a model reads, in the form of a tool's result."""
    blocks: list[Json] = []
    contents, messages = result.get("contents"), result.get("messages")
    if isinstance(contents, list):
        blocks += [{"type": "resource", "resource": one} for one in contents]
    for message in messages if isinstance(messages, list) else ():
        held = message.get("content") if isinstance(message, Mapping) else None
        blocks += held if isinstance(held, list) else [held]
    said = result.get("description")
    if isinstance(said, str):
        blocks.append({"type": "text", "text": said})
    return {"content": blocks}


async def _no_run(_request: HostRequest) -> RunId:
    raise PortError(Reason.RUN_UNKNOWN, "there is none yet", acted=Acted.NO)
