"""What a host sends is read in exactly one way, or refused. Each cell of the table of the design has its rows here."""

import json
import math
import tracemalloc
from collections.abc import Callable
from typing import cast

import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.strict import (
    FAULTS,
    MAX_BATCH,
    MAX_BYTES,
    MAX_DEPTH,
    Batch,
    Fault,
    Side,
    WireError,
    folded_property,
    id_of_oversized,
    read_host,
    read_server,
)


def read(line: bytes) -> Frame:
    found = read_host(line)
    assert isinstance(found, Frame)
    return found


def refused(line: bytes, *, max_bytes: int = 1 << 20) -> WireError:
    with pytest.raises(WireError) as caught:
        read_host(line, max_bytes=max_bytes)
    assert caught.value.side is Side.HOST
    return caught.value


def attempt(line: bytes) -> Frame | Batch | WireError:
    try:
        return read_host(line)
    except WireError as error:
        return error


def call(arguments: bytes, *, id_: bytes = b"7") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"t","arguments":%b}}' % (id_, arguments)


UNREADABLE: list[tuple[bytes, Fault]] = [
    (b"\xff", Fault.NOT_UTF8),
    (call(b'{"a":"\xff"}'), Fault.NOT_UTF8),
    (call(b'{"a":"\xed\xa0\x80"}'), Fault.NOT_UTF8),  # a surrogate written as bytes
    (call(b'{"a":"\xc0\xaf"}'), Fault.NOT_UTF8),  # an overlong slash
    ("{}".encode("utf-16"), Fault.NOT_UTF8),
    (b"\xef\xbb\xbf" + call(b"{}"), Fault.BYTE_ORDER_MARK),
    (call(b"{}") + b" x", Fault.TEXT_AFTER),
    (call(b"{}") + call(b"{}"), Fault.TEXT_AFTER),
    (call(b"{}") + b"\x00", Fault.TEXT_AFTER),
    (call(b"{}") + "\u00a0".encode(), Fault.TEXT_AFTER),  # a blank of Unicode is no blank of JSON
    (b'"text" "text"', Fault.TEXT_AFTER),
    (call(b'{"a":NaN}'), Fault.NOT_FINITE),
    (call(b'{"a":[Infinity]}'), Fault.NOT_FINITE),
    (call(b'{"a":-Infinity}'), Fault.NOT_FINITE),
    (b'{"id":NaN,"method":"m"}', Fault.NOT_FINITE),
    (b"NaN", Fault.NOT_FINITE),
    (call(b'{"a":"x\ty"}'), Fault.BROKEN_JSON),  # raw control characters
    (call(b'{"a":"x\x00y"}'), Fault.BROKEN_JSON),
    (call(b'{"a\x1f":1}'), Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m\x01"}', Fault.BROKEN_JSON),
    (call(b"{}")[:-1], Fault.BROKEN_JSON),
    (call(b"{}")[:-2], Fault.BROKEN_JSON),
    (b"", Fault.BROKEN_JSON),
    (b"nul", Fault.BROKEN_JSON),
    (b"x", Fault.BROKEN_JSON),
    (b"{", Fault.BROKEN_JSON),
    (b"[", Fault.BROKEN_JSON),
    (b"[1", Fault.BROKEN_JSON),
    (b"[1}", Fault.BROKEN_JSON),
    (b"{'id':1}", Fault.BROKEN_JSON),
    (b'{"id":7,}', Fault.BROKEN_JSON),
    (b'{"id" 7}', Fault.BROKEN_JSON),
    (b'{"id":}', Fault.BROKEN_JSON),
    (b'{"id":7 "method":"m"}', Fault.BROKEN_JSON),
    (b'{"id"=7,"method":"m"}', Fault.BROKEN_JSON),
    (b'{"id":7;"method":"m"}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m","params":{"a"=1}}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m","params":{"a":1;"b":2}}', Fault.BROKEN_JSON),
    (b'[{"id":7,"method":"m"};{"id":8,"method":"m"}]', Fault.BROKEN_JSON),
    (b'{"id":07,"method":"m"}', Fault.BROKEN_JSON),
    (b'{"id":+7,"method":"m"}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m","params":{"a":1.}}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m","params":{"a":.5}}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m","params":{"a":"\\x41"}}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m","params":{"a":"\\u00g0"}}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m"/**/}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m","params":[}', Fault.BROKEN_JSON),
    (b'{"id":7,"method":"m","params":{"name":"t"', Fault.BROKEN_JSON),
    ('{"id":7,"method":"m","params":{"a":\u0661}}'.encode(), Fault.BROKEN_JSON),  # an Arabic digit
]


@pytest.mark.parametrize(("line", "fault"), UNREADABLE)
def test_what_is_no_json_text_is_a_parse_error_without_an_id(line: bytes, fault: Fault) -> None:
    error = refused(line)
    assert (error.fault, error.code, error.id, error.answerable) == (fault, Code.PARSE_ERROR, None, True)


def nested(depth: int) -> bytes:
    """A call that nests as deep as told, the message itself included."""
    inner = depth - 3
    return call(b'{"a":' + b"[" * inner + b"]" * inner + b"}")


TWO_READINGS: list[tuple[bytes, Fault]] = [
    # Two keys of one object are equal, at every level, with escapes decoded.
    (call(b'{"a":1,"a":2}'), Fault.DUPLICATE_KEY),
    (call(b'{"a":1,"\\u0061":2}'), Fault.DUPLICATE_KEY),
    (call(b'{"x":[{"a":1,"b":0,"a":1}]}'), Fault.DUPLICATE_KEY),
    (b'{"id":7,"method":"tools/call","params":{"name":"a","name":"b"}}', Fault.DUPLICATE_KEY),
    (b'{"id":7,"method":"tools/call","params":{"_meta":{"x":1,"x":1}}}', Fault.DUPLICATE_KEY),
    (b'{"id":7,"method":"ping","method":"tools/call"}', Fault.DUPLICATE_KEY),
    (b'{"id":7,"method":"ping","params":{},"params":{}}', Fault.DUPLICATE_KEY),
    # Or equal after case folding.
    (call(b'{"path":1,"Path":2}'), Fault.FOLDED_KEY),
    (call('{"s":1,"\u017f":2}'.encode()), Fault.FOLDED_KEY),
    (call(b'{"k":1,"\\u212a":2}'), Fault.FOLDED_KEY),
    (call('{"stra\u00dfe":1,"STRASSE":2}'.encode()), Fault.FOLDED_KEY),
    (call(b'{"x":{"deep":[{"A":1,"b":2,"a":3}]}}'), Fault.FOLDED_KEY),
    (b'{"id":7,"method":"tools/call","params":{"name":"a","Name":"b"}}', Fault.FOLDED_KEY),
    (b'{"id":7,"method":"ping","Method":"tools/call"}', Fault.FOLDED_KEY),
    # A key is a known member only after case folding.
    (b'{"id":7,"method":"tools/call","params":{"Name":"b"}}', Fault.FOLDED_KEY),
    (b'{"id":7,"method":"tools/call","params":{"name":"b","Arguments":{}}}', Fault.FOLDED_KEY),
    ('{"id":7,"method":"tools/call","params":{"name":"b","argument\u017f":{}}}'.encode(), Fault.FOLDED_KEY),
    ('{"id":7,"method":"tools/call","param\u017f":{"name":"b"}}'.encode(), Fault.FOLDED_KEY),
    (b'{"id":7,"method":"tools/call","PARAMS":{"name":"b"}}', Fault.FOLDED_KEY),
    (b'{"id":7,"method":"tools/call","params":{"name":"b","requeststate":"x"}}', Fault.FOLDED_KEY),
    (b'{"id":7,"method":"tools/call","params":{"_META":{}}}', Fault.FOLDED_KEY),
    (b'{"id":7,"method":"m","params":{"_meta":{"ProgressToken":1}}}', Fault.FOLDED_KEY),
    (b'{"id":7,"method":"m","params":{"_meta":{"io.modelcontextprotocol/protocolversion":"x"}}}', Fault.FOLDED_KEY),
    # A key holds a control or invisible character.
    (call(b'{"name\\u0000":1}'), Fault.HIDDEN_KEY),
    (call(b'{"a\\nb":1}'), Fault.HIDDEN_KEY),
    (call('{"a\u200bb":1}'.encode()), Fault.HIDDEN_KEY),
    (call('{"a\u202e":1}'.encode()), Fault.HIDDEN_KEY),
    (call('{"a\u00a0b":1}'.encode()), Fault.HIDDEN_KEY),
    (call('{"a\u2028b":1}'.encode()), Fault.HIDDEN_KEY),
    (call('{"a\ufeff":1}'.encode()), Fault.HIDDEN_KEY),
    (call('{"a\ufe0f":1}'.encode()), Fault.HIDDEN_KEY),  # printable for Python, and yet not seen
    (call('{"\u3164":1}'.encode()), Fault.HIDDEN_KEY),
    (call('{"a\U000e0100":1}'.encode()), Fault.HIDDEN_KEY),
    (call('{"a\U000e0041":1}'.encode()), Fault.HIDDEN_KEY),
    (call(b'{"a\\ud800":1}'), Fault.HIDDEN_KEY),
    (call(b'{"a\x7f":1}'), Fault.HIDDEN_KEY),
    (b'{"id":7,"method":"tools/call","params":{"name\\u0000":"a"}}', Fault.HIDDEN_KEY),
    (b'{"id":7,"method":"tools/call","params\\u0000":{}}', Fault.HIDDEN_KEY),
    # Too much of something.
    (nested(MAX_DEPTH + 1), Fault.TOO_DEEP),
    (call(b'{"x":1,"a":' + b'{"a":' * 126 + b"0" + b"}" * 126 + b"}"), Fault.TOO_DEEP),
    (call(b'{"x":"' + b"y" * 5000 + b'","a":' + b"[" * 126 + b"]" * 126 + b"}"), Fault.TOO_DEEP),
    (call(b'{"a":' + b"9" * 4301 + b"}"), Fault.NUMBER_OUT_OF_RANGE),
    (call(b'{"a":1e400}'), Fault.NUMBER_OUT_OF_RANGE),
    (call(b'{"a":[-1E+400]}'), Fault.NUMBER_OUT_OF_RANGE),
    (call(b'{"a":' + b"9" * 400 + b".0}"), Fault.NUMBER_OUT_OF_RANGE),
    (b'{"id":7,"method":"m","params":{"a":1e309}}', Fault.NUMBER_OUT_OF_RANGE),
    # Text that no UTF-8 can hold.
    (call(b'{"a":"\\ud800"}'), Fault.LONE_SURROGATE),
    (call(b'{"a":["x\\uDFFFy"]}'), Fault.LONE_SURROGATE),
    (call(b'{"a":"\\udc00\\ud800"}'), Fault.LONE_SURROGATE),
    (call(b'{"a":"\\ud83d\\ude00\\ud83d"}'), Fault.LONE_SURROGATE),
    (b'{"id":7,"method":"tools/call","params":{"name":"\\ud800"}}', Fault.LONE_SURROGATE),
    (b'{"id":7,"method":"\\ud800"}', Fault.LONE_SURROGATE),
    # The members do not make a message.
    (b'{"id":7,"method":"tools/call","params":[]}', Fault.PARAMS_NOT_OBJECT),
    (b'{"id":7,"method":"tools/call","params":[{"name":"t"}]}', Fault.PARAMS_NOT_OBJECT),
    (b'{"id":7,"method":"tools/call","params":null}', Fault.PARAMS_NOT_OBJECT),
    (b'{"id":7,"method":"tools/call","params":"{}"}', Fault.PARAMS_NOT_OBJECT),
    (b'{"id":7,"method":"tools/call","params":0}', Fault.PARAMS_NOT_OBJECT),
    (b'{"id":7,"method":null}', Fault.METHOD_TYPE),
    (b'{"id":7,"method":1}', Fault.METHOD_TYPE),
    (b'{"id":7,"method":["tools/call"]}', Fault.METHOD_TYPE),
    (b'{"id":7}', Fault.NO_METHOD_NO_ANSWER),
    (b'{"id":7,"jsonrpc":"2.0","params":{}}', Fault.NO_METHOD_NO_ANSWER),
    (b'{"id":7,"method":"m","result":{}}', Fault.METHOD_AND_ANSWER),
    (b'{"id":7,"method":"m","error":{}}', Fault.METHOD_AND_ANSWER),
    (b'{"id":7,"method":"m","result":null}', Fault.METHOD_AND_ANSWER),
]


@pytest.mark.parametrize(("line", "fault"), TWO_READINGS)
def test_what_reads_two_ways_is_refused_under_its_id(line: bytes, fault: Fault) -> None:
    error = refused(line)
    assert (error.fault, error.code, error.id, error.answerable) == (fault, Code.INVALID_REQUEST, 7, True)


BAD_IDS = [b"null", b"1.5", b"7.0", b"true", b"false", b"[]", b"{}", b"1e3"]


@pytest.mark.parametrize("id_", BAD_IDS)
def test_an_id_that_is_neither_string_nor_integer_is_refused_without_an_id(id_: bytes) -> None:
    error = refused(call(b"{}", id_=id_))
    assert (error.fault, error.code, error.id) == (Fault.ID_TYPE, Code.INVALID_REQUEST, None)


@pytest.mark.parametrize("id_", BAD_IDS)
def test_no_other_refusal_uses_an_id_of_another_type(id_: bytes) -> None:
    assert refused(call(b'{"a":1,"a":1}', id_=id_)).id is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":7,"method":"m","id":7}',
        b'{"id":7,"method":"m","\\u0069d":8}',
        b'{"id":7,"method":"m","ID":7}',
        b'{"ID":7,"method":"m"}',
        b'{"id":' + b"9" * 5000 + b',"method":"m"}',
    ],
)
def test_an_id_that_does_not_stand_once_is_not_answered_with(line: bytes) -> None:
    error = refused(line)
    assert (error.code, error.id, error.answerable) == (Code.INVALID_REQUEST, None, True)


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        (b"0", 0),
        (b"-1", -1),
        (b'"7"', "7"),
        (b'"abc"', "abc"),
        (b'""', ""),
        (b'"\\u0061\\n"', "a\n"),
        (b"1180591620717411303424", 2**70),
    ],
)
def test_an_id_is_exact_in_messages_and_in_refusals(spelling: bytes, value: RequestId) -> None:
    assert read(call(b"{}", id_=spelling)).id == value
    assert refused(call(b'{"a":1,"a":1}', id_=spelling)).id == value


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":"sth-1","result":{"a":1,"a":1}}',
        b'{"id":"sth-1","error":{"a":1,"a":1}}',
        b'{"id":"sth-1","result":{},"error":{}}',
        b'{"id":"sth-1","result":{"content":{"x":"\\ud800"}}}',
    ],
)
def test_a_bad_answer_is_not_answered_but_says_what_it_was_to_answer(line: bytes) -> None:
    error = refused(line)
    assert (error.answerable, error.id) == (False, "sth-1")


