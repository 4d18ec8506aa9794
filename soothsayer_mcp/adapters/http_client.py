"""Connections to remote servers over HTTP, by the SDK's client transports. Loaded only when a server has a URL.

The SDK speaks the protocol of HTTP: sessions, event streams, resumption, redirects within the origin. Below it stands a
transport of ours, `_Courier`, for what it does not do: a request's body is the frame as it was sent, byte for byte; an
answer that is one JSON document goes on in its own bytes; nothing is larger than a frame may be; and what goes wrong
with one request ends that request, with word of whether the server can have acted, and not the connection.

Answers that come in an event stream are exact in their values, not in their bytes.
"""

import asyncio
import contextlib
import logging
import urllib.request
from codecs import BOM_UTF8
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias, cast

import anyio
import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

from soothsayer_mcp.adapters.addresses import networks
from soothsayer_mcp.adapters.checked_transport import CheckedTransport, ProxiedTransport, Resolve, resolve
from soothsayer_mcp.adapters.config import Remote
from soothsayer_mcp.adapters.launch import printable
from soothsayer_mcp.adapters.lines import MAX_FRAME
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import LegEnd, NoAnswer, PortError
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.eras import META_PROTOCOL_VERSION, Era, era_of
from soothsayer_mcp.wire.frame import Frame, FrameKind, Insert, Replace
from soothsayer_mcp.wire.ids import IdKey, key
from soothsayer_mcp.wire.strict import WireError, read_server

CONNECT_S: Final = 30.0
"""For connecting and writing. Reading has no limit of its own: how long a call may take is policy's to say."""

CLOSE_S: Final = 2.0
"""How long closing may take, with the word to the server that the HTTP session is over."""

ERROR_BODY_MAX: Final = 1024 * 1024
"""The largest body of an HTTP error that is looked at."""

NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
"""What httpx2 raises before the server can have read the request; after all else it may have acted."""

_MARK: Final = "x-soothsayer-frame"
"""Between us and the courier only: which frame a request carries. It is taken off before anything is sent."""

_SESSION: Final = "mcp-session-id"
_TASK_METHODS: Final = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
_OLD_SERVER: Final = frozenset({400, 404, 405})
"""What a server of 2024-11-05 answers a POST of `initialize` with: it wants a GET of its event stream first."""


class _Reading(Protocol):
    """What we use of the SDK's stream of messages from the server."""

    def __aiter__(self) -> AsyncIterator[SessionMessage | Exception]: ...


class _Writing(Protocol):
    """What we use of the SDK's stream of messages to the server."""

    async def send(self, item: SessionMessage, /) -> None: ...


_Streams: TypeAlias = tuple[_Reading, _Writing]


@dataclass(slots=True)
class _Lost:
    """What is known about an answer that may never come."""

    code: int
    """Of the error that the SDK then makes up; another one is the server's own."""
    error: PortError


class _Sent:
    """A frame on its way, and what became of it."""

    __slots__ = ("frame", "lost", "number", "received_bytes")

    def __init__(self, frame: Frame, number: int) -> None:
        self.frame = frame
        self.number = f"soothsayer-frame-{number}"
        """What the SDK knows it by, which is not the host's id: a host may use one again at once."""
        self.received_bytes = 0
        self.lost: _Lost | None = None

    @property
    def is_request(self) -> bool:
        return self.frame.kind is FrameKind.REQUEST


