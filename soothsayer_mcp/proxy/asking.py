"""Asking a person about a call: the form in the host, the state a host carries, the wait, and what a retry is worth."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import anyio

from soothsayer_mcp.evidence.approval import call_digest, has_expired, is_fresh
from soothsayer_mcp.evidence.approvers import about, state_of
from soothsayer_mcp.evidence.grants import bound_to, fits
from soothsayer_mcp.model.ask import (
    Approval,
    Ask,
    AskAnswer,
    AskState,
    AskTerms,
    Channel,
    Grant,
    NewAsk,
    Remember,
)
from soothsayer_mcp.model.call import Principal, RunId
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.model.outcome import Asked
from soothsayer_mcp.model.step import ClosedStep, DecidedStep
from soothsayer_mcp.ports import Call, PortError
from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.inputs import InvalidStateError
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.people import FILLED, OURS, AskSettings, Retry
from soothsayer_mcp.proxy.pins import Books
from soothsayer_mcp.proxy.requests import Requests
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.eras import META_CLIENT_CAPABILITIES
from soothsayer_mcp.wire.frame import Edit, Frame, Insert, Remove, Replace

FORM: Final[JsonObject] = {"type": "object", "properties": {}}
"""No field: accepting is yes, declining is no, with the fewest keys."""
FORM_CHARS = 6_000
"""A card that is longer is not put as a form: a host may cut it, and nothing may be approved that was not shown."""
SHARE_OF_LIMIT = 0.6
"""How much of a host's own limit a call is held."""
PUT_AWAY: Final = "put_away"
"""Stands for a channel where a host closed a question unanswered."""
LOOK_S = 0.15
"""How often the row of a held call is looked at: somebody may answer in another process."""
PROGRESS_S = 5.0
STATE_CHARS = 65_536


