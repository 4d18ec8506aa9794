"""Whatever refuses a message, on the real command: exactly one entry says so."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from fidelity.rig import Rig, at, notice, read, request
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.proxy.routes import ROUTES, Act, Way
from soothsayer_mcp.testing.servers import Script, line, result, tool, wait_path, wait_until
from soothsayer_mcp.wire.eras import Era
from soothsayer_mcp.wire.frame import FrameKind
from soothsayer_mcp.wire.strict import FAULTS, Fault

MAX_FRAME: Final = 300_000

POLICY: Final = """
soothsayer: policy/v1
name: closed
default: {read: allow, other: allow, checked: deny}
arguments: {max_bytes: 20MB, undeclared: allow, no_schema: allow}
rules:
  - {allow: "Forms are.", id: forms, tools: "raw.@elicitation/create"}
"""

CONFIG: Final = """
soothsayer: config/v1
policy: [policy.yaml]
limits: {max_frame: %s}
mcpServers:
%s
"""

SPELT: Final[dict[Fault, str | bytes]] = {
    Fault.NOT_UTF8: b'{"jsonrpc":"2.0","id":5,"method":"ping","x":"\xff"}',
    Fault.BYTE_ORDER_MARK: b"\xef\xbb\xbf" + request("ping").encode(),
    Fault.BROKEN_JSON: "{",
    Fault.TEXT_AFTER: request("ping") + " x",
    Fault.NOT_FINITE: request("x/y", '{"n":NaN}'),
    Fault.NOT_AN_OBJECT: '"tools/call"',
    Fault.ARRAY: f"[{request('ping')}]",
    Fault.DUPLICATE_KEY: request("tools/call", '{"name":"plain","name":"other"}'),
    Fault.FOLDED_KEY: request("tools/call", '{"name":"plain","arguments":{"a":{"k":1,"K":2}}}'),
    Fault.HIDDEN_KEY: request("tools/call", '{"name":"plain","arguments":{"a\u200b":1}}'),
    Fault.TOO_DEEP: request("tools/call", '{"name":"plain","arguments":{"d":' + "[" * 127 + "]" * 127 + "}}"),
    Fault.TOO_BIG: request("tools/call", '{"name":"plain","arguments":{"x":"' + "x" * MAX_FRAME + '"}}'),
    Fault.NUMBER_OUT_OF_RANGE: request("tools/call", '{"name":"plain","arguments":{"n":1e400}}'),
    Fault.LONE_SURROGATE: request("tools/call", '{"name":"plain","arguments":{"s":"\\ud800"}}'),
    Fault.PARAMS_NOT_OBJECT: request("tools/call", "[]"),
    Fault.METHOD_TYPE: '{"jsonrpc":"2.0","id":5,"method":1}',
    Fault.METHOD_AND_ANSWER: '{"jsonrpc":"2.0","id":5,"method":"ping","result":{}}',
    Fault.NO_METHOD_NO_ANSWER: '{"jsonrpc":"2.0","id":5}',
    Fault.RESULT_AND_ERROR: '{"jsonrpc":"2.0","id":5,"result":{},"error":{"code":1,"message":""}}',
    Fault.ID_TYPE: request("ping", request_id="1.5"),
}

TO_SERVER: Final = [
    (method, era, row)
    for (way, era, method), row in sorted(ROUTES.items(), key=lambda each: (each[0][2], each[0][1].value))
    if way is Way.TO_SERVER
]
REFUSED: Final = [(method, era) for method, era, row in TO_SERVER if row.act is Act.REFUSED]
DROPPED: Final = [(method, era) for method, era, row in TO_SERVER if row.act is Act.DROPPED]
CHECKED: Final = [
    (method, era)
    for method, era, row in TO_SERVER
    if row.act is Act.CHECKED and row.kind is FrameKind.REQUEST and not method.endswith("/list")
] + [("tasks/list", Era.HANDSHAKE)]
"""What policy decides; the other lists are cut and not refused."""

PARAMS: Final = '{"uri":"a:b","name":"p","taskId":"t","ref":{"type":"ref/prompt","name":"p"},"argument":{}}'
QUIET: Final = {Fault.RESULT_AND_ERROR}
"""What is nobody's request gets no answer."""


