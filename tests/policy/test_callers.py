"""What rules want of callers that no caller over stdio has is told, with what it comes to and how to mend it."""

from pathlib import Path

import pytest

from policy_kit import policy_from
from soothsayer_mcp.policy.callers import looks_at_groups
from soothsayer_mcp.policy.warn import warnings


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("who: {groups: staff}", "matches nobody"),
        ("who: {groups: [staff, ops], sub: os:ada}", "matches nobody"),
        ("who: {not: {groups: staff}}", "leaves nobody out"),
        ("when: '\"staff\" in who.groups'", "which is empty"),
        ("who: {sub: os:ada}", ""),
        ("who: {not: {sub: os:ada}}", ""),
        ("when: 'who.sub == \"os:ada\"'", ""),
        ("does: write", ""),
    ],
)
def test_a_rule_about_groups_is_warned_of(wanted: str, told: str, tmp_path: Path) -> None:
    policy = policy_from(f"rules: [{{deny: Not for them., id: them, {wanted}}}]\n", tmp_path)
    found = [flaw for flaw in warnings(policy.scopes[0].rules, 0) if flaw.id == "policy-groups"]
    assert len(found) == bool(told)
    assert [flaw.rule for flaw in found] == [*looks_at_groups(policy)]
    for flaw in found:
        assert told in flaw.text
        assert "name accounts: `who: {sub: os:NAME}`" in flaw.text


def test_a_risk_term_and_a_tier_about_groups_are_told_too(tmp_path: Path) -> None:
    policy = policy_from(
        "risk: [{add: 30, because: 'a contractor calls', who: {groups: contractors}}]\n"
        "next: {tiers: [{name: large, because: 'staff calls', who: {groups: staff}}]}\n",
        tmp_path,
    )
    assert looks_at_groups(policy) == ("a contractor calls", "large")
