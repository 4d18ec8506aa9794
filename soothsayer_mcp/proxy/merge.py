"""Several servers shown as one: openings and lists. Bytes in, bytes out: kept items are the servers' own bytes.

What is left out is told, never just dropped.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum, StrEnum
from typing import Final, TypeAlias

from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.proxy.names import Names, fold
from soothsayer_mcp.proxy.resources import OWN_SCHEME, is_own
from soothsayer_mcp.wire.eras import HANDSHAKE_VERSIONS, META_CLIENT_CAPABILITIES, META_SERVER_INFO, STATELESS_VERSION
from soothsayer_mcp.wire.frame import Edit, Frame, Remove, Replace
from soothsayer_mcp.wire.places import Path, Place, Wanted, locate, start

PAGES_LIMIT: Final = 100
"""Pages of one server that are fetched for a merged list."""


class ListKind(Enum):
    """The four lists: method, member of the result, and what tells two items apart."""

    TOOLS = ("tools/list", "tools", "name")
    PROMPTS = ("prompts/list", "prompts", "name")
    RESOURCES = ("resources/list", "resources", "uri")
    TEMPLATES = ("resources/templates/list", "resourceTemplates", "uriTemplate")

    def __init__(self, method: str, member: str, identity: str) -> None:
        """Take the row apart."""
        self.method = method
        self.member = member
        self.identity = identity

    @property
    def is_prefixed(self) -> bool:
        """Whether items are shown under their server's name; URIs are not rewritten."""
        return self.identity == "name"


class Hidden(StrEnum):
    """Why an item is not shown."""

    UNNAMED = "unnamed"
    """It is no object, or its name is no string."""
    RESERVED = "reserved"
    """It is named like a control tool, or has a URI of the proxy's own."""
    LOOKS_ALIKE = "looks_alike"
    """After folding it is named like another of its server's that came before."""
    CLAIMED = "claimed"
    """A server that comes first in the configuration lists the same URI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One listed item."""

    server: str
    name: str
    """The server's own name or URI: what policy, pins and the trace use."""
    shown: str
    raw: bytes
    """As the server sent it, for the pin."""
    shown_raw: bytes
    """The same bytes with the shown name in the place of the own one."""
    value: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenItem:
    """An item that is left out, for the log and `doctor`."""

    server: str
    name: str
    why: Hidden
    like: str = ""
    """The name it clashes with."""


class ListUnreadableError(Exception):
    """A server's list cannot be read in exactly one way; such a list is never passed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A server's answer to `initialize` or `server/discover`."""

    server: str
    frame: Frame


Carries: TypeAlias = Callable[[str, str], bool]
"""Whether a capability that needs carrying end to end is: `("tasks", "")`, `("extensions", name)`, `("experimental",
name)`."""

_UNITED: Final = ("tools", "resources", "prompts", "completions", "logging")
_ANNOUNCED: Final = frozenset({"tools", "resources", "prompts"})
"""Lists whose changes the proxy announces itself: a policy reloads, a server comes late."""

_PER_NAME: Final = frozenset({"extensions", "experimental"})

SAMPLING: Final[tuple[Path, ...]] = (("sampling",), ("tasks", "requests", "sampling"))
ELICITATION: Final[tuple[Path, ...]] = (("elicitation",), ("tasks", "requests", "elicitation"))
ROOTS: Final[tuple[Path, ...]] = (("roots",),)
ASKED_BY: Final[Mapping[str, tuple[Path, ...]]] = {
    "sampling/createMessage": SAMPLING,
    "elicitation/create": ELICITATION,
    "roots/list": ROOTS,
}
"""A server's request -> the capabilities of a host that promise it an answer.

A host's declaration loses them when policy forbids the subject outright, so that a server never asks.
"""


def with_own_name(frame: Frame, name: str, path: Path = ("params", "name")) -> bytes:
    """Give a host's request with a server's own name in it and every other byte as it was.

    `path` is `("params", "ref", "name")` for a completion.
    """
    return frame.edited(Replace(path, compact(name)))


def capability_edits(frame: Frame, forbidden: Iterable[Path]) -> tuple[Edit, ...]:
    """Take what policy forbids out of the capabilities a host declares, in `initialize` or in a stateless request."""
    at: Path = ("params", "capabilities")
    if frame.method != "initialize":
        at = ("params", "_meta", META_CLIENT_CAPABILITIES)
    paths = set(forbidden)
    # An edit must not lie within another: what goes with its parent needs none of its own.
    alone = [path for path in paths if not any(path[:depth] in paths for depth in range(1, len(path)))]
    return tuple(Remove((*at, *path)) for path in sorted(alone))