class Closed(Rig):
    """A proxy whose policy refuses every message that is no tool call."""

    def __init__(self, folder: Path, script: Script | None = None, *, several: bool = False) -> None:
        made = script or Script(tools=[tool("plain")])
        names = ("raw", "two") if several else (made.name,)
        command, *words = made.command(folder)
        block = "\n".join(f"  {name}: {{command: {command}, args: {words}}}" for name in names)
        (folder / "soothsayer.yaml").write_text(CONFIG % (MAX_FRAME, block), encoding="utf-8")
        super().__init__(folder, made, policy=POLICY, config=folder / "soothsayer.yaml")
        self.host.initialize()
        self.host.request("ping")

    def refused(self, mark: int) -> list[JsonObject]:
        """What was refused since there were so many entries, once something durable has come after it."""
        # An answer to a call is given after its outcome is durable, and so is all that was noted before it.
        self.host.request("tools/call", {"name": "plain", "arguments": {}})
        return [entry for entry in self.entries()[mark:] if refuses(entry)]


def refuses(entry: JsonObject) -> bool:
    return entry["kind"] == "message.dropped" or (entry["kind"] == "message.checked" and entry["effect"] != "allow")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Generator[Closed]:
    with Closed(tmp_path_factory.mktemp("closed")) as made:
        yield made


def test_every_fault_a_message_can_have_is_spelt_here() -> None:
    assert SPELT.keys() == FAULTS.keys() == set(Fault)
    assert REFUSED
    assert DROPPED
    assert CHECKED


@pytest.mark.pitfall("P-TRACE-02")
@pytest.mark.parametrize("fault", SPELT)
def test_a_message_that_cannot_be_read_is_one_entry(fault: Fault, rig: Closed) -> None:
    mark = len(rig.entries())
    rig.host.send(SPELT[fault])
    if fault not in QUIET:
        assert "error" in read(rig.host.line())
    [entry] = rig.refused(mark)
    assert (entry["kind"], entry["from"], entry["reason"]) == ("message.dropped", "host", fault)
    assert entry["answered"] is (fault not in QUIET)


@pytest.mark.pitfall("P-TRACE-02")
@pytest.mark.parametrize(("method", "era"), [*REFUSED, ("x/unknown", Era.HANDSHAKE), ("x/unknown", Era.STATELESS)])
def test_a_method_that_is_refused_is_one_entry(method: str, era: Era, rig: Closed) -> None:
    mark = len(rig.entries())
    rig.host.send(request(method, "{}", '"refused"', era=era.value))
    assert at(read(rig.host.answer("refused")), "error", "code") == -32601
    [entry] = rig.refused(mark)
    assert (entry["kind"], entry["method"], entry["answered"]) == ("message.dropped", method, True)


@pytest.mark.parametrize("method", ["notifications/x", "tools/call", "notifications/cancelled"])
def test_a_notice_that_goes_no_further_is_one_entry(method: str, rig: Closed) -> None:
    mark = len(rig.entries())
    rig.host.send(notice(method))
    [entry] = rig.refused(mark)
    assert (entry["kind"], entry["method"], entry["answered"]) == ("message.dropped", method, False)


@pytest.mark.pitfall("P-TRACE-02")
@pytest.mark.parametrize(("method", "era"), CHECKED)
def test_a_message_that_policy_refuses_is_one_entry(method: str, era: Era, rig: Closed) -> None:
    mark = len(rig.entries())
    rig.host.send(request(method, PARAMS, '"denied"', era=era.value))
    answer = read(rig.host.answer("denied"))
    assert (at(answer, "error", "code"), at(answer, "error", "data", "reason")) == (4030, "no_rule")
    [entry] = rig.refused(mark)
    assert (entry["kind"], entry["method"], entry["reason"]) == ("message.checked", method, "no_rule")


