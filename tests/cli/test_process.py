import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands import Soothsayer
from seeding import D3A0, sample, seed
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.cli.exits import Exit

Process = Callable[..., "subprocess.Popen[bytes]"]

BOUND_S = 60.0


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=BOUND_S)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["log"], Exit.DONE),
        (["log", "-e", "tool:nothing"], Exit.NO),
        (["show", "d3a0.99"], Exit.NO),
        (["log", "efect:deny"], Exit.USAGE),
        (["nothing"], Exit.USAGE),
        (["proxy", "--polcy", "x"], Exit.USAGE),
        ([], Exit.USAGE),
    ],
)
def test_a_real_process_ends_with_the_code_of_the_table(process: Process, argv: list[str], code: Exit) -> None:
    returned, _out, err = ended(process(*argv))
    assert returned == code
    assert "Traceback" not in err


@pytest.mark.parametrize("damage", ["noise", "newer", "foreign", "folder", "other tables"])
def test_a_trace_that_cannot_be_read_is_one_line_and_exit_7(process: Process, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "state"
    made = seed(folder)
    segment = folder / "trace-000001.db"
    match damage:
        case "newer":
            made.db.execute("PRAGMA user_version = 99")
            made.db.execute("UPDATE meta SET value = '99' WHERE key = 'read_from'")
            made.db.commit()
        case "other tables":
            made.db.execute("DELETE FROM meta WHERE key = 'shape'")
            made.db.commit()
        case "foreign":
            made.db.execute("PRAGMA application_id = 1")
        case _:
            pass
    made.db.close()
    if damage == "noise":
        segment.write_bytes(os.urandom(8192))
    if damage == "folder":
        segment.unlink()
        segment.mkdir()
    returned, out, err = ended(process("log", "--state", str(folder)))
    assert returned == Exit.STATE
    assert out == ""
    assert err.startswith(f"soothsayer: the trace {segment} cannot be read: ")
    assert len(err.splitlines()) == 1


def test_a_trace_that_was_only_begun_holds_nothing_yet(process: Process, tmp_path: Path) -> None:
    """A proxy makes the file before it makes the tables."""
    (tmp_path / "trace-000001.db").touch()
    returned, out, err = ended(process("log", "--state", str(tmp_path)))
    assert (returned, out) == (Exit.DONE, "")
    assert err.startswith("nothing is recorded yet; soothsayer demo")


def test_a_newer_minor_format_that_says_so_is_still_read(process: Process, tmp_path: Path) -> None:
    made = sample(tmp_path)
    made.db.execute("PRAGMA user_version = 2")
    made.db.close()
    returned, out, _err = ended(process("log", "--oneline", "--state", str(tmp_path)))
    assert returned == Exit.DONE
    assert len(out.splitlines()) == 9


def test_a_reader_that_has_seen_enough_is_no_error(process: Process, tmp_path: Path) -> None:
    made = seed(tmp_path)
    made.run(D3A0)
    for _ in range(400):
        made.step(D3A0)
    made.db.close()
    started = process("log", "--jsonl", "-n", "0", "--state", str(tmp_path))
    assert started.stdout is not None
    assert started.stdout.readline().startswith(b'{"schema": 1')
    started.stdout.close()
    assert started.stderr is not None
    assert started.stderr.read() == b""
    assert started.wait(timeout=BOUND_S) == Exit.DONE
    started.stderr.close()


def test_ctrl_c_ends_following_at_once_and_quietly(process: Process) -> None:
    started = process("log", "-f", "--oneline", "-n", "1")
    assert started.stdout is not None
    assert started.stdout.readline().startswith(b"d3b1.1 ")
    started.send_signal(signal.SIGINT)
    returned, out, err = ended(started)
    assert returned == Exit.INTERRUPTED
    assert (out, err) == ("", "")


def test_following_shows_what_another_process_records_and_nothing_twice(process: Process, tmp_path: Path) -> None:
    made = sample(tmp_path)
    started = process("log", "-f", "--jsonl", "-n", "2", "--state", str(tmp_path), "-effect:deny")
    assert started.stdout is not None
    first = [json.loads(started.stdout.readline()) for _ in range(2)]
    assert [step["step"][-2:] for step in first] == [".8", ".1"]
    made.step(D3A0, "a.one")
    made.step(D3A0, "a.denied", effect="deny", outcome="failed", failure="policy_denied", reason="no_rule", acted="no")
    made.step(D3A0, "a.in_flight", outcome=None, acted=None)
    made.step(D3A0, "a.two")
    made.db.close()
    assert [json.loads(started.stdout.readline())["tool"] for _ in range(2)] == ["one", "two"]
    started.send_signal(signal.SIGINT)
    returned, out, _err = ended(started)
    assert (returned, out) == (Exit.INTERRUPTED, "")


def test_following_waits_for_the_first_step_of_a_folder_that_is_not_there_yet(process: Process, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    started = process("log", "-f", "--oneline", "--state", str(folder))
    assert started.stderr is not None
    assert b"waiting for the first step" in started.stderr.readline()
    made = sample(folder)
    made.db.close()
    assert started.stdout is not None
    assert started.stdout.readline() != b""
    started.send_signal(signal.SIGINT)
    assert ended(started)[0] == Exit.INTERRUPTED


def test_a_state_folder_that_cannot_be_written_is_read_all_the_same(process: Process, tmp_path: Path) -> None:
    """An archive: the log was copied back when its last writer closed it, and nobody writes to it."""
    made = sample(tmp_path)
    made.db.execute("PRAGMA journal_mode = DELETE")
    made.db.execute("PRAGMA journal_mode = WAL")
    made.db.close()
    assert not list(tmp_path.glob("*-wal"))
    tmp_path.chmod(0o500)
    try:
        returned, out, _err = ended(process("log", "--oneline", "--state", str(tmp_path)))
    finally:
        tmp_path.chmod(0o700)
    assert returned == Exit.DONE
    assert len(out.splitlines()) == 9


def test_reading_changes_no_byte_of_the_trace(process: Process, tmp_path: Path) -> None:
    sample(tmp_path).db.close()
    before = (tmp_path / "trace-000001.db").read_bytes()
    for argv in (["log"], ["show", "d3a0.1"], ["stats"], ["run", "list"], ["trace", "query", "SELECT 1"]):
        assert ended(process(*argv, "--state", str(tmp_path)))[0] == Exit.DONE
    assert (tmp_path / "trace-000001.db").read_bytes() == before


HEAVY = {"mcp", "rich", "click", "textual", "pydantic", "yaml", "re2", "cryptography", "sqlite3", "asyncio", "anyio"}


def loaded(*argv: str, environ: dict[str, str]) -> set[str]:
    """The top-level packages of `HEAVY` that a command line imports."""
    script = (
        "import sys, contextlib, io\n"
        "from soothsayer_mcp.__main__ import run\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        f"    run({list(argv)!r})\n"
        "print(*{name.split('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ)
    return set(done.stdout.split()) & HEAVY


def test_each_command_imports_only_what_it_needs(state: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(state), "SOOTHSAYER_STATE": str(state)}
    assert loaded("--help", environ=environ) == {"click"}
    assert loaded("run", "--help", environ=environ) == {"click"}
    assert not loaded("proxy", "--polcy", environ=environ) & {"click", "rich", "mcp", "textual", "pydantic"}
    assert loaded("log", environ=environ) <= {"click", "rich", "sqlite3", "asyncio"}
    assert "mcp" not in loaded("proxy", "--help", environ=environ)


def test_completion_answers_from_the_table_and_the_store(state: Path) -> None:
    def complete(line: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "soothsayer_mcp"],
            capture_output=True,
            text=True,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(state),
                "SOOTHSAYER_STATE": str(state),
                "_SOOTHSAYER_COMPLETE": "bash_complete",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(line.split(" ")) - 1),
            },
        )
        return [found.partition(",")[2] for found in done.stdout.splitlines()]

    assert complete("soothsayer lo") == ["log"]
    assert complete("soothsayer run sh") == ["show"]
    assert complete("soothsayer run show d3b") == ["d3b1"]
    assert complete("soothsayer log eff") == ["effect:"]
    assert complete("soothsayer log effect:d") == ["effect:deny"]
    assert complete("soothsayer show rule_d") == ["rule_denied"]


