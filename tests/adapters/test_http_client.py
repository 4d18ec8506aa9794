"""Remote servers: a real SDK server in a process of its own, and a literal one that says exactly what a test wants."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from soothsayer_mcp.adapters import http_client
from soothsayer_mcp.adapters.config import Remote
from soothsayer_mcp.adapters.http_client import HttpLeg, HttpServer
from soothsayer_mcp.adapters.lines import MAX_FRAME
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.ports import LegEnd, NoAnswer, PortError

SERVER = Path(__file__).with_name("remote_server.py")
PREFIX = "io.modelcontextprotocol/"
ENVELOPE: dict[str, Json] = {
    PREFIX + "protocolVersion": "2026-07-28",
    PREFIX + "clientCapabilities": {},
    PREFIX + "clientInfo": {"name": "t", "version": "1"},
}
INITIALIZE: Json = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"elicitation": {}},
    "clientInfo": {"name": "t", "version": "1"},
}
BOUND_S = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


def request(method: str, params: Json = None, request_id: Json = 1) -> bytes:
    message: dict[str, Json] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return compact(message if params is None else {**message, "params": params})


def stateless(method: str, request_id: Json = 1, **params: Json) -> bytes:
    return request(method, {**params, "_meta": ENVELOPE}, request_id)


def call(name: str, arguments: Json, request_id: Json = 1, *, era: str, token: Json = None) -> bytes:
    meta: dict[str, Json] = dict(ENVELOPE) if era == "stateless" else {}
    if token is not None:
        meta["progressToken"] = token
    return request("tools/call", {"name": name, "arguments": arguments, "_meta": meta}, request_id)


def note(method: str, params: Json = None) -> bytes:
    message: dict[str, Json] = {"jsonrpc": "2.0", "method": method}
    return compact(message if params is None else {**message, "params": params})


class Talk:
    """A leg, and what came back over it."""

    def __init__(self, leg: HttpLeg) -> None:
        self.leg = leg
        self.got: list[bytes] = []
        self.ends: list[LegEnd] = []
        self._changed = asyncio.Event()
        leg.start(self._take, self._end)

    def _take(self, frames: Sequence[bytes]) -> None:
        self.got += frames
        self._changed.set()

    def _end(self, end: LegEnd) -> None:
        self.ends.append(end)
        self._changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def answer(self, request_id: Json) -> bytes:
        """Wait for the answer to a request."""
        found: list[bytes] = []

        def reached() -> bool:
            found[:] = [raw for raw in self.got if "method" not in (m := json.loads(raw)) and m.get("id") == request_id]
            return bool(found)

        await self.until(reached)
        return found[0]

    async def ask(self, raw: bytes) -> dict[str, Json]:
        """Send a request and give its answer."""
        self.leg.send(raw)
        return json.loads(await self.answer(json.loads(raw)["id"]))

    async def shake_hands(self) -> dict[str, Json]:
        answer = await self.ask(request("initialize", INITIALIZE, "init"))
        self.leg.send(note("notifications/initialized"))
        return answer


@contextlib.asynccontextmanager
async def talking(url: str, *, max_frame: int = MAX_FRAME) -> AsyncGenerator[Talk]:
    connect = HttpServer(Remote(name="far", url=url, headers={"x-key": "k"}), max_frame=max_frame)
    talk = Talk(await connect())
    try:
        yield talk
    finally:
        await talk.leg.aclose()


@dataclass
class Process:
    """A server in a process of its own."""

    popen: "subprocess.Popen[bytes]"
    url: str


@contextlib.contextmanager
def running(kind: str, path: str) -> Generator[Process]:
    popen = subprocess.Popen([sys.executable, str(SERVER), kind], stdout=subprocess.PIPE)
    assert popen.stdout is not None
    try:
        port = int(popen.stdout.readline())
        yield Process(popen, f"http://127.0.0.1:{port}{path}")
    finally:
        popen.kill()
        popen.wait()
        popen.stdout.close()


@pytest.fixture(scope="module")
def sdk_server() -> Generator[str]:
    with running("streamable", "/mcp") as process:
        yield process.url


def text_of(answer: dict[str, Json]) -> str:
    result = answer["result"]
    assert isinstance(result, dict)
    content = result["content"]
    assert isinstance(content, list)
    assert isinstance(content[0], dict)
    return str(content[0]["text"])


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_remote_server_of_the_sdk_answers_in_both_eras(sdk_server: str, era: str) -> None:
    async with talking(sdk_server) as talk:
        if era == "handshake":
            opened = (await talk.shake_hands())["result"]
            assert isinstance(opened, dict)
            assert opened["protocolVersion"] == "2025-11-25"
            listed = await talk.ask(request("tools/list", {}, "seven"))
        else:
            discovered = (await talk.ask(stateless("server/discover")))["result"]
            assert isinstance(discovered, dict)
            assert "2026-07-28" in str(discovered["supportedVersions"])
            listed = await talk.ask(stateless("tools/list", "seven"))
        assert '"here"' in json.dumps(listed)
        assert text_of(await talk.ask(call("add", {"a": 2, "b": 3}, 0, era=era))) == "5"
        assert text_of(await talk.ask(call("here", {"region": "Zürich 1"}, 5, era=era))) == "Zürich 1"
        assert await talk.leg.drained()
        assert talk.leg.waiting_bytes == 0


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_result_over_a_megabyte_comes_through_in_one_event(sdk_server: str, era: str) -> None:
    async with talking(sdk_server) as talk:
        if era == "handshake":
            await talk.shake_hands()
        answer = await talk.ask(call("big", {"size": 1_200_000}, era=era))
        assert len(text_of(answer)) == 1_200_000


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_progress_comes_before_its_result_and_in_order(sdk_server: str, era: str) -> None:
    async with talking(sdk_server) as talk:
        if era == "handshake":
            await talk.shake_hands()
        before = len(talk.got)
        await talk.ask(call("steps", {"count": 50}, era=era, token=0))
        notices = [json.loads(raw) for raw in talk.got[before:]]
        assert [notice["params"]["progress"] for notice in notices[:-1]] == list(range(50))
        assert {notice["params"]["progressToken"] for notice in notices[:-1]} == {0}


async def test_a_server_can_ask_the_host_in_the_handshake_era(sdk_server: str) -> None:
    async with talking(sdk_server) as talk:
        await talk.shake_hands()
        talk.leg.send(call("ask", {}, "call", era="handshake"))
        await talk.until(lambda: any(b"elicitation/create" in raw for raw in talk.got))
        question = json.loads(next(raw for raw in talk.got if b"elicitation/create" in raw))
        talk.leg.send(
            compact(
                {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"word": "yes"}}}
            )
        )
        assert text_of(json.loads(await talk.answer("call"))) == "yes"


async def test_a_slow_call_blocks_no_other(sdk_server: str) -> None:
    async with talking(sdk_server) as talk:
        await talk.shake_hands()
        talk.leg.send(call("wait", {}, "slow", era="handshake", token="t"))
        await talk.until(lambda: any(b'"progressToken":"t"' in raw for raw in talk.got))
        assert text_of(await talk.ask(call("add", {"a": 1, "b": 1}, era="handshake"))) == "2"


async def test_a_cancelled_stateless_call_is_let_go_and_nothing_answers_it(sdk_server: str) -> None:
    async with talking(sdk_server) as talk:
        talk.leg.send(call("wait", {}, "slow", era="stateless", token="t"))
        await talk.until(lambda: any(b'"progressToken":"t"' in raw for raw in talk.got))
        talk.leg.send(note("notifications/cancelled", {"requestId": "slow"}))
        assert text_of(await talk.ask(call("add", {"a": 1, "b": 1}, era="stateless"))) == "2"
        assert not any(json.loads(raw).get("id") == "slow" for raw in talk.got)


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_server_that_dies_in_a_call_leaves_it_unknown(era: str) -> None:
    with running("streamable", "/mcp") as process:
        async with talking(process.url) as talk:
            if era == "handshake":
                await talk.shake_hands()
            talk.leg.send(call("die", {}, "call", era=era, token="t"))
            lost = await talk.answer("call")
            assert isinstance(lost, NoAnswer)
            assert (lost.id, lost.error.reason, lost.error.acted) == ("call", Reason.CONNECTION_LOST, Acted.MAYBE)
            process.popen.wait(BOUND_S)
            refused = await ask_raw(talk, call("add", {"a": 1, "b": 1}, "next", era=era))
            assert isinstance(refused, NoAnswer)
            assert (refused.error.reason, refused.error.acted) == (Reason.SERVER_UNREACHABLE, Acted.NO)
            if era == "handshake":
                # Its HTTP session is gone with it: the connection ends, so that it is opened anew.
                await talk.until(lambda: bool(talk.ends))
                assert [end.why for end in talk.ends] == ["cannot be reached"]


async def ask_raw(talk: Talk, raw: bytes) -> bytes:
    talk.leg.send(raw)
    return await talk.answer(json.loads(raw)["id"])


async def test_a_server_of_2024_is_spoken_to_by_its_event_stream() -> None:
    with running("sse", "/sse") as process:
        async with talking(process.url) as talk:
            opened = (await talk.shake_hands())["result"]
            assert isinstance(opened, dict)
            assert opened["serverInfo"] == {"name": "remote", "version": "1"}
            answer = await talk.ask(call("steps", {"count": 2}, 7, era="handshake", token="p"))
            assert text_of(answer) == "done"
            assert sum(b'"progressToken":"p"' in raw for raw in talk.got) == 2
            process.popen.kill()
            await talk.until(lambda: bool(talk.ends))


# A server that says literally what a test wants.


@dataclass
class Said:
    """One request that reached the literal server."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class Reply:
    """What the literal server answers a POST with."""

    body: bytes = b""
    status: int = 200
    media: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut: bool = False
    """Whether it promises more than it sends, and then hangs up."""


