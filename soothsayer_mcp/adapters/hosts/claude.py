"""Changes Claude Code's personal file through its own command, since the application rewrites that file all the time.

The promise is about entries: they come back as they were, and the order of the file is the application's.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from soothsayer_mcp.adapters.hosts import files
from soothsayer_mcp.adapters.hosts.changes import Change, read
from soothsayer_mcp.adapters.hosts.files import Held, Install, Touched, hold, keep
from soothsayer_mcp.adapters.hosts.table import Host
from soothsayer_mcp.adapters.hosts.tree import HostFileError
from soothsayer_mcp.model.json import Json

KEPT_KEYS: Final = frozenset({"type", "command", "args", "env", "url", "headers", "timeout"})
"""The keys of an entry that `claude mcp add-json` writes; it drops others."""

LIMIT_S: Final = 60.0


def find(program: str) -> str:
    """The application's command. Raises `HostFileError`."""
    found = shutil.which(program)
    if found is None:
        text = f"the command `{program}` is not on PATH, and only it may change its personal file"
        raise HostFileError(text, id="host-command", fix=f"run this where `{program} mcp list` works")
    return found


def apply(change: Change, host: Host, *, state: Path, action: str) -> Path:
    """Let the application make a change of its entries, and return the backup.

    The record is written first: an entry that is lost in between is put back by `hosts restore`.
    Raises `HostFileError`; entries that were changed are put back then.
    """
    command = find(host.through)
    held = change.held
    wanted = {entry.name: entry.value for entry in read(held, host, change.raw).entries}
    now = {entry.name: entry.value for entry in read(hold(held.path), host).entries}
    then = {entry.name: entry.value for entry in read(held, host).entries}
    if any(now.get(each.name) != then.get(each.name) for each in change.touched):
        text = "an entry changed after it was shown; nothing was written"
        raise HostFileError(text, id="changed-meanwhile", where=str(held.path), fix="run the command again")
    backup = keep(state, host.id, held.raw)
    note = Install(
        at=files.now(),
        host=host.id,
        action=action,
        target=str(held.target),
        backup="",
        before=held.digest,
        after="",
        entries=tuple(
            Touched(
                name=each.name,
                before=json.dumps(each.original),
                after=json.dumps(wanted[each.name]),
                original=each.original,
            )
            for each in change.touched
        ),
    )
    files.record(state, note)
    done: list[str] = []
    try:
        for each in change.touched:
            done.append(each.name)
            _write(command, each.name, wanted[each.name], there=each.name in now)
        made = {entry.name: entry.value for entry in read(hold(held.path), host).entries}
        _as_wanted(host, made, {name: wanted[name] for name in done})
    except HostFileError:
        for name in done:
            there = {entry.name for entry in read(hold(held.path), host).entries}
            _write(command, name, then[name], there=name in there)
        raise
    return backup


def _as_wanted(host: Host, made: Mapping[str, Json], wanted: Mapping[str, Json]) -> None:
    for name, value in wanted.items():
        if made.get(name) != value:
            raise HostFileError(f'`{host.through} mcp` wrote "{name}" otherwise', id="host-command")


def put_back(host: Host, lost: Mapping[str, Json]) -> None:
    """Write entries that are on record and no longer in the file. Raises `HostFileError`."""
    command = find(host.through)
    for name, value in lost.items():
        _write(command, name, value, there=False)


def lost_entries(held: Held, host: Host, records: Sequence[Install]) -> dict[str, Json]:
    """Entries that a change of ours took out and that did not come back, as they were before it."""
    there = {entry.name for entry in read(held, host).entries}
    mine = [install for install in records if install.target == str(held.target) and install.host == host.id]
    last = mine[-1].entries if mine else ()
    return {each.name: each.original for each in last if each.name not in there}


def _write(command: str, name: str, value: Json, *, there: bool) -> None:
    if there:
        _run(command, "mcp", "remove", "-s", "user", "--", name)
    _run(command, "mcp", "add-json", "-s", "user", "--", name, json.dumps(value))


def _run(*argv: str) -> None:
    try:
        ended = subprocess.run(  # noqa: S603 - the application's own command, without a shell
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostFileError(f"`{' '.join(argv[1:3])}` did not end well ({error})", id="host-command") from error
    if ended.returncode != 0:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        text = f"`{' '.join(argv[1:3])}` was refused{f': {said[-1]}' if said else ''}"
        raise HostFileError(text, id="host-command")
