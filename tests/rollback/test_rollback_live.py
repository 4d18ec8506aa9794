"""Rolling back through real processes: what a proxy recorded is undone by the command, and by nothing else."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import Ended, soothsayer
from configured import connect
from rollback.test_killed_while_capturing import killed_rollback
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import StepRow

SERVER = """
import json, os, pathlib, sys
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
        r = {"tools": [{"name": n, "inputSchema": S} for n in ("write", "remove", "send", "die", "lie")]}
    elif m["method"] == "tools/call":
        a, n = p.get("arguments", {}), p["name"]
        if n in ("write", "die"):
            pathlib.Path(a["path"]).write_text(a["content"])
        if n == "die":
            os._exit(1)
        if n == "remove":
            os.unlink(a["path"])
        r = {"content": [{"type": "text", "text": "done"}], "isError": n == "lie"}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: undoable
default: {read: allow, other: allow}
servers: {fs: {files: local}}
labels:
  - {tools: "fs.write | fs.remove | fs.die | fs.lie", does: write, touches: file(args.path)}
  - {tools: "fs.send", does: send, touches: [], undo: never}
rules:
  - allow: "edits"
    tools: "fs.write | fs.remove | fs.die | fs.lie"
    undo: {restore: file(args.path)}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return laid(tmp_path)


def laid(tmp_path: Path) -> Path:
    """A workspace beside a server, its policy and its configuration."""
    ws = tmp_path / "ws"
    ws.mkdir()
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: ws\nmcpServers:\n"
        f"  fs: {{command: {sys.executable}, args: [{tmp_path / 'server.py'}]}}\n"
        'probes: {files: {roots: ["${workspace}"]}}\n'
    )
    return ws


@pytest.fixture
def host(folder: Path) -> Iterator[RawHost]:
    with connect(folder.parent) as one:
        yield one


def call(host: RawHost, tool: str, path: Path, content: str = "") -> JsonObject:
    arguments: JsonObject = {"path": str(path), "content": content}
    return host.call(tool, arguments)


def steps_of(reader: Reader) -> list[StepRow]:
    return list(reader.steps(Filter(), reader.now(), limit=None))


def run_of(folder: Path) -> str:
    with Reader(folder.parent / "state") as reader:
        return next(step.run for step in steps_of(reader) if step.cause == "agent")


def rollback(folder: Path, *words: str) -> Ended:
    return soothsayer("rollback", run_of(folder), *words, "--state", folder.parent / "state")


def tree(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir()}


@pytest.mark.pitfall("P-EVID-07")
def test_the_story_of_the_failed_run(folder: Path) -> None:
    a, b, new = folder / "a.py", folder / "b.py", folder / "new.py"
    a.write_text("a")
    b.write_text("b")
    with connect(folder.parent) as host:
        call(host, "write", a, "a2")
        call(host, "write", b, "b2")
        call(host, "send", a)
        answer = call(host, "die", new, "new")
        assert "tool_error/connection_lost" in str(answer)
    b.write_text("by hand")
    dry = rollback(folder, "--dry-run")
    assert dry.code == 1
    assert [line.split()[0] for line in dry.out.splitlines()] == ["irreversible", "conflict", "delete", "restore"]
    # Both digests are there: what it is, and what the step had left.
    conflict = dry.out.splitlines()[1]
    assert conflict.count("#") == 3
    assert tree(folder) == {"a.py": b"a2", "b.py": b"by hand", "new.py": b"new"}
    stopped = rollback(folder, "--yes")
    assert stopped.code == 1
    assert ".2" in stopped.err
    assert tree(folder) == {"a.py": b"a2", "b.py": b"by hand", "new.py": b"new"}
    # What cannot be taken back has to be left by name, or confirmed by a person.
    asked = rollback(folder, "--skip", "2", "--yes")
    assert asked.code == 1
    assert "needs a person" in asked.err
    done = rollback(folder, "--skip", "2", "--skip", "3", "--yes")
    assert [line.split()[0] for line in done.out.splitlines()] == ["undone", "undone"]
    assert done.code == 1  # something is left
    assert tree(folder) == {"a.py": b"a", "b.py": b"by hand"}
    report = verify([folder.parent / "state"])
    assert report.holds, report.problems
    assert report.unknown == []  # the capture has settled it
    again = rollback(folder, "--skip", "2", "--skip", "3", "--yes")
    assert tree(folder) == {"a.py": b"a", "b.py": b"by hand"}
    assert "nothing to undo" in again.err


