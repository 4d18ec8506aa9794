"""There is one entrance: whichever way a call comes, the same rule refuses it with the same kind of entry."""

import json
from pathlib import Path
from typing import cast

import pytest

from asks.test_answering_at_a_terminal import Ended
from configured import command, connect
from fidelity.rig import entries
from placing import put
from rollback.test_inverse_calls import POLICY, call, called, laid, orders, rollback
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import wait_until

ASKED = POLICY + '  - {ask: "a person looks at what is put back", id: looked-at, tools: "orders.put_back"}\n'
DENIED = (
    POLICY + '  - {deny: "nothing is put back", id: no-way-back, tools: "orders.put_back", args: {id: {in: [a, b]}}}\n'
)


@pytest.mark.pitfall("P-OPEN-04")
def test_a_forbidden_call_is_refused_alike_by_every_entrance(tmp_path: Path) -> None:
    """Hosts of both eras, a retry that a person had approved, and an undo from the command line: these are all.

    No host reaches a proxy over HTTP in this version; the day one does, it joins them here.
    """
    top = laid(tmp_path, ASKED)
    config = top / "config.yaml"
    config.write_text(config.read_text() + 'asks: {hold: "100ms"}\n')
    (top / "state").mkdir(mode=0o700)
    Face(top / "state", "watch").beat()
    with connect(top) as host:
        call(host, "set", "a", "one")
        call(host, "put_back", "a", "old a")
        (ask,) = cast("list[JsonObject]", json.loads(Ended(top, "asks", "--json").out)["asks"])
        assert Ended(top, "approve", str(ask["id"]), "--digest", str(ask["digest"])).code == 0
        put(top / "policy.yaml", DENIED)
        wait_until(lambda: len(entries(top / "state", "policy.loaded")) == 2, "the changed policy")
        approved = call(host, "put_back", "a", "old a")
        plain = call(host, "put_back", "b", "x")
    with RawHost(command(top)) as host:
        stateless = host.call("put_back", {"id": "b", "state": "y"}, stateless=True)
    undone = rollback(top, "--yes")

    for answer in (approved, plain, stateless):
        result = cast("JsonObject", answer["result"])
        (block,) = cast("list[JsonObject]", result["content"])
        assert result["isError"] is True
        assert str(block["text"]).startswith("Denied by policy rule orders/no-way-back: nothing is put back."), block
    assert undone.code != 0
    assert "no-way-back" in undone.out + undone.err
    refused = [one for one in entries(top / "state", "step.refused") if one["tool"] == "put_back"]
    assert [one.get("cause", "agent") for one in refused] == ["agent", "agent", "agent", "undo"]
    assert [one["rules"] for one in refused] == [[{"id": "orders/no-way-back", "effect": "deny"}]] * 4
    assert [one["reason"] for one in refused] == ["rule_denied"] * 4
    assert called(top, "put_back") == []
    assert orders(top)["a"] == "one"
