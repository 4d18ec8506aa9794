"""A request that is no tool call, as policy looks at it: a read, a prompt, what a server asks of its host."""

from collections.abc import Mapping

from soothsayer_mcp.model.call import Client, Principal
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is asked, of or by which server, and on whose behalf."""

    server: str
    method: str
    params: Mapping[str, Json]
    principal: Principal
    client: Client | None
    run: Run | None = None
    """The run that a call would join now; `None` where that is not known, or nobody needs to know."""
    at_us: int | None = None
    """Microseconds since 1970, UTC."""
