"""The store over one SQLite file: the trace and the state, for one process among several."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, cast

from soothsayer_mcp.adapters.lock_file import Locked
from soothsayer_mcp.adapters.store import schema
from soothsayer_mcp.adapters.store.ask_items import AskBook, RevokeItem
from soothsayer_mcp.adapters.store.batch import Chain, load_key, load_run, read_allowance
from soothsayer_mcp.adapters.store.debts import load_debts
from soothsayer_mcp.adapters.store.definitions import SELECT_PINS, AcceptItem, CompareItem, Pin, all_pinned, read_pins
from soothsayer_mcp.adapters.store.folder import StoreError, first_segment, live_segment, prepare
from soothsayer_mcp.adapters.store.given import GivenItem
from soothsayer_mcp.adapters.store.held import HeldRows
from soothsayer_mcp.adapters.store.items import (
    BindItem,
    Bound,
    ChangeRunItem,
    IntentItem,
    Item,
    NoteItem,
    OutcomeItem,
)
from soothsayer_mcp.adapters.store.joining import joined
from soothsayer_mcp.adapters.store.lock import FileLock, Turnstile
from soothsayer_mcp.adapters.store.marks import recall
from soothsayer_mcp.adapters.store.matching import call_key
from soothsayer_mcp.adapters.store.payloads import (
    ANSWER,
    ARGUMENTS,
    BLOB_BYTES,
    ROW_BYTES,
    Keeper,
    Payload,
    Payloads,
    nothing_masked,
    sync_folder,
)
from soothsayer_mcp.adapters.store.recovery import OpenWriterItem, RecoverItem, alive_lock
from soothsayer_mcp.adapters.store.repeats import KEY_BYTES, answer_key
from soothsayer_mcp.adapters.store.results import ReadBackItem, find_result, read_result, result_text
from soothsayer_mcp.adapters.store.run_items import AddBudgetItem, CompleteItem, DeclareItem, OpenRunItem
from soothsayer_mcp.adapters.store.settling import SettleItem
from soothsayer_mcp.adapters.store.summaries import load_summary
from soothsayer_mcp.adapters.store.undo_items import UndoLog
from soothsayer_mcp.adapters.store.unsettled import load_unsettled
from soothsayer_mcp.adapters.store.writer import Ballast, Unavailable, Writer, connect, why
from soothsayer_mcp.evidence.settle import settling_form
from soothsayer_mcp.model.ask import Ask, AskAnswer, Grant
from soothsayer_mcp.model.call import Client, Principal, RunId, ToolDefinition
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.dues import Held
from soothsayer_mcp.model.entry import Durability, PayloadMode, Receipt
from soothsayer_mcp.model.facts import NO_FACTS, Facts, Questions
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Finding
from soothsayer_mcp.model.json import Digest, compact
from soothsayer_mcp.model.outcome import Aside, Returned
from soothsayer_mcp.model.run import (
    IDLE_S,
    Completion,
    Counters,
    Debts,
    Run,
    RunBinding,
    RunRules,
    RunScope,
    RunState,
)
from soothsayer_mcp.model.settlement import How, Settlement
from soothsayer_mcp.model.settling import PART as SETTLE_PART
from soothsayer_mcp.model.settling import Unsettled
from soothsayer_mcp.model.step import ClosedStep, RecordedStep, SupportedStep, VerifiedStep, WithheldStep
from soothsayer_mcp.model.summary import Summary
from soothsayer_mcp.ports import (
    Admit,
    Close,
    Compared,
    EndedStep,
    Given,
    Note,
    PortError,
    SeenTool,
    ServerIdentity,
    StoredResult,
)
from soothsayer_mcp.trace import entries
from soothsayer_mcp.trace.chain import Stored, find_break
from soothsayer_mcp.undo.kept import PART as UNDO_PART
from soothsayer_mcp.undo.kept import after_form, before_form, expected
from soothsayer_mcp.wire import parts

Result = TypeVar("Result")

TIMEOUT_S = 2.0
"""How long a call waits for the receipt of its intent."""
OUTCOME_TIMEOUT_S = 10.0
"""How long an outcome is tried before the agent is told that it is not on record."""
BALLAST_BYTES = 8 * 1024 * 1024
CLOSE_S = 5.0

LOOK_S = 0.15
"""How old what `read_run` tells may be."""
_SWEEP_S = 0.1
_TAIL = 256
_MOST_KNOWN = 1024
_COUNTERS = ", ".join(Counters._fields)
_SELECT_STATE = f"SELECT version, state, why, steps, halted, allowance, {_COUNTERS} FROM runs WHERE id = ?"  # noqa: S608 - names of ours
_SELECT_STEP = "SELECT server, tool, outcome, acted, rule, reason FROM steps WHERE run = ? AND no = ?"
_SELECT_SAID = (
    "SELECT p.text FROM payloads p JOIN entries e ON e.writer = p.writer AND e.seq = p.seq"
    " WHERE e.run = ? AND e.no = ? AND p.part = 'said' ORDER BY e.pos DESC LIMIT 1"
)
_ATTACHED = "SELECT id, principal, workspace FROM runs WHERE attached = 1 ORDER BY opened_at DESC LIMIT 16"


class _Known:
    """What this process remembers of a run, so that a call costs no query."""

    __slots__ = ("key", "lost", "run", "used_at")

    def __init__(self, run: Run, key: bytes) -> None:
        self.run = run
        self.key = hmac.new(key, digestmod="sha256")
        self.used_at = time.monotonic()
        self.lost = False
        """Whether an outcome of it is not on record, so that it takes no further step."""


class SqliteStore:
    """Implements `ports.Store`. Used from one event loop at a time."""

    def __init__(
        self,
        *,
        folder: Path,
        writer: Writer,
        chain: Chain,
        reader: sqlite3.Connection,
        payloads: Payloads,
        turnstile: Turnstile,
        alive: FileLock,
        payload_mode: Callable[[], PayloadMode],
        warnings: tuple[str, ...],
        timeout_s: float,
        outcome_timeout_s: float,
    ) -> None:
        """For `open` only."""
        self.writer_id = chain.writer
        self.warnings = warnings
        """What a person should know about the state folder."""
        self._folder = folder
        self._writer = writer
        self._reader = reader
        self._payloads = payloads
        self._asks = AskBook(self._submit_fast, reader, payloads)
        self._undo_log = UndoLog(self._submit_fast)
        self._turnstile = turnstile
        self._alive = alive
        self._timeout_s = timeout_s
        self._outcome_timeout_s = outcome_timeout_s
        self._runs: dict[RunId, _Known] = {}
        self._bound: dict[tuple[str, str, str, str, str], RunId] = {}
        self._attached: frozenset[tuple[str, str, str]] = frozenset()
        """The newest runs that people opened, when we last looked: id, principal, workspace."""
        self._looked_at = 0.0
        self._data_version = -1
        self._closed = False
        self._payload_mode = payload_mode
        self._locked: Callable[[ServerIdentity], Locked | None] = lambda _server: None
        self._under_way: Callable[[], int] | None = None
        self._last_context: _Context | None = None
        self._waiting: dict[Item[Any], tuple[float, asyncio.AbstractEventLoop]] = {}
        self._gathered: list[Item[Any]] = []
        """What this turn of the event loop has brought so far."""
        self._live = 0
        """Steps on their way from intent to outcome."""
        self._wrote_here = False
        """Whether this turn of the event loop has made a commit of its own already."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def open(
        cls,
        state_dir: Path,
        *,
        durability: Durability = Durability.STRICT,
        payload_mode: Callable[[], PayloadMode] = lambda: PayloadMode.REDACTED,
        about: str = "",
        timeout_s: float = TIMEOUT_S,
        outcome_timeout_s: float = OUTCOME_TIMEOUT_S,
        ballast_bytes: int = BALLAST_BYTES,
        blob_max: int = BLOB_BYTES,
        keeper: Keeper = nothing_masked,
    ) -> Self:
        """Open the trace of a state folder, making it if need be; closes what dead writers left open.

        `payload_mode` is asked for every payload, of which those over `blob_max` bytes are cut; `about` says in the
        record who writes, `keeper` what else is masked. Raises `StoreError`.
        """
        warnings = prepare(state_dir)
        opened = _Opening(state_dir)
        try:
            return cls._open(
                opened,
                durability=durability,
                payload_mode=payload_mode,
                blob_max=blob_max,
                keeper=keeper,
                about=about,
                warnings=warnings,
                timeout_s=timeout_s,
                outcome_timeout_s=outcome_timeout_s,
                ballast=Ballast(state_dir / "ballast", ballast_bytes),
            )
        except StoreError:
            opened.undo()
            raise
        except (sqlite3.Error, OSError, Unavailable, PortError) as error:
            opened.undo()
            msg = f"{opened.path or state_dir}: the trace cannot be opened: {why(error)}; {_remedy(error)}"
            raise StoreError(msg) from error

    @classmethod
    def _open(
        cls,
        opened: "_Opening",
        *,
        durability: Durability,
        payload_mode: Callable[[], PayloadMode],
        blob_max: int,
        keeper: Keeper,
        about: str,
        warnings: tuple[str, ...],
        timeout_s: float,
        outcome_timeout_s: float,
        ballast: Ballast,
    ) -> Self:
        folder = opened.folder
        opened.turnstile = turnstile = Turnstile(folder)
        with turnstile:
            ballast.stand()
            opened.path = path = live_segment(folder) or first_segment(folder)
            _check_log(path)
            _touch(path)
            opened.db = db = connect(path)
            if _is_blank(db):
                _create(db, folder)
            _check(db, path)
            chain = Chain(os.urandom(8).hex())
            # In our turn, so that nobody who clears away what dead writers left comes between making and locking it.
            opened.alive = alive = FileLock(alive_lock(folder, chain.writer))
            alive.try_acquire()
        writer = Writer(
            folder=folder,
            path=path,
            chain=chain,
            durability=durability,
            turnstile=turnstile,
            db=db,
            ballast=ballast,
        )
        writer.write_now([OpenWriterItem(durability, about), RecoverItem(folder)])
        opened.reader = reader = _connect_reader(path)
        writer.start()
        return cls(
            folder=folder,
            writer=writer,
            chain=chain,
            reader=reader,
            payloads=Payloads(payload_mode, folder / "blobs", chain.writer, blob_max=blob_max, keeper=keeper),
            turnstile=turnstile,
            alive=alive,
            payload_mode=payload_mode,
            warnings=warnings,
            timeout_s=timeout_s,
            outcome_timeout_s=outcome_timeout_s,
        )

    @property
    def asks(self) -> AskBook:
        """Questions to people."""
        return self._asks

    @property
    def undo_log(self) -> UndoLog:
        """The record of undoing."""
        return self._undo_log

    def answer_ask(self, answer: AskAnswer) -> tuple[Ask, bool]:
        """Answer a question, if nobody did: as it stands then, and whether this answer counted.

        Blocks; raises `PortError`.
        """
        return self._wait(self._asks.answering(answer))

    def revoke_grant(self, grant: str, *, by: str) -> Grant:
        """Take a remembered answer back. Blocks; raises `PortError`."""
        return self._wait(RevokeItem(grant, by))

    @property
    def notes_lost(self) -> int:
        """How many notes could not be recorded."""
        return self._writer.notes_lost

    def close(self) -> None:
        """Write what is waiting, end what is in flight, close the chain and the file. Blocks, in bounded time."""
        if self._closed:
            return
        self._closed = True
        gathered, self._gathered = self._gathered, []
        self._writer.put_all(gathered)
        self._reader.close()
        if self._writer.stop(CLOSE_S):
            self._turnstile.close()
            self._alive.path.unlink(missing_ok=True)
            self._alive.close()

    async def bind_run(self, binding: RunBinding, policy_digest: Digest) -> tuple[RunId, Failure | None]:
        """Find the run of a call, or open the automatic one; a failure when a named run is unknown or foreign."""
        self._look_if_due()
        alone = "alone" if binding.alone else "explicit" if binding.explicit else ""
        who = (binding.principal.id, binding.workspace, binding.client.name, binding.named, alone)
        run_id = self._bound.get(who)
        if run_id is not None:
            known = self._runs.get(run_id)
            if known is not None and (binding.named or self._is_current(known, binding.rules.idle_s)):
                return run_id, None
        intent = None if binding.intent is None else self._payloads.ready(binding.intent.text.encode(errors="replace"))
        item = BindItem(
            binding,
            policy_digest,
            idle_us=round(binding.rules.idle_s * 1_000_000),
            fresh=(RunId(os.urandom(16).hex()), os.urandom(32)),
            intent=intent,
            load_key=lambda batch, found: load_key(batch.db, found),
        )
        bound: Bound = await self._submit(item, self._timeout_s)
        self._remember(bound.run, bound.key)
        if bound.failure is None:
            self._bound[who] = bound.run.id
        return bound.run.id, bound.failure

    async def read_run(self, run_id: RunId) -> Run:
        """Tell a run as of at most 150 ms ago; commit A looks again."""
        self._look_if_due()
        return self._known(run_id).run

    def joined_run(self, binding: RunBinding) -> Run | None:
        """Tell the run that a call would join as of at most 150 ms ago; `None` where it would open one."""
        self._look_if_due()
        try:
            run_id = joined(self._reader, binding, time.time_ns() // 1000)
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error
        return None if run_id is None else self._known(run_id).run

    def recall(self, questions: Questions) -> Facts:
        """Answer questions about earlier steps, as of a moment ago; what cannot be answered is absent. Never raises."""
        return recall(self._reader, questions) if questions.of_the_store and not self._closed else NO_FACTS

    @property
    def held(self) -> Held:
        """What evidence rests on, as of now; commit A looks again."""
        return HeldRows(self._reader)

    async def record_intent(self, step: SupportedStep, admit: Admit, close: Close) -> RecordedStep | WithheldStep:
        """Commit A. Raises `PortError` (`trace_unavailable`, acted no) when it is not durable in time."""
        began_ns = time.monotonic_ns()
        known = self._known(step.run_id)
        self._live += 1
        goes_on = False
        try:
            captured = step.support.captured
            large = captured is not None and sum(len(one.content) for one in captured.files) > ROW_BYTES // 2
            if len(step.proposal.raw_arguments) <= ROW_BYTES and not large:
                item = self._intent_item(step, admit, close, known.key)
            else:
                item = await asyncio.to_thread(self._intent_item, step, admit, close, known.key)
            done = await self._submit(item, self._timeout_s)
            goes_on = done.outcome is None
        finally:
            self._live -= not goes_on
        known.used_at = time.monotonic()
        if not known.lost and done.run.version >= known.run.version:
            known.run = done.run
        withheld = done.outcome
        receipt = Receipt(
            writer=self.writer_id,
            seq=done.seq,
            leaf=done.leaf,
            run=step.run_id,
            no=done.no,
            took_us=(time.monotonic_ns() - began_ns) // 1000,
            next_step=done.next_step,
            why=done.why,
        )
        return step.recorded(receipt) if withheld is None else step.withheld(receipt, withheld)

    async def record_outcome(self, step: VerifiedStep, close: Close) -> ClosedStep:
        """Commit B; a withheld step is only handed on. Raises `PortError` (`outcome_lost`) when it is not recorded."""
        if step.intent.next_step is not None:
            return step.closed(step.intent, step.intent.next_step, step.intent.why)
        began_ns = time.monotonic_ns()
        raw = step.outcome.raw if isinstance(step.outcome, Returned) else None
        try:
            if raw is None or (len(raw) <= ROW_BYTES and not step.set_aside):
                item = self._outcome_item(step, close, raw)
            else:
                item = await asyncio.to_thread(self._outcome_item, step, close, raw)
            done = await self._submit(item, self._outcome_timeout_s)
        except PortError:
            self._stop_lost(step.run_id)
            raise
        finally:
            self._live -= 1
        known = self._known(step.run_id)
        known.used_at = time.monotonic()
        if not known.lost and done.run.version >= known.run.version:
            known.run = done.run
        receipt = Receipt(
            writer=self.writer_id,
            seq=done.seq,
            leaf=done.leaf,
            run=step.run_id,
            no=step.intent.no,
            took_us=(time.monotonic_ns() - began_ns) // 1000,
        )
        return step.closed(receipt, done.closing.next_step, done.closing.why, item.stored)

    async def settle(self, step: VerifiedStep, *, told: bool = False, close: Close | None = None) -> bool:
        """Record the answer that came after a step had ended as unknown. False while its end is not on record yet."""
        assert isinstance(step.outcome, Returned)
        raw = step.outcome.raw
        big = len(raw) > ROW_BYTES
        ready = self._ready_or_digest
        result = await asyncio.to_thread(ready, raw, step) if big else ready(raw, step)
        how = How.LATE_ANSWER if close is None else How.TASK_RESULT
        settlement = Settlement(run=step.run_id, no=step.intent.no, acted=Acted.YES, how=how, told=told)
        item = SettleItem(settlement, step, result=result, close=close)
        done = await self._submit(item, self._outcome_timeout_s)
        self._looked_at = 0.0  # the next look sees what was changed here
        return done

    async def settle_by(self, settlement: Settlement, findings: Sequence[Finding]) -> bool:
        """Record whether a step took effect, with what its checks found. False while it is in flight."""
        done = await self._submit(SettleItem(settlement, findings=findings), self._outcome_timeout_s)
        self._looked_at = 0.0  # the next look sees what was changed here
        return done

    def unsettled(self, principal: str, workspace: str) -> Sequence[Unsettled]:
        """The steps of ended processes whose outcome is not known and which something settles."""
        try:
            return load_unsettled(self._reader, self._folder / "blobs", principal, workspace)
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error

    def settle_now(self, settlement: Settlement) -> bool:
        """Record whether a step took effect, as a person says. False while it is in flight. Blocks."""
        return self._wait(SettleItem(settlement))

    async def holds(self, receipt: Receipt) -> bool:
        """Tell whether the entry of a receipt can be read back, through another connection than the one that wrote."""
        try:
            found = self._reader.execute(
                "SELECT leaf FROM entries WHERE writer = ? AND seq = ?", (receipt.writer, receipt.seq)
            ).fetchone()
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error
        return found is not None and bytes(found[0]) == receipt.leaf

    async def note(self, note: Note) -> None:
        """Record an entry that is no step; durable when this returns."""
        await self._submit(await self._note_item(note), self._timeout_s)

    def note_soon(self, note: Note) -> None:
        """Record an entry that is no step with one of the next commits; what cannot be recorded is counted."""
        self._writer.put(NoteItem(note, self._payloads))

    async def note_given(self, given: Given, note: Note) -> None:
        """Record what a host is given and count it for the run of the note; raises `PortError` where that fails."""
        run = await self._submit(GivenItem(given, note), self._timeout_s)
        known = self._known(run.id)
        known.used_at = time.monotonic()
        if not known.lost and run.version >= known.run.version:
            known.run = run

    async def compare_definitions(
        self, server: ServerIdentity, tools: Sequence[SeenTool], *, trust_first: bool
    ) -> Compared:
        """Compare what a server lists now with its pins.

        With `trust_first`, a server without any pin gets all its tools pinned. A difference seen for the first time is
        an entry. Where a lock rules over the server, it says what is pinned.
        """
        locked = self._locked(server)
        with contextlib.suppress(sqlite3.Error):
            known = None if self._closed else all_pinned(self._reader, server, tools, locked)
            if known is not None:
                return Compared(states=known)
        item = CompareItem(server, tools, self._payloads, trust_first=trust_first, locked=locked)
        return await self._submit(item, self._timeout_s)

    def open_run(
        self, binding: RunBinding, scope: RunScope | None = None, budgets: Mapping[str, int] | None = None
    ) -> Run:
        """Open a run that takes the calls of its principal and workspace from now on. Blocks; raises `PortError`."""
        intent = None if binding.intent is None else self._payloads.ready(binding.intent.text.encode(errors="replace"))
        fresh = (RunId(os.urandom(16).hex()), os.urandom(32))
        return self._wait(OpenRunItem(binding, fresh=fresh, intent=intent, scope=scope, budgets=budgets or {}))

    async def complete_run(self, run_id: RunId, *, by: str, rules: RunRules) -> Completion:
        """Complete a run if nothing stands against it. Raises `PortError` when it has ended already."""
        done = await self._submit(CompleteItem(run_id, by=by, rules=rules), self._timeout_s)
        self._looked_at = 0.0  # the next look sees what was changed here
        return done

    def complete_now(self, run_id: RunId, *, by: str, rules: RunRules) -> Completion:
        """The same, for threads without an event loop. Blocks."""
        return self._wait(CompleteItem(run_id, by=by, rules=rules))

    async def declare_intent(self, run_id: RunId, text: str) -> Run:
        """Keep what the agent says its run is for, as the agent's own words. Raises `PortError`."""
        said = self._payloads.ready(text.encode(errors="replace"))
        run = await self._submit(DeclareItem(run_id, text, said), self._timeout_s)
        known = self._known(run_id)
        if not known.lost and run.version >= known.run.version:
            known.run = run
        return run

    async def debts_of(self, run_id: RunId) -> Debts:
        """Tell what the steps of a run still owe. Raises `PortError`."""
        try:
            return load_debts(self._reader, run_id)
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error

    async def ended_step(self, run_id: RunId, no: int) -> EndedStep | None:
        """Tell how a step of a run ended; `None` when the run has no such step. Raises `PortError`."""
        try:
            row = self._reader.execute(_SELECT_STEP, (run_id, no)).fetchone()
            said = self._reader.execute(_SELECT_SAID, (run_id, no)).fetchone()
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error
        if row is None:
            return None
        server, tool, outcome, acted, rule, reason = row
        text = said[0] if said is not None and isinstance(said[0], str) else ""
        return EndedStep(
            server=server,
            tool=tool,
            outcome=outcome or "",
            acted=acted or "",
            rule=rule or "",
            reason=reason,
            said=text,
        )

    async def summarize(self, run_id: RunId, now_us: int) -> Summary:
        """Tell what a run has come to. Raises `PortError`."""
        run = await self.read_run(run_id)
        try:
            return load_summary(self._reader, run, now_us)
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error

    async def stored_result(self, run_id: RunId, no: int, *, principal: str) -> StoredResult | None:
        """The stored result of a step of a principal's run; `None` where there is none. Raises `PortError`."""
        try:
            kept = find_result(self._reader, run_id, no, principal=principal)
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error
        return None if kept is None else await asyncio.to_thread(read_result, kept, self._folder / "blobs")

    async def give_back(
        self, run_id: RunId, size: int, refuse: Callable[[Run], Failure | None], note: Note | None = None
    ) -> None:
        """Count what is given to the agent outside of a call; raises what `refuse` says of the run as it stands."""
        await self._submit(ReadBackItem(run_id, size, refuse, note), self._timeout_s)

    def run_now(self, run_id: RunId) -> Run:
        """Tell a run, for threads without an event loop. Raises `PortError`."""
        return self._known(run_id).run

    def add_budget(self, run_id: RunId, added: Mapping[str, int], *, by: str, reason: str) -> Run:
        """Raise budgets of a run, and open it where it is paused. Blocks; raises `PortError` when it has ended."""
        return self._wait(AddBudgetItem(run_id, added, by=by, reason=reason))

    def change_run(self, run_id: RunId, to: RunState, *, by: str, reason: str, halt: bool = False) -> Run:
        """Move a run to another state; `halt` has its calls in flight cancelled.

        Blocks; raises `PortError` when that is no legal transition.
        """
        run = self._wait(ChangeRunItem(run_id, to, by=by, reason=reason, halt=halt))
        known = self._runs.get(run_id)
        if known is not None:
            known.run = run
        return run

    def pin_by(self, locked: Callable[[ServerIdentity], Locked | None]) -> None:
        """From here on, ask what a lock has of a server; `None` where none rules over it."""
        self._locked = locked

    def expect(self, under_way: Callable[[], int]) -> None:
        """From here on, ask how many calls are under way: what one alone brings is written at once, without waiting."""
        self._under_way = under_way

    def list_pins(self) -> list[Pin]:
        """Every pinned, new and changed tool, by server and name."""
        return read_pins(self._reader.execute(SELECT_PINS).fetchall())

    def accept_definitions(self, server: str, tools: Sequence[str] | None = None, *, by: str) -> list[str]:
        """Pin what was last seen of a server's new and changed tools; of all of them, or of those named.

        Returns the names of the tools that were pinned. Blocks; raises `PortError`.
        """
        chosen = None if tools is None else frozenset(tools)
        return self._wait(AcceptItem(server, chosen, self._payloads, by=by))

    def _intent_item(self, step: SupportedStep, admit: Admit, close: Close, key: hmac.HMAC) -> IntentItem:
        proposal = step.proposal
        match = call_key(step, key)
        try:
            args = None
            if proposal.raw_arguments:
                args = self._payloads.ready(proposal.raw_arguments, masks=step.decision.masks, roots=ARGUMENTS)
            context = self._context(step)
            kept = self._kept(step)
            settling = None
            if step.support.settling is not None:
                form = compact(settling_form(step.support.settling))
                settling = self._payloads.ready(form, always_full=True, whole=True)
        except OSError as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error
        parts = {UNDO_PART: kept, SETTLE_PART: settling}
        return IntentItem(step, admit, close, self._payloads, match=match, args=args, context=context, kept=parts)

    def _kept(self, step: SupportedStep) -> Payload | None:
        """What an undo of the step would need. It is kept whole, whatever the mode: with less nothing comes back."""
        captured, terms = step.support.captured, step.decision.dues.undo
        if captured is None or terms is None:
            return None
        form = before_form(terms, captured, step.proposal.arguments, expected(step, terms), step.decision.dues.opens)
        return self._payloads.ready(compact(form), always_full=True, whole=True)

    def _context(self, step: SupportedStep) -> Payload:
        """What the decision read. It is the same for most calls of a run, and then made ready once."""
        mode = self._payload_mode()
        last = self._last_context
        if last is not None and last.mode is mode and last.certainly_of(step):
            return last.payload
        text = compact(entries.context(step))
        if last is None or last.mode is not mode or last.text != text:
            payload = self._payloads.ready(text)
        else:
            payload = last.payload
        of = (step.decision, step.tool, step.principal, step.client)
        self._last_context = _Context(of=of, text=text, mode=mode, payload=payload)
        return payload

    def _outcome_item(self, step: VerifiedStep, close: Close, raw: bytes | None) -> OutcomeItem:
        result = None if raw is None else self._ready_or_digest(raw, step)
        said = None
        failure = step.failure
        if failure is not None and entries.answer_is_ours(step):
            said = self._ready_or_digest(failure.agent_text(step.intent.step).encode(errors="replace"))
        kept = None
        if step.after is not None:
            try:
                kept = self._payloads.ready(compact(after_form(step.after)), always_full=True, whole=True)
            except OSError:
                kept = None  # The undo will not know the state after, and says so.
        return OutcomeItem(
            step,
            close,
            result=result,
            said=said,
            stored=_aside(step, result),
            same=self._same_keys(step),
            kept=kept,
        )

    def _same_keys(self, step: VerifiedStep) -> tuple[bytes, bytes] | None:
        """The keys of call and answer, where policy asks whether they repeat."""
        if step.decision.charge.repeats_most is None:
            return None
        key = self._known(step.run_id).key
        answer = answer_key(step, key)
        return None if answer is None else (bytes.fromhex(call_key(step, key))[:KEY_BYTES], answer)

    def _ready_or_digest(self, raw: bytes, step: VerifiedStep | None = None) -> Payload:
        """An outcome is recorded even where its content cannot be kept."""
        try:
            if step is None:
                return self._payloads.ready(raw)
            shown = step.shown
            return self._payloads.ready(
                raw,
                shown=None if shown is None else shown.raw,
                shown_masked=0 if shown is None else sum(shown.masked.values()),
                masks=step.decision.masks,
                roots=ANSWER,
                digest_only=shown is not None and shown.raw is None,
                whole=step.set_aside,
            )
        except OSError:
            salt = os.urandom(16)
            digest = hashlib.sha256(salt + raw).hexdigest()
            return Payload(field=entries.payload(digest=digest, size=len(raw), mode="digest"), salt=salt)

    async def _submit_fast(self, item: Item[Result]) -> Result:
        return await self._submit(item, self._timeout_s)

    async def _note_item(self, note: Note) -> NoteItem:
        if sum(map(len, note.payloads.values())) <= ROW_BYTES:
            return NoteItem(note, self._payloads)
        try:
            return await asyncio.to_thread(NoteItem, note, self._payloads)
        except OSError as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error

    async def _submit(self, item: Item[Result], timeout_s: float) -> Result:
        """Have an item written and wait for its receipt, no longer than `timeout_s`."""
        if self._closed:
            raise item.refusal("the store is closed")
        loop = asyncio.get_running_loop()
        item.loop = loop
        item.future = future = loop.create_future()
        told, of_call = self._under_way, isinstance(item, IntentItem | OutcomeItem)
        only_call = of_call and told is not None and told() <= 1
        alone = only_call or (self._live <= 1 and not self._wrote_here)
        if alone and not self._gathered and not self._waiting and self._writer.write_here((item,), loop):
            if not only_call:
                # Others may come in this turn of the loop; to be told when it ends costs one more turn.
                self._wrote_here = True
                loop.call_soon(self._end_turn)
            if future.done():
                return future.result()
        else:
            # Calls that came together are handed over together: given one by one, each would find the writer idle and
            # become a transaction of its own.
            if not self._gathered or self._gathered[-1].loop is not loop:
                loop.call_soon(self._hand_over, loop)
            self._gathered.append(item)
        self._waiting[item] = (loop.time() + timeout_s, loop)
        if self._sweeper is None or self._sweep_loop is not loop:
            self._sweep_loop = loop
            self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop)
        try:
            return await future
        except asyncio.CancelledError:
            self._leave(item, future)
            raise
        finally:
            del self._waiting[item]

    def _end_turn(self) -> None:
        self._wrote_here = False

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what this turn of the loop has brought, here if that may be, else by the writer's thread."""
        self._wrote_here = False
        gathered, self._gathered = self._gathered, []
        if gathered and not self._writer.write_here(gathered, loop):
            self._writer.put_all(gathered)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up what waits for too long; one timer for all, because a timer for each costs as much as its entry."""
        now = loop.time()
        for item, (until, where) in list(self._waiting.items()):
            if where is loop and now >= until:
                self._give_up(item)
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop) if self._waiting else None

    def _give_up(self, item: Item[Any]) -> None:
        """Stop waiting. An item that the writer has not begun is never written; one that it has is closed by it."""
        future = item.future
        if future is None or future.done():
            return
        future.set_exception(item.refusal(f"no receipt within {self._patience_of(item):g} s"))
        if isinstance(item, OutcomeItem) and item.claim():
            self._writer.put(item.lost())
        elif not isinstance(item, OutcomeItem):
            item.claim()

    def _leave(self, item: Item[Any], future: "asyncio.Future[Any]") -> None:
        """The caller was cancelled. An outcome is recorded all the same; an intent is withdrawn."""
        if isinstance(item, OutcomeItem):
            return
        if not item.claim() and future.done() and not future.cancelled():
            orphan = item.orphaned()
            if orphan is not None:
                self._writer.put(orphan)

    def _patience_of(self, item: Item[Any]) -> float:
        return self._outcome_timeout_s if isinstance(item, OutcomeItem) else self._timeout_s

    def _wait(self, item: Item[Result]) -> Result:
        item.done = threading.Event()
        self._writer.put(item)
        if not item.done.wait(self._timeout_s) and item.claim():
            raise item.refusal(f"no receipt within {self._timeout_s:g} s")
        item.done.wait()
        if item.error is not None:
            raise item.error
        return cast("Result", item.result)

    def _known(self, run_id: RunId) -> _Known:
        known = self._runs.get(run_id)
        if known is not None:
            return known
        try:
            row = load_run(self._reader, run_id)
            key = load_key(self._reader, run_id)
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, why(error), acted=Acted.NO) from error
        if row is None:
            raise PortError(Reason.RUN_UNKNOWN, run_id[:8], acted=Acted.NO)
        return self._remember(row.as_run(), key)

    def _remember(self, run: Run, key: bytes) -> _Known:
        known = self._runs.get(run.id)
        if known is None:
            if len(self._runs) >= _MOST_KNOWN:
                self._forget_idle()
            known = self._runs[run.id] = _Known(run, key)
        elif not known.lost and run.version >= known.run.version:
            known.run = run
        known.used_at = time.monotonic()
        return known

    def _forget_idle(self) -> None:
        by_use = sorted(self._runs, key=lambda run_id: self._runs[run_id].used_at)
        for run_id in by_use[: _MOST_KNOWN // 2]:
            if not self._runs[run_id].lost:
                del self._runs[run_id]
        self._bound = {who: run_id for who, run_id in self._bound.items() if run_id in self._runs}

    def _is_current(self, known: _Known, idle_s: float) -> bool:
        """Whether an automatic run still takes the calls of its principal, workspace and client."""
        if known.run.state is RunState.COMPLETED:
            return False
        return known.run.state is not RunState.OPEN or time.monotonic() - known.used_at < idle_s

    def _look_if_due(self) -> None:
        """See what other processes did to the runs we know."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S or self._closed:
            return
        self._looked_at = now
        with contextlib.suppress(sqlite3.Error):
            version = self._reader.execute("PRAGMA data_version").fetchone()[0]
            if version == self._data_version:
                return
            for known in self._runs.values():
                if not known.lost and now - known.used_at < IDLE_S:
                    self._look_at(known)
            attached = frozenset(self._reader.execute(_ATTACHED).fetchall())
            if not attached <= self._attached:
                # Calls that were bound to another run may belong to a new one.
                places = {(row[1], row[2]) for row in attached - self._attached}
                self._bound = {who: run for who, run in self._bound.items() if who[3] or who[:2] not in places}
            self._attached = attached
            self._data_version = version

    def _look_at(self, known: _Known) -> None:
        run = known.run
        row = self._reader.execute(_SELECT_STATE, (run.id,)).fetchone()
        if row is not None and row[0] >= run.version:
            known.run = Run(
                id=run.id,
                principal=run.principal,
                state=RunState(row[1]),
                version=row[0],
                why=row[2],
                steps=row[3],
                intent=run.intent,
                counters=Counters._make(row[6:]),
                scope=run.scope,
                halted=bool(row[4]),
                allowance=read_allowance(str(row[5])),
            )

    def _stop_lost(self, run_id: RunId) -> None:
        """A run with an outcome that is not on record takes no further step."""
        known = self._known(run_id)
        known.lost = True
        run = known.run
        known.run = Run(
            id=run.id,
            principal=run.principal,
            state=RunState.STOPPED,
            version=run.version + 1,
            why="an outcome is not on record",
            steps=run.steps,
            intent=run.intent,
            counters=run.counters,
            scope=run.scope,
            allowance=run.allowance,
        )


