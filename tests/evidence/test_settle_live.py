"""Calls of which nobody knows whether they took effect, settled by what another tool says, through a real proxy."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from configured import connect
from fidelity.rig import entries
from placing import put
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import wait_until

SERVER = """
import json, os, pathlib, sys
ws = pathlib.Path(sys.argv[1])
(ws / "pid").write_text(str(os.getpid()))
TOOLS = [{"name": n, "inputSchema": {"type": "object", "properties": {k: {"type": "string"} for k in a}}}
         for n, a in {"place": ["id", "how", "note"], "get": ["id"], "touch": []}.items()]
for line in sys.stdin:
    m = json.loads(line)
    if m.get("id") is None:
        continue
    p, r = m.get("params", {}), {}
    if m["method"] == "initialize":
        r = {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
             "serverInfo": {"name": "shop", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": TOOLS}
    elif m["method"] == "tools/call":
        a, n, s = p.get("arguments", {}), p["name"], {"ok": True}
        if n == "place":
            if a["how"].startswith("done"):
                (ws / a["id"]).write_text(a.get("note", ""))
            if a["how"].endswith("die"):
                os._exit(1)
            continue
        elif n == "get":
            there = (ws / a["id"]).exists()
            s = {"placed": there, "note": (ws / a["id"]).read_text() if there else None}
        r = {"content": [{"type": "text", "text": json.dumps(s)}], "structuredContent": s}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: shop
default: {read: allow, other: allow}
labels:
  - {tools: "shop.get", does: read}
  - {tools: "shop.place | shop.touch", does: write, touches: 'order(args.id)'}
rules:
  - also: "An order is looked up when nobody knows of it."
    id: looked-up
    tools: "shop.place"
    settle:
      readback: {tool: shop.get, args: {id: "${args.id}"}, happened: 'result.placed == true',
                 not_happened: 'result.placed == false', within: 20s}
    verify: [{readback: {tool: shop.get, args: {id: "${args.id}"}, until: 'result.note == args.note'}}]
  - also: "Of these no answer comes."
    id: soon
    tools: "shop.place"
    args: {how: {in: [hang, done]}}
    limit: {timeout: 400ms}
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


@pytest.fixture
def host(shop: Path) -> Iterator[RawHost]:
    with connect(shop) as one:
        yield one


def place(host: RawHost, name: str, how: str, note: str = "") -> str:
    answer = cast("JsonObject", host.call("place", {"id": name, "how": how, "note": note})["result"])
    return json.dumps(answer)


def settled(shop: Path, number: int = 1) -> list[JsonObject]:
    wait_until(lambda: len(entries(shop / "state", "step.settled")) >= number, "the settling")
    return entries(shop / "state", "step.settled")


def findings(shop: Path, no: object) -> list[object]:
    return [one["finding"] for one in entries(shop / "state", "step.finding") if one["no"] == no]


def test_what_is_seen_to_have_happened_is_believed_at_once_and_its_checks_are_made(host: RawHost, shop: Path) -> None:
    told = place(host, "a", "done", "n")
    assert "call_timeout" in told
    assert "Note: Soothsayer asks shop.get whether it happened." in told
    [found] = settled(shop)
    assert (found["how"], found["acted"], found["by"]) == ("read_back", "yes", "rule:shop/looked-up")
    assert findings(shop, found["no"]) == ["kept"]
    # The agent is told once; then it may order twice.
    assert "took effect" in place(host, "a", "done", "n")
    assert "call_timeout" in place(host, "a", "done", "n")


def test_a_check_that_is_broken_is_on_record_though_no_answer_came(host: RawHost, shop: Path) -> None:
    (shop / "ws" / "b").write_text("other")
    place(host, "b", "hang", "n")
    [found] = settled(shop)
    assert (found["acted"], findings(shop, found["no"])) == ("yes", ["broken"])


def test_absence_is_not_believed_while_the_server_may_still_do_it(host: RawHost, shop: Path) -> None:
    place(host, "c", "hang", "n")
    wait_until(lambda: len(entries(shop / "state", "step.outcome")) > 3, "three looks")
    assert entries(shop / "state", "step.settled") == []
    assert "may already have done this" in place(host, "c", "hang", "n")
    # It lands after all, long after "not yet" was read.
    put(shop / "ws" / "c", "n")
    [found] = settled(shop)
    assert (found["acted"], findings(shop, found["no"])) == ("yes", ["kept"])


def test_absence_is_believed_once_the_process_has_ended(host: RawHost, shop: Path) -> None:
    assert "connection_lost" in place(host, "d", "die")
    [found] = settled(shop)
    assert (found["how"], found["acted"]) == ("read_back", "no")
    # It did not happen: the same call is sent.
    assert "connection_lost" in place(host, "d", "die")
    assert settled(shop, 2)[1]["acted"] == "no"
    assert "call_timeout" in place(host, "e", "hang")
    os.kill(int((shop / "ws" / "pid").read_text()), signal.SIGKILL)
    assert settled(shop, 3)[2]["acted"] == "no"


@pytest.mark.parametrize("how", ["done", "hang"])
def test_what_a_killed_proxy_left_is_settled_by_the_next(
    shop: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "policy.yaml").write_text(POLICY.replace("400ms", "60s"))
    with connect(shop) as host:
        host.ask("tools/call", {"name": "place", "arguments": {"id": "f", "how": how, "note": "n"}})
        wait_until(lambda: bool(entries(shop / "state", "step.intent")), "the intent")
        if how == "done":
            wait_until((shop / "ws" / "f").exists, "the effect")
        host.signal(signal.SIGKILL)
        host.exit_code()
    with connect(shop) as host:
        host.call("get", {"id": "f"})
        [found] = settled(shop)
        happened = how == "done"
        assert (found["how"], found["acted"], found["no"]) == ("read_back", "yes" if happened else "no", 1)
        assert findings(shop, 1) == (["kept"] if happened else [])
    code = run(["trace", "verify", "--state", str(shop / "state")])
    assert int(code) == 0, capsys.readouterr().out
    capsys.readouterr()
    run(["show", f"{found['run']}.1", "--payloads", "--state", str(shop / "state")])
    out = capsys.readouterr().out
    assert "by read_back (rule:shop/looked-up)" in " ".join(out.split())
    assert "run settle" not in out