@pytest.mark.parametrize("line", [b'{"result":{}}', b'{"id":null,"error":{}}', b'{"id":1.0,"result":{}}'])
def test_an_answer_needs_an_id(line: bytes) -> None:
    error = refused(line)
    assert (error.fault, error.answerable, error.id) == (Fault.ID_TYPE, False, None)


@pytest.mark.parametrize("line", [b'"text"', b"5", b"null", b"true", b"-0.5 "])
def test_a_value_that_is_no_object_is_refused(line: bytes) -> None:
    error = refused(line)
    assert (error.fault, error.code, error.id) == (Fault.NOT_AN_OBJECT, Code.INVALID_REQUEST, None)


@pytest.mark.parametrize(
    "deep",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        call(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        b'{"id":7,"method":"m","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"method":"m","params":' + b"[" * 100_000 + b"]" * 100_000 + b',"jsonrpc":"2.0","id":7}',
    ],
)
def test_input_of_any_depth_is_refused_and_kills_nothing(deep: bytes) -> None:
    error = refused(deep)
    assert (error.fault, error.code) == (Fault.TOO_DEEP, Code.INVALID_REQUEST)
    assert error.id == (7 if b'"id":7' in deep else None)
    assert error.answerable


@pytest.mark.parametrize("read_from", [read_host, read_server])
def test_what_nests_too_deep_is_refused_under_an_id_of_its_first_half(read_from: Callable[[bytes], object]) -> None:
    member = b'"method":"m","x":' if read_from is read_host else b'"error":1,"x":'
    deep = b"[" * 100_000 + b"]" * 100_000
    line = b'{"a":"' + b"y" * 180_000 + b'","id":7,' + member + deep + b"}"
    with pytest.raises(WireError) as caught:
        read_from(line)
    assert (caught.value.fault, caught.value.id) == (Fault.TOO_DEEP, 7)


