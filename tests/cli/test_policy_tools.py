"""The commands that help to write a policy and to prove it."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from commands import Soothsayer
from generate import FOLDER
from soothsayer_mcp.cli.exits import Exit


@pytest.mark.parametrize(("argv", "page"), [((), "policy"), (("policy",), "policy"), (("test",), "policy-test")])
def test_the_command_prints_the_schema_that_is_published(
    soothsayer: Soothsayer, argv: tuple[str, ...], page: str
) -> None:
    ended = soothsayer("policy", "schema", *argv)
    assert (ended.code, ended.err) == (Exit.DONE, "")
    assert ended.out == (FOLDER / f"{page}.schema.json").read_text()
    assert json.loads(ended.out)["additionalProperties"] is False


SUITE = """soothsayer: policy-test/v1
policy: p.yaml
tools: {fs: tools.json}
tests:
  - {name: reads pass, call: {tool: fs.read}, expect: {effect: allow, rules: default}}
  - {name: writes <pass>, call: {tool: fs.write}, expect: allow}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(
        "soothsayer: policy/v1\nname: p\ndefault: {read: allow, other: ask}\nlabels: [{tools: fs.read, does: read}]\n"
        'rules: [{deny: "Never.", id: never, tools: fs.write, args: {path: {under: /etc}}}]\n'
    )
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    tools = [{"name": name, "inputSchema": schema} for name in ("read", "write")]
    (tmp_path / "tools.json").write_text(json.dumps({"tools": tools}))
    (tmp_path / "p.test.yaml").write_text(SUITE)
    return tmp_path


def test_a_suite_that_fails_says_what_was_expected_and_found(soothsayer: Soothsayer, folder: Path) -> None:
    ended = soothsayer("policy", "test", str(folder / "p.yaml"))
    assert ended.code == Exit.NO
    assert ended.out.splitlines() == [
        f"{folder}/p.test.yaml: 2 tests, 1 failed; 0 of 1 rules covered",
        "  6:5 writes <pass>",
        "      effect: expected allow, found ask by default",
        "  p/never never said yes",
    ]


def test_tests_are_chosen_by_name_and_coverage_is_asked_for(soothsayer: Soothsayer, folder: Path) -> None:
    suite = str(folder / "p.test.yaml")
    assert soothsayer("policy", "test", suite, "-k", "reads").code == Exit.DONE
    assert soothsayer("policy", "test", suite, "-k", "nothing like it").code == Exit.NO
    assert soothsayer("policy", "test", suite, "-k", "reads", "--mutate").code == Exit.USAGE
    (folder / "p.test.yaml").write_text(SUITE.replace("write}, expect: allow", "write}, expect: ask"))
    assert soothsayer("policy", "test", suite).code == Exit.DONE
    ended = soothsayer("policy", "test", suite, "--coverage", "50")
    assert (ended.code, ended.out.splitlines()[-1]) == (Exit.NO, "  0 % of the rules are covered, 50 % are due")


def test_changes_that_no_test_notices_fail_it(soothsayer: Soothsayer, folder: Path) -> None:
    (folder / "p.test.yaml").write_text(SUITE.replace("write}, expect: allow", "write}, expect: ask"))
    ended = soothsayer("policy", "test", str(folder / "p.test.yaml"), "--mutate", "--json")
    assert ended.code == Exit.NO
    (told,) = json.loads(ended.out)["suites"]
    assert (told["passed"], told["rules"], told["covered_percent"], told["changes"]) == (False, 1, 0, 6)
    assert {"rule": "p/never", "change": "deny becomes ask"} in told["unnoticed"]
    assert [test["passed"] for test in told["tests"]] == [True, True]