def resolving_to(monkeypatch: pytest.MonkeyPatch, command: Callable[[list[str]], int]) -> None:
    def resolve(_row: str) -> object:
        return command

    monkeypatch.setattr("soothsayer_mcp.__main__.resolve", resolve)


def test_a_bug_of_ours_is_one_line_and_exit_70(soothsayer: Soothsayer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_argv: list[str]) -> int:
        raise RuntimeError("first line\nsecond line \x1b[2J")

    resolving_to(monkeypatch, broken)
    ended_ = soothsayer("log")
    assert ended_.code == Exit.BUG
    assert len(ended_.err.splitlines()) == 1
    assert "a bug in Soothsayer: RuntimeError: first line" in ended_.err
    assert "Traceback" in soothsayer("log", "--debug").err


def test_an_interrupt_anywhere_is_exit_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_argv: list[str]) -> int:
        raise KeyboardInterrupt

    resolving_to(monkeypatch, interrupted)
    assert run(["log"]) == Exit.INTERRUPTED


@contextmanager
def terminal(*argv: str, environ: dict[str, str]) -> Generator[int]:
    """A real process on a terminal of its own; gives the terminal's other end."""
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-m", "soothsayer_mcp", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "120", **environ},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield ours
        started.wait(timeout=BOUND_S)
    finally:
        started.kill()
        started.wait()
        os.close(ours)


