"""Questions are answered on the screen of `watch`: seen whole, exact, by one key, and never by accident."""

import asyncio
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.cli.watch_desk import StateDesk
from soothsayer_mcp.console.less import less_of
from soothsayer_mcp.console.tui.desk import Card
from soothsayer_mcp.model.ask import AskState, Remember
from soothsayer_mcp.testing.servers import LIMIT_S
from watch.conftest import SIZES, Office, output_on, watching


@pytest.mark.parametrize("size", SIZES)
def test_a_key_allows_the_call_on_the_card_once(office: Office, size: tuple[int, int]) -> None:
    async def scene() -> None:
        async with watching(office.folder, size=size) as it:
            name = await office.put({"to": "ann", "n": 1})
            await it.until("2 Asks (1)")  # It is said on every screen.
            await it.press("2")
            await it.until("ASK 010101  mail.send")
            assert 'to  "ann"' in it.text
            await it.until("a allow once")
            await it.press("a")
            await it.until("010101: allowed, once")
            await it.until("No question is open")
            await it.until(lambda: "allow once" not in it.footer)
            await it.until(lambda: 'to  "ann"' not in it.text)  # What was answered is not shown as if it waited.
            ask = office.ask(name)
            assert (ask.state, ask.channel) == (AskState.YES, "watch")

    asyncio.run(scene())


