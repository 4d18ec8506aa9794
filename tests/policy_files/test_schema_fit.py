"""Rules beside the schemas of the tools that they name: what no call could be is an error with a place."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from policy_kit import HEAD, policy_from
from soothsayer_mcp.adapters.policy_files.load import KnownTools, LoadErrors, load
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.warn_probes import Allowed, about_probes

DEPLOY: Mapping[str, Json] = {
    "type": "object",
    "properties": {
        "num": {"type": "integer", "minimum": 1, "maximum": 10},
        "share": {"type": "number"},
        "path": {"type": "string"},
        "env": {"enum": ["prod", "staging"]},
        "only": {"const": "a"},
        "to": {"type": "array", "items": {"type": "string"}},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "open": {},
        "sure": {"$ref": "#/$defs/Sure"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}},
        "opt": {"type": "string"},
        "loop": {"$ref": "#/$defs/Loop"},
    },
    "required": ["num", "share", "path", "env", "only", "to", "maybe", "open", "sure", "items"],
    "$defs": {"Sure": {"type": "boolean"}, "Loop": {"$ref": "#/$defs/Loop"}},
}
MOVE: Mapping[str, Json] = {
    "properties": {"env": {"enum": ["dev"]}, "path": {"type": "integer"}, "elsewhere": {}},
    "required": ["env", "path"],
}
TOOLS: KnownTools = {"k": {"deploy": DEPLOY, "move": MOVE}}


def found(rule: str, folder: Path, tools: KnownTools = TOOLS) -> list[str]:
    """What is wrong with one rule."""
    file = folder / "p.yaml"
    file.write_text(HEAD + f"rules:\n  - {{{rule}}}\n")
    try:
        load([str(file)], known_servers=["k"], known_tools=tools)
    except LoadErrors as errors:
        return [str(problem).removeprefix(f"{file}:") for problem in errors.problems]
    return []


@pytest.mark.parametrize(
    ("args", "wrong"),
    [
        ("{num: {under: /w}}", "`under` reads text, and by its schema this is a number [policy-arg-type]"),
        ("{num: {min: 11}}", "no value is min 11: the schema ends at 10 [policy-never]"),
        ("{num: {below: 1}}", "no value is below 1: the schema ends at 1 [policy-never]"),
        ("{num: {max: 1}}", ""),
        ("{num: {above: 9}}", ""),
        ("{path: {min: 3}}", "`min` reads a number, and by its schema this is text [policy-arg-type]"),
        ("{path: 3}", "`is` reads a number, and by its schema this is text [policy-arg-type]"),
        ("{path: {not: {min: 3}}}", "`min` reads a number, and by its schema this is text [policy-arg-type]"),
        ("{path: {any_of: [{under: /w}, {max: 2}]}}", "`max` reads a number, and by its schema this is text"),
        ("{path: {max_items: 2}}", "`max_items` reads a list, and by its schema this is text [policy-arg-type]"),
        ("{env: prodd}", '"prodd" is none of the values in the schema: prod, staging; did you mean "prod"?'),
        ("{env: {in: [prod, stagin]}}", '"stagin" is none of the values in the schema: prod, staging; did you mean'),
        ("{env: {not: {in: [prodd]}}}", '"prodd" is none of the values in the schema'),
        ("{env: prod}", ""),
        ("{env: {matches: p.*}}", ""),
        ("{only: b}", '"b" is none of the values in the schema: a'),
        ("{to: {email_domain: a.test}}", ""),
        ("{to: {max_items: 2}}", ""),
        ("{to: {min: 2}}", "`min` reads a number, and by its schema this is text [policy-arg-type]"),
        ("{to: {argv0: ls}}", ""),
        ("{maybe: {is: null}}", ""),
        ("{maybe: {min: 1}}", "`min` reads a number, and by its schema this is null or text [policy-arg-type]"),
        ("{open: {min: 1}}", ""),
        ('{sure: "true"}', "`is` reads text, and by its schema this is true or false [policy-arg-type]"),
        ("{sure: true}", ""),
        ('{"items[*].id": a}', "`is` reads text, and by its schema this is a number [policy-arg-type]"),
        ('{"items[*].id": 1}', ""),
        ('{"num | path": {under: /w}}', ""),
        ("{loop: {min: 1}}", ""),
        ("{opt: {present: true}}", ""),
    ],
)
def test_a_matcher_that_fits_nothing_its_schema_lets_through_does_not_load(
    args: str, wrong: str, tmp_path: Path
) -> None:
    said = found(f"deny: x, tools: k.deploy, args: {args}", tmp_path)
    assert [wrong in one for one in said] == ([True] if wrong else []), said


def test_one_tool_that_a_matcher_fits_is_enough(tmp_path: Path) -> None:
    assert found('deny: x, tools: "k.*", args: {env: [prod, dev]}', tmp_path) == []
    assert found('deny: x, tools: "k.*", args: {path: {min: 1}}', tmp_path) == []
    assert found("deny: x, args: {path: {min: 1, max: 2}}", tmp_path) == []
    [said] = found('deny: x, tools: "k.*", args: {env: pord}', tmp_path)
    assert said.startswith("4:41: ")
    assert "prod, staging, dev" in said
    assert found("deny: x, tools: k.deploy, args: {num: {under: /w}}", tmp_path, {"k": {"deploy": None}}) == []


@pytest.mark.parametrize(
    ("when", "wrong"),
    [
        ("args.path > 5", "at 1:11 of the condition: > does not go with (string, int) [policy-when]"),
        ("args.path == 5", "at 1:11 of the condition: == does not go with (string, int) [policy-when]"),
        ("args.num > 5", ""),
        ("args.num > 5.0", ""),
        ("double(args.share) > 5.0 && args.num >= 1", ""),
        ("args.num.startsWith('a')", "startsWith does not go with (int, string) [policy-when]"),
        ("args.sure", "a condition is true or false, and this may be anything"),
        ("args.sure == true", ""),
        ("'a' in args.to", ""),
        ("5 in args.to", "in does not go with (int, list(string)) [policy-when]"),
        ("args.open == 5", ""),
        ("args.opt == 'a'", "at 1:1 of the condition: a call may leave opt out: write has(args.opt) && ..."),
        ("args.num > 1 && args.opt == 'a'", "at 1:17 of the condition: a call may leave opt out"),
        ("has(args.opt) && args.opt == 'a'", ""),
        ("has(args.opt) && args.opt > 5", "at 1:27 of the condition: > does not go with (string, int)"),
        ("args.?opt.orValue('') == 'a'", ""),
        ("'opt' in args && args.opt == 'a'", ""),
        ("args.nn > 5", 'no tool of this rule has an argument "nn"'),
    ],
)
def test_a_condition_is_checked_with_the_types_of_its_schema(when: str, wrong: str, tmp_path: Path) -> None:
    said = found(f'deny: x, tools: k.deploy, when: "{when}"', tmp_path)
    assert [wrong in one for one in said] == ([True] if wrong else []), said


CHECKED = """
servers: {k: {files: local}, far: {}}
labels:
  - {tools: "k.look | k.both", does: read}
  - {tools: "k.both | k.put", does: write}
