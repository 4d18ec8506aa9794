"""A person answers at a terminal while the call waits, on the real commands and across processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from asks.test_asking_a_host import ASKING, SCRIPT, answer, opened, question, respond, send
from commands import soothsayer
from fidelity.rig import Rig, at, quickest_s, step
from placing import put
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import wait_until


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Rig]:
    """A proxy with a host that puts no forms, while somebody watches for questions."""
    face = Face(tmp_path / "state", "watch")
    (tmp_path / "state").mkdir(mode=0o700)
    face.beat()
    with Rig(tmp_path, SCRIPT, policy=ASKING) as made:
        made.host.initialize()
        yield made


class Ended:
    """What a command said that nobody of this test's own started."""

    def __init__(self, folder: Path, *words: str) -> None:
        ended = soothsayer(*words, "--state", folder / "state")
        self.code, self.out = ended.code, ended.out + ended.err


def open_asks(rig: Rig) -> list[JsonObject]:
    done = soothsayer("asks", "--json", "--state", rig.state)
    assert done.code == 0, done.err
    return cast("list[JsonObject]", json.loads(done.out)["asks"])


def asked(rig: Rig) -> JsonObject:
    wait_until(lambda: bool(rig.entries("approval.asked")), "a question")
    (ask,) = open_asks(rig)
    return ask


def test_a_yes_at_the_terminal_lets_the_held_call_go_within_a_second(watched: Rig) -> None:
    name = send(watched, to="ann")
    ask = asked(watched)
    assert at(ask, "card", "args") == {"to": "ann"}
    ended = Ended(watched.folder, "approve", str(ask["id"])[:6], "--digest", str(ask["digest"]), "--comment", "fine")
    assert (ended.code, "approved, once" in ended.out) == (0, True), ended.out
    assert at(answer(watched, name), "result", "content", 0, "text") == "sent"
    assert quickest_s(watched.state) < 1.0
    (told,) = watched.entries("approval.answered")
    assert (told["channel"], at(told, "by", "how")) == ("terminal", "terminal")
    assert open_asks(watched) == []


def test_a_card_tells_what_the_last_allowed_call_of_the_tool_had_otherwise(watched: Rig) -> None:
    name = send(watched, to="ann", cc="raj")
    ask = asked(watched)
    assert Ended(watched.folder, "approve", str(ask["id"]), "--digest", str(ask["digest"])).code == 0
    answer(watched, name)
    send(watched, to="bob", cc="raj")
    wait_until(lambda: len(watched.entries("approval.asked")) > 1, "another question")
    card = Ended(watched.folder, "asks").out
    assert "last  allowed" in card
    assert 'to  was "ann"' in card
    assert "cc  was" not in card


def test_where_a_person_let_a_call_go_the_next_one_may_go_too(tmp_path: Path) -> None:
    policy = (
        "soothsayer: policy/v1\nname: known\ndefault: {read: allow, other: allow, checked: allow}\n"
        "arguments: {undeclared: allow, no_schema: allow}\n"
        "labels: [{tools: raw.send, does: send, sinks: [args.to, args.cc]}]\n"
        "rules: [{ask: Who is that?, id: whom, flow: {into: sinks, unless_from: [intent, approved]}}]\n"
    )
    (tmp_path / "state").mkdir(mode=0o700)
    Face(tmp_path / "state", "watch").beat()
    with Rig(tmp_path, SCRIPT, policy=policy) as rig:
        rig.host.initialize()
        name = send(rig, to="ann", cc=["raj"])
        ask = asked(rig)
        assert Ended(rig.folder, "approve", str(ask["id"]), "--digest", str(ask["digest"])).code == 0
        assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
        # Both targets are known now, alone and in another order; the body of the call is not what was approved.
        for arguments in ({"to": "raj"}, {"to": ["ann"], "cc": "raj", "body": "other"}):
            assert at(answer(rig, send(rig, **arguments)), "result", "content", 0, "text") == "sent"
        assert len(rig.entries("approval.asked")) == 1
        send(rig, to="eve")
        wait_until(lambda: len(rig.entries("approval.asked")) > 1, "another question")


