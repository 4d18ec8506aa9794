"""The normal forms in which rules compare hosts, schemes, ports and mail domains. No name is resolved here."""

import ipaddress
import re
from collections.abc import Callable
from typing import TypeAlias

from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import Unsure

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Host: TypeAlias = str | Address
"""A lower-case ASCII name without a trailing dot, or an address."""
ToAscii: TypeAlias = Callable[[str], str | None]
"""IDNA by UTS 46 for a name that is not ASCII; `None` when it is refused."""

PRIVATE = "private"
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21, "ssh": 22}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BLANK = re.compile(r"[\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\\]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)")
_PORT = re.compile(r"[0-9]{1,5}")
MAX_NAME = 253
MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a text says that something goes."""

    hosts: tuple[Host, ...]
    """More than one when programs disagree on how to read it."""
    scheme: str | None
    port: int | None
    """As written, or the scheme's own; `None` when neither tells."""


def _no(why: str) -> Unsure:
    return Unsure(f"the address {why}")


def read_scheme(text: str) -> str | Unsure:
    """Read the scheme of a URL, in lower case."""
    if _BLANK.search(text):
        return _no("holds a blank, a control character or a backslash")
    found = _SCHEME.match(text)
    if found is None:
        return _no("has no scheme")
    if _PORT.fullmatch(text[found.end() :].split("/", 1)[0]):
        return _no("may be a host with a port, or a scheme")
    return found.group(1).lower()


def read_target(text: str, to_ascii: ToAscii) -> Target | Unsure:
    """Read a URL, or a bare host with or without a port, in exactly one way."""
    if _BLANK.search(text):
        return _no("holds a blank, a control character or a backslash")
    scheme: str | None = None
    found = _SCHEME.match(text)
    rest = text
    if found is not None and text.startswith("//", found.end()):
        scheme = found.group(1).lower()
        rest = text[found.end() + 2 :]
    elif text.startswith("/"):
        return _no("names no host")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not authority:
        return _no("names no host")
    if "@" in authority:
        return _no("has a user part")
    name, port = _split_port(authority)
    if isinstance(port, Unsure):
        return port
    hosts = read_host(name, to_ascii)
    if isinstance(hosts, Unsure):
        return hosts
    return Target(hosts=hosts, scheme=scheme, port=port if port is not None else DEFAULT_PORTS.get(scheme or ""))


def _split_port(authority: str) -> tuple[str, int | Unsure | None]:
    if authority.startswith("["):
        name, bracket, after = authority.partition("]")
        name += bracket
        if not after:
            return name, None
    elif authority.count(":") > 1:
        return authority, None
    else:
        name, colon, after = authority.partition(":")
        if not colon:
            return name, None
        after = colon + after
    if _PORT.fullmatch(after[1:]) is None or after[0] != ":" or int(after[1:]) > MAX_PORT:
        return name, _no("has a scheme without a host, or a port that is none")
    return name, int(after[1:])


def read_host(name: str, to_ascii: ToAscii) -> "tuple[Host, ...] | Unsure":
    """Read one host: a name in its normal form, or an address in whichever spelling."""
    if name.startswith("[") or ":" in name:
        return _read_v6(name)
    if not name.isascii():
        converted = to_ascii(name)
        if converted is None:
            return _no("is no international name")
        name = converted
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        return _no("is no host name")
    if _NUMERIC.fullmatch(labels[-1]):
        return _read_v4(labels)
    return (name,)


def _read_v6(name: str) -> tuple[Host, ...] | Unsure:
    if name.startswith("["):
        if not name.endswith("]"):
            return _no("is no IPv6 address")
        name = name[1:-1]
    try:
        address = ipaddress.IPv6Address(name)
    except ValueError:
        return _no("is no IPv6 address")
    if address.scope_id is not None:
        return _no("has a zone")
    return (address.ipv4_mapped or address,)


def _read_v4(labels: list[str]) -> tuple[Host, ...] | Unsure:
    """Read the forms that `inet_aton` takes; where a leading zero divides programs, both ways."""
    readings: list[Host] = []
    octal = any(len(label) > 1 and label[0] == "0" and label[1] not in "xX" for label in labels)
    for base in (8, 10) if octal else (10,):
        address = _v4(labels, zero_base=base)
        if address is None:
            return _no("is no IPv4 address")
        readings.append(address)
    return tuple(readings)


def _v4(labels: list[str], *, zero_base: int) -> ipaddress.IPv4Address | None:
    if len(labels) > 4:  # noqa: PLR2004 - an IPv4 address has four parts
        return None
    numbers: list[int] = []
    for label in labels:
        number = _number(label, zero_base=zero_base)
        if number is None:
            return None
        numbers.append(number)
    *head, tail = numbers
    room = 256 ** (4 - len(head))
    if tail >= room or any(part >= 256 for part in head):  # noqa: PLR2004 - a part is a byte
        return None
    total = tail
    for position, part in enumerate(head):
        total += part * 256 ** (3 - position)
    return ipaddress.IPv4Address(total)


def _number(label: str, *, zero_base: int) -> int | None:
    if _NUMERIC.fullmatch(label) is None or len(label) > 14:  # noqa: PLR2004 - no 32-bit number is longer in any base
        return None
    try:
        if label[:2] in {"0x", "0X"}:
            return int(label[2:] or "0", 16)
        if len(label) > 1 and label[0] == "0":
            return int(label, zero_base)
        return int(label)
    except ValueError:
        return None


def host_pattern(pattern: str, to_ascii: ToAscii) -> Callable[[Host], bool]:
    """Compile `acme.test`, `*.acme.test` or an address. Raises `ValueError` for anything else."""
    below = pattern.startswith("*.")
    hosts = read_host(pattern[2:] if below else pattern, to_ascii)
    if isinstance(hosts, Unsure):
        raise ValueError(hosts.why)  # noqa: TRY004 - the text is wrong, not its type
    wanted, *others = hosts
    if others or (below and not isinstance(wanted, str)):
        raise ValueError("the address is no host")
    if below:
        suffix = f".{wanted}"
        return lambda host: isinstance(host, str) and host.endswith(suffix)
    # Not `wanted.__eq__`: between a name and an address that answers NotImplemented, which counts as true.
    return lambda host: host == wanted


def network(text: str) -> Callable[[Address], bool]:
    """Compile `10.0.0.0/8`, an IPv6 network, or `private`. Raises `ValueError` for anything else."""
    if text == PRIVATE:
        return lambda address: not address.is_global or address.is_multicast
    net = ipaddress.ip_network(text)
    return lambda address: address in net


def is_loopback_name(host: Host) -> bool:
    """Whether a name is loopback wherever it is looked up (RFC 6761, section 6.3)."""
    return isinstance(host, str) and (host == "localhost" or host.endswith(".localhost"))


_NOT_IN_ADDRESS = frozenset('<>,;:"()[]\\ ')


def read_mail_domain(text: str, to_ascii: ToAscii) -> tuple[Host, ...] | Unsure:
    """Read the domain of one mail address, `Name <a@b>` too."""
    doubt = Unsure("the text is not exactly one mail address")
    address = text.strip(" ")
    if address.endswith(">"):
        name, opened, inside = address[:-1].partition("<")
        if not opened or _NOT_IN_ADDRESS & (set(name) - set(' "')) or "@" in name:
            return doubt
        address = inside
    local, at, domain = address.partition("@")
    if not local or not at or "@" in domain or _NOT_IN_ADDRESS & set(address) or _BLANK.search(text.replace(" ", "")):
        return doubt
    return read_host(domain, to_ascii)
