"""What a run has to show before it is completed, by all three ways to complete one."""

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from commands import Ended
from fidelity.rig import Rig, at
from recording import BINDING, POLICY, bind, end, intend, make_step, opened
from recording import run as play
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.dues import Dues, Item, Sighting
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.run import RunRules, RunState
from soothsayer_mcp.model.step import SupportedStep
from soothsayer_mcp.testing.servers import Script, result, tool

TITLE = 'a successful raw.run or raw.fail with {"command": "pytest -q"}'
RULES = """\
soothsayer: policy/v1
name: tested
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels:
  - {tools: "raw.run | raw.fail", does: exec, touches: []}
  - {tools: "raw.write", does: write, touches: file(args.path)}
complete:
  require:
    - step: {tools: "raw.run | raw.fail", args: {command: {is: "pytest -q"}}, not_before: last_write(file(workspace)),
             do: "run the tests"}
"""
FAILED = '{"content":[{"type":"text","text":"1 failed"}],"isError":true}'
SCRIPT = Script(tools=(tool("run"), tool("fail"), tool("write")), on={"tool:fail": [result(FAILED)]})


def step_item(**spec: str) -> Item:
    return Item(
        kind="step", spec={"tools": ["raw.run"], **spec}, rule="complete", pattern="tests", newer_than=("file",)
    )


def sighted(run_id: RunId, *, opens: tuple[str, ...] = (), pattern: str = "") -> SupportedStep:
    """A step that is one that is required, or one that writes."""
    step = make_step(run_id)
    sightings = (Sighting(pattern=pattern),) if pattern else ()
    return replace(step, decision=replace(step.decision, dues=Dues(opens=opens, sightings=sightings)))


def test_a_write_that_ends_after_the_required_step_makes_it_too_old_until_it_is_done_again(tmp_path: Path) -> None:
    rules = RunRules(required=(step_item(do="run the tests"),))

    async def body(store: SqliteStore) -> None:
        run_id = await bind(store)
        name = run_id[:4]
        refused = await store.complete_run(run_id, by="os:ada", rules=rules)
        assert refused.missing == ("a successful raw.run: no such step is on record; run the tests",)
        await end(store, await intend(store, sighted(run_id, pattern="tests")))
        await end(store, await intend(store, sighted(run_id, opens=("file:/w/a",))))
        refused = await store.complete_run(run_id, by="os:ada", rules=rules)
        (told,) = refused.missing
        assert told == f"a successful raw.run: {name}.1 passed, but {name}.2 wrote /w/a after it began; run the tests"
        assert refused.state is RunState.OPEN
        await end(store, await intend(store, sighted(run_id, pattern="tests")))
        assert (await store.complete_run(run_id, by="os:ada", rules=rules)).state is RunState.COMPLETED

    with opened(tmp_path) as store:
        play(lambda: body(store))
    assert verify([tmp_path]).holds


def test_idleness_pauses_a_run_that_does_not_show_what_is_required_and_completes_one_that_does(tmp_path: Path) -> None:
    at_once = replace(BINDING, rules=RunRules(idle_s=0.0, required=(step_item(),)))

    async def body(store: SqliteStore) -> None:
        first, _ = await store.bind_run(at_once, POLICY)
        await end(store, await intend(store, sighted(first, pattern="tests")))
        second, _ = await store.bind_run(at_once, POLICY)
        assert second != first
        with Reader(tmp_path) as reader:
            assert reader.run(first).run.state == RunState.COMPLETED
        assert await store.bind_run(at_once, POLICY) == (second, None)
        paused = await store.read_run(second)
        assert paused.state is RunState.PAUSED
        assert paused.why == "idle, and a successful raw.run: no such step is on record; call raw.run"

    with opened(tmp_path) as store:
        play(lambda: body(store))
    assert verify([tmp_path]).holds


def test_a_person_completes_no_run_whose_policy_is_not_on_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def body(store: SqliteStore) -> RunId:
        run_id = await bind(store)
        await end(store, await intend(store, make_step(run_id)))
        return run_id

    with opened(tmp_path) as store:
        name = play(lambda: body(store))
    assert run(["run", "complete", name, "--state", str(tmp_path)]) == 1
    assert f"the policy of step {name[:4]}.1 is not on record" in capsys.readouterr().err
    with Reader(tmp_path) as reader:
        assert reader.run(name).run.state == RunState.OPEN


@pytest.fixture
def rig(tmp_path: Path) -> Generator[Rig]:
    # Capitals: servers whose system is not known name their files without them.
    folder = tmp_path / "Work"
    folder.mkdir()
    with Rig(folder, SCRIPT, policy=RULES, words=["--control-tools"]) as made:
        made.host.initialize()
        yield made


def command(capsys: pytest.CaptureFixture[str], rig: Rig, *words: str) -> Ended:
    capsys.readouterr()
    code = run([*words, "--state", str(rig.state)])
    captured = capsys.readouterr()
    return Ended(code=int(code), out=captured.out, err=captured.err)


def asked_by_the_model(rig: Rig, name: str = "soothsayer_complete") -> JsonObject:
    return cast("JsonObject", at(rig.host.call(name), "result", "structuredContent"))


def test_a_run_is_completed_only_once_the_tests_passed_after_the_last_write(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    host = rig.host
    tests: JsonObject = {"command": "pytest -q"}
    absent = asked_by_the_model(rig)
    assert (absent["state"], absent["missing"]) == ("open", [f"{TITLE}: no such step is on record; run the tests"])
    host.call("run", {"command": "true"})
    host.call("run", {**tests, "env": "PYTEST_ADDOPTS=--co"})
    assert asked_by_the_model(rig)["missing"] == absent["missing"]

    host.call("run", tests)
    host.call("write", {"path": str(rig.folder / "Src" / "a.py")})
    name = str(absent["run"])
    from_terminal = command(capsys, rig, "run", "complete", name)
    assert from_terminal.code == 1
    assert "passed, but" in from_terminal.out
    assert "wrote" in from_terminal.out
    assert "; run the tests" in from_terminal.out
    assert f"run {name} is not completed: 1 missing" in from_terminal.err
    (listed,) = _missing(asked_by_the_model(rig, "soothsayer_run"))
    assert listed == from_terminal.out.strip()

    host.call("fail", tests)
    told = json.loads(command(capsys, rig, "run", "complete", name, "--json").out)
    assert "did not succeed (tool_error/" in told["missing"][0]
    host.call("run", tests)
    assert _missing(asked_by_the_model(rig, "soothsayer_run")) == []
    done = command(capsys, rig, "run", "complete", name)
    assert (done.code, done.out) == (0, "")
    assert f"run {name} is completed" in done.err


def test_the_model_completes_a_run_that_shows_what_is_required(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.host.call("run", {"command": "pytest -q"})
    done = asked_by_the_model(rig)
    assert (done["state"], done["missing"]) == ("completed", [])
    rig.host.close()
    assert command(capsys, rig, "trace", "verify").code == 0


def _missing(told: JsonObject) -> list[str]:
    missing = told["missing"]
    assert isinstance(missing, list)
    return [str(one) for one in missing]
