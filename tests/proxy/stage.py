"""A host and scripted servers around a relay, all in memory: tests say what each side sends and read what came."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

import anyio

from soothsayer_mcp.adapters.store.masking import cleaned
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.call import ArgumentFault, RunId
from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.json import Digest, Json, JsonObject, digest
from soothsayer_mcp.model.run import RunBinding
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import PortError, ServerIdentity
from soothsayer_mcp.proxy.connection import Surroundings
from soothsayer_mcp.proxy.downstream import Limits, ServerEntry
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.people import AskSettings, Seals
from soothsayer_mcp.proxy.pins import Check, Schemas
from soothsayer_mcp.proxy.relay import Relay
from soothsayer_mcp.testing.asks import MemoryAsks
from soothsayer_mcp.testing.factories import make_policy
from soothsayer_mcp.testing.world import PRINCIPAL, CountingIds, MemoryLeg, SteppingClock, World

BOUND_S = 30.0

STATELESS_META = '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",\
"io.modelcontextprotocol/clientCapabilities":{}}'

Reply = Callable[["ServerLeg", JsonObject], None]


def read(raw: bytes) -> JsonObject:
    return cast("JsonObject", json.loads(raw))


def _answers(raw: bytes, request_id: object) -> bool:
    value = cast("Json", json.loads(raw))
    if not isinstance(value, dict) or "method" in value or "id" not in value:
        return False
    return value["id"] == request_id and type(value["id"]) is type(request_id)


def echo_tool(name: str = "echo") -> str:
    return json.dumps({"name": name, "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}})


class WatchedLeg(MemoryLeg):
    """A leg in memory whose sent frames can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._news = anyio.Event()

    def send(self, raw: bytes) -> None:
        super().send(raw)
        self._news.set()
        self._news = anyio.Event()

    async def drained(self) -> bool:
        await self.until(lambda: not self.unread or self.closed)
        return not self.unread

    def read_all(self) -> None:
        super().read_all()
        self._news.set()
        self._news = anyio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(BOUND_S):
            while not holds():
                await self._news.wait()

    def messages(self) -> list[JsonObject]:
        return [cast("JsonObject", json.loads(raw)) for raw in self.sent]


class HostLeg(WatchedLeg):
    """The host's end."""

    def say(self, *lines: str | bytes) -> None:
        self.feed(*[line.encode() if isinstance(line, str) else line for line in lines])

    async def answer(self, request_id: object) -> bytes:
        found: list[bytes] = []

        def holds() -> bool:
            found[:] = [raw for raw in self.sent if _answers(raw, request_id)]
            return bool(found)

        await self.until(holds)
        return found[-1]

    async def ask(self, line: str | bytes, request_id: object = 1) -> JsonObject:
        self.say(line)
        return cast("JsonObject", json.loads(await self.answer(request_id)))

    async def heard(self, method: str, count: int = 1) -> list[bytes]:
        found: list[bytes] = []

        def holds() -> bool:
            found[:] = [raw for raw in self.sent if json.loads(raw).get("method") == method]
            return len(found) >= count

        await self.until(holds)
        return found


class ServerLeg(WatchedLeg):
    """One connection of a scripted server: answers as its replies say, and remembers every line."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        super().__init__()
        self.replies = replies

    def send(self, raw: bytes) -> None:
        super().send(raw)
        if self.closed:
            return
        message = cast("JsonObject", json.loads(raw))
        reply = self.replies.get(str(message.get("method", "")))
        if reply is not None:
            reply(self, message)

    def calls(self) -> list[bytes]:
        return [raw for raw in self.sent if json.loads(raw).get("method") == "tools/call"]

    def methods(self) -> list[str]:
        return [str(message.get("method", "answer")) for message in self.messages()]


def result(text: str) -> Reply:
    """Answer with this result, literally."""

    def reply(leg: ServerLeg, message: JsonObject) -> None:
        leg.feed(f'{{"jsonrpc":"2.0","id":{json.dumps(message["id"])},"result":{text}}}'.encode())

    return reply


def error(code: int, text: str = "no") -> Reply:
    def reply(leg: ServerLeg, message: JsonObject) -> None:
        value = {"code": code, "message": text}
        leg.feed(f'{{"jsonrpc":"2.0","id":{json.dumps(message["id"])},"error":{json.dumps(value)}}}'.encode())

    return reply


def initialize_result(version: str = "2025-11-25", capabilities: str = '{"tools":{"listChanged":true}}') -> str:
    return (
        f'{{"protocolVersion":"{version}","capabilities":{capabilities},'
        '"serverInfo":{"name":"scripted","version":"1"}}'
    )


DONE = '{"content":[{"type":"text","text":"done"}]}'


class ScriptedServer:
    """A server that can be started, and started again."""

    def __init__(self, name: str = "files", *, tools: Sequence[str] = (echo_tool(),), **replies: Reply) -> None:
        self.name = name
        self.replies: dict[str, Reply] = {
            "initialize": result(initialize_result()),
            "server/discover": error(-32601),
            "ping": result("{}"),
            "tools/list": result(f'{{"tools":[{",".join(tools)}]}}'),
            "tools/call": result(DONE),
        }
        for method, reply in replies.items():
            self.replies[method.replace("__", "/")] = reply
        self.legs: list[ServerLeg] = []
        self.fails: PortError | None = None

    def on(self, method: str, reply: Reply) -> "ScriptedServer":
        self.replies[method] = reply
        return self

    def off(self, method: str) -> "ScriptedServer":
        self.replies.pop(method, None)
        return self

    @property
    def leg(self) -> ServerLeg:
        return self.legs[-1]

    async def connect(self) -> ServerLeg:
        if self.fails is not None:
            raise self.fails
        self.legs.append(ServerLeg(self.replies))
        return self.legs[-1]

    @property
    def entry(self) -> ServerEntry:
        identity = ServerIdentity(name=self.name, digest=digest(self.name.encode()), declared=True)
        return ServerEntry(name=self.name, connect=self.connect, identity=identity)

    def calls(self) -> list[bytes]:
        return [raw for leg in self.legs for raw in leg.calls()]


class FixedPolicies:
    """A policy that tests change by hand."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def current(self) -> Policy:
        return self.policy

    def check(self) -> None:
        return None


