"""A server is shown what its host declared, less what policy would refuse whatever the server asks."""

from collections.abc import Sequence

import pytest

from proxy.stage import ScriptedServer, Stage, read, request
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.testing.factories import make_policy, make_rule

pytestmark = pytest.mark.anyio

DECLARED = '{"sampling":{"tools":{}},"elicitation":{},"roots":{"listChanged":true},"x":1.50}'
WITHOUT = '{"elicitation":{},"roots":{"listChanged":true},"x":1.50}'
META = (
    '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":%s}'
)
STATELESS = [
    pytest.param(("tools/call", '{"name":"%secho","arguments":{"text":"hi"},'), id="tools/call"),
    pytest.param(("prompts/get", '{"name":"%sp",'), id="prompts/get"),
    pytest.param(("resources/read", '{"uri":"a:%s",'), id="resources/read"),
    pytest.param(("server/discover", "{%.0s"), id="server/discover"),
]
INITIALIZE = (
    '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":%s,'
    '"clientInfo":{"name":"test","version":"1"}}}'
)


def denying(servers: str, **more: object) -> Policy:
    mode = Mode.OBSERVE if more.get("observes") else Mode.ENFORCE
    rules = [make_rule(Effect.DENY, tools=f"{servers}.@sampling/createMessage", text="No.")]
    return make_policy(rules=rules, mode=mode)


def told(server: ScriptedServer, method: str) -> Sequence[bytes]:
    return [raw for raw in server.leg.sent if read(raw).get("method") == method]


@pytest.mark.parametrize("servers", [1, 2])
async def test_an_opening_shows_less_where_policy_refuses_outright(servers: int) -> None:
    made = [ScriptedServer(name) for name in ("files", "other")[:servers]]
    async with Stage(*made, policy=denying("files")).playing() as stage:
        await stage.host.ask(INITIALIZE % DECLARED, 0)
        shown = [b"".join(told(server, "initialize")) for server in made]
        assert f'"capabilities":{WITHOUT}'.encode() in shown[0]
        assert all(f'"capabilities":{DECLARED}'.encode() in raw for raw in shown[1:])


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("way", STATELESS)
async def test_each_request_of_the_stateless_era_shows_less(way: tuple[str, str], servers: int) -> None:
    made = [ScriptedServer(name) for name in ("files", "other")[:servers]]
    capabilities: JsonObject = {"tools": {}, "prompts": {}, "resources": {}}
    async with Stage(*made, policy=denying("files")).playing() as stage:
        for server in stage.fleet:
            server.capabilities = capabilities
        params = way[1] % ("files__" if servers > 1 and way[0] != "resources/read" else "") + META % DECLARED + "}"
        stage.host.say(request(way[0], params))
        await made[0].leg.until(lambda: bool(told(made[0], way[0])))
        assert WITHOUT.encode() in told(made[0], way[0])[0]


async def test_where_policy_allows_or_observes_no_byte_changes() -> None:
    for policy in (None, denying("other"), denying("files", observes=True)):
        async with Stage(policy=policy).playing() as stage:
            line = INITIALIZE % DECLARED
            await stage.host.ask(line, 0)
            assert told(stage.server, "initialize") == [line.encode()]
