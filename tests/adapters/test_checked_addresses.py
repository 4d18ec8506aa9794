"""Remote servers are reached at addresses that were checked when the connection was made, and at no others."""

import json
import ssl
from collections.abc import Sequence
from pathlib import Path

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.test_http_client import Reply, Talk, ask_raw, literal, result, stateless
from fidelity.rig import ALLOWING, Rig, call, entries, read
from pitfalls_e2e.remote import serve
from soothsayer_mcp.adapters.addresses import may_reach, networks
from soothsayer_mcp.adapters.checked_transport import CheckedTransport, ProxiedTransport
from soothsayer_mcp.adapters.config import Remote
from soothsayer_mcp.adapters.http_client import HttpServer
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.ports import NoAnswer

INITIALIZE = (
    '{"jsonrpc":"2.0","id":8,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    '"clientInfo":{"name":"test","version":"1"}}}'
)
METADATA = "169.254.169.254"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Names:
    """A name service whose answers change; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    ("host", "found", "listed", "may"),
    [
        ("far.example", "93.184.216.34", "", True),
        ("far.example", "2606:4700::1111", "", True),
        ("far.example", METADATA, "private", False),
        ("far.example", "127.0.0.1", "", False),
        ("far.example", "127.0.0.1", "loopback", True),
        ("far.example", "10.1.2.3", "", False),
        ("far.example", "10.1.2.3", "private", True),
        ("far.example", "10.1.2.3", "10.0.0.0/8", True),
        ("far.example", "10.1.2.3", "10.2.0.0/16", False),
        ("far.example", "100.64.0.1", "private", False),
        ("far.example", "0.0.0.0", "private", False),
        ("far.example", "fe80::1%eth0", "", False),
        ("far.example", "fd00::1", "", False),
        ("far.example", "224.0.0.1", "", False),
        ("far.example", "::ffff:127.0.0.1", "", False),
        ("far.example", "::ffff:169.254.169.254", "", False),
        ("far.example", "64:ff9b::a9fe:a9fe", "", False),
        ("far.example", "2002:a9fe:a9fe::1", "", False),
        ("far.example", "2001:0:0:0:0:0:f5ff:fffe", "", False),
        ("far.example", METADATA, "169.254.169.254", True),
        ("localhost", "127.0.0.1", "", True),
        ("Localhost.", "::1", "", True),
        ("localhost", "10.0.0.1", "", False),
        ("localhost", METADATA, "", False),
        ("localhost.example", "127.0.0.1", "", False),
        ("127.0.0.1", "127.0.0.1", "", True),
        ("[::1]", "::1", "", True),
        ("192.168.1.5", "192.168.1.5", "", True),
        ("192.168.1.5", "192.168.1.6", "", False),
        (METADATA, METADATA, "", False),
        ("0.0.0.0", "0.0.0.0", "", False),
        ("2130706433", "127.0.0.1", "", False),
    ],
)
def test_a_name_may_lead_to_the_public_and_to_what_is_listed(host: str, found: str, listed: str, may: bool) -> None:
    assert may_reach(host, found, networks(listed) if listed else ()) is may


@given(st.ip_addresses(v=4))
def test_an_address_within_another_one_is_judged_as_itself(address: object) -> None:
    alone = may_reach("far.example", str(address), ())
    number = int(address)  # pyright: ignore[reportArgumentType] - both kinds of addresses are numbers
    high, low = number >> 16, number & 0xFFFF
    for carried in (f"::ffff:{address}", f"64:ff9b::{high:x}:{low:x}", f"2002:{high:x}:{low:x}::1"):
        assert may_reach("far.example", carried, ()) is alone


async def told(talk: Talk, request_id: str = "1") -> NoAnswer:
    lost = await ask_raw(talk, stateless("tools/list", request_id))
    assert isinstance(lost, NoAnswer)
    return lost


@pytest.mark.anyio
@pytest.mark.pitfall("P-SECRET-03")
async def test_a_name_that_leads_inside_the_second_time_is_refused_then_and_after_a_restart() -> None:
    with literal(Reply(result({}), headers={"connection": "close"})) as server:
        port = server.server_address[1]
        names = Names(["127.0.0.1"], [METADATA])
        remote = Remote(name="far", url=f"http://far.example:{port}/mcp", addresses=("loopback",))
        for times in (1, 0):
            talk = Talk(await HttpServer(remote, resolve=names)())
            try:
                for number in range(times):
                    assert await ask_raw(talk, stateless("tools/list", number + 1)) == result({})
                lost = await told(talk, "again")
                assert (lost.error.reason, lost.error.acted) == (Reason.SERVER_UNREACHABLE, Acted.NO)
                assert f"far.example leads to {METADATA}, which is no public address" in lost.error.summary
            finally:
                await talk.leg.aclose()
        assert names.asked == [("far.example", port)] * 3
        assert [said.all("host") for said in server.posts()] == [[f"far.example:{port}"]]


@pytest.mark.anyio
async def test_of_several_addresses_only_those_that_may_be_reached_are_tried() -> None:
    with literal(Reply(result({}))) as server:
        port = server.server_address[1]
        names = Names([METADATA, "127.0.0.3", "127.0.0.1"])
        async with httpx2.AsyncClient(transport=CheckedTransport(networks("loopback"), resolve=names)) as client:
            assert (await client.post(f"http://far.example:{port}/", content=b"")).status_code == 200
        assert len(server.posts()) == 1


@pytest.mark.anyio
@pytest.mark.pitfall("P-SECRET-03")
@pytest.mark.parametrize("place", [f"http://{METADATA}/latest", "http://inside.example/"])
async def test_a_redirect_that_is_followed_is_checked_again(place: str) -> None:
    async def names(host: str, _port: int) -> Sequence[str]:
        return [{"far.example": "127.0.0.1", "inside.example": METADATA}.get(host, host)]

    with literal(Reply(status=302, headers={"location": place})) as server:
        transport = CheckedTransport(networks("127.0.0.1"), resolve=names)
        async with httpx2.AsyncClient(transport=transport, follow_redirects=True) as client:
            with pytest.raises(httpx2.ConnectError, match="no public address"):
                await client.post(f"http://far.example:{server.server_address[1]}/", content=b"")
        assert len(server.heard) == 1


@pytest.mark.anyio
async def test_what_the_name_says_is_what_tls_is_asked_for() -> None:
    """The address is ours, the name in the greeting is the URL's."""
    greeted: list[bytes] = []
    heard = anyio.Event()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def hear(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            greeted.append(await stream.receive(4096))
            heard.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, hear)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        transport = CheckedTransport(networks("loopback"), resolve=Names(["127.0.0.1"]))
        async with httpx2.AsyncClient(transport=transport) as client:
            with pytest.raises((httpx2.TransportError, ssl.SSLError)):
                await client.get(f"https://far.example:{port}/")
        with anyio.fail_after(60):
            await heard.wait()
        tasks.cancel_scope.cancel()
    await listener.aclose()
    assert b"far.example" in greeted[0]


