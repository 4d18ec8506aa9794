"""Each server's tools as it lists them on this connection, compared with what was pinned before any call.

No call is forwarded to a tool whose present definition was not compared on this connection; `list_changed` and a
restart void the comparison (P-IDENT-01).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

import anyio

from soothsayer_mcp.model.call import ArgumentFault, PinState, ToolDefinition
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Digest, Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Compared, PortError, SeenTool, Store
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.names import shadowed
from soothsayer_mcp.proxy.paging import Envelope, pages_of
from soothsayer_mcp.wire.frame import Frame

FRESH_NS = 1_000_000_000
"""How long an unknown name is believed to be unknown before the server is asked once more."""
ROUNDS = 3
"""How often a list is fetched again because it changed while it was read."""

Check: TypeAlias = Callable[[Json], ArgumentFault | None]
Compile: TypeAlias = Callable[[Json], Check | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schemas:
    """Makes checks of JSON Schemas; `None` for a schema that cannot be used."""

    arguments: Compile
    result: Compile


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One element of a list of tools, as it came."""

    raw: bytes
    value: JsonObject
    name: str


class Listed(Protocol):
    """One listed tool, however it was read."""

    @property
    def name(self) -> str:
        """The server's own name."""
        ...

    @property
    def raw(self) -> bytes:
        """The wire object as it came."""
        ...

    @property
    def value(self) -> Mapping[str, Json]:
        """The same, read."""
        ...


class ListUnreadableError(Exception):
    """A list that does not read in exactly one way, or is none. Its text follows the server's name."""


class _Seen:
    """A tool on view: what was compared, and its definition once somebody needs it."""

    __slots__ = ("compiled", "definition", "value")

    def __init__(self, definition: ToolDefinition, value: JsonObject) -> None:
        self.definition = definition
        self.value = value
        self.compiled = False


