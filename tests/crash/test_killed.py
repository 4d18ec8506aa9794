"""Processes that die at any moment: nothing is sent without its intent on record, and no open step is forgotten.

Invariants I1 to I4: every call sent has its intent; every answer given has its outcome; the trace verifies; every
intent without an outcome is unknown, once another process has opened the store.
"""

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recording import bind, intend, make_step, open_store, opened, run, whole_step
from soothsayer_mcp.adapters.verifier import verify

VICTIM = Path(__file__).parent / "victim.py"
SEGMENT = "trace-000001.db"


def start(folder: Path, name: str, *, in_flight: int = 4, steps: int = 0) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, str(VICTIM), str(folder), name, str(in_flight), str(steps)]
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def wait_ready(victims: Sequence["subprocess.Popen[str]"]) -> None:
    for victim in victims:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"


def kill(victim: "subprocess.Popen[str]", after_s: float) -> None:
    try:
        victim.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        victim.kill()
    else:
        pytest.fail(f"it ended by itself: {victim.communicate()[1]}")
    victim.wait(60)
    for pipe in (victim.stdout, victim.stderr):
        assert pipe is not None
        pipe.close()


def read(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "state" / SEGMENT)) as db:
        return db.execute(sql).fetchall()


def noted(folder: Path, suffix: str) -> set[str]:
    lines: set[str] = set()
    for path in folder.glob(f"*.{suffix}"):
        lines.update(path.read_text(encoding="ascii").split())
    return lines


def nonces(folder: Path, part: str, kind: str) -> set[str]:
    sql = (
        "SELECT p.text FROM payloads p JOIN entries e ON e.writer = p.writer AND e.seq = p.seq"
        f" WHERE p.part = '{part}' AND e.kind = '{kind}'"
    )
    return {found for (text,) in read(folder, sql) for found in re.findall(r"[a-z]\d+-\d+", text)}


def assert_invariants(folder: Path) -> int:
    """Reopen and check; returns how many steps were found open."""
    before = {body for (body,) in read(folder, "SELECT body FROM entries WHERE kind = 'step.intent'")}
    sql = (
        "SELECT run || '.' || no FROM entries WHERE kind = 'step.intent'"
        " EXCEPT SELECT run || '.' || no FROM entries WHERE kind = 'step.outcome'"
    )
    open_steps = {step for (step,) in read(folder, sql)}
    open_store(folder / "state").close()
    assert noted(folder, "sent") <= nonces(folder, "args", "step.intent")
    assert noted(folder, "answered") <= nonces(folder, "result", "step.outcome")
    report = verify([folder / "state"])
    assert report.holds, report.lines()
    assert report.open == []
    assert open_steps <= set(report.unknown)
    recovered = [
        json.loads(body) for (body,) in read(folder, "SELECT body FROM entries WHERE kind = 'writer.recovered'")
    ]
    assert open_steps <= {step for body in recovered for step in body["unknown"]}
    assert before <= {body for (body,) in read(folder, "SELECT body FROM entries WHERE kind = 'step.intent'")}
    assert [path.name for path in (folder / "state" / "alive").iterdir()] == []
    return len(open_steps)


