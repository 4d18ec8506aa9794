"""One downstream server: started, spoken to, matched by id, declared dead, started again."""

from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Protocol, TypeAlias

import anyio

from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import RecordedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import Call, Clock, Connect, Leg, LegEnd, NoAnswer, OversizedLine, PortError, ServerIdentity
from soothsayer_mcp.proxy import tasks
from soothsayer_mcp.proxy.bridge import BridgedLeg
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.eras import Era
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.ids import IdKey, Mint, key
from soothsayer_mcp.wire.strict import Fault, Side, WireError, id_of_oversized, read_server, read_server_batch

STARTS_PER_MINUTE = 3
MINUTE_NS = 60_000_000_000
CANCEL_BOUND_S = 5.0
"""How long a call that its host cancelled may still take to answer."""
OVERDUE = 1024
"""Calls that were given up and whose late answers are still known."""
OWN_REQUEST_BOUND_S = 30.0
"""How long a request of our own may take."""

Answer: TypeAlias = "Frame | PortError"
Answered: TypeAlias = Callable[[Answer], None]


class State(Enum):
    """How far a server's connection has come."""

    IDLE = "idle"
    STARTING = "starting"
    """What is for it waits."""
    READY = "ready"
    DEAD = "dead"
    """The next request starts it again."""
    CLOSED = "closed"
    """We are ending; it is not started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEntry:
    """A server as configured."""

    name: str
    connect: Connect
    identity: ServerIdentity
    start_timeout_s: float = 60.0
    """How long it has for its first answer: a package runner may have to download it."""
    ends: bool = False
    """Whether what carries out its calls ends with its connection: a process that was started for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may wait for one server, and for the host."""

    in_flight: int = 256
    """Calls for one server."""
    waiting_bytes: int = 64 * 1024 * 1024
    waiting_frames: int = 1024
    """Frames for the host."""
    max_frame: int = 64 * 1024 * 1024


class ServerSide(Protocol):
    """Who hears of what a server does beside answering."""

    def from_server(self, server: "Downstream", frame: Frame) -> None:
        """A request, a notification, or an answer to nothing."""
        ...

    def garbage_from(self, server: "Downstream", line: bytes, wrong: WireError) -> None:
        """A line that is no message."""
        ...

    def misplaced_from(self, server: "Downstream", raw: bytes) -> None:
        """A message that has no place in the era its server speaks."""
        ...

    def read_from(self, server: "Downstream") -> None:
        """All that came at once from a server was handed on."""
        ...

    def died(self, server: "Downstream", end: LegEnd) -> None:
        """Its connection ended, and all that it owed has failed."""
        ...

    async def reopen(self, server: "Downstream") -> None:
        """Bring a server that was started again to where it was. Raises `PortError` when it does not come along."""
        ...

    def reopened(self, server: "Downstream") -> None:
        """A server that was started again takes requests."""
        ...

    def late_answer(self, server: "Downstream", frame: Frame, step: RecordedStep, call: Call, late: Returned) -> None:
        """The answer to a call that was given up: it settles the step, and goes no further."""
        ...

    def vouches(self, server: "Downstream", step: RecordedStep) -> bool:
        """Whether the tool of a step is, as it stands now, the one that was compared and decided about."""
        ...

    async def compare(self, server: "Downstream", step: RecordedStep) -> None:
        """Compare the server's tools again. Raises `PortError`, acted no, when the step's tool is another now."""
        ...

    def spawn(self, task: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Run a task within the connection."""
        ...


class _Pending:
    """A request that a server owes an answer to."""

    __slots__ = ("answered", "standing")

    def __init__(self, answered: Answered, *, standing: bool) -> None:
        self.answered = answered
        self.standing = standing


class _Wait:
    """An answer that a task waits for."""

    __slots__ = ("_event", "_found")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._found: Answer | None = None

    def answered(self, answer: Answer) -> None:
        if self._found is None:
            self._found = answer
            self._event.set()

    async def answer(self) -> Frame:
        await self._event.wait()
        if isinstance(self._found, Frame):
            return self._found
        if self._found is None:
            raise PortError(Reason.INTERNAL_ERROR, "", acted=Acted.MAYBE)
        # One death fails many waits, and an exception that is raised twice mixes up its tracebacks.
        raise PortError(self._found.reason, self._found.summary, acted=self._found.acted)


