"""How a host starts us: by an absolute path, since applications started from a desktop lack the shell's PATH."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from soothsayer_mcp.adapters.hosts.tree import HostFileError

_PASSING: Final = re.compile(r"/(?:(?:archive|environments|builds)-v\d+|pipx/\.cache|_npx|pip-run|\.tmp\w{6})/")
"""Folders that tool runners empty whenever they like."""


def own_command(executable: str = sys.executable) -> tuple[str, ...]:
    """The words that start this installation. Raises `HostFileError` when it lies where it will not stay."""
    python = Path(executable).absolute()
    for name in ("soothsayer", "soothsayer.exe"):
        script = python.with_name(name)
        if script.is_file():
            return _staying((str(script),))
    return _staying((str(python), "-m", "soothsayer_mcp"))


def _staying(command: tuple[str, ...]) -> tuple[str, ...]:
    path = command[0]
    if any(_PASSING.search(spelled.replace("\\", "/")) for spelled in (path, os.path.realpath(path))):
        text = f"this program lies in the cache of a tool runner ({path}) and a host could not start it later"
        fix = "install it to stay, with `uv tool install soothsayer-mcp` or `pipx install soothsayer-mcp`"
        raise HostFileError(text, id="host-program", fix=fix)
    return command


def is_own(words: Sequence[str]) -> int | None:
    """Where the options of `proxy` begin when a command line starts us; else `None`."""
    for at, word in enumerate(words[:6]):
        if word == "proxy" and at and _stem(words[at - 1]) in {"soothsayer", "soothsayer-mcp", "soothsayer_mcp"}:
            return at + 1
        if word == "--":
            return None
    return None


def _stem(word: str) -> str:
    name = re.split(r"[/\\]", word)[-1]
    return re.split(r"[@=]", re.sub(r"\.(?:exe|cmd)$", "", name, flags=re.IGNORECASE))[0]
