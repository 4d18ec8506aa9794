"""A handshake host on a server that speaks only the stateless era: each side sees its own era and no other.

`Bridge` is the state machine, values in and bytes out. `BridgedLeg` is a `Leg` that runs one over another `Leg`; until
a server answers `initialize` with an error and `server/discover` with a result it changes nothing.

Requests of the host get the envelope and keep their ids. A result that asks for input becomes real requests to the
host, in the server's name, so that they are checked like any server's; the retry goes out under an id of ours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import Enum, auto
from functools import partial
from typing import Final

from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import Leg, LegEnd, NoAnswer, OversizedLine
from soothsayer_mcp.proxy.stamps import meta_edits
from soothsayer_mcp.proxy.subscriptions import FLAGS, URIS
from soothsayer_mcp.proxy.tasks import EXTENSION as TASKS_EXTENSION
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import (
    HANDSHAKE_VERSIONS,
    LATEST_HANDSHAKE,
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_LOG_LEVEL,
    META_PROTOCOL_VERSION,
    META_SERVER_INFO,
    META_SUBSCRIPTION_ID,
    STATELESS_VERSION,
)
from soothsayer_mcp.wire.frame import Edit, Frame, FrameKind, Insert, Remove, Replace
from soothsayer_mcp.wire.ids import IdKey, Mint, key
from soothsayer_mcp.wire.strict import Fault, Side, WireError, id_of_oversized, read_server

ROUNDS_LIMIT: Final = 10
PROBE_S: Final = 5.0
"""How long a server that refused `initialize` may take to say whether it speaks the other era; hosts wait for it."""

RETRY_S: Final = 0.25
"""How long to wait before a retry that only carries the server's state: the server asked for time, not for input."""

LEVELS: Final = frozenset({"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"})

LISTEN_ATTEMPTS: Final = 3

CANCELLED_LIMIT: Final = 1_024
"""Cancelled calls whose answer may still come."""

_MAY_ASK: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
_CACHED: Final = frozenset(
    {"tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read", "server/discover"}
)
_GONE: Final = frozenset({"tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update"})
_NOT_TOLD: Final = frozenset({"notifications/progress", "notifications/roots/list_changed"})
_QUESTIONS: Final[Mapping[str, str]] = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""What a server may ask of a host -> the capability that permits it."""

_NEUTRAL: Final[Mapping[str, bytes]] = {"elicitation/create": b'{"action":"cancel"}', "roots/list": b'{"roots":[]}'}
"""What stands for an answer where the host gave an error. Sampling has none: the call ends."""


class _Stage(Enum):
    WATCHING = auto()
    OPENING = auto()
    """`initialize` is on its way."""
    PROBING = auto()
    """It was refused, and `server/discover` is on its way."""
    BRIDGED = auto()
    PLAIN = auto()
    """The server speaks the handshake era: nothing is to be done, ever."""


@dataclass(slots=True)
class Turn:
    """What is to be sent because of one message, in order."""

    to_host: list[bytes] = field(default_factory=list[bytes])
    to_server: list[bytes] = field(default_factory=list[bytes])
    later: list[IdKey] = field(default_factory=list[IdKey])
    """Calls to be given to `Bridge.retry` after `RETRY_S`."""
    dropped: list[bytes] = field(default_factory=list[bytes])
    """Messages of the server that have no place in its era, for the record."""


class _Call:
    """A request of the host, and how far its rounds have come."""

    __slots__ = ("answers", "cancelled", "frame", "host_key", "leg_id", "questions", "rounds", "state")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.host_key = key(frame.id)
        self.leg_id: Json = frame.id
        """The id of the round that is on its way to the server, or was last."""
        self.rounds = 0
        self.questions: dict[IdKey, tuple[str, str]] = {}
        """Our id -> the server's name for the question, and its method."""
        self.answers: dict[str, bytes] = {}
        self.state: bytes | None = None
        self.cancelled = False


@dataclass(slots=True)
class _Listening:
    """The one listen request that stands for `list_changed` and every `resources/subscribe`."""

    flags: tuple[str, ...] = ()
    uris: dict[str, None] = field(default_factory=dict[str, None])
    current: str | None = None
    pending: str | None = None
    waiting: list[tuple[Frame, str]] = field(default_factory=list[tuple[Frame, str]])
    """Requests answered when the pending one is acknowledged; the URI it must name, or nothing."""
    next: list[tuple[Frame, str]] = field(default_factory=list[tuple[Frame, str]])
    """Requests that came too late for the pending one."""
    refused: Frame | None = None
    """The server's answer when it does not listen at all."""
    failures: int = 0
    """In a row; past `LISTEN_ATTEMPTS` only a host that subscribes makes it try again."""


