"""Tool calls of one server, in and out."""

import json

import anyio
import pytest

from proxy.stage import (
    DONE,
    STATELESS_META,
    HostLeg,
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
    text_of,
)
from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy.downstream import Limits
from soothsayer_mcp.testing.factories import make_policy, make_rule

pytestmark = pytest.mark.anyio


def silent(leg: ServerLeg, message: JsonObject) -> None:
    del leg, message


# -- denied before anything is sent


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (call(name="nope"), "tool_unknown"),
        (call(arguments='{"text":7}'), "arguments_invalid"),
        (call(arguments='{"Text":"x"}'), "arguments_invalid"),
        (call(arguments="[]"), "arguments_invalid"),
        (call(arguments="null"), "arguments_invalid"),
        (request("tools/call", '{"arguments":{}}'), "arguments_invalid"),
        (request("tools/call", '{"name":7}'), "arguments_invalid"),
        (request("tools/call"), "arguments_invalid"),
        (call(more=',"_meta":{"dev.soothsayer/run":7}'), "run_unknown"),
    ],
)
async def test_a_call_that_is_wrong_is_a_denied_step(line: str, reason: str) -> None:
    async with Stage().playing() as stage:
        await stage.open()
        answer = await stage.host.ask(line)
        assert reason_of(answer) == reason
        assert stage.server.calls() == []
        assert [kind for kind, _ in stage.world.entries] == ["step.refused"]


async def test_an_invalid_argument_is_named_without_its_value() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        answer = await stage.host.ask(call(arguments='{"text":31337}'))
        assert "argument /text is not of type string" in text_of(answer)
        assert "31337" not in text_of(answer)


async def test_a_call_without_arguments_is_checked_as_an_empty_object() -> None:
    tool = '{"name":"echo","inputSchema":{"type":"object","required":["text"]}}'
    async with Stage(ScriptedServer(tools=[tool])).playing() as stage:
        await stage.open()
        answer = await stage.host.ask(request("tools/call", '{"name":"echo"}'))
        assert reason_of(answer) == "arguments_invalid"


async def test_a_run_that_is_unknown_denies() -> None:
    async with Stage().playing() as stage:
        await stage.open()

        stage.world.binding_failure = Failure(reason=Reason.RUN_UNKNOWN, summary="abcd")
        assert reason_of(await stage.host.ask(call())) == "run_unknown"
        assert stage.server.calls() == []


async def test_a_store_that_cannot_bind_a_run_stops_the_call() -> None:
    async with Stage().playing() as stage:
        await stage.open()

        def fail() -> None:
            raise PortError(Reason.TRACE_UNAVAILABLE, "disk full", acted=Acted.NO)

        stage.world.before["bind_run"] = fail
        answer = await stage.host.ask(call())
        assert reason_of(answer) == "trace_unavailable"
        assert stage.server.calls() == []


@pytest.mark.parametrize("port", ["bind_run", "read_run", "record_intent", "compare_definitions"])
async def test_a_fault_of_ours_before_the_intent_denies_and_is_on_record(port: str) -> None:
    async with Stage().playing() as stage:
        await stage.open()
        broken = [True]

        def fail() -> None:
            if broken:
                broken.clear()
                raise ZeroDivisionError

        stage.world.before[port] = fail
        answer = await stage.host.ask(call())
        assert reason_of(answer) == "internal_error"
        assert stage.server.calls() == []
        assert [kind for kind, _ in stage.world.entries] == ["step.refused"] or stage.dropped() == ["internal_error"]
        assert any("ZeroDivisionError" in line for line in stage.logged)


async def test_a_fault_of_ours_after_sending_says_that_it_may_have_run() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        broken = [True]

        def fail() -> None:
            if broken:
                broken.clear()
                raise ZeroDivisionError

        stage.world.before["record_outcome"] = fail
        answer = await stage.host.ask(call())
        assert reason_of(answer) == "outcome_lost"
        assert len(stage.server.calls()) == 1


# -- definitions