def initialize_for(frame: Frame, *, request_id: str, forbidden: Iterable[Path]) -> bytes:
    """Give the host's `initialize` under an id of ours: for one of several servers, or again after a restart."""
    return frame.edited(Replace(("id",), compact(request_id)), *capability_edits(frame, forbidden))


def merged_version(asked: str, answered: Sequence[str]) -> str:
    """Choose the version to tell the host: the one it asked for if a server took it, else the newest that any answered.

    Newer versions read what older servers send; the other way round results would be refused.
    """
    if asked in answered:
        return asked
    known = [version for version in HANDSHAKE_VERSIONS if version in answered]
    return known[-1] if known else max(answered)


def initialize_result(openings: Sequence[Opening], *, asked: str, server_info: bytes, carries: Carries) -> bytes:
    """Make one `initialize` result of several, in the order of the configuration; each frame has a result."""
    versions = [version for opening in openings if isinstance(version := _member(opening, "protocolVersion"), str)]
    return _object(
        {
            "protocolVersion": compact(merged_version(asked, versions or [HANDSHAKE_VERSIONS[-1]])),
            "capabilities": merged_capabilities(openings, carries),
            "serverInfo": server_info,
            **_instructions(openings),
        }
    )


def discover_result(openings: Sequence[Opening], *, server_info: bytes, carries: Carries) -> bytes | None:
    """Make one `server/discover` result of several; `None` when not all of them speak the stateless era."""
    common: list[Json] | None = None
    for opening in openings:
        offered = _member(opening, "supportedVersions")
        versions = list(offered) if isinstance(offered, list) else []
        common = versions if common is None else [version for version in common if version in versions]
    if not common or STATELESS_VERSION not in common:
        return None
    return _object(
        {
            "resultType": b'"complete"',
            "supportedVersions": compact(common),
            "capabilities": merged_capabilities(openings, carries),
            **_instructions(openings),
            **_hints([opening.frame for opening in openings], cut=False),
            "_meta": _object({META_SERVER_INFO: server_info}),
        }
    )


def merged_capabilities(openings: Sequence[Opening], carries: Carries) -> bytes:
    """Unite what servers can do. What nobody has is absent, `{}` is not; unknown keys stay, and the first counts."""
    united: dict[str, dict[str, bytes]] = {}
    whole: dict[str, bytes] = {}
    for opening in openings:
        capabilities = _member(opening, "capabilities")
        if not isinstance(capabilities, Mapping):
            continue
        for key, value in capabilities.items():
            if key in _UNITED or key in _PER_NAME:
                # Some servers write null for what they lack.
                if value is not None:
                    _unite(united.setdefault(key, {}), opening, key, value, carries)
            elif key not in whole and (key != "tasks" or carries("tasks", "")):
                raw = opening.frame.slice(("result", "capabilities", key))
                if raw is not None:
                    whole[key] = raw
    members = {key: _object(inner) for key, inner in united.items() if inner or key not in _PER_NAME}
    return _object(members | whole)


def _unite(into: dict[str, bytes], opening: Opening, key: str, value: Json, carries: Carries) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            raw = opening.frame.slice(("result", "capabilities", key, name))
            if raw is None or (key in _PER_NAME and not carries(key, name)):
                continue
            if name == "subscribe" and inner is True:
                into[name] = raw
            into.setdefault(name, raw)
    if key in _ANNOUNCED:
        into["listChanged"] = b"true"


def listed(server: str, frame: Frame, kind: ListKind, names: Names) -> tuple[list[Item], list[HiddenItem]]:
    """Take one page of a server's list apart into items, in the server's order, and those that have no name.

    Raises `ListUnreadableError`.
    """
    result = frame.result
    values = result.get(kind.member) if isinstance(result, Mapping) else None
    if not frame.strict or not isinstance(values, list):
        raise ListUnreadableError(f"{kind.method} of server {server!r} cannot be read in exactly one way")
    text = frame.raw.decode()
    wanted: Wanted = {"result": {kind.member: {n: {} for n in range(len(values))}}}
    items: list[Item] = []
    hidden: list[HiddenItem] = []
    places = _elements(locate(text, start(text), wanted), ("result", kind.member))
    for value, (at, end, place) in zip(values, places, strict=True):
        name = value.get(kind.identity) if isinstance(value, Mapping) else None
        member = None if place is None else place.last(kind.identity)
        if not isinstance(value, Mapping) or not isinstance(name, str) or member is None:
            hidden.append(HiddenItem(server=server, name="", why=Hidden.UNNAMED))
            continue
        raw = text[at:end].encode()
        shown, shown_raw = name, raw
        if names.prefixed and kind.is_prefixed:
            shown = names.shown(server, name)
            shown_raw = text[at : member[2]].encode() + compact(shown) + text[member[3] : end].encode()
        items.append(Item(server=server, name=name, shown=shown, raw=raw, shown_raw=shown_raw, value=value))
    return items, hidden


