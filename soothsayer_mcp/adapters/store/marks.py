"""Earlier steps under the marks that policy put on them: written with their commits, found by key, never searched for.

A mark without a window keeps one row per state that counts up; one with a window keeps a row per step until it is past.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable
from typing import cast

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.origins import recall_values
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.facts import Facts, Mark, Questions, Tally, TallyQuestion, holder_of_run
from soothsayer_mcp.model.json import compact
from soothsayer_mcp.policy.paths import component

_SELECT = (
    "SELECT state, sum(n), sum(amount), sum(odd) FROM marks WHERE mark = ? AND holder = ? AND key = ? AND at >= ?"
    " GROUP BY state"
)
_ROW = (
    "INSERT INTO marks(mark, holder, key, state, at, run, no, n, amount, odd, window_us) VALUES(?,?,?,?,?,?,?,1,?,?,?)"
)
_ADD = (
    "INSERT INTO marks(mark, holder, key, state, at, run, no, n, amount, odd, window_us)"
    " VALUES(?,?,?,?,0,'',0,1,?,?,0) ON CONFLICT(mark, holder, key, state, at, run, no)"
    " DO UPDATE SET n = n + 1, amount = amount + excluded.amount, odd = odd + excluded.odd"
)
_PRUNE = "DELETE FROM marks WHERE mark = ? AND holder = ? AND key = ? AND state = ? AND at < ?"
_OPEN = "SELECT mark, holder, key, at, amount, odd, window_us FROM marks WHERE run = ? AND no = ? AND state = 'open'"
_CLOSE = "DELETE FROM marks WHERE run = ? AND no = ? AND state = 'open'"
_UNCOUNTED = (
    "SELECT DISTINCT server, tool FROM used u WHERE run = ?"
    " AND NOT EXISTS (SELECT 1 FROM counting c WHERE c.mark = ? AND c.policy = u.policy)"
)
_COUNTING = "INSERT OR REPLACE INTO counting(mark, policy, tools) VALUES(?, ?, ?)"
_MEANT = "SELECT tools FROM counting WHERE mark = ? LIMIT 1"
_RUN = holder_of_run(RunId(""))
_ENDED = ("ok", "failed", "doubt", "denied")


def recall(db: sqlite3.Connection, questions: Questions) -> Facts:
    """Answer what can be answered; what the file cannot tell is absent."""
    tallies: dict[TallyQuestion, Tally] = {}
    for question in questions.tallies:
        with contextlib.suppress(sqlite3.Error):
            tallies[question] = _tally(db, question)
    return Facts(tallies=tallies, values=recall_values(db, questions.values) if questions.values else {})


def _tally(db: sqlite3.Connection, question: TallyQuestion) -> Tally:
    found = {"ok": 0, "failed": 0, "open": 0, "doubt": 0, "denied": 0}
    total = odd = 0
    rows = db.execute(_SELECT, question).fetchall()
    for state, count, amount, strange in cast("Iterable[tuple[str, int, int, int]]", rows):
        found[state] = count
        if state in {"ok", "failed", "open"}:
            total += amount
            odd += strange
    if question.holder.startswith(_RUN):
        found["doubt"] += _uncounted(db, question)
    return Tally(
        succeeded=found["ok"],
        failed=found["failed"],
        open=found["open"],
        doubtful=found["doubt"],
        denied=found["denied"],
        sum_micro=total,
        odd=odd,
    )


def _uncounted(db: sqlite3.Connection, question: TallyQuestion) -> int:
    """How many tools that a mark means the run called under policies that did not count steps under it.

    A policy that was loaded later, or stands before another server, knows nothing of such steps: they are in doubt.
    """
    meant = cast("tuple[str] | None", db.execute(_MEANT, (question.mark,)).fetchone())
    if meant is None:
        return 0
    called = db.execute(_UNCOUNTED, (question.holder.removeprefix(_RUN), question.mark)).fetchall()
    if not called:
        return 0
    tools, excepts = cast("list[list[str]]", json.loads(meant[0]))
    return sum(
        (not tools or _is_named(server, tool, tools)) and not _is_named(server, tool, excepts)
        for server, tool in cast("Iterable[tuple[str, str]]", called)
    )


def _is_named(server: str, tool: str, patterns: Iterable[str]) -> bool:
    halves = (pattern.partition(".") for pattern in patterns)
    return any(component(of_server)(server) and component(of_tool)(tool) for of_server, _, of_tool in halves)


def counting(batch: Batch, policy: int, mark: str, tools: Iterable[str], excepts: Iterable[str]) -> None:
    """Keep that a policy counts the steps of these tools under a mark."""
    batch.later(_COUNTING, mark, policy, compact([[*tools], [*excepts]]).decode())


def open_marks(batch: Batch, marks: Iterable[Mark], run: str, no: int, at: int) -> None:
    """Count an admitted step as in flight under each of its marks."""
    for mark in marks:
        if mark.sure:
            _row(batch, mark, "open", run, no, at)
        else:
            _count(batch, mark, "doubt", run, no, at)
        if mark.window_us:
            for state in _ENDED:
                batch.later(_PRUNE, mark.mark, mark.holder, mark.key, state, at - mark.window_us)


def deny_marks(batch: Batch, marks: Iterable[Mark], run: str, no: int, at: int) -> None:
    """Count a refused step under those of its marks that ask for refusals."""
    for mark in marks:
        if mark.denials:
            _count(batch, mark, "denied" if mark.sure else "doubt", run, no, at)


def end_marks(batch: Batch, run: str, no: int, state: str) -> None:
    """Count the end of a step: `ok` or `failed`. One whose outcome is not known stays as it is."""
    batch.flush()
    for mark, holder, key, at, amount, odd, window_us in batch.db.execute(_OPEN, (run, no)).fetchall():
        if window_us:
            batch.later(_ROW, mark, holder, key, state, at, run, no, amount, odd, window_us)
        else:
            batch.later(_ADD, mark, holder, key, state, amount, odd)
    batch.later(_CLOSE, run, no)


def _count(batch: Batch, mark: Mark, state: str, run: str, no: int, at: int) -> None:
    if mark.window_us:
        _row(batch, mark, state, run, no, at)
    else:
        batch.later(_ADD, mark.mark, mark.holder, mark.key, state, mark.amount_micro or 0, mark.amount_micro is None)


def _row(batch: Batch, mark: Mark, state: str, run: str, no: int, at: int) -> None:
    amount, odd = mark.amount_micro or 0, mark.amount_micro is None
    batch.later(_ROW, mark.mark, mark.holder, mark.key, state, at, run, no, amount, odd, mark.window_us)
