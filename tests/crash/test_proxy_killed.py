"""Proxies killed at any moment, two on one state folder, with calls in flight: the record knows what reached the tool.

I1 what the server received has its intent; I2 what the host was answered has its outcome, with that very content; I3
the trace verifies; I4 an intent without an outcome is unknown once another proxy has started, and nothing was sent
twice.
"""

import fcntl
import hashlib
import itertools
import json
import os
import random
import signal
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from fidelity.rig import ALLOWING, entries
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.testing.hosts import EndedError, RawHost
from soothsayer_mcp.testing.servers import wait_until

SERVER = Path(__file__).parent / "synced_server.py"
IN_FLIGHT = 12
MOST_LIFE_S = 0.4
LIVES_TO_A_FOLDER = 26


class Life:
    """One proxy in front of a server of its own, and the host that keeps calls in flight until it is killed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.answers: dict[str, bytes] = {}
        """Nonce to the line that the host was answered with."""
        self._received = folder / f"{name}.received"
        self._nonces = (f"{name}-{number}" for number in itertools.count())
        proxy = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--quiet", "--state", folder / "state"]
        words = [*proxy, "--pass-env", "RECEIVED", "--name", "real", "--policy", folder / "policy.yaml", "--"]
        server = [sys.executable, "-I", "-S", SERVER]
        self._host = RawHost([*words, *server], cwd=folder, env={**os.environ, "RECEIVED": str(self._received)})

    def until_killed(self, chance: random.Random) -> None:
        """Live for a moment from the opening on; one in five only from the start of the process on."""
        host = self._host
        with host:
            death = threading.Timer(chance.uniform(0.0, MOST_LIFE_S), host.signal, (signal.SIGKILL,))
            dies_young = chance.random() < 0.2
            if not dies_young:
                host.initialize()
            death.start()
            try:
                if dies_young:
                    host.initialize()
                self._keep_calling()
            except (EndedError, BrokenPipeError):
                self._note_rest()
            death.join()
            assert host.exit_code() == -signal.SIGKILL, host.stderr
            self._wait_read()

    def in_peace(self) -> None:
        """Open, and close properly."""
        with self._host as host:
            host.initialize()
            assert host.rest() == []
            assert host.exit_code() == 0, host.stderr

    def _keep_calling(self) -> None:
        for _ in range(IN_FLIGHT):
            self._propose()
        while True:
            self._note(self._host.line())
            self._propose()

    def _propose(self) -> None:
        self._host.ask("tools/call", {"name": "act", "arguments": {"nonce": next(self._nonces)}})

    def _note(self, line: bytes) -> None:
        text: str = json.loads(line)["result"]["content"][0]["text"]
        assert text.startswith(f"did {self.name}-"), line
        self.answers[text.removeprefix("did ")] = line

    def _note_rest(self) -> None:
        """What had been answered before the proxy died lies in the pipe."""
        while True:
            try:
                line = self._host.line()
            except EndedError:
                return
            if b"protocolVersion" not in line:
                self._note(line)

    def _wait_read(self) -> None:
        """Wait until the server has read all that the dead proxy had sent."""

        def is_free() -> bool:
            with self._received.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
            return True

        if self._received.exists():
            wait_until(is_free, f"the end of the server of {self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the record says of a call."""

    step: str
    outcome: str | None
    digest: str
    """Of the answer as it crossed the wire, with the salt that it was made with."""
    salt: bytes


def recorded(state: Path) -> Iterator[tuple[str, Recorded]]:
    """Each call on record by its nonce: as often as it has an intent."""
    sql = (
        "SELECT json_extract(a.text, '$.nonce'), i.run || '.' || i.no, json_extract(o.body, '$.outcome'),"
        " json_extract(o.body, '$.result.digest'), r.salt FROM entries i"
        " JOIN payloads a ON a.writer = i.writer AND a.seq = i.seq AND a.part = 'args'"
        " LEFT JOIN entries o ON o.run = i.run AND o.no = i.no AND o.kind = 'step.outcome'"
        " LEFT JOIN payloads r ON r.writer = o.writer AND r.seq = o.seq AND r.part = 'result'"
        " WHERE i.kind = 'step.intent'"
    )
    with closing(sqlite3.connect(state / "trace-000001.db")) as db:
        for nonce, step, outcome, digest, salt in db.execute(sql):
            yield nonce, Recorded(step=step, outcome=outcome, digest=digest or "", salt=salt or b"")


def received(folder: Path) -> list[str]:
    """Every nonce that reached a server, as often as it did."""
    return [nonce for path in folder.glob("*.received") for nonce in path.read_text(encoding="ascii").split()]


def kill_often(folder: Path, kills: int, seed: int) -> None:
    """Two at a time, each followed at once by another, which opens while its neighbour writes or dies."""
    folder.mkdir()
    (folder / "policy.yaml").write_text(ALLOWING, encoding="utf-8")
    answers: dict[str, bytes] = {}

    def lane(name: str) -> None:
        chance = random.Random(f"{seed}{name}")
        for number in range(kills // 2):
            life = Life(folder, f"{name}{number}")
            life.until_killed(chance)
            answers.update(life.answers)

    with ThreadPoolExecutor(2) as lanes:
        for ended in [lanes.submit(lane, name) for name in "ab"]:
            ended.result()
    Life(folder, "last").in_peace()
    assert_nothing_is_lost(folder, answers)


def assert_nothing_is_lost(folder: Path, answers: dict[str, bytes]) -> None:
    state = folder / "state"
    sent = received(folder)
    rows = list(recorded(state))
    known = dict(rows)
    assert len(known) == len(rows), "a call has two intents or two outcomes"
    # I1, I2
    assert set(sent) <= set(known)
    assert set(answers) <= set(sent)
    for nonce, line in answers.items():
        assert known[nonce].digest == "sha256:" + hashlib.sha256(known[nonce].salt + line).hexdigest(), nonce
    # I3
    report = verify([state])
    assert report.holds, report.lines()
    # I4
    assert max(Counter(sent).values()) == 1, "a call reached the tool twice"
    unknown = {call.step for call in known.values() if call.outcome == "unknown"}
    assert {call.outcome for call in known.values()} <= {"succeeded", "unknown"}
    assert recovered(state) == Counter(unknown)
    assert set(report.unknown) == unknown
    assert report.open == []
    with closing(sqlite3.connect(state / "trace-000001.db")) as db:
        assert db.execute("SELECT id FROM writers WHERE closed_at IS NULL").fetchall() == []
    # The test would say nothing if the deaths had come at idle moments.
    assert unknown
    assert answers


def recovered(state: Path) -> Counter[str]:
    """The steps that entries of recovery name, as often as they do."""
    return Counter(step for entry in entries(state, "writer.recovered") for step in cast("list[str]", entry["unknown"]))


def test_proxies_killed_at_random_under_load_leave_no_call_without_its_record(tmp_path: Path) -> None:
    kill_often(tmp_path / "ground", kills=LIVES_TO_A_FOLDER, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_killed_proxies_leave_no_call_without_its_record(tmp_path: Path) -> None:
    """`SOOTHSAYER_KILLS` says how many; every few start from an empty folder, so that each check stays short."""
    kills = int(os.environ.get("SOOTHSAYER_KILLS", "1000"))
    for number in range(-(-kills // LIVES_TO_A_FOLDER)):
        kill_often(tmp_path / f"ground{number}", kills=min(LIVES_TO_A_FOLDER, kills), seed=2 + number)
