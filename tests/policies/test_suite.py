from pathlib import Path

import pytest

from policy_kit import HEAD
from soothsayer_mcp.adapters.policy_files.load import LoadErrors
from soothsayer_mcp.adapters.policy_files.suites import read_suite
from soothsayer_mcp.adapters.policy_files.trial import Trial
from soothsayer_mcp.policy.suite import SuiteResult

POLICY = """
default: {read: allow, other: ask}
labels: [{tools: fs.read, does: read}]
rules:
  - {allow: "Here.", id: here, tools: fs.write, args: {path: {under: "${workspace}"}}, limit: {timeout: 5s}}
  - {deny: "Not that.", id: not-that, tools: fs.write, args: {path: {glob: "**/.git/**"}}}
  - {allow: "Ann.", id: ann, tools: fs.send, who: {groups: post}, expires: "2030-01-01"}
"""
TOOLS = """{"tools": [
  {"name": "read", "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}, "size": {}}}},
  {"name": "write", "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}, "size": {}}}},
  {"name": "send", "inputSchema": {"type": "object", "properties": {"to": {}, "path": {}, "size": {}}}}
]}"""
SUITE = "soothsayer: policy-test/v1\npolicy: p.yaml\ntools: {fs: tools.json}\n"
WRITE = "call: {tool: fs.write, args: {path: a}}"


def read(folder: Path, tests: str, *, policy: str = POLICY, scopes: str = "p.yaml") -> Trial:
    (folder / "p.yaml").write_text(HEAD.replace("name: t", "name: p") + policy)
    (folder / "tools.json").write_text(TOOLS)
    (folder / "p.test.yaml").write_text(SUITE.replace("policy: p.yaml", f"policy: {scopes}") + tests)
    return Trial.read(str(folder / "p.test.yaml"))


def run(folder: Path, tests: str) -> SuiteResult:
    trial = read(folder, tests)
    return trial.run(trial.suite.cases)


def differences(folder: Path, tests: str, *, policy: str = POLICY, scopes: str = "p.yaml") -> list[str]:
    trial = read(folder, tests, policy=policy, scopes=scopes)
    result = trial.run(trial.suite.cases)
    return [difference for verdict in result.verdicts for difference in verdict.differences]


def test_a_decision_that_is_as_expected_passes(tmp_path: Path) -> None:
    expect = "{effect: allow, rules: [here], obligations: [limit]}"
    assert differences(tmp_path, f"tests: [{{name: a, {WRITE}, expect: {expect}}}]\n") == []


@pytest.mark.parametrize(
    ("expect", "wanted"),
    [
        ("deny", ["effect: expected deny, found allow by here"]),
        ("{effect: allow, rules: [here]}", ["obligations: expected [], found [limit]"]),
        ("{effect: allow, obligations: limit}", ["rules: expected [], found [here]"]),
        ("{effect: allow, rules: [ann], obligations: limit}", ["rules: expected [ann], found [here]"]),
        ("{effect: allow, rules: here, obligations: limit, would: ask}", ["would: expected ask, found None"]),
        (
            "{effect: allow, rules: here, obligations: limit, reason: no_rule}",
            ["reason: expected no_rule, found None"],
        ),
    ],
)
def test_what_is_found_and_not_expected_fails(tmp_path: Path, expect: str, wanted: list[str]) -> None:
    assert differences(tmp_path, f"tests: [{{name: a, {WRITE}, expect: {expect}}}]\n") == wanted


def test_a_matrix_is_one_case_for_each_combination(tmp_path: Path) -> None:
    tests = """
tests:
  - name: paths
    matrix: {path: [a, /etc/a, .git/x]}
    call: {tool: fs.write, args: {path: "${path}"}}
    expect: {where: [{path: a, effect: allow}, {path: .git/x, effect: deny}], else: ask}
"""
    result = run(tmp_path, tests)
    assert [verdict.case.name for verdict in result.verdicts] == [
        'paths, path "a"',
        'paths, path "/etc/a"',
        'paths, path ".git/x"',
    ]
    assert result.failed == ()


