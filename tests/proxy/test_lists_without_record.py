"""Lists while the record, and with it the pins, cannot be read: the one that was compared before is still shown."""

import pytest

from proxy.stage import ScriptedServer, Stage, echo_tool, reason_of, request, result
from proxy.stage import call as call_of
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.ports import PortError

pytestmark = pytest.mark.anyio


def away() -> None:
    """What a port does while the record is away."""
    raise PortError(Reason.TRACE_UNAVAILABLE, "the record was moved away while open", acted=Acted.NO)


def listing(*names: str) -> str:
    return f'{{"tools":[{",".join(map(echo_tool, names))}]}}'


def names_in(answer: JsonObject) -> list[str]:
    listed = answer["result"]
    assert isinstance(listed, dict)
    tools = listed["tools"]
    assert isinstance(tools, list)
    return [str(tool["name"]) for tool in tools if isinstance(tool, dict)]


async def test_a_list_that_is_the_one_compared_before_is_shown_and_its_calls_are_refused() -> None:
    async with Stage(ScriptedServer(tools__list=result(listing("a")))).playing() as stage:
        await stage.open()
        assert names_in(await stage.host.ask(request("tools/list"))) == ["a"]
        stage.world.before |= {"compare_definitions": away, "record_intent": away}
        assert names_in(await stage.host.ask(request("tools/list", None, "2"), 2)) == ["a"]
        refused = await stage.host.ask(call_of("3", "a"), 3)
        assert reason_of(refused) == "trace_unavailable"
        assert stage.server.calls() == []


async def test_a_list_that_is_another_than_before_is_not_shown_unreviewed() -> None:
    async with Stage(ScriptedServer(tools__list=result(listing("a")))).playing() as stage:
        await stage.open()
        assert names_in(await stage.host.ask(request("tools/list"))) == ["a"]
        stage.world.before["compare_definitions"] = away
        for request_id, names in (("2", ["a", "b"]), ("3", [])):
            stage.server.on("tools/list", result(listing(*names)))
            assert "error" in await stage.host.ask(request("tools/list", None, request_id), int(request_id))


async def test_a_list_that_was_never_compared_is_not_shown() -> None:
    async with Stage(ScriptedServer(tools__list=result(listing("a")))).playing() as stage:
        await stage.open()
        stage.world.before["compare_definitions"] = away
        assert "error" in await stage.host.ask(request("tools/list"))
