"""Messages that are no tool calls: decided by policy, on record before they go on."""

from dataclasses import replace

from soothsayer_mcp.model.call import Client
from soothsayer_mcp.model.decision import Decision, Effect, Mode, RuleMatch
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.decide import decide_message
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy.connection import HostConnection, quoted
from soothsayer_mcp.proxy.secrets import wants_a_secret

INPUT_METHODS = frozenset({"elicitation/create", "sampling/createMessage", "roots/list"})
"""What a server may ask of a host, as a request of its own or within a result."""
NEUTRAL: dict[str, JsonObject] = {"elicitation/create": {"action": "decline"}, "roots/list": {"roots": []}}
"""What a server reads when policy refuses its request; sampling has no neutral answer and gets an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a message goes no further."""

    reason: Reason
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What is put into a message that passes, in place of what its server wrote."""

    tier: str
    before: bytes
    """The model preferences as the server spelt them; `null` where it had none."""


class Gate:
    """Decides a message that is no tool call, and puts the decision on record before anything is sent."""

    def __init__(self, connection: HostConnection) -> None:
        """Decide by the policy in force at each moment."""
        self._connection = connection

    def decide(self, server: str, method: str, params: JsonObject, *, client: Client | None = None) -> Decision:
        """What policy says of it; `client` where it is not the one of the opening."""
        connection = self._connection
        policy = connection.policies.current()
        questions = policy.message_questions(server, method, params)
        facts = connection.look(questions) if questions else NO_FACTS
        return decide_message(policy, connection.principal, client or connection.client, server, method, params, facts)

    async def passes(
        self,
        server: str,
        method: str,
        params: JsonObject,
        *,
        origin: str,
        size: int,
        client: Client | None = None,
        exchange: Exchange | None = None,
    ) -> Refusal | None:
        """Decide, record durably, and say why it may not go on; `None` lets it pass, with what is exchanged in it."""
        decision = self.decide(server, method, params, client=client)
        if method == "elicitation/create" and decision.effect is Effect.ALLOW and decision.mode is Mode.ENFORCE:
            decision = _without_secrets(decision, server, params)
        note = self._connection.checked(method, decision, origin=origin, server=server, size=size)
        if exchange is not None and decision.effect is Effect.ALLOW:
            note = replace(note, fields={**note.fields, "tier": exchange.tier}, payloads={"replaced": exchange.before})
        try:
            await self._connection.store.note(note)
        except PortError as error:
            return Refusal(reason=error.reason, summary=error.summary)
        if decision.effect is not Effect.ALLOW:
            return Refusal(reason=decision.reason or Reason.INTERNAL_ERROR, summary=_why(decision, server, method))
        return None

    async def inputs_pass(self, server: str, result: Json) -> Refusal | None:
        """The same for what a server asks of the host within a result of the stateless era."""
        requests = result.get("inputRequests") if isinstance(result, dict) else None
        for request in requests.values() if isinstance(requests, dict) else ():
            refusal = await self._input(server, request)
            if refusal is not None:
                return refusal
        return None

    async def inputs(self, server: str, requests: JsonObject) -> tuple[JsonObject, Refusal | None]:
        """Decide each of them: neutral answers to those that are refused, and why the first one is.

        Where one that is refused has no neutral answer, there are none, and the refusal is of that one.
        """
        filled: JsonObject = {}
        first: Refusal | None = None
        for name, request in requests.items():
            refusal = await self._input(server, request)
            if refusal is None:
                continue
            method = request.get("method") if isinstance(request, dict) else None
            neutral = NEUTRAL.get(method) if isinstance(method, str) else None
            if neutral is None:
                return {}, refusal
            filled[name] = neutral
            first = first or refusal
        return filled, first

    async def _input(self, server: str, request: Json) -> Refusal | None:
        method = request.get("method") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not isinstance(method, str) or method not in INPUT_METHODS:
            self._connection.dropped(b"", "unknown_method", origin="server", server=server)
            named = quoted(method) if isinstance(method, str) else "nothing"
            return Refusal(reason=Reason.RULE_DENIED, summary=f"inputs/unknown: {server} asks the host for {named}")
        params = request.get("params")
        return await self.passes(server, method, params if isinstance(params, dict) else {}, origin="server", size=0)


def _without_secrets(decision: Decision, server: str, params: JsonObject) -> Decision:
    """No form asks a person for a secret."""
    if not wants_a_secret(params):
        return decision
    rule = RuleMatch(id="forms/no-secrets", effect=Effect.DENY, text=f"{server} asks a person for a secret")
    return replace(decision, effect=Effect.DENY, reason=Reason.RULE_DENIED, rules=(rule,))


def _why(decision: Decision, server: str, method: str) -> str:
    for rule in decision.rules:
        return f"{rule.id}: {rule.text.rstrip('.')}" if rule.text else rule.id
    return f"{server} {method}"
