"""Judges what came back: findings from observations."""

from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import AnsweredStep

OUTPUT_SCHEMA = "schema:output"
RESULT_SIZE = "limit:result_bytes"


def judge_answer(step: AnsweredStep) -> tuple[Finding, ...]:
    """Check a successful answer against the tool's own output schema.

    No finding where nothing is owed: error answers, tools without an output schema, and observe mode, which must not
    change a byte.
    """
    outcome = step.outcome
    if not isinstance(outcome, Returned):
        return ()
    most = step.decision.charge.bytes_most
    if most is not None and len(outcome.raw) > most and step.decision.mode is not Mode.OBSERVE:
        return (
            _finding(
                Answer.BROKEN, f"{len(outcome.raw):,} bytes, {most:,} at most", Reason.RESULT_TOO_BIG, RESULT_SIZE
            ),
        )
    if outcome.result is None or outcome.is_error:
        return ()
    check = None if step.tool is None else step.tool.check_result
    if check is None or step.decision.mode is Mode.OBSERVE or step.decision.effect is Effect.DENY:
        return ()
    if not is_final(outcome):
        return ()
    if not outcome.strict:
        return (_finding(Answer.UNKNOWN, "its answer reads in more than one way", Reason.UNCHECKED),)
    if "structuredContent" not in outcome.result:
        return (_finding(Answer.BROKEN, "no structured content came", Reason.RESULT_SCHEMA),)
    fault = check(outcome.structured)
    if fault is None:
        return (_finding(Answer.KEPT, "", None),)
    return (_finding(Answer.BROKEN, f"{fault.path or 'the whole'} {fault.problem}", Reason.RESULT_SCHEMA),)


def is_final(outcome: Returned) -> bool:
    """Whether this is the answer: the server wants nothing more (`input_required`), and answers no later (a task)."""
    return outcome.final


def _finding(answer: Answer, detail: str, reason: Reason | None, check: str = OUTPUT_SCHEMA) -> Finding:
    return Finding(check=check, answer=answer, level=Level.E1, reason=reason, detail=detail)


def unchecked(step: AnsweredStep, why: str) -> tuple[Finding, ...]:
    """A finding for each owed check of a step whose checks could not be made."""
    return tuple(
        Finding(check=item.kind, answer=Answer.UNKNOWN, level=Level.E1, reason=Reason.UNCHECKED, detail=why)
        for item in step.decision.dues.verify
    ) or (Finding(check="checks", answer=Answer.UNKNOWN, level=Level.E1, reason=Reason.UNCHECKED, detail=why),)
