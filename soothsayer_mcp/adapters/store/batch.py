"""One transaction of the writer: state rows read once, changed in memory by each item in turn, written once."""

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import field
from functools import lru_cache
from itertools import chain
from typing import cast

from soothsayer_mcp.adapters.store.payloads import Payload
from soothsayer_mcp.model.budget import Allowance
from soothsayer_mcp.model.call import Principal, RunId
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.json import Digest, compact
from soothsayer_mcp.model.run import Counters, DeclaredBy, Intent, Run, RunScope, RunState
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.trace import entries
from soothsayer_mcp.trace.chain import START, leaf_hash

_CHUNKS = (64, 16, 4, 2, 1)
"""How many rows one statement inserts: a third cheaper than one by one, and one hand-over of the interpreter's lock."""
_END_STEP = (
    "UPDATE steps SET outcome=?, acted=?, failure=?, reason=?, next=?, dur_us=?, tool_us=?"
    " WHERE run=? AND no=? AND outcome IS NULL"
)
_RUN_COLUMNS = (
    "id, state, principal, how, host, workspace, automatic, policy, version, why, steps, failed, unknown, asked,"
    f" opened_at, last_at, closed_at, intent_by, attached, scope, halted, allowance,"
    f" {', '.join(Counters._fields)}"
)
_FIRST_COUNTER = 22
"""Where the counters begin among the columns."""


