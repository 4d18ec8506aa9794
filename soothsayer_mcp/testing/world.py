"""A recording world: every port that the sentences need, over one log, so that order reads like the spec."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from soothsayer_mcp.model.call import Client, PinState, Principal, RunId, StepId
from soothsayer_mcp.model.dues import Held, LastWrite, Seen
from soothsayer_mcp.model.entry import Kind, Receipt
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.facts import NO_FACTS, Facts, Origin, Questions
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Finding
from soothsayer_mcp.model.json import Digest
from soothsayer_mcp.model.outcome import Asked, Refused, Returned
from soothsayer_mcp.model.run import Closing, Debts, Run, RunBinding, RunState
from soothsayer_mcp.model.settlement import Twin
from soothsayer_mcp.model.step import (
    AnsweredStep,
    ClosedStep,
    DecidedStep,
    RecordedStep,
    SupportedStep,
    VerifiedStep,
    WithheldStep,
)
from soothsayer_mcp.model.summary import Summary
from soothsayer_mcp.model.undo import Captured
from soothsayer_mcp.ports import (
    Admit,
    Call,
    Close,
    Compared,
    Given,
    LegEnd,
    Note,
    PortError,
    SeenTool,
    ServerIdentity,
    Standing,
    StoredResult,
)
from soothsayer_mcp.run.repeat import Repeat
from soothsayer_mcp.testing.asks import MemoryAsks

Happening: TypeAlias = Callable[[], Awaitable[None] | None]
"""Something that happens to a port: it may raise, wait, or change the world."""

RUN_ID = RunId("5" * 32)
PRINCIPAL = Principal(id="os:tester", how="os_account")
CLIENT = Client(name="test-host", version="1")
WRITER = "a" * 16
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"done"}]}}'


class NothingHeld:
    """A record in which nothing was written and nothing used up."""

    def position(self) -> int:
        """The beginning."""
        return 0

    def seen(self, run: RunId, pattern: str, *, across: bool = False) -> Seen | None:
        """No step."""
        del run, pattern, across
        return None

    def last_write(self, subject: str, *, but: tuple[RunId, int] | None) -> LastWrite:
        """No write."""
        del subject, but
        return LastWrite()

    def in_flight(self, subject: str, *, but: tuple[RunId, int] | None = None) -> str:
        """Nothing is."""
        del subject, but
        return ""

    def spent(self, key: str) -> bool:
        """Nothing."""
        del key
        return False


class World:
    """Implements `Store`, `Tools` and `Look`, and writes down in `log` which of them was used, in order."""

    def __init__(self) -> None:
        """A world with one open run, in which every port works and every call is answered."""
        self.log: list[str] = []
        self.entries: list[tuple[Kind, StepId]] = []
        """What is durable, in order."""
        self.notes: list[Note] = []
        self.forwarded: list[RecordedStep] = []
        """What reached the tools."""
        self.outcomes: list[VerifiedStep] = []
        """Every outcome that became durable."""
        self.settled: list[VerifiedStep] = []
        """Every step that was settled by an answer that came late."""
        self.settled_as: list[tuple[bool, Closing | None]] = []
        """Of each of them, whether the agent reads it, and what the result of a task made of the run."""
        self.run = Run(id=RUN_ID, principal=PRINCIPAL, state=RunState.OPEN, version=1)
        self.facts: Facts = NO_FACTS
        self.answer = Returned(raw=ANSWER, result={"content": [{"type": "text", "text": "done"}]})
        self._closings: dict[StepId, Closing] = {}
        self.pins: dict[str, PinState] = {}
        """How each tool name compares with its pin; `pinned` where nothing is said."""
        self.support = Support()
        """What is found before a call that owes something."""
        self.findings: tuple[Finding, ...] = ()
        """What is found after one."""
        self.held: Held = NothingHeld()
        self.twin: Twin | None = None
        """An earlier step with the same call, for commit A."""
        self.repeat: Repeat | None = None
        """How often the call got the same answer, for commit A."""
        self.now_us = 0
        """The time in commit A, where no question was answered."""
        self.asks: MemoryAsks | None = None
        """Where questions to people are kept, if any are put."""
        self.before: dict[str, Happening] = {}
        """Port method -> what happens when it begins, before it has done anything."""
        self.after: dict[str, Happening] = {}
        """Port method -> what happens when it has done its part, before it returns."""

    async def _begin(self, name: str) -> None:
        self.log.append(name)
        await _happen(self.before.get(name))

    async def _end(self, name: str) -> None:
        await _happen(self.after.get(name))

    def change_run(self, *, state: RunState | None = None) -> None:
        """Change the run as another process would: its version grows."""
        self.run = replace(self.run, state=state or self.run.state, version=self.run.version + 1)

    def kinds(self, step: StepId) -> list[Kind]:
        """Tell what is durable of a step, in order."""
        return [kind for kind, id_ in self.entries if id_ == step]

    def _record(self, kind: Kind, step: StepId) -> Receipt:
        if any((earlier is Kind.STEP_OUTCOME) is (kind is Kind.STEP_OUTCOME) for earlier in self.kinds(step)):
            raise PortError(Reason.INTERNAL_ERROR, "a step is recorded once", acted=Acted.NO)
        self.entries.append((kind, step))
        return Receipt(writer=WRITER, seq=len(self.entries), leaf=bytes(32), run=self.run.id, no=1)

    async def bind_run(self, binding: RunBinding, policy_digest: Digest) -> tuple[RunId, Failure | None]:
        """Give every call the one run."""
        del binding, policy_digest
        await self._begin("bind_run")
        await self._end("bind_run")
        return self.run.id, None

    def joined_run(self, binding: RunBinding) -> Run | None:
        """Tell the one run."""
        del binding
        self.log.append("joined_run")
        return self.run

    async def read_run(self, run_id: RunId) -> Run:
        """Tell the run as it stands."""
        del run_id
        await self._begin("read_run")
        run = self.run
        await self._end("read_run")
        return run

    async def summarize(self, run_id: RunId, now_us: int) -> Summary:
        """Tell of the one run, which owes nothing."""
        del run_id, now_us
        self.log.append("summarize")
        return Summary(run=self.run, debts=Debts())

    async def stored_result(self, run_id: RunId, no: int, *, principal: str) -> StoredResult | None:
        """Nothing is ever stored apart: results pass whole."""
        del run_id, no, principal
        self.log.append("stored_result")

    async def give_back(
        self, run_id: RunId, size: int, refuse: Callable[[Run], Failure | None], note: Note | None = None
    ) -> None:
        """Count nothing."""
        del run_id, size, refuse, note
        self.log.append("give_back")

    def recall(self, questions: Questions) -> Facts:
        """Answer from `facts`."""
        if questions.of_the_store:
            self.log.append("recall")
        return self.facts

    async def record_intent(self, step: SupportedStep, admit: Admit, close: Close) -> RecordedStep | WithheldStep:
        """Commit A, with `admit` inside it, and `close` for what is not admitted."""
        await self._begin("record_intent")
        approval = step.support.approval
        ask = None if approval is None or self.asks is None else self.asks.look(approval.ask)
        now_us = self.now_us if ask is None else ask.answered_at_us or 0
        standing = Standing(
            run=self.run,
            recall=self.recall,
            held=self.held,
            now_us=now_us,
            ask=ask,
            repeat=self.repeat,
            twin=self.twin,
        )
        refusal = admit(standing, step)
        if refusal is None and approval is not None and self.asks is not None:
            self.asks.spend(approval.ask)
        if refusal is not None:
            self._closings[step.id] = close(self.run, step, refusal.failure)
        match refusal:
            case None:
                recorded = step.recorded(self._record(Kind.STEP_INTENT, step.id))
            case Refused():
                recorded = step.withheld(self._record(Kind.STEP_REFUSED, step.id), refusal)
            case Asked():
                recorded = step.withheld(self._record(Kind.STEP_ASKED, step.id), refusal)
        await self._end("record_intent")
        return recorded

    async def record_outcome(self, step: VerifiedStep, close: Close) -> ClosedStep:
        """Commit B; what commit A withheld is handed on."""
        await self._begin("record_outcome")
        withheld = self._closings.get(step.id)
        if withheld is not None:
            closing, receipt = withheld, step.intent
        else:
            closing = close(self.run, step, step.failure)
            receipt = self._record(Kind.STEP_OUTCOME, step.id)
            self.outcomes.append(step)
        await self._end("record_outcome")
        return step.closed(receipt, closing.next_step, closing.why)

    async def settle(self, step: VerifiedStep, *, told: bool = False, close: Close | None = None) -> bool:
        """Keep the answer that came late."""
        await self._begin("settle")
        self.settled.append(step)
        self.settled_as.append((told, None if close is None else close(self.run, step, step.failure)))
        await self._end("settle")
        return True

    async def holds(self, receipt: Receipt) -> bool:
        """Tell whether the entry is there."""
        await self._begin("holds")
        return 0 < receipt.seq <= len(self.entries)

    async def note(self, note: Note) -> None:
        """Keep an entry that is no step."""
        await self._begin("note")
        self.notes.append(note)
        await self._end("note")

    async def note_given(self, given: Given, note: Note) -> None:
        """Keep the entry, and what it makes of the one run but for values."""
        await self._begin("note_given")
        self.notes.append(note)
        counters = self.run.counters
        tainted = counters.untrusted_reads + (given.origin is Origin.UNTRUSTED)
        counters = counters._replace(untrusted_reads=tainted, suspect_reads=counters.suspect_reads + given.suspect)
        self.run = replace(self.run, counters=counters, version=self.run.version + 1)
        await self._end("note_given")

    def note_soon(self, note: Note) -> None:
        """Keep an entry that is no step."""
        self.log.append("note_soon")
        self.notes.append(note)

    async def compare_definitions(
        self, server: ServerIdentity, tools: Sequence[SeenTool], *, trust_first: bool
    ) -> Compared:
        """Answer from `pins`."""
        del server, trust_first
        await self._begin("compare_definitions")
        await self._end("compare_definitions")
        return Compared(states={tool.name: self.pins.get(tool.name, PinState.PINNED) for tool in tools})

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        """Receive a call and answer it."""
        await self._begin("forward")
        if Kind.STEP_INTENT not in self.kinds(step.id):
            raise AssertionError("a step was forwarded whose intent is not durable")
        if any(step.id == earlier.id for earlier in self.forwarded):
            raise AssertionError("a step was forwarded twice")
        call.sent = True
        self.forwarded.append(step)
        await self._end("forward")
        return self.answer

    async def gather(self, step: DecidedStep, call: Call) -> Support:
        """Answer from `support`."""
        del step, call
        await self._begin("gather")
        await self._end("gather")
        return self.support

    async def look_after(self, step: AnsweredStep, call: Call) -> Captured | None:
        """See nothing."""
        del step, call
        await self._begin("look_after")
        await self._end("look_after")
        return None

    async def verify(self, step: AnsweredStep, call: Call) -> tuple[tuple[Finding, ...], Mapping[str, str]]:
        """Answer from `findings`."""
        del step, call
        await self._begin("verify")
        await self._end("verify")
        return self.findings, {}

    def look(self, paths: Sequence[str]) -> Facts:
        """Answer from `facts`."""
        if paths:
            self.log.append("look")
        return self.facts


async def _happen(happening: Happening | None) -> None:
    if happening is None:
        return
    waiting = happening()
    if inspect.isawaitable(waiting):
        await waiting


class MemoryLeg:
    """A connection in memory: the test is the other side."""

    def __init__(self) -> None:
        """A connection that nobody has started."""
        self.sent: list[bytes] = []
        """What the program sent, in order."""
        self.paused = False
        self.closed = False
        self.reads = True
        """Whether the other side takes what is sent; when not, it stays in `unread`."""
        self.unread: list[bytes] = []
        self.unsendables: dict[str, str] = {}
        """Tool -> why no call of it can be sent."""
        self._received: Callable[[Sequence[bytes]], None] | None = None
        self._ended: Callable[[LegEnd], None] | None = None

    @property
    def waiting_bytes(self) -> int:
        """How much the other side has not taken."""
        return sum(map(len, self.unread))

    def unsendable(self, tool: str) -> str:
        """Say what the test says."""
        return self.unsendables.get(tool, "")

    def start(self, received: Callable[[Sequence[bytes]], None], ended: Callable[[LegEnd], None]) -> None:
        """Begin; frames come by `feed`."""
        self._received = received
        self._ended = ended

    def feed(self, *frames: bytes) -> None:
        """Let the program receive frames."""
        if self._received is None:
            raise AssertionError("the leg was not started")
        self._received(frames)

    def end(self, why: str, last_words: str = "") -> None:
        """End the connection from the other side, once."""
        ended, self._ended = self._ended, None
        if ended is None:
            raise AssertionError("the leg was not started, or has ended")
        ended(LegEnd(why=why, last_words=last_words))

    def send(self, raw: bytes) -> None:
        """Take a frame."""
        if self.closed:
            return
        (self.sent if self.reads else self.unread).append(raw)

    def read_all(self) -> None:
        """Let the other side take what waits, and all that comes."""
        self.reads = True
        self.sent.extend(self.unread)
        self.unread.clear()

    def pause(self) -> None:
        """Note that the program stops reading."""
        self.paused = True

    def resume(self) -> None:
        """Note that the program reads again."""
        self.paused = False

    async def drained(self) -> bool:
        """Tell whether all was taken."""
        return not self.unread

    async def aclose(self) -> None:
        """End it from this side."""
        self.closed = True


class SteppingClock:
    """A clock that moves one microsecond each time it is read."""

    def __init__(self, now_us: int = 1_800_000_000_000_000) -> None:
        """Start at a fixed moment."""
        self._now_us = now_us

    def now_us(self) -> int:
        """Tell the time."""
        self._now_us += 1
        return self._now_us

    def monotonic_ns(self) -> int:
        """Tell the same for durations."""
        return self.now_us() * 1000


class CountingIds:
    """Ids that count."""

    def __init__(self) -> None:
        """Start at one."""
        self._count = 0

    def step(self) -> StepId:
        """The next step id."""
        return StepId(self.token())

    def token(self) -> str:
        """The next 16 hex digits."""
        self._count += 1
        return f"{self._count:016x}"
