"""Results that were stored and shown in part: found again, and read back in parts that count as returned."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.items import Item, known
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.ports import Note, PortError, StoredResult
from soothsayer_mcp.trace import entries
from soothsayer_mcp.wire import parts
from soothsayer_mcp.wire.strict import WireError, read_server

_SELECT = (
    "SELECT p.text, p.file FROM entries e JOIN payloads p ON p.writer = e.writer AND p.seq = e.seq"
    " WHERE p.part = 'result' AND e.run = ? AND e.no = ? AND e.kind = 'step.outcome'"
    " AND json_extract(e.body, '$.given') IS NOT NULL"
)
KeptAt: TypeAlias = tuple[str | bytes | None, str | None]
"""A payload in its row, or the name of the file that holds it."""
_PRINCIPAL = "SELECT principal FROM runs WHERE id = ?"


def result_text(frame: bytes) -> tuple[str, str]:
    """What a reader is given of a stored answer, and its MIME type."""
    try:
        result = read_server(frame).result
    except WireError:
        result = None
    if not isinstance(result, dict):
        return frame.decode(errors="replace"), parts.TEXT
    return parts.readable(result)


def find_result(db: sqlite3.Connection, run: str, no: int, *, principal: str) -> KeptAt | None:
    """Where the stored result of a step of a principal's run is kept; `None` where there is none any more.

    Raises `sqlite3.Error`.
    """
    owner = db.execute(_PRINCIPAL, (run,)).fetchone()
    if owner is None or owner[0] != entries.storable(principal):
        return None
    return cast("KeptAt | None", db.execute(_SELECT, (run, no)).fetchone())


def read_result(kept: KeptAt, blobs: Path) -> StoredResult | None:
    """Read what is kept; `None` where it was erased. A large one takes its time: not for the event loop."""
    text, file = kept
    try:
        raw = text if file is None else (blobs / file).read_bytes()
    except OSError:
        return None
    if raw is None:
        return None
    said, mime = result_text(raw.encode() if isinstance(raw, str) else raw)
    return StoredResult(text=said, mime=mime)


class ReadBackItem(Item[None]):
    """Counts a part of a stored result, or a digest, as returned to the agent; with the entry that tells of it."""

    reads = True

    def __init__(self, run: RunId, size: int, refuse: Callable[[Run], Failure | None], note: Note | None) -> None:
        super().__init__()
        self._run = run
        self._size = size
        self._refuse = refuse
        self._note = note

    def apply(self, batch: Batch) -> None:
        """Count it, unless the run has none of it left."""
        row = known(batch, self._run)
        failure = self._refuse(row.as_run())
        if failure is not None:
            raise PortError(failure.reason, failure.summary, acted=Acted.NO)
        if self._note is not None:
            tail = entries.note(self._note.kind, self._note.fields, {})
            batch.append(self._note.kind, tail, batch.now(), run=row.id)
        row.counters = row.counters._replace(
            bytes_returned=row.counters.bytes_returned + self._size,
            bytes_since_compact=row.counters.bytes_since_compact + self._size,
        )
        batch.changed(row)

    def refusal(self, why: str) -> PortError:
        """Nothing is given that is not on record."""
        return PortError(Reason.TRACE_UNAVAILABLE, why, acted=Acted.NO)
