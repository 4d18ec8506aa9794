"""Asks addresses for checks: listed hosts only, the address that was checked is the one connected to, no redirects.

No proxy and no credentials of ours are used, and everything that comes is bounded.
"""

import http.client
import ipaddress
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import Final
from urllib.parse import quote, urlsplit

from soothsayer_mcp.adapters.probes.files import doubt
from soothsayer_mcp.evidence.checks import HttpFacts
from soothsayer_mcp.evidence.scope import AbsentError, Values, take

MOST_BYTES: Final = 1_000_000
TOTAL_S: Final = 10.0
_USE: Final = re.compile(r"\$\{([^{}]+)\}")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PORTS: Final = {"http": 80, "https": 443}


def address_of(template: str, values: Values) -> str:
    """Fill in an address: one label of the host, else encoded into path or query. Raises `PortError`."""
    scheme, colon, rest = template.partition("://")
    host, slash, tail = rest.partition("/")
    if not colon or scheme not in _PORTS:
        raise doubt("an address begins with http:// or https://")
    return f"{scheme}://{_USE.sub(lambda use: _label(use[1], values), host)}{slash}{_filled(tail, values)}"


def _filled(tail: str, values: Values) -> str:
    return _USE.sub(lambda use: _part(use[1], values), tail)


def _value(path: str, values: Values) -> str:
    value = take(path, values)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise AbsentError(f"{path} is no text or number")
    return str(value)


def _label(path: str, values: Values) -> str:
    value = _value(path, values)
    if _LABEL.fullmatch(value) is None:
        raise doubt(f"{path} is no part of a host's name")
    return value


def _part(path: str, values: Values) -> str:
    value = _value(path, values)
    if value in {"", ".", ".."}:
        raise doubt(f"{path} is no part of an address")
    return quote(value, safe="")


class Asking:
    """One request, in a thread; `stop` ends it from outside."""

    def __init__(self, url: str, method: str, hosts: frozenset[str]) -> None:
        """Ask nothing yet. Raises `PortError` for a host that is not listed."""
        split = urlsplit(url)
        self._host = (split.hostname or "").lower()
        self._port = split.port or _PORTS[split.scheme]
        self._tls = split.scheme == "https"
        self._target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        self._method = method
        self._hosts = hosts
        self._socket: socket.socket | None = None
        self._usual = self._port == _PORTS[split.scheme]
        if not self._listed(self._host) or split.username is not None:
            raise doubt(f"{self._host} is not among the hosts that checks may ask")

    def _listed(self, host: str) -> bool:
        return f"{host}:{self._port}" in self._hosts or (self._usual and host in self._hosts)

    def ask(self) -> HttpFacts:
        """Ask, and read what is answered. Raises `PortError`. Blocks for `TOTAL_S` at most."""
        until = time.monotonic() + TOTAL_S
        try:
            return self._ask(until)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise doubt(f"{self._host} gave no answer ({type(error).__name__})") from error
        finally:
            self.stop()

    def stop(self) -> None:
        """End it, whatever it waits for."""
        with suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            if self._socket is not None:
                self._socket.close()

    def _ask(self, until: float) -> HttpFacts:
        plain = socket.create_connection((self._checked_address(), self._port), timeout=_left(until))
        self._socket = plain
        if self._tls:
            self._socket = ssl.create_default_context().wrap_socket(plain, server_hostname=self._host)
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.sock = self._socket
        headers = {"Connection": "close", "Accept": "application/json, */*", "User-Agent": "soothsayer"}
        connection.request(self._method, self._target, headers=headers)
        response = connection.getresponse()
        if 300 <= response.status < 400:  # noqa: PLR2004 - the redirects
            raise doubt(f"{self._host} redirects, and checks do not follow")
        body = b""
        while True:
            self._socket.settimeout(_left(until))
            chunk = response.read1(65_536)
            if not chunk:
                return HttpFacts(status=response.status, body=body.decode("utf-8", "replace"))
            body += chunk
            if len(body) > MOST_BYTES:
                raise doubt(f"{self._host} answered more than {MOST_BYTES:,} bytes")

    def _checked_address(self) -> str:
        """An address of the host that may be connected to; the name is resolved once."""
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        for *_, where in found:
            address = ipaddress.ip_address(str(where[0]).partition("%")[0])
            mapped = getattr(address, "ipv4_mapped", None) or address
            if mapped.is_global or self._listed(str(mapped)):
                return str(where[0])
        raise doubt(f"{self._host} has no address that checks may connect to")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
