"""`doctor`: whether anybody is told of a question, in time; the key; what is unsafe; and what a report may say."""

import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.test_hosts_commands import cursor, home, run, server
from commands import Soothsayer
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.adapters.sealing import Sealer
from soothsayer_mcp.adapters.store.folder import file_system
from soothsayer_mcp.cli.checks import sync
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.wire import eras

__all__ = ["home", "run"]

ASKING = "soothsayer: policy/v1\nname: asking\ndefault: ask\n"
CANARY = "c4n4ry"


def entry(folder: Path, *options: str) -> dict[str, Any]:
    """A governed server that is not there: what is said of it as it starts is no matter here."""
    return {
        "command": str(Path(sys.executable).with_name("soothsayer")),
        "args": ["proxy", "--name", "fs", *options, "--", str(folder / "gone")],
    }


def zed(home: Path, served: dict[str, Any]) -> None:
    """A host that puts no questions to its person, and gives up a call after a minute."""
    folder = home / ".config" / "zed"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({"context_servers": {"fs": served}}), encoding="utf-8")


def fake_desktop(home: Path, monkeypatch: pytest.MonkeyPatch, *, code: int) -> Path:
    told = home / "told"
    folder = home / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}\nexit {code}\n', encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    return told


@pytest.mark.skipif(sys.platform != "linux", reason="the desktop's command is that of Linux here")
def test_a_policy_that_asks_while_nobody_is_told_fails(
    run: Soothsayer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zed(home, entry(home))
    alone = "fail  zed: policy asks about calls, and nobody is told: Zed puts no questions"
    assert alone in run("doctor", "zed").out

    # A command that takes nothing tells nobody.
    fake_desktop(home, monkeypatch, code=1)
    ended = run("doctor", "zed")
    assert "note  notify-send is here and did not take a notification" in ended.out
    assert alone in ended.out

    told = fake_desktop(home, monkeypatch, code=0)
    ended = run("doctor", "zed")
    assert "ok    notifications go through notify-send: one was sent just now" in ended.out
    assert "ok    zed: questions about calls are told by notifications" in ended.out
    assert "This is how you are told" in told.read_text(encoding="utf-8")

    quiet = home / "soothsayer.yaml"
    quiet.write_text("soothsayer: config/v1\nasks: {notify: []}\n", encoding="utf-8")
    monkeypatch.setenv("SOOTHSAYER_CONFIG", str(quiet))
    ended = run("doctor", "zed")
    assert "note  notifications are off in the configuration" in ended.out
    assert alone in ended.out
    face = Face(home / "state", "watch")
    face.beat()
    try:
        assert "ok    zed: questions about calls are told by an open soothsayer watch or ui" in run("doctor", "zed").out
    finally:
        face.close()


def test_an_entry_that_never_asks_and_one_that_is_observed_arm_nothing(run: Soothsayer, home: Path) -> None:
    zed(home, entry(home, "--no-input"))
    ended = run("doctor", "zed")
    assert "note  zed: fs never asks: what policy asks about is denied" in ended.out
    assert "nobody is told" not in ended.out
    zed(home, entry(home, "--mode", "observe"))
    ended = run("doctor", "zed")
    assert "nobody is told" not in ended.out
    assert "note  zed: fs is observed" in ended.out


def test_a_limit_below_the_time_that_a_question_holds_a_call_fails(run: Soothsayer, home: Path) -> None:
    zed(home, {**entry(home), "timeout": 20})
    ended = run("doctor", "zed")
    assert "fail  zed: fs: Zed gives up a call after 20 s, and a question holds it 36 s" in ended.out
    zed(home, {**entry(home), "timeout": 90})
    ended = run("doctor", "zed")
    assert "note  zed: fs: Zed gives up a call after 90 s, whether or not a person has answered" in ended.out
    zed(home, {**entry(home), "timeout": 600})
    assert "gives up" not in run("doctor", "zed").out


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are those of POSIX")
def test_keys_that_others_can_read_or_that_seal_nothing_fail(run: Soothsayer, home: Path) -> None:
    assert "ok    no key was needed yet" in run("doctor").out
    state = home / "state"
    assert not (state / "keys").exists()  # It repairs and makes nothing.
    Sealer(state).seal({"k": "x"})
    assert "ok    the key of questions seals and opens" in run("doctor").out
    (key,) = (state / "keys").iterdir()
    key.chmod(0o644)
    ended = run("doctor")
    assert ended.code == Exit.NO
    assert f"fail  keys are open to others: {key}" in ended.out
    key.chmod(0o600)
    key.write_bytes(b"short")
    ended = run("doctor")
    assert ended.code == Exit.NO
    assert f"fail  {key}: this is no key of 32 bytes" in ended.out


def test_what_is_unsafe_in_the_configuration_is_said(run: Soothsayer, home: Path) -> None:
    project = home / "project"
    (project / "open.yaml").write_text("soothsayer: policy/v1\nname: open\ndefault: allow\n", encoding="utf-8")
    (project / "soothsayer.yaml").write_text(
        "soothsayer: config/v1\npolicy: [open.yaml]\ntrace: {durability: relaxed}\n", encoding="utf-8"
    )
    said = run("doctor", "-c", str(project / "soothsayer.yaml")).out
    assert "policy open allows what no rule names; default: ask, or deny" in said
    assert "durability is relaxed" in said


@pytest.mark.pitfall("P-TRACE-06")
@pytest.mark.skipif(sys.platform != "linux", reason="mounts are read from /proc")
def test_versions_and_the_file_system_are_named(run: Soothsayer, home: Path) -> None:
    first, *rest = run("doctor").out.splitlines()
    for word in ("Python 3.", f"SQLite {sqlite3.sqlite_version}", "google-re2 ", "cryptography "):
        assert word in first
    kind = file_system(home, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    assert kind
    assert f"ok    state folder {home / 'state'}: private, local ({kind}), writable" in rest


def test_a_disk_that_does_not_sync_or_is_slow_is_noted() -> None:
    assert [check.text for check in sync(0.001)] == []
    assert ["does not mean it" in check.text for check in sync(0.000_01)] == [True]
    assert ["a sync takes 30 ms" in check.text for check in sync(0.03)] == [True]


def test_a_report_names_known_clients_and_what_they_declared_and_nothing_else(run: Soothsayer, home: Path) -> None:
    state = home / f"{CANARY}-state"
    given = server(home, f"{CANARY}-server")
    argv = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--state", str(state), "--name", f"{CANARY}-name"]
    argv += ["--policy", "observe", "--", given["command"], *given["args"]]
    clients: dict[str, JsonObject] = {
        "cursor-vscode": {"elicitation": {"form": {}}, "roots": {"listChanged": True}, CANARY: {}},
        f"{CANARY}-client": {"sampling": {}},
    }
    for name, capabilities in clients.items():
        with RawHost(argv, env={**os.environ, "SECRET": f"{CANARY}-value"}) as host:
            host.request(
                "initialize",
                {
                    "protocolVersion": eras.LATEST_HANDSHAKE,
                    "capabilities": capabilities,
                    "clientInfo": {"name": name, "version": f"{CANARY}-1"},
                },
            )
            host.notify("notifications/initialized")
            host.call("read_note", {f"{CANARY}-argument": f"{CANARY}-value"})
    cursor(home, {f"{CANARY}-entry": {"command": f"/{CANARY}", "args": [CANARY], "env": {CANARY: CANARY}}})
    report = home / "report.json"
    run("doctor", "--state", str(state), "--report", str(report))
    text = report.read_text(encoding="utf-8")
    assert CANARY not in text
    for hidden in (str(home), os.uname().nodename, Path.home().name):
        assert hidden not in text
    said = json.loads(text)
    assert said["clients"] == [
        {"name": "another", "declares": ["sampling"]},
        {"name": "cursor-vscode", "declares": ["elicitation", "elicitation.form", "roots"]},
    ]
    assert said["versions"]["libraries"]["google-re2"]
    assert said["file_system"]
