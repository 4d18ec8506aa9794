"""A run is put back from the screens of `watch`: seen first, confirmed by its digest, done as by the command."""

import asyncio
from pathlib import Path

import pytest

from rollback.test_inverse_calls import call as call_order
from rollback.test_inverse_calls import connect as connect_orders
from rollback.test_inverse_calls import laid as laid_orders
from rollback.test_inverse_calls import orders
from rollback.test_rollback_live import call, connect, laid, run_of, tree
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.undo import UndoState
from watch.conftest import Shown, watching


def digest(it: Shown) -> str:
    """The digest that the screen tells a person to type."""
    return next(line.split()[1] for line in it.text.split("\n") if line.startswith("plan")).rstrip(",")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files that a proxy saw changed, one of them changed again by hand; and something that was sent."""
    folder = laid(tmp_path)
    files = [folder / f"{name}.py" for name in "abc"]
    for file in files:
        file.write_text(file.stem)
    with connect(folder.parent) as host:
        for file in files:
            call(host, "write", file, f"{file.stem}2")
        call(host, "send", files[0])
    (folder / "b.py").write_text("by hand")
    return folder


def test_a_plan_is_looked_at_and_changed_and_nothing_is_undone_but_by_its_digest(folder: Path) -> None:
    short = run_of(folder)[:4]
    as_it_was = {"a.py": b"a2", "b.py": b"by hand", "c.py": b"c2"}

    async def scene() -> None:
        async with watching(folder.parent / "state", "runs") as it:
            await it.until("u undo")
            await it.press("u")
            await it.until("2 steps, 1 in the way, 1 irreversible")
            whats = [line[2:].split()[0] for line in it.text.split("\n")[2:6]]
            assert whats == ["irreversible", "conflict", "restore", "restore"]
            assert f"irreversible     {short}.4" in it.chosen
            assert "u undo" not in it.footer  # While something stands in the way.
            assert "nothing is undone while a step stands in the way" in it.text
            await it.press("j")
            await it.until("changed by")
            assert "b.py" in it.chosen
            await it.press("s")
            await it.until("u undo")
            await it.until(f"left             {short}.2")

            # A step can stay as the last one.
            await it.until(lambda: f"{short}.3 " in it.chosen)
            await it.press("t")
            await it.until("0 steps, 1 irreversible, back to .3")
            await it.press("t")
            await it.until("2 steps, 1 irreversible")

            await it.press("u")
            await it.until("1 step cannot be taken back")
            await it.press(*"0000", "enter")
            await it.until("nothing was undone")
            assert tree(folder) == as_it_was

            # What changed after the plan was shown is noticed, and looked at again.
            (folder / "c.py").write_text("c2, by hand")
            await it.press("u", *digest(it), "enter")
            await it.until("something changed since the plan was shown; nothing was undone")
            await it.until("1 step, 1 in the way")
            assert tree(folder) == {**as_it_was, "c.py": b"c2, by hand"}

    asyncio.run(scene())


def test_what_a_person_confirmed_is_put_back_and_on_record(folder: Path) -> None:
    state = folder.parent / "state"

    async def scene() -> None:
        async with watching(state, "runs", size=(110, 35)) as it:
            await it.until("u undo")
            await it.press("enter", "u")
            await it.until("2 steps, 1 in the way, 1 irreversible")
            await it.press("j", "s")
            await it.until("u undo")
            await it.press("u", *digest(it), "enter")
            await it.until("2 of 3 steps put back")
            await it.until("not all of it came back")
            assert "u undo" not in it.footer
            assert tree(folder) == {"a.py": b"a", "b.py": b"by hand", "c.py": b"c"}
            await it.press("escape")
            await it.until("paused")

    asyncio.run(scene())
    with Reader(state) as reader:
        states = [past.state for past in sorted(reader.pasts(RunId(run_of(folder))), key=lambda past: past.no)]
    assert states == [UndoState.UNDONE, UndoState.OPEN, UndoState.UNDONE, UndoState.IRREVERSIBLE]
    report = verify([state])
    assert report.holds, report.problems


def test_what_servers_have_to_be_called_for_is_undone_too(tmp_path: Path) -> None:
    laid_orders(tmp_path)
    with connect_orders(tmp_path) as host:
        call_order(host, "set", "a", "one")
        call_order(host, "add", "new")
    assert orders(tmp_path) == {"a": "one", "b": "old b", "new": "made"}

    async def scene() -> None:
        async with watching(tmp_path / "state", "runs", size=(110, 35)) as it:
            await it.until("u undo")
            await it.press("u")
            await it.until("2 steps")
            assert "call " in it.chosen
            await it.until("u undo")
            await it.press("u", *digest(it), "enter")
            await it.until("2 of 2 steps put back")

    asyncio.run(scene())
    assert orders(tmp_path) == {"a": "old a", "b": "old b"}