@pytest.mark.pitfall("P-IDENT-01")
async def test_a_call_before_any_list_is_listed_and_compared_first() -> None:
    stage = Stage()
    stage.world.pins = {"echo": PinState.CHANGED}
    async with stage.playing():
        answer = await stage.host.ask(call(more="," + STATELESS_META))
        assert reason_of(answer) == "definition_changed" or "pins/changed" in text_of(answer)
        assert stage.server.leg.methods() == ["tools/list"]
        # Now without a change, then with one that the server announces.
        stage.world.pins = {}
        stage.server.leg.feed(notice("notifications/tools/list_changed").encode())
        assert "resultType" in str(await stage.host.ask(call("2", more="," + STATELESS_META), 2))
        stage.world.pins = {"echo": PinState.CHANGED}
        stage.server.leg.feed(notice("notifications/tools/list_changed").encode())
        answer = await stage.host.ask(call("3", more="," + STATELESS_META), 3)
        assert "pins/changed" in text_of(answer) or reason_of(answer) == "definition_changed"
        assert len(stage.server.calls()) == 1


async def test_calls_that_come_together_list_once() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.host.say(*[call(str(n)) for n in range(1, 6)])
        for n in range(1, 6):
            await stage.host.answer(n)
        assert stage.server.leg.methods().count("tools/list") == 1


async def test_a_list_that_changes_while_it_is_read_is_read_again() -> None:
    served = [0]

    def reply(leg: ServerLeg, message: JsonObject) -> None:
        served[0] += 1
        if served[0] == 1:
            leg.feed(notice("notifications/tools/list_changed").encode())
        result(f'{{"tools":[{echo_tool()}]}}')(leg, message)

    async with Stage(ScriptedServer(tools__list=reply)).playing() as stage:
        await stage.open()
        await stage.host.ask(call())
        assert served[0] == 2


async def test_a_tool_that_came_without_notice_is_found_on_its_first_call() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        await stage.host.ask(call())
        stage.server.on("tools/list", result(f'{{"tools":[{echo_tool("late")}]}}'))
        stage.clock.pass_s(2)
        assert (await stage.host.ask(call("2", name="late"), 2))["result"] == json.loads(DONE)


async def test_all_pages_are_read_before_a_call() -> None:
    def reply(leg: ServerLeg, message: JsonObject) -> None:
        params = message.get("params")
        cursor = params.get("cursor") if isinstance(params, dict) else None
        pages = {
            None: f'{{"tools":[{echo_tool("a")}],"nextCursor":""}}',
            "": f'{{"tools":[{echo_tool("b")}],"nextCursor":"2"}}',
            "2": f'{{"tools":[{echo_tool("c")}]}}',
        }
        result(pages[cursor if cursor is None else str(cursor)])(leg, message)

    async with Stage(ScriptedServer(tools__list=reply)).playing() as stage:
        await stage.open()
        assert (await stage.host.ask(call(name="c")))["result"] == json.loads(DONE)


async def test_a_server_that_does_not_list_gets_no_call() -> None:
    async with Stage(ScriptedServer(tools__list=error(-32601))).playing() as stage:
        await stage.open()
        answer = await stage.host.ask(call())
        assert reason_of(answer) == "server_unreachable"
        assert stage.server.calls() == []


# -- answers


@pytest.mark.parametrize(
    "text",
    [
        '{"content":[],"isError":true,"x":null}',
        '{"content":[{"type":"new","y":1e400}],"structuredContent":null}',
        '{"content":[{"type":"text","text":"\\ud800 \\u2028"}],"n":12345678901234567890123456789,"f":-0.0}',
        "{}",
        '{"content": [ ] , "_meta":{"a":0.10000000000000001}}',
    ],
)
async def test_what_a_tool_answers_comes_back_byte_for_byte(text: str) -> None:
    async with Stage(ScriptedServer(tools__call=result(text))).playing() as stage:
        await stage.open()
        stage.host.say(call('"7"'))
        assert await stage.host.answer("7") == f'{{"jsonrpc":"2.0","id":"7","result":{text}}}'.encode()


async def test_a_servers_error_comes_back_byte_for_byte() -> None:
    async with Stage(ScriptedServer(tools__call=error(-31999, "odd"))).playing() as stage:
        await stage.open()
        assert (await stage.host.ask(call()))["error"] == {"code": -31999, "message": "odd"}


async def test_a_stateless_result_without_its_type_gets_it_and_nothing_else() -> None:
    async with Stage().playing() as stage:
        stage.host.say(call(more="," + STATELESS_META))
        raw = await stage.host.answer(1)
        assert raw == f'{{"jsonrpc":"2.0","id":1,"result":{DONE[:-1]},"resultType":"complete"}}}}'.encode()


