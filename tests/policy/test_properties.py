"""Properties of the language over generated policies and calls; policies are made of rules, as `build` makes them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_kit import ADA, HOST, RUN, step, tool
from soothsayer_mcp.adapters.lab import LAB
from soothsayer_mcp.adapters.policy_files.build import Machine, build, digest_of
from soothsayer_mcp.model.call import Cause, PinState
from soothsayer_mcp.model.decision import Decision, Effect, Mode
from soothsayer_mcp.model.facts import NO_FACTS, Facts
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.answers import Unsure, every, opposite, some
from soothsayer_mcp.policy.decide import decide, visible
from soothsayer_mcp.policy.match import MATCHERS, Bench, prepare_argument
from soothsayer_mcp.policy.paths import Case, Place
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.prepared import Prepared
from soothsayer_mcp.policy.rules import Rule, Subject
from soothsayer_mcp.policy.scene import Scene
from soothsayer_mcp.policy.scopes import Scope

STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines that run tests are busy: how long an example takes says nothing."""

MACHINE = Machine(workspace="/w", home="/home/u", temp="/tmp", state="/state")
NAMES = ("fs.read", "fs.write", "db.query")
CELLS = ("read", "other", "checked")
TEXTS = (
    "/w/a",
    "/w/../etc/a",
    "~/.ssh/id",
    "a",
    "b",
    "https://a.test/",
    "10.0.0.1",
    "git log",
    "git log; rm x",
    "$x",
    "",
)

SPECS: dict[str, tuple[Json, ...]] = {
    "is": ("a", 1, True, None),
    "in": (["a", "b"], [1, 2.5]),
    "min": (1,),
    "max": (2,),
    "above": (0,),
    "below": (3,),
    "max_chars": (3,),
    "max_items": (1,),
    "matches": (["[a-z]+"],),
    "under": (["/w"], ["~/.ssh"]),
    "glob": (["**/a"], ["/etc/**"]),
    "host": (["a.test"], ["*.test"]),
    "scheme": (["https"],),
    "port": ([443],),
    "cidr": (["10.0.0.0/8"], ["private"]),
    "email_domain": (["a.test"],),
    "find": (["secret"], ["email", "phone"]),
    "argv0": (["git"],),
    "argv": (["git log"],),
    "no_flags": (["-c", "--x"],),
    "no_shell_syntax": (True,),
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
)
values: st.SearchStrategy[Json] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=5,
)
arguments: st.SearchStrategy[JsonObject] = st.dictionaries(
    st.sampled_from(["path", "url", "command", "x"]), values, max_size=3
)


@st.composite
def simple(draw: st.DrawFn) -> JsonObject:
    name = draw(st.sampled_from(sorted(SPECS)))
    return {name: draw(st.sampled_from(SPECS[name]))}


def negated(held: JsonObject) -> JsonObject:
    return {"not": held}


def chosen(held: list[JsonObject]) -> JsonObject:
    return {"any_of": list(held)}


def both(one: JsonObject, other: JsonObject) -> JsonObject:
    return {**one, **other}


def deeper(inner: st.SearchStrategy[JsonObject]) -> st.SearchStrategy[JsonObject]:
    return st.one_of(
        st.builds(negated, inner),
        st.builds(chosen, st.lists(inner, min_size=1, max_size=2)),
        st.builds(both, inner, inner),
    )


matchers: st.SearchStrategy[JsonObject] = st.recursive(simple(), deeper, max_leaves=4)
TERM_CONDITIONS = (
    'args.path == "a"',
    "has(args.x.a)",
    "args.x > 1",
    '"staff" in who.groups && tool.trust == "untrusted"',
    'args.exists(name, name == "url")',
)
CONDITIONS = (*TERM_CONDITIONS, "risk >= 30", 'risk < 5 || args.path == "b"')
KEYS = ("path", "url | x", "command", "x.a", "x[*]", "**")
EFFECTS = ("allow", "ask", "deny")


