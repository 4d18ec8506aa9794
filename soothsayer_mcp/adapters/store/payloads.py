"""What was said, made ready to be kept: salted digests, modes, masks, and files for what is large."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from soothsayer_mcp.adapters.store.masking import MaskingError, mask
from soothsayer_mcp.model.entry import PayloadMode
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.redact import Redactor
from soothsayer_mcp.trace import entries
from soothsayer_mcp.wire.places import Path as Keys
from soothsayer_mcp.wire.texts import Way, changed

ROW_BYTES = 64 * 1024
"""Up to this size a payload is stored in its row; above, in a file, prepared off the event loop."""

BLOB_BYTES = 8 * 1024 * 1024
"""Up to this size, where nothing else is configured, a payload is kept; above, only its first 4 KiB are."""

CUT_BYTES = 4096
WHOLE_LIMIT_S = 2.0
"""How long masking may take of what has to be kept whole; never on the event loop."""

_sha256 = hashlib.sha256


@dataclass(slots=True, kw_only=True)
class Payload:
    """One payload, ready to be stored beside its entry. Not frozen: one is made for every call, several times."""

    field: str
    """The JSON object that stands in the entry."""
    salt: bytes
    text: str | bytes | None = None
    """What is kept in the row; bytes where they are no UTF-8."""
    file: str | None = None
    """The name of the file that keeps it, in `blobs/`."""
    size: int = 0
    """How much of it goes through the queue."""
    whole: bytes | None = None
    """What is kept, where all of it had to be and is."""


Keeper: TypeAlias = Callable[[Sequence[Mapping[str, Json]]], Redactor | None]
"""What masks the record, by the policy in force and what one decision adds."""

ARGUMENTS: Mapping[Keys, Way] = {(): ("args",)}
"""Where the arguments of a call stand in their payload."""
ANSWER: Mapping[Keys, Way] = {("result",): None, ("error",): None}
"""Where what a tool says stands in the frame that is its payload."""


def nothing_masked(_masks: Sequence[Mapping[str, Json]]) -> Redactor | None:
    """Mask nothing beside what is always masked."""
    return None


class Salts:
    """Fresh salts from the system's randomness, fetched many at a time; a fork repeats none.

    Asking the system for each costs the interpreter lock, and with it a wait for the other thread.
    """

    MANY = 64
    SIZE = 16

    def __init__(self) -> None:
        """Nothing is fetched yet."""
        self._left: list[bytes] = []
        self._pid = os.getpid()

    def next(self) -> bytes:
        """16 bytes that were never given before. Any thread may ask."""
        try:
            if self._pid == os.getpid():
                return self._left.pop()
        except IndexError:
            pass
        raw = os.urandom(self.SIZE * self.MANY)
        fresh = [raw[at : at + self.SIZE] for at in range(0, len(raw), self.SIZE)]
        salt = fresh.pop()
        self._left, self._pid = fresh, os.getpid()
        return salt


class Payloads:
    """Makes payloads ready, by the mode in force at each moment. Any thread may use it."""

    def __init__(
        self,
        mode: Callable[[], PayloadMode],
        blobs: Path,
        writer: str,
        *,
        blob_max: int = BLOB_BYTES,
        keeper: Keeper = nothing_masked,
    ) -> None:
        """Large ones go to files in `blobs`, named after `writer`; over `blob_max` bytes only a beginning is kept."""
        self._mode = mode
        self._keeper = keeper
        self._blob_max = blob_max
        self._salts = Salts()
        self._blobs = blobs
        self._writer = writer

    def ready(
        self,
        raw: bytes,
        *,
        always_full: bool = False,
        shown: bytes | None = None,
        shown_masked: int = 0,
        masks: Sequence[Mapping[str, Json]] = (),
        roots: Mapping[Keys, Way] | None = None,
        digest_only: bool = False,
        whole: bool = False,
    ) -> Payload:
        """Make a payload ready. Above 64 KiB this writes and syncs a file: not for the event loop.

        `shown` is what is kept in its place, with `shown_masked` values masked already, and `masks` are what a
        decision masks in it; `roots` are the values of the JSON that policy's masks may look into; of what is to be
        kept `whole` nothing is cut. Raises `OSError` when the file cannot be written.
        """
        mode = PayloadMode.DIGEST if digest_only else PayloadMode.FULL if always_full else self._mode()
        salt = self._salts.next()
        digest = _sha256(salt + raw).hexdigest()
        size = len(raw)
        if mode is PayloadMode.DIGEST:
            return Payload(field=entries.payload(digest=digest, size=size, mode="digest"), salt=salt)
        kept, cut, masked = raw if shown is None else shown, False, shown_masked
        keeper = None if roots is None else self._keeper(masks)
        if keeper is not None and roots is not None:
            redaction = keeper.begin(salt)
            try:
                kept = changed(kept.decode(), redaction, roots).encode()
            except (ValueError, IndexError, StopIteration, RecursionError):
                # It cannot be searched, so nothing of it is kept.
                return Payload(field=entries.payload(digest=digest, size=size, mode="digest"), salt=salt)
            masked += redaction.counts.total()
        if len(kept) > self._blob_max and not whole:
            kept, cut = kept[:CUT_BYTES], True
        if mode is PayloadMode.REDACTED:
            try:
                kept, more = mask(kept, limit_s=WHOLE_LIMIT_S) if whole else mask(kept)
            except MaskingError:
                return Payload(field=entries.payload(digest=digest, size=size, mode="digest"), salt=salt)
            masked += more
        same = kept is raw or kept == raw
        field = entries.payload(
            digest=digest,
            size=size,
            mode=mode,
            kept="" if same else _sha256(salt + kept).hexdigest(),
            masked=masked,
            cut=cut,
        )
        all_of_it = kept if whole else None
        if len(kept) > ROW_BYTES:
            return Payload(field=field, salt=salt, file=self._write(kept), whole=all_of_it)
        return Payload(field=field, salt=salt, text=_as_text(kept), size=len(kept), whole=all_of_it)

    def _write(self, kept: bytes) -> str:
        name = f"{self._writer}-{os.urandom(8).hex()}"
        path = self._blobs / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(kept)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sync_folder(self._blobs)
        return name


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system lets one."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_text(kept: bytes) -> str | bytes:
    try:
        return kept.decode()
    except UnicodeDecodeError:
        return kept
