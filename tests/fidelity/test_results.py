"""What a server answers reaches the host as the bytes that it wrote, in both eras."""

import re
from collections.abc import Iterator

import pytest

from fidelity.rig import ERAS, Rig, answered, call, request
from soothsayer_mcp.testing.servers import Act, Script, error, line, result, tool

TEXT = '"content":[{"type":"text","text":"x"}]'
RESULTS = {
    "unknown members": "{" + TEXT + ',"x-new":{"a":[1,{"b":null}]},"$schema":"y"}',
    "unknown content type": '{"content":[{"type":"hologram","depth":3,"_meta":{}},{}]}',
    "no content": "{}",
    "nulls": '{"content":[],"structuredContent":null,"isError":null,"_meta":null}',
    "scalar structured content": "{" + TEXT + ',"structuredContent":42}',
    "false is not absent": "{" + TEXT + ',"structuredContent":false,"isError":false}',
    "numbers": '{"content":[],"n":[1e400,-1e400,-0.0,0.10,1E5,1e5,1.0,1,12345678901234567,0.12345678901234567]}',
    "great integers": f'{{"content":[],"n":[{2**70},{2**53 + 1},-{2**64},{10**400}]}}',
    "lone surrogates": '{"content":[{"type":"text","text":"\\ud800 \\udc00\\ud800"}]}',
    "escapes as they were": '{"content":[{"type":"text","text":"\\u0041\\/\\u00e9\\t\\u0000\\ud83d\\ude00"}]}',
    "separators and emoji": '{"content":[{"type":"text","text":"a\u2028b\u2029c\u0085d\U0001f30d\ufeff"}]}',
    "blanks": '{ "content" : [ ] , "isError":false }',
    "order of keys": '{"z":1,"content":[],"a":2,"_meta":{"z":0,"a":0}}',
    "a key that stands twice": '{"content":[],"content":[{"type":"text","text":"second"}]}',
    "keys in another case": '{"content":[],"Content":[],"ISERROR":true}',
    "deep": '{"content":[],"d":' + "[" * 300 + "]" * 300 + "}",
    "tool error": "{" + TEXT + ',"isError":true,"structuredContent":{"why":null}}',
    "meta of others": "{" + TEXT + ',"_meta":{"com.example/x":null,"traceparent":"00-1-2-03","":0}}',
    "input asked for": '{"resultType":"input_required","requestState":"S+/=","inputRequests":{}}',
    "unknown result type": '{"resultType":"x/partial","left":3}',
}
ERRORS = {
    "odd code": '{"code":12345,"message":""}',
    "code of the specification": '{"code":-32602,"message":"Unknown tool: x","data":null}',
    "data and more": '{"code":-32000,"message":"m","data":{"a":[null,1.0]},"x-hint":"\\u0000"}',
    "code that is no integer": '{"code":1.5,"message":"m"}',
    "no code": '{"message":"m"}',
    "great data": '{"code":-1,"message":"m","data":[' + str(2**70) + ",1e400]}",
}
LARGE = 8 * 1024 * 1024
LARGE_RESULT = '{"resultType":"complete","content":[{"type":"text","text":"' + "\u00e9" * (LARGE // 2) + '"}]}'


def complete(text: str) -> str:
    """A result as the stateless era has it, when it says nothing of its type."""
    if "resultType" in text:
        return text
    return '{"resultType":"complete"' + ("" if text == "{}" else ",") + text.lstrip("{ ")


def scripted() -> Script:
    on: dict[str, list[Act]] = {}
    for name, text in RESULTS.items():
        on[f"tool:{name}"] = [result(text)]
        on[f"tool:{name}, stateless"] = [result(complete(text))]
        on[f"x/{name}"] = [result(text)]
    on |= {f"tool:{name}": [error(text)] for name, text in ERRORS.items()}
    on |= {f"x/{name}": [error(text)] for name, text in ERRORS.items()}
    on["tool:large"] = [result(LARGE_RESULT)]
    on["tool:spaced"] = [line('  { "x":1, "result" : {"resultType":"complete"},  "id" :$ID , "jsonrpc":"2.0" } ')]
    on["tool:carriage"] = [line('{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"complete"}}\r')]
    names = [name.removeprefix("tool:") for name in on if name.startswith("tool:")]
    return Script(on=on, tools=[tool(name) for name in names])


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig(tmp_path_factory.mktemp("results"), scripted()) as rig:
        rig.host.initialize()
        rig.fence()
        yield rig


@pytest.mark.pitfall("P-PROTO-03")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_of_a_tool_passes_byte_for_byte(name: str, era: str, rig: Rig) -> None:
    stateless = era == "stateless"
    text = complete(RESULTS[name]) if stateless else RESULTS[name]
    rig.host.send(call(f"{name}, stateless" if stateless else name, request_id='"r"', era=era))
    assert rig.host.answer("r") == answered(text, '"r"')


@pytest.mark.parametrize("name", [*RESULTS, *ERRORS])
def test_an_answer_to_any_other_request_passes_byte_for_byte(name: str, rig: Rig) -> None:
    rig.host.send(request(f"x/{name}", request_id='"o"'))
    if name in RESULTS:
        assert rig.host.answer("o") == answered(RESULTS[name], '"o"')
    else:
        assert rig.host.answer("o") == f'{{"jsonrpc":"2.0","id":"o","error":{ERRORS[name]}}}'.encode()


@pytest.mark.pitfall("P-PROTO-03")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_passes_byte_for_byte(name: str, era: str, rig: Rig) -> None:
    rig.host.send(call(name, request_id='"e"', era=era))
    assert rig.host.answer("e") == f'{{"jsonrpc":"2.0","id":"e","error":{ERRORS[name]}}}'.encode()


def test_a_stateless_result_without_a_type_is_the_one_thing_that_is_mended(rig: Rig) -> None:
    for name, text in RESULTS.items():
        if "resultType" not in text:
            rig.host.send(call(name, request_id='"m"', era="stateless"))
            came, times = re.subn(b',?"resultType":"complete"', b"", rig.host.answer("m"))
            assert (came, times) == (answered(text, '"m"'), 1)


@pytest.mark.parametrize("era", ERAS)
def test_a_result_of_eight_megabytes_passes_whole(era: str, rig: Rig) -> None:
    rig.host.send(call("large", request_id='"large"', era=era))
    came = rig.host.answer("large")
    assert len(came) > LARGE
    assert came == answered(LARGE_RESULT, '"large"')


@pytest.mark.parametrize("era", ERAS)
def test_an_envelope_is_not_spelt_anew(era: str, rig: Rig) -> None:
    rig.host.send(call("spaced", request_id='"s"', era=era))
    assert rig.host.answer("s") == b'  { "x":1, "result" : {"resultType":"complete"},  "id" :"s" , "jsonrpc":"2.0" } '
    rig.host.send(call("carriage", request_id='"c"', era=era))
    assert rig.host.answer("c").rstrip(b"\r") == answered('{"resultType":"complete"}', '"c"')
