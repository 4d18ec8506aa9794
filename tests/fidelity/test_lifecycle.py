"""Noise, ends and floods, on real processes."""

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

import pytest

from fidelity.rig import ALLOWING, ERAS, Rig, answered, call, lives, notice, read, request, resident_mib, step
from soothsayer_mcp.testing.servers import Script, burst, die, hush, in_life, line, raw, result, say, tool, wait_until

DONE = '{"resultType":"complete","content":[]}'


def test_noise_of_a_server_never_reaches_the_host_and_is_told_under_its_name(tmp_path: Path) -> None:
    noise = [
        line("Welcome \x1b[2J!"),
        raw(b"\xff\xfe\n"),
        line("7"),
        line("DB_PASSWORD=hunter2 is what I connect with"),
        line('{"jsonrpc":'),
        raw(b"\n\r\n"),
        say("a word"),
    ]
    script = Script(
        name="noisy",
        at_start=noise,
        on={"tool:noisy": [*noise, result(DONE), raw(b"half a line without an end")]},
        tools=[tool("noisy"), tool("echo")],
    )
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        rig.host.send(call("noisy", request_id="7"))
        assert rig.host.line() == answered(DONE, "7")
        lines = rig.host.rest()
        assert lines == []
        assert rig.host.exit_code() == 0
        said = rig.host.stderr
    assert "\x1b" not in said
    assert "noisy: not a message: b'Welcome \\x1b[2J!'" in said
    assert "a word" in said
    assert "hunter2" not in said
    assert "is what I connect with" in said
    assert "Traceback" not in said
    assert len([entry for entry in rig.entries("message.dropped") if entry["server"] == "noisy"]) >= 8


@pytest.mark.parametrize("era", ERAS)
def test_an_answer_follows_noise_on_either_side(era: str, tmp_path: Path) -> None:
    script = Script(on={"tool:x": [line("noise"), result(DONE)]}, tools=[tool("x")])
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        for garbage in (b"\xff\xff\n", b"{\n", b"\x00\n", b"GET / HTTP/1.1\r\n", b"\n\n\r\n"):
            rig.host.write(garbage)
            rig.host.send(call("x", request_id="7", era=era))
            assert rig.host.answer(7) == answered(DONE, "7")


