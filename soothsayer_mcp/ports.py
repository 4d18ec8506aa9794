"""What the sentences need of the world: a store, tools, pipes, a clock. Adapters implement these; tests fake them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Protocol, Self, TypeAlias

from soothsayer_mcp.evidence.attestation import Statement
from soothsayer_mcp.evidence.checks import CommandFacts, FileFacts, HttpFacts, ReadFacts
from soothsayer_mcp.model.ask import Ask, AskAnswer, Grant, NewAsk
from soothsayer_mcp.model.call import PinState, RequestId, RunId, StepId, ToolDefinition
from soothsayer_mcp.model.dues import Held
from soothsayer_mcp.model.entry import Kind, Receipt
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.facts import Facts, Origin, Questions
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Finding
from soothsayer_mcp.model.json import Digest, Json, JsonObject
from soothsayer_mcp.model.outcome import Asked, Refused, Returned
from soothsayer_mcp.model.run import Closing, Completion, Debts, Run, RunBinding, RunRules
from soothsayer_mcp.model.settlement import Twin
from soothsayer_mcp.model.step import (
    AnsweredStep,
    ClosedStep,
    DecidedStep,
    ProposedStep,
    RecordedStep,
    SupportedStep,
    VerifiedStep,
    WithheldStep,
)
from soothsayer_mcp.model.summary import Summary
from soothsayer_mcp.model.undo import Captured, FileBefore
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.run.repeat import Repeat


class PortError(Exception):
    """A port could not do its part. The only exception that ports raise."""

    def __init__(self, reason: Reason, summary: str, *, acted: Acted) -> None:
        """Say why, in words fit for an agent, and whether the tool may have acted."""
        super().__init__(f"{reason}: {summary}")
        self.reason = reason
        self.summary = summary
        self.acted = acted

    @property
    def failure(self) -> Failure:
        """The same as a value."""
        return Failure(reason=self.reason, summary=self.summary, certainly_not_acted=self.acted is Acted.NO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Things as they stand inside commit A."""

    run: Run
    recall: Callable[[Questions], Facts]
    """Answers what the store was asked before deciding, as it stands here. What it cannot answer is absent."""
    held: Held
    now_us: int = 0
    """Microseconds since 1970, UTC."""
    ask: Ask | None = None
    """The question that the step's approval answers; `spent` where that approval was used."""
    grant: Grant | None = None
    """The remembered yes that covers the step."""
    repeat: Repeat | None = None
    """How often the call got the same answer, where that was too often; `None` also where nobody compares."""
    twin: Twin | None = None
    """An earlier step with the same call, of which the agent does not know how it ended."""


Admit: TypeAlias = Callable[[Standing, SupportedStep], Refused | Asked | None]
"""Pure; called inside commit A on things as they stand. `None` admits."""


Close: TypeAlias = Callable[[Run, SupportedStep, Failure | None], Closing]
"""Pure; called inside the commit that ends a step, on the run as it stands with this step counted.

The failure is the step's own; `None` when it succeeded.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """An entry that is no step: a checked or dropped message, a loaded policy, a pin."""

    kind: Kind
    fields: Mapping[str, Json]
    run: RunId | None = None
    payloads: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Field name -> what was said; kept apart from the entry, by the trace's payload mode."""
    budgets: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Of a policy: what a run may use up, by name."""
    marks: Mapping[str, tuple[Sequence[str], Sequence[str]]] = field(
        default_factory=dict[str, tuple[Sequence[str], Sequence[str]]]
    )
    """Of a policy: under which marks it counts the steps of a run, each with its tools and what is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a host was given outside of a call, as far as it changes the run that its calls belong to."""

    origin: Origin
    """`first_party` where policy labels it so; anything else taints the run."""
    values: frozenset[str] | None = None
    """What of it is to be remembered; `None` where nothing is, which the run remembers too."""
    suspect: bool = False
    """Whether it reads like an instruction to a model, where policy asks for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTool:
    """A tool as a server lists it now."""

    name: str
    digest: Digest
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What a server's pins hang on."""

    name: str
    digest: Digest
    """Over argv or URL and the names of the declared environment variables."""
    declared: bool
    """Whether a person gave the name; else another identity under it is another server, not a changed one."""
    spelled: Digest | None = None
    """The same over what a configuration spells, before anything is filled in; `None` where that is the same."""

    @property
    def as_spelled(self) -> Digest:
        """What a lock calls it: the same on every machine that the configuration is used on."""
        return self.digest if self.spelled is None else self.spelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How a server's tools stand to their pins."""

    states: Mapping[str, PinState]
    """Tool name -> `pinned`, `new` or `changed`."""
    moved: frozenset[str] = frozenset()
    """Those of a server whose command or address is another than when they were pinned."""


