"""Signatures of an organisation's policy: who let these files be in force, and until when.

Beside the policy lies `NAME.yaml.sig`: the digests of its files, a last day, and an Ed25519 signature over both. The
key that has to have signed stands elsewhere, where whoever writes policies cannot put it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol, cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.policy_files.problems import START, Problem
from soothsayer_mcp.model.json import Json, canonical

FORMAT: Final = "signature/v1"
ENDING: Final = ".sig"
KEY: Final = re.compile(r"ed25519:[0-9a-f]{64}")
"""How a public key is written."""


class _Public(Protocol):
    @classmethod
    def from_public_bytes(cls, data: bytes) -> "_Public": ...
    def verify(self, signature: bytes, data: bytes) -> None: ...
    def public_bytes_raw(self) -> bytes: ...


class _Private(Protocol):
    @classmethod
    def from_private_bytes(cls, data: bytes) -> "_Private": ...
    @classmethod
    def generate(cls) -> "_Private": ...
    def sign(self, data: bytes) -> bytes: ...
    def public_key(self) -> _Public: ...
    def private_bytes_raw(self) -> bytes: ...


def signature_of(policy: str) -> str:
    """Where the signature of a policy file lies."""
    return policy + ENDING


def why_not(policy: str, key: str, digests: Mapping[str, str], now: datetime) -> Problem | None:
    """Why these files of a policy are not to be believed; `None` when they are.

    `digests` are SHA-256 in hex of the files that were read, by absolute path; all below the policy's folder count.
    """

    def wrong(text: str) -> Problem:
        return Problem(file=policy, mark=START, id="policy-signature", text=text)

    try:
        said = cast("Json", json.loads(Path(signature_of(policy)).read_bytes()))
    except FileNotFoundError:
        return wrong(
            f"the organisation's policy is not signed: there is no {Path(signature_of(policy)).name} beside it"
        )
    except (OSError, ValueError, RecursionError) as error:
        return wrong(f"its signature cannot be read ({error})")
    if not isinstance(said, Mapping) or said.get("soothsayer") != FORMAT:
        return wrong(f"its signature is not of the format {FORMAT}")
    signature, last_day, files = said.get("signature"), said.get("expires"), said.get("files")
    body = canonical({name: held for name, held in said.items() if name != "signature"})
    if not isinstance(signature, str) or not is_signed(key, signature, body):
        return wrong(f"its signature is not one of {key[:20]}…")
    if isinstance(last_day, str) and now >= _day_after(last_day):
        return wrong(f"its signature expired on {last_day}")
    folder = Path(policy).parent
    found = {
        Path(path).relative_to(folder).as_posix(): f"sha256:{digest}"
        for path, digest in digests.items()
        if Path(path).is_relative_to(folder)
    }
    for name, digest in sorted(found.items()):
        if not isinstance(files, Mapping) or files.get(name) != digest:
            return wrong(f"{name} is not what was signed")
    return None


def is_signed(key: str, signature: str, body: bytes) -> bool:
    """Whether a key, as it is written, made a signature, in hex, over these bytes."""
    if KEY.fullmatch(key) is None:
        return False
    kind = cast("type[_Public]", resolve("cryptography.hazmat.primitives.asymmetric.ed25519:Ed25519PublicKey"))
    try:
        kind.from_public_bytes(bytes.fromhex(key.partition(":")[2])).verify(bytes.fromhex(signature), body)
    except Exception:  # noqa: BLE001 - whatever is wrong with a signature, it is none
        return False
    return True


def _day_after(day: str) -> datetime:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def sign(policy: Path, files: Sequence[Path], private: bytes, *, expires: str, digest: Callable[[bytes], str]) -> str:
    """Write the signature of a policy and its files; tells the public key."""
    key = _private_key().from_private_bytes(private)
    public = f"ed25519:{key.public_key().public_bytes_raw().hex()}"
    body: dict[str, Json] = {
        "soothsayer": FORMAT,
        "key": public,
        "files": {file.relative_to(policy.parent).as_posix(): f"sha256:{digest(file.read_bytes())}" for file in files},
    }
    if expires:
        body["expires"] = expires
    body["signature"] = key.sign(canonical(body)).hex()
    place = Path(signature_of(str(policy))).resolve()
    fresh = place.with_name(f".{place.name}.new")
    fresh.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    fresh.replace(place)  # proxies that run may be reading the one before
    return public


def public_key(private: bytes) -> str:
    """The public key of a private one, as it is written."""
    return f"ed25519:{_private_key().from_private_bytes(private).public_key().public_bytes_raw().hex()}"


def sign_bytes(private: bytes, body: bytes) -> str:
    """Sign bytes; the signature in hex."""
    return _private_key().from_private_bytes(private).sign(body).hex()


def new_key() -> bytes:
    """Make a private key."""
    return _private_key().generate().private_bytes_raw()


def _private_key() -> "type[_Private]":
    return cast("type[_Private]", resolve("cryptography.hazmat.primitives.asymmetric.ed25519:Ed25519PrivateKey"))
