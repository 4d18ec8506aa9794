"""Each cell of the strict table: refused, not sent, and the next request is answered. On the real command."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fidelity.broken import BROKEN, INVALID
from fidelity.rig import ALLOWING, ERAS, WATCHING, Rig, answered, at, call, read, request
from soothsayer_mcp.testing.servers import Script, result, tool, wait_path

UNANSWERED = {
    "an answer with both members": '{"jsonrpc":"2.0","id":5,"result":{},"error":{"code":1,"message":""}}',
    "an empty line": "",
}


def started(folder: Path, policy: str) -> Rig:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    rig = Rig(folder, Script(tools=[tool("echo"), tool("read", inputSchema=schema)]), policy=policy)
    rig.host.initialize()
    rig.host.call("echo")
    return rig


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with started(tmp_path_factory.mktemp("enforcing"), ALLOWING) as rig:
        yield rig


@pytest.fixture(scope="module")
def observing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with started(tmp_path_factory.mktemp("observing"), WATCHING) as rig:
        yield rig


@pytest.fixture(params=["enforcing", "observing"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """What cannot be read in one way is refused whatever policy says, also where it only observes."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", BROKEN)
def test_a_message_that_does_not_read_in_one_way_is_answered_and_never_sent(name: str, rig: Rig) -> None:
    line, code, shown_id = BROKEN[name]
    mark = len(rig.record.lines)
    rig.host.send(line)
    answer = read(rig.host.line())
    assert at(answer, "error", "code") == code
    assert answer["id"] == shown_id
    rig.fence()
    assert len(rig.told(mark)) == 1


@pytest.mark.parametrize("name", UNANSWERED)
def test_what_asks_nothing_is_dropped_without_an_answer(name: str, rig: Rig) -> None:
    mark = len(rig.record.lines)
    rig.host.aside.clear()
    rig.host.send(UNANSWERED[name])
    rig.fence()
    assert len(rig.told(mark)) == 1
    assert list(rig.host.aside) == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "inside",
    [
        '"name":7,"arguments":{}',
        '"name":"read","arguments":[]',
        '"name":"read","arguments":"{}"',
        '"name":"read","arguments":null',
        '"arguments":{}',
    ],
)
def test_a_call_whose_name_or_arguments_have_another_type_is_a_refused_step(
    inside: str, era: str, enforcing: Rig
) -> None:
    rig = enforcing
    mark = len(rig.record.lines)
    rig.host.send(request("tools/call", "{" + inside + "}", "5", era=era))
    answer = read(rig.host.answer(5))
    assert at(answer, "result", "isError") is True
    assert at(answer, "result", "_meta", "dev.soothsayer/step", "reason") == "arguments_invalid"
    assert ('"resultType"' in str(answer).replace("'", '"')) == (era == "stateless")
    rig.fence()
    assert b'"tools/call"' not in b"".join(rig.told(mark))


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("request_id", ["7", '"7"'])
def test_an_id_in_flight_is_not_taken_again_and_its_like_of_another_type_is(
    request_id: str, era: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = Script(on={"tool:slow": [wait_path(go), result('{"resultType":"complete"}')]}, tools=[tool("slow")])
    with Rig(tmp_path, script) as rig:
        rig.host.initialize()
        rig.host.send(call("slow", request_id=request_id, era=era))
        rig.record.wait_for("tools/call")
        rig.host.send(request("x/again", request_id=request_id, era=era))
        refused = rig.host.answer(read(f'{{"id":{request_id}}}'.encode())["id"])  # type: ignore[arg-type]  # a legal id
        assert at(read(refused), "error", "code") == INVALID
        other = "7" if request_id == '"7"' else '"7"'
        rig.host.send(request("x/like", request_id=other, era=era))
        assert "-32601" in rig.host.line().decode()
        assert b"x/again" not in b"".join(rig.record.lines)
        go.touch()
        assert rig.host.line() == answered('{"resultType":"complete"}', request_id)
