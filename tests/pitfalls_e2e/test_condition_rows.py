"""Conditions on the real command: a doubt never opens anything, and a policy without one never loads the library."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import soothsayer
from fidelity.rig import Rig, call, step
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, tool

CONDITIONED = """\
soothsayer: policy/v1
name: conditioned
default: {read: deny, other: deny, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels:
  - {tools: raw.weighed, does: send}
risk:
  - {add: 40, because: "it sends", does: send}
  - {add: 30, because: "to an outsider", args: {to: {not: {email_domain: acme.test}}}}
  - {add: 20, because: "at length", when: 'args.body.size() > 5'}
rules:
  - {allow: "When small.", id: small, tools: raw.allowed, when: 'args.num < 10'}
  - {allow: "All of it.", id: all, tools: "raw.denied | raw.asked | raw.looped | raw.weighed"}
  - {deny: "Unless small.", id: large, tools: raw.denied, when: 'args.num >= 10'}
  - {ask: "Unless small.", id: look, tools: raw.asked, when: 'args["num"] >= 10'}
  - {allow: "Exact.", id: exact, tools: raw.exact, args: {num: {is: 9007199254740993}}}
  - {deny: "Slow.", id: loops, tools: raw.looped, when: 'args.x.all(a, args.x.all(b, args.x.all(c, args.x.all(d,
      args.x.all(e, args.x.all(f, a == f))))))'}
  - {ask: "Risky.", id: risky, tools: raw.weighed, risk: {at_least: 90}}
