"""When the record cannot be written, nothing goes on; what was already sent is told honestly; and it mends itself."""

import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest

from needs import need
from recording import admit, bind, end, intend, make_answer, make_step, opened, run, whole_step
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.model.step import RecordedStep
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.run.close import close

SEGMENT = "trace-000001.db"

Failing: TypeAlias = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def no_file_may_grow(folder: Path) -> Generator[None]:
    """A disk without room, for this process: no file may become longer than the log is now."""
    size = (folder / f"{SEGMENT}-wal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def foreign_lock(folder: Path) -> Generator[None]:
    """Another program holds the file's write lock."""
    with closing(sqlite3.connect(folder / SEGMENT, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        yield
        foreign.execute("ROLLBACK")


@contextmanager
def moved_away(folder: Path) -> Generator[None]:
    """The file is not where it was."""
    (folder / SEGMENT).rename(folder / "elsewhere")
    yield
    (folder / "elsewhere").rename(folder / SEGMENT)


@contextmanager
def replaced(folder: Path) -> Generator[None]:
    """Another file stands in its place."""
    (folder / SEGMENT).rename(folder / "elsewhere")
    (folder / SEGMENT).write_bytes(b"")
    yield
    (folder / "elsewhere").replace(folder / SEGMENT)


@contextmanager
def turnstile_held(folder: Path) -> Generator[None]:
    """Another writer stands in the turnstile, stopped."""
    script = (
        "import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", script, str(folder / "write.lock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait(60)


async def refused(store: SqliteStore, run_id: RunId) -> str:
    """Propose a step and tell why it was refused; it must not be recorded."""
    with pytest.raises(PortError) as caught:
        await store.record_intent(make_step(run_id), admit, close)
    assert (caught.value.reason, caught.value.acted) == (Reason.TRACE_UNAVAILABLE, Acted.NO)
    return caught.value.summary


async def works_again(store: SqliteStore, run_id: RunId) -> None:
    """Steps are recorded again, soon."""
    with anyio.fail_after(60):
        while True:
            with suppress(PortError):
                await whole_step(store, run_id)
                return


@pytest.mark.pitfall("P-TRACE-01")
@pytest.mark.parametrize(
    ("failing", "why"),
    [
        (no_file_may_grow, "the disk reports an error"),
        (foreign_lock, "no receipt within 0.4 s"),
        (turnstile_held, "no receipt within 0.4 s"),
        (moved_away, "the record was moved away while open"),
        (replaced, "the record was replaced while open"),
    ],
    ids=["disk-full", "locked", "stopped-writer", "moved", "replaced"],
)
def test_nothing_is_recorded_or_allowed_while_the_record_cannot_be_written(
    tmp_path: Path, failing: Failing, why: str
) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await whole_step(store, run_id)
        with failing(tmp_path):
            assert await refused(store, run_id) == why
            assert (await refused(store, run_id)) != ""
        await works_again(store, run_id)

    with opened(tmp_path, timeout_s=0.4) as store:
        run(lambda: body(store))
    with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
        assert db.execute("SELECT count(*), count(outcome) FROM steps").fetchone() == (2, 2)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert verify([tmp_path]).holds


@pytest.mark.pitfall("P-TRACE-01")
@pytest.mark.parametrize("failing", [no_file_may_grow, foreign_lock, moved_away], ids=["full", "locked", "moved"])
def test_an_outcome_that_is_not_recorded_is_told_and_its_run_stops(tmp_path: Path, failing: Failing) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        recorded = await intend(store, make_step(run_id))
        with failing(tmp_path):
            with pytest.raises(PortError) as caught:
                await end(store, recorded)
            assert (caught.value.reason, caught.value.acted) == (Reason.OUTCOME_LOST, Acted.MAYBE)
            assert (await store.read_run(run_id)).state is RunState.STOPPED
        with anyio.fail_after(60):
            while not verify([tmp_path]).unknown:
                await anyio.lowlevel.checkpoint()

    with opened(tmp_path, outcome_timeout_s=0.5) as store:
        run(lambda: body(store))
    with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
        assert db.execute("SELECT outcome, acted, reason FROM steps").fetchall() == [
            ("unknown", "maybe", "outcome_lost")
        ]
        assert db.execute("SELECT state FROM runs").fetchall() == [("stopped",)]
    assert verify([tmp_path]).holds


def test_an_outcome_is_tried_until_the_record_can_be_written_again(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        recorded = await intend(store, make_step(run_id))
        async with anyio.create_task_group() as group:
            with moved_away(tmp_path):
                group.start_soon(end, store, recorded)
                await refused(store, run_id)
        await works_again(store, run_id)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
        assert db.execute("SELECT outcome FROM steps").fetchall() == [("succeeded",)] * 2


def test_a_record_that_something_else_wrote_to_is_not_built_upon(tmp_path: Path) -> None:
    """An entry that our own sequence number already has is refused by the schema, and we go on after it."""

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        with closing(sqlite3.connect(tmp_path / SEGMENT)) as foreign, foreign:
            pos = foreign.execute("SELECT max(pos) + 1 FROM entries").fetchone()[0]
            foreign.execute(
                "INSERT INTO entries VALUES(?, 'feedfeedfeedfeed', 0, 0, 'x', NULL, NULL, zeroblob(32), '{}')", (pos,)
            )
        await whole_step(store, run_id)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    report = verify([tmp_path])
    assert not report.holds
    assert {problem.pos for problem in report.problems} == {2}


def test_a_damaged_record_is_refused_until_a_person_looks(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        for _ in range(20):
            await whole_step(store, run_id)
        with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = (tmp_path / SEGMENT).stat().st_size
        with (tmp_path / SEGMENT).open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size - 4096))
        for _ in range(3):
            assert await refused(store, run_id) == "the record is damaged"

    with opened(tmp_path, outcome_timeout_s=0.2) as store:
        run(lambda: body(store))


def test_a_full_disk_refuses_proposals_and_still_records_what_was_sent(tmp_path: Path) -> None:
    """A tmpfs of 8 MiB in a mount namespace of its own."""
    probe = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=1m none {tmp_path}"]
    able = sys.platform == "linux" and os.geteuid() == 0 and subprocess.run(probe, check=False).returncode == 0
    need("mounts", found=able, remedy="run as root with CAP_SYS_ADMIN")
    script = Path(__file__).parent / "full_disk.py"
    arguments = ["unshare", "-m", sys.executable, str(script), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "recorded what was sent, refused what was new, mended itself"


def test_a_writer_that_holds_the_lock_for_seconds_is_waited_out(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        freed = threading.Event()

        def hold() -> None:
            with foreign_lock(tmp_path):
                held.set()
                freed.wait(60)

        held = threading.Event()
        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(30)
        began = time.monotonic()
        recorded: list[RecordedStep] = []

        async def propose() -> None:
            recorded.append(await intend(store, make_step(run_id)))

        async with anyio.create_task_group() as group:
            group.start_soon(propose)
            await anyio.to_thread.run_sync(freed.set)
        thread.join()
        assert time.monotonic() - began < 10
        await store.record_outcome(recorded[0].answered(make_answer()).verified(()), close)

    with opened(tmp_path) as store:
        run(lambda: body(store))
