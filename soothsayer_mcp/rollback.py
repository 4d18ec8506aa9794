"""Undoing a run: one governed step for each step that is undone, last one first, each checked and on record."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from soothsayer_mcp.evidence.scope import AbsentError, fill
from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import CONTROL, Cause, Client, Principal, Proposal, RunId, ToolDefinition
from soothsayer_mcp.model.dues import Dues, Item
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.json import Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import ClosedStep, ProposedStep, RecordedStep
from soothsayer_mcp.model.subject import FILE, subject
from soothsayer_mcp.model.undo import ABSENT, RESTORE, Captured, Done, FileBefore, UndoState, UndoTerms
from soothsayer_mcp.ports import Call, Clock, Ids, PortError, Servers, Tools
from soothsayer_mcp.undo.kept import Kept
from soothsayer_mcp.undo.plan import ACTS, TRIES, Move, MoveKind, Past, Plan, Present, after_of, plan, state_digest
from soothsayer_mcp.wire import replies

RESTORE_TOOL = ToolDefinition(
    server=CONTROL, name=RESTORE, raw=b"{}", digest=digest(b"{}"), properties=frozenset({"step", "files"})
)
"""What puts files back: a tool of ours, so that it is decided and recorded as every other."""
CLIENT = Client(name="soothsayer-rollback")
BY_POLICY = "policy"
"""Who confirmed a plan that policy demands."""


class Restoring(Protocol):
    """Puts files back. Both raise `PortError`."""

    async def look(self, path: str, tag: str) -> str:
        """How a file stands; what an undo with this tag moved aside and did not finish counts as still there."""
        ...

    async def restore(self, before: FileBefore, after: str, tag: str) -> str:
        """Put a file back that stands as `after`. What stands against it, in words; empty when it is done."""
        ...


class UndoBook(Protocol):
    """The record of undoing. Each raises `PortError`."""

    async def record_plan(self, run: RunId, plan: str, *, undo: Sequence[int], left: Sequence[int], by: str) -> None:
        """Record that a plan was confirmed."""
        ...

    async def record_undo(
        self, run: RunId, no: int, done: Done, *, plan: str, settle: Acted | None, pause: str = ""
    ) -> None:
        """Record what became of one step, and whether it had happened where that was not known.

        An open run is paused where `pause` says why.
        """
        ...


class Restorer:
    """Implements `Tools` for rollback: files are put back here, inverse calls go to their servers."""

    def __init__(self, files: Restoring, servers: Tools | None) -> None:
        """Put files back through `files`; without `servers` nothing else can be called."""
        self._files = files
        self._servers = servers
        self._wanted: Mapping[str, tuple[tuple[FileBefore, str], ...]] = {}

    def want(self, of_step: str, files: tuple[tuple[FileBefore, str], ...]) -> None:
        """Hold what the next step puts back: files as they were, and the state in which each is expected."""
        self._wanted = {of_step: files}

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        """Do it. Raises `PortError`."""
        if step.proposal.server != CONTROL:
            if self._servers is None:
                raise PortError(Reason.SERVER_UNREACHABLE, step.proposal.server, acted=Acted.NO)
            return await self._servers.forward(step, call)
        call.sent = True
        against: list[Json] = []
        for before, after in self._wanted.get(step.of_step, ()):
            try:
                said = await self._files.restore(before, after, step.of_step)
            except PortError as error:
                said = error.summary
            if said:
                against.append(f"{before.path}: {said}")
        text = "; ".join(map(str, against)) or "put back"
        result: JsonObject = {
            "content": [{"type": "text", "text": text}],
            "structuredContent": {"against": against},
            "isError": bool(against),
        }
        raw = compact({"jsonrpc": "2.0", "id": step.proposal.request_id, "result": result})
        return Returned(raw=raw, result=result)


class Rollback:
    """Undoes steps of one run."""

    def __init__(
        self,
        *,
        run: RunId,
        governor: Governor,
        restorer: Restorer,
        files: Restoring,
        book: UndoBook,
        principal: Principal,
        workspace: str,
        clock: Clock,
        ids: Ids,
        servers: Servers | None = None,
    ) -> None:
        """Each undo is governed by `governor`, which forwards to `restorer`."""
        self._servers = servers
        self._run = run
        self._governor = governor
        self._restorer = restorer
        self._files = files
        self._book = book
        self._principal = principal
        self._workspace = workspace
        self._clock = clock
        self._ids = ids

    async def carry_out(self, plan: Plan, pasts: Sequence[Past], *, by: str) -> list[Done]:
        """Do what a plan says, in its order; the first step that does not come back ends it."""
        await self._book.record_plan(self._run, plan.digest, undo=plan.of(ACTS), left=plan.of(_STAYS), by=by)
        by_no = {past.no: past for past in pasts}
        found: list[Done] = []
        for no in dict.fromkeys(move.no for move in plan.moves):
            moves = [move for move in plan.moves if move.no == no]
            past = by_no[no]
            kinds = {move.kind for move in moves}
            if kinds & _STAYS:
                if MoveKind.IRREVERSIBLE in kinds:
                    done = Done(no=no, state=UndoState.IRREVERSIBLE, why=moves[0].why)
                    await self._book.record_undo(self._run, no, done, plan=plan.digest, settle=None)
                    found.append(done)
                continue
            done, settle = await self._one(past, moves)
            await self._book.record_undo(self._run, no, done, plan=plan.digest, settle=settle)
            found.append(done)
            if done.state not in {UndoState.UNDONE, UndoState.NOT_NEEDED}:
                break
        return found

    async def at_once(self, closed: ClosedStep) -> Done:
        """Undo a step that has just ended; one try. Raises `PortError` when it is not recorded."""
        terms, before = closed.decision.dues.undo, closed.support.captured
        assert terms is not None
        assert before is not None
        if terms.tool:
            return await self._call_at_once(closed, terms, before)
        kept = Kept(terms=terms, before=before, args={}, expected={}, after=closed.after)
        past = _ended(closed, kept)
        moves: list[Move] = []
        for one in before.files:
            kind = MoveKind.DELETE if one.state == ABSENT else MoveKind.RESTORE
            left = after_of(kept, one.path)
            moves.append(Move(no=past.no, kind=kind, about=one.path, now=left, after=left, before=one.state))
        made = Plan(moves=tuple(moves))
        states = {"before": moves[0].before, "after": moves[0].now} if len(moves) == 1 else {}
        await self._book.record_plan(self._run, made.digest, undo=[past.no], left=[], by=BY_POLICY)
        if all(move.now == move.before for move in moves):
            done = Done(no=past.no, state=UndoState.NOT_NEEDED, why="it is as it was", **states)
        else:
            done = _judged(past, await self._governed(past, kept, moves, 0), states)
        await self._book.record_undo(self._run, past.no, done, plan=made.digest, settle=None)
        return done

    async def _call_at_once(self, closed: ClosedStep, terms: UndoTerms, before: Captured) -> Done:
        """Take a call back by its inverse, if what it changed still is as it left it."""
        assert self._servers is not None
        after, opens = closed.after, closed.decision.dues.opens
        kept = Kept(terms=terms, before=before, args=closed.proposal.arguments, expected={}, opens=opens, after=after)
        past = _ended(closed, kept)
        made = plan([past], await look_at_calls([past], self._run, self._servers, Present()))
        (move,) = made.moves
        states = {"before": move.before, "after": move.now}
        await self._book.record_plan(self._run, made.digest, undo=[past.no], left=[], by=BY_POLICY)
        same = (
            before.has_seen and after is not None and after.has_seen and canonical(after.seen) == canonical(before.seen)
        )
        if same or move.kind is MoveKind.NOT_NEEDED:
            done = Done(no=past.no, state=UndoState.NOT_NEEDED, why="it is as it was", **states)
        elif move.kind is MoveKind.CALL:
            done = _judged(past, await self._called(past, kept, 0), states)
        else:
            state = UndoState.FAILED if move.kind is MoveKind.IRREVERSIBLE else UndoState.CONFLICT
            done = Done(no=past.no, state=state, why=move.why, **states)
        over = done.state in {UndoState.UNDONE, UndoState.NOT_NEEDED}
        pause = "" if over else f"the undo of a step did not succeed: {done.why or done.state}"
        await self._book.record_undo(self._run, past.no, done, plan=made.digest, settle=None, pause=pause)
        return done

    async def _one(self, past: Past, moves: Sequence[Move]) -> tuple[Done, Acted | None]:
        acts = [move for move in moves if move.kind in ACTS]
        states = {"before": moves[0].before, "after": moves[0].now} if len(moves) == 1 else {}
        if not acts:
            # It is as it was. Where an undo of ours had begun, that one did it.
            last = past.tries[-1][0] if past.tries else 0
            if last and past.kept is not None:
                # It may have been cut short with the file in place and the other one still aside.
                for one in past.kept.before.files:
                    after = next((move.after for move in moves if move.about == one.path), "")
                    await self._files.restore(one, after, f"{self._run}.{past.no}")
            state = UndoState.UNDONE if last else UndoState.NOT_NEEDED
            by_step = f"{self._run}.{last}" if last else ""
            settle = (Acted.YES if last else Acted.NO) if past.unsettled else None
            return Done(no=past.no, state=state, by_step=by_step, why=moves[0].why, **states), settle
        assert past.kept is not None
        settle = Acted.YES if past.unsettled else None
        done = Done(no=past.no, state=UndoState.FAILED)
        if past.kept.terms.tool:
            stands = await self._as_it_stands(past.kept, acts[0])
            if stands is not None:
                state, why = stands
                return Done(no=past.no, state=state, why=why, **states), None
        for number in range(len(past.tries), max(len(past.tries) + 1, TRIES)):
            closed = await self._governed(past, past.kept, acts, number)
            done = _judged(past, closed, states)
            if done.state is not UndoState.FAILED or not _may_try_again(closed):
                break
        return done, settle

    async def _as_it_stands(self, kept: Kept, move: Move) -> tuple[UndoState, str] | None:
        """What stands against an inverse call when its turn comes, or makes it unnecessary; `None` if nothing does."""
        if not move.now or kept.terms.look is None or self._servers is None:
            return None
        try:
            found = await self._servers.read(self._run, kept.terms.look.tool, dict(kept.before.look_args))
        except PortError as error:
            return UndoState.CONFLICT, error.summary
        if state_digest(found) == move.before:
            return UndoState.NOT_NEEDED, "it is as it was"
        return None if state_digest(found) == move.now else (UndoState.CONFLICT, "changed by something else since")

    async def _called(self, past: Past, kept: Kept, number: int) -> "ClosedStep | Unrecorded":
        """One try of an inverse call, with arguments of the record alone."""
        assert self._servers is not None
        of_step, terms = f"{self._run}.{past.no}", kept.terms
        server, _, name = terms.tool.partition(".")
        request_id = self._servers.request_id(f"undo:{of_step}:{number}" if number else f"undo:{of_step}")
        try:
            tool = await self._servers.find(terms.tool)
            arguments = inverse_arguments(kept)
        except PortError as error:
            return Unrecorded(failure=error.failure)
        except AbsentError as absent:
            return Unrecorded(failure=Failure(reason=Reason.ARGUMENTS_INVALID, summary=str(absent)))
        params: JsonObject = {"name": name, "arguments": arguments}
        if self._servers.meta is not None:
            params["_meta"] = self._servers.meta
        step = ProposedStep(
            id=self._ids.step(),
            run_id=self._run,
            cause=Cause.UNDO,
            principal=self._principal,
            client=CLIENT,
            tool=tool,
            proposal=Proposal(
                server=server,
                tool=name,
                arguments=arguments,
                raw_arguments=compact(arguments),
                raw=replies.request(request_id, "tools/call", params),
                request_id=request_id,
            ),
            flaws=_flaws(tool, arguments),
            proposed_at_us=self._clock.now_us(),
            began_ns=self._clock.monotonic_ns(),
            of_step=of_step,
            owes=Dues(opens=kept.opens, verify=(_owed(kept),)),
            names=kept.values,
        )
        return await self._governor.govern(step, self._servers.call())

    async def _governed(self, past: Past, kept: Kept, acts: Sequence[Move], number: int) -> "ClosedStep | Unrecorded":
        if kept.terms.tool:
            return await self._called(past, kept, number)
        of_step = f"{self._run}.{past.no}"
        chosen = {move.about: move for move in acts}
        pairs = tuple((one, chosen[one.path].after) for one in kept.before.files if one.path in chosen)
        self._restorer.want(of_step, pairs)
        told: list[Json] = [{"path": one.path, "from": after, "to": one.state} for one, after in pairs]
        arguments: JsonObject = {"step": of_step, "files": told}
        owed: JsonObject = {"files": {one.path: one.state for one, _ in pairs}}
        dues = Dues(
            opens=tuple(subject(FILE, (one.path,)) for one, _ in pairs),
            verify=(Item(kind="restored", spec=owed, rule=kept.terms.rule, root=kept.terms.root),),
        )
        step = ProposedStep(
            id=self._ids.step(),
            run_id=self._run,
            cause=Cause.UNDO,
            principal=self._principal,
            client=CLIENT,
            tool=RESTORE_TOOL,
            proposal=Proposal(
                server=CONTROL,
                tool=RESTORE,
                arguments=arguments,
                raw_arguments=compact(arguments),
                raw=b"",
                request_id=f"undo:{of_step}",
            ),
            flaws=(),
            proposed_at_us=self._clock.now_us(),
            began_ns=self._clock.monotonic_ns(),
            of_step=of_step,
            owes=dues,
        )
        return await self._governor.govern(step, Call())


def _ended(closed: ClosedStep, kept: Kept) -> Past:
    """A step that has just ended, as the record tells it."""
    return Past(
        no=closed.intent.no,
        server=closed.proposal.server,
        tool=closed.proposal.tool,
        reads=False,
        outcome="failed",
        acted=closed.acted,
        kind=kept.terms.kind,
        state=UndoState.OPEN,
        ended=closed.closing.seq,
        gone=False,
        kept=kept,
    )


def inverse_arguments(kept: Kept) -> JsonObject:
    """The arguments of an inverse call. Raises `AbsentError` where the record does not hold what they name."""
    filled = fill(dict(kept.terms.args or {}), kept.values)
    assert isinstance(filled, Mapping)
    return dict(filled)


def _owed(kept: Kept) -> Item:
    """What shows that an inverse call put things back: the check that policy names, else the look again."""
    terms = kept.terms
    readback = None if terms.check is None else terms.check.get("readback")
    if isinstance(readback, Mapping):
        return Item(kind="readback", spec=readback, rule=terms.rule, root=terms.root)
    assert terms.look is not None
    spec: JsonObject = {"look": terms.look.tool, "args": dict(kept.before.look_args), "seen": kept.before.seen}
    return Item(kind="restored", spec=spec, rule=terms.rule, root=terms.root)


def _flaws(tool: ToolDefinition, arguments: JsonObject) -> tuple[Failure, ...]:
    fault = None if tool.check_arguments is None else tool.check_arguments(arguments)
    if fault is None:
        return ()
    summary = f"argument {fault.path or 'the whole'} {fault.problem}"
    return (Failure(reason=Reason.ARGUMENTS_INVALID, summary=summary),)


async def look_at_calls(pasts: Sequence[Past], run: RunId, servers: Servers, present: Present) -> Present:
    """Add how those steps stand that an inverse call undoes: what can be called, and what their looks find."""
    calls: dict[int, JsonObject] = {}
    barred: dict[int, str] = {}
    looks: dict[int, str] = {}
    seen: dict[str, Json] = {}
    doubts: dict[str, str] = {}
    for past in pasts:
        kept = past.kept
        if kept is None or not kept.terms.tool or not past.has_effect:
            continue
        try:
            calls[past.no] = arguments = inverse_arguments(kept)
            for flaw in _flaws(await servers.find(kept.terms.tool), arguments):
                barred[past.no] = flaw.summary
        except AbsentError as absent:
            barred[past.no] = f"{absent} on record, which its inverse call needs"
        except PortError as error:
            barred[past.no] = error.summary
        if kept.terms.look is None:
            continue
        args = dict(kept.before.look_args)
        looks[past.no] = named = compact([kept.terms.look.tool, args]).decode()
        if past.no in barred or named in seen or named in doubts:
            continue
        try:
            seen[named] = await servers.read(run, kept.terms.look.tool, args)
        except PortError as error:
            doubts[named] = error.summary
    return replace(present, calls=calls, barred=barred, looks=looks, seen=seen, doubts={**present.doubts, **doubts})


async def look_around(pasts: Sequence[Past], files: Restoring, run: RunId) -> Present:
    """How all files stand that may have to be put back."""
    seen: dict[str, str] = {}
    doubts: dict[str, str] = {}
    for past in pasts:
        if past.kept is None or not past.has_effect:
            continue
        for one in past.kept.before.files:
            try:
                state = await files.look(one.path, f"{run}.{past.no}")
            except PortError as error:
                doubts[one.path] = error.summary
                continue
            if state != "absent" or one.path not in seen:
                seen[one.path] = state
    return Present(files={path: state for path, state in seen.items() if path not in doubts}, doubts=doubts)


_STAYS: frozenset[MoveKind] = frozenset({MoveKind.IRREVERSIBLE, MoveKind.LEFT})


def _judged(past: Past, closed: "ClosedStep | Unrecorded", states: Mapping[str, str]) -> Done:
    if isinstance(closed, Unrecorded):
        return Done(no=past.no, state=UndoState.FAILED, why=f"{closed.failure.reason} {closed.failure.summary}".strip())
    by_step = f"{closed.run_id}.{closed.intent.no}"
    failure = closed.failure
    if failure is None:
        return Done(
            no=past.no, state=UndoState.UNDONE, by_step=by_step, **{**states, "after": states.get("before", "")}
        )
    why = f"{failure.reason} {failure.summary}".strip()
    structured = closed.outcome.structured if isinstance(closed.outcome, Returned) else None
    against = structured.get("against") if isinstance(structured, dict) and closed.proposal.server == CONTROL else None
    if isinstance(against, list) and against:
        files = closed.proposal.arguments.get("files")
        partly = isinstance(files, list) and len(against) < len(files)
        state = UndoState.PARTLY if partly else UndoState.CONFLICT
        return Done(no=past.no, state=state, by_step=by_step, why="; ".join(map(str, against)), **states)
    return Done(no=past.no, state=UndoState.FAILED, by_step=by_step, why=why, **states)


def _may_try_again(closed: "ClosedStep | Unrecorded") -> bool:
    """Only what certainly did nothing is tried again, and not what policy denies."""
    if isinstance(closed, Unrecorded):
        return False
    failure = closed.failure
    return failure is not None and closed.acted is Acted.NO and failure.reason is not Reason.RULE_DENIED
