"""What the entries of a host's file say, and the edits that put us in front of a server or take us away again."""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import count
from typing import Final

from soothsayer_mcp.adapters.config import NAME, near_name
from soothsayer_mcp.adapters.hosts.edits import Edit, Prepend, Put, Shift, Swap, UneditableError
from soothsayer_mcp.adapters.hosts.program import is_own
from soothsayer_mcp.adapters.hosts.table import Host, Shape
from soothsayer_mcp.adapters.hosts.tree import Document, Entry
from soothsayer_mcp.model.call import CONTROL
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass

RAISED_S: Final = 600
"""What `--raise-timeouts` asks of a host: time for a person to come and answer."""

_HTTP: Final = frozenset({"http", "streamable-http", "streamableHttp", "streamable_http", "remote"})


class Standing(StrEnum):
    """How a host reaches a server."""

    GOVERNED = "governed"
    DIRECT = "direct"
    ALONE = "left alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One entry, understood."""

    name: str
    entry: Entry
    standing: Standing
    why: str = ""
    """Why it is left alone."""
    off: bool = False
    argv: tuple[str, ...] = ()
    """The server's own command line, without ours."""
    url: str = ""
    env: tuple[str, ...] = ()
    """The names of the variables that the entry hands to it."""
    command: tuple[str, ...] = ()
    """What the host starts, ours included."""
    options: tuple[str, ...] = ()
    """What stands between `proxy` and the server's own command."""
    maybe_signed_in: bool = False
    """A remote address without any header: the host may have signed in by itself."""

    @property
    def target(self) -> tuple[str, ...]:
        """What it comes down to: two entries with the same are the same server."""
        return self.argv or (self.url,)

    def option(self, name: str) -> tuple[str, ...]:
        """The values given for an option of ours."""
        pairs = zip(self.options, self.options[1:], strict=False)
        return tuple(value for word, value in pairs if word == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """What all servers of one `connect` have in common."""

    program: tuple[str, ...]
    options: tuple[str, ...] = ()
    pass_env: tuple[str, ...] = ()
    raise_timeouts: bool = False


def servers(document: Document, host: Host) -> tuple[Server, ...]:
    """Every server of a file, in its order."""
    return tuple(_server(entry, host.shape) for entry in document.entries)


def _server(entry: Entry, shape: Shape) -> Server:
    said = entry.value
    if not isinstance(said, dict):
        return Server(name=entry.name, entry=entry, standing=Standing.ALONE, why="it is no list of names and values")
    off = said.get(shape.off[0]) is shape.off[1]
    words = _words(said, shape)
    if words is not None:
        return _local(entry, shape, said, words, off=off)
    address = next((key for key in shape.urls if isinstance(said.get(key), str)), None)
    if address is None:
        return Server(name=entry.name, entry=entry, standing=Standing.ALONE, why=_why_odd(said, shape), off=off)
    return _remote(entry, shape, said, address, off=off)


def _why_odd(said: JsonObject, shape: Shape) -> str:
    if said.get("type") in {"builtin", "platform"}:
        return "it is built into the host"
    if said.get("source") == "extension":
        return "it belongs to an extension of the host"
    if not shape.urls and "url" in said:
        return "it is remote, which this host does not read from its file"
    return "it has neither a command nor an address that we know"


def _remote(entry: Entry, shape: Shape, said: JsonObject, address: str, *, off: bool) -> Server:
    url = str(said[address])
    kind = said.get("type")
    why = ""
    opaque = next((key for key in shape.opaque if key in said), None)
    if opaque is not None:
        why = f"the host signs in or sends more by itself (`{opaque}`)"
    elif kind == "sse" or (shape.url_types and address != "httpUrl" and kind not in shape.url_types):
        why = "it speaks SSE, which the proxy does not"
    elif kind is not None and kind not in _HTTP:
        why = f"its type is {kind}"
    elif shape.headers in said and _texts(said[shape.headers]) is None:
        why = f"`{shape.headers}` is no list of names and texts"
    return Server(
        name=entry.name,
        entry=entry,
        standing=Standing.ALONE if why else Standing.DIRECT,
        why=why or entry.node.fixed,
        off=off,
        url=url,
        maybe_signed_in=not said.get(shape.headers) and not re.match(r"https?://(?:localhost|127\.|\[::1\])", url),
    )


def _words(said: JsonObject, shape: Shape) -> tuple[str, ...] | None:
    """The command line of an entry; `None` when it has none that can be read."""
    command = said.get(shape.command)
    if shape.args is None:
        words = command if isinstance(command, list) else None
    else:
        args = said.get(shape.args)
        words = [command, *(args if isinstance(args, list) else [])] if isinstance(command, str) else None
        if args is not None and not isinstance(args, list):
            return None
    if not words or not all(isinstance(word, str) for word in words) or not words[0]:
        return None
    return tuple(map(str, words))


def _local(entry: Entry, shape: Shape, said: JsonObject, words: tuple[str, ...], *, off: bool) -> Server:
    env = _texts(said.get(shape.env)) or {}
    names = (*env, *_names(said.get(shape.env_names)))
    begin = is_own(words)
    if begin is None:
        why = entry.node.fixed
        standing = Standing.ALONE if why else Standing.DIRECT
        return Server(
            name=entry.name, entry=entry, standing=standing, why=why, off=off, argv=words, env=names, command=words
        )
    end = words.index("--", begin) if "--" in words[begin:] else len(words)
    options = tuple(part for word in words[begin:end] for part in _halves(word))
    made = Server(
        name=entry.name,
        entry=entry,
        standing=Standing.GOVERNED,
        off=off,
        argv=words[end + 1 :],
        env=names,
        command=words,
        options=options,
    )
    url = next(iter(made.option("--url")), "")
    return made if made.argv or not url else _with_url(made, url)


def _with_url(server: Server, url: str) -> Server:
    return Server(
        name=server.name,
        entry=server.entry,
        standing=server.standing,
        off=server.off,
        url=url,
        env=server.env,
        command=server.command,
        options=server.options,
    )


def _halves(word: str) -> tuple[str, ...]:
    name, equals, value = word.partition("=")
    return (name, value) if equals and word.startswith("--") else (word,)


def _texts(value: Json) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    return {key: each for key, each in value.items() if isinstance(each, str)} if _all_text(value) else None


def _all_text(value: Mapping[str, Json]) -> bool:
    return all(isinstance(each, str) for each in value.values())


def _names(value: Json) -> tuple[str, ...]:
    """Names of variables, plain or as `name` of an object."""
    if not isinstance(value, list):
        return ()
    found = [each.get("name") if isinstance(each, dict) else each for each in value]
    return tuple(each for each in found if isinstance(each, str))


def names_of(found: Sequence[Server]) -> Mapping[str, str]:
    """What a proxy calls each server of a file: its own name where a server may have it, else the nearest free one."""
    names = {server.name: server.name for server in found if NAME.fullmatch(server.name) and server.name != CONTROL}
    taken = {*names.values(), CONTROL, *(name for server in found for name in server.option("--name"))}
    for server in found:
        if server.name in names:
            continue
        near = near_name(server.name) or "server"
        free = next(name for name in _numbered(near) if name not in taken)
        names[server.name] = free
        taken.add(free)
    return names


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        yield f"{name[: 19 - len(str(number))]}-{number}"


def wrap(server: Server, host: Host, wrapping: Wrapping, *, name: str) -> tuple[Edit, ...]:
    """Put us in front of a server. Raises `UneditableError` when its entry cannot be written so."""
    shape = host.shape
    said = server.entry.value
    assert isinstance(said, dict)
    options = ["--name", name, *wrapping.options]
    if server.argv:
        if shape.env_file and shape.env_file in said and not wrapping.pass_env:
            raise UneditableError(
                f"its variables come from `{shape.env_file}`; name those it needs with --pass-env NAME"
            )
        passed = dict.fromkeys((*server.env, *wrapping.pass_env))
        options += [word for name in passed for word in ("--pass-env", name)]
        before = (*wrapping.program[1:], "proxy", *options, "--", server.argv[0])
        edits = _wrap_local(shape, said, wrapping.program[0], before)
    else:
        headers = _texts(said.get(shape.headers)) or {}
        variables = _variables(headers)
        options += ["--url", server.url]
        options += [word for header, name in variables.items() for word in ("--header-env", f"{header}={name}")]
        words = (*wrapping.program[1:], "proxy", *options)
        edits = _wrap_remote(shape, said, wrapping.program[0], words)
        if headers:
            values: JsonObject = {variables[header]: value for header, value in headers.items()}
            edits += _move_headers(shape, said, values)
    if wrapping.raise_timeouts:
        edits += _raise(host, said)
    return tuple(edits)


def _wrap_local(shape: Shape, said: JsonObject, program: str, before: Sequence[str]) -> list[Edit]:
    if shape.args is None:
        # The first word of the list is the server's program, which stays where it is.
        return [Prepend(key=shape.command, items=(program, *before[:-1]))]
    edits: list[Edit] = [Put(key=shape.command, value=program, after=shape.command)]
    args = said.get(shape.args)
    if isinstance(args, list):
        edits.append(Prepend(key=shape.args, items=tuple(before)))
    else:
        edits.append(Put(key=shape.args, value=list(before), after=shape.command))
    return edits


def _wrap_remote(shape: Shape, said: JsonObject, program: str, words: Sequence[str]) -> list[Edit]:
    address = next(key for key in shape.urls if isinstance(said.get(key), str))
    edits: list[Edit] = []
    if "type" in said:
        edits.append(Put(key="type", value=shape.local_type, after="type"))
    if shape.args is None:
        edits.append(Swap(key=address, members=((shape.command, [program, *words]),)))
    else:
        edits.append(Swap(key=address, members=((shape.command, program), (shape.args, list(words)))))
    return edits


def _move_headers(shape: Shape, said: JsonObject, values: JsonObject) -> list[Edit]:
    env = said.get(shape.env)
    if env is None:
        return [Swap(key=shape.headers, members=((shape.env, values),))]
    if not isinstance(env, dict):
        raise UneditableError(f"`{shape.env}` is no list of names and values")
    return [
        Put(key=shape.env, value={**env, **values}, after=shape.env),
        Swap(key=shape.headers, members=()),
    ]


def _variables(headers: Mapping[str, str]) -> dict[str, str]:
    """A name of a variable for each header, no two the same."""
    found: dict[str, str] = {}
    for header in headers:
        base = "SOOTHSAYER_HEADER_" + re.sub(r"[^A-Z0-9]+", "_", header.upper()).strip("_")
        name, number = base, 1
        while name in found.values():
            number += 1
            name = f"{base}_{number}"
        found[header] = name
    return found


def _raise(host: Host, said: JsonObject) -> list[Edit]:
    if not host.limit_key:
        return []
    wanted = RAISED_S if host.limit_unit == "s" else RAISED_S * 1_000
    now = said.get(host.limit_key)
    if isinstance(now, int | float) and not isinstance(now, bool) and now >= wanted:
        return []
    anchor = next(iter(key for key in (host.shape.command, *host.shape.urls) if key in said), host.shape.command)
    if anchor in host.shape.urls:
        # The address makes room for our command, and what comes after it has to find it by that name.
        first = next(iter(said))
        anchor = first if first != anchor else next((key for key in said if key != anchor), "")
        if not anchor:
            raise UneditableError("its only line is the address; add the limit by hand")
    return [Put(key=host.limit_key, value=wanted, after=anchor)]


def unwrap(server: Server, host: Host, original: JsonObject | None) -> tuple[Edit, ...]:
    """Take us away from a server whose entry was changed since; `original` is what it said before, where known.

    Raises `UneditableError` when it cannot be told what stood there.
    """
    shape = host.shape
    said = server.entry.value
    assert isinstance(said, dict)
    edits: list[Edit] = []
    if server.argv:
        count = len(server.command) - len(server.argv)
        if shape.args is None:
            edits.append(Shift(key=shape.command, count=count))
        else:
            edits.append(Put(key=shape.command, value=server.argv[0], after=shape.command))
            # The program itself is no argument, and of ours the first stands under the command.
            edits.append(Shift(key=shape.args, count=count))
            if original is not None and shape.args not in original and len(server.argv) == 1:
                edits[-1] = Swap(key=shape.args, members=())
    else:
        edits += _unwrap_remote(server, shape, said, original)
    if original is not None and host.limit_key and said.get(host.limit_key) != original.get(host.limit_key):
        raised = RAISED_S if host.limit_unit == "s" else RAISED_S * 1_000
        if said.get(host.limit_key) == raised:
            before = original.get(host.limit_key)
            key = host.limit_key
            edits.append(Swap(key=key, members=()) if before is None else Put(key=key, value=before, after=key))
    return tuple(edits)


def _unwrap_remote(server: Server, shape: Shape, said: JsonObject, original: JsonObject | None) -> list[Edit]:
    if original is None:
        raise UneditableError("it is not on record how its address was written before")
    address = next((key for key in shape.urls if isinstance(original.get(key), str)), None)
    if address is None:
        raise UneditableError("it had no address before")
    edits: list[Edit] = [Swap(key=shape.command, members=((address, server.url),))]
    if shape.args is not None and shape.args in said:
        edits.append(Swap(key=shape.args, members=()))
    if "type" in original and "type" in said:
        edits.append(Put(key="type", value=original["type"], after="type"))
    env = _texts(said.get(shape.env)) or {}
    named = dict(text.split("=", 1) for text in server.option("--header-env") if "=" in text)
    headers: JsonObject = {header: env[name] for header, name in named.items() if name in env}
    rest: JsonObject = {name: value for name, value in env.items() if name not in named.values()}
    if headers:
        if rest and shape.env not in original:
            raise UneditableError(f"variables were added to `{shape.env}`, which a remote entry cannot have")
        kept = ((shape.env, rest),) if shape.env in original else ()
        edits.append(Swap(key=shape.env, members=((shape.headers, headers), *kept)))
    return edits
