"""The trace for a face that stays open: stretches of steps in both directions, and what went on since."""
# ruff: noqa: S608 - the text of each query is ours: columns, conditions from `trace/query.py`, and a `?` per value

from typing import cast

from soothsayer_mcp.adapters.store.asks import BY_ID, ask_of
from soothsayer_mcp.adapters.store.reader import STEP_COLUMNS, Reader, both, live_segment, step_row
from soothsayer_mcp.model.ask import Ask
from soothsayer_mcp.trace.query import Filter, Moment, Scope, Where, where
from soothsayer_mcp.trace.rows import RunTally, StepRow

Key = tuple[int, int]
"""Where a step stands among all: when it began, and its number in the trace."""

START: Key = (-1, -1)
"""Before the first step."""


class Watcher(Reader):
    """Answers the questions of a face that stays open. Every method raises `ReadError`."""

    def has_changed(self) -> bool:
        """Whether another process has written since this was asked last; true at first."""
        return self.wait_for_change(0.0)

    def is_live(self) -> bool:
        """Whether what is read is still what is written to."""
        return live_segment(self.state_dir) == self.path

    def before(self, key: Key | None, wanted: Filter, moment: Moment, *, most: int) -> list[StepRow]:
        """The last steps before a place, or of all, oldest first."""
        earlier = Where() if key is None else Where(sql="(s.at_us, s.n) < (?, ?)", params=key)
        condition = both(where(wanted, Scope.STEPS, moment), earlier)
        return self._steps(condition, f"ORDER BY s.at_us DESC, s.n DESC LIMIT {most}")[::-1]

    def after(self, key: Key, wanted: Filter, moment: Moment, *, most: int) -> list[StepRow]:
        """The first steps after a place, oldest first."""
        condition = both(where(wanted, Scope.STEPS, moment), Where(sql="(s.at_us, s.n) > (?, ?)", params=key))
        return self._steps(condition, f"ORDER BY s.at_us, s.n LIMIT {most}")

    def touched(self, pos: int, last: int) -> set[tuple[str, int]]:
        """The steps that entries after one position, up to another, are about."""
        rows = self._all(
            "SELECT DISTINCT run, no FROM entries WHERE pos > ? AND pos <= ? AND no IS NOT NULL", (pos, last)
        )
        return {(cast("str", run), cast("int", no)) for run, no in rows}

    def touched_rows(self, pos: int, last: int, wanted: Filter, moment: Moment) -> list[StepRow]:
        """Those of them that fit, oldest first."""
        condition = where(wanted, Scope.STEPS, moment)
        rows = self._all(
            f"SELECT {STEP_COLUMNS} FROM (SELECT DISTINCT run, no FROM entries"
            " WHERE pos > ? AND pos <= ? AND no IS NOT NULL) w"
            f" CROSS JOIN v_steps s ON s.run = w.run AND s.no = w.no{condition.clause} ORDER BY s.at_us, s.n",
            (pos, last, *condition.params),
        )
        return self._with_findings(list(map(step_row, rows)))

    def ask(self, ask_id: str) -> Ask | None:
        """A question as it stands now."""
        rows = self._all(BY_ID, (ask_id,))
        return ask_of(rows[0]) if rows else None

    def run_tally(self, run: str) -> RunTally:
        """What the steps of a run have come to."""
        counted = self._all("SELECT unverified_writes, in_flight FROM runs WHERE id = ?", (run,))
        unverified, in_flight = counted[0] if counted else (0, 0)
        last = self._all("SELECT next FROM steps WHERE run = ? AND next IS NOT NULL ORDER BY no DESC LIMIT 1", (run,))
        failures = self._all(
            "SELECT failure, count(*) FROM steps WHERE run = ? AND failure IS NOT NULL GROUP BY failure"
            " ORDER BY count(*) DESC, failure",
            (run,),
        )
        return RunTally(
            failures=[(cast("str", failure), cast("int", number)) for failure, number in failures],
            unverified_writes=cast("int", unverified),
            in_flight=cast("int", in_flight),
            next=cast("str", last[0][0]) if last else "",
        )
