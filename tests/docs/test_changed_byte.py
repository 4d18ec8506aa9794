"""One changed byte anywhere in the record is found, by a verifier that uses none of the code that wrote it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from recording import bind, opened, run, whole_step
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify

STEPS = 3


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder that a store wrote and closed."""
    folder = tmp_path_factory.mktemp("state")

    async def scene(store: SqliteStore) -> None:
        run_id = await bind(store)
        for _ in range(STEPS):
            await whole_step(store, run_id)

    with opened(folder) as store:
        run(lambda: scene(store))
    assert verify([folder]).holds
    return folder


def test_one_changed_byte_is_found_in_every_entry(record: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace-000001.db"
    with closing(sqlite3.connect(record / path.name)) as here, closing(sqlite3.connect(path)) as there:
        here.backup(there)
        # What somebody with the file can do.
        there.execute("DROP TRIGGER entries_no_update")
        entries = there.execute("SELECT pos, body FROM entries").fetchall()
        assert len(entries) >= 2 * STEPS
        for pos, body in entries:
            for at in range(pos % 7, len(body), 23):
                other = "~" if body[at] != "~" else "}"
                changed = body[:at] + other + body[at + 1 :]
                there.execute("UPDATE entries SET body = ? WHERE pos = ?", (changed, pos))
                there.commit()
                assert not verify([tmp_path]).holds, f"entry {pos}, byte {at}"
            there.execute("UPDATE entries SET body = ? WHERE pos = ?", (body, pos))
            there.commit()
    assert verify([tmp_path]).holds
