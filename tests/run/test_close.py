"""What follows a step: the first row that holds of a closed run, `on_failure`, a pausing limit, compact, and go on."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.budget import Budgets
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.decision import Decision, Effect, Mode, Risk
from soothsayer_mcp.model.dues import Dues
from soothsayer_mcp.model.entry import Receipt
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.failure import REASONS, Failure, Reason
from soothsayer_mcp.model.following import NO_NEXT_RULES, NextRules, OnFailure
from soothsayer_mcp.model.json import Digest
from soothsayer_mcp.model.outcome import Returned, Unknown
from soothsayer_mcp.model.run import NOTHING_COUNTED, Counters, NextStep, Run, RunState
from soothsayer_mcp.model.step import SupportedStep, VerifiedStep
from soothsayer_mcp.model.undo import Captured, FileBefore, UndoClass, UndoTerms
from soothsayer_mcp.run.close import close, on_failure, undoes
from soothsayer_mcp.testing.factories import make_step
from soothsayer_mcp.testing.world import PRINCIPAL, RUN_ID

TIMED_OUT = Failure(reason=Reason.CALL_TIMEOUT, summary="")
TOLD = Failure(reason=Reason.TOOL_FAILED, summary="")
WRITE = Charge(write=True)


def a_run(counters: Counters = NOTHING_COUNTED, state: RunState = RunState.OPEN) -> Run:
    return Run(id=RUN_ID, principal=PRINCIPAL, state=state, version=0, counters=counters)


def supported(*tables: dict[str, OnFailure], charge: Charge = WRITE, risk: Risk | None = None) -> SupportedStep:
    decision = Decision(
        effect=Effect.ALLOW,
        reason=None,
        rules=(),
        mode=Mode.ENFORCE,
        policy_digest=Digest("sha256:00"),
        on_failure=tables,
        charge=charge,
        risk=risk,
    )
    return make_step().decided(decision).supported(Support(evidence=(), gaps=()))


def unknown(step: SupportedStep) -> SupportedStep:
    intent = Receipt(writer="w", seq=1, leaf=b"", run=step.run_id, no=1, took_us=1)
    return step.recorded(intent).answered(Unknown(failure=TIMED_OUT)).verified(())


def failed(*, kept: bool) -> VerifiedStep:
    """A step with an error answer that policy has undone, and with or without what that takes."""
    step = supported({"tool_error": OnFailure.UNDO})
    terms = UndoTerms(kind=UndoClass.RESTORE, rule="t/r", files=("/w/a",))
    captured = Captured(files=(FileBefore(path="/w/a", root="/w", state="absent"),)) if kept else None
    step = replace(step, decision=replace(step.decision, dues=Dues(undo=terms)))
    step = replace(step, support=replace(step.support, captured=captured))
    intent = Receipt(writer="w", seq=1, leaf=b"", run=step.run_id, no=1, took_us=1)
    return step.recorded(intent).answered(Returned(raw=b"", result={"content": [], "isError": True})).verified(())


CLASS = "timeout_or_budget_exceeded"
ROWS: list[tuple[str, Run, SupportedStep, Failure | None, Budgets, NextRules, NextStep, RunState, str]] = [
    ("closed", a_run(state=RunState.STOPPED), supported(), None, Budgets(), NO_NEXT_RULES,
     NextStep.STOP, RunState.STOPPED, "run is stopped"),
    ("on failure", a_run(), supported({"tool_error": OnFailure.FAIL}), TOLD, Budgets(error_streak=1), NO_NEXT_RULES,
     NextStep.STOP, RunState.FAILED, "policy says fail on tool_error/tool_failed"),
    ("another class", a_run(), supported({"policy_denied": OnFailure.FAIL}), TOLD, Budgets(), NO_NEXT_RULES,
     NextStep.CONTINUE, RunState.OPEN, ""),
    ("a streak beside a continue", a_run(Counters(error_streak=1)), supported({"tool_error": OnFailure.CONTINUE}),
     TOLD, Budgets(error_streak=1), NO_NEXT_RULES,
     NextStep.STOP, RunState.PAUSED, "1 calls failed one after the other"),
    ("unsettled", a_run(), unknown(supported()), TIMED_OUT, Budgets(), NextRules(pause_unsettled=True),
     NextStep.STOP, RunState.PAUSED, "it is not known whether files.read happened"),
    ("an unsettled read", a_run(), unknown(supported(charge=Charge())), TIMED_OUT, Budgets(),
     NextRules(pause_unsettled=True), NextStep.CONTINUE, RunState.OPEN, ""),
    ("a refused write", a_run(), supported(), Failure(reason=Reason.RULE_DENIED, summary=""), Budgets(),
     NextRules(pause_unsettled=True), NextStep.CONTINUE, RunState.OPEN, ""),
    ("an undo of what may have happened", a_run(), unknown(supported({CLASS: OnFailure.UNDO})), TIMED_OUT, Budgets(),
     NO_NEXT_RULES, NextStep.STOP, RunState.PAUSED,
     "policy says undo on timeout_or_budget_exceeded/call_timeout, and it is not known whether it happened"),
    ("an undo of what was never sent", a_run(), supported({"policy_denied": OnFailure.UNDO}),
     Failure(reason=Reason.RULE_DENIED, summary=""), Budgets(), NO_NEXT_RULES, NextStep.CONTINUE, RunState.OPEN, ""),
    ("an undo", a_run(), failed(kept=True), TOLD, Budgets(), NO_NEXT_RULES,
     NextStep.CONTINUE, RunState.OPEN, "policy says undo on tool_error/tool_failed"),
    ("an undo and a limit", a_run(Counters(error_streak=1)), failed(kept=True), TOLD, Budgets(error_streak=1),
     NO_NEXT_RULES, NextStep.STOP, RunState.PAUSED, "1 calls failed one after the other"),
    ("an undo of what was not kept", a_run(), failed(kept=False), TOLD, Budgets(), NO_NEXT_RULES,
     NextStep.STOP, RunState.PAUSED,
     "policy says undo on tool_error/tool_failed, and nothing that is put back was kept"),
    ("an undo that failed", a_run(), replace(supported(), cause=Cause.UNDO), TOLD, Budgets(), NO_NEXT_RULES,
     NextStep.STOP, RunState.PAUSED, "the undo of a step did not succeed: tool_failed"),
    ("calls", a_run(counters=Counters(calls_since_compact=3)), supported(), None, Budgets(), NextRules(compact_calls=3),
     NextStep.COMPACT, RunState.OPEN, "3 calls since the last time"),
    ("too few calls", a_run(counters=Counters(calls_since_compact=2)), supported(), None, Budgets(),
     NextRules(compact_calls=3), NextStep.CONTINUE, RunState.OPEN, ""),
    ("bytes", a_run(counters=Counters(bytes_since_compact=9_000)), supported(), None, Budgets(),
     NextRules(compact_bytes=9_000), NextStep.COMPACT, RunState.OPEN, "9,000 bytes were returned since the last time"),
]  # fmt: skip


@pytest.mark.parametrize(("run", "step", "failure", "budgets", "rules", "then", "state", "why"),
                         [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])  # fmt: skip
def test_the_first_row_that_holds_says_what_follows(
    run: Run,
    step: SupportedStep,
    failure: Failure | None,
    budgets: Budgets,
    rules: NextRules,
    then: NextStep,
    state: RunState,
    why: str,
) -> None:
    closing = close(run, step, failure, budgets, rules)
    assert (closing.next_step, closing.run_state, closing.why) == (then, state, why)


@pytest.mark.parametrize(
    ("risk", "seen"), [(None, 0), (Risk(low=30, high=30), 30), (Risk(low=10, high=30), None)], ids=str
)
def test_a_condition_is_asked_about_the_run_as_counted_and_the_risk_where_it_is_known(
    risk: Risk | None, seen: int | None
) -> None:
    asked: list[tuple[Run, int | None, int]] = []
    rules = NextRules(compact_when=lambda run, risk, now_us: not asked.append((run, risk, now_us)))
    step, run = supported(risk=risk), a_run()
    assert close(run, step, None, rules=rules).next_step is NextStep.COMPACT
    assert asked == [(run, seen, step.proposed_at_us)]


def test_only_the_agents_own_calls_end_its_run() -> None:
    step = replace(supported({"tool_error": OnFailure.STOP}), cause=Cause.PROBE)
    assert close(a_run(), step, TOLD, Budgets(error_streak=1)).next_step is NextStep.CONTINUE


def test_the_reason_speaks_before_its_class_and_the_strictest_table_holds() -> None:
    lenient = {"tool_error": OnFailure.STOP, "tool_error/tool_failed": OnFailure.CONTINUE}
    assert on_failure([lenient], TOLD) is OnFailure.CONTINUE
    assert on_failure([lenient], Failure(reason=Reason.PROTOCOL_ERROR, summary="")) is OnFailure.STOP
    assert on_failure([lenient, {"tool_error": OnFailure.PAUSE}], TOLD) is OnFailure.PAUSE


def test_a_step_is_undone_whatever_else_another_table_says_and_only_if_it_came_back_and_was_the_agents() -> None:
    step = failed(kept=True)
    stricter = replace(step.decision, on_failure=(*step.decision.on_failure, {"tool_error": OnFailure.STOP}))
    assert undoes(step)
    assert undoes(replace(step, decision=stricter))
    assert not undoes(failed(kept=False))
    assert not undoes(replace(step, cause=Cause.UNDO))
    assert not undoes(replace(step, outcome=Unknown(failure=TIMED_OUT)))
    assert not undoes(replace(step, outcome=Returned(raw=b"", result={"content": []})))


WORDS = st.sampled_from(OnFailure)
CLASSES = st.sampled_from(sorted({row.failure.value for row in REASONS.values()}))
TABLES = st.lists(st.dictionaries(CLASSES, WORDS), max_size=4)


@given(TABLES, st.data(), st.sampled_from(Reason))
def test_another_table_never_makes_what_follows_milder(
    tables: list[dict[str, OnFailure]], data: st.DataObject, reason: Reason
) -> None:
    order = list(OnFailure)
    failure = Failure(reason=reason, summary="")
    more = data.draw(TABLES)
    assert order.index(on_failure([*tables, *more], failure)) >= order.index(on_failure(tables, failure))
    assert on_failure([*more, *tables], failure) is on_failure([*tables, *more], failure)
