"""Earlier steps are found under the marks that policy put on them, in every process, inside the commit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio

from recording import admit, bind, end, make_answer, make_decision, make_step, opened, run
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.facts import NO_FACTS, Charge, Mark, Questions, Tally, TallyQuestion, holder_of_run
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.outcome import Refused, Returned, Unknown
from soothsayer_mcp.model.run import Counters
from soothsayer_mcp.model.step import RecordedStep, SupportedStep, WithheldStep
from soothsayer_mcp.ports import Standing
from soothsayer_mcp.run.close import close

HOUR_US = 3_600_000_000


def marked(run_id: RunId, *marks: Mark, effect: Effect = Effect.ALLOW, write: bool = True) -> SupportedStep:
    decision = replace(make_decision(effect), charge=Charge(write=write, marks=marks))
    return make_step(run_id).decided(decision).supported(Support())


def mark(run_id: RunId, name: str = "m", **more: object) -> Mark:
    return replace(Mark(mark=name, holder=holder_of_run(run_id)), **more)  # type: ignore[arg-type]  # fields of Mark


def question(run_id: RunId, name: str = "m", key: str = "", since_us: int = 0) -> TallyQuestion:
    return TallyQuestion(name, holder_of_run(run_id), key, since_us)


async def intent(store: SqliteStore, step: SupportedStep) -> RecordedStep:
    recorded = await store.record_intent(step, admit, close)
    assert isinstance(recorded, RecordedStep)
    return recorded


def told(store: SqliteStore, asked: TallyQuestion) -> Tally:
    return store.recall(Questions(tallies=(asked,))).tallies[asked]


def test_a_step_is_open_under_its_mark_until_it_has_ended(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        for amount in (2_000_000, 3_000_000):
            recorded = await intent(store, marked(run_id, mark(run_id, amount_micro=amount)))
            assert told(store, question(run_id)).open == 1
            await end(store, recorded)
        assert told(store, question(run_id)) == Tally(succeeded=2, sum_micro=5_000_000)
        await end(
            store, await intent(store, marked(run_id, mark(run_id, amount_micro=None))), make_answer(is_error=True)
        )
        assert told(store, question(run_id)) == Tally(succeeded=2, failed=1, sum_micro=5_000_000, odd=1)

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_a_step_whose_outcome_is_not_known_stays_open_and_one_that_fits_in_doubt_stays_in_doubt(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        recorded = await intent(store, marked(run_id, mark(run_id), mark(run_id, "d", sure=False)))
        await end(store, recorded, Unknown(failure=Failure(reason=Reason.CALL_TIMEOUT, summary="")))
        assert told(store, question(run_id)) == Tally(open=1)
        assert told(store, question(run_id, "d")) == Tally(doubtful=1)

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_refused_steps_count_only_under_marks_that_ask_for_refusals(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        step = marked(run_id, mark(run_id), mark(run_id, "d", denials=True), effect=Effect.DENY)
        assert isinstance(await store.record_intent(step, admit, close), WithheldStep)
        assert told(store, question(run_id)) == Tally()
        assert told(store, question(run_id, "d")) == Tally(denied=1)

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_marks_with_a_window_are_found_by_time_and_go_when_they_are_past(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        short = mark(run_id, window_us=1)
        await end(store, await intent(store, marked(run_id, short, mark(run_id, "long", window_us=HOUR_US))))
        await end(store, await intent(store, marked(run_id, short, mark(run_id, "long", window_us=HOUR_US))))
        assert told(store, question(run_id)).succeeded == 1
        assert told(store, question(run_id, "long")).succeeded == 2
        assert told(store, question(run_id, "long", since_us=2**60)) == Tally()

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_other_runs_and_other_keys_are_not_found(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        await end(store, await intent(store, marked(run_id, mark(run_id, key="a"))))
        assert told(store, question(run_id, key="a")).succeeded == 1
        assert told(store, question(run_id, key="b")) == Tally()
        assert told(store, question(RunId("f" * 32), key="a")) == Tally()

    with opened(tmp_path) as store:
        run(lambda: body(store))


def test_calls_that_come_together_each_see_those_before_them_inside_the_commit(tmp_path: Path) -> None:
    async def body(stores: Sequence[SqliteStore]) -> None:
        run_id = await bind(stores[0])
        asked = question(run_id)
        seen: list[int] = []
        results: list[RecordedStep | WithheldStep] = []

        def one_left(standing: Standing, _step: SupportedStep) -> Refused | None:
            tally = standing.recall(Questions(tallies=(asked,))).tallies[asked]
            seen.append(tally.sent)
            return Refused(failure=Failure(reason=Reason.RULE_DENIED, summary="")) if tally.sent else None

        async def call(store: SqliteStore) -> None:
            results.append(await store.record_intent(marked(run_id, mark(run_id)), one_left, close))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(call, stores[number % len(stores)])
        assert sorted(seen) == [0, *[1] * 7]
        assert sum(isinstance(result, RecordedStep) for result in results) == 1

    with opened(tmp_path) as first, opened(tmp_path) as second:
        run(lambda: body((first, second)))


def test_a_run_counts_what_its_steps_add_up_to_for_every_process(tmp_path: Path) -> None:
    async def body(store: SqliteStore, other: SqliteStore) -> None:
        run_id = await bind(store)
        begun = (await store.read_run(run_id)).counters
        answer = make_answer()
        await end(store, await intent(store, marked(run_id)), answer)
        await end(store, await intent(store, marked(run_id, write=False)), make_answer(is_error=True))
        await store.record_intent(marked(run_id, effect=Effect.DENY), admit, close)
        flying = await intent(store, marked(run_id))
        assert isinstance(flying, RecordedStep)
        size = len(answer.raw) + len(make_answer(is_error=True).raw)
        counted = Counters(
            calls=3,
            writes=2,
            errors=1,
            denials=1,
            in_flight=1,
            unverified_writes=1,
            bytes_returned=size,
            calls_since_compact=3,
            bytes_since_compact=size,
            error_streak=1,
            opened_us=begun.opened_us,
        )
        assert begun.opened_us > 0
        for one in (store, other):
            told = (await one.read_run(run_id)).counters
            assert told._replace(untrusted_reads=0, values_kept=0, values_missed=0) == counted
        assert isinstance(answer, Returned)

    with opened(tmp_path) as store, opened(tmp_path) as other:
        run(lambda: body(store, other))


def test_nothing_asked_costs_no_query(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.recall(Questions(links=("/a",), counters=("calls",))) is NO_FACTS