class Store(Protocol):
    """The trace and the state, in one place. Every method raises `PortError` when it cannot make its part durable."""

    async def bind_run(self, binding: RunBinding, policy_digest: Digest) -> tuple[RunId, Failure | None]:
        """Find the run of a call, or open the automatic one; a failure when a named run is unknown or foreign."""
        ...

    async def read_run(self, run_id: RunId) -> Run:
        """Tell a run as of a moment ago; commit A looks again."""
        ...

    def joined_run(self, binding: RunBinding) -> Run | None:
        """Tell the run that a call would join as of a moment ago; `None` where it would open one. Changes nothing."""
        ...

    def recall(self, questions: Questions) -> Facts:
        """Answer questions about earlier steps, as of a moment ago; what cannot be answered is absent. Never raises."""
        ...

    @property
    def held(self) -> Held:
        """What evidence rests on, as of now; commit A looks again."""
        ...

    async def record_intent(self, step: SupportedStep, admit: Admit, close: Close) -> RecordedStep | WithheldStep:
        """Commit A; a step that is not admitted is closed by it.

        Raises `PortError` (`trace_unavailable`, acted no) when it is not durable in time.
        """
        ...

    async def record_outcome(self, step: VerifiedStep, close: Close) -> ClosedStep:
        """Commit B; a withheld step is only handed on. Raises `PortError` (`outcome_lost`) when it is not recorded.

        What was begun is recorded even when its caller is cancelled meanwhile.
        """
        ...

    async def settle(self, step: VerifiedStep, *, told: bool = False, close: Close | None = None) -> bool:
        """Record the answer that came after a step had ended as unknown, with what its checks found; durable then.

        `told` says that the agent reads it, and `close` chooses what becomes of the run by the result of a task. False
        while its end is not on record yet. Raises `PortError` when it is not unknown any more.
        """
        ...

    async def holds(self, receipt: Receipt) -> bool:
        """Tell whether the entry of a receipt can be read back, through another connection than the one that wrote."""
        ...

    async def note(self, note: Note) -> None:
        """Record an entry that is no step; durable when this returns."""
        ...

    def note_soon(self, note: Note) -> None:
        """Record an entry that is no step with one of the next commits; what cannot be recorded is counted."""
        ...

    async def note_given(self, given: Given, note: Note) -> None:
        """Record what a host is given and count it for the run of the note, in one commit, before it is given."""
        ...

    async def compare_definitions(
        self, server: ServerIdentity, tools: Sequence[SeenTool], *, trust_first: bool
    ) -> Compared:
        """Compare what a server lists now with its pins.

        With `trust_first`, a server without any pin gets all its tools pinned. A difference seen for the first time is
        an entry (`definition.changed`).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedStep:
    """How a step ended, as far as the agent may know."""

    server: str
    tool: str
    outcome: str
    """Empty while it is in flight."""
    acted: str
    rule: str
    reason: str | None
    said: str
    """What the agent was told then; empty where that is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """A result of which the agent was given the beginning."""

    text: str
    mime: str


class Shelf(Protocol):
    """What a host reads of its runs outside of calls. Each method raises `PortError`."""

    async def summarize(self, run_id: RunId, now_us: int) -> Summary:
        """Tell what a run has come to."""
        ...

    @property
    def held(self) -> Held:
        """What evidence rests on, as of now."""
        ...

    async def stored_result(self, run_id: RunId, no: int, *, principal: str) -> StoredResult | None:
        """A result that was stored and shown in part; `None` for a step, or a run of the principal's, without one."""
        ...

    async def give_back(
        self, run_id: RunId, size: int, refuse: Callable[[Run], Failure | None], note: Note | None = None
    ) -> None:
        """Count bytes as returned by the run before they are given, with the entry that tells of it.

        `refuse` is asked of the run as it stands then; what it says is raised.
        """
        ...


class Desk(Shelf, Protocol):
    """What the model may see of its own run, and do about it. Each method raises `PortError`."""

    async def read_run(self, run_id: RunId) -> Run:
        """Tell the run."""
        ...

    def recall(self, questions: Questions) -> Facts:
        """Answer questions about earlier steps; what cannot be answered is absent. Never raises."""
        ...

    async def debts_of(self, run_id: RunId) -> Debts:
        """Tell what its steps still owe."""
        ...

    async def declare_intent(self, run_id: RunId, text: str) -> Run:
        """Keep what the agent says the run is for, as the agent's own words."""
        ...

    async def complete_run(self, run_id: RunId, *, by: str, rules: RunRules) -> Completion:
        """Complete it if nothing stands against that."""
        ...

    async def ended_step(self, run_id: RunId, no: int) -> EndedStep | None:
        """Tell how one of its steps ended."""
        ...


