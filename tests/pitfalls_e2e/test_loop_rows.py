"""Loops on the real command: a line with the answer first, then refusals, then the run is paused."""

import json
from pathlib import Path

import pytest

from fidelity.rig import Rig, call, step
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import Script, result, tool

POLICY = """\
soothsayer: policy/v1
name: circles
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels: [{tools: "raw.poll", does: read, polling: 1ms}]
budgets: {same_call_repeats: 3}
"""


def timed(ms: int) -> str:
    return f'{{"content":[{{"type":"text","text":"same, in {ms} ms"}}],"structuredContent":{{"durationMs":{ms}}}}}'


SCRIPT = Script(
    tools=list(map(tool, ("a", "b", "news", "poll"))),
    on={
        "tool:a": [result('{"content":[{"type":"text","text":"same"}]}')],
        "tool:b": [result(timed(10))],
    },
)


def said(rig: Rig, name: str, number: int, arguments: str = "{}") -> JsonObject:
    rig.host.send(call(name, arguments, str(number)))
    return json.loads(rig.host.answer(number))


@pytest.mark.pitfall("P-RUN-05")
def test_a_circle_of_calls_is_corrected_then_refused_then_stopped(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY) as rig:
        rig.host.initialize()
        answers = [said(rig, "ab"[number % 2], 100 + number) for number in range(12)]
        texts = [json.dumps(answer) for answer in answers]
        noted = [number for number, text in enumerate(texts) if "Note: third identical answer; nothing has" in text]
        assert noted == [5, 6]
        assert all("same" in texts[number] for number in range(7))
        assert [step(answer)["reason"] for answer in answers[7:]] == ["repeat_limit"] * 5
        assert "Stop: 5 calls were refused as repetitions, and nothing has changed." in texts[11]
        assert len(rig.record.calls()) == 7
        assert step(said(rig, "news", 120))["reason"] == "run_paused"


@pytest.mark.pitfall("P-RUN-06")
def test_calls_whose_answers_or_nested_arguments_differ_and_polls_pass_without_a_word(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY) as rig:
        rig.host.initialize()
        texts = [json.dumps(said(rig, "news", 100 + n, f'{{"a":{{"b":[{{"c":{n}}}]}}}}')) for n in range(10)]
        texts += [json.dumps(said(rig, "poll", 200 + n)) for n in range(10)]
        assert not [text for text in texts if "Note:" in text or "Not done" in text]
        assert len(rig.record.calls()) == 20


def test_a_person_who_resumes_the_run_lets_it_try_again(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY) as rig:
        rig.host.initialize()
        answers = [said(rig, "a", 100 + number) for number in range(8)]
        assert step(answers[7])["reason"] == "repeat_limit"
        name = str(rig.entries("run.opened")[-1]["run"])
        assert run(("run", "resume", name, "--state", str(rig.state))) == 0
        assert "error" not in said(rig, "a", 120)
        assert len(rig.record.calls()) == 4
