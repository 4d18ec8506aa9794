"""What conditions and the sum of risk terms decide; both say no, yes or why they cannot tell."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_kit import ADA, HEAD, NOW_US, RUN, effect, is_listed, judge, policy_from, rule_ids, step, tool
from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.model.answer import Unsure
from soothsayer_mcp.model.call import PinState, Principal
from soothsayer_mcp.model.decision import Risk, RiskTerm
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.policy.explain import explain
from soothsayer_mcp.policy.sight import MOST_RISK, RiskBounds

OPEN = "default: {read: allow, other: allow}\n"
SHUT = "default: {read: deny, other: deny}\n"


def test_a_condition_decides_as_a_matcher_does(tmp_path: Path) -> None:
    policy = policy_from(OPEN + """rules: [{deny: "Too much.", when: "double(args.n) > 5.0"}]\n""", tmp_path)
    assert effect(policy, "fs.r", {"n": 6}) == "deny"
    assert effect(policy, "fs.r", {"n": 5}) == "allow"


def test_a_condition_sees_tool_caller_place_and_time(tmp_path: Path) -> None:
    said = [
        'tool.server == "fs"',
        'tool.name == "send"',
        'tool.does == ["send", "write"]',
        'tool.trust == "first_party"',
        'tool.pin == "new"',
        'who.sub == "os:ada"',
        '"staff" in who.groups',
        'who.client == "host"',
        'workspace == "/w"',
        'now == timestamp("2023-11-14T22:13:20Z")',
        "risk == 30",
        "has(args.x)",
    ]
    text = f"""{OPEN}pins: {{new: trust}}
labels:
  - {{tools: fs.send, does: send}}
  - {{tools: "fs.*", does: write, trust: first_party}}
risk: [{{add: 30, because: "it sends", does: send}}]
rules:
"""
    text += "".join(f"  - {{deny: 'No {n}.', when: '{one}'}}\n" for n, one in enumerate(said))
    policy = policy_from(text, tmp_path)
    decision = judge(policy, tool("fs.send", pin=PinState.NEW), {"x": 1})
    assert len(rule_ids(decision)) == len(said)
    assert [rule.unknown for rule in decision.rules if rule.unknown] == []
    assert decision.context["workspace"] == "/w"
    assert decision.context["now"] == NOW_US


@pytest.mark.parametrize(
    ("trusts", "expected"),
    [
        (["first_party"], "first_party"),
        (["first_party", "untrusted"], "untrusted"),
        (["untrusted"], "untrusted"),
        ([], "untrusted"),
    ],
)
def test_a_tool_is_trusted_only_where_every_label_that_speaks_of_it_says_so(
    tmp_path: Path, trusts: list[str], expected: str
) -> None:
    labels = "".join(f"  - {{tools: 'fs.*', trust: {trust}}}\n" for trust in trusts) or "  []\n"
    rule = f"""rules: [{{deny: "Seen.", when: 'tool.trust == "{expected}"'}}]\n"""
    assert effect(policy_from(f"{OPEN}labels:\n{labels}{rule}", tmp_path)) == "deny"


CONDITIONS_THAT_CANNOT_TELL = [
    ("args.missing == 1", {"n": 1}, 'Key not found in map : "missing"'),
    ("args.n > 1", {"n": 2**70}, "a whole number is beyond 64 bits"),
    ("args.n ? true : false", {"n": "deny"}, "No matching overloads"),
    ("now < timestamp(args.n)", {"n": "soon"}, ""),
]


@pytest.mark.parametrize(("when", "args", "cause"), CONDITIONS_THAT_CANNOT_TELL)
def test_a_condition_that_cannot_tell_holds_for_a_deny_and_an_ask_and_not_for_an_allow(
    tmp_path: Path, when: str, args: dict[str, object], cause: str
) -> None:
    for head, default, expected in (("deny", OPEN, "deny"), ("ask", OPEN, "ask"), ("allow", SHUT, "deny")):
        policy = policy_from(f"""{default}rules: [{{{head}: "Unless.", id: it, when: '{when}'}}]\n""", tmp_path)
        decision = judge(policy, "fs.r", dict(args))  # type: ignore[arg-type]  # values of JSON
        assert decision.effect == expected
        if head != "allow":
            assert decision.reason is Reason.RULE_ERROR
            assert [rule.id for rule in decision.rules] == ["t/it"]
            assert cause in decision.rules[0].unknown


def test_a_deny_on_arguments_hides_nothing_and_one_without_hides(tmp_path: Path) -> None:
    assert is_listed(policy_from(OPEN + """rules: [{deny: "No.", when: 'args.x == 1'}]\n""", tmp_path))
    assert not is_listed(policy_from(OPEN + """rules: [{deny: "No.", when: 'tool.name == "r"'}]\n""", tmp_path), "fs.r")


RISKY = """labels:
  - {tools: fs.write_file, does: write}
  - {tools: fs.send, does: send}
