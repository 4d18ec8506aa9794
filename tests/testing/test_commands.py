"""A command that is forked is a command: it says the same, ends the same, and nobody of ours stands above it."""

from pathlib import Path

import pytest

from commands import Cold, Ended, at_a_terminal, begin, soothsayer


@pytest.mark.parametrize("words", [("version",), ("log", "efect:deny"), ("show", "nothing"), ("nothing",), ("--help",)])
def test_a_forked_command_says_what_one_says_that_starts_from_nothing(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*, cold: bool) -> Ended:
        monkeypatch.setattr(Cold, "now", cold)
        return soothsayer(*words, *(() if words[0] == "--help" else ("--state", tmp_path / "state")))

    assert ended(cold=False) == ended(cold=True)


def test_a_forked_command_that_is_killed_is_known_to_be(tmp_path: Path) -> None:
    following = begin("log", "--follow", "--state", tmp_path / "state")
    assert following.poll() is None
    following.kill()
    assert (following.wait(60), following.poll()) == (-9, -9)


def test_a_command_at_a_terminal_sees_one_and_reads_what_is_typed(tmp_path: Path) -> None:
    code, seen = at_a_terminal("", "log", "efect:deny", "--state", tmp_path / "state", cwd=tmp_path)
    assert (code, 'did you mean "effect"?' in seen) == (2, True)
