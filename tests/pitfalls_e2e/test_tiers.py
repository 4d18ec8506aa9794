"""Model tiers on the real command: chosen by policy, on record, and put into what servers ask of the host's model."""

import json
from pathlib import Path

import pytest

from commands import soothsayer
from fidelity.rig import Rig, at
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import Script, line, result, tool

CONFIG = """\
soothsayer: config/v1
policy: [policy.yaml]
mcpServers: {raw: {command: COMMAND, args: ARGS}}
tiers:
  - {name: small, hints: [haiku, mini], cost: 1, speed: 0.8, intelligence: 0.1}
  - {name: large, hints: opus, intelligence: 1}
"""
POLICY = """\
soothsayer: policy/v1
name: routed
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels: [{tools: raw.look, does: read}, {tools: raw.plan, does: exec}]
risk: [{add: 60, because: "it runs programs", does: exec}]
next:
  tiers:
    - {name: small, because: "Everything can be done by it."}
    - {name: large, because: "Programs are run.", risk: {at_least: 50}}
"""
ASKS = (
    '{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{"messages":[],"maxTokens":9,'
    '"modelPreferences":{"hints":[{"name":"theirs"}]}}}'
)
BARE = '{"jsonrpc":"2.0","id":"s2","method":"sampling/createMessage","params":{"maxTokens":9,"messages":[]}}'
SMALL = {
    "hints": [{"name": "haiku"}, {"name": "mini"}],
    "costPriority": 1.0,
    "speedPriority": 0.8,
    "intelligencePriority": 0.1,
}


def rig(folder: Path, policy: str = POLICY, config: str = CONFIG) -> Rig:
    script = Script(
        tools=[tool("look"), tool("plan"), tool("bare")],
        on={
            "tool:look": [line(ASKS), result('{"content":[]}')],
            "tool:plan": [line(BARE), result('{"content":[]}')],
        },
    )
    command, *args = script.command(folder)
    file = folder / "soothsayer.yaml"
    text = config.replace("COMMAND", json.dumps(str(command))).replace("ARGS", json.dumps(list(map(str, args))))
    file.write_text(text, encoding="utf-8")
    return Rig(folder, script, policy=policy, config=file)


def asked(rig: Rig) -> JsonObject:
    """What the host is asked for its model."""
    return json.loads(rig.host.message("sampling/createMessage"))  # type: ignore[no-any-return]  # a message of MCP


def test_a_server_that_asks_for_the_hosts_model_gets_the_tier_of_its_call(tmp_path: Path) -> None:
    with rig(tmp_path) as one:
        one.host.initialize(capabilities={"sampling": {}})
        one.host.call("look", {})
        first = asked(one)
        assert at(first, "params") == {"messages": [], "maxTokens": 9, "modelPreferences": SMALL}
        one.host.call("plan", {})
        second = asked(one)
        preferences = {"hints": [{"name": "opus"}], "intelligencePriority": 1.0}
        assert at(second, "params") == {"messages": [], "maxTokens": 9, "modelPreferences": preferences}
        intents = one.entries("step.intent")
        assert [entry.get("tier") for entry in intents if entry["cause"] == "agent"] == ["small", "large"]
        checked = [entry for entry in one.entries("message.checked") if entry["method"] == "sampling/createMessage"]
        assert [entry["tier"] for entry in checked] == ["small", "large"]
        name = f"{str(intents[-1]['run'])[:6]}.{intents[-1]['no']}"
        shown = soothsayer("show", name, "--state", one.state)
        assert "model tier for what follows: large" in shown.out


def test_what_only_observes_leaves_the_servers_preferences(tmp_path: Path) -> None:
    with rig(tmp_path, POLICY.replace("name: routed", "name: routed\nmode: observe")) as one:
        one.host.initialize(capabilities={"sampling": {}})
        one.host.call("look", {})
        assert at(asked(one), "params", "modelPreferences") == {"hints": [{"name": "theirs"}]}


@pytest.mark.parametrize(
    ("policy", "config", "wanted"),
    [
        (POLICY.replace("name: large", "name: lagre"), CONFIG, 'no tier "lagre"; its `tiers` say what each means; did'),
        (POLICY, CONFIG.replace("cost: 1,", "cost: 2,"), "a number from 0 to 1 has to stand here"),
        (POLICY, CONFIG.replace("name: large, ", ""), "a tier has a name"),
        (POLICY, CONFIG.replace("name: large", "name: small"), 'two tiers called "small"'),
        (POLICY, CONFIG.replace(", hints: opus, intelligence: 1", ""), "a tier says what it means"),
    ],
)
def test_a_tier_that_is_not_told_right_does_not_start(tmp_path: Path, policy: str, config: str, wanted: str) -> None:
    with rig(tmp_path, policy, config) as one:
        assert one.host.exit_code() == 2
        assert wanted in one.host.stderr
