"""`run open` and what ends or holds a run: what people decide about runs. Live proxies see it within a second."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import click

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.cli.budgets import raise_budgets, read_amounts
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.recorded import run_rules
from soothsayer_mcp.cli.state import complete_run, open_reader, state_dir
from soothsayer_mcp.console import documents
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.budget import RAISED
from soothsayer_mcp.model.call import Client, RunId
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.run import DeclaredBy, Intent, RunBinding, RunScope, RunState
from soothsayer_mcp.ports import PortError

ABOUT = "soothsayer run"
_TOOLS = re.compile(r"[^\s.\[\]|]+(?:\.[^\s\[\]|]+)?")

by_id = click.argument("run", shell_complete=complete_run)
why = click.option("--reason", metavar="TEXT", default="", help="Why; the agent and the record are told.")


@command(
    "run open",
    more=(
        "Calls of your account in that folder belong to it, through whichever host and server they come, until it ends."
        " --only, --under and --budget limit it further than the policy does; they never permit anything."
    ),
)
@click.option("--intent", metavar="TEXT", default="", help="What the work is for.")
@click.option(
    "--only", metavar="GLOB", multiple=True, help="Only these tools: server.tool with * and ?; may be repeated."
)
@click.option(
    "--under", metavar="PATH", multiple=True, help="Only files below this folder of the workspace; may be repeated."
)
@click.option(
    "--budget",
    metavar="NAME=N",
    multiple=True,
    help="What it may use up, such as calls=50 or bytes_returned=2MB; may be repeated.",
)
@click.option(
    "--workspace", metavar="DIR", help="The folder that the host works in; else the configuration's, else this."
)
def run_open(  # noqa: D103 - the table says what it does
    output: Output,
    intent: str,
    only: tuple[str, ...],
    under: tuple[str, ...],
    budget: tuple[str, ...],
    workspace: str | None,
) -> int:
    budgets = read_amounts("--budget", budget, RAISED)
    place = _workspace(output, workspace)
    for pattern in only:
        if _TOOLS.fullmatch(pattern) is None:
            raise Problem(f'--only "{pattern}" names no tool', id="usage", fix="write server.tool, with * and ?")
    folders = tuple(os.path.normpath(Path(place) / Path(folder).expanduser()) for folder in under)
    binding = RunBinding(
        principal=account(),
        workspace=place,
        client=Client(name=""),
        intent=Intent(text=intent.strip(), declared_by=DeclaredBy.HUMAN) if intent.strip() else None,
    )
    scope = RunScope(only=only, under=folders) if only or folders else None
    store = SqliteStore.open(state_dir(output.settings), about=ABOUT)
    try:
        run = store.open_run(binding, scope, budgets).id
    finally:
        store.close()
    if output.as_json:
        _tell(output, run, "")
        return Exit.DONE
    output.text(f"{run}\n")
    limits = f", limited to {scope.text}" if scope is not None else ""
    limits += f", with budgets {_spelled(budgets)}" if budgets else ""
    output.remark(f"run {run[:4]} is open for {place}{limits}")
    return Exit.DONE


@command("run pause", more="Calls in flight end as usual; further ones are refused until the run is resumed.")
@by_id
@why
def run_pause(output: Output, run: str, reason: str) -> int:  # noqa: D103 - see run_open
    return _change(output, run, RunState.PAUSED, reason)


@command(
    "run resume",
    more="Only a person can lift a pause. --add raises a budget that is used up, as far as the policy's ceiling.",
)
@by_id
@why
@click.option("--add", metavar="NAME=N", multiple=True, help="Raise a budget, such as calls=50; may be repeated.")
def run_resume(output: Output, run: str, reason: str, add: tuple[str, ...]) -> int:  # noqa: D103 - see run_open
    if not add:
        return _change(output, run, RunState.OPEN, reason)
    added = read_amounts("--add", add, RAISED)
    store = SqliteStore.open(state_dir(output.settings), about=ABOUT)
    try:
        with open_reader(output.settings) as reader:
            name = reader.find_run(run)
            raise_budgets(reader, store, RunId(name), added, by=account().id, reason=reason)
    finally:
        store.close()
    _tell(output, name, f"run {name[:4]} is open, with {_spelled(added)} more")
    return Exit.DONE


def _spelled(budgets: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {figure:,}" for name, figure in budgets.items())


@command("run stop", more="Calls in flight end as usual; a stopped run stays stopped.")
@by_id
@why
@click.option("--now", is_flag=True, help="Cancel the calls in flight too; after 5 s they count as unknown.")
def run_stop(output: Output, run: str, reason: str, *, now: bool) -> int:  # noqa: D103 - see run_open
    return _change(output, run, RunState.STOPPED, reason, halt=now)


@command(
    "run complete",
    more=(
        "It is refused, with a list of what is missing, while calls are in flight or unsettled, questions are open,"
        " checks that are owed are not kept, or what `complete: {require: ...}` of its policy asks for is not shown."
        " --failed ends the run as failed whatever is missing."
    ),
)
@by_id
@why
@click.option("--failed", is_flag=True, help="End it as failed instead.")
def run_complete(output: Output, run: str, reason: str, *, failed: bool) -> int:  # noqa: D103 - see run_open
    if failed:
        return _change(output, run, RunState.FAILED, reason)
    with open_reader(output.settings) as reader:
        name = reader.find_run(run)
        rules = run_rules(reader, name, state_dir(output.settings))
    store = SqliteStore.open(state_dir(output.settings), about=ABOUT)
    try:
        done = store.complete_now(RunId(name), by=account().id, rules=rules)
    except PortError as error:
        if error.reason is not Reason.RUN_CLOSED:
            raise
        raise Problem(f"run {error.summary}", id="run-state", exit=Exit.NO) from error
    finally:
        store.close()
    unverified = [f"{name[:4]}.{no}" for no in done.unverified]
    if output.as_json:
        with open_reader(output.settings) as reader:
            told = documents.run(reader.run(name).run)
        output.document({"run": told, "missing": [*done.missing], "unverified": [*unverified]})
    elif done.missing:
        output.text("".join(f"{escape(what)}\n" for what in done.missing))
        output.remark(f"run {name[:4]} is not completed: {len(done.missing)} missing")
    else:
        output.remark(f"run {name[:4]} is completed")
        if unverified:
            output.remark(f"nothing checked these steps, which did more than read: {', '.join(unverified)}")
    return Exit.NO if done.missing else Exit.DONE


class _Configured(Protocol):
    @property
    def workspace(self) -> str: ...


_Find: TypeAlias = Callable[[str | None], Path | None]
_Load: TypeAlias = Callable[[Path], _Configured]


def _workspace(output: Output, given: str | None) -> str:
    if given is not None:
        place = os.path.realpath(Path(given).expanduser())
        if not Path(place).is_dir():
            raise Problem(f"{given} is no folder", id="usage")
        return place
    find = cast("_Find", resolve("soothsayer_mcp.adapters.config:find_config"))
    file = find(output.settings.config)
    if file is None:
        return os.path.realpath(".")
    load = cast("_Load", resolve("soothsayer_mcp.adapters.config:load"))
    return load(file).workspace


def _change(output: Output, prefix: str, to: RunState, reason: str, *, halt: bool = False) -> int:
    with open_reader(output.settings) as reader:
        run = reader.find_run(prefix)
        before = reader.run(run).run.state
    if before == to and not halt:
        _tell(output, run, f"run {run[:4]} is {to} already")
        return Exit.DONE
    who = account().id
    store = SqliteStore.open(state_dir(output.settings), about=ABOUT)
    try:
        store.change_run(RunId(run), to, by=who, reason=" ".join(reason.split()) or f"by {who}", halt=halt)
    except PortError as error:
        if error.reason is not Reason.RUN_CLOSED:
            raise
        text = f"run {error.summary}, and a run that is {before} cannot become {to}"
        raise Problem(text, id="run-state", exit=Exit.NO) from error
    finally:
        store.close()
    _tell(output, run, f"run {run[:4]} is {to}")
    return Exit.DONE


def _tell(output: Output, run: str, text: str) -> None:
    if not output.as_json:
        output.remark(text)
        return
    with open_reader(output.settings) as reader:
        output.document({"run": documents.run(reader.run(run).run)})