def test_callers_and_times_are_those_of_the_test(tmp_path: Path) -> None:
    tests = """
principals: {ann: {sub: ann, groups: [post]}, bob: {sub: bob}}
defaults: {who: ann}
tests:
  - {name: ann may, call: {tool: fs.send}, expect: {effect: allow, rules: ann}}
  - {name: bob may not, who: bob, call: {tool: fs.send}, expect: ask}
  - {name: ann might no longer, now: "2030-01-02T00:00:00Z", call: {tool: fs.send}, expect: ask}
"""
    assert differences(tmp_path, tests) == []


def test_arguments_are_checked_against_the_saved_schema(tmp_path: Path) -> None:
    expect = "{effect: deny, rules: arguments/invalid, reason: arguments_invalid}"
    tests = f"tests: [{{name: a, call: {{tool: fs.write, args: {{path: 5}}}}, expect: {expect}}}]\n"
    assert differences(tmp_path, tests) == []


def test_a_rule_is_covered_when_it_said_yes_once_and_no_once(tmp_path: Path) -> None:
    one = f"tests:\n  - {{name: a, {WRITE}, expect: allow}}\n"
    uncovered = [(rule.rule, rule.lacks) for rule in run(tmp_path, one).uncovered]
    assert uncovered == [("p/here", "never said no"), ("p/not-that", "never said yes"), ("p/ann", "never said yes")]
    two = one + "  - {name: b, call: {tool: fs.write, args: {path: .git/x}}, expect: deny}\n"
    result = run(tmp_path, two + "  - {name: c, call: {tool: fs.read}, expect: allow}\n")
    assert ([rule.rule for rule in result.uncovered], result.covered_percent) == (["p/ann"], 66)


@pytest.mark.parametrize(
    ("tests", "wanted"),
    [
        ("tests: []\n", "4:8: at least one is due [policy-type]"),
        ("tests: [{name: a, call: {tool: fs.wirte}, expect: ask}]\n", 'did you mean "fs.write"? [policy-test]'),
        ("tests: [{name: a, call: {tool: fs.read}, expect: aks}]\n", 'did you mean "ask"? [policy-key]'),
        ("tests: [{name: a, call: {tool: fs.read}, expect: {rules: x}}]\n", "says which effect is due [policy-test]"),
        ("tests: [{name: a, who: eve, call: {tool: fs.read}, expect: ask}]\n", 'no principal is called "eve"'),
        ("tests: [{name: a, now: soon, call: {tool: fs.read}, expect: ask}]\n", '"soon" is no time'),
        ("tests: [{name: a, matrix: {b: [1]}, call: {tool: fs.read}, expect: ask}]\n", '"b" is never used in the call'),
        ("tests: [{name: a, expect: ask}]\n", "a test has one of call and calls"),
        ("tests: [{name: a, call: {tool: fs.read}}]\n", "an expectation is due"),
        ("tests: [{name: a, calls: [{tool: fs.read, expect: ask}], expect: ask}]\n", "has its own expect"),
        (
            "tests: [{name: a, call: {tool: fs.read}, expect: {effects: {ask: 1}}}]\n",
            "`effects` counts the decisions of calls in parallel",
        ),
        (
            'tests: [{name: a, given: [{tool: "fs.@x/y"}], call: {tool: fs.read}, expect: ask}]\n',
            "only tool calls are steps",
        ),
        (
            "tests: [{name: a, call: {tool: fs.read}, expect: ask}, {name: a, call: {tool: fs.read}, expect: ask}]\n",
            'two tests are called "a"',
        ),
    ],
)
def test_a_suite_that_is_wrong_does_not_run(tmp_path: Path, tests: str, wanted: str) -> None:
    with pytest.raises(LoadErrors) as raised:
        run(tmp_path, tests)
    assert wanted in str(raised.value)