class Inspector(Protocol):
    """Looks before and after the calls that owe something.

    Neither method raises `PortError`: what cannot be looked at is a gap, or a finding that says `unknown`.
    """

    async def gather(self, step: DecidedStep, call: "Call") -> Support:
        """Look up or gather what policy demands before the call; a gap for each demand that is not met."""
        ...

    async def look_after(self, step: AnsweredStep, call: "Call") -> Captured | None:
        """See how what was kept before the call stands once its forward is over; what cannot be seen is left out."""
        ...

    async def verify(self, step: AnsweredStep, call: "Call") -> tuple[tuple[Finding, ...], Mapping[str, str]]:
        """Check an answer that came: a finding for each check that is owed, and the digests of files it is to keep."""
        ...


class Tools(Protocol):
    """The tool servers."""

    async def forward(self, step: RecordedStep, call: "Call") -> Returned:
        """Send a recorded step to its server and wait for the answer.

        Raises `PortError`, which says whether the tool acted: no or maybe.
        """
        ...


class Servers(Protocol):
    """The servers that inverse calls go to. What they cannot do raises `PortError`."""

    @property
    def meta(self) -> JsonObject | None:
        """What requests to them carry beside their parameters; `None` for nothing."""
        ...

    def request_id(self, key: str) -> str:
        """The id of a request that stands under this key in the record."""
        ...

    async def find(self, tool: str) -> ToolDefinition:
        """A tool by `server.tool`, as its server offers it now and as policy lets it be called to undo."""
        ...

    async def read(self, run: RunId, tool: str, arguments: JsonObject) -> Json:
        """What a tool that only reads answers; a governed step of its own."""
        ...

    def call(self) -> "Call":
        """The live side of one call, which can have tools read for its checks."""
        ...

    async def forward(self, step: RecordedStep, call: "Call") -> Returned:
        """Send a recorded step and wait for the answer."""
        ...


class Call:
    """The live side of one governed call: whether its host still wants it, and how far it has come."""

    __slots__ = ("ask", "cancel_reason", "halted", "offered", "read", "recorded", "sent", "start", "withdrawn")

    def __init__(self, ask: "PutQuestion | None" = None) -> None:
        """A call that nobody has withdrawn and that is not sent; `ask` reaches a person, where one can be reached."""
        self.ask = ask
        self.withdrawn = False
        """Set when the host cancelled or went away. Read inside commit A, and once more before sending."""
        self.cancel_reason = ""
        self.halted = False
        """Set when its server was told to cancel it because its run was stopped at once."""
        self.sent = False
        """Set by `Tools.forward` before the first byte leaves."""
        self.start = 0
        """Which start of its server takes it; set with `sent`."""
        self.read: Readback | None = None
        """Calls another tool for a check of this call, through the loop; `None` where none can be called."""
        self.offered: Offered | None = None
        """Tells why another tool could not be called; `None` where none can be."""
        self.recorded: RecordedStep | None = None
        """The step once its intent is durable."""


PutQuestion: TypeAlias = Callable[[DecidedStep], Awaitable[Support]]
"""Asks a person about a step that policy asks about: an approval, a question that stays open, or why there is none."""


class Asks(Protocol):
    """Questions to people. Every method raises `PortError` when the record cannot be read or written."""

    async def open(self, ask: NewAsk) -> Ask:
        """Put a question; durable when this returns."""
        ...

    async def answer(self, answer: AskAnswer) -> tuple[Ask, bool]:
        """Answer a question, if nobody did: as it stands then, and whether this answer counted."""
        ...

    def find(self, run: RunId, digest: str) -> Ask | None:
        """The newest question of a run about the call with this digest."""
        ...

    def look(self, ask_id: str) -> Ask | None:
        """A question as it stands."""
        ...

    def grants(self, run: RunId, server: str, tool: str) -> Sequence[Grant]:
        """The remembered answers of a run about a tool that still hold."""
        ...


Readback: TypeAlias = Callable[[ProposedStep, str, JsonObject], Awaitable[ReadFacts]]
"""Calls a tool that only reads, by `server.tool`, for a check of a step. Raises `PortError` when nothing came."""