class Literal(ThreadingHTTPServer):
    """Answers POSTs in order from `replies`, the last one for ever; everything else with 405."""

    daemon_threads = True

    def __init__(self, *replies: Reply) -> None:
        super().__init__(("127.0.0.1", 0), LiteralHandler)
        self.replies = list(replies)
        self.heard: list[Said] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mcp"

    def posts(self) -> list[Said]:
        return [said for said in self.heard if said.method == "POST"]


class LiteralHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def literal(self) -> Literal:
        assert isinstance(self.server, Literal)
        return self.server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.literal.heard.append(Said("POST", self.path, self.headers.items(), body))
        replies = self.literal.replies
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.media:
            self.send_header("content-type", reply.media)
        self.send_header("content-length", str(len(reply.body) + (100 if reply.cut else 0)))
        self.end_headers()
        self.wfile.write(reply.body)
        self.close_connection = reply.cut

    def do_GET(self) -> None:
        self.literal.heard.append(Said(self.command, self.path, self.headers.items(), b""))
        self.send_response(405)
        self.send_header("content-length", "0")
        self.end_headers()

    do_DELETE = do_GET  # noqa: N815 - the name is the library's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Say nothing."""


@contextlib.contextmanager
def literal(*replies: Reply) -> Generator[Literal]:
    server = Literal(*replies)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def event(data: bytes) -> bytes:
    return b"event: message\ndata: " + data + b"\n\n"


