"""The table has a row for every message, and each row names a function that exists."""

import typing

import mcp_types
import pytest

from proxy.stage import Stage, notice, request
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.proxy.routes import MISPLACED, ROUTES, UNKNOWN, Act, Way, route
from soothsayer_mcp.testing.factories import make_policy
from soothsayer_mcp.wire.eras import Era
from soothsayer_mcp.wire.frame import FrameKind

BOTH = (Era.HANDSHAKE, Era.STATELESS)


def methods_of(union: object) -> set[str]:
    found: set[str] = set()
    for member in typing.get_args(union):
        field = getattr(member, "model_fields", {}).get("method")
        if field is not None:
            found.update(str(name) for name in typing.get_args(field.annotation))
    return found


def test_every_method_of_the_specifications_has_a_row() -> None:
    sent = methods_of(mcp_types.ClientRequest) | methods_of(mcp_types.ClientNotification)
    got = methods_of(mcp_types.ServerRequest) | methods_of(mcp_types.ServerNotification)
    assert len(sent) > 15
    assert len(got) > 8
    missing = {
        (way, era, method)
        for way, methods in ((Way.TO_SERVER, sent), (Way.TO_HOST, got))
        for era in BOTH
        for method in methods
        if (way, era, method) not in ROUTES
    }
    assert not missing


def test_every_row_is_done_by_a_function_of_the_relay() -> None:
    rows = Stage().relay._rows
    for row in [*ROUTES.values(), *UNKNOWN.values(), *MISPLACED.values()]:
        assert callable(rows[row.by])


def test_only_tool_calls_are_governed() -> None:
    assert {key[2] for key, row in ROUTES.items() if row.act is Act.GOVERNED} == {"tools/call"}


def test_a_message_without_a_row_is_refused_or_dropped() -> None:
    for way in Way:
        for era in BOTH:
            assert route(way, era, FrameKind.REQUEST, "x/unknown").act in {Act.REFUSED, Act.DROPPED}
            assert route(way, era, FrameKind.NOTIFICATION, "tools/call ").act is Act.DROPPED


PARAMS = {
    "tools/call": '{"name":"echo","arguments":{}}',
    "resources/read": '{"uri":"file:///a"}',
    "prompts/get": '{"name":"p"}',
    "completion/complete": '{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"b"}}',
    "resources/subscribe": '{"uri":"file:///a"}',
    "resources/unsubscribe": '{"uri":"file:///a"}',
    "tasks/get": '{"taskId":"t"}',
    "tasks/cancel": '{"taskId":"t"}',
    "tasks/result": '{"taskId":"t"}',
    "tasks/update": '{"taskId":"t"}',
}
OPENING = {
    "initialize",
    "notifications/initialized",
    "server/discover",
    "ping",
    "logging/setLevel",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "notifications/roots/list_changed",
    # An answer to nothing of a server's is no request of it.
    "notifications/progress",
}


@pytest.mark.anyio
@pytest.mark.pitfall("P-OPEN-03")
@pytest.mark.parametrize("stateless", [False, True])
async def test_under_deny_all_a_server_sees_opening_and_list_messages_only(*, stateless: bool) -> None:
    meta = (
        '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        '"io.modelcontextprotocol/clientCapabilities":{}}'
    )
    async with Stage(policy=make_policy(Effect.DENY)).playing() as stage:
        if not stateless:
            await stage.open()
        methods = sorted({method for way, _, method in ROUTES if way is Way.TO_SERVER} - {"initialize"})
        for number, method in enumerate([*methods, "x/unknown", "tools/call ", "tools/list\\u200b"], start=1):
            params = PARAMS.get(method.strip(), "{}")
            if stateless:
                params = params[:-1] + ("," if params != "{}" else "") + meta + "}"
            if method.startswith("notifications/"):
                stage.host.say(notice(method, params))
            else:
                stage.host.say(request(method, params, str(number)))
                if method not in OPENING:
                    answer = await stage.host.answer(number)
                    assert b'"result":{"content"' not in answer
        stage.host.say(notice("tools/call", PARAMS["tools/call"]))
        await stage.host.ask(request("tools/call", PARAMS["tools/call"], '"last"'), "last")
        assert set(stage.server.leg.methods()) <= OPENING
        assert stage.server.calls() == []
