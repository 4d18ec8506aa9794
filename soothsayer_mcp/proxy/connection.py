"""What the parts of a relay share: host, servers, policy and store, and how something is answered or noted."""

import sys
import traceback
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import field
from typing import Any, Final, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from soothsayer_mcp import __version__
from soothsayer_mcp.model.call import DECLARED, Client, Principal
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import REASONS, Reason
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.model.run import Intent
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.model.tier import Tier
from soothsayer_mcp.model.undo import Done
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.decide import could_ask
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Clock, Ids, Leg, Look, Note, PortError, Servers, Shelf, Store
from soothsayer_mcp.proxy import merge
from soothsayer_mcp.proxy.downstream import Downstream, Limits
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.owed import HostRequest, Owed
from soothsayer_mcp.proxy.paging import Envelope
from soothsayer_mcp.proxy.people import AskSettings, Seals
from soothsayer_mcp.proxy.resources import Owners
from soothsayer_mcp.settling import ReadBacks
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import META_CLIENT_CAPABILITIES, META_CLIENT_INFO, META_PROTOCOL_VERSION
from soothsayer_mcp.wire.frame import Frame, FrameKind, Insert
from soothsayer_mcp.wire.ids import Mint
from soothsayer_mcp.wire.places import Path
from soothsayer_mcp.wire.strict import read_server

T = TypeVar("T")

OUR_INFO: Final[JsonObject] = {"name": "soothsayer", "title": "Soothsayer MCP", "version": __version__}
SERVER_INFO: Final = compact(OUR_INFO)
"""What hosts of several servers are told of who serves them."""

META_RUN = "dev.soothsayer/run"
"""Where a host may name the run that a request belongs to."""
HOST_UNKNOWN = Client(name="")
WHY_BYTES: Final = 300
"""Of a reason in words that an entry keeps."""
SHOWN = 80
"""Characters of a name from outside that a text repeats."""
COMPLETE = Insert(("result",), "resultType", b'"complete"')


class Policies(Protocol):
    """The policy in force, and a look at whether its files changed."""

    def current(self) -> Policy:
        """The policy that decides now."""
        ...

    def check(self) -> object:
        """Load the files again if they changed; what does not load leaves the policy as it is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a relay is given beside its host and its servers."""

    store: Store
    shelf: Shelf
    policies: Policies
    look: Look
    principal: Principal
    workspace: str
    clock: Clock
    ids: Ids
    log: Callable[[str], None]
    cleaned: Callable[[bytes], bytes]
    """What of a text from outside people may read in the log: secrets are masked."""
    named_run: str = ""
    control_tools: bool = False
    """Whether the model has tools to ask about its own run."""
    explicit_run: bool = False
    """Whether a call that no run was named or opened for is refused."""
    intent: Intent | None = None
    """What the work is for, of a run that is opened here."""
    limits: Limits = field(default_factory=Limits)
    tiers: Mapping[str, Tier] = field(default_factory=dict[str, Tier])
    """The model tiers of the configuration, by name."""
    seals: Seals | None = None
    """How what a host carries for us is sealed; without it, what is refused within a result refuses the whole."""
    asks: AskSettings | None = None
    """How people are asked about calls; `None` where nobody ever is."""
    undo: Callable[[ClosedStep, Servers], Awaitable[Done]] | None = None
    """Undoes a step that has just ended; raises `PortError`. `None` where nothing can be."""
    settling: ReadBacks | None = None
    """Settles steps whose outcome is not known; `None` where only late answers and people do."""