risk:
  - {add: 30, because: "it writes", does: write}
  - {add: 50, because: "outside the work tree", args: {path: {not: {under: /w}}}}
  - {add: 60, because: "someone else", who: {not: {sub: "os:ada"}}}
  - {add: -10, because: "a draft", when: 'args.?x.orValue("") == "draft"'}
"""


@pytest.mark.parametrize(
    ("args", "who", "expected"),
    [
        ({}, "os:ada", Risk(low=30, high=30, terms=(RiskTerm(add=30, because="it writes"),))),
        (
            {"path": "/etc/x", "x": "draft"},
            "os:ada",
            Risk(
                low=70,
                high=70,
                terms=(
                    RiskTerm(add=-10, because="a draft"),
                    RiskTerm(add=30, because="it writes"),
                    RiskTerm(add=50, because="outside the work tree"),
                ),
            ),
        ),
        (
            {"path": "/etc/x"},
            "os:eve",
            Risk(
                low=100,
                high=100,
                terms=(
                    RiskTerm(add=30, because="it writes"),
                    RiskTerm(add=50, because="outside the work tree"),
                    RiskTerm(add=60, because="someone else"),
                ),
            ),
        ),
        (
            {"path": "$X"},
            "os:ada",
            Risk(
                low=30,
                high=80,
                terms=(
                    RiskTerm(add=30, because="it writes"),
                    RiskTerm(add=50, because="outside the work tree", unknown="the path holds a variable ($)"),
                ),
            ),
        ),
    ],
)
def test_terms_that_hold_are_summed_and_named(tmp_path: Path, args: dict[str, str], who: str, expected: Risk) -> None:
    policy = policy_from(OPEN + RISKY, tmp_path)
    decision = judge(policy, "fs.write_file", dict(args), principal=Principal(id=who, how="os_account"))
    assert decision.risk == expected


def test_a_decision_of_a_tool_that_no_term_can_concern_has_no_risk(tmp_path: Path) -> None:
    policy = policy_from(OPEN + 'risk: [{add: 30, because: "it writes", tools: db.*}]\n', tmp_path)
    assert judge(policy).risk is None


@pytest.mark.parametrize(("path", "expected"), [("/w/a", "allow"), ("/etc/a", "deny"), ("$X", "ask")])
def test_rules_go_by_the_sum_and_doubt_where_a_range_reaches_over_their_bound(
    tmp_path: Path, path: str, expected: str
) -> None:
    rules = """rules:
  - {allow: "Low.", does: write, risk: {below: 50}}
  - {deny: "High.", risk: {at_least: 80}, args: {path: /etc/a}}
  - {ask: "Hm.", risk: {at_least: 80}}
"""
    assert effect(policy_from(OPEN + RISKY + rules, tmp_path), "fs.write_file", {"path": path}) == expected


def test_a_scope_sees_its_own_terms_and_those_above_and_the_decision_names_all(tmp_path: Path) -> None:
    policy = policy_from(
        'default: {read: allow, other: allow}\nrisk: [{add: 20, because: "the user says"}]\n'
        'rules: [{ask: "Fifty.", risk: {at_least: 50}}, {deny: "More.", risk: {at_least: 51}}]\n',
        tmp_path,
        organisation='default: leave\nrisk: [{add: 30, because: "the organisation says"}]\n'
        'rules: [{deny: "Never seen.", id: never, risk: {at_least: 31}}]\n',
        project='risk: [{add: 40, because: "the project says"}]\n'
        'rules: [{deny: "Seventy and one.", id: never, risk: {at_least: 71}}]\n',
    )
    decision = judge(policy)
    assert decision.effect == "ask"
    assert decision.risk is not None
    assert (decision.risk.high, [term.because for term in decision.risk.terms]) == (
        90,
        ["the organisation says", "the project says", "the user says"],
    )


def test_an_explanation_tells_the_condition_the_sum_and_the_cause_of_a_doubt(tmp_path: Path) -> None:
    rules = """rules:
  - {allow: "Low.", id: low, risk: {below: 10}}
  - {deny: "Named.", id: named, when: 'args.x == "a"'}
  - {ask: "Doubt.", id: doubt, when: 'args.y == "a"'}
