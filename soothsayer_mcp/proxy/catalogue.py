"""The lists of several servers, answered as one: whole items in the order of the configuration, bytes as they came."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.policy.decide import visible
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.proxy import merge
from soothsayer_mcp.proxy.connection import SERVER_INFO, HostConnection
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.guidance import Guidance
from soothsayer_mcp.proxy.merge import HiddenItem, Item, ListKind
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.paging import pages_of
from soothsayer_mcp.proxy.pins import Books, ListUnreadableError, items_of
from soothsayer_mcp.proxy.unshown import Unshown
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.frame import Frame

LIST_BOUND_S = 4.0
"""How long the servers may take to list; some hosts give up at 5 s."""

SUBJECTS = {
    ListKind.TOOLS: "tools",
    ListKind.PROMPTS: "prompts",
    ListKind.RESOURCES: "resources",
    ListKind.TEMPLATES: "resources",
}
"""List -> the capability that promises it."""

READ_BY = {ListKind.PROMPTS: ("prompts/get", "name"), ListKind.RESOURCES: ("resources/read", "uri")}
"""List -> the request that reads an item of it, and the param that names the item."""


class Catalogue:
    """The rows of the lists, for several servers."""

    def __init__(
        self,
        connection: HostConnection,
        books: Books,
        gate: Gate,
        *,
        own: Callable[[ListKind], Sequence[bytes] | None],
        unshown: Unshown,
        guidance: Guidance,
    ) -> None:
        """Filter by the policy in force when an answer is made; `own` are listed after those of the servers."""
        self._own = own
        self._connection = connection
        self._books = books
        self._gate = gate
        self._unshown = unshown
        self._guidance = guidance

    async def answer(self, request: HostRequest, kind: ListKind) -> bytes:
        """Make the one answer."""
        connection = self._connection
        servers = [server for server in connection.fleet if server.can(SUBJECTS[kind])]
        own = self._own(kind)
        if not servers and own is None:
            return replies.error(request.id, Code.METHOD_NOT_FOUND, "No server offers such a list.")
        if "cursor" in (request.frame.params or {}):
            return replies.error(request.id, Code.INVALID_PARAMS, "There is no such cursor: all is on one page.")
        pages = await self._pages(request, kind, servers)
        items = self._items(kind, servers, pages)
        policy = connection.policies.current()
        shown = items if policy.mode is Mode.OBSERVE else [item for item in items if self._shows(policy, kind, item)]
        return merge.list_answer(
            request.frame,
            kind,
            [*(item.shown_raw for item in shown), *(own or ())],
            pages=[page for server in servers for page in pages.get(server.name, ())],
            cut=bool(own) or len(shown) < len(items) or len(pages) < len(servers),
            server_info=SERVER_INFO if request.stateless else None,
        )

    async def _pages(
        self, request: HostRequest, kind: ListKind, servers: Sequence[Downstream]
    ) -> dict[str, Sequence[Frame]]:
        envelope = self._connection.envelope_of(request)
        policy = self._connection.policies.current()

        async def ask(server: Downstream) -> Sequence[Frame]:
            if kind is not ListKind.TOOLS:
                edition = self._guidance.edition(server.name)
                pages = await pages_of(server, kind.method, envelope)
                if kind is ListKind.PROMPTS:
                    await self._compare_prompts(server, pages, edition)
                return pages
            book = self._books.of(server)
            book.void()
            await book.read(policy=policy, envelope=envelope)
            return book.pages

        return await self._connection.ask_all(servers, ask, within_s=LIST_BOUND_S, about=kind.method)

    async def _compare_prompts(self, server: Downstream, pages: Sequence[Frame], edition: int) -> None:
        """Raises `PortError`. A list that cannot be read is told, and left out, where it is put together."""
        with suppress(ListUnreadableError):
            items = [item for page in pages for item in items_of(page, ListKind.PROMPTS.member)]
            await self._guidance.learn(server, items, edition=edition)

    def _items(self, kind: ListKind, servers: Sequence[Downstream], pages: dict[str, Sequence[Frame]]) -> list[Item]:
        names = self._connection.fleet.names
        found: list[Item] = []
        hidden: list[HiddenItem] = []
        for server in servers:
            own: list[Item] = []
            try:
                for page in pages.get(server.name, ()):
                    kept, left_out = merge.listed(server.name, page, kind, names)
                    own += kept
                    hidden += left_out
            except merge.ListUnreadableError as error:
                self._connection.log(str(error))
                del pages[server.name]
                continue
            if server.name in pages:
                self._learn(kind, server, own)
            found += [item for item in own if kind is not ListKind.TOOLS or self._is_sendable(server, item)]
        kept, left_out = merge.without_clashes(found, kind)
        self._report(kind, [*hidden, *left_out])
        return kept

    def _is_sendable(self, server: Downstream, item: Item) -> bool:
        why = server.unsendable(item.name)
        if why:
            self._unshown.tell(ListKind.TOOLS, server.name, item.name, why)
        return not why

    def _shows(self, policy: Policy, kind: ListKind, item: Item) -> bool:
        if kind is ListKind.TOOLS:
            server = self._connection.fleet.named(item.server)
            tool = None if server is None else self._books.of(server).listed(item)
            return tool is not None and visible(policy, tool, self._connection.principal)
        read_by = READ_BY.get(kind)
        if read_by is None:
            return True
        server = self._connection.fleet.named(item.server)
        if kind is ListKind.PROMPTS and (server is None or not self._guidance.shows(server, item)):
            return False
        method, member = read_by
        return self._gate.decide(item.server, method, {member: item.name}).effect is Effect.ALLOW

    def _learn(self, kind: ListKind, server: Downstream, items: Sequence[Item]) -> None:
        owners = self._connection.owners
        if kind is ListKind.RESOURCES:
            owners.learn_listed(server.name, [item.name for item in items])
        elif kind is ListKind.TEMPLATES:
            for text in owners.learn_templates(server.name, [item.name for item in items]):
                self._connection.log(f"{server.name}: the template {text!a} cannot be read, so no resource matches it")

    def _report(self, kind: ListKind, hidden: Sequence[HiddenItem]) -> None:
        """Nothing is left out in silence; each once."""
        for item in hidden:
            self._unshown.tell(kind, item.server, item.name, f"{item.why} {item.like!a}" if item.like else item.why)