def test_the_greatest_depth_is_read() -> None:
    assert read(nested(MAX_DEPTH)).id == 7


def test_a_line_over_the_limit_is_refused_unread_under_its_id() -> None:
    line = call(b'{"a":"' + b"x" * 300_000 + b'"}')
    assert len(line) > 300_000
    error = refused(line, max_bytes=300_000)
    assert (error.fault, error.code, error.id) == (Fault.TOO_BIG, Code.INVALID_REQUEST, 7)
    assert read(line).id == 7


def test_where_nothing_else_is_said_a_line_has_at_most_64_mib() -> None:
    assert refused(bytes((1 << 26) + 1), max_bytes=MAX_BYTES).fault is Fault.TOO_BIG


@pytest.mark.parametrize(("late", "found"), [(0, 7), (1, None)])
def test_of_a_line_over_the_limit_the_first_64_kib_are_looked_at(late: int, found: RequestId | None) -> None:
    first = b'{"method":"%b","id":7,' % (b"m" * (65_536 - len('{"method":"","id":7,') + late))
    assert len(first) == 65_536 + late
    assert refused(first + b'"params":{"a":"' + b"x" * 200_000 + b'"}}', max_bytes=9).id == found


@pytest.mark.parametrize(("early", "found"), [(0, 7), (1, None)])
def test_of_a_line_over_the_limit_the_last_64_kib_are_looked_at(early: int, found: RequestId | None) -> None:
    last = b',"id":7,"method":"%b"}' % (b"m" * (65_536 - len(',"id":7,"method":""}') + early))
    assert len(last) == 65_536 + early
    assert refused(b'{"params":{"a":"' + b"x" * 200_000 + b'"}' + last, max_bytes=9).id == found


