"""Decisions to the last field: who is refused whatever policy says, what a doubt still owes, what is on record."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from policy_kit import ADA, HOST, NOW_US, RUN, judge, policy_from, rule_ids, step, tool
from soothsayer_mcp.model.ask import AskTerms, Remember
from soothsayer_mcp.model.call import Cause, PinState
from soothsayer_mcp.model.decision import Effect, Mode, ObligationKind, RuleMatch
from soothsayer_mcp.model.dues import NOTHING_DUE, Dues
from soothsayer_mcp.model.facts import NO_FACTS, Facts, Origin, Seen, Tally
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.following import OnFailure
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.model.run import Counters, RunScope
from soothsayer_mcp.policy.decide import bars_undo, decide, decide_message, visible
from soothsayer_mcp.policy.policy import Policy

OPEN = "default: {read: allow, other: allow}\narguments: {undeclared: allow}\n"
LIMITED = '  - {also: "Quick.", id: quick, limit: {timeout: 5s}}\n'
NOBODY = cast("Policy", None)
REQUEST = Message(server="fs", method="resources/read", params={}, principal=ADA, client=HOST, at_us=NOW_US)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_call_of_the_selftest_is_refused_whatever_policy_and_mode_say(mode: Mode, tmp_path: Path) -> None:
    decision = judge(policy_from(f"{OPEN}rules:\n{LIMITED}", tmp_path, mode=mode), "fs.read", cause=Cause.SELFTEST)
    assert (decision.effect, decision.reason, decision.obligations) == (Effect.DENY, Reason.RULE_DENIED, ())
    assert decision.rules == (
        RuleMatch(id="selftest/forbidden", effect=Effect.DENY, text="the self-test's call is never sent"),
    )


def test_a_request_that_is_no_call_owes_what_the_rules_about_it_mask(tmp_path: Path) -> None:
    rules = 'rules:\n  - {also: "Masked.", id: m, tools: "fs.@*", redact: [{in: result, find: email}]}\n'
    head = "default: {read: allow, other: allow, checked: allow}\n"
    masked = decide_message(policy_from(head + rules, tmp_path), REQUEST, NO_FACTS)
    assert [(owed.kind, owed.rule) for owed in masked.obligations] == [(ObligationKind.REDACT, "t/m")]
    assert decide_message(policy_from(head, tmp_path), REQUEST, NO_FACTS).obligations == ()


@pytest.mark.parametrize(
    ("rules", "pin", "barred"),
    [
        ("", PinState.PINNED, False),
        ('rules: [{deny: "No.", tools: fs.write}]\n', PinState.PINNED, True),
        ('rules: [{deny: "No.", tools: fs.write, args: {x: {min: 3}}}]\n', PinState.PINNED, False),
        ('rules: [{ask: "Well?", tools: fs.write}]\n', PinState.PINNED, False),
        ('rules: [{deny: "Not by agents.", tools: fs.write, cause: agent}]\n', PinState.PINNED, False),
        ("", PinState.CHANGED, True),
        ("", PinState.NEW, False),
    ],
)
def test_an_undo_is_barred_by_what_denies_it_whatever_it_says(
    rules: str, pin: PinState, barred: bool, tmp_path: Path
) -> None:
    assert bars_undo(policy_from(OPEN + rules, tmp_path), tool("fs.write", pin=pin), ADA) is barred


def test_a_fault_of_ours_bars_denies_and_hides(tmp_path: Path) -> None:
    assert bars_undo(NOBODY, tool("fs.write"), ADA) is True
    policy = policy_from(OPEN, tmp_path)
    broken = replace(step("fs.read"), proposal=None)  # type: ignore[arg-type]  # a fault of ours
    decision = decide(policy, RUN, broken, NO_FACTS)
    assert (decision.effect, decision.reason, decision.mode) == (Effect.DENY, Reason.INTERNAL_ERROR, Mode.ENFORCE)
    assert decision.policy_digest == policy.digest
    assert decide_message(policy, cast("Message", None), NO_FACTS).reason is Reason.INTERNAL_ERROR


def test_a_tool_without_a_schema_is_hidden_where_policy_denies_it_and_the_same_tool_with_one_is_shown(
    tmp_path: Path,
) -> None:
    policy = policy_from("default: {read: allow, other: allow}\narguments: {no_schema: deny}\n", tmp_path)
    bare = replace(tool("fs.read"), properties=None)
    assert [visible(policy, one, ADA) for one in (bare, tool("fs.read"), bare)] == [False, True, False]


OWING = (
    "limit: {{timeout: 5s}}, redact: [{{in: result, find: email}}, {{in: trace, find: iban}}],"
    " on_failure: {{tool_error: stop}}, large_results: {{over: 4kB, keep: 1kB}},"
    " require: [{{step: {{tools: fs.test}}}}]"
)


@pytest.mark.parametrize(
    ("head", "value", "owes"),
    [("allow", 5, True), ("allow", "doubt", False), ("also", 5, True), ("also", "doubt", True), ("also", 0, False)],
)
def test_an_allow_in_doubt_owes_nothing_and_everything_else_in_doubt_owes_all(
    head: str, value: int | str, owes: bool, tmp_path: Path
) -> None:
    rules = f'rules:\n  - {{{{{head}: "It.", id: it, tools: fs.write, args: {{{{x: {{{{min: 1}}}}}}}}, {OWING}}}}}\n'
    decision = judge(policy_from(OPEN + rules.format(), tmp_path), "fs.write", {"x": value})
    assert decision.effect is Effect.ALLOW
    kinds = [owed.kind.value for owed in decision.obligations]
    assert kinds == (["limit", "redact", "require", "limit"] if owes else [])
    assert decision.timeout_s == (5 if owes else None)
    assert [dict(one) for one in decision.on_failure] == ([{"tool_error": OnFailure.STOP}] if owes else [])
    assert (decision.large is not None) is owes
    assert len(decision.masks) == int(owes)
    assert bool(decision.dues.require) is owes


def test_a_refused_call_owes_nothing_though_rules_match_that_ask_for_much(tmp_path: Path) -> None:
    rules = f'rules:\n  - {{also: "It.", id: it, {OWING.format()}}}\n  - {{deny: "No.", tools: fs.write}}\n'
    decision = judge(policy_from(OPEN + rules, tmp_path), "fs.write")
    assert (decision.effect, decision.obligations, decision.large) == (Effect.DENY, (), None)
    assert decision.dues is NOTHING_DUE


def test_a_check_owes_nothing_and_an_undo_owes_what_was_declared_for_it(tmp_path: Path) -> None:
    labels = "labels: [{tools: fs.write, does: read}]\n"
    policy = policy_from(f'{OPEN}{labels}rules: [{{also: "It.", id: it, {OWING.format()}}}]\n', tmp_path)
    probe = judge(policy, "fs.write", cause=Cause.PROBE)
    assert (probe.effect, probe.reason, probe.dues) == (Effect.ALLOW, None, NOTHING_DUE)
    declared = Dues(opens=("file:/w/a",))
    undo = decide(policy, RUN, replace(step("fs.write", cause=Cause.UNDO), owes=declared), NO_FACTS)
    assert undo.dues is declared
    assert judge(policy, "fs.write").dues.require != ()


def test_a_check_is_refused_by_what_asks_or_denies_and_not_by_what_policy_lets_pass(tmp_path: Path) -> None:
    for word, refused in [("allow", []), ("ask", ["arguments/no_schema"]), ("deny", ["arguments/no_schema"])]:
        text = f"default: deny\narguments: {{no_schema: {word}}}\nlabels: [{{tools: fs.read, does: read}}]\n"
        bare = replace(tool("fs.read"), properties=None)
        assert rule_ids(judge(policy_from(text, tmp_path), bare, cause=Cause.PROBE)) == refused


@pytest.mark.parametrize(
    ("owed", "kind"),
    [
        ("require: [{step: {tools: fs.test}}]", "require"),
        ("verify: [{schema: {result: {type: object}}}]", "verify"),
        ("undo: {restore: file(args.path)}", "undo"),
    ],
)
def test_each_kind_of_due_is_an_obligation_of_its_own(owed: str, kind: str, tmp_path: Path) -> None:
    text = f'{OPEN}rules:\n  - {{also: "It.", id: it, tools: fs.write, {owed}}}\n'
    policy = policy_from(f"servers: {{fs: {{files: local}}}}\n{text}", tmp_path)
    assert [one.kind.value for one in judge(policy, "fs.write", {"path": "/w/a"}).obligations] == [kind]
    assert judge(policy, "fs.read").obligations == ()


def test_several_asks_make_one_question_as_strong_as_the_strictest(tmp_path: Path) -> None:
    rules = (
        "rules:\n"
        '  - {ask: "A.", id: a, tools: "fs.*", expires: 10m, remember: run}\n'
        '  - {ask: "B.", id: b, tools: fs.write, strong: true, remember: never}\n'
        '  - {ask: "C.", id: c, tools: fs.write, args: {x: {min: 9}}, expires: 1m}\n'
        '  - {ask: "D.", id: d, tools: fs.move}\n'
    )
    policy = policy_from(OPEN + rules, tmp_path)
    asked = {
        name: judge(policy, name, arguments).asks
        for name, arguments in cast(
            "dict[str, JsonObject]", {"fs.read": {}, "fs.write": {"x": 1}, "fs.move": {}, "db.read": {}}
        ).items()
    }
    assert asked["fs.read"] == AskTerms(strong=False, expires_s=600, remember=Remember.RUN, needs=())
    assert asked["fs.write"] == AskTerms(strong=True, expires_s=600, remember=Remember.NEVER, needs=())
    assert asked["db.read"] is None
    late = judge(policy, "fs.write", {"x": 9}).asks
    assert late is not None
    assert late.expires_s == 60


def test_one_limit_with_a_time_and_one_without_give_that_time(tmp_path: Path) -> None:
    rules = f'rules:\n{LIMITED}  - {{also: "Small.", id: small, limit: {{args_bytes: 90}}}}\n'
    decision = judge(policy_from(OPEN + rules, tmp_path), "fs.read")
    assert decision.timeout_s == 5
    assert [(owed.rule, owed.spec) for owed in decision.obligations] == [
        ("t/quick", {"timeout_ms": 5000}),
        ("t/small", {"args_bytes": 90}),
    ]
    watching = judge(policy_from(OPEN + rules, tmp_path, mode=Mode.OBSERVE), "fs.read")
    assert watching.timeout_s is None


@pytest.mark.parametrize(
    ("limit", "spec"),
    [
        ("{args_bytes: 90}", {"args_bytes": 90}),
        ("{result_bytes: 700}", {"result_bytes": 700}),
        ("{calls: 2}", {"calls": 2, "window_ms": 0, "per": "run"}),
    ],
)
def test_a_limit_owes_just_the_figures_that_it_names(limit: str, spec: JsonObject, tmp_path: Path) -> None:
    policy = policy_from(f'{OPEN}rules: [{{also: "It.", limit: {limit}}}]\n', tmp_path)
    assert [owed.spec for owed in judge(policy, "fs.read").obligations] == [spec]


def test_arguments_may_have_just_so_many_bytes_by_rule_and_by_policy(tmp_path: Path) -> None:
    arguments: JsonObject = {"x": "aaaa"}
    size = len('{"x":"aaaa"}')
    for most, effect in [(size, "allow"), (size - 1, "deny")]:
        rule = policy_from(f'{OPEN}rules: [{{also: "Small.", limit: {{args_bytes: {most}}}}}]\n', tmp_path)
        assert judge(rule, "fs.read", arguments).effect == effect
        whole = policy_from(OPEN.replace("{undeclared", f"{{max_bytes: {most}, undeclared"), tmp_path)
        assert judge(whole, "fs.read", arguments).effect == effect


DEPTHS: list[tuple[JsonObject, str]] = [
    ({"x": [[1]], "n": [1], "to": {"a": 1}}, "allow"),
    ({"x": {"a": {"b": 1}}, "n": [], "to": []}, "allow"),
    ({"x": {"a": {"b": {}}}, "n": []}, "deny"),
    ({"x": [[[]]], "n": []}, "deny"),
    ({"x": ["[[[[[["]}, "allow"),
]


@pytest.mark.parametrize(("arguments", "effect"), DEPTHS)
def test_depth_is_counted_in_values_and_not_in_brackets(arguments: JsonObject, effect: str, tmp_path: Path) -> None:
    policy = policy_from(OPEN.replace("{undeclared", "{max_depth: 3, undeclared"), tmp_path)
    assert judge(policy, "fs.read", arguments).effect == effect


def test_the_first_undeclared_argument_is_named_and_cut(tmp_path: Path) -> None:
    policy = policy_from("default: {read: allow, other: allow}\narguments: {undeclared: deny}\n", tmp_path)
    decision = judge(policy, "fs.read", {"z" * 61: 1, "~": 1})
    assert decision.rules[0].text == f'argument "{"z" * 60}" is not in the tool\'s schema'


def test_a_proposal_with_a_flaw_is_refused_for_it_and_keeps_its_labels_and_masks(tmp_path: Path) -> None:
    text = "default: {read: allow, other: allow}\nlabels: [{tools: fs.read, does: read, secret: args.x}]\n"
    flaw = Failure(reason=Reason.ARGUMENTS_INVALID, summary="x must be a number")
    policy = policy_from(text, tmp_path)
    decision = judge(policy, "fs.read", flaws=(flaw,))
    assert (decision.effect, decision.reason, decision.would) == (Effect.DENY, Reason.ARGUMENTS_INVALID, None)
    assert decision.does == ("read",)
    assert decision.masks == ({"in": "trace", "at": ["args.x"], "digest": True},)
    nowhere = decide(policy, RUN, replace(step("fs.read"), tool=None), NO_FACTS)
    assert (nowhere.reason, nowhere.rules, nowhere.does, nowhere.masks) == (Reason.TOOL_UNKNOWN, (), (), ())
    fatal = Failure(reason=Reason.PROTOCOL_ERROR, summary="twice the same key")
    watching = judge(policy_from(text, tmp_path, mode=Mode.OBSERVE), "fs.read", flaws=(fatal,))
    assert (watching.effect, watching.would) == (Effect.DENY, Effect.DENY)
    assert rule_ids(watching) == ["step/protocol_error"]


def test_a_run_opened_for_less_refuses_the_rest_whatever_the_mode_and_our_own_tools_never(tmp_path: Path) -> None:
    narrow = replace(RUN, scope=RunScope(only=("fs.read",)))
    for mode in Mode:
        policy = policy_from(OPEN, tmp_path, mode=mode)
        beyond = decide(policy, narrow, step("fs.write"), NO_FACTS)
        assert (beyond.effect, beyond.reason) == (Effect.DENY, Reason.OUT_OF_SCOPE)
        assert decide(policy, narrow, step("fs.read"), NO_FACTS).effect is Effect.ALLOW
        assert decide(policy, narrow, step("soothsayer.run"), NO_FACTS).reason is not Reason.OUT_OF_SCOPE


READING = (
    'rules:\n  - {deny: "No keys.", tools: fs.read, args: {path: {under: "~/.ssh"}}}\n'
    '  - {deny: "Not at night.", tools: fs.read, when: "now < timestamp(\'2001-01-01T00:00:00Z\')"}\n'
    '  - {ask: "Tainted.", tools: fs.read, tainted: true}\n'
    '  - {deny: "Not thrice.", tools: fs.read, history: {count: calls, above: 9}}\n'
    '  - {deny: "From there.", tools: fs.read, flow: {into: args.to, unless_from: [intent]}}\n'
)


def test_what_a_decision_rested_on_goes_on_record_with_it_and_nothing_else(tmp_path: Path) -> None:
    policy = policy_from(f"{OPEN}servers: {{fs: {{files: local}}}}\n{READING}", tmp_path)
    call = step("fs.read", {"path": "/w/a", "to": "ann@a.test"})
    asked = policy.questions(call)
    facts = Facts(
        links={"/w/a": "/w/a"},
        tallies=dict.fromkeys(asked.tallies, Tally(succeeded=2, sum_micro=7)),
        values=dict.fromkeys(asked.values, Seen(frozenset({Origin.INTENT}), frozenset({Origin.UNTRUSTED}))),
    )
    run = replace(RUN, counters=Counters(untrusted_reads=0, calls=3))
    context = dict(decide(policy, run, call, facts).context)
    assert context["links"] == {"/w/a": "/w/a"}
    assert context["now"] == NOW_US
    assert context["counted"] == {"untrusted_reads": 0}
    assert context["origins"] == [[["intent"], ["untrusted"]] for _ in asked.values]
    assert context["tallies"] == [[*question, *Tally(succeeded=2, sum_micro=7)] for question in asked.tallies]
    bare = decide(policy_from(OPEN, tmp_path), run, call, NO_FACTS).context
    assert set(bare) <= {"root", "home", "workspace"}
    without = decide(policy, run, call, NO_FACTS).context
    assert not {"links", "origins", "tallies"} & set(without)


def test_a_rule_that_only_watches_and_says_nothing_new_leaves_no_trace_in_the_decision(tmp_path: Path) -> None:
    watching = '  - {ask: "Big?", id: big, tools: "fs.*", args: {x: {min: 9}}, mode: observe}\n'
    policy = policy_from(f"{OPEN}rules:\n{watching}", tmp_path)
    for value, would, rules in [(1, None, ["default"]), (9, Effect.ASK, ["default", "t/big"])]:
        decision = judge(policy, "fs.read", {"x": value})
        assert (decision.effect, decision.would, sorted(rule_ids(decision))) == (Effect.ALLOW, would, rules)
    whole = policy_from(
        f'{OPEN}rules:\n  - {{deny: "No.", id: never, hard: true, tools: fs.write}}\n', tmp_path, mode=Mode.OBSERVE
    )
    held, free = judge(whole, "fs.write"), judge(whole, "fs.read")
    assert (held.effect, held.would, rule_ids(held)) == (Effect.DENY, Effect.DENY, ["t/never"])
    assert (free.effect, free.would, rule_ids(free)) == (Effect.ALLOW, Effect.ALLOW, ["default"])


def test_rules_are_named_before_a_default_that_says_the_same(tmp_path: Path) -> None:
    policy = policy_from(
        'default: allow\nrules: [{ask: "Well?", id: well, tools: fs.read}]\n', tmp_path, organisation="default: ask\n"
    )
    assert rule_ids(judge(policy, "fs.read")) == ["t/well", "default"]


def test_where_every_scope_leaves_a_call_to_the_others_it_is_asked_about_and_a_request_refused(tmp_path: Path) -> None:
    leave = "default: {read: leave, other: leave, checked: leave}\n"
    both = policy_from("", tmp_path, organisation=leave)
    policy = both.with_scopes(both.scopes[:1])
    decision = judge(policy, "fs.read")
    assert (decision.effect, decision.reason, rule_ids(decision)) == (Effect.ASK, Reason.NOBODY_TO_ASK, ["default"])
    refused = decide_message(policy, REQUEST, NO_FACTS)
    assert (refused.effect, refused.reason) == (Effect.DENY, Reason.NO_RULE)


def test_doubts_are_told_as_they_are_of_each_call_though_the_same_rule_is_in_doubt(tmp_path: Path) -> None:
    policy = policy_from(f'{OPEN}rules: [{{deny: "No keys.", args: {{path: {{under: "~/.ssh"}}}}}}]\n', tmp_path)
    values: list[tuple[JsonObject, str]] = [
        ({"path": 7}, "the value is no text"),
        ({"path": "\ud800"}, "the text holds half a character"),
        ({"path": {}}, "the value is no text"),
    ]
    told = [judge(policy, "fs.read", arguments).rules[0].unknown for arguments, _ in values]
    assert told[0] == told[2] == "the value is no text"
    assert told[1] != told[0]


def test_what_is_remembered_of_decisions_is_told_apart_by_schema_and_by_where_the_server_is(tmp_path: Path) -> None:
    policy = policy_from(
        "default: {read: allow, other: allow}\narguments: {no_schema: deny}\npins: {changed: ask}\n", tmp_path
    )
    plain, moved = tool("fs.read", pin=PinState.CHANGED), replace(tool("fs.read", pin=PinState.CHANGED), moved=True)
    bare = replace(plain, properties=None)
    for _ in range(2):
        texts = [judge(policy, one).rules[0].text for one in (plain, moved, bare)]
        assert len(set(texts)) == 3
