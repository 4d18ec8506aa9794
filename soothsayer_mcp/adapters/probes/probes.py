"""Everything that checks may look at, as the configuration allows it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, cast

import anyio
import anyio.to_thread

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.probes.files import Files, doubt
from soothsayer_mcp.adapters.probes.settings import Command, ProbeSettings
from soothsayer_mcp.evidence.attestation import Statement
from soothsayer_mcp.evidence.checks import CommandFacts, FileFacts, HttpFacts
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.undo import FileBefore


class _Asking(Protocol):
    def ask(self) -> HttpFacts: ...
    def stop(self) -> None: ...


class LocalProbes:
    """Implements `ports.Probes`. What only some policies use is imported at its first use."""

    def __init__(self, settings: ProbeSettings) -> None:
        """Allow what is configured and nothing else."""
        self._settings = settings
        self._files = Files(settings.roots)

    async def file(self, path: str) -> FileFacts:
        """Look at one file by its absolute path, following no link."""
        return await anyio.to_thread.run_sync(self._files.file, path, abandon_on_cancel=True)

    async def keep(self, path: str) -> FileBefore:
        """Read one file whole, or see that there is none, following no link."""
        return await anyio.to_thread.run_sync(self._files.keep, path, abandon_on_cancel=True)

    async def files(self, globs: Sequence[str], leave_out: Sequence[str]) -> Mapping[str, str]:
        """The digest of every file that a pattern means."""
        return await anyio.to_thread.run_sync(self._files.files, globs, leave_out, abandon_on_cancel=True)

    async def digest(self, glob: str) -> str:
        """One digest over all files that a pattern means."""
        return await anyio.to_thread.run_sync(self._files.digest, glob, abandon_on_cancel=True)

    async def head(self, folder: str) -> str:
        """The commit that a git work tree stands on."""
        return await anyio.to_thread.run_sync(self._files.head, folder, abandon_on_cancel=True)

    async def command(self, name: str, words: Mapping[str, str]) -> CommandFacts:
        """Run a program that the configuration names."""
        command = self._settings.commands.get(name)
        if command is None:
            raise doubt(f"the configuration has no command {name}")
        run = cast(
            "Callable[[Command, Mapping[str, str]], Awaitable[CommandFacts]]",
            resolve("soothsayer_mcp.adapters.probes.commands:run"),
        )
        return await run(command, words)

    async def http(self, template: str, values: Mapping[str, Json], method: str) -> tuple[str, HttpFacts]:
        """Ask an address, with values encoded into it."""
        fill = cast(
            "Callable[[str, Mapping[str, Json]], str]", resolve("soothsayer_mcp.adapters.probes.http:address_of")
        )
        make = cast(
            "Callable[[str, str, frozenset[str]], _Asking]", resolve("soothsayer_mcp.adapters.probes.http:Asking")
        )
        url = fill(template, values)
        asking = make(url, method, self._settings.hosts)
        try:
            return url, await anyio.to_thread.run_sync(asking.ask, abandon_on_cancel=True)
        finally:
            asking.stop()

    async def statement(self, envelope: Json, keys: Sequence[str]) -> Statement:
        """Open a signed envelope by the pinned keys of these names."""
        choose = cast(
            "Callable[[Mapping[str, str], Sequence[str]], Mapping[str, str]]",
            resolve("soothsayer_mcp.adapters.probes.signatures:chosen"),
        )
        opened = cast(
            "Callable[[Json, Mapping[str, str]], Statement]",
            resolve("soothsayer_mcp.adapters.probes.signatures:open_envelope"),
        )
        return opened(envelope, choose(self._settings.keys, keys))