STREAM = "text/event-stream"
NUMBERS = (
    b'{"jsonrpc":"2.0", "result":{"a":1.50,"b":1e400,"c":-0.0,"d":12345678901234567890.12,"x":null},"id":1, "y":1}'
)


async def test_a_document_comes_through_in_the_servers_own_bytes() -> None:
    with literal(Reply(NUMBERS), Reply(NUMBERS.replace(b", ", b",\r\n "))) as server:
        async with talking(server.url) as talk:
            assert await ask_raw(talk, stateless("tools/list")) == NUMBERS
            talk.got.clear()
            assert await ask_raw(talk, stateless("tools/list")) == NUMBERS.replace(b", ", b",   ")


async def test_a_frame_reaches_the_server_in_the_hosts_own_bytes() -> None:
    raw = b'{"params": {"n":1.50,"big":123456789012345678901234567890,"e":1e400}, "x":0,"id":1,"method":"a/b"}'
    with literal(Reply(b'{"jsonrpc":"2.0","id":1,"result":{}}')) as server:
        async with talking(server.url) as talk:
            await ask_raw(talk, raw)
        (said,) = server.posts()
        assert said.body == raw
        assert said.all("x-key") == ["k"]
        assert said.all("x-soothsayer-frame") == []
        assert said.all("content-length") == [str(len(raw))]


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/list", {}, None),
        ("tools/call", {"name": "t", "arguments": {}}, "t"),
        ("prompts/get", {"name": "päu"}, "=?base64?cMOkdQ==?="),
        ("resources/read", {"uri": "x://a"}, "x://a"),
        ("tasks/get", {"taskId": "t7"}, "t7"),
        ("tasks/update", {"taskId": "t7"}, "t7"),
        ("tasks/cancel", {"taskId": "t7"}, "t7"),
        ("x/y", {"name": "n", "uri": "u", "taskId": "t"}, None),
    ],
)
async def test_stateless_headers_are_computed_from_the_frame(
    method: str, params: dict[str, Json], name: str | None
) -> None:
    with literal(Reply(b'{"jsonrpc":"2.0","id":1,"result":{}}')) as server:
        async with talking(server.url) as talk:
            await ask_raw(talk, stateless(method, **params))
        (said,) = server.posts()
        assert said.all("mcp-protocol-version") == ["2026-07-28"]
        assert said.all("mcp-method") == [method]
        assert said.all("mcp-name") == ([] if name is None else [name])