def test_requests_from_a_file_are_all_answered_into_a_file(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        command = rig.command
    asked = tmp_path / "asked"
    lines = [
        request(
            "initialize",
            '{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"f","version":"1"}}',
            "0",
        ),
        notice("notifications/initialized", None),
        *(call("echo", f'{{"n":{number}}}', str(number)) for number in range(1, 4)),
    ]
    # The last line has no end.
    asked.write_text("\n".join(lines), encoding="utf-8")
    with asked.open("rb") as source, (tmp_path / "answered").open("wb") as target:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=source,
            stdout=target,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answers = [read(text) for text in (tmp_path / "answered").read_bytes().splitlines()]
    assert sorted(cast("int", answer["id"]) for answer in answers) == [0, 1, 2, 3]
    assert all("result" in answer for answer in answers)


ENDINGS = {
    "dies": [die(3)],
    "dies in the middle of its answer": [raw(b'{"jsonrpc":"2.0","id":7,"result":{"content":['), die(0)],
    "closes its output": [hush()],
}


@pytest.mark.pitfall("P-EVID-01")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("how", ENDINGS)
def test_a_server_that_ends_in_a_call_is_told_as_unknown_and_started_again(how: str, era: str, tmp_path: Path) -> None:
    script = Script(
        name="frail", on={"tool:act": [say("last words"), *ENDINGS[how]]}, tools=[tool("act"), tool("echo")]
    )
    with Rig(tmp_path, script, policy=ALLOWING) as rig:
        rig.host.initialize()
        rig.host.send(call("act", request_id="7", era=era))
        answer = rig.host.answer(7)
        assert step(answer)["reason"] == "connection_lost"
        assert step(answer)["acted"] == "maybe"
        assert b"frail" in answer
        rig.host.send(call("echo", request_id="8", era=era))
        assert b'"isError"' not in rig.host.answer(8)
        assert len(rig.record.pids) == 2
        assert len(rig.record.calls("act")) == 1
        assert "last words" in rig.host.stderr
        assert not lives(rig.record.pids[0])
    [outcome] = [entry for entry in rig.entries("step.outcome") if entry["outcome"] == "unknown"]
    assert outcome["reason"] == "connection_lost"


def test_a_server_that_is_gone_while_idle_is_started_again_by_the_next_request(tmp_path: Path) -> None:
    script = Script(on={"notifications/x": [in_life(1, die(0))]})
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        rig.host.notify("notifications/x")
        # Until the proxy has noticed: what is sent before that is lost with the server.
        wait_until(lambda: "exited with code 0" in rig.host.stderr, "word of the server's end")
        assert rig.host.call("echo")["result"]
        assert rig.record.methods.count("initialize") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_call_that_is_in_flight_in_time_and_leaves_no_process(number: int, tmp_path: Path) -> None:
    script = Script(on={"tool:slow": []}, tools=[tool("slow")], stubborn=True)
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        rig.host.send(call("slow", request_id="7"))
        rig.record.wait_for("tools/call")
        rig.host.signal(number)
        assert step(rig.host.answer(7))["acted"] == "maybe"
        rig.host.exit_code()
        wait_until(lambda: not any(map(lives, rig.record.pids)), "the end of the server")
    [outcome] = rig.entries("step.outcome")
    assert outcome["outcome"] == "unknown"


def test_a_killed_proxy_leaves_no_server_and_its_open_step_is_found_by_the_next(tmp_path: Path) -> None:
    script = Script(on={"tool:slow": []}, tools=[tool("slow"), tool("echo")])
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        rig.host.send(call("slow", request_id="7"))
        rig.record.wait_for("tools/call")
        rig.host.signal(signal.SIGKILL)
        rig.host.exit_code()
        wait_until(lambda: not any(map(lives, rig.record.pids)), "the end of the server")
    assert rig.entries("step.outcome") == []
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        assert rig.host.call("echo")["result"]
    assert len(rig.record.calls("slow")) == 1
    recovered = [entry for entry in rig.entries() if "recover" in str(entry["kind"])]
    assert recovered


class Unread:
    """A host that does not read until it is told to."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._child = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self.stdin, self.stdout, self.pid = self._child.stdin, self._child.stdout, self._child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        self.stdin.close()
        self.stdout.close()

    def send(self, text: str) -> None:
        self.stdin.write(text.encode() + b"\n")
        self.stdin.flush()

    def line_of(self, request_id: int) -> bytes:
        """Read until an answer comes."""
        for text in self.stdout:
            if json.loads(text).get("id") == request_id:
                return text.rstrip(b"\n")
        raise EOFError


INITIALIZE = request(
    "initialize", '{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"u","version":"1"}}', "0"
)


def test_a_host_that_does_not_read_holds_up_no_record_and_memory_stays_bounded(tmp_path: Path) -> None:
    """A hundred megabytes of notices wait in the server's pipe, not in our memory."""
    flood = notice("notifications/message", json.dumps({"level": "info", "data": "x" * 10_000}))
    script = Script(on={"tool:flood": [result(DONE), burst(10_000, flood)]}, tools=[tool("flood"), tool("echo")])
    with Rig(tmp_path, script) as rig:
        command = rig.command
    with Unread(command) as host:
        host.send(INITIALIZE)
        host.line_of(0)
        host.send(call("echo", request_id="1"))
        host.line_of(1)
        before = resident_mib(host.pid)
        host.send(call("flood", request_id="2"))
        wait_until(lambda: len(rig.entries("step.outcome")) == 2, "the outcome of the flood")
        host.send(call("echo", request_id="3"))
        # Its intent is on record while nobody reads; the server has no turn to answer before its flood is taken.
        wait_until(lambda: len(rig.entries("step.intent")) == 3, "the intent of the next call")
        host.line_of(2)
        host.line_of(3)
        assert resident_mib(host.pid) - before < 160
    assert len(rig.entries("step.outcome")) == 3


def test_a_server_that_answers_nothing_takes_no_more_calls_than_its_limit(tmp_path: Path) -> None:
    """Further calls are refused at once, nothing of them is sent, and other messages go through."""
    script = Script(on={"tools/list": [], "x/echo": [result("{}")]})
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        before = resident_mib(rig.host.pid)
        ballast = '{"text":"' + "x" * 100_000 + '"}'
        for number in range(1000, 1300):
            rig.host.send(call("echo", ballast, str(number)))
        refused = [read(rig.host.line()) for _ in range(44)]
        assert {str(step(answer)["reason"]) for answer in refused} == {"too_many_in_flight"}
        assert {str(step(answer)["acted"]) for answer in refused} == {"no"}
        assert rig.host.request("x/echo")["result"] == {}
        assert rig.record.calls() == []
        assert resident_mib(rig.host.pid) - before < 160
        rig.host.signal(signal.SIGTERM)
