"""The rows of the pitfalls list about files that are not ours, each on the code that the commands run."""

import json
import multiprocessing
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hosts.rig import Rig, hold, wrapping
from soothsayer_mcp.adapters.hosts import changes
from soothsayer_mcp.adapters.hosts.files import BACKUPS, RECORD, installs, replace
from soothsayer_mcp.adapters.hosts.places import Machine, custom, find, host_of
from soothsayer_mcp.adapters.hosts.program import own_command
from soothsayer_mcp.adapters.hosts.table import HOSTS, Host, System
from soothsayer_mcp.adapters.hosts.tree import HostFileError
from soothsayer_mcp.model.json import JsonObject


def host(name: str) -> Host:
    found = host_of(name)
    assert found is not None
    return found


CLAUDE, VSCODE, CODEX, GOOSE = host("claude-desktop"), host("vscode"), host("codex"), host("goose")

TWO = b'{"mcpServers": {"a": {"command": "x", "args": []}, "b": {"command": "y", "env": {}}}}\n'


def state_of(file: Path) -> tuple[bytes, int]:
    return file.read_bytes(), file.stat().st_mtime_ns


@pytest.mark.pitfall("P-HOST-01")
@pytest.mark.parametrize(
    ("which", "text", "place"),
    [
        (CLAUDE, '{"mcpServers": {\n  "a": {"command": "x",}\n}}', "2:23"),
        (CLAUDE, '{"mcpServers": {\n  "a": {"comm', "2:9"),
        (CLAUDE, '{"mcpServers": {\n  "a": {"command": "x"', "2:23"),
        (CLAUDE, '{"mcpServers": {"a": {"command": "x"},\n "a": {"command": "y"}}}', "2:2"),
        (CLAUDE, '{"mcpServers": {},\n "mcpServers": {}}', "2:2"),
        (CLAUDE, '{"mcpServers": {} // mine\n}', "1:19"),
        (CLAUDE, '{"mcpServers": {}} {', "1:20"),
        (CLAUDE, "", "1:1"),
        (CLAUDE, '{"mcpServers": {"a": {"command": "x", "command": "y"}}}', "1:39"),
        (VSCODE, '{"servers": {"a": {"command": "x"}, /* never ends', "1:37"),
        (CODEX, '[mcp_servers.a]\ncommand = "x"\n[mcp_servers.a]\n', "3:15"),
        (CODEX, "[mcp_servers.a]\ncommand = x\n", "2:11"),
        (GOOSE, "extensions:\n  a: {cmd: x}\n  a: {cmd: y}\n", "3:3"),
        (GOOSE, "extensions:\n\ta: 1\n", "2:1"),
        (host("continue"), "mcpServers:\n  - name: a\n  - name: a\n", "2:5"),
        (host("continue"), "mcpServers:\n  - command: a\n", "2:5"),
    ],
)
def test_what_is_in_doubt_is_refused_with_its_place_and_not_touched(
    which: Host, text: str, place: str, rig: Rig
) -> None:
    file = rig.write(which, text.encode())
    before = state_of(file)
    with pytest.raises(HostFileError) as caught:
        rig.connect(which, file)
    assert caught.value.id == "host-syntax"
    assert caught.value.where == f"{file}:{place}"
    assert state_of(file) == before
    assert not rig.state.exists()


@pytest.mark.pitfall("P-HOST-01")
def test_a_file_that_cannot_be_read_is_refused(rig: Rig) -> None:
    file = rig.write(CLAUDE, TWO)
    file.chmod(0)
    if os.access(file, os.R_OK):
        file.unlink()
        file.mkdir()  # whoever may read everything cannot read a folder either
    with pytest.raises(HostFileError) as caught:
        rig.connect(CLAUDE, file)
    assert caught.value.id == "host-file"