class ToolBook:
    """The tools of one server on this connection."""

    def __init__(
        self,
        server: Downstream,
        *,
        store: Store,
        schemas: Schemas,
        now_ns: Callable[[], int],
        log: Callable[[str], None],
    ) -> None:
        """Nothing is compared yet."""
        self.server = server
        self._store = store
        self._schemas = schemas
        self._now_ns = now_ns
        self._log = log
        self._tools: dict[str, _Seen] = {}
        self._states = Compared(states={})
        self._items: list[Item] = []
        self._pages: list[Frame] = []
        self._last: tuple[tuple[bytes, bytes], list[Item | None]] | None = None
        self._compared = False
        self._voided = 0
        self._learned_ns = 0
        self._reading: anyio.Event | None = None

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def compared(self) -> bool:
        """Whether the whole list was compared and nothing has voided that."""
        return self._compared

    @property
    def edition(self) -> int:
        """Grows with every void: an answer to an older edition's request is no comparison of this one."""
        return self._voided

    @property
    def pages(self) -> Sequence[Frame]:
        """The list as the server sent it when it was last read whole, page by page."""
        return self._pages

    @property
    def items(self) -> Sequence[Item]:
        """The whole list, in the server's order."""
        return self._items

    def void(self) -> None:
        """Forget the comparison: the list may be another now."""
        self._voided += 1
        self._compared = False

    def definition(self, name: str) -> ToolDefinition | None:
        """A compared tool, ready to check arguments; `None` when the server lists none of that name."""
        seen = self._tools.get(name)
        if seen is None:
            return None
        if not seen.compiled:
            seen.definition = self._compiled(seen)
            seen.compiled = True
        return seen.definition

    def elements(self, answer: Frame) -> list[Item | None]:
        """Read the elements of a list of tools strictly, as `items_of` does; the same list is not read again."""
        said = _but_for_its_id(answer)
        if self._last is None or self._last[0] != said:
            self._last = said, items_of(answer, "tools")
        return self._last[1]

    def listed(self, item: Listed) -> ToolDefinition | None:
        """The compared tool that a list's element shows; `None` when it shows another definition than was compared."""
        seen = self._tools.get(item.name)
        if seen is None or (seen.definition.raw != item.raw and seen.definition.digest != digest_of(item)):
            return None
        return seen.definition

    def vouches(self, tool: ToolDefinition | None) -> bool:
        """Whether a tool still is what was compared, with nothing said since that could have changed it."""
        return self._compared and self._holds(tool)

    def _holds(self, tool: ToolDefinition | None) -> bool:
        seen = None if tool is None else self._tools.get(tool.name)
        if seen is None or tool is None:
            return False
        now = seen.definition
        return now is tool or (now.digest == tool.digest and now.pin is tool.pin)

    # -- comparing ----------------------------------------------------------------------------------------------------

    async def find(self, name: str, *, policy: Policy, envelope: Envelope) -> ToolDefinition | None:
        """Find a tool, listing and comparing first where that was not done. Raises `PortError`, acted no."""
        if not self._compared:
            await self.read(policy=policy, envelope=envelope)
        if name not in self._tools and self._now_ns() - self._learned_ns > FRESH_NS:
            self.void()
            await self.read(policy=policy, envelope=envelope)
        return self.definition(name)

    async def compare(self, tool: ToolDefinition | None, *, policy: Policy, envelope: Envelope) -> None:
        """Compare again. Raises `PortError`, acted no, when a tool is another now than it was decided about."""
        await self.read(policy=policy, envelope=envelope)
        if not self._holds(tool):
            raise PortError(Reason.STATE_CHANGED, "the tool's definition", acted=Acted.NO)

    async def read(self, *, policy: Policy, envelope: Envelope) -> None:
        """List all tools and compare them; who comes meanwhile waits for the same answer. Raises `PortError`."""
        while not self._compared:
            if self._reading is not None:
                await self._reading.wait()
                continue
            self._reading = anyio.Event()
            try:
                await self._read(policy, envelope)
            finally:
                self._reading.set()
                self._reading = None

    async def learn(self, items: Sequence[Item], *, edition: int, policy: Policy) -> bool:
        """Compare a whole list. False when it was voided meanwhile, which leaves it uncompared. Raises `PortError`."""
        seen: dict[str, Item] = {}
        doubled: set[str] = set()
        for item in items:
            first = seen.setdefault(item.name, item)
            if first is not item and digest_of(first) != digest_of(item):
                doubled.add(item.name)
        tools = [SeenTool(name=name, digest=self._digest(item), raw=item.raw) for name, item in seen.items()]
        states = await self._compare(tools, policy)
        if edition != self._voided:
            return False
        alike = shadowed(seen).union(doubled)
        for name in sorted(alike):
            self._log(f"{self.server.name}: tool {name!a} looks like another tool; policy `pins: shadowed` decides")
        before = self._tools
        self._tools = {
            tool.name: _seen(
                before.get(tool.name), self._define(seen[tool.name], tool.digest, states, alike), seen[tool.name]
            )
            for tool in tools
        }
        self._states = states
        self._items = [seen[tool.name] for tool in tools]
        self._learned_ns = self._now_ns()
        self._compared = True
        return True

    async def _compare(self, tools: Sequence[SeenTool], policy: Policy) -> Compared:
        """What the pins say of a list; while they cannot be read, what they said of the very same one.

        That shows tools only: a call still needs its intent on record. Raises `PortError`.
        """
        first = policy.pins.first is None
        try:
            return await self._store.compare_definitions(self.server.identity, tools, trust_first=first)
        except PortError:
            if {tool.name: tool.digest for tool in tools} != {
                name: known.definition.digest for name, known in self._tools.items()
            }:
                raise
            return self._states

    async def _read(self, policy: Policy, envelope: Envelope) -> None:
        for _ in range(ROUNDS):
            edition = self._voided
            if await self.learn(await self._fetch(envelope), edition=edition, policy=policy):
                return
        raise PortError(
            Reason.SERVER_UNREACHABLE, f"{self.server.name} keeps changing its list of tools", acted=Acted.NO
        )

    async def _fetch(self, envelope: Envelope) -> list[Item]:
        self._pages = await pages_of(self.server, "tools/list", envelope)
        try:
            return [item for page in self._pages for item in self.elements(page) if item is not None]
        except ListUnreadableError as error:
            summary = f"{self.server.name} {error}"
            raise PortError(Reason.SERVER_UNREACHABLE, summary, acted=Acted.NO) from error

    # -- making definitions -------------------------------------------------------------------------------------------

    def _digest(self, item: Item) -> Digest:
        seen = self._tools.get(item.name)
        return seen.definition.digest if seen is not None and seen.definition.raw == item.raw else digest_of(item)

    def _define(self, item: Item, its_digest: Digest, states: Compared, alike: frozenset[str]) -> ToolDefinition:
        annotations = item.value.get("annotations")
        return ToolDefinition(
            server=self.server.name,
            name=item.name,
            raw=item.raw,
            digest=its_digest,
            # A tool that the store did not answer for was never reviewed.
            pin=PinState.SHADOWED if item.name in alike else states.states.get(item.name, PinState.NEW),
            moved=item.name in states.moved,
            annotations=annotations if isinstance(annotations, dict) else {},
            properties=_properties(item.value.get("inputSchema")),
        )

    def _compiled(self, seen: _Seen) -> ToolDefinition:
        schema, output = seen.value.get("inputSchema"), seen.value.get("outputSchema")
        check = self._schemas.arguments(schema) if isinstance(schema, dict) else None
        return replace(
            seen.definition,
            properties=None if check is None else seen.definition.properties,
            check_arguments=check,
            check_result=self._schemas.result(output) if isinstance(output, dict) else None,
        )