class Asking:
    """Puts questions about calls, and takes what comes back."""

    def __init__(self, connection: HostConnection, books: Books, requests: Requests, settings: AskSettings) -> None:
        """No question is open."""
        self._books = books
        self._connection = connection
        self._requests = requests
        self._settings = settings
        self._shown: dict[str, anyio.Event] = {}
        """Questions whose form, or page, is open in this host; set when anything came back that ends the wait."""
        self._visited: set[str] = set()
        """Those of them whose page somebody agreed to open."""

    def call_of(self, request: HostRequest) -> Call:
        """The live side of a call that a person can be asked about."""
        call = Call()
        call.ask = partial(self._put, request, call)
        return call

    # -- what a retry brings ------------------------------------------------------------------------------------------

    def retry_of(self, request: HostRequest, run: RunId) -> Retry | None:
        """Read the state of a request. Raises `InvalidStateError` for one that is not ours though it says so."""
        if not request.stateless:
            return None
        state = (request.frame.params or {}).get("requestState")
        if not isinstance(state, str) or not state.startswith(f"{OURS}."):
            return None
        claims = self._settings.unseal(state) if len(state) <= STATE_CHARS else None
        if claims is not None and claims.get("k") == FILLED:
            return None
        retry = None if claims is None else _retry(claims)
        if claims is None or retry is None or claims.get("r") != run or claims.get("p") != self._principal:
            raise InvalidStateError
        return retry

    def towards(self, frame: Frame, retry: Retry) -> list[Edit]:
        """What of a retry is ours and goes no further; the rest of it is the server's."""
        edits: list[Edit] = []
        if retry.state is None:
            edits.append(Remove(("params", "requestState")))
        else:
            edits.append(Replace(("params", "requestState"), compact(retry.state)))
        params = frame.params or {}
        given = params.get("inputResponses")
        if retry.responses is not None:
            edits.append(Insert(("params",), "inputResponses", compact(retry.responses)))
        elif retry.kind != "go" and isinstance(given, Mapping) and OURS in given:
            # After a yes nobody is asked by us again: an answer under our name is for a proxy behind us.
            whole = len(given) == 1
            edits.append(Remove(("params", "inputResponses") if whole else ("params", "inputResponses", OURS)))
        return edits

    def answer(self, request: HostRequest, closed: ClosedStep) -> bytes | None:
        """Our question as a result of the stateless era; `None` where none was put this way."""
        ask = request.question
        if ask is None or not isinstance(closed.outcome, Asked):
            return None
        params = request.frame.params or {}
        state = params.get("requestState")
        retry = request.retry
        own = retry.state if retry is not None else state if isinstance(state, str) else None
        responses = retry.responses if retry is not None else params.get("inputResponses")
        kind = "page" if request.page else "ask"
        claims = self._claims(kind, closed, ask=ask.id, digest=request.digest, expires_at_us=ask.expires_at_us)
        claims |= {"u": own, "i": responses}
        question: JsonObject = {"mode": "form", "message": self._text(ask), "requestedSchema": FORM}
        if request.page:
            question = {"mode": "url", "message": _invitation(ask), "url": request.page}
        result: JsonObject = {
            "resultType": "input_required",
            "requestState": self._settings.seal(claims),
            "inputRequests": {OURS: {"method": "elicitation/create", "params": question}},
        }
        return replies.result(request.id, result)

    def carried(self, closed: ClosedStep, answer: Frame) -> bytes:
        """A server's own question after a yes: its state within ours, so that nobody is asked twice about one call."""
        approval = closed.support.approval
        result = answer.result
        if approval is None or not isinstance(result, Mapping) or result.get("resultType") != "input_required":
            return answer.raw
        state = result.get("requestState")
        expires = self._connection.clock.now_us() + round(self._settings.expires_s * 1_000_000)
        claims = self._claims("go", closed, ask=approval.ask, digest=approval.digest, expires_at_us=expires)
        claims |= {"u": state if isinstance(state, str) else None}
        return answer.edited(Insert(("result",), "requestState", compact(self._settings.seal(claims))))

    def _claims(self, kind: str, closed: ClosedStep, *, ask: str, digest: str, expires_at_us: int) -> JsonObject:
        return {
            "k": kind,
            "a": ask,
            "s": f"{closed.run_id}.{closed.intent.no}",
            "d": digest,
            "r": closed.run_id,
            "p": self._principal,
            "x": expires_at_us,
            "n": self._connection.ids.token(),
        }

    @property
    def _principal(self) -> str:
        return digest(self._connection.principal.id.encode(errors="replace"))

    # -- before the call ----------------------------------------------------------------------------------------------

    async def _put(self, request: HostRequest, call: Call, step: DecidedStep) -> Support:
        server = self._connection.fleet.named(step.proposal.server)
        if server is None:
            return _gap(Reason.NOBODY_TO_ASK, "no server takes it")
        now = self._connection.clock.now_us()
        identity = server.identity.digest
        asked = request.digest = call_digest(identity, step, step.decision)
        covered = self._covered(request, step, identity, asked, now)
        if covered is not None:
            return covered
        ask, asks_host = await self._found(request, step, asked, now)
        now = self._connection.clock.now_us()
        fresh = ask is None or ask.state in {AskState.EXPIRED, AskState.WITHDRAWN} or ask.spent or _is_stale(ask, now)
        fresh = fresh or not self._has_its_votes(step, ask)
        if fresh or ask is None:
            channels = self._channels(request, step)
            if not channels:
                return _gap(Reason.NOBODY_TO_ASK, _rule(step))
            try:
                ask = await self._open(step, identity, asked, channels, now)
            except PortError as error:
                if error.reason is not Reason.BUDGET_SPENT:
                    raise
                return _gap(error.reason, error.summary)
        if ask.state is AskState.OPEN:
            ask = await self._down_the_ladder(request, call, step, ask, fresh=fresh, asks_host=asks_host)
            if ask.state is AskState.YES and not await self._is_as_shown(request, step, server):
                failure = Failure(reason=Reason.DEFINITION_CHANGED, summary=f"{_named(step)} changed")
                return Support(gaps=(failure,), ask=ask.id, newly_asked=fresh)
        return replace(self._settled(step, ask, identity, asked, call), newly_asked=fresh)

    def _covered(self, request: HostRequest, step: DecidedStep, identity: str, asked: str, now: int) -> Support | None:
        """What an earlier yes covers without a question: a call it was spent on, or one of a remembered shape."""
        retry = request.retry
        if retry is not None and (retry.digest != asked or not now <= retry.expires_at_us):
            retry = request.retry = None  # Another call, or too late: a fresh proposal.
        if retry is not None and retry.kind == "go":
            approval = Approval(ask=retry.ask, digest=asked, identity=identity, go=retry.nonce)
            return Support(approval=approval, continues=retry.step)
        grant = self._remembered(step, identity)
        if grant is None:
            return None
        return Support(approval=Approval(ask=grant.id, digest=asked, identity=identity, grant=grant.id))

    async def _found(self, request: HostRequest, step: DecidedStep, asked: str, now: int) -> tuple[Ask | None, bool]:
        """The question about this call, if one was put; and whether the host may be asked, or has just answered."""
        ask = await self._current(self._settings.book.find(step.run_id, asked), now)
        if ask is not None and ask.state is not AskState.OPEN:
            self._unshow(ask.id)
        retry = request.retry
        if retry is not None and ask is not None and ask.id == retry.ask and ask.state is AskState.OPEN:
            # Whoever agreed to look at a page has answered nothing.
            return (ask if retry.kind == "page" else await self._responded(request, ask)), False
        return ask, True

    async def _is_as_shown(self, request: HostRequest, step: DecidedStep, server: Downstream) -> bool:
        """Whether the tool is still defined as when the person was asked: a server may change it meanwhile."""
        envelope = self._connection.envelope_of(request)
        policy = self._connection.policies.current()
        tool = await self._books.of(server).find(step.proposal.tool, policy=policy, envelope=envelope)
        known = step.tool
        return tool is not None and known is not None and (tool.digest, tool.pin) == (known.digest, known.pin)

    def _remembered(self, step: DecidedStep, identity: str) -> Grant | None:
        """An earlier yes of this run that covers the call, where the rules that ask let one."""
        terms = step.decision.asks or AskTerms()
        if terms.strong or terms.needs or terms.remember is not Remember.RUN:
            return None
        bound = bound_to(identity, step, step.decision)
        for grant in self._settings.book.grants(step.run_id, step.proposal.server, step.proposal.tool):
            if grant.bound == bound and fits(grant.shape, step.proposal.arguments):
                return grant
        return None

    def _settled(self, step: DecidedStep, ask: Ask, identity: str, asked: str, call: Call) -> Support:
        support = Support(ask=ask.id, continues=f"{ask.run}.{ask.no}" if ask.no else "")
        match ask.state:
            case AskState.YES if not self._has_its_votes(step, ask):
                failure = Failure(reason=Reason.SIGNATURE_INVALID, summary=_named(step))
            case AskState.YES:
                return replace(support, approval=Approval(ask=ask.id, digest=asked, identity=identity))
            case AskState.NO:
                failure = Failure(reason=Reason.DECLINED, summary=ask.comment or "no reason was given")
            case AskState.EXPIRED:
                failure = Failure(reason=Reason.APPROVAL_EXPIRED, summary=_named(step))
            case AskState.WITHDRAWN if call.withdrawn or self._connection.left:
                failure = Failure(reason=Reason.WITHDRAWN, summary=call.cancel_reason or "by the host")
            case AskState.WITHDRAWN if ask.channel != PUT_AWAY:
                # The run was ended meanwhile: commit A says so.
                return replace(support, approval=Approval(ask=ask.id, digest=asked, identity=identity))
            case AskState.WITHDRAWN:
                failure = Failure(reason=Reason.NOBODY_TO_ASK, summary="the host closed the question unanswered")
            case AskState.OPEN:
                failure = Failure(reason=Reason.APPROVAL_PENDING, summary=_named(step))
                return replace(support, asked=Asked(failure=failure, ask=ask.id))
        return replace(support, gaps=(failure,))

    def _has_its_votes(self, step: DecidedStep, ask: Ask | None) -> bool:
        """Whether a yes is signed by all whom policy names; a row that was written by hand is not."""
        needs = () if step.decision.asks is None else step.decision.asks.needs
        if not needs or ask is None or ask.state is not AskState.YES:
            return True
        return state_of(ask, needs, about(_card(step)), self._settings.verify) is AskState.YES

    async def _current(self, ask: Ask | None, now: int) -> Ask | None:
        """The question as it stands; one whose time is over is closed."""
        if ask is None or not has_expired(ask, now):
            return ask
        return await self._end(ask, AskState.EXPIRED)

    async def _end(self, ask: Ask, state: AskState, *, channel: str = "") -> Ask:
        by = Principal(id=self._connection.principal.id, how="proxy")
        return (await self._settings.book.answer(AskAnswer(ask=ask.id, state=state, by=by, channel=channel)))[0]

    async def _open(self, step: DecidedStep, identity: str, asked: str, channels: tuple[str, ...], now: int) -> Ask:
        terms = step.decision.asks or AskTerms()
        expires_s = min(self._settings.expires_s, terms.expires_s or self._settings.expires_s)
        card = _card(step)
        return await self._settings.book.open(
            NewAsk(
                id=self._connection.ids.token(),
                run=step.run_id,
                span=step.id,
                rule=_rule(step),
                digest=asked,
                card=card,
                shown=digest_hex(card),
                strong=terms.strong,
                remember=terms.remember,
                expires_at_us=now + round(expires_s * 1_000_000),
                channels=channels,
                bound=bound_to(identity, step, step.decision),
                most=self._connection.policies.current().budgets.asks,
                host_pid=self._settings.host_pid,
                needs=terms.needs,
                requester=step.principal.id,
            )
        )

    # -- the ladder ---------------------------------------------------------------------------------------------------

    def _channels(self, request: HostRequest, step: DecidedStep) -> tuple[str, ...]:
        """By which ways a person can be reached now, best first; none means that nobody is asked."""
        terms = step.decision.asks
        strong = terms is not None and (terms.strong or bool(terms.needs))
        found: list[str] = []
        if not strong and self._offers(request, "form") and len(self._settings.write("", _card(step), 0)) <= FORM_CHARS:
            found.append(Channel.HOST)
        elif self._offers(request, "url") and self._settings.page():
            found.append(Channel.PAGE)
        if self._settings.watched():
            found.append(Channel.WATCH)
        if self._settings.notify is not None:
            found.append(Channel.TERMINAL)
        return tuple(found)

    def _offers(self, request: HostRequest, mode: str) -> bool:
        """Whether the host says that it puts forms to a person, or opens pages. A mode that is not named is a form."""
        offers = request.frame.meta.get(META_CLIENT_CAPABILITIES) if request.stateless else self._connection.offers
        offered = offers.get("elicitation") if isinstance(offers, Mapping) else None
        return isinstance(offered, Mapping) and (mode in offered or (mode == "form" and not offered))

    async def _down_the_ladder(
        self, request: HostRequest, call: Call, step: DecidedStep, ask: Ask, *, fresh: bool, asks_host: bool
    ) -> Ask:
        settings = self._settings
        channels = self._channels(request, step)
        limit_s = SHARE_OF_LIMIT * settings.limit_s(self._connection.client_of(request).name)
        began = self._connection.clock.monotonic_ns()
        pages = settings.page() if Channel.PAGE in channels else ""
        if (pages or Channel.HOST in channels) and asks_host:
            page = f"{pages}/asks/{ask.id}" if pages else ""
            if request.stateless:
                request.question, request.page = ask, page
                return ask
            if ask.id not in self._shown and fresh:
                self._show(ask, page)
                ask = await self._held(request, call, ask, limit_s)
        if ask.state is not AskState.OPEN:
            return ask
        if fresh and settings.notify is not None and {Channel.HOST, Channel.PAGE}.isdisjoint(channels):
            settings.notify(step.proposal.server, step.proposal.tool)
        if Channel.WATCH in channels or _has_agreed(request):
            left_s = limit_s - (self._connection.clock.monotonic_ns() - began) / 1e9
            ask = await self._held(request, call, ask, min(settings.hold_s, left_s))
        elif ask.id not in self._shown and settings.notify is None:
            # The host put it away, and nobody else can be told of it: it is not left open behind people's backs.
            return await self._end(ask, AskState.WITHDRAWN, channel=PUT_AWAY)
        return ask

    def _show(self, ask: Ask, page: str = "") -> None:
        """Open the form in the host. What it answers counts whenever it comes, as long as the question is open.

        With a `page` the host is asked to open that instead, and what it answers decides nothing.
        """
        self._shown[ask.id] = anyio.Event()

        def answered(frame: Frame | None) -> None:
            self._connection.spawn(self._page_answered if page else self._form_answered, ask, frame)

        params: JsonObject = {"message": self._text(ask), "requestedSchema": FORM}
        if page:
            params = {"mode": "url", "elicitationId": ask.id, "message": _invitation(ask), "url": page}
        self._requests.put_own("elicitation/create", params, answered, token=ask.id)

    async def _form_answered(self, ask: Ask, frame: Frame | None) -> None:
        try:
            await self._took(ask, None if frame is None else frame.result)
        finally:
            back = self._shown.pop(ask.id, None)
            if back is not None:
                back.set()

    async def _page_answered(self, ask: Ask, frame: Frame | None) -> None:
        """The host opened the page or did not; a call waits for what is said there only if it did."""
        result = None if frame is None else frame.result
        if isinstance(result, Mapping) and result.get("action") == "accept":
            self._visited.add(ask.id)
            return
        back = self._shown.pop(ask.id, None)
        if back is not None:
            back.set()

    async def _responded(self, request: HostRequest, ask: Ask) -> Ask:
        responses = (request.frame.params or {}).get("inputResponses")
        return await self._took(ask, responses.get(OURS) if isinstance(responses, Mapping) else None)

    async def _took(self, ask: Ask, result: Json) -> Ask:
        """Take what a host answered to a form: yes, no, or no decision."""
        action = result.get("action") if isinstance(result, Mapping) else None
        states = {"accept": AskState.YES, "decline": AskState.NO}
        state = states.get(action) if isinstance(action, str) else None
        if state is None or ask.strong or ask.needs:
            self._connection.dropped(b"", "no_decision", origin="host", method="elicitation/create")
            return ask
        by = Principal(id=self._connection.principal.id, how="host")
        answer = AskAnswer(ask=ask.id, state=state, by=by, channel=Channel.HOST)
        return (await self._settings.book.answer(answer))[0]

    async def _held(self, request: HostRequest, call: Call, ask: Ask, most_s: float) -> Ask:
        """Wait for an answer by whatever way, no longer than `most_s`; a call that its host gives up is withdrawn."""
        clock = self._connection.clock
        began = clock.monotonic_ns()
        told = 0
        back = self._shown.get(ask.id)
        while True:
            came_back = back is not None and back.is_set()
            stands = self._settings.book.look(ask.id)
            if stands is None or stands.state is not AskState.OPEN:
                self._unshow(ask.id)
                return ask if stands is None else stands
            if call.withdrawn or request.cancelled or self._connection.left:
                self._unshow(ask.id)
                return await self._end(ask, AskState.WITHDRAWN)
            if has_expired(stands, clock.now_us()):
                self._unshow(ask.id)
                return await self._end(ask, AskState.EXPIRED)
            waited_s = (clock.monotonic_ns() - began) / 1e9
            if waited_s >= most_s or came_back:
                return stands
            if waited_s >= PROGRESS_S * (told + 1):
                told += 1
                self._progress(request, told)
            if back is None:
                await anyio.sleep(LOOK_S)
            else:
                with anyio.move_on_after(LOOK_S):
                    await back.wait()

    def _unshow(self, ask_id: str) -> None:
        """Close the form of a question that is settled."""
        if self._shown.pop(ask_id, None) is None:
            return
        if ask_id in self._visited:
            self._visited.discard(ask_id)
            done: JsonObject = {"elicitationId": ask_id}
            self._connection.send(replies.notification("notifications/elicitation/complete", done))
        else:
            self._requests.withdraw_own(ask_id)

    def _progress(self, request: HostRequest, told: int) -> None:
        token = request.frame.slice(("params", "_meta", "progressToken"))
        if token is not None and "progressToken" in request.frame.meta:
            params: JsonObject = {
                "progressToken": request.frame.meta["progressToken"],
                "progress": told,
                "message": "waiting for a person",
            }
            self._connection.send(replies.notification("notifications/progress", params))

    def _text(self, ask: Ask) -> str:
        left_us = max(0, ask.expires_at_us - self._connection.clock.now_us())
        return self._settings.write(ask.id[:6], ask.card, left_us // 1_000_000)


def digest_hex(card: Mapping[str, Json]) -> str:
    """What a person was shown, digested: SHA-256 in hex over the card's canonical form."""
    return digest(canonical(card)).removeprefix("sha256:")


def _card(step: DecidedStep) -> JsonObject:
    """What a person is shown; every word of it is ours, policy's or an exact argument."""
    decision = step.decision
    asking = [rule for rule in decision.rules if rule.effect is decision.effect]
    needs = () if decision.asks is None else decision.asks.needs
    due: JsonObject = {"for": [{"role": one.role, "count": one.count} for one in needs]} if needs else {}
    return due | {
        "server": step.proposal.server,
        "tool": step.proposal.tool,
        "does": [*decision.does],
        "why": [{"rule": rule.id, "text": rule.text, "unknown": rule.unknown} for rule in asking],
        "risk": _risk(decision),
        "args": step.proposal.arguments,
        "client": step.client.name,
        "run": step.run_id,
    }


def _risk(decision: Decision) -> Json:
    risk = decision.risk
    if risk is None or not risk.terms:
        return None
    return {"sum": risk.high, "terms": [[term.because, term.add] for term in risk.terms]}


def _rule(step: DecidedStep) -> str:
    decision = step.decision
    return " ".join(rule.id for rule in decision.rules if rule.effect is decision.effect) or "default"


def _invitation(ask: Ask) -> str:
    """Why a page is to be opened; what the question is about stands there."""
    called = f"{ask.card.get('server')}.{ask.card.get('tool')}"
    return f"A call of {called!a} waits for your answer on a page of soothsayer ui. Opening it answers nothing."


def _has_agreed(request: HostRequest) -> bool:
    """Whether the host says that it opened the page of a question: then somebody is about to look."""
    if request.retry is None or request.retry.kind != "page":
        return False
    given = (request.frame.params or {}).get("inputResponses")
    said = given.get(OURS) if isinstance(given, Mapping) else None
    return isinstance(said, Mapping) and said.get("action") == "accept"


def _named(step: DecidedStep) -> str:
    return f"{step.proposal.server}.{step.proposal.tool}"


def _gap(reason: Reason, summary: str) -> Support:
    return Support(gaps=(Failure(reason=reason, summary=summary),))


def _is_stale(ask: Ask, now: int) -> bool:
    return ask.state is AskState.YES and not is_fresh(ask, now)


def _retry(claims: JsonObject) -> Retry | None:
    """Read sealed claims; `None` when they are not of this version's form."""
    kind, ask, step = claims.get("k"), claims.get("a"), claims.get("s")
    asked, nonce, expires, state = claims.get("d"), claims.get("n"), claims.get("x"), claims.get("u")
    if kind not in {"ask", "page", "go"} or not all(isinstance(text, str) for text in (kind, ask, step, asked, nonce)):
        return None
    if not isinstance(expires, int) or not isinstance(state, str | None):
        return None
    return Retry(
        kind=str(kind),
        ask=str(ask),
        step=str(step),
        digest=str(asked),
        nonce=str(nonce),
        expires_at_us=expires,
        state=state,
        responses=claims.get("i"),
    )
