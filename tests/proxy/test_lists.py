"""Lists of one server."""

import json
from collections.abc import Mapping

import pytest

from proxy.stage import STATELESS_META, ScriptedServer, ServerLeg, Stage, echo_tool, error, request, result
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.policy.rules import Rule, ToolPattern
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.testing.factories import make_policy, make_rule

pytestmark = pytest.mark.anyio

HIDE_A = make_policy(rules=[make_rule(Effect.DENY, tools="files.a")])


def paged(pages: Mapping[str | None, str]) -> ScriptedServer:
    def reply(leg: ServerLeg, message: JsonObject) -> None:
        params = message.get("params")
        cursor = params.get("cursor") if isinstance(params, dict) else None
        assert cursor is None or isinstance(cursor, str)
        result(pages[cursor])(leg, message)

    return ScriptedServer(tools__list=reply)


async def test_nothing_hidden_is_nothing_changed() -> None:
    listed = f'{{"tools" : [{echo_tool("a")} , {echo_tool("b")}], "x":null, "_meta":{{}}, "ttlMs":1.50}}'
    async with Stage(ScriptedServer(tools__list=result(listed))).playing() as stage:
        await stage.open()
        stage.host.say(request("tools/list"))
        assert await stage.host.answer(1) == f'{{"jsonrpc":"2.0","id":1,"result":{listed}}}'.encode()


@pytest.mark.pitfall("P-PROTO-04")
async def test_a_cut_list_keeps_everything_else_and_is_private_on_every_page() -> None:
    b, c = '{"name":"b","x":{"default":null},"icons":[]}', echo_tool("c")
    pages = {
        None: (
            f'{{"tools":[{echo_tool("a")},{b}],"nextCursor":"2","ttlMs":9,'
            '"cacheScope":"public","resultType":"complete"}'
        ),
        "2": f'{{"tools":[{c}],"cacheScope":"public","ttlMs":9,"resultType":"complete"}}',
    }
    for _ in range(2):
        async with Stage(paged(pages), policy=HIDE_A).playing() as stage:
            stage.host.say(request("tools/list", "{" + STATELESS_META + "}"))
            first = await stage.host.answer(1)
            stage.host.say(request("tools/list", '{"cursor":"2",' + STATELESS_META + "}", "2"))
            second = await stage.host.answer(2)
            assert (
                first
                == (
                    f'{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{b}],"nextCursor":"2","ttlMs":9,'
                    '"cacheScope":"private","resultType":"complete"}}'
                ).encode()
            )
            assert (
                second
                == (
                    f'{{"jsonrpc":"2.0","id":2,"result":{{"tools":[{c}],"cacheScope":"private","ttlMs":9,'
                    '"resultType":"complete"}}'
                ).encode()
            )


@pytest.mark.pitfall("P-OPEN-01")
async def test_a_list_with_members_that_are_no_tools_shows_the_tools() -> None:
    listed = f'{{"tools":[null,{echo_tool("a")},{{"name":7}},{echo_tool("b")},"x"]}}'
    async with Stage(ScriptedServer(tools__list=result(listed)), policy=HIDE_A).playing() as stage:
        await stage.open()
        answer = await stage.host.ask(request("tools/list"))
        assert answer["result"] == {"tools": [json.loads(echo_tool("b"))]}


@pytest.mark.parametrize(
    "listed",
    ['{"tools":{}}', '{"tools":[{"name":"a","name":"b"}]}', "{}", "null", '{"tools":[{"name":"a","x":NaN}]}'],
)
async def test_a_list_that_cannot_be_read_is_an_error_and_never_shown(listed: str) -> None:
    async with Stage(ScriptedServer(tools__list=result(listed)), policy=HIDE_A).playing() as stage:
        await stage.open()
        stage.host.say(request("tools/list"))
        answer = json.loads(await stage.host.answer(1))
        assert answer["error"]["code"] == -32603
        assert "files" in answer["error"]["message"]


async def test_a_store_that_cannot_compare_shows_no_list() -> None:
    async with Stage().playing() as stage:
        await stage.open()

        def fail() -> None:
            raise PortError(Reason.TRACE_UNAVAILABLE, "disk full", acted=Acted.NO)

        stage.world.before["compare_definitions"] = fail
        assert "-32603" in str(await stage.host.ask(request("tools/list")))
        stage.world.before["compare_definitions"] = lambda: 1 / 0  # pyright: ignore[reportArgumentType] - it never returns
        assert "-32603" in str(await stage.host.ask(request("tools/list", request_id="2"), 2))


async def test_the_servers_own_error_is_passed() -> None:
    async with Stage(ScriptedServer(tools__list=error(-32602, "bad cursor"))).playing() as stage:
        await stage.open()
        answer = await stage.host.ask(request("tools/list", '{"cursor":"zzz"}'))
        assert answer["error"] == {"code": -32602, "message": "bad cursor"}


