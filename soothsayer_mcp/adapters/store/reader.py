"""Reads the trace: read-only, without a running proxy, and never holding a snapshot for long."""
# ruff: noqa: S608 - the text of each query is ours: columns, conditions from `trace/query.py`, and a `?` per value

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median_low
from typing import Any, Self, cast
from urllib.parse import quote

from soothsayer_mcp.adapters.store.asks import BY_PREFIX, GRANTS, OPEN_ASKS, ask_of, grant_of
from soothsayer_mcp.adapters.store.batch import load_run
from soothsayer_mcp.adapters.store.marks import recall
from soothsayer_mcp.adapters.store.schema import APPLICATION_ID, FORMAT, RARE, SEGMENT_NAME, SHAPE
from soothsayer_mcp.adapters.store.undoing import load_pasts
from soothsayer_mcp.model.ask import Ask, Grant
from soothsayer_mcp.model.budget import Budgets
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.facts import Questions, TallyQuestion, holder_of_run
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import RunScope
from soothsayer_mcp.run.allowance import budgets_of
from soothsayer_mcp.run.used import used
from soothsayer_mcp.trace.query import Filter, Moment, Scope, Where, where
from soothsayer_mcp.trace.rows import (
    Approval,
    AskTally,
    Budget,
    EntryRow,
    FailureTally,
    Figures,
    LastYes,
    Payload,
    RiskTally,
    RunRow,
    RunStory,
    Spread,
    StepRow,
    Story,
    Table,
    Tally,
)
from soothsayer_mcp.undo.plan import Past

SNAPSHOT_S = 10.0
"""How long one question may take: a longer one keeps the store from copying its log back."""

POLL_S = 0.15
"""How often a follower looks whether something was written; a look takes microseconds."""

BEING_MADE_S = 3.0
"""How long a new trace may take until it can be read."""

PAGE = 500
"""How many rows one question of a long answer takes."""

SHORTEST = 4
"""How many digits of a run id are shown at least."""


class ReadError(Exception):
    """The trace cannot be read, or does not hold what was asked for."""

    id = "state"

    def __init__(self, text: str, *, fix: str = "") -> None:
        """Say what is wrong, and what to do about it."""
        super().__init__(text)
        self.text = text
        self.fix = fix


class NoTraceError(ReadError):
    """The state folder holds no trace yet."""

    id = "state-empty"


class UnreadableError(ReadError):
    """There is a trace, and it cannot be read: not ours, damaged, of a newer format, or locked away."""

    id = "state-unreadable"


class NotFoundError(ReadError):
    """The trace has no such step or run."""

    id = "not-found"


class AmbiguousError(ReadError):
    """Several runs begin with what was typed."""

    id = "ambiguous"


class QueryError(ReadError):
    """A question in SQL that cannot be answered, or may not."""

    id = "query-sql"


STEP_COLUMNS = (
    "s.n, s.run, s.no, s.span, s.at_us, s.principal, s.host, s.server, s.tool, s.does, s.cause, s.of_step, s.continues,"
    " s.effect, s.would, s.rule, s.risk, s.policy, s.asked, s.outcome, s.acted, s.failure, s.reason, s.next,"
    " CAST(round(s.dur_ms * 1000) AS INTEGER), CAST(round(s.tool_ms * 1000) AS INTEGER)"
)
_RUN = (
    "r.run, r.state, r.why, r.principal, r.host, r.workspace, r.policy, r.steps, r.failed, r.unknown, r.asked,"
    " r.opened_us, r.last_us, r.closed_us"
)
_ENTRY = "e.pos, e.writer, e.seq, e.at, e.kind, e.run, e.no, e.leaf, e.body"

_ENDS = "('step.outcome', 'step.refused', 'step.asked', 'step.settled')"
"""Kinds that end a step, or end not knowing how it ended."""

_MORE_THAN_SELFTESTS = "(r.steps = 0 OR EXISTS (SELECT 1 FROM steps t WHERE t.run = r.run AND t.cause <> 'selftest'))"

Cell = str | int | float | bytes | None


