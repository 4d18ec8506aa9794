"""`doctor`: what is wrong here, a line each with what to do about it. It repairs nothing."""

import json
import os
import platform
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from soothsayer_mcp import __version__
from soothsayer_mcp.adapters import config
from soothsayer_mcp.adapters.hosts.places import Machine
from soothsayer_mcp.adapters.hosts.probe import ProbeError, ask
from soothsayer_mcp.adapters.hosts.servers import Server, Standing
from soothsayer_mcp.adapters.hosts.table import HOSTS, Host
from soothsayer_mcp.adapters.launch import BASE_ENVIRONMENT
from soothsayer_mcp.adapters.policy_files.load import load as load_policy
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.adapters.store.folder import StoreError, file_system_of, prepare
from soothsayer_mcp.adapters.store.reader import NoTraceError, Reader, ReadError
from soothsayer_mcp.cli import checks
from soothsayer_mcp.cli.checks import Check, State
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.host_files import known_host
from soothsayer_mcp.cli.inspection import entry_env
from soothsayer_mcp.cli.other import installed
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import state_dir
from soothsayer_mcp.cli.survey import Seen, survey
from soothsayer_mcp.console.layout import visible
from soothsayer_mcp.model.call import DECLARED
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.entry import Durability
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.scopes import Cell

_STYLES: dict[State, str] = {"ok": "green", "note": "yellow", "fail": "red"}

SPACE_BYTES = 256 * 1024 * 1024
"""Below this much free space the record may soon have no room."""
SYNCS = 3
START_S = 60.0
DESKTOP_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
"""What applications that are started from a desktop have for a PATH."""


@command(
    "doctor",
    more=(
        "With HOST, one that `soothsayer hosts` lists, only that one is looked at. Governed servers are started once "
        "as their host would. Exit 1 when something does not work, or when a host still reaches a server past us."
    ),
)
@click.argument("host", required=False)
@click.option("--report", metavar="FILE", help="Write a file for others to read: no names, paths or values in it.")
def doctor(output: Output, host: str | None, *, report: str | None) -> int:  # noqa: D103 - the table says what it does
    chosen = HOSTS if host is None else (known_host(host),)
    state = state_dir(output.settings)
    found = survey(Machine.here(), Path.cwd(), chosen)
    done: list[Check] = []
    for check in _checks(output, found, state, named=host is not None):
        done.append(check)
        if not output.as_json:
            line = visible(f"{check.state:<4}  ", _STYLES[check.state])
            line.append(visible(f"{check.text}{f'; {check.fix}' if check.fix else ''}"))
            output.line(line)
    failed = [check for check in done if check.state == "fail"]
    if report is not None:
        _write_report(Path(report), done, found, state)
        output.remark(f"wrote {report}; read it before you hand it on")
    if output.as_json:
        rows: list[Json] = [
            {"id": check.id, "state": check.state, "text": check.text, "fix": check.fix} for check in done
        ]
        output.document({"checks": rows, "failed": len(failed)})
    return Exit.NO if failed else Exit.DONE


def _checks(output: Output, found: Sequence[Seen], state: Path, *, named: bool) -> Iterator[Check]:
    yield _runtime()
    yield from _state(state)
    yield from checks.keys(state)
    chosen, policy, said = _settings(output)
    yield from said
    usual = chosen or config.Config(workspace="")
    yield from checks.telling(found, state, policy, wanted=usual.ask_notify)
    for seen in found:
        yield from _file(seen, usual.ask_hold_s)
    yield from _bypass(found, named=named)
    yield from _started(found)
    if not found:
        yield Check(id="hosts", state="note", text="no host's file of servers was found here", fix="soothsayer hosts")


def _runtime() -> Check:
    text = f"soothsayer {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    libraries = [f"{name} {version}" for name, version in sorted(installed().items())]
    return Check(id="versions", state="ok", text=", ".join((text, *libraries)))


