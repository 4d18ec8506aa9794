"""Questions on the pages: what a card shows, what an answer needs, and that each counts once."""

import asyncio
import html
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recording import PRINCIPAL
from soothsayer_mcp.adapters.approver_keys import make
from soothsayer_mcp.adapters.descent import ancestors
from soothsayer_mcp.adapters.faces import is_watched
from soothsayer_mcp.cli.options import Given, settings
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.ui_desk import PageDesk, Signer
from soothsayer_mcp.console.less import less_of
from soothsayer_mcp.console.tui.desk import Card
from soothsayer_mcp.model.ask import AskState, Need, Remember
from soothsayer_mcp.testing.servers import LIMIT_S
from soothsayer_mcp.web.codes import TRIES
from soothsayer_mcp.web.html import ATTRIBUTES, TAGS, el
from watch.conftest import Office
from web.conftest import Pages

pytestmark = pytest.mark.anyio

NASTY = "<script>alert(1)</script>\" onmouseover='x' \u202e\u200b\x1b[31m&amp;"


def code_of(pages: Pages) -> str:
    return re.findall(r"type (\w{6}) on the page", pages.told[-1])[0]


async def test_looking_decides_nothing_and_an_answer_counts_once_for_what_was_shown(
    pages: Pages, office: Office
) -> None:
    ask = await office.put()
    for _ in range(10):
        assert (await pages.get(f"/asks/{ask}")).status_code == 200
        assert (await pages.browser.head(pages.at(f"/asks/{ask}/answer"))).status_code == 405
        assert (await pages.get(f"/asks/{ask}/answer?answer=yes")).status_code == 405
    assert office.ask(ask).state is AskState.OPEN
    assert (await pages.post(f"/asks/{ask}/answer", {"answer": "yes"})).status_code == 403
    other = await pages.answer(ask, "yes", shown="0" * 64)
    assert (other.status_code, "Nothing was answered" in other.text) == (412, True)
    assert office.ask(ask).state is AskState.OPEN
    fields = {**await pages.fields(ask), "answer": "yes"}
    first = await pages.post(f"/asks/{ask}/answer", fields)
    assert first.status_code == 303
    assert "allowed, once" not in (await pages.get("/asks", **{"sec-fetch-mode": "cors"})).text  # Another tab looks.
    assert "010101: allowed, once" in (await pages.get("/asks")).text
    assert "allowed, once" not in (await pages.get("/asks")).text
    stands = office.ask(ask)
    assert (stands.state, stands.channel) == (AskState.YES, "page")
    second = await pages.post(f"/asks/{ask}/answer", {**fields, "answer": "no"})
    assert (second.status_code, "already decided: yes" in second.text) == (409, True)
    assert office.ask(ask).state is AskState.YES


async def test_a_no_carries_its_comment(pages: Pages, office: Office) -> None:
    ask = await office.put()
    await pages.answer(ask, "no", comment="  not on\n a Friday ")
    stands = office.ask(ask)
    assert (stands.state, stands.comment) == (AskState.NO, "not on a Friday")


async def test_what_was_decided_elsewhere_is_told_and_stays(pages: Pages, office: Office) -> None:
    ask = await office.put()
    fields = {**await pages.fields(ask), "answer": "yes"}
    await office.answer_elsewhere(ask, AskState.NO)
    late = await pages.post(f"/asks/{ask}/answer", fields)
    assert late.status_code == 409
    assert f"already decided: no, by {PRINCIPAL.id} in terminal" in html.unescape(late.text)
    assert office.ask(ask).state is AskState.NO


async def test_every_field_of_a_card_stays_text(pages: Pages, office: Office) -> None:
    ask = await office.put({NASTY: NASTY, "long": "x" * 5_000}, tool=NASTY, rule=NASTY)
    for path in ("/asks", f"/asks/{ask}"):
        page = (await pages.get(path)).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert not set(page) & set("\u202e\u200b\x1b")
        assert "\\u202e" in page
        assert not re.search(r"<[^>]* onmouseover=", page)
        tags = set(re.findall(r"<([a-z0-9]+)", page))
        assert tags <= TAGS
    card = (await pages.get(f"/asks/{ask}")).text
    assert "x" * 5_000 in card  # Nothing is cut where a yes is given.
    assert "Hidden characters are shown as escapes" in card


