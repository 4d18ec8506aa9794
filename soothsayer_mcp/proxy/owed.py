"""What the host asked and has not been answered yet. No request is ever left without an answer, or answered twice."""

from collections.abc import Callable
from typing import TypeAlias

import anyio

from soothsayer_mcp.model.ask import Ask
from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.ports import Call
from soothsayer_mcp.proxy.people import Retry
from soothsayer_mcp.wire.eras import Era
from soothsayer_mcp.wire.frame import Frame
from soothsayer_mcp.wire.ids import IdKey, key

Sink: TypeAlias = Callable[[bytes], None]
"""Where an answer goes: the host, or the array that its request came in."""


class HostRequest:
    """One request of the host."""

    __slots__ = (
        "_ledger",
        "_sink",
        "answered",
        "call",
        "cancelled",
        "digest",
        "era",
        "frame",
        "id",
        "key",
        "page",
        "question",
        "retry",
        "rounds",
        "servers",
        "standing",
    )

    def __init__(self, frame: Frame, request_id: RequestId, *, era: Era, sink: Sink, ledger: "Owed") -> None:
        """Made by `Owed.admit`."""
        self.frame = frame
        self.id = request_id
        self.key = key(request_id)
        self.era = era
        self.call: Call | None = None
        """The live side of a governed call."""
        self.retry: Retry | None = None
        """What it brings back that was sealed here."""
        self.rounds = 0
        """How often it was called again for its host."""
        self.question: Ask | None = None
        """The question that its result puts, where the host is asked by a result."""
        self.page = ""
        """Where that question is answered, when it is not put as a form."""
        self.digest = ""
        """What a yes to this call would be bound to; known once it is asked about."""
        self.servers: tuple[str, ...] = ()
        """The servers that it was sent to, and that a cancel goes to."""
        self.cancelled = False
        """The host wants no answer any more."""
        self.standing = False
        """A stream that stays open, such as `subscriptions/listen`: nothing waits for its end."""
        self.answered = False
        self._sink = sink
        self._ledger = ledger

    @property
    def method(self) -> str:
        """The request's method."""
        return self.frame.method

    @property
    def stateless(self) -> bool:
        """Whether it is a request of the stateless era."""
        return self.era is Era.STATELESS

    def answer(self, raw: bytes) -> None:
        """Send the answer, unless the host has cancelled; a second answer is none."""
        if self.answered:
            return
        self.answered = True
        self._ledger.settle(self)
        if not self.cancelled:
            self._sink(raw)

    def close(self) -> None:
        """End it without an answer: the host does not want one."""
        self.cancelled = True
        self.answer(b"")


class Owed:
    """The requests of one host connection that are in flight, by typed id."""

    def __init__(self) -> None:
        """Nothing is owed yet."""
        self._live: dict[IdKey, HostRequest] = {}
        self._silent: dict[IdKey, HostRequest] = {}
        self._settled: anyio.Event | None = None

    def __len__(self) -> int:
        """How many requests are in flight, streams that stay open included."""
        return len(self._live)

    def admit(self, frame: Frame, request_id: RequestId, *, era: Era, sink: Sink) -> HostRequest | None:
        """Take a request in; `None` when one with this id is in flight already."""
        request = HostRequest(frame, request_id, era=era, sink=sink, ledger=self)
        if self._live.setdefault(request.key, request) is not request:
            return None
        return request

    def all(self) -> list[HostRequest]:
        """The requests in flight."""
        return list(self._live.values())

    def find(self, request_id: RequestId) -> HostRequest | None:
        """Find a request in flight."""
        return self._live.get(key(request_id))

    def settle(self, request: HostRequest) -> None:
        """Forget a request that has its answer."""
        if self._live.get(request.key) is request:
            del self._live[request.key]
        if self._silent:
            self._silent = {token: silent for token, silent in self._silent.items() if silent is not request}
        if self._settled is not None and not self._waiting():
            self._settled.set()

    def silence(self, request: HostRequest) -> None:
        """Let nothing of a request through any more: its host has cancelled it."""
        if "progressToken" in request.frame.meta:
            self._silent[key(request.frame.meta["progressToken"])] = request

    def is_silent(self, token: object) -> bool:
        """Whether progress under this token belongs to a cancelled request."""
        return bool(self._silent) and key(token) in self._silent

    async def settled(self) -> None:
        """Wait until nothing is owed; streams that stay open are not waited for."""
        if self._waiting():
            self._settled = anyio.Event()
            await self._settled.wait()

    def standing(self) -> list[HostRequest]:
        """The streams that stay open."""
        return [request for request in self._live.values() if request.standing]

    def _waiting(self) -> bool:
        return any(not request.standing for request in self._live.values())
