"""A person's yes that a rule needs as evidence, through the real command: to these arguments, once, people last."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from asks.test_answering_at_a_terminal import Ended, asked
from asks.test_asking_a_host import SCRIPT, answer, send
from fidelity.rig import Rig, at, step
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.testing.servers import wait_until

POLICY = """\
soothsayer: policy/v1
name: needed
default: {read: allow, other: deny}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - allow: "Mail goes."
    tools: raw.send
    require: [{human: {when: 'args.to == "all"', binds: args}}]
  - also: "Nothing goes before it was written."
    id: written
    tools: raw.send
    args: {to: {is: all}, cc: {is: early}}
    require: [{step: {tools: "raw.write", do: "write it"}}]
"""


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Rig]:
    face = Face(tmp_path / "state", "watch")
    (tmp_path / "state").mkdir(mode=0o700)
    face.beat()
    with Rig(tmp_path, SCRIPT, policy=POLICY) as made:
        made.host.initialize()
        yield made


def test_a_call_waits_for_the_yes_to_its_own_arguments_and_uses_it_up(watched: Rig) -> None:
    # Where the condition clearly does not hold nobody is asked.
    assert at(answer(watched, send(watched, to="ann")), "result", "content", 0, "text") == "sent"
    # People come last: nobody is asked about what lacks other evidence anyway.
    refused = step(answer(watched, send(watched, to="all", cc="early")))
    assert (refused["class"], refused["reason"]) == ("missing_evidence", "absent")
    assert watched.entries("approval.asked") == []
    name = send(watched, to="all")
    ask = asked(watched)
    assert at(ask, "card", "args") == {"to": "all"}
    ended = Ended(watched.folder, "approve", str(ask["id"]), "--digest", str(ask["digest"]))
    assert ended.code == 0, ended.out
    assert at(answer(watched, name), "result", "content", 0, "text") == "sent"
    intent = watched.entries("step.intent")[-1]
    assert at(intent, "approval") == ask["id"] or str(ask["id"]) in str(intent["approval"])
    # Used up: the same call asks anew.
    send(watched, to="all")
    wait_until(lambda: len(watched.entries("approval.asked")) == 2, "another question")
