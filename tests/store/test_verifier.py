"""The verifier names the first broken entry, and never says more than hashes and chains can show."""

import ast
import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from recording import bind, intend, make_step, opened, run, whole_step, withhold
from soothsayer_mcp.adapters import verifier
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import NOT_COVERED, Report, verify
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.run import RunState

SEGMENT = "trace-000001.db"
TRIGGERS = ("entries_next", "entries_no_update", "entries_no_delete", "payloads_no_update")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of five steps: positions 0 and 1 open writer and run, 2 to 9 are four steps, 10 a refusal, 11 the end."""
    folder = tmp_path_factory.mktemp("whole") / "state"

    async def scene(store: SqliteStore) -> None:
        run_id = await bind(store)
        for _ in range(4):
            await whole_step(store, run_id)
        await withhold(store, make_step(run_id, effect=Effect.DENY))

    with opened(folder) as store:
        run(lambda: scene(store))
    return folder


@pytest.fixture
def trace(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "state")
    return tmp_path / "state"


def tamper(folder: Path, change: Callable[[sqlite3.Connection], object]) -> Report:
    """Change the file as its owner can, and verify."""
    with closing(sqlite3.connect(folder / SEGMENT)) as db, db:
        for trigger in TRIGGERS:
            db.execute(f"DROP TRIGGER {trigger}")
        change(db)
    return verify([folder])


def rewrite(db: sqlite3.Connection, pos: int, change: Callable[[str], str]) -> None:
    """Change a body and give it a fitting hash."""
    [(body,)] = db.execute("SELECT body FROM entries WHERE pos = ?", (pos,)).fetchall()
    body = change(body)
    leaf = hashlib.sha256(b"\0" + body.encode()).digest()
    db.execute("UPDATE entries SET body = ?, leaf = ? WHERE pos = ?", (body, leaf, pos))


def test_a_whole_trace_holds_and_nothing_is_claimed_beyond_it(trace: Path) -> None:
    report = verify([trace])
    assert report.holds
    assert (report.entries, report.writers, report.steps, report.payloads) == (12, 1, 5, 15)
    assert report.uncovered == report.entries
    assert report.lines()[-2:] == [NOT_COVERED, "hashes and chains hold"]


def test_a_flipped_byte_is_found_where_it_is(trace: Path) -> None:
    report = tamper(
        trace, lambda db: db.execute("UPDATE entries SET body = replace(body, 'allow', 'deny') WHERE pos = 4")
    )
    assert report.problems[0].pos == 4
    assert "do not match its hash" in str(report.problems[0])


def test_a_flipped_byte_with_a_fitting_hash_is_found_in_the_next_entry(trace: Path) -> None:
    report = tamper(trace, lambda db: rewrite(db, 4, lambda body: body.replace('"request":"7"', '"request":"8"')))
    assert report.problems[0].pos == 5
    assert "was changed or removed" in str(report.problems[0])


def test_an_entry_removed_from_the_middle_is_found(trace: Path) -> None:
    report = tamper(trace, lambda db: db.execute("DELETE FROM entries WHERE pos = 5"))
    assert report.problems[0].pos == 6
    assert any("are missing" in str(problem) for problem in report.problems)


def test_entries_removed_and_the_rest_moved_together_are_found(trace: Path) -> None:
    def change(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM entries WHERE pos IN (4, 5)")
        db.execute("DELETE FROM payloads WHERE seq IN (4, 5)")
        db.execute("DELETE FROM steps WHERE no = 2")
        for pos in range(6, 12):
            db.execute("UPDATE entries SET pos = pos - 2 WHERE pos = ?", (pos,))

    report = tamper(trace, change)
    assert report.problems[0].pos == 4


def test_the_first_entries_removed_are_found(trace: Path) -> None:
    report = tamper(trace, lambda db: db.execute("DELETE FROM entries WHERE pos < 3"))
    assert report.problems[0].pos == 3


def test_two_entries_in_each_others_place_are_found(trace: Path) -> None:
    def change(db: sqlite3.Connection) -> None:
        for old, new in ((4, 100), (6, 4), (100, 6)):
            db.execute("UPDATE entries SET pos = ? WHERE pos = ?", (new, old))

    assert tamper(trace, change).problems[0].pos == 4


def test_a_tail_cut_off_shows_only_where_rows_still_tell_of_it(trace: Path) -> None:
    """Known and said: without a checkpoint, nothing shows a tail that is gone together with its rows."""

    def cut(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM entries WHERE pos > 8")
        db.execute("DELETE FROM payloads WHERE seq > 8")

    report = tamper(trace, cut)
    assert {problem.pos for problem in report.problems} == {None}

    def rows_too(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM steps WHERE no > 4")
        db.execute("UPDATE steps SET outcome=NULL, acted=NULL, failure=NULL, reason=NULL, next=NULL WHERE no = 4")
        db.execute("UPDATE runs SET steps = 4, failed = 0")
        db.execute("UPDATE writers SET closed_at = NULL")

    with closing(sqlite3.connect(trace / SEGMENT)) as db, db:
        rows_too(db)
    report = verify([trace])
    assert report.holds
    assert len(report.open) == 1
    assert NOT_COVERED in report.lines()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET kind = 'step.refused' WHERE pos = 2",
        "UPDATE entries SET at = at + 1 WHERE pos = 2",
        "UPDATE entries SET no = 9 WHERE pos = 2",
        "UPDATE entries SET run = 'feed' WHERE pos = 2",
        "UPDATE entries SET no = NULL WHERE pos = 2",
    ],
)
def test_a_column_that_differs_from_its_body_is_found(trace: Path, change: str) -> None:
    assert tamper(trace, lambda db: db.execute(change)).problems[0].pos == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE steps SET effect = 'deny' WHERE no = 1",
        "UPDATE steps SET outcome = 'unknown', failure = 'tool_error' WHERE no = 1",
        "UPDATE steps SET tool = 'other' WHERE no = 1",
        "DELETE FROM steps WHERE no = 1",
        "UPDATE runs SET steps = 7",
        "UPDATE runs SET state = 'stopped'",
        "UPDATE writers SET closed_at = NULL",
        "INSERT INTO writers VALUES('feedfeedfeedfeed', 0, NULL, '{}')",
    ],
)
def test_a_row_that_differs_from_the_record_is_found(trace: Path, change: str) -> None:
    report = tamper(trace, lambda db: db.execute(change))
    assert not report.holds
    assert all(problem.pos is None for problem in report.problems)


def test_a_payload_that_was_edited_is_found_and_one_that_was_erased_is_counted(trace: Path) -> None:
    report = tamper(
        trace, lambda db: db.execute("UPDATE payloads SET text = text || ' ' WHERE seq = 2 AND part = 'args'")
    )
    assert [problem.pos for problem in report.problems] == [2]
    with closing(sqlite3.connect(trace / SEGMENT)) as db, db:
        db.execute("DELETE FROM payloads")
    report = verify([trace])
    assert report.holds
    assert (report.payloads, report.erased) == (0, 15)


def chain_again(db: sqlite3.Connection) -> None:
    """Compute every hash anew, as somebody does who owns the file."""
    prev = "0" * 64
    for pos, body in db.execute("SELECT pos, body FROM entries ORDER BY pos").fetchall():
        fields = json.loads(body)
        fields["prev"], fields["seq"] = prev, pos
        text = json.dumps(fields, separators=(",", ":"))
        leaf = hashlib.sha256(b"\0" + text.encode()).digest()
        db.execute("UPDATE entries SET body = ?, leaf = ?, seq = ? WHERE pos = ?", (text, leaf, pos, pos))
        prev = leaf.hex()


def test_a_rewrite_with_fresh_hashes_is_not_found_and_that_is_said(trace: Path) -> None:
    """A known gap until there are checkpoints; the report must not pretend otherwise."""

    def change(db: sqlite3.Connection) -> None:
        rewrite(db, 4, lambda body: body.replace('"request":"7"', '"request":"8"'))
        chain_again(db)

    report = tamper(trace, change)
    assert report.holds
    assert NOT_COVERED in report.lines()


def as_kind(kind: str, pos: int) -> str:
    """Make an entry say that it is of another kind."""
    was = "step.outcome" if kind == "step.intent" else "step.intent"
    return f"UPDATE entries SET body = replace(body, '{was}', '{kind}'), kind = '{kind}' WHERE pos = {pos}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (as_kind("step.intent", 3), "two first entries"),
        (as_kind("step.outcome", 2), "no intent before it"),
        ("UPDATE entries SET body = replace(body, '\"no\":2', '\"no\":1'), no = 1 WHERE pos = 5", "after its outcome"),
        ("UPDATE entries SET body = replace(body, '\"succeeded\"', '\"failed\"') WHERE pos = 3", "one failure class"),
    ],
)
def test_a_record_that_makes_no_sense_is_found_whatever_its_hashes(trace: Path, change: str, said: str) -> None:
    def rewrite_all(db: sqlite3.Connection) -> None:
        db.execute(change)
        chain_again(db)

    report = tamper(trace, rewrite_all)
    assert any(said in str(problem) for problem in report.problems), report.lines()


def test_noise_in_the_file_is_a_finding(trace: Path) -> None:
    with (trace / SEGMENT).open("r+b") as file:
        file.seek(8192)
        file.write(b"noise" * 2000)
    assert not verify([trace]).holds


def test_what_is_no_database_is_a_finding_and_no_trace_at_all_an_error(tmp_path: Path) -> None:
    (tmp_path / SEGMENT).write_bytes(b"something else" * 100)
    assert not verify([tmp_path]).holds
    with pytest.raises(FileNotFoundError):
        verify([tmp_path / "nowhere"])


def test_open_and_unknown_steps_are_listed_while_the_writer_lives(tmp_path: Path) -> None:
    async def scene(store: SqliteStore) -> str:
        run_id = await bind(store)
        await intend(store, make_step(run_id))
        return run_id

    with opened(tmp_path) as store:
        run_id = run(lambda: scene(store))
        report = verify([tmp_path])
        assert report.holds, report.lines()
        assert (report.open, report.unknown) == ([f"{run_id}.1"], [])
    report = verify([tmp_path])
    assert (report.open, report.unknown) == ([], [f"{run_id}.1"])
    assert f"{run_id}.1 is unknown: it may have acted" in report.lines()


def test_progress_is_told(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "_EVERY", 5)
    told: list[tuple[int, int]] = []
    verify([trace], progress=lambda done, total: told.append((done, total)))
    assert told[0] == (5, 27)
    assert told == sorted(told)


def test_it_runs_alone_and_imports_nothing_of_ours(trace: Path, tmp_path: Path) -> None:
    source = Path(verifier.__file__)
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules <= sys.stdlib_module_names
    copy = tmp_path / "alone.py"
    shutil.copyfile(source, copy)
    arguments = [sys.executable, "-I", "-S", str(copy), str(trace)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "hashes and chains hold")
    with closing(sqlite3.connect(trace / SEGMENT)) as db, db:
        db.execute("UPDATE runs SET steps = 7")
    assert subprocess.run(arguments, capture_output=True, check=False, timeout=60).returncode == 1


def test_changes_of_a_run_must_follow_one_another(trace: Path) -> None:
    with opened(trace) as store:
        run_id = run(lambda: bind(store))
        store.change_run(run_id, RunState.STOPPED, by="os:ada", reason="enough")

    def change(db: sqlite3.Connection) -> None:
        db.execute('UPDATE entries SET body = replace(body, \'"from":"open"\', \'"from":"paused"\')')

    report = tamper(trace, change)
    assert any("is not paused here" in str(problem) for problem in report.problems)


def test_answers_with_huge_numbers_are_kept_and_told_apart(tmp_path: Path) -> None:
    """What is hashed is what was said, never a number read and spelled again."""
    spelled = [b"9007199254740992", b"9007199254740993", b"1.0", b"1", b"-0.0", b"0"]

    async def scene(store: SqliteStore) -> None:
        run_id = await bind(store)
        for number in spelled:
            await whole_step(store, run_id, raw_arguments=b'{"n":%s}' % number)

    with opened(tmp_path) as store:
        run(lambda: scene(store))
    with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
        kept = [text for (text,) in db.execute("SELECT text FROM payloads WHERE part = 'args' ORDER BY id")]
    assert kept == [f'{{"n":{number.decode()}}}' for number in spelled]
    assert verify([tmp_path]).holds
