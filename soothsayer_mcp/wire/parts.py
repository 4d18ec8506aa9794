"""A tool's result as one text that can be read in parts: sizes and offsets in bytes of UTF-8, no character cut."""

from collections.abc import Mapping
from typing import Final

from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.model.value import dataclass

TEXT: Final = "text/plain"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of a text."""

    text: str
    offset: int
    """Where it begins: where it was wanted, or at the character before."""
    end: int
    """Where the next one begins."""
    of: int
    """How long the whole is."""


def readable(result: Mapping[str, Json]) -> tuple[str, str]:
    """What a reader is given of a result, and its MIME type.

    Where there is text and nothing else it is that text, its blocks one after the other on lines of their own; else
    it is the result as it came, as JSON.
    """
    content = result.get("content")
    if "structuredContent" not in result and isinstance(content, list) and content:
        texts = [_text(block) for block in content]
        said = [text for text in texts if text is not None]
        if len(said) == len(texts):
            return "\n".join(said), TEXT
    return compact(result).decode(errors="replace"), JSON


def part(text: str, offset: int, size: int) -> Part:
    """The stretch that begins at `offset`, of at most `size` bytes but at least one character where one is left."""
    raw = text.encode(errors="replace")
    start = min(max(offset, 0), len(raw))
    while 0 < start < len(raw) and _goes_on(raw[start]):
        start -= 1
    end = min(start + max(size, 1), len(raw))
    while start < end < len(raw) and _goes_on(raw[end]):
        end -= 1
    if end == start < len(raw):
        end += 1
        while end < len(raw) and _goes_on(raw[end]):
            end += 1
    return Part(text=raw[start:end].decode(), offset=start, end=end, of=len(raw))


def _goes_on(byte: int) -> bool:
    """Whether a byte is not the first of its character."""
    return byte & 0xC0 == 0x80  # noqa: PLR2004 - the form of a continuation byte in UTF-8


def _text(block: Json) -> str | None:
    if not isinstance(block, Mapping) or block.get("type") != "text":
        return None
    text = block.get("text")
    return text if isinstance(text, str) else None
