"""What a decision says beside its effect: what is owed, counted, shown and hidden, to the last field."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from policy_kit import ADA, NOW_US, judge, policy_from, tool
from soothsayer_mcp.model.call import Cause, PinState
from soothsayer_mcp.model.decision import Mode, ObligationKind
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.following import OnFailure
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.decide import could_ask, visible
from soothsayer_mcp.policy.policy import Policy

OPEN = "default: {read: allow, other: allow}\narguments: {undeclared: allow}\n"
SAMPLING = "sampling/createMessage"


@pytest.mark.parametrize(
    ("head", "could"),
    [
        ("default: {read: allow, other: allow, checked: allow}\n", True),
        ("default: {read: allow, other: allow, checked: deny}\n", False),
        ("default: {read: allow, other: allow, checked: ask}\n", False),
        ("mode: observe\ndefault: {read: allow, other: allow, checked: deny}\n", True),
    ],
)
def test_a_servers_request_could_be_let_through(head: str, tmp_path: Path, *, could: bool) -> None:
    assert could_ask(policy_from(head, tmp_path), ADA, "fs", SAMPLING) is could


def test_a_fault_of_ours_shows_no_tool_and_lets_no_request_through() -> None:
    nothing = cast("Policy", None)
    assert visible(nothing, tool("fs.read"), ADA) is False
    assert could_ask(nothing, ADA, "fs", SAMPLING) is False


def test_an_allow_that_has_ended_is_hidden_whatever_was_asked_before(tmp_path: Path) -> None:
    text = 'default: deny\nrules:\n  - {allow: "For now.", tools: fs.read, expires: "2999-01-01"}\n'
    policy, end_us = policy_from(text, tmp_path), 40_000_000_000_000_000
    for _ in range(2):
        assert visible(policy, tool("fs.read"), ADA, now_us=NOW_US) is True
        assert visible(policy, tool("fs.read"), ADA, now_us=end_us) is False
        assert visible(policy, tool("fs.read"), ADA) is True


def test_what_is_remembered_of_who_sees_a_tool_has_a_bound(tmp_path: Path) -> None:
    policy = policy_from(OPEN, tmp_path)
    sizes: set[int] = set()
    for number in range(600):
        assert visible(policy, tool("fs.read"), replace(ADA, id=f"os:{number}"))
        sizes.add(len(policy.candidates(tool("fs.read")).shown))
    assert max(sizes) == 256


def test_of_the_tiers_that_fit_the_strongest_is_taken_and_unordered_ones_go_by_name(tmp_path: Path) -> None:
    tiers = (
        "next:\n  tiers:\n    - {name: a-small, because: It is enough.}\n"
        "    - {name: b-large, because: Much., args: {x: {min: 5}}}\n"
    )
    policy = policy_from(OPEN + tiers, tmp_path)
    assert [judge(policy, "fs.read", {"x": x}).tier for x in (1, 5, "a")] == ["a-small", "b-large", "a-small"]


def test_a_limit_is_owed_with_every_figure_that_it_has(tmp_path: Path) -> None:
    limit = "{timeout: 5s, args_bytes: 90, result_bytes: 700, calls: 2, per: principal, window: 1h}"
    policy = policy_from(f'{OPEN}rules:\n  - {{allow: "It.", id: it, tools: fs.read, limit: {limit}}}\n', tmp_path)
    (owed,) = judge(policy, "fs.read").obligations
    assert (owed.kind, owed.rule) == (ObligationKind.LIMIT, "t/it")
    assert owed.spec == {
        "timeout_ms": 5000,
        "args_bytes": 90,
        "result_bytes": 700,
        "calls": 2,
        "window_ms": 3_600_000,
        "per": "principal",
    }
    assert judge(policy, "fs.read").charge.bytes_most == 700
    assert judge(policy, "fs.read").timeout_s == 5
    assert judge(policy, "fs.write").obligations == ()


def test_of_several_sizes_the_smallest_is_stored(tmp_path: Path) -> None:
    rules = (
        "rules:\n"
        '  - {also: "One.", id: one, tools: "fs.*", large_results: {over: 8kB, keep: 1kB}}\n'
        '  - {also: "Two.", id: two, tools: fs.read, large_results: {over: 4kB, keep: 2kB}}\n'
    )
    policy = policy_from(OPEN + rules, tmp_path)
    both, one = judge(policy, "fs.read").large, judge(policy, "fs.write").large
    assert both is not None
    assert one is not None
    assert (both.over_bytes, both.keep_bytes) == (4000, 1000)
    assert (one.over_bytes, one.keep_bytes) == (8000, 1000)
    assert [owed.rule for owed in judge(policy, "fs.read").obligations] == ["t/one", "t/two"]
    assert judge(policy, "db.read").large is None


def test_a_cost_is_the_most_that_labels_say_and_unknown_where_an_argument_is_no_number(tmp_path: Path) -> None:
    labels = "labels:\n  - {tools: bank.pay, does: pay, cost: args.n}\n  - {tools: 'bank.*', does: write, cost: 2}\n"
    policy = policy_from(OPEN + labels, tmp_path)
    costs = [judge(policy, "bank.pay", {"n": n}).charge.cost_micro for n in (1, 5, "x")]
    assert costs == [2_000_000, 5_000_000, None]
    assert judge(policy, "bank.see").charge.cost_micro == 2_000_000


def test_a_check_may_call_what_only_reads_and_nothing_else(tmp_path: Path) -> None:
    labels = "labels:\n  - {tools: fs.read, does: read}\n  - {tools: fs.both, does: [read, write]}\n"
    policy = policy_from(OPEN + labels, tmp_path)
    for name, effect in {"fs.read": "allow", "fs.both": "deny", "fs.other": "deny"}.items():
        decision = judge(policy, name, cause=Cause.PROBE)
        assert decision.effect == effect
        assert [rule.id for rule in decision.rules] == ([] if effect == "allow" else ["probe/reads_only"])


DENIED = (
    "rules:\n"
    '  - {deny: "B.", id: b, tools: fs.write, args: {x: {min: 1}}}\n'
    '  - {deny: "A.", id: a, tools: fs.write, args: {x: {max: 9}}}\n'
    '  - {ask: "C.", id: c, tools: "fs.*"}\n'
)


def test_an_undo_needs_no_yes_and_is_refused_by_every_deny_in_the_order_of_ids(tmp_path: Path) -> None:
    policy = policy_from(OPEN + DENIED, tmp_path)
    refused, done = (judge(policy, name, {"x": 5}, cause=Cause.UNDO) for name in ("fs.write", "fs.read"))
    assert (refused.effect, refused.reason) == ("deny", Reason.RULE_DENIED)
    assert [rule.id for rule in refused.rules] == ["t/a", "t/b"]
    assert (done.effect, done.reason, done.rules) == ("allow", None, ())


def test_an_undo_is_refused_where_the_definition_changed_and_not_where_it_is_only_new(tmp_path: Path) -> None:
    policy = policy_from(f"{OPEN}pins: {{new: ask, changed: deny}}\n", tmp_path)
    effects = {pin: judge(policy, tool("fs.read", pin=pin), cause=Cause.UNDO).effect for pin in PinState}
    assert effects[PinState.CHANGED] == "deny"
    assert effects[PinState.NEW] == effects[PinState.PINNED] == "allow"


def test_what_moved_is_told_from_what_changed(tmp_path: Path) -> None:
    policy, changed = policy_from(OPEN, tmp_path), tool("fs.read", pin=PinState.CHANGED)
    texts = [judge(policy, one).rules[0].text for one in (changed, replace(changed, moved=True))]
    assert texts == ["the tool's definition changed", "the command or address of the tool's server changed"]


@pytest.mark.parametrize(("deep", "effect"), [(3, "allow"), (4, "deny")])
def test_arguments_may_be_nested_as_deep_as_policy_says_and_no_deeper(deep: int, effect: str, tmp_path: Path) -> None:
    policy = policy_from(OPEN.replace("{undeclared: allow}", "{undeclared: allow, max_depth: 3}"), tmp_path)
    value: Json = 1
    for _ in range(deep - 1):
        value = [value]
    assert judge(policy, "fs.read", {"x": value}).effect == effect


def test_what_a_failure_means_is_said_by_every_rule_that_matches_and_enforces(tmp_path: Path) -> None:
    rules = (
        'rules:\n  - {allow: "It.", id: it, tools: fs.read, on_failure: {tool_error: stop}}\n'
        '  - {also: "Much.", id: much, tools: fs.read, args: {x: {min: 3}}, on_failure: {tool_error: pause}}\n'
    )
    policy = policy_from(OPEN + rules, tmp_path)
    assert [dict(one) for one in judge(policy, "fs.read", {"x": 1}).on_failure] == [{"tool_error": OnFailure.STOP}]
    assert len(judge(policy, "fs.read", {"x": 3}).on_failure) == 2
    assert judge(policy, "fs.write").on_failure == ()
    assert judge(policy_from(OPEN + rules, tmp_path, mode=Mode.OBSERVE), "fs.read").on_failure == ()


def test_a_cap_is_told_with_its_figure_and_the_call_is_counted_under_it(tmp_path: Path) -> None:
    text = (
        f'{OPEN}budgets: {{tools: {{"fs.w*": {{calls: 2}}}}}}\nrules:\n'
        '  - {allow: "It.", id: it, tools: "fs.*", limit: {calls: 3}}\n'
    )
    policy = policy_from(text, tmp_path)
    both, one = judge(policy, "fs.write").charge, judge(policy, "fs.read").charge
    assert [(cap.most, cap.words) for cap in both.caps] == [
        (2, "the budget tools for fs.w*"),
        (3, "the limit of rule t/it"),
    ]
    assert [cap.most for cap in one.caps] == [3]
    assert {(cap.question.mark, cap.question.holder) for cap in both.caps} == {
        (mark.mark, mark.holder) for mark in both.marks
    }
    assert judge(policy, "db.read").charge.caps == ()
