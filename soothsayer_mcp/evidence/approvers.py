"""Whose answers a question needs, what they sign, and whether enough of it is there; pure.

Nothing that lies in the store counts by itself: whoever asks here brings the keys that policy names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from soothsayer_mcp.model.ask import Ask, AskState, Need
from soothsayer_mcp.model.json import Json, canonical, digest

Verify: TypeAlias = Callable[[str, bytes, str], bool]
"""Whether a public key made a signature over bytes."""

SIGNED: Final = ("server", "tool", "does", "why", "args", "run")
"""What of a card is signed: all that stays the same while the question is open."""


def about(card: Mapping[str, Json]) -> str:
    """Digest what an approver sees of a call."""
    return digest(canonical({key: card.get(key) for key in SIGNED}))


def statement(ask: Ask, seen: str, answer: AskState, at_us: int) -> bytes:
    """What an approver signs: which question, which call, what was seen of it (`about`), the answer and when."""
    return canonical(
        {
            "soothsayer": "approval/v1",
            "ask": ask.id,
            "call": ask.call,
            "about": seen,
            "answer": answer.value,
            "scope": "once",
            "at_us": at_us,
        }
    )


def may_answer(ask: Ask, key: str) -> bool:
    """Whether a key is one of those whose answer the question needs."""
    return any(_counts_for(need, key, ask.requester) for need in ask.needs)


def state_of(ask: Ask, needs: Sequence[Need], seen: str, verify: Verify) -> AskState:
    """What the valid answers come to: one no ends it, and a yes is there once every role has given its own.

    An answer counts that was signed by a key of the role, while the question was open, over what was `seen`.
    """
    valid = [
        vote
        for vote in ask.votes
        if any(_counts_for(need, vote.key, ask.requester) for need in needs)
        and ask.asked_at_us <= vote.at_us <= ask.expires_at_us
        and verify(vote.key, statement(ask, seen, vote.answer, vote.at_us), vote.signature)
    ]
    if any(vote.answer is AskState.NO for vote in valid):
        return AskState.NO
    said = {vote.key for vote in valid if vote.answer is AskState.YES}
    return AskState.OPEN if missing(replace(ask, needs=tuple(needs)), said) else AskState.YES


def missing(ask: Ask, said: set[str]) -> list[tuple[str, int]]:
    """How many people of which roles have still to say yes; `said` are keys that did."""
    left = [
        (need.role, need.count - len({key for key in said if _counts_for(need, key, ask.requester)}))
        for need in ask.needs
    ]
    return [(role, count) for role, count in left if count > 0]


def held_back(ask: Ask) -> Ask:
    """A question as whoever has no part in it sees it: without what would be sent."""
    if not ask.needs or not ask.card:
        return ask
    return replace(ask, card={key: value for key, value in ask.card.items() if key != "args"})


def _counts_for(need: Need, key: str, requester: str) -> bool:
    names = [name for name, held in need.keys if held == key]
    if not names:
        return False
    own = requester.partition(":")[2] or requester
    return not (need.not_requester and any(name in {own, requester} for name in names))
