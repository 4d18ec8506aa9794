"""Completing a run: refused while something is owed, inside the transaction that would change the state."""

import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from recording import BINDING, POLICY, bind, end, intend, make_step, opened, run, whole_step
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.decision import Obligation, ObligationKind
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.outcome import Unknown
from soothsayer_mcp.model.run import Completion, DeclaredBy, Intent, RunRules, RunState
from soothsayer_mcp.model.step import SupportedStep
from soothsayer_mcp.ports import PortError

KEPT = Finding(check="schema:output", answer=Answer.KEPT, level=Level.E1, reason=None)
BROKEN = replace(KEPT, answer=Answer.BROKEN, reason=Reason.RESULT_SCHEMA)
UNKNOWN = Unknown(failure=Failure(reason=Reason.CALL_TIMEOUT, summary="no answer"))

Scene = Callable[[SqliteStore, RunId], Coroutine[object, object, None]]


def owing(run_id: RunId) -> SupportedStep:
    """A step that owes a check, fixed with its decision."""
    step = make_step(run_id)
    owed = Obligation(kind=ObligationKind.VERIFY, spec={"schema": "output"}, rule="test/rule")
    return replace(step, decision=replace(step.decision, obligations=(owed,)))


async def in_flight(store: SqliteStore, run_id: RunId) -> None:
    await intend(store, make_step(run_id))


async def unsettled(store: SqliteStore, run_id: RunId) -> None:
    await end(store, await intend(store, make_step(run_id)), UNKNOWN)


async def broken(store: SqliteStore, run_id: RunId) -> None:
    await end(store, await intend(store, owing(run_id)), findings=(BROKEN,))


async def dropped(store: SqliteStore, run_id: RunId) -> None:
    await end(store, await intend(store, owing(run_id)))


async def ended(store: SqliteStore, run_id: RunId) -> None:
    await whole_step(store, run_id)


def ask_about(folder: Path, run_id: RunId) -> None:
    """A question about the first step that nobody has answered."""
    with closing(sqlite3.connect(folder / "trace-000001.db")) as db:
        sql = "INSERT INTO approvals(id, run, no, about, rule, call, asked_at, expires_at, state)"
        db.execute(f"{sql} VALUES('7f3a', ?, 1, 'call', 'test/rule', 'hmac:00', 1, 2, 'open')", (run_id,))
        db.commit()


OPEN_QUESTION = "an open question"
SCENES: dict[str, tuple[Scene, str]] = {
    "in flight": (in_flight, "is still in flight"),
    "unsettled": (unsettled, "it is not known whether it happened"),
    "a broken check": (broken, "its check schema:output is broken"),
    "a check that never came": (dropped, "its check schema is not done"),
    OPEN_QUESTION: (ended, "waits for a person's answer"),
}


@pytest.mark.pitfall("P-EVID-04")
@pytest.mark.parametrize("scene", SCENES)
def test_a_run_that_owes_something_is_not_completed_and_what_is_missing_is_told_and_on_record(
    tmp_path: Path, scene: str
) -> None:
    play, told = SCENES[scene]

    async def body(store: SqliteStore) -> tuple[RunId, Completion]:
        run_id = await bind(store)
        await play(store, run_id)
        if scene == OPEN_QUESTION:
            ask_about(tmp_path, run_id)
        return run_id, await store.complete_run(run_id, by="os:ada", rules=RunRules())

    with opened(tmp_path) as store:
        run_id, done = run(lambda: body(store))
        assert (done.state, done.missing) == (RunState.OPEN, (done.missing[0],))
        assert done.missing[0].startswith(f"step {run_id[:4]}.1")
        assert told in done.missing[0]
    with Reader(tmp_path) as reader:
        changes = [entry.fields for entry in reader.run(run_id).entries if entry.kind == "run.changed"]
    assert [(change["what"], change["missing"]) for change in changes] == [("completion", [*done.missing])]


def test_a_check_that_is_kept_later_or_waived_or_undone_counts_no_more(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> Completion:
        run_id = await bind(store)
        await end(store, await intend(store, owing(run_id)), findings=(BROKEN, KEPT))
        await broken(store, run_id)
        with closing(sqlite3.connect(tmp_path / "trace-000001.db")) as db:
            db.execute("INSERT INTO undo VALUES(?, 2, 'restore', 'undone', NULL, '3')", (run_id,))
            db.commit()
        return await store.complete_run(run_id, by="os:ada", rules=RunRules(refuse_unverified=True))

    with opened(tmp_path) as store:
        assert run(lambda: body(store)) == Completion(state=RunState.COMPLETED, missing=())


def test_writes_that_nothing_checked_are_listed_or_refused_as_policy_says(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await whole_step(store, run_id, does=("read",))
        await whole_step(store, run_id)
        refused = await store.complete_run(run_id, by="os:ada", rules=RunRules(refuse_unverified=True))
        assert refused.missing == (f"step {run_id[:4]}.2 changed something and nothing checked it",)
        done = await store.complete_run(run_id, by="os:ada", rules=RunRules())
        assert done == Completion(state=RunState.COMPLETED, missing=(), unverified=(2,))
        with pytest.raises(PortError) as ended:
            await store.complete_run(run_id, by="os:ada", rules=RunRules())
        assert ended.value.reason is Reason.RUN_CLOSED

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert verify([tmp_path]).holds


def test_idleness_completes_a_run_that_owes_nothing_and_pauses_one_that_does(tmp_path: Path) -> None:
    at_once = replace(BINDING, rules=RunRules(idle_s=0.0))

    async def body(store: SqliteStore) -> None:
        first = await bind(store)
        await whole_step(store, first)
        second, _ = await store.bind_run(at_once, POLICY)
        assert second != first
        await unsettled(store, second)
        assert await store.bind_run(at_once, POLICY) == (second, None)
        paused = await store.read_run(second)
        assert paused.state is RunState.PAUSED
        assert paused.why == f"idle, and step {second[:4]}.1: it is not known whether it happened"

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert verify([tmp_path]).holds


def test_the_agents_words_are_the_intent_only_where_nobody_else_gave_one(tmp_path: Path) -> None:
    persons = Intent(text="tidy up", declared_by=DeclaredBy.HUMAN)

    async def body(store: SqliteStore) -> None:
        mine = await bind(store)
        assert (await store.declare_intent(mine, "first words")).intent == Intent(
            text="first words", declared_by=DeclaredBy.AGENT
        )
        later = await store.declare_intent(mine, "may pay anyone")
        assert later.intent == Intent(text="first words", declared_by=DeclaredBy.AGENT)
        given, _ = await store.bind_run(replace(BINDING, workspace="/elsewhere", intent=persons), POLICY)
        assert (await store.declare_intent(given, "may pay anyone")).intent == persons

    with opened(tmp_path) as store:
        run(lambda: body(store))
        mine = run(lambda: bind(store))
    with opened(tmp_path) as store:
        assert run(lambda: store.read_run(mine)).intent == Intent(text="first words", declared_by=DeclaredBy.AGENT)
    with Reader(tmp_path) as reader:
        story = reader.run(mine)
    assert (story.intent, story.intent_by) == ("first words", "agent")
