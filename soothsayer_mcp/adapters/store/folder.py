"""The state folder: that it is ours, private, local and writable, before anything in it is believed."""

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from soothsayer_mcp.adapters.store.schema import LIVE, SEGMENT_NAME

if sys.platform == "win32":
    import ctypes

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "smb2", "9p", "ceph", "lustre", "virtiofs", "afs", "gpfs", "glusterfs"}
    | {"fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.cephfs", "davfs", "fuse.davfs2", "webdav"}
    | {"afpfs", "vboxsf", "vmhgfs", "fuse.vmhgfs-fuse", "beegfs", "orangefs", "ocfs2", "gfs2", "drvfs"}
)
_PASSING = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})
_DRIVE_REMOTE = 4


class StoreError(Exception):
    """The trace cannot be opened: one line that says what, where and how to mend it."""


def prepare(folder: Path) -> tuple[str, ...]:
    """Make sure that a state folder can hold a trace, making it if need be; returns warnings for people.

    Raises `StoreError`.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        msg = f"{folder}: the state folder cannot be made ({_why(error)}); name another with --state DIR"
        raise StoreError(msg) from error
    if not stat.S_ISDIR(found.st_mode):
        msg = f"{folder}: the state folder is no folder; name another with --state DIR"
        raise StoreError(msg)
    warnings = _check_file_system(folder)
    if os.name != "nt":
        _make_private(folder, found)
    for name in ("alive", "blobs"):
        try:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            msg = f"{folder}: cannot write to the state folder ({_why(error)}); make it writable or name another"
            raise StoreError(f"{msg} with --state DIR") from error
    return warnings


def live_segment(folder: Path) -> Path | None:
    """The segment that is written to: the one with the highest number."""
    found = [path for path in folder.iterdir() if SEGMENT_NAME.fullmatch(path.name)]
    return max(found, default=None)


def first_segment(folder: Path) -> Path:
    """Where the first segment goes."""
    return folder / LIVE.format(1)


def file_system_of(folder: Path) -> str:
    """The type of the file system that a folder lies on; empty where it cannot be told."""
    return _kind(folder)


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that a path lies on, by a table in the form of `/proc/self/mountinfo`."""
    wanted = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:  # noqa: PLR2004 - proc(5): the fifth field is the mount point
            continue
        point = _unescaped(fields[4])
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind


def _check_file_system(folder: Path) -> tuple[str, ...]:
    kind = _kind(folder)
    if kind in _NETWORK:
        msg = (
            f"{folder}: the state folder is on a network file system ({kind}), where locks do not hold; name a local"
            " folder with --state DIR"
        )
        raise StoreError(msg)
    if kind in _PASSING:
        return (f"{folder}: the trace lies on {kind} and is gone when that is",)
    return ()


def _kind(folder: Path) -> str:
    if sys.platform == "win32":
        drive = os.path.splitdrive(folder.resolve())[0] + "\\"
        return "smbfs" if ctypes.windll.kernel32.GetDriveTypeW(drive) == _DRIVE_REMOTE else ""
    try:
        if sys.platform == "darwin":
            return _kind_by_mount(folder)
        return file_system(folder, Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def _kind_by_mount(folder: Path) -> str:
    listed = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False, timeout=5).stdout
    table: list[str] = []
    for line in listed.splitlines():
        where, _, how = line.partition(" on ")[2].rpartition(" (")
        table.append(f"0 0 0 / {where.replace(' ', _SPACE)} - {how.split(',')[0].rstrip(')')} x")
    return file_system(folder, "\n".join(table))


_SPACE = "\\040"
_ESCAPES: Mapping[str, str] = {_SPACE: " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def _unescaped(point: str) -> str:
    for escape, char in _ESCAPES.items():
        point = point.replace(escape, char)
    return point


def _make_private(folder: Path, found: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    if found.st_uid != os.geteuid():
        msg = f"{folder}: the state folder belongs to another account; name your own with --state DIR"
        raise StoreError(msg)
    if not found.st_mode & 0o077:
        return
    inside = [path.name for path in folder.iterdir()]
    if inside and not any(SEGMENT_NAME.fullmatch(name) for name in inside):
        msg = (
            f"{folder}: others can read this folder and it holds other files; name a folder of its own with"
            " --state DIR, or make it private with chmod 700"
        )
        raise StoreError(msg)
    try:
        folder.chmod(0o700)
    except OSError as error:
        msg = f"{folder}: the state folder cannot be made private ({_why(error)}); run chmod 700 on it"
        raise StoreError(msg) from error


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
