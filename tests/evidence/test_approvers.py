"""Whose answers a question needs, and what they come to."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.evidence.approvers import about, held_back, may_answer, state_of, statement
from soothsayer_mcp.model.ask import Ask, AskState, Need, Remember, Vote
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.json import JsonObject

CARD: JsonObject = {"server": "db", "tool": "drop", "does": ["delete"], "why": [], "args": {"n": 1}, "run": "r"}
NAMES = ("ann", "raj", "eve", "ada")
NEED = Need(role="security", count=2, keys=tuple((name, f"key-{name}") for name in NAMES[:3]))
OTHER = Need(role="release", keys=(("eve", "key-eve"), ("ada", "key-ada")), not_requester=True)
ASK = Ask(
    id="0123456789abcdef",
    run=RunId("r"),
    no=1,
    state=AskState.YES,
    rule="p/r",
    asked_at_us=1_000,
    expires_at_us=2_000,
    strong=False,
    remember=Remember.RUN,
    shown="",
    card=CARD,
    call="hmac:00",
    needs=(NEED,),
    requester="os:ada",
)


def made(key: str, signed: bytes) -> str:
    return hashlib.sha256(key.encode() + signed).hexdigest()


def holds(key: str, signed: bytes, signature: str) -> bool:
    return made(key, signed) == signature


def vote(name: str, answer: AskState = AskState.YES, *, at_us: int = 1_500, ask: Ask = ASK) -> Vote:
    key = f"key-{name}"
    signature = made(key, statement(ask, about(CARD), answer, at_us))
    return Vote(by=name, key=key, answer=answer, at_us=at_us, signature=signature)


def standing(*votes: Vote, needs: tuple[Need, ...] = (NEED,), seen: JsonObject = CARD, ask: Ask = ASK) -> AskState:
    return state_of(replace(ask, votes=votes), needs, about(seen), holds)


def test_two_of_a_role_are_two_keys() -> None:
    assert standing(vote("ann")) is AskState.OPEN
    assert standing(vote("ann"), vote("ann")) is AskState.OPEN
    assert standing(vote("ann"), vote("ada")) is AskState.OPEN
    assert standing(vote("ann"), vote("raj")) is AskState.YES


def test_one_no_of_the_role_ends_it_and_one_of_nobody_does_not() -> None:
    assert standing(vote("ann"), vote("raj"), vote("eve", AskState.NO)) is AskState.NO
    assert standing(vote("ann"), vote("raj"), vote("ada", AskState.NO)) is AskState.YES


def test_every_role_gives_its_own_and_the_requester_gives_none() -> None:
    needs = (NEED, OTHER)
    assert standing(vote("ann"), vote("raj"), needs=needs) is AskState.OPEN
    assert standing(vote("ann"), vote("raj"), vote("ada"), needs=needs) is AskState.OPEN
    assert standing(vote("ann"), vote("eve"), needs=needs) is AskState.YES
    assert not may_answer(replace(ASK, needs=(OTHER,)), "key-ada")
    assert may_answer(replace(ASK, needs=(OTHER,), requester="os:ann"), "key-ada")


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, id="fedcba9876543210"),
        replace(ASK, call="hmac:01"),
        replace(ASK, asked_at_us=1_501),
        replace(ASK, expires_at_us=1_499),
    ],
)
def test_an_answer_counts_for_its_own_question_call_and_time_only(other: Ask) -> None:
    assert standing(vote("ann"), vote("raj"), ask=other) is AskState.OPEN


@pytest.mark.parametrize("key", ["server", "tool", "does", "why", "args", "run"])
def test_an_answer_counts_for_what_was_seen_only(key: str) -> None:
    assert standing(vote("ann"), vote("raj"), seen={**CARD, key: "other"}) is AskState.OPEN


def test_what_others_are_shown_holds_nothing_that_would_be_sent() -> None:
    assert "args" not in held_back(ASK).card
    free = replace(ASK, needs=())
    assert held_back(free) is free


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([AskState.YES, AskState.NO]), st.booleans()), max_size=6)
)
def test_only_valid_signatures_move_it_whatever_lies_beside_them(
    said: list[tuple[str, AskState, bool]],
) -> None:
    votes = [
        one if good else replace(one, signature="00" + one.signature[2:])
        for name, answer, good in said
        if (one := vote(name, answer))
    ]
    honest = [one for one in votes if holds(one.key, statement(ASK, about(CARD), one.answer, 1_500), one.signature)]
    known = [one for one in honest if one.by in NAMES[:3]]
    expected = (
        AskState.NO
        if any(one.answer is AskState.NO for one in known)
        else AskState.YES
        if len({one.key for one in known}) > 1
        else AskState.OPEN
    )
    assert standing(*votes) is expected
    assert standing(*reversed(votes)) is expected
