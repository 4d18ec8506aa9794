"""What a host is given outside of calls, resources and prompts: counted for its run, in the commit of its entry."""

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.items import Item, known
from soothsayer_mcp.adapters.store.origins import keep_values
from soothsayer_mcp.model.facts import Origin
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.ports import Given, Note, PortError
from soothsayer_mcp.trace import entries


class GivenItem(Item[Run]):
    """Writes the entry of what is given, and what it makes of the run: taint, and where values stood."""

    reads = True
    hard = False

    def __init__(self, given: Given, note: Note) -> None:
        super().__init__()
        self._given = given
        self._note = note
        self._tail = entries.note(note.kind, note.fields, {})

    def apply(self, batch: Batch) -> Run:
        """Write it, and tell the run as it is then. Raises `PortError` where there is no such run."""
        given, note = self._given, self._note
        if note.run is None:
            raise PortError(Reason.RUN_UNKNOWN, "what was read belongs to none", acted=Acted.NO)
        row, at = known(batch, note.run), batch.now()
        batch.append(note.kind, self._tail, at, run=row.id)
        counters = row.counters
        row.counters = counters._replace(
            untrusted_reads=counters.untrusted_reads + (given.origin is Origin.UNTRUSTED),
            suspect_reads=counters.suspect_reads + given.suspect,
        )
        keep_values(batch, row, given.values, given.origin)
        row.last_at = at
        batch.changed(row)
        return row.as_run()
