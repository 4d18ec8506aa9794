"""The table: what happens to every MCP message, by way, era and method. No row, no passage.

Each row names the function that does it, as `part.function`; `proxy/relay.py` resolves the names once. Answers have no
rows: they find their request by its id.
"""

from enum import Enum
from typing import TypeAlias

from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.wire.eras import Era
from soothsayer_mcp.wire.frame import FrameKind


class Act(Enum):
    """What is done with a message."""

    GOVERNED = "governed"
    """A step: the whole loop."""
    CHECKED = "checked"
    """Policy and trace only."""
    ROUTED = "routed"
    """Read to find its owner, or merged; no policy."""
    PASSED = "passed"
    """The same bytes, sent on unread."""
    ANSWERED = "answered"
    """By the proxy, in the server's or the host's place."""
    REFUSED = "refused"
    """By the proxy, with an error."""
    DROPPED = "dropped"
    """Recorded, never sent on, never answered."""


class Way(Enum):
    """Where a message comes from and where it goes."""

    TO_SERVER = "host>server"
    TO_HOST = "server>host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row's answer."""

    act: Act
    by: str
    """`part.function` of the relay."""
    kind: FrameKind
    """Request or notification; the other kind of the same name is not this row's message."""


RowKey: TypeAlias = tuple[Way, Era, str]

_H, _S = Way.TO_SERVER, Way.TO_HOST
_HANDSHAKE, _STATELESS = Era.HANDSHAKE, Era.STATELESS
_REQUEST, _NOTICE = FrameKind.REQUEST, FrameKind.NOTIFICATION

_BOTH = (_HANDSHAKE, _STATELESS)
_OLD = (_HANDSHAKE,)
_NEW = (_STATELESS,)