class Reader:
    """Answers questions about one state folder. Every method raises `ReadError`."""

    def __init__(self, state_dir: Path) -> None:
        """Open the live segment of a state folder for reading. Raises `NoTraceError` or `UnreadableError`."""
        self.state_dir = state_dir
        self.path = live_segment(state_dir)
        self._db = _open(self.path)
        self._deadline = 0.0
        self._version = -1
        self._db.set_progress_handler(self._late, 10_000)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def now(self) -> Moment:
        """The present moment, by the machine's clock and zone."""
        now_us = time.time_ns() // 1000
        return Moment(now_us=now_us, offset_s=time.localtime(now_us // 1_000_000).tm_gmtoff)

    # Steps.

    def steps(self, wanted: Filter, moment: Moment, *, limit: int | None, payloads: bool = False) -> Iterator[StepRow]:
        """Tell steps, newest first, at most `limit`; page by page, so that nothing is held meanwhile."""
        condition = where(wanted, Scope.STEPS, moment, payloads=payloads)
        left = limit
        before: tuple[int, int] | None = None
        while left is None or left > 0:
            page = PAGE if left is None else min(left, PAGE)
            after = Where(sql="(s.at_us, s.n) < (?, ?)", params=before) if before else Where()
            rows = self._steps(both(condition, after), f"ORDER BY s.at_us DESC, s.n DESC LIMIT {page}")
            yield from rows
            if len(rows) < page:
                return
            before = (rows[-1].at_us, rows[-1].n)
            left = None if left is None else left - page

    def ended_after(self, pos: int, wanted: Filter, moment: Moment) -> tuple[list[StepRow], int]:
        """Tell the steps that ended after a position, in the order in which they did, and how far that reaches."""
        last = self.last_pos()
        condition = where(wanted, Scope.STEPS, moment)
        rows = self._all(
            f"SELECT {STEP_COLUMNS} FROM entries w JOIN v_steps s ON s.run = w.run AND s.no = w.no"
            f" WHERE w.pos > ? AND w.pos <= ? AND w.kind IN {_ENDS}"
            f"{' AND ' + condition.sql if condition.sql else ''} ORDER BY w.pos",
            (pos, last, *condition.params),
        )
        return self._with_findings(list(map(step_row, rows))), last

    def last_pos(self) -> int:
        """The position of the newest entry; -1 when there is none."""
        return cast("int", self._one("SELECT coalesce(max(pos), -1) FROM entries", ())[0])

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until another process has written since the last time this was true; false when none has in time."""
        ends = time.monotonic() + timeout_s
        while True:
            version = cast("int", self._one("PRAGMA data_version", ())[0])
            if version != self._version:
                self._version = version
                return True
            if time.monotonic() >= ends:
                return False
            time.sleep(POLL_S)

    def story(self, step: StepRow) -> Story:
        """Tell all that is known about one step."""
        entries = self._entries(Where(sql="e.run = ? AND e.no = ?", params=(step.run, step.no)), "ORDER BY e.pos")
        covered = self._one("SELECT min(size) FROM checkpoints WHERE size > ?", (entries[-1].pos if entries else -1,))
        return Story(
            step=step,
            policy_name=self.policy_name(step.policy),
            entries=entries,
            payloads=self.payloads(entries),
            approvals=self._approvals(step),
            checkpoint=cast("int | None", covered[0]),
        )

    def find_step(self, name: str) -> StepRow:
        """Find a step by its name (`4bf92f.7`) or its span id. Raises `NotFoundError` or `AmbiguousError`."""
        run, dot, no = name.partition(".")
        if dot:
            if not (no.isascii() and no.isdigit()):
                text = f'"{name}" is no step'
                raise NotFoundError(text, fix="a step is a run and a number, such as 4bf92f.7")
            condition = Where(sql="s.run = ? AND s.no = ?", params=(self.find_run(run), int(no)))
        else:
            condition = Where(sql="s.span = ?", params=(name,))
        found = self._steps(condition, "LIMIT 1")
        if not found:
            text = f'no step "{name}" on record'
            raise NotFoundError(text)
        return found[0]

    def payloads(self, entries: Sequence[EntryRow]) -> list[Payload]:
        """Tell what was said in these entries, as far as it is kept."""
        found: list[Payload] = []
        for entry in entries:
            rows = {
                cast("str", part): (cast("str | None", text), cast("str | None", file))
                for part, text, file in self._all(
                    "SELECT part, text, file FROM payloads WHERE writer = ? AND seq = ?", (entry.writer, entry.seq)
                )
            }
            for part, meta in _payload_fields(entry.fields):
                text, file = rows.get(part, (None, None))
                found.append(_payload(entry.pos, part, meta, text=text, file=file, there=part in rows))
        return found

    def blob(self, name: str) -> bytes:
        """Read a payload that is too large for a row. Raises `NotFoundError`."""
        path = self.state_dir / "blobs" / Path(name).name
        try:
            return path.read_bytes()
        except OSError as error:
            text = f"the payload {path.name} cannot be read: {error.strerror}"
            raise NotFoundError(text) from error

    # Runs.

    def runs(self, wanted: Filter, moment: Moment, *, limit: int | None, selftests: bool = True) -> list[RunRow]:
        """Tell runs, the one with the newest step first; those that hold nothing but self-tests only if asked for."""
        condition = where(wanted, Scope.RUNS, moment)
        if not selftests:
            condition = both(condition, Where(sql=_MORE_THAN_SELFTESTS))
        most = "" if limit is None else f" LIMIT {limit}"
        rows = self._all(
            f"SELECT {_RUN} FROM v_runs r{condition.clause} ORDER BY r.last_us DESC, r.run{most}", condition.params
        )
        return list(map(_run_row, rows))

    def find_run(self, prefix: str) -> str:
        """The one run whose id begins so. Raises `NotFoundError` or `AmbiguousError`."""
        text = prefix.lower()
        if not text or not set(text) <= set("0123456789abcdef"):
            message = f'"{prefix}" is no run id'
            raise NotFoundError(message, fix="soothsayer run list shows them")
        rows = self._all("SELECT id FROM runs WHERE id >= ? AND id < ? ORDER BY id LIMIT 3", (text, f"{text}g"))
        match [cast("str", row[0]) for row in rows]:
            case [only]:
                return only
            case []:
                message = f'no run "{prefix}" on record'
                raise NotFoundError(message, fix="soothsayer run list shows those there are")
            case [first, second, *more]:
                shown = f"{self.short_runs([first])[first]}, {self.short_runs([second])[second]}{', …' if more else ''}"
                message = f'"{prefix}" is the beginning of several runs: {shown}'
                raise AmbiguousError(message, fix="type one more digit")
            case _:
                raise AssertionError

    def run(self, run: str) -> RunStory:
        """Tell about one run, given its full id. Raises `NotFoundError`."""
        rows = self._all(f"SELECT {_RUN} FROM v_runs r WHERE r.run = ?", (run,))
        if not rows:
            text = f'no run "{run}" on record'
            raise NotFoundError(text)
        row = _run_row(rows[0])
        entries = self._entries(Where(sql="e.run = ? AND e.no IS NULL", params=(run,)), "ORDER BY e.pos")
        # The first words are the intent; what the agent says later never replaces them.
        said = [payload for payload in self.payloads(entries) if payload.part in {"intent", "text"}]
        by = next((_said_by(entry.fields) for entry in entries if _said_by(entry.fields)), "")
        return RunStory(
            run=row,
            policy_name=self.policy_name(row.policy),
            intent=said[0].text or "" if said else "",
            intent_by=by,
            budgets=self._budgets(run),
            entries=entries,
            scope=next((_scope(entry.fields["scope"]) for entry in entries if "scope" in entry.fields), None),
        )

    def _budgets(self, run: str) -> list[Budget]:
        """What the run has used of what its policy lets it use, as of its last step."""
        rows = self._all("SELECT p.budgets FROM runs r JOIN policies p ON p.n = r.policy WHERE r.id = ?", (run,))
        row = load_run(self._db, run)
        stated = cast("dict[str, Any]", json.loads(_text(rows[0][0]))) if rows else {}
        if row is None:
            return []
        tools = cast("list[tuple[str, str, int]]", stated.pop("tools", []))
        told = used(row.counters, budgets_of(row.as_run(), Budgets(**stated)), row.last_at)
        found = [Budget(name=name, cap=most, used=count) for name, count, most in told]
        asked = {TallyQuestion(mark=mark, holder=holder_of_run(row.id)): (name, most) for name, mark, most in tools}
        tallies = recall(self._db, Questions(tallies=tuple(asked))).tallies
        return found + [
            Budget(name=f"calls of {name}", cap=most, used=tallies[question].sent)
            for question, (name, most) in asked.items()
            if question in tallies
        ]

    def pasts(self, run: str) -> list[Past]:
        """The agent's steps of a run, with what is kept for their undo."""
        with self._asking():
            try:
                return load_pasts(self._db, self.state_dir / "blobs", RunId(run))
            except OSError as error:
                text = f"what is kept for the undo cannot be read: {error.strerror}"
                raise NotFoundError(text) from error

    def short_runs(self, runs: Iterable[str]) -> dict[str, str]:
        """Each run id cut to its shortest prefix that no other run has, four digits at least."""
        short: dict[str, str] = {}
        for run in runs:
            if run in short:
                continue
            neighbours = [
                cast("str", row[0])
                for sql in (
                    "SELECT max(id) FROM runs WHERE id < ?",
                    "SELECT min(id) FROM runs WHERE id > ?",
                )
                for row in self._all(sql, (run,))
                if row[0] is not None
            ]
            shared = max((_shared(run, other) for other in neighbours), default=0)
            short[run] = run[: max(SHORTEST, shared + 1)]
        return short

    def policy_name(self, digest: str) -> str:
        """What a policy called itself; empty when it is not known."""
        rows = self._all("SELECT name FROM policies WHERE digest = ?", (digest,))
        return _text(rows[0][0]) if rows else ""

    # What decisions rested on.

    def policy_loaded(self, digest: str, step: EntryRow | None = None) -> Mapping[str, Json]:
        """What was said when a policy was loaded: last of all, or by who wrote this entry before; empty for nothing."""
        entries = [] if step is None else self._loaded(digest, by=step.writer, before=step.pos)
        entries = entries or self._loaded(digest)
        return entries[0].fields if entries else {}

    def _loaded(self, digest: str, *, by: str = "", before: int = 0) -> list[EntryRow]:
        sql = f"e.kind = 'policy.loaded' AND {RARE} AND json_extract(e.body, '$.policy') = ?"
        condition = Where(sql=sql, params=(digest,))
        if by:
            condition = Where(sql=f"{sql} AND e.writer = ? AND e.pos < ?", params=(digest, by, before))
        return self._entries(condition, "ORDER BY e.pos DESC LIMIT 1")

    def policy_sources(self, digest: str) -> dict[str, str]:
        """The files of a policy as they were when it was loaded; empty when they are not on record."""
        entries = self._loaded(digest)
        texts = [payload.text for payload in self.payloads(entries) if payload.part == "source"]
        if not texts or texts[0] is None:
            return {}
        return {path: text for path, text in _read(texts[0]).items() if isinstance(text, str)}

    def definition(self, digest: str) -> bytes | None:
        """The wire object of a tool definition, by its digest; `None` when it is not on record."""
        rows = self._all("SELECT raw FROM definitions WHERE digest = ? LIMIT 1", (digest,)) or self._all(
            "SELECT seen_raw FROM definitions WHERE seen = ? LIMIT 1", (digest,)
        )
        if rows:
            return _raw(rows[0][0])
        for kind, name in (("definition.pinned", "digest"), ("definition.changed", "new")):
            entries = self._entries(
                Where(sql=f"e.kind = ? AND {RARE} AND json_extract(e.body, ?) = ?", params=(kind, f"$.{name}", digest)),
                "ORDER BY e.pos DESC LIMIT 1",
            )
            for payload in self.payloads(entries):
                if payload.part == "raw" and payload.text is not None:
                    return payload.text.encode(errors="surrogatepass")
        return None

    def present_definition(self, server: str, tool: str) -> tuple[bytes, str] | None:
        """What a server was last seen to define a tool as, and how that stands to its pin; `None` when never seen."""
        rows = self._all(
            "SELECT coalesce(d.seen_raw, d.raw), d.state FROM definitions d JOIN servers v ON v.server = d.server"
            " WHERE v.name = ? AND d.tool = ? ORDER BY v.at DESC LIMIT 1",
            (server, tool),
        )
        return (_raw(rows[0][0]), _text(rows[0][1])) if rows else None

    # Entries.

    def entries(
        self, wanted: Filter, moment: Moment, *, limit: int | None, payloads: bool = False
    ) -> Iterator[EntryRow]:
        """Tell raw entries, newest first, at most `limit`."""
        condition = where(wanted, Scope.ENTRIES, moment, payloads=payloads)
        left = limit
        before: int | None = None
        while left is None or left > 0:
            page = PAGE if left is None else min(left, PAGE)
            after = Where() if before is None else Where(sql="e.pos < ?", params=(before,))
            rows = self._entries(both(condition, after), f"ORDER BY e.pos DESC LIMIT {page}")
            yield from rows
            if len(rows) < page:
                return
            before = rows[-1].pos
            left = None if left is None else left - page

    def entries_after(self, pos: int, wanted: Filter, moment: Moment) -> tuple[list[EntryRow], int]:
        """Tell the entries after a position, in order, and how far that reaches."""
        last = self.last_pos()
        condition = both(
            Where(sql="e.pos > ? AND e.pos <= ?", params=(pos, last)), where(wanted, Scope.ENTRIES, moment)
        )
        return self._entries(condition, "ORDER BY e.pos"), last

    # Figures.

    def figures(self, wanted: Filter, moment: Moment, *, by: str) -> Figures:
        """Count and measure the steps of a filter, in groups by `tool`, `rule`, `run`, `policy` or `day`, if any."""
        condition = where(wanted, Scope.STEPS, moment)
        group = {
            "": "''",
            "tool": "s.server || '.' || s.tool",
            "rule": "coalesce(s.rule, 'default')",
            "run": "s.run",
            "policy": "coalesce(s.policy, '')",
            "day": f"strftime('%Y-%m-%d', s.at_us / 1000000 + {moment.offset_s}, 'unixepoch')",
        }[by]
        groups: dict[Cell, _Gathering] = {}
        failures: Counter[tuple[Cell, ...]] = Counter()
        runs: set[Cell] = set()
        sql = (
            f"SELECT {group}, s.run, s.effect, s.outcome, s.dur_ms, s.tool_ms, s.asked, s.failure, s.reason,"
            f" s.server || '.' || s.tool, s.rule FROM v_steps s{condition.clause}"
        )
        for key, run, effect, outcome, dur_ms, tool_ms, asked, *failed in self._all(sql, condition.params):
            gathering = groups.get(key)
            if gathering is None:
                gathering = groups[key] = _Gathering()
            gathering.take(
                effect, outcome, cast("float | None", dur_ms), cast("float | None", tool_ms), asked=bool(asked)
            )
            runs.add(run)
            if failed[0] is not None:
                failures[tuple(failed)] += 1
        all_steps = _Gathering()
        for gathering in groups.values():
            all_steps.join(gathering)
        rows = [gathering.tally(_text(key)) for key, gathering in groups.items()] if by else []
        rows.sort(key=(lambda row: row.key) if by == "day" else (lambda row: (-row.steps, row.key)))
        return Figures(
            all=all_steps.tally(""),
            runs=len(runs),
            tool=_spread(all_steps.tool_us),
            own=_spread(all_steps.own_us),
            groups=rows,
            failures=[
                FailureTally(
                    failure=_text(failure),
                    reason=_text(reason),
                    call=_text(call),
                    rule=_text(rule) or "default",
                    steps=steps,
                )
                for (failure, reason, call, rule), steps in failures.most_common()
            ],
            asks=self._asks(condition),
            risk=self._risk(condition),
            export_dropped=self._export_dropped(),
        )

    def _risk(self, condition: Where) -> RiskTally | None:
        sql = f"SELECT count(s.risk), avg(s.risk), max(s.risk) FROM v_steps s{condition.clause}"
        for steps, mean, most in self._all(sql, condition.params):
            if isinstance(steps, int) and isinstance(mean, float) and isinstance(most, int):
                return RiskTally(steps=steps, mean=mean, most=most)
        return None

    def sql(self, text: str, *, limit: int, payloads: bool = False) -> Table:
        """Answer a SELECT on the views. Raises `QueryError` when it may not, cannot, or takes too long."""
        db = _open(self.path)
        ends = time.monotonic() + SNAPSHOT_S
        db.set_authorizer(_Guard(payloads=payloads))
        db.set_progress_handler(lambda: int(time.monotonic() > ends), 10_000)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 64 << 20)
        try:
            cursor = db.execute(text)
            columns = [cast("str", column[0]) for column in cursor.description or ()]
            rows = cast("list[tuple[Cell, ...]]", cursor.fetchmany(limit + 1))
        except (sqlite3.Error, sqlite3.Warning) as error:
            fix = ""
            if "interrupted" in str(error):
                message = f"it took longer than {SNAPSHOT_S:g} s"
                fix = "narrow it with a WHERE on at_us or run"
            elif "prohibited" in str(error) or "not authorized" in str(error):
                message = f"refused: {error}"
                fix = "only SELECT on v_steps, v_runs, v_findings, v_approvals and their tables"
            else:
                message = str(error)
            raise QueryError(message, fix=fix) from error
        finally:
            db.close()
        return Table(columns=columns, rows=rows[:limit], more=len(rows) > limit)

    # What the questions are made of.

    def _late(self) -> int:
        return int(time.monotonic() > self._deadline)

    @contextmanager
    def _asking(self) -> Generator[None]:
        self._deadline = time.monotonic() + SNAPSHOT_S
        try:
            yield
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                text = f"that took longer than {SNAPSHOT_S:g} s"
                raise UnreadableError(text, fix="narrow it with since: or run:") from error
            raise _unreadable(self.path, error) from error
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.path, error) from error

    def _all(self, sql: str, params: Sequence[Cell]) -> list[tuple[Cell, ...]]:
        with self._asking():
            return self._db.execute(sql, params).fetchall()

    def _one(self, sql: str, params: Sequence[Cell]) -> tuple[Cell, ...]:
        return self._all(sql, params)[0]

    def _steps(self, condition: Where, tail: str) -> list[StepRow]:
        rows = self._all(f"SELECT {STEP_COLUMNS} FROM v_steps s{condition.clause} {tail}", condition.params)
        return self._with_findings(list(map(step_row, rows)))

    def _entries(self, condition: Where, tail: str) -> list[EntryRow]:
        rows = self._all(f"SELECT {_ENTRY} FROM entries e{condition.clause} {tail}", condition.params)
        return list(map(_entry_row, rows))

    def _with_findings(self, steps: list[StepRow]) -> list[StepRow]:
        """Add what the checks of steps that acted said."""
        names = [(step.run, step.no) for step in steps if step.outcome and step.acted != "no"]
        levels: dict[tuple[str, int], list[str]] = {}
        checks: dict[tuple[str, int], list[str]] = {}
        undo: dict[tuple[str, int], tuple[str, str]] = {}
        for begin in range(0, len(names), 200):
            part = names[begin : begin + 200]
            rows = self._all(
                f"SELECT e.run, e.no, json_extract(e.body, '$.check'), json_extract(e.body, '$.finding'),"
                f" json_extract(e.body, '$.level') FROM (VALUES {', '.join('(?, ?)' for _name in part)}) AS w"
                f" CROSS JOIN entries e WHERE e.run = w.column1 AND e.no = w.column2 AND e.kind = 'step.finding'"
                f" ORDER BY e.pos",
                [cell for name in part for cell in name],
            )
            undo |= self._undo_of(part)
            for run, no, check, answer, level in rows:
                key = (cast("str", run), cast("int", no))
                if answer == "kept":
                    levels.setdefault(key, []).append(_text(level))
                else:
                    checks.setdefault(key, []).append(f"{_text(check)} {_text(answer)}")
        return [
            replace(
                step,
                undo=undo.get((step.run, step.no), ("", ""))[0],
                undone_by=undo.get((step.run, step.no), ("", ""))[1],
                levels=sorted(levels.get((step.run, step.no), [])),
                checks=checks.get((step.run, step.no), []),
            )
            if (step.run, step.no) in levels or (step.run, step.no) in checks or (step.run, step.no) in undo
            else step
            for step in steps
        ]

    def _undo_of(self, names: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[str, str]]:
        """How steps can be undone, or what became of that, and by which step."""
        rows = self._all(
            f"SELECT u.run, u.no, CASE u.state WHEN 'open' THEN u.class ELSE u.state END, u.undone_by"
            f" FROM (VALUES {', '.join('(?, ?)' for _name in names)}) AS w"
            " CROSS JOIN undo u WHERE u.run = w.column1 AND u.no = w.column2",
            [cell for name in names for cell in name],
        )
        return {(cast("str", run), cast("int", no)): (_text(state), _text(by)) for run, no, state, by in rows}

    def open_asks(self) -> list[Ask]:
        """Questions that nobody has answered, oldest first; those whose time is over included."""
        return [ask_of(row) for row in self._all(OPEN_ASKS, ())]

    def asks_named(self, prefix: str) -> list[Ask]:
        """Questions whose id begins so, newest first."""
        return [ask_of(row) for row in self._all(BY_PREFIX, (f"{prefix}*",))]

    def grants(self, prefix: str) -> list[Grant]:
        """Remembered answers that hold, whose id begins so."""
        rows = self._all(f"{GRANTS} WHERE revoked_at IS NULL AND id GLOB ? ORDER BY at", (f"{prefix}*",))
        return [grant_of(row) for row in rows]

    def last_yes(self, server: str, tool: str) -> LastYes | None:
        """The last call of a tool that a person allowed."""
        rows = self._all(
            "SELECT a.run, a.no, a.answered_at FROM approvals a JOIN steps s ON s.run = a.run AND s.no = a.no"
            " WHERE a.state = 'yes' AND s.server = ? AND s.tool = ?"
            " ORDER BY a.answered_at DESC LIMIT 1",
            (server, tool),
        )
        if not rows:
            return None
        run, no, at_us = rows[0]
        texts = self._all(
            "SELECT p.text FROM entries e JOIN payloads p ON p.writer = e.writer AND p.seq = e.seq"
            " WHERE e.run = ? AND e.no = ? AND p.part = 'args' ORDER BY e.pos LIMIT 1",
            (run, no),
        )
        args = _object_of(texts[0][0]) if texts else None
        if args is None:
            return None
        return LastYes(run=cast("str", run), no=cast("int", no), at_us=cast("int", at_us), args=args)

    def yeses(self, rule: str, server: str, tool: str) -> int:
        """How often a person said yes to calls of a tool that these rules ask about."""
        sql = (
            "SELECT count(*) FROM approvals a JOIN steps s ON s.run = a.run AND s.no = a.no"
            " WHERE a.state = 'yes' AND a.rule = ? AND s.server = ? AND s.tool = ?"
        )
        return cast("int", self._one(sql, (rule, server, tool))[0])

    def _approvals(self, step: StepRow) -> list[Approval]:
        rows = self._all(
            "SELECT id, rule, state, asked_at, answered_at, answered_by, channel, call FROM approvals"
            " WHERE (run = ?1 AND no = ?2) OR id IN (SELECT json_extract(body, '$.approval') FROM entries"
            " WHERE run = ?1 AND no = ?2 AND kind = 'step.intent') ORDER BY asked_at",
            (step.run, step.no),
        )
        return [
            Approval(
                id=_text(id_),
                rule=_text(rule),
                state=_text(state),
                asked_us=cast("int", asked),
                answered_us=cast("int | None", answered),
                answered_by=_text(by),
                channel=_text(channel),
                call=_text(call),
            )
            for id_, rule, state, asked, answered, by, channel, call in rows
        ]

    def _asks(self, condition: Where) -> list[AskTally]:
        rows = self._all(
            "SELECT a.rule, a.state, a.answered_at - a.asked_at FROM approvals a"
            f" JOIN v_steps s ON s.run = a.run AND s.no = a.no{condition.clause}",
            condition.params,
        )
        states: dict[str, Counter[str]] = {}
        waits: dict[str, list[int]] = {}
        for rule, state, wait_us in rows:
            states.setdefault(_text(rule), Counter())[_text(state)] += 1
            if isinstance(wait_us, int):
                waits.setdefault(_text(rule), []).append(wait_us)
        tallies = [
            AskTally(
                rule=rule,
                asks=seen.total(),
                yes=seen["yes"],
                no=seen["no"],
                open=seen["open"],
                median_wait_us=median_low(waits[rule]) if rule in waits else None,
            )
            for rule, seen in states.items()
        ]
        return sorted(tallies, key=lambda tally: (-tally.asks, tally.rule))

    def _export_dropped(self) -> int:
        rows = self._all(
            "SELECT coalesce(sum(json_extract(body, '$.export_dropped')), 0) FROM entries WHERE kind = 'writer.closed'"
            f" AND {RARE}",
            (),
        )
        return cast("int", rows[0][0])


