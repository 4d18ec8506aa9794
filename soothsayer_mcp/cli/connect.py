"""`connect`, `disconnect` and `hosts restore`: in front of a host's servers, away again, and the file as it was."""

import os
from collections.abc import Sequence
from pathlib import Path

import click

from soothsayer_mcp.adapters.hosts import changes, claude
from soothsayer_mcp.adapters.hosts.changes import Change
from soothsayer_mcp.adapters.hosts.files import replace
from soothsayer_mcp.adapters.hosts.program import own_command
from soothsayer_mcp.adapters.hosts.servers import Server, Standing, Wrapping, servers
from soothsayer_mcp.adapters.policy_files.load import load as load_policy
from soothsayer_mcp.adapters.policy_files.places import PACKAGED_NAME
from soothsayer_mcp.cli.command import choices, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.host_files import (
    Target,
    agreed,
    change_document,
    confirmed,
    left_lines,
    may_ask,
    nothing,
    place_options,
    target_of,
)
from soothsayer_mcp.cli.inspection import propose
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.console.measures import count
from soothsayer_mcp.console.text import escape

MODES = ("enforce", "observe")

WHICH = "HOST is one that `soothsayer hosts` lists."
ABOUT = (
    f"{WHICH} Each entry keeps its name and its other keys, and gets this program in front of its own command. "
    "The change is shown first, with values masked; the file is backed up and can be put back byte for byte."
)


@command("connect", more=ABOUT)
@place_options
@click.option("--only", metavar="NAME", multiple=True, help="Only this server; may be repeated.")
@click.option("--mode", type=choices(MODES), help="enforce decisions, or only observe and record them.")
@click.option("--policy", metavar="FILE|NAME", multiple=True, help="A policy; may be repeated. Else guarded.")
@click.option("--pass-env", metavar="NAME", multiple=True, help="A variable the servers may see besides their own.")
@click.option("--raise-timeouts", is_flag=True, help="Raise the host's own limit on calls, where it has a key for it.")
@click.option("--inspect", is_flag=True, help="Start each server once, list its tools and propose a policy.")
@click.option("--dry-run", is_flag=True, help="Show the change and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask: the change was read.")
def connect(  # noqa: D103 - the table says what it does
    output: Output,
    host: str | None,
    *,
    project: bool,
    file: str | None,
    shape: str | None,
    only: tuple[str, ...],
    mode: str | None,
    policy: tuple[str, ...],
    pass_env: tuple[str, ...],
    raise_timeouts: bool,
    inspect: bool,
    dry_run: bool,
    yes: bool,
) -> int:
    target = target_of(output, host, project=project, file=file, shape=shape)
    program = own_command()
    policies = _policies(policy)
    chosen = _mode(output, mode, dry_run=dry_run)
    document = changes.read(target.held, target.host)
    found = servers(document, target.host)
    options = ("--mode", chosen, *_settled(output, policies))
    controlled = _controlled(found, only)

    def wrapping(server: Server) -> Wrapping:
        more = ("--control-tools",) if server.name == controlled else ()
        return Wrapping(program=program, options=(*options, *more), pass_env=pass_env, raise_timeouts=raise_timeouts)

    kept = claude.KEPT_KEYS if target.through else None
    change = changes.connect(target.held, target.host, wrapping, only, kept_keys=kept)
    if change.is_empty:
        return nothing(output, target, change, "nothing to change")
    _say_what(output, target, change, found)
    if inspect or (not dry_run and not yes and _wants_inspection(output)):
        names = {each.name for each in change.touched}
        propose(output, target.host, [server for server in found if server.name in names], pass_env)
    backup = None
    if agreed(output, change, f"Change {target.held.path} like this?", yes=yes, dry_run=dry_run):
        backup = write(target, change, "connect")
    if output.as_json:
        output.document(change_document(target, change, backup=backup))
    elif backup is not None:
        output.remark(f"written; the file before is {backup}")
        output.remark(f"now {target.host.restart}; undo with: soothsayer hosts restore {target.again}")
        if target.host.beside:
            output.remark(f"{target.host.title} reaches {target.host.beside} beside this file: they are not governed")
    elif dry_run:
        output.remark("nothing was written (--dry-run)")
    return Exit.DONE if dry_run or backup is not None else Exit.NO


@command("disconnect", more=WHICH)
@place_options
@click.option("--only", metavar="NAME", multiple=True, help="Only this server; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show the change and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask: the change was read.")
def disconnect(  # noqa: D103 - see connect
    output: Output,
    host: str | None,
    *,
    project: bool,
    file: str | None,
    shape: str | None,
    only: tuple[str, ...],
    dry_run: bool,
    yes: bool,
) -> int:
    target = target_of(output, host, project=project, file=file, shape=shape)
    change = changes.disconnect(target.held, target.host, target.records(), only)
    if change.is_empty:
        nothing(output, target, change, "no server here is governed")
        return Exit.NO if change.left else Exit.DONE
    return _finish(output, target, change, "disconnect", yes=yes, dry_run=dry_run)