Offered: TypeAlias = Callable[[str], Awaitable[str]]
"""Tells why a tool, by `server.tool`, could not be called, as a phrase that follows its name; empty when it could."""


class Probes(Protocol):
    """What checks may look at beside tools, within the limits of the configuration.

    Every method raises `PortError` (`unreachable`) when nothing well-formed could be seen: that is never an answer.
    """

    async def file(self, path: str) -> FileFacts:
        """Look at one file by its absolute path, following no link."""
        ...

    async def keep(self, path: str) -> FileBefore:
        """Read one regular file whole, or see that there is none, following no link."""
        ...

    async def files(self, globs: Sequence[str], leave_out: Sequence[str]) -> Mapping[str, str]:
        """The digest of every file that a pattern means: path -> SHA-256."""
        ...

    async def digest(self, glob: str) -> str:
        """One digest over all files that a pattern means, by path and content."""
        ...

    async def head(self, folder: str) -> str:
        """The commit that a git work tree stands on."""
        ...

    async def command(self, name: str, words: Mapping[str, str]) -> CommandFacts:
        """Run a program that the configuration names."""
        ...

    async def http(self, template: str, values: Mapping[str, Json], method: str) -> tuple[str, HttpFacts]:
        """Ask an address, with values encoded into it; the address that was asked, and its answer."""
        ...

    async def statement(self, envelope: Json, keys: Sequence[str]) -> Statement:
        """Open a signed envelope by the pinned keys of these names."""
        ...


Look: TypeAlias = Callable[[Sequence[str]], Facts]
"""Looks up what paths lead to; total: what cannot be looked up is absent."""


class OversizedLine(bytes):
    """What is kept of a line over the limit: the bytes are its head. Never a frame; it only tells whose it was."""

    tail: bytes
    size_bytes: int

    def __new__(cls, head: bytes, *, tail: bytes, size_bytes: int) -> Self:
        """Keep both ends and the size of the whole."""
        line = super().__new__(cls, head)
        line.tail = tail
        line.size_bytes = size_bytes
        return line


class NoAnswer(bytes):
    """Stands where the answer to one request would: none will come, and the connection goes on.

    The bytes are a JSON-RPC error under the request's id, for whoever looks no closer.
    """

    id: RequestId
    error: PortError

    def __new__(cls, raw: bytes, *, id: RequestId, error: PortError) -> Self:  # noqa: A002 - the member's name on the wire
        """Keep whose answer it would be, and why there is none."""
        line = super().__new__(cls, raw)
        line.id = id
        line.error = error
        return line


class Leg(Protocol):
    """One MCP connection, of whatever transport: whole frames in, whole frames out."""

    @property
    def waiting_bytes(self) -> int:
        """How much was given to `send` and is not written yet."""
        ...

    def unsendable(self, tool: str) -> str:
        """Why no call of a listed tool can be sent this way, as a phrase; empty when it can."""
        ...

    def start(self, received: Callable[[Sequence[bytes]], None], ended: Callable[["LegEnd"], None]) -> None:
        """Begin to read. Both callables are called on the event loop; `ended` once, after the last `received`.

        Frames come without their line end, in order, and never empty. What was over the limit comes as an
        `OversizedLine` in its place, and a request whose answer alone was lost gets a `NoAnswer`. Sending goes on
        after `ended` for as long as the other side reads.
        """
        ...

    def send(self, raw: bytes) -> None:
        """Queue one frame without its line end. Never blocks, never raises; once nobody reads it does nothing."""
        ...

    def pause(self) -> None:
        """Stop reading until `resume`: the other side feels the pressure."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...

    async def drained(self) -> bool:
        """Wait until all that was sent is written. False when the other side no longer takes it."""
        ...

    async def aclose(self) -> None:
        """End the connection, and what stands behind it, in bounded time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LegEnd:
    """How a connection ended."""

    why: str
    """A phrase that follows the server's name: `exited with code 3`, `closed its output`."""
    last_words: str = ""
    """The last lines of a server's standard error, for people."""


class Connect(Protocol):
    """Starts or reaches one downstream server."""

    async def __call__(self) -> Leg:
        """Open a connection. Raises `PortError` (`server_unreachable`, acted no)."""
        ...


class Clock(Protocol):
    """The only time."""

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds, for durations only."""
        ...


class Ids(Protocol):
    """The only randomness."""

    def step(self) -> StepId:
        """A fresh step id."""
        ...

    def token(self) -> str:
        """16 fresh lower-case hex digits."""
        ...
