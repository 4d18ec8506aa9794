"""What goes on is seen on the screens of `watch`: steps as they happen, any number of them, one step, runs."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from recording import bind, end, intend, make_step, whole_step
from seeding import D3A0, sample, seed
from soothsayer_mcp.__main__ import run as soothsayer
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.console.tui.desk import Key
from soothsayer_mcp.console.tui.live import FETCH, MARGIN, LiveScreen
from soothsayer_mcp.console.tui.sheet import Piece
from soothsayer_mcp.console.tui.window import MOST
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import StepRow
from watch.conftest import SIZES, Office, watching

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\u200b[bold red]x[/] \U000e0041"
HIDDEN = {"\x1b", "\x07", "\u202e", "\u200b", "\U000e0041"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    sample(folder).db.close()
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_steps_are_listed_and_each_is_told_in_full(state: Path, size: tuple[int, int]) -> None:
    async def scene() -> None:
        async with watching(state, size=size) as it:
            await it.until("9 steps, following")
            for words in ("policy_denied", "succeeded, kept E3", "timeout_or_budget_exceeded", "in flight", "(deny)"):
                assert words in it.text
            assert ("BECAUSE" in it.text) == (size[0] >= 120)
            assert max(map(len, it.text.split("\n"))) <= size[0]
            await it.press("home", "j")
            assert "d3a0.2" in it.chosen
            await it.press("enter")
            await it.until("the agent read: Denied by policy rule keys-stay-here: key files")
            for words in ("deny by keys-stay-here", "files.read_file", "told", "means", "to do"):
                assert words in it.text
            await it.press("m")
            await it.until('{"path":"../.ssh/id_ed25519"}')
            await it.press("escape")
            assert "d3a0.2" in it.chosen

    asyncio.run(scene())


def test_a_filter_shows_what_fits_and_says_what_is_wrong_with_it(state: Path) -> None:
    async def scene() -> None:
        async with watching(state) as it:
            await it.press("slash", *"effect:de")
            await it.until("effect:deny")  # completed
            await it.press("right", "enter")
            await it.until("1 step, following, filter effect:deny")
            assert "d3a0.2" in it.chosen
            await it.press("slash", *" efect:deny", "enter")
            await it.until('did you mean "effect"?')
            assert "filter effect:deny" in it.text
            await it.press("x")
            await it.until("9 steps")
            await it.press("slash", *"server:nobody", "enter")
            await it.until("no step fits")

    asyncio.run(scene())


def test_a_step_that_happens_is_seen_and_followed(office: Office) -> None:
    async def scene() -> None:
        run_id = await bind(office.store)
        async with watching(office.folder) as it:
            await it.until("No step yet")
            held = await intend(office.store, make_step(run_id, tool="one"))
            await it.until("in flight")
            await end(office.store, held)
            await it.until(lambda: "in flight" not in it.text and "succeeded" in it.text)
            await whole_step(office.store, run_id, tool="two")
            await it.until(lambda: "files.two" in it.chosen)
            await it.press("k")
            assert "not following" in it.text
            await whole_step(office.store, run_id, tool="three")
            await it.until("files.three")
            assert "files.one" in it.chosen
            assert "f follow" in it.footer
            await it.press("f")
            await it.until(lambda: "files.three" in it.chosen)
            assert "f follow" not in it.footer

    asyncio.run(scene())


def test_the_footer_shows_only_keys_that_work_now(state: Path) -> None:
    async def scene() -> None:
        async with watching(state) as it:
            assert "f follow" not in it.footer  # It follows.
            assert "Esc" not in it.footer
            await it.press("enter")
            await it.until("e every rule")
            assert "Esc back" in it.footer
            await it.press("question_mark")
            await it.until("Keys that work now")
            assert "page down" in it.text
            await it.press("escape", "escape", "2")
            await it.until("No question is open")
            for key in ("a allow", "d deny", "c comment", "y copy"):
                assert key not in it.footer

    asyncio.run(scene())


def test_another_size_of_the_terminal_is_filled(state: Path) -> None:
    async def scene() -> None:
        async with watching(state, size=(80, 24)) as it:
            await it.press("home")
            for size in ((120, 40), (60, 12), (80, 24)):
                await it.pilot.resize_terminal(*size)
                await it.until(lambda size=size: len(it.text.split("\n")) == size[1])
                assert "d3a0.1" in it.chosen
                assert max(map(len, it.text.split("\n"))) <= size[0]
                assert ("BECAUSE" in it.text) == (size[0] >= 120)
                assert "q quit" in it.footer

    asyncio.run(scene())


@pytest.mark.parametrize("size", SIZES)
def test_what_servers_and_models_say_is_shown_and_never_obeyed(tmp_path: Path, size: tuple[int, int]) -> None:
    made = seed(tmp_path)
    run = made.run("aa" * 16, principal=HOSTILE, host=HOSTILE, intent=HOSTILE, workspace=HOSTILE)
    made.step(
        run,
        f"{HOSTILE}.{HOSTILE}",
        effect="deny",
        rule=HOSTILE,
        outcome="failed",
        failure="policy_denied",
        reason="rule_denied",
        acted="no",
        said=HOSTILE,
        args=json.dumps({HOSTILE: "x"}),
        does=HOSTILE,
        tool_us=None,
        rule_text=HOSTILE,
    )
    made.step(run, "a.b", result=HOSTILE, findings=((HOSTILE, "broken", HOSTILE),))
    made.db.close()

    async def scene() -> None:
        async with watching(tmp_path, size=size) as it:
            seen = [it.text]
            await it.press("home", "enter")
            await it.until("told")
            seen.append(it.text)
            await it.press("m", "end")
            await it.until("FIELDS")
            seen.append(it.text)
            await it.press("escape", "3")
            await it.until("workspace")
            seen.append(it.text)
            await it.press("enter")
            await it.until("BECAUSE" if size[0] >= 120 else "ENDED AS")
            seen.append(it.text)
            for text in seen:
                assert not HIDDEN & set(text), text
                assert r"\x1b" in text
            assert "[bold red]" in "".join(seen)  # never read as markup

    asyncio.run(scene())


def test_a_person_holds_a_run_lets_it_go_on_and_stops_it(office: Office) -> None:
    def states() -> tuple[str, str]:
        with Reader(office.folder) as reader:
            run = reader.run(office.run).run
        return run.state, run.why

    async def scene() -> None:
        await whole_step(office.store, await bind(office.store))
        async with watching(office.folder, "runs") as it:
            await it.until("p pause")
            assert "r resume" not in it.footer
            await it.press("p")
            await it.until("is paused")
            await it.until("r resume")
            assert "p pause" not in it.footer
            assert states()[0] == "paused"
            await it.press("r")
            await it.until("is open")
            await it.until("p pause")
            await it.press("S", "escape")
            assert states()[0] == "open"
            await it.press("S")
            await it.until("It takes no more calls, ever")
            await it.press("y")
            await it.until("is stopped")
            await it.until(lambda: "S stop" not in it.footer)
            assert states()[0] == "stopped"
            assert states()[1].startswith("by ")

    asyncio.run(scene())


def test_a_run_tells_what_it_came_to(state: Path) -> None:
    async def scene() -> None:
        async with watching(state, "runs") as it:
            await it.press("j")
            await it.until('"publish 1.5.0", said by human')
            for words in ("1 policy_denied", "verification_failed", "next      continue"):
                assert words in it.text
            await it.press("enter")
            await it.until("run d3a0")
            await it.until(lambda: "d3a0.8" in it.chosen)
            await it.press("k", "enter")
            await it.until("step d3a0.7")
            await it.press("y")
            await it.until(f"copied {D3A0}.7")
            await it.press("escape", "slash", *"fit")  # not a key of this screen
            await it.press("escape")
            await it.until("[3 Runs]")
            await it.press("slash", *"principal:token*", "enter")
            await it.until("1 run, filter principal:token*")

    asyncio.run(scene())


def test_without_colours_every_screen_is_drawn(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scene() -> None:
        async with watching(state) as it:
            await it.until("9 steps, following")
            await it.press("home", "enter")
            await it.until("step d3a0.1")
            await it.press("2")
            await it.until("No question is open")
            await it.press("3")
            await it.until("workspace")
            assert "q quit" in it.footer
            await it.press("question_mark")
            await it.until("Keys that work now")
            colours = [
                each.style.color for each in it.segments if each.style is not None and each.style.color is not None
            ]
            assert all(colour.triplet is None or len(set(colour.triplet)) == 1 for colour in colours)

    asyncio.run(scene())


def test_each_screen_is_as_it_was_left(state: Path) -> None:
    async def scene() -> None:
        async with watching(state) as it:
            await it.press("home", "enter")
            await it.until("step d3a0.1")
            await it.press("3")
            await it.until("[3 Runs]")
            await it.press("1")
            await it.until("step d3a0.1")
            await it.press("1")
            await it.until("[1 Live]")

    asyncio.run(scene())


COUNT = 100_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of 100,000 steps, as far as the list of steps reads it."""
    folder = tmp_path_factory.mktemp("many")
    with closing(seed(folder).db) as db:
        db.execute(
            "INSERT INTO steps(run, no, span, writer, at, cause, server, tool, does, policy, effect, rule, outcome,"
            " acted, next, dur_us, tool_us)"
            " WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?)"
            " SELECT printf('%032x', n % 20), n, printf('%016x', n), 'w', 1795514400000000 + n * 1000, 'agent',"
            " 'files', 'read_file', 'read', 1, 'allow', 'reads', 'succeeded', 'no', 'continue', 2480, 1904 FROM c",
            (COUNT,),
        )
        db.commit()
    return folder


