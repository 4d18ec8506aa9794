"""What undoing writes: a confirmed plan, what became of each step, and whether a step had happened at all."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.debts import load_debts
from soothsayer_mcp.adapters.store.items import PROXY, Item, change_state, known
from soothsayer_mcp.adapters.store.settling import SettleItem
from soothsayer_mcp.model.call import Cause, RunId
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.model.settlement import How, Settlement
from soothsayer_mcp.model.undo import Done, UndoState
from soothsayer_mcp.trace import entries

_STEP = "SELECT cause, does FROM steps WHERE run = ? AND no = ?"
_STATE = (
    "INSERT INTO undo(run, no, class, state, undone_by) VALUES(?, ?, 'never', ?, ?)"
    " ON CONFLICT(run, no) DO UPDATE SET state = excluded.state, undone_by = excluded.undone_by"
)


class PlanItem(Item[None]):
    """A plan that was confirmed."""

    def __init__(self, run: RunId, plan: str, *, undo: Sequence[int], left: Sequence[int], by: str) -> None:
        super().__init__()
        self._run = run
        self._tail = entries.undo_planned(
            plan=f"sha256:{plan}",
            undo=[f"{run}.{no}" for no in undo],
            left=[f"{run}.{no}" for no in left],
            by=by,
        )

    def apply(self, batch: Batch) -> None:
        """Write the entry."""
        known(batch, self._run)
        batch.append(Kind.UNDO_PLANNED, self._tail, batch.now(), run=self._run)


class UndoneItem(Item[None]):
    """What became of one step."""

    reads = True

    def __init__(self, run: RunId, no: int, done: Done, *, plan: str, settle: Acted | None, pause: str = "") -> None:
        super().__init__()
        self._pause = pause
        self._run = run
        self._no = no
        self._done = done
        self._settle = settle
        self._tail = entries.step_undo(
            plan=f"sha256:{plan}",
            state=done.state,
            by_step=done.by_step,
            before=done.before,
            after=done.after,
            reason=done.why[:200],
        )

    def apply(self, batch: Batch) -> None:
        """Write the entries and the rows."""
        at, run, no = batch.now(), self._run, self._no
        row = known(batch, run)
        if self._settle is not None:
            # The captured state has told whether the step had its effect.
            told = Settlement(run=run, no=no, acted=self._settle, how=How.CAPTURE)
            SettleItem(told).apply(batch)
        if self._done.state is UndoState.UNDONE and self._was_owed(batch):
            row.counters = row.counters._replace(unverified_writes=max(0, row.counters.unverified_writes - 1))
        batch.append(Kind.STEP_UNDO, self._tail, at, run=run, no=no)
        batch.later(_STATE, run, no, self._done.state, self._done.by_step or None)
        row.last_at = at
        if self._pause and row.state is RunState.OPEN:
            change_state(batch, row, RunState.PAUSED, reason=self._pause[:200], by=PROXY, at=at)
        batch.changed(row)

    def _was_owed(self, batch: Batch) -> bool:
        """Whether it was a write of the agent's of which a check was not kept: undone and verified, it owes nothing."""
        batch.flush()
        found = batch.db.execute(_STEP, (self._run, self._no)).fetchone()
        if found is None or found[0] != Cause.AGENT or entries.only_reads(str(found[1]).split(",")):
            return False
        return any(no == self._no for no, _, _ in load_debts(batch.db, self._run).unkept)


class UndoLog:
    """Implements `rollback.UndoBook`."""

    def __init__(self, submit: Callable[[Item[Any]], Awaitable[Any]]) -> None:
        """`submit` has an item written and waits for its receipt."""
        self._submit = submit

    async def record_plan(self, run: RunId, plan: str, *, undo: Sequence[int], left: Sequence[int], by: str) -> None:
        """Record that a plan was confirmed."""
        await self._submit(PlanItem(run, plan, undo=undo, left=left, by=by))

    async def record_undo(
        self, run: RunId, no: int, done: Done, *, plan: str, settle: Acted | None, pause: str = ""
    ) -> None:
        """Record what became of one step, whether it had happened where that was not known, and pause its run."""
        await self._submit(UndoneItem(run, no, done, plan=plan, settle=settle, pause=pause))
