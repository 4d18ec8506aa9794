"""Which of the things that a run has to show before it is completed it cannot show now, and what would show them."""

from collections.abc import Iterable, Mapping

from soothsayer_mcp.evidence.gap import Gap
from soothsayer_mcp.evidence.steps import judge_step
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.dues import Held, Item
from soothsayer_mcp.model.json import Json

_NO_VALUES: Mapping[str, Json] = {}
_NO_FILES: Mapping[str, str] = {}


def unmet(required: Iterable[Item], run: RunId, held: Held, now_us: int) -> tuple[str, ...]:
    """Tell of each item that does not hold, a phrase each, with what would satisfy it."""
    judged = [
        judge_step(item, held.seen(run, item.pattern), held, id_="", values=_NO_VALUES, files=_NO_FILES, now_us=now_us)
        for item in required
    ]
    return tuple(f"{gap.title}: {gap.why}; {gap.do}" for gap in judged if isinstance(gap, Gap))
