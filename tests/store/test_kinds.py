"""Every kind of entry that is written can be read again, by the reader and by the verifier."""

import time
from pathlib import Path
from typing import Any

from recording import (
    CLIENT,
    POLICY,
    PRINCIPAL,
    admit,
    ask,
    bind,
    end,
    intend,
    make_step,
    open_store,
    opened,
    run,
    withhold,
)
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.recovery import alive_lock
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.json import Digest, Json
from soothsayer_mcp.model.run import DeclaredBy, Intent, RunBinding, RunState
from soothsayer_mcp.ports import Note, SeenTool, ServerIdentity
from soothsayer_mcp.run.close import close
from soothsayer_mcp.trace.chain import leaf_hash
from soothsayer_mcp.trace.entries import ORDER
from soothsayer_mcp.trace.query import parse

STEPS = {Kind.STEP_INTENT, Kind.STEP_REFUSED, Kind.STEP_ASKED, Kind.STEP_FINDING, Kind.STEP_OUTCOME}
HEAD = {"v", "writer", "seq", "prev", "at", "kind", "run", "no"}


def identity(digit: str) -> ServerIdentity:
    return ServerIdentity(name="files", digest=Digest("sha256:" + digit * 64), declared=True)


def seen(digit: str) -> SeenTool:
    return SeenTool(name="read", digest=Digest("sha256:" + digit * 64), raw=b'{"name":"%s"}' % digit.encode())


async def every_kind(store: SqliteStore) -> None:
    """Make the store write each kind that it can be asked for."""
    run_id = await bind(store)
    finding = Finding(check="schema:output", answer=Answer.KEPT, level=Level.E1, reason=None)
    await end(store, await intend(store, make_step(run_id)), findings=(finding,))
    await withhold(store, make_step(run_id, effect=Effect.DENY))
    await store.record_intent(make_step(run_id, effect=Effect.ASK), ask, close)
    await store.compare_definitions(identity("1"), [seen("a")], trust_first=True)
    await store.compare_definitions(identity("2"), [seen("b")], trust_first=True)
    intent = Intent(text="tidy", declared_by=DeclaredBy.HOST)
    await store.bind_run(RunBinding(principal=PRINCIPAL, workspace="/other", client=CLIENT, intent=intent), POLICY)
    notes: list[tuple[Kind, dict[str, Json], dict[str, bytes]]] = [
        (Kind.POLICY_LOADED, {"policy": POLICY, "name": "solo", "scopes": [], "rules": 1}, {"source": b"rules: []"}),
        (Kind.POLICY_REJECTED, {"errors": ["a.yaml:1:1: no"]}, {}),
        (Kind.MESSAGE_CHECKED, {"method": "resources/read", "from": "host", "effect": "allow", "bytes": 1}, {}),
        (Kind.GRANT_REVOKED, {"approval": "7f3a910c55d2e8b1", "by": "os:ada"}, {}),
        (Kind.MESSAGE_DROPPED, {"from": "server", "reason": "duplicate_key", "bytes": 1, "answered": True}, {}),
    ]
    for kind, fields, payloads in notes:
        await store.note(Note(kind=kind, fields=fields, payloads=payloads))


def entries_of(folder: Path) -> list[Any]:
    with Reader(folder) as reader:
        return list(reader.entries(parse(""), reader.now(), limit=None))


def test_each_kind_that_is_written_is_read_as_it_was_written(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        run(lambda: every_kind(store))
        store.change_run(run(lambda: bind(store)), RunState.PAUSED, by="os:ada", reason="wait")
        dead = store.writer_id
    store = open_store(tmp_path)
    store._writer._db.execute("UPDATE writers SET closed_at = NULL WHERE id = ?", (dead,))
    store.close()
    assert not alive_lock(tmp_path, dead).exists()
    open_store(tmp_path).close()
    found = entries_of(tmp_path)
    kinds = {Kind(entry.kind) for entry in found}
    assert kinds == STEPS | ORDER.keys()
    for entry in found:
        kind = Kind(entry.kind)
        if kind in ORDER:
            assert entry.fields.keys() - HEAD <= set(ORDER[kind]), kind
            own = [name for name in entry.fields if name not in HEAD]
            assert own == sorted(own, key=ORDER[kind].index)


def test_a_kind_and_a_version_of_tomorrow_are_read_raw_and_the_chain_holds(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        run(lambda: bind(store))
        db = store._writer._db
        row = db.execute("SELECT pos, seq, leaf, at FROM entries ORDER BY pos DESC LIMIT 1").fetchone()
        pos, seq, leaf, at = row
        text = _tomorrow(store.writer_id, seq + 1, leaf.hex(), at)
        db.execute(
            "INSERT INTO entries VALUES(?, ?, ?, ?, 'weather.noted', NULL, NULL, ?, ?)",
            (pos + 1, store.writer_id, seq + 1, at, leaf_hash(text.encode()), text),
        )
        store._writer._chain.forget()
        run_id = run(lambda: bind(store))
        run(lambda: store.record_intent(make_step(run_id), admit, close))
    assert "weather.noted" in {entry.kind for entry in entries_of(tmp_path)}
    report = verify([tmp_path])
    assert report.holds, report.lines()


def _tomorrow(writer: str, seq: int, prev: str, at: int) -> str:
    second, micro = divmod(at, 1_000_000)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)) + f".{micro:06d}Z"
    return f'{{"v":2,"writer":"{writer}","seq":{seq},"prev":"{prev}","at":"{when}","kind":"weather.noted","sun":1.5}}'
