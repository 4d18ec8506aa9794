"""What every command for people is made with: its row of the table, the options that all take, and its output."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec

import click

from soothsayer_mcp.cli.everywhere import HELP_NAMES, GlobalOption, given_of, global_options
from soothsayer_mcp.cli.options import settings
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.table import COMMANDS
from soothsayer_mcp.trace.query import KEYS

P = ParamSpec("P")


class Command(click.Command):
    """A command whose help shows its own options first, and those that every command takes apart.

    Arguments stand in the line of its usage, and its text says what they are.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Two lists."""
        own: list[tuple[str, str]] = []
        everywhere: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is not None:
                common = isinstance(param, GlobalOption) or "--help" in param.opts
                (everywhere if common else own).append(record)
        for title, records in (("Options", own), ("Everywhere", everywhere)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class FilterCommand(Command):
    """A command that takes filter terms, of which one may begin with `-` as an option does: `-principal:ci`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Tell negated terms from options by their key."""
        end = args.index("--") if "--" in args else len(args)
        own, rest = args[:end], args[end + 1 :]
        options = [arg for arg in own if not _is_negated_term(arg)]
        terms = [arg for arg in own if _is_negated_term(arg)]
        return super().parse_args(ctx, [*options, "--", *terms, *rest] if terms or rest else options)


def _is_negated_term(arg: str) -> bool:
    key, colon, _value = arg.removeprefix("-").partition(":")
    return arg.startswith('-"') or (arg.startswith("-") and bool(colon) and key in KEYS)


def command(
    words: str, *, more: str = "", kind: type[Command] = Command
) -> Callable[[Callable[Concatenate[Output, P], int]], click.Command]:
    """Make the command of a row from a function that takes its output first and tells the exit code."""
    row = next(row for row in COMMANDS if row.words == words)
    help_text = f"{row.help}\n\n{more}" if more else row.help

    def make(run: Callable[Concatenate[Output, P], int]) -> click.Command:
        @functools.wraps(run)
        def with_output(*args: P.args, **kwargs: P.kwargs) -> int:
            output = Output(settings(given_of(click.get_current_context()), os.environ))
            return run(output, *args, **kwargs)

        made = click.command(words.rpartition(" ")[2], cls=kind, help=help_text, context_settings=HELP_NAMES)(
            with_output
        )
        made.params += global_options()
        return made

    return make


def choices(words: Sequence[str]) -> click.Choice[str]:
    """A closed list of words."""
    return click.Choice(list(words))
