"""What belongs to one request stays in its order, a slow one holds up no other, and a cancel ends what it names."""

from pathlib import Path

import pytest

from fidelity.rig import ALLOWING, ERAS, META, WATCHING, Rig, answered, call, notice, read, request
from soothsayer_mcp.testing.servers import Script, burst, line, result, tool, wait_for, wait_path, wait_until

DONE = '{"resultType":"complete","content":[]}'
MANY = 300
POLICIES = pytest.mark.parametrize("policy", [WATCHING, ALLOWING], ids=["observing", "enforcing"])


def progress(token: str, number: object) -> str:
    return notice("notifications/progress", f'{{"progressToken":{token},"progress":{number},"total":{MANY}.0}}')


def with_token(name: str, token: str, era: str) -> str:
    meta = f'{{"progressToken":{token}' + ("}" if era == "handshake" else "," + META[1:])
    return request("tools/call", f'{{"name":"{name}","arguments":{{}},"_meta":{meta}}}', "7")


@POLICIES
def test_three_hundred_notices_and_the_result_in_one_burst_arrive_in_order(policy: str, tmp_path: Path) -> None:
    together = "\n".join([*(progress("$TOKEN", number) for number in range(MANY)), answered(DONE, "$ID").decode()])
    script = Script(
        on={"tool:together": [line(together)], "tool:apart": [burst(MANY, progress("$TOKEN", "$N")), result(DONE)]},
        tools=[tool("together"), tool("apart")],
    )
    with Rig(tmp_path, script, policy=policy) as rig:
        rig.host.initialize()
        for token in ("0", '"t"', '""', str(2**70)):
            for era in ERAS:
                for name in ("together", "apart"):
                    rig.host.send(with_token(name, token, era))
                    came = [rig.host.line() for _ in range(MANY + 1)]
                    assert came == [*(progress(token, number).encode() for number in range(MANY)), answered(DONE, "7")]


