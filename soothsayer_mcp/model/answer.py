"""The three answers to a question about a call: yes, no, and a stated doubt. Nothing here is read by truthiness."""

from typing import TypeAlias

from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True)
class Unsure:
    """A matcher could not tell. Counts as matched for what denies or asks, and as not matched for what allows."""

    why: str


Answer: TypeAlias = bool | Unsure
"""`True`, `False` or `Unsure`; compare with `is`."""
