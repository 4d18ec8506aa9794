"""What a run did before, where it is asked by what is no call, by risk terms and by tiers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from policy_kit import RUN, a_message, policy_from, step, tool
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.model.decision import Decision, Effect
from soothsayer_mcp.model.facts import NO_FACTS, Facts, Origin, Seen, Tally
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.policy.decide import could_ask, decide, decide_message
from soothsayer_mcp.policy.policy import Policy

OPEN = "default: {read: allow, other: allow, checked: allow}\narguments: {undeclared: allow}\n"
SHUT = "default: {read: deny, other: deny, checked: deny}\n"
TAINTED = replace(RUN, counters=RUN.counters._replace(untrusted_reads=1))


def answered(policy: Policy, message: Message, tally: Tally | None = None) -> Decision:
    """Decide a message, with the same answer to all that is asked of the past; `None` answers nothing."""
    asked = policy.message_questions(message)
    facts = NO_FACTS if tally is None else Facts(tallies=dict.fromkeys(asked.tallies, tally))
    return decide_message(policy, message, facts)


@pytest.mark.parametrize(
    ("tally", "effect", "reason"),
    [
        (Tally(), Effect.ALLOW, None),
        (Tally(failed=1), Effect.ALLOW, None),
        (Tally(succeeded=1), Effect.DENY, Reason.RULE_DENIED),
        (Tally(open=1), Effect.DENY, Reason.RULE_ERROR),
        (Tally(doubtful=1), Effect.DENY, Reason.RULE_ERROR),
        (None, Effect.DENY, Reason.RULE_ERROR),
    ],
)
@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "resources/read", "prompts/get"])
def test_a_deny_sees_what_the_run_did_before_a_message(
    method: str, tally: Tally | None, effect: Effect, reason: Reason | None, tmp_path: Path
) -> None:
    policy = policy_from(OPEN + f'rules: [{{deny: "No.", tools: "*.@{method}", after: "mail.get_*"}}]\n', tmp_path)
    decision = answered(policy, a_message("docs", method, run=RUN), tally)
    assert (decision.effect, decision.reason) == (effect, reason)
    # What a server is not shown, it never asks for: doubts about the past hide nothing.
    assert could_ask(policy, RUN.principal, "docs", method)


def test_a_message_of_nobody_knows_which_run_is_in_doubt(tmp_path: Path) -> None:
    policy = policy_from(OPEN + 'rules: [{deny: "No.", tools: "*.@resources/read", after: "mail.get_*"}]\n', tmp_path)
    assert policy.looks_back_on("docs", "resources/read")
    assert not policy.looks_back_on("docs", "prompts/get")
    assert answered(policy, a_message("docs", "resources/read"), Tally()).effect is Effect.DENY


def test_an_allow_of_a_message_wants_the_step_to_be_certain(tmp_path: Path) -> None:
    text = SHUT + 'rules: [{allow: "Yes.", tools: "docs.@resources/read", after: {tools: ci.test, same: [args.uri]}}]\n'
    policy = policy_from(text, tmp_path)
    message = a_message("docs", "resources/read", {"uri": "docs://a"}, run=RUN)
    found = {
        str(tally): answered(policy, message, tally).effect for tally in (Tally(succeeded=1), Tally(open=1), Tally())
    }
    assert [*found.values()] == [Effect.ALLOW, Effect.DENY, Effect.DENY]
    assert answered(policy, replace(message, params={}), Tally(succeeded=1)).effect is Effect.DENY


def test_a_count_over_steps_does_not_count_the_message_itself(tmp_path: Path) -> None:
    text = OPEN + 'rules: [{deny: "No.", tools: "*.@resources/read", history: {count: calls, of: fs.read, above: 2}}]\n'
    policy = policy_from(text, tmp_path)
    message = a_message("docs", "resources/read", run=RUN)
    assert answered(policy, message, Tally(succeeded=2)).effect is Effect.ALLOW
    assert answered(policy, message, Tally(succeeded=3)).effect is Effect.DENY


@pytest.mark.parametrize(
    "rule",
    ["tainted: true", "when: run.tainted", "flow: {into: args.uri, unless_from: first_party, seen_in: untrusted}"],
)
def test_taint_counters_and_origins_are_those_of_the_run(rule: str, tmp_path: Path) -> None:
    policy = policy_from(OPEN + f'rules:\n  - deny: "No."\n    tools: "*.@resources/read"\n    {rule}\n', tmp_path)

    def effect(message: Message, *origins: Origin) -> Effect:
        asked = policy.message_questions(message)
        values = {question: Seen(frozenset(origins)) for question in asked.values}
        return decide_message(policy, message, Facts(values=values)).effect

    clean = a_message("docs", "resources/read", {"uri": "docs://a"}, run=RUN)
    assert effect(clean) is Effect.ALLOW
    assert effect(replace(clean, run=TAINTED), Origin.UNTRUSTED) is Effect.DENY
    assert effect(replace(clean, run=None)) is Effect.DENY


Judge = Callable[[Tally | None], Decision]


def judging(text: str, tmp_path: Path) -> Judge:
    policy = policy_from(OPEN + text, tmp_path)

    def judge(tally: Tally | None) -> Decision:
        proposed = step(tool("web.post"), {"path": "/w/a"})
        asked = policy.questions(proposed)
        facts = NO_FACTS if tally is None else Facts(tallies=dict.fromkeys(asked.tallies, tally))
        return decide(policy, RUN, proposed, facts)

    return judge


@pytest.mark.parametrize(
    ("past", "tally"),
    [
        ("after: mail.get", Tally(succeeded=1)),
        ("unless_after: {tools: ci.test, within: 1h}", Tally()),
        ("history: {count: failures, of: fs.read, above: 1}", Tally(failed=2)),
    ],
)
def test_a_risk_term_counts_by_what_was_done_before(past: str, tally: Tally, tmp_path: Path) -> None:
    term = f"risk: [{{add: 30, because: past, {past}}}]\nrules: [{{ask: Risky., id: risky, risk: {{at_least: 30}}}}]\n"
    judge = judging(term, tmp_path)
    other = Tally(succeeded=1) if tally == Tally() else Tally()
    for told, effect, sums in (
        (tally, Effect.ASK, (30, 30)),
        (other, Effect.ALLOW, (0, 0)),
        (None, Effect.ASK, (0, 30)),
    ):
        decision = judge(told)
        assert decision.effect is effect
        assert decision.risk is not None
        assert (decision.risk.low, decision.risk.high) == sums


def test_what_makes_a_call_less_risky_has_to_hold_in_every_reading(tmp_path: Path) -> None:
    risk = "risk: [{add: 50, because: base}, {add: -40, because: inside, args: {path: {under: /w}}}]\n"
    policy = policy_from(OPEN + risk + "rules: [{deny: Risky., risk: {at_least: 50}}]\n", tmp_path)
    found = {
        path: decide(policy, RUN, step(tool("web.post"), {"path": path}), NO_FACTS).effect
        for path in ("/w/a", "/etc/a", "/w/%2e%2e/etc/a")
    }
    assert found == {"/w/a": Effect.ALLOW, "/etc/a": Effect.DENY, "/w/%2e%2e/etc/a": Effect.DENY}


def test_a_tier_follows_from_what_was_done_before(tmp_path: Path) -> None:
    judge = judging(
        "next: {tiers: [{name: large, because: tests failed, after: {tools: ci.test, ok: false}}]}\n", tmp_path
    )
    assert [judge(tally).tier for tally in (Tally(failed=1), Tally(succeeded=1), Tally(open=1))] == ["large", "", ""]


def test_a_count_of_what_is_no_step_does_not_load(tmp_path: Path) -> None:
    rule = 'rules: [{deny: "No.", tools: "*.@resources/read", history: {count: calls, above: 2}}]\n'
    with pytest.raises(LoadErrors, match="say the steps with `of`"):
        policy_from(OPEN + rule, tmp_path)
    tier = "next: {tiers: [{name: large, because: x, after: nosuch.tool}]}\nservers: {fs: {}}\n"
    for text, said in (
        (tier, "nosuch"),
        ('risk: [{add: 1, because: x, after: "fs.@resources/read"}]\n', "only tool calls are counted"),
    ):
        with pytest.raises(LoadErrors, match=said):
            policy_from(OPEN + text, tmp_path, servers=["fs"])
