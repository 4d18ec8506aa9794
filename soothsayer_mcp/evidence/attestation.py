"""Attestations: an in-toto statement in a DSSE envelope. The signature is checked before anything in it is read."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from soothsayer_mcp.evidence.checks import Looked
from soothsayer_mcp.evidence.scope import shown
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.json import Json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPES = frozenset({"https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"})


class Statement(NamedTuple):
    """What a signed envelope holds."""

    key: str
    """The pinned key that signed it; empty when none of those named did."""
    payload_type: str
    payload: Json
    digest: str
    """SHA-256 of the payload, in hex."""
    why: str = ""
    """Why there is no key."""


def judge_statement(item: Item, statement: Statement, subject: Json, now_us: int) -> Looked:
    """Whether a statement says what is asked for of this subject."""
    named = shown(subject)
    wanted = str(subject).removeprefix("sha256:").lower()

    def looked(answer: Answer, detail: str = "", reason: Reason | None = None) -> Looked:
        return Looked(
            answer=answer,
            level=Level.E5,
            subject=f"sha256:{wanted}",
            detail=detail,
            reason=reason,
            source={"key": statement.key, "digest": f"sha256:{statement.digest}"},
            spend=f"attestation:{statement.digest}:{wanted}" if item.spec.get("single_use") is True else "",
        )

    if not statement.key:
        return looked(Answer.BROKEN, statement.why, Reason.SIGNATURE_INVALID)
    payload = statement.payload
    if (
        statement.payload_type != PAYLOAD_TYPE
        or not isinstance(payload, Mapping)
        or payload.get("_type") not in STATEMENT_TYPES
    ):
        return looked(Answer.BROKEN, "what is signed is no in-toto statement")
    if payload.get("predicateType") != item.spec["predicate"]:
        return looked(Answer.BROKEN, f"it is about {shown(payload.get('predicateType'))}")
    if wanted not in _digests(payload.get("subject")):
        return looked(Answer.BROKEN, f"it does not name {named}")
    max_age = item.spec.get("max_age")
    if isinstance(max_age, int):
        at_us = _time(payload.get("predicate"))
        if at_us is None:
            return looked(Answer.UNKNOWN, "it does not say when it was made (timeVerified)")
        if not 0 <= now_us - at_us <= max_age * 1000:
            return looked(Answer.UNKNOWN, "it is too old, or of the future", Reason.STALE)
    return looked(Answer.KEPT)


def _digests(subjects: Json) -> frozenset[str]:
    found: set[str] = set()
    for one in subjects if isinstance(subjects, list) else ():
        digest = one.get("digest") if isinstance(one, Mapping) else None
        value = digest.get("sha256") if isinstance(digest, Mapping) else None
        if isinstance(value, str):
            found.add(value.lower())
    return frozenset(found)


def _time(predicate: Json) -> int | None:
    text = predicate.get("timeVerified") if isinstance(predicate, Mapping) else None
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if at.tzinfo is None else round(at.timestamp() * 1_000_000)
