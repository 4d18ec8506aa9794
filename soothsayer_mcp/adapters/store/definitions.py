"""Pins: what each server's tools were defined as when they were accepted, and what differs since."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import cast

from soothsayer_mcp.adapters.lock_file import Locked
from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.items import Item
from soothsayer_mcp.adapters.store.payloads import Payload, Payloads
from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.json import Digest, Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import Compared, SeenTool, ServerIdentity
from soothsayer_mcp.trace import entries

FIRST_USE = "first_use"
"""Who pinned what was trusted because there was no pin of its server yet."""
BY_LOCK = "lock"
"""Who pinned what a lock holds."""

_PATHS = 50
_COLUMNS = "tool, digest, state, at, identity, raw, seen, seen_raw, seen_identity"
_SELECT = f"SELECT server, {_COLUMNS} FROM definitions"  # noqa: S608 - column names of ours
_REPLACE = f"INSERT OR REPLACE INTO definitions(server, {_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One tool of one server: what is pinned, and what was seen last where that differs."""

    server: str
    """The server's name, with `@` and a piece of its identity where nobody gave it the name."""
    tool: str
    state: PinState
    digest: Digest
    """Of what is pinned; while the state is `new`, of what was seen."""
    raw: bytes
    at_us: int
    identity: str
    seen: Digest | None = None
    """What was seen last, where it differs from the pin."""
    seen_raw: bytes | None = None
    seen_identity: str | None = None


def pin_key(server: ServerIdentity) -> str:
    """The name that a server's pins hang on."""
    return server.name if server.declared else f"{server.name}@{server.digest.removeprefix('sha256:')[:8]}"


def read_pins(rows: Sequence[tuple[object, ...]]) -> list[Pin]:
    """Rows of `definitions` as values."""
    return [_pin(row) for row in rows]


_SELECT_SERVER = "SELECT identity FROM servers WHERE server = ?"
SELECT_PINS = f"{_SELECT} ORDER BY server, tool"


def all_pinned(
    db: sqlite3.Connection, server: ServerIdentity, tools: Sequence[SeenTool], locked: Locked | None = None
) -> Mapping[str, PinState] | None:
    """The answer for a list that is just what is pinned, so that nothing has to be written; else `None`.

    Raises `sqlite3.Error`.
    """
    key = pin_key(server)
    known = cast("tuple[str] | None", db.execute(_SELECT_SERVER, (key,)).fetchone())
    if known is None or known[0] != server.digest or not (locked is None or _holds(locked, server, tools)):
        return None
    sql = "SELECT tool, digest FROM definitions WHERE server = ? AND state = 'pinned' AND identity = ?"
    pinned = dict(cast("list[tuple[str, str]]", db.execute(sql, (key, server.digest)).fetchall()))
    if all(pinned.get(tool.name) == tool.digest for tool in tools):
        return {tool.name: PinState.PINNED for tool in tools}
    return None


def _holds(locked: Locked, server: ServerIdentity, tools: Sequence[SeenTool]) -> bool:
    """Whether a lock has a list just as it is."""
    its = locked.tools
    return locked.pinned_as(server) == server.digest and all(
        tool.name in its and its[tool.name].digest == tool.digest for tool in tools
    )


