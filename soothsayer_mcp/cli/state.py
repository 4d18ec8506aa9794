"""The state folder that a command reads, and what to say while nothing is recorded in it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

import click
from click.shell_completion import CompletionItem

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.store.reader import NoTraceError, Reader, ReadError, UnreadableError, wait_for_trace
from soothsayer_mcp.adapters.system import state_folder
from soothsayer_mcp.cli.options import Given, Settings, settings
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.trace.query import KEYS, Filter, Shape

FIRST_STEP = "soothsayer demo shows how it works; soothsayer proxy -- CMD ARGS... governs a server of yours"


class _Configured(Protocol):
    """What a configuration says of the state folder."""

    @property
    def state(self) -> str | None: ...


def state_dir(chosen: Settings) -> Path:
    """The state folder: as typed or as the environment says, as the configuration says, or the platform's own place.

    The same configuration is looked at as by `proxy`. Raises `LoadErrors` when it is wrong.
    """
    if chosen.state is not None:
        return state_folder(chosen.state)
    find = cast("Callable[[str | None], Path | None]", resolve("soothsayer_mcp.adapters.config:find_config"))
    file = find(chosen.config)
    if file is None:
        return state_folder(None)
    load = cast("Callable[[Path], _Configured]", resolve("soothsayer_mcp.adapters.config:load"))
    return state_folder(None, configured=load(file).state)


def open_reader(chosen: Settings) -> Reader:
    """Open the trace for reading. Raises `ReadError`."""
    return Reader(state_dir(chosen))


def wait_for_reader(output: Output) -> Reader:
    """Open the trace, or wait until there is one."""
    folder = state_dir(output.settings)
    try:
        return Reader(folder)
    except NoTraceError as error:
        output.remark(f"{error.text}; waiting for the first step")
    except UnreadableError:
        pass  # It may be just being made; waiting tells the difference.
    wait_for_trace(folder)
    return Reader(folder)


def empty_state(output: Output, error: NoTraceError, document: Mapping[str, Json]) -> None:
    """Answer that there is nothing, and how to make a beginning."""
    if output.as_json:
        output.document(document)
    else:
        output.remark(f"{error.text}; {FIRST_STEP}")


def complete_run(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runs whose id begins with what was typed, newest first."""
    try:
        with open_reader(settings(ctx.find_object(Given) or Given(), {})) as reader:
            rows = [row for row in reader.runs(Filter(), reader.now(), limit=200) if row.run.startswith(incomplete)]
            short = reader.short_runs(row.run for row in rows[:50])
            return [CompletionItem(short[row.run], help=f"{row.state}, {row.steps} steps") for row in rows[:50]]
    except ReadError:
        return []


def complete_target(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What `show` takes: runs and reasons."""
    reasons = [CompletionItem(reason) for reason in Reason if reason.startswith(incomplete)]
    return [*complete_run(ctx, param, incomplete), *(reasons if incomplete else [])]


def complete_filter(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Keys of the filter, and the words of those that have a closed list."""
    key, colon, begun = incomplete.partition(":")
    bare = key.removeprefix("-")
    sign = key[: len(key) - len(bare)]
    if not colon:
        return [CompletionItem(f"{sign}{name}:", help=row.help) for name, row in KEYS.items() if name.startswith(bare)]
    row = KEYS.get(bare)
    if row is None or row.shape is not Shape.CLOSED:
        return []
    return [CompletionItem(f"{key}:{word}") for word in row.words if word.startswith(begun)]
