"""A handshake host on a stateless-only server (protocol revision 2026-07-28)."""

import json
from collections.abc import Callable, Sequence

import pytest

from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.ports import LegEnd, NoAnswer, OversizedLine, PortError
from soothsayer_mcp.proxy import bridge
from soothsayer_mcp.proxy.bridge import Bridge, BridgedLeg, Turn
from soothsayer_mcp.wire.ids import Mint

PREFIX = "io.modelcontextprotocol/"
TAG = PREFIX + "subscriptionId"
CLIENT = '{"name":"h","version":"1","x":null}'
ALL: Json = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}


def request(method: str, params: Json = None, request_id: Json = 7) -> bytes:
    message: dict[str, Json] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return compact(message if params is None else {**message, "params": params})


def note(method: str, params: Json) -> bytes:
    return compact({"jsonrpc": "2.0", "method": method, "params": params})


def result(value: Json, request_id: Json = 7) -> bytes:
    return compact({"jsonrpc": "2.0", "id": request_id, "result": value})


def error(code: int, request_id: Json = 7) -> bytes:
    return compact({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": "no"}})


def initialize(capabilities: Json, version: str = "2025-06-18") -> bytes:
    text = json.dumps({"protocolVersion": version, "capabilities": capabilities})
    params = f'{text[:-1]},"clientInfo":{CLIENT}}}'
    return f'{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}'.encode()


DISCOVERED: dict[str, Json] = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True},
        "logging": {},
        "extensions": {PREFIX + "tasks": {}, "x/y": {"n": 1}},
    },
    "instructions": "Be kind.",
    "ttlMs": 5,
    "cacheScope": "public",
    "_meta": {PREFIX + "serverInfo": {"name": "s", "version": "2"}},
}


def bridged(capabilities: Json = ALL, discovered: Json = None, version: str = "2025-06-18") -> tuple[Bridge, Json]:
    """Open a bridge; tells what the host got for its `initialize`."""
    it = Bridge(Mint("b"))
    it.from_host(initialize(capabilities, version))
    it.from_server(error(-32022, 0))
    turn = it.from_server(result(DISCOVERED if discovered is None else discovered, "sth-b-1"))
    (answer,) = turn.to_host
    return it, json.loads(answer)


def said(lines: list[bytes]) -> list[dict[str, Json]]:
    return [json.loads(line) for line in lines]


def sent(turn: Turn) -> dict[str, Json]:
    """What one message made the bridge send to the server, and nothing to the host."""
    assert turn.to_host == []
    (line,) = turn.to_server
    return json.loads(line)


def told(turn: Turn) -> dict[str, Json]:
    """What one message made the bridge send to the host, and nothing to the server."""
    assert turn.to_server == []
    (line,) = turn.to_host
    return json.loads(line)


def params(message: dict[str, Json]) -> dict[str, Json]:
    inner = message["params"]
    assert isinstance(inner, dict)
    return inner


def test_a_server_that_shakes_hands_is_never_bridged_and_no_byte_changes() -> None:
    it = Bridge(Mint("b"))
    opening = initialize(ALL)
    answer = result({"protocolVersion": "2025-06-18"}, 0)
    assert it.from_host(opening).to_server == [opening]
    log = note("notifications/message", {})
    assert it.from_server(log).to_host == [log]
    assert it.from_server(answer).to_host == [answer]
    assert it.is_plain
    line = b'{"jsonrpc":"2.0",  "id":1,"result":{"resultType":"complete"}}'
    assert it.from_server(line).to_host == [line]
    assert it.from_host(b"garbage").to_server == [b"garbage"]


def test_before_an_initialize_everything_passes() -> None:
    """A host that probes first and shakes hands after is served on one connection."""
    it = Bridge(Mint("b"))
    probe = request("server/discover", {"x": "initialize"})
    assert it.from_host(probe).to_server == [probe]
    answer = result(DISCOVERED)
    assert it.from_server(answer).to_host == [answer]
    it.from_host(initialize(ALL))
    assert sent(it.from_server(error(-32601, 0)))["method"] == "server/discover"


