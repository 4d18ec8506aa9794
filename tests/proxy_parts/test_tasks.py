"""Tasks: whose they are, and where their results arrive."""

import pytest

from soothsayer_mcp.model.call import RunId, StepId
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.proxy import tasks
from soothsayer_mcp.proxy.tasks import Arrival, Clash, Ending, Stranger, Task, Tasks
from soothsayer_mcp.wire.eras import Era

RUN = RunId("0" * 32)


def made(
    kept: Tasks, task_id: str = "t1", *, server: str = "fs", era: Era = Era.STATELESS, principal: str = "os:ada"
) -> Task | Clash | None:
    body: Json = {"taskId": task_id, "status": "working", "pollIntervalMs": 4000, "pollInterval": 4000}
    result: Json = {"resultType": "task", **body} if era is Era.STATELESS else {"task": body}
    return kept.learn_created(result, server=server, step=StepId("1" * 16), run=RUN, principal=principal, era=era)


def task_of(kept: Tasks, task_id: str = "t1", *, era: Era = Era.STATELESS) -> Task:
    task = made(kept, task_id, era=era)
    assert isinstance(task, Task)
    return task


@pytest.mark.parametrize("era", list(Era))
def test_the_answer_that_makes_a_task_says_whose_it_is(era: Era) -> None:
    kept = Tasks()
    task = task_of(kept, era=era)
    assert task == Task(id="t1", server="fs", step=StepId("1" * 16), run=RUN, principal="os:ada", era=era)
    assert kept.find("t1", "os:ada") == task
    assert kept.find("t1", "os:eve") is Stranger.FOREIGN
    assert kept.find("t2", "os:ada") is Stranger.UNKNOWN
    assert kept.find(7, "os:ada") is Stranger.UNKNOWN


@pytest.mark.parametrize(
    ("era", "result"),
    [
        (Era.STATELESS, {"resultType": "complete", "content": [], "taskId": "t"}),
        (Era.STATELESS, {"resultType": "task", "task": {"taskId": "t"}}),
        (Era.STATELESS, {"resultType": "task", "taskId": 7}),
        (Era.HANDSHAKE, {"content": [], "taskId": "t"}),
        (Era.HANDSHAKE, {"task": "t"}),
        (Era.HANDSHAKE, None),
    ],
)
def test_an_ordinary_answer_makes_no_task(era: Era, result: Json) -> None:
    assert tasks.created_task(result, era) is None


def test_an_id_that_another_server_holds_stays_with_its_holder_and_is_reported() -> None:
    kept = Tasks()
    first = task_of(kept)
    clash = made(kept, server="evil")
    assert isinstance(clash, Clash)
    assert clash.holder == first
    assert kept.find("t1", "os:ada") == first
    evil = kept.noticed("evil", {"taskId": "t1", "status": "completed", "result": {}})
    assert evil is not None
    assert evil.task.server == "evil"
    assert kept.answered(first, "tasks/get", {"result": {"status": "cancelled"}}).first, "its own end came to another"


def test_a_stateless_result_arrives_inside_tasks_get_and_closes_the_step_once() -> None:
    kept = Tasks()
    task = task_of(kept)
    going: Json = {"resultType": "complete", "taskId": "t1", "status": "working"}
    done: Json = {"resultType": "complete", "taskId": "t1", "status": "completed", "result": {"content": []}}
    assert kept.answered(task, "tasks/get", {"id": 1, "result": going}) == Arrival(task=task, ending=None)
    first = kept.answered(task, "tasks/get", {"id": 2, "result": done})
    assert first == Arrival(task=task, ending=Ending.RESULT, path=("result", "result"), first=True)
    again = kept.answered(task, "tasks/get", {"id": 3, "result": done})
    assert again == Arrival(task=task, ending=Ending.RESULT, path=("result", "result"), first=False)


def test_a_stateless_result_arrives_in_a_notice_too() -> None:
    kept = Tasks()
    task = task_of(kept)
    params: Json = {"taskId": "t1", "status": "completed", "result": {"content": []}}
    assert kept.noticed("other", params) is None
    told = kept.noticed("fs", params)
    assert told == Arrival(task=task, ending=Ending.RESULT, path=("params", "result"), first=True)


def test_questions_of_a_task_are_found_wherever_they_arrive() -> None:
    kept = Tasks()
    task = task_of(kept)
    status: Json = {"taskId": "t1", "status": "input_required", "inputRequests": {"a": {}}}
    assert kept.noticed("fs", status) == Arrival(task=task, ending=None, inputs=("params", "inputRequests"))
    got = kept.answered(task, "tasks/get", {"result": status})
    assert got == Arrival(task=task, ending=None, inputs=("result", "inputRequests"))


def test_a_handshake_result_arrives_only_by_tasks_result() -> None:
    kept = Tasks()
    task = task_of(kept, era=Era.HANDSHAKE)
    status: Json = {"taskId": "t1", "status": "completed"}
    assert kept.answered(task, "tasks/get", {"result": status}) == Arrival(task=task, ending=None)
    told = kept.answered(task, "tasks/result", {"result": {"content": []}})
    assert told == Arrival(task=task, ending=Ending.RESULT, path=("result",), first=True)


@pytest.mark.parametrize(
    ("era", "method", "message", "ending", "path"),
    [
        (
            Era.STATELESS,
            "tasks/get",
            {"result": {"status": "failed", "error": {"code": 1}}},
            Ending.ERROR,
            ("result", "error"),
        ),
        (Era.STATELESS, "tasks/get", {"result": {"status": "cancelled"}}, Ending.CANCELLED, ()),
        (Era.STATELESS, "tasks/get", {"error": {"code": -32602}}, Ending.FORGOTTEN, ()),
        (Era.STATELESS, "tasks/get", {"error": {"code": -32603}}, None, ()),
        (Era.STATELESS, "tasks/get", {"result": 7}, None, ()),
        (Era.STATELESS, "tasks/cancel", {"result": {}}, None, ()),
        (Era.HANDSHAKE, "tasks/result", {"error": {"code": 17}}, Ending.ERROR, ("error",)),
        (Era.HANDSHAKE, "tasks/result", {"error": {"code": -32602}}, Ending.FORGOTTEN, ()),
        (Era.HANDSHAKE, "tasks/cancel", {"result": {"status": "cancelled"}}, Ending.CANCELLED, ()),
    ],
)
def test_each_way_a_task_can_end(
    era: Era, method: str, message: dict[str, Json], ending: Ending | None, path: tuple[str, ...]
) -> None:
    kept = Tasks()
    task = task_of(kept, era=era)
    told = kept.answered(task, method, message)
    assert told == Arrival(task=task, ending=ending, path=path, first=ending is not None)


def test_a_list_shows_own_tasks_only() -> None:
    kept = Tasks()
    made(kept, "mine")
    made(kept, "theirs", principal="os:eve")
    items: list[Json] = [{"taskId": "mine"}, {"taskId": "theirs"}, {"taskId": "earlier"}, 7]
    assert [kept.is_visible(item, "os:ada", unknown=False) for item in items] == [True, False, False, False]
    assert [kept.is_visible(item, "os:ada", unknown=True) for item in items] == [True, False, True, True]


def test_remembered_tasks_are_bounded_and_ended_ones_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "KEPT_LIMIT", 2)
    kept = Tasks()
    made(kept, "open")
    kept.answered(task_of(kept, "ended"), "tasks/get", {"result": {"status": "cancelled"}})
    made(kept, "third")
    assert kept.find("ended", "os:ada") is Stranger.UNKNOWN
    made(kept, "fourth")
    assert kept.find("open", "os:ada") is Stranger.UNKNOWN
