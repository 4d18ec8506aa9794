"""Calls are compared by a spelling of their arguments that is one for equal ones and differs for all others."""

from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.adapters.store.matching import LONG_CHARS, distinct
from soothsayer_mcp.model.json import Json, JsonObject, canonical

PIECES = st.sampled_from(["", "a", "\0", '"', "\n", "\ud800", "é", "}", ":", "1", '\0"b"\x004097\0'])
"""What could pass for the end of a text."""


def of_length(drawn: tuple[str, int, str]) -> str:
    piece, chars, end = drawn
    return (piece or "x") * chars + end


TEXTS = st.tuples(PIECES, st.sampled_from([1, LONG_CHARS, LONG_CHARS + 1]), PIECES).map(of_length)
VALUES: st.SearchStrategy[Json] = TEXTS | st.integers(0, 2) | TEXTS.map(lambda text: [text])
CALLS: st.SearchStrategy[JsonObject] = st.dictionaries(st.sampled_from(["a", "b", '"b"', "\0"]), VALUES, max_size=3)


@given(CALLS, CALLS)
def test_two_calls_are_spelled_alike_only_when_their_arguments_are_equal(one: JsonObject, other: JsonObject) -> None:
    assert (distinct(one) == distinct(other)) == (canonical(one) == canonical(other))


@given(CALLS)
def test_the_order_in_which_arguments_stand_does_not_matter(call: JsonObject) -> None:
    assert distinct(dict(reversed(call.items()))) == distinct(call)


def test_a_text_does_not_reach_over_into_the_next_one() -> None:
    long = "x" * (LONG_CHARS + 1)
    one: JsonObject = {"a": long, "b": long + long}
    other: JsonObject = {"a": long + long, "b": long}
    assert distinct(one) != distinct(other)
