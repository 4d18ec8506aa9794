"""Who reaches the pages: what is asked of every request, each demand violated and refused."""

import re

import httpx2
import pytest

from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.model.ask import AskState
from soothsayer_mcp.web.access import HEADERS, IDLE_S, MOST_BODY, MOST_SESSIONS
from watch.conftest import Office
from web.conftest import HOST, ORIGIN, Pages

pytestmark = pytest.mark.anyio


async def test_opening_the_link_signs_nobody_in_and_its_button_does_once(office: Office) -> None:
    pages = Pages(office.folder)
    link = pages.access.link
    for _ in range(10):
        opened = await pages.browser.get(link)
        assert opened.status_code == 200
        assert "set-cookie" not in opened.headers
    assert (await pages.get("/asks")).status_code == 401
    token = link.rpartition("=")[2]
    first = await pages.post("/login", {"token": token})
    assert (first.status_code, first.headers["location"]) == (303, pages.at("/asks"))
    cookie = first.headers["set-cookie"]
    assert re.fullmatch(rf"soothsayer=[\w-]{{43}}; Path={pages.access.base}; HttpOnly; SameSite=Strict", cookie), cookie
    assert (await pages.get("/asks")).status_code == 200
    again = await pages.post("/login", {"token": token})
    assert (again.status_code, "set-cookie" in again.headers) == (403, False)
    # The terminal has the link for another browser, and no answer has.
    assert pages.access.link in pages.told[0]
    assert pages.access.link.rpartition("=")[2] not in first.text + again.text
    await pages.close()


@pytest.mark.parametrize(
    "host", ["evil.test", f"evil.test:{HOST[-5:]}", "127.0.0.1", "127.0.0.1:1", f"{HOST}.evil.test", ""]
)
@pytest.mark.parametrize("path", ["/asks", "/login", "/static/style.css", "/live"])
async def test_a_request_for_another_host_is_refused_whatever_its_cookie(pages: Pages, host: str, path: str) -> None:
    refused = await pages.get(path, host=host)
    assert refused.status_code == 421
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", f"https://{HOST}", "http://127.0.0.1:1", f"{ORIGIN}.evil.test"]
)
async def test_a_foreign_origin_with_a_good_cookie_is_refused(pages: Pages, office: Office, origin: str) -> None:
    ask = await office.put()
    fields = {**await pages.fields(ask), "answer": "yes"}
    assert (await pages.post(f"/asks/{ask}/answer", fields, origin=origin)).status_code == 403
    assert (await pages.get("/asks", origin=origin)).status_code == 403
    assert office.ask(ask).state is AskState.OPEN


async def test_a_change_without_an_origin_or_from_another_site_is_refused(pages: Pages, office: Office) -> None:
    ask = await office.put()
    fields = {**await pages.fields(ask), "answer": "yes"}
    assert (await pages.post(f"/asks/{ask}/answer", fields, origin=None)).status_code == 403
    crossed = await pages.post(f"/asks/{ask}/answer", fields, **{"sec-fetch-site": "same-site"})
    assert crossed.status_code == 403
    assert office.ask(ask).state is AskState.OPEN


async def test_a_preflight_an_upgrade_and_other_methods_are_refused(pages: Pages) -> None:
    asked = {"origin": "http://evil.test", "access-control-request-method": "POST"}
    preflight = await pages.browser.options(pages.at("/asks"), headers=asked)
    assert preflight.status_code in {403, 405}
    own = await pages.browser.options(pages.at("/asks"), headers={**asked, "origin": ORIGIN})
    assert own.status_code == 405
    assert not [name for name in (*preflight.headers, *own.headers) if name.startswith("access-control")]
    upgrade = await pages.get("/live", upgrade="websocket", connection="Upgrade")
    assert upgrade.status_code == 403
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        assert (await pages.browser.request(method, pages.at("/asks"))).status_code == 405

    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        sent.append(message)

    await pages.app({"type": "websocket", "path": pages.at("/live"), "headers": []}, receive, send)  # type: ignore[arg-type]  # as a server sends it
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_form_without_the_token_of_its_session_changes_nothing(pages: Pages, office: Office) -> None:
    ask = await office.put()
    good = {**await pages.fields(ask), "answer": "yes"}
    other = Pages(office.folder)
    await other.sign_in()
    foreign = await other.fields(ask)
    for fields in ({**good, "form": ""}, {**good, "form": "guess"}, {**good, "form": foreign["form"]}):
        assert (await pages.post(f"/asks/{ask}/answer", fields)).status_code == 403
    del good["form"]
    assert (await pages.post(f"/asks/{ask}/answer", good)).status_code == 403
    assert office.ask(ask).state is AskState.OPEN
    await other.close()


