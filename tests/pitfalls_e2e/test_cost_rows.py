"""Declared cost, questions and calls of some tools, on the real command: the last unit is used once."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from fidelity.rig import Rig, at, call, step
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, tool, wait_path

POLICY = """\
soothsayer: policy/v1
name: costly
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels: [{tools: "raw.slow | raw.pay", does: pay, cost: args.n}, {tools: raw.flat, does: read, cost: 0.5}]
rules: [{ask: "A person looks.", tools: raw.asked}]
budgets: {cost: 1000, asks: 0, tools: {"raw.f*": {calls: 2}}}
"""


def rig_in(folder: Path) -> Rig:
    script = Script(
        tools=list(map(tool, ("slow", "pay", "flat", "asked", "fine"))),
        on={"tool:slow": [wait_path(folder / "go"), {"do": "echo"}]},
    )
    return Rig(folder, script, policy=POLICY)


def said(rig: Rig, name: str, number: int, arguments: str = "{}") -> JsonObject:
    rig.host.send(call(name, arguments, str(number)))
    return json.loads(rig.host.answer(number))


def is_done(answer: JsonObject) -> bool:
    result = answer.get("result")
    return isinstance(result, dict) and result.get("isError") is not True


@pytest.mark.pitfall("P-RUN-01")
def test_three_calls_of_three_processes_do_not_share_what_two_may_spend(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig, ExitStack() as others:
        hosts = [rig.host, *(others.enter_context(RawHost(rig.command, cwd=tmp_path)) for _ in range(2))]
        for host in hosts:
            host.initialize()
        for number, host in enumerate(hosts):
            host.send(call("slow", '{"n":400}', str(100 + number)))
        (tmp_path / "go").touch()
        answers = [json.loads(host.answer(100 + number)) for number, host in enumerate(hosts)]
        refused = [answer for answer in answers if not is_done(answer)]
        assert [(step(one)["class"], step(one)["reason"]) for one in refused] == [
            ("timeout_or_budget_exceeded", "budget_spent")
        ]
        assert "the budget cost (800 of 1,000, and this call costs 400) is used up" in json.dumps(refused)
        # What is left is still there, and what is used up ends the run.
        assert is_done(said(rig, "pay", 110, '{"n":200}'))
        assert "Stop: the budget cost is used up" in json.dumps(said(rig, "pay", 111, '{"n":0.01}'))
        assert step(said(rig, "fine", 112))["reason"] == "run_paused"


def test_a_cost_that_is_no_number_is_used_up_and_a_figure_counts_for_every_call(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        rig.host.initialize()
        for number, odd in enumerate(('{"n":"12"}', "{}", '{"n":-5}', '{"n":1e300}')):
            refused = said(rig, "pay", 100 + number, odd)
            assert "the budget cost (what this call costs is not known) is used up" in json.dumps(refused)
        assert is_done(said(rig, "flat", 110))
        assert "(0.5 of 1,000, and this call costs 999.6)" in json.dumps(said(rig, "pay", 111, '{"n":999.6}'))
        assert is_done(said(rig, "pay", 112, '{"n":999.5}'))


def test_tools_that_are_counted_together_are_refused_and_others_go_on(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        rig.host.initialize()
        assert is_done(said(rig, "flat", 100))
        assert is_done(said(rig, "fine", 101))
        third = said(rig, "flat", 102)
        assert "the budget tools for raw.f* (2 of 2) is used up" in json.dumps(third)
        assert "Stop:" not in json.dumps(third)
        assert is_done(said(rig, "pay", 103, '{"n":1}'))


def test_the_model_is_told_what_is_left_of_the_budgets_of_its_tools(tmp_path: Path) -> None:
    script = Script(tools=(tool("flat"), tool("fine")))
    with Rig(tmp_path, script, policy=POLICY, words=["--control-tools"]) as rig:
        rig.host.initialize()
        assert "calls of raw.f* 2 of 2" in json.dumps(said(rig, "soothsayer_run", 100))
        assert is_done(said(rig, "flat", 101))
        told = said(rig, "soothsayer_run", 102)
        assert "calls of raw.f* 1 of 2" in json.dumps(told)
        budgets = at(told, "result", "structuredContent", "budgets")
        assert at(budgets, "calls of raw.f*") == {"used": 1, "most": 2}


def test_run_show_tells_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with rig_in(tmp_path) as rig:
        rig.host.initialize()
        assert is_done(said(rig, "pay", 100, '{"n":400}'))
        name = str(rig.entries("run.opened")[-1]["run"])
        assert run(("run", "show", name, "--state", str(rig.state))) == 0
        shown = capsys.readouterr().out
        assert "asks: 0 of 0 left" in shown
        assert "cost_micro: 600,000,000 of 1,000,000,000 left" in shown


def test_no_more_questions_than_the_budget_has_reach_a_person(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        rig.host.initialize(capabilities={"elicitation": {}})
        refused = said(rig, "asked", 100)
        assert step(refused)["reason"] == "budget_spent"
        assert "the budget asks (0 of 0) is used up" in json.dumps(refused)
        assert not rig.entries("approval.asked")


def test_what_is_left_of_tools_together_is_told_to_people_and_to_a_host_that_compacts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script(tools=[tool("flat")], on={"tool:flat": [{"do": "echo"}]})
    with Rig(tmp_path, script, policy=POLICY + "next: {compact_after: {calls: 1}}\n") as rig:
        rig.host.initialize()
        assert "- calls of raw.f* 1 of 2" in json.dumps(said(rig, "flat", 100))
        number = str(rig.entries("step.outcome")[-1]["run"])
    capsys.readouterr()
    assert int(run(["run", "show", number, "--state", str(tmp_path / "state")])) == 0
    assert "calls of raw.f*: 1 of 2 left" in capsys.readouterr().out
