"""How people are reached who are asked about calls."""

from collections.abc import Callable, Mapping
from typing import Final

from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import Asks

OURS: Final = "soothsayer"
"""The name of our question among those of a result, and the beginning of our states."""
FILLED: Final = "fill"
"""The kind of a state with answers that we gave in the host's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seals:
    """Seals what a host carries for us between two requests."""

    seal: Callable[[JsonObject], str]
    unseal: Callable[[str], JsonObject | None]
    """Opens a state; `None` for what was not sealed here, or was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSettings:
    """How people are reached."""

    book: Asks
    write: Callable[[str, Mapping[str, Json], int], str]
    """The card as a person reads it: the question's short id, what it shows, and when it expires in seconds."""
    seal: Callable[[JsonObject], str]
    unseal: Callable[[str], JsonObject | None]
    watched: Callable[[], bool] = lambda: False
    """Whether somebody looks at open questions now."""
    page: Callable[[], str] = lambda: ""
    """Where the pages of an open `ui` are; empty while there is none."""
    notify: Callable[[str, str], bool] | None = None
    """Tells the desktop of a question by server and tool; `None` where nothing can be told."""
    expires_s: float = 600.0
    hold_s: float = 45.0
    limit_s: Callable[[str], float] = lambda _client: 60.0
    """How long a host of this name lets a call take."""
    host_pid: int = 0
    verify: Callable[[str, bytes, str], bool] = lambda _key, _signed, _signature: False
    """Whether a public key made a signature over bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What a request brought back that was sealed here."""

    kind: str
    """`ask`: a question of ours went out; `page`: the address where one is answered did; `go`: its yes is spent, and
    the server asked something of its own."""
    ask: str
    step: str
    digest: str
    nonce: str
    expires_at_us: int
    state: str | None
    """The server's own state, to be sent on."""
    responses: Json = None
    """Answers to the server's own questions, that came before ours was put."""
