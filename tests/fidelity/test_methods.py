"""Every method of both eras, each way: what goes on, what is answered in its place, what goes nowhere."""

from collections.abc import Iterator

import pytest

from fidelity.rig import ALLOWING, ERAS, Rig, at, call, notice, read, request
from soothsayer_mcp.testing.servers import Act, Script, line, result, tool, wait_for

REQUESTS = {
    "ping": "{}",
    "tools/list": '{"cursor":""}',
    "tools/call": '{"name":"echo","arguments":{"a":1.0}}',
    "resources/list": "{}",
    "resources/templates/list": "{}",
    "prompts/list": "{}",
    "resources/read": '{"uri":"file:///a"}',
    "prompts/get": '{"name":"p","arguments":{"a":"b"}}',
    "completion/complete": '{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"b"}}',
    "resources/subscribe": '{"uri":"file:///a"}',
    "resources/unsubscribe": '{"uri":"file:///a"}',
    "logging/setLevel": '{"level":"debug"}',
    "tasks/get": '{"taskId":"t"}',
    "tasks/cancel": '{"taskId":"t"}',
    "tasks/result": '{"taskId":"t"}',
    "tasks/list": "{}",
    "tasks/update": '{"taskId":"t","inputResponses":{}}',
    "subscriptions/listen": '{"notifications":{"toolsListChanged":true}}',
}
NOT_IN = {
    "handshake": {"tasks/update", "subscriptions/listen"},
    "stateless": {
        *("ping", "resources/subscribe", "resources/unsubscribe", "logging/setLevel", "tasks/result", "tasks/list"),
    },
}
OF_HOSTS = {
    "handshake": {"notifications/roots/list_changed", "notifications/progress"},
    "stateless": set[str](),
}
"""The notices of hosts that go on; `initialized` and `cancelled` have tests of their own."""

