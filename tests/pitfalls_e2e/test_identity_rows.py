"""Who a server is: its command line belongs to it, whatever name stands over it."""

import contextlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from fidelity.rig import Rig, at, call, entries, read
from policy_kit import a_message, judge, policy_from
from policy_kit import step as proposed
from recording import BINDING, bind, opened, run
from recording import POLICY as POLICY_DIGEST
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.evidence.approval import call_digest
from soothsayer_mcp.model.call import Principal
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.policy.decide import decide_message
from soothsayer_mcp.proxy.resources import Owners
from soothsayer_mcp.testing.hosts import STATELESS_META
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


CLAIMS: JsonObject = {
    "principal": "admin",
    "owner_id": "admin",
    "X-Principal-Id": "admin",
    "dev.soothsayer/principal": {"id": "admin", "how": "token", "groups": ["admins"]},
}
OWNED = """\
soothsayer: policy/v1
name: owned
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {deny: "Admins may.", id: admins, tools: raw.mail, who: {sub: admin}}
  - {deny: "Their group may.", id: group, tools: raw.mail, who: {groups: admins}}
"""


@pytest.mark.pitfall("P-IDENT-04")
def test_nothing_that_a_host_or_model_says_changes_on_whose_authority_it_calls(tmp_path: Path) -> None:
    """Client name, arguments, `_meta` and environment, in both eras.

    On stdio there are no headers; the pages of `ui`, the one face over HTTP, are tested in
    `tests/web/test_web_access.py`.
    """
    env = {"USER": "admin", "LOGNAME": "admin", "SOOTHSAYER_PRINCIPAL": "admin"}
    arguments: JsonObject = {"owner_id": "admin", "principal": "admin", "user": "admin"}
    with Rig(tmp_path, Script(tools=[tool("mail")]), policy=OWNED, env=env) as rig:
        info: JsonObject = {"name": "ci", "version": "1", "principal": "admin"}
        opening: JsonObject = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info, "_meta": CLAIMS}
        rig.host.request("initialize", opening)
        rig.host.notify("notifications/initialized")
        told: JsonObject = {"name": "mail", "arguments": arguments, "_meta": CLAIMS}
        assert "error" not in rig.host.request("tools/call", told)
        stateless: JsonObject = {
            **STATELESS_META,
            **CLAIMS,
            "io.modelcontextprotocol/clientInfo": {"name": "admin", "version": "1"},
        }
        assert "error" not in rig.host.request("tools/call", {**told, "_meta": stateless})
    assert len(rig.record.calls()) == 2
    # A rule that nobody here can match is told, with how to mend it.
    assert "owned/group looks at groups: over stdio a caller is its account and in no group; name" in rig.host.stderr
    assert len(entries(rig.state, "step.intent")) == 2
    with contextlib.closing(sqlite3.connect(rig.state / "trace-000001.db")) as db:
        contexts = [json.loads(text) for (text,) in db.execute("SELECT text FROM payloads WHERE part = 'context'")]
    assert len(contexts) >= 2
    for context in contexts:
        assert context["principal"] == {"id": account().id, "how": "os_account", "groups": []}
    assert {at(entry, "principal", "id") for entry in entries(rig.state, "run.opened")} == {account().id}


@pytest.mark.pitfall("P-IDENT-04")
def test_a_run_is_read_by_its_own_principal_only_and_nobody_is_no_principal(tmp_path: Path) -> None:
    async def body(store: SqliteStore) -> None:
        mine = await bind(store)
        for stranger in ("", "admin", " os:ada", "*"):
            nobody = replace(BINDING, principal=Principal(id=stranger, how="os_account"), named=mine)
            run_id, failure = await store.bind_run(nobody, POLICY_DIGEST)
            assert failure is not None
            assert failure.reason is Reason.RUN_UNKNOWN
            assert run_id != mine
            assert store.joined_run(nobody) is None
            assert await store.stored_result(mine, 1, principal=stranger) is None
        assert await store.bind_run(replace(BINDING, named=mine), POLICY_DIGEST) == (mine, None)

    with opened(tmp_path) as store:
        run(lambda: body(store))