class Bridge:
    """The state of one connection between a handshake host and one server."""

    def __init__(self, mint: Mint) -> None:
        """Watch for an `initialize`; `mint` makes ids that are nobody else's on this connection."""
        self._mint = mint
        self._stage = _Stage.WATCHING
        self._opening: Frame | None = None
        self._refusal: Frame | None = None
        self._probe_id = ""
        self._early: list[bytes] = []
        self._discovered: Frame | None = None
        self._envelope: dict[str, bytes] = {}
        self._offers: Mapping[str, Json] = {}
        """The host's capabilities."""
        self._level: bytes | None = None
        self._calls: dict[IdKey, _Call] = {}
        """By the id of the round on its way."""
        self._of_host: dict[IdKey, _Call] = {}
        self._asking: dict[IdKey, _Call] = {}
        """By the id of a question that is open on the host."""
        self._listening = _Listening()

    @property
    def is_plain(self) -> bool:
        """Whether everything passes as it is from now on."""
        return self._stage is _Stage.PLAIN

    @property
    def is_bridged(self) -> bool:
        """Whether the two sides speak different eras."""
        return self._stage is _Stage.BRIDGED

    @property
    def probe(self) -> str:
        """The id of the `server/discover` that is on its way; empty when none is."""
        return self._probe_id if self._stage is _Stage.PROBING else ""

    def probe_unanswered(self, probe: str) -> Turn:
        """Wait no longer for the answer to a probe: the host gets the server's refusal."""
        turn = Turn()
        if probe and probe == self.probe:
            self._give_up(turn)
        return turn

    def from_host(self, raw: bytes) -> Turn:
        """Take one message of the host."""
        match self._stage:
            case _Stage.PLAIN | _Stage.OPENING:
                return Turn(to_server=[raw])
            case _Stage.PROBING:
                self._early.append(raw)
                return Turn()
            case _Stage.WATCHING:
                if b"initialize" in raw:
                    frame = read_server(raw)
                    if frame.method == "initialize" and frame.kind is FrameKind.REQUEST:
                        self._opening = frame
                        self._stage = _Stage.OPENING
                return Turn(to_server=[raw])
            case _Stage.BRIDGED:
                turn = Turn()
                self._bridge_host(read_server(raw), turn)
                return turn

    def from_server(self, raw: bytes) -> Turn:
        """Take one message of the server."""
        if self._stage in {_Stage.PLAIN, _Stage.WATCHING}:
            return Turn(to_host=[raw])
        turn = Turn()
        try:
            if isinstance(raw, OversizedLine):
                found = id_of_oversized(raw, raw.tail, side=Side.SERVER)
                raise WireError(Side.SERVER, Fault.TOO_BIG, id=found)  # noqa: TRY301 - the same end as a line read
            frame = read_server(raw)
        except WireError as wrong:
            self._take_unreadable(raw, wrong, turn)
            return turn
        if self._stage is _Stage.OPENING:
            self._take_opening(frame, turn)
        elif self._stage is _Stage.PROBING:
            self._take_probe(frame, turn)
        else:
            self._bridge_server(frame, turn)
        return turn

    def retry(self, call_key: IdKey) -> Turn:
        """Send the round of a call that was put off."""
        turn = Turn()
        call = self._of_host.get(call_key)
        if call is not None and not call.cancelled:
            self._send_round(call, turn)
        return turn

    # Opening.

    def _take_opening(self, frame: Frame, turn: Turn) -> None:
        opening = self._opening
        answers = opening is not None and key(frame.id) == key(opening.id)
        if isinstance(frame.raw, NoAnswer) and answers:
            # Nobody refused anything: the server was not reached.
            self._stage = _Stage.WATCHING
            turn.to_host.append(frame.raw)
            return
        if opening is None or not answers or frame.kind is not FrameKind.ERROR:
            if answers:
                self._stage = _Stage.PLAIN
            turn.to_host.append(frame.raw)
            return
        self._refusal = frame
        self._stage = _Stage.PROBING
        self._learn_host(opening)
        self._probe_id = self._mint.next()
        probe = read_server(replies.request(self._probe_id, "server/discover", {}))
        turn.to_server.append(probe.edited(*meta_edits(probe, "params", self._stamps())))

    def _take_probe(self, frame: Frame, turn: Turn) -> None:
        if key(frame.id) != key(self._probe_id) or frame.kind not in {FrameKind.RESULT, FrameKind.ERROR}:
            turn.to_host.append(frame.raw)
            return
        result = frame.result
        offered = result.get("supportedVersions") if isinstance(result, Mapping) else None
        if self._opening is None or not isinstance(offered, list) or STATELESS_VERSION not in offered:
            self._give_up(turn)
            return
        self._stage = _Stage.BRIDGED
        # A task would come back as a result that no handshake host can read.
        self._discovered = read_server(frame.edited(Remove(("result", "capabilities", "extensions", TASKS_EXTENSION))))
        self._listening.flags = _flags(self._discovered)
        turn.to_host.append(self._initialize_answer(self._opening))
        early, self._early = self._early, []
        for raw in early:
            self._bridge_host(read_server(raw), turn)

    def _give_up(self, turn: Turn) -> None:
        """Let the host have the server's refusal: it speaks neither era."""
        self._stage = _Stage.PLAIN
        if self._refusal is not None:
            turn.to_host.append(self._refusal.raw)
        turn.to_server += self._early
        self._early = []

    def _learn_host(self, opening: Frame) -> None:
        capabilities: tuple[str, ...] = ("params", "capabilities")
        lean = read_server(
            opening.edited(Remove((*capabilities, "tasks")), Remove((*capabilities, "extensions", TASKS_EXTENSION)))
        )
        offers = (lean.params or {}).get("capabilities")
        self._offers = offers if isinstance(offers, dict) else {}
        self._envelope = {
            META_PROTOCOL_VERSION: compact(STATELESS_VERSION),
            META_CLIENT_CAPABILITIES: (lean.slice(capabilities) if self._offers else None) or b"{}",
        }
        info = lean.slice(("params", "clientInfo"))
        if info is not None:
            self._envelope[META_CLIENT_INFO] = info

    def _initialize_answer(self, opening: Frame) -> bytes:
        assert self._discovered is not None
        asked = (opening.params or {}).get("protocolVersion")
        version = asked if isinstance(asked, str) and asked in HANDSHAKE_VERSIONS else LATEST_HANDSHAKE
        members = {
            "protocolVersion": compact(version),
            "capabilities": self._discovered.slice(("result", "capabilities")) or b"{}",
            "serverInfo": self._discovered.slice(("result", "_meta", META_SERVER_INFO))
            or compact({"name": "unnamed", "version": ""}),
        }
        instructions = self._discovered.slice(("result", "instructions"))
        if instructions is not None:
            members["instructions"] = instructions
        return _answer(opening, b"{" + b",".join(compact(name) + b":" + raw for name, raw in members.items()) + b"}")

    # From the host.

    def _bridge_host(self, frame: Frame, turn: Turn) -> None:
        if frame.kind is FrameKind.NOTIFICATION:
            self._take_notice_of_host(frame, turn)
        elif frame.kind is FrameKind.REQUEST:
            self._take_request(frame, turn)
        else:
            self._take_answer_of_host(frame, turn)

    def _take_notice_of_host(self, frame: Frame, turn: Turn) -> None:
        if frame.method == "notifications/initialized":
            self._keep_listening(turn)
        elif frame.method == "notifications/cancelled":
            self._cancel(frame, turn)
        elif frame.method not in _NOT_TOLD:
            turn.to_server.append(frame.raw)

    def _take_request(self, frame: Frame, turn: Turn) -> None:
        if META_PROTOCOL_VERSION in frame.meta:
            # The host speaks the stateless era on this connection too; such requests need no bridge.
            turn.to_server.append(frame.raw)
            return
        match frame.method:
            case "initialize":
                self._learn_host(frame)
                turn.to_host.append(self._initialize_answer(frame))
            case "ping":
                turn.to_host.append(_answer(frame, b"{}"))
            case "logging/setLevel":
                turn.to_host.append(self._set_level(frame))
            case "resources/subscribe" | "resources/unsubscribe":
                self._subscribe(frame, turn)
            case method if method in _GONE:
                turn.to_host.append(_error(frame, Code.METHOD_NOT_FOUND, f"Method not found: {method}"))
            case _:
                self._keep_listening(turn)
                call = _Call(frame)
                self._calls[key(frame.id)] = call
                self._of_host[call.host_key] = call
                turn.to_server.append(frame.edited(*meta_edits(frame, "params", self._stamps())))

    def _set_level(self, frame: Frame) -> bytes:
        level = (frame.params or {}).get("level")
        if "logging" not in _capabilities(self._discovered):
            return _error(frame, Code.METHOD_NOT_FOUND, "Method not found: logging/setLevel")
        if not isinstance(level, str) or level not in LEVELS:
            return _error(frame, Code.INVALID_PARAMS, "The level is none of the eight that there are.")
        self._level = compact(level)
        return _answer(frame, b"{}")

    def _cancel(self, notice: Frame, turn: Turn) -> None:
        call = self._of_host.get(key((notice.params or {}).get("requestId")))
        if call is None:
            turn.to_server.append(notice.raw)
        elif call.questions:
            self._withdraw(call, turn)
            self._forget(call)
        elif key(call.leg_id) not in self._calls:
            # Put off: nothing of it is on its way.
            self._forget(call)
        else:
            call.cancelled = True
            same = key(call.leg_id) == call.host_key
            rename = [] if same else [Replace(("params", "requestId"), compact(call.leg_id))]
            turn.to_server.append(notice.edited(*rename))
            self._bound_cancelled()

    def _take_answer_of_host(self, frame: Frame, turn: Turn) -> None:
        call = self._asking.pop(key(frame.id), None)
        if call is None:
            # Of a question that was withdrawn, or of none: clients answer nothing in the stateless era.
            return
        name, method = call.questions.pop(key(frame.id))
        given = frame.slice(("result",)) if frame.kind is FrameKind.RESULT else _NEUTRAL.get(method)
        if given is None:
            self._withdraw(call, turn)
            self._end(call, f"The server asked for {method}, and the host answered with an error.", turn)
            return
        call.answers[name] = given
        if not call.questions:
            self._send_round(call, turn)

    # From the server.

    def _bridge_server(self, frame: Frame, turn: Turn) -> None:
        if frame.kind is FrameKind.NOTIFICATION:
            self._take_notice_of_server(frame, turn)
        elif frame.kind is FrameKind.REQUEST:
            turn.dropped.append(frame.raw)
        elif self._is_own(frame.id):
            self._take_listen_end(frame, turn)
        else:
            call = self._calls.pop(key(frame.id), None)
            if call is None:
                turn.to_host.append(frame.raw)
            else:
                self._take_answer(call, frame, turn)

    def _take_unreadable(self, raw: bytes, wrong: WireError, turn: Turn) -> None:
        """Hand an unreadable line on; one that answers a later round ends its call here: its id is ours."""
        if self._stage is _Stage.PROBING and wrong.id == self._probe_id:
            self._give_up(turn)
            return
        call = None if wrong.id is None else self._calls.get(key(wrong.id))
        if call is None or key(wrong.id) == call.host_key:
            turn.to_host.append(raw)
        if call is not None:
            self._forget(call)
            if key(wrong.id) != call.host_key:
                turn.to_host.append(_error(call.frame, Code.INTERNAL_ERROR, f"The answer cannot be read. {wrong.text}"))

    def _take_answer(self, call: _Call, frame: Frame, turn: Turn) -> None:
        result = frame.result
        kind = result.get("resultType") if isinstance(result, dict) else None
        if kind == "input_required" and call.frame.method in _MAY_ASK and not call.cancelled:
            self._ask(call, frame, turn)
            return
        self._forget(call)
        if isinstance(frame.raw, NoAnswer) and call.frame.id is not None:
            own = frame.edited(Replace(("id",), compact(call.frame.id)))
            turn.to_host.append(NoAnswer(own, id=call.frame.id, error=frame.raw.error))
            return
        edits: list[Edit] = []
        if kind == "complete":
            edits.append(Remove(("result", "resultType")))
        if isinstance(result, dict) and call.frame.method in _CACHED:
            edits += [Remove(("result", hint)) for hint in ("ttlMs", "cacheScope") if hint in result]
        if key(frame.id) != call.host_key:
            edits.append(Replace(("id",), compact(call.frame.id)))
        turn.to_host.append(frame.edited(*edits))

    def _ask(self, call: _Call, frame: Frame, turn: Turn) -> None:
        call.rounds += 1
        if call.rounds > ROUNDS_LIMIT:
            self._end(call, f"The server asked for input {call.rounds} times without coming to an end.", turn)
            return
        call.state = frame.slice(("result", "requestState"))
        call.answers = {}
        result = frame.result
        wanted = result.get("inputRequests") if isinstance(result, dict) else None
        if not isinstance(wanted, dict) or not wanted:
            turn.later.append(call.host_key)
            return
        asked: list[bytes] = []
        for name, question in wanted.items():
            method = question.get("method") if isinstance(question, dict) else None
            if isinstance(method, str) and self._is_offered(method, question):
                asked.append(self._question(call, frame, name, method))
                continue
            neutral = _NEUTRAL.get(method) if isinstance(method, str) else None
            if neutral is None:
                for question_key in call.questions:
                    self._asking.pop(question_key, None)
                self._end(call, "The server asked for something that the host does not offer.", turn)
                return
            call.answers[name] = neutral
        turn.to_host += asked
        if not call.questions:
            self._send_round(call, turn)

    def _question(self, call: _Call, frame: Frame, name: str, method: str) -> bytes:
        question_id = self._mint.next()
        call.questions[key(question_id)] = (name, method)
        self._asking[key(question_id)] = call
        params = frame.slice(("result", "inputRequests", name, "params"))
        head = replies.request(question_id, method, None)[:-1]
        made = head + (b"}" if params is None else b',"params":' + params + b"}")
        shown = read_server(made)
        if method == "elicitation/create" and (shown.params or {}).get("mode") == "url":
            # 2025-11-25 asks for an id, which the stateless era did away with.
            return shown.edited(Insert(("params",), "elicitationId", compact(question_id)))
        return made

    def _is_offered(self, method: str, question: Json) -> bool:
        capability = self._offers.get(_QUESTIONS.get(method, ""))
        if capability is None or method != "elicitation/create":
            return capability is not None
        params = question.get("params") if isinstance(question, dict) else None
        mode = params.get("mode", "form") if isinstance(params, dict) else "form"
        modes = capability if isinstance(capability, dict) else {}
        # `{}` means forms, and only forms.
        return mode in modes or (mode == "form" and "url" not in modes)

    def _send_round(self, call: _Call, turn: Turn) -> None:
        leg_id = self._mint.next()
        call.leg_id = leg_id
        self._calls[key(leg_id)] = call
        frame = read_server(call.frame.edited(*meta_edits(call.frame, "params", self._stamps())))
        edits: list[Edit] = [Replace(("id",), compact(leg_id))]
        if call.answers:
            inner = b",".join(compact(name) + b":" + raw for name, raw in call.answers.items())
            edits.append(Insert(("params",), "inputResponses", b"{" + inner + b"}"))
        if call.state is not None:
            edits.append(Insert(("params",), "requestState", call.state))
        turn.to_server.append(frame.edited(*edits))

    def _take_notice_of_server(self, frame: Frame, turn: Turn) -> None:
        tag = frame.meta.get(META_SUBSCRIPTION_ID)
        listening = self._listening
        if frame.method == "notifications/subscriptions/acknowledged":
            if tag is not None and tag == listening.pending:
                self._take_acknowledgement(frame, turn)
        elif isinstance(tag, str) and self._mint.made(tag):
            # Until the new request is acknowledged the old one counts, then only the new: each change is told once.
            if tag == listening.current:
                turn.to_host.append(frame.edited(Remove(("params", "_meta", META_SUBSCRIPTION_ID))))
        else:
            turn.to_host.append(frame.raw)

    # Listening.

    def _subscribe(self, frame: Frame, turn: Turn) -> None:
        listening = self._listening
        uri = (frame.params or {}).get("uri")
        if not isinstance(uri, str):
            turn.to_host.append(_error(frame, Code.INVALID_PARAMS, "There is no uri to subscribe to."))
        elif listening.refused is not None:
            turn.to_host.append(listening.refused.edited(Replace(("id",), compact(frame.id))))
        elif frame.method == "resources/subscribe":
            listening.uris[uri] = None
            listening.next.append((frame, uri))
        else:
            listening.uris.pop(uri, None)
            listening.next.append((frame, ""))
        self._listen_anew(turn)

    def _keep_listening(self, turn: Turn) -> None:
        listening = self._listening
        idle = listening.current is None and listening.pending is None
        if idle and listening.failures < LISTEN_ATTEMPTS and (listening.flags or listening.uris):
            self._listen(turn)

    def _listen_anew(self, turn: Turn) -> None:
        listening = self._listening
        if listening.pending is not None or not listening.next:
            return
        if listening.flags or listening.uris:
            self._listen(turn)
            return
        turn.to_host += [_answer(frame, b"{}") for frame, _ in listening.next]
        listening.next = []
        if listening.current is not None:
            turn.to_server.append(_cancel_of(listening.current))
            listening.current = None

    def _listen(self, turn: Turn) -> None:
        listening = self._listening
        if listening.refused is not None:
            return
        listening.pending = self._mint.next()
        listening.waiting, listening.next = listening.next, []
        wanted: JsonObject = dict.fromkeys(listening.flags, True)
        if listening.uris:
            wanted[URIS] = list(listening.uris)
        frame = read_server(replies.request(listening.pending, "subscriptions/listen", {"notifications": wanted}))
        turn.to_server.append(frame.edited(*meta_edits(frame, "params", self._stamps())))

    def _take_acknowledgement(self, frame: Frame, turn: Turn) -> None:
        listening = self._listening
        old, listening.current, listening.pending = listening.current, listening.pending, None
        listening.failures = 0
        if old is not None:
            turn.to_server.append(_cancel_of(old))
        took = (frame.params or {}).get("notifications")
        uris = took.get(URIS) if isinstance(took, dict) else None
        taken = uris if isinstance(uris, list) else []
        waiting, listening.waiting = listening.waiting, []
        for request, uri in waiting:
            if not uri or uri in taken:
                turn.to_host.append(_answer(request, b"{}"))
            else:
                listening.uris.pop(uri, None)
                turn.to_host.append(_error(request, Code.INVALID_PARAMS, "The server does not tell of this resource."))
        self._listen_anew(turn)

    def _take_listen_end(self, frame: Frame, turn: Turn) -> None:
        listening = self._listening
        if frame.id == listening.current:
            # Opened again with the host's next request, so that a server that always ends it is not asked in a loop.
            listening.current = None
        elif frame.id == listening.pending:
            listening.pending = None
            listening.failures += 1
            waiting, listening.waiting = listening.waiting, []
            if frame.kind is FrameKind.ERROR:
                error = frame.error
                if isinstance(error, dict) and error.get("code") == Code.METHOD_NOT_FOUND:
                    listening.refused = frame
                    waiting += listening.next
                    listening.next = []
                turn.to_host += [frame.edited(Replace(("id",), compact(request.id))) for request, _ in waiting]
            else:
                turn.to_host += [
                    _error(request, Code.INTERNAL_ERROR, "The server ended the subscription.") for request, _ in waiting
                ]
            for _, uri in waiting:
                listening.uris.pop(uri, None)
            self._listen_anew(turn)

    # Inside.

    def _stamps(self) -> dict[str, bytes]:
        return self._envelope if self._level is None else {**self._envelope, META_LOG_LEVEL: self._level}

    def _is_own(self, request_id: Json) -> bool:
        return self._mint.made(request_id) and key(request_id) not in self._calls

    def _withdraw(self, call: _Call, turn: Turn) -> None:
        for question_key in call.questions:
            self._asking.pop(question_key, None)
            turn.to_host.append(replies.notification("notifications/cancelled", {"requestId": str(question_key[1])}))
        call.questions = {}

    def _forget(self, call: _Call) -> None:
        self._calls.pop(key(call.leg_id), None)
        if self._of_host.get(call.host_key) is call:
            del self._of_host[call.host_key]

    def _end(self, call: _Call, why: str, turn: Turn) -> None:
        """Answer a call in the server's place: as a tool's own error where it is one, as models read no others."""
        self._forget(call)
        call.questions = {}
        if call.frame.method == "tools/call":
            block = b'{"isError":true,"content":[' + replies.text_block(why) + b"]}"
            turn.to_host.append(_answer(call.frame, block))
        else:
            turn.to_host.append(_error(call.frame, Code.INTERNAL_ERROR, why))

    def _bound_cancelled(self) -> None:
        cancelled = [call for call in self._calls.values() if call.cancelled]
        if len(cancelled) > CANCELLED_LIMIT:
            self._forget(cancelled[0])