@POLICIES
@pytest.mark.parametrize("era", ERAS)
def test_a_slow_call_holds_up_nothing_else(policy: str, era: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    on = {"tool:slow": [wait_path(go), result(DONE)], "resources/read": [result('{"resultType":"complete"}')]}
    with Rig(tmp_path, Script(on=on, tools=[tool("slow"), tool("echo")]), policy=policy) as rig:
        rig.host.initialize()
        rig.host.send(call("slow", request_id='"slow"', era=era))
        rig.record.wait_for("tools/call")
        rig.host.send(call("echo", request_id="2", era=era))
        assert '"result"' in rig.host.line().decode()
        rig.host.send(request("resources/read", '{"uri":"a:b"}', "3", era=era))
        assert rig.host.line() == answered('{"resultType":"complete"}', "3")
        rig.fence()
        go.touch()
        assert rig.host.line() == answered(DONE, '"slow"')


@POLICIES
def test_a_cancel_goes_on_with_its_reason_and_nothing_follows_it(policy: str, tmp_path: Path) -> None:
    """A server may answer or tell progress all the same: the host hears neither."""
    late = [wait_for("notifications/cancelled"), line(progress("$TOKEN", 1)), result(DONE)]
    script = Script(on={"tool:slow": late, "resources/read": late}, tools=[tool("slow"), tool("echo")])
    with Rig(tmp_path, script, policy=policy) as rig:
        rig.host.initialize()
        cancels: list[bytes] = []
        for request_id in ("0", '"0"', '"c"'):
            for method in ("tools/call", "resources/read"):
                params = '{"name":"slow","uri":"a:b","arguments":{},"_meta":{"progressToken":5}}'
                rig.host.send(request(method, params, request_id))
                wait_until(lambda: b"progressToken" in rig.last, "the request")
                cancel = notice("notifications/cancelled", f'{{"requestId":{request_id},"reason":"\\u0041","x":null}}')
                cancels.append(cancel.encode())
                rig.host.send(cancel)
                rig.record.wait_for("notifications/cancelled", len(cancels))
                assert rig.last == cancels[-1]
                assert rig.host.call("echo")["result"]
        assert [told for told in rig.record.lines if b"cancelled" in told] == cancels
        assert list(rig.host.aside) == []


def test_a_cancel_of_an_answered_or_unknown_request_goes_nowhere(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.host.initialize()
        rig.host.send(call("echo", request_id="7"))
        rig.host.answer(7)
        for named in ("7", '"7"', "99", "null", "{}"):
            rig.host.send(notice("notifications/cancelled", f'{{"requestId":{named}}}'))
        rig.fence()
        assert "notifications/cancelled" not in rig.record.methods


def test_a_question_that_its_server_withdraws_is_withdrawn_at_the_host(tmp_path: Path) -> None:
    withdraw = notice("notifications/cancelled", '{"requestId":0,"reason":"\\u0041","x":1.0}')
    script = Script(
        on={
            "tool:asks": [
                line(request("roots/list", None, "0")),
                wait_path(tmp_path / "go"),
                line(withdraw),
                result(DONE),
            ]
        },
        tools=[tool("asks")],
    )
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        rig.host.send(call("asks", request_id="7"))
        shown = str(read(rig.host.message("roots/list"))["id"])
        (tmp_path / "go").touch()
        came = rig.host.message("notifications/cancelled").decode()
        assert came == withdraw.replace('"requestId":0', f'"requestId":"{shown}"')
        rig.host.answer(7)
        mark = len(rig.record.lines)
        rig.host.send(f'{{"jsonrpc":"2.0","id":"{shown}","result":{{"roots":[]}}}}')
        rig.fence()
        assert len(rig.told(mark)) == 1


def test_a_stateless_server_asks_a_host_nothing_by_a_request(tmp_path: Path) -> None:
    methods = ["roots/list", "elicitation/create", "sampling/createMessage", "ping", "tasks/get", "x/unknown"]
    asks = [line(request(method, "{}", str(number))) for number, method in enumerate(methods)]
    script = Script(eras=("stateless",), on={"tool:asks": [*asks, result(DONE)]}, tools=[tool("asks")])
    with Rig(tmp_path, script) as rig:
        rig.host.request("server/discover", stateless=True)
        for request_id in ("7", "8"):
            rig.host.send(call("asks", request_id=request_id, era="stateless"))
            assert rig.host.line() == answered(DONE, request_id)
        assert not [message for message in rig.record.messages if "method" not in message]
    assert [entry["method"] for entry in rig.entries("message.dropped")] == methods * 2


def test_two_servers_may_ask_under_the_same_id(tmp_path: Path) -> None:
    scripts = [
        Script(
            name=name,
            on={"tool:asks": [line(request("roots/list", None, "0")), wait_for(0), result(DONE)]},  # type: ignore[arg-type]  # the id
            tools=[tool("asks")],
        )
        for name in ("one", "two")
    ]
    servers = {script.name: script.command(tmp_path) for script in scripts}
    config = {
        "soothsayer": "config/v1",
        "policy": [str(tmp_path / "policy.yaml")],
        "mcpServers": {name: {"command": argv[0], "args": argv[1:]} for name, argv in servers.items()},
    }
    (tmp_path / "soothsayer.yaml").write_text(str(config).replace("'", '"'), encoding="utf-8")
    with Rig(tmp_path, policy=ALLOWING, config=tmp_path / "soothsayer.yaml") as rig:
        rig.host.initialize()
        rig.host.send(call("one__asks", request_id="1"))
        first = read(rig.host.message("roots/list"))
        rig.host.send(call("two__asks", request_id="2"))
        second = read(rig.host.message("roots/list"))
        assert first["id"] != second["id"]
        rig.host.send(answered('{"roots":[],"of":"two"}', f'"{second["id"]}"'))
        assert rig.host.line() == answered(DONE, "2")
        rig.host.send(answered('{"roots":[],"of":"one"}', f'"{first["id"]}"'))
        assert rig.host.line() == answered(DONE, "1")
        for script in scripts:
            told = f'{{"roots":[],"of":"{script.name}"}}'
            assert script.record(tmp_path).lines[-1] == answered(told, "0")
