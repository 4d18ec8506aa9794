"""Rows of protection that must not weaken, of pins and hints, and of side doors, on the real command."""

import json
from pathlib import Path

import pytest

from commands import soothsayer
from fidelity.rig import Rig, at, entries, step
from placing import put
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.testing.servers import Script, die, result, say, tool, wait_until

ASKING = """\
soothsayer: policy/v1
name: asking
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {ask: "A person looks first.", id: look, tools: "raw.send"}
  - {deny: "Never.", id: other, tools: "raw.drop"}
"""


def shown(state: Path, name: str) -> JsonObject:
    """What `soothsayer show` says of a step."""
    done = soothsayer("show", name, "--json", "--state", state)
    found: JsonObject = json.loads(done.out)["step"]
    return found


@pytest.mark.pitfall("P-OPEN-07")
def test_an_ask_holds_through_changes_broken_files_and_restarts(tmp_path: Path) -> None:
    script = Script(tools=[tool("send"), tool("drop")])
    refused: list[str] = []

    def send(rig: Rig) -> None:
        said = step(rig.host.call("send"))
        assert said["reason"] == "nobody_to_ask"
        refused.append(str(said["step"]))

    changed = ASKING.replace("raw.drop", "raw.drop*")
    with Rig(tmp_path, script, policy=ASKING) as rig:
        rig.host.initialize()
        send(rig)
        put(tmp_path / "policy.yaml", changed)
        wait_until(lambda: "loaded again" in rig.host.stderr, "the changed policy")
        send(rig)
        put(tmp_path / "policy.yaml", changed.replace("tools:", "tols:"))
        wait_until(lambda: "the policy before stays in force" in rig.host.stderr, "the broken policy")
        send(rig)
    for _ in range(2):
        with Rig(tmp_path, script, policy=changed) as rig:
            rig.host.initialize()
            send(rig)
    assert script.record(tmp_path).calls() == []
    loaded = [str(entry["policy"]) for entry in entries(tmp_path / "state", "policy.loaded")]
    assert loaded[1:] == [loaded[1]] * 3
    assert loaded[0] != loaded[1]
    in_force = [loaded[0], *[loaded[1]] * 4]
    assert [shown(tmp_path / "state", name)["policy"] for name in refused] == in_force
    assert len(entries(tmp_path / "state", "policy.rejected")) == 1


def test_a_broken_policy_at_the_start_is_no_start(tmp_path: Path) -> None:
    with Rig(tmp_path, policy=ASKING.replace("ask:", "aks:")) as rig:
        assert rig.host.exit_code() == 2
        assert 'did you mean "ask"' in rig.host.stderr
        assert rig.record.methods == []


TWINS: dict[str, JsonObject] = {
    "title": {"title": "Another"},
    "description": {"description": "Another."},
    "input": {"inputSchema": {"type": "object", "properties": {"more": {}}}},
    "output": {"outputSchema": {"type": "object"}},
    "annotations": {"annotations": {"destructiveHint": False}},
    "meta": {"_meta": {"x": 1}},
    "icons": {"icons": [{"src": "data:,"}]},
    "execution": {"execution": {"taskSupport": "required"}},
}
BASE: dict[str, Json] = {
    "title": "One",
    "description": "One.",
    "outputSchema": {"type": "object", "properties": {}},
    "annotations": {"destructiveHint": True},
    "_meta": {"x": 0},
    "icons": [],
    "execution": {"taskSupport": "forbidden"},
}
PINNING = """\
soothsayer: policy/v1
name: pinning
default: {read: allow, other: ask, checked: allow}
pins: {first: trust, new: trust, changed: deny, shadowed: deny}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {allow: "The twins.", id: twins, tools: "raw.twin-*"}
"""