def test_a_line_of_exactly_the_limit_is_read() -> None:
    line = call(b"{}")
    assert isinstance(read_host(line, max_bytes=len(line)), Frame)
    assert refused(line, max_bytes=len(line) - 1).fault is Fault.TOO_BIG


def test_refusing_a_huge_line_takes_no_memory_of_its_size() -> None:
    line = call(b'{"a":"' + b"x" * 30_000_000 + b'"}')
    tracemalloc.start()
    try:
        assert refused(line).fault is Fault.TOO_BIG
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


READ: list[tuple[bytes, FrameKind, RequestId | None, str, JsonObject | None]] = [
    (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', FrameKind.REQUEST, 1, "ping", None),
    (b'{"id":0,"method":"m","params":{}}', FrameKind.REQUEST, 0, "m", {}),
    (b' {"id" : "" , "method" : "m"}\r', FrameKind.REQUEST, "", "m", None),
    (b'{"method":"n","params":{"x":null}}', FrameKind.NOTIFICATION, None, "n", {"x": None}),
    (b'{"id":"a","result":null}', FrameKind.RESULT, "a", "", None),
    (b'{"id":"a","result":{}}', FrameKind.RESULT, "a", "", None),
    (b'{"id":-1,"error":{"code":1}}', FrameKind.ERROR, -1, "", None),
    (b'{"id":1,"method":"","params":{"_meta":{}},"x-unknown":[1.0,null]}', FrameKind.REQUEST, 1, "", {"_meta": {}}),
]


@pytest.mark.parametrize(("line", "kind", "id_", "method", "params"), READ)
def test_a_sound_message_says_what_it_is(
    line: bytes, kind: FrameKind, id_: RequestId | None, method: str, params: JsonObject | None
) -> None:
    found = read(line)
    assert (found.kind, found.id, found.method, found.params) == (kind, id_, method, params)
    assert found.has_id is (id_ is not None)
    assert found.strict
    assert found.raw is line


SOUND_ARGUMENTS = [
    b"{}",
    b'{"a":"\\ud83d\\ude00","b":"\\\\ud800"}',  # a pair, and an escaped backslash before the same letters
    '{"a":"\u2028 \U0001f600 \u00e9","\u00e9":"\u200b"}'.encode(),
    b'{"a":"\\u0000"}',
    b'{"a":-0.0,"b":1e308,"c":9007199254740993,"d":1e-400}',
    b'{"a":"NaN","b":"Infinity [[[[ {{{{"}',
    b'{"Name":1,"ID":2,"METHOD":3}',  # arguments have no protocol names
    b'{"":1," ":2,"a b":3}',
    b'{"A":1,"B":{"a":1}}',  # equal only across objects
]


@pytest.mark.parametrize("arguments", SOUND_ARGUMENTS)
def test_arguments_that_read_one_way_are_read_exactly(arguments: bytes) -> None:
    found = read(call(arguments))
    assert found.params == {"name": "t", "arguments": json.loads(arguments)}
    assert found.slice(("params", "arguments")) == arguments


def test_integers_that_no_double_holds_stay_exact() -> None:
    found = read(call(b'{"n":9007199254740993}'))
    assert found.params is not None
    assert found.params["arguments"] == {"n": 9007199254740993}
    assert found.params["arguments"] != {"n": 9007199254740992}


def test_members_that_nobody_knows_are_kept() -> None:
    line = b'{"id":1,"method":"m","params":{"x-y":null,"_meta":{"vendor/x":[1]}},"trace":{"a":null}}'
    found = read(line)
    assert found.message == json.loads(line)
    assert found.meta == {"vendor/x": [1]}
    assert found.edited() is line


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_its_code_and_one_sentence(fault: Fault) -> None:
    code, text = FAULTS[fault]
    assert code in {Code.PARSE_ERROR, Code.INVALID_REQUEST}
    assert text.endswith(".")
    assert "\n" not in text


PRODUCED = {fault for _, fault in UNREADABLE + TWO_READINGS}
ELSEWHERE = {Fault.ID_TYPE, Fault.NOT_AN_OBJECT, Fault.TOO_BIG, Fault.ARRAY, Fault.RESULT_AND_ERROR}


def test_every_fault_is_produced_by_a_test_here() -> None:
    assert set(Fault) == PRODUCED | ELSEWHERE


def test_the_text_of_a_refusal_shows_hidden_characters_as_escapes_and_is_short() -> None:
    text = refused(call(b'{"a\\u202e\\u0000' + b"x" * 500 + b'":1}')).text
    assert "\\u202e\\u0000" in text
    assert text.isascii()
    assert len(text) < 200


def test_the_text_of_a_refusal_shows_sixty_characters_of_a_key() -> None:
    text = refused(call(b'{"%b":1,"%b":2}' % (b"#" * 61, b"#" * 61))).text
    assert text.count("#") == 60


@pytest.mark.parametrize(
    ("arguments", "key"),
    [(b'{"a":1,"twice":2,"c":3,"twice":4}', "twice"), (b'{"a":1,"case":2,"c":3,"Case":4,"d":5}', "Case")],
)
def test_the_text_of_a_refusal_names_the_key_that_came_again(arguments: bytes, key: str) -> None:
    assert f'"{key}"' in refused(call(arguments)).text


def test_a_refusal_reads_as_whose_message_it_was_and_what_is_wrong() -> None:
    assert str(WireError(Side.HOST, Fault.TOO_BIG)) == "host: The message is too big."
    assert str(WireError(Side.SERVER, Fault.ARRAY)) == "server: An array is not a message here."


def test_a_position_tells_where_reading_ended() -> None:
    assert refused(b"\xef\xbb\xbf{}").at == 0
    assert refused(b'{"id":7,"method":nul}').at == 17
    assert refused(b'{"id":7,"method":"m"} x').at == 21
    assert refused(b'{"id":7').at == 7
    assert refused(b'{"id":7,"id":7}').at == -1
    assert WireError(Side.HOST, Fault.ID_TYPE).at == -1


# -- arrays


def test_each_element_of_an_array_is_read_on_its_own() -> None:
    line = (
        b' [ {"id":1,"method":"a"} , {"id":2,"method":"b","x":1,"x":2},{"method":"n"},7,[["id",1]],"x",'
        b'{"id":3,"result":{}}] '
    )
    found = read_host(line)
    assert isinstance(found, Batch)
    assert found.raw is line
    told = [
        (member.method, member.id) if isinstance(member, Frame) else (member.fault, member.id)
        for member in found.members
    ]
    assert told == [
        ("a", 1),
        (Fault.DUPLICATE_KEY, 2),
        ("n", None),
        (Fault.NOT_AN_OBJECT, None),
        (Fault.ARRAY, None),
        (Fault.NOT_AN_OBJECT, None),
        ("", 3),
    ]
    first = found.members[0]
    assert isinstance(first, Frame)
    assert first.raw == b'{"id":1,"method":"a"}'


def test_an_element_that_is_no_number_of_json_is_refused_alone() -> None:
    found = read_host(b'[{"id":1,"method":"a","params":{"x":NaN}},{"id":2,"method":"b"}]')
    assert isinstance(found, Batch)
    assert isinstance(found.members[0], WireError)
    assert found.members[0].fault is Fault.NOT_FINITE
    assert isinstance(found.members[1], Frame)


def test_an_empty_array_is_refused() -> None:
    error = refused(b"[ ]")
    assert (error.fault, error.code, error.id) == (Fault.ARRAY, Code.INVALID_REQUEST, None)


def test_an_array_of_too_many_messages_is_refused() -> None:
    assert refused(b"[" + b",".join([b"1"] * 1025) + b"]").fault is Fault.TOO_BIG


def test_an_array_of_as_many_messages_as_may_be_is_read() -> None:
    assert isinstance(read_host(b"[" + b",".join([b"1"] * MAX_BATCH) + b"]"), Batch)


def test_text_after_an_array_is_a_parse_error() -> None:
    assert refused(b'[{"id":1,"method":"a"}] x').fault is Fault.TEXT_AFTER


# -- properties

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_what_is_read_is_what_json_reads_or_it_is_refused(arguments: dict[str, object]) -> None:
    line = call(compact(cast("Json", arguments)))
    found = attempt(line)
    if isinstance(found, WireError):
        assert found.fault in {Fault.FOLDED_KEY, Fault.HIDDEN_KEY}
    else:
        assert isinstance(found, Frame)
        assert found.message == json.loads(line)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(line: bytes) -> None:
    found = attempt(line)
    assert not isinstance(found, WireError) or found.side is Side.HOST


@given(st.integers(0, 120), st.integers(0, 4), st.binary(max_size=3))
def test_a_damaged_message_is_read_as_json_reads_it_or_refused(at: int, length: int, other: bytes) -> None:
    line = call(b'{"path":"/tmp/\\u00e9","n":[1,2.5e3,{"k":null}]}')
    damaged = line[:at] + other + line[at + length :]
    found = attempt(damaged)
    if isinstance(found, Frame):
        assert found.message == json.loads(damaged)
    else:
        assert isinstance(found, WireError)


@given(
    st.integers(0, 150),
    st.integers(0, 3),
    st.sampled_from([*b'{}[]",:\\u0eE.-+ntfNI \t', 0, 0x80, 0xC3, 0xFF]),
    st.text(),
)
def test_what_is_read_is_what_another_parser_reads(at: int, length: int, other: int, text: str) -> None:
    line = call(compact({"path": text, "n": [1, 2.5e3, {"k": None}], "e": "\u00e9"}))
    damaged = line[:at] + bytes([other]) + line[at + length :]
    found = attempt(damaged)
    if isinstance(found, Frame):
        assert found.message == pydantic_core.from_json(damaged, allow_inf_nan=False)


@given(st.floats())
def test_floats_are_read_exactly_or_refused(value: float) -> None:
    line = call(b'{"n":%b}' % json.dumps(value).encode())
    if math.isfinite(value):
        found = read(line)
        assert found.params == {"name": "t", "arguments": {"n": value}}
    else:
        assert refused(line).fault is Fault.NOT_FINITE


# -- names of a schema


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"path": 1}, None),
        ({}, None),
        ({"other": 1}, None),
        ({"Path": 1}, "Path"),
        ({"path": 1, "x": 2, "PATH": 3}, "PATH"),
        ({"\u017fize": 1}, "\u017fize"),
        ({"\u212aey": 1}, "\u212aey"),
        ({"Mode": 1}, None),
        ({"mode": 1}, None),
    ],
)
def test_an_argument_that_is_a_property_only_after_folding_is_found(arguments: JsonObject, found: str | None) -> None:
    assert folded_property(arguments, frozenset({"path", "size", "key", "Mode", "mode"})) == found


