"""What the relay does with what cannot be read, with arrays, with unknown methods and with noise."""

import json

import anyio
import pytest

from proxy.stage import (
    DONE,
    STATELESS_META,
    ScriptedServer,
    Stage,
    call,
    initialize_result,
    notice,
    request,
    result,
)
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.scopes import Methods
from soothsayer_mcp.ports import OversizedLine
from soothsayer_mcp.testing.factories import make_policy, make_rule

pytestmark = pytest.mark.anyio


def passing(*methods: str, unknown: bool = False) -> Policy:
    policy = make_policy(mode=Mode.OBSERVE if unknown else Mode.ENFORCE)
    policy.methods = Methods(passed=frozenset(methods), unknown_pass=unknown)
    return policy


@pytest.mark.pitfall("P-PARSE-01")
@pytest.mark.parametrize(
    "params",
    [
        '{"name":"echo","Name":"delete","arguments":{}}',
        '{"name":"echo","name":"delete","arguments":{}}',
        '{"name":"echo","param\\u017f":{},"Arguments":{}}',
        '{"name\\u0000":"echo","arguments":{}}',
        '{"name":"echo","arguments":{"Text":"x"}}',
    ],
)
async def test_a_call_that_reads_two_ways_never_reaches_the_server(params: str) -> None:
    async with Stage().playing() as stage:
        await stage.open()
        answer = await stage.host.ask(request("tools/call", params))
        assert "error" in answer or "isError" in str(answer["result"])
        assert stage.server.calls() == []
        assert (await stage.host.ask(call("2"), 2))["result"] == json.loads(DONE)


async def test_a_line_that_is_no_message_is_answered_and_the_next_works() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        for line in (b"nul", b'{"jsonrpc":"2.0","id":1,"method":"tools/call"', b"\xff", b"[" * 100_000):
            stage.host.sent.clear()
            stage.host.say(line)
            [answer] = stage.host.messages()
            assert answer["id"] is None
        assert (await stage.host.ask(call("2"), 2))["result"] == json.loads(DONE)
        assert len(stage.dropped()) == 4


async def test_the_request_of_an_oversized_line_is_ended() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        head = b'{"jsonrpc":"2.0","id":"big","method":"tools/call","params":{"name":"echo","arguments":{"text":"aaaa'
        stage.host.feed(OversizedLine(head, tail=b'aaaa"}}}', size_bytes=1 << 30))
        assert json.loads(await stage.host.answer("big"))["error"]["code"] == -32600
        assert stage.server.calls() == []


@pytest.mark.pitfall("P-PARSE-02")
async def test_arrays_are_refused_but_in_the_one_version_that_has_them() -> None:
    deny = make_policy(rules=[make_rule(Effect.DENY)])
    array = f"[{call()}]"
    async with Stage(policy=deny).playing() as stage:
        await stage.open()
        stage.host.say(array)
        [answer] = [message for message in stage.host.messages() if message["id"] is None]
        assert "-32600" in str(answer["error"])
        assert stage.server.calls() == []
    server = ScriptedServer(initialize=result(initialize_result("2025-03-26")))
    async with Stage(server, policy=deny).playing() as stage:
        await stage.open("2025-03-26")
        sent = len(stage.host.sent)
        stage.host.say(array)
        await stage.host.until(lambda: len(stage.host.sent) > sent)
        [denial] = json.loads(stage.host.sent[-1])
        assert denial["id"] == 1
        assert denial["result"]["isError"] is True
        assert server.calls() == []


async def test_the_answers_to_an_array_come_in_one_array() -> None:
    server = ScriptedServer(initialize=result(initialize_result("2025-03-26")))
    async with Stage(server).playing() as stage:
        await stage.open("2025-03-26")
        sent = len(stage.host.sent)
        members = [call("1"), notice("notifications/roots/list_changed"), request("ping", request_id="2"), call("1")]
        stage.host.say(f"[{','.join(members)}]")
        await stage.host.until(lambda: len(stage.host.sent) > sent)
        answers = json.loads(stage.host.sent[-1])
        assert sorted(answer["id"] for answer in answers) == [1, 1, 2]
        assert sum("error" in answer for answer in answers) == 1
        # And what a server sends as an array is taken apart.
        sent = len(stage.host.sent)
        progress = notice("notifications/progress", '{"progressToken":1,"progress":1}')
        server.leg.feed(f"[{progress},{notice('notifications/message', '{}')}]".encode())
        assert stage.host.sent[sent] == progress.encode()
        assert len(stage.host.sent) == sent + 2


async def test_an_array_of_a_server_is_noise_in_other_versions() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        sent = len(stage.host.sent)
        stage.server.leg.feed(f"[{notice('notifications/message', '{}')}]".encode())
        assert stage.dropped() == ["array"]
        assert len(stage.host.sent) == sent


