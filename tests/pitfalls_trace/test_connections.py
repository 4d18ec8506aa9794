"""Hosts do not hear of one another, and nobody's slowness is another's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final, Self

import pytest

from fidelity.rig import ALLOWING, Rig, at, call, entries, notice, read, request
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, burst, line, result, tool, wait_for, wait_path, wait_until

REMOTE: Final = Path(__file__).parent.parent / "adapters" / "remote_server.py"

CONFIG: Final = """
soothsayer: config/v1
policy: [policy.yaml]
mcpServers:
  remote: {type: http, url: "http://127.0.0.1:%s/mcp"}
"""


@pytest.fixture(scope="module")
def port() -> Generator[int]:
    """One server, over HTTP, for all who come."""
    with subprocess.Popen([sys.executable, REMOTE, "streamable"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def through(folder: Path, port: int, name: str) -> RawHost:
    """A host of this name, before a proxy of its own, before the one server; both proxies write one record."""
    if not (folder / "soothsayer.yaml").exists():  # the proxy before this one may be reading them
        (folder / "policy.yaml").write_text(ALLOWING, encoding="utf-8")
        (folder / "soothsayer.yaml").write_text(CONFIG % port, encoding="utf-8")
    command = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--state", folder / "state"]
    host = RawHost([*command, "--config", folder / "soothsayer.yaml"], cwd=folder)
    params = (
        '{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"%s","version":"1"}}'
    )
    host.send(request("initialize", params % name, '"open"'))
    host.answer("open")
    host.notify("notifications/initialized")
    return host


@pytest.mark.pitfall("P-PROC-02")
def test_what_a_server_asks_and_tells_during_one_hosts_call_reaches_no_other_host(port: int, tmp_path: Path) -> None:
    with through(tmp_path, port, "host-a") as a, through(tmp_path, port, "host-b") as b:
        assert "result" in a.call("add", {"a": 1, "b": 1})
        steps = b.ask("tools/call", {"name": "steps", "arguments": {"count": 3}, "_meta": {"progressToken": "t"}})
        b.answer(steps)
        asked = b.ask("tools/call", {"name": "ask", "arguments": {}})
        question = read(b.message("elicitation/create"))
        assert "result" in a.call("add", {"a": 2, "b": 2})
        b.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"word": "blue"}}})
        assert "blue" in b.answer(asked).decode()
        assert sum(read(raw).get("method") == "notifications/progress" for raw in b.aside) == 3
        a.request("ping")
        assert list(a.aside) == []
    runs = {
        entry["run"]: at(entry, "host", "name") for entry in entries(tmp_path / "state", "run.opened") if "run" in entry
    }
    intents = entries(tmp_path / "state", "step.intent")
    whose = {str(entry["tool"]): runs[entry["run"]] for entry in intents if entry["server"] == "remote"}
    assert whose == {"add": "host-a", "steps": "host-b", "ask": "host-b"}


def test_what_a_server_asks_and_tells_on_pipes_stays_with_its_own_host(tmp_path: Path) -> None:
    """On pipes every host has a server process of its own."""
    asks = [
        line('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"of b"}}'),
        line('{"jsonrpc":"2.0","id":"q","method":"roots/list"}'),
        wait_for("q"),
        result('{"content":[]}'),
    ]
    script = Script(tools=[tool("plain"), tool("ask")], on={"tool:ask": asks})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    state = ["--state", tmp_path / "state"]
    with (
        Rig(tmp_path / "a", script, policy=ALLOWING, words=state) as a,
        Rig(tmp_path / "b", script, policy=ALLOWING, words=state) as b,
    ):
        a.host.initialize()
        b.host.initialize(capabilities={"roots": {}})
        asked = b.host.ask("tools/call", {"name": "ask", "arguments": {}})
        question = read(b.host.message("roots/list"))
        assert "result" in a.host.call("plain")
        b.host.send({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})
        b.host.answer(asked)
        a.fence()
        assert [read(raw)["method"] for raw in b.host.aside] == ["notifications/message"]
        assert list(a.host.aside) == []


QUICK_S: Final = 0.1


def test_while_a_call_takes_its_time_others_are_answered_at_once(tmp_path: Path) -> None:
    """P-PROC-06, with a slow call in the place of a pending ask."""
    go = tmp_path / "go"
    script = Script(
        tools=[tool("slow"), tool("plain")],
        on={"tool:slow": [wait_path(go), result('{"content":[]}')]},
    )
    with Rig(tmp_path, script, policy=ALLOWING) as rig:
        rig.host.initialize()
        rig.host.call("plain")
        slow = rig.host.ask("tools/call", {"name": "slow", "arguments": {}})
        rig.record.wait_for("tools/call", 2)
        took: list[float] = []
        for _ in range(10):
            began = time.monotonic()
            rig.host.request("ping")
            assert "result" in rig.host.call("plain")
            took.append(time.monotonic() - began)
        # The best of ten: the machine may be busy with something else, the read loop may not.
        assert min(took) < QUICK_S
        assert rig.record.calls("slow") == [{"name": "slow", "arguments": {}}]
        go.touch()
        rig.host.answer(slow)


FILLING: Final = 900
"""Notices that fill the pipe to the host, and leave the servers being read."""
NOTICES: Final = 10_000
AWAY_S: Final = 5.0
ROOM_KB: Final = 64 * 1024


def resident_kb(pid: int) -> int:
    """How much memory a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