def test_the_builder_makes_nothing_that_runs_or_leads_elsewhere() -> None:
    assert el("p", NASTY, class_=NASTY).text.count("<") == 2
    for tag in ("iframe", "object", "style", "a onclick", "SCRIPT"):
        with pytest.raises(ValueError):
            el(tag)
    for name in ("onclick", "style", "srcdoc", "formaction"):
        with pytest.raises(ValueError):
            el("a", **{name: "x"})
    for address in ("javascript:alert(1)", "//evil.test", "http://evil.test", "/\\evil.test", ""):
        with pytest.raises(ValueError):
            el("a", href=address)
    with pytest.raises(ValueError):
        el("script", "alert(1)")
    assert not {name for name in ATTRIBUTES if name.startswith("on")}


async def test_a_strong_question_wants_what_stands_in_the_terminal_and_no_page_shows_it(
    pages: Pages, office: Office
) -> None:
    """P-ASK-08: what drives a browser reads every page; the terminal it does not."""
    ask = await office.put(strong=True, does="pay")
    told = len(pages.told)
    page = "".join([(await pages.get(f"/asks/{ask}")).text for _ in range(3)])
    assert len(pages.told) == told + 1
    code = code_of(pages)
    assert code not in page
    assert 'value="run"' not in page
    for typed in ("", ask[:6], "abcdef"):
        refused = await pages.answer(ask, "yes", code=typed)
        assert (refused.status_code, code in refused.text) == (403, False)
    for reach in ("run", "always"):
        assert (await pages.answer(ask, reach, code=code)).status_code == 403
    assert office.ask(ask).state is AskState.OPEN
    assert (await pages.answer(ask, "yes", code=f" {code.upper()} ")).status_code == 303
    assert office.ask(ask).state is AskState.YES


async def test_a_code_that_is_guessed_at_becomes_another(pages: Pages, office: Office) -> None:
    ask = await office.put(strong=True)
    await pages.get(f"/asks/{ask}")
    code = code_of(pages)
    for _ in range(TRIES):
        await pages.answer(ask, "yes", code="zzzzzz")
    assert code_of(pages) != code
    assert (await pages.answer(ask, "yes", code=code)).status_code == 403
    assert (await pages.answer(ask, "no")).status_code == 303  # A no needs no code.


async def test_a_shape_is_shown_and_covers_the_run_only_where_it_may(pages: Pages, office: Office) -> None:
    ask = await office.put({"path": "/work/notes/a.md", "mode": "w"})
    page = (await pages.get(f"/asks/{ask}")).text
    assert "anything below &quot;/work/notes&quot;" in page
    assert (await pages.answer(ask, "run")).status_code == 303
    (grant,) = office.store.asks.grants(office.run, "mail", "send")
    assert grant.shape == {"path": {"under": "/work/notes"}, "mode": {"is": "w"}}
    once = await office.put(remember=Remember.ONCE)
    assert (await pages.answer(once, "run")).status_code == 403
    assert office.ask(once).state is AskState.OPEN


class Often(PageDesk):
    """A desk on whose cards calls of that tool got seven yeses before."""

    def card(self, ask_id: str) -> Card | None:
        found = super().card(ask_id)
        return None if found is None else replace(found, yeses=7, less=less_of(found.ask, 7, by="os:ada"))


async def test_after_many_yeses_the_card_itself_proposes_the_rule(pages: Pages, office: Office) -> None:
    ask = await office.put({"to": NASTY}, rule="default", tool=NASTY)
    assert "yeses" not in (await pages.get(f"/asks/{ask}")).text
    pages.site.desk = Often(Output(settings(Given(values={"state": [str(office.folder)]}), {})))
    page = (await pages.get(f"/asks/{ask}")).text
    assert "7 yeses to mail.&lt;script&gt;alert(1)" in page
    assert "under default so far; an allow rule with a check" in page
    proposed = html.unescape(re.findall(r"For good it would be <code>(.+?)</code>", page)[0])
    assert (json.loads(proposed)["only_args"], "\u202e" in proposed) == (True, False)
    await pages.answer(ask, "no")
    assert "yeses" not in (await pages.get(f"/asks/{ask}")).text
    by_rule = await office.put()
    page = (await pages.get(f"/asks/{by_rule}")).text
    assert ("7 yeses to mail.send under look" in page, "For good it would be" in page) == (True, False)


