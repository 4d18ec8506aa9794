"""Calls of one shape that wait are one card, and one command answers all or some of them, each for itself."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from asks.test_always import POLICY, configured, typed
from asks.test_answering_at_a_terminal import Ended
from asks.test_asking_a_host import ASKING, SCRIPT, answer, send
from commands import soothsayer
from fidelity.rig import Rig, at, step
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.cli.options import Given, settings
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.watch_desk import StateDesk
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import wait_until


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Rig]:
    """A proxy that holds calls, since somebody looks at questions."""
    (tmp_path / "state").mkdir(mode=0o700)
    Face(tmp_path / "state", "watch").beat()
    with Rig(tmp_path, SCRIPT, policy=ASKING) as made:
        made.host.initialize()
        yield made


def held(rig: Rig, *to: str) -> list[int]:
    """Calls of one shape, all of which wait for an answer."""
    Face(rig.state, "watch").beat()
    before = len(rig.entries("approval.asked"))
    names = [send(rig, to=one) for one in to]
    wait_until(lambda: len(rig.entries("approval.asked")) == before + len(to), "the questions")
    return names


def seen(rig: Rig, *ids: str) -> JsonObject:
    done = soothsayer("asks", *ids, "--json", "--state", rig.state)
    assert done.code == 0, done.err
    return cast("JsonObject", json.loads(done.out))


def ids_by_target(shown: JsonObject) -> dict[str, str]:
    asks = cast("list[JsonObject]", shown["asks"])
    return {str(at(ask, "card", "args", "to")): str(ask["id"]) for ask in asks}


def text(said: JsonObject) -> object:
    return at(said, "result", "content", 0, "text")


def test_calls_of_one_shape_are_one_card_that_one_command_answers_in_whole_or_in_part(watched: Rig) -> None:
    ann, bob, cy = held(watched, "ann", "b\u202eob", "cy")
    shown = seen(watched)
    ids = ids_by_target(shown)
    (together,) = cast("list[JsonObject]", shown["together"])
    assert together["asks"] == [ids[to] for to in ("ann", "b\u202eob", "cy")]
    card = Ended(watched.folder, "asks").out
    assert card.count("ASK ") == 1
    assert "ASK 3 CALLS  raw.send" in card
    assert [line for line in card.splitlines() if line.startswith("args")] == [
        'args  to  "ann"',
        'args  to  "b\\u202eob"',
        'args  to  "cy"',
    ]
    assert f"shown {together['digest']}" in card

    # Two of the three: the digits under all three do not answer them, those under the two do.
    some = [ids["ann"][:6], ids["cy"][:6]]
    refused = Ended(watched.folder, "approve", *some, "--digest", str(together["digest"]))
    assert (refused.code, "is not that of a card of these 2" in refused.out) == (1, True), refused.out
    assert watched.entries("approval.answered") == []
    (two,) = cast("list[JsonObject]", seen(watched, *some)["together"])
    ended = Ended(watched.folder, "approve", *reversed(some), "--digest", str(two["digest"]), "--comment", "both")
    assert (ended.code, ended.out.count("approved, once")) == (0, 2), ended.out
    assert [text(answer(watched, name)) for name in (ann, cy)] == ["sent", "sent"]
    told = watched.entries("approval.answered")
    assert {str(entry["approval"]) for entry in told} == {ids["ann"], ids["cy"]}
    assert [(entry["answer"], entry["channel"]) for entry in told] == [("yes", "terminal")] * 2
    assert {str(entry.get("approval")) for entry in watched.entries("step.intent")} == {ids["ann"], ids["cy"]}

    # A yes serves once: the same call again is another question, which the card of before does not cover.
    (again,) = held(watched, "ann")
    ended = Ended(watched.folder, "approve", *ids.values())
    still_open = ids["b\u202eob"][:6]
    assert f"read what is open with soothsayer asks {still_open};" in ended.out
    ended = Ended(watched.folder, "deny", *ids.values(), "--digest", str(together["digest"]), "--comment", "not now")
    assert (ended.code, ended.out.count("already decided"), ended.out.count("denied")) == (1, 2, 1), ended.out
    said = answer(watched, bob)
    assert (step(said)["reason"], "not now" in str(text(said))) == ("declined", True)
    (left,) = cast("list[JsonObject]", seen(watched)["asks"])
    assert left["id"] not in ids.values()
    assert Ended(watched.folder, "approve", str(left["id"]), "--digest", str(left["digest"])).code == 0
    assert text(answer(watched, again)) == "sent"


@pytest.mark.cold
def test_what_is_not_of_one_shape_or_wants_a_person_is_not_answered_together(watched: Rig) -> None:
    held(watched, "ann", "bob")
    for amount in (1, 2):
        watched.host.ask("tools/call", {"name": "pay", "arguments": {"to": "ann", "n": amount}})
    wait_until(lambda: len(watched.entries("approval.asked")) == 4, "the questions")
    shown = seen(watched)
    (together,) = cast("list[JsonObject]", shown["together"])
    sends = [str(name) for name in cast("list[str]", together["asks"])]
    pays = [str(ask["id"]) for ask in cast("list[JsonObject]", shown["asks"]) if ask["id"] not in sends]
    assert (len(sends), len(pays)) == (2, 2)
    folder, digest = watched.folder, str(together["digest"])
    for words, code, why in (
        (("approve", *pays, "--digest", digest), 1, "look at one of them alone"),
        (("deny", sends[0], pays[0], "--digest", digest), 1, "look at one of them alone"),
        (("approve", *sends, "--digest", "00000000"), 1, "is not that of a card"),
        (("approve", *sends), 2, "answering needs a person"),
        (("approve", *sends, "--digest", digest, "--for", "run"), 2, "one question at a time"),
        (("approve", *sends, "--digest", digest, "--as", "ann"), 2, "one question at a time"),
    ):
        ended = Ended(folder, *words)
        assert (ended.code, why in ended.out) == (code, True), ended.out
    own = subprocess.run(
        [sys.executable, "-m", "soothsayer_mcp", "approve", *sends, "--digest", digest, "--state", str(watched.state)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (own.returncode, b"belongs to the host" in own.stderr) == (3, True)
    assert watched.entries("approval.answered") == []


def test_a_person_reads_all_and_says_yes_once_and_after_five_yeses_a_rule_is_proposed(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY, config=configured(tmp_path)) as rig:
        rig.host.initialize()
        names = held(rig, "one", "two", "three", "four")
        ids = ids_by_target(seen(rig))
        assert typed(rig, "n\n", "approve", *ids.values())[0] == 1
        assert rig.entries("approval.answered") == []
        code, out = typed(rig, "y\n", "approve", *ids.values())
        assert (code, out.count("approved, once")) == (0, 4), out
        assert all(f'to  "{to}"' in out for to in ids)
        assert "Allow each of these 4 once?" in out
        assert "yes number" not in out
        assert "less  " not in out
        assert [text(answer(rig, name)) for name in names] == ["sent"] * 4

        # The fifth says what would ask less, and the rule that would be written.
        (name,) = held(rig, "five")
        (fifth,) = cast("list[JsonObject]", seen(rig)["asks"])
        ended = Ended(tmp_path, "approve", str(fifth["id"]), "--digest", str(fifth["digest"]))
        assert ended.code == 0, ended.out
        assert "that was yes number 5 to raw.send under default: an allow rule with a check" in ended.out
        rule = json.loads(ended.out.partition("--for always: ")[2])
        assert (rule["tools"], rule["args"], rule["only_args"]) == ("raw.send", {"to": {"is": "five"}}, True)
        assert text(answer(rig, name)) == "sent"

        # So do two at once, of which the last counts.
        names = held(rig, "six", "seven")
        card = Ended(tmp_path, "asks").out
        assert card.count("less  5 yeses to raw.send under default so far; an allow rule with a check") == 1, card
        assert '"args": {"to": {"is": "six"}}' in card
        desk = StateDesk(Output(settings(Given(values={"state": [str(rig.state)]}), {})))
        on_screen = [desk.card(ask.id) for ask in desk.open_asks()]
        assert [card is not None and card.less is not None and card.yeses for card in on_screen] == [5, 5]
        (two,) = cast("list[JsonObject]", seen(rig)["together"])
        ended = Ended(tmp_path, "approve", *cast("list[str]", two["asks"]), "--digest", str(two["digest"]))
        assert (ended.code, ended.out.count("that was yes number 7")) == (0, 1), ended.out
        assert [text(answer(rig, name)) for name in names] == ["sent"] * 2
