"""Why a call was decided as it was: every rule that could concern it, and the first matcher that said no."""

from collections.abc import Mapping

from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.decision import Decision, Effect, Mode, Risk
from soothsayer_mcp.model.facts import Facts
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import Answer, Unsure
from soothsayer_mcp.policy.candidates import Candidates, ScopeCandidates
from soothsayer_mcp.policy.decide import decide, visible
from soothsayer_mcp.policy.match import MATCHERS, ArgumentTest, Bench, prepare_argument
from soothsayer_mcp.policy.paths import spell
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.prepared import Prepared
from soothsayer_mcp.policy.scene import Scene, SceneTest, scene_of
from soothsayer_mcp.policy.sight import risk_of

SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStory:
    """What one rule said of a call."""

    id: str
    scope: str
    effect: Effect | None
    """`None` for an `also`."""
    head: str
    """What the rule is written with."""
    text: str
    matched: bool | None
    """`None` when it could not tell; then it counts as matched unless it allows."""
    at: str = ""
    """The key whose matcher said no, or could not tell: `args.path: under`."""
    why: str = ""
    """Why it could not tell."""
    value: str = ""
    """What that matcher looked at, as JSON, cut."""
    readings: tuple[str, ...] = ()
    """How a path was read."""
    observe: bool = False
    hard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeStory:
    """How one scope stands to a tool."""

    kind: str
    name: str
    mode: Mode
    does: tuple[str, ...]
    default: Effect | None
    """`None` leaves it to the other scopes."""
    cell: str
    rules: int
    """How many rules it has; those that cannot concern the tool are not told one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision, and all that led to it."""

    decision: Decision
    rules: tuple[RuleStory, ...]
    scopes: tuple[ScopeStory, ...]
    pin: PinState | None
    listed: bool
    """Whether `tools/list` shows the tool."""


def explain(policy: Policy, run: Run, step: ProposedStep, facts: Facts) -> Explanation:
    """Tell every candidate rule's story; the decision is the one that governs."""
    decision = decide(policy, run, step, facts)
    tool = step.tool
    if tool is None:
        return Explanation(decision=decision, rules=(), scopes=(), pin=None, listed=False)
    candidates = policy.candidates(tool)
    scene = scene_of(step, facts, run)
    stories = [
        _story(policy, candidates, prepared, one, scene) for one in candidates.scopes for prepared in one.prepared
    ]
    scopes = tuple(
        ScopeStory(
            kind=one.scope.kind.value,
            name=one.scope.name,
            mode=one.scope.mode,
            does=tuple(sorted(one.does)),
            default=one.default,
            cell=one.cell.value,
            rules=len(one.scope.rules),
        )
        for one in candidates.scopes
    )
    return Explanation(
        decision=decision,
        rules=tuple(sorted(stories, key=_standing)),
        scopes=scopes,
        pin=tool.pin,
        listed=visible(policy, tool, step.principal, now_us=step.proposed_at_us),
    )


def _standing(story: RuleStory) -> tuple[int, int, str]:
    order = {True: 0, None: 1, False: 2}
    return order[story.matched], -(-1 if story.effect is None else story.effect.strictness), story.id


def _story(policy: Policy, candidates: Candidates, prepared: Prepared, one: ScopeCandidates, scene: Scene) -> RuleStory:
    rule = prepared.rule
    answer = prepared.answer(scene)
    key = "" if answer is True else _first(prepared, scene, answer)
    test = next((test for test in prepared.arguments if f"args.{test.key}" == key), None)
    at, value, readings = key, "", ()
    if key == "when":
        value = _cut(" ".join(rule.when.split()))
    elif key == "risk" and answer is False:
        value = _sum(risk_of(one.sight, scene))
    elif test is not None and scene.arguments is not None:
        bench = Bench(place=candidates.place, lab=policy.lab, every=rule.effect is Effect.ALLOW)
        matcher = _matcher(test, bench, scene, answer)
        at = f"{key}: {matcher}" if matcher else key
        value = _value(test, scene.arguments)
        readings = _readings(test, candidates, scene, scene.arguments)
    return RuleStory(
        id=rule.id,
        scope=one.scope.name,
        effect=rule.effect,
        head=rule.head,
        text=rule.text,
        matched=answer if isinstance(answer, bool) else None,
        at=at,
        why=answer.why if isinstance(answer, Unsure) else "",
        value=value,
        readings=readings,
        observe=rule.observe,
        hard=rule.hard,
    )


def _first(prepared: Prepared, scene: Scene, answer: Answer) -> str:
    """The key of the first test that gave the rule its answer."""
    for key, test in prepared.tests:
        said = _said(test, scene)
        if said is False or (isinstance(answer, Unsure) and said is not True):
            return key
    return ""


def _said(test: SceneTest, scene: Scene) -> Answer:
    try:
        return test(scene)
    except Exception as error:  # noqa: BLE001 - as in deciding, a matcher that fails is a doubt
        return Unsure(f"a matcher failed: {type(error).__name__}")


def _matcher(test: ArgumentTest, bench: Bench, scene: Scene, answer: Answer) -> str:
    """The first of an argument's matchers that gives that answer alone; empty when the argument is absent."""
    for name, held in test.spec.items():
        if name not in MATCHERS:
            continue
        alone = prepare_argument(test.key, {name: held}, bench)
        said = _said(alone.answer, scene)
        if (said is False) if answer is False else isinstance(said, Unsure):
            return name
    return ""


def _value(test: ArgumentTest, arguments: Mapping[str, Json]) -> str:
    if not test.ways:
        return "every text"
    found = test.values(arguments)
    return _short(found[0] if len(found) == 1 else found) if found else "absent"


def _sum(risk: Risk) -> str:
    return f"a risk of {risk.high}" if risk.low == risk.high else f"a risk between {risk.low} and {risk.high}"


def _short(value: Json) -> str:
    return _cut(canonical(value).decode())


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _readings(
    test: ArgumentTest, candidates: Candidates, scene: Scene, arguments: Mapping[str, Json]
) -> tuple[str, ...]:
    if not test.paths or not test.ways:
        return ()
    found: dict[str, None] = {}
    for text in test.texts(arguments):
        readings = scene.readings(text, candidates.place)
        found.update(dict.fromkeys(spell(path, candidates.place) for path in readings.exact))
    return tuple(found)
