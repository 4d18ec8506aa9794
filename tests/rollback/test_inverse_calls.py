"""Undoing by inverse calls, through real processes: the record alone tells what is called, and with what."""

import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from commands import Ended, begin, soothsayer
from configured import connect
from rollback.test_killed_while_capturing import all_gone
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import StepRow

SERVER = """
import fcntl, json, os, pathlib, sys
top = pathlib.Path(sys.argv[1])
with open(top / "pids", "a") as pids:
    pids.write(f"{os.getpid()}\\n")
turn = open(top / "turn", "w")
held = top / "orders.json"
S = {"type": "object", "properties": {"id": {"type": "string"}, "state": {"type": "string"}}}
NAMES = (top / "tools.txt").read_text().split()
for line in sys.stdin:
    m = json.loads(line)
    if m.get("id") is None:
        continue
    p, r = m.get("params", {}), {}
    if m["method"] == "initialize":
        r = {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
             "serverInfo": {"name": "orders", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": [{"name": n, "inputSchema": S} for n in NAMES]}
    elif m["method"] == "tools/call":
        a, n = p.get("arguments", {}), p["name"]
        fcntl.flock(turn, fcntl.LOCK_EX)
        now = json.loads(held.read_text()) if held.exists() else {}
        with open(top / "calls.txt", "a") as log:
            log.write(json.dumps([n, a]) + "\\n")
        said = {"state": now.get(a.get("id"))}
        if n == "get" and (top / "mute").exists():
            print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "error": {"code": 1, "message": "no"}}), flush=True)
            fcntl.flock(turn, fcntl.LOCK_UN)
            continue
        if n in ("set", "put_back", "add"):
            now[a["id"]] = a.get("state", "made")
        if n in ("drop", "lie"):
            now.pop(a["id"], None) if n == "drop" else None
        (top / "fresh").write_text(json.dumps(now))
        os.replace(top / "fresh", held)
        fcntl.flock(turn, fcntl.LOCK_UN)
        if n == "add":
            said = {"made": a["id"]}
        r = {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: orders
default: {read: allow, other: allow}
labels:
  - {tools: "orders.get", does: read, trust: first_party}
  - {tools: "orders.set | orders.add | orders.put_back | orders.drop", does: write, touches: order(args.id)}
rules:
  - allow: "an order changes and can be changed back"
    tools: "orders.set"
    capture: {as: before, tool: orders.get, args: {id: "${args.id}"}}
    undo: {class: restore, tool: orders.put_back, args: {id: "${args.id}", state: "${before.state}"}}
  - allow: "an order is made and can be dropped"
    tools: "orders.add"
    undo:
      tool: orders.drop
      args: {id: "${returned.made}"}
      check: {readback: {tool: orders.get, args: {id: "${args.id}"}, until: 'result.state == null'}}
"""
TOOLS = "get set add put_back drop"


def laid(top: Path, policy: str = POLICY, tools: str = TOOLS) -> Path:
    """A server with orders, its policy and its configuration."""
    (top / "server.py").write_text(SERVER)
    (top / "tools.txt").write_text(tools)
    (top / "policy.yaml").write_text(policy)
    (top / "orders.json").write_text(json.dumps({"a": "old a", "b": "old b"}))
    (top / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: .\nmcpServers:\n"
        f"  orders: {{command: {sys.executable}, args: [{top / 'server.py'}, {top}]}}\n"
    )
    return top


def call(host: RawHost, tool: str, name: str, state: str = "") -> JsonObject:
    arguments: JsonObject = {"id": name, "state": state} if state else {"id": name}
    return host.call(tool, arguments)


def orders(top: Path) -> dict[str, str]:
    return dict(json.loads((top / "orders.json").read_text()))


def called(top: Path, tool: str) -> list[JsonObject]:
    lines = [json.loads(line) for line in (top / "calls.txt").read_text().splitlines()]
    return [arguments for name, arguments in lines if name == tool]


def steps_of(top: Path) -> Sequence[StepRow]:
    with Reader(top / "state") as reader:
        return list(reader.steps(Filter(), reader.now(), limit=None))


def words_of(top: Path, *words: str) -> list[str]:
    run = next(step.run for step in steps_of(top) if step.cause == "agent")
    return ["rollback", run, *words, "--state", str(top / "state")]


def rollback(top: Path, *words: str) -> Ended:
    return soothsayer(*words_of(top, *words))


@pytest.mark.pitfall("P-EVID-08")
def test_a_run_is_undone_by_inverse_calls_once_each_from_the_record(tmp_path: Path) -> None:
    top = laid(tmp_path)
    with connect(top) as host:
        call(host, "set", "a", "one")
        call(host, "add", "new")
        call(host, "set", "a", "two")
    dry = rollback(top, "--dry-run")
    assert dry.code == 0, dry.err
    told = [(line.split()[0], line.split()[2]) for line in dry.out.splitlines()]
    assert told == [("call", "orders.put_back"), ("call", "orders.drop"), ("call", "orders.put_back")]
    assert orders(top) == {"a": "two", "b": "old b", "new": "made"}
    done = rollback(top, "--yes")
    assert done.code == 0, done.out + done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["undone"] * 3
    assert orders(top) == {"a": "old a", "b": "old b"}
    assert called(top, "put_back") == [{"id": "a", "state": "one"}, {"id": "a", "state": "old a"}]
    assert called(top, "drop") == [{"id": "new"}]
    again = rollback(top, "--yes")
    assert "nothing to undo" in again.err
    assert len(called(top, "put_back")) == 2
    report = verify([top / "state"])
    assert report.holds, report.problems
    undos = [step for step in steps_of(top) if step.cause == "undo"]
    assert [(step.outcome, step.effect) for step in undos] == [("succeeded", "allow")] * 3


