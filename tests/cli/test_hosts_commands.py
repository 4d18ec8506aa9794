"""`hosts`, `connect`, `disconnect`, `hosts restore`, `doctor` and `init`, as people type them."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from commands import Ended, Soothsayer
from soothsayer_mcp.adapters import config, config_file, notify
from soothsayer_mcp.adapters.config_schema import schema
from soothsayer_mcp.adapters.hosts.table import HOSTS
from soothsayer_mcp.adapters.policy_files.load import load as load_policy
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.inspection import policy_text
from soothsayer_mcp.cli.wiring import host_limit_s
from soothsayer_mcp.model.call import Does
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, tool, wait_until

BOUND_S = 60.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with a state folder of its own, and a project to stand in."""
    folder = tmp_path / "home"
    project = folder / "project"
    project.mkdir(parents=True)
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(project)
    return folder


@pytest.fixture
def run(soothsayer: Soothsayer, home: Path, monkeypatch: pytest.MonkeyPatch) -> Soothsayer:
    monkeypatch.setenv("SOOTHSAYER_STATE", str(home / "state"))
    return soothsayer


def cursor(home: Path, servers: dict[str, Any]) -> Path:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return file


def server(folder: Path, name: str = "raw") -> dict[str, Any]:
    argv = Script(name=name, tools=(tool("read_note"), tool("write_note"))).command(folder)
    return {"command": argv[0], "args": argv[1:]}


def document(ended: Ended) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(ended.out))


def test_hosts_says_what_is_here_and_what_is_governed(run: Soothsayer, home: Path) -> None:
    file = cursor(home, {"a": {"command": "x"}, "b": {"url": "https://b.example.test/sse", "type": "sse"}})
    (home / "project" / ".mcp.json").write_text('{"mcpServers": {"p": {"command": "y"}}}', encoding="utf-8")
    assert run("connect", "cursor", "--mode", "observe", "--yes").code == Exit.DONE
    ended = run("hosts")
    assert ended.code == Exit.DONE
    assert f"cursor  {file}  (personal; comes back byte for byte)" in ended.out
    assert "  a  governed  observe" in ended.out
    assert "  b  left alone  it speaks SSE" in ended.out
    assert "claude-code  " in ended.out
    assert "zed" in ended.err
    found = document(run("hosts", "--json"))
    assert [(each["host"], each["scope"]) for each in found["hosts"]] == [
        ("claude-code", "project"),
        ("cursor", "personal"),
    ]
    assert [each["standing"] for each in found["hosts"][1]["servers"]] == ["governed", "left alone"]
    file.write_text(file.read_text(encoding="utf-8").replace('"observe"', '"enforce"'), encoding="utf-8")
    assert "changed since we wrote it" in run("hosts").out


def test_hosts_lists_the_servers_that_claude_code_keeps_for_single_projects(run: Soothsayer, home: Path) -> None:
    (home / ".claude.json").write_text(
        json.dumps(
            {"mcpServers": {"a": {"command": "x"}}, "projects": {"/srv/p": {"mcpServers": {"b": {"command": "y"}}}}}
        ),
        encoding="utf-8",
    )
    found = document(run("hosts", "--json"))["hosts"]
    assert [(each["scope"], [one["name"] for one in each["servers"]]) for each in found] == [
        ("personal", ["a"]),
        ("local to /srv/p", ["b"]),
    ]
    assert {each["promise"] for each in found} == {"entries come back as they were"}