class _Gathering:
    """Counts and times of a group of steps while they are read."""

    def __init__(self) -> None:
        self.effects: Counter[Cell] = Counter()
        self.outcomes: Counter[Cell] = Counter()
        self.dur_us: list[int] = []
        self.tool_us: list[int] = []
        self.own_us: list[int] = []

    def take(self, effect: Cell, outcome: Cell, dur_ms: float | None, tool_ms: float | None, *, asked: bool) -> None:
        self.effects[effect] += 1
        self.outcomes[outcome] += 1
        if tool_ms:
            self.tool_us.append(round(tool_ms * 1000))
        if dur_ms is None:
            return
        self.dur_us.append(round(dur_ms * 1000))
        # A step that waited for a person, or for an answer that never came, says nothing about the proxy's share.
        if not asked and outcome != "unknown":
            self.own_us.append(max(0, round((dur_ms - (tool_ms or 0.0)) * 1000)))

    def join(self, other: "_Gathering") -> None:
        self.effects += other.effects
        self.outcomes += other.outcomes
        self.dur_us += other.dur_us
        self.tool_us += other.tool_us
        self.own_us += other.own_us

    def tally(self, key: str) -> Tally:
        return Tally(
            key=key,
            steps=self.effects.total(),
            allowed=self.effects["allow"],
            asked=self.effects["ask"],
            denied=self.effects["deny"],
            failed=self.outcomes["failed"],
            unknown=self.outcomes["unknown"],
            open=self.outcomes[None],
            took=_spread(self.dur_us),
        )


