"""The command line for people: click groups made from the command table. Hosts start `proxy` without it."""

import os
from collections.abc import Sequence
from typing import cast

import click
from click.shell_completion import CompletionItem

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.cli.everywhere import HELP_NAMES, global_options
from soothsayer_mcp.cli.exits import MEANINGS, Exit
from soothsayer_mcp.cli.options import Given, nearest
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.table import COMMANDS, GROUPS, Row


class TableGroup(click.Group):
    """A group whose commands are rows of the table; a command's code is imported when it runs."""

    def __init__(self, name: str | None, *, prefix: str, help: str, params: list[click.Parameter]) -> None:  # noqa: A002 - click's word
        """Hold the rows that begin with `prefix`, a word and a space, or nothing."""
        super().__init__(name, help=help, params=params, context_settings=HELP_NAMES, no_args_is_help=True)
        self._prefix = prefix

    def rows(self) -> dict[str, Row]:
        """The commands of this group, by their last word."""
        words = ((row.words.removeprefix(self._prefix), row) for row in COMMANDS if row.words.startswith(self._prefix))
        return {word: row for word, row in words if " " not in word}

    def groups(self) -> dict[str, str]:
        """The groups below this one, and their help."""
        return {} if self._prefix else GROUPS

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the table."""
        return [*self.rows(), *self.groups()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the code of a command; `None` when there is none of that name."""
        row = self.rows().get(cmd_name)
        if row is not None:
            return cast("click.Command", resolve(row.runs))
        if cmd_name in self.groups():
            return TableGroup(cmd_name, prefix=f"{cmd_name} ", help=GROUPS[cmd_name], params=global_options())
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begins with. Raises `Problem` with the nearest name."""
        word = args[0]
        if word in self.rows() and word in self.groups():
            # The word alone is a command; with one of its own words after it, a group.
            group = TableGroup(word, prefix=f"{word} ", help=GROUPS[word], params=global_options())
            if not set(args[1:]).isdisjoint(group.rows()):
                return word, group, args[1:]
        if ctx.resilient_parsing or self.get_command(ctx, word) is not None or word.startswith("-"):
            return super().resolve_command(ctx, args)
        whole = f"{self._prefix}{word}"
        near = nearest(whole, [*(row.words for row in COMMANDS), *self.groups()])
        raise Problem(
            f'no command "{whole}"', id="usage-command", near=near, fix="" if near else "see soothsayer --help"
        )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and options that begin with what was typed, without importing any command."""
        helps = {word: row.help for word, row in self.rows().items()} | self.groups()
        found = [CompletionItem(word, help=text) for word, text in helps.items() if word.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The table, by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for row in COMMANDS:
            if row.words.startswith(self._prefix):
                sections.setdefault(row.section, []).append((row.words, row.help))
        width = max(len(words) for rows in sections.values() for words, _help in rows)
        for section, rows in sections.items():
            with formatter.section(section.capitalize()):
                formatter.write_dl([(words.ljust(width), text) for words, text in rows])
        if not self._prefix:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(int(code)).ljust(width), MEANINGS[code]) for code in Exit])


def root() -> click.Group:
    """The whole command line."""
    return TableGroup(
        "soothsayer",
        prefix="",
        help="Govern the tool calls of an agent: policy before, checks after, a record that can be proved.",
        params=global_options(),
    )


def main(argv: Sequence[str], given: Given | None = None) -> int:
    """Run one command and tell its exit code. Raises `Problem` and whatever commands let through."""
    group = root()
    name = "soothsayer"
    if os.environ.get("_SOOTHSAYER_COMPLETE"):
        group.main(list(argv), prog_name=name, complete_var="_SOOTHSAYER_COMPLETE")
    try:
        with group.make_context(name, list(argv), obj=given or Given()) as ctx:
            ended: object = group.invoke(ctx)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    except click.NoSuchOption as error:
        near = error.possibilities[0] if error.possibilities else ""
        raise Problem(f'unknown option "{error.option_name}"', id="usage", near=near) from error
    except click.UsageError as error:
        raise Problem(_first_lower(error.format_message()).rstrip("."), id="usage", fix=_usage_line(error)) from error
    except click.ClickException as error:
        raise Problem(_first_lower(error.format_message()).rstrip("."), id="usage") from error
    return ended if isinstance(ended, int) else Exit.DONE


def _usage_line(error: click.UsageError) -> str:
    return "" if error.ctx is None else f"see {error.ctx.command_path} --help"


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