def _aside(step: VerifiedStep, result: Payload | None) -> Aside | None:
    """A result that is stored and shown in part; `None` where that was not wanted, or not all of it could be kept."""
    if result is None or result.whole is None or step.decision.large is None:
        return None
    text, mime = result_text(result.whole)
    shown = parts.part(text, 0, step.decision.large.keep_bytes)
    return Aside(beginning=shown.text, size_bytes=shown.of, mime=mime)


class _Context(NamedTuple):
    """What the decision about one step read, made ready to be kept."""

    of: tuple[Decision, ToolDefinition | None, Principal, Client]
    text: bytes
    mode: PayloadMode
    payload: Payload

    def certainly_of(self, step: SupportedStep) -> bool:
        """Whether a step was decided on the same: on the very same values, not on equal ones."""
        decision, tool, principal, client = self.of
        return (
            decision is step.decision
            and tool is step.tool
            and principal is step.principal
            and client is step.client
            and not step.flaws
        )


class _Opening:
    """What is open so far, to be closed again when opening fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: Path | None = None
        self.turnstile: Turnstile | None = None
        self.alive: FileLock | None = None
        self.db: sqlite3.Connection | None = None
        self.reader: sqlite3.Connection | None = None

    def undo(self) -> None:
        for opened in (self.reader, self.db, self.turnstile, self.alive):
            if opened is not None:
                opened.close()
        if self.alive is not None:
            self.alive.path.unlink(missing_ok=True)


def _check_log(path: Path) -> None:
    """Refuse to begin a trace beside the log of one that is gone: SQLite would empty that log, and what it holds."""
    log = path.with_name(f"{path.name}-wal")
    if path.exists() or not log.exists() or not log.stat().st_size:
        return
    msg = (
        f"{path}: the trace was moved or deleted while its log {log.name} stayed, which holds its newest entries; put"
        " the trace back beside it, or move the log to where the trace went, or name a fresh folder with --state DIR"
    )
    raise StoreError(msg)


def _touch(path: Path) -> None:
    """Make the file before SQLite does: its log and index take their mode from it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _is_blank(db: sqlite3.Connection) -> bool:
    """Whether the file is new, or its making was cut short."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    return application == 0 and db.execute("SELECT 1 FROM sqlite_master").fetchone() is None


def _create(db: sqlite3.Connection, folder: Path) -> None:
    db.execute(f"PRAGMA page_size={schema.PAGE_BYTES}")
    db.execute("PRAGMA journal_mode=WAL")
    db.executescript(
        f"BEGIN IMMEDIATE; PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version={schema.FORMAT};"
        f"{schema.TABLES}"
    )
    meta = {
        "store": os.urandom(16).hex(),
        "segment": 1,
        "first_pos": 0,
        "read_from": schema.READ_FROM,
        "shape": schema.SHAPE,
    }
    db.executemany("INSERT INTO meta(key, value) VALUES(?, ?)", [(key, str(value)) for key, value in meta.items()])
    db.execute("COMMIT")
    sync_folder(folder)


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not ours, newer, closed or damaged."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application != schema.APPLICATION_ID:
        msg = f"{path}: this file is no trace of ours; move it away or name another folder with --state DIR"
        raise StoreError(msg)
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > schema.FORMAT:
        msg = f"{path}: the trace has format {found} and this version writes {schema.FORMAT}; update soothsayer-mcp"
        raise StoreError(msg)
    shape = db.execute("SELECT value FROM meta WHERE key = 'shape'").fetchone()
    if found == schema.FORMAT and shape != (schema.SHAPE,):
        msg = f"{path}: the trace was begun by another build, with other tables; name a fresh folder with --state DIR"
        raise StoreError(msg)
    sql = "SELECT pos, writer, seq, leaf, body FROM entries ORDER BY pos DESC LIMIT ?"
    rows = db.execute(sql, (_TAIL,)).fetchall()
    tail = [Stored(pos=row[0], writer=row[1], seq=row[2], leaf=row[3], body=row[4]) for row in reversed(rows)]
    broken = find_break(tail)
    if broken:
        msg = f"{path}: the trace is damaged: {broken}; see `soothsayer trace verify`, then name a fresh --state DIR"
        raise StoreError(msg)


def _connect_reader(path: Path) -> sqlite3.Connection:
    reader = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=0
    )
    reader.execute("PRAGMA query_only=1")
    reader.execute("PRAGMA mmap_size=0")
    return reader


def _remedy(error: Exception) -> str:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return "keep the file for inspection and name a fresh folder with --state DIR"
        if code == sqlite3.SQLITE_BUSY:
            return "end the program that holds it, then start again"
    return "check free space and permissions, or name another folder with --state DIR"