class _Guard:
    """Passes what only reads and refuses the rest. Called by SQLite for every access while it prepares a statement."""

    def __init__(self, *, payloads: bool) -> None:
        self._closed = {"run_keys", *(() if payloads else ("payloads",))}

    def __call__(self, action: int, first: str | None, second: str | None, *_rest: object) -> int:
        match action:
            case sqlite3.SQLITE_SELECT | sqlite3.SQLITE_RECURSIVE:
                return sqlite3.SQLITE_OK
            case sqlite3.SQLITE_READ if first not in self._closed:
                return sqlite3.SQLITE_OK
            case sqlite3.SQLITE_FUNCTION if second != "load_extension":
                return sqlite3.SQLITE_OK
            case _:
                return sqlite3.SQLITE_DENY


def wait_for_trace(state_dir: Path) -> None:
    """Wait until a state folder holds a trace that can be read. Raises `UnreadableError` when there is one that cannot.

    One that is just being made cannot be read for a moment.
    """
    unreadable_since: float | None = None
    while True:
        try:
            Reader(state_dir).close()
        except NoTraceError:
            unreadable_since = None
        except UnreadableError:
            unreadable_since = unreadable_since or time.monotonic()
            if time.monotonic() - unreadable_since > BEING_MADE_S:
                raise
        else:
            return
        time.sleep(POLL_S)