def test_what_cannot_be_kept_is_not_sent_where_a_rule_promises_an_undo(folder: Path, host: RawHost) -> None:
    outside = folder.parent / "outside.txt"
    refused = call(host, "write", outside, "x")
    assert "missing_evidence/capture_failed" in str(refused)
    assert not outside.exists()
    (folder / "link").symlink_to(outside)
    assert "capture_failed" in str(call(host, "write", folder / "link", "x"))
    assert not outside.exists()


def test_an_open_run_is_paused_first_and_an_error_answer_is_undone_too(folder: Path, host: RawHost) -> None:
    call(host, "write", folder / "a", "x")
    call(host, "lie", folder / "a")
    done = rollback(folder, "--yes")
    assert done.code == 0, done.err
    assert "is paused" in done.err
    assert tree(folder) == {}
    assert "run_paused" in str(call(host, "write", folder / "a", "y"))


@pytest.mark.pitfall("P-EVID-10")
def test_a_deny_stops_an_undo_and_it_is_on_record(folder: Path) -> None:
    policy = folder.parent / "policy.yaml"
    policy.write_text(POLICY + '  - {deny: "nothing is put back", tools: "soothsayer.restore", cause: undo}\n')
    with connect(folder.parent) as host:
        call(host, "write", folder / "a", "x")
    done = rollback(folder, "--yes")
    assert done.code == 1
    assert done.out.startswith("failed")
    assert "rule_denied" in done.out
    assert tree(folder) == {"a": b"x"}


def test_back_to_a_step_that_stays(folder: Path, host: RawHost) -> None:
    for content in ("one", "two", "three"):
        call(host, "write", folder / "a", content)
    assert rollback(folder, "--to", "2", "--yes").code == 0
    assert tree(folder) == {"a": b"two"}
    assert rollback(folder, "--yes").code == 0
    assert tree(folder) == {}


def killed_in_between(folder: Path, chance: random.Random) -> None:
    """Kill a rollback at a random moment, then let another one finish: nothing is undone twice or lost."""
    names = [folder / f"f{number}" for number in range(4)]
    for name in names[:2]:
        name.write_text(f"old {name.name}")
    before = tree(folder)
    with connect(folder.parent) as host:
        for turn in range(2):
            for name in names:
                call(host, "write", name, f"{turn} {name.name}")
    words = ["rollback", run_of(folder), "--yes", "--state", str(folder.parent / "state")]
    killed_rollback(words, folder.parent / "state", chance, 2 * len(names))
    done = rollback(folder, "--yes")
    assert done.code == 0, done.out + done.err
    assert tree(folder) == before
    report = verify([folder.parent / "state"])
    assert report.holds, report.problems
    with Reader(folder.parent / "state") as reader:
        undone = [step for step in steps_of(reader) if step.undo == "undone"]
    assert len(undone) == 8


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_rollback_is_finished_by_the_next(folder: Path, seed: int) -> None:
    killed_in_between(folder, random.Random(seed))


@pytest.mark.soak
def test_killed_rollbacks_are_finished_five_hundred_times(tmp_path_factory: pytest.TempPathFactory) -> None:
    for seed in range(500):
        top = tmp_path_factory.mktemp("killed")
        killed_in_between(laid(top), random.Random(seed))
