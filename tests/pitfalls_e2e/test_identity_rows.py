"""Who a server is: its command line belongs to it, whatever name stands over it."""

import json
from pathlib import Path

import pytest

from fidelity.rig import Rig, at, call, entries, read
from soothsayer_mcp.testing.servers import Script, tool

POLICY = """\
soothsayer: policy/v1
name: moved
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
pins: {changed: ask}
rules: [{ask: "A person sends mail.", id: mail, tools: raw.mail, remember: run}]
"""


def approved(rig: Rig, number: int) -> str:
    """Call under a number, say yes to the question that comes, and give the question."""
    rig.host.send(call("mail", '{"to":"ada"}', str(number)))
    question = read(rig.host.message("elicitation/create"))
    rig.host.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {}}})
    assert "isError" not in json.dumps(read(rig.host.answer(number)))
    return str(at(question, "params", "message"))


@pytest.mark.pitfall("P-IDENT-02")
def test_another_command_under_the_same_name_is_asked_about_again_and_said_to_be_another(tmp_path: Path) -> None:
    script = Script(tools=[tool("mail")])
    with Rig(tmp_path, script, policy=POLICY) as rig:
        rig.host.initialize(capabilities={"elicitation": {}})
        assert "changed" not in approved(rig, 11)
    with Rig(tmp_path, script, policy=POLICY, command=["env", *script.command(tmp_path)]) as rig:
        rig.host.initialize(capabilities={"elicitation": {}})
        assert "the command or address of the tool's server changed" in approved(rig, 12)
    changed = entries(tmp_path / "state", "server.changed")
    assert [entry["server"] for entry in changed] == ["raw"]
    assert len(rig.record.calls()) == 2
