"""Steps whose outcome is not known, on the real command: late answers, people's words, and the same call again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import Ended
from fidelity.rig import Rig, call, read, step
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import Script, echo, error, result, tool, wait_path, wait_until

POLICY = """\
soothsayer: policy/v1
name: settling
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels:
  - {tools: "raw.act | raw.fail | raw.wrong", does: write, touches: thing}
  - {tools: "raw.use", does: write, touches: other}
rules:
  - {also: "Little time.", tools: "raw.act | raw.fail", limit: {timeout: 600ms}}
  - also: "Checked."
    tools: "raw.wrong"
    limit: {timeout: 600ms}
    verify: [{schema: {type: object, required: [done]}}]
"""
DONE = '{"content":[{"type":"text","text":"done"}],"structuredContent":{"ok":true}}'


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    gate = tmp_path / "gate"
    script = Script(
        tools=list(map(tool, ("act", "fail", "wrong", "use"))),
        on={
            "tool:act": [wait_path(gate), result(DONE)],
            "tool:wrong": [wait_path(gate), result(DONE)],
            "tool:fail": [wait_path(gate), error('{"code":-32000,"message":"no"}')],
            "tool:use": [echo()],
        },
    )
    with Rig(tmp_path, script, policy=POLICY) as one:
        one.host.initialize()
        yield one


def asked(rig: Rig, name: str, number: int, arguments: str = '{"n":1}') -> JsonObject:
    rig.host.send(call(name, arguments, str(number)))
    return read(rig.host.answer(number))


def let_it_answer(rig: Rig) -> JsonObject:
    (rig.folder / "gate").touch()
    wait_until(lambda: bool(rig.entries("step.settled")), "the settling")
    [settled] = rig.entries("step.settled")
    return settled


def command(capsys: pytest.CaptureFixture[str], rig: Rig, *words: str) -> Ended:
    capsys.readouterr()
    code = run([*words, "--state", str(rig.state)])
    captured = capsys.readouterr()
    return Ended(code=int(code), out=captured.out, err=captured.err)


def assert_verifies(capsys: pytest.CaptureFixture[str], rig: Rig) -> None:
    rig.host.close()
    done = command(capsys, rig, "trace", "verify")
    assert done.code == 0, done.out


@pytest.mark.pitfall("P-EVID-11")
def test_an_answer_that_comes_late_settles_its_step_and_reaches_no_host(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step(asked(rig, "wrong", 7))["reason"] == "call_timeout"
    settled = let_it_answer(rig)
    assert (settled["how"], settled["acted"], settled["no"]) == ("late_answer", "yes", 1)
    assert "result" in settled
    [finding] = rig.entries("step.finding")
    assert (finding["check"], finding["finding"], finding["no"]) == ("schema", "broken", 1)
    # What follows is answered next: no second answer to the first call came between.
    assert asked(rig, "use", 8)["id"] == 8
    assert_verifies(capsys, rig)


@pytest.mark.pitfall("P-EVID-01")
def test_the_same_call_is_not_sent_again_while_nobody_knows_and_the_settling_is_told_once(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(rig, "act", 7)
    again = asked(rig, "act", 8)
    assert step(again)["reason"] == "duplicate_call"
    assert "may already have done this. Nothing was sent." in json.dumps(again)
    # Another call of the same tool is another call.
    assert step(asked(rig, "act", 9, '{"n":2}'))["reason"] == "call_timeout"
    (rig.folder / "gate").touch()
    wait_until(lambda: len(rig.entries("step.settled")) == 2, "the settling of both")
    told = asked(rig, "act", 10)
    assert step(told)["reason"] == "duplicate_call"
    assert "took effect" in json.dumps(told)
    assert "done" in json.dumps(asked(rig, "act", 11))
    assert len(rig.record.calls("act")) == 3
    assert_verifies(capsys, rig)


def test_a_late_error_settles_too_and_counts_as_one_that_may_have_acted(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(rig, "fail", 7)
    assert let_it_answer(rig)["acted"] == "yes"
    assert_verifies(capsys, rig)


def test_a_person_says_whether_it_happened_and_the_run_can_go_on(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    asked(rig, "act", 7)
    name = f"{rig.entries('step.outcome')[-1]['run']}"
    missing = command(capsys, rig, "run", "complete", name)
    assert "it is not known whether it happened" in missing.out
    assert command(capsys, rig, "run", "settle", f"{name}.1").code == 2
    done = command(capsys, rig, "run", "settle", f"{name}.1", "--did-not-happen")
    assert done.code == 0, done.err
    assert command(capsys, rig, "run", "settle", f"{name}.1", "--happened").code == 1
    [settled] = rig.entries("step.settled")
    assert (settled["how"], settled["acted"]) == ("person", "no")
    shown = command(capsys, rig, "log").out
    assert "settled later: it did not happen" in " ".join(shown.split())
    # It did not happen: the same call is sent.
    assert step(asked(rig, "act", 8))["reason"] == "call_timeout"
    assert_verifies(capsys, rig)