TOOLS: Json = {
    "tools": [
        {"name": "good", "inputSchema": {"properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}},
        {"name": "bad", "inputSchema": {"properties": {"r": {"type": "number", "x-mcp-header": "Region"}}}},
        {"title": "nameless"},
        7,
    ]
}


def result(value: Json, request_id: Json = 1) -> bytes:
    return compact({"jsonrpc": "2.0", "id": request_id, "result": value})


async def test_arguments_that_a_schema_names_go_into_headers_and_a_schema_that_is_wrong_about_it_is_refused() -> None:
    with literal(Reply(result(TOOLS)), Reply(result({}, 2))) as server:
        async with talking(server.url) as talk:
            await talk.ask(stateless("tools/list"))
            await talk.ask(call("good", {"r": "eu"}, 2, era="stateless"))
            assert server.posts()[1].all("mcp-param-region") == ["eu"]
            refused = await ask_raw(talk, call("bad", {"r": 1}, 3, era="stateless"))
            assert isinstance(refused, NoAnswer)
            assert refused.error.acted is Acted.NO
            assert len(server.posts()) == 2


async def test_the_agreed_version_goes_with_everything_after_the_handshake() -> None:
    opened = result({"protocolVersion": "2025-06-18", "capabilities": {}}, "init")
    with literal(Reply(opened, headers={"mcp-session-id": "s1"}), Reply(status=202), Reply(result({}))) as server:
        async with talking(server.url) as talk:
            await talk.shake_hands()
            await talk.ask(request("tools/list"))
        first, second, third = server.posts()
        assert (first.all("mcp-protocol-version"), first.all("mcp-session-id")) == ([], [])
        assert (second.all("mcp-protocol-version"), second.all("mcp-session-id")) == (["2025-06-18"], ["s1"])
        assert (third.all("mcp-protocol-version"), third.all("mcp-method")) == (["2025-06-18"], [])
        assert {said.method for said in server.heard} == {"POST", "GET", "DELETE"}


async def test_an_answer_gets_the_id_of_its_request_whatever_the_server_wrote() -> None:
    wrong = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"m","data":[1.50]}}'
    with literal(Reply(wrong, status=400), Reply(b'{"result":{},"jsonrpc":"2.0"}')) as server:
        async with talking(server.url) as talk:
            assert await ask_raw(talk, stateless("a", "7")) == wrong.replace(b"null", b'"7"')
            assert await ask_raw(talk, stateless("a", 7)) == b'{"result":{},"jsonrpc":"2.0","id":7}'


