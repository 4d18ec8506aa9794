"""A rule is appended to a policy file, and nothing else of it changes."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soothsayer_mcp.adapters.policy_files.append import AppendError, replace_text, with_rule
from soothsayer_mcp.adapters.policy_files.positions import plain, read
from soothsayer_mcp.model.json import JsonObject

HEAD = "soothsayer: policy/v1\nname: own\n"
RULE: JsonObject = {"allow": 'It was "seen": #1 - yes.', "tools": "a.b", "args": {"x": {"is": "y: [z"}}}
RULES = [
    '- {deny: "No.", tools: a.c}',
    '- deny: "No."  # why\n  tools: a.c  # which',
    '- deny: "No."\n  args: {p: {in: [1, 2]}}\n\n  # a word\n',
    '- deny: "No."\n  tools:\n    - a.c\n    - a.d # last',
    "- deny: 'It is\n    long'",
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=3),
    indent=st.sampled_from(["", "  ", "    "]),
    tail=st.sampled_from(["", "\n", "\n\n# end\n", "\nmode: observe\n", "\n# next\nmode: observe # x"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_every_line_stays_and_one_is_new(rules: list[str], indent: str, tail: str, line_end: str) -> None:
    body = "\n".join(indent + line if line else "" for rule in rules for line in rule.split("\n"))
    text = (HEAD + "rules:\n" + body + tail).replace("\n", line_end)
    made = with_rule(text, RULE, "own.yaml")
    before, after = text.splitlines(), made.splitlines()
    new = [line for line in after if "It was" in line]
    assert len(new) == 1
    assert [line for line in after if line not in new] == before
    tree = plain(read(made.encode(), "own.yaml"))
    assert isinstance(tree, dict)
    assert isinstance(tree["rules"], list)
    assert tree["rules"][-1] == RULE


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (HEAD, HEAD + "rules:\n  - RULE\n"),
        (HEAD.rstrip(), HEAD + "rules:\n  - RULE\n"),
        (HEAD + "rules: []\n", HEAD + "rules: [RULE]\n"),
        (HEAD + 'rules: [{deny: "No."}] # x\n', HEAD + 'rules: [{deny: "No."}, RULE] # x\n'),
    ],
)
def test_rules_that_are_missing_or_in_one_line_get_it_too(text: str, made: str) -> None:
    spelt = with_rule(HEAD, RULE, "own.yaml").splitlines()[-1].removeprefix("  - ")
    assert with_rule(text, RULE, "own.yaml") == made.replace("RULE", spelt)


@pytest.mark.parametrize("text", [HEAD + "...\n", HEAD + "rules:\n", "{soothsayer: policy/v1, name: own}\n"])
def test_what_cannot_be_changed_so_is_left_alone(text: str) -> None:
    with pytest.raises(AppendError):
        with_rule(text, RULE, "own.yaml")


def test_a_file_that_changed_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("a: 2\n", encoding="utf-8")
    file.chmod(0o640)
    with pytest.raises(AppendError, match="meanwhile"):
        replace_text(file, "a: 1\n", "a: 3\n")
    replace_text(file, "a: 2\n", "a: 3\n")
    assert (file.read_text(encoding="utf-8"), file.stat().st_mode & 0o777) == ("a: 3\n", 0o640)
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]
