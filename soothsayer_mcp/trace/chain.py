"""The hash chain: leaves over the exact bytes stored, each naming its writer's leaf before."""

import hashlib
from collections.abc import Iterable

from soothsayer_mcp.model.value import dataclass

START = "0" * 64
"""What the first entry of a writer names as the leaf before."""

_sha256 = hashlib.sha256


def leaf_hash(body: bytes) -> bytes:
    """Hash one entry as a leaf of the trace.

    `body` is the exact bytes in the store, never rendered again. Returns 32 bytes.
    Source: RFC 9162, section 2.1.1.
    """
    return _sha256(b"\0" + body).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An entry as a store holds it: the columns and the body they were copied from."""

    pos: int
    writer: str
    seq: int
    leaf: bytes
    body: str


def find_break(tail: Iterable[Stored]) -> str:
    """Say what is wrong with the first broken entry of a piece of the record; empty when it holds.

    The piece is in order of position and may begin anywhere: what came before it is taken as it is.
    """
    last: dict[str, Stored] = {}
    expected: int | None = None
    for entry in tail:
        if expected is not None and entry.pos != expected:
            return f"entry {expected} is missing"
        expected = entry.pos + 1
        if leaf_hash(entry.body.encode()) != entry.leaf:
            return f"entry {entry.pos} does not match its hash"
        before = last.get(entry.writer)
        if before is not None and not _follows(entry, before):
            return f"entry {entry.pos} does not follow entry {before.pos} of its writer"
        last[entry.writer] = entry
    return ""


def _follows(entry: Stored, before: Stored) -> bool:
    if entry.seq != before.seq + 1:
        return False
    return f'"seq":{entry.seq},"prev":"{before.leaf.hex()}"' in entry.body[:200]
