"""Messages that are no tool calls: decided by policy, on record before they go on."""

from dataclasses import replace

from soothsayer_mcp.model.call import Client
from soothsayer_mcp.model.decision import Decision, Effect, Mode, RuleMatch
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.model.run import Run, RunBinding, RunState
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.decide import decide_message
from soothsayer_mcp.policy.scene import NO_RUN
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy.connection import META_RUN, HostConnection, quoted
from soothsayer_mcp.proxy.owed import HostRequest
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

    def decide(self, server: str, method: str, params: JsonObject, *, request: HostRequest | None = None) -> Decision:
        """What policy says of it; `request` where a host's own says who asks, and for which run."""
        return self._decided(self._message(server, method, params, request))

    def _decided(self, message: Message) -> Decision:
        policy = self._connection.policies.current()
        questions = policy.message_questions(message)
        facts = self._connection.look(questions.links) if questions.links else NO_FACTS
        if questions.of_the_store:
            facts = replace(self._connection.store.recall(questions), links=facts.links)
        return decide_message(policy, message, facts)

    def _message(self, server: str, method: str, params: JsonObject, request: HostRequest | None) -> Message:
        connection = self._connection
        client = connection.client if request is None else connection.client_of(request)
        looks_back = connection.policies.current().looks_back_on(server, method)
        return Message(
            server=server,
            method=method,
            params=params,
            principal=connection.principal,
            client=client,
            run=self._run(client, request) if looks_back else None,
            at_us=connection.clock.now_us(),
        )

    def _run(self, client: Client, request: HostRequest | None) -> Run | None:
        """The run that a call would join now, or one in which nothing was done yet; `None` when nobody can tell."""
        connection = self._connection
        named = connection.named_run if request is None else request.frame.meta.get(META_RUN, connection.named_run)
        if not isinstance(named, str):
            return None
        binding = RunBinding(
            principal=connection.principal,
            workspace=connection.workspace,
            client=client,
            named=named,
            explicit=connection.explicit_run,
            rules=connection.policies.current().run_rules,
        )
        try:
            found = connection.store.joined_run(binding)
        except PortError:
            return None
        if found is None and not named:
            return Run(id=NO_RUN, principal=connection.principal, state=RunState.OPEN, version=0)
        return found

    async def passes(
        self,
        server: str,
        method: str,
        params: JsonObject,
        *,
        origin: str,
        size: int,
        request: HostRequest | None = None,
        exchange: Exchange | None = None,
    ) -> Refusal | None:
        """Decide, record durably, and say why it may not go on; `None` lets it pass, with what is exchanged in it."""
        message = self._message(server, method, params, request)
        decision = self._decided(message)
        if method == "elicitation/create" and decision.effect is Effect.ALLOW and decision.mode is Mode.ENFORCE:
            decision = _without_secrets(decision, server, params)
        note = self._connection.checked(method, decision, origin=origin, server=server, size=size)
        if message.run is not None and message.run.id != NO_RUN:
            note = replace(note, run=message.run.id)
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
