"""How often the calls of a run got the same answer: keyed digests of call and answer, and a count."""

import hmac
from typing import cast

from soothsayer_mcp.adapters.store.batch import Batch, RunRow
from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.step import VerifiedStep
from soothsayer_mcp.run.repeat import KEPT_CHANGES, Repeat, comparable, count_answer

KEY_BYTES = 16
_SWEEP_EVERY = 64
_FIND = "SELECT n, since, at FROM repeats WHERE run = ? AND call = ? AND answer = ?"
_OFTEN = "SELECT n, since, at FROM repeats WHERE run = ? AND call = ? AND since = ? ORDER BY n DESC LIMIT 1"
_KEEP = (
    "INSERT INTO repeats(run, call, answer, n, since, at) VALUES(?,?,?,?,?,?)"
    " ON CONFLICT(run, call, answer) DO UPDATE SET n = excluded.n, since = excluded.since, at = excluded.at"
)
_SWEEP = "DELETE FROM repeats WHERE run = ? AND since < ?"
FORGET = "DELETE FROM repeats WHERE run = ?"


def answer_key(step: VerifiedStep, key: hmac.HMAC) -> bytes | None:
    """The keyed digest of an answer; `None` where policy asks for no comparison, or where no answer came."""
    if step.decision.charge.repeats_most is None:
        return None
    said = comparable(step.outcome)
    if said is None:
        return None
    keyed = key.copy()
    keyed.update(b"answer\0" + said)
    return keyed.digest()[:KEY_BYTES]


def find_repeat(batch: Batch, row: RunRow, charge: Charge, call: bytes) -> Repeat | None:
    """The answer that a call got most often since something last changed; looked up only where one came too often."""
    most, counters = charge.repeats_most, row.counters
    if most is None or counters.most_same < most:
        return None
    found = cast("tuple[int, int, int] | None", batch.db.execute(_OFTEN, (row.id, call, counters.changes)).fetchone())
    return None if found is None else Repeat(*found)


def count_repeat(
    batch: Batch, row: RunRow, charge: Charge, keys: tuple[bytes, bytes], at: int, *, changes: bool
) -> int:
    """Count an answer of a call, by their keys, and tell how often it has come."""
    found = cast("tuple[int, int, int] | None", batch.db.execute(_FIND, (row.id, *keys)).fetchone())
    row.counters, now = count_answer(
        row.counters, None if found is None else Repeat(*found), charge, at, changes=changes
    )
    # Not `later`: the next step of this batch may ask.
    batch.db.execute(_KEEP, (row.id, *keys, *now))
    if found is None and row.counters.changes % _SWEEP_EVERY == 0:
        batch.db.execute(_SWEEP, (row.id, row.counters.changes - KEPT_CHANGES))
    return now.n