def kill_often(folder: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    found = 0
    for number in range(rounds):
        victims = [start(folder, f"a{number}"), start(folder, f"b{number}")]
        wait_ready(victims)
        for victim in victims:
            kill(victim, chance.uniform(0.0, 0.1))
        found += assert_invariants(folder)
    assert found > 0


def test_a_process_killed_at_random_leaves_every_sent_call_on_record(tmp_path: Path) -> None:
    kill_often(tmp_path, rounds=6, seed=1)


@pytest.mark.soak
def test_a_thousand_random_deaths_lose_nothing(tmp_path: Path) -> None:
    kill_often(tmp_path, rounds=500, seed=2)


@pytest.mark.pitfall("P-TRACE-03")
def test_a_process_killed_between_intent_and_outcome_leaves_an_unknown_step_and_an_unchanged_intent(
    tmp_path: Path,
) -> None:
    """At twenty points: with one more intent each time; a second process lives on beside it and recovers nothing."""
    script = (
        "import sys; from pathlib import Path; import anyio, os\n"
        "from recording import bind, intend, make_step, open_store, whole_step\n"
        "async def scene(store, count):\n"
        "    run_id = await bind(store)\n"
        "    for _ in range(count // 4): await whole_step(store, run_id)\n"
        "    for _ in range(1 + count % 4): await intend(store, make_step(run_id))\n"
        "    os.kill(os.getpid(), 9)\n"
        "anyio.run(scene, open_store(Path(sys.argv[1])), int(sys.argv[2]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    state = tmp_path / "state"
    for count in range(20):
        arguments = [sys.executable, "-c", script, str(state), str(count)]
        assert subprocess.run(arguments, env=environment, timeout=60, check=False).returncode == -9
        assert assert_invariants(tmp_path) == 1 + count % 4
    with closing(sqlite3.connect(state / SEGMENT)) as db:
        for sql in ("UPDATE entries SET body = '{}'", "DELETE FROM entries", "INSERT OR REPLACE INTO entries"):
            statement = f"{sql} SELECT * FROM entries LIMIT 1" if sql.startswith("INSERT") else sql
            with pytest.raises(sqlite3.IntegrityError):
                db.execute(statement)


@pytest.mark.pitfall("P-TRACE-05")
def test_eight_processes_write_one_folder_and_none_starves(tmp_path: Path) -> None:
    """200 steps each, one at a time. The wait allowed is that of the issue, with room for a loaded machine."""
    victims = [start(tmp_path, f"p{number}", in_flight=1, steps=200) for number in range(8)]
    longest: list[float] = []
    for victim in victims:
        said, errors = victim.communicate(timeout=60)
        assert victim.returncode == 0, errors
        longest.append(float(said.splitlines()[1]))
    assert read(tmp_path, "SELECT count(*) FROM steps WHERE outcome = 'succeeded'") == [(1600,)]
    assert len(nonces(tmp_path, "result", "step.outcome")) == 1600
    report = verify([tmp_path / "state"])
    assert report.holds, report.lines()
    assert (report.writers, report.unknown, report.open) == (8, [], [])
    assert max(longest) < 10_000


def test_a_living_writer_closes_what_a_dead_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soothsayer_mcp.adapters.store.writer.LOOK_S", 0.0)
    with opened(tmp_path / "state") as store:
        victim = start(tmp_path, "v0")
        wait_ready([victim])
        kill(victim, 0.05)
        run(lambda: bind(store))
        run_id = run(lambda: bind(store))
        run(lambda: whole_step(store, run_id))
        run(lambda: whole_step(store, run_id))
        assert len(read(tmp_path, "SELECT 1 FROM entries WHERE kind = 'writer.recovered'")) == 1
    assert verify([tmp_path / "state"]).holds


def test_a_log_torn_at_any_place_opens_as_an_exact_prefix(tmp_path: Path) -> None:
    """Cut or overwritten at 40 random places: what is left is a prefix of the entries, and what is open is unknown."""
    state, chance = tmp_path / "whole" / "state", random.Random(3)
    store = open_store(state)
    run_id = run(lambda: bind(store))
    for _ in range(15):
        run(lambda: whole_step(store, run_id))
    run(lambda: intend(store, make_step(run_id)))
    whole = read(tmp_path / "whole", "SELECT pos, leaf FROM entries ORDER BY pos")
    size = (state / f"{SEGMENT}-wal").stat().st_size
    for number in range(40):
        torn = tmp_path / f"torn{number}" / "state"
        torn.mkdir(mode=0o700, parents=True)
        for suffix in ("", "-wal"):
            shutil.copyfile(state / f"{SEGMENT}{suffix}", torn / f"{SEGMENT}{suffix}")
        place = chance.randrange(32, size)
        with (torn / f"{SEGMENT}-wal").open("r+b") as log:
            if number % 2:
                log.truncate(place)
            else:
                log.seek(place)
                log.write(chance.randbytes(min(4096, size - place)))
        blank = len(read(torn.parent, "SELECT name FROM sqlite_master")) == 0
        left = [] if blank else read(torn.parent, "SELECT pos, leaf FROM entries ORDER BY pos")
        assert left == whole[: len(left)]
        with opened(torn) as again:
            assert run(lambda again=again: bind(again))
        report = verify([torn])
        assert report.holds, report.lines()
        assert report.open == []
    store.close()
