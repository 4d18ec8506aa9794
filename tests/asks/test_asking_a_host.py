"""A person is asked about a call, by a form in the host or by a state that the host carries; on the real command."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fidelity.rig import Rig, at, step
from placing import put
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.testing.hosts import STATELESS_META
from soothsayer_mcp.testing.servers import Script, result, tool, wait_until
from soothsayer_mcp.wire import eras

ASKING = """\
soothsayer: policy/v1
name: asking
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {ask: "A person looks first.", id: look, tools: "raw.send"}
  - {ask: "Only one who cannot be imitated.", id: strong, tools: "raw.pay", strong: true}
  - {ask: "Quickly.", id: quick, tools: "raw.quick", expires: 300ms}
"""
OFFERS: JsonObject = {"elicitation": {}}
META: JsonObject = {**STATELESS_META, eras.META_CLIENT_CAPABILITIES: OFFERS}
INPUTS = '{"resultType":"input_required","requestState":"theirs+/=","inputRequests":{"who":{"method":"roots/list"}}}'
SCRIPT = Script(
    tools=[tool("send"), tool("pay"), tool("quick")],
    on={"tool:send": [result('{"content":[{"type":"text","text":"sent"}]}')]},
)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, SCRIPT, policy=ASKING) as made:
        yield made


def opened(rig: Rig) -> Rig:
    rig.host.initialize(capabilities=OFFERS)
    return rig


def question(rig: Rig) -> JsonObject:
    return cast("JsonObject", json.loads(rig.host.message("elicitation/create")))


def respond(rig: Rig, asked: JsonObject, action: str) -> None:
    rig.host.send({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": action, "content": {}}})


def send(rig: Rig, **arguments: Json) -> int:
    return rig.host.ask("tools/call", {"name": "send", "arguments": arguments})


def answer(rig: Rig, name: int) -> JsonObject:
    return cast("JsonObject", json.loads(rig.host.answer(name)))


def stateless(rig: Rig, arguments: JsonObject, name: str = "send", **more: Json) -> JsonObject:
    params: JsonObject = {"name": name, "arguments": arguments, "_meta": META, **more}
    return rig.host.request("tools/call", params)


def accepted(state: object) -> dict[str, Any]:
    return {"requestState": cast("Json", state), "inputResponses": {"soothsayer": {"action": "accept", "content": {}}}}


def test_a_yes_sends_the_call_once_and_the_next_one_is_asked_about_again(rig: Rig) -> None:
    opened(rig)
    name = send(rig, to="ann")
    asked = question(rig)
    assert rig.record.calls() == []
    shown = str(at(asked, "params", "message"))
    assert 'to  "ann"' in shown
    assert "asking/look: A person looks first." in shown
    respond(rig, asked, "accept")
    assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
    again = send(rig, to="ann")
    respond(rig, question(rig), "decline")
    assert step(answer(rig, again))["reason"] == "declined"
    assert len(rig.record.calls()) == 1
    assert [entry["answer"] for entry in rig.entries("approval.answered")] == ["yes", "no"]
    assert [entry.get("approval") for entry in rig.entries("step.intent")] == [
        rig.entries("approval.asked")[0]["approval"]
    ]


def test_a_no_holds_for_the_rest_of_the_run(rig: Rig) -> None:
    opened(rig)
    name = send(rig, to="bob")
    respond(rig, question(rig), "decline")
    first = step(answer(rig, name))
    said = answer(rig, send(rig, to="bob"))
    assert (first["reason"], step(said)["reason"]) == ("declined", "declined")
    assert not any(b"elicitation/create" in line for line in rig.host.aside)
    assert rig.entries("step.refused")[-1]["continues"].endswith(".1")  # type: ignore[union-attr]  # a text
    assert rig.record.calls() == []


@pytest.mark.parametrize("offers", [{}, {"elicitation": {"url": {}}}])
def test_without_a_way_to_a_person_the_call_is_denied_and_says_so(rig: Rig, offers: JsonObject) -> None:
    rig.host.initialize(capabilities=offers)
    said = rig.host.call("send")
    assert step(said)["reason"] == "nobody_to_ask"
    assert rig.entries("approval.asked") == []
    assert rig.record.calls() == []


@pytest.mark.pitfall("P-ASK-09")
def test_a_form_put_away_with_nobody_else_to_ask_is_no_yes_and_leaves_nothing_open(rig: Rig) -> None:
    opened(rig)
    name = send(rig)
    respond(rig, question(rig), "cancel")
    assert step(answer(rig, name))["reason"] == "nobody_to_ask"
    assert [entry["answer"] for entry in rig.entries("approval.answered")] == ["withdrawn"]
    assert rig.record.calls() == []


@pytest.mark.parametrize("strange", [{"action": "yes"}, {}, {"action": ["accept"]}])
def test_what_is_no_answer_of_the_form_decides_nothing(rig: Rig, strange: JsonObject) -> None:
    opened(rig)
    name = send(rig)
    rig.host.send({"jsonrpc": "2.0", "id": question(rig)["id"], "result": strange})
    assert step(answer(rig, name))["reason"] == "nobody_to_ask"
    assert rig.record.calls() == []


@pytest.mark.pitfall("P-ASK-02")
def test_a_strong_ask_is_never_put_to_a_host(rig: Rig) -> None:
    opened(rig)
    assert step(rig.host.call("pay"))["reason"] == "nobody_to_ask"
    said = stateless(rig, {}, "pay")
    assert step(said)["reason"] == "nobody_to_ask"
    assert rig.entries("approval.asked") == []
    assert rig.record.calls() == []


def test_a_question_that_nobody_answers_expires(rig: Rig) -> None:
    opened(rig)
    name = rig.host.ask("tools/call", {"name": "quick", "arguments": {}})
    asked = question(rig)
    assert step(answer(rig, name))["reason"] == "approval_expired"
    assert at(json.loads(rig.host.message("notifications/cancelled")), "params", "requestId") == asked["id"]
    respond(rig, asked, "accept")
    rig.host.answer(rig.host.ask("ping"))
    assert rig.record.calls() == []


def test_a_call_that_its_host_gives_up_withdraws_its_question(rig: Rig) -> None:
    opened(rig)
    name = send(rig)
    asked = question(rig)
    rig.host.notify("notifications/cancelled", {"requestId": name})
    assert at(json.loads(rig.host.message("notifications/cancelled")), "params", "requestId") == asked["id"]
    wait_until(lambda: bool(rig.entries("approval.answered")), "the end of the question")
    assert rig.entries("approval.answered")[0]["answer"] == "withdrawn"
    respond(rig, asked, "accept")
    rig.host.answer(rig.host.ask("ping"))
    assert rig.record.calls() == []


@pytest.mark.pitfall("P-ASK-01")
@pytest.mark.parametrize("change", ["another rule asks", "a deny", "a word"])
def test_a_policy_that_changed_while_a_person_thought_voids_the_yes(rig: Rig, change: str) -> None:
    opened(rig)
    name = send(rig, to="ann")
    asked = question(rig)
    changed = {
        "another rule asks": ASKING + '  - {ask: "Second thoughts.", tools: "raw.s*"}\n',
        "a deny": ASKING + '  - {deny: "Not any more.", tools: "raw.send", args: {to: ann}}\n',
        "a word": ASKING.replace("looks first", "looks at it first"),
    }[change]
    put(rig.folder / "policy.yaml", changed)
    wait_until(lambda: "loaded again" in rig.host.stderr, "the changed policy")
    respond(rig, asked, "accept")
    assert step(answer(rig, name))["reason"] == "state_changed"
    assert rig.record.calls() == []


def test_a_stateless_host_carries_the_question_and_the_server_sees_nothing_of_it(rig: Rig) -> None:
    first = stateless(rig, {"to": "ann", "n": 1})
    assert at(first, "result", "resultType") == "input_required"
    asked = at(first, "result", "inputRequests", "soothsayer")
    assert at(asked, "method") == "elicitation/create"
    assert rig.record.calls() == []
    # Another order of keys is the same call.
    said = stateless(rig, {"n": 1, "to": "ann"}, **accepted(at(first, "result", "requestState")))
    assert at(said, "result", "content", 0, "text") == "sent"
    (reached,) = rig.record.calls()
    assert set(reached) == {"name", "arguments", "_meta"}
    assert rig.entries("step.intent")[0]["continues"].endswith(".1")  # type: ignore[union-attr]  # a text


@pytest.mark.pitfall("P-ASK-06")
def test_a_carried_yes_serves_once(rig: Rig) -> None:
    state = at(stateless(rig, {}), "result", "requestState")
    assert at(stateless(rig, {}, **accepted(state)), "result", "content", 0, "text") == "sent"
    said = stateless(rig, {}, **accepted(state))
    assert at(said, "result", "resultType") == "input_required"
    assert at(said, "result", "requestState") != state
    assert len(rig.record.calls()) == 1


@pytest.mark.pitfall("P-ASK-04")
@pytest.mark.parametrize("other", [{"to": "eve"}, {"to": "ann", "cc": "eve"}, {"to": ["ann"]}, {}])
def test_a_carried_yes_covers_no_other_arguments(rig: Rig, other: JsonObject) -> None:
    state = at(stateless(rig, {"to": "ann"}), "result", "requestState")
    said = stateless(rig, other, **accepted(state))
    assert at(said, "result", "resultType") == "input_required"
    assert rig.record.calls() == []


@pytest.mark.parametrize(("action", "reason"), [("decline", "declined"), ("cancel", "nobody_to_ask")])
def test_a_carried_no_ends_the_call(rig: Rig, action: str, reason: str) -> None:
    state = at(stateless(rig, {}), "result", "requestState")
    said = stateless(rig, {}, requestState=cast("Json", state), inputResponses={"soothsayer": {"action": action}})
    assert step(said)["reason"] == reason
    assert rig.record.calls() == []


def test_no_forged_state_is_taken(rig: Rig) -> None:
    state = str(at(stateless(rig, {}), "result", "requestState"))
    head, _, sealed = state.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    forged = [f"{head}.", head, f"{state}=", f"{state}A", state.replace(".k1.", ".k2."), "soothsayer.", f"{state}\n"]
    for place in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[place] ^= 1
        forged.append(f"{head}.{base64.urlsafe_b64encode(changed).decode().rstrip('=')}")
    for text in forged:
        said = stateless(rig, {}, **accepted(text))
        assert at(said, "error", "code") == -32602, text
    assert rig.record.calls() == []


def test_a_state_of_another_run_is_none_of_this_one(rig: Rig) -> None:
    state = at(stateless(rig, {}), "result", "requestState")
    meta = {**META, eras.META_CLIENT_INFO: {"name": "other", "version": "1"}}
    params: JsonObject = {"name": "send", "arguments": {}, "_meta": meta, **accepted(state)}
    assert at(rig.host.request("tools/call", params), "error", "code") == -32602
    assert rig.record.calls() == []


@pytest.mark.pitfall("P-ASK-11")
def test_a_server_that_asks_after_the_yes_is_answered_without_a_second_question_of_ours(tmp_path: Path) -> None:
    script = Script(tools=[tool("send")], on={"tool:send": [result(INPUTS)]})
    with Rig(tmp_path, script, policy=ASKING) as rig:
        ours = at(stateless(rig, {}), "result", "requestState")
        theirs = stateless(rig, {}, **accepted(ours))
        assert at(theirs, "result", "inputRequests") == {"who": {"method": "roots/list"}}
        carried = str(at(theirs, "result", "requestState"))
        assert carried.startswith("soothsayer.1.")
        roots: Json = {"who": {"roots": []}}
        again = stateless(rig, {}, requestState=carried, inputResponses=roots)
        assert str(at(again, "result", "requestState")).startswith("soothsayer.1.")
        first, second = rig.record.calls()
        assert "requestState" not in first
        assert (second["requestState"], second["inputResponses"]) == ("theirs+/=", roots)
        # Taken once: the same state again is a call like any other, and is asked about.
        spent = stateless(rig, {}, requestState=carried, inputResponses=roots)
        assert step(spent)["reason"] == "consumed"
        assert len(rig.record.calls()) == 2


def test_what_policy_refuses_of_a_servers_questions_is_answered_after_the_yes_too(tmp_path: Path) -> None:
    form = '{"method":"elicitation/create","params":{"message":"Which?","requestedSchema":{}}}'
    asks = f'{{"resultType":"input_required","inputRequests":{{"who":{{"method":"roots/list"}},"which":{form}}}}}'
    script = Script(tools=[tool("send")], on={"tool:send": [result(asks)]})
    policy = f'{ASKING}  - {{deny: "It sees no folders.", id: roots, tools: "raw.@roots/list"}}\n'
    with Rig(tmp_path, script, policy=policy) as rig:
        ours = at(stateless(rig, {}), "result", "requestState")
        theirs = stateless(rig, {}, **accepted(ours))
        assert at(theirs, "result", "inputRequests") == {"which": json.loads(form)}
        chosen: JsonObject = {"which": {"action": "accept", "content": {}}}
        stateless(rig, {}, requestState=cast("Json", at(theirs, "result", "requestState")), inputResponses=chosen)
        first, second = rig.record.calls()
        assert "inputResponses" not in first
        assert second["inputResponses"] == {**chosen, "who": {"roots": []}}
        assert "requestState" not in second
        refused = [entry for entry in rig.entries("message.checked") if entry["method"] == "roots/list"]
        assert {str(entry["effect"]) for entry in refused} == {"deny"}


def test_a_servers_own_state_waits_inside_ours(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=ASKING) as rig:
        roots: Json = {"who": {"roots": []}}
        first = stateless(rig, {}, requestState="theirs", inputResponses=roots)
        stateless(rig, {}, **accepted(at(first, "result", "requestState")))
        (reached,) = rig.record.calls()
        assert (reached["requestState"], reached["inputResponses"]) == ("theirs", roots)


@pytest.mark.pitfall("P-ASK-07")
def test_the_form_spells_what_cannot_be_seen(rig: Rig) -> None:
    opened(rig)
    name = send(rig, note="see \u202egnp.exe\u200b")
    asked = question(rig)
    shown = str(at(asked, "params", "message"))
    assert "\\u202egnp.exe\\u200b" in shown
    assert "hidden characters are shown as escapes" in shown
    respond(rig, asked, "decline")
    answer(rig, name)


def test_what_is_too_long_to_be_shown_whole_is_not_put_as_a_form(rig: Rig) -> None:
    opened(rig)
    said = answer(rig, send(rig, note="x" * 7_000))
    assert step(said)["reason"] == "nobody_to_ask"
    assert rig.record.calls() == []


def test_other_messages_are_served_while_a_call_waits_for_a_person(rig: Rig) -> None:
    opened(rig)
    name = send(rig)
    asked = question(rig)
    rig.host.answer(rig.host.ask("ping"))
    assert "tools" in cast("JsonObject", rig.host.request("tools/list")["result"])
    respond(rig, asked, "accept")
    assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
