"""Rows of process and transport, on the real command."""

import json
from pathlib import Path

import pytest

from fidelity.rig import ALLOWING, WATCHING, Rig, answered, at, call, read, request
from pitfalls_e2e.remote import EVENT, serve
from soothsayer_mcp.testing.servers import Script, result, tool

MIB = 1024 * 1024
LARGE = '{"content":[{"type":"text","text":"' + "\u00e9" * (4 * MIB) + '"}]}'


@pytest.mark.pitfall("P-PROC-04")
@pytest.mark.parametrize("policy", [WATCHING, ALLOWING], ids=["observing", "enforcing"])
def test_eight_megabytes_pass_in_each_direction(policy: str, tmp_path: Path) -> None:
    with Rig(tmp_path, Script(on={"tool:large": [result(LARGE)]}, tools=[tool("large")]), policy=policy) as rig:
        rig.host.initialize()
        asked = call("large", '{"text":"' + "\u00e9" * (4 * MIB) + '"}', "7")
        rig.host.send(asked)
        assert rig.host.answer(7) == answered(LARGE, "7")
        assert rig.last == asked.encode()


@pytest.mark.pitfall("P-PROC-04")
def test_an_event_of_more_than_a_megabyte_passes_over_http(tmp_path: Path) -> None:
    with serve() as url, Rig(tmp_path, policy=ALLOWING, url=url) as rig:
        rig.host.initialize()
        assert rig.host.call("large")["result"] == EVENT


@pytest.mark.pitfall("P-PROC-04")
def test_a_line_may_be_split_at_every_byte(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.host.initialize()
        asked = call("echo", '{"text":"\u00e9\U0001f30d"}', "7").encode()
        for at_byte in range(1, len(asked)):
            rig.host.write(asked[:at_byte])
            rig.host.write(asked[at_byte:] + b"\n")
            assert b"result" in rig.host.answer(7)
            assert rig.last == asked
        for byte in asked + b"\n":
            rig.host.write(bytes([byte]))
        assert b"result" in rig.host.answer(7)
        assert rig.last == asked


@pytest.mark.pitfall("P-PROC-04")
def test_over_the_limit_that_request_gets_an_error_and_the_next_works(tmp_path: Path) -> None:
    """Either way, and the limit is ours and stated."""
    on = {"tool:large": [result('{"content":[{"type":"text","text":"' + "x" * MIB + '"}]}')]}
    script = Script(on=on, tools=[tool("large"), tool("echo")])
    argv = script.command(tmp_path)
    config = {
        "soothsayer": "config/v1",
        "policy": [str(tmp_path / "policy.yaml")],
        "limits": {"max_frame": "1MB"},
        "mcpServers": {"raw": {"command": argv[0], "args": argv[1:]}},
    }
    (tmp_path / "soothsayer.yaml").write_text(json.dumps(config), encoding="utf-8")
    with Rig(tmp_path, script, policy=ALLOWING, config=tmp_path / "soothsayer.yaml") as rig:
        rig.host.initialize()
        rig.host.send(call("echo", '{"text":"' + "x" * MIB + '"}', '"out"'))
        assert at(read(rig.host.answer("out")), "error", "code") == -32600
        rig.host.send(call("large", request_id='"in"'))
        answer = read(rig.host.answer("in"))
        assert at(answer, "result", "isError") is True
        assert at(answer, "result", "_meta", "dev.soothsayer/step", "acted") == "maybe"
        rig.host.send(request("tools/call", '{"name":"echo","arguments":{}}', "8"))
        assert b'"isError"' not in rig.host.answer(8)
        assert [params["name"] for params in rig.record.calls()] == ["large", "echo"]
