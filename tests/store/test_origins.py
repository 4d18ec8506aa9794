"""Where values stood is kept by run, under the run's key, in the commit that gives the agent what they stood in."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from recording import BINDING, POLICY, admit, bind, end, make_answer, make_decision, make_step, opened, run
from soothsayer_mcp.adapters.store import origins
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.facts import Keep, Origin, Questions, Reads, Seen, ValueQuestion
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.outcome import Returned, Unknown
from soothsayer_mcp.model.step import RecordedStep, SupportedStep
from soothsayer_mcp.run.close import close

FIRST, OTHER = frozenset({Origin.FIRST_PARTY}), frozenset({Origin.UNTRUSTED})


def keeping(*values: str) -> Keep:
    return lambda _result, _arguments: set(values)


def reading(run_id: RunId, keep: Keep | None, *, trusted: bool) -> SupportedStep:
    decision = replace(make_decision(), reads=Reads(trusted=trusted, keep=keep))
    return make_step(run_id).decided(decision).supported(Support())


async def intent(store: SqliteStore, step: SupportedStep) -> RecordedStep:
    recorded = await store.record_intent(step, admit, close)
    assert isinstance(recorded, RecordedStep)
    return recorded


async def read(store: SqliteStore, run_id: RunId, *values: str, trusted: bool = True, keeps: bool = True) -> None:
    recorded: RecordedStep = await intent(store, reading(run_id, keeping(*values) if keeps else None, trusted=trusted))
    await end(store, recorded)


def seen(store: SqliteStore, run_id: RunId, *values: str) -> list[Seen]:
    asked = tuple(ValueQuestion(run_id, value) for value in values)
    answers = store.recall(Questions(values=asked)).values
    return [answers[one] for one in asked]


def test_values_are_found_by_run_with_every_origin_they_had(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        other, _ = await store.bind_run(replace(BINDING, workspace="/other"), POLICY)
        await read(store, run_id, "a", "b")
        await read(store, run_id, "b", "c", trusted=False)
        found = seen(store, run_id, "a", "b", "c", "d")
        assert found == [Seen(FIRST), Seen(FIRST | OTHER), Seen(OTHER), Seen()]
        assert seen(store, other, "a") == [Seen()]
        counted = (await store.read_run(run_id)).counters
        assert (counted.values_kept, counted.untrusted_reads, counted.values_missed) == (3, 1, 0)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    with opened(tmp_path) as store:
        db = sqlite3.connect(next(tmp_path.glob("**/trace-*.db")))
        kept = db.execute("SELECT DISTINCT length(value), typeof(value) FROM origins").fetchall()
        assert kept == [(16, "blob")]
        assert db.execute("SELECT count(*) FROM origins").fetchone() == (3,)
        db.close()


def test_what_is_not_kept_is_remembered_as_missed(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await read(store, run_id, keeps=False, trusted=False)
        assert seen(store, run_id, "a") == [Seen(frozenset(), OTHER)]
        await read(store, run_id, "a")
        assert seen(store, run_id, "a") == [Seen(FIRST, OTHER)]

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_a_result_that_comes_later_is_missed_and_one_that_never_came_is_not(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        recorded = await intent(store, reading(run_id, keeping("a"), trusted=True))
        await end(store, recorded, Unknown(failure=Failure(reason=Reason.CALL_TIMEOUT, summary="")))
        assert seen(store, run_id, "a") == [Seen()]
        came = Returned(raw=b'{"task":{}}', result={"task": {"taskId": "t"}}, final=False, task="t")
        await end(store, await intent(store, reading(run_id, keeping("a"), trusted=True)), came)
        assert seen(store, run_id, "a") == [Seen(frozenset(), FIRST)]

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_the_word_of_a_trusted_tool_that_failed_is_not_kept(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        recorded = await intent(store, reading(run_id, keeping("a"), trusted=True))
        await end(store, recorded, make_answer(is_error=True))
        assert seen(store, run_id, "a") == [Seen()]

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_past_the_limit_what_is_not_found_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MOST_VALUES", 3)

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await read(store, run_id, "a", "b")
        await read(store, run_id, "b", "a", "c")
        assert seen(store, run_id, "c", "d") == [Seen(FIRST), Seen()]
        await read(store, run_id, "d")
        assert seen(store, run_id, "c", "d") == [Seen(FIRST, FIRST), Seen(frozenset(), FIRST)]

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_a_value_that_a_store_cannot_look_up_is_absent(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        asked = ValueQuestion(RunId("f" * 32), "a")
        assert store.recall(Questions(values=(asked,))).values == {}
