"""The writer: takes what is waiting, joins it into one transaction, and hands out receipts.

It owns the only writing connection of the process. Whoever holds its pen writes: its own thread, or the
event loop itself when nothing stands before what it brings, because a hand-over between threads costs as much as a
commit.
Between processes the turnstile gives turns; only its holder writes, copies the log back or closes the connection.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from soothsayer_mcp.adapters.store.batch import Batch, Chain
from soothsayer_mcp.adapters.store.items import IntentItem, Item, NoteItem, OutcomeItem
from soothsayer_mcp.adapters.store.lock import Turnstile
from soothsayer_mcp.adapters.store.recovery import CloseWriterItem, RecoverItem, remove_strays
from soothsayer_mcp.adapters.store.schema import FORMAT, PAGE_BYTES
from soothsayer_mcp.model.entry import Durability
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.ports import PortError

AnyItem: TypeAlias = Item[Any]

MOST_ITEMS = 256
MOST_BYTES = 1_000_000
LOCKED_S = 2.0
"""How long a foreign lock on the file is waited for."""
LOOK_S = 30.0
"""How often a living writer looks for dead ones."""
SOFT_S = 1.0
"""How long a commit may stay unsynced at the levels that allow it."""
_QUICK_S = 0.001
"""How long commits may take on the average for the event loop to make them itself: a slow disk is the thread's."""
_RETRY_S = 0.1
_BUSY_S = 0.2
_BUSY_LOOK_S = 0.005
_COPY_BACK_PAGES = 4 * 1024 * 1024 // PAGE_BYTES
_RESTART_PAGES = 64 * 1024 * 1024 // PAGE_BYTES
_PAGES_PER_COMMIT = 10
_BYTES_PER_PAGE = 1250

_log = logging.getLogger(__name__)


class Unavailable(Exception):  # noqa: N818 - a state of the store, not an error of its own
    """The store cannot be written to; says why in words fit for an agent."""


class Stop:
    """Tells the writer to finish; how long it may still try."""

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s


def connect(path: Path) -> sqlite3.Connection:
    """Open the writing connection. Raises `sqlite3.Error`."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S, cached_statements=256)
    db.execute("PRAGMA wal_autocheckpoint=0")
    db.execute("PRAGMA mmap_size=0")
    db.execute("PRAGMA synchronous=FULL")
    if sys.platform == "darwin":
        db.execute("PRAGMA fullfsync=1")
        db.execute("PRAGMA checkpoint_fullfsync=1")
    return db


class Ballast:
    """Room kept back, so that outcomes of calls already sent can be recorded on a full disk."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def stand(self) -> None:
        """Take the room, unless it is taken. Raises `OSError`."""
        if self._path.exists() and self._path.stat().st_size >= self._size_bytes:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if sys.platform == "linux":
                os.posix_fallocate(descriptor, 0, self._size_bytes)
            else:
                os.write(descriptor, bytes(self._size_bytes))
        except OSError:
            self.drop()
            raise
        finally:
            os.close(descriptor)

    def drop(self) -> None:
        """Give the room back."""
        self._path.unlink(missing_ok=True)