def test_a_report_for_ci_is_written(soothsayer: Soothsayer, folder: Path) -> None:
    report = folder / "report.xml"
    ended = soothsayer("policy", "test", str(folder / "p.test.yaml"), "--coverage", "100", "--junit", str(report))
    assert ended.code == Exit.NO
    suite = ET.parse(report).getroot()[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("p", "3", "2")
    failed = {case.get("name"): case[0].get("message") for case in suite if len(case)}
    assert failed == {
        "writes <pass>": "effect: expected allow, found ask by default",
        "100 % of the rules are covered": "p/never never said yes",
    }


def test_a_policy_without_tests_or_a_suite_that_is_wrong_says_so(soothsayer: Soothsayer, folder: Path) -> None:
    (folder / "q.yaml").write_text("")
    assert (
        "there is no q.test.yaml beside it [policy-untested]"
        in soothsayer("policy", "test", str(folder / "q.yaml")).err
    )
    (folder / "p.test.yaml").write_text(SUITE.replace("fs.write", "fs.wirte"))
    ended = soothsayer("policy", "test", str(folder / "p.test.yaml"))
    assert (ended.code, 'did you mean "fs.write"?' in ended.err) == (Exit.USAGE, True)


def test_the_tests_of_a_packaged_policy_run_by_its_name(soothsayer: Soothsayer) -> None:
    assert soothsayer("policy", "test", "guarded", "--json").code == Exit.DONE
    assert "one of " in soothsayer("policy", "test", "gaurded").err


def test_an_organisation_signs_its_policy_and_prints_the_key_that_configurations_name(
    soothsayer: Soothsayer, folder: Path
) -> None:
    (folder / "p.yaml").write_text(
        "soothsayer: policy/v1\nname: p\ndefault: leave\nservers: {a: {}}\nrules: [{deny: No way., tools: a.b}]\n"
    )
    argv = ("policy", "sign", str(folder / "p.yaml"), "--key", str(folder / "key"))
    assert "this is no private key" in soothsayer(*argv).err
    ended = soothsayer(*argv, "--new-key", "--expires", "2999-01-01", "--json")
    assert ended.code == Exit.DONE
    key = json.loads(ended.out)["signed"]["key"]
    assert ((folder / "key").stat().st_mode & 0o777, len(key)) == (0o600, 72)
    assert soothsayer(*argv, "--new-key").code == Exit.USAGE
    config = folder / "soothsayer.yaml"
    config.write_text(f'soothsayer: config/v1\norganisation: {{policy: p.yaml, key: "{key}"}}\n')
    ended = soothsayer("policy", "check", "-c", str(config), "--json")
    assert [scope["kind"] for scope in json.loads(ended.out)["policies"][0]["scopes"]] == ["org", "user"]
    (folder / "p.yaml").write_text("soothsayer: policy/v1\nname: p\ndefault: leave\nabout: nothing is left\n")
    ended = soothsayer("policy", "check", "-c", str(config))
    assert (ended.code, "p.yaml is not what was signed [policy-signature]" in ended.err) == (Exit.USAGE, True)


CASES = (
    '{"id": "b1", "kind": "benign", "tags": ["read"], "steps": [{"tool": "fs.read", "args": {"path": "a"}}]}',
    '{"id": "b2", "kind": "benign", "tags": ["write"], "steps": [{"tool": "fs.write", "args": {"path": "a"}}]}',
    '{"id": "b3", "kind": "benign", "steps": [{"tool": "fs.write", "args": {"path": "/etc/a"}}]}',
    (
        '{"id": "a1", "kind": "attack", "tags": ["write"],'
        ' "steps": [{"tool": "fs.write", "args": {"path": "/etc"}, "bad": true}]}'
    ),
    '{"id": "a2", "kind": "attack", "tags": ["read"], "steps": [{"tool": "fs.read", "args": {}, "bad": true}]}',
    '{"id": "a3", "kind": "attack", "steps": [{"tool": "fs.write", "args": {"path": "k"}, "bad": true}]}',
)


@pytest.mark.parametrize(
    ("approver", "done", "stopped"),
    [("ideal", (2, 1), 2), ("always", (2, 1), 1), ("never", (1, 1), 2)],
)
def test_a_score_tells_work_done_questions_and_attacks_stopped_together(
    soothsayer: Soothsayer, folder: Path, approver: str, done: tuple[int, int], stopped: int
) -> None:
    (folder / "cases.jsonl").write_text("\n".join(CASES))
    argv = ("policy", "score", str(folder / "cases.jsonl"), "--policy", str(folder / "p.yaml"), "--approver", approver)
    told = json.loads(soothsayer(*argv, "--json").out)
    assert told["figures"][0] == {
        "tag": "all",
        "benign": 3,
        "benign_done": done[0],
        "asks_in_benign": done[1],
        "attacks": 3,
        "attacks_stopped": stopped,
    }
    assert [one["tag"] for one in told["figures"]] == ["all", "read", "write"]
    assert {"id": "a2", "kind": "attack", "at": "fs.read was let through by default"} in told["failures"]
    page = soothsayer(*argv).out
    assert f"{stopped} of 3" in page
    assert "b3: not done, fs.write: deny by p/never" in page


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("{", "this is no JSON"),
        ('{"id": "a", "kind": "good", "steps": []}', "a case is an object with id, kind"),
        ('{"id": "a", "kind": "benign", "steps": []}', "there is a step"),
        ('{"id": "a", "kind": "benign", "stesp": []}', 'unknown key "stesp"'),
        ('{"id": "a", "kind": "benign", "steps": [{"tool": "x"}]}', "a step has tool"),
        ('{"id": "a", "kind": "attack", "steps": [{"tool": "a.b"}]}', "an attack has a bad step"),
        ('{"id": "a", "kind": "benign", "steps": [{"tool": "a.b", "bad": true}]}', "honest work has no bad step"),
        ("", "there are no cases"),
    ],
)
def test_a_case_that_is_wrong_is_told_with_its_line(
    soothsayer: Soothsayer, folder: Path, line: str, wanted: str
) -> None:
    (folder / "cases.jsonl").write_text(line)
    ended = soothsayer("policy", "score", str(folder / "cases.jsonl"), "--policy", str(folder / "p.yaml"))
    assert (ended.code, wanted in ended.err) == (Exit.USAGE, True)


