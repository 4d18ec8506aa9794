"""Steps of ended processes whose outcome is not known, with what is kept to settle them."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from soothsayer_mcp.evidence.settle import read_settling
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.settling import PART, Unsettled
from soothsayer_mcp.trace import entries

_LEFT = (
    "SELECT s.run, s.no, s.server, s.tool, p.text, p.file FROM runs r JOIN steps s ON s.run = r.id"
    " JOIN writers w ON w.id = s.writer JOIN entries e ON e.run = s.run AND e.no = s.no AND e.kind = 'step.intent'"
    " JOIN payloads p ON p.writer = e.writer AND p.seq = e.seq AND p.part = ?"
    " WHERE r.principal = ? AND r.workspace = ? AND r.unknown > 0"
    " AND s.outcome = 'unknown' AND s.acted = 'maybe' AND w.closed_at IS NOT NULL ORDER BY s.run, s.no"
)


def load_unsettled(db: sqlite3.Connection, blobs: Path, principal: str, workspace: str) -> list[Unsettled]:
    """Find them; what cannot be read is left to people. Raises `sqlite3.Error`."""
    named = (PART, entries.storable(principal), entries.storable(workspace))
    rows = cast("Sequence[tuple[str, int, str, str, str | bytes | None, str | None]]", db.execute(_LEFT, named))
    found: list[Unsettled] = []
    for run, no, server, tool, text, file in rows:
        try:
            raw = (blobs / file).read_bytes() if file else text
            settling = read_settling(cast("Json", json.loads(raw or b"")))
        except (OSError, ValueError):
            continue
        found.append(Unsettled(run=RunId(run), no=no, server=server, tool=tool, settling=settling))
    return found