NOTICES_OF_SERVERS = [
    notice("notifications/progress", '{"progressToken":"t","progress":1.0,"message":null}'),
    notice("notifications/message", '{"level":"info","data":{"a":null},"logger":"\\u0041"}'),
    notice("notifications/tools/list_changed", None),
    notice("notifications/prompts/list_changed", '{"_meta":{}}'),
    notice("notifications/resources/list_changed", "{ }"),
    notice("notifications/resources/updated", '{"uri":"file:///a","x-title":null}'),
    notice("notifications/elicitation/complete", '{"elicitationId":"e"}'),
    notice("notifications/tasks/status", '{"taskId":"t","status":"working"}'),
    notice("notifications/x/unknown", '{"a":1E5}'),
]
QUESTIONS = [
    request("ping", None, "0"),
    request(
        "elicitation/create", '{"message":"\\u0041?","requestedSchema":{"type":"object","properties":{}},"x":null}', "0"
    ),
    request("sampling/createMessage", '{"messages":[],"maxTokens":1,"x-more":{}}', "0"),
    request("roots/list", '{ "_meta":{} }', "0"),
    request("tasks/get", '{"taskId":"h"}', "0"),
    request("tasks/list", None, "0"),
    request("tasks/result", '{"taskId":"h"}', "0"),
    request("tasks/cancel", '{"taskId":"h"}', "0"),
    request("x/unknown", '{"a":[null]}', "0"),
]

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def scripted() -> Script:
    on: dict[str, list[Act]] = {
        method: [result('{"of":"' + method + '","resultType":"complete","x":null}')]
        for method in REQUESTS
        if method not in {"ping", "tools/list", "tools/call", "subscriptions/listen"}
    }
    lists = {"resources": "resources", "resources/templates": "resourceTemplates", "prompts": "prompts"}
    for subject, member in lists.items():
        on[f"{subject}/list"] = [result('{"resultType":"complete","x":null, "' + member + '" : [ ]}')]
    on["subscriptions/listen"] = [
        line(
            notice(
                "notifications/subscriptions/acknowledged", '{"_meta":{"' + SUBSCRIPTION + '":$ID},"notifications":{}}'
            )
        ),
        result('{"resultType":"complete","x":null,"_meta":{"' + SUBSCRIPTION + '":$ID}}'),
    ]
    on["x/unknown"] = [result('{"resultType":"complete","x":1.0}')]
    for number, text in enumerate(NOTICES_OF_SERVERS):
        on[f"tool:notice {number}"] = [line(text), result('{"content":[]}')]
    for number, text in enumerate(QUESTIONS):
        on[f"tool:question {number}"] = [line(text), wait_for(0), result('{"content":[]}')]  # type: ignore[arg-type]  # the id of the question
    names = [name.removeprefix("tool:") for name in on if name.startswith("tool:")]
    return Script(on=on, tools=[tool("echo"), *map(tool, names)], capabilities='{"tools":{},"logging":{}}')


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig(tmp_path_factory.mktemp("methods"), scripted()) as rig:
        rig.host.initialize()
        rig.fence()
        yield rig


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The same server under a policy that allows all, and lists no unknown method."""
    with Rig(tmp_path_factory.mktemp("governed"), scripted(), policy=ALLOWING) as rig:
        rig.host.initialize()
        rig.host.call("echo")
        rig.fence()
        yield rig


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", [*REQUESTS, "x/unknown"])
@pytest.mark.parametrize("which", ["rig", "governed"])
def test_a_request_of_its_era_goes_on_and_any_other_is_refused(
    which: str, method: str, era: str, request: pytest.FixtureRequest
) -> None:
    rig: Rig = request.getfixturevalue(which)
    asked = text_of(method, era)
    mark = len(rig.record.lines)
    rig.host.send(asked)
    answer = read(rig.host.answer("q"))
    if method in NOT_IN[era] or (method == "x/unknown" and which == "governed"):
        assert at(answer, "error", "code") == -32601
        rig.fence()
        assert len(rig.told(mark)) == 1
    else:
        assert "result" in answer
        assert asked.encode() in rig.told(mark)


def text_of(method: str, era: str) -> str:
    return request(method, REQUESTS.get(method, '{"a":null}'), '"q"', era=era)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "method",
    ["notifications/roots/list_changed", "notifications/progress", "notifications/initialized", "notifications/x"],
)
def test_a_notice_of_a_host_goes_on_in_its_era_only(method: str, era: str, rig: Rig) -> None:
    whole = request(method, '{"progressToken":"none","progress":1}', era=era).replace('"id":1,', "")
    mark = len(rig.record.lines)
    rig.host.send(whole)
    rig.fence()
    goes_on = era == "handshake" or method == "notifications/x"
    assert rig.told(mark)[:-1] == ([whole.encode()] if goes_on else [])


@pytest.mark.parametrize("number", range(len(NOTICES_OF_SERVERS)))
def test_a_notice_of_a_server_goes_on_before_what_follows_it(number: int, rig: Rig) -> None:
    rig.host.aside.clear()
    rig.host.send(call(f"notice {number}", request_id='"n"'))
    rig.host.answer("n")
    assert list(rig.host.aside) == [NOTICES_OF_SERVERS[number].encode()]


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_a_question_of_a_server_and_its_answer_change_in_their_id_only(number: int, rig: Rig) -> None:
    asked = QUESTIONS[number]
    rig.host.send(call(f"question {number}", request_id='"c"'))
    came = rig.host.message(str(read(asked.encode())["method"]))
    shown = str(read(came)["id"])
    assert came.decode() == asked.replace('"id":0', f'"id":"{shown}"')
    answer = '{ "result":{"action":"accept","content":{"n":1.0,"x":null}}, "x":[], "id":"ID","jsonrpc":"2.0"}'
    rig.host.send(answer.replace("ID", shown))
    rig.host.answer("c")
    assert rig.last.decode() == answer.replace('"ID"', "0")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", ["tools/call", "tools/list", "x/unknown", "resources/read"])
def test_a_request_without_an_id_reaches_nobody_unless_it_may_be_a_notice(method: str, era: str, governed: Rig) -> None:
    whole = text_of(method, era).replace('"id":"q",', "")
    mark = len(governed.record.lines)
    governed.host.send(whole)
    governed.fence()
    assert len(governed.told(mark)) == 1


def test_an_answer_to_nothing_reaches_nobody(rig: Rig) -> None:
    mark = len(rig.record.lines)
    rig.host.send('{"jsonrpc":"2.0","id":0,"result":{}}')
    rig.host.send('{"jsonrpc":"2.0","id":"sth-1","error":{"code":1,"message":"x"}}')
    rig.fence()
    assert len(rig.told(mark)) == 1