class HttpServer:
    """Reaches one remote server; a `Connect`."""

    def __init__(
        self,
        remote: Remote,
        *,
        max_frame: int = MAX_FRAME,
        auth: httpx2.Auth | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        """Say where it is. `auth` signs what is sent to it; `resolve` finds its addresses at each connection."""
        self._remote = remote
        self._max_frame = max_frame
        self._auth = auth
        self._resolve = resolve

    async def __call__(self) -> "HttpLeg":
        """Make a connection. Nothing is sent yet: HTTP has no opening, so the first request tells whether it works.

        Raises `PortError` (`server_unreachable`, acted no) for headers that cannot be sent.
        """
        for name, value in self._remote.headers.items():
            if not (value.isascii() and value.isprintable() and name.isascii()):
                raise PortError(
                    Reason.SERVER_UNREACHABLE,
                    f"server {printable(self._remote.name)} has a header {printable(name)} that is not plain ASCII: "
                    "mend `headers`",
                    acted=Acted.NO,
                )
        return HttpLeg(self._remote, max_frame=self._max_frame, auth=self._auth, resolve=self._resolve)


class HttpLeg:
    """One MCP connection to a remote server: streamable HTTP, or the event streams of 2024-11-05 if it has only those.

    An answer that is lost becomes a `NoAnswer`; the connection itself ends when its HTTP session is lost, so that it is
    opened anew.
    """

    def __init__(self, remote: Remote, *, max_frame: int, auth: httpx2.Auth | None, resolve: Resolve) -> None:
        """Say where to, and with what. Nothing happens before `start`."""
        self._name = printable(remote.name)
        self._url = remote.url
        self._headers = dict(remote.headers)
        self._max_frame = max_frame
        self._auth = auth
        self._addresses = [network for text in remote.addresses for network in networks(text)]
        self._resolve = resolve
        self._received: Callable[[Sequence[bytes]], None] = _nobody
        self._ended: Callable[[LegEnd], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._busy = 0
        self._wake = anyio.Event()
        self._idle = anyio.Event()
        self._stop = anyio.Event()
        self._flowing = anyio.Event()
        self._flowing.set()
        self._held: list[bytes] = []
        self._over = False
        self._why = "closed the connection"
        self._count = 0
        self._sent: dict[str, _Sent] = {}
        self._pending: dict[IdKey, _Sent] = {}
        self._version = ""
        """Agreed in the handshake era."""
        self._has_session = False
        self._old: Frame | None = None
        """The `initialize` that was refused as a server of 2024-11-05 does, to be sent again its way."""
        self._is_old = False
        self._param_headers: dict[str, dict[tuple[str, ...], str]] = {}
        self._bad_headers: dict[str, str] = {}

    @property
    def waiting_bytes(self) -> int:
        """How much was given to `send` and is not on its way yet."""
        return self._waiting_bytes

    def unsendable(self, tool: str) -> str:
        """Why no call of a tool can be sent: what it declares for a header can be none."""
        wrong = self._bad_headers.get(tool)
        return "" if wrong is None else f"it declares a header that cannot be sent ({printable(wrong)})"

    def start(self, received: Callable[[Sequence[bytes]], None], ended: Callable[[LegEnd], None]) -> None:
        """Begin to read."""
        self._received = received
        self._ended = ended
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"http {self._name}")

    def send(self, raw: bytes) -> None:
        """Queue one frame."""
        if not self._over:
            self._queue.append(raw)
            self._waiting_bytes += len(raw)
            self._wake.set()

    def pause(self) -> None:
        """Stop reading until `resume`; streams that are open fill up and stand still."""
        if self._flowing.is_set():
            self._flowing = anyio.Event()

    def resume(self) -> None:
        """Read again."""
        self._flowing.set()
        held, self._held = self._held, []
        if held:
            self._received(held)

    async def drained(self) -> bool:
        """Wait until all that was sent is on its way."""
        while not self._over and (self._queue or self._busy):
            if self._idle.is_set():
                self._idle = anyio.Event()
            await self._idle.wait()
        return not self._over

    async def aclose(self) -> None:
        """End the connection, and the HTTP session with it if the server is quick enough."""
        self._ended = None
        self._over = True
        self._stop.set()
        self._idle.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=2 * CLOSE_S)
            if not done:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task

    # Running.

    async def _run(self) -> None:
        _quieten()
        try:
            await self._speak(self._streamable())
            if self._old is not None and not self._over:
                self._is_old = True
                self._stop = anyio.Event()
                await self._speak(self._event_streams())
        except Exception as error:  # noqa: BLE001 - whatever ends the SDK's tasks ends this connection, and nothing else
            self._why = f"can no longer be reached ({_said(error)})"
        finally:
            self._finish()

    def _streamable(self) -> AbstractAsyncContextManager[_Streams]:
        @contextlib.asynccontextmanager
        async def opened() -> AsyncGenerator[_Streams]:
            async with (
                self._client() as client,
                streamable_http_client(self._url, http_client=client, max_sse_event_size=self._max_frame) as streams,
            ):
                yield cast("_Streams", streams)

        return opened()

    def _event_streams(self) -> AbstractAsyncContextManager[_Streams]:
        def client(
            headers: dict[str, str] | None = None,
            timeout: httpx2.Timeout | None = None,
            auth: httpx2.Auth | None = None,
        ) -> httpx2.AsyncClient:
            del headers, timeout, auth
            return self._client()

        return cast("AbstractAsyncContextManager[_Streams]", sse_client(self._url, httpx_client_factory=client))

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=self._headers,
            auth=self._auth,
            timeout=httpx2.Timeout(CONNECT_S, read=None),
            transport=_Courier(self, self._transport()),
        )

    def _transport(self) -> httpx2.AsyncBaseTransport:
        proxy = _proxy_for(self._url)
        if proxy is not None:
            return ProxiedTransport(self._addresses, proxy)
        return CheckedTransport(self._addresses, resolve=self._resolve)

    async def _speak(self, streams: AbstractAsyncContextManager[_Streams]) -> None:
        with anyio.CancelScope() as whole:
            async with streams as (reading, writing), anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, writing)
                tasks.start_soon(self._until_stopped, whole, tasks.cancel_scope)
                async for item in reading:
                    await self._flowing.wait()
                    # An exception stands for an event that is no message; nobody waits for it.
                    if isinstance(item, SessionMessage):
                        self._take(item.message)
                tasks.cancel_scope.cancel()

    async def _until_stopped(self, whole: anyio.CancelScope, inner: anyio.CancelScope) -> None:
        await self._stop.wait()
        # Leaving the SDK's transport takes the word to the server that the session is over, which may never arrive.
        whole.deadline = anyio.current_time() + CLOSE_S
        inner.cancel()

    async def _write(self, writing: _Writing) -> None:
        if self._old is not None:
            await writing.send(self._message(self._old))
        while True:
            while self._queue:
                raw = self._queue.popleft()
                self._busy += 1
                try:
                    await writing.send(self._message(read_server(raw)))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    self._stop.set()
                    return
                finally:
                    self._busy -= 1
                    self._waiting_bytes -= len(raw)
            self._idle.set()
            self._wake = anyio.Event()
            await self._wake.wait()

    def _message(self, frame: Frame) -> SessionMessage:
        """Make what the SDK needs of a frame to send it: its envelope, and the headers that go with it."""
        self._count += 1
        sent = _Sent(frame, self._count)
        if sent.is_request or not self._is_old:
            self._sent[sent.number] = sent
        named: _Sent | None = None
        if sent.is_request:
            self._pending[key(frame.id)] = sent
        elif frame.method == "notifications/cancelled":
            named = self._pending.get(key((frame.params or {}).get("requestId")))
            if named is not None and era_of(named.frame) is Era.STATELESS:
                # The SDK closes its response, and nothing answers what was cancelled in this era.
                self._forget(named)
        headers = {_MARK: sent.number, **self._headers_of(frame)}
        message = _whole(frame) if self._is_old else _stand_in(sent, named)
        return SessionMessage(message, ClientMessageMetadata(headers=headers))

    def _headers_of(self, frame: Frame) -> dict[str, str]:
        if frame.kind is FrameKind.REQUEST and era_of(frame) is Era.STATELESS:
            version = frame.meta[META_PROTOCOL_VERSION]
            headers = {
                MCP_PROTOCOL_VERSION_HEADER: encode_header_value(version if isinstance(version, str) else ""),
                MCP_METHOD_HEADER: encode_header_value(frame.method),
            }
            params = frame.params or {}
            named = params.get(
                "taskId" if frame.method in _TASK_METHODS else NAME_BEARING_METHODS.get(frame.method, "")
            )
            if isinstance(named, str):
                headers[MCP_NAME_HEADER] = encode_header_value(named)
                arguments = params.get("arguments")
                if frame.method == "tools/call" and isinstance(arguments, dict):
                    headers |= mcp_param_headers(self._param_headers.get(named, {}), arguments)
            return headers
        if frame.method == "initialize" or not self._version:
            return {}
        return {MCP_PROTOCOL_VERSION_HEADER: self._version}

    # What comes back.

    def _take(self, message: JSONRPCMessage) -> None:
        if not isinstance(message, JSONRPCResponse | JSONRPCError):
            self._deliver(compact(message.model_dump(by_alias=True, mode="json", exclude_unset=True)))
            return
        sent = (self._sent.get(message.id) if isinstance(message.id, str) else None) or self._pending.get(
            key(message.id)
        )
        if sent is None:
            # Its answer was delivered already, or it has been told that there is none.
            return
        if isinstance(message, JSONRPCError):
            if sent.lost is not None and sent.lost.code == message.error.code:
                self.no_answer(sent, sent.lost.error)
                return
            if message.error.code == CONNECTION_CLOSED and sent.received_bytes > self._max_frame:
                self.no_answer(sent, self._too_big())
                return
        raw = compact(message.model_dump(by_alias=True, mode="json", exclude_unset=True))
        self.answer(sent, read_server(raw))

    def answer(self, sent: _Sent, frame: Frame) -> None:
        """Deliver the answer to a request under the id it was sent with, and learn from it."""
        self._forget(sent)
        result = frame.result
        if isinstance(result, dict):
            version = result.get("protocolVersion")
            if sent.frame.method == "initialize" and isinstance(version, str):
                self._version = version
            elif sent.frame.method == "tools/list":
                self._learn_headers(result.get("tools"))
        if key(frame.id) != key(sent.frame.id):
            own = compact(sent.frame.id)
            self._deliver(frame.edited(Replace(("id",), own) if frame.has_id else Insert((), "id", own)))
        else:
            self._deliver(frame.raw)

    def no_answer(self, sent: _Sent, error: PortError) -> None:
        """Tell that a request will not be answered, and whether the server can have acted."""
        request_id = sent.frame.id
        if request_id is None or self._pending.get(key(request_id)) is not sent:
            return
        self._forget(sent)
        made = replies.error(request_id, Code.INTERNAL_ERROR, error.summary)
        self._deliver(NoAnswer(made, id=request_id, error=error))

    def _deliver(self, raw: bytes) -> None:
        if self._over:
            return
        if self._flowing.is_set():
            self._received([raw])
        else:
            self._held.append(raw)

    def _learn_headers(self, tools: Json) -> None:
        for tool in tools if isinstance(tools, list) else ():
            name = tool.get("name") if isinstance(tool, dict) else None
            if not isinstance(tool, dict) or not isinstance(name, str):
                continue
            schema = tool.get("inputSchema")
            wrong = find_invalid_x_mcp_header(schema)
            self._param_headers.pop(name, None)
            self._bad_headers.pop(name, None)
            if wrong is not None:
                self._bad_headers[name] = wrong
            elif found := x_mcp_header_map(schema):
                self._param_headers[name] = found

    def _forget(self, sent: _Sent | None) -> None:
        if sent is not None:
            self._sent.pop(sent.number, None)
            if self._pending.get(key(sent.frame.id)) is sent:
                del self._pending[key(sent.frame.id)]

    def _finish(self) -> None:
        self._over = True
        self._idle.set()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(LegEnd(why=self._why))

    # For the courier.

    def sent(self, number: str | None) -> _Sent | None:
        """Find the frame that a request of the SDK carries; `None` for what the SDK sends by itself."""
        return None if number is None else self._sent.get(number)

    def posted(self, body: bytes) -> Frame | None:
        """Read the message that a POST to a server of 2024-11-05 carries: that transport takes no mark from us."""
        try:
            frame = read_server(body) if self._is_old else None
        except WireError:
            return None
        return frame if frame is not None and "jsonrpc" in frame.message else None

    async def judge_old(self, posted: Frame, response: httpx2.Response | httpx2.TransportError) -> httpx2.Response:
        """Look at what a server of 2024-11-05 says to a POST; its answer comes by the event stream."""
        sent = self._pending.get(key(posted.id)) if posted.kind is FrameKind.REQUEST else None
        if isinstance(response, httpx2.TransportError):
            if sent is not None:
                self.failed(sent, response)
        elif sent is not None and response.status_code >= 400:  # noqa: PLR2004 - HTTP
            return await self._judge_error(sent, response)
        else:
            await response.aclose()
        return _done()

    def refuses(self, sent: _Sent) -> PortError | None:
        """Tell why a request cannot be sent at all."""
        name = (sent.frame.params or {}).get("name")
        if sent.frame.method != "tools/call" or not isinstance(name, str) or name not in self._bad_headers:
            return None
        return self._not_sent(f"declares a header that cannot be sent for its tool {printable(name)}")

    def failed(self, sent: _Sent, error: httpx2.TransportError) -> None:
        """Take note that a request failed before any answer began."""
        if isinstance(error, NOT_SENT):
            self.no_answer(sent, self._not_sent(f"cannot be reached ({_said(error)})"))
            if self._has_session:
                self._end_with("cannot be reached")
        else:
            self.no_answer(sent, self._maybe(f"broke the connection ({_said(error)})"))

    async def judge(self, sent: _Sent, response: httpx2.Response) -> httpx2.Response:
        """Look at the answer to a POST: deliver it, or say why there is none. Gives what the SDK is to see."""
        status = response.status_code
        sent.lost = None
        if _SESSION in response.headers:
            self._has_session = True
        if status == 404 and self._has_session and era_of(sent.frame) is Era.HANDSHAKE:  # noqa: PLR2004 - HTTP
            self.no_answer(sent, self._not_sent("no longer knows the HTTP session; call again"))
            self._end_with("no longer knows the HTTP session")
            return _done()
        if not sent.is_request:
            if not response.has_redirect_location:
                self._sent.pop(sent.number, None)
            return response
        if response.has_redirect_location:
            sent.lost = _Lost(INVALID_REQUEST, self._not_sent("answers with a redirect that is not followed"))
            return response
        if status >= 400:  # noqa: PLR2004 - HTTP
            return await self._judge_error(sent, response)
        media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if status == 202:  # noqa: PLR2004 - HTTP
            self.no_answer(sent, self._unreadable("took a request and gave no answer (HTTP 202)"))
        elif media == "application/json":
            return await self._judge_document(sent, response)
        elif media == "text/event-stream":
            return httpx2.Response(
                status, headers=response.headers, stream=_Watched(self, sent, response), extensions=response.extensions
            )
        else:
            self.no_answer(sent, self._unreadable(f"answered with {printable(media) or 'no media type'}"))
        await response.aclose()
        return _done()

    async def _judge_document(self, sent: _Sent, response: httpx2.Response) -> httpx2.Response:
        session = response.headers.get(_SESSION)
        try:
            body = await _read(response, self._max_frame)
        except httpx2.HTTPError as error:
            self.broke(sent, error)
            self.no_answer(sent, self._maybe(f"broke the connection ({_said(error)})"))
            return _done()
        frame = None if body is None else _answer_in(body)
        if body is None:
            self.no_answer(sent, self._too_big())
        elif frame is None:
            self.no_answer(sent, self._unreadable("gave an answer that cannot be read"))
        else:
            self.answer(sent, frame)
            if sent.frame.method == "initialize":
                # The SDK learns the session from this one; its copy of the answer finds nobody waiting.
                named = {} if session is None else {_SESSION: session}
                return httpx2.Response(200, headers={"content-type": "application/json", **named}, content=body)
        return _done()

    async def _judge_error(self, sent: _Sent, response: httpx2.Response) -> httpx2.Response:
        status = response.status_code
        try:
            body = await _read(response, ERROR_BODY_MAX)
        except httpx2.HTTPError:
            body = None
        frame = None if body is None else _answer_in(body)
        if frame is not None and frame.kind is FrameKind.ERROR:
            self.answer(sent, frame)
        elif sent.frame.method == "initialize" and status in _OLD_SERVER and not self._is_old:
            self._old = sent.frame
            self._forget(sent)
            self._stop.set()
        elif status in {401, 403}:
            self.no_answer(sent, self._not_sent(f"wants somebody to sign in (HTTP {status})"))
        elif status < 500:  # noqa: PLR2004 - HTTP
            self.no_answer(sent, self._not_sent(f"refuses the request (HTTP {status})"))
        else:
            self.no_answer(sent, self._maybe(f"failed (HTTP {status})"))
        return _done()

    def broke(self, sent: _Sent, error: Exception | None) -> None:
        """Take note that the stream of an answer ended before it; the SDK may still get the rest with a GET."""
        how = "ended its answer early" if error is None else f"broke off its answer ({_said(error)})"
        sent.lost = _Lost(CONNECTION_CLOSED, self._maybe(how))

    def _end_with(self, why: str) -> None:
        self._why = why
        self._finish()
        self._stop.set()

    def _not_sent(self, what: str) -> PortError:
        return PortError(Reason.SERVER_UNREACHABLE, f"server {self._name} {what}", acted=Acted.NO)

    def _maybe(self, what: str) -> PortError:
        return PortError(Reason.CONNECTION_LOST, f"server {self._name} {what}", acted=Acted.MAYBE)

    def _unreadable(self, what: str) -> PortError:
        return PortError(Reason.ANSWER_UNREADABLE, f"server {self._name} {what}", acted=Acted.MAYBE)

    def _too_big(self) -> PortError:
        return self._unreadable(f"gave an answer over {self._max_frame} bytes")


