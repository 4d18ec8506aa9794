"""Who a server is: its command line belongs to it, whatever name stands over it."""

import json
from pathlib import Path
from random import Random

import pytest

from fidelity.rig import Rig, at, call, entries, read
from policy_kit import a_message, judge, policy_from
from policy_kit import step as proposed
from soothsayer_mcp.evidence.approval import call_digest
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.policy.decide import decide_message
from soothsayer_mcp.proxy.resources import Owners
from soothsayer_mcp.testing.servers import Script, result, tool

POLICY = """\
soothsayer: policy/v1
name: moved
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
pins: {changed: ask}
rules: [{ask: "A person sends mail.", id: mail, tools: raw.mail, remember: run}]
"""


def approved(rig: Rig, number: int) -> str:
    """Call under a number, say yes to the question that comes, and give the question."""
    rig.host.send(call("mail", '{"to":"ada"}', str(number)))
    question = read(rig.host.message("elicitation/create"))
    rig.host.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {}}})
    assert "isError" not in json.dumps(read(rig.host.answer(number)))
    return str(at(question, "params", "message"))


@pytest.mark.pitfall("P-IDENT-02")
def test_another_command_under_the_same_name_is_asked_about_again_and_said_to_be_another(tmp_path: Path) -> None:
    script = Script(tools=[tool("mail")])
    with Rig(tmp_path, script, policy=POLICY) as rig:
        rig.host.initialize(capabilities={"elicitation": {}})
        assert "changed" not in approved(rig, 11)
    with Rig(tmp_path, script, policy=POLICY, command=["env", *script.command(tmp_path)]) as rig:
        rig.host.initialize(capabilities={"elicitation": {}})
        assert "the command or address of the tool's server changed" in approved(rig, 12)
    changed = entries(tmp_path / "state", "server.changed")
    assert [entry["server"] for entry in changed] == ["raw"]
    assert len(rig.record.calls()) == 2


ONE_FILE = """\
soothsayer: policy/v1
name: one-file
default: {read: deny, other: deny, checked: deny}
rules:
  - {allow: "The message of the day.", id: motd, tools: "raw.@resources/read", args: {uri: {is: "file:///etc/motd"}}}
"""


@pytest.mark.pitfall("P-IDENT-06")
def test_what_is_allowed_of_one_address_opens_none_that_looks_like_it(tmp_path: Path) -> None:
    answer = result('{"contents":[{"uri":"file:///etc/motd","text":"hello"}]}')
    script = Script(on={"resources/read": [answer]})
    alike = ("file://_etc/motd", "file:///etc/motd/", "file:///etc//motd", "file:///etc_motd", "FILE:///etc/motd")
    with Rig(tmp_path, script, policy=ONE_FILE) as rig:
        rig.host.initialize()
        assert "hello" in json.dumps(rig.host.request("resources/read", {"uri": "file:///etc/motd"}))
        for uri in (*alike, "file:///etc/motd ", "file:///etc/%6dotd"):
            assert "error" in rig.host.request("resources/read", {"uri": uri}), uri
    assert rig.record.methods.count("resources/read") == 1


@pytest.mark.pitfall("P-IDENT-06")
def test_ten_thousand_addresses_are_ten_thousand_keys(tmp_path: Path) -> None:
    """In a rule's list, in what a yes is bound to, and in who owns a resource."""
    chance = Random(6)
    uris = list({"".join(chance.choices("fe:/_.%2F\\ ~-", k=12)) for _ in range(11_000)})[:10_000]
    assert len(uris) == 10_000
    allowed = frozenset(uris[:300])
    args = f"{{uri: {{in: {json.dumps(uris[:300])}}}}}"
    policy = policy_from(
        "default: {read: deny, other: deny, checked: deny}\n"
        f'rules: [{{allow: x, id: x, tools: "raw.@resources/read", args: {args}}}]\n',
        tmp_path,
    )

    def opens(uri: str) -> bool:
        said = decide_message(policy, a_message("raw", "resources/read", {"uri": uri}), NO_FACTS)
        return said.effect is Effect.ALLOW

    assert set(filter(opens, uris)) == allowed
    decision = judge(policy, "raw.read")
    assert len({call_digest("sha256:1", proposed("raw.read", {"uri": uri}), decision) for uri in uris}) == 10_000
    owners = Owners(["one", "two"])
    owners.learn_listed("one", uris[::2])
    owners.learn_listed("two", uris[1::2])
    assert [owners.owner(uri) for uri in uris] == ["one", "two"] * 5_000
