"""The tools that checks, captures, undos and settling call are looked for among those of the servers, as all are."""

from pathlib import Path

import pytest

from policy_kit import HEAD
from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors

UNTIL = 'until: "result.x == 1"'


@pytest.mark.parametrize(
    ("owed", "at"),
    [
        ("require: [{readback: {tool: WRONG, UNTIL}}]", "readback"),
        ("require: [{any: [{readback: {tool: WRONG, UNTIL}}]}]", "any"),
        ("require: [{step: {tools: WRONG}}]", "step"),
        ("require: [{step: {tools: a.run, except: WRONG}}]", "except"),
        ("verify: [{readback: {tool: WRONG, UNTIL}}]", "verify"),
        ('verify: [{count: {of: {tool: WRONG, take: result.n}, expect: "after == before"}}]', "count"),
        ("capture: {tool: WRONG}\n    undo: {tool: a.back}", "capture"),
        ("capture: {tool: a.get}\n    undo: {tool: WRONG}", "undo"),
        ("undo: {tool: a.back, check: {readback: {tool: WRONG, UNTIL}}}", "check"),
        ('settle: {readback: {tool: WRONG, happened: "result.x == 1"}}', "settle"),
    ],
)
@pytest.mark.parametrize(
    ("wrong", "told"),
    [("b.get", 'no server is called "b"'), ("a.gte", 'the server a has no tool "gte"; did you mean "get"?')],
)
def test_a_tool_that_is_not_there_does_not_load(tmp_path: Path, owed: str, at: str, wrong: str, told: str) -> None:
    del at
    owed = owed.replace("WRONG", wrong).replace("UNTIL", UNTIL)
    file = tmp_path / "p.yaml"
    file.write_text(f"{HEAD}rules:\n  - allow: x\n    tools: a.do\n    {owed}\n")
    tools = {"a": {name: {"type": "object"} for name in ("do", "get", "back", "run")}}
    with pytest.raises(LoadErrors) as errors:
        load([str(file)], known_servers=["a"], known_tools=tools, state=tmp_path / "state")
    assert [one.text.partition(";")[0] for one in errors.value.problems] == [told.partition(";")[0]]
    assert errors.value.problems[0].mark.line == 6 + owed[: owed.index(wrong)].count("\n")
