"""A scripted agent edits, tests, commits and pushes through Soothsayer, and is in a hurry.

python agent.py [--files COMMAND] [--git COMMAND]: other commands than those of soothsayer.yaml for the two servers.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import yaml

HERE = Path(__file__).parent
GOOD = "def double(n):\n    return 2 * n\n"
BAD = "def double(n):\n    return n\n"
TEST = """\
import unittest

from app import double


class Doubles(unittest.TestCase):
    def test_two(self):
        self.assertEqual(double(2), 4)
"""
RUN = "python -m unittest -q"


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
        shown = ", ".join(f"{name}={value.splitlines()[-1].strip()}" for name, value in arguments.items())
        print(f"\n> {tool} {shown}")
        for block in answer["result"]["content"]:
            print("\n".join(f"  {line[:300]}" for line in block.get("text", "").splitlines()[:8]))


def furnish(folder: Path, commands: dict[str, list[str]]) -> Path:
    """Make a project with a remote, and the configuration in front of it."""
    work = folder / "work"
    work.mkdir()
    (work / "app.py").write_text(GOOD)
    (work / "test_app.py").write_text(TEST)
    (work / ".gitignore").write_text("__pycache__/\n")
    git = ("git", "-C", str(work), "-c", "user.name=agent", "-c", "user.email=agent@example.com")
    for words in (
        ("git", "init", "--quiet", "--bare", str(folder / "origin")),
        ("git", "init", "--quiet", "--initial-branch", "main", str(work)),
        (*git, "config", "user.name", "agent"),
        (*git, "config", "user.email", "agent@example.com"),
        (*git, "remote", "add", "origin", str(folder / "origin")),
        (*git, "add", "."),
        (*git, "commit", "--quiet", "--message", "The first commit"),
    ):
        subprocess.run(words, check=True)
    config = yaml.safe_load((HERE / "soothsayer.yaml").read_text())
    for name, server in config["mcpServers"].items():
        words = commands.get(name) or [server["command"], *server["args"][:-1]]
        server["command"], *server["args"] = *words, str(work)
    shutil.copy(HERE / "policy.yaml", folder)
    (folder / "soothsayer.yaml").write_text(yaml.safe_dump(config))
    return work


def main() -> None:
    """Edit, test and push, at first in the wrong order."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", default="")
    parser.add_argument("--git", default="")
    parser.add_argument("--state", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top).resolve()
        shell = [sys.executable, str(HERE / "shell.py")]
        commands = {"files": shlex.split(given.files), "git": shlex.split(given.git), "shell": shell}
        work = furnish(folder, commands)
        state = given.state or str(folder / "state")
        proxy = [
            sys.executable,
            "-m",
            "soothsayer_mcp",
            "proxy",
            "--state",
            state,
            "-c",
            str(folder / "soothsayer.yaml"),
        ]
        app, repo = str(work / "app.py"), str(work)
        with Host(proxy) as host:
            host.call("shell__run", command=RUN)
            host.call("files__write_file", path=app, content=BAD)
            host.call("shell__push", remote="origin", branch="main")
            host.call("shell__run", command=RUN)
            host.call("shell__push", remote="origin", branch="main")
            host.call("files__write_file", path=app, content=GOOD + "\n# Tested.\n")
            host.call("shell__run", command=RUN)
            host.call("shell__push", remote="origin", branch="main")
            host.ask("tools/call", {"name": "git__git_add", "arguments": {"repo_path": repo, "files": ["app.py"]}})
            host.call("git__git_commit", repo_path=repo, message="Doubling is explained")
            host.call("shell__push", remote="origin", branch="main")


if __name__ == "__main__":
    main()
