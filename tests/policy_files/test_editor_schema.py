"""The schemas that editors take: they know every key, take every file that loads, and refuse what is mistyped."""

from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from policy_kit import HEAD, policy_from
from soothsayer_mcp.adapters.policy_files.editor_schema import KINDS, schema_of
from soothsayer_mcp.adapters.policy_files.places import find, shipped
from soothsayer_mcp.model.json import Json

POLICY = jsonschema_rs.validator_for(schema_of("policy"))
TESTS = jsonschema_rs.validator_for(schema_of("test"))


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_policy_and_suite_fits(name: str) -> None:
    file = find(name)
    assert file is not None
    POLICY.validate(yaml.safe_load(file.read_text()))
    TESTS.validate(yaml.safe_load(file.with_name(f"{name}.test.yaml").read_text()))


FULL = """
default: {read: allow, other: ask}
vars: {most: 100, ours: [acme.test, "*.acme.test"], soon: 5s}
use: [{policy: guarded, without: keys-stay-here}, read-only]
servers: {fs: {}, db: {files: local, os: linux}}
risk: [{add: 30, because: "it pays", does: pay}]
rules:
  - allow: "a"
    tools: [fs.read, "fs.l*"]
    args: {size: {max: "${most}"}, to: {email_domain: "${ours}"}, x: 5, z: [a, 1, null]}
  - {deny: "b", id: b, args: {"**": {not: {matches: "a+"}, any_of: {glob: "**/x"}}}}
  - {ask: "c", id: c, does: [write, unlabelled], limit: {timeout: "${soon}", args_bytes: 20kB}, risk: {at_least: 20}}
"""


def test_lists_single_values_sizes_and_variables_fit_as_they_load(tmp_path: Path) -> None:
    assert policy_from(FULL, tmp_path).rule_count > 0
    POLICY.validate(yaml.safe_load(HEAD + FULL))


@pytest.mark.parametrize(
    "wrong",
    [
        'rules: [{alow: "x"}]',
        'rules: [{allow: "x", deny: "y"}]',
        "rules: [{tools: a.b}]",
        'rules: [{allow: "x", does: reed}]',
        'rules: [{allow: "x", args: {n: {maxx: 1}}}]',
        'rules: [{allow: "x", limit: {timeout: 5}}]',
        "default: alow",
        "mode: enforec",
        "defualt: deny",
        "pins: {first: allow}",
    ],
)
@pytest.mark.pitfall("P-OPEN-06")
def test_what_is_mistyped_is_refused_by_editors_too(wrong: str) -> None:
    assert not POLICY.is_valid(yaml.safe_load(HEAD + wrong))


def test_it_is_a_schema_of_draft_07_that_says_what_each_key_means() -> None:
    for kind in KINDS:
        made = schema_of(kind)
        jsonschema_rs.meta.validate(made)
        assert made["$schema"] == "http://json-schema.org/draft-07/schema#"
        assert {"$defs", "prefixItems", "unevaluatedProperties", "dependentRequired"}.isdisjoint(_words(made))


def _words(value: Json) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_words, value.values()))
    return set[str]().union(*map(_words, value)) if isinstance(value, list) else set()
