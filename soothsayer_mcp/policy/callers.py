"""What rules want of a caller that no caller here has: over stdio it is known by its account, and has no groups."""

from typing import Final

from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.rules import Rule
from soothsayer_mcp.policy.scopes import matching

NOBODY: Final = "over stdio a caller is its account and in no group"
MEND: Final = "name accounts: `who: {sub: os:NAME}`"


def about_groups(rule: Rule) -> str:
    """What it comes to that a rule looks at groups, where no caller has any; empty where it does not."""
    who = rule.who
    if who is not None and who.groups:
        return "`groups` matches nobody, so the rule never does"
    if who is not None and who.but is not None and who.but.groups:
        return "`not: {groups}` leaves nobody out"
    return "its condition reads `who.groups`, which is empty" if "who.groups" in rule.when else ""


def looks_at_groups(policy: Policy) -> tuple[str, ...]:
    """The rules that do, by their ids, and risk terms and tiers, by reason and by name."""
    return tuple(rule.id for scope in policy.scopes for rule in matching(scope) if about_groups(rule))
