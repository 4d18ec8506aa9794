"""Calls that checks make: a tool that only reads, through the same loop as every call, as a step of its own."""

from typing import Protocol

from soothsayer_mcp.evidence.checks import ReadFacts
from soothsayer_mcp.evidence.scope import result_of
from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import Cause, Principal, Proposal
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.json import JsonObject, compact
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.decide import bars_undo
from soothsayer_mcp.ports import Call, Clock, Ids, PortError
from soothsayer_mcp.proxy.connection import Policies
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.paging import Envelope
from soothsayer_mcp.proxy.pins import Books
from soothsayer_mcp.wire import replies

MOST_BYTES = 1_000_000
"""Of an answer that a check reads."""


class Ground(Protocol):
    """What probes stand on: a host connection, or the servers that a rollback has opened."""

    fleet: Fleet
    policies: Policies
    principal: Principal
    clock: Clock
    ids: Ids

    def envelope_of(self, request: HostRequest) -> Envelope:
        """What requests of our own carry when this one causes them."""
        ...


class Probing:
    """Reads tools back for the checks of one connection's calls."""

    def __init__(self, connection: Ground, books: Books, governor: Governor) -> None:
        """Probes are governed as calls are: what a rule denies is not called, and each is on record."""
        self._connection = connection
        self._books = books
        self._governor = governor

    async def read(self, request: HostRequest, of: ProposedStep, tool: str, arguments: JsonObject) -> ReadFacts:
        """Call a tool by `server.tool`. Raises `PortError` when nothing came that could be compared."""
        envelope = self._connection.envelope_of(request)
        return await self.read_in(envelope, of, tool, arguments)

    async def read_in(self, envelope: Envelope, of: ProposedStep, tool: str, arguments: JsonObject) -> ReadFacts:
        """The same, in an era. Raises `PortError`."""
        connection = self._connection
        name, _, own = tool.partition(".")
        server = connection.fleet.named(name)
        if server is None:
            raise _nothing(tool, "there is no such server")
        definition = await self._books.of(server).find(own, policy=connection.policies.current(), envelope=envelope)
        if definition is None:
            raise _nothing(tool, "its server offers no such tool")
        flaws: list[Failure] = []
        fault = None if definition.check_arguments is None else definition.check_arguments(arguments)
        if fault is not None:
            summary = f"argument {fault.path or 'the whole'} {fault.problem}"
            flaws.append(Failure(reason=Reason.ARGUMENTS_INVALID, summary=summary))
        request_id = connection.fleet.mint.next()
        params: JsonObject = {"name": own, "arguments": arguments}
        if envelope.meta is not None:
            params["_meta"] = envelope.meta
        step = ProposedStep(
            id=connection.ids.step(),
            run_id=of.run_id,
            cause=Cause.PROBE,
            principal=of.principal,
            client=of.client,
            tool=definition,
            proposal=Proposal(
                server=name,
                tool=own,
                arguments=arguments,
                raw_arguments=compact(arguments),
                raw=replies.request(request_id, "tools/call", params),
                request_id=request_id,
            ),
            flaws=tuple(flaws),
            proposed_at_us=connection.clock.now_us(),
            began_ns=connection.clock.monotonic_ns(),
        )
        closed = await self._governor.govern(step, Call())
        if isinstance(closed, Unrecorded):
            raise _nothing(tool, closed.failure.reason)
        outcome = closed.outcome
        if closed.failure is not None or not isinstance(outcome, Returned):
            raise _nothing(tool, "no answer" if closed.failure is None else closed.failure.reason)
        if len(outcome.raw) > MOST_BYTES:
            raise _nothing(tool, f"its answer has more than {MOST_BYTES:,} bytes")
        result, text = result_of(outcome)
        return ReadFacts(result=result, text=text, step=closed.closing.step)

    async def offered(self, request: HostRequest, tool: str) -> str:
        """Why a tool could not be called, as a phrase that follows its name; empty when it could."""
        connection = self._connection
        name, _, own = tool.partition(".")
        server = connection.fleet.named(name)
        if server is None:
            return "has no such server here"
        policy = connection.policies.current()
        found = await self._books.of(server).find(own, policy=policy, envelope=connection.envelope_of(request))
        if found is None:
            return "is not offered by its server"
        return "is denied by policy" if bars_undo(policy, found, connection.principal) else ""


def _nothing(tool: str, why: str) -> PortError:
    return PortError(Reason.UNREACHABLE, f"{tool}: {why}", acted=Acted.NO)
