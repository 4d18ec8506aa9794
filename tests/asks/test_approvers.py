"""A role of the organisation answers: signed, by keys that policy names, and by nobody else; on the real commands."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from asks.test_answering_at_a_terminal import Ended, asked, open_asks
from asks.test_asking_a_host import SCRIPT, answer, send
from commands import soothsayer
from fidelity.rig import Rig, at, step
from soothsayer_mcp.adapters.approver_keys import ApproverKey, ApproverKeyError, make, read
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.adapters.policy_files.signed import is_signed
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.cli.options import Given, settings
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.watch_desk import StateDesk
from soothsayer_mcp.console.tui.desk import DeskError
from soothsayer_mcp.model.ask import AskState
from soothsayer_mcp.model.json import JsonObject

PASSPHRASE = "correct horse"
ME = account().id.partition(":")[2]
USER = """\
soothsayer: policy/v1
name: asking
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
"""
RULES = """\
rules:
  - {ask: "Two people of security.", id: two, tools: raw.send, approvers: {role: security, count: 2, not: requester}}
  - {ask: "One of them.", id: one, tools: raw.pay, approvers: {role: security}}
"""


class Team(NamedTuple):
    """A proxy below an organisation's policy, and the keys of its people."""

    rig: Rig
    keys: dict[str, ApproverKey]


def organised(folder: Path, keys: dict[str, ApproverKey], *, hold: str = "30s") -> Path:
    def people(*names: str) -> str:
        return json.dumps([{"name": name, "key": keys[name].key} for name in names])

    roles = f"roles: {{security: {people('ann', 'raj', ME)}, release: {people('eve')}}}\n"
    head = USER.replace("name: asking", "name: house\nscope: org")
    (folder / "house.yaml").write_text(head + roles + RULES, encoding="utf-8")
    server = SCRIPT.command(folder)
    config = folder / "soothsayer.yaml"
    document: JsonObject = {
        "soothsayer": "config/v1",
        "asks": {"hold": hold},
        "policy": ["policy.yaml"],
        "organisation": {"policy": "house.yaml"},
        "mcpServers": {"raw": {"command": str(server[0]), "args": [str(word) for word in server[1:]]}},
    }
    config.write_text(json.dumps(document), encoding="utf-8")
    return config


def prepared(folder: Path) -> dict[str, ApproverKey]:
    state = folder / "state"
    state.mkdir(mode=0o700)
    Face(state, "watch").beat()
    (folder / "pass").write_text(PASSPHRASE + "\n", encoding="utf-8")
    (folder / "wrong").write_text("something else\n", encoding="utf-8")
    return {name: make(state, name, PASSPHRASE) for name in ("ann", "raj", "eve", ME)}


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    keys = prepared(tmp_path)
    with Rig(tmp_path, SCRIPT, policy=USER, config=organised(tmp_path, keys)) as rig:
        rig.host.initialize()
        yield Team(rig, keys)


def answered(rig: Rig, verb: str, ask: JsonObject, name: str, *, passphrase: str = "pass") -> Ended:
    words = ("--digest", str(ask["digest"]), "--as", name, "--passphrase-file", str(rig.folder / passphrase))
    return Ended(rig.folder, verb, str(ask["id"])[:6], *words)


def shown(rig: Rig, name: str) -> JsonObject:
    done = soothsayer("show", name, "--json", "--state", rig.state)
    assert done.code == 0, done.err
    return json.loads(done.out)  # type: ignore[no-any-return]  # JSON of ours


@pytest.mark.pitfall("P-ASK-09")
def test_only_the_people_of_the_role_see_and_answer_and_two_of_them_are_needed(team: Team) -> None:
    rig = team.rig
    name = send(rig, to="ann")
    ask = asked(rig)
    # Whoever has no key of the role sees that there is a question, not what it is about, and answers nothing.
    assert "args" not in dict(ask["card"])  # type: ignore[arg-type]  # a mapping
    bare = Ended(rig.folder, "approve", str(ask["id"]), "--digest", str(ask["digest"]))
    assert (bare.code, "the signed answer of security" in bare.out) == (3, True), bare.out
    # An approver of another role finds nothing.
    assert json.loads(Ended(rig.folder, "asks", "--json", "--as", "eve").out)["asks"] == []
    for stranger in ("eve", ME):
        refused = answered(rig, "approve", ask, stranger)
        assert (refused.code, "no question" in refused.out) == (1, True), refused.out
    locked = answered(rig, "approve", ask, "ann", passphrase="wrong")
    assert (locked.code, "does not open" in locked.out) == (3, True), locked.out
    assert rig.entries("approval.answered") == []
    (mine,) = json.loads(Ended(rig.folder, "asks", "--json", "--as", "ann").out)["asks"]
    assert at(mine, "card", "args") == {"to": "ann"}
    # One is not two, and the same one twice is not two either.
    first = answered(rig, "approve", ask, "ann")
    assert (first.code, "1 of security" in first.out) == (0, True), first.out
    again = answered(rig, "approve", ask, "ann")
    assert (again.code, "answered it already" in again.out) == (1, True), again.out
    assert rig.record.calls() == []
    second = answered(rig, "approve", ask, "raj")
    assert (second.code, "approved" in second.out) == (0, True), second.out
    assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
    signed = rig.entries("approval.answered")
    assert [at(entry, "by", "id") for entry in signed] == ["ann", "raj"]
    assert [at(entry, "signed", "key") for entry in signed] == [team.keys["ann"].key, team.keys["raj"].key]
    (intent,) = rig.entries("step.intent")
    assert intent["approval"] == ask["id"]


