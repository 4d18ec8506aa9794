"""The record on the pages: steps, runs and their picture, one step; whatever stands in it is text."""

import html
import json
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeding import D3A0, D3B1, sample, seed
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.trace.rows import EntryRow
from soothsayer_mcp.web.html import TAGS
from soothsayer_mcp.web.pages.timeline import LEFT, Wait, axis, marks
from watch.conftest import Office
from web.conftest import Pages, hidden

pytestmark = pytest.mark.anyio

NASTY = "<script>alert(1)</script>\" onload='x' \u202e\u200b\x1b]0;owned\x07"
RUN = "aa" * 16


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Pages]:
    """Pages over the sample trace."""
    sample(tmp_path / "state").db.close()
    made = Pages(tmp_path / "state")
    await made.sign_in()
    yield made
    await made.close()


async def test_steps_are_listed_newest_first_and_a_filter_narrows_them(record: Pages) -> None:
    page = (await record.get("/")).text
    names = re.findall(r'class="id"><a href="[^"]*/steps/([0-9a-f]{32}\.\d+)"', page)
    assert names == [f"{D3B1}.1", *(f"{D3A0}.{no}" for no in range(8, 0, -1))]
    denied = (await record.get("/?q=effect:deny")).text
    assert re.findall(r"/steps/[0-9a-f]{32}\.(\d+)", denied) == ["2"]
    assert 'value="effect:deny"' in denied
    wrong = (await record.get("/?q=nope:x")).text
    assert ("unknown key" in wrong, "<table" in wrong) == (True, False)


async def test_earlier_steps_follow_without_a_gap(tmp_path: Path) -> None:
    made = seed(tmp_path / "state")
    made.run(RUN)
    for _ in range(205):
        made.step(RUN)
    made.db.close()
    pages = Pages(tmp_path / "state")
    await pages.sign_in()
    seen: list[int] = []
    query = ""
    for _ in range(3):
        page = (await pages.get(f"/{query}")).text
        seen += [int(no) for no in re.findall(rf"/steps/{RUN}\.(\d+)", page)]
        query = "?before=" + "".join(re.findall(r'name="before" value="([^"]*)"', page))
    assert seen == list(range(205, 0, -1))
    assert query == "?before="  # There are no earlier ones.
    assert (await pages.get("/?before=nonsense")).status_code == 200
    await pages.close()


async def test_a_run_is_shown_with_its_picture_and_every_step_leads_to_its_page(record: Pages) -> None:
    listed = (await record.get("/runs")).text
    assert re.findall(r"/runs/([0-9a-f]{32})", listed) == [D3B1, D3A0]
    page = (await record.get(f"/runs/{D3A0}")).text
    svg = re.findall(r"<svg.*</svg>", page)[0]
    lanes = re.findall(r'class="server">([^<]*)<', svg)
    assert lanes == ["files", "k8s", "bank", "ci", "shell"]
    bars = re.findall(
        rf'<a href="{record.access.base}/steps/{D3A0}\.(\d+)"><title>([^<]*)</title><rect[^>]*class="bar (\w+)"', svg
    )
    assert [(no, kind) for no, _, kind in bars] == [
        ("1", "good"),
        ("2", "held"),
        ("3", "good"),
        ("4", "bad"),
        ("5", "odd"),
        ("6", "bad"),
        ("7", "good"),
        ("8", "flight"),
    ]
    assert bars[3][1].startswith("d3a0.4 k8s.deploy: allow, verification_failed")
    for no in range(1, 9):
        step = await record.get(f"/steps/{D3A0}.{no}")
        assert (step.status_code, f"d3a0.{no}" in step.text) == (200, True)
    for path in (f"/runs/{'00' * 16}", f"/steps/{D3A0}.99", "/runs/x", "/steps/x", f"/steps/{D3A0}.1.1"):
        assert (await record.get(path)).status_code == 404, path


async def test_a_step_tells_what_the_terminal_tells(record: Pages) -> None:
    page = html.unescape((await record.get(f"/steps/{D3A0}.2")).text)
    told = re.sub(r"<[^>]+>", " ", page)
    for words in ("keys-stay-here", "../.ssh/id_ed25519", "policy_denied", "the agent read: Denied by policy rule"):
        assert words in told
    assert "<dt>decided</dt>" in page