# -- the id of a line of which only the ends are kept


@pytest.mark.parametrize(
    ("head", "tail", "found"),
    [
        (b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"na', b'xxx"}}', 5),
        (b'{"jsonrpc":"2.0","id":"a\\u0062","method":"tools/call","params":{"na', b'xxx"}}', "ab"),
        (b'{"method":"tools/call","params":{"na', b'xxx"}},"jsonrpc":"2.0","id":5}', 5),
        (b'{"params":{"na', b'xxx"}},"id":"5","jsonrpc":"2.0" , "method" : "m"} \r', "5"),
        (b'{"id":5', b'6,"method":"m"}', None),  # the number may go on
        (b'{"id":5,"method":"m","x":"', b'","id":6}', None),
        (b'{"id":1.5,"method":"m","x":"', b'"}', None),
        (b'{"id":null,"method":"m","x":"', b'"}', None),
        (b'{"id":5,"Id":5,"method":"m","x":"', b'"}', None),
        (b'{"method":"m","params":{"id":5,"x":"', b'"}}', None),  # not the message's own
        (b'{"method":"m","params":{"x":"', b'","id":5}}', None),
        (b'{"method":"m","params":{"x":"', b'\\",\\"id\\":5}"}}', None),
        (b'{"id":5,"result":{"x":"', b'"}}', None),  # an answer has none to give
        (b'{"id":5.', b'6,"method":"m"}', None),
        (b"[[[[", b"]]]]", None),
        (b'["id",5,"x', b'"]', None),
        (b'{"id",5,"x', b'"}', None),
        (b'{5:5,"id":5,"x', b'"}', None),
        (b'{"a":1:"id":5,"x', b'"}', None),
        (b'{"a":1,"b","id":5,"x', b'"}', None),
        (b' \t{ "id" : 5 , "x', b'"}', 5),
        (b"", b"", None),
        (b"xxxx", b'x,"id":', None),
        (b'{"id":' + b"9" * 5000 + b',"method":"m","x":"', b'"}', None),
    ],
)
def test_the_id_of_a_request_is_found_at_either_end_or_not_at_all(
    head: bytes, tail: bytes, found: RequestId | None
) -> None:
    assert id_of_oversized(head, tail) == found