def test_a_refused_initialize_is_answered_from_what_the_server_discovers() -> None:
    it = Bridge(Mint("b"))
    opening = initialize({**ALL, "tasks": {}, "extensions": {PREFIX + "tasks": {}}} if isinstance(ALL, dict) else {})
    it.from_host(opening)
    probe = sent(it.from_server(error(-32022, 0)))
    assert probe == {
        "jsonrpc": "2.0",
        "id": "sth-b-1",
        "method": "server/discover",
        "params": {
            "_meta": {
                PREFIX + "protocolVersion": "2026-07-28",
                PREFIX + "clientCapabilities": {**ALL, "extensions": {}} if isinstance(ALL, dict) else {},
                PREFIX + "clientInfo": json.loads(CLIENT),
            }
        },
    }
    answer = told(it.from_server(result(DISCOVERED, "sth-b-1")))
    assert it.is_bridged
    assert answer == {
        "jsonrpc": "2.0",
        "id": 0,
        "result": {
            "protocolVersion": "2025-06-18",
            "capabilities": {
                "tools": {"listChanged": True},
                "resources": {"subscribe": True},
                "logging": {},
                "extensions": {"x/y": {"n": 1}},
            },
            "serverInfo": {"name": "s", "version": "2"},
            "instructions": "Be kind.",
        },
    }
    assert told(it.from_host(opening)) == answer


@pytest.mark.parametrize(("asked", "told_version"), [("2024-11-05", "2024-11-05"), ("2026-07-28", "2025-11-25")])
def test_the_version_told_is_the_hosts_if_it_is_one_of_its_era(asked: str, told_version: str) -> None:
    _, answer = bridged(version=asked, discovered={"supportedVersions": ["2026-07-28"]})
    assert answer == {
        "jsonrpc": "2.0",
        "id": 0,
        "result": {
            "protocolVersion": told_version,
            "capabilities": {},
            "serverInfo": {"name": "unnamed", "version": ""},
        },
    }


@pytest.mark.parametrize(
    "probe_answer",
    [
        error(-32601, "sth-b-1"),
        result({}, "sth-b-1"),
        result({"supportedVersions": ["2027-01-01"]}, "sth-b-1"),
        OversizedLine(b'{"id":"sth-b-1","result":{"x":"', tail=b'"}}', size_bytes=10**9),
    ],
)
def test_a_server_that_speaks_neither_era_gives_its_own_refusal(probe_answer: bytes) -> None:
    it = Bridge(Mint("b"))
    it.from_host(initialize(ALL))
    refusal = error(-32000, 0)
    it.from_server(refusal)
    early = request("ping")
    assert it.from_host(early) == Turn()
    log = note("notifications/message", {})
    assert it.from_server(log).to_host == [log]
    turn = it.from_server(probe_answer)
    assert (turn.to_host, turn.to_server) == ([refusal], [early])
    assert it.is_plain


def test_what_the_host_sends_while_the_server_is_probed_is_bridged_after() -> None:
    it = Bridge(Mint("b"))
    it.from_host(initialize(ALL))
    it.from_server(error(-32022, 0))
    it.from_host(request("ping", request_id=1))
    it.from_host(request("tools/list", request_id=2))
    turn = it.from_server(result({"supportedVersions": ["2026-07-28"], "capabilities": {}}, "sth-b-1"))
    assert [message["id"] for message in said(turn.to_host)] == [0, 1]
    assert [message["id"] for message in said(turn.to_server)] == [2]


@pytest.mark.parametrize(
    ("given", "meta_before"),
    [
        ('{"jsonrpc":"2.0","id":7,"method":"tools/list"}', {}),
        ('{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{}}', {}),
        ('{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"_meta":{}}}', {}),
        (
            '{"jsonrpc":"2.0","id":7,"method":"x/y","params":{"_meta":{"progressToken":0},"v":1.50}}',
            {"progressToken": 0},
        ),
    ],
)
def test_a_request_gets_the_envelope_and_keeps_its_id_and_its_own_bytes(given: str, meta_before: Json) -> None:
    it, _ = bridged({}, {"supportedVersions": ["2026-07-28"]})
    line = it.from_host(given.encode()).to_server[0].decode()
    message = json.loads(line)
    assert message["id"] == 7
    assert message["params"]["_meta"] == {
        **(meta_before if isinstance(meta_before, dict) else {}),
        PREFIX + "protocolVersion": "2026-07-28",
        PREFIX + "clientCapabilities": {},
        PREFIX + "clientInfo": json.loads(CLIENT),
    }
    assert line.startswith(given[: given.index('"method"')])
    assert ('"v":1.50' in given) == ('"v":1.50' in line)


