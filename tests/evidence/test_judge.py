"""The check of an answer against the tool's own output schema: when it is owed, and its three answers."""

import pytest

from soothsayer_mcp.evidence.judge import OUTPUT_SCHEMA, judge_answer
from soothsayer_mcp.evidence.weigh import weigh
from soothsayer_mcp.model.call import ArgumentFault
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.entry import Receipt
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.outcome import Returned, Unknown
from soothsayer_mcp.model.step import AnsweredStep
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.testing.factories import make_policy, make_step, make_tool
from soothsayer_mcp.testing.world import RUN_ID, World

FITTING: JsonObject = {"content": [], "structuredContent": {"n": 1}}


def check_number(value: Json) -> ArgumentFault | None:
    """An output schema that wants `{"n": NUMBER}`."""
    if not isinstance(value, dict):
        return ArgumentFault(path="", problem="must be an object")
    return None if isinstance(value.get("n"), int) else ArgumentFault(path="/n", problem="must be a number")


def answered(outcome: Returned | Unknown, *, mode: Mode = Mode.ENFORCE, with_schema: bool = True) -> AnsweredStep:
    step = make_step(make_tool(check_result=check_number if with_schema else None))
    decided = step.decided(decide(make_policy(mode=mode), World().run, step, NO_FACTS))
    supported = decided.supported(weigh(decided))
    receipt = Receipt(writer="a" * 16, seq=1, leaf=bytes(32), run=RUN_ID, no=1)
    assert outcome is not None
    return supported.recorded(receipt).answered(outcome)


def judged(result: JsonObject | None, **of: bool) -> tuple[Finding, ...]:
    return judge_answer(answered(Returned(raw=b"{}", result=result, strict=of.get("strict", True))))


def test_an_answer_that_fits_is_kept() -> None:
    (finding,) = judged(FITTING)
    assert (finding.check, finding.answer, finding.reason) == (OUTPUT_SCHEMA, Answer.KEPT, None)


@pytest.mark.parametrize(
    ("structured", "detail"), [({"n": "x"}, "/n must be a number"), ([], "the whole must be an object")]
)
def test_an_answer_that_does_not_fit_is_broken_and_says_where(structured: Json, detail: str) -> None:
    (finding,) = judged({"content": [], "structuredContent": structured})
    assert (finding.answer, finding.reason, finding.detail) == (Answer.BROKEN, Reason.RESULT_SCHEMA, detail)


def test_an_answer_without_structured_content_is_broken() -> None:
    (finding,) = judged({"content": []})
    assert (finding.answer, finding.reason) == (Answer.BROKEN, Reason.RESULT_SCHEMA)
    assert finding.detail == "no structured content came"


def test_structured_content_that_is_null_is_there_and_is_checked() -> None:
    (finding,) = judged({"content": [], "structuredContent": None})
    assert finding.detail == "the whole must be an object"


def test_an_answer_that_reads_in_two_ways_could_not_be_checked() -> None:
    (finding,) = judged(FITTING, strict=False)
    assert (finding.answer, finding.reason) == (Answer.UNKNOWN, Reason.UNCHECKED)


@pytest.mark.parametrize(
    "result",
    [
        Returned(raw=b"{}", result={"resultType": "input_required"}, final=False),
        Returned(raw=b"{}", result={"task": {"taskId": "1"}}, final=False, task="1"),
        Returned(raw=b"{}", result={"content": [], "isError": True}),
    ],
    ids=["the server asks back", "a task", "isError"],
)
def test_nothing_is_found_where_nothing_is_owed_yet(result: Returned) -> None:
    assert judge_answer(answered(result)) == ()


def test_a_result_that_calls_itself_complete_is_checked() -> None:
    (finding,) = judged({**FITTING, "resultType": "complete"})
    assert finding.answer is Answer.KEPT


def test_nothing_is_found_without_an_output_schema() -> None:
    assert judge_answer(answered(Returned(raw=b"{}", result=FITTING), with_schema=False)) == ()


def test_nothing_is_found_in_an_error_or_an_unknown() -> None:
    error = Returned(raw=b"{}", result=None, error={"code": -32603, "message": "no"})
    unknown = Unknown(failure=Failure(reason=Reason.CALL_TIMEOUT, summary="s"))
    assert judge_answer(answered(error)) == ()
    assert judge_answer(answered(unknown)) == ()


def test_observing_checks_nothing_since_it_may_change_no_byte() -> None:
    broken: JsonObject = {"content": [], "structuredContent": {"n": "x"}}
    assert judge_answer(answered(Returned(raw=b"{}", result=broken), mode=Mode.OBSERVE)) == ()


def test_a_decision_that_is_no_allow_becomes_the_gap_that_withholds_the_step() -> None:
    step = make_step()
    denied = step.decided(decide(make_policy(Effect.DENY), World().run, step, NO_FACTS))
    allowed = step.decided(decide(make_policy(), World().run, step, NO_FACTS))
    assert [gap.reason for gap in weigh(denied).gaps] == [Reason.NO_RULE]
    assert weigh(allowed).gaps == ()
