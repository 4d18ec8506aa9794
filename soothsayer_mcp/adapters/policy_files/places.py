"""Where policies lie: those that are shipped, in the wheel or in a checkout, and those that people name."""

import re
from dataclasses import dataclass
from pathlib import Path

import soothsayer_mcp

PACKAGED_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
"""A word without dot or slash is a shipped policy; anything else is a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The files that make one scope."""

    kind: str
    """`org`, `project` or `user`."""
    files: tuple[str, ...]
    """Absolute paths."""


def folders() -> tuple[Path, ...]:
    """Where shipped policies may lie: inside the installed package, else beside it in a checkout."""
    package = Path(soothsayer_mcp.__file__).parent
    return package / "policies", package.parent / "policies"


def find(name: str) -> Path | None:
    """The file of a shipped policy; `None` when none has that name."""
    if PACKAGED_NAME.fullmatch(name) is None:
        return None
    return next((file for folder in folders() if (file := folder / f"{name}.yaml").is_file()), None)


def shipped() -> tuple[str, ...]:
    """The names of all shipped policies."""
    for folder in folders():
        names = sorted(file.stem for file in folder.glob("*.yaml") if "." not in file.stem)
        if names:
            return tuple(names)
    return ()