async def test_a_question_that_expired_takes_no_answer(pages: Pages, office: Office) -> None:
    ask = await office.put(expires_at_us=time.time_ns() // 1000 + 400_000)
    fields = {**await pages.fields(ask), "answer": "yes"}
    end = time.monotonic() + LIMIT_S
    while ask[:6] in (page := (await pages.get("/asks")).text) or "mail.send" in page:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert "No question is open" in page
    assert 'value="yes"' not in (await pages.get(f"/asks/{ask}")).text
    late = await pages.post(f"/asks/{ask}/answer", fields)
    assert (late.status_code, "expired" in late.text) == (409, True)
    assert office.ask(ask).state is AskState.EXPIRED


async def test_a_page_of_the_calling_host_itself_answers_nothing(pages: Pages, office: Office) -> None:
    ask = await office.put(host_pid=ancestors()[0])
    refused = await pages.answer(ask, "yes")
    assert (refused.status_code, "belongs to the host" in refused.text) == (503, True)
    assert office.ask(ask).state is AskState.OPEN


async def test_questions_of_a_role_are_signed_by_whoever_unlocked_a_key(pages: Pages, office: Office) -> None:
    keys = {name: make(office.folder, name, "pass") for name in ("ann", "eve")}
    need = Need(role="security", keys=(("ann", keys["ann"].key),))
    ask = await office.put({"to": "a-secret-name"}, needs=(need,))
    # Without a key: that there is one, nothing of what it is about, and no way to answer it.
    page = (await pages.get(f"/asks/{ask}")).text
    assert ("a-secret-name" in page, "signed answer of security" in page, 'value="yes"' in page) == (False, True, False)
    seen = await pages.post(
        f"/asks/{ask}/answer", {**await pages.fields(ask), "shown": office.ask(ask).shown, "answer": "no"}
    )
    assert seen.status_code == 503
    eve = Pages(office.folder, signer=Signer(key=keys["eve"], passphrase="pass"))
    await eve.sign_in()
    assert (await eve.get(f"/asks/{ask}")).status_code == 404
    assert "No question is open" in (await eve.get("/asks")).text
    ann = Pages(office.folder, signer=Signer(key=keys["ann"], passphrase="pass"))
    await ann.sign_in()
    page = (await ann.get(f"/asks/{ask}")).text
    assert ("a-secret-name" in page, "signing as ann" in page) == (True, True)
    assert (await ann.answer(ask, "yes")).status_code == 403  # It is reserved as well: the code stands in the terminal.
    assert (await ann.answer(ask, "yes", code=code_of(ann))).status_code == 303
    stands = office.ask(ask)
    assert (stands.state, [vote.by for vote in stands.votes]) == (AskState.YES, ["ann"])
    await eve.close()
    await ann.close()


async def test_a_page_that_is_open_counts_as_somebody_who_looks(office: Office) -> None:
    pages = Pages(office.folder)
    assert not is_watched(office.folder)
    await pages.get("/asks")  # Not signed in: nobody looks.
    assert not is_watched(office.folder)
    await pages.sign_in()
    await pages.get("/asks")
    assert is_watched(office.folder)
    await pages.close()
    assert not is_watched(office.folder)


async def test_a_yes_for_good_shows_the_change_of_policy_first(tmp_path: Path, office: Office, pages: Pages) -> None:
    ask = await office.put(rule="look")
    assert "/always" not in (await pages.get(f"/asks/{ask}")).text  # A rule asks: an allow would not be stronger.
    asked = await pages.get(f"/asks/{ask}/always")
    assert (asked.status_code, "an ask is stronger than an allow" in asked.text) == (503, True)


async def listened(pages: Pages, *, count: int, **headers: str) -> list[tuple[str, dict[str, object]]]:
    """The first events that a page gets."""
    found: list[tuple[str, dict[str, object]]] = []
    enough = asyncio.Event()

    async def receive() -> dict[str, object]:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        body = message.get("body", b"")
        assert isinstance(body, bytes)
        for kind, said in re.findall(r"event: (\w+)\ndata: (.+)\n", body.decode()):
            found.append((kind, json.loads(said)))
            if len(found) >= count:
                enough.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": pages.at("/live"),
        "query_string": b"",
        "headers": [
            (b"host", pages.browser.base_url.netloc),
            (b"cookie", f"soothsayer={pages.browser.cookies['soothsayer']}".encode()),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ],
    }
    async with asyncio.timeout(LIMIT_S):
        await pages.app(scope, receive, send)  # type: ignore[arg-type]  # as a server gives them
    return found


async def test_open_pages_are_told_of_a_question_and_go_on_where_they_were(pages: Pages, office: Office) -> None:
    listening = asyncio.create_task(listened(pages, count=2))
    async with asyncio.timeout(LIMIT_S):
        while pages.site.pulse.sight.pos < 0:  # noqa: ASYNC110 - what is waited for is the page's own look
            await asyncio.sleep(0.01)
    ask = await office.put()
    first, second = await listening
    assert (first[1]["asks"], second) == ([], ("news", {"asks": [ask]}))
    at = pages.site.pulse.sight.pos
    (again,) = await listened(pages, count=1, **{"last-event-id": str(at)})
    assert again == ("same", {"asks": [ask]})
    (behind,) = await listened(pages, count=1, **{"last-event-id": str(at - 1)})
    assert behind[0] == "news"
