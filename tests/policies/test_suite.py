from pathlib import Path

import pytest

from policy_kit import HEAD
from soothsayer_mcp.adapters.policy_files.load import LoadErrors, load
from soothsayer_mcp.adapters.policy_files.suites import RUN, read_suite
from soothsayer_mcp.policy.suite import SuiteResult, run_suite

POLICY = """
default: {read: allow, other: ask}
labels: [{tools: fs.read, does: read}]
rules:
  - {allow: "Here.", id: here, tools: fs.write, args: {path: {under: "${workspace}"}}, limit: {timeout: 5s}}
  - {deny: "Not that.", id: not-that, tools: fs.write, args: {path: {glob: "**/.git/**"}}}
  - {allow: "Ann.", id: ann, tools: fs.send, who: {groups: post}, expires: "2030-01-01"}
"""
TOOLS = """{"tools": [
  {"name": "read", "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}}},
  {"name": "write", "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}}},
  {"name": "send", "inputSchema": {"type": "object"}}
]}"""
SUITE = "soothsayer: policy-test/v1\npolicy: p.yaml\ntools: {fs: tools.json}\n"
WRITE = "call: {tool: fs.write, args: {path: a}}"


def run(folder: Path, tests: str) -> SuiteResult:
    (folder / "p.yaml").write_text(HEAD.replace("name: t", "name: p") + POLICY)
    (folder / "tools.json").write_text(TOOLS)
    (folder / "p.test.yaml").write_text(SUITE + tests)
    suite = read_suite(str(folder / "p.test.yaml"))
    policy = load(suite.policies, state=None, workspace="/w", known_servers=suite.servers)
    assert suite.unknown_rules(policy) == ()
    return run_suite(policy, RUN, suite.cases)


def differences(folder: Path, tests: str) -> list[str]:
    return [difference for verdict in run(folder, tests).verdicts for difference in verdict.differences]


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
    assert run(tmp_path, one).uncovered == ("p/here", "p/not-that", "p/ann")
    two = one + "  - {name: b, call: {tool: fs.write, args: {path: .git/x}}, expect: deny}\n"
    result = run(tmp_path, two + "  - {name: c, call: {tool: fs.read}, expect: allow}\n")
    assert (result.uncovered, result.covered_percent) == (("p/ann",), 66)


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
        ("tests: [{name: a, given: [], call: {tool: fs.read}, expect: ask}]\n", '"given" is not supported yet'),
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
    (tmp_path / "p.yaml").write_text(HEAD.replace("name: t", "name: p") + POLICY)
    (tmp_path / "tools.json").write_text(TOOLS)
    (tmp_path / "p.test.yaml").write_text(
        SUITE + f"tests: [{{name: a, {WRITE}, expect: {{effect: allow, rules: her}}}}]\n"
    )
    suite = read_suite(str(tmp_path / "p.test.yaml"))
    (problem,) = suite.unknown_rules(load(suite.policies, state=None))
    assert (problem.nearest, problem.id) == ("here", "policy-test-rule")


def test_a_suite_or_its_tools_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    with pytest.raises(LoadErrors, match="cannot be read"):
        read_suite(str(tmp_path / "gone.test.yaml"))
    (tmp_path / "p.test.yaml").write_text(SUITE + f"tests: [{{name: a, {WRITE}, expect: ask}}]\n")
    with pytest.raises(LoadErrors, match="holds no saved tools/list"):
        read_suite(str(tmp_path / "p.test.yaml"))
