"""`soothsayer proxy`, as a host starts it: options, configuration, servers, policy, trace, relay, in that order.

The servers are started first, so that they boot while the rest is loaded; they get no byte before the self-test passed.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.system import exit_on_signals
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import parse_proxy
from soothsayer_mcp.cli.plan import Plan, Started, plan, spawn
from soothsayer_mcp.console.text import escape

SERVE_ROW = "soothsayer_mcp.cli.wiring:serve"


def main(argv: Sequence[str]) -> int:
    """Run the stdio face until the host is gone. Raises what `cli/problems.py` reports; nothing is forwarded then."""
    gc.disable()  # nothing that a start makes is garbage; `serve` turns it on again
    options = parse_proxy(argv, os.environ)
    exit_on_signals()
    prepared = plan(options)
    started = spawn(prepared.config)
    if not prepared.quiet:
        for line in (*prepared.config.warnings, *(_remarks(prepared) if options.verbose else ())):
            sys.stderr.write(f"soothsayer: {escape(line)}\n")
    serve = cast("Callable[[Plan, Started], None]", resolve(SERVE_ROW))
    serve(prepared, started)
    return Exit.DONE


def _remarks(prepared: Plan) -> Sequence[str]:
    """What `-v` tells beside the rest: where all comes from and goes to, but no command line."""
    config = prepared.config
    return (
        f"state in {prepared.state}, durability {config.durability}",
        f"configuration {config.file or 'of the command line'}",
        f"policy {', '.join(config.policy)}, mode {config.mode}",
        f"servers {', '.join(spec.name for spec in config.servers)}",
    )
