"""Each word of the glossary names a real thing, and the words that we do not use stay out of the package."""

import importlib
import re
from pathlib import Path

import pytest

from syntax import SOURCES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([a-z ]+) \| (.+) \| `([\w.]+):(\w+)` \|$", PAGE, re.MULTILINE)

BANNED_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|manager|service|engine|handler)(_|$)")


def test_every_row_of_the_glossary_can_be_read() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(ROWS) == len(lines) - 1
    assert len({word for word, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("word", "meaning", "module", "name"), ROWS, ids=[row[0] for row in ROWS])
def test_a_word_names_something_real(word: str, meaning: str, module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [source.name for source in SOURCES if BANNED_NAMES.search(source.path.stem)] == []
