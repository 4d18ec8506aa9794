"""The end of an `unknown`: how it became known whether a step took effect."""

from enum import StrEnum

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.value import dataclass


class How(StrEnum):
    """Where the knowledge is from."""

    LATE_ANSWER = "late_answer"
    """The server answered after all."""
    CAPTURE = "capture"
    """What was kept of the state before, compared with the present."""
    PERSON = "person"
    """A person looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Whether a step took effect, as it became known after its end."""

    run: RunId
    no: int
    acted: Acted
    """`yes` or `no`."""
    how: How
    by: str = ""
    """The person; empty for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """An earlier step with the same call, of which the agent does not know how it ended."""

    step: str
    acted: Acted
    """`maybe` while it is not settled."""
