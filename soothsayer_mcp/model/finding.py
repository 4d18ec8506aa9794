"""What one check answered."""

from dataclasses import dataclass
from enum import StrEnum

from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Reason


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