@pytest.mark.parametrize(
    ("rule", "warned"),
    [
        ("{deny: x, id: x, args: {command: {argv: [git push]}}}", ["policy-argv-deny"]),
        ("{deny: x, id: x, args: {url: {any_of: [{cidr: private}, {host: a.test}]}}}", ["policy-cidr-deny"]),
        ("{deny: x, id: x, args: {command: {not: {argv: [git log]}}}}", []),
        ("{allow: x, id: x, tools: a.b, args: {command: {argv: [git log]}}}", []),
        ('{allow: x, id: x, tools: a.b, expires: "2020-01-01"}', ["policy-expired"]),
        ('{allow: x, id: x, tools: a.b, expires: "2999-01-01"}', []),
    ],
)
def test_what_loads_and_should_be_looked_at_again_is_warned_of(
    soothsayer: Soothsayer, folder: Path, rule: str, warned: list[str]
) -> None:
    (folder / "p.yaml").write_text(f"soothsayer: policy/v1\nname: p\nservers: {{a: {{}}}}\nrules: [{rule}]\n")
    ended = soothsayer("policy", "check", str(folder / "p.yaml"), "--json")
    assert ended.code == Exit.DONE
    found = json.loads(ended.out)["warnings"]
    assert [(one["rule"], one["id"]) for one in found] == [("p/x", word) for word in warned]
    strict = soothsayer("policy", "check", str(folder / "p.yaml"), "--strict")
    assert strict.code == (Exit.NO if warned else Exit.DONE)
    assert all(f"[{word}]" in strict.err for word in warned)


OPENING = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    '"clientInfo":{"name":"h","version":"1"}}}\n{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
)
READ = '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"a"}}}\n'


def test_a_projects_policy_holds_on_a_real_proxy_and_its_decisions_are_reproduced(
    soothsayer: Soothsayer, tmp_path: Path
) -> None:
    (tmp_path / ".soothsayer").mkdir()
    (tmp_path / ".soothsayer" / "policy.yaml").write_text(
        'soothsayer: policy/v1\nname: ours\nrules: [{deny: "Never here.", id: never, tools: "*.read_*"}]\n'
    )
    state = str(tmp_path / "state")
    server = [sys.executable, "-m", "soothsayer_mcp.demo.servers", "files", str(tmp_path)]
    argv = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--state", state, "--name", "files", "--", *server]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        proxy.stdin.write(OPENING + READ)
        proxy.stdin.flush()
        answers = [json.loads(proxy.stdout.readline()) for _ in range(2)]
        proxy.stdin.close()
    assert "Denied by policy rule ours/never" in answers[1]["result"]["content"][0]["text"]
    told = json.loads(soothsayer("policy", "replay", "--json", "--state", state).out)
    assert (told["counts"]["same"], told["changed"]) == (told["steps"], [])
    assert told["steps"] == 2  # the self-test's, and this one


