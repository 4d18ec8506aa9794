"""Reads and replaces files that are not ours: only what was read in full, shown, and found unchanged."""

import contextlib
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from soothsayer_mcp.adapters.hosts.tree import HostFileError
from soothsayer_mcp.adapters.store.folder import prepare
from soothsayer_mcp.adapters.store.lock import FileLock
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass

RECORD: Final = "installs.jsonl"
BACKUPS: Final = "backups"
_LEFT: Final = ".soothsayer-new"
"""What the name of a file ends with that is being written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A file as it was read."""

    path: Path
    """As it was named; it may be a link."""
    target: Path
    raw: bytes
    mode: int

    @property
    def digest(self) -> str:
        """What changes when the file does."""
        return digest_of(self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """One entry that was changed: its text before and after, and what it said before."""

    name: str
    before: str
    after: str
    original: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """One change of a host's file, as it is on record."""

    at: str
    host: str
    action: str
    target: str
    backup: str
    """The name of the backup of the file before; empty for a change that the application's own command made."""
    before: str
    after: str
    """Digests of the file before and after."""
    entries: tuple[Touched, ...] = ()


def digest_of(raw: bytes) -> str:
    """SHA-256 of a file's bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def now() -> str:
    """The time for the record, RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def hold(path: Path) -> Held:
    """Read a file in full. Raises `HostFileError` for what is another's, no plain file, or a circle of links."""
    where = str(path)
    try:
        target = Path(os.path.realpath(path, strict=True))
        found = target.stat()
    except OSError as error:
        said = "its links lead in a circle" if error.errno in _LOOPS else f"it cannot be read ({error.strerror})"
        raise HostFileError(said, id="host-file", where=where) from error
    if not stat.S_ISREG(found.st_mode):
        raise HostFileError("it is no plain file", id="host-file", where=where)
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise HostFileError("it belongs to another account", id="host-owner", where=where, fix="run as its owner")
    try:
        raw = target.read_bytes()
    except OSError as error:
        raise HostFileError(f"it cannot be read ({error.strerror})", id="host-file", where=where) from error
    return Held(path=path, target=target, raw=raw, mode=stat.S_IMODE(found.st_mode))


_LOOPS: Final = {40, 62, 1921}
"""ELOOP on Linux and macOS, and Windows' word for it."""


def replace(
    held: Held,
    raw: bytes,
    *,
    state: Path,
    host: str,
    action: str,
    entries: Sequence[Touched],
) -> Path:
    """Put other bytes in the place of those that were held, and return the backup.

    In this order: lock, read again, compare, backup, record, new file beside it, sync, compare again, rename.
    Raises `HostFileError` when the file is not as it was held.
    """
    if not held.mode & stat.S_IWUSR:
        raise HostFileError(
            "it is read-only", id="host-readonly", where=str(held.path), fix="make it writable first (chmod u+w)"
        )
    with _locked(state):
        _unchanged(held)
        backup = keep(state, host, held.raw)
        install = Install(
            at=now(),
            host=host,
            action=action,
            target=str(held.target),
            backup=backup.name,
            before=held.digest,
            after=digest_of(raw),
            entries=tuple(entries),
        )
        record(state, install)
        try:
            _exchange(held, raw)
        except OSError as error:
            text = f"it cannot be written ({error.strerror}); it is as it was"
            raise HostFileError(text, id="host-file", where=str(held.path)) from error
    return backup


@contextlib.contextmanager
def _locked(state: Path) -> Generator[None]:
    prepare(state)
    lock = FileLock(state / "hosts.lock")
    try:
        lock.acquire()
        yield
    finally:
        lock.close()


def _unchanged(held: Held) -> None:
    again = hold(held.path)
    if again.digest != held.digest or again.target != held.target:
        text = "the file changed after it was shown; nothing was written"
        raise HostFileError(text, id="changed-meanwhile", where=str(held.path), fix="run the command again")


def keep(state: Path, host: str, raw: bytes) -> Path:
    """Write a backup under a name that no other has, for its owner only."""
    prepare(state)
    folder = state / BACKUPS
    folder.mkdir(mode=0o700, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    number = 1
    while True:
        path = folder / f"{host}-{stamp}-{number}.bak"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        except FileExistsError:
            number += 1
            continue
        _fill(descriptor, raw)
        _sync_folder(folder)
        return path


_BINARY: Final = getattr(os, "O_BINARY", 0)


def _fill(descriptor: int, raw: bytes, mode: int | None = None) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(held: Held, raw: bytes) -> None:
    folder = held.target.parent
    for left in folder.glob(f".{held.target.name}.*{_LEFT}"):
        left.unlink(missing_ok=True)  # of one that was killed: we hold the lock, so nobody writes it now
    fresh = folder / f".{held.target.name}.{secrets.token_hex(4)}{_LEFT}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        _fill(descriptor, raw, held.mode)
        _unchanged(held)
        fresh.replace(held.target)
    finally:
        fresh.unlink(missing_ok=True)
    _sync_folder(folder)


def record(state: Path, install: Install) -> None:
    """Append one line to the record, durable when this returns."""
    entries: list[Json] = [
        {"name": each.name, "before": each.before, "after": each.after, "original": each.original}
        for each in install.entries
    ]
    said: JsonObject = {
        "at": install.at,
        "host": install.host,
        "action": install.action,
        "target": install.target,
        "backup": install.backup,
        "before": install.before,
        "after": install.after,
        "entries": entries,
    }
    path = state / RECORD
    begun = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o600)
    # A line that was cut off by a kill stays a line of its own.
    _fill(descriptor, b"\n" * begun + json.dumps(said).encode() + b"\n")


def installs(state: Path) -> list[Install]:
    """What is on record, oldest first; a line that was cut off is no change, since the file is written after it."""
    try:
        lines = (state / RECORD).read_bytes().splitlines()
    except OSError:
        return []
    found: list[Install] = []
    for line in lines:
        try:
            said = cast("Json", json.loads(line))
        except ValueError:
            continue
        if isinstance(said, dict):
            found.append(_install(said))
    return found


def _install(said: Mapping[str, Json]) -> Install:
    entries = said.get("entries")
    touched = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    return Install(
        **{name: str(said.get(name, "")) for name in ("at", "host", "action", "target", "backup", "before", "after")},
        entries=tuple(
            Touched(
                name=str(each.get("name")),
                before=str(each.get("before")),
                after=str(each.get("after")),
                original=each.get("original"),
            )
            for each in touched
        ),
    )
