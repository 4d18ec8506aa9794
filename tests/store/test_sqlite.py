"""The store keeps its promises: two commits a step, one for what is withheld, and state that agrees with the record."""

import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from recording import (
    BINDING,
    CLIENT,
    POLICY,
    PRINCIPAL,
    admit,
    ask,
    bind,
    end,
    intend,
    make_answer,
    make_step,
    open_store,
    opened,
    run,
    whole_step,
    withhold,
)
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import Principal, RunId
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.entry import Kind, PayloadMode
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.outcome import Refused, Unknown
from soothsayer_mcp.model.run import Closing, DeclaredBy, Intent, NextStep, Run, RunBinding, RunRules, RunState
from soothsayer_mcp.model.step import RecordedStep, SupportedStep, WithheldStep
from soothsayer_mcp.ports import Note, PortError, Standing
from soothsayer_mcp.run.close import close


def read(folder: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "trace-000001.db")) as db:
        return db.execute(sql, values).fetchall()


def bodies(folder: Path, kind: str = "%") -> list[dict[str, Any]]:
    sql = "SELECT body FROM entries WHERE kind LIKE ? ORDER BY pos"
    return [json.loads(body) for (body,) in read(folder, sql, kind)]


def assert_holds(folder: Path) -> None:
    report = verify([folder])
    assert report.holds, report.lines()


