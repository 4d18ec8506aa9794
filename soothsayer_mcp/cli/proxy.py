"""`soothsayer proxy`, as a host starts it: options, configuration, servers, policy, trace, relay, in that order.

The servers are started first, so that they boot while the rest is loaded; they get no byte before the self-test passed.
"""

import os
from collections.abc import Sequence

from soothsayer_mcp.adapters.system import exit_on_signals
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import ProxyOptions, parse_proxy
from soothsayer_mcp.cli.wiring import Plan, plan, say, serve


def main(argv: Sequence[str]) -> int:
    """Run the stdio face until the host is gone. Raises what `cli/problems.py` reports; nothing is forwarded then."""
    options = parse_proxy(argv, os.environ)
    exit_on_signals()
    return run(plan(options), options)


def run(prepared: Plan, options: ProxyOptions) -> int:
    """Start the servers and relay."""
    if not options.quiet:
        for warning in prepared.config.warnings:
            say(warning)
    serve(prepared)
    return Exit.DONE