@pytest.mark.pitfall("P-PROC-07")
async def test_what_a_server_says_beside_messages_is_logged_and_never_sent_on() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        sent = len(stage.host.sent)
        stage.server.leg.feed(b"Welcome to \x1b[31mserver", b'{"jsonrpc":', b"7")
        assert len(stage.host.sent) == sent
        assert any("files: not a message" in line and "\\x1b" in line for line in stage.logged)
        assert (await stage.host.ask(call()))["result"] == json.loads(DONE)


async def test_unknown_methods_are_refused_unless_policy_lists_them() -> None:
    server = ScriptedServer().on("x/ask", result("{}"))
    async with Stage(server, policy=passing("x/ask", "notifications/x")).playing() as stage:
        await stage.open()
        assert (await stage.host.ask(request("x/ask")))["result"] == {}
        assert "-32601" in str(await stage.host.ask(request("x/other", request_id="2"), 2))
        stage.host.say(notice("notifications/x"), notice("notifications/y"))
        assert server.leg.methods()[-1] == "notifications/x"
        sent = len(stage.host.sent)
        server.leg.feed(notice("notifications/x").encode(), notice("notifications/y").encode())
        assert stage.host.sent[sent:] == [notice("notifications/x").encode()]
        server.leg.feed(request("x/ask", request_id="9").encode(), request("x/no", request_id="10").encode())
        assert json.loads(stage.host.sent[-1])["method"] == "x/ask"
        assert json.loads(server.leg.sent[-1])["id"] == 10
        assert json.loads(server.leg.sent[-1])["error"]["code"] == -32601


async def test_unknown_methods_pass_where_everything_is_only_observed() -> None:
    server = ScriptedServer().on("x/ask", result("{}"))
    async with Stage(server, policy=passing(unknown=True)).playing() as stage:
        await stage.open()
        assert (await stage.host.ask(request("x/ask")))["result"] == {}


async def test_a_request_method_without_an_id_is_dropped() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.host.say(notice("tools/call", '{"name":"echo","arguments":{}}'))
        assert stage.dropped() == ["request_without_id"]
        assert stage.server.calls() == []


async def test_an_answer_to_nothing_is_dropped_both_ways() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.host.say('{"jsonrpc":"2.0","id":"sth-1-1","result":{}}')
        stage.server.leg.feed(b'{"jsonrpc":"2.0","id":99,"result":{}}')
        assert stage.dropped() == ["answers_nothing", "answers_nothing"]


async def test_every_refused_method_of_an_era_is_answered_in_it() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        for number, method in enumerate(["ping", "logging/setLevel", "resources/subscribe", "tasks/result"], start=1):
            answer = await stage.host.ask(request(method, "{" + STATELESS_META + "}", str(number)), number)
            assert "-32601" in str(answer["error"])


@pytest.mark.pitfall("P-PROTO-05")
async def test_a_probe_and_then_an_opening_are_served_on_one_connection() -> None:
    server = ScriptedServer().on(
        "server/discover", result('{"resultType":"complete","supportedVersions":["2026-07-28"]}')
    )
    async with Stage(server).playing() as stage:
        discovered = await stage.host.ask(request("server/discover", "{" + STATELESS_META + "}", '"d"'), "d")
        assert "supportedVersions" in str(discovered)
        assert (await stage.host.ask(call(more="," + STATELESS_META)))["result"]
        await stage.open()
        assert (await stage.host.ask(call("2"), 2))["result"] == json.loads(DONE)


@pytest.mark.pitfall("P-PROTO-07")
async def test_empty_is_not_absent() -> None:
    lines = [
        request("tools/call", '{"name":"echo","arguments":{},"_meta":{}}', "0"),
        request("tools/call", '{"name":"echo","arguments":{},"_meta":{"progressToken":0}}', "1"),
        request("resources/list", "{}", "2"),
        request("resources/list", '{"cursor":""}', "3"),
        request("resources/list", None, "4"),
    ]
    server = ScriptedServer().on("resources/list", result('{"resources":[]}'))
    async with Stage(server).playing() as stage:
        await stage.host.ask(request("initialize", '{"capabilities":{"elicitation":{}}}', '"i"'), "i")
        stage.host.say(*lines)
        for number in range(5):
            await stage.host.answer(number)
        assert set(server.leg.sent) >= {line.encode() for line in lines}
        progress = notice("notifications/progress", '{"progressToken":0,"progress":1}').encode()
        server.leg.feed(progress)
        assert stage.host.sent[-1] == progress


async def test_an_element_of_a_servers_array_that_is_no_message_spoils_no_other() -> None:
    server = ScriptedServer(initialize=result(initialize_result("2025-03-26"))).off("tools/call")
    async with Stage(server).playing() as stage:
        await stage.open("2025-03-26")
        stage.host.say(call("6"))
        await anyio.wait_all_tasks_blocked()
        twice = f'{{"jsonrpc":"2.0","id":6,"result":{DONE},"x":1,"x":2}}'
        server.leg.feed(f"[7,{twice}]".encode())
        assert await stage.host.answer(6) == twice.encode()