class _Courier(httpx2.AsyncBaseTransport):
    """Carries what the SDK posts: our bytes for its own, and no exception back."""

    def __init__(self, leg: HttpLeg, below: httpx2.AsyncBaseTransport) -> None:
        self._leg = leg
        self._below = below

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        number = request.headers.pop(_MARK, None)
        if request.method != "POST":
            response = await self._below.handle_async_request(request)
            if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                return response
            return httpx2.Response(
                response.status_code,
                headers=response.headers,
                stream=_Unasked(response),
                extensions=response.extensions,
            )
        if number is None:
            return await self._carry_old(request)
        sent = self._leg.sent(number)
        if sent is None:
            # Cancelled before it left.
            return _done()
        refusal = self._leg.refuses(sent)
        if refusal is not None:
            self._leg.no_answer(sent, refusal)
            return _done()
        headers = httpx2.Headers([pair for pair in request.headers.raw if pair[0].lower() not in _OF_BODY])
        # A redirect is made from the SDK's request, so that keeps the mark; what leaves has none.
        request.headers[_MARK] = number
        outgoing = httpx2.Request(
            "POST", request.url, headers=headers, content=sent.frame.raw, extensions=request.extensions
        )
        try:
            response = await self._below.handle_async_request(outgoing)
        except httpx2.TransportError as error:
            self._leg.failed(sent, error)
            return _done()
        return await self._leg.judge(sent, response)

    async def _carry_old(self, request: httpx2.Request) -> httpx2.Response:
        posted = self._leg.posted(request.content)
        if posted is None:
            # Not ours: somebody signs in.
            return await self._below.handle_async_request(request)
        try:
            response = await self._below.handle_async_request(request)
        except httpx2.TransportError as error:
            return await self._leg.judge_old(posted, error)
        return await self._leg.judge_old(posted, response)

    async def aclose(self) -> None:
        await self._below.aclose()


