import os
import subprocess
import sys
from pathlib import Path

import pytest

from policy_kit import HEAD, effect
from soothsayer_mcp.adapters.policy_files.load import CODE_FOLDERS, LoadErrors, load
from soothsayer_mcp.adapters.policy_files.reload import PolicyWatch
from soothsayer_mcp.policy.policy import Policy

PROBE = """
import sys
from soothsayer_mcp.adapters.policy_files.load import load
policy = load([sys.argv[1]], state=sys.argv[2], workspace="/w", home="/home/u")
print(policy.digest, policy.rule_count, "yaml" in sys.modules, "pydantic" in sys.modules, "re2" in sys.modules)
"""


def start(file: Path, state: Path) -> list[str]:
    command = [sys.executable, "-c", PROBE, str(file), str(state)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()


def test_a_start_with_an_unchanged_policy_loads_neither_yaml_nor_pydantic(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(HEAD + 'rules: [{deny: "No.", args: {x: {matches: "a+"}}}]\n')
    first = start(file, tmp_path / "state")
    assert first[1:4] == ["1", "True", "True"]
    assert start(file, tmp_path / "state") == [first[0], "1", "False", "False", "False"]


def kept_files(state: Path) -> list[Path]:
    return sorted((state / "cache").iterdir())


def test_a_changed_source_is_checked_again(tmp_path: Path) -> None:
    file, state = tmp_path / "p.yaml", tmp_path / "state"
    file.write_text(HEAD + "default: allow\n")
    assert effect(load([str(file)], state=state)) == "allow"
    file.write_text(HEAD + "default: deny\n")
    assert effect(load([str(file)], state=state)) == "deny"
    file.write_text(HEAD + "default: dney\n")
    with pytest.raises(LoadErrors):
        load([str(file)], state=state)


def test_what_is_kept_is_checked_again_when_any_code_that_checks_policies_changes() -> None:
    beside = CODE_FOLDERS[0]
    assert {file.parent for file in beside.rglob("*.py")} <= {*CODE_FOLDERS}
    assert all(any(folder.glob("*.py")) for folder in CODE_FOLDERS)


def test_an_edited_cache_is_not_believed(tmp_path: Path) -> None:
    file, state = tmp_path / "p.yaml", tmp_path / "state"
    file.write_text(HEAD + "default: deny\n")
    sound = load([str(file)], state=state)
    (kept,) = kept_files(state)
    raw = kept.read_bytes()
    assert b'"other":"deny"' in raw
    kept.write_bytes(raw.replace(b'"other":"deny"', b'"other":"allow"'))
    again = load([str(file)], state=state)
    assert (effect(again), again.digest) == ("deny", sound.digest)
    for broken in (b"", b"\n", raw[:-1], raw.replace(raw[:4], b"0000")):
        kept.write_bytes(broken)
        assert effect(load([str(file)], state=state)) == "deny"
    assert kept.read_bytes() == raw


def test_a_form_of_another_policy_or_state_is_not_believed(tmp_path: Path) -> None:
    one, two, state = tmp_path / "one.yaml", tmp_path / "two.yaml", tmp_path / "state"
    one.write_text(HEAD + "default: allow\n")
    two.write_text(HEAD + "default: deny\n")
    load([str(one)], state=state)
    (of_one,) = kept_files(state)
    load([str(two)], state=state)
    (of_two,) = set(kept_files(state)) - {of_one}
    of_two.write_bytes(of_one.read_bytes())
    assert effect(load([str(two)], state=state)) == "deny"
    (state / "keys" / "policy-cache.key").write_bytes(b"k" * 32)
    assert effect(load([str(one)], state=state)) == "allow"


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_key_and_cache_are_for_their_owner_only(tmp_path: Path) -> None:
    load(["guarded"], state=tmp_path / "state")
    for path in [tmp_path / "state" / "keys" / "policy-cache.key", *kept_files(tmp_path / "state")]:
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state" / "keys").stat().st_mode & 0o777 == 0o700


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("a file where a folder should be")
    assert load(["guarded"], state=state).name == "guarded"


def test_what_the_machine_is_called_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(HEAD + 'rules: [{allow: "Here.", args: {path: {under: "${workspace}"}}}]\n')
    for workspace in ("/one", "/two"):
        policy = load([str(file)], state=tmp_path / "state", workspace=workspace)
        assert effect(policy, "fs.r", {"path": f"{workspace}/a"}) == "allow"
        assert effect(policy, "fs.r", {"path": "/three/a"}) == "ask"


class Following:
    """A watch over one file, and what it told."""

    def __init__(self, folder: Path, text: str) -> None:
        self.file = folder / "p.yaml"
        self.file.write_text(HEAD + text)
        self.changes: list[Policy] = []
        self.problems: list[LoadErrors] = []
        self.loads = 0
        self.state = folder / "state"
        self.watch = PolicyWatch(self._load, on_change=self.changes.append, on_problem=self.problems.append)

    def _load(self) -> Policy:
        self.loads += 1
        return load([str(self.file)], state=self.state)

    def save(self, text: str) -> str:
        """Save as editors do: another file takes the name."""
        new = self.file.with_suffix(".new")
        new.write_text(HEAD + text)
        new.replace(self.file)
        return effect(self.watch.check())


def test_a_changed_file_takes_force_and_a_bad_one_leaves_the_old_policy(tmp_path: Path) -> None:
    following = Following(tmp_path, "default: deny\n")
    assert effect(following.watch.current()) == "deny"
    assert following.save("default: allow\n") == "allow"
    assert [policy.digest for policy in following.changes] == [following.watch.current().digest]
    assert following.save("default: dney\n") == "allow"
    assert following.watch.problem is not None
    assert '"dney" is none of' in str(following.watch.problem)
    assert len(following.problems) == 1
    assert effect(following.watch.check()) == "allow"
    assert following.save("default: ask\n") == "ask"
    assert following.watch.problem is None
    assert len(following.changes) == 2


def test_an_unchanged_file_is_not_loaded_again(tmp_path: Path) -> None:
    following = Following(tmp_path, "default: deny\n")
    for _ in range(5):
        following.watch.check()
    assert following.loads == 1
    os.utime(following.file, ns=(1, 1))
    following.watch.check()
    assert (following.loads, following.changes) == (2, [])


def test_a_file_that_vanishes_leaves_the_policy_in_force(tmp_path: Path) -> None:
    following = Following(tmp_path, "default: deny\n")
    following.file.unlink()
    assert effect(following.watch.check()) == "deny"
    assert following.watch.problem is not None
    assert following.save("default: allow\n") == "allow"


def test_a_used_file_that_appears_mends_the_policy(tmp_path: Path) -> None:
    following = Following(tmp_path, "default: deny\n")
    assert following.save("default: allow\nuse: [other.yaml]\n") == "deny"
    (tmp_path / "other.yaml").write_text(HEAD.replace("name: t", "name: other"))
    assert effect(following.watch.check()) == "allow"
    (tmp_path / "other.yaml").write_text(HEAD.replace("name: t", "name: other") + "rules: [{deny: Nothing}]\n")
    assert effect(following.watch.check()) == "deny"


def test_a_policy_that_is_bad_from_the_start_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(LoadErrors):
        Following(tmp_path, "default: dney\n")
