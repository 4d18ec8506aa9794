"""Calls whose result comes later: whose task an id is, and where its result arrives.

Two shapes: core tasks of the handshake era (2025-11-25: `params.task`, `tasks/result`) and the extension
`io.modelcontextprotocol/tasks` of the stateless era (SEP-2663: `resultType: "task"`, the result inside `tasks/get` and
`notifications/tasks`). Values in, values out; nothing is sent from here.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final

from soothsayer_mcp.model.call import RunId, StepId
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.wire.eras import Era, era_of
from soothsayer_mcp.wire.strict import read_server

EXTENSION: Final = "io.modelcontextprotocol/tasks"

KEPT_LIMIT = 10_000
"""Tasks remembered; past it the oldest that ended is forgotten, else the oldest."""

_FORGOTTEN_CODES: Final = frozenset({-32602, -32002})


class Stranger(Enum):
    """Why a task id finds no task. Both are answered with the same words, so that ids cannot be probed."""

    UNKNOWN = "unknown"
    FOREIGN = "foreign"


class Ending(StrEnum):
    """How a task ended."""

    RESULT = "result"
    """The result of the call stands in the frame."""
    ERROR = "error"
    """The call's own JSON-RPC error stands in the frame."""
    CANCELLED = "cancelled"
    """It was cancelled; no result will come."""
    FORGOTTEN = "forgotten"
    """The server no longer knows the task: the outcome is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One accepted call that has not answered yet, and everything its result will be held against."""

    id: str
    server: str
    step: StepId
    run: RunId
    principal: str
    era: Era


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """A server made a task under an id that is another's: the host cannot reach it by that id."""

    task: Task
    holder: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a frame says about a task, and where in it the call's own parts stand."""

    task: Task
    ending: Ending | None
    """`None` while it goes on."""
    path: tuple[str, ...] = ()
    """Of the call's own result or error, to be verified and redacted as the call's answer; empty when there is none."""
    inputs: tuple[str, ...] = ()
    """Of the `inputRequests` the task is waiting for, to be checked; empty when there are none."""
    first: bool = False
    """Whether this is the first word of the end: it closes the step. A repetition is only redacted."""


