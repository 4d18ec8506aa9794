"""What we write ourselves: answers, requests, notices; their ids; and the era of what we read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.failure import Acted, FailureClass, Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.wire import eras, replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import Era, era_of
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.ids import Mint, key, legal
from soothsayer_mcp.wire.strict import WireError, read_host, read_server

IDS = st.integers() | st.integers(-(10**4000), 10**4000) | st.text(max_size=5)


@given(IDS, st.text(max_size=20))
def test_every_message_of_ours_is_read_back_as_written(id_: RequestId, text: str) -> None:
    value: Json = {"text": text}
    written = {
        replies.result(id_, value): (FrameKind.RESULT, id_, value),
        replies.error(id_, 4030, text): (FrameKind.ERROR, id_, {"code": 4030, "message": text}),
        replies.request(id_, "m", {"text": text}): (FrameKind.REQUEST, id_, value),
        replies.notification("n", {"text": text}): (FrameKind.NOTIFICATION, None, value),
    }
    for raw, (kind, wanted_id, wanted) in written.items():
        found = read_host(raw)
        assert isinstance(found, Frame)
        told = {FrameKind.RESULT: found.result, FrameKind.ERROR: found.error}.get(kind, found.params)
        assert (found.kind, found.id, told) == (kind, wanted_id, wanted)
        assert found.message["jsonrpc"] == "2.0"
        assert b"\n" not in raw


def test_absent_params_and_data_are_left_out_and_empty_ones_are_not() -> None:
    assert replies.request(1, "ping", None) == b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    assert replies.request(1, "ping", {}) == b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}'
    assert replies.notification("n", None) == b'{"jsonrpc":"2.0","method":"n"}'
    assert replies.error(1, Code.POLICY, "no") == b'{"jsonrpc":"2.0","id":1,"error":{"code":4030,"message":"no"}}'
    assert (
        replies.error(None, -1, "x", {}) == b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"x","data":{}}}'
    )


def test_an_id_that_utf8_cannot_hold_is_answered_by_its_escape() -> None:
    assert replies.result("\ud800", {}) == b'{"jsonrpc":"2.0","id":"\\ud800","result":{}}'


@pytest.mark.parametrize(
    ("line", "id_", "code"),
    [
        (b'{"id":7,"method":"m","params":[]}', 7, -32600),
        (b'{"id":"7","method":"m","x":1,"x":1}', "7", -32600),
        (b'{"id":7,"method":', None, -32700),
        (b"[]", None, -32600),
    ],
)
def test_a_refused_message_is_answered_by_one_error(line: bytes, id_: RequestId | None, code: int) -> None:
    with pytest.raises(WireError) as caught:
        read_host(line)
    answer = json.loads(replies.of_wire_error(caught.value))
    assert answer == {"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": caught.value.text}}


def failed(*, stateless: bool, content: tuple[bytes, ...] = ()) -> bytes:
    return replies.tool_failure(
        5,
        'Denied: "x".\nDo: stop.',
        stateless=stateless,
        step="d3a0.2",
        failure=FailureClass.POLICY_DENIED,
        reason=Reason.RULE_DENIED,
        acted=Acted.NO,
        content=content,
    )


META = b'"_meta":{"dev.soothsayer/step":{"step":"d3a0.2","class":"policy_denied","reason":"rule_denied","acted":"no"}}'
BLOCK = b'{"type":"text","text":"Denied: \\"x\\".\\nDo: stop."}'


def test_a_failed_call_is_a_result_of_one_block_with_the_step_beside_it() -> None:
    wanted = b'{"jsonrpc":"2.0","id":5,"result":{"isError":true,"content":[' + BLOCK + b"]," + META + b"}}"
    assert failed(stateless=False) == wanted


def test_in_the_stateless_era_it_is_complete() -> None:
    assert failed(stateless=True) == failed(stateless=False).replace(
        b'{"isError"', b'{"resultType":"complete","isError"'
    )


def test_the_servers_blocks_follow_ours_as_they_were_spelled() -> None:
    blocks = (b'{ "type":"text","text":"\\u00e9" }', b'{"type":"x","n":1e400}')
    assert failed(stateless=False, content=blocks) == failed(stateless=False).replace(
        BLOCK, BLOCK + b"," + b",".join(blocks)
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"id":1,"result":{"content":[],"isError":false}}', b'{"id":1,"result":{"content":[@],"isError":false}}'),
        (
            b'{"id":1,"result":{ "content" : [ {"type":"text","text":"\\u00e9"} ] , "structuredContent":null}}',
            b'{"id":1,"result":{ "content" : [ {"type":"text","text":"\\u00e9"},@ ] , "structuredContent":null}}',
        ),
        (b'{"id":1,"result":{}}', b'{"id":1,"result":{"content":[@]}}'),
        (b'{"id":1,"result":{"x":1}}', b'{"id":1,"result":{"x":1,"content":[@]}}'),
        (b'{"id":1,"result":null}', b'{"id":1,"result":null}'),
        (b'{"id":1,"result":{"content":null}}', b'{"id":1,"result":{"content":null}}'),
        (b'{"id":1,"error":{}}', b'{"id":1,"error":{}}'),
    ],
)
def test_a_block_is_put_after_a_tools_own_content_and_nothing_else_changes(before: bytes, after: bytes) -> None:
    block = b'{"type":"text","text":"stop \xc3\xa9"}'
    assert replies.add_block(read_server(before), "stop \u00e9") == after.replace(b"@", block)


# -- ids


def test_ids_that_json_tells_apart_are_different_keys() -> None:
    keys = [key(value) for value in (7, "7", 7.0, True, 1, 1.0, "true", None, 0, False)]
    assert len(set(keys)) == len(keys)
    assert key(7) == key(7)
    assert key(2**70) == key(2**70)


@pytest.mark.parametrize("value", [True, False, None, 7.0, [], {}])
def test_what_is_no_string_or_integer_is_no_id(value: Json) -> None:
    assert legal(value) is None


@pytest.mark.parametrize("value", [0, -1, 2**70, "", "7"])
def test_strings_and_integers_are_ids(value: RequestId) -> None:
    assert legal(value) == value


def test_a_mint_makes_each_id_once_and_knows_its_own() -> None:
    mint, other = Mint("9f2c"), Mint("9f2d")
    made = [mint.next() for _ in range(12)]
    assert made[:2] == ["sth-9f2c-1", "sth-9f2c-2"]
    assert len(set(made)) == 12
    assert all(mint.made(id_) and not other.made(id_) for id_ in made)


@pytest.mark.parametrize(
    "foreign",
    [
        *("sth-9f2c-2", "sth-9f2c-0", "sth-9f2c-01", "sth-9f2c-", "sth-9f2c--1", "sth-9f2c-1 ", "sth-9f2c-\u0661"),
        *("sth-9f2c-" + "9" * 5000, 1, None),
    ],
)
def test_a_mint_does_not_take_a_foreign_id_for_its_own(foreign: object) -> None:
    mint = Mint("9f2c")
    mint.next()
    assert not mint.made(foreign)


# -- eras


@pytest.mark.parametrize(
    ("line", "era"),
    [
        (b'{"id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}', Era.HANDSHAKE),
        (b'{"id":1,"method":"tools/list"}', Era.HANDSHAKE),
        (b'{"id":1,"method":"tools/list","params":{"_meta":{"progressToken":0}}}', Era.HANDSHAKE),
        (b'{"id":1,"method":"tools/list","params":{"_meta":[]}}', Era.HANDSHAKE),
        (
            b'{"id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}}',
            Era.HANDSHAKE,
        ),
        (
            b'{"id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}',
            Era.STATELESS,
        ),
        (b'{"id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":null}}}', Era.STATELESS),
        (b'{"id":1,"result":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}', Era.HANDSHAKE),
    ],
)
def test_a_request_is_stateless_exactly_if_its_meta_names_a_version(line: bytes, era: Era) -> None:
    found = read_host(line)
    assert isinstance(found, Frame)
    assert era_of(found) is era


def test_versions_stand_in_order_and_the_eras_do_not_overlap() -> None:
    assert list(eras.HANDSHAKE_VERSIONS) == sorted(eras.HANDSHAKE_VERSIONS)
    assert eras.HANDSHAKE_VERSIONS[-1] == eras.LATEST_HANDSHAKE
    assert eras.BATCH_VERSION in eras.HANDSHAKE_VERSIONS
    assert eras.STATELESS_VERSION not in eras.HANDSHAKE_VERSIONS


def test_no_code_of_ours_lies_among_the_specifications_but_theirs() -> None:
    theirs = {-32700, -32600, -32601, -32602, -32603}
    assert {code for code in Code if -32768 <= code <= -32000} == theirs
