"""Steps of unknown outcome are asked about before a plan is made, through real processes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from configured import SOOTHSAYER, connect
from fidelity.rig import entries
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.testing.servers import wait_until

SERVER = """
import json, pathlib, sys
ws = pathlib.Path(sys.argv[1])
S = {"type": "object", "properties": {k: {"type": "string"} for k in ("id", "note", "how")}}
for line in sys.stdin:
    m = json.loads(line)
    if m.get("id") is None:
        continue
    p, r = m.get("params", {}), {}
    if m["method"] == "initialize":
        r = {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
             "serverInfo": {"name": "shop", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": [{"name": n, "inputSchema": S} for n in ("place", "change", "get", "cancel")]}
    elif m["method"] == "tools/call":
        a, n = p.get("arguments", {}), p["name"]
        order = ws / a["id"]
        if n in ("place", "change"):
            if a.get("how") != "nothing":
                order.write_text(a.get("note", ""))
            if "how" in a:
                continue
        if n == "cancel":
            order.unlink(missing_ok=True)
        s = {"placed": order.exists(), "note": order.read_text() if order.exists() else ""}
        r = {"content": [{"type": "text", "text": json.dumps(s)}], "structuredContent": s}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: shop
default: {read: allow, other: allow}
labels:
  - {tools: "shop.get", does: read}
  - {tools: "shop.place | shop.change | shop.cancel", does: write, touches: 'order(args.id)'}
rules:
  - allow: "orders are placed, and cancelled again"
    tools: "shop.place"
    settle:
      readback: {tool: shop.get, args: {id: "${args.id}"}, happened: 'result.placed == true',
                 not_happened: 'result.placed == false', within: 20s}
    undo:
      tool: shop.cancel
      args: {id: "${args.id}"}
      check: {readback: {tool: shop.get, args: {id: "${args.id}"}, until: 'result.placed == false'}}
  - allow: "orders change, and change back"
    tools: "shop.change"
    capture: {as: before, tool: shop.get, args: {id: "${args.id}"}}
    settle:
      readback: {tool: shop.get, args: {id: "${args.id}"}, happened: 'result.note != before.note', within: 20s}
    undo: {class: restore, tool: shop.change, args: {id: "${args.id}", note: "${before.note}"}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "ws").mkdir()
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: ws\nmcpServers:\n"
        f"  shop: {{command: {sys.executable}, args: [{tmp_path / 'server.py'}, {tmp_path / 'ws'}]}}\n"
    )
    return tmp_path


def killed_in(shop: Path, tool: str, how: str, *, note: str = "new") -> str:
    """A run that places one order and is killed while a second call is with the server; the id of the run."""
    state, ws = shop / "state", shop / "ws"
    with connect(shop) as host:
        host.call("place", {"id": "first", "note": "old"})
        target = "second" if tool == "place" else "first"
        host.ask("tools/call", {"name": tool, "arguments": {"id": target, "note": note, "how": how}})
        wait_until(lambda: len(_intents(state)) == 2, "the intent")
        if how != "nothing":
            wait_until(lambda: (ws / target).exists() and (ws / target).read_text() == note, "the effect")
        host.signal(signal.SIGKILL)
        host.exit_code()
    return str(_intents(state)[0]["run"])


def _intents(state: Path) -> list[dict[str, object]]:
    return [dict(one) for one in entries(state, "step.intent") if one["cause"] == "agent"]


def rollback(shop: Path, of: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [*SOOTHSAYER, "rollback", of, *words, "--state", str(shop / "state")]
    return subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)


def orders(shop: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in (shop / "ws").iterdir()}


@pytest.mark.pitfall("P-EVID-08")
def test_an_order_of_which_nobody_knows_is_asked_about_and_cancelled(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = killed_in(shop, "place", "done")
    dry = rollback(shop, of, "--dry-run")
    assert dry.returncode == 0, dry.stdout + dry.stderr
    assert [line.split()[0] for line in dry.stdout.splitlines()] == ["call", "call"]
    assert "took effect, says shop.get" in dry.stderr
    [settled] = entries(shop / "state", "step.settled")
    assert (settled["no"], settled["how"], settled["acted"]) == (2, "read_back", "yes")
    assert settled["by"] == "rule:shop/orders-are-placed-and-cancelled-again"
    done = rollback(shop, of, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert orders(shop) == {}
    assert len(entries(shop / "state", "step.settled")) == 1
    assert int(run(["trace", "verify", "--state", str(shop / "state")])) == 0, capsys.readouterr().out


def test_an_order_that_never_came_about_stands_in_no_plan(shop: Path) -> None:
    of = killed_in(shop, "place", "nothing")
    done = rollback(shop, of, "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [one["state"] for one in told["done"]] == ["undone"]
    assert orders(shop) == {}
    [settled] = entries(shop / "state", "step.settled")
    assert (settled["no"], settled["acted"]) == (2, "no")


def test_a_change_whose_end_nobody_saw_is_for_a_person_with_the_order_that_it_changed(shop: Path) -> None:
    of = killed_in(shop, "change", "done")
    (shop / "ws" / "other").write_text("left alone")
    done = rollback(shop, of, "--yes")
    # It cannot be told from a later change, so it is not written over, and whoever asked has to read that.
    assert done.returncode == 1
    assert "irreversible" in done.stdout
    assert "put it back by hand" in done.stdout
    assert orders(shop) == {"first": "new", "other": "left alone"}
    number = next(one["no"] for one in _intents(shop / "state") if one["tool"] == "change")
    left = rollback(shop, of, "--dry-run", "--skip", f"{of[:4]}.{number}")
    # The order is not cancelled from under the change that stays.
    assert [line.split()[:2] for line in left.stdout.splitlines()] == [
        ["left", f"{of[:4]}.{number}"],
        ["left", f"{of[:4]}.1"],
    ], left.stdout + left.stderr
