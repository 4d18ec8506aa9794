"""Rules that match by what earlier steps did: three answers, and what is in flight counts against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_kit import NOW_US, RUN, policy_from, step, tool
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.facts import NO_FACTS, Facts, Tally, TallyQuestion
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.explain import explain
from soothsayer_mcp.policy.policy import Policy

COLUMN = {"ok": "succeeded", "failed": "failed", "open": "open", "refused": "denied"}
OPEN = "default: {read: allow, other: allow}\narguments: {undeclared: allow}\n"


@dataclass(frozen=True)
class Past:
    """An earlier step: what it was and what became of it."""

    tool: str
    args: Mapping[str, Json]
    became: str = "ok"
    ago_us: int = 1_000_000


def facts_of(policy: Policy, asked: Sequence[TallyQuestion], past: Sequence[Past]) -> Facts:
    """What a store would tell, computed plainly from the steps themselves."""
    tallies = dict.fromkeys(asked, Tally())
    for one in past:
        decision = decide(policy, RUN, step(tool(one.tool), dict(one.args), now_us=NOW_US - one.ago_us), NO_FACTS)
        for mark in decision.charge.marks:
            for question, tally in tallies.items():
                if (mark.mark, mark.holder, mark.key) != question[:3] or NOW_US - one.ago_us < question.since_us:
                    continue
                if one.became == "refused" and not mark.denials:
                    continue
                column = COLUMN[one.became] if mark.sure else "doubtful"
                more = {column: getattr(tally, column) + 1}
                if column in {"succeeded", "failed", "open"}:
                    more |= {
                        "sum_micro": tally.sum_micro + (mark.amount_micro or 0),
                        "odd": tally.odd + (mark.amount_micro is None),
                    }
                tallies[question] = tally._replace(**more)
    return Facts(tallies=tallies)


def decided(policy: Policy, name: str, args: JsonObject | None = None, past: Sequence[Past] = ()) -> Decision:
    proposed = step(tool(name), args or {})
    return decide(policy, RUN, proposed, facts_of(policy, policy.questions(proposed).tallies, past))


READ = Past("mail.get_message", {"x": "7"})

AFTER = {
    'deny: "It."\n    after: "mail.get_*"': {"none": "allow", "ok": "deny", "failed": "allow", "open": "deny"},
    'deny: "It."\n    after: {tools: "mail.get_*", ok: any}': {
        "none": "allow",
        "ok": "deny",
        "failed": "deny",
        "open": "deny",
    },
    'deny: "It."\n    after: {tools: "mail.get_*", ok: false}': {
        "none": "allow",
        "ok": "allow",
        "failed": "deny",
        "open": "deny",
    },
    'deny: "It."\n    unless_after: "mail.get_*"': {"none": "deny", "ok": "allow", "failed": "deny", "open": "deny"},
    'ask: "It."\n    after: "mail.get_*"': {"none": "allow", "ok": "ask", "failed": "allow", "open": "ask"},
}


@pytest.mark.parametrize("rule", AFTER)
@pytest.mark.parametrize("became", ["none", "ok", "failed", "open", "refused"])
def test_an_earlier_step_counts_by_what_became_of_it(rule: str, became: str, tmp_path: Path) -> None:
    policy = policy_from(f"{OPEN}rules:\n  - {rule}\n    tools: web.post\n", tmp_path)
    past = [] if became == "none" else [replace(READ, became=became)]
    # A refused call is not done.
    assert decided(policy, "web.post", past=past).effect == AFTER[rule]["none" if became == "refused" else became]


@pytest.mark.parametrize(
    ("became", "effect"), [("none", "deny"), ("ok", "allow"), ("failed", "deny"), ("open", "deny")]
)
def test_an_allow_needs_an_earlier_step_that_certainly_fits(became: str, effect: str, tmp_path: Path) -> None:
    text = (
        'default: deny\narguments: {undeclared: allow}\nrules:\n  - {allow: "It.", tools: web.post, after: ci.test}\n'
    )
    policy = policy_from(text, tmp_path)
    past = [] if became == "none" else [Past("ci.test", {}, became)]
    assert decided(policy, "web.post", past=past).effect == effect


def test_what_the_store_does_not_tell_is_unknown_and_tightens(tmp_path: Path) -> None:
    text = f'{OPEN}rules:\n  - {{deny: "It.", tools: web.post, after: "mail.get_*"}}\n'
    policy = policy_from(text, tmp_path)
    decision = decide(policy, RUN, step(tool("web.post")), NO_FACTS)
    assert (decision.effect, decision.reason) == ("deny", Reason.RULE_ERROR)
    assert "not known what the run did before" in decision.rules[0].unknown


def test_a_pattern_sees_arguments_and_time_and_is_tied_to_the_call(tmp_path: Path) -> None:
    text = (
        f'{OPEN}rules:\n  - deny: "It."\n    tools: web.post\n'
        "    after: {tools: mail.get, args: {to: boss}, within: 1h, same: [args.n]}\n"
    )
    policy = policy_from(text, tmp_path)
    fits = Past("mail.get", {"to": "boss", "n": 1})
    assert decided(policy, "web.post", {"n": 1}, [fits]).effect == "deny"
    assert decided(policy, "web.post", {"n": 1.0}, [fits]).effect == "deny"
    for other in (
        replace(fits, args={"to": "ann", "n": 1}),
        replace(fits, args={"to": "boss", "n": 2}),
        replace(fits, args={"to": "boss"}),
        replace(fits, ago_us=3_600_000_001),
        replace(fits, tool="mail.put"),
    ):
        assert decided(policy, "web.post", {"n": 1}, [other]).effect == "allow", other
    # Without the argument that ties it, it is not known whether an earlier step fits.
    assert decided(policy, "web.post", {}, []).effect == "deny"


def test_one_of_several_patterns_is_enough(tmp_path: Path) -> None:
    text = f'{OPEN}rules:\n  - {{deny: "It.", tools: web.post, after: ["mail.get_*", {{tools: fs.read, ok: any}}]}}\n'
    policy = policy_from(text, tmp_path)
    assert decided(policy, "web.post").effect == "allow"
    assert decided(policy, "web.post", past=[READ]).effect == "deny"
    assert decided(policy, "web.post", past=[Past("fs.read", {}, "failed")]).effect == "deny"


def capped(tmp_path: Path, history: str) -> Policy:
    return policy_from(f'{OPEN}rules:\n  - {{deny: "Cap.", tools: bank.pay, history: {{{history}}}}}\n', tmp_path)


@pytest.mark.parametrize(
    ("history", "past", "amount", "effect"),
    [
        ("sum: args.n, above: 1000", [], 1000, "allow"),
        ("sum: args.n, above: 1000", [], 1000.01, "deny"),
        ("sum: args.n, above: 0.3", [("ok", 0.1)], 0.2, "allow"),
        ("sum: args.n, above: 1000", [("ok", 600), ("failed", 300)], 100, "allow"),
        ("sum: args.n, above: 1000", [("ok", 600), ("failed", 300)], 101, "deny"),
        ("sum: args.n, above: 1000", [("open", 900)], 101, "deny"),
        ("sum: args.n, above: 1000", [("refused", 900)], 1000, "allow"),
        ("sum: args.n, above: 1000", [("ok", "many")], 1, "deny"),
        ("sum: args.n, above: 1000", [], "1", "deny"),
        ("sum: args.n, above: 1000", [], -5, "deny"),
        ("sum: args.n, above: 1000", [], True, "deny"),
        ("sum: args.n, above: 1000", [], None, "deny"),
        ("count: calls, above: 2", [("ok", 1)], 1, "allow"),
        ("count: calls, above: 2", [("ok", 1), ("open", 1)], 1, "deny"),
        ("count: failures, above: 1", [("failed", 1), ("ok", 1)], 1, "allow"),
        ("count: failures, above: 1", [("failed", 1), ("failed", 1)], 1, "deny"),
        ("count: failures, above: 1", [("failed", 1), ("open", 1)], 1, "deny"),
        ("count: denials, above: 0", [("refused", 1)], 1, "deny"),
        ("count: denials, above: 0", [("ok", 1)], 1, "allow"),
        ("count: calls, of: mail.send, above: 1", [("ok", 1)], 1, "allow"),
    ],
)
def test_counts_and_sums_take_this_call_and_what_is_in_flight_in(
    history: str, past: list[tuple[str, Json]], amount: Json, effect: str, tmp_path: Path
) -> None:
    policy = capped(tmp_path, history)
    steps = [Past("bank.pay", {"n": number}, became) for became, number in past]
    assert decided(policy, "bank.pay", {"n": amount}, steps).effect == effect


def test_windows_principals_and_ties_bound_what_is_counted(tmp_path: Path) -> None:
    policy = capped(tmp_path, "sum: args.n, window: 1h, per: principal, same: [args.to], above: 10")
    hour = 3_600_000_000
    paid = Past("bank.pay", {"n": 10, "to": "a"})
    assert decided(policy, "bank.pay", {"n": 1, "to": "a"}, [paid]).effect == "deny"
    assert decided(policy, "bank.pay", {"n": 1, "to": "b"}, [paid]).effect == "allow"
    assert decided(policy, "bank.pay", {"n": 1, "to": "a"}, [replace(paid, ago_us=hour + 1)]).effect == "allow"
    [question] = policy.questions(step(tool("bank.pay"), {"n": 1, "to": "a"})).tallies
    assert (question.holder, question.since_us) == ("who:os:ada", NOW_US - hour)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ('{deny: "It.", tools: a.b, after: {tols: c.d}}', 'unknown key "tols"'),
        ('{deny: "It.", tools: a.b, after: {tools: c.d, same: [result.id]}}', "not supported yet"),
        ('{deny: "It.", tools: a.b, after: {tools: c.d, same: [id]}}', "names no argument"),
        ('{deny: "It.", tools: a.b, after: "c.@resources/read"}', "only tool calls are counted"),
        ('{deny: "It.", tools: a.b, history: {above: 1}}', "one of count and sum"),
        ('{deny: "It.", tools: a.b, history: {count: calls, sum: args.n, above: 1}}', "one of count and sum"),
        ('{deny: "It.", tools: a.b, history: {count: calls}}', '"above" is missing'),
        ('{deny: "It.", tools: a.b, history: {count: calls, per: principal, above: 1}}', "needs a window"),
        ('{deny: "It.", tools: a.b, history: {count: calls, of: {tools: c.d, ok: any}, above: 1}}', "has no place in"),
        ('{allow: "It.", tools: a.b, limit: {calls: 1, per: server}}', "need a window"),
        ('{allow: "It.", tools: a.b, limit: {window: 1m}}', "there is no `calls`"),
        ('{allow: "It.", tools: a.b, limit: {calls: 0}}', "too small"),
    ],
)
def test_what_means_nothing_does_not_load(rule: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(LoadErrors) as raised:
        policy_from(f"rules:\n  - {rule}\n", tmp_path)
    said = " ".join(problem.text for problem in raised.value.problems)
    assert text in said


def test_a_policy_that_asks_nothing_of_the_past_costs_nothing_per_call(tmp_path: Path) -> None:
    policy = policy_from(f'{OPEN}rules:\n  - {{deny: "It.", tools: web.post, after: mail.get}}\n', tmp_path)
    plain = step(tool("fs.read"))
    assert policy.questions(plain) is policy.questions(plain)
    assert decide(policy, RUN, plain, NO_FACTS).charge is policy.candidates(tool("fs.read")).charge


def test_an_explanation_names_the_matcher_that_said_no(tmp_path: Path) -> None:
    text = f'{OPEN}rules:\n  - {{deny: "It.", id: it, tools: web.post, after: "mail.get_*"}}\n'
    policy = policy_from(text, tmp_path)
    proposed = step(tool("web.post"))
    facts = facts_of(policy, policy.questions(proposed).tallies, [])
    [story] = explain(policy, RUN, proposed, facts).rules
    assert (story.matched, story.at) == (False, "after")


steps = st.builds(
    Past,
    tool=st.sampled_from(["mail.get", "bank.pay", "web.post"]),
    args=st.fixed_dictionaries({"n": st.one_of(st.integers(-1, 9), st.just("x"))}),
    became=st.sampled_from(["ok", "failed", "open", "refused"]),
)
RULES = (
    "after: mail.get",
    "unless_after: mail.get",
    "unless_after: {tools: mail.get, ok: any}",
    'after: {tools: bank.pay, args: {"n": {above: 3}}}',
    "history: {sum: args.n, above: 9}",
    "history: {count: failures, of: mail.get, above: 1}",
    "history: {count: calls, of: '*.*', same: [args.n], above: 2}",
)


@given(
    past=st.lists(steps, max_size=6),
    matcher=st.sampled_from(RULES),
    head=st.sampled_from(["deny", "ask", "allow"]),
    amount=st.integers(0, 9),
)
def test_a_fact_that_is_replaced_by_unknown_never_weakens(
    past: list[Past], matcher: str, head: str, amount: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "history"
    folder.mkdir(exist_ok=True)
    default = "deny" if head == "allow" else "allow"
    rule = f'  - {head}: "It."\n    tools: bank.pay\n    {matcher}\n'
    text = f"default: {default}\narguments: {{undeclared: allow}}\nrules:\n{rule}"
    policy = policy_from(text, folder)
    known = decided(policy, "bank.pay", {"n": amount}, past)
    unknown = decide(policy, RUN, step(tool("bank.pay"), {"n": amount}), NO_FACTS)
    assert unknown.effect.strictness >= known.effect.strictness