def read_all(ours: int) -> str:
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            return text.decode()
        if not piece:
            return text.decode()
        text += piece


def test_on_a_terminal_there_is_colour_and_a_caret_under_a_mistake(state: Path) -> None:
    environ = {"HOME": str(state), "SOOTHSAYER_STATE": str(state)}
    with terminal("log", "-n1", environ=environ) as ours:
        assert "\x1b[1mTIME" in read_all(ours)
    with terminal("log", "-n1", environ={**environ, "TERM": "dumb"}) as ours:
        assert "\x1b" not in read_all(ours)
    with terminal("log", "server:files efect:deny", environ=environ) as ours:
        lines = read_all(ours).splitlines()
    assert lines[0] == 'soothsayer: unknown key "efect"; did you mean "effect"? [query-key]'
    assert lines[1] == "  server:files efect:deny"
    assert lines[2] == "  " + " " * len("server:files ") + "^"


def test_a_long_page_goes_through_the_persons_pager_and_only_then(state: Path, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\ncat\n")
    pager.chmod(0o700)
    environ = {"HOME": str(state), "SOOTHSAYER_STATE": str(state), "PAGER": str(pager), "LINES": "5"}
    with terminal("log", environ=environ) as ours:
        assert read_all(ours).startswith("PAGED")
    with terminal("log", "--no-pager", environ=environ) as ours:
        assert "PAGED" not in read_all(ours)
    with terminal("log", environ={**environ, "LINES": "50"}) as ours:
        assert "PAGED" not in read_all(ours)


def test_a_proxy_that_is_asked_for_more_says_where_all_comes_from_and_goes_to(process: Process, tmp_path: Path) -> None:
    command = (
        "proxy",
        "--state",
        str(tmp_path / "s"),
        "--policy",
        "guarded",
        "--name",
        "files",
        "-v",
        "--",
        "sh",
        "-c",
        "exit 0 # key",
    )
    _code, out, err = ended(process(*command))
    assert out == ""
    for told in (f"state in {tmp_path / 's'}, durability strict", "policy guarded, mode enforce", "servers files"):
        assert f"soothsayer: {told}\n" in err
    assert "key" not in err, "what a server is called with may be a secret"
