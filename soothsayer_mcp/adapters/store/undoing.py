"""Rows about undoing: what may be undone, and what became of it."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.evidence.settle import read_settling
from soothsayer_mcp.model.call import Cause, RunId
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.settling import PART as SETTLE_PART
from soothsayer_mcp.model.settling import Settling
from soothsayer_mcp.model.step import SupportedStep
from soothsayer_mcp.model.undo import UndoClass, UndoState
from soothsayer_mcp.trace import entries
from soothsayer_mcp.undo.kept import PART, Kept, read_kept, with_after
from soothsayer_mcp.undo.plan import Past

_BEGIN = "INSERT INTO undo(run, no, class, state) VALUES(?,?,?,?)"
_END = "UPDATE undo SET state = ? WHERE run = ? AND no = ?"
_STEPS = (
    "SELECT s.no, s.server, s.tool, s.does, s.outcome, s.acted, u.class, u.state, w.closed_at,"
    " (SELECT e.pos FROM entries e WHERE e.run = s.run AND e.no = s.no AND e.kind = 'step.outcome')"
    " FROM steps s LEFT JOIN undo u ON u.run = s.run AND u.no = s.no LEFT JOIN writers w ON w.id = s.writer"
    " WHERE s.run = ? AND s.cause = ? ORDER BY s.no"
)
_TRIES = "SELECT of_step, no, outcome FROM steps WHERE run = ? AND cause = ? AND of_step IS NOT NULL ORDER BY no"
_OTHER = (
    "SELECT no FROM steps WHERE run = ? AND cause = ? AND of_step = ?"
    " AND (outcome IS NULL OR outcome = 'succeeded') ORDER BY no DESC LIMIT 1"
)
_KEPT = (
    "SELECT e.no, e.kind, p.text, p.file FROM payloads p JOIN entries e ON e.writer = p.writer AND e.seq = p.seq"
    " WHERE e.run = ? AND p.part = ? ORDER BY e.pos"
)


def begin_undo(batch: Batch, step: SupportedStep, no: int) -> None:
    """With an intent: note how it is to be undone. What a label alone promised and could not keep is irreversible."""
    terms = step.decision.dues.undo
    if terms is None:
        return
    kind = terms.kind
    if terms.keeps and step.support.captured is None:
        kind = UndoClass.NEVER
    batch.later(_BEGIN, step.run_id, no, kind, UndoState.OPEN)


def end_undo(batch: Batch, run: RunId, no: int) -> None:
    """With an outcome that had no effect: there is nothing to undo."""
    batch.later(_END, UndoState.NOT_NEEDED, run, no)


def undone_by(batch: Batch, step: SupportedStep) -> str:
    """Another step that undid, or is undoing just now, what this one is to undo; empty where there is none."""
    batch.flush()
    found = batch.db.execute(_OTHER, (step.run_id, Cause.UNDO, entries.storable(step.of_step))).fetchone()
    return "" if found is None else f"{step.run_id[:4]}.{found[0]}"


def load_pasts(db: sqlite3.Connection, blobs: Path, run: RunId) -> list[Past]:
    """The agent's steps of a run, with what is kept for their undo. Raises `sqlite3.Error` and `OSError`."""
    kept, settling = _load_kept(db, blobs, run), _load_settling(db, blobs, run)
    tries: dict[str, list[tuple[int, str]]] = {}
    for of_step, no, outcome in db.execute(_TRIES, (run, Cause.UNDO)):
        tries.setdefault(str(of_step), []).append((no, outcome or ""))
    found: list[Past] = []
    for no, server, tool, does, outcome, acted, kind, state, closed_at, ended in db.execute(_STEPS, (run, Cause.AGENT)):
        found.append(
            Past(
                no=no,
                server=str(server),
                tool=str(tool),
                reads=entries.only_reads(str(does).split(",")),
                outcome=str(outcome or ""),
                acted=str(acted or ""),
                kind=None if kind is None else UndoClass(kind),
                state=UndoState(state or UndoState.OPEN),
                ended=-1 if ended is None else int(ended),
                gone=closed_at is not None and not (no in kept and kept[no].outlives),
                kept=kept.get(no),
                tries=tuple(tries.get(f"{run}.{no}", ())),
                settling=settling.get(no),
            )
        )
    return found


def _load_settling(db: sqlite3.Connection, blobs: Path, run: RunId) -> Mapping[int, Settling]:
    """What tells whether a step took effect; what cannot be read is left to people."""
    found: dict[int, Settling] = {}
    with suppress(OSError):
        for no, _, raw in _payloads(db, blobs, run, SETTLE_PART):
            with suppress(ValueError):
                found[no] = read_settling(cast("Json", json.loads(raw)))
    return found


def _payloads(db: sqlite3.Connection, blobs: Path, run: RunId, part: str) -> Iterator[tuple[int, str, str | bytes]]:
    """The step, the kind of its entry, and the text, of each payload that is still on record."""
    rows = cast("Sequence[tuple[int, str, str | bytes | None, str | None]]", db.execute(_KEPT, (run, part)).fetchall())
    for no, kind, text, file in rows:
        raw = (blobs / file).read_bytes() if file else text
        if raw is not None:
            yield no, kind, raw


def _load_kept(db: sqlite3.Connection, blobs: Path, run: RunId) -> Mapping[int, Kept]:
    found: dict[int, Kept] = {}
    for no, kind, raw in _payloads(db, blobs, run, PART):
        try:
            form = cast("Json", json.loads(raw))
            if kind == "step.intent":
                found[no] = read_kept(form)
            elif no in found:
                found[no] = with_after(found[no], form)
        except ValueError:
            found.pop(no, None)
    return found
