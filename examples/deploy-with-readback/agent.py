"""A scripted agent deploys through Soothsayer, and believes every ok.

python agent.py [--builds COMMAND] [--state FOLDER]: another command for the server of builds than
that of soothsayer.yaml.
"""

import argparse
import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import yaml

HERE = Path(__file__).parent
BUILDS = [("shop", "1.1", "passed"), ("shop", "1.2", "failed"), ("shop", "1.3", "passed")]


class Host:
    """As much of an MCP host as a script needs."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._last = 0

    def __enter__(self) -> Self:
        client = {"name": "agent", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
        self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer."""
        assert self._process.stdout is not None
        self._last += 1
        self._say({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params})
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == self._last and "method" not in answer:
                return answer
        raise SystemExit("the proxy ended")

    def call(self, tool: str, **arguments: str) -> None:
        """Call a tool, and print what the model reads."""
        answer = self.ask("tools/call", {"name": tool, "arguments": arguments})
        print(f"\n> {tool} {', '.join(f'{name}={value}' for name, value in arguments.items())}")
        for block in answer["result"]["content"]:
            print("\n".join(f"  {line[:300]}" for line in block.get("text", "").splitlines()[:8]))


def furnish(folder: Path, builds: list[str]) -> None:
    """Make the list of builds, and the configuration in front of it and the cluster."""
    with closing(sqlite3.connect(folder / "builds.db")) as db:
        db.execute("CREATE TABLE builds(service TEXT, version TEXT, status TEXT)")
        db.executemany("INSERT INTO builds VALUES(?, ?, ?)", BUILDS)
        db.commit()
    config = yaml.safe_load((HERE / "soothsayer.yaml").read_text())
    servers = config["mcpServers"]
    words = builds or [servers["builds"]["command"], *servers["builds"]["args"][:-2]]
    servers["builds"] = {"command": words[0], "args": [*words[1:], "--db-path", str(folder / "builds.db")]}
    servers["cluster"] = {"command": sys.executable, "args": [str(HERE / "cluster.py")]}
    shutil.copy(HERE / "policy.yaml", folder)
    (folder / "soothsayer.yaml").write_text(yaml.safe_dump(config))


def main() -> None:
    """Deploy a version that failed, one that runs, and one that never comes up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--builds", default="")
    parser.add_argument("--state", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top).resolve()
        furnish(folder, shlex.split(given.builds))
        proxy = [sys.executable, "-m", "soothsayer_mcp", "proxy"]
        proxy += ["--state", given.state or str(folder / "state"), "-c", str(folder / "soothsayer.yaml")]
        with Host(proxy) as host:
            for version in ("1.2", "1.1", "1.3"):
                host.call("cluster__deploy", service="shop", version=version)
            host.call("soothsayer_complete")


if __name__ == "__main__":
    main()
