"""A scripted agent edits a project in fifty steps and fails; then its run is rolled back.

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
SOOTHSAYER = (sys.executable, "-m", "soothsayer_mcp")


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

    def call(self, tool: str, **arguments: Any) -> None:
        """Call a tool that has to succeed."""
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})["result"]
        if result.get("isError"):
            raise SystemExit(result["content"][0]["text"])


def furnish(folder: Path, commands: dict[str, list[str]]) -> Path:
    """Make a project, and the configuration in front of it."""
    work = folder / "work"
    (work / "src").mkdir(parents=True)
    for number in range(10):
        (work / "src" / f"{number}.py").write_text(f"NUMBER = {number}\n")
    git = ("git", "-C", str(work), "-c", "user.name=agent", "-c", "user.email=agent@example.com")
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "The first commit")):
        subprocess.run((*git, *words), check=True)
    (work / "src" / "0.py").write_text("NUMBER = 'not committed yet'\n")
    config = yaml.safe_load((HERE / "soothsayer.yaml").read_text())
    for name, server in config["mcpServers"].items():
        words = commands.get(name) or [server["command"], *server["args"][:-1]]
        server["command"], *server["args"] = *words, str(work)
    shutil.copy(HERE / "policy.yaml", folder)
    (folder / "soothsayer.yaml").write_text(yaml.safe_dump(config))
    return work


def tree(work: Path) -> dict[str, bytes]:
    """Every file of the work tree, and what git says of it."""
    found = {str(one.relative_to(work)): one.read_bytes() for one in (work / "src").iterdir()}
    words = ["git", "-C", str(work), "status", "--porcelain"]
    status = subprocess.run(words, capture_output=True, check=True)
    return {**found, "git status": status.stdout}


def edit(host: Host, work: Path) -> None:
    """Fifty steps: forty edits, ten looks."""
    for turn in range(10):
        old, new = str(work / "src" / f"{turn}.py"), str(work / "src" / f"new{turn}.py")
        host.call("files__write_file", path=old, content=f"NUMBER = {turn + 1}\n")
        host.call("files__edit_file", path=old, edits=[{"oldText": "NUMBER", "newText": "N"}])
        host.call("files__write_file", path=new, content="made\n")
        host.call("files__write_file", path=new, content="made twice\n")
        host.call("git__git_status", repo_path=str(work))


def soothsayer(*words: str) -> str:
    """Run a command as a person would, and tell what it says."""
    print(f"\n$ soothsayer {' '.join(words[:1])} ...")
    ended = subprocess.run((*SOOTHSAYER, *words), capture_output=True, text=True, check=False)
    lines = (ended.stdout + ended.stderr).splitlines()
    shown = lines if len(lines) <= 6 else [*lines[:3], f"... {len(lines) - 6} more ...", *lines[-3:]]  # noqa: PLR2004
    print("\n".join(f"  {line}" for line in shown))
    print(f"  exit {ended.returncode}")
    return ended.stdout


def main() -> None:
    """Edit, fail, and come back."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", default="")
    parser.add_argument("--git", default="")
    parser.add_argument("--state", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top).resolve()
        commands = {"files": shlex.split(given.files), "git": shlex.split(given.git)}
        work = furnish(folder, commands)
        before = tree(work)
        state = given.state or str(folder / "state")
        with Host([*SOOTHSAYER, "proxy", "--state", state, "-c", str(folder / "soothsayer.yaml")]) as host:
            edit(host, work)
        runs = json.loads(soothsayer("run", "list", "--json", "--state", state))["runs"]
        run = next(one["run"] for one in runs if one["steps"] > 1)
        soothsayer("run", "complete", run, "--failed", "--state", state)
        ours = work / "src" / "3.py"
        left = ours.read_bytes()
        ours.write_text("NUMBER = 'edited by hand'\n")
        soothsayer("rollback", run, "--yes", "--state", state)
        ours.write_bytes(left)
        soothsayer("rollback", run, "--yes", "--state", state)
        same = tree(work) == before
        print(f"\nAs before, in all bytes and in git's eyes: {'yes' if same else 'NO'}")
        raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