class Writer:
    """Writes items in the order they came, many to a transaction."""

    def __init__(
        self,
        *,
        folder: Path,
        path: Path,
        chain: Chain,
        durability: Durability,
        turnstile: Turnstile,
        db: sqlite3.Connection,
        ballast: Ballast,
    ) -> None:
        self.notes_lost = 0
        self.steps = 0
        self._folder = folder
        self._path = os.fspath(path)
        self._file = path.stat()
        self._chain = chain
        self._durability = durability
        self._turnstile = turnstile
        self._db = db
        self._ballast = ballast
        self._pen = threading.Lock()
        """Held by whoever writes; all that follows changes only under it."""
        self._inbox: deque[Sequence[AnyItem] | Stop] = deque()
        """What waits to be written, in its order. Put in by any thread, taken out under the pen."""
        self._bell = threading.Lock()
        """Free once it was rung. The thread waits for it."""
        self._bell.acquire()
        self._usual_s = 0.0
        """How long a commit took of late."""
        self._owed: list[AnyItem] = []
        self._claimed: list[AnyItem] = []
        self._down = ""
        self._damaged = False
        self._try_at = 0.0
        self._full = True
        self._soft_since: float | None = None
        self._last_full = time.monotonic()
        self._look_at = time.monotonic() + LOOK_S
        self._pages = 0
        self._stop: Stop | None = None
        self._thread = threading.Thread(target=self._run, name="soothsayer-store", daemon=True)

    def write_now(self, items: Sequence[AnyItem]) -> None:
        """Write in the calling thread, before the writer's own is started. Raises `sqlite3.Error`, `OSError`, ..."""
        self._commit(list(items))
        for item in items:
            if item.error is not None:
                raise item.error

    def start(self) -> None:
        """Begin to write what is put."""
        self._wait_when_busy(0)
        self._thread.start()

    def put(self, item: AnyItem) -> None:
        """Have an item written. Any thread may call this."""
        self.put_all((item,))

    def put_all(self, items: Sequence[AnyItem]) -> None:
        """Have items written that belong into one transaction because they came together."""
        self._inbox.append(items)
        self._ring()

    def write_here(self, items: Sequence[AnyItem], loop: asyncio.AbstractEventLoop) -> bool:
        """Write in the calling thread, which is the loop that waits for them, where that is quickest.

        False when something stands before them, another process has the turn, or commits are slow: nothing was done.
        """
        # How long commits take is looked at anew by every one that the thread makes.
        if self._usual_s > _QUICK_S or not self._pen.acquire(blocking=False):
            return False
        try:
            if self._inbox or self._owed or self._down or self._stop is not None:
                return False
            if not self._turnstile.try_enter():
                return False
            soft_since = self._soft_since
            self._claimed = []
            try:
                self._check_file()
                if not self._begin(items, patient=False):
                    return False
                self._write(items, here=loop)
            except (sqlite3.Error, OSError, Unavailable) as error:
                self._fail(items, error)
            except Exception as error:  # noqa: BLE001 - as in `_round_of`
                self._faulted(items, error)
            finally:
                self._turnstile.leave()
            if self._down or self._pages >= _COPY_BACK_PAGES or self._soft_since is not soft_since:
                self._ring()  # what follows from this is for the thread
            return True
        finally:
            self._pen.release()

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # rung already
            self._bell.release()

    def stop(self, within_s: float) -> bool:
        """Write what is waiting, close the chain and the file; false when that took too long."""
        self._inbox.append(Stop(within_s))
        self._ring()
        self._thread.join(within_s + 2 * LOCKED_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._stop is None:
            if not self._inbox:
                self._bell.acquire(timeout=self._patience())
            with self._pen:
                self._round_of(self._take())
        with self._pen:
            self._finish(self._stop)

    def _take(self) -> list[AnyItem]:
        """What is waiting, owed items first."""
        items, self._owed = self._owed, []
        size = 0
        while self._inbox and len(items) < MOST_ITEMS and size < MOST_BYTES:
            found = self._inbox.popleft()
            if isinstance(found, Stop):
                self._stop = found
                break
            items += found
            size += sum([item.size for item in found])
        return items

    def _patience(self) -> float:
        """How long the thread may sleep if nobody rings."""
        until = self._look_at
        if self._soft_since is not None:
            until = min(until, max(self._soft_since + SOFT_S, self._try_at if self._down else 0.0))
        if self._owed:
            until = min(until, self._try_at)
        return max(0.001, until - time.monotonic())

    def _round_of(self, items: list[AnyItem]) -> None:
        try:
            self._round(items)
        except Exception as error:  # noqa: BLE001 - the writer outlives its own faults: each refuses what it was writing
            self._faulted(items, error)

    def _faulted(self, items: Sequence[AnyItem], error: Exception) -> None:
        _log.error("the store's writer failed: %s", _where(error))
        self._fail(items, Unavailable("a fault in the store"))

    def _round(self, items: list[AnyItem]) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            if not self._down:
                items = [*items, RecoverItem(self._folder)]
        if self._down:
            items = self._while_down(items, now)
        if items:
            self._try(items)
        elif self._soft_since is not None and now >= self._soft_since + SOFT_S:
            self._harden_late(now)
        if self._pages >= _COPY_BACK_PAGES and not self._down:
            with self._turnstile:
                self._copy_back()

    def _harden_late(self, now: float) -> None:
        if self._down:
            if now >= self._try_at:
                self._try_at = now + _RETRY_S
                self._probe()
            return
        try:
            self._harden()
        except (sqlite3.Error, OSError, Unavailable) as error:
            self._fail((), error)

    def _while_down(self, items: list[AnyItem], now: float) -> list[AnyItem]:
        """Refuse what is new until a probe succeeds; what is owed comes first, and alone."""
        owed = [item for item in items if item.owed]
        fresh = [item for item in items if not item.owed]
        if now < self._try_at:
            self._owed = owed
            self._refuse(fresh)
            return []
        self._try_at = now + _RETRY_S
        if owed:
            self._try(owed)
        if fresh and not self._owed and self._probe():
            return fresh
        self._refuse(fresh)
        return []

    def _try(self, items: Sequence[AnyItem]) -> None:
        try:
            self._commit(items)
        except (sqlite3.Error, OSError, Unavailable) as error:
            self._fail(items, error)

    def _commit(self, items: Sequence[AnyItem]) -> None:
        self._claimed = []
        with self._turnstile:
            self._check_file()
            self._begin(items)
            self._write(items)

    def _write(self, items: Sequence[AnyItem], here: asyncio.AbstractEventLoop | None = None) -> None:
        """Fill the transaction that was begun, commit it, and hand out what came of it; `here`: the loop we are on."""
        try:
            batch = self._fill(items)
            batch.flush()
            began = time.monotonic()
            self._db.execute("COMMIT")
            self._usual_s += (time.monotonic() - began - self._usual_s) / 8
        except BaseException:
            self._chain.forget()
            self._roll_back()
            raise
        batch.committed(self._data_version)
        self._hardened()
        self._pages += _PAGES_PER_COMMIT + batch.size // _BYTES_PER_PAGE
        self._hand_out(self._claimed, committed=True, here=here)

    def _fill(self, items: Sequence[AnyItem]) -> Batch:
        self._data_version = cast("tuple[int]", self._db.execute("PRAGMA data_version").fetchone())[0]
        if self._data_version != self._chain.data_version:
            self._check_format()
            self._chain.forget()
        batch = Batch(self._db, self._chain)
        for item in items:
            if not item.claim():
                continue  # Whoever waited gave up; it is never written late.
            self._claimed.append(item)
            if item.reads:
                batch.flush()
            mark = batch.mark()
            try:
                item.result = item.apply(batch)
            except PortError as error:
                batch.back_to(mark)
                item.error = error
            except (sqlite3.Error, OSError):
                raise
            except Exception as error:  # noqa: BLE001 - a fault of ours in one item is that item's alone
                _log.error("an entry could not be made: %s", _where(error))
                batch.back_to(mark)
                item.error = PortError(Reason.INTERNAL_ERROR, type(error).__name__, acted=Acted.NO)
        return batch

    def _begin(self, items: Sequence[AnyItem], *, patient: bool = True) -> bool:
        """Begin a transaction. False when a foreign program holds the file and we are not to wait for it."""
        full = self._is_full(items)
        if full is not self._full:
            self._db.execute("PRAGMA synchronous=FULL" if full else "PRAGMA synchronous=NORMAL")
            self._full = full
        until = time.monotonic() + LOCKED_S
        while True:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                if not patient:
                    return False
                time.sleep(_BUSY_LOOK_S)
            else:
                return True

    def _is_full(self, items: Sequence[AnyItem]) -> bool:
        match self._durability:
            case Durability.STRICT:
                return True
            case Durability.BALANCED:
                return any(item.hard for item in items) or self._is_overdue()
            case Durability.RELAXED:
                return self._is_overdue()

    def _is_overdue(self) -> bool:
        return time.monotonic() >= self._last_full + SOFT_S

    def _hardened(self) -> None:
        now = time.monotonic()
        if self._full:
            self._last_full = now
            self._soft_since = None
        elif self._soft_since is None:
            self._soft_since = now

    def _check_file(self) -> None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - half the price of a `Path`'s, for every commit
        except OSError as error:
            msg = "the record was moved away while open"
            raise Unavailable(msg) from error
        if (found.st_dev, found.st_ino) != (self._file.st_dev, self._file.st_ino):
            msg = "the record was replaced while open"
            raise Unavailable(msg)

    def _check_format(self) -> None:
        found = cast("tuple[int]", self._db.execute("PRAGMA user_version").fetchone())[0]
        if found > FORMAT:
            msg = "the record was taken over by a newer version, restart"
            raise Unavailable(msg)

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _hand_out(
        self, items: Sequence[AnyItem], *, committed: bool, here: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Tell those who wait, with one wake-up for each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[AnyItem]] = {}
        for item in items:
            if committed:
                item.committed()
                self.steps += isinstance(item, IntentItem)
                if isinstance(item, RecoverItem):
                    self._remove_strays(item)
                elif item.error is not None and isinstance(item, OutcomeItem):
                    self.put(item.lost())
            item.settled()
            if item.done is not None:
                item.done.set()
            elif item.loop is not None:
                by_loop.setdefault(item.loop, []).append(item)
        for loop, waiting in by_loop.items():
            if loop is here:
                self.deliver(waiting)
                continue
            try:
                loop.call_soon_threadsafe(self.deliver, waiting)
            except RuntimeError:  # The loop is closed, so nobody waits any more.
                self.deliver(waiting)

    def deliver(self, items: Sequence[AnyItem]) -> None:
        """Give results to those who still wait for them; on their event loop, so that nobody gives up meanwhile."""
        for item in items:
            future = item.future
            if future is None or future.done() or future.get_loop().is_closed():
                orphan = item.orphaned()
                if orphan is not None:
                    self.put(orphan)
            elif item.error is not None:
                future.set_exception(item.error)
            else:
                future.set_result(item.result)

    def _remove_strays(self, item: RecoverItem) -> None:
        with contextlib.suppress(OSError):
            for writer in item.dead:
                remove_strays(self._db, self._folder / "blobs", writer)

    def _fail(self, items: Sequence[AnyItem], error: Exception) -> None:
        """Refuse what may be refused, keep what is owed, and remember why."""
        self._down = why(error)
        self._damaged = self._damaged or _is_damage(error)
        self._chain.forget()
        claimed = set(map(id, self._claimed))
        owed = [item for item in items if item.owed]
        for item in owed:
            item.result = None
            if id(item) in claimed:
                item.release()
        if owed and _is_no_room(error):
            self._ballast.drop()
            self._pages = _COPY_BACK_PAGES  # the log's own room is used again once it is copied back
        self._owed += owed
        fresh = [item for item in items if not item.owed]
        self._refuse([item for item in fresh if id(item) not in claimed])
        self._hand_refusals([item for item in fresh if id(item) in claimed])
        self._claimed = []
        _log.warning("the record cannot be written: %s", self._down)

    def _refuse(self, items: Sequence[AnyItem]) -> None:
        self._hand_refusals([item for item in items if item.claim()])

    def _hand_refusals(self, items: Sequence[AnyItem]) -> None:
        for item in items:
            item.result = None
            item.error = item.refusal(self._down)
            self.notes_lost += isinstance(item, NoteItem) and item.loop is None
        self._hand_out(items, committed=False)

    def _probe(self) -> bool:
        """Whether a commit succeeds again, with the room for outcomes set aside."""
        if self._damaged:
            return False
        try:
            self._ballast.stand()
            self._harden()
        except (sqlite3.Error, OSError, Unavailable) as error:
            self._down = why(error)
            return False
        self._down = ""
        return True

    def _harden(self) -> None:
        """Sync what was committed before, by a commit that is synced."""
        with self._turnstile:
            self._check_file()
            if not self._full:
                self._db.execute("PRAGMA synchronous=FULL")
                self._full = True
            self._db.execute("BEGIN IMMEDIATE")
            try:
                sql = "INSERT OR REPLACE INTO meta(key, value) VALUES('synced', ?)"
                self._db.execute(sql, (str(time.time_ns() // 1000),))
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            self._hardened()

    def _copy_back(self) -> None:
        """Move the log into the file, enough having gathered. What goes wrong here costs no receipt."""
        self._pages = 0
        with contextlib.suppress(sqlite3.Error):
            row = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if cast("tuple[int, int, int]", row)[1] >= _RESTART_PAGES:
                self._wait_when_busy(_BUSY_S)
                self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                self._wait_when_busy(0)

    def _wait_when_busy(self, seconds: float) -> None:
        """How long SQLite itself waits for a foreign lock: not at all where the event loop could be what waits."""
        self._db.execute(f"PRAGMA busy_timeout={round(seconds * 1000)}")

    def _finish(self, stop: Stop) -> None:
        until = time.monotonic() + stop.within_s
        while True:
            items = self._owed
            self._owed = []
            while self._inbox:
                found = self._inbox.popleft()
                if not isinstance(found, Stop):
                    items += found
            if not items or time.monotonic() > until:
                break
            self._round_of(items)
            if self._owed:
                time.sleep(_RETRY_S / 2)
        if not self._down or self._probe():
            self._try([CloseWriterItem(steps=self.steps, notes_lost=self.notes_lost)])
        with self._turnstile:
            with contextlib.suppress(sqlite3.Error):
                self._wait_when_busy(_BUSY_S)
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._db.close()


def why(error: Exception) -> str:
    """Say in words fit for an agent why the record cannot be written."""
    if isinstance(error, Unavailable):
        return str(error)
    if isinstance(error, sqlite3.Error):
        return _WORDS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "the record cannot be written")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "a fault in the store"


_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_BUSY: "another program holds the record's lock",
    sqlite3.SQLITE_LOCKED: "another program holds the record's lock",
    sqlite3.SQLITE_READONLY: "the record is read-only",
    sqlite3.SQLITE_CANTOPEN: "the record cannot be opened",
    sqlite3.SQLITE_CORRUPT: "the record is damaged",
    sqlite3.SQLITE_NOTADB: "the record is damaged",
    sqlite3.SQLITE_CONSTRAINT: "the record was written to by something else",
}


def _where(error: Exception) -> str:
    return "\n".join([type(error).__name__, *map(str.rstrip, traceback.format_tb(error.__traceback__))])


def _is_damage(error: Exception) -> bool:
    return isinstance(error, sqlite3.DatabaseError) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }


def _is_no_room(error: Exception) -> bool:
    return isinstance(error, OSError) or (getattr(error, "sqlite_errorcode", 0) & 0xFF) in {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
    }
