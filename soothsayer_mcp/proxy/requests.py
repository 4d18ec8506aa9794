"""What servers ask of the host: checked, renumbered, and the host's answers brought back to who asked."""

from collections.abc import Callable
from typing import TypeAlias

from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.model.tier import Tier
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.proxy.connection import HostConnection, refusal
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import NEUTRAL, Exchange, Gate
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.frame import Edit, Frame, Insert, Replace
from soothsayer_mcp.wire.ids import IdKey, key

PREFERENCES = ("params", "modelPreferences")

ServerKey = tuple[str, IdKey]

OwnAnswered: TypeAlias = Callable[[Frame | None], None]
"""Takes the host's answer to a question of our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A server's request that is open on the host."""

    server: Downstream
    frame: Frame
    shown_id: str
    """The id under which the host knows it."""
    token: str = ""
    """The progress token under which the host knows it, where it had to be another than the server's."""


class Requests:
    """The rows of server requests."""

    def __init__(self, connection: HostConnection, gate: Gate) -> None:
        """No question is open."""
        self._connection = connection
        self._gate = gate
        self._open: dict[str, Question] = {}
        self._of_server: dict[ServerKey, Question] = {}
        self._tokens: dict[str, Question] = {}
        self._sent: set[str] = set()
        self._own: dict[str, tuple[str, OwnAnswered]] = {}

    # -- rows ---------------------------------------------------------------------------------------------------------

    def ask(self, server: Downstream, frame: Frame) -> None:
        """`elicitation/create`, `sampling/createMessage`, `roots/list`: policy first."""
        question = self._opened(server, frame)
        if question is not None:
            self._connection.spawn(self._check, question)

    def ping(self, server: Downstream, frame: Frame) -> None:
        """`ping`: the host of one server answers itself; for several the proxy does."""
        if self._connection.fleet.only is None:
            self._reply(server, frame, {})
        else:
            self.of_task(server, frame)

    def of_task(self, server: Downstream, frame: Frame) -> None:
        """`tasks/*`: what the host keeps for a server; only the id changes on the way."""
        question = self._opened(server, frame)
        if question is not None:
            self._put(question)

    def unknown(self, server: Downstream, frame: Frame) -> None:
        """A method without a row: passed only where policy lists it."""
        methods = self._connection.policies.current().methods
        if methods.unknown_pass or frame.method in methods.passed:
            self.of_task(server, frame)
        else:
            self.no_such_method(server, frame)

    def no_such_method(self, server: Downstream, frame: Frame) -> None:
        """Nothing that a host answers: the server is told so."""
        self._dropped(server, frame, "unknown_method", answered=True)
        if frame.id is not None:
            server.notify(replies.error(frame.id, Code.METHOD_NOT_FOUND, f"The host is not asked for {frame.method}."))

    def drop(self, server: Downstream, frame: Frame) -> None:
        """In the stateless era servers ask nothing by requests, and nobody answers them."""
        self._dropped(server, frame, "request_of_server", answered=False)

    def withdrawn(self, server: Downstream, frame: Frame) -> None:
        """`notifications/cancelled` of a server: it withdraws a request of its own."""
        question = self._of_server.get((server.name, key((frame.params or {}).get("requestId"))))
        if question is None:
            self._dropped(server, frame, "answers_nothing", answered=False)
            return
        self._forget(question)
        if question.shown_id in self._sent:
            self._sent.discard(question.shown_id)
            self._connection.send(frame.edited(Replace(("params", "requestId"), compact(question.shown_id))))

    # -- answers and ends ---------------------------------------------------------------------------------------------

    def put_own(self, method: str, params: JsonObject, answered: OwnAnswered, *, token: str) -> None:
        """Ask the host for ourselves; `answered` gets its answer, or `None` when it is gone."""
        shown_id = self._connection.mint.next()
        self._own[shown_id] = (token, answered)
        self._connection.send(replies.request(shown_id, method, params))

    def withdraw_own(self, token: str) -> None:
        """Tell the host that a question of ours needs no answer any more."""
        for shown_id in [shown_id for shown_id, (known, _) in self._own.items() if known == token]:
            del self._own[shown_id]
            told: JsonObject = {"requestId": shown_id, "reason": "answered elsewhere"}
            self._connection.send(replies.notification("notifications/cancelled", told))

    def take(self, frame: Frame) -> bool:
        """Bring an answer of the host to the server that asked; false when nobody asked."""
        own = self._own.pop(frame.id, None) if isinstance(frame.id, str) else None
        if own is not None:
            own[1](frame)
            return True
        question = self._open.get(frame.id) if isinstance(frame.id, str) else None
        if question is None or question.shown_id not in self._sent:
            return False
        self._forget(question)
        self._sent.discard(question.shown_id)
        question.server.notify(frame.edited(Replace(("id",), _id_of(question.frame))))
        return True

    def progress(self, frame: Frame) -> bool:
        """Bring progress of the host to the server whose question it concerns; false when it concerns none."""
        only = self._connection.fleet.only
        if only is not None:
            only.notify(frame.raw)
            return True
        token = (frame.params or {}).get("progressToken")
        question = self._tokens.get(token) if isinstance(token, str) else None
        if question is None:
            return False
        own = question.frame.slice(("params", "_meta", "progressToken")) or b"null"
        question.server.notify(frame.edited(Replace(("params", "progressToken"), own)))
        return True

    def server_died(self, server: Downstream) -> None:
        """Withdraw from the host what a dead server asked."""
        for question in [question for question in self._open.values() if question.server is server]:
            self._forget(question)
            if question.shown_id in self._sent:
                self._sent.discard(question.shown_id)
                self._connection.send(
                    replies.notification(
                        "notifications/cancelled",
                        {"requestId": question.shown_id, "reason": f"{server.name} is gone"},
                    )
                )

    def host_left(self) -> None:
        """Tell the servers that nobody will answer."""
        own, self._own = self._own, {}
        for _, answered in own.values():
            answered(None)
        for question in list(self._open.values()):
            self._forget(question)
            self._sent.discard(question.shown_id)
            if question.frame.id is not None:
                question.server.notify(replies.error(question.frame.id, Code.INTERNAL_ERROR, "The host is gone."))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _opened(self, server: Downstream, frame: Frame) -> Question | None:
        if frame.id is None or (server.name, key(frame.id)) in self._of_server:
            self._dropped(server, frame, "id", answered=False)
            return None
        prefixed = self._connection.fleet.only is None
        token = self._connection.mint.next() if prefixed and "progressToken" in frame.meta else ""
        question = Question(server=server, frame=frame, shown_id=self._connection.mint.next(), token=token)
        self._open[question.shown_id] = question
        self._of_server[server.name, key(frame.id)] = question
        if token:
            self._tokens[token] = question
        return question

    async def _check(self, question: Question) -> None:
        server, frame = question.server, question.frame
        tier = self._tier_of(question)
        exchange = None
        if tier is not None:
            exchange = Exchange(tier=tier.name, before=frame.slice(PREFERENCES) or b"null")
        refused = await self._gate.passes(
            server.name,
            frame.method,
            frame.params or {},
            origin="server",
            size=len(frame.raw),
            exchange=exchange,
        )
        if question.shown_id not in self._open:
            return
        if refused is None:
            self._put(question, tier)
            return
        self._forget(question)
        neutral = NEUTRAL.get(frame.method)
        if neutral is not None:
            self._reply(server, frame, neutral)
        elif frame.id is not None:
            message, data = refusal(refused.reason, refused.summary)
            server.notify(replies.error(frame.id, -1, message, data))

    def _tier_of(self, question: Question) -> Tier | None:
        """The model tier of the call that the server is busy with; what only observes changes no byte."""
        connection = self._connection
        if question.frame.method != "sampling/createMessage" or connection.policies.current().mode is Mode.OBSERVE:
            return None
        return connection.tiers.get(connection.fleet.tiers.get(question.server.name, ""))

    def _put(self, question: Question, tier: Tier | None = None) -> None:
        """Put a question to the host; a tier says what model it is to be answered by."""
        self._sent.add(question.shown_id)
        edits: list[Edit] = [Replace(("id",), compact(question.shown_id))]
        if tier is not None:
            edits.append(Insert(PREFERENCES[:1], PREFERENCES[1], compact(tier.preferences)))
        if question.token:
            edits.append(Insert(("params", "_meta"), "progressToken", compact(question.token)))
        message = (question.frame.params or {}).get("message")
        if question.frame.method == "elicitation/create" and isinstance(message, str) and self._names_servers():
            edits.append(Replace(("params", "message"), compact(f"[server {question.server.name}] {message}")))
        self._connection.send(question.frame.edited(*edits))

    def _names_servers(self) -> bool:
        """With several servers a person must know which one asks."""
        return self._connection.fleet.only is None

    def _forget(self, question: Question) -> None:
        self._open.pop(question.shown_id, None)
        self._of_server.pop((question.server.name, key(question.frame.id)), None)
        self._tokens.pop(question.token, None)

    @staticmethod
    def _reply(server: Downstream, frame: Frame, value: Json) -> None:
        if frame.id is not None:
            server.notify(replies.result(frame.id, value))

    def _dropped(self, server: Downstream, frame: Frame, reason: str, *, answered: bool) -> None:
        self._connection.dropped(
            frame.raw, reason, origin="server", method=frame.method, server=server.name, answered=answered
        )


def _id_of(frame: Frame) -> bytes:
    """The id as its server spelt it."""
    return frame.slice(("id",)) or b"null"
