"""Which rows of docs/pitfalls.md no test covers yet, and which ids no row has."""

import contextlib
import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "pitfalls.md"

_ROW = re.compile(r"^\| (P-[A-Z]+-\d{2}) \| (.+) \|$")
_HEADING = re.compile(r"^## (.+)$")
_IN_A_NAME = re.compile(r"test_p_([a-z]+)_(\d{2})(?=_|\[|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault that must never happen."""

    id: str
    group: str
    never: str


class PageError(Exception):
    """The page cannot be read in one way."""


def read_rows(page: str) -> tuple[Row, ...]:
    """Read the rows of the page in its order. Raises `PageError` for an id that stands twice or under no heading."""
    rows: dict[str, Row] = {}
    group = ""
    for number, line in enumerate(page.splitlines(), 1):
        heading = _HEADING.match(line)
        if heading:
            group = heading[1]
        row = _ROW.match(line)
        if row is None:
            if line.startswith("| P-"):
                raise PageError(f"line {number} is no row: {line}")
            continue
        if row[1] in rows or not group:
            raise PageError(f"line {number}: {row[1]} stands twice, or before any heading")
        rows[row[1]] = Row(id=row[1], group=group, never=row[2])
    return tuple(rows.values())


@dataclass(slots=True)
class Collected:
    """What a collection of the tests found. A pytest plugin."""

    tests: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Row id -> the tests that carry it."""

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        """Note the ids of every test that is neither skipped nor expected to fail."""
        for item in items:
            if any(item.get_closest_marker(name) for name in ("skip", "xfail")):
                continue
            for row in ids_of(item.name, [mark.args for mark in item.iter_markers("pitfall")]):
                self.tests.setdefault(row, []).append(item.nodeid)


def ids_of(test: str, marks: Iterable[Sequence[object]]) -> set[str]:
    """Tell which rows a test covers, by its name and its marks."""
    named = {f"P-{group.upper()}-{number}" for group, number in _IN_A_NAME.findall(test)}
    return named | {str(id_) for args in marks for id_ in args}


def collect() -> Collected:
    """Collect the whole suite, soak runs too, without running it. Raises `SystemExit` when it does not import."""
    collected = Collected()
    arguments = ["--collect-only", "-qq", "-o", "addopts=", "--import-mode=importlib"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main([*arguments, str(ROOT / "tests")], plugins=[collected])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise SystemExit(f"{said.getvalue()}\nthe tests cannot be collected")
    return collected


def report(rows: Sequence[Row], tests: Mapping[str, Sequence[str]]) -> tuple[str, int]:
    """Render what is uncovered by group, and the exit code: 1 when a test carries an id that no row has."""
    lines: list[str] = []
    for group in dict.fromkeys(row.group for row in rows):
        inside = [row for row in rows if row.group == group]
        bare = [row for row in inside if row.id not in tests]
        lines.append(f"{group}: {len(inside) - len(bare)} of {len(inside)} covered")
        lines.extend(f"  {row.id:<12} {row.never}" for row in bare)
    covered = sum(row.id in tests for row in rows)
    lines.append(f"{covered} of {len(rows)} rows have a test")
    stray = sorted(set(tests) - {row.id for row in rows})
    lines.extend(f"no such row: {id_} ({', '.join(tests[id_])})" for id_ in stray)
    return "\n".join(lines), 1 if stray else 0


def main() -> int:
    """Print the report."""
    text, code = report(read_rows(PAGE.read_text(encoding="utf-8")), collect().tests)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
