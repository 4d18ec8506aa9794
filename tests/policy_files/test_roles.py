"""Roles stand in the organisation's policy, and a rule names one that can give the answers that it wants."""

from pathlib import Path

import pytest

from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.policy.policy import Policy

KEYS = [f"ed25519:{digit * 64}" for digit in "123"]
HEAD = "soothsayer: policy/v1\nname: {}\n"
ROLES = f'roles: {{security: [{{name: ann, key: "{KEYS[0]}"}}, {{name: raj, key: "{KEYS[1]}"}}]}}\n'
RULE = 'rules: [{{ask: "A role.", tools: x.pay, approvers: {}}}]\n'


def loaded(folder: Path, *, org: str = "", user: str = "") -> Policy:
    house, own = folder / "house.yaml", folder / "own.yaml"
    house.write_text(HEAD.format("house") + org, encoding="utf-8")
    own.write_text(HEAD.format("own") + user, encoding="utf-8")
    return load([str(own)], organisation=[str(house)], workspace=folder)


def test_a_rule_of_any_scope_knows_the_people_of_its_role(tmp_path: Path) -> None:
    policy = loaded(tmp_path, org=ROLES, user=RULE.format("{role: security, count: 2, not: requester}"))
    (need,) = next(rule.asks.needs for scope in policy.scopes for rule in scope.rules if rule.asks is not None)
    assert (need.role, need.count, need.not_requester) == ("security", 2, True)
    assert need.keys == (("ann", KEYS[0]), ("raj", KEYS[1]))
    other = loaded(
        tmp_path, org=ROLES.replace("raj", "eve"), user=RULE.format("{role: security, count: 2, not: requester}")
    )
    assert other.digest != policy.digest


@pytest.mark.parametrize(
    ("org", "user", "said"),
    [
        ("", ROLES, "only the organisation's policy says who may answer [policy-scope]"),
        (ROLES, RULE.format("{role: secrity}"), 'no role "secrity"'),
        (ROLES, RULE.format("{role: security, count: 3}"), '3 people of "security" are needed, and it has 2'),
        (ROLES.replace(KEYS[1], KEYS[0]), "", "two people of a role share a key"),
        (ROLES.replace("raj", "ann"), "", "two people of a role share a name"),
        (ROLES.replace(KEYS[1], "ed25519:12"), "", "public key"),
        (ROLES, RULE.format("{role: security}").replace("ask:", "deny:"), "only an ask has an answer"),
    ],
)
def test_what_can_never_be_answered_does_not_load(tmp_path: Path, org: str, user: str, said: str) -> None:
    with pytest.raises(LoadErrors) as caught:
        loaded(tmp_path, org=org, user=user)
    assert any(said in str(problem) for problem in caught.value.problems), caught.value.problems