def test_a_no_at_the_terminal_is_told_to_the_agent_with_its_reason(watched: Rig) -> None:
    name = send(watched)
    ask = asked(watched)
    ended = Ended(watched.folder, "deny", str(ask["id"]), "--digest", str(ask["digest"]), "--comment", "not today")
    assert ended.code == 0, ended.out
    said = answer(watched, name)
    assert step(said)["reason"] == "declined"
    assert "not today" in str(at(said, "result", "content", 0, "text"))
    assert watched.record.calls() == []


@pytest.mark.pitfall("P-ASK-05")
@pytest.mark.cold
def test_what_descends_from_the_host_answers_nothing(watched: Rig) -> None:
    send(watched)
    ask = asked(watched)
    # This test is the host: a command that it starts is the host's own.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "soothsayer_mcp", "approve", str(ask["id"])),
            *("--digest", str(ask["digest"]), "--state", str(watched.state)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3
    assert "answer from another terminal" in done.stderr
    assert watched.entries("approval.answered") == []


def test_nothing_is_answered_unseen(watched: Rig) -> None:
    send(watched)
    ask = asked(watched)
    name = str(ask["id"])
    assert "needs a person" in Ended(watched.folder, "approve", name).out
    wrong = Ended(watched.folder, "approve", name, "--digest", "00000000")
    assert (wrong.code, "not that of the card" in wrong.out) == (1, True)
    assert "no question" in Ended(watched.folder, "approve", "f" * 16).out
    assert watched.entries("approval.answered") == []


def test_a_strong_question_wants_a_person_at_a_terminal(watched: Rig) -> None:
    watched.host.ask("tools/call", {"name": "pay", "arguments": {}})
    ask = asked(watched)
    assert ask["strong"] is True
    ended = Ended(watched.folder, "approve", str(ask["id"]), "--digest", str(ask["digest"]))
    assert (ended.code, "a person at a terminal" in ended.out) == (3, True)
    assert watched.entries("approval.answered") == []


def test_the_first_answer_wins_and_the_other_is_told(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=ASKING) as rig:
        opened(rig)
        name = send(rig)
        form = question(rig)
        ask = asked(rig)
        assert Ended(tmp_path, "approve", str(ask["id"]), "--digest", str(ask["digest"])).code == 0
        assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
        assert at(json.loads(rig.host.message("notifications/cancelled")), "params", "requestId") == form["id"]
        respond(rig, form, "decline")
        late = Ended(tmp_path, "deny", str(ask["id"]))
        assert (late.code, "already decided: yes" in late.out) == (1, True), late.out
        assert len(rig.entries("approval.answered")) == 1


def test_an_identical_call_after_the_yes_goes_on_and_names_the_step_that_asked(tmp_path: Path) -> None:
    config = tmp_path / "soothsayer.yaml"
    server = SCRIPT.command(tmp_path)
    config.write_text(
        json.dumps(
            {
                "soothsayer": "config/v1",
                "asks": {"hold": "100ms"},
                "policy": ["policy.yaml"],
                "mcpServers": {"raw": {"command": server[0], "args": server[1:]}},
            }
        ),
        encoding="utf-8",
    )
    (tmp_path / "state").mkdir(mode=0o700)
    Face(tmp_path / "state", "watch").beat()
    with Rig(tmp_path, SCRIPT, policy=ASKING, config=config) as rig:
        rig.host.initialize()
        first = step(answer(rig, send(rig)))
        assert first["reason"] == "approval_pending"
        again = step(answer(rig, send(rig)))
        assert again["reason"] == "approval_pending"
        ask = asked(rig)  # One question for both calls.
        assert Ended(tmp_path, "approve", str(ask["id"]), "--digest", str(ask["digest"])).code == 0
        assert at(answer(rig, send(rig)), "result", "content", 0, "text") == "sent"
        (intent,) = rig.entries("step.intent")
        assert str(intent["continues"]).endswith(".1")
        assert step(answer(rig, send(rig)))["reason"] == "approval_pending"
        assert len(rig.record.calls()) == 1


def test_a_yes_is_not_there_again_after_the_proxy_was_killed_behind_it(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=ASKING) as rig:
        opened(rig)
        name = send(rig)
        respond(rig, question(rig), "accept")
        answer(rig, name)
        os.kill(rig.host.pid, 9)
    with Rig(tmp_path, SCRIPT, policy=ASKING) as rig:
        opened(rig)
        name = send(rig)
        respond(rig, question(rig), "decline")
        assert step(answer(rig, name))["reason"] == "declined"
    assert len(SCRIPT.record(tmp_path).calls()) == 1


@pytest.mark.pitfall("P-ASK-03")
def test_with_no_input_nobody_is_asked(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=ASKING, words=["--no-input"]) as rig:
        opened(rig)
        assert step(answer(rig, send(rig)))["reason"] == "nobody_to_ask"
        assert rig.record.calls() == []
        assert rig.entries("approval.asked") == []


REMEMBERING = ASKING.replace(
    "rules:\n", "labels:\n  - {tools: raw.send, does: write}\n  - {tools: raw.pay, does: pay}\nrules:\n"
)


@pytest.mark.pitfall("P-ASK-12")
def test_an_answer_for_the_run_covers_what_was_shown_until_it_is_taken_back(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=REMEMBERING) as rig:
        opened(rig)
        name = send(rig, path="/srv/work/a.txt", n=1)
        ask = asked(rig)
        words = ("approve", str(ask["id"]), "--digest", str(ask["digest"]), "--for", "run")
        ended = Ended(tmp_path, *words)
        assert (ended.code, "calls of this shape" in ended.out) == (0, True), ended.out
        assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
        (told,) = rig.entries("approval.answered")
        assert (told["scope"], told["shape"]) == ("run", {"n": {"is": 1}, "path": {"under": "/srv/work"}})
        # Of the same shape: goes on, and leaves no question.
        assert at(answer(rig, send(rig, path="/srv/work/deep/b.txt", n=1)), "result", "content", 0, "text") == "sent"
        question(rig)  # The form of the first call, which was answered elsewhere.
        other: list[JsonObject] = [
            {"path": "/srv/work/../etc/passwd", "n": 1},
            {"path": "/srv/workshop/a.txt", "n": 1},
            {"path": "/srv/work/a.txt", "n": 2},
            {"path": "/srv/work/a.txt", "n": 1, "more": True},
            {"path": "/srv/work/a.txt"},
        ]
        for arguments in other:
            name = send(rig, **arguments)
            respond(rig, question(rig), "decline")
            assert step(answer(rig, name))["reason"] == "declined", arguments
        assert Ended(tmp_path, "revoke", str(ask["id"])[:6]).code == 0
        name = send(rig, path="/srv/work/c.txt", n=1)
        respond(rig, question(rig), "decline")
        assert step(answer(rig, name))["reason"] == "declined"
        assert len(rig.record.calls()) == 2
        assert [entry["approval"] for entry in rig.entries("grant.revoked")] == [ask["id"]]


def test_an_answer_for_the_run_ends_when_the_policy_changes(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=REMEMBERING) as rig:
        opened(rig)
        name = send(rig)
        ask = asked(rig)
        assert Ended(tmp_path, "approve", str(ask["id"]), "--digest", str(ask["digest"]), "--for", "run").code == 0
        answer(rig, name)
        question(rig)
        changed = REMEMBERING.replace("looks first", "looks at it first")
        put(tmp_path / "policy.yaml", changed)
        wait_until(lambda: "loaded again" in rig.host.stderr, "the changed policy")
        name = send(rig)
        respond(rig, question(rig), "decline")
        assert step(answer(rig, name))["reason"] == "declined"
        assert len(rig.record.calls()) == 1


def test_what_cannot_be_taken_back_is_never_remembered(watched: Rig) -> None:
    watched.host.ask("tools/call", {"name": "pay", "arguments": {}})
    ask = asked(watched)
    ended = Ended(watched.folder, "approve", str(ask["id"]), "--digest", str(ask["digest"]), "--for", "run")
    assert (ended.code, "wants every call looked at" in ended.out) == (1, True), ended.out
    assert watched.entries("approval.answered") == []


@pytest.mark.parametrize("end", ["stop", "complete"])
def test_a_run_that_ends_takes_its_questions_with_it(watched: Rig, end: str) -> None:
    name = send(watched)
    ask = asked(watched)
    words = [end, *(["--failed"] if end == "complete" else [])]
    done = soothsayer("run", *words, str(ask["run"]), "--state", watched.state)
    assert done.code == 0, done.err
    assert step(answer(watched, name))["reason"] == "run_closed"
    assert open_asks(watched) == []
    assert watched.entries("approval.answered")[0]["answer"] == "withdrawn"
    assert watched.record.calls() == []
