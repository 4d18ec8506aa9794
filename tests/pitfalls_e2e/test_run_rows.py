"""Runs over several proxies, on the real command: a stop holds in all of them, and no connection is a run."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from fidelity.rig import Rig, at, call, entries, step
from proxy.stage import Stage, StageWorld
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, result, tool, wait_path, wait_until

STOPPING = """\
soothsayer: policy/v1
name: stopping
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels: [{tools: "raw.fine | raw.state", does: read}]
rules:
  - {deny: "Nobody touches this.", tools: raw.trap, on_failure: {policy_denied: stop}}
  - {ask: "A person looks first.", tools: raw.send}
  - also: "It is known to be ready."
    tools: raw.deploy
    require: [{readback: {tool: raw.state, args: {}, until: 'result.ready == true'}}]
"""


@pytest.mark.pitfall("P-RUN-03")
def test_a_stop_in_one_process_refuses_new_calls_and_those_that_wait_in_another(tmp_path: Path) -> None:
    go = tmp_path / "go"
    ready = '{"content":[],"structuredContent":{"ready":true}}'
    script = Script(
        tools=list(map(tool, ("fine", "trap", "send", "deploy", "state"))),
        on={"tool:state": [wait_path(go), result(ready)]},
    )
    (tmp_path / "state").mkdir(mode=0o700)
    Face(tmp_path / "state", "watch").beat()
    with Rig(tmp_path, script, policy=STOPPING) as rig, RawHost(rig.command, cwd=tmp_path) as other:
        rig.host.initialize()
        other.initialize()
        for number, host in ((100, rig.host), (101, other)):
            host.send(call("fine", f'{{"n":{number}}}', str(number)))
            assert "isError" not in str(json.loads(host.answer(number)))
        assert len(opened_by(rig.state, "raw")) == 1
        other.send(call("send", "{}", "201"))
        other.send(call("deploy", "{}", "202"))
        wait_until(lambda: bool(rig.entries("approval.asked")), "a question")
        wait_until(lambda: bool(rig.record.calls("state")), "a look at what is demanded")

        rig.host.send(call("trap", "{}", "102"))
        assert "Stop: policy says stop" in rig.host.answer(102).decode()
        other.send(call("fine", '{"n":203}', "203"))
        assert step(other.answer(203))["reason"] == "run_closed"
        # What the waiting call demands is met only now, after the stop.
        go.touch()
        for waiting in (201, 202):
            assert step(other.answer(waiting))["reason"] == "run_closed"
        assert [one["name"] for one in rig.record.calls()] == ["fine", "fine", "state"]
        assert rig.entries("approval.answered")[0]["answer"] == "withdrawn"


SPARING = """\
soothsayer: policy/v1
name: sparing
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
budgets: {calls: 4}
"""


def sparing(folder: Path, server: str) -> RawHost:
    """A connection of the one host to one of two servers, all on one state folder."""
    command = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--quiet", "--state", folder / "state"]
    command += ["--name", server, "--policy", folder / "policy.yaml"]
    return RawHost([*command, "--", *Script(name=server).command(folder)], cwd=folder)


def greet(host: RawHost) -> int:
    """Begin to connect; the id to wait for."""
    client: JsonObject = {"name": "ada", "version": "1"}
    return host.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})


def opened_by(state: Path, host: str) -> list[object]:
    """The runs of a host; the self-test of a proxy has one of its own."""
    return [entry["run"] for entry in entries(state, "run.opened") if at(entry, "host", "name") == host]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.pitfall("P-RUN-04")
async def test_a_hundred_connections_that_only_list_look_for_no_run() -> None:
    worlds: list[StageWorld] = []

    async def connect() -> None:
        async with Stage().playing() as stage:
            await stage.open()
            listed = await stage.host.ask('{"jsonrpc":"2.0","id":1,"method":"tools/list"}')
            assert at(listed, "result", "tools", 0, "name") == "echo"
        worlds.append(stage.world)

    async with anyio.create_task_group() as connections:
        for _ in range(100):
            connections.start_soon(connect)
    assert len(worlds) == 100
    assert not any(world.bindings for world in worlds)


@pytest.mark.pitfall("P-RUN-04")
def test_one_run_spans_connections_servers_and_a_restart_with_one_budget_and_one_record(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(SPARING, encoding="utf-8")
    state = tmp_path / "state"
    with sparing(tmp_path, "one") as host:
        host.answer(greet(host))
        host.notify("notifications/initialized")
        assert at(host.request("tools/list"), "result", "tools", 0, "name") == "echo"
    assert opened_by(state, "ada") == []

    done: list[bool] = []
    # Three connections to two servers, one of which is there a second time after all have ended.
    for servers in (("one", "two"), ("one",)):
        with ExitStack() as stack:
            for server in servers:
                host = stack.enter_context(sparing(tmp_path, server))
                host.answer(greet(host))
                host.notify("notifications/initialized")
                done += ["isError" not in str(host.call("echo", {"n": n})) for n in range(2)]
    (run,) = opened_by(state, "ada")
    refused = [entry["reason"] for entry in entries(state, "step.refused") if entry["run"] == run]
    assert (done, refused) == ([True] * 4 + [False] * 2, ["budget_spent", "run_paused"])
    assert len([entry for entry in entries(state, "step.outcome") if entry["run"] == run]) == 4