"""
TOOLS = ("allowed", "denied", "asked", "exact", "looped", "weighed")
TWO_TO_70 = "1180591620717411303424"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig(tmp_path_factory.mktemp("conditions"), Script(tools=list(map(tool, TOOLS))), policy=CONDITIONED) as one:
        one.host.initialize()
        yield one


class Sent:
    """What became of one call, spelt as given."""

    number = 100

    def __init__(self, rig: Rig, name: str, arguments: str) -> None:
        Sent.number += 1
        before = len(rig.record.calls())
        rig.host.send(call(name, arguments, str(Sent.number)))
        self.answer: JsonObject = json.loads(rig.host.answer(Sent.number))
        self.arrived = rig.record.calls()[before:]
        entries = [entry for entry in rig.entries() if entry["kind"] in {"step.intent", "step.refused", "step.asked"}]
        self.entry = entries[-1]


@pytest.mark.pitfall("P-POLICY-01")
@pytest.mark.parametrize("arguments", ["{}", f'{{"num":{TWO_TO_70}}}', '{"num":"deny"}'])
def test_an_error_in_a_condition_is_no_yes(rig: Rig, arguments: str) -> None:
    allowed, denied = Sent(rig, "allowed", arguments), Sent(rig, "denied", arguments)
    assert (allowed.arrived, denied.arrived) == ([], [])
    assert step(allowed.answer)["reason"] == "no_rule"
    assert step(denied.answer)["reason"] == "rule_error"
    rules = str(denied.entry["rules"])
    assert "conditioned/large" in rules
    assert "the condition cannot be evaluated" in rules


@pytest.mark.pitfall("P-POLICY-02")
def test_a_rule_that_cannot_be_evaluated_stays(rig: Rig) -> None:
    denied, asked = Sent(rig, "denied", '{"m":1}'), Sent(rig, "asked", '{"m":1}')
    assert (denied.arrived, asked.arrived) == ([], [])
    assert (denied.entry["effect"], asked.entry["effect"]) == ("deny", "ask")
    for sent, rule in ((denied, "conditioned/large"), (asked, "conditioned/look")):
        assert rule in str(sent.entry["rules"])
        assert 'Key not found in map : \\"num\\"' in json.dumps(sent.entry["rules"])
    assert len(Sent(rig, "denied", '{"num":1}').arrived) == len(Sent(rig, "asked", '{"num":1}').arrived) == 1


@pytest.mark.pitfall("P-PARSE-10")
def test_no_number_is_rounded_before_it_is_judged_or_sent(rig: Rig) -> None:
    exact = Sent(rig, "exact", '{"num":9007199254740993}')
    assert len(exact.arrived) == 1
    assert b'{"num":9007199254740993}' in rig.last
    assert Sent(rig, "exact", '{"num":9007199254740992}').arrived == []
    assert Sent(rig, "allowed", f'{{"num":{TWO_TO_70}}}').arrived == []
    assert len(Sent(rig, "allowed", '{"num":9}').arrived) == 1
    before = len(rig.record.calls())
    rig.host.send(call("allowed", '{"num":NaN}', "1"))
    assert b'"code":-32700' in rig.host.line()
    assert len(rig.record.calls()) == before


def test_a_loop_past_its_budget_is_a_doubt_in_the_record(rig: Rig) -> None:
    sent = Sent(rig, "looped", json.dumps({"x": [1] * 200}))
    assert sent.arrived == []
    assert "its loops take too many turns" in str(sent.entry["rules"])


def test_the_record_and_the_pages_hold_every_term_of_the_risk(rig: Rig) -> None:
    low = Sent(rig, "weighed", '{"to":"a@acme.test","body":"hello"}')
    assert len(low.arrived) == 1
    assert low.entry["risk"] == {"score": 40, "terms": [["it sends", 40]]}
    high = Sent(rig, "weighed", '{"to":"eve@evil.test","body":"hello, eve"}')
    assert (high.entry["effect"], high.arrived) == ("ask", [])
    terms = [["at length", 20], ["it sends", 40], ["to an outsider", 30]]
    assert high.entry["risk"] == {"score": 90, "terms": terms}
    doubt = Sent(rig, "weighed", '{"to":"eve@evil.test"}')
    assert doubt.entry["effect"] == "ask"
    assert str(doubt.entry["risk"]).startswith("{'score': 90, 'low': 70, 'terms': [['at length', 20, 'the condition")

    def said(*words: str) -> str:
        done = soothsayer(*words, "--state", rig.state)
        assert done.code == 0, done.err
        return done.out

    page = said("show", str(step(high.answer)["step"]))
    assert "; risk 90; policy conditioned@" in page
    for because, points in terms:
        assert f"risk +{points}: {because}" in page
    figures = json.loads(said("stats", "--json", "tool:raw.weighed"))
    assert figures["figures"]["risk"] == {"steps": 3, "mean": 73.3, "max": 90}
    assert "73 on average over 3 steps, 90 at most" in said("stats", "tool:raw.weighed")
    assert said("log", "risk:>=90").count("raw.weighed") == 2


RUN = """
import sys
from soothsayer_mcp.__main__ import run
code = run(sys.argv[1:])
print("with conditions:", "cel_expr_python" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


def test_only_a_policy_with_a_condition_for_the_tool_loads_the_library(tmp_path: Path) -> None:
    """Each start twice: what checks a policy for the first time compiles its conditions, what keeps it need not."""
    plain = "soothsayer: policy/v1\nname: plain\ndefault: {read: allow, other: allow}\narguments: {undeclared: allow}\n"
    policies = {
        "plain": plain + 'rules: [{deny: "No.", args: {num: 5}}]\n',
        "other": plain + """servers: {other: {}}\nrules: [{deny: "No.", tools: other.*, when: 'args.num == 5'}]\n""",
        "conditioned": plain + """rules: [{deny: "No.", when: 'args.num == 5'}]\n""",
    }
    loaded: dict[str, list[bool]] = {}
    for name, text in policies.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "policy.yaml").write_text(text, encoding="utf-8")
        for _ in range(1 if name == "plain" else 2):
            command = [sys.executable, "-c", RUN, "proxy", "--state", folder / "state"]
            command += ["--policy", folder / "policy.yaml", "--", *Script().command(folder)]
            with RawHost(command, cwd=folder) as host:
                host.initialize()
                assert "isError" not in str(host.call("echo", {"num": 6}))
                host.end_input()
                assert host.exit_code() == 0
                loaded.setdefault(name, []).append("with conditions: True" in host.stderr)
                assert "with conditions: " in host.stderr
    assert loaded == {"plain": [False], "other": [True, False], "conditioned": [True, True]}