async def test_a_broken_output_schema_withholds_the_answer() -> None:
    tool = (
        '{"name":"echo","inputSchema":{"type":"object"},'
        '"outputSchema":{"type":"object","properties":{"n":{"type":"string"}}}}'
    )
    bad = '{"content":[{"type":"text","text":"secret"}],"structuredContent":{"n":1}}'
    async with Stage(ScriptedServer(tools=[tool], tools__call=result(bad))).playing() as stage:
        await stage.open()
        answer = await stage.host.ask(call())
        assert reason_of(answer) == "result_schema"
        assert "secret" not in json.dumps(answer)


@pytest.mark.pitfall("P-PARSE-08")
async def test_an_answer_under_another_id_settles_nothing() -> None:
    def reply(leg: ServerLeg, message: JsonObject) -> None:
        del message
        leg.feed(b'{"jsonrpc":"2.0","id":"7","result":{}}', b'{"jsonrpc":"2.0","id":8,"result":{}}')
        leg.feed(b'{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":"x"}}')

    stage = Stage(ScriptedServer(tools__call=reply))
    stage.governor._call_timeout_s = 0.05
    async with stage.playing():
        await stage.open()
        answer = await stage.host.ask(call("7"), 7)
        assert reason_of(answer) == "call_timeout"
        assert len(stage.server.calls()) == 1
        assert stage.dropped() == ["answers_nothing", "answers_nothing", "reads_two_ways"]
        assert stage.server.leg.methods()[-1] == "notifications/cancelled"


async def test_an_oversized_answer_ends_the_call_that_it_was_for() -> None:
    limits = Limits(max_frame=2000)
    big = json.dumps({"content": [{"type": "text", "text": "x" * 4000}]})
    async with Stage(ScriptedServer(tools__call=result(big)), limits=limits).playing() as stage:
        await stage.open()
        answer = await stage.host.ask(call())
        assert reason_of(answer) == "answer_unreadable"


# -- observing


async def test_observing_changes_no_byte() -> None:
    policy = make_policy(Effect.DENY, rules=[make_rule(Effect.DENY)], mode=Mode.OBSERVE)
    listed = f'{{"tools":[{echo_tool()},null,{{"name":7}}],"cacheScope":"public"}}'
    async with Stage(ScriptedServer(tools__list=result(listed)), policy=policy).playing() as stage:
        await stage.open()
        stage.host.say(request("tools/list", request_id="5"))
        assert await stage.host.answer(5) == f'{{"jsonrpc":"2.0","id":5,"result":{listed}}}'.encode()
        stage.host.say(call())
        assert await stage.host.answer(1) == f'{{"jsonrpc":"2.0","id":1,"result":{DONE}}}'.encode()
        assert stage.server.calls() == [call().encode()]


# -- cancelling


@pytest.mark.pitfall("P-PROTO-06")
async def test_a_cancel_goes_on_with_its_reason_and_is_not_answered() -> None:
    cancel = notice("notifications/cancelled", '{"requestId":1,"reason":"too slow","x":1}')
    async with Stage(ScriptedServer(tools__call=silent)).playing() as stage:
        await stage.open()
        stage.host.say(call(more=',"_meta":{"progressToken":0}'))
        await stage.server.leg.until(lambda: bool(stage.server.calls()))
        progress = [
            notice("notifications/progress", f'{{"progressToken":0,"progress":{n}}}').encode() for n in range(300)
        ]
        stage.server.leg.feed(*progress)
        stage.host.say(cancel)
        assert stage.server.leg.sent[-1] == cancel.encode()
        stage.server.leg.feed(progress[0], f'{{"jsonrpc":"2.0","id":1,"result":{DONE}}}'.encode())
        await stage.host.ask(request("ping", request_id="2"), 2)
        await anyio.wait_all_tasks_blocked()
        said = [raw for raw in stage.host.sent if b'"id":0' not in raw and b'"id":2' not in raw]
        assert said == progress
        assert stage.world.entries[-1][0] == "step.outcome"


async def test_a_cancel_before_the_intent_sends_nothing() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        gate = anyio.Event()
        stage.world.before["record_intent"] = gate.wait
        stage.host.say(call())
        await anyio.wait_all_tasks_blocked()
        stage.host.say(notice("notifications/cancelled", '{"requestId":1}'))
        gate.set()
        await stage.host.ask(request("ping", request_id="2"), 2)
        await anyio.wait_all_tasks_blocked()
        assert stage.server.calls() == []
        assert "notifications/cancelled" not in stage.server.leg.methods()
        assert [kind for kind, _ in stage.world.entries] == ["step.refused"]
        assert not any(b'"id":1' in raw for raw in stage.host.sent)


