"""Finds the file that a host reads. Where that is in doubt, it says so and chooses nothing."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from soothsayer_mcp.adapters.hosts.table import HOSTS, MSIX, Host, Shape, System
from soothsayer_mcp.adapters.hosts.tree import Format, HostFileError
from soothsayer_mcp.model.value import dataclass

FORMATS: Final[Mapping[str, Format]] = {
    ".json": "json", ".jsonc": "jsonc", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What places depend on."""

    system: System
    home: Path
    environ: Mapping[str, str]

    @classmethod
    def here(cls) -> "Machine":
        """This machine and account."""
        system: System = "win32" if sys.platform == "win32" else "darwin" if sys.platform == "darwin" else "linux"
        return cls(system=system, home=Path.home(), environ=os.environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a host's servers are."""

    host: Host
    files: tuple[Path, ...]
    """The files that it may read: none is there, one is, or it is in doubt which."""
    usual: Path | None
    """Where the file would be if it were there."""
    unread: tuple[Path, ...] = ()
    """Files that are there and that the host does not read, or may not."""
    doubt: str = ""
    """Why no choice is offered; empty when a person may choose."""
    scope: str = "personal"

    def one(self) -> Path:
        """The file. Raises `HostFileError` when there is none, or more than one."""
        if len(self.files) == 1:
            return self.files[0]
        if not self.files:
            where = str(self.usual or self.host.id)
            raise HostFileError(f"{self.host.title} has no file of servers here", id="host-absent", where=where)
        listed = " and ".join(map(str, self.files))
        text = f"{self.doubt or f'which of them {self.host.title} reads depends on how it was installed'}: {listed}"
        raise HostFileError(text, id="host-doubt", fix="name the one with --file PATH")


def host_of(name: str) -> Host | None:
    """The host of that name."""
    return next((host for host in HOSTS if host.id == name), None)


def custom(file: Path, key: str, format: Format | None = None) -> Host:  # noqa: A002 - the word of the table
    """A host that is not in the table, by its file and the key of its servers. Raises `HostFileError`."""
    found = format or FORMATS.get(file.suffix)
    if found is None:
        known = ", ".join(FORMATS)
        raise HostFileError(f"the ending of {file.name} is none of {known}", id="host-format", where=str(file))
    return Host(
        id=re.sub(r"[^a-z0-9]+", "-", f"file-{file.stem}".lower()).strip("-"),
        title=file.name,
        format=found,
        key=tuple(key.split(".")),
        personal={},
        shape=Shape(urls=("url", "httpUrl", "serverUrl")),
        restart="restart the application that reads it",
    )


def find(host: Host, machine: Machine) -> Place:
    """The personal file of a host."""
    candidates: list[Path] = []
    packages: list[Path] = []
    for template in host.personal.get(machine.system, ()):
        path = _expanded(template, machine)
        if path is None:
            continue
        if template is MSIX:
            packages = _packages(path)
            candidates += packages
        else:
            candidates.append(path)
    usual = candidates[-1] if packages == [] and candidates else next(iter(candidates), None)
    if packages:
        return _packaged(host, packages, candidates[len(packages) :], usual)
    there = [path for path in candidates if path.is_file() or path.is_symlink()]
    usual = candidates[0] if candidates else None
    if host.several == "first":
        return Place(host=host, files=tuple(there[:1]), usual=usual, unread=tuple(there[1:]))
    return Place(host=host, files=tuple(there), usual=usual)


def find_project(host: Host, folder: Path) -> Place:
    """The file of a host in a project."""
    candidates = [folder / name for name in host.project]
    there = [path for path in candidates if path.is_file() or path.is_symlink()]
    return Place(
        host=host,
        files=tuple(there[:1]),
        usual=candidates[0] if candidates else None,
        unread=tuple(there[1:]),
        scope="project",
    )


def _packaged(host: Host, packages: list[Path], others: list[Path], usual: Path | None) -> Place:
    """Claude Desktop is, or was, installed as a Windows package: the folder tells, whether or not a file is in it."""
    old = [path for path in others if path.parent.is_dir()]
    if len(packages) > 1:
        return Place(
            host=host, files=tuple(packages), usual=None, unread=tuple(old), doubt="two packages are installed"
        )
    if old:
        both = tuple(path for path in (*packages, *old) if path.is_file())
        files = both if len(both) > 1 else (*packages, *old)
        return Place(host=host, files=files, usual=usual, unread=tuple(path for path in old if path.is_file()))
    return Place(host=host, files=tuple(path for path in packages if path.is_file()), usual=usual)


def _packages(pattern: Path) -> list[Path]:
    """The packages whose folder is there; the star stands for the publisher's id."""
    parts = pattern.parts
    star = next(n for n, part in enumerate(parts) if "*" in part)
    base, tail = Path(*parts[:star]), Path(*parts[star + 1 :])
    found = sorted(base.glob(parts[star])) if base.is_dir() else []
    return [package / tail for package in found if (package / tail).parent.is_dir()]


_VARIABLE: Final = re.compile(r"%([A-Z_]+)%")


def _expanded(template: str, machine: Machine) -> Path | None:
    home = machine.home
    config = machine.environ.get("XDG_CONFIG_HOME", "")
    text = template.replace("{config}", config if config.startswith("/") else f"{home}/.config")
    for name in _VARIABLE.findall(text):
        value = machine.environ.get(name, "")
        if not value:
            return None
        text = text.replace(f"%{name}%", value)
    if text.startswith("~/"):
        return home / text[2:]
    return Path(text)