@st.composite
def rule_forms(draw: st.DrawFn, effects: Sequence[str] = EFFECTS) -> JsonObject:
    form: JsonObject = {
        "id": f"t/r{draw(st.integers(0, 10**9))}",
        "effect": draw(st.sampled_from(effects)),
        "text": "It fits.",
    }
    if draw(st.booleans()):
        form["tools"] = draw(st.sampled_from([["fs.*"], ["fs.read"], ["*.query"], ["fs.read", "db.*"]]))
    if draw(st.booleans()):
        keys = draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
        form["args"] = {key: draw(matchers) for key in keys}
    if draw(st.integers(0, 3)) == 0:
        form["does"] = draw(st.sampled_from([["read"], ["write", "unlabelled"], ["read", "write"]]))
    if draw(st.integers(0, 3)) == 0:
        form["who"] = draw(st.sampled_from([{"groups": ["staff"]}, {"sub": ["os:eve"]}, {"not": {"sub": ["os:eve"]}}]))
    if draw(st.integers(0, 5)) == 0:
        form["only_args"] = True
    if draw(st.integers(0, 3)) == 0:
        form["when"] = draw(st.sampled_from(CONDITIONS))
    if draw(st.integers(0, 3)) == 0:
        form["risk"] = draw(st.sampled_from([{"at_least": 30}, {"below": 30}, {"at_least": 10, "below": 60}]))
    if form["effect"] == "deny" and draw(st.integers(0, 4)) == 0:
        form["hard"] = True
    elif draw(st.integers(0, 6)) == 0:
        form["mode"] = "observe"
    return form


def label_form(tools: str, does: str) -> JsonObject:
    return {"tools": [tools], "does": [does]}


label_forms: st.SearchStrategy[list[JsonObject]] = st.lists(
    st.builds(label_form, st.sampled_from(["fs.read", "fs.*", "db.*"]), st.sampled_from(["read", "write"])), max_size=2
)


@st.composite
def term_forms(draw: st.DrawFn) -> JsonObject:
    form: JsonObject = {"add": draw(st.sampled_from([-20, 5, 30, 100])), "because": draw(st.sampled_from("abc"))}
    if draw(st.booleans()):
        form["tools"] = draw(st.sampled_from([["fs.*"], ["fs.read"]]))
    if draw(st.booleans()):
        form["args"] = {draw(st.sampled_from(KEYS)): draw(matchers)}
    if draw(st.booleans()):
        form["when"] = draw(st.sampled_from(TERM_CONDITIONS))
    return form


@st.composite
def scope_forms(draw: st.DrawFn, kind: str = "user", mode: str = "enforce", *, leaves: bool = False) -> JsonObject:
    default: JsonObject = {cell: draw(st.sampled_from(EFFECTS)) for cell in CELLS}
    if leaves and draw(st.booleans()):
        default = dict.fromkeys(CELLS, "leave")
    servers: JsonObject = {"fs": {"files": "local"}} if draw(st.booleans()) else {}
    return {
        "kind": kind,
        "name": "t",
        "mode": mode,
        "default": default,
        "risk": list(draw(st.lists(term_forms(), max_size=3))),
        "rules": list(draw(st.lists(rule_forms(), max_size=4, unique_by=lambda form: str(form["id"])))),
        "labels": list(draw(label_forms)),
        "servers": servers,
    }


def made(*scopes: JsonObject) -> Policy:
    form: JsonObject = {"name": "t", "about": "", "digest": digest_of(scopes, {}), "scopes": list(scopes)}
    return build(form, MACHINE, mode=None, sources={}, watch=())


HINTS: tuple[dict[str, Json], ...] = ({}, {"readOnlyHint": True}, {"destructiveHint": True})
LINKS: tuple[dict[str, str], ...] = ({}, {"/w/a": "/w/a"}, {"/w/a": "/etc/a", "/w/b": "/w/b"})


@st.composite
def calls(draw: st.DrawFn) -> tuple[ProposedStep, Facts]:
    definition = tool(
        draw(st.sampled_from(NAMES)),
        pin=draw(st.sampled_from([PinState.PINNED, PinState.PINNED, PinState.NEW, PinState.CHANGED])),
        annotations=draw(st.sampled_from(HINTS)),
    )
    links = draw(st.sampled_from(LINKS))
    return step(definition, draw(arguments)), Facts(links=links)


