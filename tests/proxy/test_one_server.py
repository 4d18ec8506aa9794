import json

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
    initialize_result,
    reason_of,
    request,
    result,
    text_of,
)
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.factories import make_policy, make_rule

pytestmark = pytest.mark.anyio


async def test_an_allowed_call_goes_through_byte_for_byte() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        params = '{"arguments":{"text":"h\\u00e9"},"name":"echo","x":null}'
        sent = f'{{"id":"a", "jsonrpc" : "2.0","method":"tools/call","params":{params}}}'
        stage.host.say(sent)
        assert await stage.host.answer("a") == f'{{"jsonrpc":"2.0","id":"a","result":{DONE}}}'.encode()
        assert stage.server.calls() == [sent.encode()]


async def test_nothing_is_forwarded_before_the_intent_is_durable() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        order: list[str] = []
        stage.world.after["record_intent"] = lambda: order.append("intent durable")

        def reply(leg: ServerLeg, message: JsonObject) -> None:
            order.append("forwarded")
            result(DONE)(leg, message)

        stage.server.on("tools/call", reply)
        stage.world.before["record_outcome"] = lambda: order.append("outcome")
        await stage.host.ask(call())
        assert order == ["intent durable", "forwarded", "outcome"]


async def test_a_denied_call_never_reaches_the_server() -> None:
    policy = make_policy(rules=[make_rule(Effect.DENY, text="Not this one.")])
    async with Stage(policy=policy).playing() as stage:
        await stage.open()
        answer = await stage.host.ask(call())
        assert text_of(answer).startswith("Denied by policy rule test/rule: Not this one. Nothing was sent.")
        assert stage.server.calls() == []


async def test_the_opening_is_the_servers_own() -> None:
    async with Stage().playing() as stage:
        stage.host.say(initialize())
        assert await stage.host.answer(0) == f'{{"jsonrpc":"2.0","id":0,"result":{initialize_result()}}}'.encode()
        assert stage.server.leg.sent[0] == initialize().encode()


async def test_an_unknown_tool_is_denied() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        answer = await stage.host.ask(call(name="nope"))
        assert reason_of(answer) == "tool_unknown"
        assert stage.server.calls() == []


async def test_tools_denied_for_certain_are_not_listed_and_the_rest_is_untouched() -> None:
    tools = [echo_tool("a"), '{"name":"b", "x":null, "inputSchema":{"type":"object"}}', echo_tool("c")]
    policy = make_policy(rules=[make_rule(Effect.DENY, tools="files.a")])
    async with Stage(ScriptedServer(tools=tools), policy=policy).playing() as stage:
        await stage.open()
        stage.host.say(request("tools/list"))
        raw = await stage.host.answer(1)
        assert raw == f'{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tools[1]},{tools[2]}]}}}}'.encode()


async def test_a_stateless_call_is_governed_in_its_own_era() -> None:
    async with Stage().playing() as stage:
        answer = await stage.host.ask(call(more="," + STATELESS_META))
        assert answer["result"] == {**json.loads(DONE), "resultType": "complete"}
        assert stage.server.leg.methods() == ["tools/list", "tools/call"]