class CompareItem(Item[Compared]):
    """Compares what a server lists with its pins, and writes down what is seen for the first time."""

    reads = True
    hard = False

    def __init__(
        self,
        server: ServerIdentity,
        tools: Sequence[SeenTool],
        payloads: Payloads,
        *,
        trust_first: bool,
        locked: Locked | None = None,
    ) -> None:
        super().__init__()
        self._server = server
        self._locked = locked
        self._key = pin_key(server)
        self._tools = tools
        self._payloads = payloads
        self._trust_first = trust_first
        self.size = sum(len(tool.raw) for tool in tools)

    def apply(self, batch: Batch) -> Compared:
        """Tell the state of each tool listed."""
        rows = batch.db.execute(f"{_SELECT} WHERE server = ?", (self._key,)).fetchall()
        pins = {pin.tool: pin for pin in read_pins(rows)}
        at = batch.now()
        self._see_server(batch, at)
        if self._locked is not None:
            self._agree(batch, pins, self._locked, at)
        elif not pins and self._trust_first:
            for tool in self._tools:
                pin_tool(batch, self._payloads, self._key, tool, str(self._server.digest), by=FIRST_USE, at=at)
            return Compared(states={tool.name: PinState.PINNED for tool in self._tools})
        states = {tool.name: self._see_tool(batch, tool, pins.get(tool.name), at) for tool in self._tools}
        changed = (name for name, state in states.items() if state is PinState.CHANGED)
        moved = frozenset(name for name in changed if pins[name].identity != self._server.digest)
        return Compared(states=states, moved=moved)

    def _agree(self, batch: Batch, pins: dict[str, Pin], locked: Locked, at: int) -> None:
        """Make the pins of the server those of the lock."""
        identity = str(locked.pinned_as(self._server))
        for name, tool in locked.tools.items():
            pin = pins.get(name)
            if pin is None or (pin.digest, pin.identity) != (tool.digest, identity) or pin.state is PinState.NEW:
                pin_tool(batch, self._payloads, self._key, tool, identity, by=BY_LOCK, at=at)
                pins[name] = Pin(
                    server=self._key,
                    tool=name,
                    state=PinState.PINNED,
                    digest=tool.digest,
                    raw=tool.raw,
                    at_us=at,
                    identity=identity,
                )
        for name in [name for name, pin in pins.items() if name not in locked.tools and pin.state is not PinState.NEW]:
            batch.later("DELETE FROM definitions WHERE server=? AND tool=?", self._key, name)
            del pins[name]

    def _see_server(self, batch: Batch, at: int) -> None:
        found = cast("tuple[str] | None", batch.db.execute(_SELECT_SERVER, (self._key,)).fetchone())
        server = self._server
        if found is not None and found[0] == server.digest:
            return
        if found is not None:
            fields = {"server": server.name, "old": found[0], "new": str(server.digest)}
            batch.append(Kind.SERVER_CHANGED, entries.note(Kind.SERVER_CHANGED, fields, {}), at)
        batch.later(
            "INSERT OR REPLACE INTO servers(server, name, identity, declared, at) VALUES(?, ?, ?, ?, ?)",
            self._key,
            server.name,
            server.digest,
            int(server.declared),
            at,
        )

    def _see_tool(self, batch: Batch, tool: SeenTool, pin: Pin | None, at: int) -> PinState:
        identity = str(self._server.digest)
        if pin is None or pin.state is PinState.NEW:
            if pin is None or pin.digest != tool.digest or pin.identity != identity:
                old = Digest("") if pin is None else pin.digest
                self._changed(batch, tool, old=old, old_raw=b"" if pin is None else pin.raw, at=at)
                batch.later(
                    _REPLACE, self._key, tool.name, tool.digest, PinState.NEW, at, identity, tool.raw, None, None, None
                )
            return PinState.NEW
        if tool.digest == pin.digest and identity == pin.identity:
            if pin.state is PinState.CHANGED:
                sql = "UPDATE definitions SET state=?, seen=NULL, seen_raw=NULL, seen_identity=NULL"
                batch.later(f"{sql} WHERE server=? AND tool=?", PinState.PINNED, self._key, tool.name)
                self._changed(batch, tool, old=pin.seen or pin.digest, old_raw=pin.seen_raw or pin.raw, at=at)
            return PinState.PINNED
        if pin.seen != tool.digest or pin.seen_identity != identity:
            self._changed(batch, tool, old=pin.digest, old_raw=pin.raw, at=at)
            batch.later(
                "UPDATE definitions SET state=?, seen=?, seen_raw=?, seen_identity=? WHERE server=? AND tool=?",
                PinState.CHANGED,
                tool.digest,
                tool.raw,
                identity,
                self._key,
                tool.name,
            )
        return PinState.CHANGED

    def _changed(self, batch: Batch, tool: SeenTool, *, old: Digest, old_raw: bytes, at: int) -> None:
        fields: dict[str, Json] = {
            "server": self._key,
            "tool": tool.name,
            "old": old or None,
            "new": tool.digest,
            "paths": changed_paths(old_raw, tool.raw) if old_raw else None,
        }
        raw = self._payloads.ready(tool.raw, always_full=True)
        tail = entries.note(Kind.DEFINITION_CHANGED, fields, {"raw": raw.field})
        batch.append(Kind.DEFINITION_CHANGED, tail, at, parts=(("raw", raw),))


class AcceptItem(Item[list[str]]):
    """Pins what was last seen of a server's tools."""

    reads = True

    def __init__(self, server: str, tools: frozenset[str] | None, payloads: Payloads, *, by: str) -> None:
        super().__init__()
        self._server = server
        self._tools = tools
        self._payloads = payloads
        self._by = by

    def apply(self, batch: Batch) -> list[str]:
        """Pin each tool that is new or changed; returns their names."""
        accepted: list[str] = []
        at = batch.now()
        for pin in read_pins(batch.db.execute(f"{_SELECT} WHERE server = ? ORDER BY tool", (self._server,)).fetchall()):
            if pin.state is PinState.PINNED or (self._tools is not None and pin.tool not in self._tools):
                continue
            seen = SeenTool(name=pin.tool, digest=pin.seen or pin.digest, raw=pin.seen_raw or pin.raw)
            identity = pin.seen_identity or pin.identity
            pin_tool(batch, self._payloads, self._server, seen, identity, by=self._by, at=at)
            accepted.append(pin.tool)
        return accepted


def pin_tool(batch: Batch, payloads: Payloads, server: str, tool: SeenTool, identity: str, *, by: str, at: int) -> None:
    """Pin one tool as it was seen."""
    raw: Payload = payloads.ready(tool.raw, always_full=True)
    fields: dict[str, Json] = {"server": server, "tool": tool.name, "digest": tool.digest, "by": by}
    tail = entries.note(Kind.DEFINITION_PINNED, fields, {"raw": raw.field})
    batch.append(Kind.DEFINITION_PINNED, tail, at, parts=(("raw", raw),))
    batch.later(_REPLACE, server, tool.name, tool.digest, PinState.PINNED, at, identity, tool.raw, None, None, None)


def changed_paths(old: bytes, new: bytes) -> list[str]:
    """JSON pointers to what differs between two definitions, at most 50; the whole (`""`) where one does not parse."""
    try:
        before, after = json.loads(old), json.loads(new)
    except ValueError:
        return [""]
    found: list[str] = []
    _compare(before, after, "", found)
    return found[:_PATHS]


def _compare(old: Json, new: Json, path: str, found: list[str]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key in old and key in new:
                _compare(old[key], new[key], inner, found)
            else:
                found.append(inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            _compare(left, right, f"{path}/{index}", found)
    elif type(old) is not type(new) or old != new:
        found.append(path)


def _pin(row: tuple[object, ...]) -> Pin:
    server, tool, digest, state, at, identity, raw, seen, seen_raw, seen_identity = row
    return Pin(
        server=str(server),
        tool=str(tool),
        digest=Digest(str(digest)),
        state=PinState(str(state)),
        at_us=int(str(at)),
        identity=str(identity),
        raw=_bytes(raw),
        seen=None if seen is None else Digest(str(seen)),
        seen_raw=None if seen_raw is None else _bytes(seen_raw),
        seen_identity=None if seen_identity is None else str(seen_identity),
    )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