rules:
  - also: "All that can be looked at."
    id: a
    tools: "k.put | far.put"
    verify:
      - {any: [{readback: {tool: k.look, until: "true"}}, {readback: {tool: k.both, until: "true"}}]}
      - {readback: {tool: k.none, until: "true"}}
      - {command: {name: tests}}
      - {http: {url: "https://a.test:444/x"}}
      - {http: {url: "https://b.test/x"}}
      - {artifact: {file: "${args.path}", exists: true}}
"""


def test_what_a_check_would_not_be_let_is_warned_of(tmp_path: Path) -> None:
    policy = policy_from(CHECKED, tmp_path)
    labels = [
        "checks call tools that are labelled read and no others, and its label says read, write: k.both",
        "checks call tools that are labelled read and no others, and it has no label: k.none",
    ]
    files = ["files of far are not known to be on this machine: `servers: {far: {files: local}}`"]
    assert [flaw.text for flaw in about_probes(policy, None)] == labels + files
    nothing = Allowed(files=False, hosts=frozenset({"a.test"}), commands=frozenset(), keys=frozenset())
    assert [flaw.text for flaw in about_probes(policy, nothing)] == [
        *labels,
        "the configuration defines no command tests: `probes: {commands: ...}`",
        "the configuration lets no check ask a.test:444: `probes: {http: {hosts: ...}}`",
        "the configuration lets no check ask b.test: `probes: {http: {hosts: ...}}`",
        *files,
        "the configuration opens no folder to checks: `probes: {files: {roots: ...}}`",
    ]
    opened = Allowed(
        files=True, hosts=frozenset({"a.test:444", "b.test"}), commands=frozenset({"tests"}), keys=frozenset()
    )
    assert {(flaw.rule, flaw.id) for flaw in about_probes(policy, opened)} == {("t/a", "policy-probe")}
    assert [flaw.text for flaw in about_probes(policy, opened)] == labels + files
