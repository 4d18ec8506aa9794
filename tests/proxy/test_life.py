"""Death, return, drain, pressure."""

import json

import anyio
import pytest

from proxy.stage import (
    DONE,
    STATELESS_META,
    ScriptedServer,
    ServerLeg,
    Stage,
    call,
    echo_tool,
    initialize,
    notice,
    reason_of,
    request,
    result,
    text_of,
)
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.ports import NoAnswer, PortError
from soothsayer_mcp.proxy.downstream import Limits

pytestmark = pytest.mark.anyio


def silent(leg: ServerLeg, message: JsonObject) -> None:
    del leg, message


@pytest.mark.pitfall("P-PROTO-01")
async def test_all_that_a_dead_server_owed_is_answered_at_once() -> None:
    server = ScriptedServer(tools__call=silent).on("resources/list", silent)
    async with Stage(server).playing() as stage:
        await stage.open()
        stage.host.say(call("1"), call("2"), request("resources/list", request_id="3"))
        await server.leg.until(lambda: len(server.calls()) == 2)
        server.leg.feed(request("roots/list", None, "9").encode())
        await stage.host.heard("roots/list")
        server.leg.end("exited with code 3", "Traceback: boom")
        for number in (1, 2):
            answer = json.loads(await stage.host.answer(number))
            assert reason_of(answer) == "connection_lost"
            assert text_of(answer).startswith("Unknown whether it happened: files exited with code 3.")
        assert json.loads(await stage.host.answer(3))["error"] == {
            "code": -32603,
            "message": "files exited with code 3",
        }
        await stage.host.heard("notifications/cancelled")
        assert any("exited with code 3" in line and "boom" in line for line in stage.logged)
        lost = [note.fields for note in stage.world.notes if note.fields.get("reason") == "connection_lost"]
        assert [(fields["from"], fields.get("method")) for fields in lost] == [
            ("host", "resources/list"),
            ("server", None),
        ]
        assert lost[1]["why"] == "files exited with code 3; its last words:\nTraceback: boom"


@pytest.mark.parametrize("garbage", [b'{"jsonrpc":"2.0","id":1,"result":{"content"', b"", b"[]"])
async def test_an_answer_that_cannot_be_read_or_never_comes_ends_in_time(garbage: bytes) -> None:
    def reply(leg: ServerLeg, message: JsonObject) -> None:
        del message
        if garbage:
            leg.feed(garbage)

    stage = Stage(ScriptedServer(tools__call=reply))
    stage.governor._call_timeout_s = 0.05
    async with stage.playing():
        await stage.open()
        answer = await stage.host.ask(call())
        assert "files" in text_of(answer)
        assert "Unknown whether it happened" in text_of(answer)