@pytest.mark.parametrize(
    ("reply", "reason", "acted"),
    [
        (Reply(status=401), Reason.SERVER_UNREACHABLE, Acted.NO),
        (Reply(b"<html>", status=403, media="text/html"), Reason.SERVER_UNREACHABLE, Acted.NO),
        (Reply(status=404), Reason.SERVER_UNREACHABLE, Acted.NO),
        (Reply(b'{"error":"x"}', status=429), Reason.SERVER_UNREACHABLE, Acted.NO),
        (Reply(status=500), Reason.CONNECTION_LOST, Acted.MAYBE),
        (Reply(status=503, cut=True), Reason.CONNECTION_LOST, Acted.MAYBE),
        (Reply(status=202), Reason.ANSWER_UNREADABLE, Acted.MAYBE),
        (Reply(b"<html>", media="text/html"), Reason.ANSWER_UNREADABLE, Acted.MAYBE),
        (Reply(b"x", media=""), Reason.ANSWER_UNREADABLE, Acted.MAYBE),
        (Reply(b"{broken"), Reason.ANSWER_UNREADABLE, Acted.MAYBE),
        (Reply(b"[]"), Reason.ANSWER_UNREADABLE, Acted.MAYBE),
        (Reply(b'{"jsonrpc":"2.0","method":"x","params":{}}'), Reason.ANSWER_UNREADABLE, Acted.MAYBE),
        (Reply(b"{" + b" " * 5000 + b"}"), Reason.ANSWER_UNREADABLE, Acted.MAYBE),
        (Reply(b'{"jsonrpc"', cut=True), Reason.CONNECTION_LOST, Acted.MAYBE),
        (Reply(b"", media=STREAM), Reason.CONNECTION_LOST, Acted.MAYBE),
        (Reply(b": wait\n\n", media=STREAM, cut=True), Reason.CONNECTION_LOST, Acted.MAYBE),
        (Reply(event(result({"x": "y" * 5000})), media=STREAM), Reason.ANSWER_UNREADABLE, Acted.MAYBE),
        (Reply(status=307, headers={"location": "http://127.0.0.2:9/mcp"}), Reason.SERVER_UNREACHABLE, Acted.NO),
        (Reply(status=302, headers={"location": "/other"}), Reason.SERVER_UNREACHABLE, Acted.NO),
    ],
)
async def test_what_goes_wrong_with_one_request_ends_that_request_alone(
    reply: Reply, reason: Reason, acted: Acted
) -> None:
    with literal(reply, Reply(result({}, "next"))) as server:
        async with talking(server.url, max_frame=4000) as talk:
            lost = await ask_raw(talk, stateless("tools/call", name="t", arguments={}))
            assert isinstance(lost, NoAnswer)
            assert (lost.id, lost.error.reason, lost.error.acted) == (1, reason, acted)
            error = json.loads(lost)["error"]
            assert error == {"code": -32603, "message": lost.error.summary}
            assert lost.error.summary.startswith("server far ")
            assert await ask_raw(talk, stateless("a", "next")) == result({}, "next")
            assert talk.ends == []


async def test_a_redirect_within_the_origin_is_followed_with_the_same_bytes() -> None:
    raw = stateless("tools/list", n=1.5)
    with literal(Reply(status=307, headers={"location": "/mcp/"}), Reply(result({}))) as server:
        async with talking(server.url) as talk:
            await ask_raw(talk, raw)
        assert [(said.path, said.body) for said in server.posts()] == [("/mcp", raw), ("/mcp/", raw)]
        assert server.posts()[1].all("x-soothsayer-frame") == []


async def test_an_error_of_the_server_in_a_stream_is_the_servers_own() -> None:
    own: Json = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "m"}}
    with literal(Reply(event(compact(own)), media=STREAM)) as server:
        async with talking(server.url) as talk:
            answer = await ask_raw(talk, stateless("tools/list"))
            assert not isinstance(answer, NoAnswer)
            assert json.loads(answer) == own


