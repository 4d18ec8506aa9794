"""What the steps of a run still owe, read from rows and entries as they stand."""

import sqlite3
from typing import Any, cast

from soothsayer_mcp.adapters.store.schema import RARE
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.run import Debts
from soothsayer_mcp.trace import entries

_STEPS = "SELECT no, outcome, acted, does, cause FROM steps WHERE run = ? AND cause <> 'control' ORDER BY no"
_ASKS = "SELECT no FROM approvals WHERE run = ? AND state = 'open' ORDER BY no"
_FINDINGS = (
    "SELECT no, json_extract(body, '$.check'), json_extract(body, '$.finding') FROM entries"  # noqa: S608 - words of ours
    f" WHERE run = ? AND kind = 'step.finding' AND {RARE} ORDER BY pos"
)
_OWED = (
    "SELECT e.no, o.value FROM entries e, json_each(e.body, '$.obligations') o"
    " WHERE e.run = ? AND e.kind = 'step.intent' AND o.value LIKE 'verify%' ORDER BY e.no"
)
_WAIVED = (
    "SELECT no, json_extract(body, '$.check') FROM entries"  # noqa: S608 - words of ours
    f" WHERE run = ? AND kind = 'finding.waived' AND {RARE}"
)
_UNDONE = "SELECT no FROM undo WHERE run = ? AND state = 'undone'"


def load_debts(db: sqlite3.Connection, run: str) -> Debts:
    """Read what the steps of a run owe. What the model asks about its own run owes nothing."""
    in_flight: list[int] = []
    unsettled: list[int] = []
    acted: dict[int, bool] = {}
    """Steps that had their effect -> whether they did more than read, for the agent."""
    for no, outcome, did, does, cause in _rows(db, _STEPS, run):
        if outcome is None:
            in_flight.append(no)
        elif outcome == "unknown" and did == "maybe":
            unsettled.append(no)
        elif did == "yes":
            acted[no] = cause == Cause.AGENT and not entries.only_reads(str(does).split(","))
    latest: dict[tuple[int, str], str] = {(no, check): finding for no, check, finding in _rows(db, _FINDINGS, run)}
    checked = {no for no, _ in latest}
    undone = {no for (no,) in _rows(db, _UNDONE, run)}
    waived = {(no, check) for no, check in _rows(db, _WAIVED, run)}
    unkept = [
        (no, check, finding)
        for (no, check), finding in latest.items()
        if finding != Answer.KEPT and no not in undone and (no, check) not in waived
    ]
    # What is owed is fixed with the intent: a finding that never came is missing, not forgiven.
    owed = {no: what for no, what in _rows(db, _OWED, run) if no in acted and no not in checked and no not in undone}
    unkept += [(no, str(what).partition(":")[2] or str(what), "not done") for no, what in owed.items()]
    return Debts(
        in_flight=tuple(in_flight),
        unsettled=tuple(unsettled),
        asked=tuple(no for (no,) in _rows(db, _ASKS, run)),
        unkept=tuple(sorted(unkept)),
        unverified=tuple(no for no, wrote in acted.items() if wrote and no not in checked and no not in undone),
    )


def _rows(db: sqlite3.Connection, sql: str, run: str) -> list[tuple[Any, ...]]:
    return cast("list[tuple[Any, ...]]", db.execute(sql, (run,)).fetchall())