async def test_one_lost_answer_ends_one_call_and_the_connection_goes_on() -> None:
    def reply(leg: ServerLeg, message: JsonObject) -> None:
        del message
        lost = PortError(Reason.CONNECTION_LOST, "the stream ended", acted=Acted.MAYBE)
        leg.feed(NoAnswer(b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}', id=1, error=lost))

    async with Stage(ScriptedServer(tools__call=reply)).playing() as stage:
        await stage.open()
        assert reason_of(await stage.host.ask(call())) == "connection_lost"
        stage.server.on("tools/call", result(DONE))
        assert (await stage.host.ask(call("2"), 2))["result"] == json.loads(DONE)


async def test_a_dead_server_is_started_again_and_brought_to_where_it_was() -> None:
    server = (
        ScriptedServer()
        .on("logging/setLevel", result("{}"))
        .on("resources/subscribe", result("{}"))
        .on("initialize", result('{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}}}'))
    )
    async with Stage(server).playing() as stage:
        await stage.open()
        await stage.host.ask(request("logging/setLevel", '{"level":"debug"}'))
        await stage.host.ask(request("resources/subscribe", '{"uri":"a:b"}', "2"), 2)
        await stage.host.ask(call("3"), 3)
        server.leg.end("exited with code 1")
        answer = await stage.host.ask(call("4"), 4)
        assert answer["result"] == json.loads(DONE)
        methods = server.leg.methods()
        assert methods[:3] == ["initialize", "notifications/initialized", "logging/setLevel"]
        assert methods.index("tools/list") < methods.index("tools/call")
        assert methods.count("tools/call") == 1
        await server.leg.until(lambda: "resources/subscribe" in server.leg.methods())
        opened, level = server.leg.messages()[0], server.leg.messages()[2]
        assert str(opened["id"]).startswith("sth-")
        assert opened["params"] == json.loads(initialize())["params"]
        assert level["params"] == {"level": "debug"}
        await stage.host.heard("notifications/tools/list_changed")
        assert sum(b'"id":0' in raw for raw in stage.host.sent) == 1


async def test_a_restart_compares_the_definitions_before_any_call() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        await stage.host.ask(call())
        stage.server.leg.end("exited with code 1")
        stage.server.on("tools/list", result(f'{{"tools":[{echo_tool("other")}]}}'))
        answer = await stage.host.ask(call("2"), 2)
        assert reason_of(answer) == "tool_unknown"
        assert len(stage.server.calls()) == 1


@pytest.mark.parametrize("happening", ["death", "list_changed"])
@pytest.mark.parametrize("changed", [False, True])
async def test_a_tool_that_changes_between_decision_and_sending_is_not_called(happening: str, *, changed: bool) -> None:
    async with Stage().playing() as stage:
        await stage.open()

        def happen() -> None:
            stage.world.after.clear()
            if changed:
                other = echo_tool().replace("{", '{"description":"new",', 1)
                stage.server.on("tools/list", result(f'{{"tools":[{other}]}}'))
            if happening == "death":
                stage.server.leg.end("exited with code 1")
            else:
                stage.server.leg.feed(notice("notifications/tools/list_changed").encode())

        stage.world.after["record_intent"] = happen
        answer = await stage.host.ask(call())
        if changed:
            assert reason_of(answer) == "state_changed"
            assert stage.server.calls() == []
        else:
            assert answer["result"] == json.loads(DONE)
        assert [kind for kind, _ in stage.world.entries] == ["step.intent", "step.outcome"]


async def test_a_server_that_keeps_dying_is_not_started_for_ever() -> None:
    def die(leg: ServerLeg, message: JsonObject) -> None:
        del message
        leg.end("exited with code 1")

    server = ScriptedServer(tools__call=die)
    async with Stage(server).playing() as stage:
        await stage.open()
        reasons = [reason_of(await stage.host.ask(call(str(n)), n)) for n in range(1, 8)]
        assert reasons == ["connection_lost"] * 4 + ["server_unreachable"] * 3
        assert len(server.legs) == 4
        assert "-32603" in str(await stage.host.ask(request("resources/list", request_id="50"), 50))
        stage.clock.pass_s(61)
        assert reason_of(await stage.host.ask(call("60"), 60)) == "connection_lost"
        assert len(server.legs) == 5


async def test_a_server_that_cannot_be_started_says_why() -> None:
    server = ScriptedServer()
    server.fails = PortError(Reason.SERVER_UNREACHABLE, "cannot be started: no such command", acted=Acted.NO)
    async with Stage(server).playing() as stage:
        answer = await stage.host.ask(initialize(), 0)
        assert answer["error"] == {"code": -32603, "message": "files cannot be started: no such command"}
        assert reason_of(await stage.host.ask(call())) == "server_unreachable"


async def test_what_comes_before_a_server_is_ready_waits_for_it_in_order() -> None:
    server = ScriptedServer()
    ready = anyio.Event()
    connect = server.connect

    async def slow() -> ServerLeg:
        await ready.wait()
        return await connect()

    server.connect = slow
    async with Stage(server).playing() as stage:
        stage.host.say(initialize(), notice("notifications/initialized"), request("ping"), call("2"))
        ready.set()
        await stage.host.answer(2)
        order = ["initialize", "notifications/initialized", "ping", "tools/list", "tools/call"]
        assert list(dict.fromkeys(server.leg.methods())) == order


# -- the end


@pytest.mark.pitfall("P-PROC-08")
async def test_what_was_asked_before_the_end_of_input_is_answered() -> None:
    stage = Stage()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.relay.run)
            await anyio.wait_all_tasks_blocked()
            stage.host.say(initialize(), notice("notifications/initialized"), call("1"), call("2"), call("3"))
            stage.host.end("closed its output")
    assert sorted(str(message.get("id")) for message in stage.host.messages()) == ["0", "1", "2", "3"]
    assert stage.server.leg.closed
    assert stage.host.closed


