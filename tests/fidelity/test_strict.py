"""Each cell of the strict table: refused, not sent, and the next request is answered. On the real command."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fidelity.rig import ALLOWING, ERAS, WATCHING, Rig, answered, at, call, read, request
from soothsayer_mcp.testing.servers import Script, result, tool, wait_path

PARSE, INVALID = -32700, -32600
CALL = '{"name":"echo","arguments":{}}'


def params(text: str) -> str:
    return request("tools/call", text, "5")


BROKEN: dict[str, tuple[str | bytes, int, object]] = {
    "not UTF-8": (b'{"jsonrpc":"2.0","id":5,"method":"ping","x":"\xff"}', PARSE, None),
    "a lone byte": (b"\xff", PARSE, None),
    "a surrogate as bytes": (b'{"jsonrpc":"2.0","id":5,"method":"ping","x":"\xed\xa0\x80"}', PARSE, None),
    "a byte order mark": (b"\xef\xbb\xbf" + request("ping", None, "5").encode(), PARSE, None),
    "text after the value": (request("ping", None, "5") + " x", PARSE, None),
    "a second message": (request("ping", None, "5") * 2, PARSE, None),
    "NaN": (params('{"name":"echo","arguments":{"n":NaN}}'), PARSE, None),
    "Infinity": (params('{"name":"echo","arguments":{"n":-Infinity}}'), PARSE, None),
    "a raw control character": (params('{"name":"echo","arguments":{"n":"\x01"}}'), PARSE, None),
    "cut off": (params(CALL)[:-3], PARSE, None),
    "blanks": ("  \t ", PARSE, None),
    "a word": ("nul", PARSE, None),
    "a comma too many": (params('{"name":"echo","arguments":{},}'), PARSE, None),
    "single quotes": ("{'jsonrpc':'2.0'}", PARSE, None),
    "one brace": ("{", PARSE, None),
    "an equal key in the envelope": ('{"jsonrpc":"2.0","id":5,"method":"ping","method":"tools/list"}', INVALID, 5),
    "an id that stands twice": ('{"jsonrpc":"2.0","id":5,"id":6,"method":"ping"}', INVALID, None),
    "an equal key in params": (params('{"name":"echo","name":"other","arguments":{}}'), INVALID, 5),
    "an equal key behind an escape": (params('{"name":"echo","n\\u0061me":"other","arguments":{}}'), INVALID, 5),
    "an equal key far inside": (params('{"name":"echo","arguments":{"a":[{"b":1,"b":2}]}}'), INVALID, 5),
    "keys equal after folding": (params('{"name":"echo","arguments":{"a":{"k":1,"K":2}}}'), INVALID, 5),
    "a long s": (params('{"name":"echo","argument\u017f":{}}'), INVALID, 5),
    "a Kelvin sign": ('{"jsonrpc":"2.0","id":5,"method":"x/y","params":{"ta\u017f\u212a":{}}}', INVALID, 5),
    "a method in capitals": ('{"jsonrpc":"2.0","id":5,"METHOD":"ping"}', INVALID, 5),
    "a member of the metadata in capitals": (params('{"name":"echo","_meta":{"ProgressToken":1}}'), INVALID, 5),
    "a control character in a key": (params('{"name\\u0000":"echo"}'), INVALID, 5),
    "an invisible character in a key": (params('{"name":"echo","arguments":{"a\u200b":1}}'), INVALID, 5),
    "an invisible letter in a key": (params('{"name":"echo","arguments":{"a\u3164":1}}'), INVALID, 5),
    "too deep": (params('{"name":"echo","arguments":{"d":' + "[" * 127 + "]" * 127 + "}}"), INVALID, 5),
    "far too deep": ("[" * 100_000, INVALID, None),
    "an integer beyond all digits": (params('{"name":"echo","arguments":{"n":1' + "0" * 5000 + "}}"), INVALID, 5),
    "a float that overflows": (params('{"name":"echo","arguments":{"n":1e400}}'), INVALID, 5),
    "half a pair": (params('{"name":"echo","arguments":{"s":"\\ud800"}}'), INVALID, 5),
    "half a pair in a key": (params('{"name":"echo","arguments":{"\\udc00":1}}'), INVALID, 5),
    "half a pair in the id": (request("ping", None, '"\\ud800"'), INVALID, "\ud800"),
    "params that are an array": (request("tools/call", "[]", "5"), INVALID, 5),
    "params that are null": (request("tools/list", "null", "5"), INVALID, 5),
    "a method and a result": ('{"jsonrpc":"2.0","id":5,"method":"ping","result":{}}', INVALID, 5),
    "neither method nor answer": ('{"jsonrpc":"2.0","id":5}', INVALID, 5),
    "a method that is no string": ('{"jsonrpc":"2.0","id":5,"method":1}', INVALID, 5),
    "id null": (request("ping", None, "null"), INVALID, None),
    "id 1.5": (request("ping", None, "1.5"), INVALID, None),
    "id 1.0": (request("ping", None, "1.0"), INVALID, None),
    "id true": (request("ping", None, "true"), INVALID, None),
    "id an object": (request("ping", None, "{}"), INVALID, None),
    "an array": (f"[{call('echo', request_id='5')}]", INVALID, None),
    "an empty array": ("[]", INVALID, None),
    "a string": ('"tools/call"', INVALID, None),
}
"""The line, the code, and the id of the answer."""

UNANSWERED = {
    "an answer with both members": '{"jsonrpc":"2.0","id":5,"result":{},"error":{"code":1,"message":""}}',
    "an empty line": "",
}


def started(folder: Path, policy: str) -> Rig:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    rig = Rig(folder, Script(tools=[tool("echo"), tool("read", inputSchema=schema)]), policy=policy)
    rig.host.initialize()
    rig.host.call("echo")
    return rig


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with started(tmp_path_factory.mktemp("enforcing"), ALLOWING) as rig:
        yield rig


@pytest.fixture(scope="module")
def observing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with started(tmp_path_factory.mktemp("observing"), WATCHING) as rig:
        yield rig


@pytest.fixture(params=["enforcing", "observing"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """What cannot be read in one way is refused whatever policy says, also where it only observes."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", BROKEN)
def test_a_message_that_does_not_read_in_one_way_is_answered_and_never_sent(name: str, rig: Rig) -> None:
    line, code, shown_id = BROKEN[name]
    mark = len(rig.record.lines)
    rig.host.send(line)
    answer = read(rig.host.line())
    assert at(answer, "error", "code") == code
    assert answer["id"] == shown_id
    rig.fence()
    assert len(rig.told(mark)) == 1


