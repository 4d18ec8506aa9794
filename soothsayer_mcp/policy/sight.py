"""What conditions and risk matchers see of a call: the names of `when`, and the sum of the risk terms of one scope."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field

from soothsayer_mcp.model.answer import Answer, Unsure
from soothsayer_mcp.model.condition import Condition, Names, Sort, View
from soothsayer_mcp.model.decision import Risk, RiskTerm
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import Counters, Run
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.flow import Sink
from soothsayer_mcp.policy.scene import Scene

SUSPECT = "run.suspect_reads"
"""Counted only where a rule or a term asks for it."""

RUN_COUNTERS: Mapping[str, tuple[str, ...]] = {
    "run.steps": ("calls", "denials", "asks"),
    "run.calls": ("calls",),
    "run.writes": ("writes",),
    "run.errors": ("errors",),
    "run.error_streak": ("error_streak",),
    "run.denials": ("denials",),
    "run.asks": ("asks",),
    "run.untrusted_reads": ("untrusted_reads",),
    SUSPECT: ("suspect_reads",),
    "run.unverified_writes": ("unverified_writes",),
    "run.bytes_returned": ("bytes_returned",),
    "run.calls_since_compact": ("calls_since_compact",),
    "run.bytes_since_compact": ("bytes_since_compact",),
    "run.minutes": ("open_us", "opened_us"),
}
"""Names of what a run counts -> the counters that they are made of. The call that is decided is not in them."""

TAINT: tuple[str, ...] = ("untrusted_reads",)
"""The counters that tell whether a run is tainted."""

NAMES: Names = {
    "args": Sort.OBJECT,
    "tool.server": Sort.TEXT,
    "tool.name": Sort.TEXT,
    "tool.does": Sort.TEXTS,
    "tool.trust": Sort.TEXT,
    "tool.pin": Sort.TEXT,
    "who.sub": Sort.TEXT,
    "who.groups": Sort.TEXTS,
    "who.client": Sort.TEXT,
    **dict.fromkeys(RUN_COUNTERS, Sort.WHOLE),
    "run.tainted": Sort.TRUTH,
    "risk": Sort.WHOLE,
    "now": Sort.TIME,
    "workspace": Sort.TEXT,
}
"""Every name of a `when:`. What has no value at the moment makes a condition that needs it unknown."""

TERM_NAMES: Names = {name: sort for name, sort in NAMES.items() if name != "risk"}
"""The names in a risk term, which cannot rest on the sum that it is part of."""

NEXT_NAMES: Names = {
    name: sort for name, sort in NAMES.items() if name == "risk" or (name.startswith("run.") and name != SUSPECT)
}
"""The names in a condition about what follows a step, which is counted in them."""

MOST_RISK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One risk term that can concern a tool, ready for its calls."""

    add: int
    because: str
    answer: Callable[[Scene], Answer]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight:
    """What one scope knows of a tool beside its rules."""

    values: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """The names that are the same for every call."""
    weights: tuple[Weight, ...] | None = ()
    """`None`: what sees this is a term of the sum itself."""
    sinks: tuple[Sink, ...] = ()
    """The arguments that say where something goes."""


def weigh_risk(weights: Sequence[Weight], scene: Scene) -> Risk:
    """Sum up the terms that match, within 0 and 100; those that cannot tell make it a range."""
    low = high = 0
    terms: list[RiskTerm] = []
    for weight in weights:
        answer = weight.answer(scene)
        if answer is False:
            continue
        if answer is True:
            low += weight.add
            high += weight.add
            terms.append(RiskTerm(add=weight.add, because=weight.because))
        else:
            low += min(0, weight.add)
            high += max(0, weight.add)
            terms.append(RiskTerm(add=weight.add, because=weight.because, unknown=answer.why))
    # Order in a file means nothing.
    terms.sort(key=lambda term: (term.because, term.add, term.unknown))
    return Risk(low=_clamped(low), high=_clamped(high), terms=tuple(terms))


def _clamped(total: int) -> int:
    return min(max(total, 0), MOST_RISK)


