"""Which addresses a remote server may be reached at. A name is judged by what it leads to, when it leads there."""

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: Final = "loopback"
PRIVATE: Final = "private"
_WORDS: Final = {
    LOOPBACK: ("127.0.0.0/8", "::1/128"),
    PRIVATE: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_LOW_32: Final = 0xFFFF_FFFF


def networks(text: str) -> tuple[Network, ...]:
    """Read `loopback`, `private`, an address or a network such as `10.0.0.0/8`. Raises `ValueError`."""
    return tuple(ipaddress.ip_network(each) for each in _WORDS.get(text, (text,)))


def literal(host: str) -> Address | None:
    """Read a host that is an address, as it stands in a URL; `None` for a name."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def may_reach(host: str, found: str, listed: Sequence[Network]) -> bool:
    """Whether a host may be connected to at an address that it was found at.

    Public addresses always; what the host itself says, `localhost` or a literal address, where it is this machine or a
    network at home; and what is listed. Addresses that stand inside another one count as themselves.
    """
    address = _inner(ipaddress.ip_address(found.partition("%")[0]))
    if any(address in network for network in listed):
        return True
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return False
    said = literal(host)
    if said is not None:
        return address.is_global or (_inner(said) == address and (address.is_loopback or not address.is_reserved))
    return address.is_global or (address.is_loopback and _is_localhost(host))


def _is_localhost(host: str) -> bool:
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def _inner(address: Address) -> Address:
    """Give the address that packets end at."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    teredo = address.teredo
    carried = address.ipv4_mapped or address.sixtofour or (None if teredo is None else teredo[1])
    if carried is None and address in _NAT64:
        carried = ipaddress.IPv4Address(int(address) & _LOW_32)
    return carried or address
