"""The life of writers in the record: one opens, closes, and another closes what a dead one left open."""

import json
import os
import sqlite3
import sys
from collections.abc import Collection
from pathlib import Path

import soothsayer_mcp
from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.items import Item, end_open_steps
from soothsayer_mcp.adapters.store.lock import FileLock
from soothsayer_mcp.model.entry import Durability, Kind
from soothsayer_mcp.trace import entries


def alive_lock(folder: Path, writer: str) -> Path:
    """The file that a writer holds a lock on for as long as it lives."""
    return folder / "alive" / f"{writer}.lock"


class OpenWriterItem(Item[None]):
    """The first entry of a chain."""

    def __init__(self, durability: Durability, about: str) -> None:
        super().__init__()
        self._durability = durability
        self._about = about

    def apply(self, batch: Batch) -> None:
        """Say who writes from here on, and what it found."""
        at = batch.now()
        meta = dict(batch.db.execute("SELECT key, value FROM meta WHERE key IN ('store', 'segment')").fetchall())
        newest = batch.db.execute("SELECT pos, leaf FROM entries ORDER BY pos DESC LIMIT 1").fetchone()
        fields = {
            "store": str(meta["store"]),
            "segment": int(meta["segment"]),
            "version": soothsayer_mcp.__version__,
            "python": sys.version.split()[0],  # as `platform` says it, which takes milliseconds to import
            "sqlite": sqlite3.sqlite_version,
            "pid": os.getpid(),
            "durability": self._durability,
            "about": self._about or None,
            "head": None if newest is None else {"pos": newest[0], "leaf": newest[1].hex()},
        }
        batch.append(Kind.WRITER_OPENED, entries.note(Kind.WRITER_OPENED, fields, {}), at)
        about = json.dumps({"version": soothsayer_mcp.__version__, "pid": os.getpid(), "about": self._about})
        batch.later("INSERT INTO writers(id, opened_at, about) VALUES(?, ?, ?)", batch.writer, at, about)


class CloseWriterItem(Item[None]):
    """The last entry of a chain."""

    reads = True

    def __init__(self, *, steps: int, notes_lost: int) -> None:
        super().__init__()
        self._fields = {"steps": steps, "notes_lost": notes_lost or None}

    def apply(self, batch: Batch) -> None:
        """End what is still in flight, and say that this writer is done."""
        end_open_steps(batch, batch.writer)
        at = batch.now()
        batch.append(Kind.WRITER_CLOSED, entries.note(Kind.WRITER_CLOSED, self._fields, {}), at)
        batch.later("UPDATE writers SET closed_at = ? WHERE id = ?", at, batch.writer)


class RecoverItem(Item[list[str]]):
    """Closes what dead writers left open, in our own chain: nobody continues another's."""

    reads = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._dead: dict[str, FileLock | None] = {}

    def apply(self, batch: Batch) -> list[str]:
        """Find writers that neither closed nor live; end their steps as unknown. Returns those steps."""
        sql = "SELECT id FROM writers WHERE closed_at IS NULL AND id <> ? ORDER BY opened_at"
        found: list[str] = []
        opened = [str(writer) for (writer,) in batch.db.execute(sql, (batch.writer,)).fetchall()]
        self._find_litter({batch.writer, *opened})
        for writer in opened:
            if not self._is_dead(writer):
                continue
            unknown = end_open_steps(batch, writer)
            last = batch.db.execute("SELECT max(seq) FROM entries WHERE writer = ?", (writer,)).fetchone()[0]
            fields = {"of": writer, "last_seq": last, "unknown": unknown, "withdrawn": list[str]()}
            at = batch.now()
            batch.append(Kind.WRITER_RECOVERED, entries.note(Kind.WRITER_RECOVERED, fields, {}), at)
            batch.later("UPDATE writers SET closed_at = ? WHERE id = ?", at, writer)
            batch.flush()
            found += unknown
        return found

    def committed(self) -> None:
        """Clear away what nothing refers to any more."""
        for writer in self._dead:
            alive_lock(self._folder, writer).unlink(missing_ok=True)

    def settled(self) -> None:
        """Let go of the locks of the dead."""
        for lock in self._dead.values():
            if lock is not None:
                lock.close()
        self._dead.clear()

    @property
    def dead(self) -> tuple[str, ...]:
        """The writers found dead."""
        return tuple(self._dead)

    def _find_litter(self, known: Collection[str]) -> None:
        """Find signs of life that no open writer of this trace holds: of one killed as it began, of another trace."""
        for path in alive_lock(self._folder, "").parent.glob("*.lock"):
            if path.stem not in known:
                self._is_dead(path.stem)

    def _is_dead(self, writer: str) -> bool:
        path = alive_lock(self._folder, writer)
        if not path.exists():
            self._dead[writer] = None
            return True
        lock = FileLock(path)
        if lock.try_acquire():
            self._dead[writer] = lock
            return True
        lock.close()
        return False


def remove_strays(db: sqlite3.Connection, blobs: Path, writer: str) -> None:
    """Remove the payload files of a writer that is gone and that no row names: their commit never came."""
    for path in blobs.glob(f"{writer}-*"):
        if db.execute("SELECT 1 FROM payloads WHERE writer = ? AND file = ?", (writer, path.name)).fetchone() is None:
            path.unlink(missing_ok=True)
