"""HTTP to remote servers: the address that was checked is the one connected to, at each connection anew."""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

import anyio
import httpcore2
import httpx2

from soothsayer_mcp.adapters.addresses import Network, literal, may_reach

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host. Raises `OSError`."""

ATTEMPT_S: Final = 10.0
"""How long one address of several is tried."""

_SOCKET_OPTION: TypeAlias = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system. Raises `OSError`."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Carries requests to addresses that may be reached, under the name that the URL has."""

    def __init__(self, listed: Sequence[Network], *, resolve: Resolve = resolve) -> None:
        """`listed` is what may be reached beside public addresses."""
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpx2.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=None,
            keepalive_expiry=httpx2.Limits().keepalive_expiry,
            network_backend=_CheckedNetwork(listed, resolve),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request. Raises httpx's errors."""
        url = request.url
        sent = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=cast("httpx2.AsyncByteStream", request.stream),
            extensions=request.extensions,
        )
        with _in_words_of_httpx():
            got = cast("_Answer", await self._pool.handle_async_request(sent))
        return httpx2.Response(got.status, headers=got.headers, stream=_Body(got.stream), extensions=got.extensions)

    async def aclose(self) -> None:
        """End all connections."""
        await self._pool.aclose()


class ProxiedTransport(httpx2.AsyncBaseTransport):
    """Carries requests through the proxy of the environment, which looks names up and connects.

    What can be told without a look at the network is checked here: an address in place of a name.
    """

    def __init__(self, listed: Sequence[Network], proxy: str) -> None:
        """`proxy` is the proxy's own URL."""
        self._listed = listed
        self._below = httpx2.AsyncHTTPTransport(proxy=proxy, limits=httpx2.Limits())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request. Raises httpx's errors."""
        host = request.url.host
        address = literal(host)
        is_number = host.removesuffix(".").rpartition(".")[2][:1].isdecimal()
        if is_number if address is None else not may_reach(host, str(address), self._listed):
            raise httpx2.ConnectError(_refusal(host, [host]))
        return await self._below.handle_async_request(request)

    async def aclose(self) -> None:
        """End all connections."""
        await self._below.aclose()


class _Stream(Protocol):
    """What we use of a body of httpcore."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class _Answer(Protocol):
    """What we use of an answer of httpcore, which leaves its extensions without a type."""

    status: int
    headers: list[tuple[bytes, bytes]]
    stream: _Stream
    extensions: dict[str, Any]


class _Body(httpx2.AsyncByteStream):
    """A body whose errors are those of httpx."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _in_words_of_httpx():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Looks a name up once per connection, and connects to what was found and may be reached."""

    def __init__(self, listed: Sequence[Network], resolve: Resolve) -> None:
        self._listed = listed
        self._resolve = resolve
        self._below = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the name is the library's
        local_address: str | None = None,
        socket_options: Iterable[_SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to an address of the host that may be reached. Raises httpcore's errors."""
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} has no address ({error.strerror})") from error
        allowed = [address for address in found if may_reach(host, address, self._listed)]
        if not allowed:
            raise httpcore2.ConnectError(_refusal(host, found))
        each_s = timeout if timeout is None or len(allowed) == 1 else min(timeout, ATTEMPT_S)
        last: httpcore2.NetworkError | httpcore2.TimeoutException | None = None
        for address in allowed:
            try:
                return await self._below.connect_tcp(address, port, each_s, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        assert last is not None
        raise last

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the name is the library's
        socket_options: Iterable[_SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: no server is reached this way."""
        del timeout, socket_options
        raise httpcore2.ConnectError(f"{path} is no address")


def _refusal(host: str, found: Sequence[str]) -> str:
    where = host if [host] == list(found) else f"{host} leads to {', '.join(found[:3])}, which"
    return f"{where} is no public address; allow it with `addresses` of the server, or --allow-address"


@contextlib.contextmanager
def _in_words_of_httpx() -> Generator[None]:
    """Tell errors of httpcore as httpx2 does: by the same names."""
    try:
        yield
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
        kind = cast("type[httpx2.TransportError]", getattr(httpx2, type(error).__name__))
        raise kind(str(error)) from error
    except httpcore2.UnsupportedProtocol as error:
        raise httpx2.UnsupportedProtocol(str(error)) from error
