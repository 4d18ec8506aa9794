"""What a policy settles once for a tool: which rules concern it, what its calls count for, and what they are asked."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_kit import ADA, HOST, NOW_US, RUN, judge, policy_from, rule_ids, step, tool
from soothsayer_mcp.model.call import CONTROL, Cause, Client, PinState, Principal
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import NO_FACTS, NO_QUESTIONS
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.undo import UndoClass
from soothsayer_mcp.policy.answers import Answer, Unsure, every, some
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.prepared import Prepared
from soothsayer_mcp.policy.rules import Rule, Who
from soothsayer_mcp.policy.scene import Scene, SceneTest
from soothsayer_mcp.policy.scopes import ScopeKind

OPEN = "default: {read: allow, other: allow}\narguments: {undeclared: allow}\n"
RULE = Rule(id="t/r", effect=Effect.DENY, text="It.")
ANSWERS = st.sampled_from([True, False, Unsure("one"), Unsure("two")])


def a_scene(
    arguments: dict[str, Json] | None = None, *, now_us: int | None = NOW_US, client: Client | None = HOST
) -> Scene:
    return Scene(arguments=arguments, principal=ADA, client=client, cause=Cause.AGENT, now_us=now_us, links={})


def always(answer: Answer) -> SceneTest:
    return lambda _: answer


@given(st.none() | st.just(Unsure("broken")), st.lists(ANSWERS, max_size=4))
def test_a_rule_matches_when_all_its_tests_do_and_its_first_doubt_is_told(
    broken: Unsure | None, answers: list[Answer]
) -> None:
    tests = tuple((str(number), always(answer)) for number, answer in enumerate(answers))
    prepared = Prepared(rule=RULE, arguments=(), tests=tests, broken=broken)
    plainly = False if False in answers else next((one for one in [broken, *answers] if isinstance(one, Unsure)), True)
    assert prepared.answer(a_scene()) == plainly
    assert every(answers) == (False if False in answers else next((one for one in answers if one is not True), True))
    assert some(answers) == (True if True in answers else next((one for one in answers if one is not False), False))


def test_a_matcher_that_fails_is_a_doubt_that_says_so() -> None:
    def fail(_: Scene) -> Answer:
        raise KeyError

    answer = Prepared(rule=RULE, arguments=(), tests=(("x", fail),)).answer(a_scene())
    assert isinstance(answer, Unsure)
    assert answer.why == "a matcher failed: KeyError"


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (Who(), True),
        (Who(sub=frozenset({"os:ada"})), True),
        (Who(sub=frozenset({"os:eve"})), False),
        (Who(groups=frozenset({"staff", "other"})), True),
        (Who(groups=frozenset({"other"})), False),
        (Who(client=frozenset({"host"})), True),
        (Who(client=frozenset({"other"})), False),
        (Who(but=Who(sub=frozenset({"os:ada"}))), False),
        (Who(sub=frozenset({"os:ada"}), but=Who(groups=frozenset({"other"}))), True),
        (Who(sub=frozenset({"os:ada"}), groups=frozenset({"other"})), False),
    ],
)
def test_a_caller_fits_when_every_part_does(who: Who, expected: bool) -> None:
    assert who.answer(a_scene()) is expected


def test_what_is_not_known_of_a_call_yet_is_a_doubt_that_says_what(tmp_path: Path) -> None:
    rules = (
        'rules:\n  - {allow: "A.", id: a, tools: fs.a, expires: "2999-01-01"}\n'
        '  - {allow: "B.", id: b, tools: fs.b, args: {x: {is: 1, absent: ok}}, only_args: true}\n'
        '  - {deny: "C.", id: c, tools: fs.c, who: {client: host}}\n'
    )
    policy = policy_from(OPEN + rules, tmp_path)
    whys: list[str] = []
    for name in "abc":
        (prepared,) = policy.candidates(tool(f"fs.{name}")).scopes[-1].prepared
        answer = prepared.answer(a_scene(now_us=None, client=None))
        assert isinstance(answer, Unsure)
        whys.append(answer.why)
    assert whys == ["the time is not known yet", "arguments are not known yet", "the client is not known yet"]


def test_a_rule_is_about_the_tools_that_it_names_but_those_that_it_leaves_out(tmp_path: Path) -> None:
    rules = 'rules:\n  - {deny: "No.", id: r, tools: "fs.* | mail.send", except: "fs.read | *.stat"}\n'
    policy = policy_from(OPEN + rules, tmp_path)
    denied = [
        name
        for name in ("fs.read", "fs.stat", "fs.write", "mail.send", "db.query")
        if judge(policy, name).rules[0].id == "t/r"
    ]
    assert denied == ["fs.write", "mail.send"]


def test_a_rule_is_written_with_its_effect_or_with_also() -> None:
    assert [replace(RULE, effect=effect).head for effect in (Effect.ASK, None)] == ["ask", "also"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["none"], UndoClass.NONE),
        (["none", "restore"], UndoClass.RESTORE),
        (["never", "restore"], UndoClass.NEVER),
        (["none", "never"], UndoClass.NEVER),
    ],
)
def test_of_what_labels_say_of_undoing_the_word_that_promises_least_holds(
    words: list[str], kind: UndoClass, tmp_path: Path
) -> None:
    labels = "".join(
        f"  - {{tools: fs.write, does: write, touches: file(args.path), undo: {word}}}\n" for word in words
    )
    policy = policy_from(f"{OPEN}servers: {{fs: {{files: local}}}}\nlabels:\n{labels}", tmp_path)
    undo = judge(policy, "fs.write", {"path": "/w/a"}).dues.undo
    assert undo is not None
    assert undo.kind is kind


def test_our_own_tools_are_reads_that_who_may_permit_lets_pass_and_nobody_else_speaks_of(tmp_path: Path) -> None:
    policy = policy_from("default: deny\n", tmp_path, project="default: deny\n")
    own = policy.candidates(tool(f"{CONTROL}.run"))
    by_scope = {one.scope.kind: one.default for one in own.scopes}
    assert by_scope == {ScopeKind.PROJECT: None, ScopeKind.USER: Effect.ALLOW}
    decision = judge(policy, f"{CONTROL}.run", cause=Cause.CONTROL)
    assert (decision.effect, decision.does) == (Effect.ALLOW, ("read",))
    assert judge(policy, "fs.run").effect is Effect.DENY


def test_a_call_counts_for_what_its_labels_say(tmp_path: Path) -> None:
    labels = (
        "labels:\n  - {tools: fs.read, does: read}\n  - {tools: fs.poll, does: read, polling: 5s}\n"
        "  - {tools: 'fs.p*', does: read, polling: 2s}\n  - {tools: fs.pay, does: pay, cost: 2}\n"
    )
    policy = policy_from(OPEN + labels, tmp_path)
    charges = {name: judge(policy, f"fs.{name}").charge for name in ("read", "poll", "pay", "other")}
    assert [charges[name].write for name in ("read", "poll", "pay", "other")] == [False, False, True, True]
    assert [charges[name].polling_us for name in ("read", "poll", "pay", "other")] == [0, 5_000_000, 2_000_000, 0]
    assert [charges[name].cost_micro for name in ("read", "poll", "pay", "other")] == [0, 0, 2_000_000, 0]


DENIES = "default: {read: deny, other: deny, checked: deny}\narguments: {undeclared: deny, no_schema: deny}\n"
PINS = "pins: {new: deny, changed: deny, shadowed: deny}\n"


@pytest.mark.parametrize(
    ("text", "can"),
    [
        (DENIES + PINS, False),
        (DENIES.replace("read: deny", "read: ask") + PINS, True),
        (DENIES.replace("other: deny", "other: ask") + PINS, True),
        (DENIES.replace("checked: deny", "checked: ask") + PINS, False),
        (DENIES.replace("undeclared: deny", "undeclared: ask") + PINS, True),
        (DENIES.replace("no_schema: deny", "no_schema: ask") + PINS, True),
        (DENIES + PINS.replace("new: deny", "new: ask"), True),
        (DENIES + PINS.replace("changed: deny", "changed: ask"), True),
        (DENIES + PINS.replace("shadowed: deny", "shadowed: ask"), True),
        (DENIES + PINS + 'rules: [{ask: "Well?", tools: fs.a}]\n', True),
        (DENIES + PINS + 'rules: [{deny: "No.", tools: fs.a}]\n', False),
    ],
)
def test_a_policy_knows_whether_any_call_could_be_asked_about(text: str, can: bool, tmp_path: Path) -> None:
    assert policy_from(text, tmp_path).can_ask is can


def test_steps_of_a_run_are_counted_under_the_tools_that_a_rule_looks_back_at(tmp_path: Path) -> None:
    rules = (
        'rules:\n  - {deny: "First.", tools: fs.push, unless_after: {tools: "fs.test | ci.*", except: ci.lint}}\n'
        '  - {deny: "Often.", tools: fs.push, history: {count: calls, per: principal, window: 1h, above: 9}}\n'
    )
    policy = policy_from(OPEN + rules, tmp_path)
    assert list(policy.marks.values()) == [(["ci.*", "fs.test"], ["ci.lint"])]


def test_nothing_is_asked_about_a_tool_that_nobody_offers_or_that_no_rule_looks_further_at(tmp_path: Path) -> None:
    looks = (
        'rules: [{deny: "No keys.", tools: fs.read, args: {path: {under: "~/.ssh"}}}]\nservers: {fs: {files: local}}\n'
    )
    policy = policy_from(OPEN + looks, tmp_path)
    call = step("fs.read", {"path": "/w/a"})
    assert "/w/a" in policy.questions(call).links
    assert policy.questions(replace(call, tool=None)) == NO_QUESTIONS
    assert policy.questions(step("fs.write", {"path": "/w/a"})) == NO_QUESTIONS


REDACTS = (
    "rules:\n"
    '  - {also: "Mail.", id: mail, tools: fs.read, redact: [{in: result, find: email}]}\n'
    '  - {also: "Kept.", id: kept, tools: fs.write, redact: [{in: trace, find: email}]}\n'
)


def test_a_result_is_masked_by_what_its_decision_owes_and_the_record_by_what_is_kept(tmp_path: Path) -> None:
    policy = policy_from(OPEN + REDACTS, tmp_path)
    reading, writing = judge(policy, "fs.read"), judge(policy, "fs.write")
    redactor = policy.redactor(reading, observed=False)
    assert redactor is not None
    assert redactor is policy.redactor(reading, observed=False)
    assert redactor.concerns_bytes(b"ann@a.test")
    assert not redactor.concerns_bytes(b"nobody")
    assert policy.redactor(reading, observed=True) is None
    assert policy.redactor(writing, observed=False) is None
    assert policy.keeper(reading.masks) is None
    keeper = policy.keeper(writing.masks)
    assert keeper is not None
    assert keeper.concerns_bytes(b"ann@a.test")
    always_kept = policy_from(f"{OPEN}trace: {{payloads: full, mask: [email]}}\n", tmp_path)
    assert always_kept.keeper(()) is not None


def test_what_decides_beside_the_call_is_named_where_it_decides(tmp_path: Path) -> None:
    paths = 'rules: [{deny: "No keys.", tools: fs.read, args: {path: {under: "~/.ssh"}}}]\n'
    policy = policy_from(OPEN + paths, tmp_path)
    contexts = [dict(judge(policy, name).context) for name in ("fs.read", "fs.write")]
    assert contexts == [{"root": "/w", "home": "/home/u"}, {}]
    fresh = dict(judge(policy, tool("fs.write", pin=PinState.NEW)).context)
    assert fresh == {"definition": "new"}
    conditional = policy_from(f"{OPEN}rules: [{{deny: 'Big.', tools: fs.read, when: 'args.n > 3'}}]\n", tmp_path)
    assert judge(conditional, "fs.read", {"n": 1}).context["workspace"] == "/w"
    assert "workspace" not in judge(conditional, "fs.write").context


def test_two_looks_at_one_policy_find_the_same_candidates_and_a_changed_definition_others(tmp_path: Path) -> None:
    policy = policy_from(OPEN, tmp_path)
    one = tool("fs.read")
    assert policy.candidates(one) is policy.candidates(one)
    assert policy.candidates(replace(one, pin=PinState.NEW)) is not policy.candidates(one)
    first = policy.candidates(one)
    other = tool("fs.read", annotations={"readOnlyHint": True})
    assert policy.candidates(other) is not first
    assert policy.message_candidates("fs", "a") is policy.message_candidates("fs", "a")


def test_a_rule_with_people_of_another_principal_is_about_that_principal(tmp_path: Path) -> None:
    policy = policy_from(f'{OPEN}rules: [{{deny: "Not you.", id: you, who: {{sub: "os:eve"}}}}]\n', tmp_path)
    eve = Principal(id="os:eve", how="os_account")
    assert rule_ids(judge(policy, "fs.read", principal=eve)) == ["t/you"]
    assert rule_ids(judge(policy, "fs.read")) == ["default"]
    assert decide(policy, RUN, step("fs.read", principal=eve), NO_FACTS).effect is Effect.DENY
    assert isinstance(policy, Policy)