@pytest.mark.pitfall("P-ASK-09")
def test_an_answer_outlives_the_proxy_and_stands_in_the_record_of_the_step(tmp_path: Path) -> None:
    keys = prepared(tmp_path)
    config = organised(tmp_path, keys, hold="100ms")
    with Rig(tmp_path, SCRIPT, policy=USER, config=config) as rig:
        rig.host.initialize()
        paid = answer(rig, rig.host.ask("tools/call", {"name": "pay", "arguments": {"sum": 3}}))
        assert step(paid)["reason"] == "approval_pending"
        ask = asked(rig)
        assert answered(rig, "approve", ask, "raj").code == 0
    with Rig(tmp_path, SCRIPT, policy=USER, config=config) as rig:
        rig.host.initialize()
        answer(rig, rig.host.ask("tools/call", {"name": "pay", "arguments": {"sum": 3}}))
        assert len(rig.record.calls()) == 1
        (intent,) = rig.entries("step.intent")
        (approval,) = shown(rig, f"{intent['run']}.{intent['no']}")["approvals"]  # type: ignore[misc]  # a list
        (question,) = rig.entries("approval.asked")
        assert approval["approval"] == ask["id"] == intent["approval"]  # type: ignore[index]  # a mapping
        assert (approval["by"], approval["channel"]) == ("raj", "terminal")  # type: ignore[index]  # as above
        assert approval["call"] == question["call"]  # type: ignore[index]  # as above


def test_watch_shows_that_there_is_a_question_and_neither_what_it_is_about_nor_answers_it(team: Team) -> None:
    send(team.rig, to="ann")
    asked(team.rig)
    desk = StateDesk(Output(settings(Given(values={"state": [str(team.rig.state)]}), {})))
    (ask,) = desk.open_asks()
    seen = desk.card(ask.id)
    assert seen is not None
    assert "args" not in ask.card
    assert "args" not in seen.ask.card
    # This test is the host, and whoever is not could not answer either.
    with pytest.raises(DeskError, match="--as NAME"):
        desk.answer(replace(ask, host_pid=0), AskState.YES, "", None)
    desk.leave()
    assert team.rig.entries("approval.answered") == []


def test_one_signed_no_ends_it(team: Team) -> None:
    name = send(team.rig)
    ask = asked(team.rig)
    assert answered(team.rig, "approve", ask, "ann").code == 0
    assert answered(team.rig, "deny", ask, "raj").code == 0
    assert step(answer(team.rig, name))["reason"] == "declined"
    assert open_asks(team.rig) == []
    assert team.rig.record.calls() == []


def test_a_yes_that_was_written_by_hand_sends_nothing(team: Team) -> None:
    name = send(team.rig)
    ask = asked(team.rig)
    assert answered(team.rig, "approve", ask, "ann").code == 0
    (segment,) = team.rig.state.glob("trace-*.db")
    db = sqlite3.connect(segment, timeout=60)
    with db:
        # The signature of one stands for another too, and the row says yes.
        db.execute(
            "INSERT INTO votes SELECT ask, ?, 'raj', answer, at, signature FROM votes WHERE key = ?",
            (team.keys["raj"].key, team.keys["ann"].key),
        )
        db.execute("UPDATE approvals SET state = 'yes', answered_at = asked_at + 1 WHERE id = ?", (ask["id"],))
    db.close()
    assert step(answer(team.rig, name))["reason"] == "signature_invalid"
    assert team.rig.record.calls() == []


def test_a_key_is_made_once_locked_and_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text(PASSPHRASE + "\n", encoding="utf-8")
    words = ("approver", "init", "ann", "--passphrase-file", str(tmp_path / "pass"))
    made = Ended(tmp_path, *words, "--json")
    told = json.loads(made.out)["approver"]
    file = Path(told["file"])
    modes = [path.stat().st_mode & 0o777 for path in (file, file.parent, file.parent.parent)]
    assert (made.code, modes) == (0, [0o600, 0o700, 0o700])
    assert told["key"] in Ended(tmp_path, "approver", "list").out
    kept = file.read_bytes()
    again = Ended(tmp_path, *words)
    assert (again.code, "has a key already" in again.out, file.read_bytes()) == (2, True, kept), again.out
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    bare = Ended(tmp_path, "approver", "init", "raj", "--passphrase-file", str(tmp_path / "empty"))
    assert (bare.code, "without a passphrase" in bare.out) == (2, True), bare.out
    # A public key beside another's private one opens nothing.
    key = read(tmp_path / "state", "ann")
    with pytest.raises(ApproverKeyError, match="does not open"):
        replace(key, key=f"ed25519:{'0' * 64}").sign(PASSPHRASE, b"anything")
    assert is_signed(key.key, key.sign(PASSPHRASE, b"anything"), b"anything")