def ruled(policy: Policy, call: tuple[ProposedStep, Facts]) -> Decision:
    return decide(policy, RUN, *call)


def with_rules(form: JsonObject, rules: Sequence[Json]) -> JsonObject:
    return {**form, "rules": list(rules)}


def rules_of(form: JsonObject) -> list[Json]:
    rules = form["rules"]
    assert isinstance(rules, list)
    return rules


@STEADY
@given(scope_forms(), calls(), st.randoms(use_true_random=False))
def test_order_changes_no_decision(form: JsonObject, call: tuple[ProposedStep, Facts], random: Random) -> None:
    rules = list(rules_of(form))
    random.shuffle(rules)
    labels = form["labels"]
    assert isinstance(labels, list)
    terms = form["risk"]
    assert isinstance(terms, list)
    other = {**with_rules(form, rules), "labels": labels[::-1], "risk": terms[::-1]}
    assert ruled(made(form), call) == ruled(made(other), call)


@STEADY
@given(scope_forms(), rule_forms(effects=("deny",)), calls())
def test_one_more_deny_never_weakens(form: JsonObject, rule: JsonObject, call: tuple[ProposedStep, Facts]) -> None:
    before, after = ruled(made(form), call), ruled(made(with_rules(form, [*rules_of(form), rule])), call)
    assert after.effect.strictness >= before.effect.strictness


@STEADY
@given(scope_forms(), rule_forms(effects=("ask",)), calls())
def test_one_more_ask_lifts_no_rules_deny_and_yields_no_allow(
    form: JsonObject, rule: JsonObject, call: tuple[ProposedStep, Facts]
) -> None:
    before, after = ruled(made(form), call), ruled(made(with_rules(form, [*rules_of(form), rule])), call)
    if before.effect is Effect.DENY and any(
        match.effect is Effect.DENY and match.id != "default" for match in before.rules
    ):
        assert after.effect is Effect.DENY
    if before.effect is not Effect.ALLOW:
        assert after.effect is not Effect.ALLOW


@STEADY
@given(scope_forms(), rule_forms(effects=("allow",)), calls())
def test_one_more_allow_never_tightens(form: JsonObject, rule: JsonObject, call: tuple[ProposedStep, Facts]) -> None:
    before, after = ruled(made(form), call), ruled(made(with_rules(form, [*rules_of(form), rule])), call)
    if {match.id for match in before.rules} == {"default"} and before.effect is Effect.ALLOW:
        assert after.effect is Effect.ALLOW
    assert after.effect.strictness <= before.effect.strictness or before.effect is Effect.ALLOW


def random_rule(random: Random) -> JsonObject:
    """A rule as `rule_forms` makes them, at a hundredth of the cost: for the tests that need thousands."""
    name = random.choice(sorted(SPECS))
    spec: JsonObject = {name: random.choice(SPECS[name])}
    if random.random() < 0.3:
        spec = {"not": spec}
    form: JsonObject = {"id": f"t/r{random.random()}", "effect": random.choice(EFFECTS), "text": "It fits."}
    if random.random() < 0.6:
        form["tools"] = [random.choice(["fs.*", "fs.read", "*.query", "db.*"])]
    if random.random() < 0.6:
        form["args"] = {random.choice(KEYS): spec}
    if random.random() < 0.3:
        form["does"] = list(random.choice([["read"], ["write", "unlabelled"], ["read", "write"]]))
    if random.random() < 0.2:
        form["who"] = {"groups": ["staff"]}
    return form


def random_scope(random: Random, kind: str) -> JsonObject:
    words = ["leave"] if kind != "user" and random.random() < 0.5 else EFFECTS
    labels: list[Json] = [{"tools": [random.choice(["fs.read", "fs.*"])], "does": [random.choice(["read", "write"])]}]
    return {
        "kind": kind,
        "name": "t",
        "mode": "enforce",
        "default": {cell: random.choice(words) for cell in CELLS},
        "rules": [random_rule(random) for _ in range(random.randrange(4))],
        "labels": labels[: random.randrange(2)],
    }