async def test_nothing_is_served_without_a_cookie_and_none_outside_of_the_path(pages: Pages, office: Office) -> None:
    ask = await office.put({"to": "a-secret-name"})
    async with pages.new_browser() as stranger:
        for path in ("/asks", f"/asks/{ask}", "/live", "/", "/runs"):
            answer = await stranger.get(pages.at(path))
            assert (answer.status_code, "a-secret-name" in answer.text) == (401, False)
        guessed = await stranger.get(pages.at("/asks"), headers={"cookie": "soothsayer=guess"})
        assert guessed.status_code == 401
        posted = {"content-type": "application/x-www-form-urlencoded", "origin": ORIGIN}
        assert (
            await stranger.post(pages.at(f"/asks/{ask}/answer"), content="answer=yes", headers=posted)
        ).status_code == 403
    for path in ("/asks", "/", "/login"):
        assert (await pages.browser.get(path)).status_code == 404


async def test_a_session_ends_after_eight_idle_hours_and_by_signing_out(pages: Pages) -> None:
    pages.clock.now_s += IDLE_S - 1
    assert (await pages.get("/asks")).status_code == 200
    pages.clock.now_s += IDLE_S - 1
    assert (await pages.get("/asks")).status_code == 200
    pages.clock.now_s += IDLE_S + 1
    assert (await pages.get("/asks")).status_code == 401
    await pages.sign_in()
    form = re.findall(r'name="form" value="([^"]+)"', (await pages.get("/asks")).text)[0]
    kept = pages.browser.cookies["soothsayer"]
    left = await pages.post("/logout", {"form": form})
    assert (left.status_code, "Max-Age=0" in left.headers["set-cookie"]) == (200, True)
    async with pages.new_browser() as thief:
        answer = await thief.get(pages.at("/asks"), headers={"cookie": f"soothsayer={kept}"})
        assert answer.status_code == 401


async def test_a_page_that_only_listens_keeps_no_session_alive(pages: Pages) -> None:
    cookie = pages.browser.cookies["soothsayer"]
    pages.clock.now_s += IDLE_S - 1
    assert pages.access.session(cookie, quietly=True) is not None
    pages.clock.now_s += 2
    assert pages.access.session(cookie) is None


async def test_the_oldest_session_makes_room(pages: Pages) -> None:
    first = pages.browser.cookies["soothsayer"]
    for _ in range(MOST_SESSIONS):
        pages.clock.now_s += 1
        await pages.sign_in()
    assert pages.access.session(first) is None
    assert (await pages.get("/asks")).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/asks", 200), ("/static/style.css", 200), ("/static/../access.py", 404), ("/nowhere", 404), ("/asks/00", 404)],
)
async def test_every_answer_carries_the_headers(pages: Pages, path: str, status: int) -> None:
    async def is_guarded(answer: httpx2.Response, wanted: int) -> None:
        assert answer.status_code == wanted
        assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy

    await is_guarded(await pages.get(path), status)
    await is_guarded(await pages.get(path, host="evil.test"), 421)


async def test_pages_hold_nothing_inline_and_lead_nowhere_else(pages: Pages, office: Office) -> None:
    ask = await office.put()
    for path in ("/asks", f"/asks/{ask}", "/login"):
        page = (await pages.get(path)).text
        assert not re.search(r"<[^>]*\s(style|on\w+)=", page)
        assert re.findall(r"<script[^>]*>[^<]", page) == []
        for address in re.findall(r'(?:href|src|action)="([^"]*)"', page):
            assert address.startswith(f"{pages.access.base}/"), address


async def test_too_long_a_form_and_another_kind_are_refused(pages: Pages, office: Office) -> None:
    ask = await office.put()
    fields = await pages.fields(ask)
    assert (await pages.post(f"/asks/{ask}/answer", {**fields, "comment": "x" * MOST_BODY})).status_code == 413
    headers = {"origin": ORIGIN, "content-type": "application/json"}
    assert (await pages.browser.post(pages.at(f"/asks/{ask}/answer"), content="{}", headers=headers)).status_code == 415
    many = {**fields, **{f"f{n}": "" for n in range(400)}}
    assert (await pages.post(f"/asks/{ask}/answer", many)).status_code == 400
    assert office.ask(ask).state is AskState.OPEN


@pytest.mark.pitfall("P-IDENT-04")
async def test_no_header_says_who_looks_or_answers(office: Office, pages: Pages) -> None:
    ask = await office.put()
    said = {"x-principal-id": "admin", "x-forwarded-user": "admin", "authorization": "Bearer admin"}
    stranger = pages.new_browser()
    for path in ("/runs", "/asks", f"/asks/{ask}"):
        refused = await stranger.get(pages.at(path), headers=said)
        assert refused.status_code == 401, path
    await stranger.aclose()
    fields = {**await pages.fields(ask), "answer": "yes", "principal": "admin", "by": "admin"}
    assert (await pages.post(f"/asks/{ask}/answer", fields, **said)).status_code == 303
    assert office.ask(ask).answered_by == account().id
