"""What a host asks reaches the server as the bytes that it wrote, in both eras."""

from collections.abc import Iterator

import pytest

from fidelity.rig import ERAS, META, Rig, call, notice, read, request
from soothsayer_mcp.testing.servers import Script, tool

IDS = ["7", '"7"', '"abc"', "0", '"0"', "-1", str(2**70), '""', '"listen:0"', '"\\u00e9\\ud83d\\ude00"', '"a\\/b"']
ARGUMENTS = {
    "numbers": f'{{"big":{2**53 + 1},"bigger":{2**70},"one":1.0,"e":1E5,"minus":-0.0,"long":0.12345678901234567}}',
    "escapes": '{"s":"\\u0041\\/\\t\\u0000\\ud83d\\ude00"}',
    "separators": '{"s":"a\u2028b\u2029c\u0085\U0001f30d\ufeff"}',
    "blanks and order": '{ "z" : null , "a":[ ],"m":{} }',
    "nulls": '{"a":null,"b":[null],"":null}',
    "deep": '{"d":' + "[" * 100 + "]" * 100 + "}",
    "empty": "{}",
}
META_OF_CALLS = {
    "token 0": '"progressToken":0',
    "empty token": '"progressToken":""',
    "trace context": f'"traceparent":"00-{"0af7651916cd43dd" * 2}-b7ad6b7169203331-01","tracestate":"","baggage":"a=b"',
    "of vendors": '"claudecode/toolUseId":"toolu_1","com.example/x":{"a":null}',
}
LARGE = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    script = Script(tools=[tool("echo"), tool("café \u2028")])
    with Rig(tmp_path_factory.mktemp("requests"), script) as rig:
        rig.host.initialize()
        rig.fence()
        yield rig


def assert_passes(rig: Rig, line: str) -> None:
    """Send it, have it answered under its own id, and find the server was told the very line."""
    mark = len(rig.record.lines)
    rig.host.send(line)
    answer = read(rig.host.answer(read(line.encode())["id"]))  # type: ignore[arg-type]  # the id is legal
    assert "error" not in answer or "-32601" in str(answer["error"])
    assert rig.told(mark) == [line.encode()]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("request_id", IDS)
def test_an_id_comes_back_and_goes_on_as_it_was_spelt(request_id: str, era: str, rig: Rig) -> None:
    assert_passes(rig, call("echo", request_id=request_id, era=era))
    assert_passes(rig, request("x/other", request_id=request_id, era=era))


@pytest.mark.pitfall("P-PROTO-03")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_not_spelt_anew(name: str, era: str, rig: Rig) -> None:
    assert_passes(rig, call("echo", ARGUMENTS[name], era=era))


@pytest.mark.parametrize("name", META_OF_CALLS)
def test_metadata_of_a_call_goes_on(name: str, rig: Rig) -> None:
    inside = META_OF_CALLS[name]
    assert_passes(rig, request("tools/call", '{"name":"echo","arguments":{},"_meta":{' + inside + "}}"))
    both = META[:-1] + "," + inside + "}"
    assert_passes(rig, request("tools/call", '{"name":"echo","arguments":{},"_meta":' + both + "}"))


@pytest.mark.parametrize(
    "line",
    [
        request("x/nothing", None),
        request("x/empty", "{}"),
        request("x/meta", '{"_meta":{}}'),
        request("tools/list", None),
        request("tools/list", '{"cursor":""}'),
        request("tools/list", '{"cursor":"","_meta":{}}'),
        request("tools/call", '{"name":"echo"}'),
        request("tools/call", '{"name":"echo","arguments":{},"x-more":null,"task":{"ttl":1}}'),
        request("tools/call", '{"name":"caf\\u00e9 \\u2028","arguments":{}}'),
        '{ "params" : {"arguments":{},"name":"echo"} ,"x":[null,1.0],\t"method":"tools/call","id":1,"jsonrpc":"2.0" }',
        '  {"id":1,"method":"ping","jsonrpc":"2.0"}  ',
    ],
)
def test_the_envelope_and_the_params_are_not_spelt_anew(line: str, rig: Rig) -> None:
    assert_passes(rig, line)


@pytest.mark.parametrize("era", ERAS)
def test_a_call_of_eight_megabytes_passes_whole(era: str, rig: Rig) -> None:
    assert_passes(rig, call("echo", '{"text":"' + "\u00e9" * (LARGE // 2) + '"}', era=era))


@pytest.mark.parametrize(
    "line",
    [
        notice("notifications/roots/list_changed", None),
        notice("notifications/roots/list_changed", '{ "_meta" : {} }'),
        notice("notifications/x", '{"a":null}'),
        notice("notifications/progress", '{"progressToken":0,"progress":0.50,"total":null}'),
    ],
)
def test_a_notice_goes_on_as_it_was_spelt(line: str, rig: Rig) -> None:
    mark = len(rig.record.lines)
    rig.host.send(line)
    rig.fence()
    assert rig.told(mark)[0] == line.encode()
