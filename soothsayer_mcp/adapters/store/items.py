"""What the writer is asked to write: one class each, applied inside the writer's transaction."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from soothsayer_mcp.adapters.store.asks import is_spent, load_ask, load_grant, spending_key, withdraw_asks
from soothsayer_mcp.adapters.store.batch import Batch, RunRow, scope_text
from soothsayer_mcp.adapters.store.debts import load_debts
from soothsayer_mcp.adapters.store.held import HeldRows, begin_dues, end_dues
from soothsayer_mcp.adapters.store.marks import counting, deny_marks, end_marks, open_marks, recall
from soothsayer_mcp.adapters.store.origins import keep_values
from soothsayer_mcp.adapters.store.payloads import Payload, Payloads
from soothsayer_mcp.adapters.store.repeats import FORGET, KEY_BYTES, count_repeat, find_repeat
from soothsayer_mcp.adapters.store.twins import find_repeated, find_twin, told_of
from soothsayer_mcp.adapters.store.undoing import end_undo, undone_by
from soothsayer_mcp.evidence.completion import unmet
from soothsayer_mcp.model.budget import Allowance
from soothsayer_mcp.model.call import Cause, RunId
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.facts import NO_CHARGE, Charge, Facts, Origin, Questions
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.json import Digest, Json, compact
from soothsayer_mcp.model.outcome import Aside, Asked, Refused, Returned
from soothsayer_mcp.model.run import (
    TRANSITIONS,
    Closing,
    Counters,
    Debts,
    NextStep,
    Run,
    RunBinding,
    RunRules,
    RunScope,
    RunState,
)
from soothsayer_mcp.model.step import SupportedStep, VerifiedStep
from soothsayer_mcp.ports import Admit, Close, Note, PortError, Standing
from soothsayer_mcp.run import count
from soothsayer_mcp.run.gate import missing
from soothsayer_mcp.trace import entries
from soothsayer_mcp.undo.kept import PART

Result = TypeVar("Result")

PROXY = "soothsayer"
"""Who did what nobody asked for: by whom a run was completed for idleness, or stopped for a lost outcome."""


UNLABELLED = "unlabelled"
"""What stands for labels in a decision about a tool that has none."""


NO_POLICY = 0
"""The number that stands for the policy of a run which no call has come to yet."""


class Item(Generic[Result]):
    """Something to write, and who waits for it.

    Whoever claims an item decides its fate: the writer writes it, or the one who waited gives it up and it is never
    written.
    """

    reads = False
    """Whether applying it reads rows that other items of the batch may have written."""
    hard = True
    """Whether it is synced at once where outcomes need not be."""
    owed = False
    """Whether it is tried again when a commit fails."""

    def __init__(self) -> None:
        self._claim = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.future: asyncio.Future[Result] | None = None
        self.done: threading.Event | None = None
        """Set when there is a result or an error, for threads without a loop."""
        self.result: Result | None = None
        self.error: PortError | None = None
        self.size = 0

    def claim(self) -> bool:
        """Take the item; false when somebody else has it."""
        return self._claim.acquire(blocking=False)

    def release(self) -> None:
        """Give a claimed item back, to be tried again."""
        self._claim.release()

    def apply(self, batch: Batch) -> Result:
        """Add it to the transaction. Raises `PortError`, and then has added nothing that counts."""
        raise NotImplementedError

    def refusal(self, why: str) -> PortError:
        """What the one who waits is told when it cannot be written."""
        return PortError(Reason.TRACE_UNAVAILABLE, why, acted=Acted.NO)

    @property
    def gave_up(self) -> bool:
        """Whether the one who waited was told that it is not on record; else nobody waits because of a cancel."""
        future = self.future
        return future is not None and future.done() and not future.cancelled() and future.exception() is not None

    def orphaned(self) -> "Item[None] | None":
        """What has to be written too when it became durable and nobody waits for it."""
        return None

    def committed(self) -> None:
        """Called by the writer after the commit."""

    def settled(self) -> None:
        """Called by the writer when the commit came or failed."""


class Recorded:
    """What commit A gave: where the entry stands and, for a withheld step, how it ended."""

    __slots__ = ("leaf", "next_step", "no", "outcome", "run", "seq", "why")

    def __init__(
        self,
        *,
        seq: int,
        leaf: bytes,
        no: int,
        run: Run,
        outcome: Refused | Asked | None,
        next_step: NextStep | None,
        why: str,
    ) -> None:
        self.seq = seq
        self.leaf = leaf
        self.no = no
        self.run = run
        self.outcome = outcome
        self.next_step = next_step
        self.why = why


class IntentItem(Item[Recorded]):
    """Commit A."""

    def __init__(
        self,
        step: SupportedStep,
        admit: Admit,
        close: Close,
        payloads: Payloads,
        *,
        match: str,
        args: Payload | None,
        context: Payload,
        kept: Mapping[str, Payload | None],
    ) -> None:
        """`kept` is what undoing, and settling, the step would need: payloads by their part."""
        super().__init__()
        self._step = step
        self._admit = admit
        self._close = close
        self._payloads = payloads
        self._parts = [("context", context)] if args is None else [("args", args), ("context", context)]
        self._kept = [(name, one) for name, one in kept.items() if one is not None]
        self._undoing = entries.undoing(step.decision.dues.undo, {name: one.field for name, one in self._kept})
        self.size = sum(part.size for _, part in self._parts)
        # A yes is looked at, and spent, on what earlier items of the batch left of it.
        self.reads = step.support.approval is not None or bool(step.decision.charge.once)
        self._call = bytes.fromhex(match)[:KEY_BYTES]
        self._match = match
        self._tail = entries.proposal(step, "" if args is None else args.field, match) + entries.decision(
            step.decision, context.field
        )

    def apply(self, batch: Batch) -> Recorded:
        """Admit the step on things as they stand, and write its intent or its refusal."""
        step = self._step
        row = known(batch, step.run_id)
        run = row.as_run()
        at, no = batch.now(), row.steps + 1
        outcome = self._admitted(batch, row, run, at)
        tail, trace = self._tail, entries.trace_context(step, run.id)
        closing = None
        if step.support.newly_asked:
            row.counters = count.asked(row.counters, step.cause)
        if outcome is None:
            row.counters = count.admitted(row.counters, step.cause, step.decision.charge)
            if step.decision.charge.marks and step.cause is Cause.AGENT:
                open_marks(batch, step.decision.charge.marks, run.id, no, at)
            tail += begin_dues(batch, step, no, at) + self._undoing + entries.deadline(step.decision.timeout_s)
            tail += entries.approved(step.support.approval) + trace
            parts = [*self._parts, *self._kept]
            seq, leaf = batch.append(Kind.STEP_INTENT, tail, at, run=run.id, no=no, parts=parts)
            ending, failure, next_step, why, dur_us = (None, None), None, None, "", None
            if step.support.approval is not None and not step.support.approval.grant:
                spend = "INSERT INTO spent(key, run, no) VALUES(?, ?, ?)"
                batch.later(spend, spending_key(step.support.approval), run.id, no)
                if (targets := step.decision.reads.targets) is not None:
                    keep_values(batch, row, targets(step.proposal.arguments), Origin.APPROVED)
        else:
            failure = outcome.failure
            asked = isinstance(outcome, Asked)
            row.counters = count.withheld(row.counters, step.cause, failure.reason, asked=asked)
            if step.decision.charge.marks and not asked and step.cause is Cause.AGENT:
                deny_marks(batch, step.decision.charge.marks, run.id, no, at)
            closing = self._close(row.as_run(), step, failure)
            next_step, why = closing.next_step, closing.why
            kind, ask = (Kind.STEP_ASKED, outcome.ask) if isinstance(outcome, Asked) else (Kind.STEP_REFUSED, "")
            said = self._payloads.ready(failure.agent_text(f"{run.id[:4]}.{no}").encode(errors="replace"))
            dur_us = _since(step.began_ns)
            tail += entries.withheld(
                failure, said=said.field, next_step=next_step, why=why, dur_us=dur_us, ask=ask, trace=trace
            )
            seq, leaf = batch.append(kind, tail, at, run=run.id, no=no, parts=[*self._parts, ("said", said)])
            ending = ("failed", Acted.NO)
            row.failed += 1
            row.asked += kind is Kind.STEP_ASKED
        if step.support.ask:
            batch.later("UPDATE approvals SET no = ? WHERE id = ? AND no = 0", no, step.support.ask)
        decision, proposal = step.decision, step.proposal
        policy = _policy_of(batch, step, at, sent=outcome is None)
        batch.add_step(
            (
                run.id,
                no,
                step.id,
                batch.writer,
                at,
                step.cause,
                entries.storable(step.of_step) or None,
                entries.storable(step.continues or step.support.continues) or None,
                entries.storable(proposal.server),
                entries.storable(proposal.tool),
                ",".join(decision.does),
                policy,
                decision.effect,
                decision.would,
                entries.storable(decision.rules[0].id) if decision.rules else None,
                None if decision.risk is None else decision.risk.high,
                int(decision.effect is Effect.ASK),
                *ending,
                None if failure is None else failure.failure,
                None if failure is None else failure.reason,
                next_step,
                dur_us,
            )
        )
        row.steps = no
        row.last_at = at
        if closing is not None:
            _close_run(batch, row, closing, at)
        batch.changed(row)
        return Recorded(seq=seq, leaf=leaf, no=no, run=row.as_run(), outcome=outcome, next_step=next_step, why=why)

    def _admitted(self, batch: Batch, row: RunRow, run: Run, at: int) -> Refused | Asked | None:
        """Ask for admission on things as they stand."""
        step = self._step
        if step.cause is Cause.UNDO and step.of_step:
            other = undone_by(batch, step)
            if other:
                return Refused(failure=Failure(reason=Reason.DUPLICATE_CALL, summary=other))
        standing = _standing(batch, run, step, at)
        repeat = find_repeat(batch, row, step.decision.charge, self._call)
        if repeat is not None:
            standing = replace(standing, repeat=repeat)
        if step.decision.charge.once and step.cause is Cause.AGENT:
            standing = replace(standing, twin=find_repeated(batch, step))
            if standing.twin is not None:
                return self._admit(standing, step)
        # Nothing is looked up where no step of the run ever ended as unknown, nor for what only reads.
        if not row.unknown or step.cause is not Cause.AGENT or entries.only_reads(step.decision.does):
            return self._admit(standing, step)
        twin = find_twin(batch, step, run.id, self._match)
        outcome = self._admit(replace(standing, twin=twin), step)
        if twin is not None and outcome is not None and outcome.failure.reason is Reason.DUPLICATE_CALL:
            told_of(batch, run.id, twin)
        return outcome

    def orphaned(self) -> "Item[None] | None":
        """An intent that nobody forwards is closed: nothing was sent."""
        if self.error is not None or self.result is None or self.result.outcome is not None:
            return None
        late = self.gave_up
        reason, summary = (
            (Reason.TRACE_UNAVAILABLE, "its receipt came too late") if late else (Reason.WITHDRAWN, "by the host")
        )
        failure = Failure(reason=reason, summary=summary, certainly_not_acted=True)
        return EndItem(self._step, self.result.no, failure)


def _policy_of(batch: Batch, step: SupportedStep, at: int, *, sent: bool) -> int:
    """The number of the policy that decided; what is sent under it is noted, for patterns of other policies."""
    policy, proposal = batch.policy(step.decision.policy_digest, at), step.proposal
    if sent and step.cause is Cause.AGENT:
        batch.used(step.run_id, policy, entries.storable(proposal.server), entries.storable(proposal.tool))
    return policy


def _standing(batch: Batch, run: Run, step: SupportedStep, at: int) -> Standing:
    approval = step.support.approval
    held = HeldRows(batch.db, batch.flush)
    if approval is None:
        return Standing(run=run, recall=_recalls(batch), held=held, now_us=at)
    if approval.grant:
        grant = load_grant(batch.db, approval.grant)
        return Standing(run=run, recall=_recalls(batch), held=held, now_us=at, grant=grant)
    ask = load_ask(batch.db, approval.ask)
    if ask is not None:
        ask = replace(ask, spent=is_spent(batch.db, spending_key(approval)))
    return Standing(run=run, recall=_recalls(batch), held=held, now_us=at, ask=ask)


class Closed:
    """What commit B gave."""

    __slots__ = ("closing", "leaf", "run", "seq")

    def __init__(self, *, seq: int, leaf: bytes, closing: Closing, run: Run) -> None:
        self.seq = seq
        self.leaf = leaf
        self.closing = closing
        self.run = run


class OutcomeItem(Item[Closed]):
    """Commit B."""

    hard = False
    owed = True

    def __init__(
        self,
        step: VerifiedStep,
        close: Close,
        *,
        result: Payload | None,
        said: Payload | None,
        stored: Aside | None = None,
        same: tuple[bytes, bytes] | None = None,
        kept: Payload | None = None,
    ) -> None:
        super().__init__()
        self._step = step
        self._same = same if step.cause is Cause.AGENT else None
        self.stored = stored
        self._given = None if stored is None else len(stored.beginning.encode())
        shown = isinstance(step.outcome, Returned) and not entries.answer_is_ours(step)
        self._size = len(step.outcome.raw) if shown and isinstance(step.outcome, Returned) else 0
        if self._given is not None:
            self._size = self._given
        self._close = close
        self._values = _values(step) if self._size else None
        self._suspect = self._size > 0 and _is_suspect(step)
        self._result = "" if result is None else result.field
        self._said = "" if said is None else said.field
        self._kept = "" if kept is None else kept.field
        parts = (("result", result), ("said", said), (PART, kept))
        self._parts = [(name, part) for name, part in parts if part is not None]
        self.size = sum(part.size for _, part in self._parts)

    def apply(self, batch: Batch) -> Closed:
        """Write the findings and the outcome, and close on the run as it stands."""
        step = self._step
        row = known(batch, step.run_id)
        at, no = batch.now(), step.intent.no
        ending = entries.ending(step)
        _settle(batch, row, step.cause, step.decision.charge, no, ending, size=self._size, owes=_owes(step, ending))
        if self._size and step.cause is Cause.AGENT:
            _has_read(batch, row, step, self._values, suspect=self._suspect)
        same = 0 if self._same is None else self._count_answer(batch, row, self._same, at, ending)
        run = row.as_run()
        closing = self._close(replace(run, same_answers=same) if same else run, step, ending.failure)
        dur_us = _since(step.began_ns)
        for found in step.findings:
            batch.append(Kind.STEP_FINDING, entries.finding(found), at, run=run.id, no=no)
        tail = entries.outcome(
            step,
            result=self._result,
            said=self._said,
            next_step=closing.next_step,
            why=closing.why,
            dur_us=dur_us,
            ending=ending,
            beginning=self._given,
            capture=self._kept,
        )
        seq, leaf = batch.append(Kind.STEP_OUTCOME, tail, at, run=run.id, no=no, parts=self._parts)
        tool_us = getattr(step.outcome, "tool_us", None)
        _end(batch, row, no, ending, closing.next_step, dur_us=dur_us, tool_us=tool_us)
        if step.decision.dues.opens or step.decision.dues.sightings:
            end_dues(batch, step, no, ending)
        if step.decision.dues.undo is not None and ending.acted is Acted.NO:
            end_undo(batch, step.run_id, no)
        row.last_at = at
        _close_run(batch, row, closing, at)
        batch.changed(row)
        return Closed(seq=seq, leaf=leaf, closing=closing, run=row.as_run())

    def _count_answer(
        self, batch: Batch, row: RunRow, same: tuple[bytes, bytes], at: int, ending: entries.Ending
    ) -> int:
        """Count the answer, and tell how often it has come. What nobody labelled is no write that is known."""
        decision = self._step.decision
        wrote = decision.charge.write and ending.failure is None and UNLABELLED not in decision.does
        return count_repeat(batch, row, decision.charge, same, at, changes=wrote)

    def refusal(self, why: str) -> PortError:
        """The outcome is not on record; whether the tool acted, only the step knows."""
        return PortError(Reason.OUTCOME_LOST, why, acted=Acted.NO if self._step.acted is Acted.NO else Acted.MAYBE)

    def orphaned(self) -> "Item[None] | None":
        """Whoever was told that this outcome is not on record goes on as if it were not: the run stops.

        Where the caller only went away, it is recorded as it should be.
        """
        return self.lost() if self.gave_up else None

    def lost(self) -> "EndItem":
        """What is written instead once it can be: the outcome is lost and the run stops."""
        failure = Failure(reason=Reason.OUTCOME_LOST, summary="", certainly_not_acted=self._step.acted is Acted.NO)
        step = self._step
        return EndItem(step, step.intent.no, failure, stop=True)


class EndItem(Item[None]):
    """Ends a step whose own outcome cannot be written any more, if it is still open."""

    owed = True
    reads = True

    def __init__(self, step: SupportedStep, no: int, failure: Failure, *, stop: bool = False) -> None:
        super().__init__()
        self.run = step.run_id
        self._step = step
        self._no = no
        self._failure = failure
        self._stop = stop

    def apply(self, batch: Batch) -> None:
        """Write the end, if nobody wrote one, and stop the run where that is due."""
        row = known(batch, self.run)
        at = batch.now()
        sql = "SELECT 1 FROM steps WHERE run = ? AND no = ? AND outcome IS NULL"
        if batch.db.execute(sql, (self.run, self._no)).fetchone() is not None:
            failure = self._failure
            unknown = failure.acted is Acted.MAYBE
            ending = entries.Ending(outcome="unknown" if unknown else "failed", failure=failure, acted=failure.acted)
            next_step = NextStep.STOP if self._stop else following(row)[0]
            batch.append(Kind.STEP_OUTCOME, entries.lost_outcome(ending, next_step), at, run=self.run, no=self._no)
            _end(batch, row, self._no, ending, next_step, dur_us=_since(self._step.began_ns), tool_us=None)
            step = self._step
            _settle(batch, row, step.cause, step.decision.charge, self._no, ending, size=0, owes=unknown)
            end_dues(batch, step, self._no, ending)
        if self._stop and RunState.STOPPED in TRANSITIONS[row.state]:
            change_state(batch, row, RunState.STOPPED, reason=Reason.OUTCOME_LOST, by=PROXY, at=at)
        batch.changed(row)


class NoteItem(Item[None]):
    """An entry that is no step."""

    hard = False

    def __init__(self, note: Note, payloads: Payloads) -> None:
        super().__init__()
        self._note = note
        self._parts = [
            (name, payloads.ready(raw, always_full=name in entries.ALWAYS_FULL)) for name, raw in note.payloads.items()
        ]
        self._tail = entries.note(note.kind, note.fields, {name: part.field for name, part in self._parts})
        self.size = sum(part.size for _, part in self._parts)

    def apply(self, batch: Batch) -> None:
        """Write the entry."""
        note, at = self._note, batch.now()
        batch.append(note.kind, self._tail, at, run=note.run, parts=self._parts)
        if note.kind is Kind.POLICY_LOADED:
            name = str(note.fields.get("name", ""))
            number = batch.policy(Digest(str(note.fields["policy"])), at, name)
            batch.later("UPDATE policies SET name = ? WHERE n = ? AND name = ''", name, number)
            if note.budgets:
                batch.later("UPDATE policies SET budgets = ? WHERE n = ?", compact(note.budgets).decode(), number)
            for mark, (tools, excepts) in note.marks.items():
                counting(batch, number, mark, tools, excepts)


class Bound:
    """The run that a call belongs to."""

    __slots__ = ("failure", "key", "run")

    def __init__(self, run: Run, key: bytes, failure: Failure | None) -> None:
        self.run = run
        self.key = key
        self.failure = failure


class BindItem(Item[Bound]):
    """Finds the run of a call, or opens one."""

    reads = True
    hard = False

    def __init__(
        self,
        binding: RunBinding,
        policy: Digest,
        *,
        idle_us: int,
        fresh: tuple[RunId, bytes],
        intent: Payload | None,
        load_key: Callable[[Batch, RunId], bytes],
    ) -> None:
        super().__init__()
        self._binding = binding
        self._policy = policy
        self._idle_us = idle_us
        self._fresh = fresh
        self._intent = intent
        self._load_key = load_key

    def apply(self, batch: Batch) -> Bound:
        """Find the run, or open it."""
        binding, failure = self._binding, None
        if binding.named:
            row = batch.run(RunId(entries.storable(binding.named)))
            if row is not None and row.principal == entries.storable(binding.principal.id):
                return self._bound(batch, row, None)
            failure = Failure(reason=Reason.RUN_UNKNOWN, summary=ascii(binding.named[:40])[1:-1])
        elif not binding.alone:
            row = self._attached(batch)
            if row is not None:
                return self._bound(batch, row, None)
            if binding.explicit:
                failure = Failure(
                    reason=Reason.RUN_UNKNOWN, summary="none is named, and none was opened for this folder"
                )
        row = self._automatic(batch)
        if row is not None:
            return self._bound(batch, row, failure)
        row = open_run(batch, binding, self._policy, fresh=self._fresh, intent=self._intent)
        return Bound(row.as_run(), self._fresh[1], failure)

    def _bound(self, batch: Batch, row: RunRow, failure: Failure | None) -> Bound:
        abandon_s = self._binding.rules.abandon_s
        if abandon_s is not None and row.state is RunState.PAUSED:
            at = batch.now()
            if at - changed_at(batch, row) >= abandon_s * 1_000_000:
                change_state(batch, row, RunState.FAILED, reason="abandoned", by=PROXY, at=at)
                batch.changed(row)
        return Bound(row.as_run(), self._load_key(batch, row.id), failure)

    def _attached(self, batch: Batch) -> RunRow | None:
        """The newest run that a person opened for this principal and workspace, unless it is completed."""
        binding = self._binding
        sql = (
            "SELECT id FROM runs WHERE attached = 1 AND principal = ? AND workspace = ?"
            " ORDER BY opened_at DESC, id DESC LIMIT 1"
        )
        found = batch.db.execute(
            sql, (entries.storable(binding.principal.id), entries.storable(binding.workspace))
        ).fetchone()
        row = None if found is None else batch.run(RunId(found[0]))
        if row is None or row.state is RunState.COMPLETED:
            return None
        if row.policy == NO_POLICY:
            row.policy = batch.policy(self._policy, batch.now())
            batch.later("UPDATE runs SET policy = ? WHERE id = ?", row.policy, row.id)
        if TRANSITIONS[row.state]:
            return row
        return row if batch.now() - (row.closed_at or row.last_at) < self._idle_us else None

    def _automatic(self, batch: Batch) -> RunRow | None:
        binding = self._binding
        sql = (
            "SELECT id FROM runs WHERE principal = ? AND workspace = ? AND host = ? AND automatic = 1"
            " ORDER BY opened_at DESC LIMIT 1"
        )
        who = (binding.principal.id, binding.workspace, binding.client.name)
        found = batch.db.execute(sql, tuple(map(entries.storable, who))).fetchone()
        row = None if found is None else batch.run(RunId(found[0]))
        if row is None:
            return None
        at = batch.now()
        match row.state:
            case RunState.COMPLETED:
                return None
            case RunState.PAUSED:
                return row
            case RunState.STOPPED | RunState.FAILED:
                # A stop that the next call could shed by opening a fresh run would be none.
                return row if at - (row.closed_at or row.last_at) < self._idle_us else None
            case RunState.OPEN:
                if at - row.last_at < self._idle_us:
                    return row
                lacks = lacking(batch, row.id, load_debts(batch.db, row.id), binding.rules, at)
                if lacks:
                    # Idleness sheds no debts: a person has to look.
                    change_state(batch, row, RunState.PAUSED, reason=f"idle, and {lacks[0]}", by=PROXY, at=at)
                else:
                    change_state(batch, row, RunState.COMPLETED, reason="idle", by=PROXY, at=at)
                batch.changed(row)
                return row if lacks else None


def lacking(batch: Batch, run: RunId, debts: Debts, rules: RunRules, at: int) -> tuple[str, ...]:
    """What stands against completing a run, on the record as it is within the transaction."""
    found = unmet(rules.required, run, HeldRows(batch.db, batch.flush), at)
    return missing(run[:4], debts, refuse_unverified=rules.refuse_unverified, unmet=found)


def open_run(
    batch: Batch,
    binding: RunBinding,
    policy: Digest | None,
    *,
    fresh: tuple[RunId, bytes],
    intent: Payload | None,
    attached: bool = False,
    scope: RunScope | None = None,
    budgets: Mapping[str, int] | None = None,
) -> RunRow:
    """Open a run; `fresh` is its id and key. One that is `attached` takes what its principal calls in its workspace."""
    at = batch.now()
    run_id, key = fresh
    said = ""
    parts: list[tuple[str, Payload]] = []
    if binding.intent is not None and intent is not None:
        said = f'{{"by":"{binding.intent.declared_by}","text":{intent.field}}}'
        parts.append(("intent", intent))
    tail = entries.run_opened(
        principal=(binding.principal.id, binding.principal.how),
        host=(binding.client.name, binding.client.version),
        declares=binding.client.declares,
        workspace=binding.workspace,
        automatic=not attached,
        attached=attached,
        scope=scope_text(scope),
        intent=said,
        policy=policy or "",
        budgets=budgets or {},
    )
    batch.append(Kind.RUN_OPENED, tail, at, run=run_id, parts=parts)
    row = RunRow(
        id=run_id,
        state=RunState.OPEN,
        principal=entries.storable(binding.principal.id),
        how=entries.storable(binding.principal.how),
        host=entries.storable(binding.client.name),
        workspace=entries.storable(binding.workspace),
        automatic=not attached,
        policy=NO_POLICY if policy is None else batch.policy(policy, at),
        version=0,
        why="",
        steps=0,
        failed=0,
        unknown=0,
        asked=0,
        opened_at=at,
        last_at=at,
        closed_at=None,
        intent=binding.intent,
        counters=Counters(opened_us=at),
        attached=attached,
        scope=scope,
        allowance=Allowance(own=dict(budgets)) if budgets else None,
    )
    batch.open_run(row, key)
    return row


class ChangeRunItem(Item[Run]):
    """Changes the state of a run, by a legal transition."""

    reads = True

    def __init__(self, run: RunId, to: RunState, *, by: str, reason: str, halt: bool = False) -> None:
        super().__init__()
        self._run = run
        self._to = to
        self._by = by
        self._reason = reason
        self._halt = halt

    def apply(self, batch: Batch) -> Run:
        """Write the change, if it is legal."""
        row = known(batch, self._run)
        if self._to not in TRANSITIONS[row.state]:
            raise PortError(Reason.RUN_CLOSED, f"{row.id[:4]} is {row.state}", acted=Acted.NO)
        change_state(batch, row, self._to, reason=self._reason, by=self._by, at=batch.now(), halt=self._halt)
        batch.changed(row)
        return row.as_run()


def change_state(
    batch: Batch,
    row: RunRow,
    to: RunState,
    *,
    reason: str,
    by: str,
    at: int,
    halt: bool = False,
    added: Mapping[str, int] | None = None,
) -> None:
    """Move a run to another state, with the entry that says so; `halt` cancels what is in flight."""
    if to not in TRANSITIONS[row.state]:
        raise PortError(Reason.INTERNAL_ERROR, f"no run goes from {row.state} to {to}", acted=Acted.NO)
    fields: dict[str, Json] = {"what": "state", "from": row.state, "to": to, "reason": reason, "by": by}
    if halt:
        fields["now"] = True
    if added:
        fields["added"] = dict(added)
    batch.append(Kind.RUN_CHANGED, entries.note(Kind.RUN_CHANGED, fields, {}), at, run=row.id)
    if not TRANSITIONS[to]:
        withdraw_asks(batch, row.id, by=by, at=at)
        batch.later(FORGET, row.id)
    if row.state is RunState.OPEN:
        row.counters = row.counters._replace(open_us=row.counters.open_us + max(0, at - row.counters.opened_us))
    elif to is RunState.OPEN:
        seen = row.counters._replace(error_streak=0, repeats_refused=0, changes=row.counters.changes + 1, most_same=0)
        row.counters = seen._replace(opened_us=at)  # a person has seen it
    row.state = to
    row.why = "" if to is RunState.OPEN else reason
    row.version += 1
    row.closed_at = None if TRANSITIONS[to] else at
    row.halted = row.halted or halt


def changed_at(batch: Batch, row: RunRow) -> int:
    """When a run last changed its state, in microseconds since 1970."""
    sql = "SELECT at FROM entries WHERE run = ? AND no IS NULL AND kind = 'run.changed' ORDER BY pos DESC LIMIT 1"
    found = batch.db.execute(sql, (row.id,)).fetchone()
    return row.opened_at if found is None else int(found[0])


def following(row: RunRow) -> tuple[NextStep, str]:
    """What follows a step that did nothing, and why."""
    if row.state is RunState.OPEN:
        return NextStep.CONTINUE, ""
    return NextStep.STOP, f"run is {row.state}"


def end_open_steps(batch: Batch, writer: str) -> list[str]:
    """End what a writer left in flight: nobody knows what became of it. Returns the steps, as `RUN.NO`."""
    found = batch.db.execute(
        "SELECT run, no, does, cause FROM steps INDEXED BY steps_once WHERE writer = ? AND outcome IS NULL ORDER BY n",
        (writer,),
    ).fetchall()
    ended: list[str] = []
    for run_id, no, does, cause in found:
        row = known(batch, RunId(run_id))
        reads = entries.only_reads(does.split(","))
        failure = Failure(reason=Reason.OUTCOME_LOST, summary="", certainly_not_acted=reads)
        ending = entries.Ending(outcome="unknown", failure=failure, acted=failure.acted)
        next_step = following(row)[0]
        batch.append(Kind.STEP_OUTCOME, entries.lost_outcome(ending, next_step), batch.now(), run=run_id, no=no)
        _end(batch, row, no, ending, next_step, dur_us=None, tool_us=None)
        # What it had reserved of bytes only its own process knew; a run without calls in flight has none.
        charge = NO_CHARGE if reads else _A_WRITE
        _settle(batch, row, Cause(cause), charge, no, ending, size=0, owes=not reads)
        if not row.counters.in_flight:
            row.counters = row.counters._replace(bytes_reserved=0)
        batch.changed(row)
        ended.append(f"{run_id}.{no}")
    return ended


def _end(
    batch: Batch,
    row: RunRow,
    no: int,
    ending: entries.Ending,
    next_step: NextStep,
    *,
    dur_us: int | None,
    tool_us: int | None,
) -> None:
    failure = ending.failure
    batch.end_step(
        (
            ending.outcome,
            ending.acted,
            None if failure is None else failure.failure,
            None if failure is None else failure.reason,
            next_step,
            dur_us,
            tool_us,
            row.id,
            no,
        )
    )
    if ending.outcome == "unknown":
        row.unknown += 1
    elif ending.outcome == "failed":
        row.failed += 1


_A_WRITE = Charge(write=True)


def _settle(
    batch: Batch, row: RunRow, cause: Cause, charge: Charge, no: int, ending: entries.Ending, *, size: int, owes: bool
) -> None:
    failure = None if ending.failure is None else ending.failure.failure
    row.counters = count.ended(row.counters, cause, charge, failure=failure, size=size, owes=owes)
    if charge.marks and ending.outcome != "unknown":
        end_marks(batch, row.id, no, "ok" if ending.failure is None and ending.done else "failed")


def _owes(step: VerifiedStep, ending: entries.Ending) -> bool:
    """Whether a check that the step owes is not kept, or its outcome is not known."""
    return ending.outcome == "unknown" or any(found.answer is not Answer.KEPT for found in step.findings)


def _close_run(batch: Batch, row: RunRow, closing: Closing, at: int) -> None:
    if closing.next_step is NextStep.COMPACT:
        row.counters = row.counters._replace(calls_since_compact=0, bytes_since_compact=0)
    if closing.run_state is not row.state:
        change_state(batch, row, closing.run_state, reason=closing.why, by=PROXY, at=at)


def _values(step: VerifiedStep) -> set[str] | None:
    """What of the result is to be remembered; `None` when it is not, or not here."""
    keep, came = step.decision.reads.keep, step.outcome
    if keep is None or not isinstance(came, Returned) or came.result is None:
        return None
    if not came.final:
        # The result itself comes later, by another way.
        return None
    if step.decision.reads.trusted and came.is_error:
        return set()
    return keep(came.result, step.proposal.arguments)


def _is_suspect(step: VerifiedStep) -> bool:
    """Whether the agent was given what reads like an instruction, where policy asks for that."""
    signs, came = step.decision.reads.signs, step.outcome
    return signs is not None and isinstance(came, Returned) and came.result is not None and signs(came.result)


def _has_read(batch: Batch, row: RunRow, step: VerifiedStep, values: set[str] | None, *, suspect: bool) -> None:
    """Note what the agent was given: whether it taints the run, and which values stood in it."""
    reads, counters = step.decision.reads, row.counters
    if suspect or not reads.trusted:
        row.counters = counters._replace(
            untrusted_reads=counters.untrusted_reads + (not reads.trusted),
            suspect_reads=counters.suspect_reads + suspect,
        )
    keep_values(batch, row, values, reads.origin)


def came_by_task(batch: Batch, row: RunRow, step: VerifiedStep, close: Close, at: int) -> None:
    """With the result of a task that was settled: what the agent is given of it, and what becomes of the run."""
    failure, came = entries.ending(step).failure, step.outcome
    if step.cause is not Cause.AGENT or not isinstance(came, Returned):
        return
    size = 0 if entries.answer_is_ours(step) else len(came.raw)
    counters, failed = row.counters, failure is not None
    row.counters = counters._replace(
        bytes_returned=counters.bytes_returned + size,
        bytes_since_compact=counters.bytes_since_compact + size,
        errors=counters.errors + failed,
        error_streak=counters.error_streak + 1 if failed else 0,
    )
    if size:
        _has_read(batch, row, step, _values(step), suspect=_is_suspect(step))
    closing = close(row.as_run(), step, failure)
    if closing.run_state is not row.state:
        change_state(batch, row, closing.run_state, reason=closing.why, by=PROXY, at=at)


def _recalls(batch: Batch) -> Callable[[Questions], Facts]:
    def answer(questions: Questions) -> Facts:
        batch.flush()  # what earlier items of this batch did counts
        return recall(batch.db, questions)

    return answer


def known(batch: Batch, run_id: RunId) -> RunRow:
    """A run that has to be there. Raises `PortError`."""
    row = batch.run(run_id)
    if row is None:
        raise PortError(Reason.RUN_UNKNOWN, run_id[:4], acted=Acted.NO)
    return row


def _since(began_ns: int) -> int:
    return max(0, (time.monotonic_ns() - began_ns) // 1000)
