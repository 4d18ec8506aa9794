"""What a run has come to, read from rows and entries."""

import sqlite3
from typing import Any, cast

from soothsayer_mcp.adapters.store.debts import load_debts
from soothsayer_mcp.adapters.store.schema import RARE
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.model.summary import Denied, HeldEvidence, StoredSize, Summary, Written

MOST = 50
"""Of each list; the newest are kept."""

_WRITTEN = "SELECT subject, no FROM written WHERE run = ? ORDER BY ended DESC LIMIT ?"
_FINDINGS = (
    "SELECT no, json_extract(body, '$.check'), json_extract(body, '$.finding') FROM entries"  # noqa: S608 - words of ours
    f" WHERE run = ? AND kind = 'step.finding' AND {RARE} ORDER BY pos"
)
_EVIDENCE = (
    "SELECT kind, level, subject, expires_at FROM evidence"
    " WHERE run = ? AND finding = 'kept' AND (expires_at IS NULL OR expires_at > ?) ORDER BY at DESC LIMIT ?"
)
_DENIED = (
    "SELECT max(no), server, tool, rule, reason FROM steps"
    " WHERE run = ? AND cause = 'agent' AND effect = 'deny' AND failure = 'policy_denied'"
    " GROUP BY server, tool, rule, reason ORDER BY 1 DESC LIMIT ?"
)
_STORED = (
    "SELECT e.no, s.server, s.tool, json_extract(e.body, '$.result.bytes') FROM entries e"
    " JOIN steps s ON s.run = e.run AND s.no = e.no"
    " WHERE e.run = ? AND e.kind = 'step.outcome' AND json_extract(e.body, '$.given') IS NOT NULL"
    " ORDER BY e.no DESC LIMIT ?"
)
_WORST = (Answer.BROKEN, Answer.UNKNOWN, Answer.KEPT)


def load_summary(db: sqlite3.Connection, run: Run, now_us: int) -> Summary:
    """Read it as it stands. Raises `sqlite3.Error`."""
    latest: dict[tuple[int, str], str] = {(no, check): found for no, check, found in _rows(db, _FINDINGS, run.id)}
    of_step: dict[int, set[str]] = {}
    for (no, _), found in latest.items():
        of_step.setdefault(no, set()).add(found)
    return Summary(
        run=run,
        debts=load_debts(db, run.id),
        written=tuple(
            Written(subject=subject, no=no, finding=next((word for word in _WORST if word in of_step.get(no, ())), ""))
            for subject, no in _rows(db, _WRITTEN, run.id, MOST)
        ),
        evidence=tuple(
            HeldEvidence(kind=kind, level=level, subject=subject, expires_us=expires)
            for kind, level, subject, expires in _rows(db, _EVIDENCE, run.id, now_us, MOST)
        ),
        denied=tuple(
            Denied(no=no, call=f"{server}.{tool}" if server else tool, rule=rule or "", reason=reason or "")
            for no, server, tool, rule, reason in _rows(db, _DENIED, run.id, MOST)
        ),
        stored=tuple(
            StoredSize(no=no, call=f"{server}.{tool}", size_bytes=size or 0)
            for no, server, tool, size in _rows(db, _STORED, run.id, MOST)
        ),
    )


def _rows(db: sqlite3.Connection, sql: str, *values: object) -> list[tuple[Any, ...]]:
    return cast("list[tuple[Any, ...]]", db.execute(sql, values).fetchall())
