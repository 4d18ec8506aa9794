"""Rows of what is offered: nothing is promised that is not served, and nothing is left out in silence."""

import json
import sys
from pathlib import Path
from typing import cast

import pytest

from fidelity.rig import ALLOWING, WATCHING, Rig, at, entries, read, request
from pitfalls_e2e.remote import listing
from soothsayer_mcp.testing.servers import Script, tool

GROWING = """
import json, sys
tools = [{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(12)]
opening = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "g", "version": "1"}}
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "notifications/initialized":
        tools.append({"name": "t12", "inputSchema": {"type": "object"}})
    elif "id" in message:
        result = {"initialize": opening, "tools/list": {"tools": tools}}.get(message["method"], {})
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
"""A server that has its last tool only once the handshake is finished."""

BAD = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "no blank"}}}
GOOD = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
TOOLS = [tool("bad", inputSchema=BAD), tool("good", inputSchema=GOOD)]


def shown(rig: Rig) -> list[object]:
    tools = at(rig.host.request("tools/list"), "result", "tools")
    assert isinstance(tools, list)
    return [at(each, "name") for each in cast("list[object]", tools)]


@pytest.mark.pitfall("P-PROTO-08")
@pytest.mark.parametrize("policy", [WATCHING, ALLOWING], ids=["observing", "enforcing"])
def test_a_tool_that_comes_with_the_end_of_the_handshake_is_listed(policy: str, tmp_path: Path) -> None:
    with Rig(tmp_path, policy=policy, command=[sys.executable, "-c", GROWING]) as rig:
        rig.host.initialize()
        assert shown(rig) == [f"t{number}" for number in range(13)]


@pytest.mark.pitfall("P-PROTO-08")
@pytest.mark.parametrize("several", [False, True], ids=["one server", "two servers"])
def test_what_no_server_has_is_not_promised_and_is_an_unknown_method(several: bool, tmp_path: Path) -> None:
    script = Script(tools=[tool("echo")])
    config = None
    if several:
        servers: dict[str, object] = {}
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            argv = script.command(tmp_path / name)
            servers[name] = {"command": argv[0], "args": argv[1:]}
        config = tmp_path / "soothsayer.yaml"
        text = {"soothsayer": "config/v1", "policy": [str(tmp_path / "policy.yaml")], "mcpServers": servers}
        config.write_text(json.dumps(text), encoding="utf-8")
    with Rig(tmp_path, script, policy=ALLOWING, config=config) as rig:
        capabilities = at(rig.host.initialize(), "result", "capabilities")
        assert isinstance(capabilities, dict)
        assert "tools" in capabilities
        assert "prompts" not in capabilities
        rig.host.send(request("prompts/list", request_id="7"))
        assert at(read(rig.host.answer(7)), "error", "code") == -32601


@pytest.mark.pitfall("P-PROTO-08")
@pytest.mark.parametrize("policy", [WATCHING, ALLOWING], ids=["observing", "enforcing"])
@pytest.mark.parametrize("several", [False, True], ids=["one server", "two servers"])
def test_a_tool_that_must_be_dropped_is_named_in_the_log_and_on_record(
    policy: str, several: bool, tmp_path: Path
) -> None:
    """A tool with a header that cannot be sent; a call of it is refused and reaches nobody."""
    with listing(TOOLS) as (url, called):
        config = None
        if several:
            config = tmp_path / "soothsayer.yaml"
            argv = Script(name="near").command(tmp_path)
            servers = {"far": {"url": url}, "near": {"command": argv[0], "args": argv[1:]}}
            text = {"soothsayer": "config/v1", "policy": [str(tmp_path / "policy.yaml")], "mcpServers": servers}
            config.write_text(json.dumps(text), encoding="utf-8")
        words = () if several else ("--name", "far")
        with Rig(tmp_path, policy=policy, url=url, config=config, words=words) as rig:
            rig.host.initialize()
            prefix = "far__" if several else ""
            for _ in range(2):
                names = shown(rig)
                assert f"{prefix}good" in names
                assert f"{prefix}bad" not in names
            assert "result" in rig.host.call(f"{prefix}good", {"region": "x"})
            assert "header that cannot be sent" in json.dumps(rig.host.call(f"{prefix}bad", {"region": "x"}))
        said = rig.host.stderr
        assert called == ["good"]
        server = "far" if several else rig.script.name
        assert said.count("tool 'bad' is not shown: it declares a header that cannot be sent") == 1
        noted = [entry for entry in entries(rig.state, "message.checked") if "bad" in str(entry.get("reason"))]
        assert [(entry["server"], entry["effect"]) for entry in noted] == [(server, "deny")]
