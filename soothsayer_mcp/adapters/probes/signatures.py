"""Opens DSSE envelopes by pinned Ed25519 keys. What is signed is read only after the signature held.

Source: DSSE protocol, section 2 (PAE); in-toto attestation framework, v1.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from soothsayer_mcp.adapters.probes.files import doubt
from soothsayer_mcp.evidence.attestation import Statement
from soothsayer_mcp.model.json import Json

MOST_BYTES: Final = 256 * 1024


def open_envelope(envelope: Json, keys: Mapping[str, str]) -> Statement:
    """Open an envelope, given as an object or as its text, by the keys under these paths. Raises `PortError`."""
    if isinstance(envelope, str):
        if len(envelope) > MOST_BYTES:
            raise doubt(f"the attestation has more than {MOST_BYTES:,} bytes")
        envelope = _json(envelope)
    if not isinstance(envelope, Mapping):
        return _refused("it is no envelope")
    kind, payload, signatures = envelope.get("payloadType"), envelope.get("payload"), envelope.get("signatures")
    if not isinstance(kind, str) or not isinstance(payload, str) or not isinstance(signatures, list):
        return _refused("it is no envelope")
    if len(payload) > MOST_BYTES:
        raise doubt(f"the attestation has more than {MOST_BYTES:,} bytes")
    raw = _bytes(payload)
    if raw is None:
        return _refused("its payload cannot be read")
    signed = b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(raw), raw)
    for name, path in keys.items():
        key = _key(name, path)
        for one in signatures[:16]:
            signature = _bytes(one.get("sig")) if isinstance(one, Mapping) else None
            if signature is not None and _holds(key, signature, signed):
                digest = hashlib.sha256(raw).hexdigest()
                return Statement(
                    key=name, payload_type=kind, payload=_json(raw.decode("utf-8", "replace")), digest=digest
                )
    return _refused("none of the pinned keys signed it")


def _refused(why: str) -> Statement:
    return Statement(key="", payload_type="", payload=None, digest="", why=why)


def _key(name: str, path: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise doubt(f"the key {name} cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise doubt(f"the key {name} is no Ed25519 key")
    return key


def _holds(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _bytes(text: Json) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _json(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def chosen(keys: Mapping[str, str], names: Sequence[str]) -> Mapping[str, str]:
    """The pinned keys of these names. Raises `PortError` for one that the configuration does not name."""
    unknown = [name for name in names if name not in keys]
    if unknown:
        raise doubt(f"the configuration has no key {unknown[0]}")
    return {name: keys[name] for name in names}