def random_value(random: Random) -> Json:
    value: Json = random.choice([*TEXTS, 1, 2.5, True, None])
    return [value, random.choice(TEXTS)] if random.random() < 0.2 else value


def random_call(random: Random) -> ProposedStep:
    definition = tool(random.choice(NAMES), annotations=random.choice(HINTS))
    return step(definition, {name: random_value(random) for name in random.sample(["path", "url", "command", "x"], 2)})


@pytest.mark.pitfall("P-POLICY-04")
def test_ten_thousand_projects_loosen_nothing() -> None:
    random = Random(4)
    tightened = 0
    for _ in range(2_000):
        organisation, user = random_scope(random, "org"), random_scope(random, "user")
        others = made(organisation, user)
        for _ in range(5):
            project, call = random_scope(random, "project"), random_call(random)
            without = decide(others, RUN, call, NO_FACTS)
            with_project = decide(made(organisation, project, user), RUN, call, NO_FACTS)
            assert with_project.effect.strictness >= without.effect.strictness, (organisation, project, user, call)
            tightened += with_project.effect is not without.effect
    assert tightened > 500


@STEADY
@given(scope_forms("org", leaves=True), scope_forms("user"), scope_forms("project", leaves=True), calls())
def test_a_project_never_loosens(
    organisation: JsonObject, user: JsonObject, project: JsonObject, call: tuple[ProposedStep, Facts]
) -> None:
    without, with_project = made(organisation, user), made(organisation, project, user)
    # What is local is told to all scopes alike, so that only the project's say differs.
    with_project._places = without._places
    assert ruled(with_project, call).effect.strictness >= ruled(without, call).effect.strictness


@STEADY
@given(scope_forms("org"), scope_forms("user"), calls())
def test_a_user_never_loosens_what_the_organisation_did_not_leave(
    organisation: JsonObject, user: JsonObject, call: tuple[ProposedStep, Facts]
) -> None:
    alone, both = made(organisation), made(organisation, user)
    alone._places = both._places
    assert ruled(both, call).effect.strictness >= ruled(alone, call).effect.strictness


@STEADY
@given(scope_forms(), calls())
def test_a_fact_that_is_missing_never_weakens(form: JsonObject, call: tuple[ProposedStep, Facts]) -> None:
    proposed, facts = call
    policy = made(form)
    known = {path: facts.links.get(path, path) for path in policy.questions(proposed).links}
    with_facts = decide(policy, RUN, proposed, Facts(links=known))
    assert decide(policy, RUN, proposed, NO_FACTS).effect.strictness >= with_facts.effect.strictness


@STEADY
@given(matchers, st.sampled_from(KEYS), arguments, st.booleans(), st.booleans())
def test_matchers_are_total(
    spec: JsonObject, key: str, given_arguments: JsonObject, wants_every: bool, local: bool
) -> None:
    place = Place(root="/w", home="/home/u", case=Case.UNKNOWN, local=local)
    test = prepare_argument(key, spec, Bench(place=place, lab=LAB, every=wants_every))
    scene = Scene(
        arguments=given_arguments, principal=ADA, client=HOST, cause=Cause.AGENT, now_us=0, links={"/w/a": "/etc/a"}
    )
    answer = test.answer(scene)
    assert answer is True or answer is False or isinstance(answer, Unsure)


@STEADY
@given(simple(), arguments, st.booleans())
def test_a_doubled_not_and_a_choice_of_one_change_nothing(
    spec: JsonObject, given_arguments: JsonObject, wants_every: bool
) -> None:
    bench = Bench(place=Place(root="/w", home="/home/u"), lab=LAB, every=wants_every)

    def answer(held: JsonObject) -> bool | None:
        scene = Scene(arguments=given_arguments, principal=ADA, client=HOST, cause=Cause.AGENT, now_us=0, links={})
        found = prepare_argument("path", held, bench).answer(scene)
        return None if isinstance(found, Unsure) else found

    assert answer({"not": {"not": spec}}) is answer(spec)
    assert answer({"any_of": [spec]}) is answer(spec)


