"""Puts files back: what stands there is moved aside, hashed, and only then replaced. No link is ever followed.

Every step of it can be the last: the next try finds what was moved aside and goes on from there.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

import anyio
import anyio.to_thread

from soothsayer_mcp.adapters.probes.files import Files, doubt
from soothsayer_mcp.evidence.checks import FileFacts
from soothsayer_mcp.model.undo import ABSENT, FileBefore


class Restoring:
    """Implements `ports.Restoring`."""

    def __init__(self, roots: Sequence[str]) -> None:
        """Write below these folders, as the record names them."""
        self._files = Files(roots)

    async def look(self, path: str, tag: str) -> str:
        """How a file stands; what an undo with this tag moved aside and did not finish counts as still there."""
        return await anyio.to_thread.run_sync(self._look, path, tag)

    async def restore(self, before: FileBefore, after: str, tag: str) -> str:
        """Put a file back that stands as `after`. What stands against it, in words; empty when it is done."""
        return await anyio.to_thread.run_sync(self._restore, before, after, tag)

    def _look(self, path: str, tag: str) -> str:
        state = _state(self._files.file(path))
        return state if state != ABSENT else _state(self._files.file(_aside(path, tag)))

    def _restore(self, before: FileBefore, after: str, tag: str) -> str:
        folder = self._files.folder_of(before.path)
        if folder is None:
            return "its folder is not there any more"
        try:
            return _Swap(self._files, folder, before, after, tag).done()
        except OSError as error:
            raise doubt(f"the file could not be put back ({error.strerror})") from error
        finally:
            os.close(folder)


class _Swap:
    """One file on its way back."""

    def __init__(self, files: Files, folder: int, before: FileBefore, after: str, tag: str) -> None:
        self._files = files
        self._folder = folder
        self._before = before
        self._after = after
        self._name = before.path.rpartition("/")[2]
        self._aside_path = _aside(before.path, tag)
        self._aside = self._aside_path.rpartition("/")[2]

    def done(self) -> str:
        """Do it."""
        before = self._before
        with suppress(FileNotFoundError):
            os.unlink(f"{self._aside}.new", dir_fd=self._folder)
        now, aside = self._seen(before.path), self._seen(self._aside_path)
        if aside == ABSENT:
            if now == before.state:
                return ""
            if now != self._after:
                return "it was changed by something else"
            if now != ABSENT:
                os.rename(self._name, self._aside, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                aside, now = self._moved(), ABSENT
        if aside not in {ABSENT, self._after}:
            return self._give_back()
        if now == ABSENT and before.state != ABSENT and not self._put():
            return "something else wrote to it meanwhile"
        if now not in {ABSENT, before.state}:
            return "something else wrote to it meanwhile"
        os.fsync(self._folder)
        if aside == ABSENT:
            return ""
        if self._seen(self._aside_path) != self._after:
            return f"it was written to while it was put back; what was written is in {self._aside_path}"
        os.unlink(self._aside, dir_fd=self._folder)
        os.fsync(self._folder)
        return ""

    def _seen(self, path: str) -> str:
        return _state(self._files.file(path))

    def _moved(self) -> str:
        """The state of what was moved aside; what is no regular file is none that we know."""
        if not stat.S_ISREG(os.stat(self._aside, dir_fd=self._folder, follow_symlinks=False).st_mode):
            return "no regular file"
        return self._seen(self._aside_path)

    def _give_back(self) -> str:
        """Somebody wrote between our look and our move: it goes back to where it was, unless its place is taken."""
        try:
            os.link(self._aside, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False)
        except FileExistsError:
            return f"it was changed by something else twice; the first of it is in {self._aside_path}"
        os.unlink(self._aside, dir_fd=self._folder)
        os.fsync(self._folder)
        return "it was changed by something else"

    def _put(self) -> bool:
        """Write the bytes beside their place and link them in; false when the place is taken."""
        fresh = f"{self._aside}.new"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._folder)
        with os.fdopen(handle, "wb") as file:
            file.write(self._before.content)
            file.flush()
            os.fchmod(handle, self._before.mode)
            os.fsync(handle)
        try:
            os.link(fresh, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False)
        except FileExistsError:
            return False
        finally:
            os.unlink(fresh, dir_fd=self._folder)
        return True


def _state(facts: FileFacts) -> str:
    return facts.sha256 if facts.exists else ABSENT


def _aside(path: str, tag: str) -> str:
    folder, _, name = path.rpartition("/")
    mark = hashlib.sha256(f"{tag}/{name}".encode(errors="surrogateescape")).hexdigest()[:12]
    return f"{folder}/.soothsayer-undo-{mark}"
