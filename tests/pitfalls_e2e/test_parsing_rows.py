"""Rows of message parsing, on the real command: refused, not sent, on record, and the next request is answered."""

import json
from pathlib import Path

import pytest

from fidelity.broken import BROKEN
from fidelity.rig import ALLOWING, ERAS, Rig, answered, at, call, read, request, resident_mib
from soothsayer_mcp.testing.servers import Script, result, tool, wait_until

NOT_UNDERSTOOD = {
    "a truncated object": call("echo", request_id="7")[:-4].encode(),
    "nul": b"nul",
    "byte 0xFF": call("echo", request_id="7").encode().replace(b"echo", b"ec\xffo"),
    "params as an array": request("tools/call", '["echo",{}]', "7").encode(),
    "a hundred thousand brackets": b"[" * 100_000,
}


@pytest.mark.pitfall("P-PARSE-04")
def test_what_is_not_understood_is_refused_recorded_and_never_sent(tmp_path: Path) -> None:
    with Rig(tmp_path, policy=ALLOWING) as rig:
        rig.host.initialize()
        rig.host.call("echo")
        for number, (name, line) in enumerate(NOT_UNDERSTOOD.items(), start=1):
            mark = len(rig.record.lines)
            rig.host.send(line)
            assert at(read(rig.host.line()), "error", "code") in {-32700, -32600}, name
            rig.fence()
            assert len(rig.told(mark)) == 1, name
            wait_until(lambda count=number: len(rig.entries("message.dropped")) == count, f"the entry of {name}")


@pytest.mark.pitfall("P-PARSE-04")
def test_a_text_of_three_hundred_megabytes_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    piece = b"x" * 1_000_000
    with Rig(tmp_path, policy=ALLOWING) as rig:
        rig.host.initialize()
        rig.host.call("echo")
        before = resident_mib(rig.host.pid)
        rig.host.write(call("echo", '{"text":"', '"huge"').encode()[:-2])
        for _ in range(300):
            rig.host.write(piece)
        rig.host.send('"}}}')
        answer = read(rig.host.answer("huge"))
        assert at(answer, "error", "code") == -32600
        # The limit of a frame, and as much again for what is being cut.
        assert resident_mib(rig.host.pid) - before < 160
        rig.fence()
        assert len(rig.record.calls()) == 1
    [dropped] = rig.entries("message.dropped")
    assert dropped["reason"] == "too_big"


@pytest.mark.pitfall("P-PARSE-09")
@pytest.mark.parametrize("era", ERAS)
def test_half_a_surrogate_pair_is_refused_in_a_call_and_passes_in_a_result(era: str, tmp_path: Path) -> None:
    text = '{"resultType":"complete","content":[{"type":"text","text":"\\ud800"}]}'
    with Rig(tmp_path, Script(on={"tool:odd": [result(text)]}, tools=[tool("odd")]), policy=ALLOWING) as rig:
        rig.host.initialize()
        rig.host.send(call("odd", request_id="7", era=era))
        assert rig.host.answer(7) == answered(text, "7")
        rig.host.send(call("odd", '{"text":"\\ud800"}', "8", era=era))
        assert at(read(rig.host.answer(8)), "error", "code") == -32600
        rig.host.send(call("odd", request_id="9", era=era))
        assert rig.host.answer(9) == answered(text, "9")
        assert len(rig.record.calls()) == 2
    [dropped] = rig.entries("message.dropped")
    assert dropped["reason"] == "lone_surrogate"


def test_every_message_that_does_not_read_in_one_way_leaves_one_entry(tmp_path: Path) -> None:
    with Rig(tmp_path, policy=ALLOWING) as rig:
        rig.host.initialize()
        for line, _, _ in BROKEN.values():
            rig.host.send(line)
            rig.host.line()
        rig.fence()
        rig.host.end_input()
        rig.host.exit_code()
        dropped = rig.entries("message.dropped")
        assert len(dropped) == len(BROKEN)
        assert {(entry["from"], entry["answered"]) for entry in dropped} == {("host", True)}


def test_a_number_is_compared_and_sent_digit_for_digit(tmp_path: Path) -> None:
    policy = ALLOWING.replace("{read: allow, other: allow", "{read: deny, other: deny") + (
        'rules: [{allow: "One number.", id: one, tools: "raw.*", args: {number: {is: 9007199254740993}}}]\n'
    )
    with Rig(tmp_path, policy=policy) as rig:
        rig.host.initialize()
        rig.host.send(call("echo", '{"number":9007199254740993}', "1"))
        assert b'"isError"' not in rig.host.answer(1)
        for request_id, near in enumerate(("9007199254740992", "9007199254740993.0", "9007199254740994"), start=2):
            rig.host.send(call("echo", f'{{"number":{near}}}', str(request_id)))
            assert b'"isError":true' in rig.host.answer(request_id), near
        assert [json.dumps(params["arguments"]) for params in rig.record.calls()] == ['{"number": 9007199254740993}']