def test_every_matcher_is_generated_here() -> None:
    assert set(SPECS) | {"not", "any_of"} == set(MATCHERS)


@STEADY
@given(scope_forms(), calls())
def test_what_only_observes_tells_what_enforcing_does(form: JsonObject, call: tuple[ProposedStep, Facts]) -> None:
    binding = [rule for rule in rules_of(form) if isinstance(rule, dict) and "mode" not in rule]
    enforcing = ruled(made(with_rules(form, binding)), call)
    observing = ruled(made({**with_rules(form, binding), "mode": "observe"}), call)
    assert observing.mode is Mode.OBSERVE
    assert observing.would is enforcing.effect
    hard = {str(rule["id"]) for rule in binding if "hard" in rule}
    held = enforcing.effect is Effect.DENY and bool(hard & {match.id for match in enforcing.rules})
    assert observing.effect is (Effect.DENY if held else Effect.ALLOW)


@pytest.mark.pitfall("P-POLICY-06")
def test_hidden_is_denied_whatever_the_arguments_and_the_other_way_round() -> None:
    """A thousand random policies. That no other face shows a hidden name is the proxy's part of the row."""
    random = Random(6)
    hidden = 0
    for _ in range(1_000):
        policy = made(random_scope(random, "user"))
        for _ in range(5):
            call = random_call(random)
            definition = call.tool
            assert definition is not None
            decision = decide(policy, RUN, call, NO_FACTS)
            (scope,) = policy.candidates(definition).scopes
            without_a_look = [one for one in scope.prepared if not one.arguments]
            if not visible(policy, definition, ADA):
                hidden += 1
                assert decision.effect is Effect.DENY
            else:
                # Nothing denies it but for its arguments: no rule without a look at them, and not the default alone.
                assert not any(_denies(one, call) for one in without_a_look)
                assert scope.default is not Effect.DENY or any(
                    one.rule.effect is not Effect.DENY for one in scope.prepared
                )
    assert hidden > 500


def _denies(prepared: Prepared, call: ProposedStep) -> bool:
    scene = Scene(arguments=call.proposal.arguments, principal=ADA, client=HOST, cause=Cause.AGENT, now_us=0, links={})
    return prepared.rule.effect is Effect.DENY and prepared.answer(scene) is True


@STEADY
@given(scope_forms(), calls())
def test_the_index_and_a_plain_scan_agree(form: JsonObject, call: tuple[ProposedStep, Facts]) -> None:
    policy = made(form)
    proposed, facts = call
    definition = proposed.tool
    assert definition is not None
    (scope,) = policy.candidates(definition).scopes
    scene = Scene(
        arguments=proposed.proposal.arguments,
        principal=ADA,
        client=HOST,
        cause=Cause.AGENT,
        now_us=proposed.proposed_at_us,
        links=facts.links,
    )
    indexed = {one.rule.id for one in scope.prepared if one.answer(scene) is not False}
    subject = Subject(server=definition.server, tool=definition.name, does=scope.does, pin=definition.pin)
    scanned: set[str] = set()
    for rule in scope.scope.rules:
        # A rule stripped of what is settled beforehand is a candidate everywhere: then all is asked at the call.
        bare = replace(rule, tools=(), excepts=(), does=frozenset(), pins=frozenset())
        alone = policy.with_scopes([replace(scope.scope, rules=(bare,))]).candidates(definition).scopes[0].prepared
        if _concerned(rule, subject) and alone and alone[0].answer(scene) is not False:
            scanned.add(rule.id)
    assert indexed == scanned


