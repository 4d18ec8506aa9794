"""Steps that an earlier policy, or that of another proxy, did not count are in doubt, on the real command."""

import json
from pathlib import Path

from fidelity.rig import Rig, call, step
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, tool

BEFORE = """\
soothsayer: policy/v1
name: late
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
"""
AFTER = (
    BEFORE
    + """\
rules:
  - {deny: "What was read stays here.", id: stays, tools: raw.post, after: "raw.m*"}
  - {deny: "Nothing after a look.", id: looks, tools: raw.send, after: {tools: "raw.*", except: "raw.m*"}}
"""
)
SCRIPT = Script(tools=list(map(tool, ("mail", "post", "send"))))


def said(host: RawHost, name: str, number: int) -> JsonObject:
    host.send(call(name, "{}", str(number)))
    return json.loads(host.answer(number))


def test_a_pattern_that_another_policy_did_not_count_is_in_doubt_for_the_tools_it_means(tmp_path: Path) -> None:
    (tmp_path / "after.yaml").write_text(AFTER, encoding="utf-8")
    with Rig(tmp_path, SCRIPT, policy=BEFORE) as rig:
        rig.host.initialize()
        assert "isError" not in json.dumps(said(rig.host, "mail", 100))
        later = [tmp_path / "after.yaml" if word == tmp_path / "policy.yaml" else word for word in rig.command]
        with RawHost(later, cwd=tmp_path) as other:
            other.initialize()
            refused = said(other, "post", 101)
            assert step(refused)["reason"] == "rule_error"
            assert "late/stays" in json.dumps(rig.entries("step.refused")[-1])
            # It means no tool that was called meanwhile: nothing is in doubt about it.
            assert "isError" not in json.dumps(said(other, "send", 102))


def test_steps_that_the_same_policy_counted_are_known(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=AFTER) as rig:
        rig.host.initialize()
        assert "isError" not in json.dumps(said(rig.host, "post", 100))
        assert "isError" not in json.dumps(said(rig.host, "mail", 101))
        assert step(said(rig.host, "post", 102))["reason"] == "rule_denied"