def test_an_id_in_flight_is_one_entry(tmp_path: Path) -> None:
    go = tmp_path / "go"
    held = {"tool:held": [wait_path(go), result('{"content":[]}')]}
    script = Script(tools=[tool("plain"), tool("held")], on=held)
    with Closed(tmp_path, script) as rig:
        rig.host.send(request("tools/call", '{"name":"held","arguments":{}}', '"twice"'))
        wait_until(lambda: len(rig.record.calls("held")) == 1, "the call")
        mark = len(rig.entries())
        rig.host.send(request("ping", "{}", '"twice"'))
        assert "error" in read(rig.host.answer("twice"))
        [entry] = rig.refused(mark)
        assert (entry["kind"], entry["reason"]) == ("message.dropped", "id_in_flight")
        go.touch()
        assert "result" in read(rig.host.answer("twice"))


SECRET: Final = json.dumps(
    {
        "message": "Your password?",
        "requestedSchema": {"type": "object", "properties": {"password": {"type": "string"}}},
    }
)
ASKED: Final = {
    "sampling/createMessage": ("{}", "no_rule"),
    "roots/list": ("{}", "no_rule"),
    "elicitation/create": (SECRET, "rule_denied"),
}


@pytest.mark.parametrize("method", ASKED)
def test_what_a_server_may_not_ask_is_one_entry_that_says_no(method: str, tmp_path: Path) -> None:
    params, reason = ASKED[method]
    asks = line('{"jsonrpc":"2.0","id":"q","method":"' + method + '","params":' + params + "}")
    script = Script(tools=[tool("plain"), tool("ask")], on={"tool:ask": [asks, result('{"content":[]}')]})
    with Closed(tmp_path, script) as rig:
        mark = len(rig.entries())
        rig.host.call("ask")
        wait_until(lambda: any(message.get("id") == "q" for message in rig.record.messages), "the answer")
        [entry] = rig.refused(mark)
        assert (entry["kind"], entry["method"], entry["from"]) == ("message.checked", method, "server")
        assert (entry["effect"], entry["reason"]) == ("deny", reason)
        assert all(read(raw).get("method") != method for raw in rig.host.aside)


def test_an_input_of_an_unknown_kind_is_one_entry(tmp_path: Path) -> None:
    wanting = result('{"resultType":"input_required","inputRequests":{"a":{"method":"x/spy"}},"requestState":"s"}')
    script = Script(tools=[tool("plain"), tool("spy")], on={"tool:spy": [wanting]})
    with Closed(tmp_path, script) as rig:
        mark = len(rig.entries())
        answer = rig.host.call("spy", stateless=True)
        assert at(answer, "result", "_meta", "dev.soothsayer/step", "reason") == "rule_denied"
        [entry] = rig.refused(mark)
        assert (entry["kind"], entry["from"], entry["reason"]) == ("message.dropped", "server", "unknown_method")


@pytest.mark.parametrize("listed", ['{"tools":7}', '{"tools":[],"tools":[]}'])
def test_a_list_that_cannot_be_cut_is_one_entry(listed: str, tmp_path: Path) -> None:
    with Closed(tmp_path, Script(tools=[tool("plain")], on={"tools/list": [result(listed)]})) as rig:
        mark = len(rig.entries())
        assert "error" in rig.host.request("tools/list")
        [entry] = rig.refused(mark)
        assert (entry["kind"], entry["method"], entry["reason"]) == ("message.dropped", "tools/list", "list_unreadable")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Generator[Closed]:
    with Closed(tmp_path_factory.mktemp("pair"), several=True) as made:
        yield made


@pytest.mark.parametrize("method", ["prompts/get", "completion/complete", "resources/subscribe", "tasks/get"])
def test_what_no_server_here_is_for_is_one_entry(method: str, pair: Closed) -> None:
    mark = len(pair.entries())
    assert at(pair.host.request(method, {"name": "p", "uri": "a:b", "taskId": "t"}), "error", "code") == -32602
    [entry] = pair.refused(mark)
    assert (entry["kind"], entry["method"], entry["reason"]) == ("message.dropped", method, "nobody_has_it")
