"""Calls whose result comes later, as a task: found by the task's id, and ended by its result as steps are.

A step whose call was answered with a task is `unknown` until the task ends. Then its result is checked, masked and put
on record as the answer of the call would have been, whoever asked for it: the host, a notice, or the proxy itself,
which asks at the server's interval while the host does not.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import anyio

from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.run import TRANSITIONS
from soothsayer_mcp.model.step import ClosedStep, RecordedStep, VerifiedStep
from soothsayer_mcp.ports import Call, Note, PortError
from soothsayer_mcp.proxy import answers, merge
from soothsayer_mcp.proxy.connection import HostConnection, mended, text_of, unread
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.masks import Masks
from soothsayer_mcp.proxy.opening import OPENING_BOUND_S
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.paging import Envelope, pages_of
from soothsayer_mcp.proxy.tasks import EXTENSION, KEPT_LIMIT, Arrival, Clash, Ending, Task, Tasks
from soothsayer_mcp.run.aside import is_shown
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import META_CLIENT_CAPABILITIES, Era
from soothsayer_mcp.wire.frame import Frame, FrameKind, Replace
from soothsayer_mcp.wire.strict import read_server

POLL_S: Final = 5.0
"""How often a task is asked about where its server does not say."""
LEAST_POLL_S: Final = 0.1
MOST_POLL_S: Final = 60.0


class _Owed:
    """A step whose result comes by a task, and how that has ended."""

    __slots__ = ("asking", "call", "checked", "closed", "envelope", "over", "recorded", "taking", "task")

    def __init__(self, task: Task, closed: ClosedStep, recorded: RecordedStep, call: Call, envelope: Envelope) -> None:
        self.task = task
        self.closed = closed
        self.recorded = recorded
        self.call = call
        self.envelope = envelope
        """What requests of our own about it carry."""
        self.asking: list[HostRequest] = []
        """What the host asked about it since it was asked here."""
        self.taking = anyio.Lock()
        self.checked: VerifiedStep | None = None
        """The step with its result, once that is on record."""
        self.over = False
        """Whether nothing more comes of it."""


class Late:
    """The rows of tasks, and what is known of each."""

    def __init__(self, connection: HostConnection, gate: Gate, masks: Masks, governor: Governor) -> None:
        """No task is known."""
        self._connection = connection
        self._gate = gate
        self._masks = masks
        self._governor = governor
        self._tasks = Tasks()
        self._owed: dict[tuple[str, str], _Owed] = {}

    def learn(self, closed: ClosedStep, request: HostRequest) -> None:
        """Take the task that a call's answer makes, and see to it that its result is asked for."""
        call = request.call
        if not isinstance(closed.outcome, Returned) or call is None or call.recorded is None:
            return
        made = self._tasks.learn_created(
            closed.outcome.result,
            server=closed.proposal.server,
            step=closed.id,
            run=closed.run_id,
            principal=closed.principal.id,
            era=request.era,
        )
        if isinstance(made, Clash):
            self._connection.log(f"{made.task.server}: task {made.task.id!a} has the id of another server's task")
            made = made.task
        if made is None:
            return
        envelope = self._connection.envelope_of(request)
        owed = _Owed(made, closed, call.recorded, call, envelope_of_tasks(envelope))
        if len(self._owed) >= KEPT_LIMIT:
            ended = (name for name, one in self._owed.items() if one.over)
            del self._owed[next(ended, next(iter(self._owed)))]
        self._owed[made.server, made.id] = owed
        self._connection.spawn(self._follow, owed, interval_s(closed.outcome.result))

    # -- rows ---------------------------------------------------------------------------------------------------------

    def of_task(self, request: HostRequest) -> None:
        """`tasks/get`, `tasks/result`, `tasks/cancel`, `tasks/update`: to the server that keeps the task."""
        task_id = (request.frame.params or {}).get("taskId")
        found = self._tasks.find(task_id, self._connection.principal.id)
        if isinstance(found, Task):
            server = self._connection.fleet.named(found.server)
        else:
            # One server may know tasks from before this connection; of several nobody can tell which.
            found, server = None, self._connection.fleet.only
        if server is None:
            self._connection.nobody(request, Code.INVALID_PARAMS, "There is no such task.")
        else:
            self._connection.spawn(self._ask, request, server, found)

    def every(self, request: HostRequest) -> None:
        """`tasks/list`: the tasks of every server that keeps any."""
        only = self._connection.fleet.only
        if only is None:
            self._connection.spawn(self._list_all, request)
        else:
            self._connection.spawn(self._ask, request, only, None)

    async def status(self, server: Downstream, frame: Frame, send: Callable[[bytes], None]) -> None:
        """`notifications/tasks*`: how a task of this server stands; it may carry the result."""
        arrival = self._tasks.noticed(server.name, frame.params)
        if arrival is None and self._connection.fleet.only is None:
            self._connection.dropped(
                frame.raw, "answers_nothing", origin="server", method=frame.method, server=server.name
            )
            return
        raw = await self._arrived(server, frame, arrival, stateless=frame.method == "notifications/tasks")
        if raw is not None:
            send(raw)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _ask(self, request: HostRequest, server: Downstream, task: Task | None) -> None:
        refusal = await self._gate.passes(
            server.name,
            request.method,
            request.frame.params or {},
            origin="host",
            size=len(request.frame.raw),
            request=request,
        )
        if refusal is not None:
            self._connection.refuse(request, refusal.reason, refusal.summary)
        elif request.cancelled:
            request.close()
        else:
            owed = None if task is None else self._owed.get((task.server, task.id))
            if owed is not None:
                owed.asking.append(request)
            then = None if task is None else partial(self._answered, request, server, task)
            self._connection.pass_on(request, server, then=then, read=None if task is None else unread)

    def _answered(self, request: HostRequest, server: Downstream, task: Task, answer: Frame) -> bytes | None:
        arrival = self._tasks.answered(task, request.method, answer.message)
        if not arrival.path and not arrival.inputs:
            owed = self._owed.get((task.server, task.id))
            if owed is not None and arrival.ending is not None:
                self._lost(owed, arrival.ending)
            shown = self._masks.answer(request, server.name, answer)
            told = self._masks.late(server.name, shown, None if owed is None else owed.closed.decision, request.method)
            if told is not None:
                return mended(told, request)
            self._connection.refuse(request, Reason.NOT_MASKED, "it reads in more than one way")
            return None
        self._connection.spawn(self._deliver, request, server, answer, arrival)
        return None

    async def _deliver(self, request: HostRequest, server: Downstream, answer: Frame, arrival: Arrival) -> None:
        raw = await self._arrived(server, answer, arrival, stateless=request.stateless)
        if raw is None:
            summary = f"{server.name} asks for what policy refuses, or its answer can be neither recorded nor masked"
            self._connection.refuse(request, Reason.RULE_DENIED, summary)
        else:
            request.answer(mended(read_server(raw), request))

    async def _arrived(
        self, server: Downstream, frame: Frame, arrival: Arrival | None, *, stateless: bool
    ) -> bytes | None:
        """What the host may read of it, once that is on record; `None` when nothing."""
        owed = None if arrival is None else self._owed.get((arrival.task.server, arrival.task.id))
        method = frame.method or "tasks/result"
        shown = self._masks.late(server.name, frame, None if owed is None else owed.closed.decision, method)
        if arrival is not None and arrival.inputs:
            holder = _at(frame.message, arrival.inputs[:-1])
            passes = shown is not None and await self._gate.inputs_pass(server.name, holder) is None
            return shown.raw if passes and shown is not None else None
        if arrival is None or not arrival.path or owed is None:
            if owed is not None and arrival is not None and arrival.ending is not None:
                self._lost(owed, arrival.ending)
            return None if shown is None else shown.raw
        checked = await self._taken(owed, frame, arrival, told=True)
        if checked is None or shown is None:
            return None
        return _as_answered(shown, arrival, checked, owed.closed.closing.step, stateless=stateless)

    async def _taken(self, owed: _Owed, frame: Frame, arrival: Arrival, *, told: bool) -> VerifiedStep | None:
        """Settle the step of a task by its result, once, as the answer of the call would have ended it.

        `None` when it cannot be put on record; whoever asks again is given another try.
        """
        async with owed.taking:
            if owed.checked is not None:
                return owed.checked
            checked = await self._governor.checked(owed.recorded, owed.call, self._returned(owed, frame, arrival))
            try:
                await self._settle(owed, checked, frame, told=told)
            except PortError as error:
                self._connection.log(f"the result of task {owed.task.id!a} is withheld: {error.summary}")
                return None
            owed.checked = checked
            owed.over = True
            return checked

    async def _settle(self, owed: _Owed, checked: VerifiedStep, frame: Frame, *, told: bool) -> None:
        try:
            await self._governor.settle_task(checked, told=told)
        except PortError as error:
            if error.reason is not Reason.STATE_CHANGED:
                raise
            # A person said meanwhile how it ended; what the server says of it is on record all the same.
            await self._connection.store.note(_told(owed, frame, checked))

    def _returned(self, owed: _Owed, frame: Frame, arrival: Arrival) -> Returned:
        """The result or error of a task, as the answer to its call."""
        value = _at(frame.message, arrival.path)
        member = b"result" if arrival.ending is Ending.RESULT else b"error"
        raw = b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (
            compact(owed.recorded.proposal.request_id),
            member,
            frame.slice(arrival.path) or b"null",
        )
        return Returned(
            raw=raw,
            result=value if arrival.ending is Ending.RESULT and isinstance(value, dict) else None,
            error=value if arrival.ending is Ending.ERROR and isinstance(value, dict) else None,
            strict=frame.strict,
            tool_us=max(0, (self._connection.clock.monotonic_ns() - owed.closed.began_ns) // 1000),
        )

    def _lost(self, owed: _Owed, ending: Ending) -> None:
        """Nothing will come of a task: what became of its call stays unknown, until a person says."""
        if owed.over:
            return
        owed.over = True
        task = owed.task
        why = f"task {task.id!a} of step {owed.closed.closing.step} was {ending}: whether it happened is not known"
        self._connection.log(f"{task.server}: {why}")
        self._connection.dropped(b"", Reason.OUTCOME_LOST, origin="server", server=task.server, why=why)

    # -- what the host does not ask for -------------------------------------------------------------------------------

    async def _follow(self, owed: _Owed, every_s: float) -> None:
        """Ask for a task at its server's interval while the host does not, until the task or its run has ended."""
        server = self._connection.fleet.named(owed.task.server)
        assert server is not None
        while True:
            await anyio.sleep(every_s)
            if owed.over:
                return
            host_asks = bool(owed.asking)
            owed.asking = [request for request in owed.asking if not request.answered]
            if host_asks or not server.is_ready:
                continue
            with suppress(PortError):
                run = await self._connection.store.read_run(owed.closed.run_id)
                if not TRANSITIONS[run.state]:
                    return
                every_s = await self._ask_for(owed, server) or every_s

    async def _ask_for(self, owed: _Owed, server: Downstream) -> float | None:
        """Ask how a task stands, and take its result; gives the interval that the server names now."""
        answer = await self._own(owed, server, "tasks/get")
        arrival = self._tasks.answered(owed.task, "tasks/get", answer.message)
        status = answer.result
        over = isinstance(status, dict) and status.get("status") in {"completed", "failed"}
        if over and not arrival.path and owed.task.era is Era.HANDSHAKE:
            answer = await self._own(owed, server, "tasks/result")
            arrival = self._tasks.answered(owed.task, "tasks/result", answer.message)
        if arrival.path:
            await self._taken(owed, answer, arrival, told=False)
        elif arrival.ending is not None:
            self._lost(owed, arrival.ending)
        return interval_s(status)

    @staticmethod
    async def _own(owed: _Owed, server: Downstream, method: str) -> Frame:
        params: JsonObject = {"taskId": owed.task.id}
        if owed.envelope.meta is not None:
            params["_meta"] = owed.envelope.meta
        return await server.ask(method, params)

    async def _list_all(self, request: HostRequest) -> None:
        connection = self._connection
        envelope = connection.envelope_of(request)
        servers = [server for server in connection.fleet if server.can("tasks")]
        if not servers:
            connection.nobody(request, Code.METHOD_NOT_FOUND, "No server keeps tasks.")
            return

        async def ask(server: Downstream) -> list[Frame]:
            return await pages_of(server, "tasks/list", envelope)

        pages = await connection.ask_all(servers, ask, within_s=OPENING_BOUND_S, about="tasks/list")
        items = [item for server in servers for page in pages.get(server.name, ()) for item in self._mine(page)]
        request.answer(merge.answer(request.frame, b'{"tasks":[' + b",".join(items) + b"]}"))

    def _mine(self, page: Frame) -> list[bytes]:
        tasks = page.result.get("tasks") if isinstance(page.result, dict) else None
        if page.kind is not FrameKind.RESULT or not isinstance(tasks, list):
            return []
        mine = self._connection.principal.id
        return [
            raw
            for raw, task in zip(page.items(("result", "tasks")), tasks, strict=True)
            if isinstance(task, dict)
            and text_of(task, "taskId") is not None
            and self._tasks.is_visible(task, mine, unknown=False)
        ]


def _as_answered(shown: Frame, arrival: Arrival, checked: VerifiedStep, step: str, *, stateless: bool) -> bytes:
    """What comes of a task as the host may read it: withheld where the answer of its call would have been.

    The checks looked at it as it came; the host reads what is `shown`.
    """
    failure = checked.failure
    if failure is None or failure.reason in answers.THE_SERVERS_OWN or checked.decision.mode is Mode.OBSERVE:
        return shown.raw
    content: tuple[bytes, ...] = ()
    if is_shown(checked, failure):
        with suppress(LookupError):
            content = tuple(shown.items((*arrival.path, "content")))
    text = answers.failed(0, failure, step=step, acted=checked.acted, stateless=stateless, content=content)
    return shown.edited(Replace(arrival.path, read_server(text).slice(("result",)) or b"null"))


def _told(owed: _Owed, frame: Frame, checked: VerifiedStep) -> Note:
    """The entry of a result that settles nothing any more."""
    assert isinstance(checked.outcome, Returned)
    return Note(
        kind=Kind.MESSAGE_CHECKED,
        run=owed.task.run,
        fields={
            "method": frame.method or "tasks/result",
            "from": "server",
            "server": owed.task.server,
            "effect": "allow",
            "rules": [],
            "of_step": owed.closed.closing.step,
            "bytes": len(frame.raw),
        },
        payloads={"result": checked.outcome.raw},
    )


def envelope_of_tasks(envelope: Envelope) -> Envelope:
    """The same, with the promise without which a server of the stateless era answers nothing about tasks."""
    if envelope.meta is None:
        return envelope
    return Envelope(meta={**envelope.meta, META_CLIENT_CAPABILITIES: {"extensions": {EXTENSION: {}}}})


def interval_s(status: Json) -> float:
    """How often a server wants to be asked about a task, within bounds of ours; some where it does not say."""
    told = status.get("task", status) if isinstance(status, dict) else None
    told = told if isinstance(told, dict) else {}
    found = told.get("pollIntervalMs", told.get("pollInterval"))
    if isinstance(found, bool) or not isinstance(found, int | float):
        return POLL_S
    return min(max(found / 1000, LEAST_POLL_S), MOST_POLL_S)


def _at(value: Json, path: tuple[str, ...]) -> Json:
    for member in path:
        value = value.get(member) if isinstance(value, dict) else None
    return value
