"""Undoing a step as soon as it fails, in the proxy that made it: the files are back before the agent is answered."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest

import commands
from commands import Ended
from configured import connect
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import StepRow

SERVER = """
import json, os, pathlib, sys, time
S = {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}}}
for line in sys.stdin:
    m = json.loads(line)
    if m.get("id") is None:
        continue
    p, r = m.get("params", {}), {}
    if m["method"] == "initialize":
        r = {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
             "serverInfo": {"name": "fs", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": [{"name": n, "inputSchema": S} for n in ("write", "fail", "idle", "die", "seen")]}
    elif m["method"] == "tools/call":
        a, n = p.get("arguments", {}), p["name"]
        path = pathlib.Path(a["path"])
        if n in ("write", "fail", "die"):
            path.write_text(a["content"] + (" and more" if "lie" in a["content"] else ""))
        if n == "die":
            os._exit(1)
        r = {"content": [{"type": "text", "text": "done"}], "isError": n in ("fail", "idle")}
        if n == "seen":
            # Somebody else writes to the file while it is checked, after it was looked at.
            path.with_name("other").write_text("by hand")
            path.write_text("by hand")
            r["structuredContent"] = {"same": False}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: at-once
default: {read: allow, other: allow}
servers: {fs: {files: local}}
labels:
  - {tools: "fs.write | fs.fail | fs.idle | fs.die", does: write, touches: file(args.path)}
  - {tools: "fs.seen", does: read}
rules:
  - allow: "edits"
    tools: "fs.write | fs.fail | fs.idle | fs.die"
    verify: [{artifact: {file: "${args.path}", equals: args.content}}]
    undo: {restore: file(args.path)}
    on_failure: {verification_failed: undo, tool_error: undo}
"""
WATCHED = """
  - also: "asked again"
    tools: "fs.write"
    args: {content: {matches: "contested"}}
    verify: [{readback: {tool: fs.seen, args: {path: "${args.path}"}, until: "result.same == true", within: 1s}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ws = tmp_path / "ws"
    ws.mkdir()
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "policy.yaml").write_text(POLICY + WATCHED)
    (tmp_path / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: ws\nmcpServers:\n"
        f"  fs: {{command: {sys.executable}, args: [{tmp_path / 'server.py'}]}}\n"
        'probes: {files: {roots: ["${workspace}"]}}\n'
    )
    return ws


def call(host: RawHost, tool: str, path: Path, content: str = "") -> str:
    return json.dumps(host.call(tool, {"path": str(path), "content": content}))


def steps_of(folder: Path) -> list[StepRow]:
    with Reader(folder.parent / "state") as reader:
        found = reader.steps(Filter(), reader.now(), limit=None)
        return sorted((one for one in found if one.cause in {"agent", "undo"}), key=lambda one: one.no)


def state_of(folder: Path, run: str) -> str:
    with Reader(folder.parent / "state") as reader:
        return str(reader.run(run).run.state)


def soothsayer(folder: Path, *words: str) -> Ended:
    return commands.soothsayer(*words, "--state", folder.parent / "state")


def test_what_a_lying_server_wrote_is_put_back_before_the_agent_is_answered(folder: Path) -> None:
    a, new = folder / "a", folder / "new"
    a.write_text("old")
    with connect(folder.parent) as host:
        told = call(host, "write", a, "a lie")
        assert a.read_text() == "old"
        assert "verification_failed/check_broken" in told
        assert "policy says undo on verification_failed/check_broken; its files are as they were before" in told
        # An error answer is undone as well; the run is open all the time.
        assert "policy says undo on tool_error/tool_failed" in call(host, "fail", new, "x")
        assert not new.exists()
        assert "it had changed no file" in call(host, "idle", a, "y")
        assert "policy says" not in call(host, "write", a, "honest")
        assert a.read_text() == "honest"
    told_of = [(one.no, one.cause, one.undo, one.undone_by[-2:], one.of_step[-2:]) for one in steps_of(folder)]
    assert told_of == [
        (1, "agent", "undone", ".2", ""),
        (2, "undo", "", "", ".1"),
        (3, "agent", "undone", ".4", ""),
        (4, "undo", "", "", ".3"),
        (5, "agent", "not_needed", "", ""),
        (6, "agent", "restore", "", ""),
    ]
    run = steps_of(folder)[0].run
    assert "undone by .2" in soothsayer(folder, "run", "show", run).out
    report = verify([folder.parent / "state"])
    assert report.holds, report.problems
    # A rollback has the honest write left to undo, and touches what is undone no more.
    assert soothsayer(folder, "rollback", run, "--yes").out.count("undone") == 1
    assert a.read_text() == "old"


def test_what_somebody_else_wrote_since_stays_and_the_run_is_paused(folder: Path) -> None:
    a = folder / "a"
    a.write_text("old")
    with connect(folder.parent) as host:
        told = call(host, "write", a, "contested")
        assert a.read_text() == "by hand"
        assert "that did not succeed: conflict" in told
        assert "changed by something else" in told
        assert "next/stop" in told
        assert "run_paused" in call(host, "write", a, "again")
    first, undo = steps_of(folder)[0], next(one for one in steps_of(folder) if one.cause == "undo")
    assert (first.undo, undo.next) == ("conflict", "stop")
    assert state_of(folder, first.run) == "paused"
    shown = soothsayer(folder, "run", "show", first.run).out
    assert "conflict" in shown
    assert verify([folder.parent / "state"]).holds
    dry = soothsayer(folder, "rollback", first.run, "--dry-run")
    assert (dry.code, dry.out.split()[0]) == (1, "conflict")


def test_what_may_or_may_not_have_happened_is_not_undone_blindly(folder: Path) -> None:
    a = folder / "a"
    with connect(folder.parent) as host:
        told = call(host, "die", a, "x")
        assert "policy says undo on tool_error/connection_lost, and it is not known whether it happened" in told
        assert a.read_text() == "x"
    (step,) = steps_of(folder)
    assert state_of(folder, step.run) == "paused"
    assert soothsayer(folder, "rollback", step.run, "--yes").code == 0
    assert not a.exists()


def test_a_deny_holds_for_an_undo_that_policy_demands(folder: Path) -> None:
    policy = folder.parent / "policy.yaml"
    policy.write_text(POLICY + '  - {deny: "nothing is put back", tools: "soothsayer.restore", cause: undo}\n')
    with connect(folder.parent) as host:
        told = call(host, "write", folder / "a", "a lie")
        assert "that did not succeed: failed, rule_denied" in told
        assert "run_paused" in call(host, "write", folder / "a", "again")
    assert (folder / "a").read_text() == "a lie and more"
    assert steps_of(folder)[0].undo == "failed"


@pytest.mark.parametrize("begun", [False, True], ids=["before it began", "while it was made"])
def test_an_undo_that_was_cut_short_is_finished_by_a_rollback_and_never_made_twice(
    folder: Path, *, begun: bool
) -> None:
    a = folder / "a"
    a.write_text("old")
    with connect(folder.parent) as host:
        call(host, "write", a, "honest")
        host.ask("tools/call", {"name": "write", "arguments": {"path": str(a), "content": "a lie"}})
        limit = time.monotonic() + 30
        while not _is_on_record(folder, begun=begun):
            assert time.monotonic() < limit
        # How far it comes before the signal arrives is left to chance: what follows holds at every moment.
        host.signal(signal.SIGKILL)
    run = steps_of(folder)[0].run
    done = soothsayer(folder, "rollback", run, "--to", "1", "--yes")
    assert done.code == 0, done.out + done.err
    assert {one.name: one.read_text() for one in folder.iterdir()} == {"a": "honest"}
    undone = [one for one in steps_of(folder) if one.cause == "undo" and one.outcome == "succeeded"]
    assert len(undone) <= 1
    report = verify([folder.parent / "state"])
    assert report.holds, report.problems


def _is_on_record(folder: Path, *, begun: bool) -> bool:
    """Whether the lie has ended, or its undo has begun."""
    return any(one.cause == "undo" if begun else one.no == 2 and one.outcome == "failed" for one in steps_of(folder))