def test_ping_and_log_level_are_answered_and_the_level_goes_with_each_request_after() -> None:
    it, _ = bridged()
    assert told(it.from_host(request("ping")))["result"] == {}
    assert told(it.from_host(request("logging/setLevel", {"level": "loud"})))["error"] == {
        "code": -32602,
        "message": "The level is none of the eight that there are.",
    }
    assert told(it.from_host(request("logging/setLevel", {"level": "warning"})))["result"] == {}
    listen, call = said(it.from_host(request("tools/call", {"name": "t"})).to_server)
    assert listen["method"] == "subscriptions/listen"
    meta = params(call)["_meta"]
    assert isinstance(meta, dict)
    assert meta[PREFIX + "logLevel"] == "warning"
    silent, _ = bridged(discovered={"supportedVersions": ["2026-07-28"], "capabilities": {}})
    refused = told(silent.from_host(request("logging/setLevel", {"level": "warning"})))["error"]
    assert isinstance(refused, dict)
    assert refused["code"] == -32601


@pytest.mark.parametrize("method", ["tasks/get", "tasks/list", "tasks/result", "tasks/cancel"])
def test_core_tasks_are_not_there(method: str) -> None:
    it, _ = bridged()
    assert told(it.from_host(request(method, {"taskId": "t"})))["error"] == {
        "code": -32601,
        "message": f"Method not found: {method}",
    }


@pytest.mark.parametrize("method", ["notifications/progress", "notifications/roots/list_changed"])
def test_notices_the_stateless_era_does_not_know_are_not_sent(method: str) -> None:
    it, _ = bridged()
    assert it.from_host(note(method, {})) == Turn()
    other = note("notifications/x", {})
    assert it.from_host(other).to_server == [other]


def quiet(capabilities: Json = ALL) -> Bridge:
    """A bridge to a server that tells of no changes, so that nothing listens."""
    caps: Json = {"tools": {}, "resources": {}, "prompts": {}}
    return bridged(capabilities, {"supportedVersions": ["2026-07-28"], "capabilities": caps})[0]


def test_results_lose_what_only_the_stateless_era_has_and_nothing_else() -> None:
    it = quiet()
    it.from_host(request("tools/list"))
    kept = '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"n":1.50,"ttlMs":1}],"x":null}}'
    line = kept.replace(',"x"', ',"resultType":"complete","ttlMs":5,"cacheScope":"public","x"')
    assert it.from_server(line.encode()).to_host == [kept.encode()]
    it.from_host(request("tools/call", {"name": "t"}))
    own = '{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[],"ttlMs":5}}'
    assert it.from_server(own.encode()).to_host == [b'{"jsonrpc":"2.0","id":7,"result":{"content":[],"ttlMs":5}}']
    for passed in (result({"resultType": "novel"}), error(-32021), result(None), result({"content": []})):
        it.from_host(request("tools/call", {"name": "t"}))
        assert it.from_server(passed).to_host == [passed]


def test_a_stateless_request_of_the_host_is_not_touched_nor_is_its_answer() -> None:
    it = quiet()
    line = request("tools/list", {"_meta": {PREFIX + "protocolVersion": "2026-07-28"}}, "s")
    assert it.from_host(line).to_server == [line]
    answer = result({"resultType": "complete", "tools": [], "ttlMs": 1}, "s")
    assert it.from_server(answer).to_host == [answer]


ASK: Json = {"method": "elicitation/create", "params": {"mode": "form", "message": "m", "requestedSchema": {"x": 1.5}}}


def input_required(requests: Json, state: Json = "S+/=", request_id: Json = 7) -> bytes:
    value: dict[str, Json] = {"resultType": "input_required"}
    if requests is not None:
        value["inputRequests"] = requests
    if state is not None:
        value["requestState"] = state
    return result(value, request_id)