class _Watched(httpx2.AsyncByteStream):
    """The event stream of one answer, and how far it came."""

    def __init__(self, leg: HttpLeg, sent: _Sent, response: httpx2.Response) -> None:
        self._leg = leg
        self._sent = sent
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in _without_mark(cast("httpx2.AsyncByteStream", self._response.stream)):
                self._sent.received_bytes += len(chunk)
                yield chunk
        except httpx2.TransportError as error:
            self._leg.broke(self._sent, error)
            raise
        self._leg.broke(self._sent, None)

    async def aclose(self) -> None:
        await self._response.aclose()


class _Unasked(httpx2.AsyncByteStream):
    """The event stream of what a server says without having been asked."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in _without_mark(cast("httpx2.AsyncByteStream", self._response.stream)):
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


async def _without_mark(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Take a byte order mark off the beginning of an event stream, as its standard says and the SDK does not."""
    first = b""
    begun = False
    async for chunk in chunks:
        if begun:
            yield chunk
            continue
        first += chunk
        if len(first) >= len(BOM_UTF8) or not BOM_UTF8.startswith(first):
            begun = True
            yield first.removeprefix(BOM_UTF8)
    if not begun:
        yield first


_OF_BODY: Final = frozenset({b"content-length", b"transfer-encoding"})


