"""What servers ask of the host."""

import json

import pytest

from proxy.stage import STATELESS_META, ScriptedServer, Stage, call, notice, read, reason_of, request, result
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.testing.factories import make_policy, make_rule

pytestmark = pytest.mark.anyio

FORM = '{"message":"Which?","x":null,"requestedSchema":{"type":"object","properties":{"branch":{"type":"string"}}}}'
SECRET = '{"message":"Log in","requestedSchema":{"type":"object","properties":{"userPassword":{"type":"string"}}}}'


async def test_a_question_goes_to_the_host_and_its_answer_back_with_nothing_changed_but_the_id() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.server.leg.feed(f'{{"id":0,"method":"elicitation/create","x":1,"params":{FORM}}}'.encode())
        [raw] = await stage.host.heard("elicitation/create")
        shown = read(raw)["id"]
        assert isinstance(shown, str)
        assert shown.startswith("sth-")
        assert raw == f'{{"id":"{shown}","method":"elicitation/create","x":1,"params":{FORM}}}'.encode()
        stage.host.say(f'{{"jsonrpc":"2.0","id":"{shown}","result":{{"action":"accept","y":null}}}}')
        assert stage.server.leg.sent[-1] == b'{"jsonrpc":"2.0","id":0,"result":{"action":"accept","y":null}}'
        [note] = [note for note in stage.world.notes if note.kind == "message.checked"]
        assert note.fields["from"] == "server"
        # A second answer answers nothing.
        stage.host.say(f'{{"jsonrpc":"2.0","id":"{shown}","result":{{"action":"decline"}}}}')
        assert stage.dropped() == ["answers_nothing"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("elicitation/create", b'"result":{"action":"decline"}'),
        ("roots/list", b'"result":{"roots":[]}'),
        ("sampling/createMessage", b'"error":{"code":-1'),
    ],
)
async def test_a_refused_question_never_reaches_the_host(method: str, answer: bytes) -> None:
    policy = make_policy(rules=[make_rule(Effect.DENY, tools=f"files.@{method}")])
    async with Stage(policy=policy).playing() as stage:
        await stage.open()
        stage.server.leg.feed(request(method, "{}", '"a"').encode())
        await stage.server.leg.until(lambda: b'"id":"a"' in stage.server.leg.sent[-1])
        assert answer in stage.server.leg.sent[-1]
        assert len(stage.host.sent) == 1


async def test_a_form_for_a_secret_is_declined_where_policy_binds() -> None:
    for mode, asked in ((Mode.ENFORCE, 0), (Mode.OBSERVE, 1)):
        async with Stage(policy=make_policy(mode=mode)).playing() as stage:
            await stage.open()
            stage.server.leg.feed(request("elicitation/create", SECRET, "5").encode())
            if asked:
                await stage.host.heard("elicitation/create")
            else:
                await stage.server.leg.until(lambda leg=stage.server.leg: b'"decline"' in leg.sent[-1])


async def test_a_question_that_cannot_be_recorded_is_not_asked() -> None:
    async with Stage().playing() as stage:
        await stage.open()

        def fail() -> None:
            raise PortError(Reason.TRACE_UNAVAILABLE, "disk full", acted=Acted.NO)

        stage.world.before["note"] = fail
        stage.server.leg.feed(request("roots/list", None, "5").encode())
        await stage.server.leg.until(lambda: b'"roots":[]' in stage.server.leg.sent[-1])
        assert len(stage.host.sent) == 1


async def test_a_question_is_withdrawn_by_its_server() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.server.leg.feed(request("elicitation/create", FORM, "5").encode())
        [raw] = await stage.host.heard("elicitation/create")
        stage.server.leg.feed(notice("notifications/cancelled", '{"requestId":5,"reason":"done"}').encode())
        shown = json.dumps(read(raw)["id"])
        expected = notice("notifications/cancelled", f'{{"requestId":{shown},"reason":"done"}}')
        assert stage.host.sent[-1] == expected.encode()
        stage.host.say(f'{{"jsonrpc":"2.0","id":{shown},"result":{{"action":"accept"}}}}')
        assert b"accept" not in stage.server.leg.sent[-1]


