"""Where policies lie: those that are shipped, in the wheel or in a checkout, and those that people name."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

import soothsayer_mcp
from soothsayer_mcp.adapters.policy_files.signed import signature_of
from soothsayer_mcp.model.value import dataclass

PACKAGED_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
"""A word without dot or slash is a shipped policy; anything else is a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The files that make one scope."""

    kind: str
    """`org`, `project` or `user`."""
    files: tuple[str, ...]
    """Absolute paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """An organisation's policy that a configuration names."""

    policy: str
    """Absolute path."""
    key: str = ""
    """The public key that has to have signed it; empty where the place is trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Policies that stand above or beside the user's, by where they lie."""

    organisation: tuple[str, ...] = ()
    project: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    """Policy file -> the key that has to have signed it."""
    looked: tuple[str, ...] = ()
    """All places that were looked at: a file that appears there changes what is in force."""


PROJECT_POLICY = ".soothsayer/policy.yaml"
"""Below the workspace: what a project's own people object to. It permits nothing."""


def system_folder() -> Path:
    """Where an administrator puts what holds for everybody on this machine."""
    match sys.platform:
        case "win32":
            return Path(os.environ.get("PROGRAMDATA", "C:\\ProgramData")) / "soothsayer"
        case "darwin":
            return Path("/Library/Application Support/soothsayer")
        case _:
            return Path("/etc/soothsayer")


def standing(workspace: str, named: Organisation | None, *, system: Path | None = None) -> Standing:
    """Find the policies beside the user's: the machine's, the configured organisation's, and the project's."""
    folder = system_folder() if system is None else system
    machine, key_file, project = folder / "policy.yaml", folder / "policy.pub", Path(workspace) / PROJECT_POLICY
    organisation: dict[str, str] = {}
    if machine.is_file():
        # A key that is there and cannot be read lets nothing pass.
        organisation[str(machine)] = _key(key_file)
    if named is not None:
        organisation.setdefault(named.policy, named.key)
        if named.key:
            organisation[named.policy] = named.key
    return Standing(
        organisation=tuple(organisation),
        project=(str(project),) if project.is_file() else (),
        keys={file: key for file, key in organisation.items() if key},
        looked=(
            *map(str, (machine, key_file, project)),
            *(signature_of(file) for file, key in organisation.items() if key),
        ),
    )


def _key(file: Path) -> str:
    if not file.exists():
        return ""
    try:
        return file.read_text(encoding="utf-8").strip() or "an empty key file"
    except (OSError, ValueError):
        return "a key file that cannot be read"


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
