"""What the documents point at is there: files, headings, commands, reasons."""

import re
import shlex
from pathlib import Path

import pytest

from soothsayer_mcp.cli.table import COMMANDS, GROUPS
from soothsayer_mcp.model.failure import REASONS

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MENTION = re.compile(r"`(soothsayer [^`]*)`")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

names = [str(page.relative_to(ROOT)) for page in PAGES]


def slug(heading: str) -> str:
    """The anchor that a Markdown viewer makes of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.strip().replace(" ", "-")


def outside_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(outside_code(page)):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        assert there.is_relative_to(ROOT)
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name}: {target}"


def commands_in(page: Path) -> list[list[str]]:
    """Every command line of ours that a page shows or mentions."""
    text = page.read_text(encoding="utf-8")
    lines = [line.removeprefix("$ ") for _, block in BLOCK.findall(text) for line in block.splitlines()]
    lines += MENTION.findall(text)
    words = [shlex.split(line, comments=True) for line in lines if line.startswith(("soothsayer ", "make "))]
    return [word for word in words if len(word) > 1]


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    known = {row.words for row in COMMANDS}
    for program, first, *rest in commands_in(page):
        if program == "make":
            assert first in TARGETS, f"make {first}"
        elif first.startswith("-"):
            assert first in {"--help", "-h"}
        elif first in GROUPS:
            assert f"{first} {rest[0]}" in known if rest else True, f"soothsayer {first} {rest}"
        else:
            assert first in known, f"soothsayer {first}"


@pytest.mark.parametrize("reason", REASONS, ids=str)
def test_a_remedy_names_only_commands_that_exist(reason: str) -> None:
    known = {row.words for row in COMMANDS}
    guidance = next(row for key, row in REASONS.items() if key == reason)
    for mention in MENTION.findall(guidance.remedy):
        words = mention.split()[1:]
        assert words[0] in known or " ".join(words[:2]) in known, mention


def test_the_pages_were_found() -> None:
    assert {"README.md", "docs/glossary.md"} <= set(names)
