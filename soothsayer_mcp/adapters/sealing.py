"""Seals what a host carries for us between two requests: opaque to it, and worthless once it is changed."""

import base64
import binascii
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.store.payloads import sync_folder
from soothsayer_mcp.model.json import JsonObject, canonical

PREFIX = "soothsayer.1."
"""What begins every state of ours; no other state is looked into."""

_KEY_BYTES, _NONCE_BYTES = 32, 12
_KEY_NAME = "k1"
_SHAPE = re.compile(r"soothsayer\.1\.([a-z0-9]{1,8})\.([A-Za-z0-9_-]{1,65536})")


class Sealer:
    """AES-256-GCM under a key of the state folder, so that every proxy of that folder opens what another sealed."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the state folder; the key is made when it is first needed."""
        self._keys = folder / "keys"
        self._key: bytes | None = None

    def seal(self, claims: JsonObject) -> str:
        """Seal claims. Raises `OSError` when there is no key and none can be made."""
        head = f"{PREFIX}{_KEY_NAME}"
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher().encrypt(nonce, canonical(claims), head.encode())
        return f"{head}.{_spell(nonce + sealed)}"

    def unseal(self, state: str) -> JsonObject | None:
        """Open a state; `None` for whatever was not sealed here, changed by a bit, or spelt otherwise."""
        found = _SHAPE.fullmatch(state)
        if found is None or found.group(1) != _KEY_NAME:
            return None
        text = found.group(2)
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            if _spell(raw) != text:
                return None
            opened = self._cipher().decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], f"{PREFIX}{_KEY_NAME}".encode())
            claims = cast("object", json.loads(opened))
        except (binascii.Error, ValueError, OSError):
            return None
        except Exception as error:
            if type(error).__name__ == "InvalidTag":
                return None
            raise
        return cast("JsonObject", claims) if isinstance(claims, dict) else None

    def _cipher(self) -> Any:
        make = cast("Callable[[bytes], Any]", resolve("cryptography.hazmat.primitives.ciphers.aead:AESGCM"))
        if self._key is None:
            self._key = self._load()
        return make(self._key)

    def _load(self) -> bytes:
        path = self._keys / f"seal-{_KEY_NAME}"
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, path)  # The first of several proxies makes the key; the others take that one.
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
            sync_folder(self._keys)
            key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            msg = f"{path}: this is no key of {_KEY_BYTES} bytes; delete it, and a fresh one is made"
            raise OSError(msg)
        return key


def _spell(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
