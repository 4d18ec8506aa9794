"""A server's envelope is read as far as it can be, and whether it reads in one way is known when somebody asks."""

import json
import math

import pytest

from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.strict import MAX_BATCH, Fault, Side, WireError, fault_of, read_server, read_server_batch


def refused(line: bytes, *, max_bytes: int = 1 << 20) -> WireError:
    with pytest.raises(WireError) as caught:
        read_server(line, max_bytes=max_bytes)
    assert caught.value.side is Side.SERVER
    assert not caught.value.answerable
    return caught.value


KINDS: list[tuple[bytes, FrameKind, RequestId | None, bool, str]] = [
    (b'{"jsonrpc":"2.0","id":0,"result":{}}', FrameKind.RESULT, 0, True, ""),
    (b'{"id":"7","result":null}', FrameKind.RESULT, "7", True, ""),
    (b'{"id":7,"error":{"code":-1}}', FrameKind.ERROR, 7, True, ""),
    (b'{"id":null,"error":{"code":-1}}', FrameKind.ERROR, None, True, ""),
    (b'{"error":{"code":-1}}', FrameKind.ERROR, None, False, ""),
    (b'{"id":7.0,"result":{}}', FrameKind.RESULT, None, True, ""),
    (b'{"id":true,"result":{}}', FrameKind.RESULT, None, True, ""),
    (b'{"id":1,"method":"roots/list"}', FrameKind.REQUEST, 1, True, "roots/list"),
    (b'{"id":null,"method":"m"}', FrameKind.REQUEST, None, True, "m"),
    (b'{"method":"notifications/x","params":{"a":1}}', FrameKind.NOTIFICATION, None, False, "notifications/x"),
    (b'{"id":7,"result":{},"error":{}}', FrameKind.AMBIGUOUS, 7, True, ""),
    (b'{"id":7,"result":{},"error":null}', FrameKind.AMBIGUOUS, 7, True, ""),
    (b'{"id":7}', FrameKind.AMBIGUOUS, 7, True, ""),
    (b"{}", FrameKind.AMBIGUOUS, None, False, ""),
    (b'{"id":7,"method":"m","result":{}}', FrameKind.AMBIGUOUS, 7, True, "m"),
    (b'{"id":7,"method":5}', FrameKind.AMBIGUOUS, 7, True, ""),
]


@pytest.mark.parametrize(("line", "kind", "id_", "has_id", "method"), KINDS)
def test_a_servers_message_says_what_it_is(
    line: bytes, kind: FrameKind, id_: RequestId | None, has_id: bool, method: str
) -> None:
    found = read_server(line)
    assert (found.kind, found.id, found.has_id, found.method) == (kind, id_, has_id, method)
    assert found.raw is line


def test_every_kind_is_produced() -> None:
    assert {kind for _, kind, _, _, _ in KINDS} == set(FrameKind)


TWO_WAYS: list[tuple[bytes, Fault]] = [
    (b'{"id":7,"result":{"a":1,"a":2}}', Fault.DUPLICATE_KEY),
    (b'{"id":7,"result":{"a":1,"A":2}}', Fault.FOLDED_KEY),
    (b'{"id":7,"result":{"IsError":true}}', Fault.FOLDED_KEY),
    (b'{"id":7,"Result":{},"result":{}}', Fault.FOLDED_KEY),
    (b'{"id":7,"result":{"_meta":{"progresstoken":1}}}', Fault.FOLDED_KEY),
    (b'{"id":7,"result":{"a\\u200b":1}}', Fault.HIDDEN_KEY),
    (b'{"id":7,"result":{"a":NaN}}', Fault.NOT_FINITE),
    (b'{"id":7,"result":{"a":-Infinity}}', Fault.NOT_FINITE),
    (b'{"id":7,"result":{"a":1e400}}', Fault.NUMBER_OUT_OF_RANGE),
    (b'{"id":7,"result":{"a":' + b"9" * 5000 + b"}}", Fault.NUMBER_OUT_OF_RANGE),
    (b'{"id":7,"result":{"a":"\\ud800"}}', Fault.LONE_SURROGATE),
    (b'{"id":7,"result":{},"params":["\\ud800"]}', Fault.LONE_SURROGATE),
    (b'{"id":7,"result":{"a":"\xff\xfe"}}', Fault.NOT_UTF8),
    (b'\xef\xbb\xbf{"id":7,"result":{}}', Fault.BYTE_ORDER_MARK),
    (b'{"id":7,"result":{"a":' + b"[" * 200 + b"]" * 200 + b"}}", Fault.TOO_DEEP),
]


@pytest.mark.parametrize(("line", "fault"), TWO_WAYS)
def test_an_answer_that_reads_two_ways_is_found_by_its_id_and_known_as_such(line: bytes, fault: Fault) -> None:
    found = read_server(line)
    assert (found.kind, found.id, found.strict) == (FrameKind.RESULT, 7, False)
    assert fault_of(line) is fault
    assert found.edited() is line


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":7,"result":{}}',
        b' {"id":7,"result":{"content":[{"type":"text","text":"\\ud83d\\ude00 \\u2028"}],"isError":false}}\r',
        b'{"id":7,"result":{"structuredContent":null,"x":1180591620717411303424,"y":-0.0}}',
        b'{"id":7,"error":{"code":-32000,"message":"","data":{"Code":1}}}',
        b'{"method":"m","params":[1]}',
    ],
)
def test_an_answer_that_reads_one_way_is_strict(line: bytes) -> None:
    assert read_server(line).strict
    assert read_server(line).message == json.loads(line)


