"""Whether the evidence that a step rests on still counts, on the record as it stands inside commit A."""

from soothsayer_mcp.evidence.gap import Gap, refusal
from soothsayer_mcp.evidence.scope import plain
from soothsayer_mcp.model.dues import Held
from soothsayer_mcp.model.evidence import Evidence
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.step import SupportedStep
from soothsayer_mcp.model.subject import EVERYTHING, relative


def outdated(step: SupportedStep, held: Held, now_us: int) -> Failure | None:
    """Why what was held a moment ago counts no longer; `None` while all of it does."""
    gaps: list[Gap] = []
    for evidence in step.support.evidence:
        found = lapsed(evidence, held, now_us)
        if found is not None:
            gaps.append(Gap(reason=found[0], title=evidence.title, why=found[1], do=evidence.do))
    return refusal(step, gaps) if gaps else None


def overtaken(step: SupportedStep, held: Held) -> Failure | None:
    """Why what was kept for an undo is not the state before the call any more: another step came between."""
    captured, terms = step.support.captured, step.decision.dues.undo
    if captured is None or terms is None:
        return None
    for about in terms.subjects(step.decision.dues.opens):
        other = held.in_flight(about)
        write = held.last_write(about, but=None)
        if not other and write.subject != EVERYTHING and write.ended > captured.began:
            other = write.step
        if other:
            return Failure(reason=Reason.STATE_CHANGED, summary=f"{other} wrote to {said(about, terms.root)} meanwhile")
    return None


def lapsed(evidence: Evidence, held: Held, now_us: int) -> tuple[Reason, str] | None:
    """Why one piece of evidence does not count, now."""
    if evidence.made_by is not None and evidence.pattern:
        latest = held.seen(evidence.made_by[0], evidence.pattern, across=evidence.across)
        if latest is not None and (latest.run, latest.no) != evidence.made_by:
            return Reason.STALE, f"{latest.step} came after it"
    for subject in evidence.newer_than:
        write = held.last_write(subject, but=evidence.made_by)
        if write.open:
            return Reason.STALE, f"{write.step} may still be writing {said(write.subject, evidence.root)}"
        if write.ended > evidence.began:
            return Reason.STALE, f"{write.step} wrote {said(write.subject, evidence.root)} after it began"
    if evidence.expires_us is not None and now_us >= evidence.expires_us:
        return Reason.STALE, "it is too old"
    if evidence.at_us > now_us + FUTURE_US:
        return Reason.STALE, "its time lies in the future"
    if evidence.spend and held.spent(evidence.spend):
        return Reason.CONSUMED, "it was used already"
    return None


FUTURE_US = 2_000_000
"""How far a clock may be set back before what was seen by it is of the future."""


def said(subject: str, root: str) -> str:
    """A subject in words: it may hold an argument, so it is escaped."""
    if subject == "*":
        return "something that it did not name"
    _, _, key = subject.partition(":")
    return plain(relative(key, root) if key else subject)
