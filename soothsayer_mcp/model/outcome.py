"""How the forward of a step ended."""

from collections.abc import Mapping
from dataclasses import field
from typing import TypeAlias

from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The server answered with the call's own id."""

    raw: bytes
    """The whole frame as it came."""
    result: JsonObject | None
    """The result object, read leniently; `None` when the answer is an error or its result is no object."""
    error: JsonObject | None = None
    """The JSON-RPC error object; `None` when the answer is a result."""
    strict: bool = True
    """Whether the frame reads in exactly one way; checks of a frame that does not answer `unknown`."""
    tool_us: int = 0
    """From handing the call to the server's pipe until its answer was read."""
    final: bool = True
    """Whether this is the answer; false while the server wants something first, or answers later."""
    task: str = ""
    """The task by which the answer comes later; mostly empty."""

    @property
    def is_error(self) -> bool:
        """Whether the tool itself said that it failed; only JSON `true` counts."""
        return self.result is not None and self.result.get("isError") is True

    @property
    def structured(self) -> Json:
        """`structuredContent`, or `None`."""
        return None if self.result is None else self.result.get("structuredContent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What of an answer the host may read, and the record keeps, where policy masks parts of it."""

    raw: bytes | None
    """The frame with what policy masks masked; `None` where that cannot be done with certainty: it is withheld."""
    masked: Mapping[str, int]
    """What was masked: kind -> how often."""
    would: Mapping[str, int] = field(default_factory=dict[str, int])
    """What rules that only observe would have masked."""
    why: str = "it reads in more than one way"
    """Why it is withheld, where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A result that is kept whole, of which the agent is given the beginning."""

    beginning: str
    size_bytes: int
    """Of all of it as text, in UTF-8."""
    mime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """It was sent, and what became of it is not known: the tool may have acted."""

    failure: Failure
    tool_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing reached the tool."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question went out instead of the call."""

    failure: Failure
    ask: str
    """The ask's id."""


Outcome: TypeAlias = Returned | Unknown | Refused | Asked
