"""Earlier steps with the same call of which the agent does not know how they ended."""

from typing import cast

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.settlement import Twin
from soothsayer_mcp.model.step import SupportedStep
from soothsayer_mcp.trace import entries

_TWIN = (
    "SELECT s.no, s.acted FROM steps s JOIN entries e ON e.run = s.run AND e.no = s.no AND e.kind = 'step.intent'"
    " LEFT JOIN settlements t ON t.run = s.run AND t.no = s.no"
    " WHERE s.run = ? AND s.outcome = 'unknown' AND s.server = ? AND s.tool = ? AND s.cause = 'agent'"
    " AND (s.acted = 'maybe' OR t.told = 0) AND json_extract(e.body, '$.match') = ? ORDER BY s.no DESC LIMIT 1"
)


def find_twin(batch: Batch, step: SupportedStep, run: RunId, match: str) -> Twin | None:
    """The latest one that is not settled, or whose settling the agent has not been told of."""
    batch.flush()
    where = (run, entries.storable(step.proposal.server), entries.storable(step.proposal.tool), f"hmac:{match}")
    found = cast("tuple[int, str] | None", batch.db.execute(_TWIN, where).fetchone())
    return None if found is None else Twin(step=f"{run[:4]}.{found[0]}", acted=Acted(found[1]))


def told_of(batch: Batch, run: RunId, twin: Twin) -> None:
    """The refusal tells the agent how it ended; the next such call is one that knows."""
    no = int(twin.step.rpartition(".")[2])
    batch.later("UPDATE settlements SET told = 1 WHERE run = ? AND no = ?", run, no)
