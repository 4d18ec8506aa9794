"""What a server offers, shown without what policy would refuse for certain; all that is shown stays byte for byte."""

from collections.abc import Sequence
from functools import partial

from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.decide import visible
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Note, PortError
from soothsayer_mcp.proxy.catalogue import READ_BY, Catalogue
from soothsayer_mcp.proxy.connection import COMPLETE, SERVER_INFO, HostConnection, mended, unread
from soothsayer_mcp.proxy.control import TABLE, is_control_name
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.guidance import Guidance
from soothsayer_mcp.proxy.masks import Masks
from soothsayer_mcp.proxy.merge import ListKind, list_answer
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.proxy.own import Own
from soothsayer_mcp.proxy.paging import next_cursor
from soothsayer_mcp.proxy.pins import Books, Item, ListUnreadableError, ToolBook, items_of
from soothsayer_mcp.proxy.unshown import Unshown
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.frame import Edit, Frame, FrameKind, Items, Replace

PRIVATE = Replace(("result", "cacheScope"), b'"private"')


class Lists:
    """The rows of the lists."""

    def __init__(
        self, connection: HostConnection, books: Books, gate: Gate, masks: Masks, *, own: Own, guidance: Guidance
    ) -> None:
        """Filter by the policy in force when an answer comes."""
        self._connection = connection
        self._books = books
        self._gate = gate
        self._masks = masks
        self._own = own
        self._guidance = guidance
        self._unshown = Unshown(connection)
        self._catalogue = Catalogue(
            connection, books, gate, own=self._own_items, unshown=self._unshown, guidance=guidance
        )

    def tools(self, request: HostRequest) -> None:
        """`tools/list`: the tools that are not denied for certain, by the decision function that calls go through."""
        server = self._connection.fleet.only
        if server is None:
            self._connection.spawn(self._answer_of_all, request, ListKind.TOOLS)
            return
        edition = self._books.of(server).edition

        def then(answer: Frame) -> bytes | None:
            if answer.kind is FrameKind.ERROR:
                own = self._own_tools()
                return (
                    self._only_own(request, ListKind.TOOLS, own)
                    if own and _has_no_list(answer)
                    else self._masks.answer(request, server.name, answer).raw
                )
            self._connection.spawn(self._show_tools, request, server, answer, edition)
            return None

        self._connection.pass_on(request, server, then=then, read=unread)

    def resources(self, request: HostRequest) -> None:
        """`resources/list`: the resources whose reading would not be refused."""
        self._list(request, ListKind.RESOURCES)

    def templates(self, request: HostRequest) -> None:
        """`resources/templates/list`: all of them; what comes of a template is decided when it is read."""
        self._list(request, ListKind.TEMPLATES)

    def prompts(self, request: HostRequest) -> None:
        """`prompts/list`: the prompts that could be got, without those that are not what was accepted."""
        server = self._connection.fleet.only
        if server is None:
            self._connection.spawn(self._answer_of_all, request, ListKind.PROMPTS)
            return
        edition = self._guidance.edition(server.name)

        def then(answer: Frame) -> bytes | None:
            if answer.kind is FrameKind.ERROR:
                return self._masks.whole(
                    request, (server.name,), self._listed(request, server, ListKind.PROMPTS, answer)
                )
            self._connection.spawn(self._show_prompts, request, server, answer, edition)
            return None

        self._connection.pass_on(request, server, then=then, read=unread)

    async def _show_prompts(self, request: HostRequest, server: Downstream, answer: Frame, edition: int) -> None:
        policy = self._connection.policies.current()
        try:
            await self._compare_prompts(request, server, answer, edition)
            shown = self._listed(request, server, ListKind.PROMPTS, answer)
        except PortError as error:
            shown = self._unreadable(request, server, error.summary, answer, policy)
        except ListUnreadableError as error:
            shown = self._unreadable(request, server, f"{server.name} {error}", answer, policy)
        request.answer(self._masks.whole(request, (server.name,), shown))

    async def _compare_prompts(self, request: HostRequest, server: Downstream, answer: Frame, edition: int) -> None:
        """Raises `PortError` and `ListUnreadableError`."""
        guidance, items = self._guidance, items_of(answer, ListKind.PROMPTS.member)
        if next_cursor(answer) is None and "cursor" not in (request.frame.params or {}):
            await guidance.learn(server, items, edition=edition)
        envelope = self._connection.envelope_of(request)
        await guidance.read(server, envelope)
        if not all(item is None or guidance.knows(server.name, item) for item in items):
            # The page shows something else than what was compared: the list changed under it.
            guidance.void(server.name)
            await guidance.read(server, envelope)

    # -- tools --------------------------------------------------------------------------------------------------------

    async def _show_tools(self, request: HostRequest, server: Downstream, answer: Frame, edition: int) -> None:
        policy = self._connection.policies.current()
        try:
            shown = await self._shown_tools(request, server, answer, edition, policy)
        except PortError as error:
            shown = self._unreadable(request, server, error.summary, answer, policy)
        except ListUnreadableError as error:
            shown = self._unreadable(request, server, f"{server.name} {error}", answer, policy)
        request.answer(self._masks.whole(request, (server.name,), shown))

    async def _shown_tools(
        self, request: HostRequest, server: Downstream, answer: Frame, edition: int, policy: Policy
    ) -> bytes:
        book = self._books.of(server)
        items = book.elements(answer)
        if next_cursor(answer) is None and "cursor" not in (request.frame.params or {}):
            await book.learn([item for item in items if item is not None], edition=edition, policy=policy)
        envelope = self._connection.envelope_of(request)
        await book.read(policy=policy, envelope=envelope)
        if not all(item is None or book.listed(item) for item in items):
            # The page shows something else than what was compared: the list changed under it.
            book.void()
            await book.read(policy=policy, envelope=envelope)
        own = self._own_tools() if next_cursor(answer) is None else ()
        if self._left_out(server, items) == 0 and policy.mode is Mode.OBSERVE and not self._connection.control_tools:
            return mended(answer, request)
        sees = partial(self._sees, policy, server, book)
        keep = [at for at, item in enumerate(items) if item is not None and sees(item)]
        hides = len(keep) < len(items) or not all(map(sees, book.items))
        return self._cut(request, server, answer, "tools", keep=keep, of=len(items), hides=hides, extra=own)

    def _left_out(self, server: Downstream, items: Sequence[Item | None]) -> int:
        """Count what is left out whatever policy says; none of it in silence."""
        found = 0
        for item in items:
            why = "" if item is None else self._why_left_out(server, item)
            if item is not None and why:
                found += 1
                self._unshown.tell(ListKind.TOOLS, server.name, item.name, why)
        return found

    def _why_left_out(self, server: Downstream, item: Item) -> str:
        if self._connection.control_tools and is_control_name(item.name):
            return "a tool of ours has its name"
        return server.unsendable(item.name)

    def _own_tools(self) -> tuple[bytes, ...]:
        """The control tools that policy shows, where the model has them; on the last page of every list."""
        connection = self._connection
        if not connection.control_tools:
            return ()
        policy = connection.policies.current()
        made = [tool.definition for tool in TABLE]
        return tuple(tool.raw for tool in made if visible(policy, tool, connection.principal))

    def _own_items(self, kind: ListKind) -> tuple[bytes, ...] | None:
        return (self._own_tools() or None) if kind is ListKind.TOOLS else self._own.listed(kind)

    @staticmethod
    def _only_own(request: HostRequest, kind: ListKind, own: Sequence[bytes]) -> bytes:
        """The list where the server has none."""
        stateless = SERVER_INFO if request.stateless else None
        return list_answer(request.frame, kind, own, pages=(), cut=True, server_info=stateless)

    def _sees(self, policy: Policy, server: Downstream, book: ToolBook, item: Item) -> bool:
        if self._why_left_out(server, item):
            return False
        if policy.mode is Mode.OBSERVE:
            return True
        tool = book.listed(item)
        return tool is not None and visible(policy, tool, self._connection.principal)

    def _unreadable(self, request: HostRequest, server: Downstream, why: str, answer: Frame, policy: Policy) -> bytes:
        """A list that cannot be filtered is an error, never shown as it is; observing changes no byte."""
        if policy.mode is Mode.OBSERVE:
            return mended(answer, request)
        self._connection.dropped(
            answer.raw, "list_unreadable", origin="server", method=request.method, server=server.name
        )
        return replies.error(request.id, Code.INTERNAL_ERROR, f"{why}.")

    # -- the others ---------------------------------------------------------------------------------------------------

    def _list(self, request: HostRequest, kind: ListKind) -> None:
        server = self._connection.fleet.only
        if server is None:
            self._connection.spawn(self._answer_of_all, request, kind)
            return

        def then(answer: Frame) -> bytes:
            return self._masks.whole(request, (server.name,), self._listed(request, server, kind, answer))

        self._connection.pass_on(request, server, then=then, read=unread)

    def _listed(self, request: HostRequest, server: Downstream, kind: ListKind, answer: Frame) -> bytes:
        if answer.kind is FrameKind.ERROR:
            ours = self._own.listed(kind)
            return answer.raw if ours is None or not _has_no_list(answer) else self._only_own(request, kind, ours)
        policy = self._connection.policies.current()
        if policy.mode is Mode.OBSERVE:
            return mended(answer, request)
        try:
            values = values_of(answer, kind.member)
        except ListUnreadableError as error:
            return self._unreadable(request, server, f"{server.name} {error}", answer, policy)
        keep = [at for at, value in enumerate(values) if self._shows(server, kind, value)]
        hides = len(keep) < len(values)
        own = (self._own.listed(kind) or ()) if next_cursor(answer) is None else ()
        return self._cut(request, server, answer, kind.member, keep=keep, of=len(values), hides=hides, extra=own)

    def _shows(self, server: Downstream, kind: ListKind, value: Json) -> bool:
        named = value.get(kind.identity) if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(named, str):
            return False
        if kind is ListKind.PROMPTS and not self._guidance.shows(server, Item(raw=b"", value=value, name=named)):
            return False
        read_by = READ_BY.get(kind)
        if read_by is None:
            return True
        method, member = read_by
        return self._gate.decide(server.name, method, {member: named}).effect is Effect.ALLOW

    async def _answer_of_all(self, request: HostRequest, kind: ListKind) -> None:
        answer = await self._catalogue.answer(request, kind)
        request.answer(self._masks.whole(request, [server.name for server in self._connection.fleet], answer))

    # -- cutting ------------------------------------------------------------------------------------------------------

    def _cut(
        self,
        request: HostRequest,
        server: Downstream,
        answer: Frame,
        member: str,
        *,
        keep: Sequence[int],
        of: int,
        hides: bool,
        extra: Sequence[bytes] = (),
    ) -> bytes:
        """Take whole elements out. What policy shapes is nobody else's to cache, on every page of it."""
        edits: list[Edit] = []
        result = answer.result
        assert isinstance(result, dict)
        if len(keep) < of or extra:
            edits.append(Items(("result", member), keep, extra))
        if len(keep) < of:
            self._note_hidden(request, server, of - len(keep))
        if hides and result.get("cacheScope", "private") != "private":
            edits.append(PRIVATE)
        if request.stateless and "resultType" not in result:
            edits.append(COMPLETE)
        return answer.edited(*edits)

    def _note_hidden(self, request: HostRequest, server: Downstream, hidden: int) -> None:
        self._connection.store.note_soon(
            Note(
                kind=Kind.MESSAGE_CHECKED,
                fields={
                    "method": request.method,
                    "from": "host",
                    "server": server.name,
                    "effect": Effect.ALLOW.value,
                    "rules": [],
                    "reason": f"hidden: {hidden}",
                    "bytes": len(request.frame.raw),
                },
            )
        )


def _has_no_list(answer: Frame) -> bool:
    code = answer.error.get("code") if isinstance(answer.error, dict) else None
    return code == Code.METHOD_NOT_FOUND


def values_of(answer: Frame, member: str) -> Sequence[Json]:
    """The elements of a list, read strictly. Raises `ListUnreadableError`."""
    result = answer.result
    values = result.get(member) if isinstance(result, dict) else None
    if not isinstance(values, list):
        raise ListUnreadableError(f"answered the list of {member} without {member}")
    if not answer.strict:
        raise ListUnreadableError(f"sent a list of {member} that reads in more than one way")
    return values