def test_questions_become_real_requests_all_at_once_and_the_call_is_sent_again_with_the_answers() -> None:
    it = quiet()
    call = request("tools/call", {"name": "t", "arguments": {"a": 1}, "_meta": {"progressToken": "p"}})
    it.from_host(call)
    both: Json = {"a": ASK, "b": {"method": "roots/list"}}
    turn = it.from_server(input_required(both))
    assert turn.to_server == []
    elicitation, roots = said(turn.to_host)
    assert elicitation == {
        "jsonrpc": "2.0",
        "id": "sth-b-2",
        "method": "elicitation/create",
        "params": {"mode": "form", "message": "m", "requestedSchema": {"x": 1.5}},
    }
    assert roots == {"jsonrpc": "2.0", "id": "sth-b-3", "method": "roots/list"}
    assert it.from_host(result({"roots": [], "x": None}, "sth-b-3")) == Turn()
    again = sent(it.from_host(result({"action": "accept", "content": {"v": 1}}, "sth-b-2")))
    assert again["id"] == "sth-b-4"
    assert again["method"] == "tools/call"
    retry = params(again)
    assert retry.pop("_meta") == {
        "progressToken": "p",
        PREFIX + "protocolVersion": "2026-07-28",
        PREFIX + "clientCapabilities": ALL,
        PREFIX + "clientInfo": json.loads(CLIENT),
    }
    assert retry == {
        "name": "t",
        "arguments": {"a": 1},
        "inputResponses": {
            "b": {"roots": [], "x": None},
            "a": {"action": "accept", "content": {"v": 1}},
        },
        "requestState": "S+/=",
    }
    done = told(it.from_server(result({"resultType": "complete", "content": [1.5]}, "sth-b-4")))
    assert done == {"jsonrpc": "2.0", "id": 7, "result": {"content": [1.5]}}


def test_numbers_in_answers_and_state_keep_their_spelling() -> None:
    it = quiet()
    it.from_host(b'{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p","arguments":{"v":"1.50"}}}')
    it.from_server(
        b'{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","requestState":"\\u0041",'
        b'"inputRequests":{"q":{"method":"sampling/createMessage","params":{"t":1.50}}}}}'
    )
    (again,) = it.from_host(b'{"jsonrpc":"2.0","id":"sth-b-2","result":{"n":1e2}}').to_server
    assert b'"inputResponses":{"q":{"n":1e2}}' in again
    assert b'"requestState":"\\u0041"' in again


def test_an_url_question_gets_the_id_that_its_handshake_form_needs() -> None:
    it = quiet()
    it.from_host(request("tools/call", {"name": "t"}))
    url: Json = {"method": "elicitation/create", "params": {"mode": "url", "message": "m", "url": "https://x"}}
    question = told(it.from_server(input_required({"u": url})))
    assert params(question) == {"mode": "url", "message": "m", "url": "https://x", "elicitationId": "sth-b-2"}


@pytest.mark.parametrize(
    ("method", "neutral"), [("elicitation/create", {"action": "cancel"}), ("roots/list", {"roots": []})]
)
@pytest.mark.parametrize("offers", [ALL, {}])
def test_an_error_or_a_question_the_host_cannot_take_counts_as_no_decision(
    method: str, neutral: Json, offers: Json
) -> None:
    it = quiet(offers)
    it.from_host(request("resources/read", {"uri": "x"}))
    turn = it.from_server(input_required({"q": {"method": method, "params": {}}}))
    if offers:
        (question,) = said(turn.to_host)
        turn = it.from_host(error(-32603, question["id"]))
    assert params(sent(turn))["inputResponses"] == {"q": neutral}


