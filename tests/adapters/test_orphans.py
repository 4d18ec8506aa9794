"""A server is ended on the word of its note only when it is the very process that was noted."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from soothsayer_mcp.adapters.launch import Child, Launch, launch
from soothsayer_mcp.adapters.orphans import Orphans, born
from soothsayer_mcp.model.json import JsonObject, canonical, digest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there a job ends the servers of a proxy with it")

SLEEPER = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"


@pytest.fixture
def child() -> Iterator[Child]:
    argv = (sys.executable, "-c", SLEEPER, "--token", "hunter2")
    started = launch(Launch(name="files", argv=argv))
    yield started
    started.kill()
    started.process.wait()
    os.close(started.stdin_fd)
    os.close(started.stdout_fd)
    started.forget()


def dead_process() -> tuple[int, str]:
    """The number and the start of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER]) as process:
        its = born(process.pid)
        assert its is not None
        process.kill()
    return process.pid, its


def note_of(folder: Path, child: Child) -> Path:
    return folder / "servers" / f"{child.pid}.json"


def rewritten(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def left_behind(folder: Path, child: Child) -> Path:
    """The note of a server whose proxy is gone."""
    Orphans(folder).note(child)
    pid, its = dead_process()
    path = note_of(folder, child)
    rewritten(path, proxy=pid, proxy_born=its)
    return path


def test_a_note_names_the_process_and_no_word_of_its_command_line(tmp_path: Path, child: Child) -> None:
    Orphans(tmp_path).note(child)
    path = note_of(tmp_path, child)
    note: JsonObject = json.loads(path.read_text(encoding="utf-8"))
    assert (note["pid"], note["born"], note["proxy"]) == (child.pid, born(child.pid), os.getpid())
    assert note["argv"] == digest(canonical([*child.argv]))
    assert "hunter2" not in path.read_text(encoding="utf-8")


def test_a_server_of_a_living_proxy_is_left_alone(tmp_path: Path, child: Child) -> None:
    Orphans(tmp_path).note(child)
    assert Orphans(tmp_path).end_left() == ()
    assert child.ended() is None
    assert note_of(tmp_path, child).exists()


def test_a_server_of_a_dead_proxy_is_ended_and_told(tmp_path: Path, child: Child) -> None:
    path = left_behind(tmp_path, child)
    assert Orphans(tmp_path).end_left() == (
        f"server files (process {child.pid}), left behind by a proxy that was killed, was ended",
    )
    assert child.process.wait(30) < 0
    assert not path.exists()
    assert Orphans(tmp_path).end_left() == ()


def test_a_group_whose_leader_ends_when_asked_is_ended_whole(tmp_path: Path) -> None:
    argv = ("sh", "-c", '"$@"; exit 0', "sh", sys.executable, "-c", STUBBORN)
    child = launch(Launch(name="files", argv=argv))
    assert os.read(child.stdout_fd, 2) == b"1\n"
    left_behind(tmp_path, child)
    assert len(Orphans(tmp_path).end_left()) == 1
    assert os.read(child.stdout_fd, 1) == b"", "the stubborn one still holds its output open"
    child.process.wait(30)
    os.close(child.stdin_fd)
    os.close(child.stdout_fd)
    child.forget()


@pytest.mark.parametrize("other", [{"born": "1"}, {"place": "another start of the machine"}])
def test_a_process_that_only_has_the_number_is_left_alone(tmp_path: Path, child: Child, other: JsonObject) -> None:
    path = left_behind(tmp_path, child)
    rewritten(path, **other)
    assert Orphans(tmp_path).end_left() == ()
    assert child.ended() is None
    assert not path.exists(), "a note that means nothing any more is cleared"


def test_a_note_of_another_space_of_numbers_waits_for_a_proxy_that_can_read_it(tmp_path: Path, child: Child) -> None:
    path = left_behind(tmp_path, child)
    boot = json.loads(path.read_text(encoding="utf-8"))["place"].partition(" ")[0]
    rewritten(path, place=f"{boot} pid:[1]")
    assert Orphans(tmp_path).end_left() == ()
    assert child.ended() is None
    assert path.exists()


def test_a_torn_note_is_cleared_once_nobody_can_be_writing_it(tmp_path: Path) -> None:
    folder = tmp_path / "servers"
    folder.mkdir()
    young, old = folder / "1.json", folder / "2.json"
    for path in (young, old):
        path.write_text('{"server":"fi', encoding="utf-8")
    os.utime(old, (0, 0))
    assert Orphans(tmp_path).end_left() == ()
    assert young.exists()
    assert not old.exists()


def test_the_note_of_a_server_that_was_ended_in_order_goes_with_it(tmp_path: Path, child: Child) -> None:
    Orphans(tmp_path).note(child)
    child.forget()
    assert not note_of(tmp_path, child).exists()
