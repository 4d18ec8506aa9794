"""The reader behind `make pitfalls`: what counts as covered, and what is an error."""

import subprocess
import sys
from pathlib import Path

import pytest

from pitfall_rows import PAGE, PageError, Row, ids_of, read_rows, report

PAGE_OF_TWO = """# Never

## First group

| id | never |
| --- | --- |
| P-ONE-01 | One thing. |

## Second group

| id | never |
| --- | --- |
| P-TWO-07 | Another \\| thing. |
"""

ROWS = (
    Row(id="P-ONE-01", group="First group", never="One thing."),
    Row(id="P-TWO-07", group="Second group", never="Another \\| thing."),
)


def test_rows_are_read_with_their_group() -> None:
    assert read_rows(PAGE_OF_TWO) == ROWS


@pytest.mark.parametrize(
    "page",
    [
        PAGE_OF_TWO + "| P-ONE-01 | Again. |\n",
        "| P-ONE-01 | Under no heading. |\n",
        PAGE_OF_TWO + "| P-ONE-2 | One digit is missing. |\n",
        PAGE_OF_TWO + "| P-ONE-03 |\n",
    ],
)
def test_a_page_that_reads_in_two_ways_is_an_error(page: str) -> None:
    with pytest.raises(PageError):
        read_rows(page)


def test_the_page_names_every_group_and_a_hundred_and_twenty_rows() -> None:
    rows = read_rows(PAGE.read_text(encoding="utf-8"))
    assert len(rows) == 120
    assert len({row.group for row in rows}) == 13


def test_a_test_carries_ids_in_its_name_and_in_its_marks() -> None:
    assert ids_of("test_p_parse_01_case_variant_keys[x]", [("P-OPEN-05",), ("P-ASK-01", "P-ASK-02")]) == {
        "P-PARSE-01",
        "P-OPEN-05",
        "P-ASK-01",
        "P-ASK-02",
    }
    assert ids_of("test_p_parse_without_a_number", []) == set()


def test_the_report_names_bare_rows_by_group() -> None:
    text, code = report(ROWS, {"P-ONE-01": ["tests/a.py::test_a"]})
    assert text.splitlines() == [
        "First group: 1 of 1 covered",
        "Second group: 0 of 1 covered",
        "  P-TWO-07     Another \\| thing.",
        "1 of 2 rows have a test",
    ]
    assert code == 0


def test_an_id_that_no_row_has_fails() -> None:
    text, code = report(ROWS, {"P-ONE-99": ["tests/a.py::test_a"]})
    assert text.splitlines()[-1] == "no such row: P-ONE-99 (tests/a.py::test_a)"
    assert code == 1


TESTS = """
import pytest

@pytest.mark.pitfall("P-ONE-01")
def test_covers(): ...

@pytest.mark.skip
@pytest.mark.pitfall("P-ONE-02")
def test_skipped(): ...

@pytest.mark.xfail
@pytest.mark.pitfall("P-ONE-03")
def test_expected_to_fail(): ...

def test_p_one_04_by_name(): ...
"""

COLLECT = """
import sys, json, pytest
from pitfall_rows import Collected
collected = Collected()
pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "test_some.py"], plugins=[collected])
print(json.dumps(sorted(collected.tests)))
"""


def test_a_skipped_or_expected_failure_covers_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = pitfall(id): a row\n", encoding="utf-8")
    scripts = str(PAGE.parent.parent / "scripts")
    done = subprocess.run(
        [sys.executable, "-c", COLLECT],
        cwd=tmp_path,
        env={"PYTHONPATH": scripts},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == '["P-ONE-01", "P-ONE-04"]'


def test_every_id_that_this_suite_carries_has_a_row(request: pytest.FixtureRequest) -> None:
    rows = {row.id for row in read_rows(PAGE.read_text(encoding="utf-8"))}
    carried = {
        id_
        for item in request.session.items
        for id_ in ids_of(item.name, [mark.args for mark in item.iter_markers("pitfall")])
    }
    assert carried - rows == set()