def test_an_expected_rule_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoadErrors) as raised:
        run(tmp_path, f"tests: [{{name: a, {WRITE}, expect: {{effect: allow, rules: her}}}}]\n")
    (problem,) = raised.value.problems
    assert (problem.nearest, problem.id) == ("here", "policy-test-rule")


PAST = """
default: {read: allow, other: allow}
labels: [{tools: fs.read, does: read}, {tools: fs.send, does: send, sinks: args.to, trust: first_party}]
rules:
  - {deny: "Not after a read.", id: unread, tools: fs.write, tainted: true}
  - {ask: "Three are many.", id: many, tools: fs.write, when: run.calls >= 2}
  - {ask: "One went wrong.", id: wrong, tools: fs.write, when: run.errors > 0}
  - {deny: "Refused before.", id: refused, tools: fs.write, when: run.denials > 0}
  - {ask: "To whom?", id: whom, tools: fs.send, flow: {into: sinks, unless_from: [intent, first_party]}}
  - {deny: "No model.", id: no-model, tools: "fs.@sampling/createMessage"}
"""
SEND = "call: {tool: fs.send, args: {to: bob}}"


@pytest.mark.parametrize(
    "test",
    [
        f"{{name: a, {WRITE}, expect: {{effect: allow, rules: default}}}}",
        f"{{name: a, given: [{{tool: fs.read}}], {WRITE}, expect: {{effect: deny, rules: unread}}}}",
        f"{{name: a, given: [{{tool: fs.read, state: in_flight}}], {WRITE}, expect: allow}}",
        f"{{name: a, given: [{{tool: fs.read, state: refused}}], {WRITE}, expect: {{effect: deny, rules: refused}}}}",
        f"{{name: a, given: [{{tool: fs.send}}, {{tool: fs.send}}], {WRITE}, expect: {{effect: ask, rules: many}}}}",
        f"{{name: a, given: [{{tool: fs.send, ok: false}}], {WRITE}, expect: {{effect: ask, rules: wrong}}}}",
        f"{{name: a, given: [{{tool: fs.send, state: unknown}}], {WRITE}, expect: {{effect: ask, rules: wrong}}}}",
        f"{{name: a, parallel: 3, {WRITE}, expect: {{effects: {{allow: 2, ask: 1}}}}}}",
        (
            "{name: a, calls: [{tool: fs.send, args: {to: bob}, expect: ask}, {tool: fs.read, expect: allow}, "
            "{tool: fs.write, expect: {effect: deny, rules: unread}}]}"
        ),
        f"{{name: a, {SEND}, expect: {{effect: ask, rules: whom}}}}",
        f"{{name: a, intent: tell bob, {SEND}, expect: {{effect: allow, rules: default}}}}",
        f"{{name: a, intent: {{text: tell bob, declared_by: agent}}, {SEND}, expect: ask}}",
        f"{{name: a, given: [{{tool: fs.send, result: {{name: bob}}}}], {SEND}, expect: allow}}",
        f"{{name: a, given: [{{tool: fs.read, result: {{name: bob}}}}], {SEND}, expect: ask}}",
        '{name: a, call: {tool: "fs.@sampling/createMessage"}, expect: {effect: deny, rules: no-model}}',
        '{name: a, call: {tool: "fs.@resources/read", args: {uri: x}}, expect: {effect: deny, rules: default}}',
    ],
)
def test_earlier_and_simultaneous_calls_count_as_they_do_in_a_run(tmp_path: Path, test: str) -> None:
    assert differences(tmp_path, f"tests: [{test}]\n", policy=PAST) == []


COUNTED = """
default: {read: allow, other: allow}
rules:
  - {deny: "Not after a read.", id: unread, tools: fs.write, after: fs.read}
  - {ask: "Three are many.", id: many, tools: fs.send, history: {count: calls, window: 1h, above: 2}}
  - {allow: "Two at most.", id: two, tools: fs.write, limit: {calls: 2}}
"""