def _state(state: Path) -> Iterator[Check]:
    try:
        warnings = prepare(state)
        sync_s = _write_durably(state)
    except StoreError as error:
        yield Check(id="state", state="fail", text=str(error))
        return
    except OSError as error:
        text = f"{state}: nothing can be written durably ({error.strerror})"
        yield Check(id="state", state="fail", text=text, fix="free space there, or name another folder with --state")
        return
    for warning in warnings:
        yield Check(id="state", state="note", text=warning)
    yield from checks.sync(sync_s)
    kind = file_system_of(state) or "an unknown file system"
    free = shutil.disk_usage(state).free
    if free < SPACE_BYTES:
        text = f"{state}: {free // 1024 // 1024} MB are free"
        yield Check(id="space", state="fail", text=text, fix="free some: without room nothing is forwarded")
    else:
        yield Check(id="state", state="ok", text=f"state folder {state}: private, local ({kind}), writable")
    try:
        with Reader(state):
            yield Check(id="record", state="ok", text="the record opens")
    except NoTraceError:
        yield Check(id="record", state="ok", text="nothing is recorded yet")
    except ReadError as error:
        yield Check(id="record", state="fail", text=str(error), fix="soothsayer trace verify")


def _write_durably(state: Path) -> float:
    """Write a little and sync it, a few times; how long the quickest took."""
    probe = state / "doctor.tmp"
    try:
        with probe.open("wb") as file:
            took: list[float] = []
            for _ in range(SYNCS):
                file.write(b"x" * 4096)
                file.flush()
                began = time.perf_counter()
                os.fsync(file.fileno())
                took.append(time.perf_counter() - began)
            return min(took)
    finally:
        probe.unlink(missing_ok=True)


def _settings(output: Output) -> tuple[config.Config | None, Policy | None, list[Check]]:
    """The configuration and the policy that hold here, so far as they load, and what is to be said of them."""
    said: list[Check] = []
    try:
        file = config.find_config(output.settings.config)
        chosen = config.load(file) if file is not None else None
        policy = load_policy(chosen.policy if chosen is not None else ("guarded",))
    except LoadErrors as errors:
        fix = "soothsayer policy check"
        said += [Check(id="policy", state="fail", text=str(problem), fix=fix) for problem in errors.problems]
        return None, None, said
    where = f"{file}: " if file is not None else ""
    said.append(Check(id="policy", state="ok", text=f"{where}policy {policy.name} loads ({policy.rule_count} rules)"))
    if policy.mode is Mode.OBSERVE:
        text = f"{where}policy {policy.name} only observes: what it would deny is only recorded"
        said.append(Check(id="observe", state="note", text=text))
    if all(scope.defaults[Cell.OTHER] in {Effect.ALLOW, None} for scope in policy.scopes):
        text = f"{where}policy {policy.name} allows what no rule names"
        said.append(Check(id="unsafe", state="note", text=text, fix="default: ask, or deny"))
    if chosen is not None and chosen.durability != Durability.STRICT:
        text = (
            f"{where}durability is {chosen.durability}: a machine that loses power may lose the last second of record"
        )
        said.append(Check(id="unsafe", state="note", text=text, fix="durability: strict"))
    return chosen, policy, said


def _file(seen: Seen, hold_s: float) -> Iterator[Check]:
    name = f"{seen.host.id} ({seen.path})"
    if seen.error is not None:
        where = seen.error.where or str(seen.path)
        yield Check(id="file", state="fail", text=f"{seen.host.id}: {where}: {seen.error.text}", fix=seen.error.fix)
        return
    if not seen.is_read:
        if seen.servers:
            listed = ", ".join(server.name for server in seen.servers)
            text = f"{name}: its servers stand where the host may not read: {listed}"
            yield Check(id="unread", state="fail", text=text, fix="move them to the file that it reads")
        return
    for server in seen.by(Standing.GOVERNED):
        yield from _entry(seen, server, hold_s)


def _entry(seen: Seen, server: Server, hold_s: float) -> Iterator[Check]:
    name = f"{seen.host.id}: {server.name}"
    if "--unsafe-pass-all-env" in server.options:
        yield Check(id="unsafe", state="fail", text=f"{name} sees every variable", fix="name them with --pass-env")
    if server.option("--mode") == ("observe",):
        text = f"{name} is observed: what policy would deny is only recorded"
        fix = f"soothsayer disconnect {seen.host.id}, then connect it with --mode enforce"
        yield Check(id="observe", state="note", text=text, fix=fix)
    for policy in server.option("--policy"):
        try:
            load_policy([policy])
        except LoadErrors as errors:
            fix = f"mend it: {name} does not start"
            yield Check(id="policy", state="fail", text=f"{name}: {errors.problems[0]}", fix=fix)
    yield from checks.patience(seen, server, hold_s)


