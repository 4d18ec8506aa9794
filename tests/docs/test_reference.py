"""Generated pages are the ones that the code makes now."""

import pytest

from generate import FOLDER, PAGES, render, stale, table


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_current(page: str) -> None:
    assert (FOLDER / page).read_text(encoding="utf-8") == render(page)


def test_no_page_of_the_reference_is_written_by_hand() -> None:
    assert stale() == []


def test_a_bar_in_a_cell_stays_in_its_cell() -> None:
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |"