def without_clashes(
    items: Iterable[Item], kind: ListKind, *, reserved: Collection[str] = ()
) -> tuple[list[Item], list[HiddenItem]]:
    """Leave out what the host could take for something else, and tell it.

    `items` come in the order of the configuration, then the server's; the first of two stays. `reserved` holds the
    names of control tools, or is empty.
    """
    kept: list[Item] = []
    hidden: list[HiddenItem] = []
    taken = {fold(name): name for name in reserved}
    for item in items:
        key = fold(item.shown) if kind.is_prefixed else item.shown
        like = taken.get(key)
        if kind.is_prefixed and like is None:
            # A control tool's name is reserved in every server, not only where it would be the shown one.
            like = next((name for name in reserved if fold(name) == fold(item.name)), None)
        if like is not None:
            why = Hidden.RESERVED if like in reserved else Hidden.LOOKS_ALIKE if kind.is_prefixed else Hidden.CLAIMED
            hidden.append(HiddenItem(server=item.server, name=item.name, why=why, like=like))
        elif not kind.is_prefixed and is_own(item.name):
            hidden.append(HiddenItem(server=item.server, name=item.name, why=Hidden.RESERVED, like=OWN_SCHEME))
        else:
            taken[key] = item.shown
            kept.append(item)
    return kept, hidden


def list_answer(
    request: Frame,
    kind: ListKind,
    items: Iterable[bytes],
    *,
    pages: Sequence[Frame],
    cut: bool,
    server_info: bytes | None = None,
) -> bytes:
    """Answer a list request with these items and what the servers' pages say besides.

    `cut` says that policy left something out: then nothing may be kept by a cache that others use. `server_info` is
    given in the stateless era, and makes the answer one of it.
    """
    members: dict[str, bytes] = {}
    if server_info is not None:
        members["resultType"] = b'"complete"'
    members[kind.member] = b"[" + b",".join(items) + b"]"
    for page in pages:
        result = page.result
        for key in result if isinstance(result, Mapping) else ():
            if key not in _MERGED and key != kind.member:
                raw = page.slice(("result", key))
                if raw is not None:
                    members.setdefault(key, raw)
    if server_info is not None:
        members |= _hints(pages, cut=cut)
        members["_meta"] = _object({META_SERVER_INFO: server_info})
    return answer(request, _object(members))


_MERGED: Final = frozenset({"resultType", "nextCursor", "ttlMs", "cacheScope", "_meta"})


def answer(request: Frame, result: bytes) -> bytes:
    """Answer a request with a result, its id in the bytes that the host wrote."""
    return b'{"jsonrpc":"2.0","id":' + (request.slice(("id",)) or b"null") + b',"result":' + result + b"}"


def _hints(pages: Sequence[Frame], *, cut: bool) -> dict[str, bytes]:
    """Join cache hints: the shortest time, and public only where every server says so and nothing was left out."""
    results = [page.result for page in pages]
    times = [_time_ms(result) for result in results]
    public = not cut and all(isinstance(result, Mapping) and result.get("cacheScope") == "public" for result in results)
    return {"ttlMs": compact(min(times, default=0)), "cacheScope": b'"public"' if public else b'"private"'}


def _time_ms(result: Json) -> int | float:
    time = result.get("ttlMs") if isinstance(result, Mapping) else None
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < math.inf:
        return 0
    return time


def _instructions(openings: Sequence[Opening]) -> dict[str, bytes]:
    said = [
        f"## {opening.server}\n\n{text}"
        for opening in openings
        if isinstance(text := _member(opening, "instructions"), str) and text
    ]
    return {"instructions": compact("\n\n".join(said))} if said else {}


def _member(opening: Opening, key: str) -> Json:
    result = opening.frame.result
    return result.get(key) if isinstance(result, Mapping) else None


def _elements(place: Place, path: Path) -> list[tuple[int, int, Place | None]]:
    for key in path:
        member = place.last(key)
        if member is None or member[5] is None:
            raise LookupError(path)
        place = member[5]
    return [(at, end, below) for _, _, at, end, _, below in place.inside]


def _object(members: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join(compact(key) + b":" + raw for key, raw in members.items()) + b"}"
