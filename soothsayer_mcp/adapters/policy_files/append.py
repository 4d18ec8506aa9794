"""Appends a rule to a policy file: every byte that stands there stays, comments too."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import yaml

from soothsayer_mcp.adapters.policy_files.positions import plain, read
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.model.json import Json, JsonObject


class AppendError(Exception):
    """The file cannot be changed so that only the rule is new."""


def with_rule(text: str, rule: JsonObject, file: str) -> str:
    """The text of a policy with one more rule, last. Raises `AppendError`, and `LoadErrors` for what is no policy."""
    before = plain(read(text.encode(), file))
    assert isinstance(before, Mapping)
    rules = before.get("rules", [])
    if not isinstance(rules, list):
        message = "its `rules` are no list"
        raise AppendError(message)
    expected: Json = {**before, "rules": [*rules, rule]}
    made = _made(text, json.dumps(rule, ensure_ascii=False))
    try:
        right = plain(read(made.encode(), file)) == expected
    except LoadErrors:
        right = False
    if not right:
        message = "its `rules` are written so that none can be appended: write a list with - and one rule a line"
        raise AppendError(message)
    return made


def replace_text(file: Path, before: str, after: str) -> None:
    """Put a text in the place of another, whole or not at all. Raises `AppendError` when it is not that any more."""
    if file.read_bytes() != before.encode():
        message = "it was changed meanwhile"
        raise AppendError(message)
    target = file.resolve()
    descriptor, fresh = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(after.encode())
            stream.flush()
            os.fsync(stream.fileno())
        Path(fresh).chmod(target.stat().st_mode & 0o777)
        Path(fresh).replace(target)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def _made(text: str, rule: str) -> str:
    line_end = "\r\n" if "\r\n" in text else "\n"
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    nodes = cast("list[tuple[yaml.Node, yaml.Node]]", root.value) if isinstance(root, yaml.MappingNode) else []
    rules = next((value for key, value in nodes if key.value == "rules"), None)
    if not isinstance(rules, yaml.SequenceNode):
        gap = "" if text.endswith("\n") else line_end
        return f"{text}{gap}rules:{line_end}  - {rule}{line_end}"
    if rules.flow_style:
        at = rules.end_mark.index - 1
        return f"{text[:at]}{', ' if rules.value else ''}{rule}{text[at:]}"
    end = _end(text, rules.value[-1])
    at = text.find("\n", end)
    at = len(text) if at < 0 else at - (text[at - 1] == "\r")
    indent = " " * rules.start_mark.column
    return f"{text[:at]}{line_end}{indent}- {rule}{text[at:]}"


def _end(text: str, node: yaml.Node) -> int:
    """Where the last word of a value ends: what follows it may be a comment."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = cast("tuple[yaml.Node, yaml.Node] | yaml.Node", node.value[-1])
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start, end = node.start_mark.index, node.end_mark.index
    return start + len(text[start:end].rstrip())
