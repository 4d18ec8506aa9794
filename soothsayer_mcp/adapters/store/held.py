"""What evidence rests on, in rows: writes that are open or ended last, the latest step of a pattern, what is spent."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import cast

from soothsayer_mcp.adapters.store.batch import Batch, load_key
from soothsayer_mcp.adapters.store.twins import use_keys
from soothsayer_mcp.adapters.store.undoing import begin_undo
from soothsayer_mcp.evidence.scope import AbsentError, take
from soothsayer_mcp.evidence.steps import keyed
from soothsayer_mcp.model.call import Cause, RunId
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.dues import LastWrite, Seen
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.evidence import Evidence
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import SupportedStep, VerifiedStep
from soothsayer_mcp.model.subject import EVERYTHING, FILE, ancestors, overlap
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.trace import entries

_SEEN = (
    "SELECT no, began, sure, at, ended, ok, level, why, results, files_before, files_after FROM sightings"
    " WHERE run = ? AND pattern = ?"
)
_SEEN_ACROSS = (
    "SELECT i.no, i.began, i.sure, i.at, i.ended, i.ok, i.level, i.why, i.results, i.files_before,"
    " i.files_after, i.run, p.digest FROM runs own"
    " JOIN runs r ON r.principal = own.principal AND r.workspace = own.workspace"
    " JOIN sightings i ON i.run = r.id AND i.pattern = ? JOIN steps s ON s.run = i.run AND s.no = i.no"
    " JOIN policies p ON p.n = s.policy WHERE own.id = ? AND (own.workspace <> '' OR r.id = own.id)"
    " ORDER BY i.began DESC LIMIT 1"
)
"""Who has no workspace shares none with others."""
_SIGHT = (
    "INSERT INTO sightings(run, pattern, no, began, sure, at, files_before) VALUES(?,?,?,?,?,?,?)"
    " ON CONFLICT(run, pattern) DO UPDATE SET no=excluded.no, began=excluded.began, sure=excluded.sure, at=excluded.at,"
    " files_before=excluded.files_before, ended=0, ok=0, level='E1', why='', results='{}', files_after='{}'"
)
_END_SIGHT = (
    "UPDATE sightings SET ended=1, ok=?, level=?, why=?, results=?, files_after=? WHERE run=? AND pattern=? AND no=?"
)
_OPEN = "INSERT INTO subjects(subject, run, no, began) VALUES(?,?,?,?)"
_SHUT = "DELETE FROM subjects WHERE subject=? AND run=? AND no=?"
_WRITTEN = (
    "INSERT INTO written(subject, ended, run, no) VALUES(?,?,?,?) ON CONFLICT(subject) DO UPDATE SET"
    " prev_ended=ended, prev_run=run, prev_no=no, ended=excluded.ended, run=excluded.run, no=excluded.no"
)
_LAST_POSITION = "SELECT max(pos) FROM entries"
_EVIDENCE = (
    "INSERT INTO evidence(id, run, no, kind, level, finding, subject, began, ended, at, expires_at, writer, seq)"
    " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)"
)


class HeldRows:
    """Implements `Held` over one connection; `ready` is called before each look."""

    def __init__(self, db: sqlite3.Connection, ready: Callable[[], object] = lambda: None) -> None:
        """Look through a connection; inside a transaction of ours, at what it has added so far too."""
        self._db = db
        self._ready = ready

    def _rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        self._ready()
        try:
            return cast("list[tuple[object, ...]]", self._db.execute(sql, values).fetchall())
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, "the record cannot be read", acted=Acted.NO) from error

    def position(self) -> int:
        """Where the record ends."""
        found = self._rows(_LAST_POSITION)[0][0]
        return found if isinstance(found, int) else -1

    def seen(self, run: RunId, pattern: str, *, across: bool = False) -> Seen | None:
        """The latest step of a run that fits a pattern; `across` all runs of its principal in its workspace."""
        rows = self._rows(_SEEN_ACROSS, pattern, run) if across else self._rows(_SEEN, run, pattern)
        if not rows:
            return None
        no, began, sure, at, ended, ok, level, said, results, before, after, *where = rows[0]
        found, policy = (RunId(str(where[0])), str(where[1])) if across else (run, "")
        return Seen(
            run=found,
            no=cast("int", no),
            began=cast("int", began),
            sure=bool(sure),
            at_us=cast("int", at),
            ended=bool(ended),
            succeeded=bool(ok),
            level=str(level),
            why=str(said),
            results=_texts(results),
            before=_texts(before),
            after=_texts(after),
            key=load_key(self._db, found),
            policy=policy,
        )

    def last_write(self, subject: str, *, but: tuple[RunId, int] | None) -> LastWrite:
        """The write to a subject that ended last, in any run; one that is open goes first."""
        where, values = _overlapping(subject)
        for name, run, no in self._rows(f"SELECT subject, run, no FROM subjects WHERE {where}", *values):  # noqa: S608 - placeholders only
            if (run, no) != but and overlap(str(name), subject):
                return LastWrite(open=True, subject=str(name), step=f"{str(run)[:4]}.{no}")
        last = LastWrite()
        sql = f"SELECT subject, ended, run, no, prev_ended, prev_run, prev_no FROM written WHERE {where}"  # noqa: S608 - the same
        for name, ended, run, no, prev_ended, prev_run, prev_no in self._rows(sql, *values):
            if not overlap(str(name), subject):
                continue
            if (run, no) == but:
                ended, run, no = prev_ended, prev_run, prev_no  # noqa: PLW2901 - the one before stands for it
            if isinstance(ended, int) and ended > last.ended:
                last = LastWrite(ended=ended, subject=str(name), step=f"{str(run)[:4]}.{no}")
        return last

    def in_flight(self, subject: str, *, but: tuple[RunId, int] | None = None) -> str:
        """A step that may be writing to a subject right now, if there is one; not one that may write anything."""
        where, values = _overlapping(subject)
        joined = "SELECT subject, w.run, w.no FROM subjects w JOIN steps s ON s.run = w.run AND s.no = w.no"
        sql = f"{joined} WHERE ({where}) AND s.outcome IS NULL"
        for name, run, no in self._rows(sql, *values):
            if name != EVERYTHING and (run, no) != but and overlap(str(name), subject):
                return f"{str(run)[:4]}.{no}"
        return ""

    def spent(self, key: str) -> bool:
        """Whether an intent has used this up."""
        return bool(self._rows("SELECT 1 FROM spent WHERE key = ?", key))


def _overlapping(subject: str) -> tuple[str, tuple[str, ...]]:
    """Rows that may overlap a subject, as a condition on the key."""
    name, colon, key = subject.partition(":")
    if subject == EVERYTHING:
        return "1", ()
    if not colon:
        return "subject IN (?, ?) OR (subject >= ? AND subject < ?)", (EVERYTHING, name, f"{name}:", f"{name};")
    exact = [EVERYTHING, name, subject]
    if name != FILE:
        return "subject IN (?, ?, ?)", tuple(exact)
    exact = [EVERYTHING, name, *(f"{FILE}:{path}" for path in ancestors(key))]
    folder = subject.rstrip("/")
    marks = ",".join("?" * len(exact))
    return f"subject IN ({marks}) OR (subject >= ? AND subject < ?)", (*exact, f"{folder}/", f"{folder}0")


def _texts(text: object) -> dict[str, str]:
    return cast("dict[str, str]", json.loads(str(text)))


def begin_dues(batch: Batch, step: SupportedStep, no: int, at: int) -> str:
    """With an intent, before it is appended: what it cites, opens and is a sighting of. Gives its fields about that."""
    dues, evidence = step.decision.dues, step.support.evidence
    if evidence:
        _cite(batch, evidence, step.run_id, no, at)
    if dues.opens or dues.sightings:
        _open(batch, step, no, at)
    if dues.undo is not None:
        begin_undo(batch, step, no)
    if step.decision.charge.once and step.cause is Cause.AGENT:
        use_keys(batch, step, no)
    return entries.terms(dues.opens, evidence)


def _open(batch: Batch, step: SupportedStep, no: int, at: int) -> None:
    dues, began = step.decision.dues, batch.pos
    # Of a call that is only observed nobody looks whether it succeeded, so it is a later one and never a pass.
    looked_at = step.decision.mode is not Mode.OBSERVE
    for subject in dues.opens:
        batch.later(_OPEN, subject, step.run_id, no, began)
    for sighting in dues.sightings:
        before = {glob: step.support.files[glob] for glob in sighting.unchanged if glob in step.support.files}
        sure = int(sighting.sure and looked_at)
        batch.later(_SIGHT, step.run_id, sighting.pattern, no, began, sure, at, compact(dict(before)).decode())


def _cite(batch: Batch, evidence: Iterable[Evidence], run: RunId, no: int, at: int) -> None:
    """Record what an intent rests on, and use up what serves once. Called before the intent is appended."""
    for one in evidence:
        ended = batch.pos
        seq, _ = batch.append(Kind.EVIDENCE_GATHERED, entries.gathered(one, ended), at, run=run, no=no)
        batch.later(
            _EVIDENCE,
            one.id,
            run,
            no,
            one.kind,
            one.level,
            Answer.KEPT,
            entries.storable(one.subject),
            one.began,
            ended,
            at,
            one.expires_us,
            batch.writer,
            seq,
        )
    for key in dict.fromkeys(one.spend for one in evidence if one.spend):
        batch.append(Kind.EVIDENCE_CONSUMED, entries.consumed(key), at, run=run, no=no)
        batch.later("INSERT INTO spent(key, run, no) VALUES(?,?,?)", key, run, no)


def end_dues(batch: Batch, step: SupportedStep, no: int, ending: entries.Ending) -> None:
    """With an outcome that was appended last: the writes it ends.

    One whose outcome is not known stays open; one that never was, is gone.
    """
    dues, run = step.decision.dues, step.run_id
    if ending.acted is not Acted.NO and ending.outcome == "unknown":
        return
    for subject in dues.opens:
        end_write(batch, subject, run, no, written=ending.acted is not Acted.NO)
    for sighting in dues.sightings:
        said = "" if ending.failure is None else f"{ending.failure.failure}/{ending.failure.reason}"
        results, after = "{}", "{}"
        level = "E1"
        if isinstance(step, VerifiedStep):
            level = max((found.level for found in step.findings if found.answer is Answer.KEPT), default="E1")
            after = compact({glob: step.files[glob] for glob in sighting.unchanged if glob in step.files}).decode()
            if sighting.results and isinstance(step.outcome, Returned):
                kept = _results(sighting.results, step.outcome.structured, load_key(batch.db, run))
                results = compact(kept).decode()
        passed = ending.failure is None and ending.done
        said = said or ("" if ending.done else "it asked for something first")
        batch.later(_END_SIGHT, int(passed), level, said, results, after, run, sighting.pattern, no)


def end_write(batch: Batch, subject: str, run: str, no: int, *, written: bool) -> None:
    """Close one write of a step; `written` where it may have changed its subject."""
    batch.later(_SHUT, subject, run, no)
    if written:
        batch.later(_WRITTEN, subject, batch.pos - 1, run, no)  # where the outcome stands, which was appended last


def _results(paths: Iterable[str], structured: Json, key: bytes) -> dict[str, Json]:
    kept: dict[str, Json] = {}
    for path in paths:
        try:
            kept[path] = keyed(key, take(path, {"result": structured}))
        except AbsentError:
            continue
    return kept
