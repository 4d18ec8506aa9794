"""Requests that policy answers and the trace keeps, without a step: reads, prompts, completions, streams."""

from collections.abc import Callable
from dataclasses import dataclass

from soothsayer_mcp.model.call import Client
from soothsayer_mcp.model.decision import Decision, Effect, Mode
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.policy.decide import decide_message
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy.connection import HostConnection, mended, quoted
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.secrets import wants_a_secret
from soothsayer_mcp.wire.frame import Frame

INPUT_METHODS = frozenset({"elicitation/create", "sampling/createMessage", "roots/list"})
"""What a server may ask of a host, as a request of its own or within a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a message goes no further."""

    reason: Reason
    summary: str


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
    ) -> Refusal | None:
        """Decide, record durably, and say why it may not go on; `None` lets it pass."""
        decision = self.decide(server, method, params, client=client)
        try:
            await self._connection.store.note(
                self._connection.checked(method, decision, origin=origin, server=server, size=size)
            )
        except PortError as error:
            return Refusal(reason=error.reason, summary=error.summary)
        if decision.effect is not Effect.ALLOW:
            return Refusal(reason=decision.reason or Reason.INTERNAL_ERROR, summary=_why(decision, server, method))
        if method == "elicitation/create" and decision.mode is Mode.ENFORCE and wants_a_secret(params):
            return Refusal(reason=Reason.RULE_DENIED, summary=f"forms/no-secrets: {server} asks a person for a secret")
        return None

    async def inputs_pass(self, server: str, result: Json) -> Refusal | None:
        """The same for what a server asks of the host within a result of the stateless era."""
        requests = result.get("inputRequests") if isinstance(result, dict) else None
        if not isinstance(requests, dict):
            return None
        for request in requests.values():
            method = request.get("method") if isinstance(request, dict) else None
            if not isinstance(request, dict) or not isinstance(method, str) or method not in INPUT_METHODS:
                named = quoted(method) if isinstance(method, str) else "nothing"
                return Refusal(reason=Reason.RULE_DENIED, summary=f"inputs/unknown: {server} asks the host for {named}")
            params = request.get("params")
            refusal = await self.passes(
                server, method, params if isinstance(params, dict) else {}, origin="server", size=0
            )
            if refusal is not None:
                return refusal
        return None


class Checked:
    """The checked rows, for one server."""

    def __init__(self, connection: HostConnection, gate: Gate) -> None:
        """Check the requests of one connection."""
        self._connection = connection
        self._gate = gate

    def read(self, request: HostRequest) -> None:
        """`resources/read`."""
        self._begin(request, inputs=True)

    def prompt(self, request: HostRequest) -> None:
        """`prompts/get`."""
        self._begin(request, inputs=True)

    def complete(self, request: HostRequest) -> None:
        """`completion/complete`: it tells the server what is being typed."""
        self._begin(request)

    def subscribe(self, request: HostRequest) -> None:
        """`resources/subscribe`."""
        self._begin(request)

    def unsubscribe(self, request: HostRequest) -> None:
        """`resources/unsubscribe`."""
        self._begin(request)

    def listen(self, request: HostRequest) -> None:
        """`subscriptions/listen`: it stays open, so nothing waits for its end."""
        request.standing = True
        self._begin(request)

    def task(self, request: HostRequest) -> None:
        """`tasks/*`: by the task's id."""
        self._begin(request)

    def _begin(self, request: HostRequest, *, inputs: bool = False) -> None:
        server = self._connection.fleet.only
        assert server is not None
        self._connection.spawn(self._check, request, server, inputs)

    async def _check(self, request: HostRequest, server: Downstream, inputs: bool) -> None:
        frame = request.frame
        refusal = await self._gate.passes(
            server.name,
            request.method,
            frame.params or {},
            origin="host",
            size=len(frame.raw),
            client=self._connection.client_of(request),
        )
        if refusal is not None:
            self._connection.refuse(request, refusal.reason, refusal.summary)
        elif request.cancelled:
            request.close()
        else:
            self._connection.pass_on(request, server, then=self._looking_at_inputs(request, server) if inputs else None)

    def _looking_at_inputs(self, request: HostRequest, server: Downstream) -> Callable[[Frame], bytes | None]:
        def then(answer: Frame) -> bytes | None:
            if not request.stateless or not isinstance(answer.result, dict) or "inputRequests" not in answer.result:
                return mended(answer, request)
            self._connection.spawn(self._answer_inputs, request, server, answer)
            return None

        return then

    async def _answer_inputs(self, request: HostRequest, server: Downstream, answer: Frame) -> None:
        refusal = await self._gate.inputs_pass(server.name, answer.result)
        if refusal is not None:
            self._connection.refuse(request, refusal.reason, refusal.summary)
        else:
            request.answer(mended(answer, request))


def _why(decision: Decision, server: str, method: str) -> str:
    for rule in decision.rules:
        return f"{rule.id}: {rule.text.rstrip('.')}" if rule.text else rule.id
    return f"{server} {method}"