async def test_a_page_that_shows_another_definition_than_was_compared_is_read_again() -> None:
    served = [0]

    def reply(leg: ServerLeg, message: JsonObject) -> None:
        served[0] += 1
        other = echo_tool("a").replace("{", '{"description":"new",', 1) if served[0] > 2 else echo_tool("a")
        params = message.get("params")
        if isinstance(params, dict) and params.get("cursor") == "2":
            result(f'{{"tools":[{echo_tool("b")}]}}')(leg, message)
        else:
            result(f'{{"tools":[{other}],"nextCursor":"2"}}')(leg, message)

    async with Stage(ScriptedServer(tools__list=reply)).playing() as stage:
        await stage.open()
        await stage.host.ask(request("tools/list"))
        answer = await stage.host.ask(request("tools/list", request_id="2"), 2)
        assert "new" in str(answer["result"])
        assert stage.world.log.count("compare_definitions") == 2


async def test_resources_and_prompts_that_may_not_be_read_are_not_listed() -> None:
    def rule(method: str, member: str, value: str) -> Rule:
        return Rule(
            id=f"test/{value}",
            effect=Effect.DENY,
            text="no",
            tools=(ToolPattern(server="files", tool=f"@{method}"),),
            args={member: {"is": value}},
        )

    policy = make_policy(rules=[rule("resources/read", "uri", "file:///b"), rule("prompts/get", "name", "q")])
    server = (
        ScriptedServer()
        .on("resources/list", result('{"resources":[{"uri":"file:///a","x":null},{"uri":"file:///b"}]}'))
        .on("prompts/list", result('{"prompts":[{"name":"p"},{"name":"q"}]}'))
        .on("resources/templates/list", result('{"resourceTemplates":[{"uriTemplate":"file:///{x}"}]}'))
        .on("resources/read", result('{"contents":[]}'))
    )
    async with Stage(server, policy=policy).playing() as stage:
        await stage.open()
        assert "file:///b" not in str(await stage.host.ask(request("resources/list")))
        assert "'q'" not in str(await stage.host.ask(request("prompts/list", request_id="2"), 2))
        assert "{x}" in str(await stage.host.ask(request("resources/templates/list", request_id="3"), 3))
        answer = await stage.host.ask(request("resources/read", '{"uri":"file:///b"}', "4"), 4)
        refused = answer["error"]
        assert isinstance(refused, dict)
        assert refused["code"] == 4030
        assert refused["data"] == {"class": "policy_denied", "reason": "rule_denied", "step": None}
        assert "resources/read" not in server.leg.methods()
        assert "contents" in str(await stage.host.ask(request("resources/read", '{"uri":"file:///a"}', "5"), 5))
        told = [note.fields for note in stage.world.notes if note.fields.get("method") == "resources/read"]
        assert [(fields["from"], fields["effect"]) for fields in told] == [
            ("host", "deny"),
            ("host", "allow"),
            ("server", "allow"),
        ]


async def test_what_is_read_is_on_record_before_the_host_has_it_and_not_given_when_it_cannot_be() -> None:
    server = ScriptedServer().on("resources/read", result('{"contents":[{"uri":"a:b","text":"told"}]}'))
    async with Stage(server).playing() as stage:
        await stage.open()

        def full() -> None:
            assert b"told" not in b"".join(stage.host.sent)
            raise PortError(Reason.TRACE_UNAVAILABLE, "the disk is full", acted=Acted.NO)

        stage.world.before["note_given"] = full
        answer = await stage.host.ask(request("resources/read", '{"uri":"a:b"}', "7"), 7)
        assert "told" not in str(answer)
        assert "the disk is full" in str(answer["error"])
        del stage.world.before["note_given"]
        assert "told" in str(await stage.host.ask(request("resources/read", '{"uri":"a:b"}', "8"), 8))
        assert stage.world.run.counters.untrusted_reads == 1


async def test_a_checked_request_is_on_record_before_it_is_sent_on_and_not_sent_when_it_cannot_be() -> None:
    server = ScriptedServer().on("resources/read", result('{"contents":[]}'))
    async with Stage(server).playing() as stage:
        await stage.open()

        def fail() -> None:
            raise PortError(Reason.TRACE_UNAVAILABLE, "disk full", acted=Acted.NO)

        stage.world.before["note"] = fail
        answer = await stage.host.ask(request("resources/read", '{"uri":"file:///a"}'))
        assert "4030" in str(answer["error"])
        assert "resources/read" not in server.leg.methods()


async def test_a_policy_that_changes_is_told_to_the_host() -> None:
    async with Stage().playing() as stage:
        await stage.open()
        stage.policies.policy = HIDE_A
        await stage.host.heard("notifications/tools/list_changed")
