"""Budgets on the real command: failing is not free, and refused calls spend nothing but their own limit."""

import json
from pathlib import Path

import pytest

from fidelity.rig import Rig, call, step
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import Script, error, result, tool

POLICY = """\
soothsayer: policy/v1
name: spare
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules: [{deny: "Never.", id: never, tools: raw.never}]
budgets: {BUDGETS}
"""
SCRIPT = Script(
    tools=list(map(tool, ("fine", "never", "broken", "unwell"))),
    on={
        "tool:broken": [error('{"code":-32000,"message":"no"}')],
        "tool:unwell": [result('{"isError":true,"content":[{"type":"text","text":"no"}]}')],
    },
)


def said(rig: Rig, name: str, number: int) -> JsonObject:
    rig.host.send(call(name, f'{{"n":{number}}}', str(number)))
    return json.loads(rig.host.answer(number))


def rig_with(folder: Path, budgets: str) -> Rig:
    return Rig(folder, SCRIPT, policy=POLICY.replace("BUDGETS", budgets))


@pytest.mark.pitfall("P-RUN-02")
def test_ten_calls_that_fail_are_ten_calls(tmp_path: Path) -> None:
    with rig_with(tmp_path, "calls: 10") as rig:
        rig.host.initialize()
        assert all("error" in said(rig, "broken", number) for number in range(100, 110))
        eleventh = said(rig, "broken", 110)
        assert step(eleventh)["reason"] == "budget_spent"
        assert "the budget calls (10 of 10) is used up" in json.dumps(eleventh)
        assert "Stop: the budget calls is used up (10 of 10). Make no more calls." in json.dumps(eleventh)
        assert step(said(rig, "fine", 111))["reason"] == "run_paused"
        assert len(rig.record.calls()) == 10
        assert rig.entries("step.refused")[-2]["next"] == "stop"
        assert rig.entries("run.changed")[-1]["to"] == "paused"


@pytest.mark.pitfall("P-RUN-07")
def test_refused_calls_spend_a_limit_of_their_own(tmp_path: Path) -> None:
    with rig_with(tmp_path, "calls: 10, denials: 51") as rig:
        rig.host.initialize()
        assert all(step(said(rig, "never", number))["reason"] == "rule_denied" for number in range(100, 150))
        assert "error" not in said(rig, "fine", 150)
        assert len(rig.record.calls()) == 1
        last = said(rig, "never", 151)
        assert "Stop: the budget denials is used up (51 of 51)." in json.dumps(last)
        assert step(said(rig, "fine", 152))["reason"] == "run_paused"


def test_errors_one_after_the_other_pause_the_run_and_the_answer_says_so(tmp_path: Path) -> None:
    with rig_with(tmp_path, "error_streak: 3") as rig:
        rig.host.initialize()
        for number, name in enumerate(("unwell", "broken", "fine", "unwell", "broken")):
            assert "Stop:" not in json.dumps(said(rig, name, 100 + number))
        third = said(rig, "unwell", 105)
        assert "Stop: 3 calls failed one after the other. Make no more calls." in json.dumps(third)
        assert step(said(rig, "fine", 106))["reason"] == "run_paused"
