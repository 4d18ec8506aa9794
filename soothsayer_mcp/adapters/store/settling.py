"""Steps whose outcome is not known: settled later, and until then in the way of the same call."""

from collections.abc import Sequence
from typing import cast

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.held import end_dues, end_write
from soothsayer_mcp.adapters.store.items import Item, came_by_task, known
from soothsayer_mcp.adapters.store.marks import end_marks
from soothsayer_mcp.adapters.store.payloads import Payload
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.settlement import Settlement
from soothsayer_mcp.model.step import VerifiedStep
from soothsayer_mcp.ports import Close, PortError
from soothsayer_mcp.trace import entries

_STEP = "SELECT outcome, acted, does, cause FROM steps WHERE run = ? AND no = ?"
_OWES = (
    "SELECT 1 FROM entries e, json_each(e.body, '$.obligations') o WHERE e.run = ? AND e.no = ?"
    " AND e.kind = 'step.intent' AND o.value LIKE 'verify%'"
)
_SETTLED = "INSERT INTO settlements(run, no, how, told) VALUES(?,?,?,?)"
_WRITES = "SELECT subject FROM subjects WHERE run = ? AND no = ?"


class SettleItem(Item[bool]):
    """Ends an unknown. False while its step has not ended yet: then nothing is written."""

    reads = True

    def __init__(
        self,
        settlement: Settlement,
        step: VerifiedStep | None = None,
        *,
        result: Payload | None = None,
        findings: Sequence[Finding] = (),
        close: Close | None = None,
    ) -> None:
        """`step` is the step with the answer that came late; `None` where somebody says how it ended.

        `findings` are those of its checks, where there is no answer. `close` chooses what becomes of the run, where the
        agent goes on by that answer.
        """
        super().__init__()
        self._findings = tuple(findings) if step is None else step.findings
        self._settlement = settlement
        self._step = step
        self._close = close
        self._result = result
        self.size = 0 if result is None else result.size

    def apply(self, batch: Batch) -> bool:
        """Write what is known now. Raises `PortError` where there is nothing to settle."""
        told = self._settlement
        row = known(batch, told.run)
        found = batch.db.execute(_STEP, (told.run, told.no)).fetchone()
        if found is None:
            raise PortError(Reason.RUN_UNKNOWN, f"there is no step {told.run[:4]}.{told.no}", acted=Acted.NO)
        outcome, acted, does, cause = cast("tuple[str | None, str, str, str]", found)
        if outcome is None:
            return False
        if outcome != "unknown" or acted != Acted.MAYBE:
            summary = f"step {told.run[:4]}.{told.no} is not unknown"
            raise PortError(Reason.STATE_CHANGED, summary, acted=Acted.NO)
        at, step = batch.now(), self._step
        for finding in self._findings:
            batch.append(Kind.STEP_FINDING, entries.finding(finding), at, run=row.id, no=told.no)
        tail = entries.settled(told, "" if self._result is None else self._result.field)
        parts = [] if self._result is None else [("result", self._result)]
        batch.append(Kind.STEP_SETTLED, tail, at, run=row.id, no=told.no, parts=parts)
        batch.later("UPDATE steps SET acted = ? WHERE run = ? AND no = ?", told.acted, row.id, told.no)
        batch.later(_SETTLED, row.id, told.no, told.how, int(told.told or told.acted is Acted.NO))
        if step is None:
            self._end_writes(batch)
        else:
            end_dues(batch, step, told.no, entries.ending(step))
        ended_well = told.acted is Acted.YES if step is None else step.failure is None
        end_marks(batch, row.id, told.no, "ok" if ended_well else "failed")
        if not self._owes(batch) and cause == Cause.AGENT and not entries.only_reads(does.split(",")):
            counters = row.counters
            row.counters = counters._replace(unverified_writes=max(0, counters.unverified_writes - 1))
        if step is not None and self._close is not None:
            came_by_task(batch, row, step, self._close, at)
        row.version += 1
        batch.changed(row)
        return True

    def _end_writes(self, batch: Batch) -> None:
        """What it may have been writing to is written, or never was."""
        told = self._settlement
        for (subject,) in batch.db.execute(_WRITES, (told.run, told.no)).fetchall():
            end_write(batch, str(subject), told.run, told.no, written=told.acted is Acted.YES)

    def _owes(self, batch: Batch) -> bool:
        """Whether a check of it is still not kept."""
        if self._settlement.acted is Acted.NO:
            return False
        if self._findings:
            return any(finding.answer is not Answer.KEPT for finding in self._findings)
        return batch.db.execute(_OWES, (self._settlement.run, self._settlement.no)).fetchone() is not None
