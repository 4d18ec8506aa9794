"""What commands about hosts share: which file is meant, and that a person saw a change before it is made."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from soothsayer_mcp.adapters.hosts.changes import Change
from soothsayer_mcp.adapters.hosts.files import BACKUPS, Held, Install, hold, installs
from soothsayer_mcp.adapters.hosts.places import Machine, Place, custom, find, find_project, host_of
from soothsayer_mcp.adapters.hosts.table import HOSTS, Host
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import nearest
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import state_dir
from soothsayer_mcp.console import render
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass

Decorated = TypeVar("Decorated", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The file that a command is about."""

    host: Host
    held: Held
    state: Path
    through: bool
    """Whether the application's own command makes the changes."""
    again: str
    """The words that name it on a command line."""

    @property
    def backups(self) -> Path:
        """Where its backups are."""
        return self.state / BACKUPS

    def records(self) -> list[Install]:
        """The changes on record, of every host."""
        return installs(self.state)


def place_options(run: Decorated) -> Decorated:
    """The options that name a file."""
    run = click.option("--shape", metavar="KEY", help="With --file: the key its servers stand under, dots between.")(
        run
    )
    run = click.option("--file", metavar="PATH", help="This file, of the host or of any other application.")(run)
    run = click.option("--project", is_flag=True, help="The host's file in this folder instead of the personal one.")(
        run
    )
    return click.argument("host", required=False)(run)


def target_of(output: Output, host: str | None, *, project: bool, file: str | None, shape: str | None) -> Target:
    """Find and read the file that is meant. Raises `Problem` or `HostFileError`."""
    state = state_dir(output.settings)
    if shape is not None and file is None:
        raise Problem("--shape says how to read the file that --file names", id="usage", fix="add --file PATH")
    if file is not None and host is None:
        if shape is None:
            raise Problem("--file of no known host needs --shape KEY", id="usage", fix="for example --shape mcpServers")
        path = Path(file).absolute()
        again = f"--file {file} --shape {shape}"
        return Target(host=custom(path, shape), held=hold(path), state=state, through=False, again=again)
    row = known_host(host)
    if file is not None:
        path = Path(file).absolute()
        return Target(host=row, held=hold(path), state=state, through=False, again=f"{row.id} --file {file}")
    place = find_project(row, Path.cwd()) if project else find(row, Machine.here())
    if project and not row.project:
        raise Problem(f"{row.title} has no file in a project", id="host-absent")
    held = hold(_chosen(output, place))
    again = f"{row.id} --project" if project else row.id
    return Target(host=row, held=held, state=state, through=bool(row.through) and not project, again=again)


def known_host(name: str | None) -> Host:
    """The host of that name. Raises `Problem`."""
    names = [row.id for row in HOSTS]
    if name is None:
        raise Problem("which host?", id="usage", fix=f"one of {', '.join(names)}; soothsayer hosts shows what is here")
    row = host_of(name)
    if row is None:
        near = nearest(name, names)
        fix = "" if near else f"one of {', '.join(names)}, or --file PATH --shape KEY"
        raise Problem(f'no host "{name}" is known', id="usage", near=near, fix=fix)
    return row


def may_ask(output: Output) -> bool:
    """Whether there is a person to ask."""
    return not output.settings.no_input and not output.as_json and sys.stdin.isatty() and output.is_terminal


def _chosen(output: Output, place: Place) -> Path:
    if len(place.files) > 1 and not place.doubt and may_ask(output):
        listed = [str(path) for path in place.files]
        click.echo(f"{place.host.title} may read one of these:", err=True)
        for number, path in enumerate(listed, 1):
            click.echo(f"  {number}  {path}", err=True)
        number = click.prompt("Which does it read?", type=click.IntRange(1, len(listed)), err=True)
        return place.files[int(number) - 1]
    return place.one()


def agreed(output: Output, change: Change, question: str, *, yes: bool, dry_run: bool) -> bool:
    """Show a change, and ask once. Raises `Problem` when there is nobody to ask and nobody said yes."""
    if not output.as_json:
        output.page(render.diff(list(change.diff)))
    return not dry_run and confirmed(output, question, yes=yes)


def confirmed(output: Output, question: str, *, yes: bool) -> bool:
    """Ask once, unless the answer was given. Raises `Problem` when there is nobody to ask."""
    if yes:
        return True
    if not may_ask(output):
        fix = "look at it with --dry-run, then say --yes"
        raise Problem("changing a file that is not ours needs a person", id="needs-yes", fix=fix)
    if click.confirm(question, default=False, err=True):
        return True
    output.remark("nothing was written")
    return False


def left_lines(output: Output, left: Sequence[tuple[str, str]]) -> None:
    """Tell what stays as it is, and why."""
    for name, why in left:
        output.remark(f"left alone: {name}: {why}")


def change_document(target: Target, change: Change, *, backup: Path | None) -> dict[str, Json]:
    """The change for a program."""
    return {
        "host": target.host.id,
        "file": str(target.held.path),
        "servers": [each.name for each in change.touched],
        "left": [{"server": name, "why": why} for name, why in change.left],
        "diff": list(change.diff),
        "written": backup is not None,
        "backup": None if backup is None else str(backup),
    }


def nothing(output: Output, target: Target, change: Change, text: str) -> int:
    """Nothing is to be changed."""
    left_lines(output, change.left)
    if output.as_json:
        output.document(change_document(target, change, backup=None))
    else:
        output.remark(text)
    return Exit.DONE