@pytest.mark.parametrize("raw", [b'{"mcpServers": {"a": "\xff"}}', b"\xff\xfe{\x00}\x00"])
def test_what_is_not_utf_8_is_refused(raw: bytes, rig: Rig) -> None:
    file = rig.write(CLAUDE, raw)
    with pytest.raises(HostFileError) as caught:
        rig.connect(CLAUDE, file)
    assert caught.value.id == "host-syntax"
    assert file.read_bytes() == raw


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_account_is_refused(rig: Rig) -> None:
    file = rig.write(CLAUDE, TWO)
    os.chown(file, 12345, -1)
    with pytest.raises(HostFileError) as caught:
        rig.connect(CLAUDE, file)
    assert caught.value.id == "host-owner"
    assert file.read_bytes() == TWO


def test_a_read_only_file_is_shown_and_not_written(rig: Rig) -> None:
    file = rig.write(CLAUDE, TWO)
    file.chmod(0o444)
    change = changes.connect(hold(file), CLAUDE, wrapping())
    assert not change.is_empty
    with pytest.raises(HostFileError) as caught:
        rig.connect(CLAUDE, file)
    assert caught.value.id == "host-readonly"
    assert file.read_bytes() == TWO
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


@pytest.mark.pitfall("P-HOST-02")
@pytest.mark.parametrize("which", HOSTS, ids=lambda one: one.id)
def test_only_lines_of_wrapped_entries_differ(which: Host, rig: Rig) -> None:
    raw = (Path(__file__).parent / "golden" / f"{which.id}.before").read_bytes()
    file = rig.write(which, raw)
    before = changes.read(hold(file), which)
    change = changes.connect(hold(file), which, wrapping())
    after = changes.read(hold(file), which, change.raw)
    touched = {each.name for each in change.touched}
    outside = [(one.text, [entry for entry in one.entries if entry.name in touched]) for one in (before, after)]
    left: list[str] = []
    for text, entries in outside:
        rest = text
        for entry in sorted(entries, key=lambda one: one.start, reverse=True):
            rest = rest[: entry.start] + rest[entry.end :]
        left.append(rest)
    assert left[0] == left[1]


@pytest.mark.pitfall("P-HOST-03")
def test_a_file_that_changed_after_it_was_read_is_not_written(rig: Rig) -> None:
    file = rig.write(CLAUDE, TWO)
    held = hold(file)
    change = changes.connect(held, CLAUDE, wrapping())
    file.write_bytes(TWO.replace(b'"x"', b'"z"'))
    with pytest.raises(HostFileError) as caught:
        replace(held, change.raw, state=rig.state, host="claude-desktop", action="connect", entries=change.touched)
    assert caught.value.id == "changed-meanwhile"
    assert file.read_bytes() == TWO.replace(b'"x"', b'"z"')
    assert installs(rig.state) == []
    assert list(file.parent.glob(".*")) == []