def test_connect_shows_before_it_writes_and_says_how_to_undo(run: Soothsayer, home: Path) -> None:
    file = cursor(home, {"a": {"command": "x", "env": {"KEY": "SECRET"}}})
    before = file.read_bytes()
    ended = run("connect", "cursor", "--dry-run")
    assert ended.code == Exit.DONE
    assert '"--pass-env", "KEY", "--", "x"' in ended.out
    assert "SECRET" not in ended.out + ended.err
    assert file.read_bytes() == before
    ended = run("connect", "cursor", "--mode", "enforce", "--yes")
    assert ended.code == Exit.DONE
    assert "undo with: soothsayer hosts restore cursor" in ended.err
    assert "beside this file: they are not governed" in ended.err
    assert b"SECRET" in file.read_bytes()
    assert run("hosts", "restore", "cursor", "--yes").code == Exit.DONE
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (["connect", "cursor", "--mode", "enforce"], "needs-yes"),
        (["connect", "cursor", "--yes"], "usage"),
        (["connect", "cursr", "--mode", "enforce", "--yes"], "usage"),
        (["connect"], "usage"),
        (["connect", "zed", "--mode", "enforce", "--yes"], "host-absent"),
        (["connect", "windsurf", "--project", "--mode", "enforce", "--yes"], "host-absent"),
        (["connect", "--file", "x.json", "--mode", "enforce", "--yes"], "usage"),
        (["connect", "--shape", "x", "--mode", "enforce", "--yes"], "usage"),
        (["connect", "cursor", "--only", "z", "--mode", "enforce", "--yes"], "not-found"),
        (["connect", "cursor", "--policy", "nothing", "--mode", "enforce", "--yes"], "policy-file"),
        (["hosts", "restore", "cursor", "--to", "nothing.bak", "--yes"], "host-backup"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_its_id_and_writes_nothing(
    argv: list[str], kind: str, run: Soothsayer, home: Path
) -> None:
    file = cursor(home, {"a": {"command": "x"}})
    before = file.read_bytes()
    ended = run(*argv)
    assert ended.code == Exit.USAGE
    assert ended.err.rstrip().endswith(f"[{kind}]")
    assert file.read_bytes() == before


def test_a_file_that_is_wrong_is_told_with_line_and_column(run: Soothsayer, home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{"mcpServers": {\n "a": {"command": "x",}}}', encoding="utf-8")
    ended = run("connect", "cursor", "--mode", "enforce", "--yes")
    assert ended.code == Exit.USAGE
    assert f"{file}:2:22: a trailing comma" in ended.err


def test_what_a_person_chose_goes_with_every_entry(run: Soothsayer, home: Path) -> None:
    policy = home / "mine.yaml"
    policy.write_text(
        "soothsayer: policy/v1\nname: mine\ndefault: {read: allow, other: ask, checked: allow}\n", encoding="utf-8"
    )
    file = cursor(home, {"a": {"command": "x"}})
    state = home / "elsewhere"
    argv = ["--state", str(state), "--mode", "enforce", "--policy", "../mine.yaml", "--pass-env", "TOKEN", "--yes"]
    assert run("connect", "cursor", *argv).code == Exit.DONE
    args = json.loads(file.read_bytes())["mcpServers"]["a"]["args"]
    assert args == [
        "proxy", "--name", "a", "--mode", "enforce", "--policy", str(policy), "--state", str(state),
        "--control-tools", "--pass-env", "TOKEN", "--", "x",
    ]  # fmt: skip


def test_disconnect_takes_one_server_out_and_restore_the_rest(run: Soothsayer, home: Path) -> None:
    file = cursor(home, {"a": {"command": "x"}, "b": {"command": "y", "args": []}})
    before = json.loads(file.read_bytes())
    run("connect", "cursor", "--mode", "enforce", "--yes")
    assert run("disconnect", "cursor", "--only", "a", "--yes").code == Exit.DONE
    now = json.loads(file.read_bytes())["mcpServers"]
    assert now["a"] == before["mcpServers"]["a"]
    assert now["b"]["args"][0] == "proxy"
    found = document(run("hosts", "restore", "cursor", "--yes", "--json"))
    assert found["servers"] == ["b"]
    assert json.loads(file.read_bytes()) == before
    assert run("disconnect", "cursor", "--yes").code == Exit.DONE


def test_restore_goes_back_to_a_backup_that_is_named_and_keeps_one_of_what_it_replaces(
    run: Soothsayer, home: Path
) -> None:
    file = cursor(home, {"a": {"command": "x"}})
    first = file.read_bytes()
    backup = document(run("connect", "cursor", "--mode", "enforce", "--yes", "--json"))["backup"]
    file.write_bytes(edited := first.replace(b'"x"', b'"other"'))
    found = document(run("hosts", "restore", "cursor", "--to", backup, "--yes", "--json"))
    assert file.read_bytes() == first
    assert Path(found["backup"]).read_bytes() == edited


def test_restore_says_what_it_could_not_put_back(run: Soothsayer, home: Path) -> None:
    file = cursor(home, {"a": {"command": "x"}})
    run("connect", "cursor", "--mode", "enforce", "--yes")
    file.write_text(file.read_text(encoding="utf-8").replace('"enforce"', '"observe"'), encoding="utf-8")
    edited = file.read_bytes()
    ended = run("hosts", "restore", "cursor", "--yes")
    assert ended.code == Exit.NO
    assert "a: it was changed since" in ended.err
    assert file.read_bytes() == edited


def test_any_file_can_be_named_with_the_key_of_its_servers(run: Soothsayer, home: Path) -> None:
    file = home / "project" / "tools.yaml"
    before = "# tools\nservers:\n  a: {command: x}  # one\n"
    file.write_text(before, encoding="utf-8")
    named = ["--file", "tools.yaml", "--shape", "servers"]
    ended = run("connect", *named, "--mode", "enforce", "--yes")
    assert ended.code == Exit.DONE
    assert "soothsayer hosts restore --file tools.yaml --shape servers" in ended.err
    assert run("hosts", "restore", *named, "--yes").code == Exit.DONE
    assert file.read_text(encoding="utf-8") == before


@pytest.mark.pitfall("P-HOST-06")
def test_a_written_entry_answers_with_a_short_path_and_no_environment(run: Soothsayer, home: Path) -> None:
    """And what passes through it is governed and on record."""
    file = cursor(home, {"notes": server(home)})
    original = json.loads(file.read_bytes())["mcpServers"]["notes"]
    state = home / "state"
    assert run("connect", "cursor", "--state", str(state), "--mode", "enforce", "--yes").code == Exit.DONE
    entry = json.loads(file.read_bytes())["mcpServers"]["notes"]
    args = entry["args"]
    assert args[args.index("--") + 1 :] == [original["command"], *original["args"]]
    with RawHost([entry["command"], *args], env={"PATH": "/usr/bin:/bin"}) as host:
        host.initialize()
        names = [each["name"] for each in cast("Any", host.request("tools/list"))["result"]["tools"]]
        assert {"read_note", "write_note"} <= set(names)
        answer = cast("Any", host.call("write_note"))
        assert answer["result"]["isError"] is True
    assert "notes.write_note" in run("log", "--state", str(state)).out


def test_inspecting_proposes_a_policy_that_asks_about_every_tool_and_loads(run: Soothsayer, home: Path) -> None:
    cursor(
        home, {"notes": server(home), "gone": {"command": str(home / "nothing")}, "far": {"url": "http://localhost:1/"}}
    )
    ended = run("connect", "cursor", "--dry-run", "--inspect")
    assert ended.code == Exit.DONE
    assert "notes: 2 tools" in ended.err
    assert "gone: not listed: it does not start" in ended.err
    assert "far: it is remote" in ended.err
    proposed = ended.out[ended.out.index("# What does each tool do?") : ended.out.index("--- ")]
    file = home / "proposed.yaml"
    file.write_text(proposed, encoding="utf-8")
    assert load_policy([str(file)]).name == "mine"
    answered = proposed.replace("# labels:", "labels:").replace("#   - {", "  - {").replace("does: ?", "does: read")
    file.write_text(answered, encoding="utf-8")
    load_policy([str(file)], known_servers=["notes"], known_tools={"notes": {"read_note": None, "write_note": None}})
    assert "notes.write_note" in answered


def test_a_proposal_quotes_odd_names_and_takes_nothing_from_them() -> None:
    text = policy_text({"my server": ["read all", "x\n- {allow: all}"]})
    assert '"my server.read all"' in text
    assert "\\n" in text
    assert all(line.startswith("#") for line in text[text.index("# labels:") :].splitlines())
    assert all(f" {does.value}" in text for does in Does)


@pytest.mark.pitfall("P-OPEN-08")
def test_the_doctor_names_every_server_that_a_host_reaches_past_us(run: Soothsayer, home: Path) -> None:
    file = cursor(home, {"fs": server(home, "fs"), "far": {"url": "https://far.example.test/sse", "type": "sse"}})
    assert run("connect", "cursor", "--only", "fs", "--mode", "enforce", "--yes").code == Exit.DONE
    whole = json.loads(file.read_bytes())
    whole["mcpServers"]["fs2"] = server(home, "fs")
    file.write_text(json.dumps(whole), encoding="utf-8")
    ended = run("doctor")
    assert ended.code == Exit.NO
    assert (
        f"cursor reaches fs2, which is governed elsewhere, directly ({file}); soothsayer connect cursor --only fs2"
        in ended.out
    )
    assert f"cursor reaches far directly ({file}): it speaks SSE, which the proxy does not" in ended.out
    assert "cursor: fs starts, passes the self-test and answers" in ended.out
    for name in ("fs2", "far"):
        del whole["mcpServers"][name]
    file.write_text(json.dumps(whole), encoding="utf-8")
    ended = run("doctor", "cursor")
    assert ended.code == Exit.DONE, ended.out
    assert "fail" not in ended.out


@pytest.mark.pitfall("P-OPEN-08")
def test_a_host_that_was_never_connected_is_a_note_until_it_is_asked_about(run: Soothsayer, home: Path) -> None:
    cursor(home, {"a": {"command": "x"}, "off": {"command": "y", "disabled": True}})
    ended = run("doctor")
    assert ended.code == Exit.DONE
    assert "note  cursor reaches a directly" in ended.out
    assert "off" not in ended.out
    assert run("doctor", "cursor").code == Exit.NO


def test_the_same_server_in_another_host_is_a_bypass(run: Soothsayer, home: Path) -> None:
    same = server(home, "same")
    cursor(home, {"a": same})
    windsurf = home / ".codeium" / "windsurf"
    windsurf.mkdir(parents=True)
    (windsurf / "mcp_config.json").write_text(json.dumps({"mcpServers": {"w": same}}), encoding="utf-8")
    run("connect", "cursor", "--mode", "enforce", "--yes")
    ended = run("doctor")
    assert ended.code == Exit.NO
    assert "windsurf reaches w, which is governed elsewhere, directly" in ended.out


def test_the_doctor_says_what_is_wrong_with_a_governed_entry(run: Soothsayer, home: Path) -> None:
    program = str(Path(sys.executable).with_name("soothsayer"))
    cursor(
        home,
        {
            "bare": {"command": "soothsayer", "args": ["proxy", "--", "x"]},
            "lost": {"command": "/nowhere/soothsayer", "args": ["proxy", "--", "x"]},
            "dead": {"command": program, "args": ["proxy", "--mode", "observe", "--", "/nowhere/server"]},
            "loose": {
                "command": program,
                "args": ["proxy", "--unsafe-pass-all-env", "--policy", "/nowhere/p.yaml", "--", "x"],
            },
            "open": {"command": program, "args": ["proxy", "--", "x"], "env": {"K": "${input:k}"}},
        },
    )
    ended = run("doctor", "cursor")
    assert ended.code == Exit.NO
    lines = ended.out.splitlines()

    def said(*words: str) -> bool:
        return any(all(word in line for word in words) for line in lines)

    assert said("fail", "bare starts soothsayer, which is no absolute path")
    assert said("fail", "lost: /nowhere/soothsayer is gone")
    assert said("fail", "dead ended before it answered", "/nowhere/server is not there")
    assert said("note", "dead is observed")
    assert said("fail", "loose sees every variable")
    assert said("fail", "loose", "/nowhere/p.yaml")
    assert said("note", "open was not started")


@pytest.mark.pitfall("P-HOST-05")
def test_the_doctor_reports_servers_in_a_file_that_is_not_read(run: Soothsayer, home: Path) -> None:
    folder = home / ".config" / "opencode"
    folder.mkdir(parents=True)
    (folder / "opencode.jsonc").write_text("{}", encoding="utf-8")
    hidden = folder / "opencode.json"
    hidden.write_text('{"mcp": {"a": {"type": "local", "command": ["x"]}}}', encoding="utf-8")
    ended = run("doctor")
    assert ended.code == Exit.NO
    assert f"opencode ({hidden}): its servers stand where the host may not read: a" in ended.out


def test_a_report_holds_no_name_path_argument_or_value(run: Soothsayer, home: Path) -> None:
    cursor(
        home, {"secretname": {"command": "/opt/secretpath", "args": ["secretarg"], "env": {"SECRETVAR": "secretvalue"}}}
    )
    run("connect", "cursor", "--mode", "enforce", "--yes")
    report = home / "report.json"
    ended = run("doctor", "cursor", "--report", str(report))
    assert ended.code == Exit.NO
    text = report.read_text(encoding="utf-8")
    assert "secret" not in text.lower()
    assert str(home) not in text
    assert os.uname().nodename not in text
    said = json.loads(text)
    assert {each["id"] for each in said["checks"]} >= {"versions", "state", "policy", "start"}
    assert said["hosts"][0]["governed"] == 1
    again = run("doctor", "cursor", "--report", str(report))
    assert again.code == Exit.USAGE
    assert report.read_text(encoding="utf-8") == text


def test_the_doctor_fails_where_nothing_can_be_kept(run: Soothsayer, home: Path) -> None:
    blocked = home / "file"
    blocked.touch()
    ended = run("doctor", "--state", str(blocked))
    assert ended.code == Exit.NO
    assert "fail  " in ended.out
    assert str(blocked) in ended.out


def test_init_writes_a_configuration_that_loads_and_never_writes_over_one(run: Soothsayer, home: Path) -> None:
    ended = run("init", "first", "--", "npx", "-y", "@modelcontextprotocol/server-memory", "--x")
    assert ended.code == Exit.DONE, ended.err
    folder = home / "project" / "first"
    loaded = config.load(folder / "soothsayer.yaml")
    assert [spec.name for spec in loaded.servers] == ["memory"]
    assert load_policy(loaded.policy, known_servers=["memory"]).name == "mine"
    text = (folder / "soothsayer.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=./.soothsayer/config.schema.json\n")
    assert json.loads((folder / ".soothsayer" / "config.schema.json").read_bytes()) == schema()
    again = run("init", "first")
    assert again.code == Exit.USAGE
    assert again.err.rstrip().endswith("[exists]")
    assert (folder / "soothsayer.yaml").read_text(encoding="utf-8") == text
    assert run("init", "second").code == Exit.DONE
    assert config.load(home / "project" / "second" / "soothsayer.yaml").servers == ()


def test_the_rules_of_the_first_policy_load_once_they_are_uncommented(run: Soothsayer, home: Path) -> None:
    run("init")
    file = home / "project" / "policy.yaml"
    text = file.read_text(encoding="utf-8")
    head, _, tail = text.partition("# labels:")
    file.write_text(
        head + "labels:" + tail.replace("\n# rules", "\nrules").replace("\n#   -", "\n  -"), encoding="utf-8"
    )
    assert load_policy([str(file)], known_servers=["files"]).rule_count > load_policy(["guarded"]).rule_count


def test_the_schema_of_a_configuration_knows_the_keys_that_load(tmp_path: Path) -> None:
    said = cast("dict[str, Any]", schema())
    assert set(said["properties"]) == set(config_file._TOP), "a key of the configuration is missing in config_schema.py"
    server_keys = said["properties"]["mcpServers"]["additionalProperties"]["properties"]
    assert set(server_keys) == {*config_file._STDIO, *config_file._HTTP}
    file = tmp_path / "soothsayer.yaml"

    def unknown(section: str, key: str) -> bool:
        file.write_text(f"soothsayer: config/v1\n{section}: {{{key}: x}}\n", encoding="utf-8")
        try:
            config.load(file)
        except LoadErrors as errors:
            return any(problem.id == "config-key" for problem in errors.problems)
        return False

    for section in ("run", "trace", "limits"):
        properties = said["properties"][section]["properties"]
        assert not any(unknown(section, key) for key in properties)
        assert unknown(section, "nothing")


def talk(argv: list[str], answers: list[tuple[str, str]], environ: dict[str, str], cwd: Path) -> str:
    """Run a command on a terminal and answer its questions as they come."""
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-m", "soothsayer_mcp", *argv],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd,
        env={"PATH": os.environ["PATH"], "TERM": "dumb", "COLUMNS": "120", **environ},
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    text = ""
    waiting = list(answers)
    try:
        while True:
            try:
                piece = os.read(ours, 65536).decode(errors="replace")
            except OSError:
                break
            if not piece:
                break
            text += piece
            if waiting and waiting[0][0] in text:
                os.write(ours, f"{waiting.pop(0)[1]}\n".encode())
        assert started.wait(timeout=BOUND_S) in {0, 1}
    finally:
        started.kill()
        started.wait()
        os.close(ours)
    assert waiting == [], text
    return text


def test_on_a_terminal_the_mode_is_asked_for_and_the_change_once(home: Path) -> None:
    file = cursor(home, {"notes": server(home)})
    before = file.read_bytes()
    environ = {"HOME": str(home), "SOOTHSAYER_STATE": str(home / "state"), "PAGER": "cat"}
    answers = [("Mode", "enforce"), ("Start each of these servers", "y"), ("like this?", "n")]
    text = talk(["connect", "cursor"], answers, environ, home)
    assert "nothing was written" in text
    assert "notes: 2 tools" in text
    assert file.read_bytes() == before
    answers = [("Mode", "observe"), ("Start each of these servers", "n"), ("like this?", "y")]
    text = talk(["connect", "cursor"], answers, environ, home)
    assert "undo with" in text
    assert '"observe"' in file.read_text(encoding="utf-8")


Fake = Callable[..., notify.Desktop | None]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """The desktop's command on a PATH of its own; it writes down the words it got, a line each."""

    def make(name: str, system: str, *, code: int = 0) -> notify.Desktop | None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done > "{tmp_path}/told"\n'
            f'printf "%s\\n" "$SOOTHSAYER_TITLE" "$SOOTHSAYER_BODY" >> "{tmp_path}/told"\nexit {code}\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
        return notify.find({"PATH": str(folder), "DISPLAY": ":0"}, system)

    return make


@pytest.mark.parametrize(
    ("name", "system"), [("notify-send", "linux"), ("osascript", "darwin"), ("powershell", "win32")]
)
def test_a_notification_names_server_and_tool_as_words_of_their_own(
    name: str, system: str, fake: Fake, tmp_path: Path
) -> None:
    desktop = fake(name, system)
    assert desktop is not None
    hostile = 'x"; touch pwned; $(touch pwned) `touch pwned` -e \u202e\n--'
    assert desktop.tell("files", hostile)
    told = (tmp_path / "told").read_text(encoding="utf-8").splitlines()
    assert any('A call of files.x"; touch pwned' in line and "waits for you" in line for line in told)
    assert not any("\u202e" in line for line in told)
    assert not (tmp_path / "pwned").exists()


def test_a_question_that_no_host_can_put_is_told_to_the_desktop_without_its_arguments(
    fake: Fake, tmp_path: Path, home: Path
) -> None:
    fake("notify-send", "linux")
    entry = server(home)
    argv = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--name", "notes", "--state", str(home / "state"), "--"]
    env = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(home), "DISPLAY": ":0"}
    with RawHost([*argv, entry["command"], *entry["args"]], env=env) as host:
        host.initialize()
        answer = cast("Any", host.call("write_note", {"text": "SECRET"}))
        assert "approval_pending" in json.dumps(answer)
        told = tmp_path / "told"
        wait_until(lambda: told.exists() and "waits for you" in told.read_text(encoding="utf-8"), "the notification")
    said = told.read_text(encoding="utf-8")
    assert "A call of notes.write_note waits for you" in said
    assert "SECRET" not in said


def test_a_desktop_that_fails_is_no_error(fake: Fake, tmp_path: Path) -> None:
    failing = fake("notify-send", "linux", code=1)
    assert failing is not None
    assert not failing.tell("files", "write")
    (tmp_path / "bin" / "notify-send").unlink()
    assert not failing.tell("files", "write")
    assert notify.find({"PATH": str(tmp_path), "DISPLAY": ":0"}, "linux") is None
    fake("notify-send", "linux")
    bare = {"PATH": str(tmp_path / "bin"), "XDG_RUNTIME_DIR": str(tmp_path)}
    assert notify.find(bare, "linux") is None
    (tmp_path / "bus").touch()
    found = notify.find(bare, "linux")
    assert found is not None
    assert found.bus == str(tmp_path / "bus")


def test_what_the_proxy_holds_calls_by_is_what_the_table_of_hosts_says() -> None:
    for host in HOSTS:
        for client in host.clients:
            assert host_limit_s(client) == (3_600.0 if host.endless else host.limit_s or 60.0), client
    assert host_limit_s("nobody we know") == 60.0
