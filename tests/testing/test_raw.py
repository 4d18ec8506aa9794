"""The scripted server and the raw host, against each other: what one writes literally, the other gets literally."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing import servers
from soothsayer_mcp.testing.hosts import EndedError, RawHost
from soothsayer_mcp.testing.servers import Script, tool

SCRIPTS = Path(servers.__file__).parent


def talk(script: Script, folder: Path) -> RawHost:
    return RawHost(script.command(folder))


def test_a_plain_server_opens_lists_and_echoes_in_the_handshake_era(tmp_path: Path) -> None:
    with talk(Script(), tmp_path) as host:
        assert host.initialize()["result"] == {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "raw", "version": "1"},
        }
        assert host.request("ping")["result"] == {}
        assert host.request("tools/list")["result"] == {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
        assert host.call("echo", {"a": [1, "\u00e9"]})["result"] == {
            "content": [{"type": "text", "text": '{"a": [1, "\\u00e9"]}'}]
        }
        assert host.call("none")["error"] == {"code": -32602, "message": "Unknown tool"}
        assert host.request("odd/method")["error"] == {"code": -32601, "message": "Method not found"}


def test_a_plain_server_discovers_lists_and_echoes_in_the_stateless_era(tmp_path: Path) -> None:
    with talk(Script(), tmp_path) as host:
        discovered = host.request("server/discover", stateless=True)["result"]
        assert isinstance(discovered, dict)
        assert discovered["supportedVersions"] == ["2026-07-28"]
        listed = host.request("tools/list", stateless=True)["result"]
        assert isinstance(listed, dict)
        assert (listed["resultType"], listed["ttlMs"], listed["cacheScope"]) == ("complete", 0, "private")
        assert host.call("echo", {}, stateless=True)["result"] == {
            "content": [{"type": "text", "text": "{}"}],
            "resultType": "complete",
        }
        assert host.request("ping", stateless=True)["error"] == {"code": -32601, "message": "Method not found"}


@pytest.mark.parametrize(
    ("eras", "refused", "opened"),
    [([servers.HANDSHAKE], "server/discover", "initialize"), ([servers.STATELESS], "initialize", "server/discover")],
)
def test_a_server_of_one_era_refuses_the_other_opening(
    eras: list[str], refused: str, opened: str, tmp_path: Path
) -> None:
    with talk(Script(eras=eras), tmp_path) as host:
        assert "error" in host.request(refused)
        assert "result" in host.request(opened)


def test_a_server_without_a_version_repeats_the_hosts(tmp_path: Path) -> None:
    with talk(Script(version=""), tmp_path) as host:
        result = host.initialize("2024-11-05")["result"]
        assert isinstance(result, dict)
        assert result["protocolVersion"] == "2024-11-05"


def test_every_line_that_reaches_the_server_is_written_down_byte_for_byte(tmp_path: Path) -> None:
    script = Script()
    lines = [b"garbage \xff", b"", b'{"jsonrpc":"2.0","method":"n","params":{"x":1e400}}', b"[" * 5000]
    with talk(script, tmp_path) as host:
        for line in lines:
            host.send(line)
        host.write(b'{"method":"m"}\r\n{"id":1,"method":"tools/call","params":{"name":"echo"}}')
        assert len(host.rest()) == 1
    record = script.record(tmp_path)
    assert record.lines == [*lines, b'{"method":"m"}', b'{"id":1,"method":"tools/call","params":{"name":"echo"}}']
    assert record.methods == ["n", "m", "tools/call"]
    assert record.calls() == record.calls("echo") == [{"name": "echo"}]
    assert record.calls("other") == []


def test_a_record_without_a_server_is_empty(tmp_path: Path) -> None:
    record = Script().record(tmp_path)
    assert (record.lines, record.pids) == ([], [])


def test_literal_results_arrive_literally_under_the_requests_id(tmp_path: Path) -> None:
    odd = '{ "a":1e400,"a":-0.0 , "s":"\\ud800\u2028", "n":1180591620717411303424}'
    script = Script(on={"tool:odd": [servers.result(odd)], "m": [servers.error('{"code":"x"}')]})
    with talk(script, tmp_path) as host:
        host.send(b'{"id":"7","method":"tools/call","params":{"name":"odd"}}')
        assert host.answer("7") == f'{{"jsonrpc":"2.0","id":"7","result":{odd}}}'.encode()
        host.send(b'{"id":7,"method":"m"}')
        assert host.answer(7) == b'{"jsonrpc":"2.0","id":7,"error":{"code":"x"}}'


def test_what_a_literal_text_may_refer_to_is_filled_in(tmp_path: Path) -> None:
    text = "$ID $TOKEN $PARAMS $ARGUMENTS $LINE $N $ANSWER $OTHER $IDS"
    script = Script(on={"m": [servers.line(text)]})
    with talk(script, tmp_path) as host:
        host.send('{"id":"a","method":"m","params":{"arguments":{"x":1},"_meta":{"progressToken":0}}}')
        params = '{"arguments": {"x": 1}, "_meta": {"progressToken": 0}}'
        line = json.dumps('{"id":"a","method":"m","params":{"arguments":{"x":1},"_meta":{"progressToken":0}}}')
        assert host.line().decode() == f'"a" 0 {params} {{"x": 1}} {line} $N $ANSWER $OTHER $IDS'


def test_a_burst_comes_in_order_before_what_follows_it(tmp_path: Path) -> None:
    script = Script(on={"m": [servers.burst(300, '{"method":"n","params":{"n":$N}}'), servers.result("{}")]})
    with talk(script, tmp_path) as host:
        assert host.request("m")["result"] == {}
        assert [json.loads(line)["params"]["n"] for line in host.aside] == list(range(300))


def test_raw_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    script = Script(at_start=[servers.raw(b"\xff\xfe\r\n{"), servers.raw(b"}\n")])
    with talk(script, tmp_path) as host:
        assert [host.line(), host.line()] == [b"\xff\xfe\r", b"{}"]


def test_a_slow_call_does_not_hold_up_the_next(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = Script(on={"slow": [servers.wait_path(gate), servers.result("1")]})
    with talk(script, tmp_path) as host:
        slow = host.ask("slow")
        assert host.request("ping")["result"] == {}
        gate.touch()
        assert json.loads(host.answer(slow))["result"] == 1


def test_a_server_can_ask_the_host_and_use_the_answer(tmp_path: Path) -> None:
    ask = '{"jsonrpc":"2.0","id":"q","method":"roots/list"}'
    script = Script(on={"m": [servers.line(ask), servers.wait_for("q"), servers.result("$ANSWER")]})
    with talk(script, tmp_path) as host:
        request = host.ask("m")
        assert host.message("roots/list").decode() == ask
        host.send('{"id":"q","result":{"roots":[]}}')
        assert json.loads(host.answer(request))["result"] == {"id": "q", "result": {"roots": []}}


def test_a_server_can_wait_for_a_cancel(tmp_path: Path) -> None:
    script = Script(on={"m": [servers.wait_for("notifications/cancelled"), servers.line('{"method":"stopped"}')]})
    with talk(script, tmp_path) as host:
        host.notify("notifications/cancelled")  # one that came before is another one's
        host.ask("m")
        assert host.request("ping")["result"] == {}
        assert not host.aside
        host.notify("notifications/cancelled", {"requestId": 1})
        assert host.message("stopped") == b'{"method":"stopped"}'


def test_time_passes_before_what_follows_a_wait(tmp_path: Path) -> None:
    with talk(Script(on={"m": [servers.wait(0.05), servers.result("1")]}), tmp_path) as host:
        assert host.request("m")["result"] == 1


def test_a_server_can_die_with_its_last_words_and_live_again(tmp_path: Path) -> None:
    script = Script(
        on={"m": [servers.in_life(1, servers.say("oh no"), servers.die(3)), servers.result('"alive"')]},
    )
    with talk(script, tmp_path) as host:
        host.ask("m")
        with pytest.raises(EndedError):
            host.line()
        assert host.exit_code() == 3
        assert host.stderr == "oh no\n"
    with talk(script, tmp_path) as host:
        assert host.request("m")["result"] == "alive"
        pids = script.record(tmp_path).pids
        assert len(pids) == 2
        assert pids[1] == host.pid
    assert script.record(tmp_path).methods == ["m", "m"]


def test_a_wait_in_one_life_only_is_no_wait_for_the_reading(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = Script(on={"m": [servers.in_life(1, servers.wait_path(gate)), servers.result("1")]})
    with talk(script, tmp_path) as host:
        request = host.ask("m")
        assert host.request("ping")["result"] == {}
        gate.touch()
        assert json.loads(host.answer(request))["result"] == 1


def test_a_server_can_close_its_output_and_live_on(tmp_path: Path) -> None:
    script = Script(on={"m": [servers.hush()]})
    with talk(script, tmp_path) as host:
        host.ask("m")
        with pytest.raises(EndedError):
            host.line()
        host.notify("n")
        script.record(tmp_path).wait_for("n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no polite signals")
def test_a_stubborn_server_ends_only_when_killed(tmp_path: Path) -> None:
    script = Script(stubborn=True)
    with talk(script, tmp_path) as host:
        host.initialize()
        host.end_input()
        host.signal(signal.SIGTERM)
        host.signal(signal.SIGINT)
        with pytest.raises(TimeoutError):
            host.exit_code(0.2)
        host.close(0.1)
        assert host.exit_code() == -signal.SIGKILL


def test_a_server_ends_with_its_input(tmp_path: Path) -> None:
    with talk(Script(), tmp_path) as host:
        host.ask("ping")
        assert [json.loads(line)["result"] for line in host.rest()] == [{}]
        assert host.exit_code() == 0
        with pytest.raises(EndedError):
            host.line()


def test_the_process_of_the_server_imports_nothing_of_the_proxy(tmp_path: Path) -> None:
    show = "import sys; sys.path.append(sys.argv.pop(1)); import scripted; print(sorted(sys.modules))"
    with RawHost([sys.executable, "-I", "-S", "-c", show, str(SCRIPTS)]) as host:
        loaded = host.line().decode()
    assert "'scripted'" in loaded
    assert not [word for word in ("soothsayer", "typing", "dataclasses", "inspect", "pathlib'") if word in loaded]


def test_answers_are_told_apart_by_the_type_of_their_id(tmp_path: Path) -> None:
    script = Script(on={"m": [servers.line('{"id":"1","result":"text"}'), servers.line('{"id":true,"result":0}')]})
    with talk(script, tmp_path) as host:
        host.send('{"id":9,"method":"m"}')
        host.send('{"id":1,"method":"ping"}')
        assert host.answer(1) == b'{"jsonrpc":"2.0","id":1,"result":{}}'
        assert host.answer("1") == b'{"id":"1","result":"text"}'
        assert list(host.aside) == [b'{"id":true,"result":0}']
        assert host.line() == b'{"id":true,"result":0}'


def test_waiting_for_a_line_ends(tmp_path: Path) -> None:
    with talk(Script(), tmp_path) as host:
        with pytest.raises(TimeoutError):
            host.line(0.05)
        with pytest.raises(TimeoutError):
            host.answer(1, 0.05)


def test_a_host_gives_its_command_the_environment_and_folder_it_is_told(tmp_path: Path) -> None:
    show = "import os; print(os.getcwd(), os.environ['X'], flush=True)"
    with RawHost([sys.executable, "-c", show], cwd=tmp_path, env={"X": "1"}) as host:
        assert host.line().decode() == f"{tmp_path.resolve()} 1"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look at")
def test_closing_a_host_leaves_nothing_of_its_group() -> None:
    spawn = (
        "import subprocess, sys; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " stdin=subprocess.DEVNULL); print(c.pid, flush=True)"
    )
    with RawHost([sys.executable, "-c", spawn]) as host:
        child = int(host.line())
        assert is_running(child)
    servers.wait_until(lambda: not is_running(child), "the end of the command's own child")


def test_a_host_can_be_closed_after_its_command_has_gone(tmp_path: Path) -> None:
    script = Script(at_start=[servers.die(0)])
    host = talk(script, tmp_path)
    host.exit_code()
    message: JsonObject = {"method": "n"}
    with pytest.raises(BrokenPipeError):
        host.send(message)
    host.close()


def test_a_server_that_is_reading_its_script_reads_all_of_it_while_the_next_is_made_ready(tmp_path: Path) -> None:
    script = Path(Script(tools=(tool("first"),)).command(tmp_path)[-2])
    with script.open(encoding="utf-8") as reading:
        Script(tools=(tool("second"),)).command(tmp_path)
        assert "first" in json.dumps(json.load(reading))
    assert "second" in script.read_text(encoding="utf-8")