def _stand_in(sent: _Sent, cancelled: _Sent | None) -> JSONRPCMessage:
    """Make what the SDK is given in a frame's place; the courier puts the frame's bytes into the body."""
    frame = sent.frame
    if frame.kind is FrameKind.REQUEST:
        return JSONRPCRequest(jsonrpc="2.0", id=sent.number, method=frame.method)
    if frame.kind is FrameKind.NOTIFICATION:
        params = None if cancelled is None else {"requestId": cancelled.number}
        return JSONRPCNotification(jsonrpc="2.0", method=frame.method, params=params)
    return JSONRPCResponse(jsonrpc="2.0", id=sent.number, result={})


def _whole(frame: Frame) -> JSONRPCMessage:
    """Make the SDK's form of a frame, for a server of 2024-11-05: there the SDK writes the body."""
    given = {} if frame.params is None else {"params": frame.params}
    if frame.kind is FrameKind.REQUEST:
        return JSONRPCRequest.model_construct(None, jsonrpc="2.0", id=frame.id, method=frame.method, **given)
    if frame.kind is FrameKind.NOTIFICATION:
        return JSONRPCNotification.model_construct(None, jsonrpc="2.0", method=frame.method, **given)
    if frame.kind is FrameKind.ERROR:
        error = ErrorData.model_construct(None, **(frame.error if isinstance(frame.error, dict) else {}))
        return JSONRPCError.model_construct(None, jsonrpc="2.0", id=frame.id, error=error)
    return JSONRPCResponse.model_construct(None, jsonrpc="2.0", id=frame.id, result=frame.result)


