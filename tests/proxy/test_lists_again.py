"""A list of tools that is the same as the last one is not read again; any other one is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.proxy.pins import ListUnreadableError, ToolBook, items_of
from soothsayer_mcp.wire.strict import read_server

NOBODY: Any = None


def book() -> ToolBook:
    return ToolBook(NOBODY, store=NOBODY, schemas=NOBODY, now_ns=lambda: 0, log=lambda _line: None)


def answer(id_: str, tools: str, before: str = '"jsonrpc":"2.0",') -> bytes:
    return f'{{{before}"id":{id_},"result":{{"tools":[{tools}]}}}}'.encode()


A = '{"name":"a","inputSchema":{}}'
B = '{"name":"b","inputSchema":{}}'


def names(reading: ToolBook, raw: bytes) -> list[str | None]:
    return [None if item is None else item.name for item in reading.elements(read_server(raw))]


def test_only_another_id_leaves_a_list_as_it_was_read() -> None:
    reading = book()
    first = reading.elements(read_server(answer("41", A)))
    assert reading.elements(read_server(answer("42", A))) is first
    assert reading.elements(read_server(answer('"x"', A))) is first


def test_a_list_that_changed_is_read_anew() -> None:
    reading = book()
    assert names(reading, answer("41", A)) == ["a"]
    assert names(reading, answer("42", B)) == ["b"]
    assert names(reading, answer("43", f"{A},7")) == ["a", None]
    assert names(reading, answer("44", A)) == ["a"]


def test_a_list_that_reads_in_two_ways_is_refused_after_one_that_does_not() -> None:
    reading = book()
    assert names(reading, answer("41", A)) == ["a"]
    for _ in range(2):
        with pytest.raises(ListUnreadableError):
            names(reading, answer("42", '{"name":"a","name":"b","inputSchema":{}}'))
    assert names(reading, answer("43", A)) == ["a"]


IDS = st.one_of(st.integers(0, 30).map(str), st.sampled_from(['"a"', '"2"', '"name"', '"\\u0041"', '"A"']))
TOOLS = st.lists(st.sampled_from([A, B, "7", '{"name":"2"}', '{"name":"a","id":2}']), max_size=3).map(",".join)
SPELLED = st.sampled_from(
    ['"jsonrpc":"2.0",', '"jsonrpc": "2.0", ', '"x":1,"jsonrpc":"2.0",', '"x":"a","jsonrpc":"2.0",']
)


@given(st.lists(st.tuples(IDS, TOOLS, SPELLED), min_size=2, max_size=8))
def test_whatever_came_before_a_list_is_read_as_it_stands(answers: list[tuple[str, str, str]]) -> None:
    reading = book()
    for id_, tools, before in answers:
        frame = read_server(answer(id_, tools, before))
        assert reading.elements(frame) == items_of(frame, "tools")
