"""The statements of every call do no work that shows in its cost."""

import sqlite3
from pathlib import Path

import pytest

from recording import bind, opened, run, whole_step

FILLED = frozenset({"OpenEphemeral", "OpenAutoindex", "SorterOpen"})
"""What SQLite does when it fills a table of its own to answer a statement."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A trace with a call in it, and the statements that wrote the call."""
    folder = tmp_path_factory.mktemp("state")
    seen: list[str] = []
    with opened(folder) as store:
        bound = run(lambda: bind(store))
        run(lambda: whole_step(store, bound))
        connection: sqlite3.Connection = getattr(getattr(store, "_writer"), "_db")  # noqa: B009 - for pyright
        connection.set_trace_callback(seen.append)
        run(lambda: whole_step(store, bound))
        connection.set_trace_callback(None)
    return folder / "trace-000001.db", seen


def test_a_call_is_written_in_two_transactions_of_few_statements(written: tuple[Path, list[str]]) -> None:
    _, seen = written
    assert seen.count("COMMIT") == 2
    assert len(seen) <= 18


def test_no_statement_of_a_call_fills_a_table_of_its_own(written: tuple[Path, list[str]]) -> None:
    path, seen = written
    db = sqlite3.connect(path)
    db.text_factory = bytes
    try:
        for statement in seen:
            if statement.split(" ", 1)[0] in {"INSERT", "UPDATE", "DELETE", "SELECT"}:
                steps = {row[1].decode() for row in db.execute(f"EXPLAIN {statement}")}
                assert not steps & FILLED, statement
    finally:
        db.close()
