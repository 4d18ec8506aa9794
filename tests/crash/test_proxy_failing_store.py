"""While the record cannot be written, the proxy refuses calls, lives on, and works again once that is mended."""

import fcntl
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import pytest

from fidelity.rig import ALLOWING, Rig, at, entries
from needs import need, need_command
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, echo, tool, wait_path

SEGMENT = "trace-000001.db"
LARGE = "x" * 100_000
"""Too much for a row of the record: it is kept as a file."""

Failing: TypeAlias = Callable[[Rig], AbstractContextManager[None]]


@contextmanager
def no_file_may_grow(rig: Rig) -> Generator[None]:
    """A disk without room, for the proxy: no file may become longer than the log is now."""
    size = (rig.state / f"{SEGMENT}-wal").stat().st_size
    before = resource.prlimit(rig.host.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.prlimit(rig.host.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def foreign_lock(rig: Rig) -> Generator[None]:
    """Another program holds the file's write lock."""
    with closing(sqlite3.connect(rig.state / SEGMENT, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        yield
        foreign.execute("ROLLBACK")


@contextmanager
def turn_not_ended(rig: Rig) -> Generator[None]:
    """Another writer has the turn, and does not end it."""
    with (rig.state / "write.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def moved_away(rig: Rig) -> Generator[None]:
    """The file is not where it was."""
    (rig.state / SEGMENT).rename(rig.folder / "elsewhere")
    yield
    (rig.folder / "elsewhere").rename(rig.state / SEGMENT)


@contextmanager
def replaced(rig: Rig) -> Generator[None]:
    """Another file stands in its place."""
    (rig.state / SEGMENT).rename(rig.folder / "elsewhere")
    (rig.state / SEGMENT).write_bytes(b"")
    yield
    (rig.folder / "elsewhere").replace(rig.state / SEGMENT)


def reason(answer: JsonObject) -> object:
    return at(answer, "result", "_meta", "dev.soothsayer/step", "reason")


def acted(answer: JsonObject) -> object:
    return at(answer, "result", "_meta", "dev.soothsayer/step", "acted")


def is_done(answer: JsonObject) -> bool:
    return "isError" not in str(answer)


def works_again(rig: Rig) -> None:
    """Calls are forwarded again, soon."""
    deadline = time.monotonic() + 60
    while not is_done(answer := rig.host.call("echo")):
        assert (reason(answer), acted(answer)) == ("trace_unavailable", "no")
        assert time.monotonic() < deadline


def quick(folder: Path, script: Script) -> Path:
    """A configuration whose calls wait for the record for a short time only."""
    command, *arguments = script.command(folder)
    config = {
        "soothsayer": "config/v1",
        "policy": [str(folder / "policy.yaml")],
        "trace": {"timeout": "400ms"},
        "mcpServers": {script.name: {"command": command, "args": arguments}},
    }
    path = folder / "soothsayer.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


@pytest.mark.pitfall("P-TRACE-01")
@pytest.mark.parametrize(
    "failing",
    [no_file_may_grow, foreign_lock, turn_not_ended, moved_away, replaced],
    ids=["disk-full", "locked", "turn-held", "moved", "replaced"],
)
def test_calls_are_refused_and_the_proxy_lives_while_the_record_cannot_be_written(
    tmp_path: Path, failing: Failing
) -> None:
    script = Script()
    with Rig(tmp_path, script, policy=ALLOWING, config=quick(tmp_path, script)) as rig:
        rig.host.initialize()
        assert is_done(rig.host.call("echo"))
        with failing(rig):
            for _ in range(3):
                answer = rig.host.call("echo", {"text": "y" * 5000})
                assert (reason(answer), acted(answer)) == ("trace_unavailable", "no")
            assert rig.host.request("ping")["result"] == {}
            assert at(rig.host.request("tools/list"), "result", "tools", 0, "name") == "echo"
            assert len(rig.record.calls()) == 1
        works_again(rig)
        assert len(rig.record.calls()) == 2
        assert len(rig.record.pids) == 1
        rig.host.end_input()
        assert rig.host.exit_code() == 0, rig.host.stderr
    assert [entry["outcome"] for entry in entries(rig.state, "step.outcome")] == ["succeeded"] * 2
    report = verify([rig.state])
    assert report.holds, report.lines()
    assert (report.open, report.unknown) == ([], [])


@pytest.mark.pitfall("P-TRACE-01")
def test_a_proxy_whose_record_was_deleted_refuses_calls_and_harms_no_record_that_another_begins(tmp_path: Path) -> None:
    script = Script()
    with Rig(tmp_path, script, policy=ALLOWING) as rig:
        rig.host.initialize()
        assert is_done(rig.host.call("echo"))
        for path in rig.state.glob(f"{SEGMENT}*"):
            path.unlink()
        for _ in range(2):
            answer = rig.host.call("echo")
            assert (reason(answer), acted(answer)) == ("trace_unavailable", "no")
        assert rig.host.request("ping")["result"] == {}
        assert len(rig.record.calls()) == 1
        with Rig(tmp_path, script, policy=ALLOWING) as heir:
            heir.host.initialize()
            assert is_done(heir.host.call("echo"))
            rig.host.end_input()
            assert rig.host.exit_code() == 0
            assert is_done(heir.host.call("echo"))
            heir.host.signal(signal.SIGKILL)
            heir.host.exit_code()
    assert [entry["outcome"] for entry in entries(rig.state, "step.outcome")] == ["succeeded"] * 2
    assert verify([rig.state]).holds


@pytest.mark.pitfall("P-TRACE-05")
def test_a_foreign_lock_of_five_seconds_refuses_calls_and_delays_the_answer_of_one_that_was_sent(
    tmp_path: Path,
) -> None:
    """What was forwarded before is recorded as soon as that can be done, and answered only then."""
    gate = tmp_path / "gate"
    script = Script(tools=[tool("echo"), tool("slow")], on={"tool:slow": [wait_path(gate), echo()]})
    with Rig(tmp_path, script, policy=ALLOWING) as rig:
        rig.host.initialize()
        assert is_done(rig.host.call("echo"))
        slow = rig.host.ask("tools/call", {"name": "slow", "arguments": {}})
        rig.record.wait_for("tools/call", 2)
        with foreign_lock(rig):
            until = time.monotonic() + 5
            gate.touch()
            while time.monotonic() < until:
                answer = rig.host.call("echo")
                assert (reason(answer), acted(answer)) == ("trace_unavailable", "no")
                assert rig.host.request("ping")["result"] == {}
                with pytest.raises(TimeoutError):
                    rig.host.answer(slow, 0.2)
            assert len(rig.record.calls("echo")) == 1
        assert is_done(json.loads(rig.host.answer(slow)))
        works_again(rig)
        assert len(rig.record.calls("echo")) == 2
    assert [entry["outcome"] for entry in entries(rig.state, "step.outcome")] == ["succeeded"] * 3
    assert verify([rig.state]).holds


@pytest.mark.pitfall("P-TRACE-01")
def test_an_outcome_that_cannot_be_recorded_is_told_and_is_unknown_after_a_restart(tmp_path: Path) -> None:
    """It takes as long as an outcome is tried again: ten seconds."""
    gate = tmp_path / "gate"
    script = Script(on={"tool:echo": [wait_path(gate), echo()]})
    with Rig(tmp_path, script, policy=ALLOWING) as rig:
        rig.host.initialize()
        sent = rig.host.ask("tools/call", {"name": "echo", "arguments": {}})
        rig.record.wait_for("tools/call")
        with moved_away(rig):
            gate.touch()
            answer: JsonObject = json.loads(rig.host.answer(sent))
            assert (reason(answer), acted(answer)) == ("outcome_lost", "maybe")
            assert "do not repeat" in str(answer).lower()
            assert rig.host.request("ping")["result"] == {}
            rig.host.signal(signal.SIGKILL)
            rig.host.exit_code()
    with Rig(tmp_path, script, policy=ALLOWING) as rig:
        rig.host.initialize()
    [unknown] = verify([rig.state]).unknown
    [recovered] = [entry for entry in entries(rig.state, "writer.recovered") if entry["unknown"]]
    assert recovered["unknown"] == [unknown]
    assert len(rig.record.calls()) == 1


@contextmanager
def read_only(folder: Path) -> Generator[None]:
    """Nothing can be made or removed in a folder and those in it."""
    folders = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    for each in folders:
        each.chmod(0o500)
    yield
    for each in folders:
        each.chmod(0o700)


def without_rights() -> list[str]:
    """What a command begins with, so that modes of folders bind it even where the tests run as root."""
    if os.geteuid() != 0:
        return []
    setpriv = [need_command("setpriv"), "--bounding-set=-dac_override,-dac_read_search"]
    able = subprocess.run([*setpriv, "true"], check=False, capture_output=True, timeout=60).returncode == 0
    need("setpriv", found=able, remedy="allow CAP_SETPCAP, or do not run as root")
    return setpriv


@pytest.mark.pitfall("P-TRACE-01")
def test_a_state_folder_made_read_only_refuses_what_needs_a_file_in_it(tmp_path: Path) -> None:
    """The open record stays writable; a payload too great for a row does not. A proxy that starts there gives up."""
    script, state = Script(), tmp_path / "state"
    (tmp_path / "policy.yaml").write_text(ALLOWING, encoding="utf-8")
    words: list[str | Path] = [*without_rights(), sys.executable, "-m", "soothsayer_mcp", "proxy", "--state", state]
    words += ["--name", "raw", "--policy", tmp_path / "policy.yaml", "--", *script.command(tmp_path)]
    record = script.record(tmp_path)
    with RawHost(words, cwd=tmp_path) as host:
        host.initialize()
        assert is_done(host.call("echo", {"text": LARGE}))
        with read_only(state):
            answer = host.call("echo", {"text": LARGE})
            assert (reason(answer), acted(answer)) == ("trace_unavailable", "no")
            assert len(record.calls()) == 1
            assert is_done(host.call("echo"))
            ended = subprocess.run(words, cwd=tmp_path, input=b"", capture_output=True, timeout=60, check=False)
            assert ended.returncode == Exit.STATE, ended.stderr
            assert str(state).encode() in ended.stderr
        assert is_done(host.call("echo", {"text": LARGE}))
        assert len(record.calls()) == 3
    assert verify([state]).holds


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


@pytest.mark.pitfall("P-TRACE-01")
def test_a_full_disk_refuses_new_calls_and_still_records_and_answers_those_that_were_sent(tmp_path: Path) -> None:
    """A small file system of its own, which only the proxy has mounted; the room kept back serves the outcomes."""
    state, gate = tmp_path / "state", tmp_path / "gate"
    state.mkdir(mode=0o700)
    mount = f"mount -t tmpfs -o size=12m,mode=700 none {state} && exec "
    unshare = [need_command("unshare"), "-m", "sh", "-c", mount + '"$@"', "sh"]
    able = subprocess.run([*unshare, "true"], check=False, capture_output=True, timeout=60).returncode == 0
    need("mounts", found=able, remedy="run as root with CAP_SYS_ADMIN")
    script = Script(tools=[tool("echo"), tool("slow")], on={"tool:slow": [wait_path(gate), echo()]})
    (tmp_path / "policy.yaml").write_text(ALLOWING, encoding="utf-8")
    words: list[str | Path] = [*unshare, sys.executable, "-m", "soothsayer_mcp", "proxy", "--state", state]
    words += ["--name", "raw", "--policy", tmp_path / "policy.yaml", "--", *script.command(tmp_path)]
    record = script.record(tmp_path)
    with RawHost(words, cwd=tmp_path) as host:
        host.initialize()
        slow = [host.ask("tools/call", {"name": "slow", "arguments": {"text": "z" * 3000}}) for _ in range(10)]
        record.wait_for("tools/call", len(slow))
        inside = Path(f"/proc/{host.pid}/root{state}")
        filler = fill(inside)
        refused = [host.call("echo", {"text": "y" * 5000}) for _ in range(100)]
        done = sum(map(is_done, refused))
        assert done < len(refused)
        assert {(reason(answer), acted(answer)) for answer in refused[done:]} == {("trace_unavailable", "no")}
        assert len(record.calls("echo")) == done
        gate.touch()
        assert all(is_done(json.loads(host.answer(id_))) for id_ in slow)
        assert not (inside / "ballast").exists()
        filler.unlink()
        deadline = time.monotonic() + 60
        while not is_done(answer := host.call("echo")):
            assert reason(answer) == "trace_unavailable"
            assert time.monotonic() < deadline
        assert (inside / "ballast").exists()
        assert len(record.calls("echo")) == done + 1
        copied = tmp_path / "copied"
        copied.mkdir()
        for suffix in ("", "-wal"):
            shutil.copyfile(inside / f"{SEGMENT}{suffix}", copied / f"{SEGMENT}{suffix}")
    outcomes = [entry["outcome"] for entry in entries(copied, "step.outcome")]
    assert outcomes == ["succeeded"] * (len(slow) + done + 1)
    report = verify([copied])
    assert report.holds, report.lines()
    assert (report.open, report.unknown) == ([], [])