def test_a_number_of_more_digits_than_are_converted_is_read_as_infinite_and_no_other_is_changed() -> None:
    message = read_server(b'{"id":7,"result":{"a":' + b"9" * 5000 + b',"b":9007199254740993}}').message
    assert message["result"] == {"a": math.inf, "b": 9007199254740993}


def test_params_that_are_no_object_are_none_and_pass_as_bytes() -> None:
    found = read_server(b'{"method":"m","params":[1]}')
    assert found.params is None
    assert found.meta == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"Server started on stdio", Fault.BROKEN_JSON),
        (b"", Fault.BROKEN_JSON),
        (b'{"id":7,"result":{}', Fault.BROKEN_JSON),
        (b'{"id":7,"result":{}} trailing', Fault.BROKEN_JSON),
        (b'{"id":7,"result":{}}{"id":8,"result":{}}', Fault.BROKEN_JSON),
        (b"5", Fault.NOT_AN_OBJECT),
        (b'"text"', Fault.NOT_AN_OBJECT),
        (b'[{"id":7,"result":{}}]', Fault.ARRAY),
    ],
)
def test_what_is_no_object_is_no_message(line: bytes, fault: Fault) -> None:
    error = refused(line)
    assert (error.fault, error.id) == (fault, None)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"id":7,"result":{"text":"a\tb"}}', 7),
        (b'{"id":"x","error":{"message":"a\x00b"}}', "x"),
        (b'{"id":7,"method":"roots/list","params":{"text":"a\tb"}}', None),
        (b'{"id":7.5,"result":{"text":"a\tb"}}', None),
        (b'["\t"]', None),
    ],
)
def test_raw_control_characters_are_no_json_but_show_which_request_was_answered(
    line: bytes, found: RequestId | None
) -> None:
    error = refused(line)
    assert (error.fault, error.id) == (Fault.BROKEN_JSON, found)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":{"a":' + DEEP + b"}}", 7),
        (b'{"result":{"a":' + DEEP + b'},"jsonrpc":"2.0","id":7}', 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":' + DEEP + b"}}", None),
    ],
)
def test_an_answer_of_any_depth_kills_nothing_and_shows_what_it_answers(line: bytes, found: RequestId | None) -> None:
    error = refused(line)
    assert (error.fault, error.id) == (Fault.TOO_DEEP, found)


def test_an_answer_over_the_limit_shows_what_it_answers() -> None:
    line = b'{"jsonrpc":"2.0","id":7,"result":{"a":"' + b"x" * 500_000 + b'"}}'
    error = refused(line, max_bytes=400_000)
    assert (error.fault, error.id) == (Fault.TOO_BIG, 7)
    assert read_server(line, max_bytes=len(line)).id == 7


def test_each_element_of_a_servers_array_is_read_leniently_on_its_own() -> None:
    line = b' [ {"id":1,"result":{"a":1,"a":NaN}} , {"id":2,"error":{"message":"\xff"}},7,[], {"method":"n"} ]'
    assert refused(line).fault is Fault.ARRAY
    batch = read_server_batch(line)
    assert batch.raw is line
    told = [(m.raw, m.id) if isinstance(m, Frame) else (m.fault, m.side) for m in batch.members]
    assert told == [
        (b'{"id":1,"result":{"a":1,"a":NaN}}', 1),
        (b'{"id":2,"error":{"message":"\xff"}}', 2),
        (Fault.NOT_AN_OBJECT, Side.SERVER),
        (Fault.ARRAY, Side.SERVER),
        (b'{"method":"n"}', None),
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"[]", Fault.ARRAY),
        (b"[" + b",".join([b"1"] * (MAX_BATCH + 1)) + b"]", Fault.TOO_BIG),
        (b"[1", Fault.BROKEN_JSON),
        (b"[1 2]", Fault.BROKEN_JSON),
        (b"[1] x", Fault.TEXT_AFTER),
        (DEEP, Fault.TOO_DEEP),
    ],
)
def test_an_array_of_a_server_without_readable_elements_is_refused(line: bytes, fault: Fault) -> None:
    with pytest.raises(WireError) as caught:
        read_server_batch(line)
    assert (caught.value.side, caught.value.fault, caught.value.id) == (Side.SERVER, fault, None)


def test_meta_is_that_of_the_params_or_of_the_result() -> None:
    assert read_server(b'{"method":"m","params":{"_meta":{"a":1}}}').meta == {"a": 1}
    assert read_server(b'{"id":1,"result":{"_meta":{"a":1}}}').meta == {"a": 1}
    assert read_server(b'{"id":1,"result":{"_meta":[]}}').meta == {}
    assert read_server(b'{"id":1,"result":[]}').meta == {}
    assert read_server(b'{"id":1,"error":{}}').meta == {}


def test_result_and_error_are_given_as_they_are() -> None:
    assert read_server(b'{"id":1,"result":[1]}').result == [1]
    assert read_server(b'{"id":1,"error":"x"}').error == "x"
    assert read_server(b'{"id":1,"error":"x"}').result is None


def test_whether_it_reads_one_way_is_looked_at_once_and_only_when_asked() -> None:
    looked: list[bytes] = []

    def judge(raw: bytes) -> bool:
        looked.append(raw)
        return False

    found = Frame(b"{}", {}, FrameKind.AMBIGUOUS, id=None, has_id=False, method="", params=None, judge=judge)
    assert looked == []
    assert (found.strict, found.strict) == (False, False)
    assert looked == [b"{}"]


def test_a_frame_shows_itself_without_its_content() -> None:
    assert repr(read_server(b'{"id":1,"result":{"secret":1}}')) == "<Frame RESULT - id=1 30 bytes>"
