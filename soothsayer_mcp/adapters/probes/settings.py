"""The key `probes` of a configuration: what checks may look at, run and call. All is off until it is written there."""

from collections.abc import Mapping
from dataclasses import field

from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program that checks may run."""

    argv: tuple[str, ...]
    """The program by its absolute path, and its words; `${name}` alone in a word is filled in by the check."""
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """What is allowed."""

    roots: tuple[str, ...] = ()
    """Absolute folders below which files are looked at."""
    hosts: frozenset[str] = frozenset()
    """Host names, or addresses, that may be asked; with a port where it is not the scheme's own."""
    commands: Mapping[str, Command] = field(default_factory=dict[str, Command])
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name -> absolute path of an Ed25519 public key in PEM."""
