"""A host that opens pages is asked to open the one of a question; that it did so is no yes. On the real command."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from asks.test_answering_at_a_terminal import Ended
from asks.test_asking_a_host import ASKING, SCRIPT, answer, send
from fidelity.rig import Rig, at, step
from soothsayer_mcp.adapters.faces import ALIVE_S, Face, Pages, open_pages
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.testing.hosts import STATELESS_META
from soothsayer_mcp.testing.servers import wait_until
from soothsayer_mcp.wire import eras

OFFERS: JsonObject = {"elicitation": {"url": {}}}
META: JsonObject = {**STATELESS_META, eras.META_CLIENT_CAPABILITIES: OFFERS}
ADDRESS = "http://127.0.0.1:4599/path"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A proxy beside a `ui` that runs, with no page open."""
    pages = Pages(tmp_path / "state", ADDRESS)
    pages.beat()
    with Rig(tmp_path, SCRIPT, policy=ASKING) as made:
        yield made
    pages.close()


def invited(rig: Rig) -> JsonObject:
    return cast("JsonObject", json.loads(rig.host.message("elicitation/create")))


def respond(rig: Rig, asked: JsonObject, action: str) -> None:
    rig.host.send({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": action}})
    rig.host.answer(rig.host.ask("ping"))


def approve(rig: Rig, ask: str) -> None:
    (shown,) = json.loads(Ended(rig.folder, "asks", ask, "--json").out)["asks"]
    assert Ended(rig.folder, "approve", ask, "--digest", str(shown["digest"])).code == 0


@pytest.mark.parametrize("offers", [OFFERS, {"elicitation": {"form": {}, "url": {}}}], ids=["url", "both"])
def test_agreeing_to_open_the_page_is_no_yes_and_the_call_waits_for_one(rig: Rig, offers: JsonObject) -> None:
    rig.host.initialize(capabilities=offers)
    name = send(rig, to="ann", note="x" * 7_000)  # Too long for a form.
    asked = invited(rig)
    params = cast("JsonObject", asked["params"])
    ask = str(params["elicitationId"])
    assert (params["mode"], params["url"]) == ("url", f"{ADDRESS}/asks/{ask}")
    assert "ann" not in str(params["message"])
    respond(rig, asked, "accept")
    assert (rig.record.calls(), rig.entries("approval.answered")) == ([], [])
    assert rig.entries("approval.asked")[0]["channels"] == ["page"]
    approve(rig, ask)
    assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
    done = json.loads(rig.host.message("notifications/elicitation/complete"))
    assert at(done, "params") == {"elicitationId": ask}


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_page_that_is_not_opened_leaves_nothing_open_where_nobody_else_is_told(rig: Rig, action: str) -> None:
    rig.host.initialize(capabilities=OFFERS)
    name = send(rig, to="ann")
    respond(rig, invited(rig), action)
    assert step(answer(rig, name))["reason"] == "nobody_to_ask"
    assert [entry["answer"] for entry in rig.entries("approval.answered")] == ["withdrawn"]
    assert rig.record.calls() == []


def test_a_strong_question_may_be_shown_on_a_page_and_a_host_settles_none(rig: Rig) -> None:
    rig.host.initialize(capabilities={"elicitation": {"form": {}, "url": {}}})
    name = rig.host.ask("tools/call", {"name": "pay", "arguments": {}})
    asked = invited(rig)
    assert at(asked, "params", "mode") == "url"
    rig.host.send({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "content": {"answer": "yes"}}})
    rig.host.answer(rig.host.ask("ping"))
    assert rig.record.calls() == []
    ask = str(at(asked, "params", "elicitationId"))
    (shown,) = json.loads(Ended(rig.folder, "asks", ask, "--json").out)["asks"]
    assert Ended(rig.folder, "deny", ask, "--digest", str(shown["digest"])).code == 0
    assert step(answer(rig, name))["reason"] == "declined"
    assert rig.record.calls() == []


def test_without_a_ui_that_runs_no_page_is_opened(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=ASKING) as rig:
        rig.host.initialize(capabilities=OFFERS)
        assert step(rig.host.call("send"))["reason"] == "nobody_to_ask"
        assert rig.entries("approval.asked") == []


def test_in_the_stateless_era_the_state_says_that_a_page_was_opened_and_nothing_more(rig: Rig) -> None:
    def called(**more: Json) -> JsonObject:
        params: JsonObject = {"name": "send", "arguments": {"to": "ann"}, "_meta": META, **more}
        return rig.host.request("tools/call", params)

    first = called()
    question = cast("JsonObject", at(first, "result", "inputRequests", "soothsayer", "params"))
    assert (question["mode"], set(question)) == ("url", {"mode", "message", "url"})
    ask = str(question["url"]).rpartition("/")[2]
    assert question["url"] == f"{ADDRESS}/asks/{ask}"
    state = cast("Json", at(first, "result", "requestState"))
    opened: JsonObject = {"soothsayer": {"action": "accept", "content": {"answer": "yes"}}}
    name = rig.host.ask(
        "tools/call",
        {"name": "send", "arguments": {"to": "ann"}, "_meta": META, "requestState": state, "inputResponses": opened},
    )
    # Somebody agreed to look: the call waits, and goes on by what is answered there alone.
    rig.host.answer(rig.host.ask("tools/list", {"_meta": META}))
    assert (rig.record.calls(), rig.entries("approval.answered")) == ([], [])
    approve(rig, ask)
    assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
    (reached,) = rig.record.calls()
    assert set(reached) == {"name", "arguments", "_meta"}


def test_where_the_pages_are_is_known_while_they_beat(tmp_path: Path) -> None:
    pages = Pages(tmp_path, ADDRESS)
    assert open_pages(tmp_path) == ""
    pages.beat()
    pages.beat()
    assert open_pages(tmp_path) == ADDRESS
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "pages").iterdir()] == [0o600]
    (file,) = (tmp_path / "pages").iterdir()
    old = file.stat().st_mtime - 2 * ALIVE_S
    os.utime(file, (old, old))
    assert open_pages(tmp_path) == ""
    pages.close()
    assert open_pages(tmp_path) == ""


def test_an_open_page_makes_a_call_wait_though_its_host_opens_none(tmp_path: Path) -> None:
    face = Face(tmp_path / "state", "page")
    face.beat()
    with Rig(tmp_path, SCRIPT, policy=ASKING) as rig:
        rig.host.initialize()
        name = send(rig, to="ann")
        wait_until(lambda: bool(rig.entries("approval.asked")), "a question")
        approve(rig, str(rig.entries("approval.asked")[0]["approval"]))
        assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
    face.close()