@pytest.mark.parametrize("offers", [ALL, {}])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get"])
def test_sampling_has_no_neutral_answer_so_the_call_ends(offers: Json, method: str) -> None:
    it = quiet(offers)
    it.from_host(request(method, {"name": "t"}))
    asked: Json = {"q": {"method": "sampling/createMessage", "params": {}}, "r": ASK}
    turn = it.from_server(input_required(asked))
    if offers:
        sampling, elicitation = said(turn.to_host)
        turn = it.from_host(error(-1, sampling["id"]))
        withdrawn, answer = said(turn.to_host)
        assert params(withdrawn) == {"requestId": elicitation["id"]}
        assert it.from_host(result({"action": "accept"}, elicitation["id"])) == Turn()
    else:
        (answer,) = said(turn.to_host)
    assert turn.to_server == []
    assert answer["id"] == 7
    ended = answer.get("result")
    assert (isinstance(ended, dict) and ended["isError"] is True) == (method == "tools/call")
    assert ("error" in answer) == (method == "prompts/get")


@pytest.mark.parametrize(
    ("offers", "mode", "reaches"),
    [
        ({"elicitation": {}}, "form", True),
        ({"elicitation": {}}, "url", False),
        ({"elicitation": {"form": {}}}, "url", False),
        ({"elicitation": {"url": {}}}, "form", False),
        ({"elicitation": {"url": {}}}, "url", True),
    ],
)
def test_empty_elicitation_means_forms_only(offers: Json, mode: str, reaches: bool) -> None:
    it = quiet(offers)
    it.from_host(request("tools/call", {"name": "t"}))
    turn = it.from_server(input_required({"q": {"method": "elicitation/create", "params": {"mode": mode}}}))
    assert bool(turn.to_host) == reaches


def test_ten_rounds_are_driven_and_no_more() -> None:
    it = quiet()
    it.from_host(request("tools/call", {"name": "t"}))
    leg_id: Json = 7
    for _ in range(bridge.ROUNDS_LIMIT):
        (question,) = said(it.from_server(input_required({"q": ASK}, request_id=leg_id)).to_host)
        leg_id = sent(it.from_host(result({"action": "accept"}, question["id"])))["id"]
    ended = told(it.from_server(input_required({"q": ASK}, request_id=leg_id)))
    assert ended["id"] == 7
    assert "result" in ended


def test_a_state_alone_is_sent_back_later_and_not_at_once() -> None:
    it = quiet()
    it.from_host(request("tools/call", {"name": "t"}))
    turn = it.from_server(input_required(None))
    assert (turn.to_host, turn.to_server) == ([], [])
    (call_key,) = turn.later
    retry = params(sent(it.retry(call_key)))
    assert retry["requestState"] == "S+/="
    assert "inputResponses" not in retry
    turn = it.from_server(input_required(None, state=None, request_id="sth-b-2"))
    assert "requestState" not in params(sent(it.retry(turn.later[0])))


def test_a_cancel_follows_the_call_through_its_rounds() -> None:
    cancel = note("notifications/cancelled", {"requestId": 7, "reason": "tired", "x": 1.5})
    it = quiet()
    it.from_host(request("tools/call", {"name": "t"}))
    assert it.from_host(cancel).to_server == [cancel]
    late = result({"content": []})
    assert it.from_server(late).to_host == [late]
    assert it.from_host(cancel).to_server == [cancel]

    it.from_host(request("tools/call", {"name": "t"}))
    (question,) = said(it.from_server(input_required({"q": ASK})).to_host)
    again = sent(it.from_host(result({"action": "accept"}, question["id"])))
    assert sent(it.from_host(cancel)) == json.loads(cancel.replace(b":7", b":" + compact(again["id"])))
    assert it.from_server(input_required({"q": ASK}, request_id=again["id"])).later == []


def test_a_cancel_withdraws_the_questions_that_are_open() -> None:
    cancel = note("notifications/cancelled", {"requestId": 7})
    it = quiet()
    it.from_host(request("tools/call", {"name": "t"}))
    (question,) = said(it.from_server(input_required({"q": ASK})).to_host)
    withdrawn = told(it.from_host(cancel))
    assert withdrawn == json.loads(note("notifications/cancelled", {"requestId": question["id"]}))
    assert it.from_host(result({"action": "accept"}, question["id"])) == Turn()

    it.from_host(request("tools/call", {"name": "t"}))
    (call_key,) = it.from_server(input_required(None)).later
    assert it.from_host(cancel) == Turn()
    assert it.retry(call_key) == Turn()


