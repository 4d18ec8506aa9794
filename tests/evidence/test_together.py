"""Which questions stand on one card, and what the digits under it stand for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.evidence.together import sets_of, shown_together, why_not_together
from soothsayer_mcp.model.ask import Ask, AskState, Need, Remember
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.json import Json


def ask(number: int, **card: Json) -> Ask:
    shown: dict[str, Json] = {
        "server": "db",
        "tool": "add",
        "does": ["write"],
        "why": [],
        "args": {"n": number},
        "run": "r",
        **card,
    }
    return Ask(
        id=f"{number:016x}",
        run=RunId("r"),
        no=0,
        state=AskState.OPEN,
        rule="p/r",
        asked_at_us=number,
        expires_at_us=10**9,
        strong=False,
        remember=Remember.RUN,
        shown=f"{number:064x}",
        card=shown,
        bound="b",
        requester="os:ann",
        host_pid=7,
    )


FIRST, SECOND = ask(1), ask(2, risk={"sum": 30, "terms": [["late", 30]]})
ROLE = Need(role="security", keys=(("ann", "key"),))
OTHERS = {
    "run": replace(SECOND, run=RunId("s")),
    "definition, server's command or policy": replace(SECOND, bound="c"),
    "rule": replace(SECOND, rule="p/other"),
    "whose authority": replace(SECOND, requester="os:raj"),
    "host": replace(SECOND, host_pid=8),
    "server": ask(2, server="other"),
    "tool": ask(2, tool="drop"),
    "effect": ask(2, does=["delete"]),
    "reason": ask(2, why=[{"rule": "p/r", "text": "why", "unknown": "run.x"}]),
    "client": ask(2, client="another"),
}
BARE: dict[str, Json] = {"server": "db", "tool": "add"}
ALONE = {
    "strong": (replace(FIRST, strong=True), replace(SECOND, strong=True)),
    "needs a role": (replace(FIRST, needs=(ROLE,)), replace(SECOND, needs=(ROLE,))),
    "closed": (replace(FIRST, state=AskState.YES), replace(SECOND, state=AskState.YES)),
    "bound to nothing": (replace(FIRST, bound=""), replace(SECOND, bound="")),
    "its arguments are held back": (replace(FIRST, card=BARE), replace(SECOND, card=BARE)),
}


def test_questions_that_differ_in_arguments_and_risk_alone_are_one_card() -> None:
    assert sets_of([FIRST, SECOND]) == [(FIRST, SECOND)]
    assert why_not_together([FIRST, SECOND]) == ""


@pytest.mark.parametrize("differs", OTHERS)
def test_questions_that_differ_in_anything_else_are_not(differs: str) -> None:
    other = OTHERS[differs]
    assert sets_of([FIRST, other]) == [(FIRST,), (other,)]
    assert "not of one shape" in why_not_together([FIRST, other])


@pytest.mark.parametrize("why", ALONE)
def test_some_questions_stand_alone_even_beside_their_like(why: str) -> None:
    first, second = ALONE[why]
    assert sets_of([first, second]) == [(first,), (second,)]
    assert why_not_together([first, second])


def test_a_strong_question_and_one_of_a_role_are_refused_in_words_of_their_own() -> None:
    assert "alone" in why_not_together([replace(FIRST, strong=True), SECOND])
    assert "signed" in why_not_together([FIRST, replace(SECOND, needs=(ROLE,))])


@given(st.lists(st.integers(1, 40), unique=True, max_size=8))
def test_sets_hold_every_question_once_and_in_the_order_in_which_they_came(numbers: list[int]) -> None:
    asks = [ask(number, tool=f"t{number % 3}") for number in numbers]
    sets = sets_of(asks)
    assert sorted(one.id for held in sets for one in held) == sorted(one.id for one in asks)
    for held in sets:
        assert [one for one in asks if one in held] == [*held]
        assert len({str(one.card["tool"]) for one in held}) == 1
    assert [held[0] for held in sets] == sorted((held[0] for held in sets), key=asks.index)


@given(st.sets(st.integers(1, 40), min_size=1, max_size=6), st.sets(st.integers(1, 40), min_size=1, max_size=6))
def test_the_digits_stand_for_exactly_what_was_shown_in_any_order(some: set[int], others: set[int]) -> None:
    one, other = [ask(number) for number in sorted(some)], [ask(number) for number in sorted(others)]
    assert (shown_together(one) == shown_together(other)) is (some == others)
    assert shown_together(one) == shown_together(one[::-1])
    changed = [replace(one[0], shown="f" * 64), *one[1:]]
    assert shown_together(changed) != shown_together(one)
