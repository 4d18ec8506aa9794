"""A handshake host on a stateless-only server, and results that come later."""

import json
from dataclasses import replace

import anyio
import pytest

from proxy.stage import (
    DONE,
    STATELESS_META,
    Reply,
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
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.policy.policy import Policy
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

TASK = '{"task":{"taskId":"t1","status":"working","pollInterval":60000}}'
AS_TASK = ',"task":{"ttl":60000}'
TYPED = (
    '{"name":"echo","inputSchema":{"type":"object"},'
    '"outputSchema":{"type":"object","properties":{"n":{"type":"string"}}}}'
)


@pytest.mark.parametrize(("late", "withheld"), [('{"n":"ok"}', False), ('{"n":1}', True)])
async def test_a_late_result_ends_the_step_as_the_answer_of_its_call_would_have(late: str, *, withheld: bool) -> None:
    text = f'{{"content":[],"structuredContent":{late},"_meta":{{"a":null}}}}'
    server = ScriptedServer(tools=[TYPED], tools__call=result(TASK)).on("tasks/result", result(text))
    async with Stage(server).playing() as stage:
        await stage.open()
        assert "t1" in str((await stage.host.ask(call(more=AS_TASK)))["result"])
        [going] = stage.world.outcomes
        assert (going.failure, going.acted) == (None, Acted.MAYBE), "nobody knows yet how it ends"
        for number in (2, 3):
            stage.host.say(request("tasks/result", '{"taskId":"t1"}', str(number)))
            raw = await stage.host.answer(number)
            if withheld:
                assert reason_of(read(raw)) == "result_schema"
                assert "structuredContent" not in raw.decode()
            else:
                assert raw == f'{{"jsonrpc":"2.0","id":{number},"result":{text}}}'.encode()
        [ended] = stage.world.settled
        assert isinstance(ended.outcome, Returned)
        assert ended.outcome.raw == f'{{"jsonrpc":"2.0","id":1,"result":{text}}}'.encode()
        assert (ended.id, ended.failure is not None) == (going.id, withheld)
        assert [told for told, _ in stage.world.settled_as] == [True]


async def test_a_late_result_of_the_stateless_era_is_held_in_its_place() -> None:
    done = f'{{"resultType":"complete","taskId":"t1","status":"completed","result":{UNFIT}}}'
    server = ScriptedServer(tools=[TYPED], tools__call=result(MADE)).on("tasks/get", result(done))
    async with Stage(server).playing() as stage:
        await stage.host.ask(call(more="," + STATELESS_META))
        answer = await stage.host.ask(request("tasks/get", '{"taskId":"t1",' + STATELESS_META + "}", "2"), 2)
        assert "result_schema" in str(answer)
        assert "structuredContent" not in str(answer)


MADE = '{"resultType":"task","taskId":"t1","status":"working","pollIntervalMs":60000}'
UNFIT = '{"content":[],"structuredContent":{"n":1}}'


def soon(made: str) -> str:
    """The same, to be asked about as soon as we ever ask."""
    return made.replace("60000", "1")


def in_turn(*answers: str) -> Reply:
    """These results, one after the other; the last one stays."""
    left = list(answers)

    def reply(leg: ServerLeg, message: JsonObject) -> None:
        result(left.pop(0) if len(left) > 1 else left[0])(leg, message)

    return reply


async def test_a_task_that_its_host_leaves_alone_is_asked_for_at_its_interval_and_ends_its_step() -> None:
    going, over = '{"taskId":"t1","status":"working","pollInterval":1}', '{"taskId":"t1","status":"completed"}'
    server = ScriptedServer(tools__call=result(soon(TASK))).on("tasks/result", result(DONE))
    server.on("tasks/get", in_turn(going, over))
    async with Stage(server).playing() as stage:
        await stage.open()
        await stage.host.ask(call(more=AS_TASK))
        await server.leg.until(lambda: "tasks/result" in server.leg.methods())
        await anyio.wait_all_tasks_blocked()
        [ended] = stage.world.settled
        assert (ended.failure, ended.acted) == (None, Acted.YES)
        assert [told for told, _ in stage.world.settled_as] == [False], "the agent has not read it"
        assert [method for method in server.leg.methods() if method.startswith("tasks/")] == [
            "tasks/get",
            "tasks/get",
            "tasks/result",
        ]
        # The host may still ask; it is given what the step ended with, and nothing is settled twice.
        stage.host.say(request("tasks/result", '{"taskId":"t1"}', "2"))
        assert await stage.host.answer(2) == f'{{"jsonrpc":"2.0","id":2,"result":{DONE}}}'.encode()
        assert len(stage.world.settled) == 1


async def test_a_task_of_the_stateless_era_is_asked_for_in_its_own_era() -> None:
    done = f'{{"resultType":"complete","taskId":"t1","status":"completed","result":{UNFIT}}}'
    server = ScriptedServer(tools=[TYPED], tools__call=result(soon(MADE))).on("tasks/get", result(done))
    async with Stage(server).playing() as stage:
        await stage.host.ask(call(more="," + STATELESS_META))
        await server.leg.until(lambda: "tasks/get" in server.leg.methods())
        await anyio.wait_all_tasks_blocked()
        [ended] = stage.world.settled
        assert ended.failure is not None
        assert ended.failure.reason is Reason.RESULT_SCHEMA
        [asked] = [raw for raw in server.leg.sent if b'"tasks/get"' in raw]
        assert b'"io.modelcontextprotocol/protocolVersion":"2026-07-28"' in asked
        assert b'"extensions":{"io.modelcontextprotocol/tasks":{}}' in asked


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (result('{"taskId":"t1","status":"cancelled"}'), "was cancelled"),
        (error(-32602, "no such task"), "was forgotten"),
    ],
)
async def test_a_task_that_brings_no_result_stays_unknown_and_is_asked_for_no_more(reply: Reply, why: str) -> None:
    server = ScriptedServer(tools__call=result(soon(TASK))).on("tasks/get", reply)
    async with Stage(server).playing() as stage:
        await stage.open()
        await stage.host.ask(call(more=AS_TASK))
        await server.leg.until(lambda: "tasks/get" in server.leg.methods())
        await anyio.wait_all_tasks_blocked()
        assert stage.world.settled == []
        [lost] = [note.fields for note in stage.world.notes if note.fields.get("reason") == "outcome_lost"]
        assert why in str(lost["why"])
        await anyio.wait_all_tasks_blocked()
        assert server.leg.methods().count("tasks/get") == 1


