"""The options that every command takes, as click's. Help and completion need no more than this."""

from collections.abc import Callable
from typing import Any

import click

from soothsayer_mcp.cli.options import GLOBAL, Given, Option

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


class GlobalOption(click.Option):
    """An option that every command takes; what was typed last holds, before or after the command."""

    def __init__(self, option: Option) -> None:
        """Make click's form of a row."""
        super().__init__(list(option.names), **_click_form(option), expose_value=False, callback=_taker(option))


def global_options() -> list[click.Parameter]:
    """Fresh click options for what every command takes."""
    return [GlobalOption(option) for option in GLOBAL]


def click_option(option: Option) -> click.Option:
    """Click's form of a row that one command takes."""
    return click.Option([*option.names, option.field], **_click_form(option))


def given_of(ctx: click.Context) -> Given:
    """What was typed for the options that every command takes."""
    return ctx.ensure_object(Given)


def _click_form(option: Option) -> dict[str, Any]:
    if option.is_flag:
        return {"help": option.help, "count": True}
    return {"help": option.help, "metavar": option.metavar, "multiple": option.many, "default": None}


def _taker(option: Option) -> Callable[[click.Context, click.Parameter, object], None]:
    def take(ctx: click.Context, _param: click.Parameter, value: object) -> None:
        given = given_of(ctx)
        match value:
            case int() if value > 0:
                given.flags[option.field] = value
            case str():
                given.values[option.field] = [value]
            case _:
                pass

    return take
