"""Calls that are answered with a task, on the real command: a step ends with its task, and is evidence only then."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import Ended
from fidelity.rig import META, Rig, read, request, step
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import Script, result, tool, wait_path, wait_until

POLICY = """\
soothsayer: policy/v1
name: by-task
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels:
  - {tools: "raw.test", does: write, touches: build}
  - {tools: "raw.ship", does: write, touches: shop}
rules:
  - {also: "Tested first.", tools: "raw.ship", id: tested, require: [{step: {tools: raw.test}}]}
  - {also: "All pass.", tools: "raw.test", id: passing, verify: [{schema: {type: object, required: [passed]}}],
     on_failure: {verification_failed: pause}}
"""
PASSED = '{"content":[],"structuredContent":{"passed":3}}'
FAILED = '{"content":[],"structuredContent":{"crashed":true}}'
TASK = '{"taskId":"t1","status":"%s","pollInterval":1,"pollIntervalMs":1}'


def script(folder: Path, era: str, late: str) -> Script:
    """A server that answers a test with a task, which is over once a file is there."""
    going, gate = TASK % "working", wait_path(folder / "gate")
    if era == "handshake":
        made, got, fetched = f'{{"task":{going}}}', TASK % "completed", late
    else:
        made, fetched = '{"resultType":"task",' + going[1:], "{}"
        got = '{"resultType":"complete",' + (TASK % "completed")[1:-1] + f',"result":{late}}}'
    return Script(
        tools=[tool("test"), tool("ship")],
        capabilities='{"tools":{},"tasks":{}}',
        on={"tool:test": [result(made)], "tasks/get": [gate, result(got)], "tasks/result": [result(fetched)]},
    )


def asked(rig: Rig, name: str, number: int, era: str) -> JsonObject:
    more = ',"task":{"ttl":60000}' if era == "handshake" and name == "test" else ""
    params = f'{{"name":"{name}","arguments":{{"n":1}}{more}}}'
    rig.host.send(request("tools/call", params, str(number), era=era))
    return read(rig.host.answer(number))


@pytest.fixture(params=["handshake", "stateless"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig(tmp_path: Path, era: str) -> Iterator[Rig]:
    yield from begun(tmp_path, era, PASSED)


def begun(folder: Path, era: str, late: str) -> Iterator[Rig]:
    with Rig(folder, script(folder, era, late), policy=POLICY) as one:
        if era == "handshake":
            one.host.initialize()
        yield one


def command(capsys: pytest.CaptureFixture[str], rig: Rig, *words: str) -> Ended:
    capsys.readouterr()
    code = run([*words, "--state", str(rig.state)])
    captured = capsys.readouterr()
    return Ended(code=int(code), out=captured.out, err=captured.err)


def over(rig: Rig) -> JsonObject:
    (rig.folder / "gate").touch()
    wait_until(lambda: bool(rig.entries("step.settled")), "the end of the task")
    [settled] = rig.entries("step.settled")
    return settled


def test_a_task_is_evidence_once_it_has_ended_well_and_nobody_had_to_ask_for_it(
    rig: Rig, era: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "t1" in str(asked(rig, "test", 1, era)["result"])
    early = json.dumps(asked(rig, "ship", 2, era))
    assert "has not ended" in early
    # The same call again would be the same work twice.
    assert step(asked(rig, "test", 3, era))["reason"] == "duplicate_call"
    assert "task goes on" in " ".join(command(capsys, rig, "log").out.split())
    settled = over(rig)
    assert (settled["how"], settled["acted"], settled["no"]) == ("task_result", "yes", 1)
    [found] = rig.entries("step.finding")
    assert (found["check"], found["finding"], found["no"]) == ("schema", "kept", 1)
    assert "isError" not in json.dumps(asked(rig, "ship", 4, era))
    assert len(rig.record.calls("ship")) == 1
    assert rig.entries("step.outcome")[0]["task"] == "t1"
    rig.host.close()
    verified = command(capsys, rig, "trace", "verify")
    assert verified.code == 0, verified.out


def test_a_task_that_ends_badly_does_what_policy_says_of_such_a_failure(
    tmp_path: Path, era: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for rig in begun(tmp_path, era, FAILED):
        asked(rig, "test", 1, era)
        (rig.folder / "gate").touch()
        params = '{"taskId":"t1"}' if era == "handshake" else f'{{"_meta":{META},"taskId":"t1"}}'
        rig.host.send(request("tasks/result" if era == "handshake" else "tasks/get", params, "2"))
        answer = json.dumps(read(rig.host.answer(2)))
        assert "result_schema" in answer
        assert "crashed" not in answer
        assert over(rig)["how"] == "task_result"
        assert step(asked(rig, "test", 3, era))["reason"] == "run_paused"
        changed = rig.entries("run.changed")[-1]
        assert (changed["to"], "verification_failed" in str(changed["reason"])) == ("paused", True)
        assert len(rig.record.calls("test")) == 1
        rig.host.close()
        assert command(capsys, rig, "trace", "verify").code == 0