def _bypass(found: Sequence[Seen], *, named: bool) -> Iterator[Check]:
    """Servers that a host reaches past us. A host that nobody ever connected is a note, unless it was named."""
    governed = {server.target: f"{seen.host.id} governs it" for seen in found for server in seen.by(Standing.GOVERNED)}
    connected = {seen.host.id for seen in found if seen.by(Standing.GOVERNED)}
    for seen in (each for each in found if each.is_read):
        for server in seen.direct:
            twin = server.target in governed
            fails = twin or named or seen.host.id in connected
            what = ", which is governed elsewhere," if twin else ""
            text = f"{seen.host.id} reaches {server.name}{what} directly ({seen.path})"
            if server.standing is Standing.ALONE:
                text = f"{text}: {server.why}"
                fix = f"take it out of {seen.host.title}, or govern it from a configuration (soothsayer proxy -c)"
            else:
                again = " --project" if seen.scope == "project" else ""
                fix = f"soothsayer connect {seen.host.id}{again} --only {server.name}"
            yield Check(id="bypass", state="fail" if fails else "note", text=text, fix=fix)


def _started(found: Sequence[Seen]) -> Iterator[Check]:
    """Start what a host starts, as it would."""
    wanted = [
        (seen, server) for seen in found if seen.is_read for server in seen.by(Standing.GOVERNED) if not server.off
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        yield from pool.map(_start, wanted)


def _start(pair: tuple[Seen, Server]) -> Check:
    seen, server = pair
    name = f"{seen.host.id}: {server.name}"
    program = server.command[0]
    if not Path(program).is_absolute():
        fix = f"soothsayer disconnect {seen.host.id} --only {server.name}, and connect it again"
        return Check(id="program", state="fail", text=f"{name} starts {program}, which is no absolute path", fix=fix)
    if not os.access(program, os.X_OK):
        fix = f"install it again, or soothsayer disconnect {seen.host.id} --only {server.name}"
        return Check(id="program", state="fail", text=f"{name}: {program} is gone", fix=fix)
    env = entry_env(server, seen.host)
    if any("${" in text for text in (*env.values(), *server.command)):
        return Check(
            id="start", state="note", text=f"{name} was not started: only its host fills in what it leaves open"
        )
    environment = {key: value for key, value in os.environ.items() if key in BASE_ENVIRONMENT}
    if seen.host.desktop and sys.platform != "win32":
        environment["PATH"] = DESKTOP_PATH
    try:
        ask(server.command, environment | env, tools=False, limit_s=START_S)
    except ProbeError as error:
        fix = "try it by hand: the words after `--` of its entry"
        found = shutil.which(server.argv[0]) if server.argv else None
        if found is not None and seen.host.desktop and "PATH" in str(error):
            fix = f"write {found} in the place of {server.argv[0]}: a desktop application has a short PATH"
        return Check(id="start", state="fail", text=f"{name} {error}", fix=fix)
    return Check(id="start", state="ok", text=f"{name} starts, passes the self-test and answers")


def _write_report(path: Path, done: Iterable[Check], found: Sequence[Seen], state: Path) -> None:
    """Write what may be shared: kinds and counts, never a name of ours to tell, a path, an argument or a value."""
    report: dict[str, Json] = {
        "schema": 1,
        "versions": {
            "soothsayer": __version__,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "system": f"{platform.system()} {platform.machine()}",
            "libraries": dict(installed()),
        },
        "file_system": file_system_of(state),
        "checks": [{"id": check.id, "state": check.state} for check in done],
        "hosts": [_reported(seen) for seen in found],
        "clients": _clients(state),
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")
    except FileExistsError as error:
        raise Problem("the file is there already", id="exists", where=str(path), fix="name another") from error
    except OSError as error:
        raise Problem(f"it cannot be written ({error.strerror})", id="report", where=str(path)) from error


def _clients(state: Path) -> list[Json]:
    """What hosts that we know declared last; one that we do not know may be named after anything."""
    known = {name for host in HOSTS for name in host.clients}
    said = checks.declared(state)
    return [
        {"name": name if name in known else "another", "declares": [one for one in DECLARED if one in said[name]]}
        for name in sorted(said)
        if not name.startswith("soothsayer-")
    ]


def _reported(seen: Seen) -> Json:
    host: Host = seen.host
    return {
        "host": host.id,
        "scope": seen.scope.split(" ")[0],
        "read_by_host": seen.is_read,
        "readable": seen.error is None,
        "governed": len(seen.by(Standing.GOVERNED)),
        "direct": len(seen.by(Standing.DIRECT)),
        "left_alone": len(seen.by(Standing.ALONE)),
        "limit_s": host.limit_s,
    }
