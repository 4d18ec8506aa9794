"""The control tools, on the real command: the same loop, the caller's own run, and nothing that loosens anything."""

import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest

from fidelity.rig import Rig, at, entries
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import CONTROL
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.proxy.control import TABLE
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, error, tool, wait_until

NAMES = ["soothsayer_run", "soothsayer_open", "soothsayer_why", "soothsayer_result", "soothsayer_complete"]
POLICY = """
soothsayer: policy/v1
name: paying
default: {read: ask, other: ask, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {deny: "Only whom a person named.", id: named, tools: raw.pay, args: {to: {not: {is: "ada"}, absent: ok}}}
  - {allow: "Known ones.", id: known, tools: "raw.*"}
"""
ARGUMENTS: dict[str, JsonObject] = {
    "soothsayer_run": {},
    "soothsayer_open": {"intent": "look around"},
    "soothsayer_why": {"step": "1"},
    "soothsayer_result": {"step": "1"},
    "soothsayer_complete": {},
}
SCRIPT = Script(tools=(tool("echo"), tool("pay"), tool("Soothsayer_Run")), capabilities='{"tools":{}}')


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Generator[Rig]:
    folder = tmp_path_factory.mktemp("control")
    with Rig(folder, SCRIPT, policy=POLICY, words=["--control-tools"]) as made:
        made.host.initialize()
        yield made


def listed(host: RawHost, *, stateless: bool = False) -> list[str]:
    return [str(at(one, "name")) for one in _tools(host, stateless=stateless)]


def _tools(host: RawHost, *, stateless: bool) -> list[JsonObject]:
    return cast("list[JsonObject]", at(host.request("tools/list", {}, stateless=stateless), "result", "tools"))


def told(answer: JsonObject) -> JsonObject:
    return cast("JsonObject", at(answer, "result", "structuredContent"))


def reason(answer: JsonObject) -> object:
    return at(answer, "result", "_meta", "dev.soothsayer/step", "reason")


@pytest.mark.parametrize("stateless", [False, True])
def test_they_are_listed_after_the_servers_and_a_tool_of_such_a_name_is_hidden_and_reported(
    rig: Rig, *, stateless: bool
) -> None:
    assert [one.name for one in TABLE] == NAMES
    assert listed(rig.host, stateless=stateless) == ["echo", "pay", *NAMES]
    assert reason(rig.host.call("Soothsayer_Run", stateless=stateless)) == "tool_unknown"
    assert rig.record.calls("Soothsayer_Run") == []
    said = "'Soothsayer_Run' is not shown: a tool of ours has its name"
    wait_until(lambda: said in rig.host.stderr, "the notice that it is hidden")


def test_without_the_switch_there_are_none_and_the_servers_own_tool_is_shown(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY) as off:
        off.host.initialize()
        assert listed(off.host) == ["echo", "pay", "Soothsayer_Run"]
        assert reason(off.host.call("soothsayer_complete")) == "tool_unknown"


def test_each_is_decided_by_policy_and_refused_like_any_tool_before_it_does_anything(tmp_path: Path) -> None:
    policy = POLICY + f'  - {{deny: "Not by the model.", id: not-by-model, tools: "{CONTROL}.*"}}\n'
    with Rig(tmp_path, SCRIPT, policy=policy, words=["--control-tools"]) as strict:
        strict.host.initialize()
        assert listed(strict.host) == ["echo", "pay"]
        for name in NAMES:
            answer = strict.host.call(name, ARGUMENTS[name])
            assert reason(answer) == "rule_denied"
            assert "paying/not-by-model: Not by the model." in str(answer)
            wrong = strict.host.call(name, {**ARGUMENTS[name], "approved": True})
            assert reason(wrong) == "arguments_invalid"
        found = strict.entries()
    for name in NAMES:
        refused = [entry for entry in found if entry.get("tool") == name]
        assert [(entry["kind"], entry["cause"]) for entry in refused] == [("step.refused", "control")] * 2
    assert [entry for entry in found if entry["kind"] == "run.changed"] == []


def test_each_is_a_step_with_an_intent_and_an_outcome(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY, words=["--control-tools"]) as own:
        own.host.initialize()
        for name in NAMES:
            assert "result" in own.host.call(name, ARGUMENTS[name])
        run = next(entry["run"] for entry in own.entries("step.intent"))
        steps = [(entry["kind"], entry["no"]) for entry in own.entries() if entry.get("run") == run and "no" in entry]
        assert steps == [(kind, no) for no in range(1, len(NAMES) + 1) for kind in ("step.intent", "step.outcome")]
        assert own.record.calls() == []
    assert verify([own.state]).holds


def test_a_rule_that_mistypes_the_name_of_one_does_not_load(tmp_path: Path) -> None:
    policy = POLICY + f'  - {{deny: "Not by the model.", tools: {CONTROL}.soothsayer_rum}}\n'
    with Rig(tmp_path, SCRIPT, policy=policy, words=["--control-tools"]) as wrong:
        assert wrong.host.exit_code() == 2
        assert 'the server soothsayer has no tool "soothsayer_rum"; did you mean "soothsayer_run"?' in wrong.host.stderr


