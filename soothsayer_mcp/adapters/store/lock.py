"""Locks on files between processes: the turnstile of the writers, and the sign that a writer lives.

A lock dies with the process that holds it.
"""

import os
import sys
from pathlib import Path
from typing import Self

if sys.platform == "win32":
    import msvcrt
    import time

    def _lock(descriptor: int, *, wait: bool) -> bool:
        while True:
            os.lseek(descriptor, 0, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    return False
                time.sleep(0.002)  # Windows gives no lock of this kind that waits in turn
            else:
                return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class FileLock:
    """An exclusive lock on one file, which is made when it is not there."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        """Open the file. Raises `OSError`."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)

    def acquire(self) -> None:
        """Wait for the lock."""
        _lock(self._descriptor, wait=True)

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        return _lock(self._descriptor, wait=False)

    def release(self) -> None:
        """Give the lock back."""
        _unlock(self._descriptor)

    def close(self) -> None:
        """Let go of the file, and of the lock with it."""
        os.close(self._descriptor)


class Turnstile:
    """Turns, in order, between all processes that write to one state folder.

    Two locks in a row: whoever leaves must pass `queue` to come back, where the next one already stands. One lock alone
    lets the one who leaves walk in again.
    """

    __slots__ = ("_queue", "_write")

    def __init__(self, folder: Path) -> None:
        """Open the two lock files in a state folder. Raises `OSError`."""
        self._queue = FileLock(folder / "queue.lock")
        self._write = FileLock(folder / "write.lock")

    def __enter__(self) -> Self:
        """Wait for the turn."""
        self._queue.acquire()
        try:
            self._write.acquire()
        finally:
            self._queue.release()
        return self

    def try_enter(self) -> bool:
        """Take the turn if nobody has it and nobody waits for it."""
        if not self._queue.try_acquire():
            return False
        try:
            return self._write.try_acquire()
        finally:
            self._queue.release()

    def leave(self) -> None:
        """Leave."""
        self._write.release()

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self._write.release()

    def close(self) -> None:
        """Let go of the files."""
        self._queue.close()
        self._write.close()
