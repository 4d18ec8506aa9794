"""`demo`, and `proxy` as people meet it: its help, and options before the word."""

import os
from collections.abc import Callable, Sequence
from typing import cast

import click

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.cli.command import Command
from soothsayer_mcp.cli.everywhere import HELP_NAMES, GlobalOption, click_option, given_of
from soothsayer_mcp.cli.options import GLOBAL, PROXY, ProxyOptions, proxy_argv, proxy_options


class ProxyCommand(Command):
    """The options of `proxy`, made from the same rows as its small parser, and the server's command after `--`."""

    def __init__(self) -> None:
        """Take every row of the option table."""
        super().__init__(
            "proxy",
            callback=_run,
            context_settings=HELP_NAMES,
            options_metavar="[OPTIONS]",
            help=(
                "Stand between a host and its tool servers; hosts start this.\n\n"
                "soothsayer proxy -- CMD ARGS... governs one server; soothsayer proxy -c FILE those of a configuration."
            ),
            params=[GlobalOption(option) if option in GLOBAL else click_option(option) for option in PROXY],
        )

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line names what follows `--`."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD ARGS...]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What stands after `--` is the server's and is not looked at."""
        end = args.index("--") if "--" in args else len(args)
        super().parse_args(ctx, args[:end])
        ctx.params["command"] = tuple(args[end + 1 :])
        return []


def read_proxy(ctx: click.Context) -> tuple[list[str], ProxyOptions]:
    """What was typed for `proxy` through click: its spelling for the small parser, and what it means."""
    given = given_of(ctx)
    server = cast("tuple[str, ...]", ctx.params["command"])
    for option in PROXY:
        typed = ctx.params.get(option.field)
        match typed:
            case str():
                given.values[option.field] = [typed]
            case tuple() if typed:
                given.values[option.field] = list(cast("tuple[str, ...]", typed))
            case int() if typed:
                given.flags[option.field] = typed
            case _:
                pass
    return proxy_argv(given, server), proxy_options(given, server, os.environ)


def _run(**_params: object) -> int:
    argv, _checked = read_proxy(click.get_current_context())
    main = cast("Callable[[Sequence[str]], int]", resolve("soothsayer_mcp.cli.proxy:main"))
    return main(argv)


proxy = ProxyCommand()
