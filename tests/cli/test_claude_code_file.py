"""Claude Code's personal file changes through the application's own command; here a stand-in that edits it likewise."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import Soothsayer
from soothsayer_mcp.cli.exits import Exit

STAND_IN = """\
#!{python} -S
import json, pathlib, sys
home = pathlib.Path({home!r})
words = sys.argv[1:]
with (home / "asked").open("a") as asked:
    asked.write(json.dumps(words[:2]) + "\\n")
fails = home / "fails"
left = int(fails.read_text()) if fails.exists() else 0
file = home / ".claude.json"
whole = json.loads(file.read_text())
servers = whole.setdefault("mcpServers", {{}})
assert words[0] == "mcp" and words[2:5] == ["-s", "user", "--"], words
name = words[5]
if words[1] == "remove":
    del servers[name]
else:
    if name in servers:
        sys.exit("it exists already")
    if left:
        fails.write_text(str(left - 1))
        sys.exit("no room")
    known = ("type", "command", "args", "env", "url", "headers", "timeout")
    servers[name] = {{key: value for key, value in json.loads(words[6]).items() if key in known}}
whole["numStartups"] = whole.get("numStartups", 0) + 1
file.write_text(json.dumps(whole))
"""

SERVERS: dict[str, Any] = {
    "notes": {"type": "stdio", "command": "x", "args": [], "env": {"A": "b"}},
    "far": {"type": "http", "url": "https://far.example.test/mcp", "headers": {"Authorization": "Bearer y"}},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "claude"
    program.write_text(STAND_IN.format(python=sys.executable, home=str(folder)), encoding="utf-8")
    program.chmod(0o755)
    (folder / ".claude.json").write_text(
        json.dumps({"numStartups": 1, "mcpServers": SERVERS, "projects": {"/p": {"z": [1]}}}, indent=4),
        encoding="utf-8",
    )
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(soothsayer: Soothsayer, home: Path, monkeypatch: pytest.MonkeyPatch) -> Soothsayer:
    monkeypatch.setenv("SOOTHSAYER_STATE", str(home / "state"))
    return soothsayer


def said(home: Path) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((home / ".claude.json").read_bytes())
    return whole


def connect(run: Soothsayer, *words: str) -> int:
    return run("connect", "claude-code", "--mode", "enforce", "--yes", *words).code


@pytest.mark.parametrize("road", [("hosts", "restore"), ("disconnect",)])
def test_entries_are_changed_and_come_back_and_the_rest_is_the_applications(
    road: tuple[str, ...], run: Soothsayer, home: Path
) -> None:
    assert connect(run) == Exit.DONE
    now = said(home)
    assert now["mcpServers"]["notes"]["args"][-2:] == ["--", "x"]
    assert now["mcpServers"]["far"]["type"] == "stdio"
    assert now["numStartups"] > 1
    assert now["projects"] == {"/p": {"z": [1]}}
    assert run(*road, "claude-code", "--yes").code == Exit.DONE
    assert said(home)["mcpServers"] == SERVERS
    assert said(home)["numStartups"] > now["numStartups"]
    asked = [json.loads(line) for line in (home / "asked").read_text(encoding="utf-8").splitlines()]
    assert asked.count(["mcp", "add-json"]) == asked.count(["mcp", "remove"]) == 4


@pytest.mark.pitfall("P-HOST-07")
def test_an_entry_with_a_key_that_the_command_would_drop_is_left_alone(run: Soothsayer, home: Path) -> None:
    whole = said(home)
    whole["mcpServers"]["odd"] = {"command": "z", "mine": {"a": 1}}
    (home / ".claude.json").write_text(json.dumps(whole), encoding="utf-8")
    ended = run("connect", "claude-code", "--mode", "enforce", "--yes")
    assert ended.code == Exit.DONE
    assert "left alone: odd: `claude mcp` would drop its mine" in ended.err
    assert said(home)["mcpServers"]["odd"] == {"command": "z", "mine": {"a": 1}}


@pytest.mark.pitfall("P-HOST-03")
def test_without_the_applications_command_its_file_is_not_touched(
    run: Soothsayer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (home / ".claude.json").read_bytes()
    monkeypatch.setenv("PATH", "/nowhere")
    ended = run("connect", "claude-code", "--mode", "enforce", "--yes")
    assert ended.code == Exit.USAGE
    assert ended.err.rstrip().endswith("[host-command]")
    assert (home / ".claude.json").read_bytes() == before


def test_when_the_command_fails_on_the_way_every_entry_is_put_back(run: Soothsayer, home: Path) -> None:
    (home / "fails").write_text("1", encoding="utf-8")
    ended = run("connect", "claude-code", "--mode", "enforce", "--yes")
    assert ended.code == Exit.USAGE
    assert "no room" in ended.err
    assert said(home)["mcpServers"] == SERVERS


def test_an_entry_that_was_lost_on_the_way_is_put_back_by_restore(run: Soothsayer, home: Path) -> None:
    """As when the machine stops between taking the old entry out and putting the new one in."""
    (home / "fails").write_text("2", encoding="utf-8")
    assert connect(run) == Exit.USAGE
    assert "notes" not in said(home)["mcpServers"]
    ended = run("hosts", "restore", "claude-code", "--yes")
    assert ended.code == Exit.DONE, ended.err
    assert "lost on the way of a change of ours: notes" in ended.err
    assert said(home)["mcpServers"] == SERVERS


def test_a_backup_of_a_file_that_the_application_rewrites_is_not_written_over_it(run: Soothsayer, home: Path) -> None:
    assert connect(run) == Exit.DONE
    before = said(home)
    backup = next((home / "state" / "backups").iterdir())
    assert run("hosts", "restore", "claude-code", "--to", str(backup), "--yes").code == Exit.USAGE
    assert said(home) == before