class _Insert:
    """Inserts rows of one table, many to a statement."""

    __slots__ = ("_one", "_statements")

    def __init__(self, table: str, columns: str) -> None:
        row = f"({','.join('?' * (columns.count(',') + 1))})"
        self._statements = [
            (size, f"INSERT INTO {table}({columns}) VALUES {','.join([row] * size)}")  # noqa: S608 - names of ours
            for size in _CHUNKS
        ]
        self._one = self._statements[-1][1]

    def run(self, db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        if len(rows) == 1:
            db.execute(self._one, rows[0])
            return
        done = 0
        for size, statement in self._statements:
            while len(rows) - done >= size:
                db.execute(statement, tuple(chain.from_iterable(rows[done : done + size])))
                done += size


_ENTRIES = _Insert("entries", "pos, writer, seq, at, kind, run, no, leaf, body")
_PAYLOADS = _Insert("payloads", "writer, seq, part, at, salt, text, file")
_STEPS = _Insert(
    "steps",
    "run, no, span, writer, at, cause, of_step, continues, server, tool, does, policy, effect, would, rule, risk,"
    " asked, outcome, acted, failure, reason, next, dur_us",
)
_SELECT_RUN = f"SELECT {_RUN_COLUMNS} FROM runs WHERE id = ?"  # noqa: S608 - column names of ours
_INSERT_RUN = f"INSERT INTO runs({_RUN_COLUMNS}) VALUES({','.join('?' * (_FIRST_COUNTER + len(Counters._fields)))})"
_UPDATED = (
    "state",
    "version",
    "why",
    "steps",
    "failed",
    "unknown",
    "asked",
    "last_at",
    "closed_at",
    "halted",
    "allowance",
    *Counters._fields,
)
_UPDATE_RUN = f"UPDATE runs SET {', '.join(f'{name}=?' for name in _UPDATED)} WHERE id=?"  # noqa: S608 - names of ours
_MOST_USED = 10_000
_SELECT_INTENT = (
    "SELECT p.text FROM payloads p JOIN entries e ON e.writer = p.writer AND e.seq = p.seq"
    " WHERE e.run = ? AND e.no IS NULL AND p.part IN ('intent', 'text') ORDER BY e.pos LIMIT 1"
)


@dataclass(slots=True, kw_only=True)
class RunRow:
    """A run as it stands in the transaction that holds it."""

    id: RunId
    state: RunState
    principal: str
    how: str
    host: str
    workspace: str
    automatic: bool
    policy: int
    version: int
    why: str
    steps: int
    failed: int
    unknown: int
    asked: int
    opened_at: int
    last_at: int
    closed_at: int | None
    intent: Intent | None
    counters: Counters
    attached: bool = False
    scope: RunScope | None = None
    halted: bool = False
    allowance: Allowance | None = None

    def as_run(self) -> Run:
        """The run as pure code may see it."""
        return Run(
            id=self.id,
            principal=_principal(self.principal, self.how),
            state=self.state,
            version=self.version,
            why=self.why,
            steps=self.steps,
            intent=self.intent,
            counters=self.counters,
            scope=self.scope,
            halted=self.halted,
            allowance=self.allowance,
        )


@lru_cache
def _principal(who: str, how: str) -> Principal:
    return Principal(id=who, how=how)


def load_run(db: sqlite3.Connection, run_id: str) -> RunRow | None:
    """Read one run."""
    row = cast("tuple[object, ...] | None", db.execute(_SELECT_RUN, (run_id,)).fetchone())
    if row is None:
        return None
    intent = None
    if row[17] is not None:
        said = cast("tuple[object] | None", db.execute(_SELECT_INTENT, (run_id,)).fetchone())
        text = said[0] if said is not None and isinstance(said[0], str) else ""
        intent = Intent(text=text, declared_by=DeclaredBy(str(row[17])))
    return RunRow(
        id=RunId(str(row[0])),
        state=RunState(str(row[1])),
        principal=str(row[2]),
        how=str(row[3]),
        host=str(row[4] or ""),
        workspace=str(row[5]),
        automatic=bool(row[6]),
        policy=_int(row[7]),
        version=_int(row[8]),
        why=str(row[9]),
        steps=_int(row[10]),
        failed=_int(row[11]),
        unknown=_int(row[12]),
        asked=_int(row[13]),
        opened_at=_int(row[14]),
        last_at=_int(row[15]),
        closed_at=None if row[16] is None else _int(row[16]),
        intent=intent,
        counters=Counters._make(map(_int, row[_FIRST_COUNTER:])),
        attached=bool(row[18]),
        scope=read_scope(str(row[19])),
        halted=bool(row[20]),
        allowance=read_allowance(str(row[21])),
    )


def allowance_text(allowance: Allowance | None) -> str:
    """Spell what people said of a run's budgets, as its row keeps it; empty for nothing."""
    if allowance is None:
        return ""
    return compact({"own": dict(allowance.own), "added": dict(allowance.added)}).decode()


def read_allowance(text: str) -> Allowance | None:
    """Read what people said of a run's budgets."""
    if not text:
        return None
    said = cast("dict[str, dict[str, int]]", json.loads(text))
    return Allowance(own=said["own"], added=said["added"])


def scope_text(scope: RunScope | None) -> str:
    """Spell what a run is limited to, as its row keeps it; empty for no limit."""
    if scope is None:
        return ""
    return compact({"only": list(scope.only), "under": list(scope.under)}).decode()


def read_scope(text: str) -> RunScope | None:
    """Read what a run is limited to."""
    if not text:
        return None
    said = cast("dict[str, list[str]]", json.loads(text))
    return RunScope(only=tuple(said["only"]), under=tuple(said["under"]))


def load_key(db: sqlite3.Connection, run_id: str) -> bytes:
    """Read the key of a run, under which its calls are compared."""
    row = cast("tuple[bytes] | None", db.execute("SELECT match_key FROM run_keys WHERE run = ?", (run_id,)).fetchone())
    return b"" if row is None else row[0]


@dataclass(slots=True)
class Chain:
    """Where a writer's chain ends, and what the writer knows while nobody else has written."""

    writer: str
    seq: int = 0
    prev: str = START
    pos: int = 0
    data_version: int = -1
    """Of the connection, when `pos` and `runs` were true; -1 when they have to be read anew."""
    runs: dict[RunId, RunRow] = field(default_factory=dict[RunId, RunRow])
    policies: dict[str, int] = field(default_factory=dict[str, int])
    used: set[tuple[str, int, str, str]] = field(default_factory=set[tuple[str, int, str, str]])
    """Which tools runs called under which policies, as far as it is known to be in the file."""
    second: int = -1
    """The second that was spelled last, and its spelling."""
    second_text: str = ""

    def forget(self) -> None:
        """Read everything anew in the next transaction: this one may have left memory ahead of the file."""
        self.data_version = -1
        self.runs.clear()
        self.policies.clear()
        self.used.clear()


class Batch:
    """The open transaction. Items add to it; `flush` writes what they added."""

    def __init__(self, db: sqlite3.Connection, at: Chain) -> None:
        """Begin from where the chain stands, reading the file again only when somebody else wrote to it."""
        self.db = db
        self.writer = at.writer
        self.seq = at.seq
        self.prev = at.prev
        self.pos = at.pos
        self._chain = at
        self._entries: list[tuple[object, ...]] = []
        self._payloads: list[tuple[object, ...]] = []
        self._steps: list[tuple[object, ...]] = []
        self._ended: list[tuple[object, ...]] = []
        self._later: list[tuple[str, tuple[object, ...]]] = []
        self._changed: dict[RunId, RunRow] = {}
        self._opened: list[tuple[object, ...]] = []
        self.size = 0
        self.wrote = False
        if at.data_version < 0:
            self._read_chain()

    def _read_chain(self) -> None:
        sql = "SELECT coalesce((SELECT max(pos) + 1 FROM entries), (SELECT value FROM meta WHERE key = 'first_pos'))"
        self.pos = int(cast("tuple[int | str]", self.db.execute(sql).fetchone())[0])
        sql = "SELECT seq, leaf FROM entries WHERE writer = ? ORDER BY seq DESC LIMIT 1"
        last = cast("tuple[int, bytes] | None", self.db.execute(sql, (self.writer,)).fetchone())
        self.seq, self.prev = (0, START) if last is None else (last[0] + 1, last[1].hex())

    def mark(self) -> tuple[object, ...]:
        """Where the batch stands, for `back_to`."""
        counts = tuple(map(len, (self._entries, self._payloads, self._steps, self._ended, self._later, self._opened)))
        return self.seq, self.prev, self.pos, counts

    def back_to(self, mark: tuple[object, ...]) -> None:
        """Leave the batch as it was at a mark."""
        self.seq, self.prev, self.pos, counts = cast("tuple[int, str, int, tuple[int, ...]]", mark)
        lists: tuple[list[tuple[object, ...]], ...] = (
            self._entries,
            self._payloads,
            self._steps,
            self._ended,
            cast("list[tuple[object, ...]]", self._later),
            self._opened,
        )
        for rows, count in zip(lists, counts, strict=True):
            del rows[count:]

    def now(self) -> int:
        """Microseconds since 1970, as the wall clock has it."""
        return time.time_ns() // 1000

    def append(
        self,
        kind: Kind,
        tail: str,
        at: int,
        *,
        run: str | None = None,
        no: int | None = None,
        parts: Sequence[tuple[str, Payload]] = (),
    ) -> tuple[int, bytes]:
        """Add the next entry and the payloads beside it; returns its number in the chain and its leaf."""
        seq = self.seq
        text = entries.head(self.writer, seq, self.prev, self._at_text(at), kind)
        if run is not None:
            text += f',"run":"{run}"' if no is None else f',"run":"{run}","no":{no}'
        body = f"{text}{tail}}}"
        leaf = leaf_hash(body.encode())
        self._entries.append((self.pos, self.writer, seq, at, kind, run, no, leaf, body))
        for part, said in parts:
            self._payloads.append((self.writer, seq, part, at, said.salt, said.text, said.file))
            self.size += said.size
        self.size += len(body)
        self.pos += 1
        self.seq = seq + 1
        self.prev = leaf.hex()
        return seq, leaf

    def run(self, run_id: RunId) -> RunRow | None:
        """A run as it stands, with what earlier items of this batch did to it."""
        row = self._chain.runs.get(run_id)
        if row is None:
            row = load_run(self.db, run_id)
            if row is not None:
                self._chain.runs[run_id] = row
        return row

    def changed(self, row: RunRow) -> None:
        """Write a run's row with this batch."""
        self._changed[row.id] = row

    def open_run(self, row: RunRow, key: bytes) -> None:
        """Add a run and its key."""
        by = None if row.intent is None else row.intent.declared_by
        self._opened.append(
            (
                row.id,
                row.state,
                row.principal,
                row.how,
                row.host,
                row.workspace,
                int(row.automatic),
                row.policy,
                row.version,
                row.why,
                row.steps,
                row.failed,
                row.unknown,
                row.asked,
                row.opened_at,
                row.last_at,
                row.closed_at,
                by,
                int(row.attached),
                scope_text(row.scope),
                int(row.halted),
                allowance_text(row.allowance),
                *row.counters,
            )
        )
        self.later("INSERT INTO run_keys(run, match_key) VALUES(?, ?)", row.id, key)
        self._chain.runs[row.id] = row

    def add_step(self, row: tuple[object, ...]) -> None:
        """Add a row of `steps`."""
        self._steps.append(row)

    def end_step(self, row: tuple[object, ...]) -> None:
        """End a row of `steps` that is in flight."""
        self._ended.append(row)

    def later(self, sql: str, *values: object) -> None:
        """Run a statement with this batch, after what is in it so far."""
        self._later.append((sql, values))

    def used(self, run: str, policy: int, server: str, tool: str) -> None:
        """Note that a run calls a tool under a policy; once is enough."""
        one = (run, policy, server, tool)
        known = self._chain.used
        if one not in known:
            if len(known) >= _MOST_USED:
                known.clear()
            known.add(one)
            self.later("INSERT OR IGNORE INTO used(run, policy, server, tool) VALUES(?, ?, ?, ?)", *one)

    def policy(self, digest: Digest, at: int, name: str = "") -> int:
        """The number of a policy, given to it here if it has none."""
        number = self._chain.policies.get(digest)
        if number is None:
            found = cast(
                "tuple[int] | None", self.db.execute("SELECT n FROM policies WHERE digest = ?", (digest,)).fetchone()
            )
            if found is None:
                sql = "INSERT INTO policies(digest, name, at) VALUES(?, ?, ?)"
                number = cast("int", self.db.execute(sql, (digest, name, at)).lastrowid)
            else:
                number = found[0]
            self._chain.policies[digest] = number
        return number

    def flush(self) -> None:
        """Write what was added, in an order in which every row finds what it refers to."""
        db = self.db
        if self._entries:
            _ENTRIES.run(db, self._entries)
            self.wrote = True
        if self._payloads:
            _PAYLOADS.run(db, self._payloads)
        if self._opened:
            db.executemany(_INSERT_RUN, self._opened)
        if self._steps:
            _STEPS.run(db, self._steps)
        for row in self._ended:
            db.execute(_END_STEP, row)
        for changed in self._changed.values():
            db.execute(_UPDATE_RUN, _run_update(changed))
        for sql, values in self._later:
            db.execute(sql, values)
            self.wrote = True
        for rows in (self._entries, self._payloads, self._opened, self._steps, self._ended, self._later):
            rows.clear()
        self._changed.clear()

    def committed(self, data_version: int) -> None:
        """Tell the chain where it stands now."""
        stands = self._chain
        stands.seq, stands.prev, stands.pos, stands.data_version = self.seq, self.prev, self.pos, data_version

    def _at_text(self, at: int) -> str:
        known = self._chain
        second, micro = divmod(at, 1_000_000)
        if second != known.second:
            known.second = second
            known.second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{known.second_text}.{micro:06d}Z"


def _run_update(row: RunRow) -> tuple[object, ...]:
    return (
        row.state,
        row.version,
        row.why,
        row.steps,
        row.failed,
        row.unknown,
        row.asked,
        row.last_at,
        row.closed_at,
        int(row.halted),
        allowance_text(row.allowance),
        *row.counters,
        row.id,
    )


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