async def test_a_lost_http_session_ends_the_connection_and_the_call_did_not_run() -> None:
    opened = Reply(result({"protocolVersion": "2025-11-25"}, "init"), headers={"mcp-session-id": "s"})
    with literal(opened, Reply(status=202), Reply(status=404)) as server:
        async with talking(server.url) as talk:
            await talk.shake_hands()
            lost = await ask_raw(talk, request("tools/list"))
            assert isinstance(lost, NoAnswer)
            assert (lost.error.reason, lost.error.acted) == (Reason.SERVER_UNREACHABLE, Acted.NO)
            await talk.until(lambda: bool(talk.ends))
            assert talk.ends == [LegEnd(why="no longer knows the HTTP session")]
            talk.leg.send(request("tools/list"))
            assert talk.leg.waiting_bytes == 0
            assert not await talk.leg.drained()


async def test_nobody_there_means_nothing_was_sent() -> None:
    with literal(Reply()) as server:
        url = server.url
    async with talking(url) as talk:
        lost = await ask_raw(talk, request("initialize", INITIALIZE))
        assert isinstance(lost, NoAnswer)
        assert (lost.error.reason, lost.error.acted) == (Reason.SERVER_UNREACHABLE, Acted.NO)
        talk.leg.send(note("notifications/initialized"))
        assert isinstance(await ask_raw(talk, request("a", request_id=2)), NoAnswer)


async def test_a_server_that_wants_neither_way_of_opening_ends_the_connection() -> None:
    with literal(Reply(status=405)) as server:
        async with talking(server.url) as talk:
            talk.leg.send(request("initialize", INITIALIZE))
            await talk.until(lambda: bool(talk.ends))
            assert [said.method for said in server.heard] == ["POST", "GET"]


async def test_a_paused_connection_delivers_nothing_until_it_is_resumed() -> None:
    with literal(Reply(result({}))) as server:
        async with talking(server.url) as talk:
            talk.leg.pause()
            talk.leg.send(stateless("a"))
            assert await talk.leg.drained()
            async with asyncio.timeout(BOUND_S):
                while not talk.leg._held:  # noqa: ASYNC110 - what is not delivered has no event
                    await asyncio.sleep(0)
            assert talk.got == []
            talk.leg.resume()
            assert talk.got == [result({})]


async def test_closing_is_bounded_and_says_nothing_more() -> None:
    with literal(Reply(result({}))) as server:
        talk = Talk(await HttpServer(Remote(name="far", url=server.url))())
        await talk.ask(stateless("a"))
        async with asyncio.timeout(BOUND_S):
            await talk.leg.aclose()
            await talk.leg.aclose()
        assert talk.ends == []
        talk.leg.send(stateless("a"))
        assert len(server.posts()) == 1


@pytest.mark.parametrize("value", ["schlüssel", "a\r\nb: c", "a\x00"])
async def test_a_header_that_cannot_be_sent_is_told_at_once(value: str) -> None:
    with pytest.raises(PortError) as refused:
        await HttpServer(Remote(name="far", url="http://127.0.0.1:9/", headers={"x-key": value}))()
    assert (refused.value.reason, refused.value.acted) == (Reason.SERVER_UNREACHABLE, Acted.NO)
    assert value not in refused.value.summary


def test_each_error_of_the_library_is_known() -> None:
    """When httpx2 grows an error, somebody decides here whether the server can have acted."""
    unsent = {error.__name__ for error in http_client.NOT_SENT}
    known = {
        *("TimeoutException", "ReadTimeout", "WriteTimeout", "NetworkError", "ReadError", "WriteError", "CloseError"),
        *("ProtocolError", "RemoteProtocolError", "SSEError"),
    }
    assert {error.__name__ for error in descendants(httpx2.TransportError)} == unsent | known


def descendants(kind: type[Exception]) -> set[type[Exception]]:
    below = {child for child in kind.__subclasses__() if child.__module__.startswith("httpx2")}
    return below | {each for child in below for each in descendants(child)}


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    assert http_client._proxy_for("https://far.example/mcp") == "http://proxy.example:3128"
    assert http_client._proxy_for("https://near.example/mcp") is None
    monkeypatch.delenv("https_proxy")
    assert http_client._proxy_for("https://far.example/mcp") is None
