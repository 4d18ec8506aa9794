"""The file under the record: torn logs, turns of writers, every kind, the first step among many, forks."""

import fcntl
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio
import pytest

from fidelity.rig import Rig
from recording import bind, end, intend, make_step, open_store, opened, run, whole_step
from soothsayer_mcp.__main__ import run as soothsay
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.model.entry import Durability, Kind
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.testing.servers import Act, Script, result, tool
from store.test_kinds import every_kind

SEGMENT: Final = "trace-000001.db"
TEARS: Final = 200


def shown(capsys: pytest.CaptureFixture[str], state: Path, *words: str) -> str:
    """What a command shows of a state folder."""
    assert soothsay(["--state", str(state), *words]) == Exit.DONE
    return capsys.readouterr().out


# -- torn logs, and turns


def leaves(path: Path) -> list[tuple[int, bytes]]:
    """The entries of a file as SQLite itself recovers it; none when even its tables are gone."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchall():
            return []
        return db.execute("SELECT pos, leaf FROM entries ORDER BY pos").fetchall()


@pytest.mark.pitfall("P-TRACE-06")
def test_a_log_torn_at_two_hundred_places_is_whole_up_to_somewhere_and_open_steps_are_unknown(tmp_path: Path) -> None:
    state, chance = tmp_path / "state", random.Random(6)
    store = open_store(state)
    run_id = run(lambda: bind(store))
    for _ in range(4):
        run(lambda: whole_step(store, run_id))
    run(lambda: intend(store, make_step(run_id)))
    whole = leaves(state / SEGMENT)
    log = (state / f"{SEGMENT}-wal").read_bytes()
    lengths: set[int] = set()
    for number in range(TEARS):
        torn = tmp_path / "torn"
        torn.mkdir(mode=0o700)
        shutil.copyfile(state / SEGMENT, torn / SEGMENT)
        place = chance.randrange(32, len(log))
        noise = chance.randbytes(min(4096, len(log) - place)) if number % 2 else b""
        (torn / f"{SEGMENT}-wal").write_bytes(log[:place] + noise + log[place + len(noise) :] if noise else log[:place])
        left = leaves(torn / SEGMENT)
        assert left == whole[: len(left)]
        lengths.add(len(left))
        if number % 10 == 0:
            assert_goes_on(torn, len(left))
        shutil.rmtree(torn)
    store.close()
    # Some tears left little and some nearly all: otherwise nothing was tried.
    assert min(lengths) < len(whole) // 2 < max(lengths)


def assert_goes_on(torn: Path, left: int) -> None:
    """What is left is built upon: the chain holds, and no step is taken for ended that was not."""
    with opened(torn) as again:
        again_id = run(lambda: bind(again))
        run(lambda: whole_step(again, again_id))
    report = verify([torn])
    assert report.holds, report.lines()
    with closing(sqlite3.connect(torn / SEGMENT)) as db:
        assert db.execute("SELECT count(*) FROM steps WHERE outcome IS NULL").fetchone() == (0,)
        sql = "SELECT count(*) FROM entries WHERE pos < ? AND kind = 'step.intent'"
        [intents] = db.execute(sql, (left,)).fetchone()
        sql = "SELECT count(*) FROM entries WHERE pos < ? AND kind = 'step.outcome'"
        [outcomes] = db.execute(sql, (left,)).fetchone()
        unknown = db.execute("SELECT count(*) FROM steps WHERE outcome = 'unknown'").fetchone()
        assert unknown == (intents - outcomes,)


@pytest.mark.pitfall("P-TRACE-06")
def test_the_log_is_copied_back_only_by_who_has_the_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that copy the log back at once are what corrupted files up to SQLite 3.51.2."""
    monkeypatch.setattr("soothsayer_mcp.adapters.store.writer._COPY_BACK_PAGES", 20)
    monkeypatch.setattr("soothsayer_mcp.adapters.store.writer._RESTART_PAGES", 1)
    seen: list[tuple[str, bool]] = []

    def watch(statement: str) -> None:
        if "wal_checkpoint" in statement:
            with (tmp_path / "write.lock").open("r+b") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    seen.append((statement, True))
                else:
                    seen.append((statement, False))

    with opened(tmp_path) as store:
        connection = store._writer._db
        connection.set_trace_callback(watch)
        assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        run_id = run(lambda: bind(store))
        for _ in range(20):
            run(lambda: whole_step(store, run_id))
    assert {statement.partition("(")[2] for statement, _ in seen} == {"PASSIVE)", "RESTART)", "TRUNCATE)"}
    assert all(held for _, held in seen)