def test_cancelled_calls_that_never_answer_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "CANCELLED_LIMIT", 1)
    it = quiet()
    for number in (1, 2):
        it.from_host(request("tools/list", request_id=number))
        it.from_host(note("notifications/cancelled", {"requestId": number}))
    full: Json = {"resultType": "complete", "tools": []}
    assert it.from_server(result(full, 1)).to_host == [result(full, 1)]
    assert it.from_server(result(full, 2)).to_host == [result({"tools": []}, 2)]


def test_an_unreadable_answer_to_a_later_round_ends_its_call() -> None:
    it = quiet()
    it.from_host(request("tools/call", {"name": "t"}))
    broken = b'{"jsonrpc":"2.0","id":7,"result":{"content":['
    assert it.from_server(broken).to_host == [broken]
    it.from_host(request("tools/call", {"name": "t"}))
    (question,) = said(it.from_server(input_required({"q": ASK})).to_host)
    again = sent(it.from_host(result({"action": "accept"}, question["id"])))
    head = b'{"jsonrpc":"2.0","id":' + compact(again["id"]) + b',"result":{"content":["xxx'
    ended = told(it.from_server(OversizedLine(head, tail=b'xxx"]}}', size_bytes=10**9)))
    assert ended["id"] == 7
    assert isinstance(ended["error"], dict)
    assert ended["error"]["code"] == -32603


def lost(request_id: str | int) -> NoAnswer:
    gone = PortError(Reason.CONNECTION_LOST, "gone", acted=Acted.MAYBE)
    return NoAnswer(error(-32603, request_id), id=request_id, error=gone)


def test_an_answer_that_is_lost_is_lost_for_the_call_whatever_its_round() -> None:
    it = quiet()
    it.from_host(request("tools/call", {"name": "t"}))
    (question,) = said(it.from_server(input_required({"q": ASK})).to_host)
    it.from_host(result({"action": "accept"}, question["id"]))
    (told_host,) = it.from_server(lost("sth-b-3")).to_host
    assert isinstance(told_host, NoAnswer)
    assert told_host.id == json.loads(told_host)["id"] == 7


def test_a_server_that_is_not_reached_has_refused_nothing() -> None:
    it = Bridge(Mint("b"))
    it.from_host(initialize(ALL))
    gone = lost(0)
    assert it.from_server(gone) == Turn(to_host=[gone])
    it.from_host(initialize(ALL))
    assert sent(it.from_server(error(-32022, 0)))["method"] == "server/discover"


def test_requests_of_a_stateless_server_have_no_place() -> None:
    it = quiet()
    ask = request("elicitation/create", {})
    assert it.from_server(ask) == Turn(dropped=[ask])
    assert it.from_host(result({"action": "accept"}, 99)) == Turn()


# Listening.


def listening() -> tuple[Bridge, dict[str, Json]]:
    it, _ = bridged()
    return it, sent(it.from_host(note("notifications/initialized", {})))


def ack(listen_id: Json, **took: Json) -> bytes:
    return note("notifications/subscriptions/acknowledged", {"notifications": took, "_meta": {TAG: listen_id}})


def changed(listen_id: Json) -> bytes:
    return note("notifications/tools/list_changed", {"_meta": {TAG: listen_id, "x": 1}})


def test_what_the_server_tells_of_is_listened_for_once_the_host_is_ready() -> None:
    it, listen = listening()
    assert listen["id"] == "sth-b-2"
    assert params(listen)["notifications"] == {"toolsListChanged": True}
    assert PREFIX + "protocolVersion" in str(params(listen)["_meta"])
    assert it.from_server(ack("sth-b-2", toolsListChanged=True)) == Turn()
    assert told(it.from_server(changed("sth-b-2"))) == {
        "jsonrpc": "2.0",
        "method": "notifications/tools/list_changed",
        "params": {"_meta": {"x": 1}},
    }
    assert it.from_host(note("notifications/initialized", {})) == Turn()
    assert it.from_server(changed("sth-b-1")) == Turn()
    untagged = note("notifications/tools/list_changed", {})
    assert it.from_server(untagged).to_host == [untagged]


