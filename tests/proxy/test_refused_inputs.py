"""What a server asks of its host within a result: what policy refuses is answered in the host's place, neutrally."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy.stage import DONE, STATELESS_META, ScriptedServer, ServerLeg, Stage, read, reason_of, request, result
from soothsayer_mcp.adapters.sealing import Sealer
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.proxy.people import Seals
from soothsayer_mcp.testing.factories import make_policy, make_rule

pytestmark = pytest.mark.anyio

FORM = '{"method":"elicitation/create","params":{"message":"Which?","requestedSchema":{}}}'
ROOTS = '{"method":"roots/list"}'
SAMPLE = '{"method":"sampling/createMessage","params":{"messages":[]}}'
READ = ("resources/read", '{"uri":"a:b"')
CALL = ("tools/call", '{"name":"echo","arguments":{"text":"hi"}')
PROMPT = ("prompts/get", '{"name":"p"')
WAYS = [pytest.param(way, id=way[0]) for way in (CALL, READ, PROMPT)]


def denying(*methods: str) -> Policy:
    return make_policy(rules=[make_rule(Effect.DENY, tools=f"*.@{method}", text="No.") for method in methods])


def wanting(state: str, **requests: str) -> str:
    inside = ",".join(f'"{name}":{wanted}' for name, wanted in requests.items())
    return f'{{"resultType":"input_required","x":1.50,"inputRequests":{{{inside}}}{state}}}'


def asking(text: str) -> ScriptedServer:
    """Asks until it is answered; then it is done."""

    def reply(leg: ServerLeg, message: JsonObject) -> None:
        params = message["params"]
        assert isinstance(params, dict)
        result(DONE if "inputResponses" in params else text)(leg, message)

    return ScriptedServer(tools__call=reply).on("resources/read", reply).on("prompts/get", reply)


def staged(tmp_path: Path, server: ScriptedServer, policy: Policy) -> Stage:
    sealer = Sealer(tmp_path)
    return Stage(server, policy=policy, seals=Seals(seal=sealer.seal, unseal=sealer.unseal))


def spelt(way: tuple[str, str], request_id: int = 1, more: str = "") -> str:
    return request(way[0], f"{way[1]},{STATELESS_META}{more}}}", str(request_id))


def reached(stage: Stage, method: str) -> Sequence[JsonObject]:
    found: list[JsonObject] = []
    for message in stage.server.leg.messages():
        params = message.get("params")
        if message.get("method") == method and isinstance(params, dict):
            found.append(params)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", [',"requestState":"S+/="', ""], ids=["with-a-state", "without"])
async def test_what_is_refused_leaves_the_result_and_is_filled_in_on_the_retry(
    tmp_path: Path, way: tuple[str, str], state: str
) -> None:
    server = asking(wanting(state, who=ROOTS, form=FORM))
    async with staged(tmp_path, server, denying("roots/list")).playing() as stage:
        first = (await stage.host.ask(spelt(way)))["result"]
        assert isinstance(first, dict)
        assert first["inputRequests"] == {"form": json.loads(FORM)}
        assert str(first["requestState"]).startswith("soothsayer.1.")
        assert b'"x":1.50' in stage.host.sent[-1]
        answers = ',"inputResponses":{"form":{"action":"accept","content":{"a":1.50}}}'
        carried = f',"requestState":{json.dumps(first["requestState"])}'
        assert (await stage.host.ask(spelt(way, 2, answers + carried), 2))["result"] == {
            **json.loads(DONE),
            "resultType": "complete",
        }
        told = reached(stage, way[0])[1]
        assert told["inputResponses"] == {"form": {"action": "accept", "content": {"a": 1.5}}, "who": {"roots": []}}
        assert told.get("requestState") == ("S+/=" if state else None)
        assert b'"a":1.50' in stage.server.leg.sent[-1]


@pytest.mark.parametrize("way", WAYS)
async def test_where_nothing_is_left_to_ask_the_host_is_not_sent_round(tmp_path: Path, way: tuple[str, str]) -> None:
    server = asking(wanting(',"requestState":"S+/="', who=ROOTS, form=FORM))
    async with staged(tmp_path, server, denying("roots/list", "elicitation/create")).playing() as stage:
        answer = await stage.host.ask(spelt(way))
        assert answer["result"] == {**json.loads(DONE), "resultType": "complete"}
        assert len(stage.host.sent) == 1
        first, second = reached(stage, way[0])
        assert "inputResponses" not in first
        assert second["inputResponses"] == {"who": {"roots": []}, "form": {"action": "decline"}}
        assert second["requestState"] == "S+/="


async def test_each_round_is_a_step_of_its_own_that_continues_the_one_before(tmp_path: Path) -> None:
    server = asking(wanting("", who=ROOTS))
    async with staged(tmp_path, server, denying("roots/list")).playing() as stage:
        await stage.host.ask(spelt(CALL))
        first, second = stage.world.outcomes
        assert (first.continues, second.continues) == ("", f"{first.run_id}.{first.intent.no}")
        assert stage.fleet.only is not None
        assert stage.fleet.only.calls_in_flight == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_that_never_has_enough_is_given_up(tmp_path: Path, way: tuple[str, str]) -> None:
    never = result(wanting("", who=ROOTS))
    server = ScriptedServer(tools__call=never).on("resources/read", never).on("prompts/get", never)
    async with staged(tmp_path, server, denying("roots/list")).playing() as stage:
        answer = await stage.host.ask(spelt(way))
        assert "goes on asking for what policy refuses" in json.dumps(answer)
        assert len(reached(stage, way[0])) == 11


async def test_what_has_no_neutral_answer_refuses_the_whole(tmp_path: Path) -> None:
    server = asking(wanting("", who=ROOTS, think=SAMPLE))
    async with staged(tmp_path, server, denying("roots/list", "sampling/createMessage")).playing() as stage:
        assert reason_of(await stage.host.ask(spelt(CALL))) == "rule_denied"
        assert len(reached(stage, "tools/call")) == 1


async def test_what_reads_in_two_ways_refuses_the_whole(tmp_path: Path) -> None:
    doubled = wanting("", form=FORM)[:-1] + f',"inputRequests":{{"who":{ROOTS}}}}}'
    async with staged(tmp_path, asking(doubled), denying("elicitation/create")).playing() as stage:
        answer = await stage.host.ask(spelt(CALL))
        assert reason_of(answer) == "rule_denied"
        assert "Which?" not in json.dumps(answer)


@pytest.mark.parametrize("way", WAYS)
async def test_a_state_is_good_for_the_request_that_it_was_sealed_for_only(
    tmp_path: Path, way: tuple[str, str]
) -> None:
    server = asking(wanting("", who=ROOTS, form=FORM))
    async with staged(tmp_path, server, denying("roots/list")).playing() as stage:
        state: Json = read(json.dumps((await stage.host.ask(spelt(way)))["result"]).encode())["requestState"]
        before = len(reached(stage, "resources/read"))
        other = ("resources/read", '{"uri":"c:d"')
        answer = await stage.host.ask(spelt(other, 2, f',"requestState":{json.dumps(state)}'), 2)
        assert "-32602" in json.dumps(answer)
        assert len(reached(stage, "resources/read")) == before


async def test_with_several_servers_a_form_in_a_result_says_whose_it_is(tmp_path: Path) -> None:
    text = wanting(',"requestState":"S+/="', form=FORM)
    one, two = asking(text), ScriptedServer("two")
    one.name = "one"
    sealer = Sealer(tmp_path)
    stage = Stage(one, two, seals=Seals(seal=sealer.seal, unseal=sealer.unseal))
    async with stage.playing():
        call = ("tools/call", '{"name":"one__echo","arguments":{"text":"hi"}')
        answer = (await stage.host.ask(spelt(call)))["result"]
        assert isinstance(answer, dict)
        assert "[server one] Which?" in json.dumps(answer["inputRequests"])
        assert answer["requestState"] == "S+/=", "nothing is refused, so nothing is carried by us"
