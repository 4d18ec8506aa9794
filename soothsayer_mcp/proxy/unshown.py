"""What is left out of a list although policy has nothing against it: named once, in the log and on record."""

from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.ports import Note
from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.merge import ListKind

_NAME_MAX = 100


class Unshown:
    """What one host connection was not shown."""

    def __init__(self, connection: HostConnection) -> None:
        """Nothing yet."""
        self._connection = connection
        self._told: set[tuple[str, ListKind, str]] = set()

    def tell(self, kind: ListKind, server: str, name: str, why: str) -> None:
        """Name an item of a server's list, the first time."""
        if (server, kind, name) in self._told:
            return
        self._told.add((server, kind, name))
        what = f"{kind.member.removesuffix('s')} {name[:_NAME_MAX]!a} is not shown: {why}"
        self._connection.log(f"{server}: {what}")
        self._connection.store.note_soon(
            Note(
                kind=Kind.MESSAGE_CHECKED,
                fields={
                    "method": kind.method,
                    "from": "server",
                    "server": server,
                    "effect": Effect.DENY.value,
                    "rules": [],
                    "reason": what,
                    "bytes": 0,
                },
            )
        )