def test_an_allowed_step_is_an_intent_and_an_outcome_in_one_chain(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        closed = await whole_step(store, await bind(store))
        assert (closed.intent.no, closed.next_step, closed.closing.no) == (1, NextStep.CONTINUE, 1)
        assert closed.closing.seq == closed.intent.seq + 1

    with opened(tmp_path / "state") as store:
        run(lambda: body(store))
    kinds = [body["kind"] for body in bodies(tmp_path / "state")]
    assert kinds == ["writer.opened", "run.opened", "step.intent", "step.outcome", "writer.closed"]
    assert read(tmp_path / "state", "SELECT effect, outcome, acted, failure, next, rule FROM v_steps") == [
        ("allow", "succeeded", "yes", None, "continue", "test/rule")
    ]
    assert_holds(tmp_path / "state")


def test_the_intent_is_on_disk_before_the_receipt_is_given(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        recorded = await intend(store, make_step(await bind(store)))
        sql = "SELECT leaf FROM entries WHERE writer = ? AND seq = ?"
        assert read(tmp_path, sql, recorded.intent.writer, recorded.intent.seq) == [(recorded.intent.leaf,)]
        await end(store, recorded)

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_the_intent_says_what_was_asked_and_decided_in_its_fixed_order(tmp_path: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def body(store: SqliteStore) -> None:
        await whole_step(store, await bind(store), meta={"traceparent": parent}, timeout_s=60.0, request_id="a")

    with opened(tmp_path) as store:
        run(lambda: body(store))
    [intent] = bodies(tmp_path, "step.intent")
    assert list(intent) == [
        *("v", "writer", "seq", "prev", "at", "kind", "run", "no", "server", "tool", "does", "cause", "request"),
        *("args", "match", "definition", "effect", "mode", "rules", "policy", "context", "deadline_us"),
        *("trace", "parent", "span"),
    ]
    assert intent["trace"], intent["parent"] == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert intent["deadline_us"] == 60_000_000
    [outcome] = bodies(tmp_path, "step.outcome")
    assert list(outcome)[8:] == [
        *("outcome", "acted", "is_error", "result", "next", "dur_us", "tool_us", "store_us"),
    ]


def test_a_refused_step_is_one_entry_and_its_outcome_is_not_written_again(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        closed = await withhold(store, make_step(await bind(store), effect=Effect.DENY))
        assert closed.closing is closed.intent
        assert closed.next_step is NextStep.CONTINUE

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert [body["kind"] for body in bodies(tmp_path, "step.%")] == ["step.refused"]
    [refused] = bodies(tmp_path, "step.refused")
    assert (refused["failure"], refused["reason"], refused["next"]) == ("policy_denied", "rule_denied", "continue")
    said = read(tmp_path, "SELECT text FROM payloads WHERE part = 'said'")[0][0]
    assert said.startswith("Denied by policy rule test/rule: a reason. Nothing was sent.")
    assert read(tmp_path, "SELECT outcome, acted, failure FROM steps") == [("failed", "no", "policy_denied")]
    assert_holds(tmp_path)


def test_a_step_that_asks_is_one_entry_and_counted(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        step = make_step(await bind(store), effect=Effect.ASK)
        withheld = await store.record_intent(step, ask, close)
        assert isinstance(withheld, WithheldStep)
        await store.record_outcome(withheld.verified(()), close)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    [asked] = bodies(tmp_path, "step.asked")
    assert (asked["approval"], asked["reason"]) == ("7f3a910c55d2e8b1", "approval_pending")
    assert read(tmp_path, "SELECT asked, failed FROM runs") == [(1, 1)]
    assert_holds(tmp_path)


def test_admission_sees_the_run_as_it_stands_inside_the_commit(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        with opened(tmp_path) as other:
            other.change_run(run_id, RunState.STOPPED, by="os:ada", reason="enough")
        closed = await withhold(store, make_step(run_id))
        assert closed.failure is not None
        assert closed.failure.reason is Reason.RUN_CLOSED
        assert (closed.next_step, closed.why) == (NextStep.STOP, "run is stopped")

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert_holds(tmp_path)


def test_a_change_by_another_process_is_read_at_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soothsayer_mcp.adapters.store.sqlite.LOOK_S", 0.0)

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        before = await store.read_run(run_id)
        with opened(tmp_path) as other:
            other.change_run(run_id, RunState.PAUSED, by="os:ada", reason="wait")
        after = await store.read_run(run_id)
        assert (after.state, after.why) == (RunState.PAUSED, "wait")
        assert after.version > before.version

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_a_closing_that_stops_the_run_is_durable_with_the_outcome(tmp_path: Path) -> None:
    def stop(_run: Run, _step: SupportedStep, _failure: Failure | None) -> Closing:
        return Closing(next_step=NextStep.STOP, run_state=RunState.STOPPED, why="check_broken")

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        recorded = await intend(store, make_step(run_id))
        closed = await store.record_outcome(recorded.answered(make_answer()).verified(()), stop)
        assert (closed.next_step, closed.why) == (NextStep.STOP, "check_broken")
        after = await withhold(store, make_step(run_id))
        assert after.failure is not None
        assert after.failure.reason is Reason.RUN_CLOSED

    with opened(tmp_path) as store:
        run(lambda: body(store))
    [changed] = bodies(tmp_path, "run.changed")
    assert (changed["from"], changed["to"], changed["reason"]) == ("open", "stopped", "check_broken")
    assert_holds(tmp_path)


def test_findings_are_entries_before_the_outcome(tmp_path: Path) -> None:
    finding = Finding(
        check="schema:output", answer=Answer.BROKEN, level=Level.E1, reason=Reason.RESULT_SCHEMA, detail="/n", took_us=7
    )

    async def body(store: SqliteStore) -> None:
        await end(store, await intend(store, make_step(await bind(store))), findings=(finding,))

    with opened(tmp_path) as store:
        run(lambda: body(store))
    [found], [outcome] = bodies(tmp_path, "step.finding"), bodies(tmp_path, "step.outcome")
    assert (found["check"], found["finding"], found["level"], found["took_us"]) == ("schema:output", "broken", "E1", 7)
    assert (outcome["outcome"], outcome["failure"], outcome["acted"]) == ("failed", "verification_failed", "yes")
    assert outcome["findings"] == {"kept": 0, "broken": 1, "unknown": 0}
    assert "said" in outcome
    assert_holds(tmp_path)


@pytest.mark.parametrize(
    ("certain", "outcome", "acted"), [(False, "unknown", "maybe"), (True, "failed", "no")], ids=["sent", "unsent"]
)
def test_a_timeout_is_unknown_unless_nothing_was_sent(tmp_path: Path, certain: bool, outcome: str, acted: str) -> None:
    async def body(store: SqliteStore) -> None:
        failure = Failure(reason=Reason.CALL_TIMEOUT, summary="no answer", certainly_not_acted=certain)
        await end(store, await intend(store, make_step(await bind(store))), Unknown(failure=failure))

    with opened(tmp_path) as store:
        run(lambda: body(store))
    [ended] = bodies(tmp_path, "step.outcome")
    assert (ended["outcome"], ended["acted"], ended["reason"]) == (outcome, acted, "call_timeout")
    assert_holds(tmp_path)


def test_a_step_that_could_not_be_sent_is_closed_by_its_own_commit(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        failure = Failure(reason=Reason.SERVER_UNREACHABLE, summary="files is down")
        closed = await end(store, await intend(store, make_step(await bind(store))), Refused(failure=failure))
        assert closed.closing is not closed.intent

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert [body["kind"] for body in bodies(tmp_path, "step.%")] == ["step.intent", "step.outcome"]
    assert_holds(tmp_path)


def test_a_fault_in_admission_allows_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    def fails(_standing: Standing, _step: SupportedStep) -> None:
        raise ZeroDivisionError

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        with pytest.raises(PortError) as caught:
            await store.record_intent(make_step(run_id), fails, close)
        assert (caught.value.reason, caught.value.acted) == (Reason.INTERNAL_ERROR, Acted.NO)
        await whole_step(store, run_id)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert read(tmp_path, "SELECT no, outcome FROM steps") == [(1, "succeeded")]
    assert_holds(tmp_path)


def test_many_steps_at_once_share_commits_and_none_is_lost(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(whole_step, store, run_id)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert read(tmp_path, "SELECT count(*), max(no), count(DISTINCT no) FROM steps WHERE outcome = 'succeeded'") == [
        (100, 100, 100)
    ]
    assert_holds(tmp_path)


def test_equal_calls_have_one_mark_within_a_run_and_another_in_the_next(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        for client in ("one", "two"):
            binding = RunBinding(principal=PRINCIPAL, workspace="/work", client=type(CLIENT)(name=client, version="1"))
            run_id, _ = await store.bind_run(binding, POLICY)
            await whole_step(store, run_id, arguments={"a": 1, "b": 2}, raw_arguments=b'{"a":1,"b":2}')
            await whole_step(store, run_id, arguments={"b": 2, "a": 1}, raw_arguments=b'{ "b":2, "a":1 }')

    with opened(tmp_path) as store:
        run(lambda: body(store))
    marks = [body["match"] for body in bodies(tmp_path, "step.intent")]
    assert marks[0] == marks[1] != marks[2] == marks[3]
    assert len({body["args"]["digest"] for body in bodies(tmp_path, "step.intent")}) == 4


def test_calls_of_one_client_share_a_run_over_processes(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> RunId:
        return await bind(store)

    found: list[RunId] = []
    for _ in range(2):
        with opened(tmp_path) as store:
            found.append(run(lambda store=store: body(store)))
    assert found[0] == found[1]
    assert len(bodies(tmp_path, "run.opened")) == 1


def test_a_stopped_run_is_not_shed_by_the_next_call(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        store.change_run(run_id, RunState.STOPPED, by="os:ada", reason="enough")
        assert await bind(store) == run_id

    with opened(tmp_path) as store:
        run(lambda: body(store))
    with opened(tmp_path) as store:
        run_id = run(lambda: bind(store))
    assert read(tmp_path, "SELECT id, state FROM runs") == [(run_id, "stopped")]


def test_a_completed_or_idle_run_is_followed_by_a_fresh_one(tmp_path: Path) -> None:
    async def completed(store: SqliteStore) -> None:
        first = await bind(store)
        store.change_run(first, RunState.COMPLETED, by="os:ada", reason="done")
        assert await bind(store) != first

    async def idle(store: SqliteStore) -> None:
        first = await bind(store)
        over, _ = await store.bind_run(replace(BINDING, rules=RunRules(idle_s=0.0)), POLICY)
        assert over != first

    with opened(tmp_path) as store:
        run(lambda: completed(store))
        run(lambda: idle(store))
    assert [body["reason"] for body in bodies(tmp_path, "run.changed")] == ["done", "idle"]
    assert_holds(tmp_path)


@pytest.mark.parametrize("named", ["f" * 32, "no such run"])
def test_a_named_run_that_is_unknown_is_a_failure_and_its_step_goes_to_the_automatic_run(
    tmp_path: Path, named: str
) -> None:
    async def body(store: SqliteStore) -> None:
        automatic = await bind(store)
        binding = RunBinding(principal=PRINCIPAL, workspace=BINDING.workspace, client=CLIENT, named=named)
        for _ in range(2):
            run_id, failure = await store.bind_run(binding, POLICY)
            assert run_id == automatic
            assert failure is not None
            assert failure.reason is Reason.RUN_UNKNOWN

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_a_named_run_is_taken_only_by_its_own_principal(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        ours = await bind(store)
        mine = RunBinding(principal=PRINCIPAL, workspace="/elsewhere", client=CLIENT, named=ours)
        assert await store.bind_run(mine, POLICY) == (ours, None)
        foreign = RunBinding(
            principal=Principal(id="os:eve", how="os_account"), workspace="/work", client=CLIENT, named=ours
        )
        run_id, failure = await store.bind_run(foreign, POLICY)
        assert run_id != ours
        assert failure is not None
        assert failure.reason is Reason.RUN_UNKNOWN

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_the_declared_intent_of_a_run_is_kept_and_read_back(tmp_path: Path) -> None:
    intent = Intent(text="tidy the changelog", declared_by=DeclaredBy.HUMAN)
    binding = RunBinding(principal=PRINCIPAL, workspace="/work", client=CLIENT, intent=intent)

    async def body(store: SqliteStore) -> Run:
        run_id, _ = await store.bind_run(binding, POLICY)
        return await store.read_run(run_id)

    for _ in range(2):
        with opened(tmp_path) as store:
            assert run(lambda store=store: body(store)).intent == intent


def test_a_run_that_nobody_opened_is_not_read(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        with pytest.raises(PortError) as caught:
            await store.read_run(RunId("0" * 32))
        assert caught.value.reason is Reason.RUN_UNKNOWN

    with opened(tmp_path) as store:
        run(lambda: body(store))


@pytest.mark.parametrize("to", [RunState.OPEN, RunState.COMPLETED])
def test_a_run_that_has_ended_changes_no_more(tmp_path: Path, to: RunState) -> None:
    with opened(tmp_path) as store:
        run_id = run(lambda: bind(store))
        store.change_run(run_id, RunState.FAILED, by="os:ada", reason="enough")
        with pytest.raises(PortError):
            store.change_run(run_id, to, by="os:ada", reason="again")
    assert len(bodies(tmp_path, "run.changed")) == 1


def test_a_cancelled_caller_leaves_no_intent_that_nobody_closes(tmp_path: Path) -> None:
    """Cancelled at every moment between asking and the receipt: never written, or written and closed as withdrawn."""

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        for turns in (*range(8), *range(8, 400, 13)):
            async with anyio.create_task_group() as group:
                group.start_soon(store.record_intent, make_step(run_id), admit, close)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        await store.note(Note(kind=Kind.MESSAGE_DROPPED, fields={"from": "host", "bytes": 1}))

    with opened(tmp_path) as store:
        run(lambda: body(store))
        # What was closed on the way is closed as withdrawn; nothing is left for the closing of the store.
        rows = read(tmp_path, "SELECT outcome, reason, acted FROM steps")
    assert {row for row in rows if row[0] is not None} <= {("failed", "withdrawn", "no")}
    assert_holds(tmp_path)
    assert verify([tmp_path]).open == []


def test_a_caller_that_is_cancelled_still_gets_its_outcome_on_record_and_its_run_goes_on(tmp_path: Path) -> None:
    """Cancelled at every moment between handing it over and its receipt."""

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        for turns in (*range(8), *range(8, 400, 13)):
            recorded = await intend(store, make_step(run_id))
            async with anyio.create_task_group() as group:
                group.start_soon(end, store, recorded)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        await whole_step(store, run_id)

    with opened(tmp_path) as store:
        run(lambda: body(store))
    outcomes = [body["outcome"] for body in bodies(tmp_path, "step.outcome")]
    assert set(outcomes) == {"succeeded"}
    assert read(tmp_path, "SELECT state FROM runs") == [("open",)]
    assert_holds(tmp_path)


def test_closing_ends_what_is_in_flight_as_unknown(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await intend(store, make_step(run_id, does=("write",)))
        await intend(store, make_step(run_id, does=("read",)))

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert read(tmp_path, "SELECT outcome, acted, reason FROM steps ORDER BY no") == [
        ("unknown", "maybe", "outcome_lost"),
        ("unknown", "no", "outcome_lost"),
    ]
    assert_holds(tmp_path)


def test_a_closed_store_refuses(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    run_id = run(lambda: bind(store))
    store.close()
    store.close()

    async def body() -> None:
        with pytest.raises(PortError) as caught:
            await store.record_intent(make_step(run_id), admit, close)
        assert (caught.value.reason, caught.value.acted) == (Reason.TRACE_UNAVAILABLE, Acted.NO)

    run(body)


def test_notes_are_durable_when_they_return_and_soon_ones_with_the_next_commit(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        fields = {"method": "resources/read", "from": "host", "server": "files", "effect": "allow", "bytes": 184}
        await store.note(Note(kind=Kind.MESSAGE_CHECKED, fields=fields))
        assert len(bodies(tmp_path, "message.checked")) == 1
        store.note_soon(Note(kind=Kind.MESSAGE_DROPPED, fields={"from": "server", "reason": "duplicate_key"}))

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert len(bodies(tmp_path, "message.dropped")) == 1
    assert store.notes_lost == 0


def test_the_text_behind_a_policy_digest_is_kept_whatever_the_mode(tmp_path: Path) -> None:
    source = b"rules: []  # api_key: abcdef123456\n"

    async def body(store: SqliteStore) -> None:
        fields = {"policy": POLICY, "name": "solo", "scopes": ["user"], "rules": 0, "self_test": "passed"}
        await store.note(Note(kind=Kind.POLICY_LOADED, fields=fields, payloads={"source": source}))

    with opened(tmp_path, payloads=PayloadMode.DIGEST) as store:
        run(lambda: body(store))
    assert read(tmp_path, "SELECT text FROM payloads") == [(source.decode(),)]
    assert read(tmp_path, "SELECT digest, name FROM policies") == [(POLICY, "solo")]


def test_an_entry_holds_no_argument_and_no_result(tmp_path: Path) -> None:
    canary = "canary-8f2a"

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await end(store, await intend(store, make_step(run_id, arguments={"path": canary})), make_answer(canary))
        await withhold(store, make_step(run_id, arguments={"path": canary}, effect=Effect.DENY))

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert not [body for body in bodies(tmp_path) if canary in json.dumps(body)]
    assert read(tmp_path, "SELECT count(*) FROM payloads WHERE text LIKE ?", f"%{canary}%") == [(3,)]


def test_what_is_not_utf8_or_no_text_at_all_is_kept_as_it_was(tmp_path: Path) -> None:
    raw = b'{"path":"\xff\xfe"}'

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await whole_step(store, run_id, raw_arguments=raw, tool="odd\ud800name", request_id="\u2028é")

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert read(tmp_path, "SELECT CAST(text AS BLOB) FROM payloads WHERE part = 'args'") == [(raw,)]
    [intent] = bodies(tmp_path, "step.intent")
    assert (intent["tool"], intent["request"]) == ("odd\ud800name", "\u2028é")
    assert_holds(tmp_path)


def test_large_payloads_are_files_and_larger_ones_keep_their_beginning(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await whole_step(store, run_id, arguments={}, raw_arguments=b'"' + b"a" * 100_000 + b'"')
        await end(store, await intend(store, make_step(run_id)), make_answer("b" * (8 * 1024 * 1024)))

    with opened(tmp_path) as store:
        run(lambda: body(store))
    [(name,)] = read(tmp_path, "SELECT file FROM payloads WHERE file IS NOT NULL")
    assert (tmp_path / "blobs" / name).read_bytes() == b'"' + b"a" * 100_000 + b'"'
    [_, cut] = [body["result"] for body in bodies(tmp_path, "step.outcome")]
    assert cut["cut"] is True
    assert read(tmp_path, "SELECT max(length(text)) FROM payloads WHERE part = 'result'") == [(4096,)]
    assert_holds(tmp_path)


def test_one_store_serves_one_loop_after_another(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for _ in range(3):
            run_id = run(lambda: bind(store))
            run(lambda run_id=run_id: whole_step(store, run_id))
    assert read(tmp_path, "SELECT count(*) FROM steps") == [(3,)]


def test_an_intent_whose_loop_ended_before_its_receipt_is_closed(tmp_path: Path) -> None:
    """The writer's thread is held up while the loop that asked is closed."""
    with opened(tmp_path) as store:
        run_id = run(lambda: bind(store))
        store._writer._usual_s = 1.0  # on a slow disk the thread writes, not the loop
        begun, held = threading.Event(), threading.Event()

        def slow(standing: Standing, step: SupportedStep) -> Refused | None:
            begun.set()
            held.wait(60)
            return admit(standing, step)

        async def body() -> None:
            async with anyio.create_task_group() as asking:
                asking.start_soon(store.record_intent, make_step(run_id), slow, close)
                await anyio.to_thread.run_sync(begun.wait)
                asking.cancel_scope.cancel()

        run(body)
        held.set()
        run(lambda: whole_step(store, run_id))
    assert read(tmp_path, "SELECT outcome, reason FROM steps WHERE no = 1") == [("failed", "withdrawn")]
    assert_holds(tmp_path)


def test_a_recorded_step_may_be_forwarded_and_says_how_long_its_receipt_took(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> RecordedStep:
        return await intend(store, make_step(await bind(store)))

    with opened(tmp_path) as store:
        recorded = run(lambda: body(store))
        assert recorded.intent.took_us > 0
        assert recorded.intent.step == f"{recorded.run_id[:4]}.1"


def test_a_step_in_flight_has_one_intent(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        step = make_step(await bind(store))
        await intend(store, step)
        with pytest.raises(PortError) as second:
            await intend(store, step)
        assert second.value.acted is Acted.NO

    with opened(tmp_path) as store:
        run(lambda: body(store))
    assert len(bodies(tmp_path, "step.intent")) == 1


def test_a_payload_over_the_configured_size_keeps_only_its_beginning(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        await end(store, await intend(store, make_step(await bind(store))), make_answer("x" * 100_000))

    with closing(SqliteStore.open(tmp_path, blob_max=70_000)) as store:
        run(lambda: body(store))
    [outcome] = bodies(tmp_path, "step.outcome")
    assert outcome["result"]["cut"] is True
    assert not list((tmp_path / "blobs").iterdir())
