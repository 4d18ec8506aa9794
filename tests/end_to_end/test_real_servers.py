"""Real servers answer through the proxy exactly as they do directly, in every era that they speak."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from end_to_end.conftest import OPEN_POLICY, REAL_SERVERS, SOOTHSAYER, RealServer, furnish
from kept import keep
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.wire.eras import HANDSHAKE_VERSIONS, STATELESS_VERSION

LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")


class Pair:
    """The same server twice: alone, and behind the proxy."""

    def __init__(self, direct: RawHost, proxied: RawHost) -> None:
        self.direct = direct
        self.proxied = proxied

    def both(self, method: str, params: JsonObject | None, *, stateless: bool) -> tuple[JsonObject, JsonObject]:
        """Send one request to both; the ids are the same, so the answers have to be."""
        return (
            self.direct.request(method, params, stateless=stateless),
            self.proxied.request(method, params, stateless=stateless),
        )


@pytest.fixture
def pair(real_server: RealServer, page: str, tmp_path: Path) -> Iterator[Pair]:
    """Both see the same folder by the same path: what the first run leaves behind is put back before the second."""
    folder = furnish(tmp_path / "seen")
    policy = tmp_path / "open.yaml"
    policy.write_text(OPEN_POLICY, encoding="utf-8")
    keep(policy, tmp_path / "state", servers=["real"], workspace=tmp_path)
    argv = real_server.argv(folder, page)
    with ExitStack() as stack:
        hosts: list[RawHost] = []
        for side, before in (
            ("direct", []),
            (
                "proxied",
                [
                    *(str(SOOTHSAYER), "proxy", "--name", "real", "--policy", str(policy)),
                    *("--state", str(tmp_path / "state")),
                    *(word for name in real_server.env for word in ("--pass-env", name)),
                    "--",
                ],
            ),
        ):
            own = tmp_path / side
            own.mkdir()
            env = {**os.environ, **{name: value.format(folder=own) for name, value in real_server.env.items()}}
            hosts.append(stack.enter_context(RawHost([*before, *argv], env=env)))
        yield Pair(*hosts)


def call(real_server: RealServer, tmp_path: Path, page: str) -> JsonObject:
    return {"name": real_server.tool, "arguments": real_server.arguments(tmp_path / "seen", page)}


def assert_called(answer: JsonObject, expected: str) -> None:
    """Two equal refusals are no answer."""
    result = answer.get("result")
    assert isinstance(result, dict), answer
    assert not result.get("isError"), answer
    assert expected in json.dumps(result, ensure_ascii=False), answer


def of_each_sdk() -> tuple[RealServer, ...]:
    """One server of each environment: those of one are built on one SDK, and the SDK settles the version."""
    return tuple({server.folder: server for server in REAL_SERVERS}.values())


def spoken() -> list[tuple[RealServer, str]]:
    """The newest version for every server, the others for one of each SDK."""
    every = of_each_sdk()
    return [
        (server, version)
        for server in REAL_SERVERS
        for version in HANDSHAKE_VERSIONS
        if version == HANDSHAKE_VERSIONS[-1] or server in every
    ]


@pytest.mark.parametrize(
    ("real_server", "version"),
    spoken(),
    indirect=["real_server"],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_real_server_answers_a_handshake_client_as_it_does_directly(
    version: str, pair: Pair, real_server: RealServer, page: str, tmp_path: Path
) -> None:
    if version == HANDSHAKE_VERSIONS[-1] and not real_server.speaks_stateless:
        # As a client of both eras does: it asks first, and goes back to the handshake.
        direct, proxied = pair.both("server/discover", None, stateless=True)
        assert "result" not in direct, f"the table is out of date: {direct}"
        assert "result" not in proxied, "an era that the server does not speak is not made up"
    opened = pair.direct.initialize(version), pair.proxied.initialize(version)
    assert opened[0] == opened[1]
    for method in LISTS:
        direct, proxied = pair.both(method, None, stateless=False)
        assert proxied == direct, method
    direct, proxied = pair.both("tools/call", call(real_server, tmp_path, page), stateless=False)
    assert_called(direct, real_server.answer)
    assert proxied == direct
    direct, proxied = pair.both("ping", None, stateless=False)
    assert proxied == direct


@pytest.mark.parametrize(
    "real_server",
    [server for server in REAL_SERVERS if server.speaks_stateless],
    indirect=True,
    ids=lambda server: server.name,
)
def test_a_real_server_answers_a_stateless_client_as_it_does_directly(
    pair: Pair, real_server: RealServer, page: str, tmp_path: Path
) -> None:
    direct, proxied = pair.both("server/discover", None, stateless=True)
    assert STATELESS_VERSION in json.dumps(direct.get("result")), f"the table is out of date: {direct}"
    assert proxied == direct
    for method in LISTS:
        direct, proxied = pair.both(method, None, stateless=True)
        assert proxied == direct, method
    direct, proxied = pair.both("tools/call", call(real_server, tmp_path, page), stateless=True)
    assert_called(direct, real_server.answer)
    assert proxied == direct