@pytest.mark.anyio
async def test_a_name_without_an_address_cannot_be_reached() -> None:
    async def nowhere(_host: str, _port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    async with httpx2.AsyncClient(transport=CheckedTransport((), resolve=nowhere)) as client:
        with pytest.raises(httpx2.ConnectError, match=r"far\.example has no address"):
            await client.get("http://far.example/")


@pytest.mark.anyio
@pytest.mark.parametrize("host", [METADATA, "2852039166", "0xa9.0xfe.0xa9.0xfe", "[::ffff:169.254.169.254]"])
async def test_an_address_in_place_of_a_name_is_checked_before_a_proxy_is_asked(host: str) -> None:
    async with httpx2.AsyncClient(transport=ProxiedTransport((), "http://127.0.0.1:9")) as client:
        with pytest.raises(httpx2.ConnectError, match="no public address"):
            await client.get(f"http://{host}/")


@pytest.mark.anyio
async def test_a_name_goes_to_the_proxy_of_the_environment() -> None:
    with literal(Reply()) as server:
        transport = ProxiedTransport((), f"http://127.0.0.1:{server.server_address[1]}")
        async with httpx2.AsyncClient(transport=transport) as client:
            assert (await client.post("http://far.example/", content=b"")).status_code == 200
        assert [said.path for said in server.posts()] == ["http://far.example/"]


@pytest.mark.pitfall("P-SECRET-03")
def test_a_server_of_the_file_is_checked_each_time_the_proxy_starts(tmp_path: Path) -> None:
    """The name is a number, which resolvers read as 127.0.0.1 and nothing lists."""
    with serve() as url:
        port = url.rpartition(":")[2].partition("/")[0]
        config = tmp_path / "soothsayer.yaml"

        def write(**more: object) -> None:
            remote = {"url": f"http://2130706433:{port}/mcp", **more}
            text = {
                "soothsayer": "config/v1",
                "policy": [str(tmp_path / "policy.yaml")],
                "mcpServers": {"far": remote},
            }
            config.write_text(json.dumps(text), encoding="utf-8")

        write()
        for number in (1, 2):
            with Rig(tmp_path, policy=ALLOWING, config=config) as rig:
                rig.host.send(call("large", request_id="7", era="stateless"))
                answer = read(rig.host.answer(7))
                assert "2130706433 leads to 127.0.0.1" in str(answer)
            refused = [entry for entry in entries(rig.state, "step.refused") if entry["server"] == "far"]
            assert len(refused) == number
            assert "server_unreachable" in json.dumps(refused[-1])
        with Rig(tmp_path, policy=ALLOWING, config=config) as rig:
            rig.host.send(INITIALIZE)
            assert "2130706433 leads to 127.0.0.1" in str(read(rig.host.answer(8)))
        [left] = [entry for entry in entries(rig.state, "message.dropped") if entry.get("method") == "initialize"]
        assert (left["server"], left["reason"], left["answered"]) == ("far", "server_unreachable", True)
        assert "leads to 127.0.0.1, which is no public address" in str(left["why"])
        write(addresses=["loopback"])
        with Rig(tmp_path, policy=ALLOWING, config=config) as rig:
            rig.host.initialize()
            assert "result" in rig.host.call("large")
