"""Real hosts, installed by `make hosts-cli`: what `connect` wrote is read, started and listed by the host itself."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from end_to_end.install import HOSTS, SERVERS
from needs import need
from soothsayer_mcp.testing.servers import Script

BOUND_S = 120.0
BIN = SERVERS / "hosts" / "node_modules" / ".bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealHost:
    """A host, where it keeps its servers, and what it says of one that is connected."""

    id: str
    program: str
    file: str
    text: Callable[[str, str], str]
    """The file, from the JSON of a command and of its arguments."""
    says: str
    starts: bool = True
    """Whether listing starts the servers."""
    more: dict[str, str] | None = None
    """Files beside it."""


REAL_HOSTS = (
    RealHost(
        id="claude-code",
        program="claude",
        file=".claude.json",
        text=lambda command, args: (
            f'{{"mcpServers": {{"notes": {{"command": {command}, "args": {args}, "env": {{"A": "b"}}}}}}}}'
        ),
        says=r"notes: .*soothsayer proxy --name notes .*Connected",
    ),
    RealHost(
        id="codex",
        program="codex",
        file=".codex/config.toml",
        text=lambda command, args: (
            f"# mine\n[mcp_servers.notes] # kept\ncommand = {command} # kept too\nargs = {args}\n[x]\ny = 1\n"
        ),
        says=r"notes +\S*soothsayer +proxy --name notes .*enabled",
        starts=False,
    ),
    RealHost(
        id="gemini",
        program="gemini",
        file=".gemini/settings.json",
        text=lambda command, args: (
            f'{{\n  // mine\n  "mcpServers": {{"notes": {{"command": {command}, "args": {args}}}}}\n}}\n'
        ),
        says=r"notes: .*soothsayer proxy --name notes .*Connected",
        more={".gemini/trustedFolders.json": '{"%s": "TRUST_FOLDER"}'},
    ),
    RealHost(
        id="opencode",
        program="opencode",
        file=".config/opencode/opencode.jsonc",
        text=lambda command, args: (
            '{\n  // mine\n  "$schema": "https://opencode.ai/config.json",\n'
            f'  "mcp": {{"notes": {{"type": "local", "command": [{command}, {args[1:]}, }}, }},\n}}\n'
        ),
        says=r"notes .*connected",
    ),
)


@pytest.mark.parametrize("host", REAL_HOSTS, ids=lambda host: host.id)
def test_a_real_host_lists_its_server_through_the_proxy_that_connect_installed(host: RealHost, tmp_path: Path) -> None:
    need("hosts", found=(SERVERS / "hosts" / "ready").exists(), remedy=f"make hosts-cli ({', '.join(HOSTS)})")
    home, project = tmp_path / "home", tmp_path / "project"
    project.mkdir()
    script = Script(name="notes", eras=("handshake",), version="")
    argv = script.command(tmp_path)
    file = home / host.file
    file.parent.mkdir(parents=True)
    file.write_text(host.text(json.dumps(argv[0]), json.dumps(argv[1:])), encoding="utf-8")
    for name, text in (host.more or {}).items():
        (home / name).write_text(text % project, encoding="utf-8")
    before = file.read_bytes()
    env = {
        "HOME": str(home),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "NO_COLOR": "1",
        "XDG_RUNTIME_DIR": "/nonexistent",
    }

    def run(*words: str) -> str:
        ended = subprocess.run(
            words,
            cwd=project,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout + ended.stderr)

    soothsayer = (sys.executable, "-m", "soothsayer_mcp")
    run(*soothsayer, "connect", host.id, "--mode", "enforce", "--yes")
    said = run(str(BIN / host.program), "mcp", "list")
    assert re.search(host.says, said), said
    if host.starts:
        assert "initialize" in script.record(tmp_path).methods
        assert list((home / ".local" / "state" / "soothsayer").glob("trace-*.db"))
    run(*soothsayer, "hosts", "restore", host.id, "--yes")
    if host.id == "claude-code":
        assert json.loads(file.read_bytes())["mcpServers"] == json.loads(before)["mcpServers"]
    else:
        assert file.read_bytes() == before