def _check(schema: Json) -> Check | None:
    """As much of JSON Schema as these tests need: types of properties, and what is required."""
    if not isinstance(schema, dict):
        return None
    properties = schema.get("properties")
    required = schema.get("required")

    def check(value: Json) -> ArgumentFault | None:
        if not isinstance(value, dict):
            return ArgumentFault(path="", problem="is not an object")
        for name, inner in properties.items() if isinstance(properties, dict) else ():
            wanted = inner.get("type") if isinstance(inner, dict) else None
            if wanted == "string" and name in value and not isinstance(value[name], str):
                return ArgumentFault(path=f"/{name}", problem="is not of type string")
        for name in required if isinstance(required, list) else ():
            if name not in value:
                return ArgumentFault(path="", problem=f"lacks {name}")
        return None

    return check


class MovableClock(SteppingClock):
    """A clock that tests move on."""

    def pass_s(self, seconds: int) -> None:
        self._now_us += seconds * 1_000_000


class StageWorld(World):
    """A world that remembers by what runs were looked for, and can have none."""

    def __init__(self) -> None:
        super().__init__()
        self.bindings: list[RunBinding] = []
        self.binding_failure: Failure | None = None

    async def bind_run(self, binding: RunBinding, policy_digest: Digest) -> tuple[RunId, Failure | None]:
        self.bindings.append(binding)
        run_id, _ = await super().bind_run(binding, policy_digest)
        return run_id, self.binding_failure


class Stage:
    """A relay with everything around it."""

    def __init__(
        self,
        *servers: ScriptedServer,
        policy: Policy | None = None,
        limits: Limits | None = None,
        named_run: str = "",
        people: Callable[[MemoryAsks], AskSettings] | None = None,
        seals: Seals | None = None,
    ) -> None:
        self.servers = servers or (ScriptedServer(),)
        self.host = HostLeg()
        self.world = StageWorld()
        self.policies = FixedPolicies(policy or make_policy())
        self.logged: list[str] = []
        self.clock = clock = MovableClock()
        ids = CountingIds()
        self.asks = self.world.asks = MemoryAsks(clock.now_us)
        self.fleet = Fleet([server.entry for server in self.servers], clock=clock, ids=ids, limits=limits)
        self.governor = Governor(
            policy=self.policies.current,
            store=self.world,
            tools=self.fleet,
            look=self.world.look,
            inspector=self.world,
            call_timeout_s=60.0,
        )
        self.relay = Relay(
            self.host,
            self.fleet,
            self.governor,
            schemas=Schemas(arguments=_check, result=_check),
            around=Surroundings(
                store=self.world,
                shelf=self.world,
                policies=self.policies,
                look=self.world.look,
                principal=PRINCIPAL,
                workspace="/work",
                clock=clock,
                ids=ids,
                log=self.logged.append,
                cleaned=cleaned,
                named_run=named_run,
                limits=limits or Limits(),
                asks=None if people is None else people(self.asks),
                seals=seals,
            ),
        )

    @property
    def server(self) -> ScriptedServer:
        return self.servers[0]

    @asynccontextmanager
    async def playing(self) -> AsyncGenerator["Stage"]:
        with anyio.fail_after(BOUND_S * 2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.relay.run)
                await anyio.wait_all_tasks_blocked()
                yield self
                self.relay.stop(0)

    async def open(self, version: str = "2025-11-25") -> JsonObject:
        opened = await self.host.ask(initialize(version), 0)
        self.host.say('{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return opened

    def dropped(self) -> list[Json]:
        return [note.fields.get("reason") for note in self.world.notes if note.kind == "message.dropped"]


def initialize(version: str = "2025-11-25", request_id: str = "0") -> str:
    return (
        f'{{"jsonrpc":"2.0","id":{request_id},"method":"initialize","params":{{"protocolVersion":"{version}",'
        '"capabilities":{"elicitation":{}},"clientInfo":{"name":"test","version":"1"}}}'
    )


def call(request_id: str = "1", name: str = "echo", arguments: str = '{"text":"hi"}', more: str = "") -> str:
    return (
        f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/call",'
        f'"params":{{"name":"{name}","arguments":{arguments}{more}}}}}'
    )


def request(method: str, params: str | None = None, request_id: str = "1") -> str:
    member = "" if params is None else f',"params":{params}'
    return f'{{"jsonrpc":"2.0","id":{request_id},"method":"{method}"{member}}}'


def notice(method: str, params: str | None = None) -> str:
    member = "" if params is None else f',"params":{params}'
    return f'{{"jsonrpc":"2.0","method":"{method}"{member}}}'


def text_of(answer: JsonObject) -> str:
    """The one text block of a tool's failure."""
    value = answer["result"]
    assert isinstance(value, dict)
    assert value["isError"] is True
    content = value["content"]
    assert isinstance(content, list)
    [block] = content
    assert isinstance(block, dict)
    return str(block["text"])


def reason_of(answer: JsonObject) -> Json:
    value = answer["result"]
    assert isinstance(value, dict)
    meta = value["_meta"]
    assert isinstance(meta, dict)
    step = meta["dev.soothsayer/step"]
    assert isinstance(step, dict)
    return step["reason"]
