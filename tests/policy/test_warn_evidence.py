"""Warnings about evidence: tests that cannot fail, and writes that nothing checks."""

from pathlib import Path

import pytest

from policy_kit import policy_from
from soothsayer_mcp.policy.warn_evidence import about_evidence

POLICY = """\
default: {read: allow, other: ask}
BUDGETS
labels:
  - {tools: "sh.run", does: exec, LABEL}
  - {tools: "git.push", does: share, verify: none}
  - {tools: "git.log", does: read}
rules:
  - {allow: "Tests.", id: tests, tools: "sh.run"}
  - {allow: "Push.", id: push, tools: "git.push", require: [{step: {tools: "sh.run", ARGS}}]}
"""
NAMED = "args: {command: {is: pytest}}"
LIMIT = "budgets: {unverified_writes: 3}"


@pytest.mark.parametrize(
    ("args", "label", "budgets", "found"),
    [
        (NAMED, "verify: none", "", []),
        ("ok: true", "verify: none", "", [("t/push", "policy-exec-args")]),
        (NAMED, "verify: none", LIMIT, []),
        (NAMED, "touches: []", LIMIT, [("sh.run", "policy-no-check")]),
        (NAMED, "verify: [{schema: output}]", LIMIT, []),
        (NAMED, "touches: []", "", []),
    ],
)
def test_what_should_be_looked_at_again_is_named(
    args: str, label: str, budgets: str, found: list[tuple[str, str]], tmp_path: Path
) -> None:
    text = POLICY.replace("ARGS", args).replace("LABEL", label).replace("BUDGETS\n", f"{budgets}\n" if budgets else "")
    flaws = about_evidence(policy_from(text, tmp_path), [("git", "log"), ("git", "push")])
    assert [(flaw.rule, flaw.id) for flaw in flaws] == found


@pytest.mark.parametrize(("args", "found"), [(NAMED, []), ("ok: true", [("complete", "policy-exec-args")])])
def test_what_completes_a_run_is_looked_at_too(args: str, found: list[tuple[str, str]], tmp_path: Path) -> None:
    label = "labels: [{tools: sh.run, does: exec}]\n"
    policy = policy_from(f'{label}complete: {{require: {{step: {{tools: "sh.run", {args}}}}}}}\n', tmp_path)
    assert [(flaw.rule, flaw.id) for flaw in about_evidence(policy, [])] == found