class Downstream:
    """One server, as one host connection sees it."""

    def __init__(
        self, entry: ServerEntry, *, clock: Clock, mint: Mint, bridge_mint: Callable[[], Mint], limits: Limits
    ) -> None:
        """A server that is not started yet."""
        self.name = entry.name
        self.identity = entry.identity
        self.ends = entry.ends
        """Whether what carries out its calls ends with its connection."""
        self._start_timeout_s = entry.start_timeout_s
        self._heard = False
        """Whether it has said anything since it was started."""
        self.limits = limits
        self.state = State.IDLE
        self.initialized = False
        """Whether it has answered an `initialize` with a result on its present connection."""
        self.discovered = False
        """Whether it has answered a stateless request with a result on its present connection."""
        self.capabilities: Mapping[str, Json] = {}
        """What it declared in the opening that counts."""
        self.batches = False
        """Whether the version agreed with it has arrays."""
        self.times_started = 0
        self.calls_in_flight = 0
        self.held_bytes = 0
        """Of calls that wait until its tools are listed."""
        self._connect = entry.connect
        self._clock = clock
        self._mint = mint
        self._bridge_mint = bridge_mint
        self._side: ServerSide | None = None
        self._leg: Leg | None = None
        self._over: list[Leg] = []
        """Legs that are being ended."""
        self._pending: dict[IdKey, _Pending] = {}
        self._overdue: dict[IdKey, tuple[RecordedStep, Call, int]] = {}
        """Calls that were given up, when they were sent, and who may answer yet."""
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._starts: deque[int] = deque()
        self._started: anyio.Event | None = None
        self._why_dead = "is not running"

    # -- life ---------------------------------------------------------------------------------------------------------

    def attach(self, side: ServerSide) -> None:
        """Say who hears of what it does, before it is started."""
        self._side = side

    @property
    def era(self) -> Era:
        """The era of its own messages: stateless only if it never was initialized and has shown that it is."""
        return Era.STATELESS if self.discovered and not self.initialized else Era.HANDSHAKE

    def can(self, capability: str) -> bool:
        """Whether it declared a capability; `{}` is a declaration."""
        return self.capabilities.get(capability) is not None

    def unsendable(self, tool: str) -> str:
        """Why no call of a tool can be sent to it, as a phrase; empty when it can."""
        return "" if self._leg is None else self._leg.unsendable(tool)

    @property
    def is_ready(self) -> bool:
        """Whether what is sent leaves at once."""
        return self.state is State.READY

    @property
    def waiting_bytes(self) -> int:
        """How much waits to be written to it."""
        return self.held_bytes + self._backlog_bytes + (0 if self._leg is None else self._leg.waiting_bytes)

    @property
    def full(self) -> bool:
        """Whether it takes no further call for now."""
        return self.calls_in_flight >= self.limits.in_flight or self.waiting_bytes >= self.limits.waiting_bytes

    def is_over(self, start: int) -> bool:
        """Whether nothing that one of its starts took can land any more: the process of that start has ended."""
        later = self.times_started > start or self.state in {State.DEAD, State.CLOSED}
        return self.ends and later and not self._over

    def start(self) -> None:
        """Start it; what is for it waits until it is ready."""
        assert self._side is not None
        self.state = State.STARTING
        self._heard = False
        self._started = anyio.Event()
        self.times_started += 1
        self._starts.append(self._clock.monotonic_ns())
        self._side.spawn(self._run_start)

    async def ready(self) -> None:
        """Wait until it takes requests, starting it again if it died. Raises `PortError`, acted no."""
        if self.state is State.READY:
            return
        if self.state is not State.STARTING and not self._restart():
            raise self._unreachable()
        assert self._started is not None
        await self._started.wait()
        if not self.is_ready:
            raise self._unreachable()

    async def aclose(self) -> None:
        """End the connection and what stands behind it."""
        self.state = State.CLOSED
        for leg in (self._leg, *self._over):
            if leg is not None:
                await leg.aclose()

    def give_up(self, why: str) -> None:
        """Fail all that it owes: nobody waits for it any longer."""
        self._fail_all(PortError(Reason.CONNECTION_LOST, why, acted=Acted.MAYBE))

    def pause(self) -> None:
        """Stop reading it."""
        if self._leg is not None:
            self._leg.pause()

    def resume(self) -> None:
        """Read it again."""
        if self._leg is not None:
            self._leg.resume()

    # -- speaking -----------------------------------------------------------------------------------------------------

    def owes(self, request_key: IdKey) -> bool:
        """Whether a request under this id waits for an answer."""
        return request_key in self._pending

    def request(self, request_key: IdKey, raw: bytes, answered: Answered, *, standing: bool = False) -> None:
        """Send a request, now or once it is ready; `answered` gets the answer or why there is none."""
        self._pending[request_key] = _Pending(answered, standing=standing)
        if self.state is State.READY or self.state is State.STARTING or self._restart():
            self._push(raw)
            return
        del self._pending[request_key]
        answered(self._unreachable())

    def forget(self, request_key: IdKey) -> None:
        """Wait no longer for an answer that will not come."""
        self._pending.pop(request_key, None)

    def notify(self, raw: bytes) -> None:
        """Send a notification or an answer; a server that is gone misses it."""
        if self.state is State.READY or self.state is State.STARTING:
            self._push(raw)

    async def ask(self, method: str, params: JsonObject | None, *, early: bool = False) -> Frame:
        """Send a request of our own and wait for its answer, bounded.

        `early` ones go out before it is ready: they are what makes it so. Raises `PortError`.
        """
        request_id = self._mint.next()
        return await self.ask_as(request_id, replies.request(request_id, method, params), early=early)

    async def ask_as(self, request_id: str, raw: bytes, *, early: bool = False) -> Frame:
        """The same with a frame that carries the id already."""
        bound_s = OWN_REQUEST_BOUND_S if self._heard else self._start_timeout_s
        with anyio.move_on_after(bound_s):
            return await self.exchange(key(request_id), raw, early=early)
        summary = f"{self.name} gave no answer in {bound_s:g} s"
        raise PortError(Reason.SERVER_UNREACHABLE, summary, acted=Acted.NO)

    async def exchange(self, request_key: IdKey, raw: bytes, *, early: bool = False) -> Frame:
        """Send a request and wait for its answer, for as long as that takes. Raises `PortError`."""
        wait = _Wait()
        try:
            if early:
                if self._leg is None:
                    raise self._unreachable()
                self._pending[request_key] = _Pending(wait.answered, standing=False)
                self._leg.send(raw)
            else:
                self.request(request_key, raw, wait.answered)
            return await wait.answer()
        finally:
            self._pending.pop(request_key, None)

    def own_id(self) -> str:
        """An id for a request of our own."""
        return self._mint.next()

    def send_early(self, raw: bytes) -> None:
        """Send a notification before it is ready."""
        if self._leg is not None:
            self._leg.send(raw)

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        """Send a recorded step and wait for its answer. Raises `PortError`, acted no or maybe."""
        proposal = step.proposal
        if proposal.request_id is None:
            raise PortError(Reason.INTERNAL_ERROR, "a call without an id", acted=Acted.NO)
        assert self._side is not None
        await self.ready()
        while not self._side.vouches(self, step):
            # It was started again, or said that its tools changed, since the step was proposed.
            await self._side.compare(self, step)
            await self.ready()
        if call.withdrawn:
            raise PortError(Reason.WITHDRAWN, call.cancel_reason or "by the host", acted=Acted.NO)
        request_key = key(proposal.request_id)
        wait = _Wait()
        self._overdue.pop(request_key, None)  # the id is used again: what comes under it answers this call
        self._pending[request_key] = pending = _Pending(wait.answered, standing=False)
        call.sent = True
        call.start = self.times_started
        began = self._clock.monotonic_ns()
        self._push(proposal.raw)
        try:
            frame = await wait.answer()
        except PortError as error:
            if error.reason is Reason.CANCELLED:
                self._give_up_call(request_key, step, call, began)
            raise
        except BaseException:
            # Out of time: a late answer finds nobody, and the server may stop working on it.
            if self._pending.get(request_key) is pending:
                del self._pending[request_key]
                self._give_up_call(request_key, step, call, began)
                self.notify(
                    replies.notification(
                        "notifications/cancelled", {"requestId": proposal.request_id, "reason": "no answer in time"}
                    )
                )
            raise
        tool_us = (self._clock.monotonic_ns() - began) // 1000
        return _returned(frame, tool_us, step)

    def cancel(self, request_key: IdKey, raw: bytes) -> None:
        """Send a cancel on; what it cancels may still answer, for a bounded time."""
        self.notify(raw)
        pending = self._pending.get(request_key)
        if pending is not None:
            assert self._side is not None
            self._side.spawn(self._expire, request_key, pending)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _give_up_call(self, request_key: IdKey, step: RecordedStep, call: Call, began_ns: int) -> None:
        while len(self._overdue) >= OVERDUE:
            del self._overdue[next(iter(self._overdue))]
        self._overdue[request_key] = (step, call, began_ns)

    async def _expire(self, request_key: IdKey, pending: _Pending) -> None:
        await anyio.sleep(CANCEL_BOUND_S)
        if self._pending.get(request_key) is pending:
            del self._pending[request_key]
            summary = f"{self.name} gave no answer in {CANCEL_BOUND_S:g} s"
            pending.answered(PortError(Reason.CANCELLED, summary, acted=Acted.MAYBE))

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await anyio.sleep(delay_s)
            act()

        assert self._side is not None
        self._side.spawn(wait)

    def _misplaced(self, raw: bytes) -> None:
        assert self._side is not None
        self._side.misplaced_from(self, raw)

    def _push(self, raw: bytes) -> None:
        if self.state is State.READY and self._leg is not None:
            self._leg.send(raw)
        else:
            self._backlog.append(raw)
            self._backlog_bytes += len(raw)

    def _restart(self) -> bool:
        if self.state is State.CLOSED or self._side is None:
            return False
        now = self._clock.monotonic_ns()
        while self._starts and now - self._starts[0] > MINUTE_NS:
            self._starts.popleft()
        if len(self._starts) > STARTS_PER_MINUTE:
            return False
        self.start()
        return True

    async def _run_start(self) -> None:
        assert self._side is not None
        try:
            await self._come_up()
        except PortError as error:
            # Whoever is told names the server first.
            self._give_up_start(error.summary.removeprefix(f"server {self.name} "))
        except BaseException:
            self._give_up_start("could not be started")
            raise
        if self.state is State.READY and self.times_started > 1:
            self._side.reopened(self)

    async def _come_up(self) -> None:
        assert self._side is not None
        connected = await self._connect()
        if self.state is State.CLOSED:
            await connected.aclose()
            return
        # A handshake host meets a stateless-only server through a bridge, which does nothing for any other pair.
        self._leg = leg = BridgedLeg(connected, self._bridge_mint(), later=self._later, dropped=self._misplaced)
        leg.start(self._received, partial(self._ended, leg))
        if self.times_started > 1:
            await self._side.reopen(self)
        if self.state is not State.STARTING:
            return
        self.state = State.READY
        while self._backlog:
            leg.send(self._backlog.popleft())
        self._backlog_bytes = 0
        if self._started is not None:
            self._started.set()

    def _give_up_start(self, why: str) -> None:
        if self.state is State.STARTING:
            self._stop(why)
            self._let_go()

    def _let_go(self) -> None:
        """End what stands behind a connection that is over: a server may close its output and live on."""
        leg, self._leg = self._leg, None
        if leg is not None and self._side is not None:
            self._over.append(leg)
            self._side.spawn(self._end, leg)

    async def _end(self, leg: Leg) -> None:
        await leg.aclose()
        self._over.remove(leg)

    def _stop(self, why: str) -> None:
        """Declare it dead: everything that waits for it hears why."""
        self._why_dead = why
        self._overdue.clear()
        acted = Acted.NO if self.state is State.STARTING else Acted.MAYBE
        self.state = State.DEAD
        self.initialized = self.discovered = False
        self._backlog.clear()
        self._backlog_bytes = 0
        if self._started is not None:
            self._started.set()
        reason = Reason.SERVER_UNREACHABLE if acted is Acted.NO else Reason.CONNECTION_LOST
        self._fail_all(PortError(reason, f"{self.name} {why}", acted=acted))

    def _fail_all(self, error: PortError) -> None:
        failed = [(k, pending) for k, pending in self._pending.items() if not pending.standing]
        for request_key, _ in failed:
            del self._pending[request_key]
        for _, pending in failed:
            pending.answered(error)

    def _unreachable(self) -> PortError:
        return PortError(Reason.SERVER_UNREACHABLE, f"{self.name} {self._why_dead}", acted=Acted.NO)

    def _received(self, lines: Sequence[bytes]) -> None:
        assert self._side is not None
        self._heard = True
        for line in lines:
            try:
                if isinstance(line, NoAnswer):
                    self._settle(key(line.id), line.error)
                    continue
                if isinstance(line, OversizedLine):
                    found = id_of_oversized(line, line.tail, side=Side.SERVER)
                    raise WireError(Side.SERVER, Fault.TOO_BIG, id=found)  # noqa: TRY301 - the same end as a line read
                self._take(read_server(line, max_bytes=self.limits.max_frame))
            except WireError as wrong:
                self._unreadable(line, wrong)
        self._side.read_from(self)

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        is_answer = kind is FrameKind.RESULT or kind is FrameKind.ERROR
        if is_answer and frame.id is not None and self._settle(key(frame.id), frame):
            return
        assert self._side is not None
        overdue = self._overdue.pop(key(frame.id), None) if is_answer and frame.id is not None else None
        if overdue is not None:
            step, call, began = overdue
            tool_us = (self._clock.monotonic_ns() - began) // 1000
            late = _returned(frame, tool_us, step)
            self._side.late_answer(self, frame, step, call, late)
            return
        self._side.from_server(self, frame)

    def _unreadable(self, line: bytes, wrong: WireError) -> None:
        if wrong.fault is Fault.ARRAY and self.batches and self._take_all(line):
            return
        self._drop(line, wrong)

    def _drop(self, line: bytes, wrong: WireError) -> None:
        """End the call that an unreadable message was to answer, if it shows which; the message goes no further."""
        if wrong.id is not None:
            summary = f"the answer of {self.name} cannot be read: {wrong.text}".rstrip(".")
            self._settle(key(wrong.id), PortError(Reason.ANSWER_UNREADABLE, summary, acted=Acted.MAYBE))
        assert self._side is not None
        self._side.garbage_from(self, line, wrong)

    def _settle(self, request_key: IdKey, answer: Answer) -> bool:
        pending = self._pending.pop(request_key, None)
        if pending is not None:
            pending.answered(answer)
        return pending is not None

    def _take_all(self, line: bytes) -> bool:
        """Take each message of an array; the one version that has arrays has them both ways."""
        try:
            batch = read_server_batch(line, max_bytes=self.limits.max_frame)
        except WireError:
            return False
        for member in batch.members:
            if isinstance(member, Frame):
                self._take(member)
            else:
                self._drop(line, member)
        return True

    def _ended(self, leg: Leg, end: LegEnd) -> None:
        if leg is not self._leg:
            return
        if self.state is State.CLOSED:
            self._fail_all(PortError(Reason.CONNECTION_LOST, f"{self.name} {end.why}", acted=Acted.MAYBE))
            return
        self._stop(end.why)
        self._let_go()
        assert self._side is not None
        self._side.died(self, end)


def _is_judged(step: RecordedStep) -> bool:
    """Whether a check will look inside the answer."""
    return step.decision.dues.after or (step.tool is not None and step.tool.check_result is not None)


def _returned(frame: Frame, tool_us: int, step: RecordedStep) -> Returned:
    result, error = frame.result, frame.error
    final, task = (True, "") if not isinstance(result, dict) else tasks.promised(step.proposal.raw, result)
    return Returned(
        raw=frame.raw,
        result=result if isinstance(result, dict) else None,
        error=error if isinstance(error, dict) else None,
        # A second, strict reading is paid only where a check will look inside.
        strict=frame.strict if _is_judged(step) else True,
        tool_us=tool_us,
        final=final,
        task=task,
    )
