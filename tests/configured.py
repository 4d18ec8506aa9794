"""A proxy as a host starts it from a configuration: `config.yaml` in a folder, its state beside it."""

import sys
from pathlib import Path

from kept import keep
from soothsayer_mcp.adapters.config import load
from soothsayer_mcp.testing.hosts import RawHost

SOOTHSAYER = (sys.executable, "-m", "soothsayer_mcp")


def command(top: Path) -> list[str | Path]:
    """The command line of the proxy of this folder; what it looks for is kept."""
    config = load(top / "config.yaml")
    state = top / "state"
    for policy in config.policy:
        keep(policy, state, servers=[spec.name for spec in config.servers], workspace=Path(config.workspace))
    return [*SOOTHSAYER, "proxy", "--state", state, "-c", top / "config.yaml"]


def connect(top: Path) -> RawHost:
    """Start the proxy of this folder and open the handshake era."""
    host = RawHost(command(top))
    host.initialize()
    return host