_ROWS: tuple[tuple[str, Way, tuple[Era, ...], FrameKind, Act, str], ...] = (
    # Opening. `initialize` opens the handshake era on any connection, whatever came before it.
    ("initialize", _H, _BOTH, _REQUEST, Act.ROUTED, "opening.initialize"),
    ("notifications/initialized", _H, _OLD, _NOTICE, Act.PASSED, "opening.initialized"),
    ("notifications/initialized", _H, _NEW, _NOTICE, Act.DROPPED, "notices.drop"),
    ("server/discover", _H, _BOTH, _REQUEST, Act.ROUTED, "opening.discover"),
    ("ping", _H, _OLD, _REQUEST, Act.PASSED, "opening.ping"),
    ("ping", _H, _NEW, _REQUEST, Act.REFUSED, "refusals.no_such_method"),
    ("ping", _S, _OLD, _REQUEST, Act.PASSED, "requests.ping"),
    ("ping", _S, _NEW, _REQUEST, Act.DROPPED, "requests.drop"),
    # Calls and lists.
    ("tools/call", _H, _BOTH, _REQUEST, Act.GOVERNED, "calls.call"),
    ("tools/list", _H, _BOTH, _REQUEST, Act.CHECKED, "lists.tools"),
    ("resources/list", _H, _BOTH, _REQUEST, Act.CHECKED, "lists.resources"),
    ("resources/templates/list", _H, _BOTH, _REQUEST, Act.CHECKED, "lists.templates"),
    ("prompts/list", _H, _BOTH, _REQUEST, Act.CHECKED, "lists.prompts"),
    # Checked requests of the host.
    ("resources/read", _H, _BOTH, _REQUEST, Act.CHECKED, "checked.read"),
    ("prompts/get", _H, _BOTH, _REQUEST, Act.CHECKED, "checked.prompt"),
    ("completion/complete", _H, _BOTH, _REQUEST, Act.CHECKED, "checked.complete"),
    ("resources/subscribe", _H, _OLD, _REQUEST, Act.CHECKED, "checked.subscribe"),
    ("resources/subscribe", _H, _NEW, _REQUEST, Act.REFUSED, "refusals.no_such_method"),
    ("resources/unsubscribe", _H, _OLD, _REQUEST, Act.CHECKED, "checked.unsubscribe"),
    ("resources/unsubscribe", _H, _NEW, _REQUEST, Act.REFUSED, "refusals.no_such_method"),
    ("subscriptions/listen", _H, _OLD, _REQUEST, Act.REFUSED, "refusals.no_such_method"),
    ("subscriptions/listen", _H, _NEW, _REQUEST, Act.CHECKED, "streams.listen"),
    ("logging/setLevel", _H, _OLD, _REQUEST, Act.ROUTED, "opening.set_level"),
    ("logging/setLevel", _H, _NEW, _REQUEST, Act.REFUSED, "refusals.no_such_method"),
    # Tasks.
    ("tasks/get", _H, _BOTH, _REQUEST, Act.CHECKED, "late.of_task"),
    ("tasks/cancel", _H, _BOTH, _REQUEST, Act.CHECKED, "late.of_task"),
    ("tasks/result", _H, _OLD, _REQUEST, Act.CHECKED, "late.of_task"),
    ("tasks/result", _H, _NEW, _REQUEST, Act.REFUSED, "refusals.no_such_method"),
    ("tasks/list", _H, _OLD, _REQUEST, Act.CHECKED, "late.every"),
    ("tasks/list", _H, _NEW, _REQUEST, Act.REFUSED, "refusals.no_such_method"),
    ("tasks/update", _H, _OLD, _REQUEST, Act.REFUSED, "refusals.no_such_method"),
    ("tasks/update", _H, _NEW, _REQUEST, Act.CHECKED, "late.of_task"),
    ("tasks/get", _S, _OLD, _REQUEST, Act.ROUTED, "requests.of_task"),
    ("tasks/get", _S, _NEW, _REQUEST, Act.DROPPED, "requests.drop"),
    ("tasks/cancel", _S, _OLD, _REQUEST, Act.ROUTED, "requests.of_task"),
    ("tasks/cancel", _S, _NEW, _REQUEST, Act.DROPPED, "requests.drop"),
    ("tasks/result", _S, _OLD, _REQUEST, Act.ROUTED, "requests.of_task"),
    ("tasks/result", _S, _NEW, _REQUEST, Act.DROPPED, "requests.drop"),
    ("tasks/list", _S, _OLD, _REQUEST, Act.ROUTED, "requests.of_task"),
    ("tasks/list", _S, _NEW, _REQUEST, Act.DROPPED, "requests.drop"),
    ("notifications/tasks/status", _S, _OLD, _NOTICE, Act.CHECKED, "notices.task_status"),
    ("notifications/tasks/status", _S, _NEW, _NOTICE, Act.DROPPED, "notices.drop_of_server"),
    ("notifications/tasks", _S, _OLD, _NOTICE, Act.DROPPED, "notices.drop_of_server"),
    ("notifications/tasks", _S, _NEW, _NOTICE, Act.CHECKED, "notices.task_status"),
    # Notices of the host.
    ("notifications/cancelled", _H, _BOTH, _NOTICE, Act.ROUTED, "notices.cancelled"),
    ("notifications/progress", _H, _OLD, _NOTICE, Act.ROUTED, "notices.host_progress"),
    ("notifications/progress", _H, _NEW, _NOTICE, Act.DROPPED, "notices.drop"),
    ("notifications/roots/list_changed", _H, _OLD, _NOTICE, Act.PASSED, "notices.to_all"),
    ("notifications/roots/list_changed", _H, _NEW, _NOTICE, Act.DROPPED, "notices.drop"),
    # What servers ask of hosts.
    ("elicitation/create", _S, _OLD, _REQUEST, Act.CHECKED, "requests.ask"),
    ("elicitation/create", _S, _NEW, _REQUEST, Act.DROPPED, "requests.drop"),
    ("sampling/createMessage", _S, _OLD, _REQUEST, Act.CHECKED, "requests.ask"),
    ("sampling/createMessage", _S, _NEW, _REQUEST, Act.DROPPED, "requests.drop"),
    ("roots/list", _S, _OLD, _REQUEST, Act.CHECKED, "requests.ask"),
    ("roots/list", _S, _NEW, _REQUEST, Act.DROPPED, "requests.drop"),
    # Notices of servers.
    ("notifications/progress", _S, _BOTH, _NOTICE, Act.PASSED, "notices.server_progress"),
    ("notifications/message", _S, _BOTH, _NOTICE, Act.CHECKED, "notices.message"),
    ("notifications/tools/list_changed", _S, _BOTH, _NOTICE, Act.ROUTED, "notices.list_changed"),
    ("notifications/prompts/list_changed", _S, _BOTH, _NOTICE, Act.ROUTED, "notices.list_changed"),
    ("notifications/resources/list_changed", _S, _BOTH, _NOTICE, Act.ROUTED, "notices.list_changed"),
    ("notifications/resources/updated", _S, _BOTH, _NOTICE, Act.ROUTED, "notices.updated"),
    ("notifications/subscriptions/acknowledged", _S, _OLD, _NOTICE, Act.DROPPED, "notices.drop_of_server"),
    ("notifications/subscriptions/acknowledged", _S, _NEW, _NOTICE, Act.ROUTED, "notices.acknowledged"),
    ("notifications/elicitation/complete", _S, _OLD, _NOTICE, Act.ROUTED, "notices.to_host"),
    ("notifications/elicitation/complete", _S, _NEW, _NOTICE, Act.DROPPED, "notices.drop_of_server"),
    ("notifications/cancelled", _S, _OLD, _NOTICE, Act.ROUTED, "requests.withdrawn"),
    ("notifications/cancelled", _S, _NEW, _NOTICE, Act.ROUTED, "notices.listen_ended"),
)

