"""What the keys of an undo by a call may say, and how a policy that says it wrongly is told so."""

from pathlib import Path

import pytest

from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors

CAPTURE = "capture: {tool: a.get}"


def loaded(tmp_path: Path, rule: str) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(f"soothsayer: policy/v1\nname: x\nrules:\n  - {{allow: changes, tools: a.set, {rule}}}\n")
    try:
        load([str(path)])
    except LoadErrors as errors:
        return str(errors)
    return ""


@pytest.mark.parametrize(
    "rule",
    [
        CAPTURE + ', undo: {tool: a.put, args: {x: "${before.x}"}}',
        CAPTURE + ", undo: {class: restore, tool: a.put}",
        'undo: {tool: a.drop, args: {id: "${returned.id}"}, check: {readback: {tool: a.get, until: "result == null"}}}',
    ],
)
def test_an_undo_by_a_call_loads(tmp_path: Path, rule: str) -> None:
    assert loaded(tmp_path, rule) == ""


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (CAPTURE, "`capture` goes with an undo by a call"),
        (CAPTURE + ", undo: {restore: file(args.path)}", "`capture` goes with an undo by a call"),
        ("undo: {tool: a.put}", "needs a `capture`"),
        ("undo: {class: restore, tool: a.put}", "needs a `capture`"),
        ("undo: {restore: file(args.path), tool: a.put}", "one of `restore`, for files, and `tool`"),
        ("undo: {restore: file(args.path), args: {}}", "`restore` stands alone"),
        ("undo: {class: compensate}", "one of `restore`, for files, and `tool`"),
        ('capture: {tool: a.get, args: {x: "${returned.x}"}}, undo: {tool: a.put}', "neither `before` nor `returned`"),
        ("capture: {as: earlier, tool: a.get}, undo: {tool: a.put}", "policy-"),
        ("capture: {tool: get}, undo: {tool: a.put}", "policy-"),
        (CAPTURE + ", undo: {tool: a.put, chek: {}}", "policy-key"),
    ],
)
def test_what_could_not_undo_does_not_load(tmp_path: Path, rule: str, said: str) -> None:
    assert said in loaded(tmp_path, rule)
