"""What rules are written with, and what they are called."""

import re

HEADS = ("deny", "ask", "allow", "also")
"""A rule has one of these keys; its value is the reason."""

_WORD = re.compile(r"[a-z0-9]+")
_ID_WORDS = 6


def rule_id(policy: str, stated: str, reason: str) -> str:
    """`policy/rule`: the rule by its own id, else by the first words of its reason."""
    return f"{policy}/{stated or '-'.join(_WORD.findall(reason.lower())[:_ID_WORDS])[:60] or 'rule'}"
