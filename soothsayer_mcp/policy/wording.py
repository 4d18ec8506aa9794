"""What the words of a definition do beside describing a tool: hide, or tell a model what to do. Signs, no verdicts."""

import json
import re
from collections.abc import Iterator, Mapping

from soothsayer_mcp.model.json import Json

_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\U000e0000-\U000e0fff]"
)
"""Characters that show as nothing or turn the direction of reading; what joins emoji and letters is looked at below."""
_JOINER = re.compile("(?:^|[\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?:[\x00-\x7f]|$)")
"""A joiner that joins nothing: scripts and emoji that need one stand on both sides of it."""
_FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{2,6}\U000e007f")
"""The flag of a part of a country, which is spelt with tag characters."""

_INSTRUCTIONS = re.compile(
    r"<\s*/?\s*(?:important|system|instructions?|secret|admin)\s*>"
    r"|\b(?:ignore|disregard|forget|override)\b[^.\n]{0,30}\b(?:previous|prior|above|earlier|other)\b[^.\n]{0,20}"
    r"\b(?:instructions?|prompts?|rules|messages|context)\b"
    r"|\b(?:do not|don't|never|without)\b[^.\n]{0,20}\b(?:tell|telling|inform|informing|mention|mentioning|notify"
    r"|notifying|reveal|revealing|show|showing|alert|alerting)\b[^.\n]{0,40}\b(?:user|person|human|operator|anyone)\b"
    r"|\b(?:before|prior to|instead of)\s+(?:using|calling|invoking|running)\s+(?:this|any|other|another|the)\b"
    r"[^.\n]{0,40}\b(?:you must|must|first|always|read|send|call)\b"
    r"|\b(?:you must|you should always|always first|it is (?:critical|essential|mandatory) (?:that you|to))\b"
    r"[^.\n]{0,60}\b(?:read|send|forward|include|pass|upload|append|bcc|copy|execute)\b",
    re.IGNORECASE,
)


def hides(text: str) -> bool:
    """Whether a text holds characters that nobody sees."""
    if text.isascii():
        return False
    plain = _FLAG.sub("", text)
    return _HIDDEN.search(plain) is not None or _JOINER.search(plain) is not None


def instructs(text: str) -> bool:
    """Whether a text reads like an instruction to a model, as poisoned descriptions do."""
    return _INSTRUCTIONS.search(text) is not None


MOST_READ = 262_144
"""Characters of one result that are looked at; an instruction that a model is to follow stands earlier."""

_PARTS = (
    (("important", "system", "instruction", "secret", "admin"), ("<",)),
    (("ignore", "disregard", "forget", "override"), ("instruction", "prompt", "rules", "messages", "context")),
    (("user", "person", "human", "operator", "anyone"), ("not", "n't", "never", "without")),
    (("using", "calling", "invoking", "running"), ("before", "prior", "instead")),
    (("you must", "you should always", "always first", "it is critical", "it is essential", "it is mandatory"), ("",)),
)
"""What stands in a text that reads like an instruction, of one row: one of the first, and one of the others."""


def suspicious(result: Mapping[str, Json]) -> bool:
    """Whether a result holds characters that nobody sees, or reads like an instruction to a model."""
    left = MOST_READ
    for text in _read_by_models(result):
        part = text[:left]
        left -= len(part)
        if hides(part) or (_may_instruct(part.lower()) and instructs(part)):
            return True
        if left <= 0:
            break
    return False


def _may_instruct(lowered: str) -> bool:
    """Whether it is worth a closer look: finding fixed words costs next to nothing."""
    return any(
        any(word in lowered for word in words) and any(word in lowered for word in others) for words, others in _PARTS
    )


def _read_by_models(result: Mapping[str, Json]) -> Iterator[str]:
    """Every text of a result that a model reads; what is encoded, as pictures are, is none."""
    stack: list[Json] = [result.get("content"), result.get("structuredContent")]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            yield from item
            stack.extend(held for name, held in item.items() if name not in {"data", "blob"})
        elif isinstance(item, list):
            stack.extend(reversed(item))


def texts_of(raw: bytes) -> Iterator[str]:
    """Every text of a definition, names of members included; its bytes where it is no JSON."""
    try:
        stack: list[Json] = [json.loads(raw)]
    except (ValueError, RecursionError):
        yield raw.decode(errors="replace")
        return
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            yield from item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
