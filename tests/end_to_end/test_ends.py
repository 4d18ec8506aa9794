"""No server outlives the proxy, whatever ends it; and a proxy needs no more of its environment than it is given."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from end_to_end.conftest import OPEN_POLICY, SOOTHSAYER
from kept import keep
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.testing.hosts import RawHost

SERVER = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
for line in sys.stdin:
    message = json.loads(line)
    match message.get("method"):
        case "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                      "serverInfo": {"name": "stubborn", "version": "1"}}
        case "tools/list":
            result = {"tools": [{"name": "echo", "inputSchema": {"properties": {"text": {"type": "string"}}}}]}
        case "tools/call":
            result = {"content": [{"type": "text", "text": message["params"]["arguments"]["text"]}]}
        case _:
            continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
while "stubborn" in sys.argv:
    time.sleep(60)
"""


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_gone(pid: int, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while lives(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def open_proxy(tmp_path: Path, *words: str, env: dict[str, str] | None = None, behind_shell: bool = True) -> RawHost:
    script, policy = tmp_path / "server.py", tmp_path / "open.yaml"
    script.write_text(SERVER, encoding="utf-8")
    policy.write_text(OPEN_POLICY.replace("rules:", "arguments: {max_bytes: 20MB}\nrules:"), encoding="utf-8")
    server = [sys.executable, str(script), str(tmp_path / "pid"), *words]
    # A command after the server, so that the shell stays between it and us.
    argv = ["sh", "-c", '"$@"; exit 0', "sh", *server] if behind_shell else server
    proxy = [str(SOOTHSAYER), "proxy", "--name", "real", "--policy", str(policy), "--state", str(tmp_path / "state")]
    keep(policy, tmp_path / "state", servers=["real"], workspace=tmp_path)
    return RawHost([*proxy, "--", *argv], env=env)


@pytest.mark.pitfall("P-PROC-03")
@pytest.mark.parametrize(
    "way", ["SIGTERM", "SIGINT", "SIGHUP", "end of input", "SIGABRT", "SIGKILL"], ids=lambda way: way.replace(" ", "-")
)
def test_no_server_outlives_the_proxy(way: str, tmp_path: Path) -> None:
    """A crash and a kill give us no turn: then the server reads the end of its input, which ends all but the worst."""
    no_turn = way in {"SIGABRT", "SIGKILL"}
    with open_proxy(tmp_path, *([] if no_turn else ["stubborn"])) as host:
        host.initialize()
        assert host.call("echo", {"text": "hello"})["result"] == {"content": [{"type": "text", "text": "hello"}]}
        pid = int((tmp_path / "pid").read_text(encoding="ascii"))
        assert lives(pid)
        if way == "end of input":
            host.end_input()
        else:
            host.signal(signal.Signals[way])
        host.exit_code()
        wait_gone(pid)


def test_a_server_that_ignores_the_end_of_its_input_is_ended_by_the_next_proxy(tmp_path: Path) -> None:
    with open_proxy(tmp_path, "stubborn") as host:
        host.initialize()
        pid = int((tmp_path / "pid").read_text(encoding="ascii"))
        host.signal(signal.SIGKILL)
        host.exit_code()
    assert lives(pid), "it ended by itself, so this test shows nothing"
    with open_proxy(tmp_path) as host:
        host.initialize()
        wait_gone(pid)
        assert host.call("echo", {"text": "hello"})["result"] == {"content": [{"type": "text", "text": "hello"}]}
        host.end_input()
        host.exit_code()
        assert "left behind by a proxy that was killed, was ended" in host.stderr
    assert list((tmp_path / "state" / "servers").iterdir()) == []


def test_a_server_that_is_started_early_does_not_outlive_a_policy_that_does_not_load(tmp_path: Path) -> None:
    with open_proxy(tmp_path, "stubborn") as host:
        host.initialize()
    (tmp_path / "pid").unlink()
    (tmp_path / "open.yaml").write_text("soothsayer: policy/v1\nname: open\nruls: []\n", encoding="utf-8")
    proxy = [str(SOOTHSAYER), "proxy", "--policy", str(tmp_path / "open.yaml"), "--state", str(tmp_path / "state")]
    server = [sys.executable, str(tmp_path / "server.py"), str(tmp_path / "pid"), "stubborn"]
    with RawHost([*proxy, "--", *server]) as host:
        assert host.exit_code() != 0
        assert 'did you mean "rules"?' in host.stderr
        assert "Traceback" not in host.stderr
        if (tmp_path / "pid").exists() and (text := (tmp_path / "pid").read_text(encoding="ascii")):
            wait_gone(int(text))


def test_a_proxy_with_a_short_path_and_an_empty_environment_answers(tmp_path: Path) -> None:
    with open_proxy(tmp_path, env={"PATH": "/usr/bin:/bin"}, behind_shell=False) as host:
        host.initialize()
        assert host.call("echo", {"text": "hello"})["result"] == {"content": [{"type": "text", "text": "hello"}]}


def test_a_command_that_is_not_there_is_told_with_the_path_and_what_mends_it(tmp_path: Path) -> None:
    argv = [str(SOOTHSAYER), "proxy", "--state", str(tmp_path / "state"), "--", "no-such-server-here"]
    ended = subprocess.run(argv, env={"PATH": "/usr/bin:/bin"}, input=b"", capture_output=True, check=False, timeout=60)
    assert ended.returncode == Exit.UNREACHABLE
    assert b"no-such-server-here` is not on PATH (/usr/bin:/bin)" in ended.stderr
    assert ended.stdout == b""


@pytest.mark.parametrize("size", [100_000, 8 * 1024 * 1024], ids=["100kB", "8MiB"])
def test_a_large_call_and_its_answer_pass_whole(size: int, tmp_path: Path) -> None:
    with open_proxy(tmp_path, behind_shell=False) as host:
        host.initialize()
        text = "\u00e9" * (size // 2)
        assert host.call("echo", {"text": text})["result"] == {"content": [{"type": "text", "text": text}]}