@pytest.mark.parametrize(
    "test",
    [
        f"{{name: a, {WRITE}, expect: {{effect: allow, rules: two, obligations: limit}}}}",
        f"{{name: a, given: [{{tool: fs.read}}], {WRITE}, expect: {{effect: deny, rules: unread}}}}",
        f"{{name: a, given: [{{tool: fs.read, ok: false}}], {WRITE}, expect: allow}}",
        f"{{name: a, given: [{{tool: fs.read, state: in_flight}}], {WRITE}, expect: deny}}",
        f"{{name: a, given: [{{tool: fs.read, state: unknown}}], {WRITE}, expect: deny}}",
        f"{{name: a, given: [{{tool: fs.read, state: refused}}], {WRITE}, expect: allow}}",
        "{name: a, given: [{tool: fs.send}, {tool: fs.send, ago: 59m}], call: {tool: fs.send}, expect: ask}",
        "{name: a, given: [{tool: fs.send}, {tool: fs.send, ago: 61m}], call: {tool: fs.send}, expect: allow}",
        f"{{name: a, parallel: 3, {WRITE}, expect: {{effects: {{allow: 2, deny: 1}}}}}}",
        (
            "{name: a, calls: [{tool: fs.write, expect: allow}, {tool: fs.write, ok: false, expect: allow},"
            " {tool: fs.write, expect: {effect: deny, reason: budget_spent}}]}"
        ),
    ],
)
def test_earlier_calls_are_counted_as_the_store_counts_them(tmp_path: Path, test: str) -> None:
    assert differences(tmp_path, f"tests: [{test}]\n", policy=COUNTED) == []


def test_calls_that_go_otherwise_than_expected_are_told_one_by_one(tmp_path: Path) -> None:
    calls = "calls: [{tool: fs.read, expect: allow}, {tool: fs.write, expect: allow}]"
    wanted = ["call 2: effect: expected allow, found deny by unread"]
    assert differences(tmp_path, f"tests: [{{name: a, {calls}}}]\n", policy=PAST) == wanted
    together = "parallel: 3, call: {tool: fs.write}, expect: {effects: {allow: 3}}"
    wanted = ["effects: expected 3 allow, found 2", "effects: expected 0 ask, found 1"]
    assert differences(tmp_path, f"tests: [{{name: a, {together}}}]\n", policy=PAST) == wanted


