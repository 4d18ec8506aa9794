"""What people decide about runs, on proxies that are running; each decision is a command of its own."""

import json
import os
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

import commands
from fidelity.rig import ALLOWING, at, entries
from kept import keep
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, tool, wait_until
from soothsayer_mcp.trace.query import Filter

SECOND_S = 1.0
NAMES = ("one", "two")


class Place:
    """A state folder, and two proxies on it: of two hosts, before two servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.work = folder / "work"
        self.work.mkdir()
        (folder / "policy.yaml").write_text(ALLOWING, encoding="utf-8")
        self.scripts = {
            name: Script(name=name, tools=(tool("echo"), tool("write"), tool("mute")), on={"tool:mute": []})
            for name in NAMES
        }

    def proxy(self, name: str, **environ: str) -> RawHost:
        words: list[str | Path] = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--quiet", "--state", self.state]
        words += ["--name", name, "--policy", self.folder / "policy.yaml"]
        words += ["--", *self.scripts[name].command(self.folder)]
        keep(self.folder / "policy.yaml", self.state, servers=[name], workspace=self.work)
        host = RawHost(words, cwd=self.work, env={**os.environ, **environ})
        client: JsonObject = {"name": f"host-{name}", "version": "1"}
        opening: JsonObject = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        host.request("initialize", opening)
        host.notify("notifications/initialized")
        return host

    def calls(self, name: str, of: str) -> list[JsonObject]:
        return self.scripts[name].record(self.folder).calls(of)

    def soothsayer(self, *words: str, code: int = 0) -> dict[str, Json]:
        """Run a command; its document."""
        ended = commands.soothsayer(*words, "--json", "--state", self.state, cwd=self.work)
        assert ended.code == code, ended.err
        return json.loads(ended.out if code == 0 else ended.err)

    def run_of(self, answer: JsonObject) -> str:
        """The run of the call that was answered last."""
        assert "result" in answer, answer
        with Reader(self.state) as reader:
            return next(reader.steps(Filter(), reader.now(), limit=1)).run


def reason(answer: JsonObject) -> object:
    """Why a call was refused; nothing when it was answered."""
    result = cast("JsonObject", at(answer, "result"))
    return at(result, "_meta", "dev.soothsayer/step", "reason") if "isError" in result else None


def until_refused(host: RawHost, name: str, wanted: str) -> float:
    """Call until a call is refused; how long that took."""
    began = time.monotonic()
    wait_until(lambda: reason(host.call("echo", {"nonce": name})) == wanted, f"{name} refused by {wanted}")
    return time.monotonic() - began


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def hosts(place: Place) -> Generator[dict[str, RawHost]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(place.proxy(name)) for name in NAMES}


def test_a_run_of_a_person_spans_proxies_and_hosts_and_its_pause_holds_on_all_within_a_second(
    place: Place, hosts: dict[str, RawHost]
) -> None:
    # Another test may have left a run that takes less, or nothing.
    place.soothsayer("run", "open")
    for host in hosts.values():
        wait_until(lambda host=host: reason(host.call("echo")) is None, "calls in a run without limits")
    run = str(at(place.soothsayer("run", "open", "--intent", "tidy the docs"), "run", "run"))
    time_of_look = time.monotonic()
    for host in hosts.values():
        wait_until(lambda host=host: _runs_last(place, host) == run, "a call in the run of the person")
    assert time.monotonic() - time_of_look < len(hosts) * SECOND_S + SECOND_S

    place.soothsayer("run", "pause", run[:8], "--reason", "lunch")
    for name, host in hosts.items():
        assert until_refused(host, name, "run_paused") < SECOND_S
    sent = {name: len(place.calls(name, "echo")) for name in NAMES}
    for name, host in hosts.items():
        answer = host.call("echo")
        assert "(lunch)" in str(answer)
        assert len(place.calls(name, "echo")) == sent[name]

    place.soothsayer("run", "resume", run)
    for host in hosts.values():
        wait_until(lambda host=host: reason(host.call("echo")) is None, "calls again")


def test_a_stop_at_once_cancels_what_is_in_flight_and_a_call_without_an_answer_is_unknown(
    place: Place, hosts: dict[str, RawHost]
) -> None:
    run = str(at(place.soothsayer("run", "open"), "run", "run"))
    for host in hosts.values():
        wait_until(lambda host=host: _runs_last(place, host) == run, "a call in the run of the person")
    asked = {name: host.ask("tools/call", {"name": "mute", "arguments": {}}) for name, host in hosts.items()}
    wait_until(lambda: all(place.calls(name, "mute") for name in NAMES), "both calls at their servers")
    place.soothsayer("run", "stop", run, "--now")
    for name in NAMES:
        place.scripts[name].record(place.folder).wait_for("notifications/cancelled")
    for name, host in hosts.items():
        answer = json.loads(host.answer(asked[name]))
        assert (reason(answer), at(answer, "result", "_meta", "dev.soothsayer/step", "acted")) == ("cancelled", "maybe")
        assert reason(host.call("echo")) == "run_closed"
    ends = [end for end in entries(place.state, "step.outcome") if end["run"] == run and "reason" in end]
    assert [(end["outcome"], end["reason"]) for end in ends] == [("unknown", "cancelled")] * len(NAMES)
    told = place.soothsayer("run", "show", run)
    assert at(told, "run", "state") == "stopped"
    assert at(place.soothsayer("run", "resume", run, code=1), "id") == "run-state"


def test_what_a_run_was_opened_for_binds_live_proxies(place: Place, hosts: dict[str, RawHost]) -> None:
    run = str(at(place.soothsayer("run", "open", "--only", "one.*", "--under", "src"), "run", "run"))
    wait_until(lambda: reason(hosts["two"].call("echo")) == "out_of_scope", "the other server's tools refused")
    wait_until(lambda: reason(hosts["one"].call("write", {"path": "src/a"})) is None, "a file within")
    assert reason(hosts["one"].call("write", {"path": "docs/a"})) == "out_of_scope"
    sent = place.calls("one", "write")
    assert [at(one, "arguments", "path") for one in sent] == ["src/a"]
    assert at(place.soothsayer("run", "show", run), "limited_to") == (
        f"tools one.* and files under {place.work.resolve()}/src"
    )
    refused = next(end for end in reversed(entries(place.state, "step.refused")) if end["run"] == run)
    explained = place.soothsayer("policy", "explain", f"{run}.{refused['no']}")
    assert at(explained, "explanation", "reason") == "out_of_scope"
    assert at(explained, "explanation", "notes") == ["explained under the recorded policy"]
    place.soothsayer("run", "stop", run)


def test_the_words_of_a_host_are_kept_as_the_hosts_and_a_persons_come_first(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.proxy("one", SOOTHSAYER_INTENT="fix the build") as host:
        assert reason(host.call("echo")) is None
        host.request("tools/call", {"name": "echo", "_meta": {"dev.soothsayer/intent": "something else"}})
    told = place.soothsayer("run", "list")
    run = str(at(told, "runs", 0, "run"))
    assert at(place.soothsayer("run", "show", run), "intent") == {"text": "fix the build", "by": "host"}
    with place.proxy("two") as host:
        params: JsonObject = {"name": "echo", "_meta": {"dev.soothsayer/intent": "look at it"}}
        assert reason(host.request("tools/call", params)) is None
        intents = {str(at(entry, "host", "name")): entry.get("intent") for entry in entries(place.state, "run.opened")}
        assert at(intents, "host-two", "by") == "host"


def test_a_command_killed_while_it_changes_a_run_leaves_it_in_one_of_its_states(tmp_path: Path) -> None:
    """And whoever writes next is not kept waiting."""
    place = Place(tmp_path)

    def writers() -> int:
        return len(list((place.state / "alive").glob("*")))

    with place.proxy("one") as host:
        assert reason(host.call("echo")) is None
        run = str(at(place.soothsayer("run", "open"), "run", "run"))
        alive = writers()
        for number in range(6):
            child = commands.begin("run", ("pause", "resume")[number % 2], run, "--state", place.state)
            wait_until(lambda child=child, alive=alive: child.poll() is not None or writers() > alive, "a writer")
            child.kill()
            child.wait(30)
            alive = writers()
        state = str(at(place.soothsayer("run", "show", run), "run", "state"))
        wanted = {"open": None, "paused": "run_paused"}[state]
        wait_until(lambda: _runs_last(place, host) == run, "a call in the run")
        assert reason(host.call("echo")) == wanted
    assert verify([place.state]).holds


def _runs_last(place: Place, host: RawHost) -> str:
    return place.run_of(host.call("echo"))
