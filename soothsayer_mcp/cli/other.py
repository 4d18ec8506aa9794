"""`version` and `completion`."""

import platform
import sqlite3
from collections.abc import Mapping
from importlib import metadata

import click
from click.shell_completion import get_completion_class

from soothsayer_mcp import __version__
from soothsayer_mcp.cli.command import choices, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.model.json import Json

PARTS = ("mcp", "pydantic", "click", "rich", "google-re2", "jsonschema-rs", "cryptography")


@command("version")
def version(output: Output) -> int:  # noqa: D103 - the table says what it does
    parts: dict[str, Json] = {
        "soothsayer-mcp": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **{name: _installed(name) for name in PARTS},
    }
    if output.as_json:
        output.document({"versions": parts})
        return Exit.DONE
    shown = parts if output.settings.verbose else {"soothsayer-mcp": __version__}
    output.text("".join(f"{name} {text or 'not installed'}\n" for name, text in shown.items()))
    return Exit.DONE


def installed() -> Mapping[str, str]:
    """The versions of the libraries that take part and are there."""
    found = {name: _installed(name) for name in PARTS}
    return {name: version for name, version in found.items() if version is not None}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@command(
    "completion",
    more="Prints a script for the shell to read, for example: soothsayer completion bash > FILE; source FILE.",
)
@click.argument("shell", type=choices(("bash", "zsh", "fish")))
def completion(output: Output, shell: str) -> int:  # noqa: D103 - see version
    made = get_completion_class(shell)
    assert made is not None, shell
    root = click.get_current_context().find_root().command
    output.text(f"{made(root, {}, 'soothsayer', '_SOOTHSAYER_COMPLETE').source()}\n")
    return Exit.DONE
