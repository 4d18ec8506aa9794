"""What a server asks of its host within a result of the stateless era, less what policy refuses of it.

What is refused and has a neutral answer leaves the result; the answer travels in the state that the host carries, and
is put in when the host calls again. Where nothing is left to ask, nobody is sent round: we call again ourselves.
"""

from collections.abc import Mapping

from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Gate, Refusal
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.people import FILLED, OURS
from soothsayer_mcp.wire.frame import Edit, Frame, Insert, Remove, Replace
from soothsayer_mcp.wire.strict import read_host, read_server

ROUNDS = 10
"""How often one request is called again for its host before it is given up."""


class InvalidStateError(Exception):
    """A state that begins like ours and is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A result that policy has looked at."""

    frame: Frame
    is_settled: bool = False
    """Whether all that was asked is answered already, so that the host need not be asked."""


class Inputs:
    """Checks what servers ask of one host, and answers for it what policy refuses."""

    def __init__(self, connection: HostConnection, gate: Gate) -> None:
        """Ask the policy in force at each moment."""
        self._connection = connection
        self._gate = gate

    async def looked_at(
        self, request: HostRequest, server: Downstream, answer: Frame, *, step: str = ""
    ) -> Looked | Refusal:
        """Decide each thing that a result asks for. A refusal is of the whole: something has no neutral answer."""
        result = answer.result
        requests = result.get("inputRequests") if isinstance(result, dict) else None
        if not isinstance(result, dict) or not isinstance(requests, dict):
            return Looked(frame=answer)
        if not answer.strict:
            summary = f"inputs/unreadable: what {server.name} asks the host for reads in more than one way"
            return Refusal(reason=Reason.RULE_DENIED, summary=summary)
        seals = self._connection.seals
        filled, refusal = await self._gate.inputs(server.name, requests)
        if refusal is not None and (seals is None or len(filled) == 0):
            return refusal
        edits = self._named(server, requests, filled)
        state = result.get("requestState")
        # A state of a proxy behind us begins like ours and is sealed with another key: it travels within ours.
        is_anothers = isinstance(state, str) and state.startswith(f"{OURS}.")
        if (filled or is_anothers) and seals is not None:
            claims: JsonObject = {
                "k": FILLED,
                "b": self._bound(request, server),
                "s": step,
                "u": state if isinstance(state, str) else None,
                "f": filled,
                "n": self._connection.ids.token(),
            }
            edits += [Remove(("result", "inputRequests", name)) for name in filled]
            edits.append(Insert(("result",), "requestState", compact(seals.seal(claims))))
        frame = read_server(answer.edited(*edits)) if edits else answer
        return Looked(frame=frame, is_settled=len(filled) == len(requests) > 0)

    def again(self, request: HostRequest, settled: Frame) -> bool:
        """Make of a request what its host would send after this result; false once that was done too often."""
        request.rounds += 1
        result = settled.result
        state = result.get("requestState") if isinstance(result, dict) else None
        if request.rounds > ROUNDS or request.cancelled or not isinstance(state, str):
            return False
        edits = (Insert(("params",), "requestState", compact(state)), Remove(("params", "inputResponses")))
        frame = read_host(request.frame.edited(*edits), max_bytes=self._connection.limits.max_frame)
        assert isinstance(frame, Frame)
        request.frame = frame
        return True

    def towards(self, request: HostRequest, server: Downstream, raw: bytes) -> tuple[bytes, str]:
        """A request as its server is to read it, and the step it continues; ours is taken out, what we answered put in.

        Raises `InvalidStateError` for a state that was sealed for another request.
        """
        seals = self._connection.seals
        if seals is None or not request.stateless or "requestState" not in (request.frame.params or {}):
            return raw, ""
        frame = read_server(raw)
        params = frame.params or {}
        state = params.get("requestState")
        claims = seals.unseal(state) if isinstance(state, str) and state.startswith(f"{OURS}.") else None
        if claims is None or claims.get("k") != FILLED:
            return raw, ""
        filled, own, step = claims.get("f"), claims.get("u"), claims.get("s")
        if claims.get("b") != self._bound(request, server) or not isinstance(filled, Mapping):
            raise InvalidStateError
        at = ("params", "requestState")
        edits: list[Edit] = [Replace(at, compact(own)) if isinstance(own, str) else Remove(at)]
        if not filled:
            return frame.edited(*edits), step if isinstance(step, str) else ""
        if isinstance(params.get("inputResponses"), Mapping):
            edits += [Insert(("params", "inputResponses"), name, compact(value)) for name, value in filled.items()]
        else:
            edits.append(Insert(("params",), "inputResponses", compact(filled)))
        return frame.edited(*edits), step if isinstance(step, str) else ""

    # -- inside -------------------------------------------------------------------------------------------------------

    def _named(self, server: Downstream, requests: JsonObject, filled: Mapping[str, Json]) -> list[Edit]:
        """With several servers a person must know which one asks."""
        if self._connection.fleet.only is not None:
            return []
        edits: list[Edit] = []
        for name, wanted in requests.items():
            params = wanted.get("params") if isinstance(wanted, dict) and name not in filled else None
            message = params.get("message") if isinstance(params, dict) else None
            if isinstance(wanted, dict) and wanted.get("method") == "elicitation/create" and isinstance(message, str):
                shown = compact(f"[server {server.name}] {message}")
                edits.append(Replace(("result", "inputRequests", name, "params", "message"), shown))
        return edits

    def _bound(self, request: HostRequest, server: Downstream) -> str:
        """What a state is good for: the same request of the same principal to the same server."""
        params = request.frame.params or {}
        named: list[Json] = [params.get("name"), params.get("uri")]
        return digest(canonical([self._connection.principal.id, server.name, request.method, *named]))
