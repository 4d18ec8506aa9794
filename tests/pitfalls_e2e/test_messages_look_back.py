"""On the real command: what is no call is decided by what the run of the connection did before."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fidelity.rig import Rig, at, read, request
from soothsayer_mcp.testing.servers import Script, line, result, tool

POLICY = """\
soothsayer: policy/v1
name: back
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels:
  - {tools: raw.mail, does: read}
  - {tools: "raw.own | raw.ask", does: read, trust: first_party}
  - {tools: "raw.@resources/read", trust: first_party}
rules:
  - {deny: "What was read stays here.", id: stays, tools: "raw.@sampling/createMessage", after: raw.mail}
  - {deny: "No resource after a mail.", id: shut, tools: "raw.@resources/read", after: raw.mail}
  - {deny: "No prompt for a run that others may have written to.", id: clean, tools: "raw.@prompts/get", tainted: true}
"""
SAMPLE = '{"jsonrpc":"2.0","id":"s%d","method":"sampling/createMessage","params":{"messages":[],"maxTokens":9}}'


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    script = Script(
        tools=[tool("own"), tool("mail"), tool("ask"), tool("again")],
        on={
            "tool:ask": [line(SAMPLE % 1), result('{"content":[]}')],
            "tool:again": [line(SAMPLE % 2), result('{"content":[]}')],
            "resources/read": [result('{"contents":[{"uri":"docs://a","text":"a"}]}')],
            "prompts/get": [result('{"messages":[]}')],
        },
        capabilities='{"tools":{},"resources":{},"prompts":{}}',
    )
    with Rig(tmp_path, script, policy=POLICY) as one:
        one.host.initialize(capabilities={"sampling": {}})
        yield one


def asks(rig: Rig, method: str, params: str, number: int) -> str:
    """The rule that refuses it; empty when it passes."""
    rig.host.send(request(method, params, str(number)))
    answer = read(rig.host.answer(number))
    return "" if "error" not in answer else json.dumps(answer["error"])


def test_messages_pass_until_the_run_has_done_what_rules_look_for(rig: Rig) -> None:
    assert asks(rig, "resources/read", '{"uri":"docs://a"}', 11) == ""
    # What is read belongs to the run of the calls, which it opens beside that of the self-test.
    assert len(rig.entries("run.opened")) == 2
    rig.host.call("own")
    rig.host.call("ask")
    asked = json.loads(rig.host.message("sampling/createMessage"))
    rig.host.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"role": "assistant"}}))
    assert asks(rig, "resources/read", '{"uri":"docs://a"}', 12) == ""
    assert asks(rig, "prompts/get", '{"name":"p"}', 13) == ""

    rig.host.call("mail")
    assert "back/shut" in asks(rig, "resources/read", '{"uri":"docs://a"}', 14)
    assert "back/clean" in asks(rig, "prompts/get", '{"name":"p"}', 15)
    rig.host.call("again")
    rig.fence()
    assert any(b'"id":"s2"' in told and b"back/stays" in told for told in rig.record.lines)

    checked = rig.entries("message.checked")
    denied = [entry for entry in checked if entry["effect"] == "deny"]
    assert [entry["rules"] for entry in denied] == [["back/shut"], ["back/clean"], ["back/stays"]]
    _, run = rig.entries("run.opened")
    assert [entry["run"] for entry in denied] == [run["run"]] * 3
    assert at(checked[0], "method") == "resources/read"
    assert "run" not in checked[0]


def test_a_run_that_the_host_names_has_a_past_of_its_own(rig: Rig) -> None:
    rig.host.call("mail")
    assert "back/shut" in asks(rig, "resources/read", '{"uri":"docs://a"}', 21)
    unknown = '{"uri":"docs://a","_meta":{"dev.soothsayer/run":"ffff"}}'
    # Nobody can tell what a run has done that is not on record, and what is not known counts against it.
    assert "back/shut" in asks(rig, "resources/read", unknown, 22)
