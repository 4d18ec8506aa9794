"""Several hosts on one state folder, each with a proxy of its own: nothing is lost, none waits long, runs are apart."""

import json
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import cast

import pytest

from fidelity.rig import ALLOWING, entries
from kept import keep
from placing import put
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script
from soothsayer_mcp.wire import eras

CALLS = 50
LONG_WAIT_US = 500_000


def start(folder: Path, workspace: Path) -> RawHost:
    """A proxy on the one state folder, started from a workspace."""
    policy = folder / "policy.yaml"
    if not policy.exists():
        put(policy, ALLOWING)
    words = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--quiet", "--state", folder / "state"]
    words += ["--name", "raw", "--policy", policy, "--", *Script().command(folder)]
    workspace.mkdir(exist_ok=True)
    keep(policy, folder / "state", servers=["raw"], workspace=workspace)
    return RawHost(words, cwd=workspace)


def open_as(host: RawHost, name: str) -> None:
    """Open, and make a first call, which waits for the server's list and so is no part of the load."""
    client: JsonObject = {"name": name, "version": "1"}
    params: JsonObject = {"protocolVersion": eras.LATEST_HANDSHAKE, "capabilities": {}, "clientInfo": client}
    assert "result" in host.request("initialize", params)
    host.notify("notifications/initialized")
    assert "result" in host.call("echo", {"nonce": "first"})


def call_often(host: RawHost, name: str, *, in_flight: int) -> None:
    """Make the calls, so many at a time, and check that each answer is the one to its own call."""
    asked: dict[int, str] = {}
    for number in range(CALLS):
        nonce = f"{name}-{number}"
        asked[host.ask("tools/call", {"name": "echo", "arguments": {"nonce": nonce}})] = nonce
        if len(asked) == in_flight:
            settle(host, asked)
    while asked:
        settle(host, asked)


def settle(host: RawHost, asked: dict[int, str]) -> None:
    oldest = next(iter(asked))
    answer = json.loads(host.answer(oldest))
    assert json.loads(answer["result"]["content"][0]["text"]) == {"nonce": asked.pop(oldest)}


def nonces_by_run(state: Path) -> dict[str, list[str]]:
    """The calls with a recorded success, by the run they belong to."""
    sql = (
        "SELECT i.run, json_extract(a.text, '$.nonce') FROM entries i"
        " JOIN payloads a ON a.writer = i.writer AND a.seq = i.seq AND a.part = 'args'"
        " JOIN entries o ON o.run = i.run AND o.no = i.no AND o.kind = 'step.outcome'"
        " WHERE i.kind = 'step.intent' AND json_extract(o.body, '$.outcome') = 'succeeded'"
    )
    found: dict[str, list[str]] = {}
    with closing(sqlite3.connect(state / "trace-000001.db")) as db:
        for run, nonce in db.execute(sql):
            found.setdefault(run, []).append(nonce)
    return found


def nonces(*names: str) -> list[str]:
    return sorted(f"{name}-{number}" for name in names for number in range(CALLS))


def long_waits(state: Path) -> float:
    """Which part of the calls waited long for the record: on a busy machine now and then one does, whoever it is."""
    waits = [cast("int", entry["store_us"]) for entry in entries(state, "step.outcome")]
    return sum(wait_us >= LONG_WAIT_US for wait_us in waits) / len(waits)


def play(folder: Path, hosts: dict[str, tuple[str, str]], *, in_flight: int) -> None:
    """Have hosts call at the same time: name of the calls -> how the host introduces itself, and its workspace."""
    with ExitStack() as stack:
        started = {name: stack.enter_context(start(folder, folder / place)) for name, (_, place) in hosts.items()}
        with ThreadPoolExecutor(len(hosts)) as calling:
            # All at once from the first message on: who makes the folder, and who opens the run, is open too.
            for opened in [calling.submit(open_as, started[name], client) for name, (client, _) in hosts.items()]:
                opened.result()
            for done in [calling.submit(call_often, started[name], name, in_flight=in_flight) for name in hosts]:
                done.result()
        for host in started.values():
            assert host.rest() == []
            assert host.exit_code() == 0, host.stderr


def test_hosts_on_one_folder_keep_their_runs_apart_by_who_they_are_and_where_they_work(tmp_path: Path) -> None:
    """The same host in the same workspace goes on with its run, whichever of its proxies a call comes through."""
    hosts = {"a": ("one", "home"), "b": ("one", "home"), "c": ("two", "home"), "d": ("one", "elsewhere")}
    play(tmp_path, hosts, in_flight=8)
    runs = nonces_by_run(tmp_path / "state")
    by_calls = {tuple(sorted(set(found) - {"first"})): run for run, found in runs.items()}
    assert set(by_calls) == {tuple(nonces("a", "b")), tuple(nonces("c")), tuple(nonces("d"))}
    told = {
        str(entry["run"]): (cast("JsonObject", entry["host"])["name"], Path(str(entry["workspace"])).name)
        for entry in entries(tmp_path / "state", "run.opened")
    }
    assert told[by_calls[tuple(nonces("a", "b"))]] == ("one", "home")
    assert told[by_calls[tuple(nonces("c"))]] == ("two", "home")
    assert told[by_calls[tuple(nonces("d"))]] == ("one", "elsewhere")


def test_two_hosts_at_once_lose_nothing(tmp_path: Path) -> None:
    play(tmp_path, {"a": ("one", "home"), "b": ("two", "home")}, in_flight=16)
    assert_whole(tmp_path, "a", "b")


@pytest.mark.pitfall("P-TRACE-05")
def test_eight_proxies_on_one_folder_lose_nothing_and_none_waits_long(tmp_path: Path) -> None:
    names = "abcdefgh"
    play(tmp_path, dict.fromkeys(names, ("one", "home")), in_flight=1)
    assert_whole(tmp_path, *names)
    assert len(nonces_by_run(tmp_path / "state")) == 1
    assert long_waits(tmp_path / "state") < 1 / 8 / 2, "somebody was kept out"


def assert_whole(folder: Path, *names: str) -> None:
    """Each call reached its server once and has its outcome on record, and the record verifies."""
    found = sorted(nonce for of_run in nonces_by_run(folder / "state").values() for nonce in of_run)
    assert found == sorted([*nonces(*names), *["first"] * len(names)])
    received = [cast("JsonObject", call["arguments"])["nonce"] for call in Script().record(folder).calls()]
    assert sorted(map(str, received)) == found
    report = verify([folder / "state"])
    assert report.holds, report.lines()
    assert (report.open, report.unknown, report.writers) == ([], [], len(names))
