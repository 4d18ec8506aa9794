"""Checks a trace, alone: this file imports nothing of ours and shares no code with what writes.

Copied out, it runs on a state folder or on segment files: `python verifier.py PATH ...`. It proves that entries were
not changed, removed or moved between others. It does not prove that nothing is missing at the end, nor that the whole
was not written anew: only a signed checkpoint can, and the trace has none yet.
"""

import hashlib
import json
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

Progress: TypeAlias = Callable[[int, int], None]
"""Called now and then with how many rows are checked, and how many there are."""

StepName: TypeAlias = tuple[str, int]

NOT_COVERED = (
    "no checkpoint covers this trace yet, so nothing shows whether its end was cut off or the whole written anew"
)

_SEGMENT = re.compile(r"trace-(\d{6})\.db")
_START = "0" * 64
_VERSION = 1
_APPLICATION_ID = 1398036569
_MOST_PROBLEMS = 100
_EVERY = 2000
_FIRST = frozenset({"step.intent", "step.refused", "step.asked"})
_NOTHING: Mapping[str, Any] = {}
_WITHHELD = frozenset({"step.refused", "step.asked"})
_CLASSES = frozenset(
    {"policy_denied", "tool_error", "verification_failed", "missing_evidence", "timeout_or_budget_exceeded"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong."""

    what: str
    pos: int | None = None
    """The entry it is about; `None` when it is about none."""
    where: str = ""
    """The file it is in."""

    def __str__(self) -> str:
        return f"entry {self.pos}: {self.what}" if self.pos is not None else self.what


@dataclass(slots=True, kw_only=True)
class Report:
    """What was checked, and what was found."""

    paths: tuple[Path, ...] = ()
    entries: int = 0
    writers: int = 0
    steps: int = 0
    payloads: int = 0
    """Payloads that are still there and match."""
    erased: int = 0
    """Payloads that entries name and that are not there any more."""
    uncovered: int = 0
    """Entries that no checkpoint covers: all of them, until there are checkpoints."""
    problems: list[Problem] = field(default_factory=list[Problem])
    """In order of position, at most 100; the first is the first broken entry."""
    unknown: list[str] = field(default_factory=list[str])
    """Steps that may have acted and whose outcome is not known, as `RUN.NO`."""
    open: list[str] = field(default_factory=list[str])
    """Steps in flight: an intent and no outcome yet."""
    took_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether everything that was checked holds. Never more: see `NOT_COVERED`."""
        return not self.problems

    def lines(self) -> list[str]:
        """The report for people."""
        said = [
            f"{self.entries} entries of {self.writers} writers, {self.steps} steps, {self.payloads} payloads checked"
        ]
        if self.erased:
            said.append(f"{self.erased} payloads are erased")
        said += [f"{name} is unknown: it may have acted" for name in self.unknown]
        said += [f"{name} is in flight" for name in self.open]
        said.append(NOT_COVERED)
        if self.holds:
            return [*said, "hashes and chains hold"]
        shown = [str(problem) for problem in self.problems]
        return [*said, f"BROKEN, {len(shown)} found; the first: {shown[0]}", *shown[1:]]


def verify(paths: Iterable[Path], *, progress: Progress | None = None) -> Report:
    """Check state folders or segment files, oldest first.

    Raises `FileNotFoundError` when there is nothing to check, `sqlite3.DatabaseError` never: a file that cannot be read
    is a problem in the report.
    """
    began = time.perf_counter()
    segments = [segment for path in paths for segment in _segments(path)]
    report = Report(paths=tuple(segments))
    check = _Check(report, progress or _ignore)
    for path in segments:
        check.segment(path)
    check.finish()
    report.problems.sort(key=lambda problem: (problem.pos is None, problem.pos or 0))
    report.took_s = time.perf_counter() - began
    return report


def leaf_hash(body: bytes) -> bytes:
    """Hash one entry as RFC 9162 hashes a leaf, section 2.1.1."""
    return hashlib.sha256(b"\0" + body).digest()


def _ignore(_done: int, _total: int) -> None:
    return


def _segments(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if _SEGMENT.fullmatch(entry.name))
        if found:
            return found
    elif path.exists():
        return [path]
    raise FileNotFoundError(2, "no trace here", str(path))


def _connect(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri()
    try:
        db = sqlite3.connect(f"{uri}?mode=ro", uri=True, isolation_level=None)
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # A copy on a read-only disk has no log beside it, and none can be made there.
        db = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, isolation_level=None)
    db.execute("PRAGMA query_only=1")
    return db


class _Check:
    """One run of the verifier; chains and steps run on over segments."""

    def __init__(self, report: Report, progress: Progress) -> None:
        self._report = report
        self._progress = progress
        self._chains: dict[str, tuple[int, str]] = {}
        self._closed: set[str] = set()
        self._first: dict[StepName, Mapping[str, Any]] = {}
        self._outcome: dict[StepName, Mapping[str, Any]] = {}
        self._settled: dict[StepName, str] = {}
        """Whether each step that was settled took effect."""
        self._runs: dict[str, str] = {}
        self._recovered: set[str] = set()
        self._plans: set[tuple[str, str]] = set()
        self._next: int | None = None
        self._done = 0
        self._total = 0
        self._second = -1
        self._second_text = ""
        self._where = ""

    def segment(self, path: Path) -> None:
        self._where = str(path)
        try:
            with closing(_connect(path)) as db:
                self._file(db)
                db.execute("BEGIN")  # one moment for entries and rows, however busy the writers are
                self._entries(db)
                self._payloads(db, path.parent / "blobs")
                self._rows(db)
        except sqlite3.DatabaseError as error:
            self._problem(f"the file cannot be read: {error}")

    def finish(self) -> None:
        report = self._report
        report.writers = len(self._chains)
        report.steps = len(self._first)
        report.uncovered = report.entries
        for name, outcome in self._outcome.items():
            if outcome.get("outcome") == "unknown" and name not in self._settled:
                report.unknown.append(_name(name))
        for name, first in self._first.items():
            if first.get("kind") == "step.intent" and name not in self._outcome:
                report.open.append(_name(name))

    def _problem(self, what: str, pos: int | None = None) -> None:
        if len(self._report.problems) < _MOST_PROBLEMS:
            self._report.problems.append(Problem(what=what, pos=pos, where=self._where))

    def _file(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            self._problem("the file is no trace")
        for (line,) in db.execute("PRAGMA integrity_check(10)"):
            if line != "ok":
                self._problem(f"the database is damaged: {line}")
        counts = [db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("entries", "payloads")]  # noqa: S608 - names of ours
        self._total += sum(counts)

    def _tick(self) -> None:
        self._done += 1
        if self._done % _EVERY == 0:
            self._progress(self._done, self._total)

    def _entries(self, db: sqlite3.Connection) -> None:
        if self._next is None:
            first = db.execute("SELECT value FROM meta WHERE key = 'first_pos'").fetchone()
            self._next = 0 if first is None else int(first[0])
        sql = "SELECT pos, writer, seq, at, kind, run, no, leaf, CAST(body AS BLOB) FROM entries ORDER BY pos"
        for pos, writer, seq, at, kind, run, no, leaf, raw in db.execute(sql):
            self._tick()
            self._report.entries += 1
            if pos != self._next:
                self._problem(f"entries {self._next} to {pos - 1} are missing", pos)
            self._next = pos + 1
            if leaf_hash(raw) != leaf:
                self._problem("its bytes do not match its hash", pos)
            self._chain(pos, writer, seq, leaf.hex(), raw, kind)
            self._columns(pos, raw, (writer, seq, at, kind, run, no))
            body = _body(raw)
            if body is None:
                self._problem("its body is no JSON object", pos)
                continue
            if body.get("v") == _VERSION:
                self._meaning(pos, kind, run, no, body)

    def _chain(self, pos: int, writer: str, seq: int, leaf: str, raw: bytes, kind: str) -> None:
        before = self._chains.get(writer)
        if before is None:
            if seq != 0 or kind != "writer.opened":
                self._problem(
                    f"the chain of writer {writer} begins at {seq} with {kind}: what came before is missing", pos
                )
            expected = (seq, _START if seq == 0 else None)
        else:
            expected = (before[0] + 1, before[1])
        if seq != expected[0]:
            self._problem(f"writer {writer} goes from {expected[0] - 1} to {seq}: entries are missing", pos)
        elif expected[1] is not None and f'"prev":"{expected[1]}"'.encode() not in raw[:220]:
            self._problem(
                "it does not name the hash of its writer's entry before: that one was changed or removed", pos
            )
        if writer in self._closed:
            self._problem(f"writer {writer} was closed before", pos)
        if kind == "writer.closed":
            self._closed.add(writer)
        self._chains[writer] = (seq, leaf)

    def _columns(self, pos: int, raw: bytes, columns: tuple[str, int, int, str, str | None, int | None]) -> None:
        writer, seq, at, kind, run, no = columns
        version, _, rest = raw.partition(b',"writer":')
        if not version.startswith(b'{"v":'):
            self._problem("its body does not begin with its format", pos)
            return
        _, _, after = rest.partition(b'","at":')
        wanted = f'"{self._at(at)}","kind":"{kind}"'
        if run is not None:
            wanted += f',"run":"{run}"'
        if no is not None:
            wanted += f',"no":{no}'
        named = rest.startswith(f'"{writer}","seq":{seq},"prev":"'.encode())
        ended = after[len(wanted.encode()) :][:1] in {b",", b"}"}
        if not named or not after.startswith(wanted.encode()) or not ended:
            self._problem("its columns do not say what its body says", pos)

    def _at(self, at: int) -> str:
        second, micro = divmod(at, 1_000_000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{micro:06d}Z"

    def _meaning(self, pos: int, kind: str, run: str | None, no: int | None, body: Mapping[str, Any]) -> None:
        match kind:
            case "run.opened":
                self._runs[str(run)] = "open"
            case "run.changed":
                self._run_changed(pos, str(run), body)
            case "writer.recovered":
                self._recovered.add(str(body.get("of")))
            case "undo.planned":
                self._plans.add((str(run), str(body.get("plan"))))
            case "step.undo":
                self._undo(pos, (str(run), no or 0), body)
            case "step.intent" | "step.refused" | "step.asked" | "step.outcome" | "step.finding" | "step.settled":
                if run is None or no is None:
                    self._problem("a step without a name", pos)
                else:
                    self._step(pos, kind, (run, no), body)
            case _:
                pass

    def _run_changed(self, pos: int, run: str, body: Mapping[str, Any]) -> None:
        if body.get("what") != "state":
            return
        if self._runs.get(run) != body.get("from"):
            self._problem(f"run {run[:8]} is not {body.get('from')} here", pos)
        self._runs[run] = str(body.get("to"))

    def _step(self, pos: int, kind: str, name: StepName, body: Mapping[str, Any]) -> None:
        if kind in _FIRST:
            if name in self._first:
                self._problem(f"step {_name(name)} has two first entries", pos)
            self._first[name] = body
        elif name not in self._first or self._first[name].get("kind") != "step.intent":
            self._problem(f"step {_name(name)} has a {kind} and no intent before it", pos)
        elif kind == "step.settled":
            self._settle(pos, name, body)
        elif name in self._outcome and not (kind == "step.finding" and self._was_unknown(name)):
            self._problem(f"step {_name(name)} has a {kind} after its outcome", pos)
        if kind == "step.outcome":
            self._outcome[name] = body
        if kind == "step.outcome" or kind in _WITHHELD:
            later = body.get("outcome") == "unknown" and "task" in body
            failed = body.get("outcome") != "succeeded" and not later
            if failed != (str(body.get("failure")) in _CLASSES) or failed != ("reason" in body):
                self._problem(f"step {_name(name)} does not have one failure class, or has one and succeeded", pos)

    def _undo(self, pos: int, name: StepName, body: Mapping[str, Any]) -> None:
        """Only what was sent is undone, and by a plan that was confirmed."""
        if name not in self._first or self._first[name].get("kind") != "step.intent":
            self._problem(f"step {_name(name)} has a step.undo and no intent before it", pos)
        if (name[0], str(body.get("plan"))) not in self._plans:
            self._problem(f"the undo of step {_name(name)} is of no plan that was confirmed", pos)

    def _was_unknown(self, name: StepName) -> bool:
        return self._outcome.get(name, _NOTHING).get("outcome") == "unknown"

    def _settle(self, pos: int, name: StepName, body: Mapping[str, Any]) -> None:
        """Only what was unknown is settled, and once."""
        if not self._was_unknown(name) or name in self._settled:
            self._problem(f"step {_name(name)} is settled and was not unknown", pos)
        self._settled[name] = str(body.get("acted"))

    def _payloads(self, db: sqlite3.Connection, blobs: Path) -> None:
        sql = (
            "SELECT e.pos, p.part, p.salt, p.text, p.file, CAST(e.body AS BLOB) FROM payloads p"
            " LEFT JOIN entries e ON e.writer = p.writer AND e.seq = p.seq ORDER BY e.pos"
        )
        there: Counter[int] = Counter()
        for pos, part, salt, text, file, raw in db.execute(sql):
            self._tick()
            said = None if raw is None else _payload(_body(raw) or {}, part)
            if said is None:
                self._problem(f"a payload {part!r} that no entry names", pos)
                continue
            there[pos] += 1
            kept: bytes | None = text.encode() if isinstance(text, str) else text
            if file is not None:
                try:
                    kept = (blobs / file).read_bytes()
                except OSError:
                    self._problem(f"the file of its payload {part!r} is missing", pos)
                    continue
            if kept is None:
                if said["mode"] != "digest":
                    self._problem(f"its payload {part!r} is neither kept nor erased", pos)
                continue
            wanted = said.get("kept", said["digest"])
            if "sha256:" + hashlib.sha256(salt + kept).hexdigest() != wanted:
                self._problem(f"its payload {part!r} is not what was recorded", pos)
            else:
                self._report.payloads += 1
        sql = 'SELECT pos, CAST(body AS BLOB) FROM entries WHERE body LIKE \'%"digest":"sha256:%\''
        for pos, raw in db.execute(sql):
            self._report.erased += max(0, _count_payloads(_body(raw) or {}) - there[pos])

    def _rows(self, db: sqlite3.Connection) -> None:
        """The state must be what the entries add up to."""
        rows: dict[StepName, tuple[Any, ...]] = {}
        sql = "SELECT run, no, server, tool, effect, outcome, acted, failure, reason, next FROM steps"
        for run, no, *rest in db.execute(sql):
            rows[run, no] = tuple(rest)
        counts: dict[str, Counter[str]] = {}
        for name, first in self._first.items():
            count = counts.setdefault(name[0], Counter())
            wanted = _row(first, self._outcome.get(name), self._settled.get(name))
            count["steps"] += 1
            count["failed"] += wanted[3] == "failed"
            count["unknown"] += wanted[3] == "unknown"
            count["asked"] += first.get("kind") == "step.asked"
            if rows.pop(name, None) != wanted:
                self._problem(f"the row of step {_name(name)} is not what its entries say")
        for name in rows:
            self._problem(f"the row of step {_name(name)} has no entry")
        for run, state, *numbers in db.execute("SELECT id, state, steps, failed, unknown, asked FROM runs"):
            count = counts.get(run, Counter())
            if self._runs.get(run) != state or numbers != [
                count[key] for key in ("steps", "failed", "unknown", "asked")
            ]:
                self._problem(f"the row of run {run[:8]} is not what its entries say")
        for writer, closed_at in db.execute("SELECT id, closed_at FROM writers"):
            ended = writer in self._closed or writer in self._recovered
            if writer not in self._chains or (closed_at is not None) != ended:
                self._problem(f"the row of writer {writer} is not what its entries say")


def _row(first: Mapping[str, Any], outcome: Mapping[str, Any] | None, settled: str | None) -> tuple[Any, ...]:
    head = (_plain(first.get("server")), _plain(first.get("tool")), first.get("effect"))
    if first.get("kind") in _WITHHELD:
        return (*head, "failed", "no", first.get("failure"), first.get("reason"), first.get("next"))
    if outcome is None:
        return (*head, None, None, None, None, None)
    keys = ("outcome", "acted", "failure", "reason", "next")
    told = outcome if settled is None else {**outcome, "acted": settled}
    return (*head, *(told.get(key) for key in keys))


def _plain(value: object) -> object:
    """A string as a column holds it: lone surrogates spelled out."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _body(raw: bytes) -> Mapping[str, Any] | None:
    """The body of an entry; `None` when damage has made it something else."""
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else None


def _payload(body: Mapping[str, Any], part: str) -> Mapping[str, Any] | None:
    found: object = body.get(part)
    if isinstance(found, dict) and "text" in found:
        found = cast("dict[str, object]", found)["text"]
    if not isinstance(found, dict):
        return None
    said = cast("dict[str, Any]", found)
    return said if {"digest", "bytes", "mode"} <= said.keys() else None


def _count_payloads(body: Mapping[str, Any]) -> int:
    return sum(1 for key in body if _payload(body, key) is not None)


def _name(name: StepName) -> str:
    return f"{name[0]}.{name[1]}"


def main(arguments: Sequence[str]) -> int:
    """Check what is named and print the report; 1 when something is broken."""
    report = verify([Path(argument) for argument in arguments or ["."]])
    sys.stdout.write("\n".join(report.lines()) + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
