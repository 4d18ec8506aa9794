"""Outcomes on the real command: transport, JSON-RPC and the tool's own word are three facts."""

import json
from pathlib import Path

import pytest

from fidelity.rig import ALLOWING, Rig, answered, at, call, read
from pitfalls_e2e.remote import serve
from soothsayer_mcp.testing.servers import Act, Script, die, error, result, tool

LIMITS = {"max_frame": "1MB", "call_timeout": "2s"}
ENDS: dict[str, tuple[list[Act], str, str]] = {
    "a JSON-RPC error": ([error('{"code":-32000,"message":"no"}')], "tool_error", "protocol_error"),
    "an error result": ([result('{"content":[],"isError":true}')], "tool_error", "tool_failed"),
    "a closed pipe": ([die(1)], "tool_error", "connection_lost"),
    "no answer in time": ([], "timeout_or_budget_exceeded", "call_timeout"),
    "an answer over the limit": (
        [result('{"content":[{"type":"text","text":"' + "x" * 1_100_000 + '"}]}')],
        "tool_error",
        "answer_unreadable",
    ),
}


@pytest.mark.pitfall("P-EVID-02")
def test_each_way_to_fail_has_one_class_and_its_own_reason_and_none_is_a_success(tmp_path: Path) -> None:
    names = [f"end {number}" for number in range(len(ENDS))]
    on = {f"tool:{name}": acts for name, (acts, _, _) in zip(names, ENDS.values(), strict=True)}
    script = Script(on=on, tools=[tool(name) for name in names])
    argv = script.command(tmp_path)
    config = {
        "soothsayer": "config/v1",
        "policy": [str(tmp_path / "policy.yaml")],
        "limits": LIMITS,
        "mcpServers": {"raw": {"command": argv[0], "args": argv[1:]}},
    }
    (tmp_path / "soothsayer.yaml").write_text(json.dumps(config), encoding="utf-8")
    with Rig(tmp_path, script, policy=ALLOWING, config=tmp_path / "soothsayer.yaml") as rig:
        rig.host.initialize()
        answers = [rig.host.call(name) for name in names]
    assert len(script.record(tmp_path).calls()) == len(ENDS)
    outcomes = [entry for entry in rig.entries("step.outcome") if entry.get("failure")]
    assert [(entry["failure"], entry["reason"]) for entry in outcomes] == [ended[1:] for ended in ENDS.values()]
    assert {str(entry["outcome"]) for entry in outcomes} == {"failed", "unknown"}
    for answer, outcome in zip(answers, outcomes, strict=True):
        assert "error" in answer or at(answer, "result", "isError") is True
        if "dev.soothsayer/step" in str(answer):
            said = at(answer, "result", "_meta", "dev.soothsayer/step")
            assert (at(said, "class"), at(said, "reason")) == (outcome["failure"], outcome["reason"])
            assert at(said, "acted") == outcome["acted"]


@pytest.mark.pitfall("P-EVID-02")
def test_a_failed_http_answer_is_no_success(tmp_path: Path) -> None:
    with serve({"tools/call": 500}) as url, Rig(tmp_path, policy=ALLOWING, url=url) as rig:
        rig.host.initialize()
        answer = rig.host.call("large")
        assert at(answer, "result", "isError") is True
    [outcome] = rig.entries("step.outcome")
    assert (outcome["outcome"], outcome["failure"], outcome["acted"]) == ("unknown", "tool_error", "maybe")
    assert at(answer, "result", "_meta", "dev.soothsayer/step", "reason") == outcome["reason"]
    assert "HTTP 500" in str(at(answer, "result", "content", 0, "text"))


@pytest.mark.parametrize("known", [True, False], ids=["fits", "does-not"])
def test_a_result_that_breaks_its_schema_is_withheld_whole_and_said_to_have_run(known: bool, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    text = '{"content":[{"type":"text","text":"made"}],"structuredContent":{"n":%s}}' % ("1" if known else '"1"')
    script = Script(on={"tool:typed": [result(text)]}, tools=[tool("typed", outputSchema=schema)])
    with Rig(tmp_path, script, policy=ALLOWING) as rig:
        rig.host.initialize()
        rig.host.send(call("typed", request_id="7"))
        came = rig.host.answer(7)
        if known:
            assert came == answered(text, "7")
        else:
            assert at(read(came), "result", "isError") is True
            assert at(read(came), "result", "_meta", "dev.soothsayer/step", "acted") == "yes"
            assert b"structuredContent" not in came
            assert b"made" not in came
            assert "It ran" in str(at(read(came), "result", "content", 0, "text"))
