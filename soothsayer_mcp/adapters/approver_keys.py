"""Keys of approvers, each under a passphrase: what lies in the state folder signs nothing by itself."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.policy_files.signed import new_key, public_key, sign_bytes
from soothsayer_mcp.adapters.store.payloads import sync_folder
from soothsayer_mcp.model.json import JsonObject, canonical
from soothsayer_mcp.model.value import dataclass

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")
FORMAT: Final = "approver/v1"

_HEAD, _TAIL = "approver-", ".json"
_ROUNDS, _BLOCK, _LANES = 2**15, 8, 1
_MEMORY_BYTES = 64 * 1024 * 1024
_SALT_BYTES, _NONCE_BYTES, _KEY_BYTES = 16, 12, 32


class ApproverKeyError(Exception):
    """There is no such key, or it cannot be read, written or opened; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproverKey:
    """An approver's key, locked."""

    name: str
    key: str
    """The public key, as policies name it."""
    file: Path
    salt: bytes
    nonce: bytes
    sealed: bytes

    def sign(self, passphrase: str, signed: bytes) -> str:
        """Sign bytes, in hex; the key is unlocked for that moment. Raises `ApproverKeyError`."""
        try:
            private = _cipher(passphrase, self.salt).decrypt(self.nonce, self.sealed, _bound(self.name, self.key))
        except Exception as error:
            if type(error).__name__ != "InvalidTag":
                raise
            text = f"the passphrase does not open the key of {self.name}"
            raise ApproverKeyError(text) from error
        return sign_bytes(private, signed)


def make(state: Path, name: str, passphrase: str) -> ApproverKey:
    """Make the key of an approver; never over another. Raises `ApproverKeyError`."""
    if not passphrase:
        text = "a key without a passphrase could be used by any program of this account"
        raise ApproverKeyError(text)
    private = new_key()
    key, file = public_key(private), _file(state, name)
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    sealed = _cipher(passphrase, salt).encrypt(nonce, private, _bound(name, key))
    document: JsonObject = {
        "soothsayer": FORMAT,
        "name": name,
        "key": key,
        "salt": salt.hex(),
        "nonce": nonce.hex(),
        "sealed": sealed.hex(),
    }
    try:
        # Each by itself: of what is made with `parents` only the last is private.
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        fresh = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(json.dumps(document, indent=2).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.link(fresh, file)  # Others may list the keys meanwhile: it is there whole, or not yet.
        finally:
            fresh.unlink()
        sync_folder(file.parent)
    except FileExistsError as error:
        text = f"{name} has a key already"
        raise ApproverKeyError(text) from error
    except OSError as error:
        text = f"the key cannot be written ({error.strerror})"
        raise ApproverKeyError(text) from error
    return ApproverKey(name=name, key=key, file=file, salt=salt, nonce=nonce, sealed=sealed)


def read(state: Path, name: str) -> ApproverKey:
    """The key of an approver. Raises `ApproverKeyError`."""
    if NAME.fullmatch(name) is None or not _file(state, name).exists():
        text = f'there is no key of "{name}" here'
        raise ApproverKeyError(text)
    return _read(_file(state, name))


def all_keys(state: Path) -> list[ApproverKey]:
    """Every key of the state folder, by name. Raises `ApproverKeyError`."""
    return [_read(file) for file in sorted((state / "keys").glob(f"{_HEAD}*{_TAIL}"))]


def _read(file: Path) -> ApproverKey:
    try:
        said = cast("dict[str, str]", json.loads(file.read_bytes()))
        name, key = said["name"], said["key"]
        salt, nonce, sealed = (bytes.fromhex(said[part]) for part in ("salt", "nonce", "sealed"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{file} is no key of an approver"
        raise ApproverKeyError(text) from error
    return ApproverKey(name=name, key=key, file=file, salt=salt, nonce=nonce, sealed=sealed)


def _file(state: Path, name: str) -> Path:
    return state / "keys" / f"{_HEAD}{name}{_TAIL}"


def _bound(name: str, key: str) -> bytes:
    """What is sealed together with the private key, so that no file shows another name or public key than its own."""
    return canonical([FORMAT, name, key])


def _cipher(passphrase: str, salt: bytes) -> Any:
    make_cipher = cast("Callable[[bytes], Any]", resolve("cryptography.hazmat.primitives.ciphers.aead:AESGCM"))
    return make_cipher(
        hashlib.scrypt(
            passphrase.encode(), salt=salt, n=_ROUNDS, r=_BLOCK, p=_LANES, maxmem=_MEMORY_BYTES, dklen=_KEY_BYTES
        )
    )