class _Live:
    """A task, and whether it has ended."""

    __slots__ = ("ended", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.ended = False


class Tasks:
    """The tasks that servers keep for the principals of this process."""

    def __init__(self) -> None:
        """Know no task."""
        self._live: dict[str, _Live] = {}
        # Tasks whose id another server had taken: no host reaches them, but word of their end may still come.
        self._hidden: dict[tuple[str, str], _Live] = {}

    def learn_created(
        self, result: Json, *, server: str, step: StepId, run: RunId, principal: str, era: Era
    ) -> Task | Clash | None:
        """Take the task that an answer to a call makes; `None` when the answer is an ordinary one."""
        task_id = created_task(result, era)
        if task_id is None:
            return None
        task = Task(id=task_id, server=server, step=step, run=run, principal=principal, era=era)
        live = _Live(task)
        holder = self._live.get(task_id)
        if holder is not None and (holder.task.server, holder.task.principal) != (server, principal):
            self._hidden[(server, task_id)] = live
            return Clash(task=task, holder=holder.task)
        self._live[task_id] = live
        self._bound()
        return task

    def find(self, task_id: Json, principal: str) -> Task | Stranger:
        """Tell whose task a host means. A foreign one, and with several servers an unknown one, is `-32602`."""
        live = self._live.get(task_id) if isinstance(task_id, str) else None
        if live is None:
            return Stranger.UNKNOWN
        return live.task if live.task.principal == principal else Stranger.FOREIGN

    def is_visible(self, item: Json, principal: str, *, unknown: bool) -> bool:
        """Tell whether an item of `tasks/list` may be shown; `unknown` says so of tasks made before this process."""
        found = self.find(item.get("taskId") if isinstance(item, Mapping) else None, principal)
        return unknown if found is Stranger.UNKNOWN else isinstance(found, Task)

    def answered(self, task: Task, method: str, message: Mapping[str, Json]) -> Arrival:
        """Read a server's answer to `tasks/get`, `tasks/result` or `tasks/cancel`."""
        if "error" in message:
            return self._refused(task, method, message["error"])
        if method == "tasks/result":
            return self._ended(task, Ending.RESULT, ("result",))
        return self._told(task, message.get("result"), "result")

    def noticed(self, server: str, params: Json) -> Arrival | None:
        """Read `notifications/tasks` or `notifications/tasks/status` of a server; `None` for a task not its own."""
        task_id = params.get("taskId") if isinstance(params, Mapping) else None
        if not isinstance(task_id, str):
            return None
        live = self._live.get(task_id)
        if live is None or live.task.server != server:
            live = self._hidden.get((server, task_id))
        return None if live is None else self._told(live.task, params, "params")

    def _of(self, task: Task) -> _Live | None:
        for live in (self._live.get(task.id), self._hidden.get((task.server, task.id))):
            if live is not None and live.task == task:
                return live
        return None

    def _told(self, task: Task, status: Json, member: str) -> Arrival:
        if not isinstance(status, Mapping):
            return Arrival(task=task, ending=None)
        match status.get("status"):
            case "completed" if "result" in status:
                return self._ended(task, Ending.RESULT, (member, "result"))
            case "failed" if "error" in status:
                return self._ended(task, Ending.ERROR, (member, "error"))
            case "cancelled":
                return self._ended(task, Ending.CANCELLED, ())
            case _:
                # A handshake task that is over still owes its result, which only `tasks/result` brings.
                inputs = (member, "inputRequests") if "inputRequests" in status else ()
                return Arrival(task=task, ending=None, inputs=inputs)

    def _refused(self, task: Task, method: str, error: Json) -> Arrival:
        code = error.get("code") if isinstance(error, Mapping) else None
        if code in _FORGOTTEN_CODES:
            return self._ended(task, Ending.FORGOTTEN, ())
        if method == "tasks/result":
            return self._ended(task, Ending.ERROR, ("error",))
        return Arrival(task=task, ending=None)

    def _ended(self, task: Task, ending: Ending, path: tuple[str, ...]) -> Arrival:
        live = self._of(task)
        first = live is not None and not live.ended
        if live is not None:
            live.ended = True
        return Arrival(task=task, ending=ending, path=path, first=first)

    def _bound(self) -> None:
        if len(self._live) > KEPT_LIMIT:
            oldest = next((key for key, live in self._live.items() if live.ended), next(iter(self._live)))
            del self._live[oldest]


_PROMISES: Final = frozenset({"task", "taskId", "inputRequests"})


def promised(sent: bytes, result: JsonObject) -> tuple[bool, str]:
    """Tell whether a result is the last word on the call that was `sent`, and the task by which that comes later.

    What a server merely says of itself makes neither: a task of the handshake era is one that the host asked for, and
    only the stateless era has answers that ask.
    """
    kind = result.get("resultType")
    if (kind is None or kind == "complete") and not _PROMISES & result.keys():
        return True, ""
    call = read_server(sent)
    if era_of(call) is Era.HANDSHAKE:
        task = created_task(result, Era.HANDSHAKE) if "task" in (call.params or {}) else None
        return task is None, task or ""
    whole = (kind is None or kind == "complete") and "inputRequests" not in result
    return whole, created_task(result, Era.STATELESS) or ""


def created_task(result: Json, era: Era) -> str | None:
    """Find the id of the task that a result makes; `None` when it makes none."""
    if not isinstance(result, Mapping):
        return None
    task = result.get("task") if era is Era.HANDSHAKE else result
    if not isinstance(task, Mapping) or (era is Era.STATELESS and result.get("resultType") != "task"):
        return None
    task_id = task.get("taskId")
    return task_id if isinstance(task_id, str) else None