@pytest.mark.pitfall("P-PROC-06")
def test_a_host_that_does_not_read_costs_neither_memory_nor_the_record(tmp_path: Path) -> None:
    """Nobody reads for five seconds under ten thousand notices of a kilobyte."""
    go = tmp_path / "go"
    text = notice("notifications/message", '{"level":"info","data":"' + "x" * 1000 + ' $N"}')
    script = Script(
        tools=[tool("plain"), tool("loud"), tool("flood"), tool("held")],
        on={
            "tool:loud": [result('{"content":[]}'), burst(FILLING, text)],
            "tool:flood": [result('{"content":[]}'), burst(NOTICES, text)],
            "tool:held": [wait_path(go), result('{"content":[]}')],
        },
    )
    state = tmp_path / "state"
    (tmp_path / "policy.yaml").write_text(ALLOWING, encoding="utf-8")
    command = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--state", str(state), "--name", "raw"]
    command += ["--policy", str(tmp_path / "policy.yaml"), "--", *script.command(tmp_path)]

    def ended(name: str) -> bool:
        """Whether the outcome of a tool's call is on record."""
        [intent] = [entry for entry in entries(state, "step.intent") if entry["tool"] == name]
        return any((e["run"], e["no"]) == (intent["run"], intent["no"]) for e in entries(state, "step.outcome"))

    with Unread(command) as host:
        host.write(request("initialize", OPENING, "1"), notice("notifications/initialized"))
        host.write(call("plain", request_id="2"), call("held", request_id="3"), call("loud", request_id="4"))
        script.record(tmp_path).wait_for("tools/call", 3)
        wait_until(lambda: len(entries(state, "message.checked")) >= FILLING, "the pipe to be full")
        before = resident_kb(host.pid)
        go.touch()
        wait_until(lambda: ended("held"), "the outcome of a call that was answered while nobody read")
        host.write(call("flood", request_id="5"))
        script.record(tmp_path).wait_for("tools/call", 4)
        host.write(*(call("plain", request_id=str(number)) for number in range(6, 10)))
        until = time.monotonic() + AWAY_S
        wait_until(lambda: time.monotonic() > until, "five seconds without a reader")
        assert ended("flood")
        assert resident_kb(host.pid) - before < ROOM_KB
        told = [read(raw) for raw in host.read_answers(9)]
    heard = [message.get("method") for message in told]
    assert heard.count("notifications/message") == FILLING + NOTICES
    answered = [message["id"] for message in told if isinstance(message.get("id"), int)]
    assert sorted(map(str, answered)) == [str(number) for number in range(1, 10)]
    assert len(entries(state, "step.intent")) == len(entries(state, "step.outcome"))


OPENING: Final = '{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"deaf","version":"1"}}'


class Unread:
    """A command whose output is read only when asked."""

    def __init__(self, command: list[str]) -> None:
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.pid = self._child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._child:
            os.killpg(self.pid, signal.SIGKILL)

    def write(self, *lines: str) -> None:
        """Write lines."""
        assert self._child.stdin is not None
        self._child.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self._child.stdin.flush()

    def read_answers(self, count: int) -> list[bytes]:
        """Read lines until so many of them are answers."""
        assert self._child.stdout is not None
        lines: list[bytes] = []
        while count:
            lines.append(self._child.stdout.readline())
            assert lines[-1]
            count -= b'"result"' in lines[-1]
        return lines
