"""Earlier steps with the same call of which the agent does not know how they ended."""

import hmac
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

_REPEATED = (
    "SELECT s.run, s.no, s.acted FROM spent k JOIN steps s ON s.run = k.run AND s.no = k.no"
    " LEFT JOIN undo u ON u.run = s.run AND u.no = s.no"
    " WHERE k.key = ? AND (s.acted IS NULL OR s.acted <> 'no') AND (u.state IS NULL OR u.state <> 'undone')"
)


def find_twin(batch: Batch, step: SupportedStep, run: RunId, match: str) -> Twin | None:
    """The latest one that is not settled, or whose settling the agent has not been told of."""
    batch.flush()
    where = (run, entries.storable(step.proposal.server), entries.storable(step.proposal.tool), f"hmac:{match}")
    found = cast("tuple[int, str] | None", batch.db.execute(_TWIN, where).fetchone())
    return None if found is None else Twin(step=f"{run[:4]}.{found[0]}", acted=Acted(found[1]))


def find_repeated(batch: Batch, step: SupportedStep) -> Twin | None:
    """An earlier step with one of the same keys that may have had its effect, and was not undone.

    What this call continues is no earlier one.
    """
    own = {step.continues, step.support.continues}
    batch.flush()
    for key in step.decision.charge.once:
        found = cast("tuple[str, int, str | None] | None", batch.db.execute(_REPEATED, (_key(batch, key),)).fetchone())
        if found is not None and f"{found[0]}.{found[1]}" not in own:
            return Twin(step=f"{found[0][:4]}.{found[1]}", acted=Acted(found[2] or Acted.MAYBE), keyed=True)
    return None


def use_keys(batch: Batch, step: SupportedStep, no: int) -> None:
    """With an intent: from here on it is the one call with these keys, until it is known that it had no effect."""
    for key in step.decision.charge.once:
        batch.later("INSERT OR REPLACE INTO spent(key, run, no) VALUES(?, ?, ?)", _key(batch, key), step.run_id, no)


def _key(batch: Batch, key: str) -> str:
    """Salted, so that a value that is secret cannot be guessed from the row."""
    store = batch.db.execute("SELECT value FROM meta WHERE key = 'store'").fetchone()[0]
    return f"once:{hmac.new(str(store).encode(), key.encode(), 'sha256').hexdigest()}"


def told_of(batch: Batch, run: RunId, twin: Twin) -> None:
    """The refusal tells the agent how it ended; the next such call is one that knows."""
    no = int(twin.step.rpartition(".")[2])
    batch.later("UPDATE settlements SET told = 1 WHERE run = ? AND no = ?", run, no)
