"""Calls with a key are sent once, whatever run or process they come from, unless the earlier one had no effect."""

import json
import signal
from pathlib import Path

import pytest

from fidelity.rig import Rig, call, read, step
from policy_kit import judge, policy_from
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, die, echo, tool, wait_path, wait_until

POLICY = """\
soothsayer: policy/v1
name: once
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels:
  - {tools: "raw.pay | raw.die | raw.hang", does: pay, idempotency: args.reference, touches: account}
  - {tools: "raw.get", does: read, idempotency: args.reference}
rules: [{also: "Little time.", tools: raw.hang, limit: {timeout: 300ms}}]
"""


def rig_in(folder: Path) -> Rig:
    script = Script(
        tools=list(map(tool, ("pay", "die", "hang", "get"))),
        on={
            "tool:pay": [echo()],
            "tool:get": [echo()],
            "tool:hang": [wait_path(folder / "never")],
            "tool:die": [die()],
        },
    )
    return Rig(folder, script, policy=POLICY)


def said(host: RawHost, name: str, number: int, reference: object = "r1", amount: int = 1) -> JsonObject:
    arguments: dict[str, object] = {"amount": amount}
    if reference is not None:
        arguments["reference"] = reference
    host.send(call(name, json.dumps(arguments), str(number)))
    return read(host.answer(number))


def is_sent(answer: JsonObject) -> bool:
    result = answer.get("result")
    return isinstance(result, dict) and result.get("isError") is not True


def test_the_same_key_is_sent_once_over_arguments_runs_processes_and_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with rig_in(tmp_path) as rig:
        rig.host.initialize()
        assert is_sent(said(rig.host, "pay", 100))
        again = said(rig.host, "pay", 101, amount=2)
        assert step(again)["reason"] == "duplicate_call"
        assert "had the same key" in json.dumps(again)
        assert step(said(rig.host, "pay", 102))["reason"] == "duplicate_call"
        # Another key, one of another type, another tool, and none at all are other calls.
        for number, (name, reference) in enumerate(
            [("pay", "r2"), ("pay", 1), ("pay", "1"), ("pay", None), ("get", "r1")]
        ):
            assert is_sent(said(rig.host, name, 110 + number, reference)), (name, reference)
        rig.host.signal(signal.SIGKILL)
        rig.host.exit_code()
        with RawHost(rig.command, cwd=tmp_path) as other:
            other.initialize()
            assert step(said(other, "pay", 120))["reason"] == "duplicate_call"
        monkeypatch.chdir(tmp_path)
        assert int(run(["run", "open", "--state", str(rig.state)])) == 0
        with RawHost(rig.command, cwd=tmp_path) as third:
            third.initialize()
            assert step(said(third, "pay", 130))["reason"] == "duplicate_call"
            assert is_sent(said(third, "pay", 131, "r3"))
        assert len({str(entry["run"]) for entry in rig.entries("step.intent")}) > 1
        assert len(rig.record.calls("pay")) == 6
    capsys.readouterr()
    assert int(run(["trace", "verify", "--state", str(tmp_path / "state")])) == 0, capsys.readouterr().out


def test_what_had_no_effect_may_be_sent_again_and_what_may_have_may_not(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        rig.host.initialize()
        assert step(said(rig.host, "hang", 100))["reason"] == "call_timeout"
        assert step(said(rig.host, "hang", 101, amount=2))["reason"] == "duplicate_call"
        first = f"{rig.entries('step.intent')[0]['run']}.1"
        assert int(run(["run", "settle", first, "--did-not-happen", "--state", str(rig.state)])) == 0
        assert step(said(rig.host, "hang", 102, amount=2))["reason"] == "call_timeout"
        assert len(rig.record.calls("hang")) == 2


def test_two_processes_at_once_send_one(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        hosts = [rig.host, RawHost(rig.command, cwd=tmp_path), RawHost(rig.command, cwd=tmp_path)]
        try:
            for host in hosts:
                host.initialize()
            for number, host in enumerate(hosts):
                host.send(call("pay", '{"reference":"r9"}', str(200 + number)))
            answers = [read(host.answer(200 + number)) for number, host in enumerate(hosts)]
        finally:
            for host in hosts[1:]:
                host.close()
        assert sum(map(is_sent, answers)) == 1
        assert {str(step(one)["reason"]) for one in answers if not is_sent(one)} == {"duplicate_call"}
        wait_until(lambda: len(rig.record.calls("pay")) == 1, "the one call")


def test_a_key_is_worked_out_of_values_and_a_reading_tool_may_have_one_too(tmp_path: Path) -> None:
    labels = "labels: [{tools: fs.write_file, does: pay, idempotency: args.to}, {tools: fs.*, idempotency: args.x}]\n"
    policy = policy_from("default: {read: allow, other: allow}\n" + labels, tmp_path)
    one = judge(policy, arguments={"to": "a", "x": 1}).charge.once
    assert len(one) == 2
    assert judge(policy, arguments={"x": 1, "to": "a", "n": 5}).charge.once == one
    assert not set(judge(policy, arguments={"to": 1, "x": "a"}).charge.once) & set(one)
    assert judge(policy, arguments={"n": 1}).charge.once == ()
    assert judge(policy, "fs.other", {"to": "a"}).charge.once == ()
