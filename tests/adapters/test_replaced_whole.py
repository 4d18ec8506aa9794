"""What several processes share is there whole or not at all, and one that ends takes nothing of the others with it."""

import hashlib
import json
import os
from pathlib import Path
from typing import IO

import pytest

from soothsayer_mcp.adapters import approver_keys
from soothsayer_mcp.adapters.faces import Face, Pages, is_watched, open_pages
from soothsayer_mcp.adapters.policy_files.signed import new_key, sign, signature_of

OTHERS = 20


def gone(folder: Path) -> None:
    """Files that are listed and not there any more when they are looked at, as those of faces that just end."""
    for number in range(OTHERS):
        (folder / f"{'az'[number % 2]}{number}").symlink_to(folder / "nowhere")


def test_faces_that_end_meanwhile_do_not_hide_one_that_is_open(tmp_path: Path) -> None:
    face = Face(tmp_path, "m")
    face.beat()
    gone(tmp_path / "faces")
    assert is_watched(tmp_path)
    face.close()
    assert not is_watched(tmp_path)


def test_pages_that_end_meanwhile_do_not_hide_those_that_are_served(tmp_path: Path) -> None:
    pages = Pages(tmp_path, "http://127.0.0.1:1/x")
    pages.beat()
    gone(tmp_path / "pages")
    (tmp_path / "pages" / "7.new").write_text("http://127", encoding="ascii")
    assert open_pages(tmp_path) == "http://127.0.0.1:1/x"
    pages.close()
    assert open_pages(tmp_path) == ""


@pytest.mark.parametrize("where", ["faces", "pages"])
def test_what_died_long_ago_is_cleared_away(tmp_path: Path, where: str) -> None:
    old = tmp_path / where / "1"
    old.parent.mkdir()
    old.write_text("http://127.0.0.1:1/x", encoding="ascii")
    os.utime(old, (1, 1))
    assert (is_watched(tmp_path), open_pages(tmp_path)) == (False, "")
    assert not old.exists()


def test_a_key_that_is_just_made_is_no_broken_key_to_who_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = os.fdopen
    listed: list[list[str]] = []

    def look(descriptor: int, mode: str) -> IO[bytes]:
        listed.append([key.name for key in approver_keys.all_keys(tmp_path)])
        return made(descriptor, mode)

    monkeypatch.setattr(os, "fdopen", look)
    for name in ("ann", "raj"):
        approver_keys.make(tmp_path, name, "a passphrase")
    monkeypatch.undo()
    assert listed == [[], ["ann"]]
    with pytest.raises(approver_keys.ApproverKeyError, match="has a key already"):
        approver_keys.make(tmp_path, "ann", "a passphrase")
    assert [key.name for key in approver_keys.all_keys(tmp_path)] == ["ann", "raj"]
    assert len(list((tmp_path / "keys").iterdir())) == 2


def test_whoever_reads_a_signature_while_it_is_made_anew_reads_the_one_before(tmp_path: Path) -> None:
    policy, private = tmp_path / "policy.yaml", new_key()
    policy.write_text("soothsayer: policy/v1\nname: house\n", encoding="utf-8")

    def signed(day: str) -> None:
        sign(policy, [policy], private, expires=day, digest=lambda raw: hashlib.sha256(raw).hexdigest())

    signed("2999-01-01")
    with Path(signature_of(str(policy))).open(encoding="utf-8") as reading:
        signed("2999-01-02")
        assert json.load(reading)["expires"] == "2999-01-01"
    assert json.loads(Path(signature_of(str(policy))).read_text(encoding="utf-8"))["expires"] == "2999-01-02"
    assert {file.name for file in tmp_path.iterdir()} == {"policy.yaml", "policy.yaml.sig"}
