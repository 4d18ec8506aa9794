"""What would ask less than a question that gets its yes again and again: proposed on its card, and after the answer."""

import json

from soothsayer_mcp.console.text import escape
from soothsayer_mcp.evidence.grants import rule_of, why_no_rule, why_not_remembered
from soothsayer_mcp.model.ask import Ask
from soothsayer_mcp.model.value import dataclass

MANY_YESES = 5
"""From how many yeses on something else is proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Less:
    """A proposal."""

    call: str
    """The tool, escaped."""
    way: str
    """What would ask less, in words."""
    rule: str
    """The rule that a yes for good would write, as JSON, with words for its days; empty where none can."""


def less_of(ask: Ask, yeses: int, *, by: str) -> Less | None:
    """What to propose after so many yeses to calls of this tool under these rules; `None` where there is nothing."""
    if yeses < MANY_YESES or ask.strong or ask.needs or not ask.card:
        return None
    never, none = why_not_remembered(ask), why_no_rule(ask)
    rule = rule_of(ask.card, by=by, day="its day", until="its last day")
    return Less(
        call=escape(f"{ask.card.get('server')}.{ask.card.get('tool')}"),
        way="an allow rule with a check, or policy suggest, would ask less",
        rule="" if never or none else escape(json.dumps(rule, ensure_ascii=False)),
    )


def less_lines(less: Less | None, ask: Ask, yeses: int) -> list[str]:
    """The proposal as lines of a card that was not answered yet."""
    if less is None:
        return []
    lines = [f"less  {yeses:,} yeses to {less.call} under {escape(ask.rule)} so far; {less.way}"]
    return [*lines, f"      for good it would be {less.rule}"] if less.rule else lines
