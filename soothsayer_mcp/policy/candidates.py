"""What can decide the calls of one tool: settled once per definition, from all that the scopes say."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import partial

from soothsayer_mcp.model.budget import Budgets
from soothsayer_mcp.model.call import CONTROL, Does, PinState, Principal, ToolDefinition
from soothsayer_mcp.model.decision import Decision, Effect, Mode
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.facts import Charge, Reads
from soothsayer_mcp.model.json import Digest, Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.dues import (
    DuesPlan,
    among,
    plan_dues,
    prepare_items,
    prepare_owes,
    prepare_undo,
    prepare_watch,
    step_specs,
)
from soothsayer_mcp.policy.flow import FlowTest, Form, Reader, approved_by, of_result
from soothsayer_mcp.policy.history import Counted, Per
from soothsayer_mcp.policy.match import ArgumentTest, Bench, prepare_argument
from soothsayer_mcp.policy.paths import Place
from soothsayer_mcp.policy.prepared import Bearing, Prepared, Preparing
from soothsayer_mcp.policy.redact import Part
from soothsayer_mcp.policy.rules import UNLABELLED, Subject, ToolPattern
from soothsayer_mcp.policy.scopes import (
    Cell,
    Label,
    Scope,
    ToolBudget,
    Trust,
    looks_at_texts,
    matching,
    naming_files,
    pasts,
    strictest_undo,
)
from soothsayer_mcp.policy.sight import Sight, Weight
from soothsayer_mcp.policy.wording import hides, instructs, suspicious, texts_of


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


class Settling:
    """What a policy settles for a tool once, for all of its calls."""

    def __init__(
        self,
        scopes: Sequence[Scope],
        *,
        preparing: Preparing,
        places: Mapping[str, Place],
        tiers: Sequence[str],
        budgets: Budgets,
        tool_budgets: Sequence[ToolBudget],
        required: Sequence[Item],
    ) -> None:
        """Settle by what every scope says; `tiers` from weakest to strongest."""
        self._scopes = scopes
        self._preparing = preparing
        self._lab = preparing.lab
        self._place = preparing.place
        self._places = places
        self._tiers = tiers
        self._budgets = budgets
        self._tool_budgets = tool_budgets
        self._required = required
        self._pasts = tuple(tuple(pasts(scope)) for scope in scopes)
        flows = [rule.flow for scope in scopes for rule in matching(scope) if rule.flow is not None]
        sinks = [sink for scope in scopes for label in scope.labels for sink in label.sinks]
        sinks += [sink for flow in flows for sink in flow.sinks or ()]
        self._forms = tuple(sorted({Form.TEXT, *(sink.form for sink in sinks)})) if flows else ()
        """The forms in which values are compared; none where no rule compares any."""
        self._seen = any(flow.seen for flow in flows)
        self._among = among(preparing.place, places, naming_files(scopes))
        self._suspects, self._words = looks_at_texts(scopes)

    def place_of(self, server: str) -> Place:
        """How a server's paths are read."""
        return self._places.get(server, self._place)

    @property
    def marks(self) -> Mapping[str, tuple[Sequence[str], Sequence[str]]]:
        """Under which marks the steps of a run are counted: of which tools, all when none is named, and but which."""
        return {
            counted.mark: (
                [f"{one.server}.{one.tool}" for one in past.matches.tools],
                [f"{one.server}.{one.tool}" for one in past.matches.excepts],
            )
            for number, scope in enumerate(self._scopes)
            for past, history in self._pasts[number]
            if (counted := self._preparing.counted(scope.kind, past, history)).per is Per.RUN
        }

    def settle(self, server: str, name: str, tool: ToolDefinition | None) -> Candidates:
        """All that can decide the calls of a tool; `None` for a request that is none."""
        place = self.place_of(server)
        settled: list[ScopeCandidates] = []
        terms: list[Prepared] = []
        bearings: dict[str, Bearing] = {}
        tiers: list[tuple[str, Prepared]] = []
        weights: dict[int, Weight] = {}
        for number, scope in enumerate(self._scopes):
            # Labels of lower scopes are not seen: a project that calls a tool `read` changes only its own objections.
            seen = [above for above in self._scopes[: number + 1] if above is scope or above.kind.may_permit]
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
                bearings.update(self._preparing.bearings(self._pasts[number], subject, place, part, scope.kind))
            for above in seen:
                # A term sees what the scope sees that counts it; it is counted once, though several scopes see it.
                for term in above.terms:
                    if term.matches.concerns(subject):
                        one = self._preparing.rule(term.matches, place, part, above.kind, bearings)
                        weighed.append(Weight(add=term.add, because=term.because, answer=one.answer))
                        weights[id(term)] = weighed[-1]
                        terms.append(one)
            sight = Sight(values=values, weights=tuple(weighed), sinks=sinks)
            prepared = tuple(
                self._preparing.rule(rule, place, sight, scope.kind, bearings)
                for rule in scope.rules
                if rule.concerns(subject)
            )
            cell = Cell.CHECKED if tool is None else Cell.READ if does == _ONLY_READ else Cell.OTHER
            tiers += [
                (tier.name, self._preparing.rule(tier.matches, place, sight, scope.kind, bearings))
                for tier in scope.tiers
                if tier.matches.concerns(subject)
            ]
            settled.append(
                ScopeCandidates(
                    scope=scope, does=does, prepared=prepared, cell=cell, sight=sight, own=server == CONTROL
                )
            )
        speaking = next((one for one in reversed(settled) if one.scope.kind.may_permit), settled[-1])
        tiers.sort(key=lambda tier: self._tiers.index(tier[0]), reverse=True)
        people = {
            prepared.rule.id: tuple(
                self._preparing.rule(person, place, one.sight, one.scope.kind, bearings)
                for person in prepared.rule.people
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
                repeats_most=self._budgets.same_call_repeats,
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
                for one in self._tool_budgets
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
            for scope in self._scopes
            for rule in scope.rules
            if rule.demands is not None
            for spec in step_specs(rule.demands)
            if _is_named(spec, server, name)
        ]
        watches += [
            prepare_watch(item.spec, bench, executes=Does.EXEC.value in does or UNLABELLED in does)
            for item in self._required
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
            undo=prepare_undo(strictest_undo([owes.undo for owes in binding])),
            among=self._among,
        )

    def _labelling(self, server: str, name: str) -> Sequence[Label]:
        """All labels of a tool, whoever says them: for what only tightens."""
        return [label for scope in self._scopes for label in scope.labels if label.fits(server, name)]

    def _polling_us(self, server: str, name: str) -> int:
        """How soon a call may be repeated; a project cannot say so, and of several the longest holds."""
        said = (
            label.polling_us
            for scope in self._scopes
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
            {
                way
                for scope in self._scopes
                for label in scope.labels
                if label.fits(server, name)
                for way in label.secret
            }
        )
        return ({"in": Part.TRACE.value, "at": [*at], "digest": True},) if at else ()

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


_ONLY_READ = frozenset({Does.READ.value})


def _is_named(spec: Mapping[str, Json], server: str, name: str) -> bool:
    """Whether an item about earlier steps can mean a tool."""
    named = [tool_pattern(text) for text in _texts(spec.get("tools"))]
    return any(pattern.fits(server, name) for pattern in named) and not any(
        tool_pattern(text).fits(server, name) for text in _texts(spec.get("except"))
    )


def tool_pattern(text: str) -> ToolPattern:
    """Read a pattern for tools."""
    server, _, tool = text.partition(".")
    return ToolPattern(server=server, tool=tool)


def _texts(value: Json) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


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