def live_segment(state_dir: Path) -> Path:
    """The segment that is written to. Raises `NoTraceError` or `UnreadableError`."""
    try:
        names = [path.name for path in state_dir.iterdir() if SEGMENT_NAME.fullmatch(path.name)]
    except FileNotFoundError:
        names = []
    except OSError as error:
        text = f"the state folder {state_dir} cannot be read: {error.strerror}"
        raise UnreadableError(text, fix="check its owner and permissions, or name another with --state") from error
    if not names:
        text = f"nothing is recorded in {state_dir} yet"
        raise NoTraceError(text)
    return state_dir / max(names)


def _open(path: Path) -> sqlite3.Connection:
    """Open a segment for reading only. Raises `UnreadableError`."""
    uri = f"file:{quote(str(path))}?mode=ro"
    try:
        return _prepared(uri)
    except sqlite3.OperationalError as error:
        # A closed trace in a folder that cannot be written to, such as an archive: it has no log beside it, and
        # nobody writes to it.
        log = path.with_name(f"{path.name}-wal")
        if log.exists() or os.access(path.parent, os.W_OK):
            raise _unreadable(path, error) from error
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from error
    try:
        return _prepared(f"{uri}&immutable=1")
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from error


def _prepared(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=2.0)
    try:
        db.execute("PRAGMA query_only = 1")
        db.execute("PRAGMA trusted_schema = 0")
        ours = db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        newest = db.execute("PRAGMA user_version").fetchone()[0]
        blank = not ours and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        read_from = db.execute("SELECT value FROM meta WHERE key = 'read_from'").fetchone() if ours else None
        shape = db.execute("SELECT value FROM meta WHERE key = 'shape'").fetchone() if ours else None
    except sqlite3.DatabaseError:
        db.close()
        raise
    same = newest != FORMAT or shape == (SHAPE,)
    if read_from is not None and same and (newest <= FORMAT or int(read_from[0]) <= FORMAT):
        return db
    db.close()
    if blank:
        text = "nothing is recorded yet"
        raise NoTraceError(text)
    if ours and read_from is None:
        text = "it is not complete"
        raise sqlite3.DatabaseError(text)
    if not ours:
        text = "it is not a trace of Soothsayer's"
        raise sqlite3.DatabaseError(text)
    if not same:
        text = "it was begun by another build, with other tables: read it with that one, or name another --state DIR"
        raise sqlite3.DatabaseError(text)
    text = f"its format {newest} is newer than this version reads ({FORMAT}); update soothsayer-mcp"
    raise sqlite3.DatabaseError(text)


