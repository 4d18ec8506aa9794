"""Resources of our own, beside those of the servers: stored results of the caller's runs, and its run in short."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from soothsayer_mcp.evidence.completion import unmet
from soothsayer_mcp.model.call import CONTROL, RunId
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import JsonObject, compact
from soothsayer_mcp.ports import Note, PortError, Shelf, StoredResult
from soothsayer_mcp.proxy.connection import OUR_INFO, HostConnection, text_of
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.given import Readings
from soothsayer_mcp.proxy.merge import ListKind
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.resources import DIGEST, RESULTS, is_own
from soothsayer_mcp.proxy.shared import used_by_tools
from soothsayer_mcp.run.digest import digest_of
from soothsayer_mcp.run.giving import refuse_to_give
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import META_SERVER_INFO
from soothsayer_mcp.wire.parts import TEXT, part

MOST_BYTES: Final = 1_000_000
"""Of a resource that is read at once; a larger one is read in parts."""
_RESULT = re.compile(re.escape(RESULTS) + r"([0-9a-f]{32})\.([1-9][0-9]{0,8})(?:\?([a-z0-9=&]*))?")
_COUNT = re.compile(r"(offset|size)=([0-9]{1,12})")
_TEMPLATE: Final = compact(
    {
        "uriTemplate": RESULTS + "{step}{?offset,size}",
        "name": "soothsayer-result",
        "title": "Stored result of a step",
        "description": "A result that was too large to be shown at once, whole or a part of it in bytes.",
    }
)
_DIGEST: Final = compact(
    {
        "uri": DIGEST,
        "name": "soothsayer-run-digest",
        "title": "The run in short",
        "description": "What the run is for, what is left of its budgets, what was done and what is owed.",
        "mimeType": TEXT,
    }
)


class Own:
    """Answers reads of `soothsayer:` addresses, after policy and on record, in both eras."""

    def __init__(self, connection: HostConnection, gate: Gate, shelf: Shelf, readings: Readings) -> None:
        """Serve the principal of one connection."""
        self._connection = connection
        self._gate = gate
        self._shelf = shelf
        self._readings = readings
        self.run_of: Callable[[HostRequest], Awaitable[RunId]] = _no_run
        """Finds the run that a request belongs to; the relay sets it."""

    @property
    def any(self) -> bool:
        """Whether policy lets there be any."""
        policy = self._connection.policies.current()
        return policy.mode is not Mode.OBSERVE and (policy.stores or policy.next_rules.compacts)

    def listed(self, kind: ListKind) -> tuple[bytes, ...] | None:
        """What the lists of the host show of ours; `None` for a list that nothing of ours promises."""
        if kind not in {ListKind.RESOURCES, ListKind.TEMPLATES} or not self.any:
            return None
        return (_TEMPLATE,) if kind is ListKind.TEMPLATES else (_DIGEST,)

    async def digest(self, run: RunId) -> str:
        """The run in short. Raises `PortError`."""
        policy, now_us = self._connection.policies.current(), self._connection.clock.now_us()
        summary = await self._shelf.summarize(run, now_us)
        rules = policy.run_rules
        found = unmet(rules.required, run, self._shelf.held, now_us) if rules.required else ()
        return digest_of(
            summary,
            policy.budgets,
            now_us,
            refuse_unverified=rules.refuse_unverified,
            unmet=found,
            tools=used_by_tools(policy, run, self._connection.store.recall),
        )

    @staticmethod
    def serves(request: HostRequest) -> bool:
        """Whether a request reads a resource of ours."""
        return is_own(text_of(request.frame.params, "uri") or "")

    def read(self, request: HostRequest, otherwise: Callable[[HostRequest], None]) -> None:
        """`resources/read` of an address of ours; `otherwise` takes those that are not.

        A server may be a proxy like this one.
        """
        self._connection.spawn(self._read, request, otherwise)

    async def _read(self, request: HostRequest, otherwise: Callable[[HostRequest], None]) -> None:
        connection = self._connection
        uri = text_of(request.frame.params, "uri") or ""
        named = _RESULT.fullmatch(uri)
        wanted = None if named is None else _wanted(named.group(3))
        if uri != DIGEST and (named is None or wanted is None):
            otherwise(request)
            return
        refusal = await self._gate.passes(
            CONTROL,
            request.method,
            request.frame.params or {},
            origin="host",
            size=len(request.frame.raw),
            request=request,
        )
        if refusal is not None:
            connection.refuse(request, refusal.reason, refusal.summary)
            return
        try:
            if named is None or wanted is None:
                await self._give_digest(request)
                return
            run, no = RunId(named.group(1)), int(named.group(2))
            found = await self._shelf.stored_result(run, no, principal=connection.principal.id)
            if found is None:
                # Another's is told apart from none by nothing.
                otherwise(request)
            else:
                await self._give(request, uri, f"{run}.{no}", found, wanted)
        except PortError as error:
            connection.refuse(request, error.reason, error.summary)

    async def _give_digest(self, request: HostRequest) -> None:
        run = await self.run_of(request)
        text = await self.digest(run)
        size = len(text.encode())
        await self._shelf.give_back(run, size, lambda _run: None, _told(request, run, size))
        request.answer(_contents(request, {"uri": DIGEST, "mimeType": TEXT, "text": text}))

    async def _give(
        self, request: HostRequest, uri: str, step: str, found: StoredResult, wanted: Mapping[str, int]
    ) -> None:
        connection = self._connection
        run = RunId(step.partition(".")[0])
        piece = part(found.text, wanted.get("offset", 0), min(wanted.get("size", MOST_BYTES), MOST_BYTES))
        if not wanted and piece.end < piece.of:
            text = f"It has {piece.of:,} bytes: read it in parts, as {uri}?offset=0&size={MOST_BYTES}"
            connection.nobody(request, Code.INVALID_PARAMS, text)
            return
        given = len(piece.text.encode())
        budgets, now_us = connection.policies.current().budgets, connection.clock.now_us()
        note = _told(request, run, given, step)
        await self._shelf.give_back(run, given, lambda held: refuse_to_give(held, given, budgets, now_us), note)
        content: JsonObject = {"uri": uri, "mimeType": found.mime, "text": piece.text}
        await self._readings.count_anew(request, CONTROL, {"contents": [content]}, of=run, size=given)
        request.answer(_contents(request, content))


def _told(request: HostRequest, run: RunId, size: int, step: str = "") -> Note:
    """The entry of what a host was given."""
    fields: JsonObject = {
        "method": request.method,
        "from": "host",
        "server": CONTROL,
        "effect": Effect.ALLOW.value,
        "rules": [],
        "bytes": size,
    }
    return Note(kind=Kind.MESSAGE_CHECKED, run=run, fields={**fields, "of_step": step} if step else fields)


async def _no_run(_request: HostRequest) -> RunId:
    raise PortError(Reason.RUN_UNKNOWN, "there is none yet", acted=Acted.NO)


def _wanted(query: str | None) -> dict[str, int] | None:
    """Offset and size, as far as an address names them; `None` where it names anything else."""
    if query is None:
        return {}
    found = [_COUNT.fullmatch(piece) for piece in query.split("&")]
    named = {one.group(1): int(one.group(2)) for one in found if one is not None}
    return named if len(named) == len(found) else None


def _contents(request: HostRequest, content: JsonObject) -> bytes:
    result: JsonObject = {"contents": [content]}
    if request.stateless:
        meta: JsonObject = {META_SERVER_INFO: OUR_INFO}
        result = {"resultType": "complete", **result, "ttlMs": 0, "cacheScope": "private", "_meta": meta}
    return replies.result(request.id, result)
