"""A loaded policy, and its index from a tool to what can decide its calls."""

from collections.abc import Mapping, Sequence
from itertools import islice

from soothsayer_mcp.model.budget import NO_BUDGETS, Budgets
from soothsayer_mcp.model.call import ToolDefinition
from soothsayer_mcp.model.decision import Decision, Effect, Mode, ObligationKind
from soothsayer_mcp.model.entry import PayloadMode
from soothsayer_mcp.model.facts import NO_FACTS, NO_QUESTIONS, Questions, TallyQuestion, ValueQuestion
from soothsayer_mcp.model.following import NO_NEXT_RULES, NextRules
from soothsayer_mcp.model.json import Digest, Json, canonical
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.model.run import RunRules
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.candidates import Candidates, Settling
from soothsayer_mcp.policy.flow import MOST_QUESTIONS
from soothsayer_mcp.policy.match import link_questions
from soothsayer_mcp.policy.paths import Place
from soothsayer_mcp.policy.prepared import Preparing
from soothsayer_mcp.policy.redact import Redact, Redactor, read_redact
from soothsayer_mcp.policy.scene import MESSAGE, Lab, Scene, scene_of, scene_of_message
from soothsayer_mcp.policy.scopes import ArgumentLimits, Cell, Methods, Pins, Scope, ToolBudget

MAX_REDACTORS = 1_000
"""Sets of masks that are kept compiled."""
MAX_INDEXED = 50_000
"""Tools the index holds before it starts anew."""


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
        self._index: dict[tuple[str, str], Candidates] = {}
        self._messages: dict[tuple[str, str], Candidates] = {}
        named_tiers = sorted({tier.name for scope in self.scopes for tier in scope.tiers} - set(tiers))
        self.tiers = (*named_tiers, *tiers)
        """The model tiers from weakest to strongest; those that nobody ordered are the weakest, by name."""
        self._redactors: dict[bytes, Redactor] = {}
        self._settling = Settling(
            self.scopes,
            preparing=Preparing(lab=lab, place=place),
            places=places,
            tiers=self.tiers,
            budgets=budgets,
            tool_budgets=self.tool_budgets,
            required=self.run_rules.required,
        )

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
        return self._settling.marks

    @property
    def lab(self) -> Lab:
        """The libraries that judge."""
        return self._lab

    def place_of(self, server: str) -> Place:
        """How a server's paths are read."""
        return self._settling.place_of(server)

    def candidates(self, tool: ToolDefinition) -> Candidates:
        """Everything that can decide a call of this tool."""
        known = self._index.get((tool.server, tool.name))
        if known is not None and known.definition == tool.digest and known.subject.pin is tool.pin:
            return known
        return self._remember(self._settling.settle(tool.server, tool.name, tool))

    def message_candidates(self, server: str, method: str) -> Candidates:
        """Everything that can decide a request that is no tool call."""
        known = self._messages.get((server, method))
        if known is None:
            known = self._settling.settle(server, MESSAGE + method, None)
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


def _tallies(candidates: Candidates, scene: Scene) -> tuple[TallyQuestion, ...]:
    asked = [counted.question(scene) for counted in candidates.asks]
    return tuple(question for question in asked if isinstance(question, TallyQuestion))