class HostConnection:
    """One host connection."""

    def __init__(self, host: Leg, fleet: Fleet, around: Surroundings) -> None:
        """Nothing is read before the relay runs."""
        self.fleet = fleet
        self.store = around.store
        self.policies = around.policies
        self.look = around.look
        self.principal = around.principal
        self.workspace = around.workspace
        self.clock = around.clock
        self.ids = around.ids
        self.log = around.log
        self.cleaned = around.cleaned
        self.seals = around.seals
        self.undo = around.undo
        self.settling = around.settling
        self.named_run = around.named_run
        self.control_tools = around.control_tools
        self.explicit_run = around.explicit_run
        self.intent = around.intent
        self.limits = around.limits
        self.tiers = around.tiers
        self.mint = Mint(around.ids.token())
        self.owed = Owed()
        self.owners = Owners([server.name for server in fleet])
        """Which server a resource belongs to, where there are several."""
        self.client = HOST_UNKNOWN
        """What the host said of itself in its `initialize`."""
        self.offers: Mapping[str, Json] = {}
        """The capabilities it declared there."""
        self.left = False
        """Whether the host is gone, so that nobody waits for anything."""
        self.version = ""
        """The negotiated handshake version; empty before it is."""
        self.listening = False
        """Whether the host said `notifications/initialized`."""
        self.tasks: TaskGroup | None = None
        self.shown: Callable[[HostRequest, str, Frame], Frame] = _as_it_came
        """What the host may read of an answer; the relay sets it."""
        self._host = host
        self._frames_sent = 0
        self._forbidden_by: Policy | None = None
        self._forbidden: dict[str, tuple[Path, ...]] = {}
        self._paused = False

    # -- towards the host ---------------------------------------------------------------------------------------------

    def send(self, raw: bytes) -> None:
        """Send a frame to the host."""
        self._frames_sent += 1
        self._host.send(raw)

    def relieve(self) -> None:
        """Stop reading the servers while too much waits for the host."""
        waiting = self._host.waiting_bytes
        if waiting == 0:
            self._frames_sent = 0
        elif not self._paused and (
            self._frames_sent > self.limits.waiting_frames or waiting > self.limits.waiting_bytes
        ):
            self._paused = True
            self.fleet.pause()
            self.spawn(self._resume_when_drained)

    async def _resume_when_drained(self) -> None:
        await self._host.drained()
        self._frames_sent = 0
        self._paused = False
        self.fleet.resume()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def spawn(self, task: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Run a task for as long as the connection lives."""
        assert self.tasks is not None
        self.tasks.start_soon(self._edge, task, args)

    async def _edge(self, task: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...]) -> None:
        try:
            await task(*args)
        except Exception:  # noqa: BLE001 - the edge of a task: a fault of ours ends what it was for and nothing else
            self.fault()
            for request in args:
                if isinstance(request, HostRequest):
                    self.fail(request)

    def fault(self) -> None:
        """Tell people of a fault of ours, from within the `except` that caught it."""
        self.log(f"a fault of Soothsayer's own; please report it:\n{where(sys.exc_info()[1])}")

    def fail(self, request: HostRequest) -> None:
        """Answer a request that a fault of ours has ended."""
        self.dropped(
            request.frame.raw,
            Reason.INTERNAL_ERROR,
            origin="host",
            method=request.method,
            answered=not request.answered,
        )
        request.answer(replies.error(request.id, Code.INTERNAL_ERROR, "Soothsayer failed; its log holds the cause."))

    def envelope_of(self, request: HostRequest) -> Envelope:
        """What requests of our own carry when this one causes them: its era and version, and no promise of ours."""
        if not request.stateless:
            return Envelope(meta=None)
        return Envelope(
            meta={
                META_PROTOCOL_VERSION: request.frame.meta.get(META_PROTOCOL_VERSION),
                META_CLIENT_INFO: {"name": "soothsayer", "version": __version__},
                META_CLIENT_CAPABILITIES: {},
            }
        )

    def forbidden(self, server: str) -> tuple[Path, ...]:
        """What of a host's capabilities a server is not shown: policy lets nothing through that it would ask for."""
        policy = self.policies.current()
        if policy is not self._forbidden_by:
            self._forbidden_by, self._forbidden = policy, {}
        found = self._forbidden.get(server)
        if found is None:
            denied = (m for m in merge.ASKED_BY if not could_ask(policy, self.principal, server, m))
            found = self._forbidden[server] = tuple(path for method in denied for path in merge.ASKED_BY[method])
        return found

    def narrowed(self, server: str, raw: bytes) -> bytes:
        """A request of the host, without the capabilities that its server is not shown."""
        forbidden = self.forbidden(server)
        if not forbidden:
            return raw
        frame = read_server(raw)
        return frame.edited(*merge.capability_edits(frame, forbidden))

    def client_of(self, request: HostRequest) -> Client:
        """Who asks: of the request's own envelope in the stateless era, else of the opening."""
        if not request.stateless:
            return self.client
        meta = request.frame.meta
        return client_named(meta.get(META_CLIENT_INFO), meta.get(META_CLIENT_CAPABILITIES))

    # -- asking a server for the host ---------------------------------------------------------------------------------

    def pass_on(
        self,
        request: HostRequest,
        server: Downstream,
        *,
        raw: bytes | None = None,
        then: Callable[[Frame], bytes | None] | None = None,
        read: Callable[[Frame], Frame] | None = None,
    ) -> None:
        """Send a request to a server and its answer to the host, unchanged unless `then` edits it.

        `then` answers `None` when it sees to the answer itself, later. `read` gives what the host may read of the
        answer; without it, what policy masks in the answers to such requests is masked.
        """
        request.servers = (server.name,)

        def answered(answer: Frame | PortError) -> None:
            if isinstance(answer, PortError):
                self._unanswered(request, server, answer)
                return
            if request.stateless and answer.kind is FrameKind.RESULT:
                server.discovered = True
            try:
                readable = self.shown(request, server.name, answer) if read is None else read(answer)
                edited = mended(readable, request) if then is None else then(readable)
            except Exception:  # noqa: BLE001 - an edge as well: nobody above could answer this request
                self.fault()
                self.fail(request)
                return
            if edited is not None:
                request.answer(edited)

        raw = request.frame.raw if raw is None else raw
        if request.stateless or request.method == "initialize":
            raw = self.narrowed(server.name, raw)
        server.request(request.key, raw, answered, standing=request.standing)

    def _unanswered(self, request: HostRequest, server: Downstream, error: PortError) -> None:
        """Answer a request whose server gave no answer, and put on record why."""
        self.dropped(
            request.frame.raw,
            error.reason,
            origin="host",
            method=request.method,
            server=server.name,
            answered=not request.cancelled,
            why=error.summary,
        )
        request.answer(replies.error(request.id, Code.INTERNAL_ERROR, error.summary))

    async def ask_all(
        self,
        servers: Collection[Downstream],
        ask: Callable[[Downstream], Coroutine[Any, Any, T]],
        *,
        within_s: float,
        about: str,
    ) -> dict[str, T]:
        """Ask servers at once: what each found, by name. Who takes longer goes on without being waited for.

        A server that fails is left out and named in the log: its trouble is not the others'.
        """
        found: dict[str, T] = {}
        waiting = {server.name for server in servers}
        done = anyio.Event()

        async def one(server: Downstream) -> None:
            try:
                found[server.name] = await ask(server)
            except PortError as error:
                self.log(f"{about}: {error.summary}")
                self.dropped(b"", error.reason, origin="host", server=server.name, why=f"{about}: {error.summary}")
            waiting.discard(server.name)
            if not waiting:
                done.set()

        for server in servers:
            self.spawn(one, server)
        with anyio.move_on_after(within_s):
            if waiting:
                await done.wait()
        if waiting:
            self.log(f"{about}: not waited for any longer: {', '.join(sorted(waiting))}")
        return dict(found)

    # -- on record ----------------------------------------------------------------------------------------------------

    def dropped(
        self,
        raw: bytes,
        reason: str,
        *,
        origin: str,
        method: str = "",
        server: str = "",
        answered: bool = False,
        why: str = "",
    ) -> None:
        """Put on record that a message went no further; `why` is told in our own words, secrets masked."""
        fields: dict[str, Json] = {"from": origin, "reason": reason, "bytes": len(raw), "answered": answered}
        if server:
            fields = {"server": server, **fields}
        if method:
            fields = {"method": method, **fields}
        if why:
            fields["why"] = self.cleaned(why.encode(errors="replace"))[:WHY_BYTES].decode(errors="replace")
        self.store.note_soon(Note(kind=Kind.MESSAGE_DROPPED, fields=fields))

    @staticmethod
    def checked(method: str, decision: Decision, *, origin: str, server: str, size: int) -> Note:
        """The entry of a message that policy has answered."""
        fields: dict[str, Json] = {
            "method": method,
            "from": origin,
            "server": server,
            "effect": decision.effect.value,
            "rules": [rule.id for rule in decision.rules],
            "bytes": size,
        }
        if decision.reason is not None:
            fields["reason"] = decision.reason.value
        return Note(kind=Kind.MESSAGE_CHECKED, fields=fields)

    def nobody(self, request: HostRequest, code: Code, text: str) -> None:
        """Answer a request that no server here is for; it goes no further."""
        self.dropped(request.frame.raw, "nobody_has_it", origin="host", method=request.method, answered=True)
        request.answer(replies.error(request.id, code, text))

    def refuse(self, request: HostRequest, reason: Reason, summary: str) -> None:
        """Answer what is no tool call with a policy refusal."""
        request.answer(replies.error(request.id, Code.POLICY, *refusal(reason, summary)))


def _as_it_came(_request: HostRequest, _server: str, answer: Frame) -> Frame:
    return answer


def unread(answer: Frame) -> Frame:
    """The answer as it came, for who masks it later."""
    return answer


def where(error: BaseException | None) -> str:
    """Tell what was raised and from where, without its text: an exception may quote what a host or a server sent."""
    told: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        told += [type(error).__name__, *map(str.rstrip, traceback.format_tb(error.__traceback__))]
        error = error.__cause__ or error.__context__
    return "\n".join(told)


def refusal(reason: Reason, summary: str) -> tuple[str, JsonObject]:
    """The message and the data of a refusal of anything but a tool call (protocol.md 5)."""
    guidance = REASONS[reason]
    return guidance.first_line.format(summary=summary), {
        "class": guidance.failure.value,
        "reason": reason.value,
        "step": None,
    }


def mended(answer: Frame, request: HostRequest) -> bytes:
    """The answer as it came; a stateless result without `resultType`, which clients reject, gets it.

    The only repair.
    """
    return with_result_type(answer) if request.stateless else answer.raw


def with_result_type(answer: Frame) -> bytes:
    """A result with `resultType`; put in only when it is missing."""
    result = answer.result
    if not isinstance(result, dict) or "resultType" in result:
        return answer.raw
    return answer.edited(COMPLETE)


def client_named(info: Json, capabilities: Json) -> Client:
    """Read a `clientInfo` and what is declared beside it, which decide nothing."""
    if not isinstance(info, dict):
        return HOST_UNKNOWN
    name, version = info.get("name"), info.get("version")
    return Client(
        name=name if isinstance(name, str) else "",
        version=version if isinstance(version, str) else "",
        declares=_declared(capabilities) if isinstance(capabilities, dict) and capabilities else (),
    )


def _declared(capabilities: Mapping[str, Json]) -> tuple[str, ...]:
    """Which of the capabilities that we tell apart are declared, in the order of their names."""
    found: list[str] = []
    for name in DECLARED:
        outer, _, inner = name.partition(".")
        held = capabilities.get(outer)
        if held is not None and (not inner or (isinstance(held, Mapping) and held.get(inner) is not None)):
            found.append(name)
    return tuple(found)


def quoted(name: str) -> str:
    """A name from outside, cut and with nothing in it that could pass for our own words."""
    return ascii(name[:SHOWN])


def text_of(mapping: Mapping[str, Json] | None, member: str) -> str | None:
    """A text member; `None` when it is absent or no text."""
    found = None if mapping is None else mapping.get(member)
    return found if isinstance(found, str) else None