ROUTES: dict[RowKey, Route] = {
    (way, era, method): Route(act=act, by=by, kind=kind) for method, way, eras, kind, act, by in _ROWS for era in eras
}

UNKNOWN: dict[tuple[Way, Era, FrameKind], Route] = {
    (_H, _HANDSHAKE, _REQUEST): Route(act=Act.REFUSED, by="refusals.unknown", kind=_REQUEST),
    (_H, _STATELESS, _REQUEST): Route(act=Act.REFUSED, by="refusals.unknown", kind=_REQUEST),
    (_H, _HANDSHAKE, _NOTICE): Route(act=Act.DROPPED, by="notices.unknown", kind=_NOTICE),
    (_H, _STATELESS, _NOTICE): Route(act=Act.DROPPED, by="notices.unknown", kind=_NOTICE),
    (_S, _HANDSHAKE, _REQUEST): Route(act=Act.REFUSED, by="requests.unknown", kind=_REQUEST),
    (_S, _STATELESS, _REQUEST): Route(act=Act.DROPPED, by="requests.drop", kind=_REQUEST),
    (_S, _HANDSHAKE, _NOTICE): Route(act=Act.DROPPED, by="notices.unknown_of_server", kind=_NOTICE),
    (_S, _STATELESS, _NOTICE): Route(act=Act.DROPPED, by="notices.unknown_of_server", kind=_NOTICE),
}
"""What happens to a message that has no row; policy may let some pass (protocol.md 2, unknown methods)."""

MISPLACED: dict[tuple[Way, FrameKind], Route] = {
    (_H, _NOTICE): Route(act=Act.DROPPED, by="notices.request_without_id", kind=_NOTICE),
    (_S, _NOTICE): Route(act=Act.DROPPED, by="notices.drop_of_server", kind=_NOTICE),
    (_H, _REQUEST): Route(act=Act.REFUSED, by="refusals.no_such_method", kind=_REQUEST),
    (_S, _REQUEST): Route(act=Act.REFUSED, by="requests.no_such_method", kind=_REQUEST),
}
"""A request's method without an id, or a notification's method with one."""


def route(way: Way, era: Era, kind: FrameKind, method: str) -> Route:
    """Find the row of a message; every message has one."""
    row = ROUTES.get((way, era, method))
    if row is None:
        return UNKNOWN[way, era, kind]
    return row if row.kind is kind else MISPLACED[way, kind]
