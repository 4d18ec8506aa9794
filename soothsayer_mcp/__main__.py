"""The program. `proxy` goes straight to its own parser; every other word goes to the commands for people."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.problems import Problem, Problems, as_problem, bug, report

PROXY_ROW = "soothsayer_mcp.cli.proxy:main"
PEOPLE_ROW = "soothsayer_mcp.cli.main:main"


def main() -> int:
    """Run the command line of this process and tell the exit code."""
    return run(sys.argv[1:])


def run(argv: Sequence[str]) -> int:
    """Run one command line. Never raises: what goes wrong is one line on standard error and an exit code."""
    words = list(argv)
    as_json = _asks(words, "--json", "SOOTHSAYER_JSON")
    try:
        code = _chosen(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except (Problem, Problems) as problem:
        return report(problem, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the edge of the program: whatever came through is reported, once
        known = as_problem(error)
        if known is not None:
            return report(known, as_json=as_json)
        return bug(error, as_json=as_json, traceback=_asks(words, "--debug", "SOOTHSAYER_DEBUG"))
    return code


def _chosen(words: Sequence[str]) -> int:
    if words[:1] == ["proxy"] and not _wants_help(words):
        proxy = cast("Callable[[Sequence[str]], int]", resolve(PROXY_ROW))
        return proxy(words[1:])
    people = cast("Callable[[Sequence[str]], int]", resolve(PEOPLE_ROW))
    return people(words)


def _own(words: Sequence[str]) -> Sequence[str]:
    """What is meant for us: everything before `--`."""
    return words[: words.index("--")] if "--" in words else words


def _wants_help(words: Sequence[str]) -> bool:
    return any(word in {"-h", "--help"} for word in _own(words))


def _asks(words: Sequence[str], option: str, variable: str) -> bool:
    """Whether an option stands there, for reporting what went wrong before options were read."""
    return option in _own(words) or os.environ.get(variable, "").lower() in {"1", "true", "yes", "on"}


if __name__ == "__main__":
    sys.exit(main())
