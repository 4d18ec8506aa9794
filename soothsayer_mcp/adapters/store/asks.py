"""Questions to people as rows: read, and what is spent with their answers."""

import json
import sqlite3
from collections.abc import Sequence
from operator import itemgetter
from typing import cast

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.model.ask import Approval, Ask, AskAnswer, AskState, Grant, Need, Remember, Vote
from soothsayer_mcp.model.call import Principal, RunId
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.trace import entries

_COLUMNS = (
    "a.id, a.run, a.no, a.state, a.rule, a.asked_at, a.expires_at, a.strong, a.remember, a.shown, a.card, a.host_pid,"
    " a.channels, a.bound, a.answered_at, a.answered_by, a.channel, a.comment,"
    " EXISTS (SELECT 1 FROM spent s WHERE s.key = 'ask:' || a.id), a.call, a.needs, a.requester,"
    " CASE WHEN a.needs = '' THEN NULL ELSE (SELECT json_group_array(json_array(v.by, v.key, v.answer, v.at,"
    " v.signature)) FROM votes v WHERE v.ask = a.id) END"
)
BY_ID = f"SELECT {_COLUMNS} FROM approvals a WHERE a.id = ?"  # noqa: S608 - column names of ours
BY_CALL = f"SELECT {_COLUMNS} FROM approvals a WHERE a.run = ? AND a.call = ? ORDER BY a.asked_at DESC LIMIT 1"  # noqa: S608 - as above
OPEN_ASKS = f"SELECT {_COLUMNS} FROM approvals a WHERE a.state = 'open' ORDER BY a.asked_at"  # noqa: S608 - as above
BY_PREFIX = f"SELECT {_COLUMNS} FROM approvals a WHERE a.id GLOB ? ORDER BY a.asked_at DESC"  # noqa: S608 - as above


OPEN_OF_RUN = f"SELECT {_COLUMNS} FROM approvals a WHERE a.run = ? AND a.state = 'open' ORDER BY a.asked_at"  # noqa: S608 - as above
ANSWER = (
    "UPDATE approvals SET state = ?, answered_at = ?, answered_by = ?, channel = ?, comment = ?, card = NULL"
    " WHERE id = ? AND state = 'open'"
)


def spending_key(approval: Approval) -> str:
    """What is spent when a step rests on a yes: once, whatever dies or is undone afterwards."""
    return f"go:{approval.go}" if approval.go else f"ask:{approval.ask}"


def load_ask(db: sqlite3.Connection, ask_id: str) -> Ask | None:
    """Read one question."""
    row = cast("tuple[object, ...] | None", db.execute(BY_ID, (ask_id,)).fetchone())
    return None if row is None else ask_of(row)


def is_spent(db: sqlite3.Connection, key: str) -> bool:
    """Whether something that serves once has served."""
    return db.execute("SELECT 1 FROM spent WHERE key = ?", (key,)).fetchone() is not None


def withdraw_asks(batch: Batch, run: RunId, *, by: str, at: int) -> None:
    """End the open questions of a run that takes no more calls."""
    batch.flush()
    rows = cast("list[tuple[object, ...]]", batch.db.execute(OPEN_OF_RUN, (run,)).fetchall())
    for ask in map(ask_of, rows):
        answer = AskAnswer(
            ask=ask.id, state=AskState.WITHDRAWN, by=Principal(id=by, how="run"), channel="", comment="the run ended"
        )
        tail = entries.approval_answered(ask, answer, state=answer.state, at=at, comment="")
        batch.append(Kind.APPROVAL_ANSWERED, tail, at, run=run)
        values = (answer.state, at, entries.storable(by), answer.channel, answer.comment, ask.id)
        batch.later(ANSWER, *values)


GRANTS = "SELECT id, run, server, tool, shape, bound, by, at, revoked_at FROM grants"
"""Remembered answers, to be followed by a condition."""


def load_grant(db: sqlite3.Connection, grant_id: str) -> Grant | None:
    """Read one remembered answer."""
    row = cast("tuple[object, ...] | None", db.execute(f"{GRANTS} WHERE id = ?", (grant_id,)).fetchone())
    return None if row is None else grant_of(row)


def grant_of(row: tuple[object, ...]) -> Grant:
    """Read a row of `GRANTS`."""
    return Grant(
        id=str(row[0]),
        run=RunId(str(row[1])),
        server=str(row[2]),
        tool=str(row[3]),
        shape=cast("dict[str, Json]", json.loads(str(row[4]))),
        bound=str(row[5]),
        by=str(row[6]),
        at_us=cast("int", row[7]),
        revoked=row[8] is not None,
    )


def ask_of(row: tuple[object, ...]) -> Ask:
    """Read a row of `OPEN_ASKS` or `BY_PREFIX`."""
    card = cast("dict[str, Json]", json.loads(str(row[10]))) if row[10] is not None else {}
    return Ask(
        id=str(row[0]),
        run=RunId(str(row[1])),
        no=cast("int", row[2]),
        state=AskState(str(row[3])),
        rule=str(row[4]),
        asked_at_us=cast("int", row[5]),
        expires_at_us=cast("int", row[6]),
        strong=bool(row[7]),
        remember=Remember(str(row[8])),
        shown=str(row[9]),
        card=card,
        host_pid=cast("int", row[11]),
        channels=tuple(str(row[12]).split()),
        bound=str(row[13]),
        answered_at_us=cast("int | None", row[14]),
        answered_by=str(row[15] or ""),
        channel=str(row[16] or ""),
        comment=str(row[17] or ""),
        spent=bool(row[18]),
        call=str(row[19]),
        needs=_needs(str(row[20])),
        requester=str(row[21]),
        votes=() if row[22] is None else _votes(str(row[22])),
    )


def needs_text(needs: Sequence[Need]) -> str:
    """Whose answers are due, as a row keeps it."""
    if not needs:
        return ""
    return canonical(
        [[need.role, need.count, need.not_requester, [[name, key] for name, key in need.keys]] for need in needs]
    ).decode()


def _needs(text: str) -> tuple[Need, ...]:
    rows = cast("list[tuple[str, int, bool, list[tuple[str, str]]]]", json.loads(text)) if text else []
    return tuple(
        Need(role=role, count=count, not_requester=other, keys=tuple((name, key) for name, key in keys))
        for role, count, other, keys in rows
    )


def _votes(text: str) -> tuple[Vote, ...]:
    rows = cast("list[tuple[str, str, str, int, str]]", json.loads(text))
    return tuple(
        Vote(by=by, key=key, answer=AskState(answer), at_us=at_us, signature=signature)
        for by, key, answer, at_us, signature in sorted(rows, key=itemgetter(3))
    )
