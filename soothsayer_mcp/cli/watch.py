"""`watch`: the screens of `console/tui`, wired to a state folder. Their library is imported when it runs."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

import click

from soothsayer_mcp.adapters.faces import BEAT_S
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.system import ENDING
from soothsayer_mcp.cli.command import FilterCommand, choices, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.look import FILTER_HELP, filtered, read_filter
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.watch_desk import StateDesk

SIGNALLED = 128
"""A program that a signal ended answers with this and the signal's number."""


class _App(Protocol):
    def run_async(self) -> Coroutine[Any, Any, int | None]: ...

    def exit(self, result: int) -> None: ...


@command(
    "watch",
    more=(
        f"1, 2 and 3 change between steps, questions and runs; ? lists the keys that work. While it is open, calls that"
        f" are asked about wait for you. {FILTER_HELP}"
    ),
    kind=FilterCommand,
)
@filtered
@click.option("--screen", type=choices(("live", "asks", "runs")), default="live", help="Which screen is shown first.")
def watch(  # noqa: D103 - the table says what it does
    output: Output, words: tuple[str, ...], grep: str | None, screen: str, **shorts: str | None
) -> int:
    wanted = read_filter(words, {**shorts, "grep": grep})
    if output.as_json:
        raise Problem("watch is for people", id="usage", fix="soothsayer log -f --jsonl gives programs the same")
    if output.settings.no_input or not (sys.stdin.isatty() and output.is_terminal) or os.environ.get("TERM") == "dumb":
        raise Problem("watch needs a terminal", id="needs-terminal", fix="soothsayer log -f follows without one")
    if not output.colored:
        os.environ["NO_COLOR"] = "1"  # What the screens are made with asks for it there.
    desk = StateDesk(output)
    make = cast("Callable[..., _App]", resolve("soothsayer_mcp.console.tui.app:Watch"))
    app = make(desk, wanted=wanted, beat_s=BEAT_S, interrupted=Exit.INTERRUPTED, mode=screen)
    try:
        return asyncio.run(_run(app))
    finally:
        desk.leave()


async def _run(app: _App) -> int:
    """Run until it is left; a signal that asks us to end leaves the terminal as it was, too."""
    loop = asyncio.get_running_loop()
    for number in ENDING:
        if number != signal.SIGINT and sys.platform != "win32":
            loop.add_signal_handler(number, app.exit, SIGNALLED + number)
    ended = await app.run_async()
    return Exit.BUG if ended is None else ended
