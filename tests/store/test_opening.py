"""Opening a trace: private, local, ours, whole, or one line that says what to do."""

import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from needs import need
from recording import bind, open_store, opened, run, whole_step
from soothsayer_mcp.adapters.store.folder import StoreError, file_system
from soothsayer_mcp.adapters.store.lock import FileLock, Turnstile
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.entry import Durability

SEGMENT = "trace-000001.db"


def refusal(folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        open_store(folder)
    text = str(caught.value)
    assert str(folder) in text
    assert "\n" not in text
    return text


def test_a_fresh_folder_is_made_private_with_private_files(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with opened(folder) as store:
        run(lambda: bind(store))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {mode for name, mode in modes.items() if name not in {"alive", "blobs"}} == {0o600}
    assert {SEGMENT, f"{SEGMENT}-wal", "queue.lock", "write.lock", "ballast"} <= modes.keys()


def test_after_closing_no_log_and_no_sign_of_life_is_left(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["alive", "ballast", "blobs", "queue.lock", SEGMENT, "write.lock"]
    assert list((tmp_path / "alive").iterdir()) == []


def test_a_folder_that_others_may_read_is_made_private_only_when_it_is_ours_alone(tmp_path: Path) -> None:
    open_store(tmp_path / "state").close()
    (tmp_path / "state").chmod(0o755)
    open_store(tmp_path / "state").close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    shared = tmp_path / "home"
    shared.mkdir(mode=0o755)
    (shared / "notes.txt").write_text("mine", encoding="ascii")
    assert "chmod 700" in refusal(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    assert "--state" in refusal(tmp_path / "state")
    assert "--state" in refusal(tmp_path / "state" / "deeper")


def unpack(path: Path, change: Callable[[sqlite3.Connection], object]) -> None:
    with closing(sqlite3.connect(path / SEGMENT)) as db, db:
        change(db)


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    unpack(tmp_path, lambda db: db.execute("PRAGMA user_version = 2"))
    assert "update soothsayer-mcp" in refusal(tmp_path)


def test_the_tables_of_another_build_are_not_written_into(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
        db.execute("UPDATE meta SET value = 'older' WHERE key = 'shape'")
        db.commit()
    assert "begun by another build" in refusal(tmp_path)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    unpack(tmp_path, lambda db: db.execute("CREATE TABLE theirs(a)"))
    before = (tmp_path / SEGMENT).read_bytes()
    assert "no trace of ours" in refusal(tmp_path)
    assert (tmp_path / SEGMENT).read_bytes() == before


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / SEGMENT).write_bytes(b"something else" * 1000)
    assert "damaged" in refusal(tmp_path)
    assert (tmp_path / SEGMENT).read_bytes() == b"something else" * 1000


def test_a_tail_that_does_not_match_its_hashes_is_not_built_upon(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        run_id = run(lambda: bind(store))
        run(lambda: whole_step(store, run_id))

    def tamper(db: sqlite3.Connection) -> None:
        db.execute("DROP TRIGGER entries_no_update")
        db.execute("UPDATE entries SET body = replace(body, 'allow', 'ALLOW') WHERE kind = 'step.intent'")

    unpack(tmp_path, tamper)
    assert "entry 2 does not match its hash" in refusal(tmp_path)


@pytest.mark.parametrize("at", ["empty-file", "log-mode-only"])
def test_a_making_that_was_cut_short_is_made_again(tmp_path: Path, at: str) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / SEGMENT).touch(mode=0o600)
    if at == "log-mode-only":
        with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
            db.execute("PRAGMA journal_mode=WAL")
    with opened(tmp_path) as store:
        run(lambda: bind(store))
    assert verify([tmp_path]).holds


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """As somebody whom permissions bind: root is not one."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o500)
    script = (
        "import os, sys; from pathlib import Path; from recording import open_store\n"
        "from soothsayer_mcp.adapters.store.folder import StoreError\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "try: open_store(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)\n"
    )
    if os.geteuid() == 0:
        for part in (folder, *folder.parents):
            if part == Path("/tmp"):
                break
            need("passable folders", found=part.is_relative_to("/tmp"), remedy="run pytest below /tmp")
            os.chown(part, 65534, 65534) if part == folder else part.chmod(0o711)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(folder) in done.stdout
    assert "Permission denied" in done.stdout
    assert "--state" in done.stdout


MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /home rw - nfs4 server:/home rw
31 30 0:26 / /home/ada/my\040disk rw - xfs /dev/vdb rw
32 22 0:27 / /homework rw - btrfs /dev/vdc rw
33 22 0:28 / /mnt/s rw shared:1 - fuse.sshfs host: rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/ada", "nfs4"),
        ("/home/ada/my disk/state", "xfs"),
        ("/homework/x", "btrfs"),
        ("/mnt/s", "fuse.sshfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def lie_on(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def found(_folder: Path) -> str:
        return kind

    monkeypatch.setattr("soothsayer_mcp.adapters.store.folder._kind", found)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lie_on(monkeypatch, "nfs4")
    assert "network file system (nfs4)" in refusal(tmp_path / "state")


def test_a_file_system_that_forgets_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lie_on(monkeypatch, "tmpfs")
    with opened(tmp_path / "state") as store:
        assert [("tmpfs" in warning) for warning in store.warnings] == [True]


def test_two_stores_open_at_once_on_a_fresh_folder_make_one_trace(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from recording import open_store; open_store(Path(sys.argv[1])).close()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", script, str(tmp_path / "state")]
    makers = [subprocess.Popen(arguments, env=environment) for _ in range(4)]
    assert [maker.wait(60) for maker in makers] == [0] * 4
    report = verify([tmp_path / "state"])
    assert report.holds, report.lines()
    assert report.writers == 4


def test_the_turnstile_lets_in_one_at_a_time_and_a_lock_dies_with_its_file(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "write.lock"), FileLock(tmp_path / "write.lock")
    turnstile = Turnstile(tmp_path)
    with turnstile:
        assert not first.try_acquire()
    assert first.try_acquire()
    assert not second.try_acquire()
    first.close()
    assert second.try_acquire()
    second.release()
    second.close()
    turnstile.close()


@pytest.mark.parametrize(
    ("level", "synced"),
    [
        (Durability.STRICT, ["FULL", "FULL"]),
        (Durability.BALANCED, ["FULL", "NORMAL"]),
        (Durability.RELAXED, ["NORMAL", "NORMAL"]),
    ],
)
def test_each_level_syncs_what_it_promises(tmp_path: Path, level: Durability, synced: list[str]) -> None:
    """What SQLite is told before commit A and before commit B, as it stands when the commit begins."""
    said: list[str] = []

    def watch(statement: str) -> None:
        if statement.startswith(("PRAGMA synchronous", "COMMIT")):
            said.append(statement)

    with opened(tmp_path, durability=level) as store:
        run_id = run(lambda: bind(store))
        store._writer._db.set_trace_callback(watch)
        run(lambda: whole_step(store, run_id))
        store._writer._db.set_trace_callback(None)
    now, found = "NORMAL" if level is not Durability.STRICT else "FULL", list[str]()
    for statement in said:
        if statement.startswith("PRAGMA"):
            now = statement.rpartition("=")[2]
        else:
            found.append(now)
    assert found == synced


def is_soft(store: SqliteStore) -> bool:
    """Whether something is written that is not synced yet."""
    return store._writer._soft_since is not None


def is_unsynced(store: SqliteStore) -> bool:
    return store._writer._soft_since is not None


def test_an_unsynced_outcome_is_synced_within_a_second(tmp_path: Path) -> None:
    with opened(tmp_path, durability=Durability.BALANCED) as store:
        run_id = run(lambda: bind(store))
        run(lambda: whole_step(store, run_id))
        assert is_soft(store)
        until = time.monotonic() + 30
        while is_soft(store) and time.monotonic() < until:
            run(lambda: store.read_run(run_id))
        assert not is_soft(store)
        with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
            assert db.execute("SELECT value FROM meta WHERE key = 'synced'").fetchone() is not None


def test_a_log_whose_trace_was_moved_away_is_kept_and_named(tmp_path: Path) -> None:
    """SQLite itself would empty it: a log without its database means nothing to it."""
    state, away = tmp_path / "state", tmp_path / "away.db"
    log = state / f"{SEGMENT}-wal"
    with opened(state) as store:
        run(lambda: bind(store))
        kept = log.read_bytes()
    assert kept
    (state / SEGMENT).rename(away)
    log.write_bytes(kept)
    text = refusal(state)
    assert "was moved or deleted while its log trace-000001.db-wal stayed" in text
    assert "--state DIR" in text
    assert log.read_bytes() == kept
    assert not (state / SEGMENT).exists()
    away.rename(state / SEGMENT)
    with opened(state) as store:
        run(lambda: bind(store))


def test_signs_of_life_that_no_writer_of_this_trace_left_are_cleared(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    litter, held = tmp_path / "alive" / "aaaa.lock", tmp_path / "alive" / "bbbb.lock"
    litter.touch(mode=0o600)
    living = FileLock(held)
    assert living.try_acquire()
    with opened(tmp_path) as store:
        assert sorted(path.stem for path in held.parent.iterdir()) == sorted(["bbbb", store.writer_id])
    living.close()
    open_store(tmp_path).close()
    assert list(held.parent.iterdir()) == []
