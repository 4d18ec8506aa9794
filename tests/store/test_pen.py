"""Who writes: the event loop where that is quickest, else the writer's thread; one at a time, and in order."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from recording import admit, bind, end, make_step, opened, run, whole_step
from soothsayer_mcp.adapters.store import writer
from soothsayer_mcp.adapters.store.lock import FileLock
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.entry import Durability, Kind
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.outcome import Refused
from soothsayer_mcp.model.step import RecordedStep, SupportedStep, WithheldStep
from soothsayer_mcp.ports import Note, Standing
from soothsayer_mcp.run.close import close


async def take_step(store: SqliteStore, run_id: RunId) -> None:
    await whole_step(store, run_id)


async def refused(store: SqliteStore, run_id: RunId) -> None:
    no = Refused(failure=Failure(reason=Reason.RULE_DENIED, summary="no"))
    assert isinstance(await store.record_intent(make_step(run_id), lambda _standing, _step: no, close), WithheldStep)


async def writing_thread(store: SqliteStore, run_id: RunId) -> threading.Thread:
    """Take a step and tell which thread wrote its intent."""
    seen: list[threading.Thread] = []

    def look(standing: Standing, step: SupportedStep) -> Refused | None:
        seen.append(threading.current_thread())
        return admit(standing, step)

    recorded = await store.record_intent(make_step(run_id), look, close)
    assert isinstance(recorded, RecordedStep)
    await end(store, recorded)
    [thread] = seen
    return thread


def kinds(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "trace-000001.db")) as db:
        return [str(json.loads(body)["kind"]) for (body,) in db.execute("SELECT body FROM entries ORDER BY pos")]


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_call_that_nothing_stands_before_is_written_by_the_loop_itself(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> threading.Thread:
        run_id = await bind(store)
        store._writer._usual_s = 0.0  # however busy this machine is
        return await writing_thread(store, run_id)

    with opened(tmp_path) as store:
        assert run(lambda: body(store)) is threading.current_thread()
    assert kinds(tmp_path) == ["writer.opened", "run.opened", "step.intent", "step.outcome", "writer.closed"]
    assert verify([tmp_path]).holds


def test_on_a_slow_disk_the_loop_does_not_wait_for_commits(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> threading.Thread:
        run_id = await bind(store)
        store._writer._usual_s = 1.0
        return await writing_thread(store, run_id)

    with opened(tmp_path) as store:
        assert run(lambda: body(store)) is store._writer._thread
        assert store._writer._usual_s < 1.0, "a quick commit of the thread must count"


@pytest.mark.parametrize("name", ["queue.lock", "write.lock"])
def test_while_another_process_has_the_turn_the_loop_does_not_wait_for_it(tmp_path: Path, name: str) -> None:
    async def body(store: SqliteStore) -> threading.Thread:
        run_id = await bind(store)
        turn = FileLock(tmp_path / name)  # a lock on the file opened again is as good as another process's
        turn.acquire()
        found: list[threading.Thread] = []

        async def step() -> None:
            found.append(await writing_thread(store, run_id))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(step)
            # The loop runs on meanwhile.
            with anyio.fail_after(30):
                while store._gathered or not store._waiting:
                    await anyio.lowlevel.checkpoint()
            turn.close()
        return found[0]

    with opened(tmp_path) as store:
        assert run(lambda: body(store)) is store._writer._thread


def test_what_waits_for_the_thread_is_written_before_what_comes_later(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        pen = store._writer._pen
        pen.acquire()  # the thread cannot take the note out before the step is there
        store.note_soon(Note(kind=Kind.MESSAGE_DROPPED, fields={"from": "host", "reason": "test", "bytes": 1}))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_step, store, run_id)
            with anyio.fail_after(30):
                while len(store._writer._inbox) < 2:
                    await anyio.lowlevel.checkpoint()
            pen.release()

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert kinds(tmp_path)[2:4] == ["message.dropped", "step.intent"]


def test_calls_that_come_together_share_a_transaction(tmp_path: Path) -> None:
    commits: list[str] = []

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        store._writer._db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(take_step, store, run_id)
        store._writer._db.set_trace_callback(None)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert len(commits) <= 4, "the first may go alone, the others do not"
    assert kinds(tmp_path).count("step.outcome") == 16
    assert verify([tmp_path]).holds


def test_what_the_loop_wrote_is_synced_within_its_bound_where_commits_are_not_synced_at_once(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> threading.Thread:
        run_id = await bind(store)
        store._writer._usual_s = 0.0  # however busy this machine is
        return await writing_thread(store, run_id)

    with opened(tmp_path, durability=Durability.RELAXED) as store:
        assert run(lambda: body(store)) is threading.current_thread()
        assert store._writer._soft_since is not None
        wait_until(lambda: store._writer._soft_since is None)


def test_refusals_that_come_together_share_a_transaction_where_many_calls_are_under_way(tmp_path: Path) -> None:
    commits: list[str] = []

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        store.expect(lambda: 16)
        store._writer._db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(refused, store, run_id)
        store._writer._db.set_trace_callback(None)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert len(commits) <= 4, "the first may go alone, the others do not"
    assert kinds(tmp_path).count("step.refused") == 16


def test_the_only_call_under_way_waits_for_no_turn_of_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_QUICK_S", 1e9)  # however busy this machine is
    turns: list[int] = []

    async def count() -> None:
        while True:
            turns.append(1)
            await anyio.lowlevel.checkpoint()

    async def body(store: SqliteStore) -> int:
        run_id = await bind(store)
        store.expect(lambda: 1)
        before = after = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            while len(turns) < 2:
                await anyio.lowlevel.checkpoint()
            before = len(turns)
            for _ in range(4):
                await take_step(store, run_id)
            after = len(turns)
            tasks.cancel_scope.cancel()
        return after - before

    with opened(tmp_path) as store:
        assert run(lambda: body(store)) == 0
    assert kinds(tmp_path).count("step.outcome") == 4
    assert verify([tmp_path]).holds
