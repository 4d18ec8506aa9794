"""What earlier steps did, on the real command: what is in flight counts, and the last unit is used once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fidelity.rig import Rig, call, step
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, error, tool, wait_path

POLICY = """\
soothsayer: policy/v1
name: past
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {deny: "What was read stays here.", id: stays, tools: raw.post, after: raw.mail}
  - {deny: "A thousand at most.", id: cap, tools: raw.pay,
      history: {sum: args.n, window: 1h, per: principal, above: 1000}}
  - {allow: "Three at most.", id: three, tools: "raw.slow | raw.broken", limit: {calls: 3}}
  - {allow: "Short answers.", id: short, tools: raw.long, limit: {result_bytes: 200}}
"""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    script = Script(
        tools=list(map(tool, ("mail", "post", "pay", "slow", "broken", "long"))),
        on={
            "tool:slow": [wait_path(tmp_path / "go"), {"do": "echo"}],
            "tool:broken": [error('{"code":-32000,"message":"no"}')],
        },
    )
    with Rig(tmp_path, script, policy=POLICY) as one:
        one.host.initialize()
        yield one


def said(rig: Rig, name: str, arguments: str, number: int) -> JsonObject:
    rig.host.send(call(name, arguments, str(number)))
    return json.loads(rig.host.answer(number))


def is_done(answer: JsonObject) -> bool:
    result = answer.get("result")
    return isinstance(result, dict) and result.get("isError") is not True


def test_a_rule_sees_what_the_run_did_before(rig: Rig) -> None:
    assert is_done(said(rig, "post", "{}", 11))
    assert is_done(said(rig, "mail", "{}", 12))
    refused = said(rig, "post", "{}", 13)
    assert step(refused)["reason"] == "rule_denied"
    assert "past/stays" in json.dumps(refused)
    # Sums count this call too; what was refused was not paid.
    answers = [said(rig, "pay", f'{{"n":{amount}}}', 20 + number) for number, amount in enumerate((600, 500, 400, 1))]
    assert [is_done(answer) for answer in answers] == [True, False, True, False]


def test_a_failure_gives_no_attempt_back(rig: Rig) -> None:
    answers = [said(rig, "broken", f'{{"n":{number}}}', 30 + number) for number in range(4)]
    assert ["error" in answer for answer in answers] == [True, True, True, False]
    refused = step(answers[3])
    assert (refused["class"], refused["reason"]) == ("timeout_or_budget_exceeded", "budget_spent")
    assert len(rig.record.calls()) == 3


def test_calls_in_flight_of_two_proxies_do_not_share_the_last_unit(rig: Rig) -> None:
    with RawHost(rig.command, cwd=rig.folder) as other:
        other.initialize()
        for host, numbers in ((rig.host, range(40, 44)), (other, range(50, 54))):
            for number in numbers:
                host.send(call("slow", f'{{"n":{number}}}', str(number)))
        refused = 0
        (rig.folder / "go").touch()
        for host, numbers in ((rig.host, range(40, 44)), (other, range(50, 54))):
            for number in numbers:
                refused += not is_done(json.loads(host.answer(number)))
    assert refused == 5


def test_an_answer_over_its_size_is_stored_and_not_shown(rig: Rig) -> None:
    assert is_done(said(rig, "long", '{"x":"short"}', 61))
    big = said(rig, "long", json.dumps({"x": "y" * 500}), 62)
    assert step(big)["reason"] == "result_too_big"
    assert "yyy" not in json.dumps(big)
