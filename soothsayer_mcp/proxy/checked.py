"""Requests that policy answers and the trace keeps, without a step: reads, prompts, completions, subscriptions."""

from collections.abc import Callable
from functools import partial

from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy import merge
from soothsayer_mcp.proxy.connection import HostConnection, mended, text_of
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Gate, Refusal
from soothsayer_mcp.proxy.given import READ_BY_MODELS, Readings
from soothsayer_mcp.proxy.guidance import Guidance
from soothsayer_mcp.proxy.inputs import Inputs, InvalidStateError
from soothsayer_mcp.proxy.masks import Masks
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.own import Own
from soothsayer_mcp.proxy.resources import is_not_mine
from soothsayer_mcp.proxy.streams import Streams
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.strict import read_server


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where a checked request goes, and as what."""

    server: Downstream
    raw: bytes
    params: JsonObject
    """As policy reads them: names are the server's own."""


class Checked:
    """The checked rows."""

    def __init__(
        self,
        connection: HostConnection,
        gate: Gate,
        streams: Streams,
        masks: Masks,
        *,
        own: Own,
        inputs: Inputs,
        guidance: Guidance,
        readings: Readings,
    ) -> None:
        """Check the requests of one connection."""
        self._connection = connection
        self._gate = gate
        self._streams = streams
        self._masks = masks
        self._own = own
        self._inputs = inputs
        self._guidance = guidance
        self._readings = readings

    def read(self, request: HostRequest) -> None:
        """`resources/read`: to the owner of the URI; where nobody claims it, to each in turn until one has it."""
        if self._own.serves(request):
            self._own.read(request, self._read)
        else:
            self._read(request)

    def _read(self, request: HostRequest) -> None:
        only = self._connection.fleet.only
        if only is None:
            self._connection.spawn(self._read_somewhere, request)
        else:
            self._begin(request, _as_it_came(request, only))

    def prompt(self, request: HostRequest) -> None:
        """`prompts/get`: to the server that the shown name names."""
        self._begin(request, self._by_name(request, ("name",)), unknown="No server has such a prompt.")

    def complete(self, request: HostRequest) -> None:
        """`completion/complete`: it tells the server what is being typed; by prompt name or by template."""
        ref = (request.frame.params or {}).get("ref")
        uri = text_of(ref, "uri") if isinstance(ref, dict) else None
        way = self._by_name(request, ("ref", "name")) if uri is None else self._by_uri(request, uri, template=True)
        self._begin(request, way, unknown="No server completes that.")

    def subscribe(self, request: HostRequest) -> None:
        """`resources/subscribe`."""
        self._watch(request, self._streams.watch)

    def unsubscribe(self, request: HostRequest) -> None:
        """`resources/unsubscribe`."""
        self._watch(request, self._streams.unwatch)

    # -- where to -----------------------------------------------------------------------------------------------------

    def _by_name(self, request: HostRequest, path: tuple[str, ...]) -> Way | None:
        """The way to the server that a shown name names; `None` when it names none."""
        fleet = self._connection.fleet
        if fleet.only is not None:
            return _as_it_came(request, fleet.only)
        holder: Json = request.frame.params or {}
        for member in path[:-1]:
            holder = holder.get(member) if isinstance(holder, dict) else None
        shown = text_of(holder, path[-1]) if isinstance(holder, dict) else None
        own = None if shown is None else fleet.names.own(shown)
        server = None if own is None else fleet.named(own[0])
        if own is None or server is None:
            return None
        raw = merge.with_own_name(request.frame, own[1], ("params", *path))
        return Way(server=server, raw=raw, params=read_server(raw).params or {})

    def _by_uri(self, request: HostRequest, uri: str, *, template: bool = False) -> Way | None:
        connection = self._connection
        if connection.fleet.only is not None:
            return _as_it_came(request, connection.fleet.only)
        owner = connection.owners.template_owner(uri) if template else connection.owners.owner(uri)
        server = None if owner is None else connection.fleet.named(owner)
        return None if server is None else _as_it_came(request, server)

    def _watch(self, request: HostRequest, took: Callable[[Downstream, str], None]) -> None:
        uri = text_of(request.frame.params, "uri")
        way = self._by_uri(request, uri or "")

        def then(answer: Frame) -> bytes:
            if answer.kind is FrameKind.RESULT and uri is not None and way is not None:
                took(way.server, uri)
            return answer.raw

        self._begin(request, way, then=then, unknown="No server has such a resource.")

    # -- checking and passing -----------------------------------------------------------------------------------------

    def _begin(
        self,
        request: HostRequest,
        way: Way | None,
        *,
        then: Callable[[Frame], bytes | None] | None = None,
        unknown: str = "",
    ) -> None:
        if way is None:
            self._connection.nobody(request, Code.INVALID_PARAMS, unknown)
        else:
            self._connection.spawn(self._check, request, way, then)

    async def _check(self, request: HostRequest, way: Way, then: Callable[[Frame], bytes | None] | None) -> None:
        if request.method == "prompts/get":
            held = await self._guidance.refusal(way.server, way.params.get("name"))
            if held is not None:
                self._connection.refuse(request, held.reason, held.summary)
                return
        if await self._passes(request, way):
            raw = self._towards(request, way.server, way.raw)
            if raw is None:
                return
            self._connection.pass_on(
                request,
                way.server,
                raw=raw,
                then=then or partial(self._looked_at, request, way),
                read=lambda answer: self._masks.answer(request, way.server.name, answer, way.params),
            )

    def _towards(self, request: HostRequest, server: Downstream, raw: bytes) -> bytes | None:
        """The request as its server is to read it; one with a state of another request is answered."""
        try:
            return self._inputs.towards(request, server, raw)[0]
        except InvalidStateError:
            self._connection.dropped(raw, "state", origin="host", method=request.method, answered=True)
            request.answer(replies.error(request.id, Code.INVALID_PARAMS, "requestState is not one of ours."))
            return None

    async def _passes(self, request: HostRequest, way: Way) -> bool:
        """Decide and record; a refusal is answered, and what was cancelled meanwhile is closed."""
        refusal = await self._gate.passes(
            way.server.name,
            request.method,
            way.params,
            origin="host",
            size=len(request.frame.raw),
            request=request,
        )
        if refusal is not None:
            self._connection.refuse(request, refusal.reason, refusal.summary)
        elif request.cancelled:
            request.close()
        return refusal is None and not request.cancelled

    async def _read_somewhere(self, request: HostRequest) -> None:
        connection = self._connection
        uri = text_of(request.frame.params, "uri") or ""
        able = [server.name for server in connection.fleet if server.can("resources")]
        last: tuple[Way, Frame] | bytes = b""
        for server in filter(None, map(connection.fleet.named, connection.owners.candidates(uri, able))):
            way = _as_it_came(request, server)
            if not await self._passes(request, way):
                return
            answer = await self._asked(request, server)
            if isinstance(answer, bytes):
                last = answer or last
                continue
            if answer.kind is FrameKind.RESULT:
                connection.owners.learn_answer(server.name, uri)
            error_code = answer.error.get("code") if isinstance(answer.error, dict) else None
            last = way, self._masks.answer(request, server.name, answer)
            if not is_not_mine(error_code):
                raw = self._looked_at(request, *last)
                if raw is not None:
                    request.answer(raw)
                return
        if not last:
            connection.nobody(request, Code.INVALID_PARAMS, "No server has such a resource.")
        elif isinstance(last, bytes):
            request.answer(last)
        else:
            await self._give(request, *last)

    async def _asked(self, request: HostRequest, server: Downstream) -> Frame | bytes:
        """What one of several servers answers; else the error that says why not, empty where it is not asked."""
        request.servers = (server.name,)
        try:
            raw, _ = self._inputs.towards(request, server, request.frame.raw)
        except InvalidStateError:
            return b""  # Sealed for the server that asked, which is another of these.
        raw = self._connection.narrowed(server.name, raw) if request.stateless else raw
        try:
            return await server.exchange(request.key, raw)
        except PortError as error:
            return replies.error(request.id, Code.INTERNAL_ERROR, f"{error.summary}.")

    def _looked_at(self, request: HostRequest, way: Way, answer: Frame) -> bytes | None:
        """The answer, unless what it asks of the host has to be checked first, or what it tells a model is counted."""
        server, result = way.server, answer.result
        if self._connection.fleet.only is None:
            self._connection.owners.learn_result(server.name, result)
        if request.stateless and isinstance(result, dict) and "inputRequests" in result:
            self._connection.spawn(self._answer_inputs, request, way, answer)
        elif request.method in READ_BY_MODELS and not request.cancelled:
            self._connection.spawn(self._give, request, way, answer)
        else:
            return mended(answer, request)
        return None

    async def _give(self, request: HostRequest, way: Way, answer: Frame) -> None:
        """Answer once it is on record what the answer makes of its run; else nobody reads it."""
        if request.method in READ_BY_MODELS:
            size = len(answer.raw)
            try:
                await self._readings.count(request, way.server.name, answer.result, size=size, params=way.params)
            except PortError as error:
                self._connection.refuse(request, error.reason, error.summary)
                return
        request.answer(mended(answer, request))

    async def _answer_inputs(self, request: HostRequest, way: Way, answer: Frame) -> None:
        server = way.server
        looked = await self._inputs.looked_at(request, server, answer)
        if isinstance(looked, Refusal):
            self._connection.refuse(request, looked.reason, looked.summary)
        elif not looked.is_settled:
            await self._give(request, way, looked.frame)
        elif self._inputs.again(request, looked.frame):
            named = self._by_name(request, ("name",)) if request.method == "prompts/get" else None
            await self._check(request, named or _as_it_came(request, server), None)
        else:
            summary = f"{server.name} goes on asking for what policy refuses"
            self._connection.refuse(request, Reason.RULE_DENIED, summary)


def _as_it_came(request: HostRequest, server: Downstream) -> Way:
    return Way(server=server, raw=request.frame.raw, params=request.frame.params or {})