def test_a_state_that_somebody_else_changed_is_a_conflict_and_what_came_back_already_is_left(tmp_path: Path) -> None:
    top = laid(tmp_path)
    with connect(top) as host:
        call(host, "set", "a", "one")
        call(host, "set", "b", "one")
    (top / "orders.json").write_text(json.dumps({"a": "by hand", "b": "old b"}))
    dry = rollback(top, "--dry-run")
    assert dry.code == 1
    assert [line.split()[0] for line in dry.out.splitlines()] == ["conflict", "not_needed"]
    stopped = rollback(top, "--yes")
    assert stopped.code == 1
    assert called(top, "put_back") == []
    left = rollback(top, "--skip", "1", "--yes")
    assert "not_needed" in left.out
    assert orders(top) == {"a": "by hand", "b": "old b"}


@pytest.mark.pitfall("P-EVID-09")
def test_without_its_capture_or_its_inverse_a_call_is_not_sent(tmp_path: Path) -> None:
    top = laid(tmp_path, tools="get set add drop")
    with connect(top) as host:
        refused = call(host, "set", "a", "one")
        assert "missing_evidence/capture_failed" in str(refused)
        assert "is not offered by its server" in str(refused)
        (top / "mute").touch()
        (top / "tools.txt").write_text(TOOLS)
    with connect(top) as host:
        refused = call(host, "set", "a", "one")
        assert "missing_evidence/capture_failed" in str(refused)
    assert orders(top)["a"] == "old a"
    assert called(top, "set") == []


@pytest.mark.pitfall("P-EVID-09")
def test_an_inverse_that_is_gone_is_irreversible_in_the_plan_and_may_come_back(tmp_path: Path) -> None:
    top = laid(tmp_path)
    with connect(top) as host:
        call(host, "set", "a", "one")
    (top / "tools.txt").write_text("get set add drop")
    dry = rollback(top, "--dry-run")
    assert dry.code == 1
    assert dry.out.startswith("irreversible")
    assert "not offered" in dry.out
    (top / "tools.txt").write_text(TOOLS)
    assert rollback(top, "--yes").code == 0
    assert orders(top)["a"] == "old a"


def test_a_denied_inverse_keeps_the_call_from_being_sent(tmp_path: Path) -> None:
    top = laid(tmp_path, POLICY + '  - {deny: "nothing is put back", tools: "orders.put_back"}\n')
    with connect(top) as host:
        refused = call(host, "set", "a", "one")
    assert "is denied by policy" in str(refused)
    assert orders(top)["a"] == "old a"


@pytest.mark.pitfall("P-EVID-08")
def test_two_rollbacks_at_once_make_each_inverse_call_once(tmp_path: Path) -> None:
    top = laid(tmp_path)
    with connect(top) as host:
        for turn in range(3):
            call(host, "set", "a", f"a{turn}")
            call(host, "add", f"new{turn}")
    words = words_of(top, "--yes")
    both = [begin(*words) for _ in range(2)]
    for process in both:
        process.wait(90)
    assert rollback(top, "--yes").code == 0
    assert orders(top) == {"a": "old a", "b": "old b"}
    sent = [json.dumps(one) for tool in ("put_back", "drop") for one in called(top, tool)]
    assert sorted(sent) == sorted(set(sent))
    assert len(sent) == 6


def killed_in_between(top: Path, chance: random.Random) -> None:
    """Kill a rollback at a random moment, then let another one finish: each inverse call has its effect once."""
    with connect(top) as host:
        for turn in range(3):
            call(host, "set", "a", f"a{turn}")
            call(host, "set", "b", f"b{turn}")
    process = begin(*words_of(top, "--yes"))
    wanted, limit = chance.randrange(6), time.monotonic() + 60
    while len(called(top, "put_back")) < wanted and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.05))  # the moment of the kill, after so many inverse calls, is the input
    process.send_signal(signal.SIGKILL)
    process.wait()
    all_gone(top)
    done = rollback(top, "--yes")
    assert done.code == 0, done.out + done.err
    assert orders(top) == {"a": "old a", "b": "old b"}
    # Whatever was cut short, no inverse call was received twice.
    sent = [json.dumps(one) for one in called(top, "put_back")]
    assert sorted(sent) == sorted(set(sent))
    assert len(sent) == 6
    report = verify([top / "state"])
    assert report.holds, report.problems
    assert all(step.undo == "undone" for step in steps_of(top) if step.cause == "agent")


@pytest.mark.pitfall("P-EVID-08")
@pytest.mark.parametrize("seed", range(2))
def test_a_killed_rollback_makes_no_inverse_call_twice(tmp_path: Path, seed: int) -> None:
    killed_in_between(laid(tmp_path), random.Random(seed))


@pytest.mark.soak
def test_killed_rollbacks_of_calls_are_finished_five_hundred_times(tmp_path_factory: pytest.TempPathFactory) -> None:
    for seed in range(500):
        killed_in_between(laid(tmp_path_factory.mktemp("killed")), random.Random(seed))
