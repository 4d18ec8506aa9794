"""Tool calls of the host: read, attributed, proposed, governed, answered. Each is a task of its own."""

from contextlib import suppress
from functools import partial
from typing import TypeAlias

import anyio

from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import CONTROL, Cause, Client, Proposal, RunId, ToolDefinition
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.json import JsonObject, compact
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.run import DeclaredBy, Intent, NextStep, RunBinding
from soothsayer_mcp.model.step import ClosedStep, ProposedStep, RecordedStep
from soothsayer_mcp.model.undo import UndoState
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call, PortError
from soothsayer_mcp.proxy import answers
from soothsayer_mcp.proxy.asking import Asking, Retry
from soothsayer_mcp.proxy.connection import META_RUN, SHOWN, HostConnection, quoted
from soothsayer_mcp.proxy.control import BY_NAME, ControlTool, is_control_name
from soothsayer_mcp.proxy.crew import Crew
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Refusal
from soothsayer_mcp.proxy.inputs import Inputs, InvalidStateError
from soothsayer_mcp.proxy.inverse import Inverse
from soothsayer_mcp.proxy.late import Late
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.own import Own
from soothsayer_mcp.proxy.pins import Books
from soothsayer_mcp.proxy.probing import Probing
from soothsayer_mcp.proxy.settling import Settles
from soothsayer_mcp.run.close import undoes
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import LINKS_SINCE
from soothsayer_mcp.wire.frame import Edit, Frame, Replace
from soothsayer_mcp.wire.strict import folded_property, read_server

HALT_S = 0.25
"""How often the runs of calls in flight are looked at: whether one was stopped at once."""
META_INTENT = "dev.soothsayer/intent"
"""Where a host may say what the work is for, of the run that this call opens."""
INTENT_CHARS = 2_000
CALLS = 1024
"""Calls of one host that are governed at once, over all servers. Further ones are refused without a step of theirs."""


