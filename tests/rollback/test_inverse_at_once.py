"""A call that fails is taken back by another call, in the proxy that made it, before the agent is answered."""

import json
import sys
from pathlib import Path

import pytest

from configured import connect
from fidelity.rig import entries
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.console import views
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.trace.query import Filter

SERVER = """
import json, pathlib, sys
top = pathlib.Path(sys.argv[1])
held = top / "orders.json"
S = {"type": "object", "properties": {"id": {"type": "string"}, "state": {"type": "string"}}}
for line in sys.stdin:
    m = json.loads(line)
    if m.get("id") is None:
        continue
    p, r = m.get("params", {}), {}
    if m["method"] == "initialize":
        r = {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
             "serverInfo": {"name": "shop", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": [{"name": n, "inputSchema": S} for n in ("get", "meddle", "set", "add", "drop", "back")]}
    elif m["method"] == "tools/call":
        a, n = p.get("arguments", {}), p["name"]
        now = json.loads(held.read_text())
        said = {"state": now.get(a["id"])}
        with open(top / "calls.txt", "a") as log:
            log.write(json.dumps([n, m["id"]]) + "\\n")
        how = a.get("state", "")
        if n in ("set", "add") and how != "idle":
            now[a["id"]] = "mangled" if how == "lie" else how
        if n == "back" and now[a["id"]] != "stubborn":
            now[a["id"]] = how
        if n == "drop":
            now.pop(a["id"], None)
        if n == "meddle":
            now[a["id"]] = "by hand"
        held.write_text(json.dumps(now))
        said = {"state": now.get(a["id"])} if n == "set" else {"made": a["id"]} if n == "add" else said
        r = {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said,
             "isError": how in ("fail", "idle") and n in ("set", "add")}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: at-once
default: {read: allow, other: allow}
labels:
  - {tools: "shop.get | shop.meddle", does: read}
  - {tools: "shop.set | shop.add | shop.drop | shop.back", does: write, touches: order(args.id)}
rules:
  - allow: "an order changes as it was sent, or not at all"
    tools: "shop.set"
    capture: {tool: shop.get, args: {id: "${args.id}"}}
    undo: {class: restore, tool: shop.back, args: {id: "${args.id}", state: "${before.state}"}}
    verify: [{readback: {tool: shop.get, args: {id: "${args.id}"}, until: 'result.state == args.state'}}]
    on_failure: {verification_failed: undo, tool_error: undo}
  - allow: "an order is made as it was sent, or dropped"
    tools: "shop.add"
    undo:
      tool: shop.drop
      args: {id: "${returned.made}"}
      check: {readback: {tool: shop.get, args: {id: "${args.id}"}, until: 'result.state == null'}}
    verify: [{readback: {tool: shop.get, args: {id: "${args.id}"}, until: 'result.state == args.state'}}]
    on_failure: {verification_failed: undo, tool_error: undo}
"""
MEDDLED = """
  - also: "Somebody else comes between."
    tools: "shop.set"
    args: {state: {is: contested}}
    verify: [{readback: {tool: shop.meddle, args: {id: "${args.id}"}, until: 'result.state == "never"'}}]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "policy.yaml").write_text(POLICY + MEDDLED)
    (tmp_path / "orders.json").write_text('{"a":"old"}')
    (tmp_path / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: .\nmcpServers:\n"
        f"  shop: {{command: {sys.executable}, args: [{tmp_path / 'server.py'}, {tmp_path}]}}\n"
    )
    return tmp_path


def call(host: RawHost, tool: str, name: str, state: str) -> str:
    return json.dumps(host.call(tool, {"id": name, "state": state}))


def orders(shop: Path) -> dict[str, str]:
    return dict(json.loads((shop / "orders.json").read_text()))


def called(shop: Path, tool: str) -> list[object]:
    lines = [json.loads(line) for line in (shop / "calls.txt").read_text().splitlines()]
    return [request for name, request in lines if name == tool]


def run_state(shop: Path) -> tuple[str, str]:
    with Reader(shop / "state") as reader:
        found = reader.runs(Filter(), reader.now(), limit=1)[0].run
        return found, str(reader.run(found).run.state)


def test_a_failed_call_is_taken_back_by_another_and_the_run_goes_on(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(shop) as host:
        told = call(host, "set", "a", "lie")
        assert orders(shop) == {"a": "old"}
        assert "verification_failed/check_broken" in told
        assert "policy says undo on verification_failed/check_broken; shop.back took it back" in told
        assert "shop.back took it back" in call(host, "set", "a", "fail")
        assert orders(shop) == {"a": "old"}
        assert "it had changed nothing" in call(host, "set", "a", "idle")
        assert "policy says" not in call(host, "set", "a", "new")
        assert "shop.drop took it back" in call(host, "add", "b", "lie")
        assert orders(shop) == {"a": "new"}
        # Ids that our own calls have are no host's: none of them can be guessed.
        assert all(str(one).startswith("sth-") for one in [*called(shop, "back"), *called(shop, "drop")])
    undone = {one["no"]: one["state"] for one in entries(shop / "state", "step.undo")}
    assert sorted(map(str, undone.values())) == ["not_needed", "undone", "undone", "undone"]
    report = verify([shop / "state"])
    assert report.holds, report.problems
    number, state = run_state(shop)
    assert state == "open"
    # What a rollback still has to undo is the honest change alone.
    assert int(run(["rollback", number, "--yes", "--state", str(shop / "state")])) == 0
    assert orders(shop) == {"a": "old"}
    assert capsys.readouterr().out.count("undone") >= 1
    assert len(called(shop, "back")) == 3


@pytest.mark.parametrize(
    ("tool", "name", "state", "told", "left"),
    [
        ("set", "a", "contested", "changed by something else since", "by hand"),
        ("set", "s", "fail", "not_restored", "stubborn"),
        ("add", "b", "fail", "nothing tells whether it happened", "fail"),
    ],
    ids=["somebody else wrote", "the inverse does nothing", "nobody knows"],
)
def test_what_cannot_be_taken_back_pauses_the_run(
    shop: Path, tool: str, name: str, state: str, told: str, left: str
) -> None:
    if left == "stubborn":
        (shop / "server.py").write_text(SERVER.replace('"mangled" if how == "lie"', '"stubborn" if how == "fail"'))
        (shop / "orders.json").write_text('{"s":"old"}')
    with connect(shop) as host:
        said = call(host, tool, name, state)
        assert told in said
        assert orders(shop)[name] == left
        assert "run_paused" in call(host, "set", "a", "x")
    assert run_state(shop)[1] == "paused"


def test_what_was_undone_is_owed_no_more_and_says_so(shop: Path) -> None:
    (shop / "policy.yaml").write_text(POLICY.replace("labels:", "budgets: {unverified_writes: 1}\nlabels:"))
    with connect(shop) as host:
        for _ in range(2):
            told = call(host, "set", "a", "lie")
            assert "It was undone; its answer is withheld." in told
            assert "may be in place" not in told
    with Reader(shop / "state") as reader:
        steps = [*reader.steps(Filter(), reader.now(), limit=None)]
    assert {views.because(one) for one in steps if one.cause == "probe"} == {"read for a check"}


def test_an_inverse_that_policy_denies_promises_nothing(shop: Path) -> None:
    (shop / "policy.yaml").write_text(POLICY + '  - {deny: "never back", tools: "shop.back"}\n')
    with connect(shop) as host:
        assert "capture_failed" in call(host, "set", "a", "lie")
    assert orders(shop) == {"a": "old"}
