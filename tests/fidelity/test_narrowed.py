"""A server of the real command is shown what the host declared, less what policy refuses whatever it asks."""

from pathlib import Path

import pytest

from fidelity.rig import Rig, at, call
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import STATELESS_META
from soothsayer_mcp.wire.eras import META_CLIENT_CAPABILITIES

DENYING = """\
soothsayer: policy/v1
name: denying
%sdefault: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {deny: "No model of the host's.", id: sampling, tools: "raw.@sampling/createMessage"}
"""
DECLARED: JsonObject = {"sampling": {"tools": {}}, "elicitation": {}, "roots": {"listChanged": True}}
LESS: JsonObject = {"elicitation": {}, "roots": {"listChanged": True}}


@pytest.mark.parametrize(("mode", "shown"), [("", LESS), ("mode: observe\n", DECLARED)], ids=["enforce", "observe"])
def test_what_policy_refuses_outright_is_not_offered_to_a_server(mode: str, shown: JsonObject, tmp_path: Path) -> None:
    with Rig(tmp_path, policy=DENYING % mode) as rig:
        rig.host.initialize(capabilities=DECLARED)
        rig.fence()
        meta: JsonObject = {**STATELESS_META, META_CLIENT_CAPABILITIES: DECLARED}
        params: JsonObject = {"name": "echo", "arguments": {}, "_meta": meta}
        assert "result" in rig.host.request("tools/call", params)
        rig.host.send(call("echo", request_id='"last"'))
        rig.host.answer("last")
    [opening] = [message for message in rig.record.messages if message.get("method") == "initialize"]
    assert at(opening, "params", "capabilities") == shown
    stateless = rig.record.calls("echo")[0]
    assert at(stateless, "_meta", META_CLIENT_CAPABILITIES) == shown
