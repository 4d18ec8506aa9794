"""Which run a call belongs to, and what people decide about runs."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from recording import BINDING, CLIENT, POLICY, bind, opened, run
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import Client, Principal, RunId
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.run import TRANSITIONS, DeclaredBy, Intent, RunBinding, RunRules, RunScope, RunState
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.testing.servers import wait_until

PERSONS = replace(BINDING, client=Client(name=""), intent=Intent(text="tidy up", declared_by=DeclaredBy.HUMAN))


async def bound(store: SqliteStore, binding: RunBinding = BINDING) -> tuple[RunId, Failure | None]:
    return await store.bind_run(binding, POLICY)


def test_a_run_that_a_person_opened_takes_the_calls_of_its_principal_and_workspace(tmp_path: Path) -> None:
    """Through whichever client they come; those of others go on as before."""

    async def body(store: SqliteStore) -> None:
        before = await bind(store)
        scope = RunScope(only=("fs.*",), under=("/work/project/src",))
        persons = store.open_run(PERSONS, scope)
        assert persons.id != before
        for client in ("one", "two"):
            assert await bound(store, replace(BINDING, client=Client(name=client))) == (persons.id, None)
        taken = await store.read_run(persons.id)
        assert (taken.scope, taken.intent, taken.state) == (scope, PERSONS.intent, RunState.OPEN)
        elsewhere = replace(BINDING, workspace="/elsewhere")
        other = replace(BINDING, principal=Principal(id="os:eve", how="os_account"))
        alone = replace(BINDING, alone=True)
        named = replace(BINDING, named=before)
        for binding in (elsewhere, other, alone, named):
            assert (await bound(store, binding))[0] != persons.id

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert verify([tmp_path]).holds


def test_a_live_store_learns_of_a_run_that_another_process_opened(tmp_path: Path) -> None:
    with opened(tmp_path) as ours, opened(tmp_path) as theirs:
        before = run(lambda: bind(ours))
        newest = theirs.open_run(PERSONS).id
        assert before != newest
        wait_until(lambda: run(lambda: bind(ours)) == newest, "the run of the person")


def test_when_the_run_of_a_person_is_completed_calls_go_to_automatic_runs_again(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        persons = store.open_run(PERSONS).id
        assert await bind(store) == persons
        store.change_run(persons, RunState.COMPLETED, by="os:ada", reason="done")
        assert await bind(store) != persons

    with opened(tmp_path) as store:
        run(lambda: body(store))


@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.STOPPED, RunState.FAILED])
def test_a_run_that_a_person_closed_is_not_shed_by_the_next_call(tmp_path: Path, state: RunState) -> None:
    async def body(store: SqliteStore) -> None:
        persons = store.open_run(PERSONS).id
        assert await bind(store) == persons
        store.change_run(persons, state, by="os:ada", reason="enough")
        assert await bind(store) == persons

    with opened(tmp_path) as store:
        run(lambda: body(store))
    with opened(tmp_path) as store:
        name = run(lambda: bind(store))
        assert run(lambda: store.read_run(name)).state is state


def test_the_policy_of_a_persons_run_is_that_of_its_first_call(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        persons = store.open_run(PERSONS).id
        with Reader(tmp_path) as reader:
            assert reader.run(persons).run.policy == ""
        run(lambda: bind(store))
    with Reader(tmp_path) as reader:
        story = reader.run(persons)
    assert (story.run.policy, story.intent, story.intent_by) == (POLICY, "tidy up", "human")


def test_where_runs_must_be_named_a_call_without_one_is_a_failure(tmp_path: Path) -> None:
    explicit = replace(BINDING, explicit=True)

    async def body(store: SqliteStore) -> None:
        _, failure = await bound(store, explicit)
        assert failure is not None
        assert failure.reason is Reason.RUN_UNKNOWN
        persons = store.open_run(PERSONS).id
        assert await bound(store, explicit) == (persons, None)

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_a_pause_that_nobody_lifts_in_time_fails_the_run(tmp_path: Path) -> None:
    patient = replace(BINDING, rules=RunRules(abandon_s=3600.0))
    short = replace(BINDING, rules=RunRules(abandon_s=0.0), client=CLIENT)

    async def body(store: SqliteStore) -> None:
        paused = await bind(store)
        store.change_run(paused, RunState.PAUSED, by="os:ada", reason="a look")
        assert (await bound(store, patient))[0] == paused
        assert (await store.read_run(paused)).state is RunState.PAUSED

    with opened(tmp_path) as store:
        run(lambda: body(store))
    with opened(tmp_path) as store:

        async def later() -> RunState:
            return (await store.read_run((await bound(store, short))[0])).state

        assert run(later) is RunState.FAILED
    assert verify([tmp_path]).holds


@pytest.mark.parametrize("before", RunState)
@pytest.mark.parametrize("after", RunState)
def test_each_change_of_state_is_written_if_it_is_in_the_table_and_refused_if_it_is_not(
    tmp_path: Path, before: RunState, after: RunState
) -> None:
    with opened(tmp_path) as store:
        name = store.open_run(PERSONS).id
        if before is not RunState.OPEN:
            store.change_run(name, before, by="os:ada", reason="a test")
        if after in TRANSITIONS[before]:
            assert store.change_run(name, after, by="os:ada", reason="a test").state is after
        else:
            with pytest.raises(PortError) as refused:
                store.change_run(name, after, by="os:ada", reason="a test")
            assert refused.value.reason is Reason.RUN_CLOSED
    with Reader(tmp_path) as reader:
        assert reader.run(name).run.state == (after if after in TRANSITIONS[before] else before)
    assert verify([tmp_path]).holds


def test_the_run_that_a_call_would_join_is_told_and_nothing_is_opened(tmp_path: Path) -> None:
    """As binding it then finds, for every state of the run and every way to name one."""
    quick, explicit = replace(BINDING, rules=RunRules(idle_s=0.0)), replace(BINDING, explicit=True)

    async def agrees(store: SqliteStore, binding: RunBinding) -> bool:
        told = store.joined_run(binding)
        before = store.joined_run(BINDING)
        run_id, failure = await bound(store, binding)
        return (told is not None and told.id == run_id) or (
            told is None and (failure is not None or before is None or run_id != before.id)
        )

    async def body(store: SqliteStore) -> None:
        assert store.joined_run(BINDING) is None
        assert store.joined_run(replace(BINDING, named="0" * 32)) is None
        first = await bind(store)
        with closing(sqlite3.connect(tmp_path / "trace-000001.db")) as db:
            assert db.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        for binding in (BINDING, explicit, replace(BINDING, named=first), replace(BINDING, workspace="/elsewhere")):
            assert await agrees(store, binding), binding
        stranger = replace(BINDING, named=first, principal=Principal(id="os:eve", how="os_account"))
        assert store.joined_run(stranger) is None
        assert store.joined_run(quick) is None
        for to in (RunState.PAUSED, RunState.OPEN, RunState.STOPPED):
            store.change_run(first, to, by="os:ada", reason="a test")
            for binding in (BINDING, quick) if to is RunState.PAUSED else (BINDING,):
                assert await agrees(store, binding), (to, binding)
        persons = store.open_run(PERSONS).id
        for binding in (BINDING, quick, explicit):
            joined = store.joined_run(binding)
            assert joined is not None
            assert joined.id == persons

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert verify([tmp_path]).holds