def test_a_hundred_thousand_steps_are_scrolled_through_with_bounded_work_for_each_key(
    many: Path, record_property: Callable[[str, object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: rows laid out and queries made, however many steps there are; what a page takes is noted."""

    async def scene() -> None:
        async with watching(many, size=(120, 40)) as it:
            view, lines = it.view, it.lines
            assert isinstance(view, LiveScreen)
            await it.until(f".{COUNT} ")
            spent: list[float] = []
            laid: list[int] = []
            asked: list[int] = []
            lay_out, before_key = lines._lay_out, view.desk.before

            def counted(number: int, width: int) -> Sequence[Piece]:
                laid.append(number)
                return lay_out(number, width)

            def counting(key: Key | None, wanted: Filter, most: int) -> list[StepRow]:
                asked.append(most)
                return before_key(key, wanted, most)

            monkeypatch.setattr(lines, "_lay_out", counted)
            monkeypatch.setattr(view.desk, "before", counting)
            pages = 0
            while view.window.rows[0].no > COUNT - 2 * MOST:
                before = time.process_time()
                laid.clear()
                lines.action_pages(-10)
                for y in range(lines.size.height):
                    lines.render_line(y)
                spent.append(time.process_time() - before)
                # However many there are, a key lays out what is seen.
                assert len(laid) <= lines.size.height
                pages += 10
                await it.pilot.pause()
                await it.until(lambda: not view._fetching)
            assert len(view.window.rows) == MOST
            assert not view.window.at_end
            # One query for what comes next, and none for most keys.
            assert set(asked) == {FETCH}
            assert len(asked) <= pages * lines.size.height / FETCH + MARGIN / FETCH + 1
            median_s = sorted(spent)[len(spent) // 2]
            record_property("page_ms", round(median_s * 1000, 2))
            await it.press("end")
            await it.until(lambda: view.window.at_end and lines.cursor == lines.count - 1)
            await it.until(f".{COUNT} ")
            await it.press("home")
            await it.until(lambda: view.window.rows[0].no == 1 and lines.cursor == 0)
            lines.action_pages(25)
            await it.until(lambda: len(view.window.rows) == 2_000)  # So it is fetched towards the newer, too.

    asyncio.run(scene())


def test_without_a_terminal_it_says_what_to_use_instead(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert soothsayer(["watch", "--state", str(state)]) == 2
    assert "soothsayer log -f" in capsys.readouterr().err
    assert soothsayer(["watch", "--state", str(state), "--json"]) == 2
    assert "log -f --jsonl" in capsys.readouterr().err


def test_a_step_is_written_to_a_file_that_is_not_there_yet(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "step-d3a0.1.json"

    async def scene() -> None:
        async with watching(state) as it:
            await it.press("home", "enter")
            await it.until("w write")
            await it.press("w")
            await it.until("Write this step to")
            await it.press("enter")
            await it.until("wrote ")
            written = target.read_bytes()
            assert json.loads(written)["step"]["step"] == f"{D3A0}.1"
            assert target.stat().st_mode & 0o077 == 0
            await it.press("w", "enter")
            await it.until("not written, File exists")
            assert target.read_bytes() == written

    asyncio.run(scene())