def test_a_no_carries_the_comment_that_was_typed(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            name = await office.put()
            await it.until("ASK 010101")
            await it.press("c", *"not [b]today", "enter")
            await it.until('comment "not [b]today"')
            await it.press("d")
            await it.until("010101: denied")
            ask = office.ask(name)
            assert (ask.state, ask.comment) == (AskState.NO, "not [b]today")

    asyncio.run(scene())


def test_a_question_answered_elsewhere_stays_on_the_card_and_takes_no_key(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            first = await office.put({"to": "first"})
            second = await office.put({"to": "second"})
            await it.until("2 Asks (2)")
            await it.until("a allow once")
            await office.answer_elsewhere(first, AskState.NO)
            await it.until("already decided: no, by os:ada in terminal")
            assert 'to  "first"' in it.text
            assert "allow once" not in it.footer
            await it.press("a", "d")
            assert office.ask(second).state is AskState.OPEN
            await it.press("enter")
            await it.until('to  "second"')
            assert "already decided" not in it.text

    asyncio.run(scene())


class SlowDesk(StateDesk):
    """A desk that is slow to look a card up, once it is told to be."""

    def __init__(self, folder: Path) -> None:
        super().__init__(output_on(folder))
        self.slow = False
        self.looks = threading.Event()
        self.may_go_on = threading.Event()

    def card(self, ask_id: str) -> Card | None:
        if self.slow:
            self.looks.set()
            assert self.may_go_on.wait(LIMIT_S)
        return super().card(ask_id)


def test_the_list_can_be_drawn_while_it_is_looked_up_how_its_last_question_ended(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            slow = SlowDesk(office.folder)
            it.app.desk = slow
            name = await office.put()
            await it.until("a allow once")
            slow.slow = True
            await office.answer_elsewhere(name, AskState.NO)
            await it.until(slow.looks.is_set)
            try:
                it.lines.refresh()
                await it.pilot.pause()
                assert "> 010101" in it.text
            finally:
                slow.may_go_on.set()
            await it.until("already decided: no")
            await it.press("enter")
            await it.until("No question is open")

    asyncio.run(scene())


def test_an_answer_that_comes_too_late_is_told_who_was_first(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            name = await office.put()
            await it.until("a allow once")
            ask = office.ask(name)
            await office.answer_elsewhere(name, AskState.NO)
            stands, counted = it.view.desk.answer(ask, AskState.YES, "", None)
            assert (stands.state, counted) == (AskState.NO, False)

    asyncio.run(scene())


def test_a_card_takes_a_yes_only_after_it_stood_there(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks", seen_s=1000.0) as it:
            name = await office.put()
            await it.until("d deny")
            assert "allow" not in it.footer
            await it.press("a", "A")
            assert office.ask(name).state is AskState.OPEN

    asyncio.run(scene())


@pytest.mark.pitfall("P-ASK-07")
def test_a_card_takes_a_yes_only_after_all_of_it_was_in_sight(office: Office) -> None:
    hostile = "\x1b[2K\u202e\u200b" + " " * 5_000 + "x" * 5_000 + "end"

    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            name = await office.put({"to": hostile})
            await it.until("d deny")
            await it.until(r'to  "\u001b[2K\u202e\u200b\x20{5,000}xx')
            assert not {"\x1b", "\u202e", "\u200b"} & set(it.text)
            assert "allow" not in it.footer
            await it.press("a", "tab", "end", "a")  # What was jumped over was not seen.
            assert office.ask(name).state is AskState.OPEN
            await it.press("home")
            pages = 0
            while "allow" not in it.footer:
                assert 'end"' not in it.text
                await it.press("enter")
                pages += 1
            assert pages >= 3  # 5,000 characters are sixty lines.
            assert 'end"' in it.text
            assert "A allow in run" in it.footer

    asyncio.run(scene())


def test_a_strong_question_wants_six_characters_typed(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            name = await office.put(strong=True, does="pay")
            await it.until("a allow once")
            assert "allow in run" not in it.footer
            await it.press("a", *"010102", "enter")
            await it.until("nothing was answered")
            assert office.ask(name).state is AskState.OPEN
            await it.press("a", *"010101", "enter")
            await it.until("allowed, once")
            assert office.ask(name).state is AskState.YES

    asyncio.run(scene())


def test_a_yes_for_the_run_shows_its_shape_first(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            name = await office.put({"path": "/srv/work/a.txt", "n": 1})
            await it.until("A allow in run")
            await it.press("A")
            await it.until('path  anything below "/srv/work"')
            await it.press("escape")
            assert office.ask(name).state is AskState.OPEN
            await it.press("A")
            await it.until("y allow all of these")
            await it.press("y")
            await it.until("for this shape in the run")
            with Reader(office.folder) as reader:
                (grant,) = reader.grants(name)
            assert grant.shape == {"path": {"under": "/srv/work"}, "n": {"is": 1}}

    asyncio.run(scene())


def test_what_may_cover_one_call_only_says_why(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            await office.put(remember=Remember.ONCE)
            await it.until("only once: the rule that asks wants every call looked at")
            assert "allow in run" not in it.footer

    asyncio.run(scene())


class Often(StateDesk):
    """A desk on whose cards calls of that tool got five yeses before."""

    def card(self, ask_id: str) -> Card | None:
        found = super().card(ask_id)
        return None if found is None else replace(found, yeses=5, less=less_of(found.ask, 5, by="os:ada"))


def test_after_five_yeses_the_card_itself_proposes_the_rule(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks", size=(120, 40)) as it:
            first = await office.put({"to": "ann"}, rule="default")
            await it.until("a allow once")
            assert "yeses" not in it.text
            it.app.desk = Often(output_on(office.folder))
            await office.answer_elsewhere(first, AskState.NO)
            await it.until("already decided")
            await office.put({"to": "bob"}, rule="default")
            await it.press("enter")
            await it.until("less  5 yeses to mail.send under default so far; an allow rule with a check")
            assert '"args": {"to": {"is": "bob"}}, "only_args": true' in it.text
            # Where a rule asks, no allow would be heard: none is proposed.
            await office.put({"to": "cy"})
            await it.until("  030303")
            await it.press("j")
            await it.until("less  5 yeses to mail.send under look so far")
            assert "for good" not in it.text
            # What is looked at each time by the rule's own wish has no proposal.
            await office.put({"to": "dan"}, strong=True)
            await it.until("  040404")
            await it.press("j")
            await it.until('to  "dan"')
            assert "less  " not in it.text

    asyncio.run(scene())


def test_a_question_expires_while_it_is_looked_at(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            await office.put(expires_at_us=time.time_ns() // 1000 + 400_000)
            await it.until("ASK 010101")
            await it.until("expired: nobody answered in time")
            assert "deny" not in it.footer

    asyncio.run(scene())


def test_the_terminal_of_the_host_answers_nothing(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            name = await office.put(host_pid=os.getppid())
            await it.until("a allow once")
            await it.press("a")
            await it.until("belongs to the host whose call is asked about")
            assert office.ask(name).state is AskState.OPEN

    asyncio.run(scene())


def test_another_question_is_chosen_by_moving(office: Office) -> None:
    async def scene() -> None:
        async with watching(office.folder, "asks") as it:
            for to in ("first", "second", "third"):
                await office.put({"to": to})
            await it.until("2 Asks (3)")
            await it.until('to  "first"')
            await it.press("j")
            await it.until('to  "second"')
            await it.press("end")
            await it.until('to  "third"')
            await it.press("y")
            await it.until("copied 0303030303030303")

    asyncio.run(scene())


def test_an_open_program_says_that_somebody_looks(office: Office) -> None:
    faces = office.folder / "faces"

    async def scene() -> None:
        async with watching(office.folder) as it:
            await it.until(lambda: [path.name for path in faces.iterdir()] == [f"watch-{os.getpid()}"])

    asyncio.run(scene())
    assert list(faces.iterdir()) == []


def test_a_folder_without_a_trace_is_waited_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with watching(tmp_path / "nothing") as it:
            await it.until("No step yet")
            await it.press("3")
            await it.until("No run.")
            await it.press("2")
            await it.until("No question is open")

    asyncio.run(scene())