@command(
    "hosts restore",
    more=f"{WHICH} Where the file was changed since, only the entries that are still ours are put back.",
)
@place_options
@click.option("--to", "backup", metavar="BACKUP", help="The file as it is in this backup.")
@click.option("--dry-run", is_flag=True, help="Show the change and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask: the change was read.")
def restore(  # noqa: D103 - see connect
    output: Output,
    host: str | None,
    *,
    project: bool,
    file: str | None,
    shape: str | None,
    backup: str | None,
    dry_run: bool,
    yes: bool,
) -> int:
    target = target_of(output, host, project=project, file=file, shape=shape)
    records = target.records()
    if target.through:
        lost = claude.lost_entries(target.held, target.host, records)
        if lost:
            output.remark(f"lost on the way of a change of ours: {', '.join(lost)}")
        if lost and not dry_run and confirmed(output, "Put them back first?", yes=yes):
            claude.put_back(target.host, lost)
            output.remark("put back")
            target = target_of(output, host, project=project, file=file, shape=shape)
    if backup is not None:
        if target.through:
            text = f"{target.host.title} rewrites this file all the time; only entries are put back"
            raise Problem(text, id="host-backup", fix="leave --to out")
        change = changes.back_to(target.held, target.host, records, target.state, backup)
    else:
        change = changes.restore(target.held, target.host, records, target.backups)
    if change.is_empty:
        nothing(output, target, change, "it is as it was before us")
        return Exit.NO if change.left else Exit.DONE
    return _finish(output, target, change, "restore", yes=yes, dry_run=dry_run)


def _finish(output: Output, target: Target, change: Change, action: str, *, yes: bool, dry_run: bool) -> int:
    left_lines(output, change.left)
    backup = None
    if agreed(output, change, f"Change {target.held.path} like this?", yes=yes, dry_run=dry_run):
        backup = write(target, change, action)
    if output.as_json:
        output.document(change_document(target, change, backup=backup))
    elif backup is not None:
        output.remark(f"written; the file before is {backup}")
        output.remark(f"now {target.host.restart}")
    elif dry_run:
        output.remark("nothing was written (--dry-run)")
    if change.left:
        return Exit.NO
    return Exit.DONE if dry_run or backup is not None else Exit.NO


def write(target: Target, change: Change, action: str) -> Path:
    """Make a change that was agreed to, and return the backup. Raises `HostFileError`."""
    if target.through:
        return claude.apply(change, target.host, state=target.state, action=action)
    return replace(
        target.held, change.raw, state=target.state, host=target.host.id, action=action, entries=change.touched
    )


def _mode(output: Output, mode: str | None, *, dry_run: bool) -> str:
    if mode is not None:
        return mode
    if dry_run:
        output.remark("shown as with --mode enforce; it has no default when something is written")
        return "enforce"
    if not may_ask(output):
        raise Problem("--mode has no default here", id="usage", fix="say --mode enforce or --mode observe")
    output.remark("enforce: what policy does not allow is not sent. observe: it is sent, and recorded.")
    return str(click.prompt("Mode", type=click.Choice(MODES), err=True))


def _policies(named: Sequence[str]) -> list[str]:
    """The policies as a proxy finds them wherever it is started. Raises `LoadErrors` when one does not load."""
    found = [name if PACKAGED_NAME.fullmatch(name) else os.path.realpath(Path(name).expanduser()) for name in named]
    load_policy(found)
    return found


def _settled(output: Output, policies: Sequence[str]) -> list[str]:
    """What the person chose for this command and the host's environment would not say."""
    words = [word for each in policies for word in ("--policy", each)]
    if output.settings.state is not None:
        words += ["--state", str(Path(output.settings.state).expanduser().absolute())]
    if output.settings.config is not None:
        words += ["--config", str(Path(output.settings.config).expanduser().absolute())]
    return words


def _controlled(found: Sequence[Server], only: Sequence[str]) -> str:
    """The server that gets the control tools: one of a host is enough. Empty when one has them."""
    if any("--control-tools" in server.options for server in found):
        return ""
    free = [server.name for server in found if server.standing is Standing.DIRECT]
    return next((name for name in free if not only or name in only), "")


def _wants_inspection(output: Output) -> bool:
    return may_ask(output) and click.confirm(
        "Start each of these servers once, to list its tools and propose a policy?", default=False, err=True
    )


def _say_what(output: Output, target: Target, change: Change, found: Sequence[Server]) -> None:
    by_name = {server.name: server for server in found}
    left_lines(output, change.left)
    if output.as_json:
        return
    output.remark(f"{target.host.title}: {target.held.path}")
    for each in change.touched:
        server = by_name[each.name]
        told = [f"variables {', '.join(server.env)}"] if server.env else []
        what = "remote" if server.url else "local"
        output.remark(f"governs: {escape(each.name)} ({'; '.join([what, *told])})")
    if any(not by_name[each.name].url for each in change.touched):
        output.remark("a local server sees a short list of variables and those of its entry; more with --pass-env NAME")
    output.remark(f"{count(len(change.touched), 'entry', 'entries')} of {len(found)} will change")
