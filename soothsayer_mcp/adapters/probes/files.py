"""Looks at files below the allowed folders: no link is followed, only regular files are read, and all is bounded.

What changes while it is read, and what cannot be opened for another reason than that it is not there, is no answer.
"""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from soothsayer_mcp.evidence.checks import FileFacts
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.subject import below
from soothsayer_mcp.model.undo import ABSENT, FileBefore
from soothsayer_mcp.policy.paths import Case, Glob, Place, globs, resolve
from soothsayer_mcp.ports import PortError

FILE_BYTES: Final = 64 * 1024 * 1024
ALL_BYTES: Final = 512 * 1024 * 1024
MOST_FILES: Final = 20_000
TREE_S: Final = 10.0

_CHUNK: Final = 256 * 1024
_HAS_DIR_FD: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_FOLDER: Final = getattr(os, "O_DIRECTORY", 0)
_PLACE: Final = Place(root="/", home="/", case=Case.EXACT)


def doubt(why: str) -> PortError:
    """Nothing well-formed was seen."""
    return PortError(Reason.UNREACHABLE, why, acted=Acted.NO)


class Files:
    """The files below some folders."""

    def __init__(self, roots: Sequence[str]) -> None:
        """Look below these absolute folders and nowhere else."""
        self._roots = tuple(roots)

    def file(self, path: str) -> FileFacts:
        """Look at one file. Raises `PortError`. Blocks."""
        path = _normal(path)
        folder = self._open_above(path)
        if folder is None:
            return FileFacts(path=path, exists=False)
        try:
            return _look(folder, path)
        finally:
            os.close(folder)

    def keep(self, path: str) -> FileBefore:
        """Read one file whole, or see that there is none. Raises `PortError`. Blocks."""
        if not _HAS_DIR_FD:
            raise doubt("files cannot be put back safely on this system")
        path = _normal(path)
        root = next((root for root in self._roots if below(path, root) and path != root), "")
        folder = self._open_above(path)
        if folder is None:
            return FileBefore(path=path, root=root, state=ABSENT)
        content = bytearray()
        try:
            facts = _look(folder, path, into=content)
            mode = (
                stat.S_IMODE(os.stat(path.rpartition("/")[2], dir_fd=folder, follow_symlinks=False).st_mode)
                if facts.exists
                else 0
            )
        except FileNotFoundError as error:
            raise doubt("the file changed while it was read") from error
        finally:
            os.close(folder)
        state = facts.sha256 if facts.exists else ABSENT
        return FileBefore(path=path, root=root, state=state, mode=mode, content=bytes(content))

    def folder_of(self, path: str) -> int | None:
        """Open the folder of a path, to be closed by the caller. `None` when it is not there. Raises `PortError`."""
        return self._open_above(_normal(path))

    def files(self, patterns: Sequence[str], leave_out: Sequence[str]) -> Mapping[str, str]:
        """The digest of every file that a pattern means. Raises `PortError` when not all could be seen. Blocks."""
        wanted = [one for pattern in patterns for one in globs(pattern, _PLACE, folded=False)]
        left_out = [one for pattern in leave_out for one in globs(pattern, _PLACE, folded=False)]
        found: dict[str, str] = {}
        until, size = time.monotonic() + TREE_S, 0
        for start in dict.fromkeys(_fixed(pattern) for pattern in patterns):
            for path in self._walk(start, left_out):
                if time.monotonic() > until:
                    raise doubt(f"there is more to look at than {TREE_S:g} s allow")
                if not _fits(path, wanted) or path in found:
                    continue
                facts = self.file(path)
                if facts.exists:
                    found[path] = facts.sha256
                    size += facts.size
                if len(found) > MOST_FILES or size > ALL_BYTES:
                    raise doubt(f"there are more than {MOST_FILES:,} files or {ALL_BYTES:,} bytes")
        return found

    def digest(self, pattern: str) -> str:
        """One digest over all files that a pattern means, by path and content. Raises `PortError`. Blocks."""
        whole = hashlib.sha256()
        for path, sha256 in sorted(self.files([pattern], ()).items()):
            whole.update(f"{path}\0{sha256}\0".encode(errors="surrogateescape"))
        return whole.hexdigest()

    def head(self, folder: str) -> str:
        """The commit that a work tree stands on, as git's own files say. Raises `PortError`. Blocks."""
        git = f"{_normal(folder)}/.git"
        said = self._text(f"{git}/HEAD")
        for _ in range(5):
            if not said.startswith("ref: "):
                break
            name = said.removeprefix("ref: ").strip()
            if re.fullmatch(r"refs/[A-Za-z0-9._/-]+", name) is None or ".." in name:
                raise doubt("the work tree's HEAD cannot be read")
            said = self._text(f"{git}/{name}", absent=self._packed(git, name))
        if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", said.strip()) is None:
            raise doubt("the work tree stands on no commit that can be read")
        return said.strip()

    def _packed(self, git: str, name: str) -> str:
        for line in self._text(f"{git}/packed-refs", absent="").splitlines():
            commit, _, ref = line.partition(" ")
            if ref == name:
                return commit
        return ""

    def _text(self, path: str, absent: str | None = None) -> str:
        folder = self._open_above(path)
        if folder is None:
            if absent is None:
                raise doubt("there is no git work tree")
            return absent
        try:
            handle = _open_file(folder, path)
            if handle is None:
                if absent is None:
                    raise doubt("there is no git work tree")
                return absent
            with os.fdopen(handle, "rb") as file:
                return file.read(_CHUNK).decode("utf-8", "replace")
        finally:
            os.close(folder)

    def _open_above(self, path: str) -> int | None:
        """Open the folder of a path, part by part from its root, following nothing. `None` when it is not there."""
        root = next((root for root in self._roots if below(path, root) and path != root), None)
        if root is None:
            raise doubt("the path is not below the folders that checks may look at")
        if not _HAS_DIR_FD:
            return _open_above_by_name(root, path)
        parts = path[len(root.rstrip("/")) + 1 :].split("/")[:-1]
        try:
            here = os.open(root, os.O_RDONLY | _FOLDER)
        except OSError as error:
            raise doubt(f"the folder of checks cannot be opened ({error.strerror})") from error
        for part in parts:
            try:
                inner = os.open(part, os.O_RDONLY | _FOLDER | _NO_FOLLOW, dir_fd=here)
            except FileNotFoundError:
                os.close(here)
                return None
            except OSError as error:
                os.close(here)
                raise doubt(f"a part of the path is no folder, or a link ({error.strerror})") from error
            os.close(here)
            here = inner
        return here

    def _walk(self, start: str, left_out: Sequence[Glob]) -> Iterator[str]:
        """Every path below a folder that is no folder, links unfollowed."""
        if not any(below(start, root) for root in self._roots):
            raise doubt("the path is not below the folders that checks may look at")
        waiting, seen = [start], 0
        while waiting:
            folder = waiting.pop()
            inside = _entries(folder)
            if inside is None:
                yield folder
                continue
            for entry in inside:
                seen += 1
                if seen > 4 * MOST_FILES:
                    raise doubt(f"there are more than {4 * MOST_FILES:,} names to look at")
                path = f"{folder.rstrip('/')}/{entry.name}"
                if _fits(path, left_out):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    yield path


