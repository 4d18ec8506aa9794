"""A loaded policy: its scopes, rules and labels, and the index from a tool to the rules that can concern it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import TypeAlias

from soothsayer_mcp.model.ask import AskTerms
from soothsayer_mcp.model.budget import NO_BUDGETS, Budgets
from soothsayer_mcp.model.call import CONTROL, Cause, Does, PinState, Principal, ToolDefinition
from soothsayer_mcp.model.decision import Decision, Effect, LargeResults, Mode, ObligationKind
from soothsayer_mcp.model.entry import PayloadMode
from soothsayer_mcp.model.facts import (
    NO_FACTS,
    NO_QUESTIONS,
    Charge,
    Facts,
    Questions,
    Reads,
    TallyQuestion,
    ValueQuestion,
)
from soothsayer_mcp.model.following import NO_NEXT_RULES, NextRules, OnFailure
from soothsayer_mcp.model.json import Digest, Json, canonical
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.model.run import Run, RunRules
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import Answer, Unsure, every, opposite
from soothsayer_mcp.policy.dues import (
    DuesPlan,
    LabelOwes,
    Owes,
    among,
    names_files,
    plan_dues,
    prepare_items,
    prepare_owes,
    prepare_undo,
    prepare_watch,
    step_specs,
)
from soothsayer_mcp.policy.flow import MOST_QUESTIONS, Flow, FlowTest, Form, Reader, Sink, approved_by, of_result
from soothsayer_mcp.policy.history import (
    Counted,
    Counting,
    HistoryTest,
    PastTest,
    Per,
    after_test,
    mark_id,
    unless_test,
)
from soothsayer_mcp.policy.match import (
    NO_RUN,
    ArgumentTest,
    Bench,
    Lab,
    Scene,
    link_questions,
    prepare_argument,
)
from soothsayer_mcp.policy.paths import Place, component
from soothsayer_mcp.policy.redact import Part, Redact, Redactor, read_redact
from soothsayer_mcp.policy.sight import (
    SUSPECT,
    TAINT,
    RiskBounds,
    Sight,
    Weight,
    counters_of,
    risk_test,
    suspect_test,
    taint_test,
    when_test,
)
from soothsayer_mcp.policy.wording import hides, instructs, suspicious, texts_of

UNLABELLED = "unlabelled"
ALSO = "also"
"""The head of a rule that decides nothing and only makes calls owe something."""
MESSAGE = "@"
"""First character of what stands for a tool in rules about requests that are no tool calls."""
MAX_REDACTORS = 1_000
"""Sets of masks that are kept compiled."""
MAX_INDEXED = 50_000
"""Tools the index holds before it starts anew."""


SceneTest: TypeAlias = Callable[[Scene], Answer]
"""One question about a call."""


class ScopeKind(StrEnum):
    """From highest to lowest. Project and run can only object, never permit."""

    ORG = "org"
    PROJECT = "project"
    USER = "user"
    RUN = "run"

    @property
    def may_permit(self) -> bool:
        """Whether an allow of this scope lets a call through."""
        return self in {ScopeKind.ORG, ScopeKind.USER}


class Cell(StrEnum):
    """Which default decides where no rule does."""

    READ = "read"
    OTHER = "other"
    CHECKED = "checked"


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


_UNDO_WORDS = ("none", "restore", "never")


def _strictest_undo(said: Iterable[str]) -> str:
    """Of what several labels say of undoing, the word that promises least."""
    return max((word for word in said if word), key=_UNDO_WORDS.index, default="")


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


class Trust(StrEnum):
    """Who can write what a tool returns."""

    FIRST_PARTY = "first_party"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What the operator knows about some tools."""

    tools: tuple[ToolPattern, ...]
    excepts: tuple[ToolPattern, ...]
    does: frozenset[str] = frozenset()
    trust: Trust | None = None
    sinks: tuple[Sink, ...] = ()
    secret: tuple[str, ...] = ()
    """Arguments whose values are kept as a digest only."""
    cost_micro: int = 0
    """What each call costs, in millionths."""
    cost_args: tuple[str, ...] = ()
    """Arguments that say what a call costs."""
    once: tuple[str, ...] = ()
    """Arguments by which a repetition of a call is known."""
    polling_us: int = 0
    """How soon the same call may be repeated while nothing changes; 0 says nothing."""
    demands: LabelOwes | None = None

    def fits(self, server: str, tool: str) -> bool:
        """Whether the label is about this tool."""
        return any(pattern.fits(server, tool) for pattern in self.tools) and not any(
            pattern.fits(server, tool) for pattern in self.excepts
        )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What the state of a definition says; `None` trusts it."""

    first: Effect | None = None
    """For a server with no pin at all; where it is not trusted, its tools are `new` and the stricter of both holds."""
    new: Effect | None = Effect.ASK
    changed: Effect | None = Effect.DENY
    shadowed: Effect | None = Effect.DENY

    def effect(self, pin: PinState) -> Effect | None:
        """What to say about a tool in this state."""
        match pin:
            case PinState.PINNED:
                return None
            case PinState.NEW:
                return strictest(effect for effect in (self.new, self.first) if effect is not None)
            case PinState.CHANGED:
                return self.changed
            case PinState.SHADOWED:
                return self.shadowed


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentLimits:
    """What holds of every call's arguments, before any rule."""

    undeclared: Effect = Effect.ASK
    no_schema: Effect = Effect.ASK
    max_bytes: int = 1_000_000
    max_depth: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """Methods that the routing table does not know."""

    passed: frozenset[str] = frozenset()
    unknown_pass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The policy of one authority; each decides alone."""

    kind: ScopeKind
    name: str
    mode: Mode
    defaults: Mapping[Cell, Effect | None]
    """`None` leaves it to the other scopes."""
    rules: tuple[Rule, ...] = ()
    labels: tuple[Label, ...] = ()
    terms: tuple[Term, ...] = ()
    tiers: tuple[TierRule, ...] = ()
    trusted: frozenset[str] = frozenset()
    """Servers whose `readOnlyHint: true` labels an unlabelled tool."""


def _matching(scope: Scope) -> Iterable[Rule]:
    """The rules of a scope, and what its risk terms match by."""
    yield from scope.rules
    for term in scope.terms:
        yield term.matches
    for tier in scope.tiers:
        yield tier.matches


def _looks_at_texts(scopes: Sequence[Scope]) -> tuple[bool, bool]:
    """Whether any rule asks what untrusted results read like, and what definitions do."""
    rules = [rule for scope in scopes for rule in _matching(scope)]
    results = any(rule.suspect is not None or SUSPECT in rule.when for rule in rules)
    return results, any(rule.hidden_text is not None or rule.instructions is not None for rule in rules)


def strictest(effects: Iterable[Effect]) -> Effect | None:
    """The strictest of some effects; `None` for none."""
    return max(effects, key=lambda effect: effect.strictness, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A rule whose static matchers hold for a tool, ready for its calls."""

    rule: Rule
    arguments: tuple[ArgumentTest, ...]
    tests: tuple[tuple[str, SceneTest], ...]
    """Key and test, cheap ones first."""
    broken: Unsure | None = None
    """Why its matchers could not be prepared."""
    counters: frozenset[str] = frozenset()
    """The counters of the run that it reads."""
    flow: FlowTest | None = None
    asks: tuple[Counted, ...] = ()
    """Which earlier steps it has to be told of."""
    counted: Counted | None = None
    """Under what its own calls are counted, where it limits them."""

    def answer(self, scene: Scene) -> Answer:
        """Whether the rule matches; never raises."""
        doubt = self.broken
        try:
            for _, test in self.tests:
                fits = test(scene)
                if fits is False:
                    return False
                if fits is not True and doubt is None:
                    doubt = fits
        except Exception as error:  # noqa: BLE001 - a matcher that fails is a doubt, never a way past a deny
            return Unsure(f"a matcher failed: {type(error).__name__}")
        return True if doubt is None else doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearing:
    """Something that the calls of a tool can be counted under."""

    counted: Counted
    fits: SceneTest
    arguments: tuple[ArgumentTest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looking:
    """A rule's matchers on earlier steps, ready."""

    after: tuple[PastTest, ...] = ()
    unless_after: tuple[PastTest, ...] = ()
    history: HistoryTest | None = None

    def tests(self) -> Iterable[tuple[str, SceneTest]]:
        if self.after:
            yield "after", after_test(self.after)
        if self.unless_after:
            yield "unless_after", unless_test(self.unless_after)
        if self.history is not None:
            yield "history", self.history.answer

    @property
    def asks(self) -> tuple[Counted, ...]:
        found = [test.counted for test in (*self.after, *self.unless_after)]
        return tuple(found if self.history is None else [*found, self.history.counted])


_LOOKING_NOWHERE = _Looking()


def _rule_tests(
    rule: Rule,
    arguments: Sequence[ArgumentTest],
    sight: Sight,
    condition: SceneTest | None,
    flow: FlowTest | None,
    looking: _Looking = _LOOKING_NOWHERE,
) -> Iterable[tuple[str, SceneTest]]:
    """All tests of a call, cheap ones first, each under the key it is written with."""
    if rule.causes:
        causes = rule.causes
        yield "cause", lambda scene: scene.cause in causes
    yield from _run_tests(rule)
    if rule.who is not None:
        yield "who", rule.who.answer
    if rule.expires_us is not None:
        yield "expires", _before(rule.expires_us)
    if rule.only_args:
        yield "only_args", _only(frozenset[str]().union(*(test.top for test in arguments)))
    for test in arguments:
        yield f"args.{test.key}", test.answer
    if flow is not None:
        yield "flow", flow.answer
    yield from looking.tests()
    if rule.risk is not None:
        yield "risk", risk_test(rule.risk, sight)
    if condition is not None:
        yield "when", condition


def _run_tests(rule: Rule) -> Iterable[tuple[str, SceneTest]]:
    """What is asked of what the run was given."""
    if rule.tainted is not None:
        yield "tainted", taint_test(wanted=rule.tainted)
    if rule.suspect is not None:
        yield "suspect", suspect_test(wanted=rule.suspect)


def _before(expires_us: int) -> SceneTest:
    unknown = Unsure("the time is not known yet")
    return lambda scene: unknown if scene.now_us is None else scene.now_us < expires_us


def _only(named: frozenset[str]) -> SceneTest:
    unknown = Unsure("arguments are not known yet")
    return lambda scene: unknown if scene.arguments is None else named.issuperset(scene.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeCandidates:
    """What one scope has to say about a tool."""

    scope: Scope
    does: frozenset[str]
    prepared: tuple[Prepared, ...]
    cell: Cell
    sight: Sight

    own: bool = False
    """Whether it is a tool of ours, by which the model asks about its own run."""

    @property
    def default(self) -> Effect | None:
        """What holds where no rule decides; `None` leaves it to others."""
        if self.own:
            return Effect.ALLOW if self.scope.kind.may_permit else None
        effect = self.scope.defaults[self.cell]
        # Nobody can be asked about a request that is no tool call.
        return Effect.DENY if effect is Effect.ASK and self.cell is Cell.CHECKED else effect


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBudget:
    """How many calls of some tools a run may make, counted together."""

    tools: ToolPattern
    calls: int

    @property
    def name(self) -> str:
        """The tools as the policy names them."""
        return f"{self.tools.server}.{self.tools.tool}"

    @property
    def mark(self) -> str:
        """Under which its calls are counted."""
        return mark_id("budget", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """All that can decide the calls of one tool; settled once per definition."""

    subject: Subject
    definition: Digest | None
    place: Place
    scopes: tuple[ScopeCandidates, ...]
    does: tuple[str, ...]
    path_tests: tuple[ArgumentTest, ...]
    sight: Sight
    """Over the risk terms of all scopes."""
    timed: bool
    """Whether decisions read the time: a rule or a term has a condition, or a pattern for earlier steps a window."""
    ends_us: tuple[int, ...]
    """When rules stop to match."""
    counters: tuple[str, ...]
    """The counters of the run that decisions read."""
    flows: tuple[FlowTest, ...]
    reads: Reads
    asks: tuple[Counted, ...]
    """Which earlier steps decisions have to be told of."""
    bearings: tuple[Bearing, ...]
    """What calls may be counted under."""
    charge: Charge
    """What every call counts for."""
    costs: tuple[ArgumentTest, ...]
    """The arguments that say what a call costs."""
    once: tuple[ArgumentTest, ...]
    """The arguments by which a repetition of a call is known."""
    budgeted: tuple[tuple[Counted, ToolBudget], ...]
    """What the calls of some tools together may use up."""
    tiers: tuple[tuple[str, Prepared], ...]
    """Names and what they match by, the strongest first."""
    watches: bool
    """Whether a scope or a rule only observes."""
    redacts: bool
    """Whether a rule masks anything."""
    ends_runs: bool
    """Whether a rule says what becomes of a run when a call fails."""
    stores: bool
    """Whether a rule has large results stored instead of shown."""
    masks: tuple[Mapping[str, Json], ...]
    """What is masked in the record of every call, because of its labels."""
    context: Mapping[str, Json]
    """What decisions read that neither the call nor the policy's text holds."""
    dues: DuesPlan
    people: Mapping[str, tuple[Prepared, ...]]
    """Whose yes is needed, by the ids of the rules that need one."""
    concluded: dict[tuple[int, ...], Decision] = field(default_factory=dict[tuple[int, ...], Decision])
    """What `decide` has concluded from the rules that matched; it only remembers what can be computed again."""
    shown: dict[tuple[Principal, bool], bool] = field(default_factory=dict[tuple[Principal, bool], bool])
    """Whom the tool is listed for, with a schema and without; it only remembers as well."""


class Policy:
    """A loaded policy. Immutable but for its index, which only remembers what can be computed again."""

    def __init__(
        self,
        *,
        name: str,
        scopes: Sequence[Scope],
        digest: Digest,
        lab: Lab,
        place: Place,
        places: Mapping[str, Place],
        pins: Pins,
        arguments: ArgumentLimits,
        methods: Methods,
        payload_mode: PayloadMode,
        sources: Mapping[str, str],
        watch: Sequence[str],
        about: str = "",
        run_rules: RunRules | None = None,
        budgets: Budgets = NO_BUDGETS,
        tool_budgets: Sequence[ToolBudget] = (),
        next_rules: NextRules = NO_NEXT_RULES,
        masks: Sequence[Redact] = (),
        tiers: Sequence[str] = (),
        named: Mapping[str, Sequence[str]] | None = None,
        machine: Mapping[str, str] | None = None,
    ) -> None:
        """Take checked parts; `place` is for servers without an entry in `places`."""
        self.name = name
        self.about = about
        """What its author says it is for."""
        self.scopes = tuple(scopes)
        observing = all(scope.mode is Mode.OBSERVE for scope in self.scopes)
        self.mode = Mode.OBSERVE if observing else Mode.ENFORCE
        """Observe only when every scope only observes."""
        self.named: Mapping[str, Sequence[str]] = named or {}
        """Scope -> the files that were named for it; the others are used by these."""
        self.machine: Mapping[str, str] = machine or {}
        """What its variables for folders of the machine stand for."""
        self.digest = digest
        self.pins = pins
        self.arguments = arguments
        self.methods = methods
        self.payload_mode = payload_mode
        self.run_rules = run_rules or RunRules()
        """How long runs live."""
        self.budgets = budgets
        self.tool_budgets = tuple(tool_budgets)
        self.next_rules = next_rules
        self.masks = tuple(masks)
        """What is masked in everything that is kept."""
        self.redacts = any(rule.redact for scope in self.scopes for rule in scope.rules)
        """Whether any rule masks anything."""
        self.stores = any(rule.large is not None for scope in self.scopes for rule in scope.rules)
        """Whether any rule has large results stored instead of shown."""
        self.sources = sources
        """Name -> text of every file, for the trace."""
        self.watch = tuple(watch)
        """The files it was loaded from."""
        self._lab = lab
        self._place = place
        self._places = places
        self._pasts = tuple(tuple(_pasts(scope)) for scope in self.scopes)
        self._index: dict[tuple[str, str], Candidates] = {}
        self._messages: dict[tuple[str, str], Candidates] = {}
        named_tiers = sorted({tier.name for scope in self.scopes for tier in scope.tiers} - set(tiers))
        self.tiers = (*named_tiers, *tiers)
        """The model tiers from weakest to strongest; those that nobody ordered are the weakest, by name."""
        flows = [rule.flow for scope in self.scopes for rule in _matching(scope) if rule.flow is not None]
        sinks = [sink for scope in self.scopes for label in scope.labels for sink in label.sinks]
        sinks += [sink for flow in flows for sink in flow.sinks or ()]
        self._forms = tuple(sorted({Form.TEXT, *(sink.form for sink in sinks)})) if flows else ()
        """The forms in which values are compared; none where no rule compares any."""
        self._seen = any(flow.seen for flow in flows)
        self._among = among(place, places, _naming_files(self.scopes))
        self._redactors: dict[bytes, Redactor] = {}
        self._suspects, self._words = _looks_at_texts(self.scopes)

    @property
    def rule_count(self) -> int:
        """How many rules there are, over all scopes."""
        return sum(len(scope.rules) for scope in self.scopes)

    @property
    def settles(self) -> bool:
        """Whether any rule says how a step is settled of which nobody knows the outcome."""
        owed = (rule.demands for scope in self.scopes for rule in scope.rules)
        return any(demands is not None and demands.settle is not None for demands in owed)

    @property
    def can_ask(self) -> bool:
        """Whether some call can be asked about: by a rule, a default or what holds of definitions and arguments."""
        asked = Effect.ASK
        limits, pins = self.arguments, self.pins
        return (
            any(rule.effect is asked or rule.people for scope in self.scopes for rule in scope.rules)
            or any(scope.defaults[cell] is asked for scope in self.scopes for cell in (Cell.READ, Cell.OTHER))
            or asked in {pins.first, pins.new, pins.changed, pins.shadowed, limits.undeclared, limits.no_schema}
        )

    @property
    def marks(self) -> Mapping[str, tuple[Sequence[str], Sequence[str]]]:
        """Under which marks the steps of a run are counted: of which tools, all when none is named, and but which."""
        return {
            counted.mark: (
                [f"{one.server}.{one.tool}" for one in past.matches.tools],
                [f"{one.server}.{one.tool}" for one in past.matches.excepts],
            )
            for number, scope in enumerate(self.scopes)
            for past, history in self._pasts[number]
            if (counted := self._counted(scope.kind, past, history)).per is Per.RUN
        }

    @property
    def lab(self) -> Lab:
        """The libraries that judge."""
        return self._lab

    def place_of(self, server: str) -> Place:
        """How a server's paths are read."""
        return self._places.get(server, self._place)

    def candidates(self, tool: ToolDefinition) -> Candidates:
        """Everything that can decide a call of this tool."""
        known = self._index.get((tool.server, tool.name))
        if known is not None and known.definition == tool.digest and known.subject.pin is tool.pin:
            return known
        return self._remember(self._settle(tool.server, tool.name, tool))

    def message_candidates(self, server: str, method: str) -> Candidates:
        """Everything that can decide a request that is no tool call."""
        known = self._messages.get((server, method))
        if known is None:
            known = self._settle(server, MESSAGE + method, None)
            if len(self._messages) < MAX_INDEXED:
                self._messages[server, method] = known
        return known

    def questions(self, step: ProposedStep) -> Questions:
        """What has to be known before this step is decided; mostly nothing."""
        if step.tool is None:
            return NO_QUESTIONS
        candidates = self.candidates(step.tool)
        arguments = step.proposal.arguments
        links: tuple[str, ...] = ()
        if candidates.path_tests and candidates.place.local:
            links = link_questions(candidates.path_tests, arguments, candidates.place)
        if candidates.dues.touched and candidates.place.local:
            links = tuple(dict.fromkeys((*links, *candidates.dues.questions(arguments))))
        if not links and not candidates.counters and not candidates.flows and not candidates.asks:
            return NO_QUESTIONS
        asked = dict.fromkeys(value for flow in candidates.flows for value in flow.asks(arguments))
        return Questions(
            links=links,
            values=tuple(ValueQuestion(step.run_id, value) for value in islice(asked, MOST_QUESTIONS)),
            counters=candidates.counters,
            tallies=_tallies(candidates, scene_of(step, NO_FACTS)) if candidates.asks else (),
        )

    def looks_back_on(self, server: str, method: str) -> bool:
        """Whether requests that are no tool calls are decided by what a run did before."""
        candidates = self.message_candidates(server, method)
        return bool(candidates.asks or candidates.flows or candidates.counters)

    def message_questions(self, message: Message) -> Questions:
        """The same for a request that is no tool call."""
        candidates = self.message_candidates(message.server, message.method)
        links: tuple[str, ...] = ()
        if candidates.path_tests and candidates.place.local:
            links = link_questions(candidates.path_tests, message.params, candidates.place)
        run = message.run
        if run is None or not (candidates.asks or candidates.flows):
            return Questions(links=links) if links else NO_QUESTIONS
        asked = dict.fromkeys(value for flow in candidates.flows for value in flow.asks(message.params))
        return Questions(
            links=links,
            values=tuple(ValueQuestion(run.id, value) for value in islice(asked, MOST_QUESTIONS)),
            tallies=_tallies(candidates, scene_of_message(message, NO_FACTS)),
        )

    def _remember(self, candidates: Candidates) -> Candidates:
        if len(self._index) >= MAX_INDEXED:
            self._index.clear()
        self._index[candidates.subject.server, candidates.subject.tool] = candidates
        return candidates

    def _settle(self, server: str, name: str, tool: ToolDefinition | None) -> Candidates:
        place = self.place_of(server)
        settled: list[ScopeCandidates] = []
        terms: list[Prepared] = []
        bearings: dict[str, Bearing] = {}
        tiers: list[tuple[str, Prepared]] = []
        weights: dict[int, Weight] = {}
        for number, scope in enumerate(self.scopes):
            # Labels of lower scopes are not seen: a project that calls a tool `read` changes only its own objections.
            seen = [above for above in self.scopes[: number + 1] if above is scope or above.kind.may_permit]
            does = self._labels(seen, server, name, tool)
            subject = _subject(server, name, does, tool, words=self._words)
            weighed: list[Weight] = []
            sinks = tuple(
                dict.fromkeys(
                    sink for one in seen for label in one.labels if label.fits(server, name) for sink in label.sinks
                )
            )
            values = self._values(subject, self._trust(seen, server, name))
            part = Sight(values=values, weights=None, sinks=sinks)
            if tool is not None:
                bearings.update(self._bearings(number, subject, place, part))
            for above in seen:
                # A term sees what the scope sees that counts it; it is counted once, though several scopes see it.
                for term in above.terms:
                    if term.matches.concerns(subject):
                        one = self._prepare(term.matches, place, part, above.kind, bearings)
                        weighed.append(Weight(add=term.add, because=term.because, answer=one.answer))
                        weights[id(term)] = weighed[-1]
                        terms.append(one)
            sight = Sight(values=values, weights=tuple(weighed), sinks=sinks)
            prepared = tuple(
                self._prepare(rule, place, sight, scope.kind, bearings)
                for rule in scope.rules
                if rule.concerns(subject)
            )
            cell = Cell.CHECKED if tool is None else Cell.READ if does == _ONLY_READ else Cell.OTHER
            tiers += [
                (tier.name, self._prepare(tier.matches, place, sight, scope.kind, bearings))
                for tier in scope.tiers
                if tier.matches.concerns(subject)
            ]
            settled.append(
                ScopeCandidates(
                    scope=scope, does=does, prepared=prepared, cell=cell, sight=sight, own=server == CONTROL
                )
            )
        speaking = next((one for one in reversed(settled) if one.scope.kind.may_permit), settled[-1])
        tiers.sort(key=lambda tier: self.tiers.index(tier[0]), reverse=True)
        people = {
            prepared.rule.id: tuple(
                self._prepare(person, place, one.sight, one.scope.kind, bearings) for person in prepared.rule.people
            )
            for one in settled
            for prepared in one.prepared
            if prepared.rule.people and not prepared.rule.observe and one.scope.mode is not Mode.OBSERVE
        }
        every_one = [
            *terms,
            *(one for those in people.values() for one in those),
            *(one for _, one in tiers),
            *(prepared for one in settled for prepared in one.prepared),
        ]
        tests = tuple(test for one in (*every_one, *bearings.values()) for test in one.arguments if test.paths)
        asks = {counted.mark: counted for one in every_one for counted in one.asks}
        conditions = any(prepared.rule.when for prepared in every_one)
        flows = tuple(one.flow for one in every_one if one.flow is not None and one.flow.sinks)
        return Candidates(
            subject=_subject(server, name, speaking.does, tool, words=self._words),
            definition=None if tool is None else tool.digest,
            place=place,
            scopes=tuple(settled),
            does=tuple(sorted(speaking.does)),
            path_tests=tests,
            sight=Sight(weights=tuple(weights.values())) if len(settled) > 1 else settled[0].sight,
            timed=conditions or any(counted.window_us for counted in asks.values()),
            ends_us=tuple(one.rule.expires_us for one in every_one if one.rule.expires_us is not None),
            counters=tuple(sorted(frozenset[str]().union(*(prepared.counters for prepared in every_one)))),
            flows=flows,
            tiers=tuple(tiers),
            reads=self._reads(speaking.sight.values["tool.trust"] == Trust.FIRST_PARTY, place, flows),
            asks=tuple(asks.values()),
            bearings=tuple(bearings.values()),
            charge=Charge(
                write=speaking.does != _ONLY_READ,
                repeats_most=self.budgets.same_call_repeats,
                polling_us=self._polling_us(server, name),
                cost_micro=max((label.cost_micro for label in self._labelling(server, name)), default=0),
            ),
            costs=tuple(
                prepare_argument(way, {}, Bench(place=place, lab=self._lab, every=False))
                for way in dict.fromkeys(way for label in self._labelling(server, name) for way in label.cost_args)
            ),
            once=tuple(
                prepare_argument(way, {}, Bench(place=place, lab=self._lab, every=False))
                for way in sorted({way for label in self._labelling(server, name) for way in label.once})
            ),
            budgeted=tuple(
                (Counted(mark=one.mark), one)
                for one in self.tool_budgets
                if tool is not None and one.tools.fits(server, name)
            ),
            watches=any(
                one.scope.mode is Mode.OBSERVE or any(prepared.rule.observe for prepared in one.prepared)
                for one in settled
            ),
            redacts=any(prepared.rule.redact for one in settled for prepared in one.prepared),
            ends_runs=any(prepared.rule.on_failure for one in settled for prepared in one.prepared),
            stores=any(prepared.rule.large is not None for one in settled for prepared in one.prepared),
            masks=self._secret_arguments(server, name),
            context=_context(place, tool, reads_paths=bool(tests), workspace=self._place.root if conditions else ""),
            dues=self._dues(server, name, place, settled),
            people=people,
        )

    def _dues(self, server: str, name: str, place: Place, settled: Sequence[ScopeCandidates]) -> DuesPlan:
        """What calls of a tool owe: of all scopes that bind. Only a scope that may permit says that less is written."""
        owing = [
            prepare_owes(rule.id, rule.demands, may_loosen=one.scope.kind.may_permit)
            for one in settled
            for prepared in one.prepared
            if (rule := prepared.rule).demands is not None and not rule.observe and one.scope.mode is not Mode.OBSERVE
        ]
        labels = [(one, label) for one in settled for label in one.scope.labels if label.fits(server, name)]
        said = [
            label.demands.touches
            for one, label in labels
            if label.demands is not None and label.demands.touches is not None and one.scope.kind.may_permit
        ]
        binding = [label.demands for one, label in labels if label.demands and one.scope.mode is not Mode.OBSERVE]
        does = frozenset[str]().union(*(one.does for one in settled))
        bench = Bench(place=place, lab=self._lab, every=True)
        watches = [
            prepare_watch(spec, bench, executes=Does.EXEC.value in does or UNLABELLED in does)
            for scope in self.scopes
            for rule in scope.rules
            if rule.demands is not None
            for spec in step_specs(rule.demands)
            if _is_named(spec, server, name)
        ]
        watches += [
            prepare_watch(item.spec, bench, executes=Does.EXEC.value in does or UNLABELLED in does)
            for item in self.run_rules.required
            if _is_named(item.spec, server, name)
        ]
        return plan_dues(
            place=place,
            workspace=self._place.root,
            touches=tuple(text for texts in said for text in texts),
            everything=does != _ONLY_READ and not said,
            ok_when=tuple(dict.fromkeys(owes.ok_when for owes in binding if owes.ok_when)),
            verify=prepare_items([item for owes in binding for item in owes.verify]),
            watches=watches,
            rules=owing,
            undo=prepare_undo(_strictest_undo([owes.undo for owes in binding])),
            among=self._among,
        )

    def _labelling(self, server: str, name: str) -> Sequence[Label]:
        """All labels of a tool, whoever says them: for what only tightens."""
        return [label for scope in self.scopes for label in scope.labels if label.fits(server, name)]

    def _polling_us(self, server: str, name: str) -> int:
        """How soon a call may be repeated; a project cannot say so, and of several the longest holds."""
        said = (
            label.polling_us
            for scope in self.scopes
            if scope.kind.may_permit
            for label in scope.labels
            if label.polling_us and label.fits(server, name)
        )
        return max(said, default=0)

    def _values(self, subject: "Subject", trust: Trust) -> Mapping[str, Json]:
        return {
            "tool.server": subject.server,
            "tool.name": subject.tool,
            "tool.does": sorted(subject.does),
            "tool.trust": trust.value,
            "tool.pin": subject.pin.value,
            "workspace": self._place.root,
        }

    def _reads(self, trusted: bool, place: Place, flows: Sequence[FlowTest]) -> Reads:
        asking = tuple(flow for flow in flows if flow.asks_approval)
        targets = partial(approved_by, asking) if asking else None
        signs = suspicious if self._suspects and not trusted else None
        if not self._forms or not (trusted or self._seen):
            return Reads(trusted=trusted, targets=targets, signs=signs)
        reader = Reader(to_ascii=self._lab.to_ascii, place=place)
        keep = partial(of_result, trusted=trusted, forms=self._forms, reader=reader)
        return Reads(trusted=trusted, keep=keep, targets=targets, signs=signs)

    @staticmethod
    def _trust(scopes: Sequence[Scope], server: str, name: str) -> Trust:
        said = {label.trust for scope in scopes for label in scope.labels if label.trust and label.fits(server, name)}
        # The word of a server is no reason to trust it, and one label that does not is enough.
        return Trust.FIRST_PARTY if said == {Trust.FIRST_PARTY} else Trust.UNTRUSTED

    def _secret_arguments(self, server: str, name: str) -> tuple[Mapping[str, Json], ...]:
        at = sorted(
            {way for scope in self.scopes for label in scope.labels if label.fits(server, name) for way in label.secret}
        )
        return ({"in": Part.TRACE.value, "at": [*at], "digest": True},) if at else ()

    def redactor(self, decision: Decision, *, observed: bool) -> Redactor | None:
        """What masks the results of calls that owe it; `None` for most. Raises `ValueError` where that cannot be."""
        specs: list[Mapping[str, Json]] = [
            owed.spec
            for owed in decision.obligations
            if owed.kind is ObligationKind.REDACT and owed.observed is observed
        ]
        return self.redactor_of(specs) if specs else None

    def keeper(self, specs: Sequence[Mapping[str, Json]]) -> Redactor | None:
        """What masks the record: what is masked in everything that is kept, and what a step's decision adds."""
        if not self.masks and not specs:
            return None
        return self.redactor_of([*(mask.spec() for mask in self.masks), *specs])

    def redactor_of(self, specs: Sequence[Mapping[str, Json]]) -> Redactor:
        """What masks what these say; compiled once."""
        key = canonical([*specs])
        known = self._redactors.get(key)
        if known is None:
            known = Redactor([read_redact(spec) for spec in specs], self._lab.scan)
            if len(self._redactors) >= MAX_REDACTORS:
                self._redactors.clear()
            self._redactors[key] = known
        return known

    @staticmethod
    def _labels(scopes: Sequence[Scope], server: str, name: str, tool: ToolDefinition | None) -> frozenset[str]:
        labels = [label for scope in scopes for label in scope.labels if label.fits(server, name)]
        does = frozenset[str]().union(*(label.does for label in labels))
        if tool is None:
            return does
        if server == CONTROL:
            return does or _ONLY_READ
        if not does:
            vouched = any(server in scope.trusted for scope in scopes)
            reads = vouched and tool.annotations.get("readOnlyHint") is True
            does = _ONLY_READ if reads else frozenset({UNLABELLED})
        # A server's word about itself tightens, whatever the label says.
        if tool.annotations.get("readOnlyHint") is False:
            does |= {Does.WRITE.value}
        if tool.annotations.get("destructiveHint") is True:
            does |= {Does.DELETE.value}
        return does

    def _bearings(self, number: int, subject: Subject, place: Place, sight: Sight) -> Mapping[str, Bearing]:
        """What the calls of a tool are counted under for the rules of one scope."""
        found: dict[str, Bearing] = {}
        for past, history in self._pasts[number]:
            if past.matches.concerns(subject):
                counted = self._counted(self.scopes[number].kind, past, history)
                one = self._prepare(past.matches, place, sight, self.scopes[number].kind, {})
                found[counted.mark] = Bearing(counted=counted, fits=one.answer, arguments=one.arguments)
        return found

    def _counted(self, kind: ScopeKind, past: Past, history: History | None) -> Counted:
        """The steps that a pattern means, as they are counted; the same for asking and for counting."""
        window_us = past.within_us if history is None else history.window_us
        per = Per.RUN if history is None else history.per
        amount = "" if history is None else history.amount
        denials = history is not None and history.counting is Counting.DENIALS
        strict = past.matches.effect is Effect.ALLOW
        same: list[Json] = [[left, right] for left, right in past.same]
        bench = Bench(place=self._place, lab=self._lab, every=strict)
        return Counted(
            mark=mark_id(kind.value, strict, past.form, same, window_us, per.value, amount, denials),
            per=per,
            window_us=window_us,
            ties=tuple(
                (prepare_argument(left, {}, bench), prepare_argument(right, {}, bench)) for left, right in past.same
            ),
            amount=prepare_argument(amount, {}, bench) if amount else None,
            denials=denials,
        )

    def _looking(self, rule: Rule, kind: ScopeKind, bearings: Mapping[str, Bearing]) -> _Looking:
        """Prepare a rule's matchers on earlier steps."""

        def past_test(past: Past) -> PastTest:
            return PastTest(counted=self._counted(kind, past, None), ok=past.ok)

        history = rule.history
        test = None
        if history is not None:
            counted = self._counted(kind, history.of, history)
            own = bearings.get(counted.mark)
            test = HistoryTest(
                counted=counted,
                counting=history.counting,
                above_micro=history.above_micro,
                fits=None if own is None else own.fits,
            )
        return _Looking(
            after=tuple(map(past_test, rule.after)),
            unless_after=tuple(map(past_test, rule.unless_after)),
            history=test,
        )

    def _prepare(
        self, rule: Rule, place: Place, sight: Sight, kind: ScopeKind, bearings: Mapping[str, Bearing]
    ) -> Prepared:
        bench = Bench(place=place, lab=self._lab, every=rule.effect is Effect.ALLOW)
        broken = None
        arguments: list[ArgumentTest] = []
        for key, spec in rule.args.items():
            try:
                arguments.append(prepare_argument(key, spec, bench))
            except Exception as error:  # noqa: BLE001 - what cannot be prepared is a doubt, never a way past a deny
                broken = Unsure(f"a matcher on {key} could not be prepared: {error}")
        arguments.sort(key=lambda test: test.cost)
        condition = None
        if rule.when:
            compile_ = self._lab.term_condition if sight.weights is None else self._lab.condition
            try:
                condition = when_test(compile_(rule.when), sight)
            except Exception as error:  # noqa: BLE001 - the same
                broken = Unsure(f"the condition could not be prepared: {error}")
        flow = None
        if rule.flow is not None:
            flow = FlowTest(rule.flow, sight.sinks, Reader(to_ascii=self._lab.to_ascii, place=place))
        looking = self._looking(rule, kind, bearings) if rule.looks_back else _LOOKING_NOWHERE
        tests = tuple(_rule_tests(rule, arguments, sight, condition, flow, looking))
        return Prepared(
            rule=rule,
            arguments=tuple(arguments),
            tests=tests,
            broken=broken,
            counters=self._counters(rule),
            flow=flow,
            asks=looking.asks,
            counted=_limited(rule),
        )

    def _counters(self, rule: Rule) -> frozenset[str]:
        read = frozenset[str]() if rule.tainted is None else frozenset(TAINT)
        if rule.suspect is not None:
            read |= counters_of([SUSPECT])
        if rule.when:
            with suppress(ValueError):  # what does not compile is in doubt whatever the run has counted
                read |= counters_of(self._lab.names_of(rule.when))
        return read

    def with_scopes(self, scopes: Sequence[Scope]) -> "Policy":
        """The same policy over other scopes; its digest is no longer that of its sources."""
        return Policy(
            name=self.name,
            scopes=scopes,
            digest=self.digest,
            lab=self._lab,
            place=self._place,
            places=self._places,
            pins=self.pins,
            arguments=self.arguments,
            methods=self.methods,
            payload_mode=self.payload_mode,
            sources=self.sources,
            watch=self.watch,
            about=self.about,
            run_rules=self.run_rules,
            budgets=self.budgets,
            tool_budgets=self.tool_budgets,
            next_rules=self.next_rules,
            masks=self.masks,
            tiers=self.tiers,
            named=self.named,
            machine=self.machine,
        )


_ONLY_READ = frozenset({Does.READ.value})
_ANY_TOOL = (ToolPattern(server="*", tool="*"),)


def _is_named(spec: Mapping[str, Json], server: str, name: str) -> bool:
    """Whether an item about earlier steps can mean a tool."""
    named = [_pattern(text) for text in _texts(spec.get("tools"))]
    return any(pattern.fits(server, name) for pattern in named) and not any(
        _pattern(text).fits(server, name) for text in _texts(spec.get("except"))
    )


def _pattern(text: str) -> ToolPattern:
    server, _, tool = text.partition(".")
    return ToolPattern(server=server, tool=tool)


def _texts(value: Json) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _limited(rule: Rule) -> Counted | None:
    limit = rule.limit
    if limit is None or limit.calls is None:
        return None
    mark = mark_id("limit", rule.id, limit.window_us, limit.per.value)
    return Counted(mark=mark, per=limit.per, window_us=limit.window_us)


def _naming_files(scopes: Iterable[Scope]) -> Iterable[str]:
    """The servers, as patterns, whose calls are said to write files, or to need what no write made too old."""
    for scope in scopes:
        for one in (*scope.rules, *scope.labels):
            if one.demands is not None and names_files(one.demands):
                yield from (pattern.server for pattern in one.tools or _ANY_TOOL)


def _pasts(scope: Scope) -> Iterable[tuple[Past, History | None]]:
    """Every pattern for earlier steps that a scope's rules and terms name."""
    for rule in _matching(scope):
        yield from ((past, None) for past in (*rule.after, *rule.unless_after))
        if rule.history is not None:
            yield rule.history.of, rule.history


def scene_of(step: ProposedStep, facts: Facts, run: Run | None = None) -> Scene:
    """A call as the matchers look at it."""
    return Scene(
        arguments=step.proposal.arguments,
        principal=step.principal,
        client=step.client,
        cause=step.cause,
        now_us=step.proposed_at_us,
        links=facts.links,
        run=run,
        seen=facts.values,
        run_id=step.run_id,
        server=step.proposal.server,
        tool=step.proposal.tool,
        tallies=facts.tallies,
    )


def scene_of_message(message: Message, facts: Facts) -> Scene:
    """A request that is no tool call, in the same way."""
    return Scene(
        arguments=message.params,
        principal=message.principal,
        client=message.client,
        cause=Cause.AGENT,
        now_us=message.at_us,
        links=facts.links,
        run=message.run,
        seen=facts.values,
        run_id=NO_RUN if message.run is None else message.run.id,
        server=message.server,
        tool=MESSAGE + message.method,
        tallies=facts.tallies,
    )


def _tallies(candidates: Candidates, scene: Scene) -> tuple[TallyQuestion, ...]:
    asked = [counted.question(scene) for counted in candidates.asks]
    return tuple(question for question in asked if isinstance(question, TallyQuestion))


def _subject(server: str, name: str, does: frozenset[str], tool: ToolDefinition | None, *, words: bool) -> Subject:
    """What static matchers look at; `words` where a rule asks what the definition's text does."""
    if tool is None:
        return Subject(server=server, tool=name, does=does, message=True)
    texts = tuple(texts_of(tool.raw)) if words else ()
    return Subject(
        server=server,
        tool=name,
        does=does,
        pin=tool.pin,
        hidden_text=any(map(hides, texts)),
        instructions=any(map(instructs, texts)),
    )


def _context(place: Place, tool: ToolDefinition | None, *, reads_paths: bool, workspace: str) -> Mapping[str, Json]:
    context: dict[str, Json] = {}
    if workspace:
        context["workspace"] = workspace
    if tool is not None and tool.pin is not PinState.PINNED:
        context["definition"] = tool.pin.value
    if reads_paths:
        context["root"] = place.root
        context["home"] = place.home
        if place.links:
            context["folders"] = dict(place.links)
    return context
