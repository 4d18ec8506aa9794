"""A proxy dies at any state of its steps, while it captures or undoes at once, too; then a rollback dies as well.

No call is lost, whatever is unknown is listed, and a second rollback brings back the world of before, each step undone
once.
"""

import random
import re
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from commands import begin, soothsayer
from fidelity.rig import entries, lives
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import wait_until
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import StepRow

SERVER = """
import json, os, pathlib, sys
top = pathlib.Path(sys.argv[1])
with open(top / "pids", "a") as pids:
    pids.write(f"{os.getpid()}\\n")
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
        r = {"tools": [{"name": n, "inputSchema": S} for n in ("write", "fail")]}
    elif m["method"] == "tools/call":
        a = p["arguments"]
        with open(top / "received.txt", "a") as log:
            log.write(a["content"] + "\\n")
        fresh = top / "fresh"
        fresh.write_text(a["content"])
        os.replace(fresh, a["path"])
        r = {"content": [{"type": "text", "text": "done"}], "isError": p["name"] == "fail"}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: killed
default: {read: allow, other: allow}
servers: {fs: {files: local}}
labels: [{tools: "fs.*", does: write, touches: file(args.path)}]
rules:
  - allow: "edits, as they were sent or not at all"
    tools: "fs.*"
    verify: [{artifact: {file: "${args.path}", equals: args.content}}]
    undo: {restore: file(args.path)}
    on_failure: {tool_error: undo}
"""
SOOTHSAYER = (sys.executable, "-m", "soothsayer_mcp")
CALLS = 8


def laid(top: Path) -> Path:
    (top / "ws").mkdir()
    (top / "ws" / "a").write_text("old a")
    (top / "server.py").write_text(SERVER)
    (top / "policy.yaml").write_text(POLICY)
    (top / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: ws\nmcpServers:\n"
        f"  fs: {{command: {sys.executable}, args: [{top / 'server.py'}, {top}]}}\n"
        'probes: {files: {roots: ["${workspace}"]}}\n'
    )
    return top


def received(top: Path) -> list[str]:
    file = top / "received.txt"
    return file.read_text().split() if file.exists() else []


def killed_proxy(top: Path, chance: random.Random) -> None:
    """Send some calls at once, and kill the proxy at a moment that hangs on what its server was told."""
    words = [*SOOTHSAYER, "proxy", "--state", top / "state", "-c", top / "config.yaml"]
    with RawHost(words) as host:
        host.initialize()
        for number in range(CALLS):
            tool, file = chance.choice(["write", "write", "fail"]), chance.choice("abcdef")
            arguments = {"path": str(top / "ws" / file), "content": f"n{number}"}
            host.ask("tools/call", {"name": tool, "arguments": arguments})
        wanted, limit = chance.randrange(CALLS), time.monotonic() + 2  # a run that was paused meanwhile sends no more
        while len(received(top)) < wanted and time.monotonic() < limit:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.04))  # the moment of the kill is the input
        host.signal(signal.SIGKILL)
        host.exit_code()
    all_gone(top)


def all_gone(top: Path) -> None:
    """Wait for the end of the servers: what was sent to one before its proxy was killed, it still does."""
    pids = (top / "pids").read_text().split() if (top / "pids").exists() else []
    wait_until(lambda: not any(lives(int(pid)) for pid in pids), "the end of the servers")


def killed_rollback(words: list[str], state: Path, chance: random.Random, most: int) -> None:
    """Start a rollback, and kill it at a moment that hangs on how many undos it has begun."""
    wanted, limit = chance.randrange(most + 1), time.monotonic() + 60
    process = begin(*words)
    while begun(state) < wanted and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.05))  # the moment of the kill, after so many of them, is the input
    process.send_signal(signal.SIGKILL)
    process.wait()


def begun(state: Path) -> int:
    return sum(entry["cause"] == "undo" for entry in entries(state, "step.intent"))


def steps_of(top: Path) -> list[StepRow]:
    with Reader(top / "state") as reader:
        return [*reader.steps(Filter(), reader.now(), limit=None)]


def words_of(top: Path) -> list[str]:
    run = next(step.run for step in steps_of(top) if step.cause == "agent")
    return ["rollback", run, "--yes", "--state", str(top / "state")]


def intended(top: Path) -> set[str]:
    """The contents of which an intent is on record."""
    with closing(sqlite3.connect(top / "state" / "trace-000001.db")) as db:
        rows = db.execute(
            "SELECT p.text FROM payloads p JOIN entries e ON e.writer = p.writer AND e.seq = p.seq"
            " WHERE p.part = 'args' AND e.kind = 'step.intent'"
        ).fetchall()
    return {found for (text,) in rows for found in re.findall(r'"(n\d+)"', str(text))}


def killed(top: Path, chance: random.Random) -> None:
    killed_proxy(top, chance)
    if not any(step.cause == "agent" for step in steps_of(top)):
        return
    killed_rollback(words_of(top), top / "state", chance, begun(top / "state") + CALLS)
    done = soothsayer(*words_of(top))
    assert done.code == 0, done.out + done.err
    assert {one.name: one.read_text() for one in (top / "ws").iterdir()} == {"a": "old a"}
    assert set(received(top)) <= intended(top)
    report = verify([top / "state"])
    assert report.holds, report.problems
    assert report.open == []
    steps = steps_of(top)
    unknown = {f"{step.run}.{step.no}" for step in steps if step.outcome == "unknown"}
    recovered = {
        step for one in entries(top / "state", "writer.recovered") for step in cast("list[str]", one["unknown"])
    }
    assert unknown == recovered
    assert set(report.unknown) <= unknown  # those that the rollback could tell of are settled
    undone = Counter(one["no"] for one in entries(top / "state", "step.undo") if one["state"] == "undone")
    assert max(undone.values(), default=0) <= 1
    acted = [step for step in steps if step.cause == "agent" and step.acted != "no"]
    assert {step.undo for step in acted} <= {"undone", "not_needed"}


@pytest.mark.pitfall("P-EVID-08")
@pytest.mark.parametrize("seed", range(3))
def test_what_a_proxy_killed_anywhere_left_is_finished_by_a_second_rollback(tmp_path: Path, seed: int) -> None:
    killed(laid(tmp_path), random.Random(seed))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_proxies_and_rollbacks_killed_anywhere_five_hundred_times(tmp_path_factory: pytest.TempPathFactory) -> None:
    for seed in range(500):
        killed(laid(tmp_path_factory.mktemp("killed")), random.Random(f"both {seed}"))
