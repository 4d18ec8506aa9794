"""What one check answered."""

from enum import StrEnum

from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.value import dataclass


class Answer(StrEnum):
    """The three answers of a check; never merged."""

    KEPT = "kept"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check and its answer."""

    check: str
    """Kind and subject, such as `schema:output`."""
    answer: Answer
    level: Level
    reason: Reason | None
    """The failure that this finding makes; `None` when kept."""
    detail: str = ""
    subject: str = ""
    """What was looked at; empty for the answer itself."""
    rule: str = ""
    """The rule that demands it, or `label`; empty for what every answer owes."""
    took_us: int = 0
    look: str = ""
    """How an agent looks at it itself."""


def told_undone(*, shown: bool) -> tuple[str, ...]:
    """The same once the call was undone; `shown`: whether its answer follows."""
    then = "its answer follows, and holds no more" if shown else "its answer is withheld"
    return (f"It was undone; {then}.",)


def told(finding: Finding, tool: str, *, shown: bool) -> tuple[str, ...]:
    """What an agent reads below the first line about a check that is not kept; `shown`: whether the answer follows."""
    if finding.answer is Answer.UNKNOWN:
        then = "The unchecked answer follows." if shown else "Its answer is withheld."
        return (f"Do not call {tool} again; the run does not complete while it is unchecked. {then}",)
    if finding.reason is not Reason.CHECK_BROKEN:
        return ()
    then = "its answer follows unchecked" if shown else "its answer is withheld"
    return (f"The effect may be in place; {then}. Do: {finding.look or 'look at it'} before anything else.",)