BARE = "soothsayer: policy/v1\nname: p\nservers: {a: {}}\n"


@pytest.mark.parametrize(
    ("rules", "warned"),
    [
        ("""{allow: x, id: x, tools: a.b, when: 'string(args.c).matches("[a-z]+")'}""", ["policy-search"]),
        ("""{allow: x, id: x, tools: a.b, when: 'string(args.c).matches("^[a-z]+$")'}""", []),
        ("""{deny: x, id: x, tools: a.b, when: 'string(args.c).matches("[a-z]+")'}""", []),
        (
            "{ask: x, id: x, tools: a.b}, {allow: z, id: z, tools: a.b, args: {c: d}, verify: [{schema: output}]}",
            ["policy-thin-ask"],
        ),
        ("{ask: x, id: x, tools: a.c}, {allow: z, id: z, tools: a.b, verify: [{schema: output}]}", []),
    ],
)
def test_conditions_that_search_and_asks_without_the_checks_of_an_allow_are_warned_of(
    soothsayer: Soothsayer, folder: Path, rules: str, warned: list[str]
) -> None:
    (folder / "p.yaml").write_text(f"{BARE}rules: [{rules}]\n")
    ended = soothsayer("policy", "check", str(folder / "p.yaml"), "--json")
    assert ended.code == Exit.DONE, ended.err
    assert [one["id"] for one in json.loads(ended.out)["warnings"]] == warned


def test_a_policy_without_tests_is_warned_of(soothsayer: Soothsayer, tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text(f"{BARE}default: deny\n")
    warned = json.loads(soothsayer("policy", "check", str(tmp_path / "q.yaml"), "--json").out)["warnings"]
    assert [one["id"] for one in warned] == ["policy-untested"]
    (tmp_path / "q.test.yaml").write_text("")
    assert json.loads(soothsayer("policy", "check", str(tmp_path / "q.yaml"), "--json").out)["warnings"] == []


def test_findings_are_told_in_the_forms_of_code_hosts(soothsayer: Soothsayer, tmp_path: Path) -> None:
    file = tmp_path / "q.yaml"
    file.write_text(f"{BARE}default: deny\n")
    ended = soothsayer("policy", "check", str(file), "--format", "github")
    assert ended.code == Exit.DONE
    assert ended.out.startswith(f"::warning file={file},title=policy-untested::{file}: no test tries it")
    assert soothsayer("policy", "check", str(file), "--format", "github", "--strict").code == Exit.NO
    file.write_text(f"{BARE}defualt: deny\n")
    ended = soothsayer("policy", "check", str(file), "--format", "github")
    assert ended.code == Exit.USAGE
    assert ended.out.startswith(f"::error file={file},line=4,col=1,title=policy-key::")
    run = json.loads(soothsayer("policy", "check", str(file), "--format", "sarif").out)["runs"][0]
    found = [
        (one["ruleId"], one["level"], one["locations"][0]["physicalLocation"]["region"]["startLine"])
        for one in run["results"]
    ]
    assert found == [("policy-key", "error", 4), ("policy-untested", "warning", 1)]
    assert [one["id"] for one in run["tool"]["driver"]["rules"]] == ["policy-key", "policy-untested"]
    assert soothsayer("policy", "check", str(file), "--format", "sarif", "--json").code == Exit.USAGE


def test_a_call_that_nobody_made_is_explained_as_the_first_of_its_run(soothsayer: Soothsayer, folder: Path) -> None:
    """Nothing is unknown of what came before it."""
    rule = "{deny: Not twice., id: twice, tools: a.b, history: {count: calls, above: 1}}"
    (folder / "p.yaml").write_text(f"{BARE}rules: [{rule}]\n")
    told = json.loads(soothsayer("policy", "explain", "a.b", "--policy", str(folder / "p.yaml"), "--json").out)
    assert (told["explanation"]["effect"], told["explanation"]["candidates"][0]["matched"]) == ("ask", False)
    assert "explained as the first call of a run for which nobody said what it is for" in told["explanation"]["notes"]
