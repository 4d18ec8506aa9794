"""For each host a file as it is found and as it is left; and back again, by every road there is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hosts.rig import PROGRAM, Rig, hold, wrapping
from soothsayer_mcp.adapters.hosts import changes, documents
from soothsayer_mcp.adapters.hosts.places import host_of
from soothsayer_mcp.adapters.hosts.servers import Standing, servers
from soothsayer_mcp.adapters.hosts.table import HOSTS, Host
from soothsayer_mcp.cli.options import parse_proxy

GOLDEN = Path(__file__).parent / "golden"

LEFT_ALONE = {
    "claude-desktop": {"far"},
    "cursor": {"open"},
    "vscode": {"filed"},
    "vscode-insiders": {"filed"},
    "zed": {"old", "extension"},
    "cline": {"legacy"},
    "continue": {"far"},
    "gemini": {"sse"},
    "codex": {"login"},
    "goose": {"developer"},
    "opencode": {"signed"},
    "claude-code": {"helped"},
}

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "BOM": lambda text: f"\ufeff{text}",
    "no last line end": lambda text: text.rstrip("\n"),
}


def golden(host: Host, what: str) -> str:
    return (GOLDEN / f"{host.id}.{what}").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_connect_writes_the_golden_file_and_leaves_alone_what_it_cannot_govern(host: Host, form: str, rig: Rig) -> None:
    shape = FORMS[form]
    file = rig.write(host, shape(golden(host, "before")).encode())
    change = changes.connect(hold(file), host, wrapping(raise_timeouts=True))
    assert change.raw.decode() == shape(golden(host, "after"))
    assert {name for name, _why in change.left} == LEFT_ALONE.get(host.id, set())


@pytest.mark.pitfall("P-HOST-02")
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_connecting_twice_gives_the_same_bytes(host: Host, rig: Rig) -> None:
    file = rig.write(host, golden(host, "before").encode())
    rig.connect(host, file)
    after = file.read_bytes()
    assert changes.connect(hold(file), host, wrapping()).is_empty
    assert file.read_bytes() == after


@pytest.mark.pitfall("P-HOST-04")
@pytest.mark.parametrize("road", ["restore", "disconnect", "one by one"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_every_road_back_ends_at_the_same_bytes(host: Host, form: str, road: str, rig: Rig) -> None:
    before = FORMS[form](golden(host, "before")).encode()
    file = rig.write(host, before)
    names = rig.connect(host, file)
    assert names
    assert file.read_bytes() != before
    match road:
        case "restore":
            rig.restore(host, file)
        case "disconnect":
            rig.disconnect(host, file)
        case _:
            for name in reversed(names):
                rig.disconnect(host, file, name)
    assert file.read_bytes() == before


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_an_entry_that_the_host_spelled_anew_is_unwrapped_to_the_same_values(host: Host, rig: Rig) -> None:
    """The record does not match then: what stood there is told from what stands there."""
    file = rig.write(host, golden(host, "before").encode())
    before = {entry.name: entry.value for entry in changes.read(hold(file), host).entries}
    rig.connect(host, file)
    text = file.read_text(encoding="utf-8")
    respelled = (
        text.replace(f'"{PROGRAM}"', f'"{PROGRAM}" ')
        if host.format != "yaml"
        else text.replace(f'"{PROGRAM}"', PROGRAM)
    )
    assert respelled != text
    file.write_text(respelled, encoding="utf-8")
    rig.disconnect(host, file)
    after = {entry.name: entry.value for entry in changes.read(hold(file), host).entries}
    assert after == before


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.id)
def test_what_was_governed_is_seen_to_be_and_comes_down_to_the_server_it_was(host: Host) -> None:
    def targets(what: str, standing: Standing) -> dict[str, tuple[str, ...]]:
        document = documents.read(golden(host, what).encode(), host.format, host.key, file=what)
        return {server.name: server.target for server in servers(document, host) if server.standing is standing}

    before = targets("before", Standing.DIRECT)
    after = targets("after", Standing.GOVERNED)
    assert after == {name: before[name] for name in after}
    assert set(before) - set(after) <= LEFT_ALONE.get(host.id, set())


def test_every_host_has_a_golden_file() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"{host.id}.{what}" for host in HOSTS for what in ("before", "after")
    }


def test_a_server_that_a_proxy_may_not_be_named_after_gets_the_nearest_free_name(tmp_path: Path) -> None:
    """The host's own name for it stays; what the proxy is called is what its rules name."""
    names = (
        "Git Hub",
        "git_hub",
        "git-hub",
        "soothsayer",
        "\u00e4\u00f6",
        "azure-devops-mcp-server",
        "Azure-DevOps-MCP-Server",
    )
    raw = json.dumps(
        {"mcpServers": {name: {"command": "x", "args": [str(n)]} for n, name in enumerate(names)}}
    ).encode()
    host = host_of("claude-desktop")
    assert host is not None
    rig = Rig(folder=tmp_path)
    file = rig.write(host, raw)
    assert rig.connect(host, file) == [*names]
    written = json.loads(file.read_text())["mcpServers"]
    assert [*written] == [*names]
    given = [entry["args"][entry["args"].index("--name") + 1] for entry in written.values()]
    assert given[:4] == ["git-hub-2", "git-hub-3", "git-hub", "soothsayer-2"]
    assert given[4:] == ["server", "azure-devops-mcp-ser", "azure-devops-mcp-s-2"]
    for name in given:
        assert parse_proxy(["--name", name, "--", "x"], {}).name == name
    rig.disconnect(host, file)
    assert file.read_bytes() == raw
