"""Install the real servers of the end-to-end tests under `.servers/` in the checkout. What is there already stays.

`make servers` runs this, and `make hosts-cli` with the word `hosts`. It needs the package indexes of Python and Node;
the tests themselves need neither.
"""

import shutil
import subprocess
import sys
from pathlib import Path

SERVERS = Path(__file__).parents[2] / ".servers"

PYTHON = {
    "py": ("mcp-server-fetch==2026.10.24", "mcp-server-git==2026.10.19", "mcp-server-time==2026.10.19"),
    # Written for the first major version of the SDK, and so in an environment of its own.
    "py1": ("mcp-server-sqlite==2025.4.25", "mcp<2"),
}
NODE = (
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
    "@modelcontextprotocol/server-sequential-thinking@2026.8.31",
)


HOSTS = (
    "@anthropic-ai/claude-code@2.1.197",
    "@google/gemini-cli@0.61.0",
    "@openai/codex@0.169.0",
    "opencode-ai@1.18.33",
)
"""Hosts that run without an account as far as listing their servers. More than a gigabyte, so only `make hosts-cli`
installs them."""


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def install() -> int:
    SERVERS.mkdir(exist_ok=True)
    for name, packages in PYTHON.items():
        folder = SERVERS / name
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run(sys.executable, "-m", "venv", str(folder))
            run(str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages)
            (folder / "ready").touch()
    npm = shutil.which("npm")
    folder = SERVERS / "npm"
    if npm is None:
        print("npm is not here: the servers written for Node are left out", file=sys.stderr)  # noqa: T201
        return 1
    install_node(npm, folder, NODE)
    return 0


def install_node(npm: str, folder: Path, packages: tuple[str, ...]) -> None:
    if not (folder / "ready").exists():
        folder.mkdir(exist_ok=True)
        run(npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", *packages)
        (folder / "ready").touch()


def install_hosts() -> int:
    SERVERS.mkdir(exist_ok=True)
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not here, and the hosts come from it", file=sys.stderr)  # noqa: T201
        return 1
    install_node(npm, SERVERS / "hosts", HOSTS)
    return 0


if __name__ == "__main__":
    sys.exit(install_hosts() if sys.argv[1:] == ["hosts"] else install())
