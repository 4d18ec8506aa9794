"""`soothsayer.lock`: the tool definitions that people agreed on, beside their configuration and committed with it.

JSON with sorted keys, each definition in full and a member a line, so that a review shows the words that changed.
Where it exists it rules over what a state folder has pinned.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Final, cast

from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Mark, Problem
from soothsayer_mcp.model.json import Digest, Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.wording import hides
from soothsayer_mcp.ports import SeenTool, ServerIdentity

FILE_NAME: Final = "soothsayer.lock"
FORMAT: Final = "lock/v1"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")
_BLANK = re.compile("[\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Characters that show as nothing, beside those that `hides` knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What was agreed on of one server."""

    identity: Digest | None = None
    """Of its command line or address as the configuration spells it; `None` for a server that is not in the lock."""
    tools: Mapping[str, SeenTool] = field(default_factory=dict[str, SeenTool])

    def pinned_as(self, server: ServerIdentity) -> Digest:
        """The identity that its pins hang on here: the server's own, unless the lock is about another program."""
        return server.digest if self.identity in {None, server.as_spelled} else Digest(str(self.identity))


NOT_LOCKED: Final = Locked()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock file that loaded."""

    servers: Mapping[str, Locked] = field(default_factory=dict[str, Locked])

    def of(self, server: ServerIdentity) -> Locked:
        """What was agreed on of a server; nothing, where it is not in the lock."""
        return self.servers.get(server.name, NOT_LOCKED)

    def agreed(self, server: ServerIdentity, tools: Sequence[SeenTool], gone: frozenset[str] = frozenset()) -> "Lock":
        """The same with these tools of a server as they are now, and without those that are gone."""
        before = self.of(server)
        now: dict[str, SeenTool] = {}
        if before.identity in {None, server.as_spelled}:
            now |= {name: tool for name, tool in before.tools.items() if name not in gone}
        now |= {tool.name: tool for tool in tools}
        return replace(self, servers={**self.servers, server.name: Locked(identity=server.as_spelled, tools=now)})


def lock_path(config: Path) -> Path:
    """Where the lock of a configuration is, or would be."""
    return config.parent / FILE_NAME


def load_lock(path: Path) -> Lock | None:
    """Load a lock; `None` where there is none. Raises `LoadErrors` for one that cannot be read in just one way."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _wrong(path, "lock-file", f"the lock cannot be read ({error.strerror})") from error
    return read_lock(raw, path)


def read_lock(raw: bytes, path: Path) -> Lock:
    """Read the bytes of a lock. Raises `LoadErrors`, which name the path."""
    try:
        document = cast("Json", json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_no_number))
    except json.JSONDecodeError as error:
        mark = Mark(line=error.lineno, column=error.colno)
        raise _wrong(path, "lock-json", f"the lock is no JSON ({error.msg})", mark) from error
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "lock-json", f"the lock does not read in one way ({error})") from error
    try:
        return _lock(document)
    except ValueError as error:
        raise _wrong(path, "lock-form", f"the lock {error}; policy check --pin writes one that is right") from error


def write_lock(path: Path, lock: Lock) -> None:
    """Put a lock in place of the one before, whole or not at all. Raises `LoadErrors` when that is not possible."""
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        beside.write_bytes(render_lock(lock))
        os.replace(beside, path)  # noqa: PTH105 - the one call that replaces a file on every system
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _wrong(path, "lock-file", f"the lock cannot be written ({error.strerror})") from error


def render_lock(lock: Lock) -> bytes:
    """Spell a lock: sorted keys, a member a line, and every character that an eye misses as an escape."""
    servers: dict[str, Json] = {
        name: {
            "server": locked.identity,
            "tools": {tool: cast("Json", json.loads(seen.raw)) for tool, seen in locked.tools.items()},
        }
        for name, locked in lock.servers.items()
    }
    document = {"soothsayer": FORMAT, "servers": servers}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (_NOT_ASCII.sub(_spelled, text) + "\n").encode()


class LockWatch:
    """A lock that is looked at again before each use; one that stops loading leaves the one before in force."""

    def __init__(self, path: Path, *, log: Callable[[str], None]) -> None:
        """Load it. Raises `LoadErrors`."""
        self._path = path
        self._log = log
        self._stamp = _stamp(path)
        self._lock = load_lock(path)

    def of(self, server: ServerIdentity) -> Locked | None:
        """What the lock has of a server's tools; `None` where no lock rules over it, as over its prompts."""
        if "/" in server.name:
            return None
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._lock = load_lock(self._path)
            except LoadErrors as errors:
                self._log(f"{errors}\nthe lock changed and does not load; the lock before stays in force")
        return None if self._lock is None or not server.declared else self._lock.of(server)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _lock(document: Json) -> Lock:
    if not isinstance(document, dict) or document.get("soothsayer") != FORMAT:
        raise ValueError(f"does not begin with {FORMAT}")
    if not document.keys() <= {"soothsayer", "servers"}:
        raise ValueError(f"has a member that it cannot have: {min(document.keys() - {'soothsayer', 'servers'})}")
    servers = document.get("servers")
    if not isinstance(servers, dict):
        raise ValueError("has no servers")  # noqa: TRY004 - of the text that was read, not of an argument
    return Lock(servers={name: _locked(name, value) for name, value in servers.items()})


def _locked(server: str, value: Json) -> Locked:
    if not isinstance(value, dict) or value.keys() != {"server", "tools"}:
        raise ValueError(f"has to have `server` and `tools` of {server}, and nothing else")
    identity, tools = value["server"], value["tools"]
    if not isinstance(identity, str) or _DIGEST.fullmatch(identity) is None:
        raise ValueError(f"has no digest as `server` of {server}")
    if not isinstance(tools, dict):
        raise ValueError(f"has no tools of {server}")  # noqa: TRY004 - the same
    return Locked(identity=Digest(identity), tools={name: _tool(server, name, tool) for name, tool in tools.items()})


def _tool(server: str, name: str, value: Json) -> SeenTool:
    if not isinstance(value, dict) or value.get("name") != name:
        raise ValueError(f"has {server}.{name} under another name than its own")
    return SeenTool(name=name, digest=digest(canonical(value)), raw=compact(value))


def _object(pairs: list[tuple[str, Json]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _no_number(spelled: str) -> Json:
    raise ValueError(f"{spelled} is no number")


def _spelled(found: re.Match[str]) -> str:
    char = found.group()
    if char.isprintable() and not hides(char) and _BLANK.match(char) is None:
        return char
    return json.dumps(char)[1:-1]


def _wrong(path: Path, id: str, text: str, mark: Mark = START) -> LoadErrors:  # noqa: A002 - the word of `Problem`
    return LoadErrors([Problem(file=str(path), mark=mark, id=id, text=text)])