# -- every kind


def test_every_kind_that_is_written_is_shown_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """P-TRACE-08, but for export and import; `tests/store/test_kinds.py` holds that these are all."""
    with opened(tmp_path) as store:
        run(lambda: every_kind(store))
    with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
        bodies = [json.loads(body) for (body,) in db.execute("SELECT body FROM entries ORDER BY pos")]
        steps = [f"{run_id}.{no}" for run_id, no in db.execute("SELECT run, no FROM steps ORDER BY n")]
    assert len({body["kind"] for body in bodies}) >= 15
    told = json.loads(shown(capsys, tmp_path, "log", "--entries", "--json", "-n0", "--reverse"))["entries"]
    assert [each["entry"] for each in told] == bodies
    page = shown(capsys, tmp_path, "log", "--entries", "-n0")
    for kind in {body["kind"] for body in bodies}:
        assert kind in page
        assert kind in shown(capsys, tmp_path, "log", "--entries", "-n0", f"kind:{kind}")
        assert Kind(kind)
    for step in steps:
        assert shown(capsys, tmp_path, "show", step, "--entries")
    assert "hashes and chains hold" in shown(capsys, tmp_path, "trace", "verify")


# -- the first of many

MANY: Final = 10_000
AT_ONCE: Final = 250

POLICY: Final = """
soothsayer: policy/v1
name: remembered
default: {read: allow, other: deny}
rules:
  - {deny: "Never this one.", id: never, tools: raw.forbidden}
  - {deny: "No keys.", id: keys, tools: raw.doubtful, args: {path: {under: "~/.ssh"}}}
  - {ask: "Somebody has to look.", id: look, tools: raw.asked}
  - {allow: "Not for long.", id: quick, tools: raw.silent, limit: {timeout: 200ms}}
  - {allow: "What is left of them.", id: rest, tools: "raw.*", except: raw.nowhere}
"""

EXPLAINED: Final = {
    "plain": ("allow", None, "remembered/rest"),
    "forbidden": ("deny", "rule_denied", "remembered/never"),
    "doubtful": ("deny", "rule_error", "remembered/keys"),
    "asked": ("ask", "nobody_to_ask", "remembered/look"),
    "nowhere": ("deny", "no_rule", "default"),
    "absent": ("deny", "tool_unknown", "step/tool_unknown"),
    "fails": ("allow", "tool_failed", "remembered/rest"),
    "silent": ("allow", "call_timeout", "remembered/quick"),
}
"""Tool -> effect, reason and rule of the one call to it."""