async def test_every_field_of_the_record_stays_text(tmp_path: Path) -> None:
    made = seed(tmp_path / "state")
    made.run(RUN, principal=NASTY, host=NASTY, intent=NASTY, workspace=NASTY)
    made.step(
        RUN,
        f"{NASTY}.{NASTY}",
        rule=NASTY,
        outcome="failed",
        failure="policy_denied",
        reason="rule_denied",
        acted="no",
        said=NASTY,
        args=json.dumps({NASTY: NASTY}),
        does=NASTY,
        rule_text=NASTY,
        findings=((NASTY, "kept", NASTY),),
    )
    made.db.execute("UPDATE runs SET why = ?, state = ?", (NASTY, "stopped"))
    made.db.commit()
    made.db.close()
    pages = Pages(tmp_path / "state")
    await pages.sign_in()
    for path in ("/", "/runs", f"/runs/{RUN}", f"/steps/{RUN}.1", f"/?q={RUN}", "/?q=<script>alert(1)</script>"):
        answer = await pages.get(path)
        page = answer.text
        assert answer.status_code == 200, path
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page or path.startswith("/?q=aa")
        assert not set(page) & set("\u202e\u200b\x1b\x07")
        assert not re.search(r"<[^>]* onload=", page)
        assert set(re.findall(r"<([a-zA-Z0-9]+)", page)) <= TAGS
    await pages.close()


async def test_a_person_pauses_resumes_and_stops_a_run_and_nobody_without_its_form(
    office: Office, pages: Pages
) -> None:
    run = str(office.run)
    page = (await pages.get(f"/runs/{run}")).text
    form = hidden(page)["form"]
    assert ('value="paused"' in page, 'value="open"' in page, 'value="stopped"' in page) == (True, False, True)
    assert (await pages.post(f"/runs/{run}/state", {"to": "paused"})).status_code == 403
    assert (await pages.get(f"/runs/{run}/state?to=paused")).status_code == 405

    async def state() -> str:
        return re.findall(r"<dt>state</dt><dd><span[^>]*>(\w+)<", (await pages.get(f"/runs/{run}")).text)[0]

    assert await state() == RunState.OPEN
    for to in (RunState.PAUSED, RunState.OPEN, RunState.STOPPED):
        assert (await pages.post(f"/runs/{run}/state", {"to": to, "form": form})).status_code == 303
        assert await state() == to
    ended = await pages.post(f"/runs/{run}/state", {"to": "open", "form": form})
    assert ended.status_code == 503
    assert await state() == RunState.STOPPED
    for to in ("completed", "", "x"):
        assert (await pages.post(f"/runs/{run}/state", {"to": to, "form": form})).status_code == 404


def entry(kind: str, at_us: int, no: int | None = None, **fields: Json) -> EntryRow:
    return EntryRow(pos=0, writer="", seq=0, at_us=at_us, kind=kind, run=RUN, no=no, leaf=b"", body="", fields=fields)


def test_marks_of_a_picture_come_from_the_record() -> None:
    told = marks(
        RUN,
        [
            entry("step.intent", 10, 1),
            entry("step.outcome", 20, 1),
            entry("approval.asked", 30, approval="a"),
            entry("step.asked", 31, 2, approval="a"),
            entry("approval.answered", 70, approval="a"),
            entry("evidence.gathered", 80, 3, evidence="e", **{"from": {"step": f"{RUN}.1"}}),
            entry("evidence.gathered", 80, 3, evidence="f", **{"from": {"step": f"{'bb' * 16}.1"}}),
            entry("step.intent", 80, 3, approval="a", cites=["e", "f", "gone"]),
            entry("approval.asked", 90, approval="b"),
            entry("step.asked", 91, 4, approval="b"),
        ],
    )
    assert (told.intents, told.ends) == ({1: 10, 3: 80}, {1: 20, 2: 31, 4: 91})
    assert told.arrows == [(1, 3)]
    assert told.waits == [Wait(no=2, begin_us=30, end_us=70), Wait(no=4, begin_us=90, end_us=None)]


@given(st.lists(st.integers(0, 2**52), max_size=40))
def test_moments_lie_in_their_order_and_apart(times: list[int]) -> None:
    at = axis(times)
    placed = [at[time] for time in sorted(set(times))]
    assert all(later - earlier >= 10 for earlier, later in pairwise(placed))
    assert not placed or placed[0] == LEFT
