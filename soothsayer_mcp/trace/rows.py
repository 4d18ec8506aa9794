"""What the trace answers when it is read: steps, runs, entries and what was said, as values for every face."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import RunScope
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One step in one line. Texts come from outside and are shown escaped."""

    n: int
    """Where it stands among all steps of the trace."""
    run: str
    no: int
    span: str
    at_us: int
    principal: str
    host: str
    server: str
    tool: str
    does: str
    cause: str
    of_step: str
    continues: str
    effect: str
    would: str
    rule: str
    risk: int | None
    policy: str
    asked: bool
    outcome: str
    """`succeeded`, `failed`, `unknown`; empty while it is in flight."""
    acted: str
    failure: str
    reason: str
    next: str
    dur_us: int | None
    tool_us: int | None
    note: str = ""
    """The policy's or the store's own word on it, where a line has room: the summary behind the reason."""
    undo: str = ""
    """How it can be undone while nobody has tried, else what became of that: `restore`, `never`, `undone`, ..."""
    undone_by: str = ""
    """The step that undid it."""
    levels: Sequence[str] = ()
    """The levels of the findings that held, highest last."""
    checks: Sequence[str] = ()
    """The checks that did not hold, as `NAME answer`."""

    @property
    def step(self) -> str:
        """Its full name."""
        return f"{self.run}.{self.no}"

    @property
    def call(self) -> str:
        """Server and tool."""
        return f"{self.server}.{self.tool}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run in one line."""

    run: str
    state: str
    why: str
    principal: str
    host: str
    workspace: str
    policy: str
    steps: int
    failed: int
    unknown: int
    asked: int
    opened_us: int
    last_us: int
    closed_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One budget of a run."""

    name: str
    cap: int
    used: int
    """Calls in flight included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """One entry: the exact text that is hashed, and what it says if it can be read."""

    pos: int
    writer: str
    seq: int
    at_us: int
    kind: str
    run: str
    no: int | None
    leaf: bytes
    body: str
    fields: Mapping[str, Json]
    """The parsed body; empty when the body is no JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What was said, as far as it is kept."""

    pos: int
    part: str
    """The field of the entry that it belongs to."""
    text: str | None
    """`None` when only its digest was kept, or when it was erased."""
    file: str
    """The blob that holds it when it is too large for a row; empty otherwise."""
    size_bytes: int
    """Of what crossed the wire."""
    kept: str
    """How it was kept: `full`, `redacted`, `digest`, or `erased`."""
    masked: int
    """How many values in it were masked."""
    cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A question to a person, and the answer."""

    id: str
    rule: str
    state: str
    asked_us: int
    answered_us: int | None
    answered_by: str
    channel: str
    call: str = ""
    """The digest of what was asked about, keyed by the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastYes:
    """The last call of a tool that a person allowed, and its arguments as far as they are kept."""

    run: str
    no: int
    at_us: int
    args: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is known about one step."""

    step: StepRow
    policy_name: str
    entries: Sequence[EntryRow]
    payloads: Sequence[Payload]
    approvals: Sequence[Approval]
    checkpoint: int | None
    """The size of the first checkpoint that covers all its entries; `None` when none does."""

    def entry(self, *kinds: str) -> EntryRow | None:
        """Its first entry of one of these kinds."""
        return next((entry for entry in self.entries if entry.kind in kinds), None)

    def payload(self, part: str) -> Payload | None:
        """What was said in one part of it."""
        return next((payload for payload in self.payloads if payload.part == part), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStory:
    """All that is known about one run, but for its steps."""

    run: RunRow
    policy_name: str
    intent: str
    """What the work is for; empty when nobody said."""
    intent_by: str
    budgets: Sequence[Budget]
    entries: Sequence[EntryRow]
    """Its own entries, not those of its steps."""
    scope: RunScope | None = None
    """What a person opened it for; `None` when it is limited to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTally:
    """What the steps of a run have come to."""

    failures: Sequence[tuple[str, int]]
    """Class of failure and how many, the commonest first."""
    unverified_writes: int
    in_flight: int
    next: str
    """What its last step that ended says comes next; empty before there was one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long something took, over many steps, in microseconds."""

    count: int
    p50: int
    p95: int
    p99: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened to a group of steps."""

    key: str
    steps: int
    allowed: int
    asked: int
    denied: int
    failed: int
    unknown: int
    open: int
    took: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureTally:
    """How often one tool failed in one way under one rule."""

    failure: str
    reason: str
    call: str
    rule: str
    steps: int


MANY_ASKS = 50
HABIT = 0.95
"""From which share of yeses on a question is answered by habit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTally:
    """What became of the questions one rule asked."""

    rule: str
    asks: int
    yes: int
    no: int
    open: int
    median_wait_us: int | None

    @property
    def is_habit(self) -> bool:
        """Whether nearly all of many answers were a yes, so that asking controls nothing any more."""
        return self.answered >= MANY_ASKS and self.yes > HABIT * self.answered

    @property
    def answered(self) -> int:
        """How many were answered by a person; open ones, and those that ended unanswered, tell nothing."""
        return self.yes + self.no


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskTally:
    """How risky steps were, of those that risk terms could concern."""

    steps: int
    mean: float
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What `stats` tells."""

    all: Tally
    runs: int
    tool: Spread | None
    """What the tool servers took."""
    own: Spread | None
    """What was added to that: people's waits are not in it."""
    groups: Sequence[Tally] = ()
    failures: Sequence[FailureTally] = ()
    asks: Sequence[AskTally] = ()
    risk: RiskTally | None = None
    """`None` where no step had a risk."""
    export_dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a SQL query answered."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | bytes | None]] = field(
        default_factory=list[Sequence[str | int | float | bytes | None]]
    )
    more: bool = False
    """Whether the limit cut it."""