def test_a_subscription_is_answered_when_the_new_listen_is_acknowledged_and_only_then_the_old_is_cancelled() -> None:
    it, _ = listening()
    it.from_server(ack("sth-b-2", toolsListChanged=True))
    anew = sent(it.from_host(request("resources/subscribe", {"uri": "x://1"}, "s1")))
    assert params(anew)["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": ["x://1"]}
    assert it.from_server(changed("sth-b-2")).to_host != []
    late = it.from_host(request("resources/subscribe", {"uri": "x://2"}, "s2"))
    assert late == Turn()
    turn = it.from_server(ack("sth-b-3", toolsListChanged=True, resourceSubscriptions=["x://1"]))
    cancel, third = said(turn.to_server)
    assert cancel == {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "sth-b-2"}}
    assert params(third)["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": ["x://1", "x://2"]}
    assert said(turn.to_host) == [{"jsonrpc": "2.0", "id": "s1", "result": {}}]
    assert it.from_server(changed("sth-b-2")) == Turn()
    assert it.from_server(changed("sth-b-3")).to_host != []
    turn = it.from_server(ack("sth-b-4", resourceSubscriptions=["x://1"]))
    (refused,) = said(turn.to_host)
    assert refused["id"] == "s2"
    assert "error" in refused


def test_unsubscribing_listens_without_the_uri_and_the_last_one_stops_listening() -> None:
    it, _ = bridged(discovered={"supportedVersions": ["2026-07-28"], "capabilities": {"resources": {}}})
    first = sent(it.from_host(request("resources/subscribe", {"uri": "x://1"}, 1)))
    it.from_server(ack(first["id"], resourceSubscriptions=["x://1"]))
    turn = it.from_host(request("resources/unsubscribe", {"uri": "x://1"}, 2))
    assert said(turn.to_host) == [{"jsonrpc": "2.0", "id": 2, "result": {}}]
    assert said(turn.to_server) == [
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": first["id"]}}
    ]
    assert it.from_server(result({}, first["id"])) == Turn()


def test_a_server_that_does_not_listen_says_so_to_whoever_subscribes() -> None:
    it, _ = listening()
    assert it.from_host(request("resources/subscribe", {"uri": "x://1"}, 1)) == Turn()
    assert told(it.from_server(error(-32601, "sth-b-2"))) == json.loads(error(-32601, 1))
    assert told(it.from_host(request("resources/subscribe", {"uri": "x://1"}, 2))) == json.loads(error(-32601, 2))
    call = it.from_host(request("tools/list", request_id=3)).to_server
    assert len(call) == 1


def test_a_listen_that_ends_is_opened_again_with_the_next_request_but_not_for_ever() -> None:
    it, _ = listening()
    it.from_server(ack("sth-b-2", toolsListChanged=True))
    assert it.from_server(result({"_meta": {TAG: "sth-b-2"}}, "sth-b-2")) == Turn()
    for _ in range(bridge.LISTEN_ATTEMPTS):
        listen, _call = said(it.from_host(request("tools/list")).to_server)
        assert listen["method"] == "subscriptions/listen"
        assert it.from_server(error(-32603, listen["id"])) == Turn()
    assert len(it.from_host(request("tools/list")).to_server) == 1


@pytest.mark.parametrize("ended", [error(-32603, "sth-b-3"), result({}, "sth-b-3")])
def test_a_subscription_whose_listen_fails_is_refused_and_the_old_listen_stays(ended: bytes) -> None:
    it, _ = listening()
    it.from_server(ack("sth-b-2", toolsListChanged=True))
    it.from_host(request("resources/subscribe", {"uri": "x://1"}, 1))
    answer = told(it.from_server(ended))
    assert answer["id"] == 1
    assert "error" in answer
    assert it.from_server(changed("sth-b-2")).to_host != []


def test_a_subscription_needs_a_uri() -> None:
    it, _ = listening()
    refused = told(it.from_host(request("resources/subscribe", {"uri": 7})))["error"]
    assert isinstance(refused, dict)
    assert refused["code"] == -32602


# As a leg.