def _answer_in(body: bytes) -> Frame | None:
    """Read an answer out of a body; `None` when it holds none."""
    try:
        # A line end is never inside a JSON string, so this changes no value, and a frame is one line.
        frame = read_server(body.replace(b"\r", b" ").replace(b"\n", b" ").strip())
    except WireError:
        return None
    if frame.kind is FrameKind.ERROR:
        # Gateways answer with JSON of their own, which often has an `error`.
        return frame if isinstance(frame.error, dict) and "code" in frame.error else None
    return frame if frame.kind is FrameKind.RESULT else None


async def _read(response: httpx2.Response, limit: int) -> bytes | None:
    """Read a body; `None` when it is larger than the limit."""
    whole = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            whole += chunk
            if len(whole) > limit:
                return None
    finally:
        await response.aclose()
    return bytes(whole)


def _done() -> httpx2.Response:
    """What the SDK sees of a POST that needs nothing more of it."""
    return httpx2.Response(202)


def _proxy_for(url: str) -> str | None:
    """Name the proxy that the environment sets for a URL: httpx2 asks itself only when it makes the transport."""
    parts = httpx2.URL(url)
    if urllib.request.proxy_bypass(parts.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme, proxies.get("all"))


def _said(error: BaseException) -> str:
    """Say what an error of a library says, on one line."""
    first: BaseException = error
    while isinstance(first, BaseExceptionGroup):
        first = cast("BaseExceptionGroup[BaseException]", first).exceptions[0]
    return printable(str(first))[:200] or type(first).__name__


def _quieten() -> None:
    """Keep the SDK's own log off our standard error: whatever it says is told in our words."""
    log = logging.getLogger("mcp.client")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
        log.propagate = False


def _nobody(_frames: Sequence[bytes]) -> None:
    """Before `start` there is nobody to hand frames to."""
