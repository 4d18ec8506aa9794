"""Questions to people in the store: one row each, which is the authority, and an entry for every change of it."""

import hashlib
import hmac
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from soothsayer_mcp.adapters.policy_files.signed import is_signed
from soothsayer_mcp.adapters.store.asks import (
    ANSWER,
    BY_CALL,
    BY_ID,
    GRANTS,
    ask_of,
    grant_of,
    load_ask,
    load_grant,
    needs_text,
)
from soothsayer_mcp.adapters.store.batch import Batch, load_key
from soothsayer_mcp.adapters.store.items import Item
from soothsayer_mcp.adapters.store.payloads import Payload, Payloads
from soothsayer_mcp.evidence.approvers import about, may_answer, missing, statement
from soothsayer_mcp.evidence.grants import why_not_remembered
from soothsayer_mcp.model.ask import Ask, AskAnswer, AskState, Grant, NewAsk, Vote
from soothsayer_mcp.model.call import Principal, RunId
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import canonical
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.trace import entries

_INSERT = (
    "INSERT INTO approvals(id, run, no, about, rule, call, asked_at, expires_at, state, strong, remember, shown, card,"
    " host_pid, channels, bound, needs, requester)"
    " VALUES(?, ?, 0, 'call', ?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT = "SELECT count(*) FROM approvals WHERE run = ? AND about = 'call'"
_VOTE = "INSERT INTO votes(ask, key, by, answer, at, signature) VALUES(?, ?, ?, ?, ?, ?)"
_GRANT = "INSERT INTO grants(id, run, server, tool, shape, bound, by, at) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"


class OpenAskItem(Item[Ask]):
    """Puts a question."""

    def __init__(self, ask: NewAsk, call: str, question: Payload) -> None:
        super().__init__()
        self._ask = ask
        self._call = call
        self._question = question
        self.size = question.size
        self.reads = ask.most is not None

    def apply(self, batch: Batch) -> Ask:
        """Write the row and its entry, unless its run has put as many as it may."""
        ask, at = self._ask, batch.now()
        if ask.most is not None:
            put = batch.db.execute(_PUT, (ask.run,)).fetchone()[0]
            if put >= ask.most:
                raise PortError(Reason.BUDGET_SPENT, f"the budget asks ({put:,} of {ask.most:,})", acted=Acted.NO)
        tail = entries.approval_asked(ask, call=self._call, question=self._question.field)
        batch.append(Kind.APPROVAL_ASKED, tail, at, run=ask.run, parts=[("question", self._question)])
        batch.later(
            _INSERT,
            ask.id,
            ask.run,
            entries.storable(ask.rule),
            self._call,
            at,
            ask.expires_at_us,
            int(ask.strong),
            ask.remember,
            ask.shown,
            canonical(ask.card).decode(),
            ask.host_pid,
            " ".join(ask.channels),
            ask.bound,
            needs_text(ask.needs),
            entries.storable(ask.requester),
        )
        return Ask(
            id=ask.id,
            run=ask.run,
            no=0,
            state=AskState.OPEN,
            rule=ask.rule,
            asked_at_us=at,
            expires_at_us=ask.expires_at_us,
            strong=ask.strong,
            remember=ask.remember,
            shown=ask.shown,
            card=ask.card,
            host_pid=ask.host_pid,
            channels=ask.channels,
            bound=ask.bound,
            call=self._call,
            needs=ask.needs,
            requester=ask.requester,
        )


class AnswerAskItem(Item[tuple[Ask, bool]]):
    """Answers a question, if nobody did: the first valid answer wins."""

    reads = True

    def __init__(self, answer: AskAnswer, comment: Payload | None) -> None:
        super().__init__()
        self._answer = answer
        self._comment = comment

    def apply(self, batch: Batch) -> tuple[Ask, bool]:
        """Write the answer; the question as it stands then, and whether this answer made it so."""
        answer, at = self._answer, batch.now()
        ask = load_ask(batch.db, answer.ask)
        if ask is None:
            raise PortError(Reason.STATE_CHANGED, f"question {answer.ask[:6]}", acted=Acted.NO)
        if ask.state is not AskState.OPEN:
            return ask, False
        state = answer.state
        if state in {AskState.YES, AskState.NO} and not ask.asked_at_us <= at <= ask.expires_at_us:
            state = AskState.EXPIRED  # An answer that came too late settles nothing but the question.
        if ask.needs and state in {AskState.YES, AskState.NO}:
            return self._vote(batch, ask, at)
        tail = entries.approval_answered(
            ask, answer, state=state, at=at, comment="" if self._comment is None else self._comment.field
        )
        parts = [] if self._comment is None else [("comment", self._comment)]
        batch.append(Kind.APPROVAL_ANSWERED, tail, at, run=ask.run, parts=parts)
        batch.later(
            ANSWER,
            state,
            at,
            entries.storable(answer.by.id),
            answer.channel,
            entries.storable(answer.comment),
            ask.id,
        )
        if state is AskState.YES and answer.shape is not None:
            _remember(batch, ask, answer, at)
        batch.flush()
        stands = load_ask(batch.db, ask.id)
        assert stands is not None
        return stands, state is answer.state

    def _vote(self, batch: Batch, ask: Ask, at: int) -> tuple[Ask, bool]:
        """Take a signed answer; the question is settled once one says no, or all that are due say yes."""
        vote = self._answer.vote
        if vote is not None and any(known.key == vote.key for known in ask.votes):
            return ask, False
        if vote is None or not self._holds(ask, vote):
            raise PortError(Reason.SIGNATURE_INVALID, f"question {ask.id[:6]}", acted=Acted.NO)
        name = next(name for need in ask.needs for name, key in need.keys if key == vote.key)
        vote = replace(vote, by=name)
        answer = replace(self._answer, state=vote.answer, by=Principal(id=name, how="key"), vote=vote, shape=None)
        said = {known.key for known in (*ask.votes, vote)}
        state = vote.answer if vote.answer is AskState.NO or not missing(ask, said) else AskState.OPEN
        comment = "" if self._comment is None else self._comment.field
        tail = entries.approval_answered(ask, answer, state=vote.answer, at=at, comment=comment)
        batch.append(
            Kind.APPROVAL_ANSWERED,
            tail,
            at,
            run=ask.run,
            parts=[] if self._comment is None else [("comment", self._comment)],
        )
        batch.later(_VOTE, ask.id, vote.key, name, vote.answer, vote.at_us, vote.signature)
        if state is not AskState.OPEN:
            names = ", ".join([known.by for known in ask.votes] + [name])
            batch.later(
                ANSWER, state, at, entries.storable(names), answer.channel, entries.storable(answer.comment), ask.id
            )
        batch.flush()
        stands = load_ask(batch.db, ask.id)
        assert stands is not None
        return stands, True

    def _holds(self, ask: Ask, vote: Vote) -> bool:
        """Whether a vote is signed by who may answer; what was there before was looked at when it came."""
        if self._answer.state is not vote.answer or not may_answer(ask, vote.key):
            return False
        if not ask.asked_at_us <= vote.at_us <= ask.expires_at_us:
            return False
        return is_signed(vote.key, vote.signature, statement(ask, about(ask.card), vote.answer, vote.at_us))


def _remember(batch: Batch, ask: Ask, answer: AskAnswer, at: int) -> None:
    why = why_not_remembered(ask)
    if why or answer.shape is None:
        raise PortError(Reason.STATE_CHANGED, why, acted=Acted.NO)
    server, tool = str(ask.card.get("server", "")), str(ask.card.get("tool", ""))
    values = (ask.id, ask.run, server, tool, canonical(answer.shape).decode(), ask.bound, answer.by.id, at)
    batch.later(_GRANT, *values)


class RevokeItem(Item[Grant]):
    """Takes a remembered answer back."""

    reads = True

    def __init__(self, grant: str, by: str) -> None:
        super().__init__()
        self._grant = grant
        self._by = by

    def apply(self, batch: Batch) -> Grant:
        """Write that it holds no longer, if it does."""
        grant = load_grant(batch.db, self._grant)
        if grant is None:
            raise PortError(Reason.STATE_CHANGED, f"answer {self._grant[:6]}", acted=Acted.NO)
        if not grant.revoked:
            at = batch.now()
            fields = {"approval": grant.id, "by": self._by}
            batch.append(Kind.GRANT_REVOKED, entries.note(Kind.GRANT_REVOKED, fields, {}), at, run=grant.run)
            batch.later("UPDATE grants SET revoked_at = ? WHERE id = ?", at, grant.id)
        return replace(grant, revoked=True)


class AskBook:
    """Implements `ports.Asks` over the store's own connections."""

    def __init__(self, submit: Callable[[Item[Any]], Any], reader: sqlite3.Connection, payloads: Payloads) -> None:
        """`submit` has an item written and waits for its receipt."""
        self._submit = submit
        self._reader = reader
        self._payloads = payloads

    async def open(self, ask: NewAsk) -> Ask:
        """Put a question; durable when this returns."""
        question = self._payloads.ready(canonical(ask.card))
        return cast("Ask", await self._submit(OpenAskItem(ask, self._call(ask.run, ask.digest), question)))

    async def answer(self, answer: AskAnswer) -> tuple[Ask, bool]:
        """Answer a question, if nobody did: as it stands then, and whether this answer counted."""
        return cast("tuple[Ask, bool]", await self._submit(self.answering(answer)))

    def answering(self, answer: AskAnswer) -> AnswerAskItem:
        """The item of an answer, for those who write without an event loop."""
        comment = self._payloads.ready(answer.comment.encode(errors="replace")) if answer.comment else None
        return AnswerAskItem(answer, comment)

    def find(self, run: RunId, digest: str) -> Ask | None:
        """The newest question of a run about this call. Raises `PortError`."""
        return self._one(BY_CALL, (run, self._call(run, digest)))

    def look(self, ask_id: str) -> Ask | None:
        """A question as it stands. Raises `PortError`."""
        return self._one(BY_ID, (ask_id,))

    def grants(self, run: RunId, server: str, tool: str) -> list[Grant]:
        """The remembered answers of a run about a tool that still hold. Raises `PortError`."""
        sql = f"{GRANTS} WHERE run = ? AND server = ? AND tool = ? AND revoked_at IS NULL"
        try:
            rows = self._reader.execute(sql, (run, server, tool)).fetchall()
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, "the record cannot be read", acted=Acted.NO) from error
        return [grant_of(row) for row in rows]

    def _one(self, sql: str, params: tuple[object, ...]) -> Ask | None:
        try:
            row = self._reader.execute(sql, params).fetchone()
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, "the record cannot be read", acted=Acted.NO) from error
        return None if row is None else ask_of(row)

    def _call(self, run: RunId, digest: str) -> str:
        """A digest as rows and entries keep it: keyed by the run, so that nobody can try out what was in a call."""
        try:
            key = load_key(self._reader, run)
        except sqlite3.Error as error:
            raise PortError(Reason.TRACE_UNAVAILABLE, "the record cannot be read", acted=Acted.NO) from error
        return "hmac:" + hmac.digest(key, bytes.fromhex(digest), hashlib.sha256).hex()