@pytest.mark.parametrize(
    ("head", "tail", "found"),
    [
        (b'{"jsonrpc":"2.0","id":5,"result":{"content":["', b'"]}}', 5),
        (b'{"result":{"content":["', b'"]},"jsonrpc":"2.0","id":5}', 5),
        (b'{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":["', b'"]}}', None),
        (b'{"params":{"content":["', b'"]},"method":"m","id":5}', None),
        (b'{"result":{"content":["', b'"]},"id":5,"method":"m"}', None),
    ],
)
def test_from_a_server_the_id_of_an_answer_is_found_and_never_that_of_a_request(
    head: bytes, tail: bytes, found: RequestId | None
) -> None:
    assert id_of_oversized(head, tail, side=Side.SERVER) == found


NESTED_IDS = st.recursive(
    st.sampled_from([5, "x", ',"id":6}', '\\","id":6}', '"id":6', None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "a", '","id":6,"']), inner),
    max_leaves=8,
)


@given(
    st.permutations(["jsonrpc", "id", "method", "params"]),
    st.integers(0, 10**6) | st.text(max_size=4),
    NESTED_IDS,
    st.integers(0, 80),
    st.integers(0, 80),
)
def test_no_other_id_than_the_requests_own_is_ever_found(
    order: list[str], id_: RequestId, inside: Json, head: int, tail: int
) -> None:
    values: JsonObject = {"jsonrpc": "2.0", "id": id_, "method": "m", "params": {"a": inside}}
    line = compact({key: values[key] for key in order})
    middle = len(line) // 2
    assert id_of_oversized(line[: min(head, middle)], line[max(middle, len(line) - tail) :]) in {None, id_}
