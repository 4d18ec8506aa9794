"""A handshake host on a stateless-only server, and results that come later."""

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
    error,
    notice,
    read,
    reason_of,
    request,
    result,
)
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.policy.rules import Policy
from soothsayer_mcp.testing.factories import make_policy, make_rule

pytestmark = pytest.mark.anyio

DISCOVERED = '{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}'


def stateless_only() -> ScriptedServer:
    return (
        ScriptedServer(tools__call=result('{"resultType":"complete","content":[],"x":null}'))
        .on("initialize", error(-32601))
        .on("server/discover", result(DISCOVERED))
        .on(
            "tools/list", result(f'{{"resultType":"complete","tools":[{echo_tool()}],"ttlMs":1,"cacheScope":"public"}}')
        )
    )


async def test_a_handshake_host_is_served_by_a_stateless_only_server() -> None:
    async with Stage(stateless_only()).playing() as stage:
        opened = await stage.open()
        assert "2025-11-25" in str(opened["result"])
        listed = await stage.host.ask(request("tools/list"))
        assert listed["result"] == {"tools": [json.loads(echo_tool())]}
        answer = await stage.host.ask(call("2"), 2)
        assert answer["result"] == {"content": [], "x": None}
        [sent] = stage.server.calls()
        assert "2026-07-28" in sent.decode()
        assert [kind for kind, _ in stage.world.entries] == ["step.intent", "step.outcome"]


async def test_a_denied_call_does_not_cross_the_bridge() -> None:
    async with Stage(stateless_only(), policy=make_policy(rules=[make_rule(Effect.DENY)])).playing() as stage:
        await stage.open()
        assert reason_of(await stage.host.ask(call())) == "rule_denied"
        assert stage.server.calls() == []


@pytest.mark.parametrize(
    ("denied", "properties", "wanted"),
    [
        (False, "{}", "accept"),
        (False, '{"password":{"type":"string"}}', "decline"),
        # It was not shown that the host takes forms, and asks all the same: nobody hears of it.
        (True, "{}", "cancel"),
    ],
)
async def test_a_question_across_the_bridge_is_checked(*, denied: bool, properties: str, wanted: str) -> None:
    schema = f'{{"type":"object","properties":{properties}}}'
    question = f'{{"method":"elicitation/create","params":{{"message":"m","requestedSchema":{schema}}}}}'
    rounds = [
        f'{{"resultType":"input_required","inputRequests":{{"q":{question}}},"requestState":"s"}}',
        '{"resultType":"complete","content":[]}',
    ]

    def reply(leg: ServerLeg, message: JsonObject) -> None:
        result(rounds[min(len(leg.calls()), 2) - 1])(leg, message)

    server = stateless_only().on("tools/call", reply)
    async with Stage(server, policy=deny_elicitation() if denied else make_policy()).playing() as stage:
        await stage.open()
        stage.host.say(call())
        if wanted == "accept":
            [raw] = await stage.host.heard("elicitation/create")
            shown = json.dumps(read(raw)["id"])
            stage.host.say(f'{{"jsonrpc":"2.0","id":{shown},"result":{{"action":"accept","content":{{}}}}}}')
        await stage.host.answer(1)
        asked = [raw for raw in stage.host.sent if b"elicitation/create" in raw]
        assert len(asked) == (wanted == "accept")
        first, second = server.calls()
        assert (b'"elicitation":{}' in first) is not denied
        assert f'"action":"{wanted}"' in second.decode()


def deny_elicitation() -> Policy:
    return make_policy(rules=[make_rule(Effect.DENY, tools="files.@elicitation/create")])


# -- tasks

TASK = '{"task":{"taskId":"t1","status":"working","pollInterval":1000}}'
TYPED = (
    '{"name":"echo","inputSchema":{"type":"object"},'
    '"outputSchema":{"type":"object","properties":{"n":{"type":"string"}}}}'
)


