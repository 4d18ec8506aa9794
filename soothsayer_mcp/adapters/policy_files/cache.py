"""Checked policies, kept under a seal, so that a start with an unchanged policy imports neither YAML nor pydantic.

A kept form is believed only if its seal is that of this state folder and every file it came from is the same. A cache
that cannot be read or written costs time and nothing else.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from soothsayer_mcp.model.json import JsonObject, canonical
from soothsayer_mcp.model.value import dataclass

KEY_BYTES = 32
KEPT = 32
"""How many forms one state folder keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A checked form, and what it was made of."""

    form: JsonObject
    files: Mapping[str, str]
    """Path -> SHA-256 of its content, in hex."""


class PolicyCache:
    """The checked policies of one state folder."""

    def __init__(self, state: Path) -> None:
        """Keep forms in `state/cache`, sealed with a key in `state/keys`."""
        self._folder = state / "cache"
        self._key_file = state / "keys" / "policy-cache.key"

    def get(self, key: str) -> Kept | None:
        """The form kept under a key, if its seal holds."""
        try:
            raw = self._file(key).read_bytes()
            secret = self._key_file.read_bytes()
        except OSError:
            return None
        seal, _, body = raw.partition(b"\n")
        if len(secret) != KEY_BYTES or not hmac.compare_digest(seal, _seal(secret, key, body)):
            return None
        kept = json.loads(body)
        return Kept(form=kept["form"], files=kept["files"])

    def put(self, key: str, kept: Kept) -> None:
        """Keep a form; nothing happens where that cannot be done."""
        body = canonical({"form": kept.form, "files": dict(kept.files)})
        with suppress(OSError):
            secret = self._secret()
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._file(key), _seal(secret, key, body) + b"\n" + body)
            self._forget_oldest()

    def _file(self, key: str) -> Path:
        return self._folder / f"policy-{key[:32]}"

    def _secret(self) -> bytes:
        with suppress(FileNotFoundError):
            secret = self._key_file.read_bytes()
            if len(secret) == KEY_BYTES:
                return secret
        self._key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = os.urandom(KEY_BYTES)
        _write(self._key_file, secret)
        return secret

    def _forget_oldest(self) -> None:
        kept = sorted(self._folder.glob("policy-*"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        for file in kept[KEPT:]:
            file.unlink(missing_ok=True)


def _seal(secret: bytes, key: str, body: bytes) -> bytes:
    return hmac.digest(secret, key.encode() + b"\0" + body, "sha256").hex().encode()


def _write(file: Path, raw: bytes) -> None:
    """Put a file in place whole or not at all, readable by its owner only."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, raw)
    finally:
        os.close(descriptor)
    temporary.replace(file)


def digest_file(raw: bytes) -> str:
    """The digest by which a kept form knows its files."""
    return hashlib.sha256(raw).hexdigest()


def read_unchanged(files: Mapping[str, str]) -> Mapping[str, bytes] | None:
    """Read the files of a kept form; `None` as soon as one of them is not what it was."""
    found: dict[str, bytes] = {}
    for path, digest in files.items():
        try:
            raw = Path(path).read_bytes()
        except OSError:
            return None
        if digest_file(raw) != digest:
            return None
        found[path] = raw
    return found


def code_stamp(folders: Sequence[Path]) -> str:
    """Changes whenever the code that checks policies, or an installed library, may have changed."""
    stamp = hashlib.sha256()
    for folder in folders:
        with suppress(OSError):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.name.endswith(".py"):
                    stamp.update(f"{entry.path}\0{entry.stat().st_mtime_ns}\0{entry.stat().st_size}\n".encode())
            stamp.update(f"{folder}\0{folder.stat().st_mtime_ns}\n".encode())
    return stamp.hexdigest()
