"""What follows a step, on the real command: rules about failures, unsettled writes, and when to compact."""

import json
from pathlib import Path

from fidelity.rig import Rig, call, step
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import Script, result, tool

POLICY = """\
soothsayer: policy/v1
name: following
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels: [{tools: "raw.fine | raw.unwell", does: read}]
rules:
  - deny: "Nobody touches this."
    tools: raw.trap
    on_failure: {policy_denied: stop}
  - also: "What fails here is looked at by a person."
    tools: raw.unwell
    on_failure: {tool_error: fail, tool_error/tool_failed: pause}
  - {also: "It has little time.", tools: "raw.quiet", limit: {timeout: 300ms}}
NEXT
"""
SCRIPT = Script(
    tools=list(map(tool, ("fine", "trap", "unwell", "quiet"))),
    on={
        "tool:unwell": [result('{"isError":true,"content":[{"type":"text","text":"no"}]}')],
        "tool:quiet": [],
    },
)


def said(rig: Rig, name: str, number: int) -> JsonObject:
    rig.host.send(call(name, f'{{"n":{number}}}', str(number)))
    return json.loads(rig.host.answer(number))


def rig_with(folder: Path, more: str = "") -> Rig:
    return Rig(folder, SCRIPT, policy=POLICY.replace("NEXT", more))


def test_a_denied_call_stops_its_run_where_the_rule_says_so(tmp_path: Path) -> None:
    with rig_with(tmp_path) as rig:
        rig.host.initialize()
        denied = json.dumps(said(rig, "trap", 100))
        assert "Nobody touches this." in denied
        assert "Stop: policy says stop on policy_denied/rule_denied. Make no more calls." in denied
        assert step(said(rig, "fine", 101))["reason"] == "run_closed"
        assert rig.entries("run.changed")[-1]["to"] == "stopped"


def test_an_error_pauses_where_the_rule_is_milder_about_that_reason(tmp_path: Path) -> None:
    with rig_with(tmp_path) as rig:
        rig.host.initialize()
        told = said(rig, "unwell", 100)
        assert "Stop: policy says pause on tool_error/tool_failed. Make no more calls." in json.dumps(told)
        assert step(said(rig, "fine", 101))["reason"] == "run_paused"


def test_a_write_of_which_nobody_knows_whether_it_happened_pauses_where_policy_says_so(tmp_path: Path) -> None:
    with rig_with(tmp_path, "run: {unsettled: pause}") as rig:
        rig.host.initialize()
        told = said(rig, "quiet", 100)
        assert step(told)["reason"] == "call_timeout"
        assert "Stop: it is not known whether raw.quiet happened. Make no more calls." in json.dumps(told)
        assert step(said(rig, "fine", 101))["reason"] == "run_paused"


def test_a_host_is_told_to_compact_and_the_counts_begin_anew(tmp_path: Path) -> None:
    with rig_with(tmp_path, "next: {compact_after: {calls: 4}, compact_when: run.calls_since_compact >= 2}") as rig:
        rig.host.initialize()
        told = [
            "Compact: the policy's condition for it holds." in json.dumps(said(rig, "fine", 100 + n)) for n in range(5)
        ]
        assert told == [False, True, False, True, False]
        assert [entry["next"] for entry in rig.entries("step.outcome")][1] == "compact"