async def test_a_signal_gives_what_was_forwarded_a_moment_and_records_the_rest_as_unknown() -> None:
    stage = Stage(ScriptedServer(tools__call=silent))
    began = anyio.current_time()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.relay.run)
            await anyio.wait_all_tasks_blocked()
            await stage.open()
            stage.host.say(call())
            await stage.server.leg.until(lambda: len(stage.server.calls()) == 1)
            stage.host.end("closed its output")
            await anyio.wait_all_tasks_blocked()
            stage.relay.stop(0.2)
    assert anyio.current_time() - began < 10
    answer = stage.host.messages()[-1]
    assert reason_of(answer) == "connection_lost"
    assert [kind for kind, _ in stage.world.entries] == ["step.intent", "step.outcome"]


async def test_nothing_new_is_admitted_after_the_end() -> None:
    stage = Stage(ScriptedServer(tools__call=silent))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.relay.run)
            await anyio.wait_all_tasks_blocked()
            await stage.open()
            stage.host.say(call("1"))
            await stage.server.leg.until(lambda: len(stage.server.calls()) == 1)
            stage.relay.stop(0.1)
            stage.host.say(call("2"))
    assert len(stage.server.calls()) == 1


async def test_an_open_stream_holds_nobody_up() -> None:
    server = ScriptedServer().on("subscriptions/listen", silent)
    stage = Stage(server)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.relay.run)
            await anyio.wait_all_tasks_blocked()
            stage.host.say(request("subscriptions/listen", '{"notifications":{},' + STATELESS_META + "}"))
            await server.leg.until(lambda: "subscriptions/listen" in server.leg.methods())
            stage.host.end("closed its output")


async def test_questions_of_servers_end_when_the_host_leaves() -> None:
    stage = Stage()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.relay.run)
            await anyio.wait_all_tasks_blocked()
            await stage.open()
            stage.server.leg.feed(request("roots/list", None, "9").encode())
            await stage.host.heard("roots/list")
            stage.host.end("closed its output")
    assert "gone" in str(stage.server.leg.messages()[-1]["error"])


# -- pressure


async def test_a_host_that_does_not_read_stops_the_reading_of_servers_and_no_record() -> None:
    async with Stage(limits=Limits(waiting_frames=10)).playing() as stage:
        await stage.open()
        await stage.host.ask(call("1"), 1)
        stage.host.reads = False
        line = notice("notifications/message", '{"data":"x"}').encode()
        stage.server.leg.feed(*[line] * 20)
        assert stage.server.leg.paused
        stage.host.say(call("2"))
        await anyio.wait_all_tasks_blocked()
        assert [kind for kind, _ in stage.world.entries].count(Kind.STEP_OUTCOME) == 2
        stage.host.read_all()
        await stage.host.answer(2)
        await anyio.wait_all_tasks_blocked()
        assert not stage.server.leg.paused


@pytest.mark.pitfall("P-PROC-09")
async def test_many_calls_are_one_handshake_at_the_server() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        for number in range(1, 101):
            await stage.host.ask(call(str(number)), number)
        assert len(stage.server.legs) == 1
        assert stage.server.leg.methods().count("initialize") == 1
        assert stage.server.leg.methods().count("tools/list") == 1