@pytest.mark.parametrize("name", UNANSWERED)
def test_what_asks_nothing_is_dropped_without_an_answer(name: str, rig: Rig) -> None:
    mark = len(rig.record.lines)
    rig.host.aside.clear()
    rig.host.send(UNANSWERED[name])
    rig.fence()
    assert len(rig.told(mark)) == 1
    assert list(rig.host.aside) == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "inside",
    [
        '"name":7,"arguments":{}',
        '"name":"read","arguments":[]',
        '"name":"read","arguments":"{}"',
        '"name":"read","arguments":null',
        '"arguments":{}',
    ],
)
def test_a_call_whose_name_or_arguments_have_another_type_is_a_refused_step(
    inside: str, era: str, enforcing: Rig
) -> None:
    rig = enforcing
    mark = len(rig.record.lines)
    rig.host.send(request("tools/call", "{" + inside + "}", "5", era=era))
    answer = read(rig.host.answer(5))
    assert at(answer, "result", "isError") is True
    assert at(answer, "result", "_meta", "dev.soothsayer/step", "reason") == "arguments_invalid"
    assert ('"resultType"' in str(answer).replace("'", '"')) == (era == "stateless")
    rig.fence()
    assert b'"tools/call"' not in b"".join(rig.told(mark))


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("request_id", ["7", '"7"'])
def test_an_id_in_flight_is_not_taken_again_and_its_like_of_another_type_is(
    request_id: str, era: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = Script(on={"tool:slow": [wait_path(go), result('{"resultType":"complete"}')]}, tools=[tool("slow")])
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        rig.host.send(call("slow", request_id=request_id, era=era))
        rig.record.wait_for("tools/call")
        rig.host.send(request("x/again", request_id=request_id, era=era))
        refused = rig.host.answer(read(f'{{"id":{request_id}}}'.encode())["id"])  # type: ignore[arg-type]  # a legal id
        assert at(read(refused), "error", "code") == INVALID
        other = "7" if request_id == '"7"' else '"7"'
        rig.host.send(request("x/like", request_id=other, era=era))
        assert "-32601" in rig.host.line().decode()
        assert b"x/again" not in b"".join(rig.record.lines)
        go.touch()
        assert rig.host.line() == answered('{"resultType":"complete"}', request_id)
