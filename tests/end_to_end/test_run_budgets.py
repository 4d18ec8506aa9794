"""People limit a run when they open it, and raise a budget that is used up: on a proxy that is running."""

import json
from pathlib import Path

import commands
from fidelity.rig import Rig, at, entries
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import Script, tool

POLICY = """
soothsayer: policy/v1
name: paid
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
budgets: {calls: 3, minutes: 60, ceiling: {calls: 4}}
"""
SCRIPT = Script(tools=(tool("echo"),), capabilities='{"tools":{}}')


def soothsayer(folder: Path, *words: str) -> tuple[int, str]:
    ended = commands.soothsayer(*words, "--state", folder / "state", cwd=folder)
    return ended.code, ended.out + ended.err


def reason(answer: JsonObject) -> object:
    result = at(answer, "result")
    return at(result, "_meta", "dev.soothsayer/step", "reason") if "_meta" in str(result) else None


def test_a_run_is_opened_for_less_and_given_more_up_to_the_ceiling(tmp_path: Path) -> None:
    code, said = soothsayer(tmp_path, "run", "open", "--budget", "calls=2", "--json")
    assert code == 0, said
    run = str(json.loads(said)["run"]["run"])
    with Rig(tmp_path, SCRIPT, policy=POLICY) as rig:
        rig.host.initialize()
        assert [reason(rig.host.call("echo")) for _ in range(3)] == [None, None, "budget_spent"]
        code, said = soothsayer(tmp_path, "run", "resume", run[:8], "--add", "calls=1", "--reason", "nearly there")
        assert code == 0, said
        assert f"run {run[:4]} is open, with calls 1 more" in said
        rig.host.call("echo")
        assert reason(rig.host.call("echo")) == "budget_spent"
        code, said = soothsayer(tmp_path, "run", "resume", run[:8], "--add", "calls=2")
        assert code == 1
        assert "the budget calls may become 4 at most" in said
        code, said = soothsayer(tmp_path, "run", "resume", run[:8], "--add", "calls=1")
        assert code == 0, said
        assert len(rig.record.calls("echo")) == 3
    opened = [entry for entry in entries(tmp_path / "state", "run.opened") if entry["run"] == run]
    assert [entry["budgets"] for entry in opened] == [{"calls": 2}]
    changed = [entry for entry in entries(tmp_path / "state", "run.changed") if "added" in entry]
    told = [(entry["added"], entry["to"], entry["reason"]) for entry in changed]
    assert told[0] == ({"calls": 1}, "open", "nearly there")
    assert all(str(entry["by"]).startswith("os:") for entry in changed)
    assert verify([tmp_path / "state"]).holds


def test_what_is_no_budget_or_has_none_is_said_so(tmp_path: Path) -> None:
    code, said = soothsayer(tmp_path, "run", "open", "--budget", "cals=2")
    assert (code, "names no budget" in said) == (2, True)
    code, said = soothsayer(tmp_path, "run", "open", "--budget", "calls=many")
    assert (code, "has no number" in said) == (2, True)
    code, said = soothsayer(tmp_path, "run", "open", "--budget", "bytes_returned=2MB", "--json")
    run = str(json.loads(said)["run"]["run"])
    code, said = soothsayer(tmp_path, "run", "resume", run[:8], "--add", "calls=2")
    assert (code, "the run has no budget calls" in said) == (1, True)
    assert soothsayer(tmp_path, "run", "stop", run[:8])[0] == 0
    code, said = soothsayer(tmp_path, "run", "resume", run[:8], "--add", "bytes_returned=1kB")
    assert (code, "is stopped" in said) == (1, True)