async def test_a_task_of_a_closed_run_is_left_alone() -> None:
    server = ScriptedServer(tools__call=result(soon(TASK))).on("tasks/get", result('{"status":"working"}'))
    async with Stage(server).playing() as stage:
        await stage.open()
        await stage.host.ask(call(more=AS_TASK))
        looked = anyio.Event()
        stage.world.after["read_run"] = looked.set
        stage.world.run = replace(stage.world.run, state=RunState.STOPPED)
        await looked.wait()
        await anyio.wait_all_tasks_blocked()
        assert "tasks/get" not in server.leg.methods()


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ('{"content":[],"task":{"taskId":"t1"}}', ""),
        ('{"content":[],"resultType":"input_required"}', ""),
        ('{"content":[],"resultType":["task"],"taskId":"t1"}', ""),
        ('{"content":[],"resultType":"complete","task":{"taskId":"t1"}}', "," + STATELESS_META),
    ],
    ids=["a task nobody asked for", "a question of another era", "no word at all", "a member without meaning"],
)
async def test_a_server_frees_itself_of_no_check_by_what_it_says_of_its_result(text: str, more: str) -> None:
    async with Stage(ScriptedServer(tools=[TYPED], tools__call=result(text))).playing() as stage:
        await stage.open()
        assert reason_of(await stage.host.ask(call(more=more))) == "result_schema"


async def test_tasks_of_several_servers_find_their_server() -> None:
    a = ScriptedServer("a", tools__call=result(TASK)).on("tasks/get", result('{"taskId":"t1","status":"working"}'))
    b = ScriptedServer("b")
    capabilities = '{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{"list":{}}},"serverInfo":{}}'
    a.on("initialize", result(capabilities)).on("tasks/list", result('{"tasks":[{"taskId":"t1"},{"taskId":"other"}]}'))
    async with Stage(a, b).playing() as stage:
        await stage.open()
        await stage.host.ask(call(name="a__echo", more=AS_TASK))
        assert "working" in str(await stage.host.ask(request("tasks/get", '{"taskId":"t1"}', "2"), 2))
        assert "tasks/get" not in b.leg.methods()
        assert "-32602" in str(await stage.host.ask(request("tasks/get", '{"taskId":"t2"}', "3"), 3))
        listed = await stage.host.ask(request("tasks/list", None, "4"), 4)
        assert listed["result"] == {"tasks": [{"taskId": "t1"}]}


async def test_the_status_of_a_task_passes_and_of_none_of_several_is_dropped() -> None:
    status = notice("notifications/tasks/status", '{"taskId":"t1","status":"working"}').encode()
    async with Stage(ScriptedServer(tools__call=result(TASK))).playing() as stage:
        await stage.open()
        await stage.host.ask(call(more=AS_TASK))
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