class Calls:
    """The governed row of the table."""

    def __init__(
        self,
        connection: HostConnection,
        books: Books,
        governor: Governor,
        inputs: Inputs,
        late: Late,
        asking: Asking | None,
        own: Own,
    ) -> None:
        """Govern the calls of one connection."""
        self._connection = connection
        self._books = books
        self._governor = governor
        self._inputs = inputs
        self._late = late
        self._asking = asking
        self._own = own
        self._probing = Probing(connection, books, governor)
        self._settles = Settles(connection, self._probing)
        self._governed = 0
        self._underway: dict[Call, HostRequest] = {}
        self._bindings: dict[tuple[Client, str, str], RunBinding] = {}
        self._crew = Crew[_Piece](connection.spawn, self._govern)

    @property
    def under_way(self) -> int:
        """How many calls are governed now."""
        return self._governed

    def call(self, request: HostRequest) -> None:
        """Begin to govern a call."""
        if self._governed >= CALLS:
            self._refuse_flood(request)
            return
        self._governed += 1
        request.call = Call() if self._asking is None else self._asking.call_of(request)
        request.call.read = partial(self._probing.read, request)
        request.call.offered = partial(self._probing.offered, request)
        self._underway[request.call] = request
        self._crew.give((request, request.call))

    async def watch_runs(self) -> None:
        """Cancel what is in flight of a run that was stopped at once, for as long as the connection lives."""
        while True:
            await anyio.sleep(HALT_S)
            for call, request in list(self._underway.items()):
                step = call.recorded
                if step is None or not call.sent or call.halted:
                    continue
                with suppress(PortError):
                    run = await self._connection.store.read_run(step.run_id)
                    if run.halted:
                        self._halt(call, request, step)

    def _halt(self, call: Call, request: HostRequest, step: RecordedStep) -> None:
        call.halted = True
        server = self._connection.fleet.named(step.proposal.server)
        if server is not None:
            params: JsonObject = {"requestId": request.id, "reason": "the run was stopped"}
            server.cancel(request.key, replies.notification("notifications/cancelled", params))

    async def _govern(self, piece: "_Piece") -> None:
        request, call = piece
        try:
            answer = await self._round(request, call)
            while answer is None:
                call = self._next(request, call)
                answer = await self._round(request, call)
            request.answer(answer)
        except InvalidStateError:
            self._connection.dropped(request.frame.raw, "state", origin="host", method=request.method, answered=True)
            request.answer(replies.error(request.id, Code.INVALID_PARAMS, "requestState is not one of ours."))
        except Exception:  # noqa: BLE001 - the edge of a call's task: a fault of ours ends this call and no other
            self._connection.fault()
            reason = Reason.OUTCOME_LOST if call.sent else Reason.INTERNAL_ERROR
            failure = Failure(reason=reason, summary="a fault of Soothsayer's own")
            request.answer(
                answers.failed(request.id, failure, step="", acted=failure.acted, stateless=request.stateless)
            )
        finally:
            self._governed -= 1
            del self._underway[call]
            # A call and its request know each other; left so, all that one call made would wait for the collector.
            request.call = None

    async def _round(self, request: HostRequest, call: Call) -> bytes | None:
        """One step of a request, and the answer; `None` when it is called again for its host."""
        proposed = _Proposed()
        try:
            return await self._answer(request, await self._closed(request, call, proposed))
        finally:
            if proposed.server is not None:
                proposed.server.calls_in_flight -= 1

    def _next(self, request: HostRequest, call: Call) -> Call:
        """The live side of the next step of a request."""
        del self._underway[call]
        request.question = None
        request.call = again = Call() if self._asking is None else self._asking.call_of(request)
        again.withdrawn, again.cancel_reason = call.withdrawn, call.cancel_reason
        self._underway[again] = request
        return again

    async def _answer(self, request: HostRequest, closed: ClosedStep | Unrecorded) -> bytes | None:
        if self._asking is not None and isinstance(closed, ClosedStep):
            question = self._asking.answer(request, closed)
            if question is not None:
                return question
        digest = ""
        if isinstance(closed, ClosedStep) and closed.next_step is NextStep.COMPACT:
            # The answer is owed whatever becomes of what goes with it.
            with suppress(PortError):
                digest = await self._own.digest(closed.run_id)
        answer = answers.answer(
            request.id, closed, stateless=request.stateless, reading=self._reading(request, closed), digest=digest
        )
        if not isinstance(closed, ClosedStep) or not isinstance(closed.outcome, Returned):
            return answer
        result = closed.outcome.result
        server = self._connection.fleet.named(closed.proposal.server)
        if result is None or server is None:
            return answer
        if self._connection.fleet.only is None:
            self._connection.owners.learn_result(server.name, result)
        if closed.outcome.task:
            self._late.learn(closed, request)
        if not request.stateless:
            return answer
        server.discovered = True
        if "inputRequests" not in result:
            return answer
        return await self._with_inputs(request, closed, server, answer)

    def _reading(self, request: HostRequest, closed: ClosedStep | Unrecorded) -> answers.Reading:
        """How this host can read on in a stored result; of no interest for most."""
        if not isinstance(closed, ClosedStep) or closed.stored is None:
            return answers.WHOLE
        linked = request.stateless or self._connection.version >= LINKS_SINCE
        return answers.Reading(by_tool=self._connection.control_tools, by_link=linked)

    async def _with_inputs(
        self, request: HostRequest, closed: ClosedStep, server: Downstream, answer: bytes
    ) -> bytes | None:
        """An answer that asks the host something: policy first; after a yes of a person its state is carried by us."""
        step = f"{closed.run_id}.{closed.intent.no}"
        looked = await self._inputs.looked_at(request, server, read_server(answer), step=step)
        if not isinstance(looked, Refusal):
            carries = self._asking is not None and closed.support.approval is not None
            shown = self._asking.carried(closed, looked.frame) if self._asking and carries else looked.frame.raw
            if not looked.is_settled:
                return shown
            if self._inputs.again(request, read_server(shown)):
                return None
            looked = Refusal(reason=Reason.RULE_DENIED, summary=f"{server.name} goes on asking for what policy refuses")
        failure = Failure(reason=looked.reason, summary=looked.summary)
        return answers.failed(
            request.id, failure, step=closed.closing.step, acted=Acted.MAYBE, stateless=request.stateless
        )

    async def _closed(self, request: HostRequest, call: Call, proposed: "_Proposed") -> ClosedStep | Unrecorded:
        try:
            proposed.step = await self._propose(request, proposed)
            closed = await self._governor.govern(proposed.step, call)
            if isinstance(closed, ClosedStep):
                if closed.decision.on_failure and undoes(closed):
                    closed = await self._undone(request, closed)
                settling = closed.support.settling
                if settling is not None and self._settles.ask(request, call, closed):
                    asked = f"Soothsayer asks {settling.terms.tool} whether it happened"
                    closed = closed.undone(closed.next_step, _joined(closed.why, asked))
            self._settles.look(request)
        except PortError as error:
            closed = Unrecorded(failure=error.failure)
        except InvalidStateError:
            raise
        except Exception:  # noqa: BLE001 - the fault is put on record as the step's end
            self._connection.fault()
            closed = await self._abandoned(call, proposed.step)
        if isinstance(closed, Unrecorded) and call.recorded is None:
            # No step tells of this refusal; a message does, as soon as anything can be recorded.
            self._refused_unrecorded(request, closed.failure.reason)
        return closed

    async def _undone(self, request: HostRequest, closed: ClosedStep) -> ClosedStep:
        """Undo a step as policy says; where that does not succeed, the agent is told to stop."""
        if self._connection.undo is None:
            return closed.undone(NextStep.STOP, _joined(closed.why, "nothing here can undo it"))
        connection = self._connection
        envelope = connection.envelope_of(request)
        servers = Inverse(connection, self._books, self._governor, of=closed, envelope=envelope)
        try:
            done = await self._connection.undo(closed, servers)
        except PortError as error:
            why = f"the undo could not be put on record: {error.summary}"
            return closed.undone(NextStep.STOP, _joined(closed.why, why))
        except Exception:  # noqa: BLE001 - the step is on record as ended, and so must stay: only its undo failed
            self._connection.fault()
            return closed.undone(NextStep.STOP, _joined(closed.why, "the undo failed inside Soothsayer"))
        terms = closed.decision.dues.undo
        tool = "" if terms is None else terms.tool
        if done.state is UndoState.UNDONE:
            told = f"{tool} took it back" if tool else "its files are as they were before the call"
            return closed.undone(closed.next_step, _joined(closed.why, told), back=True)
        if done.state is UndoState.NOT_NEEDED:
            told = "it had changed nothing" if tool else "it had changed no file"
            return closed.undone(closed.next_step, _joined(closed.why, told), back=True)
        told = f"{done.state}, {done.why}" if done.why else done.state.value
        return closed.undone(NextStep.STOP, _joined(closed.why, f"that did not succeed: {told}"))

    async def _abandoned(self, call: Call, step: ProposedStep | None) -> ClosedStep | Unrecorded:
        if step is not None:
            return await self._governor.abandon(step, call)
        return Unrecorded(failure=Failure(reason=Reason.INTERNAL_ERROR, summary=""))

    def _refused_unrecorded(self, request: HostRequest, reason: Reason) -> None:
        self._connection.dropped(request.frame.raw, reason, origin="host", method=request.method, answered=True)

    def _refuse_flood(self, request: HostRequest) -> None:
        failure = Failure(reason=Reason.TOO_MANY_IN_FLIGHT, summary=f"{CALLS} calls are in flight already")
        self._refused_unrecorded(request, failure.reason)
        request.answer(answers.failed(request.id, failure, step="", acted=Acted.NO, stateless=request.stateless))

    # -- proposing ----------------------------------------------------------------------------------------------------

    async def _propose(self, request: HostRequest, proposed: "_Proposed") -> ProposedStep:
        connection = self._connection
        began_ns = connection.clock.monotonic_ns()
        frame = request.frame
        params: JsonObject = frame.params or {}
        policy = connection.policies.current()
        flaws: list[Failure] = []
        client = connection.client_of(request)
        run_id = await self._run(frame, client, policy, flaws)
        retry = request.retry = None if self._asking is None else self._asking.retry_of(request, run_id)
        control = self._control(params)
        server, name = (None, control.name) if control is not None else self._owner(params, flaws)
        full = server is not None and server.full
        if server is not None:
            if full:
                summary = f"{server.name} has too many calls in flight"
                flaws.append(Failure(reason=Reason.TOO_MANY_IN_FLIGHT, summary=summary))
            proposed.server = server
            server.calls_in_flight += 1
        # A full server may be one that answers nothing: the refusal waits for no list of it.
        if control is not None:
            tool = control.definition
        else:
            tool = None if full else await self._listed(request, server, name, policy, flaws)
        arguments = self._arguments(params, tool, flaws)
        raw, continues = self._towards(frame, name, retry), "" if retry is None else retry.step
        if server is not None:
            request.servers = (server.name,)
            raw, filled = self._inputs.towards(request, server, raw)
            continues = continues or filled
            if request.stateless:
                raw = connection.narrowed(server.name, raw)
        return ProposedStep(
            id=connection.ids.step(),
            run_id=run_id,
            cause=Cause.AGENT if control is None else Cause.CONTROL,
            principal=connection.principal,
            client=client,
            tool=tool,
            proposal=Proposal(
                server=CONTROL if control is not None else "" if server is None else server.name,
                tool=name,
                arguments=arguments,
                raw_arguments=frame.slice(("params", "arguments")) or b"",
                raw=raw,
                request_id=request.id,
                meta=frame.meta,
            ),
            flaws=tuple(flaws),
            proposed_at_us=connection.clock.now_us(),
            began_ns=began_ns,
            continues=continues,
        )

    async def run_of(self, request: HostRequest) -> RunId:
        """The run that a request belongs to, as its calls would. Raises `PortError` where a run is named wrongly."""
        flaws: list[Failure] = []
        policy = self._connection.policies.current()
        run = await self._run(request.frame, self._connection.client_of(request), policy, flaws)
        for flaw in flaws:
            raise PortError(flaw.reason, flaw.summary, acted=Acted.NO)
        return run

    async def run_beside(self, request: HostRequest) -> RunId:
        """The run that counts what a request reads; the automatic one where one is named wrongly."""
        policy = self._connection.policies.current()
        return await self._run(request.frame, self._connection.client_of(request), policy, [])

    async def _run(self, frame: Frame, client: Client, policy: Policy, flaws: list[Failure]) -> RunId:
        """Find the run of a call; one that is named wrongly leaves a flaw, and the step stands in the automatic run."""
        named = frame.meta.get(META_RUN, self._connection.named_run)
        if not isinstance(named, str):
            flaws.append(Failure(reason=Reason.RUN_UNKNOWN, summary="its name is not a text"))
            named = ""
        said = frame.meta.get(META_INTENT)
        said = said[:INTENT_CHARS] if isinstance(said, str) else ""
        binding = self._bindings.get((client, named, said))
        if binding is None or binding.rules is not policy.run_rules:
            if len(self._bindings) >= CALLS:
                self._bindings.clear()
            intent = self._connection.intent
            if intent is None and said:
                intent = Intent(text=said, declared_by=DeclaredBy.HOST)
            binding = RunBinding(
                principal=self._connection.principal,
                workspace=self._connection.workspace,
                client=client,
                named=named,
                intent=intent,
                explicit=self._connection.explicit_run,
                rules=policy.run_rules,
            )
            self._bindings[client, named, said] = binding
        run_id, failure = await self._connection.store.bind_run(binding, policy.digest)
        if failure is not None:
            flaws.append(failure)
        return run_id

    def _control(self, params: JsonObject) -> ControlTool | None:
        """The tool of ours that is called, where the model has them; no server's tool has such a name then."""
        name = params.get("name")
        return BY_NAME.get(name) if self._connection.control_tools and isinstance(name, str) else None

    def _owner(self, params: JsonObject, flaws: list[Failure]) -> tuple[Downstream | None, str]:
        fleet = self._connection.fleet
        shown = params.get("name")
        if not isinstance(shown, str):
            flaws.append(Failure(reason=Reason.ARGUMENTS_INVALID, summary="the tool's name is not a text"))
            return fleet.only, ""
        own = fleet.names.own(shown)
        if own is None:
            flaws.append(unknown_tool(shown))
            return None, shown
        return fleet.named(own[0]), own[1]

    async def _listed(
        self, request: HostRequest, server: Downstream | None, name: str, policy: Policy, flaws: list[Failure]
    ) -> ToolDefinition | None:
        """The tool; a call that waits until it is listed counts towards what may wait for its server."""
        if server is None or self._books.of(server).compared:
            return await self._tool(request, server, name, policy, flaws)
        size = len(request.frame.raw)
        server.held_bytes += size
        try:
            return await self._tool(request, server, name, policy, flaws)
        finally:
            server.held_bytes -= size

    async def _tool(
        self, request: HostRequest, server: Downstream | None, name: str, policy: Policy, flaws: list[Failure]
    ) -> ToolDefinition | None:
        if server is None or not isinstance((request.frame.params or {}).get("name"), str):
            return None
        if self._connection.control_tools and self._connection.fleet.only is server and is_control_name(name):
            flaws.append(unknown_tool(name))
            return None
        try:
            tool = await self._books.of(server).find(
                name, policy=policy, envelope=self._connection.envelope_of(request)
            )
        except PortError as error:
            flaws.append(error.failure)
            return None
        if tool is None:
            flaws.append(unknown_tool(self._connection.fleet.names.shown(server.name, name)))
        return tool

    @staticmethod
    def _arguments(params: JsonObject, tool: ToolDefinition | None, flaws: list[Failure]) -> JsonObject:
        arguments = params.get("arguments", {})
        if not isinstance(arguments, dict):
            flaws.append(Failure(reason=Reason.ARGUMENTS_INVALID, summary="the arguments are not an object"))
            return {}
        if tool is None:
            return arguments
        folded = None if tool.properties is None else folded_property(arguments, tool.properties)
        if folded is not None:
            summary = f"argument {quoted(folded)} differs from a declared one only in case"
            flaws.append(Failure(reason=Reason.ARGUMENTS_INVALID, summary=summary))
        fault = None if tool.check_arguments is None else tool.check_arguments(arguments)
        if fault is not None:
            where = f"argument {fault.path[:SHOWN]}" if fault.path else "the whole of the arguments"
            flaws.append(Failure(reason=Reason.ARGUMENTS_INVALID, summary=f"{where} {fault.problem}"))
        return arguments

    def _towards(self, frame: Frame, name: str, retry: Retry | None) -> bytes:
        """The bytes for the server: the host's own, with the server's own name where hosts see another.

        What a retry carries of ours is taken out.
        """
        edits: list[Edit] = []
        if self._connection.fleet.names.prefixed and isinstance((frame.params or {}).get("name"), str):
            edits.append(Replace(("params", "name"), compact(name)))
        if retry is not None and self._asking is not None:
            edits += self._asking.towards(frame, retry)
        return frame.edited(*edits)


_Piece: TypeAlias = tuple[HostRequest, Call]


class _Proposed:
    """How far a call has come before it is governed."""

    __slots__ = ("server", "step")

    def __init__(self) -> None:
        self.server: Downstream | None = None
        """The server that this call counts for."""
        self.step: ProposedStep | None = None


def _joined(first: str, then: str) -> str:
    return f"{first}; {then}" if first else then


def unknown_tool(shown: str) -> Failure:
    """No server offers a tool of that name."""
    return Failure(reason=Reason.TOOL_UNKNOWN, summary=f"no server offers a tool named {quoted(shown)}")