@pytest.mark.parametrize(("late", "withheld"), [('{"n":"ok"}', False), ('{"n":1}', True)])
async def test_a_late_result_is_held_against_what_its_call_owed(late: str, *, withheld: bool) -> None:
    text = f'{{"content":[],"structuredContent":{late},"_meta":{{"a":null}}}}'
    server = ScriptedServer(tools=[TYPED], tools__call=result(TASK)).on("tasks/result", result(text))
    async with Stage(server).playing() as stage:
        await stage.open()
        assert "t1" in str((await stage.host.ask(call()))["result"])
        stage.host.say(request("tasks/result", '{"taskId":"t1"}', "2"))
        raw = await stage.host.answer(2)
        if withheld:
            assert reason_of(read(raw)) == "result_schema"
            assert "structuredContent" not in raw.decode()
        else:
            assert raw == f'{{"jsonrpc":"2.0","id":2,"result":{text}}}'.encode()
        [kept] = [note for note in stage.world.notes if note.payloads]
        assert kept.payloads == {"result": text.encode()}
        assert kept.fields["of_step"] == "5555.1"


async def test_a_late_result_of_the_stateless_era_is_held_in_its_place() -> None:
    made = '{"resultType":"task","taskId":"t1","status":"working","pollIntervalMs":1000}'
    late = '{"content":[],"structuredContent":{"n":1}}'
    done = f'{{"resultType":"complete","taskId":"t1","status":"completed","result":{late}}}'
    server = ScriptedServer(tools=[TYPED], tools__call=result(made)).on("tasks/get", result(done))
    async with Stage(server).playing() as stage:
        await stage.host.ask(call(more="," + STATELESS_META))
        answer = await stage.host.ask(request("tasks/get", '{"taskId":"t1",' + STATELESS_META + "}", "2"), 2)
        assert "result_schema" in str(answer)
        assert "structuredContent" not in str(answer)


async def test_tasks_of_several_servers_find_their_server() -> None:
    a = ScriptedServer("a", tools__call=result(TASK)).on("tasks/get", result('{"taskId":"t1","status":"working"}'))
    b = ScriptedServer("b")
    capabilities = '{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"list":{}}},"serverInfo":{}}'
    a.on("initialize", result(capabilities)).on("tasks/list", result('{"tasks":[{"taskId":"t1"},{"taskId":"other"}]}'))
    async with Stage(a, b).playing() as stage:
        await stage.open()
        await stage.host.ask(call(name="a__echo"))
        assert "working" in str(await stage.host.ask(request("tasks/get", '{"taskId":"t1"}', "2"), 2))
        assert "tasks/get" not in b.leg.methods()
        assert "-32602" in str(await stage.host.ask(request("tasks/get", '{"taskId":"t2"}', "3"), 3))
        listed = await stage.host.ask(request("tasks/list", None, "4"), 4)
        assert listed["result"] == {"tasks": [{"taskId": "t1"}]}


async def test_the_status_of_a_task_passes_and_of_none_of_several_is_dropped() -> None:
    status = notice("notifications/tasks/status", '{"taskId":"t1","status":"working"}').encode()
    async with Stage(ScriptedServer(tools__call=result(TASK))).playing() as stage:
        await stage.open()
        await stage.host.ask(call())
        stage.server.leg.feed(status)
        assert await stage.host.heard("notifications/tasks/status") == [status]
    async with Stage(ScriptedServer("a"), ScriptedServer("b")).playing() as stage:
        await stage.open()
        stage.servers[0].leg.feed(status)
        await anyio.wait_all_tasks_blocked()
        assert stage.dropped() == ["answers_nothing"]


async def test_a_refused_task_request_is_not_sent() -> None:
    policy = make_policy(rules=[make_rule(Effect.DENY, tools="files.@tasks/cancel")])
    async with Stage(ScriptedServer(tools__call=result(DONE)), policy=policy).playing() as stage:
        await stage.open()
        assert "4030" in str(await stage.host.ask(request("tasks/cancel", '{"taskId":"t1"}')))
        assert "tasks/cancel" not in stage.server.leg.methods()