def _unreadable(path: Path, error: sqlite3.Error) -> UnreadableError:
    return UnreadableError(f"the trace {path} cannot be read: {error}")


def _raw(cell: Cell) -> bytes:
    return cell if isinstance(cell, bytes) else _text(cell).encode(errors="surrogatepass")


def _shared(one: str, other: str) -> int:
    """How many digits two ids have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def both(one: Where, other: Where) -> Where:
    """Two conditions at once."""
    if not one.sql or not other.sql:
        return other if not one.sql else one
    return Where(sql=f"{one.sql} AND {other.sql}", params=(*one.params, *other.params))


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)


def step_row(row: tuple[Cell, ...]) -> StepRow:
    """Read a row of `STEP_COLUMNS`."""
    (n, run, no, span, at_us, principal, host, server, tool, does, cause, of_step, continues) = row[:13]
    (effect, would, rule, risk, policy, asked, outcome, acted, failure, reason, next_, dur_us, tool_us) = row[13:]
    return StepRow(
        n=cast("int", n),
        run=_text(run),
        no=cast("int", no),
        span=_text(span),
        at_us=cast("int", at_us),
        principal=_text(principal),
        host=_text(host),
        server=_text(server),
        tool=_text(tool),
        does=_text(does),
        cause=_text(cause),
        of_step=_text(of_step),
        continues=_text(continues),
        effect=_text(effect),
        would=_text(would),
        rule=_text(rule),
        risk=cast("int | None", risk),
        policy=_text(policy),
        asked=bool(asked),
        outcome=_text(outcome),
        acted=_text(acted),
        failure=_text(failure),
        reason=_text(reason),
        next=_text(next_),
        dur_us=cast("int | None", dur_us),
        tool_us=cast("int | None", tool_us),
    )


def _run_row(row: tuple[Cell, ...]) -> RunRow:
    (run, state, why, principal, host, workspace, policy, steps, failed, unknown, asked, opened, last, closed) = row
    return RunRow(
        run=_text(run),
        state=_text(state),
        why=_text(why),
        principal=_text(principal),
        host=_text(host),
        workspace=_text(workspace),
        policy=_text(policy),
        steps=cast("int", steps),
        failed=cast("int", failed),
        unknown=cast("int", unknown),
        asked=cast("int", asked),
        opened_us=cast("int", opened),
        last_us=cast("int", last),
        closed_us=cast("int | None", closed),
    )


def _said_by(fields: Mapping[str, Json]) -> str:
    """Who said in an entry of a run what it is for; empty where nobody did."""
    intent = fields.get("intent")
    return _text(intent.get("by")) if isinstance(intent, Mapping) else _text(fields.get("declared_by") or "")


def _scope(scope: Json) -> RunScope:
    def texts(key: str) -> tuple[str, ...]:
        held = scope.get(key) if isinstance(scope, Mapping) else None
        return tuple(text for text in held if isinstance(text, str)) if isinstance(held, list) else ()

    return RunScope(only=texts("only"), under=texts("under"))


def _entry_row(row: tuple[Cell, ...]) -> EntryRow:
    pos, writer, seq, at_us, kind, run, no, leaf, body = row
    return EntryRow(
        pos=cast("int", pos),
        writer=_text(writer),
        seq=cast("int", seq),
        at_us=cast("int", at_us),
        kind=_text(kind),
        run=_text(run),
        no=cast("int | None", no),
        leaf=cast("bytes", leaf),
        body=_text(body),
        fields=_read(_text(body)),
    )


def _read(body: str) -> Mapping[str, Json]:
    try:
        value = cast("Json", json.loads(body))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _object_of(text: object) -> Mapping[str, Json] | None:
    if not isinstance(text, str):
        return None
    try:
        value = cast("Json", json.loads(text))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _payload_fields(fields: Mapping[str, Json]) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """The payload fields of an entry: those that have, or in which something has, a digest, a length and a mode."""
    for name, value in fields.items():
        for inner in (value, *(value.values() if isinstance(value, Mapping) else ())):
            if isinstance(inner, Mapping) and {"digest", "bytes", "mode"} <= inner.keys():
                yield name, inner


def _payload(
    pos: int, part: str, meta: Mapping[str, Json], *, text: str | None, file: str | None, there: bool
) -> Payload:
    size, masked = meta.get("bytes"), meta.get("masked")
    return Payload(
        pos=pos,
        part=part,
        text=text,
        file=file or "",
        size_bytes=size if isinstance(size, int) else 0,
        kept=_text(meta.get("mode")) if there else "erased",
        masked=masked if isinstance(masked, int) else 0,
        cut=meta.get("cut") is True,
    )


def _spread(values: list[int]) -> Spread | None:
    if not values:
        return None
    values.sort()
    last = len(values) - 1
    return Spread(
        count=len(values),
        p50=values[last * 50 // 100],
        p95=values[last * 95 // 100],
        p99=values[last * 99 // 100],
        most=values[last],
    )