class Books:
    """The tools of every server, as compared on this connection."""

    def __init__(
        self,
        servers: Iterable[Downstream],
        *,
        store: Store,
        schemas: Schemas,
        now_ns: Callable[[], int],
        log: Callable[[str], None],
    ) -> None:
        """Nothing is compared yet."""
        self._books = {
            server.name: ToolBook(server, store=store, schemas=schemas, now_ns=now_ns, log=log) for server in servers
        }

    def of(self, server: Downstream) -> ToolBook:
        """The tools of one server."""
        return self._books[server.name]


def digest_of(item: Listed) -> Digest:
    """The digest of a definition: over the canonical form of the whole wire object, whatever members it has."""
    return digest(canonical(item.value))


def items_of(answer: Frame, member: str) -> list[Item | None]:
    """Read the elements of a list strictly; `None` for one that is no object with a name.

    Raises `ListUnreadableError`: a list that reads two ways is never used.
    """
    result = answer.result
    if not isinstance(result, dict):
        raise ListUnreadableError(f"answered the list of {member} with no result")
    values = result.get(member)
    if not isinstance(values, list):
        raise ListUnreadableError(f"answered the list of {member} without {member}")
    if not answer.strict:
        raise ListUnreadableError(f"sent a list of {member} that reads in more than one way")
    raws = answer.items(("result", member))
    return [_item(raw, value) for raw, value in zip(raws, values, strict=True)]


def _but_for_its_id(answer: Frame) -> tuple[bytes, bytes]:
    """What stands before and after the id, wherever that is: two answers with the same say the same."""
    before, _, after = answer.raw.partition(compact(answer.id))
    return before, after


def _item(raw: bytes, value: Json) -> Item | None:
    if not isinstance(value, dict):
        return None
    name = value.get("name")
    return Item(raw=raw, value=value, name=name) if isinstance(name, str) else None


def _seen(before: _Seen | None, now: ToolDefinition, item: Item) -> _Seen:
    """A tool on view; what was compiled is kept while the definition is the same."""
    seen = _Seen(now, item.value)
    if before is not None and before.compiled and before.definition.digest == now.digest:
        old = before.definition
        seen.definition = replace(
            now,
            properties=old.properties,
            check_arguments=old.check_arguments,
            check_result=old.check_result,
        )
        seen.compiled = True
    return seen


def _properties(schema: Json) -> frozenset[str] | None:
    if not isinstance(schema, dict):
        return None
    properties = schema.get("properties", {})
    return frozenset(properties) if isinstance(properties, dict) else None
