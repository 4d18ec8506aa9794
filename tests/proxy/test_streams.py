"""Listen streams of the stateless era."""

import json

import pytest

from proxy.stage import STATELESS_META, ScriptedServer, ServerLeg, Stage, call, notice, read, request, result
from soothsayer_mcp.model.json import JsonObject

pytestmark = pytest.mark.anyio

TAG = '"_meta":{"io.modelcontextprotocol/subscriptionId":"listen:0"}'
LISTEN = request(
    "subscriptions/listen", '{"notifications":{"toolsListChanged":true},' + STATELESS_META + "}", '"listen:0"'
)
ACK = notice("notifications/subscriptions/acknowledged", '{"notifications":{"toolsListChanged":true},' + TAG + "}")
CHANGED = notice("notifications/tools/list_changed", "{" + TAG + "}")


def acknowledge(leg: ServerLeg, message: JsonObject) -> None:
    assert message["id"] == "listen:0"
    leg.feed(ACK.encode())


async def test_a_stream_of_one_server_passes_byte_for_byte() -> None:
    server = ScriptedServer().on("subscriptions/listen", acknowledge)
    async with Stage(server).playing() as stage:
        stage.host.say(LISTEN)
        await stage.host.heard("notifications/subscriptions/acknowledged")
        server.leg.feed(CHANGED.encode())
        assert stage.host.sent == [ACK.encode(), CHANGED.encode()]
        assert server.leg.sent == [LISTEN.encode()]
        last = '{"jsonrpc":"2.0","id":"listen:0","result":{"resultType":"complete",' + TAG + "}}"
        server.leg.feed(last.encode())
        assert stage.host.sent[-1] == last.encode()
        stage.host.say(LISTEN)
        await stage.host.heard("notifications/subscriptions/acknowledged", 2)


async def test_a_cancelled_stream_is_cancelled_at_the_server_and_its_id_is_free() -> None:
    server = ScriptedServer().on("subscriptions/listen", acknowledge)
    cancel = notice("notifications/cancelled", '{"requestId":"listen:0"}')
    async with Stage(server).playing() as stage:
        stage.host.say(LISTEN)
        await stage.host.heard("notifications/subscriptions/acknowledged")
        stage.host.say(cancel)
        assert server.leg.sent[-1] == cancel.encode()
        sent = len(stage.host.sent)
        server.leg.feed(CHANGED.encode())
        assert len(stage.host.sent) == sent
        stage.host.say(LISTEN)
        await stage.host.heard("notifications/subscriptions/acknowledged", 2)


async def test_a_restarted_servers_part_is_opened_again_and_acknowledged_once() -> None:
    server = ScriptedServer().on("subscriptions/listen", acknowledge)
    async with Stage(server).playing() as stage:
        stage.host.say(LISTEN)
        await stage.host.heard("notifications/subscriptions/acknowledged")
        server.leg.end("exited with code 1")
        await stage.host.ask(call(more="," + STATELESS_META))
        assert "subscriptions/listen" in server.leg.methods()
        server.leg.feed(CHANGED.encode())
        await stage.host.heard("notifications/tools/list_changed")
        assert len(await stage.host.heard("notifications/subscriptions/acknowledged")) == 1


async def test_a_servers_end_of_a_stream_passes() -> None:
    server = ScriptedServer().on("subscriptions/listen", acknowledge)
    async with Stage(server).playing() as stage:
        await stage.host.ask(call(more="," + STATELESS_META))
        stage.host.say(LISTEN)
        await stage.host.heard("notifications/subscriptions/acknowledged")
        ended = notice("notifications/cancelled", '{"requestId":"listen:0"}').encode()
        server.leg.feed(ended)
        assert stage.host.sent[-1] == ended
        server.leg.feed(notice("notifications/cancelled", '{"requestId":1}').encode())
        assert stage.dropped() == ["answers_nothing"]


async def test_streams_of_several_servers_are_one() -> None:
    a = ScriptedServer("a").on("subscriptions/listen", acknowledge)
    b = ScriptedServer("b").on("subscriptions/listen", acknowledge)
    async with Stage(a, b).playing() as stage:
        stage.host.say(LISTEN)
        [ack] = await stage.host.heard("notifications/subscriptions/acknowledged")
        assert "listen:0" in ack.decode()
        a.leg.feed(CHANGED.encode())
        b.leg.feed(CHANGED.encode())
        assert len(await stage.host.heard("notifications/tools/list_changed", 2)) == 2
        last = '{"jsonrpc":"2.0","id":"listen:0","result":{"resultType":"complete",' + TAG + "}}"
        a.leg.feed(last.encode())
        answer = read(await stage.host.answer("listen:0"))
        assert "complete" in str(answer["result"])
        assert b.leg.methods()[-1] == "notifications/cancelled"
        # A change of policy is told on the stream that asked.
        stage.host.say(LISTEN)
        await stage.host.heard("notifications/subscriptions/acknowledged", 2)


async def test_a_stream_that_the_server_refuses_is_refused() -> None:
    def refuse(leg: ServerLeg, message: JsonObject) -> None:
        leg.feed(
            json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}}).encode()
        )

    async with Stage(ScriptedServer().on("subscriptions/listen", refuse)).playing() as stage:
        assert "-32601" in str(await stage.host.ask(LISTEN, "listen:0"))


async def test_a_notice_of_no_stream_is_dropped() -> None:
    async with Stage().playing() as stage:
        await stage.host.ask(call(more="," + STATELESS_META))
        sent = len(stage.host.sent)
        stage.server.leg.feed(CHANGED.encode(), ACK.encode())
        stage.server.leg.feed(notice("notifications/resources/updated", '{"uri":"a:b",' + TAG + "}").encode())
        assert stage.dropped() == ["answers_nothing"] * 3
        assert len(stage.host.sent) == sent


async def test_a_level_less_call_answers_without_a_stream() -> None:
    server = ScriptedServer().on("resources/list", result('{"resources":[]}'))
    async with Stage(server).playing() as stage:
        answer = await stage.host.ask(request("resources/list", "{" + STATELESS_META + "}"))
        assert answer["result"] == {"resources": [], "resultType": "complete"}
