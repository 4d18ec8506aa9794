"""What settles a step whose outcome is not known: the question to a tool that reads, and what is kept for asking it."""

from collections.abc import Mapping
from dataclasses import field

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.settlement import SettleTerms
from soothsayer_mcp.model.value import dataclass

PART = "settle"
"""The payload of an intent that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """What is kept with an intent, so that a later process can ask as well."""

    terms: SettleTerms
    """With the arguments filled in."""
    values: Mapping[str, Json]
    """What the conditions, and the checks that the step owes, may name."""
    verify: tuple[Item, ...] = ()
    before: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """What those checks compare with: key of the check -> what was seen."""
    reach: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Server -> how it is reached, of the one that was called and the one that is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """A step whose outcome is not known, and what settles it."""

    run: RunId
    no: int
    server: str
    tool: str
    settling: Settling