class Wire:
    """A leg in memory: what was sent, and a way to say something."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.calls: list[str] = []
        self.say: Callable[[Sequence[bytes]], None] = self.sent.extend
        self.end: Callable[[LegEnd], None] | None = None
        self.waiting_bytes = 3

    def unsendable(self, tool: str) -> str:
        return f"no {tool} here"

    def start(self, received: Callable[[Sequence[bytes]], None], ended: Callable[[LegEnd], None]) -> None:
        self.say, self.end = received, ended

    def send(self, raw: bytes) -> None:
        self.sent.append(raw)

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    async def drained(self) -> bool:
        self.calls.append("drained")
        return True

    async def aclose(self) -> None:
        self.calls.append("aclose")


class Bench:
    """A bridged leg, its wire, a loop that runs when told, and what came out."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.got: list[bytes] = []
        self.ends: list[LegEnd] = []
        self.dropped: list[bytes] = []
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.leg = BridgedLeg(
            self.wire,
            Mint("b"),
            later=lambda seconds, call: self.due.append((seconds, call)),
            dropped=self.dropped.append,
        )
        self.leg.start(self.got.extend, self.ends.append)

    def turn(self) -> list[float]:
        due, self.due = self.due, []
        for _, call in due:
            call()
        return [seconds for seconds, _ in due]


def test_a_leg_hands_the_bridges_own_answers_over_by_the_loop_and_in_order() -> None:
    bench = Bench()
    bench.leg.send(initialize(ALL))
    bench.wire.say([error(-32022, 0)])
    bench.wire.say([result({"supportedVersions": ["2026-07-28"]}, "sth-b-1")])
    assert len(bench.got) == 1
    assert bench.leg.is_bridged
    bench.leg.send(request("ping", request_id=1))
    assert len(bench.got) == 1
    bench.turn()
    assert bench.got[1:] == [result({}, 1)]
    bench.leg.send(request("ping", request_id=2))
    log = note("notifications/message", {})
    bench.wire.say([log])
    bench.turn()
    assert bench.got[2:] == [result({}, 2), log]


def test_a_leg_waits_before_it_sends_a_state_back() -> None:
    bench = Bench()
    bench.leg.send(initialize(ALL))
    bench.wire.say([error(-32022, 0)])
    bench.wire.say([result({"supportedVersions": ["2026-07-28"]}, "sth-b-1")])
    bench.leg.send(request("tools/call", {"name": "t"}))
    bench.wire.say([input_required(None), request("roots/list")])
    before = len(bench.wire.sent)
    assert bench.turn() == [bridge.PROBE_S, bridge.RETRY_S]
    assert len(bench.wire.sent) == before + 1
    assert bench.dropped == [request("roots/list")]


def test_a_probe_that_is_never_answered_leaves_the_host_with_the_refusal() -> None:
    bench = Bench()
    bench.leg.send(initialize(ALL))
    bench.wire.say([error(-32603, 0)])
    bench.leg.send(b"early")
    assert bench.got == []
    assert bench.turn() == [bridge.PROBE_S]
    bench.turn()
    assert bench.got == [error(-32603, 0)]
    assert bench.wire.sent[-1] == b"early"


def test_a_plain_leg_passes_the_very_same_lines() -> None:
    bench = Bench()
    bench.leg.send(initialize(ALL))
    bench.wire.say([result({}, 0)])
    lines = [OversizedLine(b"{", tail=b"}", size_bytes=9), b"garbage"]
    bench.wire.say(lines)
    assert [id(line) for line in bench.got[1:]] == [id(line) for line in lines]
    bench.leg.send(b"anything")
    assert bench.wire.sent[-1] == b"anything"


@pytest.mark.anyio
async def test_the_rest_of_a_leg_is_the_leg_below() -> None:
    bench = Bench()
    bench.leg.pause()
    bench.leg.resume()
    assert await bench.leg.drained()
    await bench.leg.aclose()
    assert bench.wire.calls == ["pause", "resume", "drained", "aclose"]
    assert bench.leg.waiting_bytes == 3
    assert bench.wire.end is not None
    bench.wire.end(LegEnd(why="gone"))
    assert bench.ends == [LegEnd(why="gone")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