"""
    policy = policy_from(OPEN + RISKY + rules, tmp_path)
    told = explain(policy, RUN, step("fs.write_file", {"x": "b"}), NO_FACTS)
    stories = {story.id: story for story in told.rules}
    assert (stories["t/low"].at, stories["t/low"].value) == ("risk", "a risk of 30")
    assert (stories["t/named"].at, stories["t/named"].value) == ("when", 'args.x == "a"')
    assert stories["t/doubt"].matched is None
    assert stories["t/doubt"].why.startswith("the condition cannot be evaluated")


@given(
    st.integers(0, MOST_RISK),
    st.integers(0, MOST_RISK),
    st.none() | st.integers(0, 100),
    st.none() | st.integers(0, 100),
)
def test_a_bound_is_certain_only_where_every_sum_of_the_range_agrees(
    one: int, other: int, at_least: int | None, below: int | None
) -> None:
    low, high = min(one, other), max(one, other)
    bounds = RiskBounds(at_least=at_least, below=below)
    found = bounds.answer(Risk(low=low, high=high))
    inside = {bounds.answer(Risk(low=total, high=total)) for total in range(low, high + 1)}
    if len(inside) == 1:
        assert found in inside or isinstance(found, Unsure)
    else:
        assert isinstance(found, Unsure)
    if low == high:
        assert found is ((at_least is None or low >= at_least) and (below is None or low < below))


def test_order_and_layout_of_terms_are_no_part_of_a_policys_meaning(tmp_path: Path) -> None:
    first = 'risk:\n  - {add: 30, because: "a", does: [write, send]}\n  - {add: 1, because: "b"}\n'
    second = 'risk:\n  - {because: "b", add: 1}\n  - {add: 30, does: [send, write], because: "a"}\n'
    third = second.replace("add: 1,", "add: 2,").replace("add: 1}", "add: 2}")
    digests = [policy_from(OPEN + text, tmp_path).digest for text in (first, second, third)]
    assert digests[0] == digests[1] != digests[2]


def test_a_kept_policy_has_its_conditions_and_terms(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(HEAD + OPEN + RISKY + """rules: [{deny: "No.", when: 'risk >= 30 && args.x == "a"'}]\n""")
    first = load([str(file)], state=tmp_path / "state", workspace="/w", home="/home/u")
    again = load([str(file)], state=tmp_path / "state", workspace="/w", home="/home/u")
    for policy in (first, again):
        assert judge(policy, "fs.write_file", {"x": "a"}).effect == "deny"
        assert judge(policy, "fs.write_file", {"x": "b"}).effect == "allow"


def test_a_condition_that_no_longer_compiles_counts_against_the_call(tmp_path: Path) -> None:
    """A kept form is checked once; a library that reads it otherwise later must not open anything."""
    policy = policy_from(OPEN + """rules: [{deny: "No.", when: 'args.x == "a"'}]\n""", tmp_path)
    (scope,) = policy.scopes
    (rule,) = scope.rules
    broken = policy.with_scopes([replace(scope, rules=(replace(rule, when="args.x =="),))])
    decision = judge(broken, "fs.r", {"x": "b"}, principal=ADA)
    assert decision.effect == "deny"
    assert "could not be prepared" in decision.rules[0].unknown


@pytest.mark.pitfall("P-POLICY-01")
@pytest.mark.parametrize("when", ["args.missing == 1", '"deny"', "args.x", "args.n + 1 == 2"])
def test_no_condition_that_got_past_the_check_opens_anything(tmp_path: Path, when: str) -> None:
    """The rules are changed after loading, as if nothing had checked them."""
    for head, default, expected in (("deny", OPEN, "deny"), ("allow", SHUT, "deny")):
        policy = policy_from(f"""{default}rules: [{{{head}: "It.", id: it, when: 'true'}}]\n""", tmp_path)
        (scope,) = policy.scopes
        unchecked = policy.with_scopes([replace(scope, rules=tuple(replace(rule, when=when) for rule in scope.rules))])
        decision = judge(unchecked, "fs.r", {"x": "deny", "n": 2**70})
        assert decision.effect == expected
        if head == "deny":
            assert decision.rules[0].id == "t/it"
            assert decision.rules[0].unknown


@pytest.mark.pitfall("P-POLICY-09")
def test_no_expression_or_condition_hangs_and_none_matches_a_part(tmp_path: Path) -> None:
    loops = "".join(f"args.x.all({name}, " for name in "abcdef") + "a == f" + ")" * 6
    policy = policy_from(
        f"""{OPEN}rules:
  - {{deny: "Nested.", id: nested, args: {{path: {{matches: "^(a+)+$"}}}}}}
  - {{deny: "Host.", id: host, args: {{url: {{matches: "[a-z]+\\\\.example\\\\.com"}}}}}}
  - {{deny: "Loops.", id: loops, tools: fs.loop, when: '{loops}'}}
""",
        tmp_path,
    )
    judge(policy, "fs.loop", {"x": [1]})
    began = time.thread_time()
    assert judge(policy, "fs.r", {"path": "a" * 50_000 + "!"}).effect == "allow"
    assert time.thread_time() - began < 0.05
    began = time.thread_time()
    decision = judge(policy, "fs.loop", {"x": [1] * 200})
    assert time.thread_time() - began < 0.1
    assert (decision.effect, decision.reason) == ("deny", Reason.RULE_ERROR)
    assert effect(policy, "fs.r", {"url": "x.test/?a.example.com"}) == "allow"
    assert effect(policy, "fs.r", {"url": "a.example.com"}) == "deny"