def test_scopes_are_tested_together_and_rules_are_named_without_their_policy(tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text(
        'soothsayer: policy/v1\nname: o\ndefault: leave\nrules: [{deny: "No.", id: never, tools: fs.send}]\n'
    )
    tests = """
tests:
  - {name: a, call: {tool: fs.send}, expect: {effect: deny, rules: never}}
  - {name: b, call: {tool: fs.read}, expect: {effect: allow, rules: default}}
"""
    assert differences(tmp_path, tests, scopes="{org: o.yaml, user: p.yaml}") == []


def test_risk_is_compared_where_it_is_said(tmp_path: Path) -> None:
    policy = 'default: ask\nrisk: [{add: 30, because: "it sends", tools: fs.send}]\n'
    tests = "tests: [{name: a, call: {tool: fs.send}, expect: {effect: ask, rules: default, risk: 31}}]\n"
    assert differences(tmp_path, tests, policy=policy) == ["risk: expected 31, found 30"]
    assert differences(tmp_path, tests.replace("31", "30"), policy=policy) == []


MUTATED = """
default: {read: ask, other: ask}
rules:
  - {allow: "Few.", id: few, tools: fs.write, args: {size: {max: 5}, path: {under: "${workspace}"}}}
  - {deny: "None.", id: none, tools: fs.send, args: {path: {glob: "*.key"}}, who: {groups: out}}
"""
NOTICED = """
principals: {ann: {sub: ann, groups: [out]}}
tests:
  - {name: a, call: {tool: fs.write, args: {size: 5, path: a}}, expect: allow}
  - {name: b, call: {tool: fs.write, args: {size: 6, path: a}}, expect: ask}
  - {name: c, call: {tool: fs.write, args: {size: 5, path: /a}}, expect: ask}
  - {name: d, call: {tool: fs.write, args: {path: a}}, expect: ask}
  - {name: e, call: {tool: fs.read, args: {size: 5, path: a}}, expect: ask}
  - {name: f, who: ann, call: {tool: fs.send, args: {path: a.key}}, expect: deny}
  - {name: g, who: ann, call: {tool: fs.read, args: {path: a.key}}, expect: ask}
  - {name: h, who: ann, call: {tool: fs.send, args: {path: a}}, expect: ask}
  - {name: i, call: {tool: fs.send, args: {path: a.key}}, expect: ask}
"""
CHANGES = [
    ("p/few", "the rule is dropped", "a"),
    ("p/few", "`args.path.under` becomes /", "c"),
    ("p/few", "`tools`: fs.write becomes fs.*", "e"),
    ("p/few", "`args.size.max`: 5 becomes 4", "a"),
    ("p/few", "`args.size.max`: 5 becomes 6", "b"),
    ("p/none", "deny becomes ask", "f"),
    ("p/none", "the rule is dropped", "f"),
    ("p/none", "`args.path.glob` becomes **", "h"),
    ("p/none", "`tools` is dropped", "g"),
    ("p/none", "`who` is dropped", "i"),
]


def test_a_suite_that_looks_at_both_sides_of_everything_notices_every_change(tmp_path: Path) -> None:
    trial = read(tmp_path, NOTICED, policy=MUTATED)
    seen: list[tuple[int, int]] = []
    survivors, tried = trial.unnoticed(lambda done, total: seen.append((done, total)))
    assert ([(one.rule, one.change) for one in survivors], tried) == ([], 16)
    assert seen == [(number, tried) for number in range(1, tried + 1)]


@pytest.mark.parametrize(("rule", "change", "test"), CHANGES)
def test_a_change_that_no_test_notices_is_told(tmp_path: Path, rule: str, change: str, test: str) -> None:
    fewer = "".join(f"{line}\n" for line in NOTICED.splitlines() if f"name: {test}," not in line)
    survivors, _ = read(tmp_path, fewer, policy=MUTATED).unnoticed()
    assert (rule, change) in [(one.rule, one.change) for one in survivors]


def test_a_suite_or_its_tools_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    with pytest.raises(LoadErrors, match="cannot be read"):
        read_suite(str(tmp_path / "gone.test.yaml"))
    (tmp_path / "p.test.yaml").write_text(SUITE + f"tests: [{{name: a, {WRITE}, expect: ask}}]\n")
    with pytest.raises(LoadErrors, match="holds no saved tools/list"):
        read_suite(str(tmp_path / "p.test.yaml"))


def test_what_the_record_hides_is_compared_where_a_test_says_it(tmp_path: Path) -> None:
    policy = POLICY + '  - {also: "Hidden.", tools: fs.write, redact: {in: trace, find: [iban, email]}}\n'
    expect = "{effect: allow, rules: here, obligations: limit, masks: %s}"
    tests = f"tests: [{{name: a, {WRITE}, expect: {expect}}}]\n"
    assert differences(tmp_path, tests % "[iban, email]", policy=policy) == []
    assert differences(tmp_path, tests % "iban", policy=policy) == ["masks: expected [iban], found [email, iban]"]


def test_a_rule_without_matchers_need_not_say_no(tmp_path: Path) -> None:
    rule = '{also: "Slow.", id: slow, limit: {timeout: 5s}}'
    trial = read(tmp_path, f"tests: [{{name: a, {WRITE}, expect: ask}}]\n", policy=f"default: ask\nrules: [{rule}]\n")
    assert trial.run(trial.suite.cases).uncovered == ()
