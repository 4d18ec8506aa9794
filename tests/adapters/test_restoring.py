"""Files are put back by their bytes, and nothing that is not known is ever replaced."""

import hashlib
from pathlib import Path

import anyio
import pytest

from soothsayer_mcp.adapters.probes.files import Files
from soothsayer_mcp.adapters.probes.restoring import Restoring
from soothsayer_mcp.model.undo import ABSENT, FileBefore
from soothsayer_mcp.ports import PortError

TAG = "ab.1"


def state(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def keep(path: Path) -> FileBefore:
    return Files([str(path.parent)]).keep(str(path))


def restore(before: FileBefore, after: str) -> str:
    return anyio.run(Restoring([before.root]).restore, before, after, TAG)


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_bytes_and_permissions_come_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_bytes(b"#!\x00\xff\r\n")
    path.chmod(0o750)
    before = keep(path)
    path.write_bytes(b"new")
    path.chmod(0o600)
    assert restore(before, state(b"new")) == ""
    assert path.read_bytes() == b"#!\x00\xff\r\n"
    assert path.stat().st_mode & 0o777 == 0o750
    assert names(tmp_path) == ["run.sh"]
    assert restore(before, state(b"new")) == ""


def test_a_file_that_was_not_there_goes_and_one_that_was_deleted_comes_back(tmp_path: Path) -> None:
    made, gone = tmp_path / "made", tmp_path / "gone"
    gone.write_bytes(b"old")
    before_made, before_gone = keep(made), keep(gone)
    assert before_made.state == ABSENT
    made.write_bytes(b"made")
    gone.unlink()
    assert restore(before_made, state(b"made")) == ""
    assert restore(before_gone, ABSENT) == ""
    assert names(tmp_path) == ["gone"]
    assert gone.read_bytes() == b"old"


def test_what_somebody_else_wrote_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    before = keep(path)
    path.write_bytes(b"theirs")
    assert "changed by something else" in restore(before, state(b"ours"))
    assert path.read_bytes() == b"theirs"
    path.unlink()
    assert restore(before, state(b"ours")) != ""
    assert names(tmp_path) == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "w", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(b"ours")
    path = folder / "a"
    path.write_bytes(b"old")
    before = keep(path)
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(PortError):
        restore(before, state(b"ours"))
    assert outside.read_bytes() == b"ours"
    assert path.is_symlink()
    with pytest.raises(PortError):
        keep(path)


@pytest.mark.parametrize("aside", [True, False])
def test_an_undo_that_was_cut_short_is_finished(tmp_path: Path, aside: bool) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    before = keep(path)
    path.write_bytes(b"new")
    kept = Path(f"{tmp_path}/.soothsayer-undo-{hashlib.sha256(f'{TAG}/a'.encode()).hexdigest()[:12]}")
    path.rename(kept)
    Path(f"{kept}.new").write_bytes(b"half")
    if not aside:
        path.write_bytes(b"old")
    seen = anyio.run(Restoring([str(tmp_path)]).look, str(path), TAG)
    assert seen == (state(b"new") if aside else state(b"old"))
    assert restore(before, state(b"new")) == ""
    assert names(tmp_path) == ["a"]
    assert path.read_bytes() == b"old"


def test_bytes_that_came_between_our_look_and_our_move_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    before = keep(path)
    kept = Path(f"{tmp_path}/.soothsayer-undo-{hashlib.sha256(f'{TAG}/a'.encode()).hexdigest()[:12]}")
    path.unlink()
    kept.write_bytes(b"late")  # what was moved aside turned out to be somebody else's
    assert restore(before, state(b"new")) == "it was changed by something else"
    assert names(tmp_path) == ["a"]
    assert path.read_bytes() == b"late"
