"""Where the values of a run stood before: digests under the run's own key, so that the file tells no value."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from soothsayer_mcp.adapters.store.batch import Batch, RunRow, load_key
from soothsayer_mcp.model.facts import Origin, Seen, ValueQuestion

MOST_VALUES: Final = 50_000
"""Values of one run; past it, that one is not found says nothing."""
_AT_ONCE: Final = 500
_BITS: Final[Mapping[Origin, int]] = {Origin.FIRST_PARTY: 1, Origin.UNTRUSTED: 2, Origin.APPROVED: 4}
_SETS: Final = tuple(
    frozenset(origin for origin, bit in _BITS.items() if bits & bit) for bits in range(2 ** len(_BITS))
)

_MISSED = "SELECT values_missed FROM runs WHERE id = ?"
_PUT = (
    "INSERT INTO origins(run, value, origins) VALUES(?,?,?)"
    " ON CONFLICT(run, value) DO UPDATE SET origins = origins | excluded.origins"
)


def recall_values(db: sqlite3.Connection, questions: Sequence[ValueQuestion]) -> dict[ValueQuestion, Seen]:
    """Answer what can be answered; what the file cannot tell is absent."""
    answers: dict[ValueQuestion, Seen] = {}
    for run in dict.fromkeys(question.run for question in questions):
        asked = [question for question in questions if question.run == run]
        with contextlib.suppress(sqlite3.Error):
            answers |= _of_run(db, run, asked)
    return answers


def _of_run(db: sqlite3.Connection, run: str, asked: Sequence[ValueQuestion]) -> dict[ValueQuestion, Seen]:
    key = load_key(db, run)
    row = cast("tuple[int] | None", db.execute(_MISSED, (run,)).fetchone())
    if not key or row is None:
        return {}
    digests = {question: _digest(key, question.value) for question in asked}
    found = _found(db, run, digests.values())
    missed = _SETS[row[0]]
    return {question: Seen(_SETS[found.get(digest, 0)], missed) for question, digest in digests.items()}


def keep_values(batch: Batch, row: RunRow, values: Iterable[str] | None, origin: Origin) -> None:
    """Remember where values stood; `None` when they are not kept, which the run remembers too."""
    bit = _BITS[origin]
    counters = row.counters
    if values is not None:
        key = load_key(batch.db, row.id)
        digests = {_digest(key, value) for value in values} if key else set[bytes]()
        batch.flush()  # what earlier items of this batch kept counts
        found = _found(batch.db, row.id, digests)
        fresh = sum(digest not in found for digest in digests)
        if key and counters.values_kept + fresh <= MOST_VALUES:
            for digest in digests:
                if not found.get(digest, 0) & bit:
                    batch.later(_PUT, row.id, digest, bit)
            row.counters = counters._replace(values_kept=counters.values_kept + fresh)
            return
    row.counters = counters._replace(values_missed=counters.values_missed | bit)


def _found(db: sqlite3.Connection, run: str, digests: Iterable[bytes]) -> dict[bytes, int]:
    wanted = list(digests)
    found: dict[bytes, int] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        sql = f"SELECT value, origins FROM origins WHERE run = ? AND value IN ({marks})"  # noqa: S608 - question marks
        found |= dict(cast("list[tuple[bytes, int]]", db.execute(sql, (run, *some)).fetchall()))
    return found


def _digest(key: bytes, value: str) -> bytes:
    return hashlib.blake2b(value.encode(errors="surrogatepass"), key=key, digest_size=16, person=b"origin").digest()