def _die_at(line: int) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that kills the process at the n-th line of the code that writes."""
    passed = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.endswith(("hosts/files.py", "hosts\\files.py")):
            return None
        if event == "line":
            passed += 1
            if passed == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def _killed_everywhere(file: Path, state: Path) -> tuple[int, set[bytes], bytes]:
    """Write in processes killed one line later each; how many, what they left, and what the write means."""
    change = changes.connect(hold(file), CLAUDE, wrapping())
    held = hold(file)
    points = 0
    seen: set[bytes] = set()
    status = -1
    while status != 0:
        file.write_bytes(TWO)
        points += 1
        child = os.fork()
        if child == 0:
            sys.settrace(_die_at(points))
            replace(held, change.raw, state=state, host="claude-desktop", action="connect", entries=change.touched)
            os._exit(0)
        _pid, status = os.waitpid(child, 0)
        assert status == 0 or os.WIFSIGNALED(status)
        now = file.read_bytes()
        seen.add(now)
        if now != TWO:
            assert changes.restore(hold(file), CLAUDE, installs(state), state / BACKUPS).raw == TWO
        assert points < 1_000
    return points, seen, change.raw


@pytest.mark.pitfall("P-HOST-03")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_point_of_the_write_the_file_is_the_old_or_the_new_one_and_can_be_restored(rig: Rig) -> None:
    """A kill at each line that the write runs, so between any two of its writes."""
    file = rig.write(CLAUDE, TWO)
    # A process of its own is small: to fork the one that has run thousands of tests takes twenty times as long.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        points, seen, meant = pool.apply(_killed_everywhere, (file, rig.state))
    assert points >= 50
    assert seen == {TWO, meant}
    # What killed writers left behind goes with the next write.
    rig.restore(CLAUDE, file)
    rig.connect(CLAUDE, file)
    assert list(file.parent.glob(".*")) == []


@pytest.mark.pitfall("P-HOST-04")
def test_disconnecting_keeps_an_edit_made_since_and_every_empty_member(rig: Rig) -> None:
    file = rig.write(CLAUDE, TWO)
    rig.connect(CLAUDE, file, "a")
    rig.connect(CLAUDE, file, "b")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('{"mcpServers"', '{"theme": "dark", "empty": {}, "mcpServers"'), encoding="utf-8")
    rig.disconnect(CLAUDE, file)
    assert file.read_bytes() == TWO.replace(b'{"mcpServers"', b'{"theme": "dark", "empty": {}, "mcpServers"')


@pytest.mark.pitfall("P-HOST-04")
def test_restoring_never_undoes_a_later_edit(rig: Rig) -> None:
    file = rig.write(CLAUDE, TWO)
    rig.connect(CLAUDE, file)
    edited = file.read_bytes().replace(b'"observe"', b'"enforce"', 1).replace(b"}}}}", b'}}}, "theme": "dark"}')
    file.write_bytes(edited)
    change = rig.restore(CLAUDE, file)
    after = json.loads(file.read_bytes())
    assert after["theme"] == "dark"
    assert "enforce" in after["mcpServers"]["a"]["args"]
    assert after["mcpServers"]["b"] == {"command": "y", "env": {}}
    assert [name for name, _why in change.left] == ["a"]


@pytest.mark.pitfall("P-HOST-04")
def test_backups_are_distinct_private_and_each_holds_the_file_before(rig: Rig) -> None:
    file = rig.write(CLAUDE, TWO)
    befores: list[bytes] = []
    for name in ("a", "b"):
        befores.append(file.read_bytes())
        rig.connect(CLAUDE, file, name)
    backups = sorted((rig.state / BACKUPS).iterdir())
    assert sorted(path.read_bytes() for path in backups) == sorted(befores)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (*backups, rig.state / RECORD)} == {0o600}
    assert stat.S_IMODE(rig.state.stat().st_mode) == 0o700


@pytest.mark.pitfall("P-HOST-04")
def test_the_shown_difference_masks_values(rig: Rig) -> None:
    raw = json.dumps(
        {
            "apiKey": "SECRET-0",
            "mcpServers": {
                "a": {
                    "command": "x",
                    "args": [
                        "--api-key",
                        "SECRET-1",
                        "--token=SECRET-2",
                        "https://u:SECRET-3@h/?access_token=SECRET-4",
                    ],
                    "env": {"PLAIN": "SECRET-5"},
                    "note": "Bearer SECRET-66666",
                    "more": "sk-SECRET7SECRET7SECRET7",
                },
            },
        },
        indent=1,
    ).encode()
    file = rig.write(CLAUDE, raw)
    change = changes.connect(hold(file), CLAUDE, wrapping())
    shown = "\n".join(change.diff)
    assert "SECRET" not in shown
    assert "PLAIN" in shown
    assert '"x"' in shown
    assert b"SECRET-5" in change.raw


def machine(system: System, home: Path, **environ: str) -> Machine:
    return Machine(system=system, home=home, environ=environ)


def windows(tmp_path: Path, *, packages: int, old: bool) -> tuple[Machine, list[Path], Path]:
    local, roaming = tmp_path / "Local", tmp_path / "Roaming"
    inside = [
        local / "Packages" / f"Claude_{number}" / "LocalCache" / "Roaming" / "Claude" for number in range(packages)
    ]
    before = roaming / "Claude"
    for folder in [*inside, *([before] if old else [])]:
        folder.mkdir(parents=True)
        (folder / "claude_desktop_config.json").write_bytes(TWO)
    here = machine("win32", tmp_path, LOCALAPPDATA=str(local), APPDATA=str(roaming))
    return here, [folder / "claude_desktop_config.json" for folder in inside], before / "claude_desktop_config.json"


@pytest.mark.pitfall("P-HOST-05")
def test_claude_desktop_on_windows_is_found_where_it_reads_or_asked_about(tmp_path: Path) -> None:
    here, inside, _old = windows(tmp_path / "package", packages=1, old=False)
    assert find(CLAUDE, here).one() == inside[0]
    here, _inside, old = windows(tmp_path / "old", packages=0, old=True)
    assert find(CLAUDE, here).one() == old
    here, inside, old = windows(tmp_path / "both", packages=1, old=True)
    both = find(CLAUDE, here)
    assert both.files == (*inside, old)
    assert not both.doubt
    with pytest.raises(HostFileError) as caught:
        both.one()
    assert caught.value.id == "host-doubt"
    here, inside, _old = windows(tmp_path / "two", packages=2, old=False)
    two = find(CLAUDE, here)
    assert two.doubt
    with pytest.raises(HostFileError) as caught:
        two.one()
    assert all(str(path) in caught.value.text for path in inside)
    none = find(CLAUDE, machine("win32", tmp_path, LOCALAPPDATA=str(tmp_path / "x"), APPDATA=str(tmp_path / "y")))
    with pytest.raises(HostFileError) as caught:
        none.one()
    assert caught.value.id == "host-absent"


def test_a_file_that_another_one_hides_is_known_to_be_unread(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "opencode"
    folder.mkdir(parents=True)
    for name in ("opencode.json", "opencode.jsonc"):
        (folder / name).write_text("{}", encoding="utf-8")
    place = find(host("opencode"), machine("linux", tmp_path))
    assert place.one() == folder / "opencode.jsonc"
    assert place.unread == (folder / "opencode.json",)


@pytest.mark.parametrize("system", ["darwin", "linux", "win32"])
@pytest.mark.parametrize("which", HOSTS, ids=lambda one: one.id)
def test_every_host_has_a_place_on_every_system(which: Host, system: System, tmp_path: Path) -> None:
    environ = {"APPDATA": str(tmp_path / "Roaming"), "LOCALAPPDATA": str(tmp_path / "Local")}
    place = find(which, machine(system, tmp_path, **environ))
    assert place.usual is not None
    assert place.usual.is_relative_to(tmp_path)
    place.usual.parent.mkdir(parents=True, exist_ok=True)
    place.usual.write_text("{}", encoding="utf-8")
    assert find(which, machine(system, tmp_path, **environ)).one() == place.usual


def test_folders_that_variables_move_are_followed(tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "config.toml").touch()
    assert find(CODEX, machine("linux", tmp_path, CODEX_HOME=str(moved))).one() == moved / "config.toml"
    (moved / "zed").mkdir()
    (moved / "zed" / "settings.json").touch()
    place = find(host("zed"), machine("linux", tmp_path, XDG_CONFIG_HOME=str(moved)))
    assert place.one() == moved / "zed" / "settings.json"


@pytest.mark.pitfall("P-HOST-06")
def test_what_is_written_is_an_absolute_path_and_the_original_command_stands_after_two_dashes(rig: Rig) -> None:
    program = own_command()
    assert Path(program[0]).is_absolute()
    file = rig.write(CLAUDE, TWO)
    rig.connect(CLAUDE, file)
    entry = json.loads(file.read_bytes())["mcpServers"]["a"]
    assert entry["args"][entry["args"].index("--") + 1 :] == ["x"]


@pytest.mark.pitfall("P-HOST-06")
@pytest.mark.parametrize(
    "folder",
    [
        ".cache/uv/archive-v0/AbC/bin",
        ".cache/uv/environments-v2/x-1/bin",
        ".local/pipx/.cache/1/bin",
        "tmp/.tmpAbC123/bin",
    ],
)
def test_a_program_in_the_cache_of_a_tool_runner_is_refused(folder: str, tmp_path: Path) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True)
    (place / "soothsayer").touch()
    with pytest.raises(HostFileError) as caught:
        own_command(str(place / "python"))
    assert caught.value.id == "host-program"
    assert "install" in caught.value.fix


@pytest.mark.pitfall("P-HOST-07")
@pytest.mark.parametrize("which", ["claude-desktop", "goose", "opencode"])
def test_foreign_keys_of_every_type_are_there_after_connecting_and_after_disconnecting(which: str, rig: Rig) -> None:
    """YAML is given the same text: what is JSON is YAML too."""
    row = host(which)
    foreign: JsonObject = {
        "timeout_": 60,
        "off": False,
        "auto": ["read"],
        "deep": {"a": {}},
        "none": None,
        "word": "x y",
    }
    key = row.shape.command
    command = {key: ["srv"]} if row.shape.args is None else {key: "srv"}
    raw = json.dumps({row.key[0]: {"a": {"before": 1.5, **command, **foreign}}}).encode()
    file = rig.write(row, raw)
    rig.connect(row, file)
    now = changes.read(hold(file), row).entries[0].value
    assert isinstance(now, dict)
    assert {name: now[name] for name in foreign} == foreign
    assert now["before"] == 1.5
    rig.disconnect(row, file)
    assert file.read_bytes() == raw


@pytest.mark.pitfall("P-HOST-08")
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_link_stays_a_link_and_its_target_changes_with_mode_and_line_ends_kept(ends: str, rig: Rig) -> None:
    dotfiles = rig.folder / "dotfiles"
    dotfiles.mkdir()
    target = dotfiles / "claude.json"
    target.write_bytes(TWO.replace(b", ", b",\n ").replace(b"\n", ends.encode()))
    target.chmod(0o640)
    middle = rig.folder / "middle.json"
    middle.symlink_to(target)
    link = rig.folder / "link.json"
    link.symlink_to("middle.json")
    owner = target.stat().st_uid
    rig.connect(CLAUDE, link)
    assert link.is_symlink()
    assert middle.is_symlink()
    assert b"proxy" in target.read_bytes()
    after = target.read_bytes()
    assert after.count(b"\n") == after.count(ends.encode()) > 1
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.stat().st_uid == owner


@pytest.mark.pitfall("P-HOST-08")
def test_links_in_a_circle_are_refused(rig: Rig) -> None:
    one, two = rig.folder / "one.json", rig.folder / "two.json"
    one.symlink_to(two)
    two.symlink_to(one)
    with pytest.raises(HostFileError) as caught:
        rig.connect(CLAUDE, one)
    assert caught.value.id == "host-file"
    assert "circle" in caught.value.text


def test_an_entry_that_cannot_be_edited_in_place_is_left_alone_and_said(rig: Rig) -> None:
    text = "extensions:\n  base: &base\n    cmd: x\n  copy:\n    <<: *base\n    args: []\n  own: {cmd: y}\n"
    file = rig.write(GOOSE, text.encode())
    assert rig.connect(GOOSE, file) == ["own"]
    change = changes.connect(hold(file), GOOSE, wrapping())
    assert {name for name, _why in change.left} == {"base", "copy", "own"}


def test_a_table_whose_lines_do_not_stand_together_is_left_alone(rig: Rig) -> None:
    text = '[mcp_servers.a]\ncommand = "x"\n[other]\nz = 1\n[mcp_servers.a.env]\nK = "v"\n'
    file = rig.write(CODEX, text.encode())
    change = changes.connect(hold(file), CODEX, wrapping())
    assert change.is_empty
    assert change.left == (("a", "its lines do not stand together"),)


def test_any_other_application_is_named_by_its_file_and_key(rig: Rig) -> None:
    file = rig.folder / "settings.yml"
    file.write_text("tools:\n  mcp:\n    a: {command: x}\n", encoding="utf-8")
    own = custom(file, "tools.mcp")
    assert rig.connect(own, file) == ["a"]
    rig.restore(own, file)
    assert file.read_text(encoding="utf-8") == "tools:\n  mcp:\n    a: {command: x}\n"
    with pytest.raises(HostFileError) as caught:
        custom(rig.folder / "settings.ini", "a")
    assert caught.value.id == "host-format"
