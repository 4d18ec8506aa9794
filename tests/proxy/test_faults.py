"""A fault of ours ends what it was for, and nothing else."""

import json

import anyio
import pytest

from proxy.stage import DONE, ScriptedServer, ServerLeg, Stage, call, notice, reason_of, request, result
from soothsayer_mcp.testing.factories import make_policy

pytestmark = pytest.mark.anyio


def fault() -> None:
    raise ZeroDivisionError


def faulty(*_args: object, **_named: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe", "tasks/get", "prompts/get"])
async def test_a_fault_in_a_checked_request_is_answered_and_recorded(method: str) -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.world.before["note"] = fault
        answer = await stage.host.ask(request(method, '{"uri":"a:b","taskId":"t","name":"n"}'))
        assert "-32603" in str(answer["error"])
        assert method not in stage.server.leg.methods()
        assert stage.dropped() == ["internal_error"]
        assert any("ZeroDivisionError" in line for line in stage.logged)
        assert (await stage.host.ask(call("2"), 2))["result"] == json.loads(DONE)


async def test_a_fault_in_a_row_spoils_no_frame_that_came_with_it() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.relay._rows["opening.ping"] = faulty
        stage.relay._rows["notices.to_all"] = faulty
        stage.relay._rows["notices.message"] = faulty
        stage.host.say(request("ping"), notice("notifications/roots/list_changed"), call("2"))
        assert "-32603" in str(json.loads(await stage.host.answer(1)))
        assert json.loads(await stage.host.answer(2))["result"] == json.loads(DONE)
        progress = notice("notifications/progress", '{"progressToken":1,"progress":1}').encode()
        stage.server.leg.feed(notice("notifications/message", "{}").encode(), progress)
        assert stage.host.sent[-1] == progress


async def test_a_fault_while_an_answer_is_looked_at_shows_nothing_of_it() -> None:
    server = ScriptedServer().on("resources/list", result('{"resources":[{"uri":"a:b"}]}'))
    async with Stage(server).playing() as stage:
        await stage.open()
        stage.policies.current = faulty  # pyright: ignore[reportAttributeAccessIssue] - it never returns
        stage.host.say(request("resources/list"))
        answer = await stage.host.answer(1)
        assert b"-32603" in answer
        assert b"a:b" not in answer


async def test_a_fault_while_a_call_is_answered_says_that_it_may_have_run() -> None:
    stage = Stage(ScriptedServer(tools__call=result('{"taskId":"t"}')))
    async with stage.playing():
        await stage.open()
        await stage.host.ask(call())
        stage.world.before["record_outcome"] = fault
        assert reason_of(await stage.host.ask(call("2"), 2)) == "outcome_lost"
        stage.world.before.clear()
        assert (await stage.host.ask(request("ping", request_id="3"), 3))["result"] == {}


async def test_a_fault_while_a_server_is_started_leaves_nobody_waiting() -> None:
    server = ScriptedServer()

    async def connect() -> ServerLeg:
        raise ZeroDivisionError

    server.connect = connect
    async with Stage(server).playing() as stage:
        answer = await stage.host.ask(request("ping"))
        assert answer["error"] == {"code": -32603, "message": "files could not be started"}


async def test_an_id_of_ours_is_refused_to_the_host() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.server.leg.feed(request("roots/list", None, "9").encode())
        [raw] = await stage.host.heard("roots/list")
        ours = json.loads(raw)["id"]
        for _ in range(2):
            answer = await stage.host.ask(call(json.dumps(ours)), ours)
            assert "-32600" in str(answer["error"])
        await stage.host.ask(call())
        listed = next(message for message in stage.server.leg.messages() if message.get("method") == "tools/list")
        stage.host.say(call(json.dumps(listed["id"]), arguments="{}"))
        assert "-32600" in str(json.loads(await stage.host.answer(listed["id"])))
        assert len(stage.relay._connection.owed) == 0


async def test_a_server_that_closed_its_output_is_ended() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        leg = stage.server.leg
        leg.end("closed its output")
        await anyio.wait_all_tasks_blocked()
        assert leg.closed


async def test_a_policy_that_cannot_be_looked_at_is_told_and_stops_nothing() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.policies.check = faulty
        stage.relay._safely(stage.relay._look_at_policy)
        assert any("ZeroDivisionError" in line for line in stage.logged)
        del stage.policies.check
        stage.policies.policy = make_policy()
        await stage.host.heard("notifications/tools/list_changed")
        assert (await stage.host.ask(call()))["result"] == json.loads(DONE)
