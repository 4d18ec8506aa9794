"""Calls whose result comes later: whose task an id is, where its result arrives, and when to ask for it.

Two shapes: core tasks of the handshake era (2025-11-25: `params.task`, `tasks/result`) and the extension
`io.modelcontextprotocol/tasks` of the stateless era (SEP-2663: `resultType: "task"`, the result inside `tasks/get` and
`notifications/tasks`). Values in, values out; the time is an argument, nothing is sent from here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from soothsayer_mcp.model.call import RunId, StepId
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.wire.eras import Era

EXTENSION: Final = "io.modelcontextprotocol/tasks"

KEPT_LIMIT = 10_000
"""Tasks remembered; past it the oldest that ended is forgotten, else the oldest."""

INTERVAL_US: Final = 5_000_000
"""How often to ask where the server names no interval."""

SHORTEST_US: Final = 500_000
LONGEST_US: Final = 600_000_000

PATIENCE_US: Final = 10_000_000
"""How long a host that asks by itself may be silent before the proxy asks in its place; at least two intervals."""

_ENDED: Final = frozenset({"completed", "failed", "cancelled"})
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """A request that the proxy should make, as the host does not."""

    task: Task
    method: str


class _Live:
    """A task and what changes about it."""

    __slots__ = ("due_us", "ended", "interval_us", "status", "task", "waiting")

    def __init__(self, task: Task, *, interval_us: int, now_us: int) -> None:
        self.task = task
        self.status = "working"
        self.interval_us = interval_us
        self.due_us = now_us + max(PATIENCE_US, 2 * interval_us)
        self.waiting = 0
        self.ended = False


class Tasks:
    """The tasks that servers keep for the principals of this process."""

    def __init__(self) -> None:
        """Know no task."""
        self._live: dict[str, _Live] = {}
        # Tasks whose id another server had taken: no host reaches them, but their end is still asked for.
        self._hidden: dict[tuple[str, str], _Live] = {}

    def learn_created(
        self, result: Json, *, server: str, step: StepId, run: RunId, principal: str, era: Era, now_us: int
    ) -> Task | Clash | None:
        """Take the task that an answer to a call makes; `None` when the answer is an ordinary one."""
        made = created_task(result, era)
        if made is None:
            return None
        task_id, interval_us = made
        task = Task(id=task_id, server=server, step=step, run=run, principal=principal, era=era)
        live = _Live(task, interval_us=interval_us, now_us=now_us)
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

    def host_asked(self, task: Task, method: str, *, now_us: int) -> None:
        """Note that the host asks by itself; while its `tasks/result` is open, nothing else need ask."""
        live = self._of(task)
        if live is not None:
            live.due_us = now_us + max(PATIENCE_US, 2 * live.interval_us)
            live.waiting += method == "tasks/result"

    def host_left(self, task: Task, *, now_us: int) -> None:
        """Note that the host's open `tasks/result` ended without an answer: cancelled, or the host went away."""
        live = self._of(task)
        if live is not None:
            live.waiting = max(0, live.waiting - 1)
            live.due_us = now_us + live.interval_us

    def answered(self, task: Task, method: str, message: Mapping[str, Json], *, by_host: bool = True) -> Arrival:
        """Read a server's answer to `tasks/get`, `tasks/result` or `tasks/cancel`.

        `by_host` says that the host's own request is answered, not a poll of ours.
        """
        live = self._of(task)
        if live is not None and by_host and method == "tasks/result":
            live.waiting = max(0, live.waiting - 1)
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

    def due(self, now_us: int) -> tuple[Poll, ...]:
        """Tell what to ask now, each once per interval of its server."""
        polls: list[Poll] = []
        for live in self._all():
            if not live.ended and not live.waiting and live.due_us <= now_us:
                live.due_us = now_us + live.interval_us
                polls.append(Poll(task=live.task, method=_next_question(live)))
        return tuple(polls)

    def next_due_us(self) -> int | None:
        """Tell when `due` has something next; `None` when nothing is to be asked."""
        return min((live.due_us for live in self._all() if not live.ended and not live.waiting), default=None)

    def open_tasks(self, run: RunId) -> tuple[Task, ...]:
        """Tell the tasks of a run that have not ended."""
        return tuple(live.task for live in self._all() if live.task.run == run and not live.ended)

    def close_run(self, run: RunId) -> tuple[Task, ...]:
        """Stop asking for the tasks of a run that is over; tells those whose outcome stays unknown."""
        left = self.open_tasks(run)
        for task in left:
            live = self._of(task)
            if live is not None:
                live.ended = True
        return left

    def _all(self) -> Iterator[_Live]:
        yield from self._live.values()
        yield from self._hidden.values()

    def _of(self, task: Task) -> _Live | None:
        for live in (self._live.get(task.id), self._hidden.get((task.server, task.id))):
            if live is not None and live.task == task:
                return live
        return None

    def _told(self, task: Task, status: Json, member: str) -> Arrival:
        if not isinstance(status, Mapping):
            return Arrival(task=task, ending=None)
        live = self._of(task)
        word = status.get("status")
        if live is not None and isinstance(word, str):
            live.status = word
            live.interval_us = _interval_us(status, live.interval_us)
        match word:
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


class HostTasks:
    """The tasks that the host keeps for servers (2025-11-25): which server may ask for which."""

    def __init__(self) -> None:
        """Know no task."""
        self._servers: dict[str, str] = {}

    def learn_created(self, result: Json, *, server: str) -> str | None:
        """Take the task that a host's answer to a server's request makes; tells its id."""
        made = created_task(result, Era.HANDSHAKE)
        if made is None:
            return None
        self._servers.setdefault(made[0], server)
        if len(self._servers) > KEPT_LIMIT:
            del self._servers[next(iter(self._servers))]
        return made[0]

    def server(self, task_id: Json) -> str | None:
        """Name the server that a task on the host belongs to: the only one that may ask, and that is told of it."""
        return self._servers.get(task_id) if isinstance(task_id, str) else None


def created_task(result: Json, era: Era) -> tuple[str, int] | None:
    """Find the id and the interval (microseconds) of the task that a result makes; `None` when it makes none."""
    if not isinstance(result, Mapping):
        return None
    task = result.get("task") if era is Era.HANDSHAKE else result
    if not isinstance(task, Mapping) or (era is Era.STATELESS and result.get("resultType") != "task"):
        return None
    task_id = task.get("taskId")
    return (task_id, _interval_us(task, INTERVAL_US)) if isinstance(task_id, str) else None


def _interval_us(status: Mapping[str, Json], otherwise_us: int) -> int:
    # `pollInterval` in 2025-11-25, `pollIntervalMs` in the extension.
    value = status.get("pollIntervalMs", status.get("pollInterval"))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_US:
        return otherwise_us
    return min(max(int(value * 1000), SHORTEST_US), LONGEST_US)


def _next_question(live: _Live) -> str:
    if live.task.era is Era.HANDSHAKE and live.status in _ENDED:
        return "tasks/result"
    return "tasks/get"