class BridgedLeg:
    """A `Leg` over another, on which a handshake host meets a server of either era."""

    def __init__(
        self,
        leg: Leg,
        mint: Mint,
        *,
        later: Callable[[float, Callable[[], None]], None],
        dropped: Callable[[bytes], None],
    ) -> None:
        """`later` calls a function on the loop after some seconds; `dropped` is told what has no place in its era."""
        self._leg = leg
        self._bridge = Bridge(mint)
        self._later = later
        self._dropped = dropped
        self._received: Callable[[Sequence[bytes]], None] | None = None
        self._ready: list[bytes] = []
        """Answers of the bridge's own, handed over by the loop and not from within `send`."""

    @property
    def waiting_bytes(self) -> int:
        """How much was given to `send` and is not written yet."""
        return self._leg.waiting_bytes

    def unsendable(self, tool: str) -> str:
        """Why no call of a tool can be sent over the connection below."""
        return self._leg.unsendable(tool)

    @property
    def is_bridged(self) -> bool:
        """Whether the two sides speak different eras."""
        return self._bridge.is_bridged

    def start(self, received: Callable[[Sequence[bytes]], None], ended: Callable[[LegEnd], None]) -> None:
        """Begin to read."""
        self._received = received
        self._leg.start(self._take, ended)

    def send(self, raw: bytes) -> None:
        """Queue one frame towards the server, translated where that is due."""
        if self._bridge.is_plain:
            self._leg.send(raw)
        else:
            self._do(self._bridge.from_host(raw))

    def pause(self) -> None:
        """Stop reading until `resume`."""
        self._leg.pause()

    def resume(self) -> None:
        """Read again."""
        self._leg.resume()

    async def drained(self) -> bool:
        """Wait until all that was sent is written."""
        return await self._leg.drained()

    async def aclose(self) -> None:
        """End the connection."""
        await self._leg.aclose()

    def _take(self, lines: Sequence[bytes]) -> None:
        assert self._received is not None
        self._hand_over()
        if self._bridge.is_plain:
            self._received(lines)
            return
        for line in lines:
            before = self._bridge.probe
            turn = self._bridge.from_server(line)
            if self._bridge.probe not in {"", before}:
                self._later(PROBE_S, partial(self._end_probe, self._bridge.probe))
            to_host, turn.to_host = turn.to_host, []
            self._do(turn)
            if to_host:
                self._received(to_host)

    def _hand_over(self) -> None:
        ready, self._ready = self._ready, []
        if ready and self._received is not None:
            self._received(ready)

    def _do(self, turn: Turn) -> None:
        for raw in turn.to_server:
            self._leg.send(raw)
        if turn.to_host:
            self._ready += turn.to_host
            self._later(0, self._hand_over)
        for raw in turn.dropped:
            self._dropped(raw)
        for call_key in turn.later:
            self._later(RETRY_S, partial(self._retry, call_key))

    def _end_probe(self, probe: str) -> None:
        self._do(self._bridge.probe_unanswered(probe))

    def _retry(self, call_key: IdKey) -> None:
        self._do(self._bridge.retry(call_key))


def _answer(request: Frame, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":' + compact(request.id) + b',"result":' + result + b"}"


def _error(request: Frame, code: Code, message: str) -> bytes:
    return replies.error(request.id, code, message)


def _cancel_of(request_id: str) -> bytes:
    return replies.notification("notifications/cancelled", {"requestId": request_id})


def _capabilities(discovered: Frame | None) -> Mapping[str, Json]:
    result = None if discovered is None else discovered.result
    capabilities = result.get("capabilities") if isinstance(result, dict) else None
    return capabilities if isinstance(capabilities, dict) else {}


def _flags(discovered: Frame) -> tuple[str, ...]:
    found: list[str] = []
    for method, flag in FLAGS.items():
        capability = _capabilities(discovered).get(method.split("/")[1])
        if isinstance(capability, dict) and capability.get("listChanged") is True:
            found.append(flag)
    return tuple(found)
