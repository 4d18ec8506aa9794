"""How the agent learns what is owed: one refusal that lists each missing item, why, and what would show it."""

from collections.abc import Sequence

from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One item that is not met."""

    reason: Reason
    title: str
    """What was to be shown."""
    why: str
    do: str
    """What the agent may do about it; empty when calling again is all."""


_NAMES_TOOL = frozenset({Reason.ABSENT, Reason.STALE, Reason.CONSUMED})
"""Reasons whose first line names the call; that of the others names the item."""


def refusal(step: ProposedStep, gaps: Sequence[Gap]) -> Failure:
    """The failure that a step with gaps ends with: the class and reason of the first, and the list of all."""
    tool = f"{step.proposal.server}.{step.proposal.tool}"
    first = gaps[0]
    lines: list[str] = []
    for gap in gaps:
        lines.append(f"- {gap.title}: {gap.why}.")
        if gap.do:
            lines.append(f"  Do: {gap.do}")
    lines.append(f"Then call {tool} again with the same arguments.")
    summary = tool if first.reason in _NAMES_TOOL else f"{first.title}: {first.why}"
    return Failure(reason=first.reason, summary=summary, lines=tuple(lines))