def risk_of(sight: Sight, scene: Scene) -> Risk:
    """The risk that a scope sees in a call, summed up once."""
    known = scene.risks.get(id(sight))
    if known is None:
        known = scene.risks[id(sight)] = weigh_risk(sight.weights or (), scene)
    return known


def view_of(sight: Sight, scene: Scene) -> View:
    """What the conditions of a scope see of a call, put together once."""
    known = scene.views.get(id(sight))
    if known is None:
        known = scene.views[id(sight)] = View(_values(sight, scene))
    return known


def _values(sight: Sight, scene: Scene) -> Mapping[str, Json]:
    values: dict[str, Json] = {
        **sight.values,
        "who.sub": scene.principal.id,
        "who.groups": list(scene.principal.groups),
    }
    if scene.client is not None:
        values["who.client"] = scene.client.name
    if scene.arguments is not None:
        values["args"] = scene.arguments
    if scene.now_us is not None:
        values["now"] = scene.now_us
    if scene.run is not None:
        values |= _counted(scene.run.counters, scene.now_us)
    if sight.weights is not None:
        risk = risk_of(sight, scene)
        if risk.low == risk.high:
            values["risk"] = risk.high
    return values


def _counted(counters: Counters, now_us: int | None) -> Mapping[str, Json]:
    held = counters._asdict()
    values: dict[str, Json] = {
        name: sum(held[one] for one in made_of) for name, made_of in RUN_COUNTERS.items() if name != "run.minutes"
    }
    values["run.tainted"] = counters.untrusted_reads > 0
    if now_us is not None:
        values["run.minutes"] = counters.minutes(now_us)
    return values


def counters_of(names: Iterable[str]) -> frozenset[str]:
    """The counters of the run that some names of conditions are made of."""
    made_of = (TAINT if name == "run.tainted" else RUN_COUNTERS.get(name, ()) for name in names)
    return frozenset(counter for counters in made_of for counter in counters)


def taint_test(*, wanted: bool) -> Callable[[Scene], Answer]:
    """Whether the run has, or has not, been given an untrusted result."""
    unknown = Unsure("it is not known for which run this is")
    return lambda scene: unknown if scene.run is None else (scene.run.counters.untrusted_reads > 0) is wanted


def suspect_test(*, wanted: bool) -> Callable[[Scene], Answer]:
    """Whether the run has, or has not, been given an untrusted result that reads like an instruction."""
    unknown = Unsure("it is not known for which run this is")
    return lambda scene: unknown if scene.run is None else (scene.run.counters.suspect_reads > 0) is wanted


def when_test(condition: Condition, sight: Sight) -> Callable[[Scene], Answer]:
    """Whether a condition holds of a call."""
    return lambda scene: condition(view_of(sight, scene))


def compact_test(conditions: Sequence[Condition]) -> Callable[[Run, int | None, int], bool]:
    """Whether one of some conditions certainly holds of a run, the risk of its latest step, and the time."""

    def holds(run: Run, risk: int | None, now_us: int) -> bool:
        view = View({**_counted(run.counters, now_us), **({} if risk is None else {"risk": risk})})
        return any(condition(view) is True for condition in conditions)

    return holds


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskBounds:
    """Between which sums a rule matches; `None` does not bound."""

    at_least: int | None = None
    below: int | None = None

    def answer(self, risk: Risk) -> Answer:
        """Whether the sum lies there; a range that reaches over a bound cannot tell."""
        inside = [self._holds(total) for total in (risk.low, risk.high)]
        if all(inside):
            return True
        if self._beside(risk):
            return False
        unknown = next((term.unknown for term in risk.terms if term.unknown), "")
        return Unsure(f"the risk is between {risk.low} and {risk.high}: {unknown}")

    def _holds(self, total: int) -> bool:
        return (self.at_least is None or total >= self.at_least) and (self.below is None or total < self.below)

    def _beside(self, risk: Risk) -> bool:
        return (self.at_least is not None and risk.high < self.at_least) or (
            self.below is not None and risk.low >= self.below
        )


def risk_test(bounds: RiskBounds, sight: Sight) -> Callable[[Scene], Answer]:
    """Whether the risk of a call lies within bounds."""
    return lambda scene: bounds.answer(risk_of(sight, scene))
