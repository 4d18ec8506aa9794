"""Which run a call would join, read without opening or changing any: for messages that belong to no step."""

import sqlite3
from typing import cast

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.run import TRANSITIONS, RunBinding, RunState
from soothsayer_mcp.trace import entries

_NAMED = "SELECT id FROM runs WHERE id = ? AND principal = ?"
_ATTACHED = (
    "SELECT id, state, coalesce(closed_at, last_at) FROM runs WHERE attached = 1 AND principal = ? AND workspace = ?"
    " ORDER BY opened_at DESC, id DESC LIMIT 1"
)
_AUTOMATIC = (
    "SELECT id, state, coalesce(closed_at, last_at) FROM runs WHERE principal = ? AND workspace = ? AND host = ?"
    " AND automatic = 1 ORDER BY opened_at DESC LIMIT 1"
)


def joined(db: sqlite3.Connection, binding: RunBinding, now_us: int) -> RunId | None:
    """The run that a call would join; `None` where it would open one, or be refused. Raises `sqlite3.Error`."""
    who = (entries.storable(binding.principal.id), entries.storable(binding.workspace))
    if binding.named:
        found = db.execute(_NAMED, (entries.storable(binding.named), who[0])).fetchone()
        return None if found is None else RunId(str(found[0]))
    attached = _taking(db, _ATTACHED, who, binding, now_us)
    if attached is not None or binding.explicit:
        return attached
    return _taking(db, _AUTOMATIC, (*who, entries.storable(binding.client.name)), binding, now_us)


def _taking(db: sqlite3.Connection, sql: str, who: tuple[str, ...], binding: RunBinding, now_us: int) -> RunId | None:
    """The newest run of these, if calls still belong to it."""
    row = cast("tuple[str, str, int] | None", db.execute(sql, who).fetchone())
    if row is None:
        return None
    run, state, last_us = RunId(row[0]), RunState(row[1]), row[2]
    rests = now_us - last_us >= binding.rules.idle_s * 1_000_000
    if state is RunState.COMPLETED or (rests and not TRANSITIONS[state]):
        return None
    # One that a person opened does not end by idleness; an automatic one does.
    return None if rests and state is RunState.OPEN and sql is _AUTOMATIC else run