def _entries(folder: str) -> "list[os.DirEntry[str]] | None":
    """What a folder holds, in order; `None` when it is a file, nothing when it is not there."""
    try:
        if os.path.islink(folder):  # noqa: PTH114 - one of many thousands
            raise doubt("a folder to look at is a link")
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return None
    except OSError as error:
        raise doubt(f"a folder cannot be read ({error.strerror})") from error


def _normal(path: str) -> str:
    path = path.replace("\\", "/") if os.name == "nt" else path
    if "\0" in path or (not path.startswith("/") and path[1:3] != ":/"):
        raise doubt("no absolute path is named")
    parts = path.split("/")
    if ".." in parts:
        raise doubt("the path goes up by `..`")
    return "/".join(["", *(part for part in parts if part not in {"", "."})]) if path.startswith("/") else path


def _look(folder: int, path: str, into: bytearray | None = None) -> FileFacts:
    try:
        handle = _open_file(folder, path)
    except OSError as error:
        raise doubt(f"the file is a link, or cannot be opened ({error.strerror})") from error
    if handle is None:
        return FileFacts(path=path, exists=False)
    try:
        first = os.fstat(handle)
        if not stat.S_ISREG(first.st_mode):
            raise doubt("it is no regular file")
        if first.st_size > FILE_BYTES:
            raise doubt(f"the file has more than {FILE_BYTES:,} bytes")
        digest, size = hashlib.sha256(), 0
        while chunk := os.read(handle, _CHUNK):
            digest.update(chunk)
            if into is not None:
                into += chunk
            size += len(chunk)
            if size > FILE_BYTES:
                raise doubt("the file grows while it is read")
        last = os.fstat(handle)
        if (first.st_size, first.st_mtime_ns, first.st_ctime_ns) != (last.st_size, last.st_mtime_ns, last.st_ctime_ns):
            raise doubt("the file changed while it was read")
        if size != last.st_size:
            raise doubt("the file changed while it was read")
        return FileFacts(path=path, exists=True, sha256=digest.hexdigest(), size=size)
    finally:
        os.close(handle)


def _open_file(folder: int, path: str) -> int | None:
    name = path.rpartition("/")[2]
    try:
        if _HAS_DIR_FD:
            return os.open(name, os.O_RDONLY | _NO_FOLLOW, dir_fd=folder)
        if os.path.islink(path):  # noqa: PTH114 - where no handle leads to it
            raise doubt("the file is a link")
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return None


def _open_above_by_name(root: str, path: str) -> int | None:
    """The same where the system opens nothing relative to a handle: names are looked at one after the other."""
    here = root
    for part in path[len(root) + 1 :].split("/")[:-1]:
        here = f"{here}/{part}"
        if os.path.islink(here):  # noqa: PTH114 - as above
            raise doubt("a part of the path is a link")
    if not os.path.isdir(here):  # noqa: PTH112 - as above
        return None
    return os.open(os.devnull, os.O_RDONLY)


def _fixed(pattern: str) -> str:
    """The folder above the first wildcard of a pattern, or the whole path."""
    wild = re.search(r"[*?\[{]", pattern)
    return _normal(pattern if wild is None else pattern[: pattern.rfind("/", 0, wild.start())] or "/")


def _fits(path: str, wanted: Sequence[Glob]) -> bool:
    parts = resolve(path)
    with suppress(ValueError):
        return any(glob.matches(parts) for glob in wanted)
    return False
