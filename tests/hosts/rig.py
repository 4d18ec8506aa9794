"""A state folder, a host's file, and the changes that the commands make, without the commands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from soothsayer_mcp.adapters.hosts import changes
from soothsayer_mcp.adapters.hosts.changes import Change
from soothsayer_mcp.adapters.hosts.files import BACKUPS, hold, installs, replace
from soothsayer_mcp.adapters.hosts.servers import Server, Wrapping
from soothsayer_mcp.adapters.hosts.table import Host

__all__ = ["PROGRAM", "Rig", "hold", "wrapping"]

PROGRAM = "/opt/soothsayer/bin/soothsayer"


def wrapping(*, raise_timeouts: bool = False) -> Callable[[Server], Wrapping]:
    def one(_server: Server) -> Wrapping:
        return Wrapping(program=(PROGRAM,), options=("--mode", "observe"), raise_timeouts=raise_timeouts)

    return one


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def write(self, host: Host, raw: bytes) -> Path:
        file = self.folder / f"{host.id}.{host.format}"
        file.write_bytes(raw)
        return file

    def connect(self, host: Host, file: Path, *only: str, raise_timeouts: bool = False) -> list[str]:
        return self._make(
            host, changes.connect(hold(file), host, wrapping(raise_timeouts=raise_timeouts), only), "connect"
        )

    def disconnect(self, host: Host, file: Path, *only: str) -> list[str]:
        return self._make(host, changes.disconnect(hold(file), host, installs(self.state), only), "disconnect")

    def restore(self, host: Host, file: Path) -> Change:
        change = changes.restore(hold(file), host, installs(self.state), self.state / BACKUPS)
        self._make(host, change, "restore")
        return change

    def _make(self, host: Host, change: Change, action: str) -> list[str]:
        if not change.is_empty:
            replace(change.held, change.raw, state=self.state, host=host.id, action=action, entries=change.touched)
        return [each.name for each in change.touched]