def _concerned(rule: Rule, subject: Subject) -> bool:
    """What a rule is about, said another way than the index says it."""
    full = f"{subject.server}.{subject.tool}"
    patterns = {f"{pattern.server}.{pattern.tool}" for pattern in rule.tools}
    fitting = {full, f"{subject.server}.*", f"*.{subject.tool}"}
    if patterns and not patterns & fitting:
        return False
    if not rule.does:
        return True
    return subject.does <= rule.does if rule.effect is Effect.ALLOW else bool(subject.does & rule.does)


@STEADY
@given(st.sampled_from(["/home/u/.ssh/id", "~/.ssh/id", "/w/../home/u/.ssh/id"]), st.data())
def test_no_spelling_of_a_denied_path_is_allowed(path: str, data: st.DataObject) -> None:
    def respell(text: str) -> str:
        how = data.draw(st.sampled_from(["percent", "dots", "slashes", "case", "backslash", "file", "none"]))
        match how:
            case "percent":
                return "".join(
                    f"%{ord(char):02x}" if char.isalpha() and data.draw(st.booleans()) else char for char in text
                )
            case "dots":
                return text.replace("/", "/./", 1) if text.startswith("/") else text
            case "slashes":
                return text.replace("/.ssh", "//.ssh")
            case "case":
                return text.upper()
            case "backslash":
                return text.replace("/.ssh/", "\\.ssh\\")
            case "file":
                return "file://" + text if text.startswith("/") else text
            case _:
                return text

    spelt = path
    for _ in range(data.draw(st.integers(0, 3))):
        spelt = respell(spelt)
    if data.draw(st.booleans()):
        spelt = json.dumps([spelt])
    rule: JsonObject = {"id": "t/keys", "effect": "deny", "text": "Keys.", "args": {"path": {"under": ["~/.ssh"]}}}
    form: JsonObject = {
        "kind": "user",
        "name": "t",
        "mode": "enforce",
        "default": cells_of("allow"),
        "rules": [rule],
        "labels": [],
    }
    assert ruled(made(form), (step("fs.read", {"path": spelt}), NO_FACTS)).effect is Effect.DENY, spelt


answers = st.sampled_from([True, False, Unsure("why")])


@STEADY
@given(st.lists(answers), st.lists(answers))
def test_the_three_answers_follow_their_tables(left: list[bool | Unsure], right: list[bool | Unsure]) -> None:
    joined = [*left, *right]
    assert every(joined) == every([every(left), every(right)])
    assert some(joined) == some([some(left), some(right)])
    assert opposite(every(joined)) == some(map(opposite, joined))
    assert (every(joined) is False) is any(answer is False for answer in joined)
    assert (some(joined) is True) is any(answer is True for answer in joined)


def cells_of(word: str) -> JsonObject:
    return dict.fromkeys(CELLS, word)


def test_scopes_alone_decide_by_the_strictest() -> None:
    """All four words of each of two scopes, written out."""
    order = ["leave", "allow", "ask", "deny"]
    for first in order:
        for second in order[1:]:
            policy = made(
                {"kind": "org", "name": "t", "mode": "enforce", "default": cells_of(first)},
                {"kind": "user", "name": "t", "mode": "enforce", "default": cells_of(second)},
            )
            assert isinstance(policy.scopes[0], Scope)
            assert ruled(policy, (step("fs.read"), NO_FACTS)).effect == max(first, second, key=order.index)
    only_project = made(
        {"kind": "org", "name": "t", "mode": "enforce", "default": cells_of("leave")},
        {"kind": "project", "name": "t", "mode": "enforce", "default": cells_of("allow")},
    )
    assert ruled(only_project, (step("fs.read"), NO_FACTS)).effect is Effect.ASK


@STEADY
@given(scope_forms(), st.lists(calls(), min_size=2, max_size=6))
def test_a_policy_that_has_decided_before_decides_as_a_fresh_one(
    form: JsonObject, made_calls: list[tuple[ProposedStep, Facts]]
) -> None:
    """What `decide` remembers of earlier calls changes no answer, and no text in one."""
    seasoned = made(form)
    for proposed, _ in [*made_calls, *made_calls]:
        assert decide(seasoned, RUN, proposed, NO_FACTS) == decide(made(form), RUN, proposed, NO_FACTS)
