"""What is seen of a host without changing anything: its files, its servers, and what is on record of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from soothsayer_mcp.adapters.hosts import changes, documents
from soothsayer_mcp.adapters.hosts.files import Held, Install, hold, installs
from soothsayer_mcp.adapters.hosts.places import Machine, find, find_project
from soothsayer_mcp.adapters.hosts.servers import Server, Standing, servers
from soothsayer_mcp.adapters.hosts.table import HOSTS, Host
from soothsayer_mcp.adapters.hosts.tree import HostFileError
from soothsayer_mcp.adapters.store.reader import Reader, ReadError
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One file of one host."""

    host: Host
    path: Path
    scope: str
    servers: tuple[Server, ...] = ()
    error: HostFileError | None = None
    is_read: bool = True
    """Whether the host reads this file."""
    held: Held | None = None

    def by(self, standing: Standing) -> list[Server]:
        """The servers of one standing."""
        return [server for server in self.servers if server.standing is standing]

    @property
    def direct(self) -> list[Server]:
        """The servers that the host reaches past us, whether or not we could stand in front of them."""
        return [server for server in self.servers if server.standing is not Standing.GOVERNED and not server.off]


def survey(machine: Machine, folder: Path, hosts: Sequence[Host] = HOSTS) -> list[Seen]:
    """Every file of servers that is here, personal ones and those of the project in a folder."""
    found: list[Seen] = []
    seen: set[tuple[str, ...]] = set()
    for host in hosts:
        place = find(host, machine)
        for path in place.files:
            found += _see(host, path, "personal")
        found += [each for path in place.unread for each in _see(host, path, "personal", is_read=False)]
        for path in find_project(host, folder).files:
            # One project file may serve two editions of a host.
            if (str(path), *host.key) not in seen:
                seen.add((str(path), *host.key))
                found += _see(host, path, "project")
    return found


def _see(host: Host, path: Path, scope: str, *, is_read: bool = True) -> Iterator[Seen]:
    try:
        held = hold(path)
        document = changes.read(held, host)
    except HostFileError as error:
        yield Seen(host=host, path=path, scope=scope, error=error, is_read=is_read)
        return
    listed = servers(document, host)
    if listed or scope == "personal":
        yield Seen(host=host, path=path, scope=scope, servers=listed, is_read=is_read, held=held)
    if host.through:
        # Servers of single projects stand in the same file.
        root = document.root if isinstance(document.root, dict) else {}
        projects = root.get("projects")
        for project in projects if isinstance(projects, dict) else ():
            inner = documents.read(held.raw, host.format, ("projects", project, *host.key), file=str(path))
            own = servers(inner, host)
            if own:
                yield Seen(host=host, path=path, scope=f"local to {project}", servers=own, held=held)


def last_seen(state: Path) -> Mapping[str, str]:
    """What each client that ever called was called, and when it last did."""
    try:
        with Reader(state) as reader:
            rows = reader.sql("SELECT host, max(last) FROM v_runs WHERE host <> '' GROUP BY host", limit=1_000).rows
    except ReadError:
        return {}
    return {str(name): str(last) for name, last in rows}


def drifted(seen: Seen, records: Sequence[Install]) -> list[str]:
    """Governed servers whose entries are not as we left them."""
    if seen.held is None or seen.host.through:
        return []
    ours = changes.originals_of(seen.held, records)
    document = changes.read(seen.held, seen.host)
    return [
        server.name
        for server in seen.by(Standing.GOVERNED)
        if server.name in ours and ours[server.name].after != document.text[server.entry.start : server.entry.end]
    ]


def records(state: Path) -> list[Install]:
    """The changes on record."""
    return installs(state)
