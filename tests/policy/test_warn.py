"""What is warned of in labels, beside what servers say of their tools."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from policy_kit import policy_from
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.warn import about_tools

LABELS = """
labels:
  - {tools: fs.look, does: read}
  - {tools: fs.put, does: write}
  - {tools: fs.post, does: send}
  - {tools: fs.drop, does: delete}
"""


@pytest.mark.parametrize(
    ("tool", "hints", "warned"),
    [
        ("other", {}, ["policy-unlabelled"]),
        ("other", {"readOnlyHint": True}, ["policy-unlabelled"]),
        ("look", {}, []),
        ("look", {"readOnlyHint": True}, []),
        ("look", {"readOnlyHint": False}, ["policy-hint"]),
        ("look", {"destructiveHint": True}, ["policy-hint"]),
        ("put", {"readOnlyHint": False, "destructiveHint": False}, []),
        ("put", {"readOnlyHint": True}, ["policy-hint"]),
        ("put", {"destructiveHint": True}, ["policy-hint"]),
        ("post", {"readOnlyHint": False}, []),
        ("drop", {"destructiveHint": True, "readOnlyHint": False}, []),
        ("look", {"destructiveHint": "true"}, []),
    ],
)
def test_a_label_beside_what_its_server_says(
    tool: str, hints: Mapping[str, Json], warned: list[str], tmp_path: Path
) -> None:
    found = about_tools(policy_from(LABELS, tmp_path), [("fs", tool, hints)])
    assert [(flaw.rule, flaw.id) for flaw in found] == [(f"fs.{tool}", word) for word in warned]
