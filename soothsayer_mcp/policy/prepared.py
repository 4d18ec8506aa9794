"""A rule made ready for the calls of one tool."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import Answer, Unsure
from soothsayer_mcp.policy.flow import FlowTest, Reader
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
from soothsayer_mcp.policy.match import ArgumentTest, Bench, prepare_argument
from soothsayer_mcp.policy.paths import Place
from soothsayer_mcp.policy.rules import History, Past, Rule, Subject
from soothsayer_mcp.policy.scene import Lab, Scene, SceneTest
from soothsayer_mcp.policy.scopes import ScopeKind
from soothsayer_mcp.policy.sight import (
    SUSPECT,
    TAINT,
    Sight,
    counters_of,
    risk_test,
    suspect_test,
    taint_test,
    when_test,
)


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
class Preparing:
    """What the rules of a policy are prepared with."""

    lab: Lab
    place: Place
    """Of servers that say nothing of their own."""

    def rule(
        self, rule: Rule, place: Place, sight: Sight, kind: ScopeKind, bearings: Mapping[str, Bearing]
    ) -> Prepared:
        """Prepare a rule for the tools of a place, as far as they are told from others; never raises."""
        bench = Bench(place=place, lab=self.lab, every=rule.effect is Effect.ALLOW)
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
            compile_ = self.lab.term_condition if sight.weights is None else self.lab.condition
            try:
                condition = when_test(compile_(rule.when), sight)
            except Exception as error:  # noqa: BLE001 - the same
                broken = Unsure(f"the condition could not be prepared: {error}")
        flow = None
        if rule.flow is not None:
            flow = FlowTest(rule.flow, sight.sinks, Reader(to_ascii=self.lab.to_ascii, place=place))
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

    def bearings(
        self,
        pasts: Iterable[tuple[Past, History | None]],
        subject: Subject,
        place: Place,
        sight: Sight,
        kind: ScopeKind,
    ) -> Mapping[str, Bearing]:
        """What the calls of a tool are counted under for the rules of one scope."""
        found: dict[str, Bearing] = {}
        for past, history in pasts:
            if past.matches.concerns(subject):
                counted = self.counted(kind, past, history)
                one = self.rule(past.matches, place, sight, kind, {})
                found[counted.mark] = Bearing(counted=counted, fits=one.answer, arguments=one.arguments)
        return found

    def counted(self, kind: ScopeKind, past: Past, history: History | None) -> Counted:
        """The steps that a pattern means, as they are counted; the same for asking and for counting."""
        window_us = past.within_us if history is None else history.window_us
        per = Per.RUN if history is None else history.per
        amount = "" if history is None else history.amount
        denials = history is not None and history.counting is Counting.DENIALS
        strict = past.matches.effect is Effect.ALLOW
        same: list[Json] = [[left, right] for left, right in past.same]
        bench = Bench(place=self.place, lab=self.lab, every=strict)
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
            return PastTest(counted=self.counted(kind, past, None), ok=past.ok)

        history = rule.history
        test = None
        if history is not None:
            counted = self.counted(kind, history.of, history)
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

    def _counters(self, rule: Rule) -> frozenset[str]:
        read = frozenset[str]() if rule.tainted is None else frozenset(TAINT)
        if rule.suspect is not None:
            read |= counters_of([SUSPECT])
        if rule.when:
            with suppress(ValueError):  # what does not compile is in doubt whatever the run has counted
                read |= counters_of(self.lab.names_of(rule.when))
        return read


def _limited(rule: Rule) -> Counted | None:
    limit = rule.limit
    if limit is None or limit.calls is None:
        return None
    mark = mark_id("limit", rule.id, limit.window_us, limit.per.value)
    return Counted(mark=mark, per=limit.per, window_us=limit.window_us)
