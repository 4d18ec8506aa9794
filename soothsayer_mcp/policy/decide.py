"""May it? `decide` is pure, total and never raises: deny > ask > allow > default; lower scopes only tighten."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from soothsayer_mcp.model.ask import AskTerms, Remember
from soothsayer_mcp.model.call import CONTROL, Cause, Does, PinState, Principal, ToolDefinition
from soothsayer_mcp.model.decision import Decision, Effect, LargeResults, Mode, Obligation, ObligationKind, RuleMatch
from soothsayer_mcp.model.dues import NOTHING_DUE
from soothsayer_mcp.model.facts import NO_FACTS, Cap, Charge, Facts, TallyQuestion
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.following import OnFailure
from soothsayer_mcp.model.json import Json, canonical, digest
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.model.run import Run, RunScope
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import Unsure
from soothsayer_mcp.policy.candidates import Candidates, ScopeCandidates
from soothsayer_mcp.policy.dues import obligations_of
from soothsayer_mcp.policy.history import amount_micro
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.prepared import Prepared
from soothsayer_mcp.policy.redact import Part
from soothsayer_mcp.policy.rules import Rule
from soothsayer_mcp.policy.scene import Scene, scene_of, scene_of_message
from soothsayer_mcp.policy.scopes import Cell, strictest
from soothsayer_mcp.policy.sight import risk_of
from soothsayer_mcp.policy.within import is_outside

DEFAULT = "default"

_FLAWS: dict[Reason, str] = {
    Reason.ARGUMENTS_INVALID: "arguments/invalid",
    Reason.DEFINITION_CHANGED: "pins/changed",
}
"""Flaws that act as rules: observe mode only records them. Every other flaw refuses in every mode."""

_DEFAULT_TEXTS: dict[Cell, dict[Effect, str]] = {
    Cell.READ: {
        Effect.DENY: "no rule allows this read",
        Effect.ASK: "reads without a rule of their own are asked about",
        Effect.ALLOW: "",
    },
    Cell.OTHER: {
        Effect.DENY: "no rule allows it",
        Effect.ASK: "no rule allows it, and it is not labelled as a read",
        Effect.ALLOW: "",
    },
    Cell.CHECKED: {
        Effect.DENY: "no rule allows this request",
        Effect.ASK: "no rule allows this request",
        Effect.ALLOW: "",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A rule that matched, or that counts as matched because it could not be evaluated."""

    prepared: Prepared
    doubt: Unsure | None = None

    @property
    def shown(self) -> RuleMatch:
        """The match as decisions name it."""
        rule = self.prepared.rule
        assert rule.effect is not None
        return RuleMatch(
            id=rule.id, effect=rule.effect, text=rule.text, unknown="" if self.doubt is None else self.doubt.why
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """What stands against a call beside its rules, in the form of a rule."""

    match: RuleMatch
    reason: Reason
    """The reason when it denies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one scope, or all of them, say."""

    effect: Effect
    rules: tuple[RuleMatch, ...] = ()
    reason: Reason | None = None


def decide(policy: Policy, run: Run, step: ProposedStep, facts: Facts) -> Decision:
    """Answer one proposal. Never raises: a fault of ours denies."""
    try:
        decision = _decide(policy, run, step, facts)
        return _forbidden(decision) if step.cause is Cause.SELFTEST else decision
    except Exception:  # noqa: BLE001 - a fault of ours never allows
        return _fault(policy)


def decide_message(policy: Policy, message: Message, facts: Facts) -> Decision:
    """Answer a request that is no tool call, under `server.@method`. Nobody can be asked about one. Never raises."""
    try:
        candidates = policy.message_candidates(message.server, message.method)
        scene = scene_of_message(message, facts)
        found = weigh_rules(candidates, scene)
        decision = _conclude(policy, candidates, found, ())
        owed = _redacts(candidates, found, Part.RESULT) if candidates.redacts else ()
        return replace(decision, obligations=owed, context=_context(candidates, facts, scene))
    except Exception:  # noqa: BLE001 - a fault of ours never allows
        return _fault(policy)


def visible(policy: Policy, tool: ToolDefinition, principal: Principal, *, now_us: int | None = None) -> bool:
    """Whether a tool may be listed. Hidden is what is denied whatever the arguments are; a fault of ours hides."""
    try:
        candidates = policy.candidates(tool)
        whom = (principal, tool.properties is None)
        shown = candidates.shown.get(whom) if now_us is None else None
        if shown is None:
            shown = _is_shown(policy, candidates, tool, principal, now_us)
            if now_us is None:
                if len(candidates.shown) >= _MOST_CONCLUDED:
                    candidates.shown.clear()
                candidates.shown[whom] = shown
    except Exception:  # noqa: BLE001 - a fault of ours never shows
        return False
    else:
        return shown


def bars_undo(policy: Policy, tool: ToolDefinition, principal: Principal) -> bool:
    """Whether a call of a tool is denied whatever its arguments are, when it undoes another; a fault of ours bars."""
    scene = Scene(arguments=None, principal=principal, client=None, cause=Cause.UNDO, now_us=None, links={})
    try:
        certain = _whatever_it_says(policy.candidates(tool), scene)
        return _conclude_undo(policy, certain, [*_about_definition(policy, tool)]).effect is Effect.DENY
    except Exception:  # noqa: BLE001 - a fault of ours bars
        return True


def _is_shown(
    policy: Policy, candidates: Candidates, tool: ToolDefinition, principal: Principal, now_us: int | None
) -> bool:
    scene = Scene(arguments=None, principal=principal, client=None, cause=Cause.AGENT, now_us=now_us, links={})
    certain = _whatever_it_says(candidates, scene)
    objections = [*_about_definition(policy, tool), *_about_schema(policy, tool)]
    return _conclude(policy, candidates, certain, objections).effect is not Effect.DENY


def could_ask(policy: Policy, principal: Principal, server: str, method: str) -> bool:
    """Whether a server's request of this method could be let through, by what it says; a fault of ours says no."""
    try:
        candidates = policy.message_candidates(server, method)
        scene = Scene(arguments=None, principal=principal, client=None, cause=Cause.AGENT, now_us=None, links={})
        decision = _conclude(policy, candidates, _whatever_it_says(candidates, scene), ())
    except Exception:  # noqa: BLE001 - a fault of ours never shows
        return False
    return decision.effect is Effect.ALLOW or decision.mode is Mode.OBSERVE


def _whatever_it_says(candidates: Candidates, scene: Scene) -> tuple[tuple[Match, ...], ...]:
    """What matches whatever the arguments are, and what could match in favour of a call.

    Only arguments can settle a doubt: a deny in doubt is not certain, an ask or allow in doubt could match.
    """
    return tuple(
        tuple(
            Match(prepared=match.prepared)
            for match in matches
            if match.doubt is None or match.prepared.rule.effect is not Effect.DENY
        )
        for matches in weigh_rules(candidates, scene)
    )


def weigh_rules(candidates: Candidates, scene: Scene) -> tuple[tuple[Match, ...], ...]:
    """All rules that match or may match, scope by scope; no short cut."""
    found: list[tuple[Match, ...]] = []
    for scope in candidates.scopes:
        matches: list[Match] = []
        for prepared in scope.prepared:
            answer = prepared.answer(scene)
            if answer is True:
                matches.append(Match(prepared=prepared))
            elif answer is not False:
                matches.append(Match(prepared=prepared, doubt=answer))
        found.append(tuple(matches))
    return tuple(found)


def _forbidden(decision: Decision) -> Decision:
    """The self-test's call: decided like any other, and refused whatever the policy and its mode say."""
    rule = RuleMatch(id="selftest/forbidden", effect=Effect.DENY, text="the self-test's call is never sent")
    return replace(decision, effect=Effect.DENY, reason=Reason.RULE_DENIED, rules=(rule,), obligations=())


def _fault(policy: Policy) -> Decision:
    return Decision(
        effect=Effect.DENY, reason=Reason.INTERNAL_ERROR, rules=(), mode=Mode.ENFORCE, policy_digest=policy.digest
    )


def _decide(policy: Policy, run: Run, step: ProposedStep, facts: Facts) -> Decision:
    observing = policy.mode is Mode.OBSERVE
    tool = step.tool
    binding = [flaw for flaw in step.flaws if not observing or flaw.reason not in _FLAWS]
    if binding or tool is None:
        # No rule sees arguments that are not valid, and a tool that nobody offers has no rules.
        return _flawed(policy, step, binding)
    candidates = policy.candidates(tool)
    arguments, size = step.proposal.arguments, len(step.proposal.raw_arguments)
    scene = scene_of(step, facts, run)
    if run.scope is not None and tool.server != CONTROL and _goes_beyond(run.scope, candidates, arguments, facts):
        # A person opened the run for less; that holds whatever the policy only observes.
        beyond = Failure(reason=Reason.OUT_OF_SCOPE, summary=run.scope.text)
        return replace(_flawed(policy, step, [beyond]), context=_context(candidates, facts, scene))
    found = weigh_rules(candidates, scene)
    about_arguments = tuple(_about_arguments(policy, tool, arguments, size, step.proposal.raw_arguments))
    # Where nothing but the rules that match has a say, the same rules always come to the same decision.
    plain = not (step.flaws or candidates.tiers or candidates.people or about_arguments or facts is not NO_FACTS)
    if candidates.ends_us and _ends_soon(candidates, step.proposed_at_us):
        plain = False
    certain = _certain(tool, found) if plain and step.cause not in {Cause.PROBE, Cause.UNDO} else None
    known = None if certain is None else candidates.concluded.get(certain)
    if known is not None:
        return known
    limited = sorted(
        (match.prepared.rule for matches in found for match in matches if _binds_limit(match)), key=lambda rule: rule.id
    )
    objections = [
        *(Objection(match=_flaw_match(flaw), reason=flaw.reason) for flaw in step.flaws),
        *_about_definition(policy, tool),
        *_about_schema(policy, tool),
        *about_arguments,
        *_over_limit(limited, size),
    ]
    if step.cause is Cause.PROBE:
        decision = _conclude_probe(policy, candidates, found, objections)
    elif step.cause is Cause.UNDO:
        decision = _conclude_undo(policy, found, objections)
    else:
        decision = _conclude(policy, candidates, found, objections)
    people = _people(candidates, found, scene, decision) if candidates.people else ()
    decision = _asked_of(people, decision) if people else decision
    owes = step.cause not in {Cause.PROBE, Cause.CONTROL} and decision.effect is not Effect.DENY
    if owes and step.cause is Cause.UNDO:
        dues = step.owes
    else:
        dues = candidates.dues.dues(_owing(candidates, found), scene) if owes else NOTHING_DUE
    timeouts = [rule.limit.timeout_s for rule in limited if rule.limit and rule.limit.timeout_s is not None]
    storing = _storing(candidates, found) if candidates.stores and decision.effect is not Effect.DENY else ()
    decision = replace(
        decision,
        does=candidates.does,
        obligations=()
        if decision.effect is Effect.DENY
        else (
            *map(_obligation, limited),
            *(_redacts(candidates, found, Part.RESULT) if candidates.redacts else ()),
            *(obligations_of(dues) if dues.require or dues.verify or dues.undo else ()),
            *(Obligation(kind=ObligationKind.REQUIRE, spec={"human": {}}, rule=one.id) for one in people),
            *map(_stored, storing),
        ),
        large=_strictest(storing) if storing else None,
        masks=_masks(candidates, found),
        dues=dues,
        timeout_s=None if observing else min(timeouts, default=None),
        risk=risk_of(candidates.sight, scene) if candidates.sight.weights else None,
        asks=_terms(decision, found, people) if decision.effect is Effect.ASK else None,
        context=_context(candidates, facts, scene),
        reads=candidates.reads,
        charge=_charge(candidates, scene, found, limited),
        tier=_tier(candidates, scene) if candidates.tiers else "",
        on_failure=_on_failure(candidates, found) if candidates.ends_runs else (),
    )
    same_for_all = decision.context is candidates.context and decision.charge is candidates.charge
    steady = dues is NOTHING_DUE or dues is candidates.dues.steady
    if certain is not None and steady and not limited and decision.risk is None and same_for_all:
        if len(candidates.concluded) >= _MOST_CONCLUDED:
            candidates.concluded.clear()
        candidates.concluded[certain] = decision
    return decision


def _on_failure(candidates: Candidates, found: Sequence[Sequence[Match]]) -> tuple[Mapping[str, OnFailure], ...]:
    """What the matching rules say of the call's failing; what only observes says nothing."""
    return tuple(
        match.prepared.rule.on_failure
        for scope, matches in zip(candidates.scopes, found, strict=True)
        for match in matches
        if match.prepared.rule.on_failure
        and not match.prepared.rule.observe
        and scope.scope.mode is not Mode.OBSERVE
        and (match.doubt is None or match.prepared.rule.effect is not Effect.ALLOW)
    )


def _tier(candidates: Candidates, scene: Scene) -> str:
    """The strongest tier whose matchers all hold for certain."""
    return next((name for name, prepared in candidates.tiers if prepared.answer(scene) is True), "")


_MOST_CONCLUDED = 256
_DAY_US = 86_400_000_000


def _certain(tool: ToolDefinition, found: Sequence[Sequence[Match]]) -> tuple[int, ...] | None:
    """Whether there is a schema and the server moved, and which rules matched; `None` when one is in doubt."""
    matched = [2 * tool.moved + (tool.properties is None)]
    for matches in found:
        for match in matches:
            if match.doubt is not None:
                return None
            matched.append(id(match.prepared))
    return tuple(matched)


def _goes_beyond(scope: RunScope, candidates: Candidates, arguments: Mapping[str, Json], facts: Facts) -> bool:
    subject = candidates.subject
    return is_outside(
        scope,
        subject.server,
        subject.tool,
        does=subject.does,
        arguments=arguments,
        place=candidates.place,
        facts=facts,
    )


def _people(
    candidates: Candidates, found: Sequence[Sequence[Match]], scene: Scene, decision: Decision
) -> Sequence[Rule]:
    """Whose yes the rules that matched need of a call that may go; only a clear no needs nobody."""
    if decision.effect is Effect.DENY or scene.cause is not Cause.AGENT:
        return ()
    needed = (
        person.rule
        for matches in found
        for match in matches
        if match.doubt is None or match.prepared.rule.effect is not Effect.ALLOW
        for person in candidates.people.get(match.prepared.rule.id, ())
        if person.answer(scene) is not False
    )
    return sorted(needed, key=lambda rule: rule.id)


def _asked_of(people: Sequence[Rule], decision: Decision) -> Decision:
    """A call that may go once a person has said yes to it. What asks already is one question with it."""
    asking = [RuleMatch(id=rule.id, effect=Effect.ASK, text=rule.text) for rule in people]
    also = decision.rules if decision.effect is Effect.ASK else ()
    reason = decision.reason if decision.effect is Effect.ASK else Reason.NOBODY_TO_ASK
    return replace(decision, effect=Effect.ASK, reason=reason, rules=tuple(dict.fromkeys([*asking, *also])))


def _terms(decision: Decision, found: Sequence[Sequence[Match]], people: Sequence[Rule] = ()) -> AskTerms | None:
    """Several asks make one question: it is as strong, as short and as forgetful as the strictest of them."""
    asking = {rule.id for rule in decision.rules}
    stated = [
        match.prepared.rule.asks
        for matches in found
        for match in matches
        if match.prepared.rule.asks is not None and match.prepared.rule.id in asking
    ]
    stated += [rule.asks for rule in people if rule.asks is not None]
    if not stated:
        return None
    return AskTerms(
        strong=any(terms.strong for terms in stated),
        expires_s=min((terms.expires_s for terms in stated if terms.expires_s is not None), default=None),
        remember=min((terms.remember for terms in stated), key=_MEMORY.index),
        needs=tuple(dict.fromkeys(need for terms in stated for need in terms.needs)),
    )


_MEMORY = (Remember.NEVER, Remember.ONCE, Remember.RUN)


def _owing(candidates: Candidates, found: Sequence[Sequence[Match]]) -> Iterable[str]:
    """The rules that matched and owe something. An allow in doubt does not match, so nothing hangs on it."""
    if not candidates.dues.rules:
        return ()
    return sorted(
        match.prepared.rule.id
        for matches in found
        for match in matches
        if match.doubt is None or match.prepared.rule.effect is not Effect.ALLOW
    )


def _conclude_probe(
    policy: Policy, candidates: Candidates, found: Sequence[Sequence[Match]], objections: Sequence[Objection]
) -> Decision:
    """Answer a call that a check makes: it needs no allow but the label `read`, and what would ask denies it."""
    objecting = {Effect.DENY, Effect.ASK}
    against = [
        rule
        for matches in found
        for rule in _shown(match for match in matches if match.prepared.rule.effect in objecting)
    ]
    against += [objection.match for objection in objections if objection.match.effect in objecting]
    if candidates.does != (Does.READ.value,):
        text = "checks call tools that are labelled read, and no others"
        against.append(RuleMatch(id="probe/reads_only", effect=Effect.DENY, text=text))
    return Decision(
        effect=Effect.DENY if against else Effect.ALLOW,
        reason=Reason.RULE_DENIED if against else None,
        rules=tuple(dict.fromkeys(against)),
        mode=policy.mode,
        policy_digest=policy.digest,
    )


def _conclude_undo(policy: Policy, found: Sequence[Sequence[Match]], objections: Sequence[Objection]) -> Decision:
    """Answer a call that undoes another, as that one declared it: no allow is needed, nobody is asked, a deny holds."""
    against = [
        rule
        for matches in found
        for rule in _shown(match for match in matches if match.prepared.rule.effect is Effect.DENY)
    ]
    against += [one.match for one in objections if one.match.effect is Effect.DENY]
    return Decision(
        effect=Effect.DENY if against else Effect.ALLOW,
        reason=Reason.RULE_DENIED if against else None,
        rules=tuple(dict.fromkeys(against)),
        mode=policy.mode,
        policy_digest=policy.digest,
    )


def _flawed(policy: Policy, step: ProposedStep, binding: Sequence[Failure]) -> Decision:
    return Decision(
        effect=Effect.DENY,
        reason=binding[0].reason if binding else Reason.TOOL_UNKNOWN,
        rules=tuple(_flaw_match(flaw) for flaw in binding),
        mode=policy.mode,
        policy_digest=policy.digest,
        would=Effect.DENY if policy.mode is Mode.OBSERVE else None,
        does=() if step.tool is None else policy.candidates(step.tool).does,
        masks=() if step.tool is None else policy.candidates(step.tool).masks,
    )


def _flaw_match(flaw: Failure) -> RuleMatch:
    name = _FLAWS.get(flaw.reason, f"step/{flaw.reason}")
    return RuleMatch(id=name, effect=Effect.DENY, text=flaw.summary)


def _context(candidates: Candidates, facts: Facts, scene: Scene) -> Mapping[str, Json]:
    context = candidates.context
    if facts.links:
        context = {**context, "links": dict(facts.links)}
    if scene.now_us is not None and (candidates.timed or _ends_soon(candidates, scene.now_us)):
        context = {**context, "now": scene.now_us}
    if candidates.counters and scene.run is not None:
        counted = scene.run.counters._asdict()
        context = {**context, "counted": {name: counted[name] for name in candidates.counters}}
    if facts.values:
        # By the order of the questions, which follows from policy and arguments: the values themselves stay out.
        origins: list[Json] = [[sorted(seen.origins), sorted(seen.missed)] for seen in facts.values.values()]
        context = {**context, "origins": origins}
    if facts.tallies:
        context = {**context, "tallies": [[*question, *tally] for question, tally in facts.tallies.items()]}
    return context


def _ends_soon(candidates: Candidates, now_us: int) -> bool:
    """Whether a rule stops to match before the decision is certain to be written down: then its moment goes with it."""
    return any(now_us < end <= now_us + _DAY_US for end in candidates.ends_us)


def _charge(candidates: Candidates, scene: Scene, found: Sequence[Sequence[Match]], limited: Sequence[Rule]) -> Charge:
    """What the call counts for once it is admitted."""
    if not (candidates.bearings or limited or candidates.costs or candidates.budgeted or candidates.once):
        return candidates.charge
    marks = [one.counted.bearing(scene, one.fits(scene)) for one in candidates.bearings]
    caps: list[Cap] = []
    for match in (match for matches in found for match in matches):
        counted, limit = match.prepared.counted, match.prepared.rule.limit
        if counted is None or limit is None or limit.calls is None or not _binds_limit(match):
            continue
        question = counted.question(scene)
        if isinstance(question, TallyQuestion):
            marks.append(counted.bearing(scene))
            caps.append(Cap(question=question, most=limit.calls, words=f"the limit of rule {match.prepared.rule.id}"))
    for counted, budget in candidates.budgeted:
        question = counted.question(scene)
        if isinstance(question, TallyQuestion):
            marks.append(counted.bearing(scene))
            caps.append(Cap(question=question, most=budget.calls, words=f"the budget tools for {budget.name}"))
    sizes = [rule.limit.result_bytes for rule in limited if rule.limit and rule.limit.result_bytes is not None]
    return replace(
        candidates.charge,
        # Order in a file means nothing: these are on record, and the first cap is what an agent reads.
        marks=tuple(
            sorted((mark for mark in marks if mark is not None), key=attrgetter("mark", "holder", "key", "sure"))
        ),
        caps=tuple(sorted(caps, key=attrgetter("words"))),
        bytes_most=min(sizes, default=None),
        cost_micro=_cost_micro(candidates, scene) if candidates.costs else candidates.charge.cost_micro,
        once=_once(candidates, scene) if candidates.once else (),
    )


def _once(candidates: Candidates, scene: Scene) -> tuple[str, ...]:
    """What makes the call one that is sent once: a digest for each argument that says so and is there."""
    subject, found = candidates.subject, list[str]()
    for test in candidates.once:
        values = test.values(scene.arguments or {})
        if values:
            found.append(digest(canonical([subject.server, subject.tool, test.key, [*values]])))
    return tuple(found)


def _cost_micro(candidates: Candidates, scene: Scene) -> int | None:
    """What the call costs: the most that any label says; `None` when an argument that says so holds no such number."""
    costs = [
        candidates.charge.cost_micro,
        *(amount_micro(test.values(scene.arguments or {})) for test in candidates.costs),
    ]
    sure = [cost for cost in costs if cost is not None]
    return max(sure) if len(sure) == len(costs) else None


def _binds_limit(match: Match) -> bool:
    rule = match.prepared.rule
    # An allow in doubt does not match, so nothing hangs on it.
    return rule.limit is not None and (match.doubt is None or rule.effect is not Effect.ALLOW)


def _obligation(rule: Rule) -> Obligation:
    spec: dict[str, Json] = {}
    if rule.limit is not None and rule.limit.timeout_s is not None:
        spec["timeout_ms"] = round(rule.limit.timeout_s * 1000)
    if rule.limit is not None and rule.limit.args_bytes is not None:
        spec["args_bytes"] = rule.limit.args_bytes
    if rule.limit is not None and rule.limit.calls is not None:
        spec["calls"] = rule.limit.calls
        spec["window_ms"] = rule.limit.window_us // 1000
        spec["per"] = rule.limit.per.value
    if rule.limit is not None and rule.limit.result_bytes is not None:
        spec["result_bytes"] = rule.limit.result_bytes
    return Obligation(kind=ObligationKind.LIMIT, spec=spec, rule=rule.id)


def _storing(candidates: Candidates, found: Sequence[Sequence[Match]]) -> tuple[Rule, ...]:
    """The matching rules that have large results stored, in the order of their ids. Observing changes no result."""
    storing = [
        match.prepared.rule
        for scope, matches in zip(candidates.scopes, found, strict=True)
        for match in matches
        if match.prepared.rule.large is not None
        and scope.scope.mode is not Mode.OBSERVE
        and (match.doubt is None or match.prepared.rule.effect is not Effect.ALLOW)
    ]
    return tuple(sorted(storing, key=lambda rule: rule.id))


def _stored(rule: Rule) -> Obligation:
    assert rule.large is not None
    spec: Mapping[str, Json] = {"large_results": rule.large.over_bytes, "keep": rule.large.keep_bytes}
    return Obligation(kind=ObligationKind.LIMIT, spec=spec, rule=rule.id)


def _strictest(storing: Sequence[Rule]) -> LargeResults:
    said = [rule.large for rule in storing if rule.large is not None]
    return LargeResults(
        over_bytes=min(large.over_bytes for large in said), keep_bytes=min(large.keep_bytes for large in said)
    )


def _redacts(candidates: Candidates, found: Sequence[Sequence[Match]], part: Part) -> tuple[Obligation, ...]:
    """What the matching rules mask, in the order of their ids."""
    owed = [
        Obligation(
            kind=ObligationKind.REDACT,
            spec=one.spec(),
            rule=match.prepared.rule.id,
            observed=scope.scope.mode is Mode.OBSERVE or match.prepared.rule.observe,
        )
        for scope, matches in zip(candidates.scopes, found, strict=True)
        for match in matches
        if match.prepared.rule.redact and (match.doubt is None or match.prepared.rule.effect is not Effect.ALLOW)
        for one in match.prepared.rule.redact
        if one.part is part
    ]
    return tuple(sorted(owed, key=lambda one: one.rule))


def _masks(candidates: Candidates, found: Sequence[Sequence[Match]]) -> tuple[Mapping[str, Json], ...]:
    """What the record of a call leaves out. Observing changes that no more than it changes what is recorded."""
    if not candidates.redacts:
        return candidates.masks
    return (*candidates.masks, *(owed.spec for owed in _redacts(candidates, found, Part.TRACE)))


def _over_limit(limited: Iterable[Rule], size: int) -> Iterable[Objection]:
    for rule in limited:
        most = None if rule.limit is None else rule.limit.args_bytes
        if most is not None and size > most:
            text = f"{rule.text.rstrip('.')}; its arguments may have {most:,} bytes and have {size:,}"
            match = RuleMatch(id=rule.id, effect=Effect.DENY, text=text)
            yield Objection(match=match, reason=Reason.RULE_DENIED)


_PIN_TEXTS: dict[PinState, str] = {
    PinState.PINNED: "",
    PinState.NEW: "the tool is new and its definition was not reviewed",
    PinState.CHANGED: "the tool's definition changed",
    PinState.SHADOWED: "the tool's name imitates another tool's",
}
_MOVED = "the command or address of the tool's server changed"


def _about_definition(policy: Policy, tool: ToolDefinition) -> Iterable[Objection]:
    effect = policy.pins.effect(tool.pin)
    if effect is not None:
        reason = Reason.DEFINITION_CHANGED if tool.pin is PinState.CHANGED else Reason.RULE_DENIED
        text = _MOVED if tool.moved and tool.pin is PinState.CHANGED else _PIN_TEXTS[tool.pin]
        yield _objection(f"pins/{tool.pin}", effect, text, reason)


def _about_schema(policy: Policy, tool: ToolDefinition) -> Iterable[Objection]:
    if tool.properties is None:
        text = "the tool has no schema that its arguments could be checked against"
        yield _objection("arguments/no_schema", policy.arguments.no_schema, text, Reason.RULE_DENIED)


def _about_arguments(
    policy: Policy, tool: ToolDefinition, arguments: Mapping[str, Json], size: int, raw: bytes
) -> Iterable[Objection]:
    limits = policy.arguments
    if size > limits.max_bytes:
        text = f"arguments may have {limits.max_bytes:,} bytes and have {size:,}"
        yield _objection("arguments/max_bytes", Effect.DENY, text, Reason.ARGUMENTS_INVALID)
    # No value is nested deeper than it has opening brackets.
    if _opens_more(raw, limits.max_depth) and _depth(arguments, limits.max_depth) > limits.max_depth:
        text = f"arguments may be nested {limits.max_depth} deep and are nested deeper"
        yield _objection("arguments/max_depth", Effect.DENY, text, Reason.ARGUMENTS_INVALID)
    if tool.properties is not None and not tool.properties.issuperset(arguments):
        name = min(name for name in arguments if name not in tool.properties)
        text = f"argument {canonical(name[:60]).decode()} is not in the tool's schema"
        yield _objection("arguments/undeclared", limits.undeclared, text, Reason.ARGUMENTS_INVALID)


def _objection(name: str, effect: Effect, text: str, reason: Reason) -> Objection:
    return Objection(match=RuleMatch(id=name, effect=effect, text=text), reason=reason)


def _opens_more(raw: bytes, most: int) -> bool:
    """Whether there are more opening brackets than `most`. Finding the next one is quicker by far than to count all."""
    left = most
    for bracket in (b"{", b"["):
        at = raw.find(bracket)
        while at >= 0:
            if not left:
                return True
            left -= 1
            at = raw.find(bracket, at + 1)
    return False


def _depth(arguments: Mapping[str, Json], most: int) -> int:
    level: list[Json] = [dict(arguments)]
    depth = 0
    while level and depth <= most:
        depth += 1
        inner: list[Json] = []
        for value in level:
            held = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
            inner.extend(item for item in held if isinstance(item, Mapping | list))
        level = inner
    return depth


def _conclude(
    policy: Policy,
    candidates: Candidates,
    found: Sequence[Sequence[Match]],
    objections: Sequence[Objection],
) -> Decision:
    mode = policy.mode
    held = _across(candidates, found, () if mode is Mode.OBSERVE else objections, binding=True)
    would: Effect | None = None
    rules = held.rules
    if candidates.watches:
        full = _across(candidates, found, objections, binding=False)
        if mode is Mode.OBSERVE:
            would = full.effect
            rules = full.rules if held.effect is Effect.ALLOW else held.rules
        elif full.effect is not held.effect:
            would = full.effect
            rules = (*held.rules, *(rule for rule in full.rules if rule not in held.rules))
    return Decision(
        effect=held.effect, reason=held.reason, rules=rules, mode=mode, policy_digest=policy.digest, would=would
    )


def _across(
    candidates: Candidates, found: Sequence[Sequence[Match]], objections: Sequence[Objection], *, binding: bool
) -> Verdict:
    """Combine the scopes: the strictest holds, and an allow must come from one that may permit."""
    verdicts = [
        (scope, _within(scope, matches, binding=binding))
        for scope, matches in zip(candidates.scopes, found, strict=True)
    ]
    effects = [verdict.effect for _, verdict in verdicts if verdict is not None]
    effect = strictest([*effects, *(objection.match.effect for objection in objections)])
    permitted = any(
        verdict is not None and verdict.effect is Effect.ALLOW and scope.scope.kind.may_permit
        for scope, verdict in verdicts
    )
    if effect is None or (effect is Effect.ALLOW and not permitted):
        cell = candidates.scopes[-1].cell
        return _by_default(Effect.DENY if cell is Cell.CHECKED else Effect.ASK, cell)
    speaking = [verdict for _, verdict in verdicts if verdict is not None and verdict.effect is effect]
    standing = [objection for objection in objections if objection.match.effect is effect]
    rules = tuple(
        dict.fromkeys([*(one.match for one in standing), *(rule for verdict in speaking for rule in verdict.rules)])
    )
    return Verdict(effect=effect, rules=_named_first(rules), reason=_reason(effect, standing, speaking))


def _named_first(rules: tuple[RuleMatch, ...]) -> tuple[RuleMatch, ...]:
    """Let rules come before the default, so that the first one names the cause."""
    if len(rules) == 1:
        return rules
    return (*(rule for rule in rules if rule.id != DEFAULT), *(rule for rule in rules if rule.id == DEFAULT))


def _reason(effect: Effect, standing: Sequence[Objection], speaking: Sequence[Verdict]) -> Reason | None:
    match effect:
        case Effect.ALLOW:
            return None
        case Effect.ASK:
            if standing or any(verdict.reason is not Reason.RULE_ERROR for verdict in speaking):
                return Reason.NOBODY_TO_ASK
            return Reason.RULE_ERROR
        case Effect.DENY:
            for objection in standing:
                return objection.reason
            reasons = {verdict.reason for verdict in speaking}
            return next(reason for reason in _DENY_ORDER if reason in reasons)


_DENY_ORDER = (Reason.RULE_DENIED, Reason.RULE_ERROR, Reason.NO_RULE)


def _within(candidates: ScopeCandidates, matches: Sequence[Match], *, binding: bool) -> Verdict | None:
    """Combine the rules of one scope. `None`: it leaves the call to the others."""
    observing = binding and candidates.scope.mode is Mode.OBSERVE
    if binding:
        matches = [match for match in matches if not match.prepared.rule.observe]
    denies = [match for match in matches if match.prepared.rule.effect is Effect.DENY]
    if observing:
        denies = [match for match in denies if match.prepared.rule.hard]
    if denies:
        sure = any(match.doubt is None for match in denies)
        return _verdict(Effect.DENY, denies, Reason.RULE_DENIED if sure else Reason.RULE_ERROR)
    if observing:
        return Verdict(effect=Effect.ALLOW)
    asks = [match for match in matches if match.prepared.rule.effect is Effect.ASK]
    if any(match.doubt is None for match in asks):
        return _verdict(Effect.ASK, asks, Reason.NOBODY_TO_ASK)
    allows = [match for match in matches if match.prepared.rule.effect is Effect.ALLOW and match.doubt is None]
    below = _verdict(Effect.ALLOW, allows, None) if allows else _default(candidates)
    if asks and (below is None or below.effect.strictness < Effect.ASK.strictness):
        return _verdict(Effect.ASK, asks, Reason.RULE_ERROR)
    if asks and below is not None and below.effect is Effect.ASK:
        return Verdict(effect=Effect.ASK, rules=(*_shown(asks), *below.rules), reason=below.reason)
    return below


def _verdict(effect: Effect, matches: Sequence[Match], reason: Reason | None) -> Verdict:
    return Verdict(effect=effect, rules=_shown(matches), reason=reason)


def _shown(matches: Iterable[Match]) -> tuple[RuleMatch, ...]:
    """Name the matches: those that are certain first, each group by id, since order in a file means nothing."""
    return tuple(sorted((match.shown for match in matches), key=lambda rule: (bool(rule.unknown), rule.id)))


def _default(candidates: ScopeCandidates) -> Verdict | None:
    effect = candidates.default
    return None if effect is None else _by_default(effect, candidates.cell)


def _by_default(effect: Effect, cell: Cell) -> Verdict:
    reasons = {Effect.DENY: Reason.NO_RULE, Effect.ASK: Reason.NOBODY_TO_ASK, Effect.ALLOW: None}
    text = _DEFAULT_TEXTS[cell][effect]
    return Verdict(effect=effect, rules=(RuleMatch(id=DEFAULT, effect=effect, text=text),), reason=reasons[effect])