async def test_a_ping_of_a_server_is_answered_by_its_host() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.server.leg.feed(request("ping", None, "77").encode())
        [raw] = await stage.host.heard("ping")
        stage.host.say(f'{{"jsonrpc":"2.0","id":{json.dumps(read(raw)["id"])},"result":{{}}}}')
        assert stage.server.leg.sent[-1] == b'{"jsonrpc":"2.0","id":77,"result":{}}'


async def test_in_the_stateless_era_a_servers_request_is_dropped_and_unanswered() -> None:
    async with Stage().playing() as stage:
        await stage.host.ask(call(more="," + STATELESS_META))
        said, sent = len(stage.host.sent), len(stage.server.leg.sent)
        stage.server.leg.feed(request("roots/list", None, "5").encode(), request("x/unknown", None, "6").encode())
        assert stage.dropped() == ["request_of_server", "request_of_server"]
        assert (len(stage.host.sent), len(stage.server.leg.sent)) == (said, sent)


def asking(method: str, params: str = "{}") -> ScriptedServer:
    wanted = f'{{"q":{{"method":"{method}","params":{params}}}}}'
    text = f'{{"resultType":"input_required","inputRequests":{wanted},"requestState":"S+/="}}'
    return ScriptedServer(tools__call=result(text)).on("resources/read", result(text))


async def test_input_that_a_stateless_call_requires_passes_when_policy_allows_it() -> None:
    server = asking("elicitation/create", FORM)
    async with Stage(server).playing() as stage:
        answer = await stage.host.ask(call(more="," + STATELESS_META))
        assert "S+/=" in str(answer["result"])
        read_it = request("resources/read", '{"uri":"a:b",' + STATELESS_META + "}", "2")
        assert "S+/=" in str(await stage.host.ask(read_it, 2))


async def test_input_that_policy_refuses_refuses_the_call() -> None:
    policy = make_policy(rules=[make_rule(Effect.DENY, tools="files.@elicitation/create", text="No forms.")])
    async with Stage(asking("elicitation/create", FORM), policy=policy).playing() as stage:
        answer = await stage.host.ask(call(more="," + STATELESS_META))
        assert reason_of(answer) == "rule_denied"
        assert "Which?" not in str(answer)
        read_it = request("resources/read", '{"uri":"a:b",' + STATELESS_META + "}", "2")
        assert "4030" in str(await stage.host.ask(read_it, 2))


async def test_input_of_an_unknown_kind_is_refused() -> None:
    async with Stage(asking("x/spy")).playing() as stage:
        answer = await stage.host.ask(call(more="," + STATELESS_META))
        assert reason_of(answer) == "rule_denied"


async def test_a_message_that_policy_refuses_is_not_shown() -> None:
    policy = make_policy(rules=[make_rule(Effect.DENY, tools="files.@notifications/message")])
    line = notice("notifications/message", '{"level":"info","data":"x"}').encode()
    for governed, heard in ((policy, False), (None, True)):
        async with Stage(policy=governed).playing() as stage:
            await stage.open()
            stage.server.leg.feed(line)
            assert (line in stage.host.sent) is heard


async def test_bursts_of_changes_are_joined() -> None:
    line = notice("notifications/tools/list_changed").encode()
    async with Stage().playing() as stage:
        await stage.open()
        stage.server.leg.feed(*[line] * 20)
        await stage.host.heard("notifications/tools/list_changed", 2)
        await stage.host.ask(request("ping", request_id="3"), 3)
        assert stage.host.sent.count(line) == 2


async def test_the_hosts_own_notices_reach_the_server() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        lines = [
            notice("notifications/roots/list_changed"),
            notice("notifications/progress", '{"progressToken":"t","progress":1}'),
        ]
        stage.host.say(*lines)
        assert stage.server.leg.sent[-2:] == [line.encode() for line in lines]
