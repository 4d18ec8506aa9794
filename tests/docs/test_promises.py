"""Every promise in a document has tests, and every promise with tests stands in a document."""

import ast
import re
from pathlib import Path

import pytest

from promises import PROMISES

ROOT = Path(__file__).parent.parent.parent
PAGES = (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs" / "explanation").glob("*.md")))
MADE = re.compile(r"\[([a-z]+(?:-[a-z]+)+)\](?!\()")


def made() -> set[str]:
    texts = (re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL) for page in PAGES)
    return {promise for text in texts for promise in MADE.findall(text)}


def test_documents_promise_what_is_listed_and_nothing_else() -> None:
    assert made() == set(PROMISES)


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_has_tests_that_run(promise: str) -> None:
    assert PROMISES[promise] != ()
    for test in PROMISES[promise]:
        path, name = test.split("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        (found,) = [
            node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]
        marks = {ast.unparse(mark) for mark in found.decorator_list}
        assert not any("mark.skip" in mark or "mark.xfail" in mark for mark in marks), test
