"""Calls whose result comes later, as a task: found by the task's id, and held against what their step owed."""

from collections.abc import Callable
from functools import partial

from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.ports import Note, PortError
from soothsayer_mcp.proxy import answers, merge
from soothsayer_mcp.proxy.connection import HostConnection, mended, text_of, unread
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.masks import Masks
from soothsayer_mcp.proxy.opening import OPENING_BOUND_S
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.paging import pages_of
from soothsayer_mcp.proxy.tasks import Arrival, Clash, Ending, Task, Tasks
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.frame import Frame, FrameKind, Replace
from soothsayer_mcp.wire.strict import read_server


class Late:
    """The rows of tasks, and what is known of each."""

    def __init__(self, connection: HostConnection, gate: Gate, masks: Masks) -> None:
        """No task is known."""
        self._connection = connection
        self._gate = gate
        self._masks = masks
        self._tasks = Tasks()
        self._steps: dict[tuple[str, str], ClosedStep] = {}

    def learn(self, closed: ClosedStep, request: HostRequest) -> None:
        """Take the task that a call's answer makes, if it makes one."""
        if not isinstance(closed.outcome, Returned):
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
        if made is not None:
            self._steps[made.server, made.id] = closed

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
            then = None if task is None else partial(self._answered, request, server, task)
            self._connection.pass_on(request, server, then=then, read=None if task is None else unread)

    def _answered(self, request: HostRequest, server: Downstream, task: Task, answer: Frame) -> bytes | None:
        arrival = self._tasks.answered(task, request.method, answer.message)
        if not arrival.path and not arrival.inputs:
            step = self._steps.get((task.server, task.id))
            shown = self._masks.answer(request, server.name, answer)
            told = self._masks.late(server.name, shown, None if step is None else step.decision, request.method)
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
        closed = None if arrival is None else self._steps.get((arrival.task.server, arrival.task.id))
        method = frame.method or "tasks/result"
        shown = self._masks.late(server.name, frame, None if closed is None else closed.decision, method)
        if shown is None:
            return None
        if arrival is None:
            return shown.raw
        if arrival.inputs:
            holder = _at(frame.message, arrival.inputs[:-1])
            return shown.raw if await self._gate.inputs_pass(server.name, holder) is None else None
        if not arrival.path:
            return shown.raw
        if arrival.first and not await self._record(shown, arrival, closed):
            return None
        if arrival.ending is not Ending.RESULT or closed is None:
            return shown.raw
        return self._held_against(frame, shown, arrival, closed, stateless=stateless)

    async def _record(self, frame: Frame, arrival: Arrival, closed: ClosedStep | None) -> bool:
        note = Note(
            kind=Kind.MESSAGE_CHECKED,
            run=arrival.task.run,
            fields={
                "method": frame.method or "tasks/result",
                "from": "server",
                "server": arrival.task.server,
                "effect": "allow",
                "rules": [],
                "of_step": "" if closed is None else closed.closing.step,
                "bytes": len(frame.raw),
            },
            payloads={"result": frame.slice(arrival.path) or b"null"},
        )
        try:
            await self._connection.store.note(note)
        except PortError as error:
            self._connection.log(f"the result of task {arrival.task.id!a} is withheld: {error.summary}")
            return False
        return True

    @staticmethod
    def _held_against(frame: Frame, shown: Frame, arrival: Arrival, closed: ClosedStep, *, stateless: bool) -> bytes:
        """A late result passes the check that its call owed, or is withheld as the call's own would be.

        The check looks at it as it came, the host at what is `shown`.
        """
        result = _at(frame.message, arrival.path)
        check = None if closed.tool is None else closed.tool.check_result
        if check is None or closed.decision.mode is Mode.OBSERVE or not isinstance(result, dict):
            return shown.raw
        if result.get("isError") is True:
            return shown.raw
        if not frame.strict:
            failure = Failure(reason=Reason.UNCHECKED, summary="its answer reads in more than one way")
        elif "structuredContent" not in result:
            failure = Failure(reason=Reason.RESULT_SCHEMA, summary="no structured content came")
        else:
            fault = check(result["structuredContent"])
            if fault is None:
                return shown.raw
            summary = f"{fault.path or 'the whole'} {fault.problem}"
            failure = Failure(reason=Reason.RESULT_SCHEMA, summary=summary)
        withheld = read_server(
            answers.failed(0, failure, step=closed.closing.step, acted=failure.acted, stateless=stateless)
        )
        return shown.edited(Replace(arrival.path, withheld.slice(("result",)) or b"null"))

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


def _at(value: Json, path: tuple[str, ...]) -> Json:
    for member in path:
        value = value.get(member) if isinstance(value, dict) else None
    return value
