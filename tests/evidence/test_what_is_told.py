"""What the agent is told of a call that is withheld, and of an answer that is too large."""

from dataclasses import replace

import pytest

from soothsayer_mcp.evidence.judge import RESULT_SIZE, judge_answer, unchecked
from soothsayer_mcp.evidence.weigh import weigh
from soothsayer_mcp.model.decision import Decision, Effect, Mode, RuleMatch
from soothsayer_mcp.model.dues import Dues, Item
from soothsayer_mcp.model.entry import Receipt
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.json import digest
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import AnsweredStep
from soothsayer_mcp.testing.factories import make_step
from soothsayer_mcp.testing.world import RUN_ID

DECISION = Decision(effect=Effect.ALLOW, reason=None, rules=(), mode=Mode.ENFORCE, policy_digest=digest(b""))
DENIED = replace(DECISION, effect=Effect.DENY, reason=Reason.RULE_DENIED)
RULES = (RuleMatch(id="p/one", effect=Effect.DENY, text="Not one."), RuleMatch(id="p/two", effect=Effect.DENY, text=""))


def answered(decision: Decision, raw: bytes = b"{}") -> AnsweredStep:
    decided = make_step().decided(decision)
    receipt = Receipt(writer="a" * 16, seq=1, leaf=bytes(32), run=RUN_ID, no=1)
    return decided.supported(weigh(decided)).recorded(receipt).answered(Returned(raw=raw, result={"content": []}))


@pytest.mark.parametrize(
    ("decision", "gap"),
    [
        (replace(DENIED, rules=RULES), Failure(reason=Reason.RULE_DENIED, summary="p/one: Not one")),
        (replace(DENIED, rules=RULES[1:]), Failure(reason=Reason.RULE_DENIED, summary="p/two")),
        (DENIED, Failure(reason=Reason.RULE_DENIED, summary="files.read")),
        (replace(DENIED, reason=None), Failure(reason=Reason.INTERNAL_ERROR, summary="files.read")),
    ],
)
def test_a_refusal_names_the_first_rule_with_what_it_says(decision: Decision, gap: Failure) -> None:
    assert weigh(make_step().decided(decision)).gaps == (gap,)


def test_a_flaw_is_told_where_it_is_what_the_call_is_refused_for() -> None:
    flaw = Failure(reason=Reason.ARGUMENTS_INVALID, summary="x must be a number")
    step = make_step(flaws=[flaw])
    assert weigh(step.decided(replace(DENIED, reason=Reason.ARGUMENTS_INVALID))).gaps == (flaw,)
    other = Failure(reason=Reason.RULE_DENIED, summary="p/two")
    assert weigh(step.decided(replace(DENIED, rules=RULES[1:]))).gaps == (other,)


@pytest.mark.parametrize(("size", "broken"), [(1_000, False), (1_001, True)])
def test_an_answer_may_be_as_large_as_its_rules_say_and_no_larger(size: int, *, broken: bool) -> None:
    limited = replace(DECISION, charge=Charge(bytes_most=1_000))
    finding = Finding(
        check=RESULT_SIZE,
        answer=Answer.BROKEN,
        level=Level.E1,
        reason=Reason.RESULT_TOO_BIG,
        detail="1,001 bytes, 1,000 at most",
    )
    assert judge_answer(answered(limited, b"x" * size)) == ((finding,) if broken else ())
    assert judge_answer(answered(replace(limited, mode=Mode.OBSERVE), b"x" * size)) == ()
    assert judge_answer(answered(DECISION, b"x" * size)) == ()


def test_an_answer_of_a_tool_that_nobody_knows_owes_no_schema() -> None:
    step = answered(DECISION)
    assert judge_answer(replace(step, tool=None)) == ()


def test_each_check_that_could_not_be_made_is_a_finding_and_one_stands_for_none() -> None:
    items = tuple(Item(kind=kind, spec={}, rule="p/r") for kind in ("artifact", "readback"))
    owing = answered(replace(DECISION, dues=Dues(verify=items)))
    assert [(one.check, one.answer, one.detail) for one in unchecked(owing, "why")] == [
        ("artifact", Answer.UNKNOWN, "why"),
        ("readback", Answer.UNKNOWN, "why"),
    ]
    (only,) = unchecked(answered(DECISION), "why")
    assert (only.check, only.reason) == ("checks", Reason.UNCHECKED)