@pytest.fixture(scope="module")
def long_ago(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace whose first steps were governed by the real command, and lie ten thousand steps back."""
    folder = tmp_path_factory.mktemp("long-ago")
    acts: dict[str, list[Act]] = {"tool:silent": [], "tool:fails": [result('{"content":[],"isError":true}')]}
    schema: JsonObject = {"type": "object", "properties": {"path": {}, "of": {}}}
    script = Script(tools=[tool(name, inputSchema=schema) for name in EXPLAINED if name != "absent"], on=acts)
    with Rig(folder, script, policy=POLICY) as rig:
        rig.host.initialize()
        for name in EXPLAINED:
            rig.host.call(name, {"path": 7, "of": name})
        state = rig.state
    (folder / "policy.yaml").unlink()

    async def many(store: SqliteStore) -> None:
        run_id = await bind(store)
        for _ in range(MANY // AT_ONCE):
            async with anyio.create_task_group() as group:
                for _ in range(AT_ONCE):
                    group.start_soon(whole_step, store, run_id)

    with opened(state, durability=Durability.RELAXED) as store:
        run(lambda: many(store))
    return state


@pytest.mark.pitfall("P-TRACE-09")
@pytest.mark.parametrize("name", EXPLAINED)
def test_after_ten_thousand_steps_the_first_are_explained_from_the_record(
    name: str, long_ago: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the policy's file is gone. Each reason is explained in `test_explained_reasons.py`; decided again, in
    `tests/properties/test_replayed_decisions.py`.
    """
    effect, reason, rule = EXPLAINED[name]
    [step] = json.loads(shown(capsys, long_ago, "log", "--json", "-n0", f"tool:{name}"))["steps"]
    assert (step["effect"], step["reason"], step["rule"]) == (effect, reason, rule)
    told = json.loads(shown(capsys, long_ago, "policy", "explain", step["step"], "--json"))["explanation"]
    assert told["notes"] == ["explained under the recorded policy"]
    assert told["arguments"] == {"path": 7, "of": name}
    assert (told["effect"], told["policy"]) == (effect, step["policy"])
    assert rule in {"default", *(each["id"] for each in told["rules"])}
    assert rule in shown(capsys, long_ago, "show", step["step"])


def test_nothing_was_pushed_out(long_ago: Path) -> None:
    with closing(sqlite3.connect(long_ago / SEGMENT)) as db:
        [steps] = db.execute("SELECT count(*) FROM steps WHERE server <> '@selftest'").fetchone()
        [first, last, entries] = db.execute("SELECT min(pos), max(pos), count(*) FROM entries").fetchone()
    assert steps >= MANY + len(EXPLAINED)
    assert (first, last) == (0, entries - 1)
    assert entries >= 2 * MANY


# -- forks

FORKED: Final = """
import os, sys
from pathlib import Path
from recording import bind, opened, run, whole_step
import soothsayer_mcp.cli.wiring
folder = Path(sys.argv[1])
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        with opened(folder) as store:
            run_id = run(lambda: bind(store))
            step = run(lambda: whole_step(store, run_id))
            sys.stdout.write(store.writer_id + " " + step.id + "\\n")
            sys.stdout.flush()
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


def forked(folder: Path) -> list[list[str]]:
    """Writer and step of each of four workers, forked from a parent that has everything loaded."""
    ended = subprocess.run(
        [sys.executable, "-c", FORKED, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return [told.split() for told in ended.stdout.splitlines()]


@pytest.mark.pitfall("P-PROC-01")
def test_workers_forked_from_a_loaded_parent_are_four_writers(tmp_path: Path) -> None:
    told = forked(tmp_path)
    assert len({writer for writer, _ in told}) == 4
    assert len({step for _, step in told}) == 4
    with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
        assert {row[0] for row in db.execute("SELECT DISTINCT writer FROM entries")} == {writer for writer, _ in told}
        assert db.execute("SELECT count(DISTINCT writer), count(*) FROM steps").fetchone() == (4, 4)
    assert verify([tmp_path]).holds


@pytest.mark.pitfall("P-PROC-01")
def test_a_second_intent_of_a_step_in_flight_is_refused_so_that_it_is_sent_once(tmp_path: Path) -> None:
    """By another worker too: the store of the second knows nothing of the first."""

    async def body(one: SqliteStore, other: SqliteStore) -> None:
        step = make_step(await bind(one))
        first = await intend(one, step)
        for store in (one, other):
            with pytest.raises(PortError) as refused:
                await intend(store, step)
            assert refused.value.acted is Acted.NO
        await end(one, first)

    with opened(tmp_path) as one, opened(tmp_path) as other:
        run(lambda: body(one, other))
    with closing(sqlite3.connect(tmp_path / SEGMENT)) as db:
        sql = "SELECT count(*) FROM entries WHERE kind = 'step.intent'"
        assert db.execute(sql).fetchone() == (1,)
    assert verify([tmp_path]).holds
