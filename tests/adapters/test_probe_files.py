"""Looking at files: no link is followed, what is odd is no answer, and nothing outside the roots is seen."""

import hashlib
import os
from pathlib import Path

import pytest

from soothsayer_mcp.adapters.probes.files import FILE_BYTES, Files
from soothsayer_mcp.ports import PortError


def test_a_file_is_told_by_its_digest_and_an_absent_one_as_absent(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    files = Files([str(tmp_path)])
    facts = files.file(f"{tmp_path}/a")
    assert (facts.exists, facts.sha256, facts.size) == (True, hashlib.sha256(b"hello").hexdigest(), 5)
    assert files.file(f"{tmp_path}/none").exists is False
    assert files.file(f"{tmp_path}/none/deeper").exists is False


def test_links_fifos_and_what_lies_outside_are_no_answer(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "real" / "a").write_text("x")
    (tmp_path / "secret").write_text("s")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(root / "real")
    os.mkfifo(root / "fifo")
    files = Files([str(root)])
    for path in ("link", "folder/a", "fifo", "real", "../secret", "real/../real/a"):
        with pytest.raises(PortError):
            files.file(f"{root}/{path}")
    with pytest.raises(PortError):
        files.file(str(tmp_path / "secret"))


def test_a_file_over_the_limit_is_no_answer(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(FILE_BYTES + 1)
    with pytest.raises(PortError):
        Files([str(tmp_path)]).file(f"{tmp_path}/big")


def test_patterns_see_files_below_and_the_digest_tells_each_change(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    (tmp_path / "b.txt").write_text("2")
    files = Files([str(tmp_path)])
    assert set(files.files([f"{tmp_path}/**"], [f"{tmp_path}/*.txt"])) == {f"{tmp_path}/src/a.py"}
    before = files.digest(f"{tmp_path}/src/**")
    (tmp_path / "b.txt").write_text("3")
    assert files.digest(f"{tmp_path}/src/**") == before
    (tmp_path / "src" / "a.py").write_text("2")
    assert files.digest(f"{tmp_path}/src/**") != before


def test_the_commit_of_a_work_tree_is_read_from_its_own_files(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs\n{'a' * 40} refs/heads/main\n")
    files = Files([str(tmp_path)])
    assert files.head(str(tmp_path)) == "a" * 40
    (git / "refs/heads/main").write_text("b" * 40 + "\n")
    assert files.head(str(tmp_path)) == "b" * 40
    (git / "HEAD").write_text("ref: ../../secret\n")
    with pytest.raises(PortError):
        files.head(str(tmp_path))