async def test_a_cancel_between_the_intent_and_the_sending_sends_nothing() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        gate = anyio.Event()
        stage.world.after["record_intent"] = gate.wait
        stage.host.say(call())
        await anyio.wait_all_tasks_blocked()
        stage.host.say(notice("notifications/cancelled", '{"requestId":1}'))
        gate.set()
        await stage.host.ask(request("ping", request_id="2"), 2)
        await anyio.wait_all_tasks_blocked()
        assert stage.server.calls() == []
        assert [kind for kind, _ in stage.world.entries] == ["step.intent", "step.outcome"]


async def test_a_cancel_of_nothing_is_dropped() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.host.say(notice("notifications/cancelled", '{"requestId":"1"}'))
        assert stage.dropped() == ["answers_nothing"]


# -- limits and ids


async def test_calls_past_the_limit_of_a_server_are_refused_while_others_go_on() -> None:
    async with Stage(ScriptedServer(tools__call=silent), limits=Limits(in_flight=2)).playing() as stage:
        await stage.open()
        stage.host.say(call("1"), call("2"))
        await stage.server.leg.until(lambda: len(stage.server.calls()) == 2)
        assert reason_of(await stage.host.ask(call("3"), 3)) == "too_many_in_flight"
        assert (await stage.host.ask(request("ping", request_id="4"), 4))["result"] == {}
        stage.server.leg.feed(f'{{"jsonrpc":"2.0","id":1,"result":{DONE}}}'.encode())
        await stage.host.answer(1)
        stage.host.say(call("5"))
        await stage.server.leg.until(lambda: len(stage.server.calls()) == 3)


async def test_calls_that_wait_for_the_first_list_count_towards_what_may_wait_for_their_server() -> None:
    big = json.dumps({"text": "x" * 600})
    async with Stage(ScriptedServer(tools__list=silent), limits=Limits(waiting_bytes=1000)).playing() as stage:
        await stage.open()
        stage.host.say(call("1", arguments=big), call("2", arguments=big))
        await stage.server.leg.until(lambda: "tools/list" in stage.server.leg.methods())
        assert reason_of(await stage.host.ask(call("3"), 3)) == "too_many_in_flight"
        listed = [message for message in stage.server.leg.messages() if message.get("method") == "tools/list"]
        tools = f'{{"jsonrpc":"2.0","id":"{listed[0]["id"]}","result":{{"tools":[{echo_tool()}]}}}}'
        stage.server.leg.feed(tools.encode())
        assert (await stage.host.ask(call("4"), 4))["result"] == json.loads(DONE)
        assert len(stage.server.calls()) == 3


async def test_an_id_in_flight_is_refused_and_ids_of_other_types_are_not() -> None:
    async with Stage(ScriptedServer(tools__call=silent)).playing() as stage:
        await stage.open()
        stage.host.say(call("7"))
        await stage.server.leg.until(lambda: len(stage.server.calls()) == 1)
        assert (await stage.host.ask(call("7"), 7))["error"] == {
            "code": -32600,
            "message": "A request with this id is in flight already.",
        }
        stage.host.say(call('"7"'))
        await stage.server.leg.until(lambda: len(stage.server.calls()) == 2)


async def test_the_client_of_each_era_is_on_the_step() -> None:
    stage = Stage()
    async with stage.playing():
        await stage.open()
        await stage.host.ask(call())
        info = '"io.modelcontextprotocol/clientInfo":{"name":"other","version":"2"}'
        meta = STATELESS_META[:-1] + "," + info + "}"
        await stage.host.ask(call("2", more="," + meta), 2)
        assert [(binding.client.name, binding.client.version) for binding in stage.world.bindings] == [
            ("test", "1"),
            ("other", "2"),
        ]


async def test_more_calls_than_are_governed_at_once_are_refused_without_a_step() -> None:
    async with Stage(ScriptedServer(tools__call=silent), limits=Limits(in_flight=5000)).playing() as stage:
        await stage.open()
        stage.host.say(*[call(str(n)) for n in range(1, 1026)])
        answer = read(await HostLeg.answer(stage.host, 1025))
        assert reason_of(answer) == "too_many_in_flight"
        assert stage.dropped() == ["too_many_in_flight"]
