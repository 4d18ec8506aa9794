"""`hosts`: which hosts are here, and which of their servers are governed. Reads, and changes nothing."""

from collections.abc import Mapping
from pathlib import Path

import click
from rich.text import Text

from soothsayer_mcp.adapters.hosts.places import Machine
from soothsayer_mcp.adapters.hosts.servers import Server, Standing
from soothsayer_mcp.adapters.hosts.table import HOSTS, Host
from soothsayer_mcp.cli.command import Command, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.state import state_dir
from soothsayer_mcp.cli.survey import Seen, drifted, last_seen, records, survey
from soothsayer_mcp.cli.table import COMMANDS
from soothsayer_mcp.console.layout import visible
from soothsayer_mcp.model.json import Json

STYLES = {Standing.GOVERNED: "green", Standing.DIRECT: "yellow", Standing.ALONE: "yellow"}


class HostsCommand(Command):
    """A command that other commands stand below."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands below it, then the options."""
        below = [(row.words, row.help) for row in COMMANDS if row.words.startswith("hosts ")]
        with formatter.section("Commands"):
            formatter.write_dl(below)
        super().format_options(ctx, formatter)


@command("hosts", kind=HostsCommand)
def hosts(output: Output) -> int:  # noqa: D103 - the table says what it does
    state = state_dir(output.settings)
    found = survey(Machine.here(), Path.cwd())
    seen = last_seen(state)
    known = records(state)
    absent = [host for host in HOSTS if all(each.host is not host for each in found)]
    if output.as_json:
        drift = {id(each): drifted(each, known) for each in found}
        output.document({
            "hosts": [_document(each, seen, drift[id(each)]) for each in found],
            "absent": [host.id for host in absent],
        })  # fmt: skip
        return Exit.DONE
    lines: list[Text] = []
    for each in found:
        lines += _lines(each, seen, drifted(each, known))
    output.page(lines)
    if absent:
        output.remark(f"not found here: {', '.join(host.id for host in absent)}")
    if not found:
        output.remark("any other application: soothsayer connect --file PATH --shape KEY")
    return Exit.DONE


def promise(seen: Seen) -> str:
    """What an undo promises."""
    return "entries come back as they were" if _through(seen) else "comes back byte for byte"


def _through(seen: Seen) -> bool:
    return bool(seen.host.through) and seen.scope != "project"


def _lines(seen: Seen, clients: Mapping[str, str], drift: list[str]) -> list[Text]:
    head = visible(f"{seen.host.id}  ", "bold")
    head.append(visible(str(seen.path)))
    where = seen.scope if seen.is_read else "not read by the host"
    head.append(visible(f"  ({where}; {promise(seen)})", "dim"))
    lines = [head]
    if seen.error is not None:
        lines.append(visible(f"  {seen.error.where}: {seen.error.text}", "red"))
        return lines
    when = _called(seen.host, clients)
    if when:
        lines.append(visible(f"  last called through us as {when}", "dim"))
    width = max((len(server.name) for server in seen.servers), default=0)
    for server in seen.servers:
        line = visible(f"  {server.name.ljust(width)}  ")
        line.append(visible(str(server.standing), STYLES[server.standing]))
        told = _told(server, drift)
        if told:
            line.append(visible(f"  {told}", "dim"))
        lines.append(line)
    if not seen.servers:
        lines.append(visible("  no servers", "dim"))
    return lines


def _told(server: Server, drift: list[str]) -> str:
    parts = [server.why] if server.why else []
    if server.standing is Standing.GOVERNED:
        mode = next(iter(server.option("--mode")), "")
        parts += [mode] if mode else []
        parts += ["changed since we wrote it"] if server.name in drift else []
    if server.off:
        parts.append("switched off")
    return "; ".join(parts)


def _called(host: Host, clients: Mapping[str, str]) -> str:
    said = [f"{name} at {clients[name]}" for name in host.clients if name in clients]
    return ", ".join(said)


def _document(seen: Seen, clients: Mapping[str, str], drift: list[str]) -> dict[str, Json]:
    listed: list[Json] = [
        {
            "name": server.name,
            "standing": str(server.standing),
            "why": server.why,
            "off": server.off,
            "mode": next(iter(server.option("--mode")), None),
            "changed_since": server.name in drift,
        }
        for server in seen.servers
    ]
    return {
        "host": seen.host.id,
        "title": seen.host.title,
        "file": str(seen.path),
        "scope": seen.scope,
        "read_by_host": seen.is_read,
        "promise": promise(seen),
        "error": None if seen.error is None else f"{seen.error.where}: {seen.error.text}",
        "last_called": _called(seen.host, clients) or None,
        "servers": listed,
    }