@pytest.mark.pitfall("P-RUN-08")
def test_what_the_model_says_its_run_is_for_changes_no_decision_and_is_kept_as_its_own_words(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY, words=["--control-tools", "--intent", "pay Ada"]) as own:
        own.host.initialize()
        assert reason(own.host.call("pay", {"to": "eve"})) == "rule_denied"
        said = own.host.call("soothsayer_open", {"intent": "may pay anyone"})
        assert told(said)["intent"] == {"text": "pay Ada", "declared_by": "human"}
        refused = own.host.call("pay", {"to": "eve"})
        assert reason(refused) == "rule_denied"
        assert own.record.calls("pay") == []
        steps = [entry for entry in own.entries("step.refused") if entry["tool"] == "pay"]
        assert len({str((entry["effect"], entry["rules"], entry["reason"])) for entry in steps}) == 1
        [words] = own.entries("run.changed")
        assert (words["what"], words["declared_by"]) == ("intent", "agent")


def test_it_sees_only_the_run_of_its_own_call(rig: Rig) -> None:
    rig.host.call("echo", {"of": "the other run"})
    state = Path(rig.state)
    other = next(entry["run"] for entry in entries(state, "run.opened") if entry["automatic"] is True)
    assert isinstance(other, str)
    elsewhere = rig.folder / "elsewhere"
    elsewhere.mkdir()
    words = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--control-tools", "--state", str(state)]
    with RawHost(words, cwd=elsewhere) as host:
        assert at(host.initialize(), "result", "capabilities") == {"tools": {}}
        assert listed(host) == NAMES
        assert listed(host, stateless=True) == NAMES
        discovered = host.request("server/discover", {}, stateless=True)
        assert at(discovered, "result", "capabilities") == {"tools": {}}
        mine = told(host.call("soothsayer_run"))
        assert mine["run"] != other[:4]
        answer = host.call("soothsayer_why", {"step": f"{other[:4]}.1"})
        assert at(answer, "result", "isError") is True
        assert "echo" not in json.dumps(answer)
        assert reason(host.call("echo")) == "tool_unknown"


def test_a_refusal_is_explained_and_a_run_that_owes_something_is_not_completed(tmp_path: Path) -> None:
    script = Script(
        tools=(tool("echo"), tool("lies", outputSchema={"type": "object", "required": ["n"]})),
        on={
            "tool:lies": [
                {"do": "line", "text": '{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"structuredContent":{}}}'}
            ]
        },
    )
    with Rig(tmp_path, script, policy=POLICY, words=["--control-tools"]) as own:
        own.host.initialize()
        lied = own.host.call("lies")
        step = at(lied, "result", "_meta", "dev.soothsayer/step", "step")
        explained = own.host.call("soothsayer_why", {"step": str(step)})
        assert told(explained) == {
            "step": step,
            "outcome": "failed",
            "acted": "yes",
            "reason": "result_schema",
            "class": "verification_failed",
        }
        asked = own.host.call("soothsayer_complete")
        assert at(asked, "result", "isError") is True
        assert told(asked)["state"] == "open"
        assert told(asked)["missing"] == [f"step {step}: its check schema:output is broken"]
        assert told(own.host.call("soothsayer_run"))["missing"] == told(asked)["missing"]
        assert "isError" not in str(own.host.call("echo"))


def test_a_completed_run_takes_no_more_calls_and_the_next_one_opens_another(rig: Rig) -> None:
    first = told(rig.host.call("soothsayer_run"))["run"]
    done = rig.host.call("soothsayer_complete")
    assert told(done)["state"] == "completed"
    assert "Stop: run is completed." in str(done)
    assert told(rig.host.call("soothsayer_run"))["run"] != first


def test_a_paused_run_can_still_be_asked_about_and_cannot_be_resumed_by_the_model(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY, words=["--control-tools"]) as own:
        own.host.initialize()
        run = told(own.host.call("soothsayer_run"))["run"]
        import_state = [sys.executable, "-m", "soothsayer_mcp", "run", "pause", str(run), "--state", str(own.state)]
        with RawHost(import_state) as pause:
            assert pause.exit_code() == 0
        assert reason(own.host.call("echo")) == "run_paused"
        assert told(own.host.call("soothsayer_run"))["state"] == "paused"
        for name in ("soothsayer_open", "soothsayer_complete"):
            assert at(own.host.call(name, ARGUMENTS[name]), "result", "isError") is True
        assert told(own.host.call("soothsayer_run"))["state"] == "paused"
        assert reason(own.host.call("echo")) == "run_paused"


def test_before_several_servers_and_one_without_tools_they_come_last_and_keep_their_names(tmp_path: Path) -> None:
    refusing = Script(
        name="bare",
        capabilities='{"resources":{}}',
        on={"tools/list": [error('{"code":-32601,"message":"Method not found"}')]},
    )
    commands = {"raw": SCRIPT.command(tmp_path), "bare": refusing.command(tmp_path)}
    for names, wanted in (
        (("raw", "bare"), ["raw__echo", "raw__pay", "raw__Soothsayer_Run", *NAMES]),
        (("bare",), NAMES),
    ):
        config = {
            "soothsayer": "config/v1",
            "control_tools": True,
            "mcpServers": {name: {"command": commands[name][0], "args": commands[name][1:]} for name in names},
        }
        (tmp_path / "soothsayer.yaml").write_text(json.dumps(config), encoding="utf-8")
        with Rig(tmp_path, config=tmp_path / "soothsayer.yaml") as rig:
            assert "tools" in cast("JsonObject", at(rig.host.initialize(), "result", "capabilities"))
            assert listed(rig.host) == wanted
            assert listed(rig.host, stateless=True) == wanted
            assert told(rig.host.call("soothsayer_run"))["state"] == "open"
