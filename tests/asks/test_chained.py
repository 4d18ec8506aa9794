"""A proxy behind a proxy: each asks its own question, in either era, and the call runs once both had a yes."""

import json
import sys
from pathlib import Path
from typing import cast

import pytest

from asks.test_asking_a_host import META, OFFERS, accepted, respond
from fidelity.rig import Rig, at, read
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import Script, result, tool

PASSING = """\
soothsayer: policy/v1
name: passing
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
"""
ASKING = """\
soothsayer: policy/v1
name: %s
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {ask: "%s looks first.", id: look, tools: "%s.send"}
"""
SCRIPT = Script(tools=[tool("send")], on={"tool:send": [result('{"content":[{"type":"text","text":"sent"}]}')]})


@pytest.fixture
def inner(tmp_path: Path) -> list[str | Path]:
    """The command of the proxy next to the server."""
    (tmp_path / "inner.yaml").write_text(ASKING % ("inner", "The inner one", "raw"), encoding="utf-8")
    command = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--state", tmp_path / "inner", "--name", "raw"]
    return [*command, "--policy", tmp_path / "inner.yaml", "--", *SCRIPT.command(tmp_path)]


def chained(folder: Path, inner: list[str | Path]) -> Rig:
    return Rig(folder, SCRIPT, policy=ASKING % ("outer", "The outer one", "raw"), command=inner)


def test_two_proxies_in_a_row_ask_by_forms_one_after_the_other(tmp_path: Path, inner: list[str | Path]) -> None:
    with chained(tmp_path, inner) as rig:
        rig.host.initialize(capabilities=OFFERS)
        name = rig.host.ask("tools/call", {"name": "send", "arguments": {"to": "ann"}})
        for who in ("The outer one", "The inner one"):
            question = read(rig.host.message("elicitation/create"))
            assert who in str(at(question, "params", "message"))
            assert rig.record.calls() == []
            respond(rig, question, "accept")
        assert at(read(rig.host.answer(name)), "result", "content", 0, "text") == "sent"
    assert len(rig.record.calls()) == 1


def test_two_proxies_in_a_row_ask_by_states_one_after_the_other(tmp_path: Path, inner: list[str | Path]) -> None:
    with chained(tmp_path, inner) as rig:
        params: JsonObject = {"name": "send", "arguments": {"to": "ann"}, "_meta": META}
        more: JsonObject = {}
        for who in ("The outer one", "The inner one"):
            asked = rig.host.request("tools/call", {**params, **more})
            assert at(asked, "result", "resultType") == "input_required", asked
            assert who in json.dumps(at(asked, "result", "inputRequests"))
            assert rig.record.calls() == []
            more = cast("JsonObject", accepted(at(asked, "result", "requestState")))
        answer = rig.host.request("tools/call", {**params, **more})
        assert at(answer, "result", "content", 0, "text") == "sent", answer
    assert len(rig.record.calls()) == 1


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_a_proxy_that_asks_nothing_carries_the_question_of_the_one_behind_it(
    mode: str, tmp_path: Path, inner: list[str | Path]
) -> None:
    """The state of the other begins like its own, and is neither opened nor refused."""
    with Rig(tmp_path, SCRIPT, policy=PASSING, command=inner, words=["--mode", mode]) as rig:
        params: JsonObject = {"name": "send", "arguments": {"to": "ann"}, "_meta": META}
        asked = rig.host.request("tools/call", params)
        assert "The inner one" in json.dumps(at(asked, "result", "inputRequests"))
        state = at(asked, "result", "requestState")
        other = rig.host.request("tools/call", {**params, "name": "other", **accepted(state)})
        assert "sent" not in json.dumps(other)
        assert rig.record.calls() == []
        answer = rig.host.request("tools/call", {**params, **accepted(state)})
        assert at(answer, "result", "content", 0, "text") == "sent", answer
        forged = rig.host.request("tools/call", {**params, **accepted("soothsayer.1.x.y")})
        assert at(forged, "error", "code") == -32602
    assert len(rig.record.calls()) == 1
