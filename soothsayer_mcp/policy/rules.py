"""A rule, as a policy says it: whom, what and when it means, and what it has calls owe."""

from collections.abc import Mapping
from dataclasses import field

from soothsayer_mcp.model.ask import AskTerms
from soothsayer_mcp.model.call import Cause, PinState
from soothsayer_mcp.model.decision import Effect, LargeResults
from soothsayer_mcp.model.following import OnFailure
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import Answer, Unsure, every, opposite
from soothsayer_mcp.policy.dues import Owes
from soothsayer_mcp.policy.flow import Flow
from soothsayer_mcp.policy.history import Counting, Per
from soothsayer_mcp.policy.paths import component
from soothsayer_mcp.policy.redact import Redact
from soothsayer_mcp.policy.scene import MESSAGE, Scene
from soothsayer_mcp.policy.sight import RiskBounds

UNLABELLED = "unlabelled"
ALSO = "also"
"""The head of a rule that decides nothing and only makes calls owe something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPattern:
    """`server.tool`, each half a glob; compared byte for byte."""

    server: str
    tool: str

    def fits(self, server: str, tool: str) -> bool:
        """Whether the pattern means this tool."""
        return (self.server == server or component(self.server)(server)) and (
            self.tool == tool or component(self.tool)(tool)
        )

    @property
    def names_messages(self) -> bool:
        """Whether it means requests that are no tool calls."""
        return self.tool.startswith(MESSAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """What a rule wants of the caller; empty fields want nothing."""

    sub: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    client: frozenset[str] = frozenset()
    but: "Who | None" = None
    """Callers that are meant not to match."""

    def answer(self, scene: Scene) -> Answer:
        """Whether the caller fits."""
        answers: list[Answer] = []
        if self.sub:
            answers.append(scene.principal.id in self.sub)
        if self.groups:
            answers.append(not self.groups.isdisjoint(scene.principal.groups))
        if self.client:
            unknown = Unsure("the client is not known yet")
            answers.append(unknown if scene.client is None else scene.client.name in self.client)
        if self.but is not None:
            answers.append(opposite(self.but.answer(scene)))
        return every(answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Figures that hold for calls that a rule matches."""

    timeout_s: float | None = None
    args_bytes: int | None = None
    calls: int | None = None
    """How many calls, over all that are counted together; failures count, refusals do not."""
    window_us: int = 0
    """In how long; 0 for as long as the run."""
    per: Per = Per.RUN
    result_bytes: int | None = None
    """The most bytes of an answer that is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A pattern for earlier steps."""

    form: str
    """What the policy says of it, for the name of its mark."""
    matches: "Rule"
    """In the form of a rule; the effect tells whether every reading has to fit."""
    ok: bool | None = True
    """Whether the step succeeded; `None`: whatever became of it."""
    within_us: int = 0
    """How long ago it may have been; 0 for any time."""
    same: tuple[tuple[str, str], ...] = ()
    """Its argument, and the one of this call that it has to equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A count or a sum over earlier steps that is above a figure, this call included."""

    of: Past
    counting: Counting
    above_micro: int
    amount: str = ""
    """The argument that is added up."""
    window_us: int = 0
    per: Per = Per.RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, as read and checked; its matchers are prepared per tool."""

    id: str
    """`policy/rule`."""
    effect: Effect | None
    """`None` for an `also`, which decides nothing."""
    text: str
    tools: tuple[ToolPattern, ...] = ()
    """Empty: every tool."""
    excepts: tuple[ToolPattern, ...] = ()
    does: frozenset[str] = frozenset()
    """Empty: whatever the tool does."""
    who: Who | None = None
    causes: frozenset[Cause] = frozenset()
    pins: frozenset[PinState] = frozenset()
    hidden_text: bool | None = None
    """Whether the definition must, or must not, hold characters that nobody sees; `None` wants neither."""
    instructions: bool | None = None
    """The same of text that reads like an instruction to a model."""
    args: Mapping[str, Mapping[str, Json]] = field(default_factory=dict[str, Mapping[str, Json]])
    only_args: bool = False
    observe: bool = False
    """Only recorded, whatever the policy's mode."""
    hard: bool = False
    """A deny that holds in observe mode too."""
    expires_us: int | None = None
    """No match from this moment on."""
    limit: Limit | None = None
    when: str = ""
    """A condition in CEL; empty wants nothing."""
    risk: RiskBounds | None = None
    asks: AskTerms | None = None
    """What an ask demands of its answer, where it says anything of that."""
    tainted: bool | None = None
    """Whether the run must have, or must not have, been given an untrusted result; `None` wants neither."""
    suspect: bool | None = None
    """The same of an untrusted result that hides characters or reads like an instruction to a model."""
    flow: Flow | None = None
    redact: tuple[Redact, ...] = ()
    on_failure: Mapping[str, OnFailure] = field(default_factory=dict[str, OnFailure])
    """Failure class, or `class/reason` -> what becomes of the run."""
    demands: Owes | None = None
    """What has to be shown before the calls that it matches, what is checked after them, and what they write to."""
    large: LargeResults | None = None
    people: tuple["Rule", ...] = ()
    """Whose yes its calls need before they go, each as a rule that asks where it matches."""

    @property
    def head(self) -> str:
        """What the rule is written with: its effect, or `also`."""
        return ALSO if self.effect is None else self.effect.value

    @property
    def owes(self) -> bool:
        """Whether calls that it matches owe anything."""
        owed = self.limit is not None or bool(self.redact or self.on_failure)
        return owed or self.demands is not None or self.large is not None or bool(self.people)

    after: tuple[Past, ...] = ()
    unless_after: tuple[Past, ...] = ()
    history: History | None = None

    @property
    def looks_back(self) -> bool:
        """Whether it matches by what earlier steps did."""
        return bool(self.after or self.unless_after) or self.history is not None

    def concerns(self, subject: "Subject") -> bool:
        """Whether the rule can match a call of this tool at all."""
        return (
            self._names(subject)
            and self._fits_does(subject.does)
            and (not self.pins or subject.pin in self.pins)
            and self.hidden_text in {None, subject.hidden_text}
            and self.instructions in {None, subject.instructions}
        )

    def _names(self, subject: "Subject") -> bool:
        server, tool = subject.server, subject.tool
        if any(pattern.fits(server, tool) for pattern in self.excepts):
            return False
        if self.effect is Effect.DENY or self.effect is None:
            return not self.tools or any(pattern.fits(server, tool) for pattern in self.tools)
        if subject.message:
            # Nobody can be asked about a message, and what permits one has to name it.
            return self.effect is Effect.ALLOW and any(
                pattern.names_messages and pattern.fits(server, tool) for pattern in self.tools
            )
        # A tool that calls itself like a message is still a tool.
        return not self.tools or any(
            not pattern.names_messages and pattern.fits(server, tool) for pattern in self.tools
        )

    def _fits_does(self, does: frozenset[str]) -> bool:
        if not self.does:
            return True
        if self.effect is Effect.ALLOW:
            return bool(does) and does <= self.does
        return not self.does.isdisjoint(does)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What makes a call risky, and by how much."""

    add: int
    because: str
    matches: Rule
    """When it counts: in the form of a rule that asks, where one reading or one label is enough, if it adds points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRule:
    """When a model tier is enough for what follows."""

    name: str
    because: str
    matches: Rule
    """In the form of a rule that allows: every label is listed, and a doubt is no match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a rule's static matchers look at."""

    server: str
    tool: str
    does: frozenset[str]
    pin: PinState = PinState.PINNED
    message: bool = False
    """Whether this is a request that is no tool call."""
    hidden_text: bool = False
    """Whether the tool's definition holds characters that nobody sees."""
    instructions: bool = False
    """Whether it reads like an instruction to a model."""