@pytest.mark.pitfall("P-IDENT-05")
def test_a_change_of_any_part_of_a_definition_is_reported_and_a_new_name_is_a_new_tool(tmp_path: Path) -> None:
    before = [tool(f"twin-{name}", **BASE) for name in TWINS]
    after = [tool(f"twin-{name}", **{**BASE, **change}) for name, change in TWINS.items()]
    copy = tool("copy", **BASE)
    on = {f"tool:twin-{name}": [result('{"content":[],"structuredContent":{}}')] for name in TWINS}
    with Rig(tmp_path, Script(on=on, tools=before), policy=PINNING) as rig:
        rig.host.initialize()
        for name in TWINS:
            assert "isError" not in str(rig.host.call(f"twin-{name}"))
    with Rig(tmp_path, Script(on=on, tools=[*after, copy]), policy=PINNING) as rig:
        rig.host.initialize()
        for name in TWINS:
            assert step(rig.host.call(f"twin-{name}"))["reason"] == "definition_changed", name
        assert step(rig.host.call("copy"))["reason"] == "nobody_to_ask"
    reports = rig.entries("definition.changed")
    assert sorted(str(report["tool"]) for report in reports) == ["copy", *sorted(f"twin-{name}" for name in TWINS)]


@pytest.mark.pitfall("P-IDENT-05")
def test_twenty_clean_restarts_report_nothing(tmp_path: Path) -> None:
    script = Script(tools=[tool(f"twin-{name}", **BASE) for name in TWINS])
    with Rig(tmp_path, script, policy=PINNING) as rig:
        rig.host.initialize()
        rig.host.request("tools/list")
    for _ in range(10):
        # Two at a time: it is the same as one after the other, and takes half as long.
        with Rig(tmp_path, script, policy=PINNING) as one, Rig(tmp_path, script, policy=PINNING) as other:
            for started in (one, other):
                started.host.initialize()
                assert len(str(started.host.request("tools/list")["result"])) > 1000
    assert rig.entries("definition.changed") == []
    assert len(rig.entries("definition.pinned")) == len(TWINS)


@pytest.mark.pitfall("P-IDENT-08")
def test_what_a_server_says_of_its_own_tool_allows_nothing_and_replays_nothing(tmp_path: Path) -> None:
    hints: JsonObject = {"readOnlyHint": True, "idempotentHint": True, "destructiveHint": False, "openWorldHint": False}
    script = Script(
        on={"tool:lost": [die(1)]}, tools=[tool("hinting", annotations=hints), tool("lost", annotations=hints)]
    )
    policy = """\
soothsayer: policy/v1
name: reads
default: {read: ask, other: ask, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {allow: "Reads pass.", id: reads, does: read}
  - {allow: "This one as well.", id: lost, tools: "raw.lost"}
"""
    with Rig(tmp_path, script, policy=policy) as rig:
        rig.host.initialize()
        assert step(rig.host.call("hinting"))["reason"] == "nobody_to_ask"
        assert step(rig.host.call("lost"))["reason"] == "connection_lost"
        assert rig.host.request("tools/list")["result"]
        assert [params["name"] for params in rig.record.calls()] == ["lost"]
        assert len(rig.record.pids) == 2


CANARY = "canary-5f3a9c17d2"


@pytest.mark.parametrize("payloads", ["digest", "full"])
def test_a_secret_of_a_call_is_kept_only_where_policy_stores_payloads(payloads: str, tmp_path: Path) -> None:
    """Not on standard error, not in a denial, not in an entry."""
    script = Script(
        on={"tool:tells": [say("a word"), result('{"content":[{"type":"text","text":"' + CANARY + '"}]}')]},
        tools=[tool("tells"), tool("drop"), tool("typed", inputSchema={"type": "object", "required": ["no"]})],
    )
    policy = ASKING + f"trace: {{payloads: {payloads}}}\n"
    with Rig(tmp_path, script, policy=policy, env={"CANARY": CANARY}) as rig:
        rig.host.initialize()
        assert CANARY in str(rig.host.call("tells", {"text": CANARY}))
        for name in ("drop", "typed", "none"):
            answer = rig.host.call(name, {"text": CANARY})
            assert at(answer, "result", "isError") is True
            assert CANARY not in str(answer)
        rig.host.send('{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"drop","a":"%s",}}' % CANARY)  # noqa: UP031 - braces
        assert CANARY.encode() not in rig.host.line()
        rig.host.end_input()
        assert rig.host.exit_code() == 0
        assert CANARY not in rig.host.stderr
    kept = any(CANARY.encode() in path.read_bytes() for path in rig.state.rglob("*") if path.is_file())
    assert kept == (payloads == "full")
    assert CANARY not in json.dumps(rig.entries())
