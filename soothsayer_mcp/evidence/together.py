"""Open questions of one shape: shown on one card and answered together, while each gets an answer of its own; pure."""

import hashlib
from collections.abc import Sequence
from typing import Final

from soothsayer_mcp.model.ask import Ask, AskState
from soothsayer_mcp.model.json import canonical

OF_EACH: Final = frozenset({"args", "risk"})
"""What of a card may differ between questions of one shape; all else of it is the same."""


def shape_of_question(ask: Ask) -> bytes | None:
    """What questions have in common that may stand on one card; `None` where one is answered by itself.

    `bound` holds the server's identity, the tool's definition, the policy and the rules that ask.
    """
    if ask.state is not AskState.OPEN or ask.strong or ask.needs or not ask.bound or "args" not in ask.card:
        return None
    common = {key: value for key, value in ask.card.items() if key not in OF_EACH}
    return canonical([ask.run, ask.bound, ask.rule, ask.requester, ask.host_pid, common])


def sets_of(asks: Sequence[Ask]) -> list[tuple[Ask, ...]]:
    """The same questions, those of one shape together; in the order in which the first of each came."""
    found: dict[bytes | str, list[Ask]] = {}
    for ask in asks:
        found.setdefault(shape_of_question(ask) or ask.id, []).append(ask)
    return [tuple(held) for held in found.values()]


def why_not_together(asks: Sequence[Ask]) -> str:
    """Why these open questions are not answered by one command; empty when they may be."""
    if any(ask.strong for ask in asks):
        return "a rule wants a person to look at one of them alone"
    if any(ask.needs for ask in asks):
        return "one of them needs signed answers"
    if len(sets_of(asks)) > 1:
        return "they are not of one shape: run, server, tool, definition, policy and rule have to be the same"
    return ""


def shown_together(asks: Sequence[Ask]) -> str:
    """Digest all that one card of these questions shows, in hex; their order makes no difference."""
    seen = canonical({"soothsayer": "together/v1", "asks": sorted([ask.id, ask.shown] for ask in asks)})
    return hashlib.sha256(seen).hexdigest()
