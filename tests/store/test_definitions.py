"""Pins: what is new or changed is seen once, kept for review, and trusted only when somebody says so."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recording import opened, run
from soothsayer_mcp.adapters.lock_file import NOT_LOCKED, Lock, Locked
from soothsayer_mcp.adapters.store.definitions import changed_paths
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.json import Digest, Json, compact, digest
from soothsayer_mcp.ports import SeenTool, ServerIdentity

FILES = ServerIdentity(name="files", digest=Digest("sha256:" + "1" * 64), declared=True)
MOVED = ServerIdentity(name="files", digest=Digest("sha256:" + "2" * 64), declared=True)
WRAPPED = ServerIdentity(name="server", digest=Digest("sha256:" + "abcdef01" * 8), declared=False)
OTHER = ServerIdentity(name="server", digest=Digest("sha256:" + "3" * 64), declared=False)

PINNED, NEW, CHANGED = PinState.PINNED, PinState.NEW, PinState.CHANGED


def tool(name: str, description: str = "reads") -> SeenTool:
    raw = compact({"name": name, "description": description, "inputSchema": {"type": "object"}})
    return SeenTool(name=name, digest=digest(raw), raw=raw)


def compare(
    store: SqliteStore, *tools: SeenTool, server: ServerIdentity = FILES, trust_first: bool = True
) -> Mapping[str, PinState]:
    return run(lambda: store.compare_definitions(server, tools, trust_first=trust_first)).states


def written(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    sql = "SELECT kind, body FROM entries WHERE kind LIKE 'definition%' OR kind LIKE 'server%' ORDER BY pos"
    with closing(sqlite3.connect(folder / "trace-000001.db")) as db:
        return [(kind, json.loads(body)) for kind, body in db.execute(sql)]


def test_the_first_list_of_a_server_is_pinned_where_that_is_trusted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert compare(store, tool("read"), tool("write")) == {"read": PINNED, "write": PINNED}
        assert compare(store, tool("read"), tool("write")) == {"read": PINNED, "write": PINNED}
    kinds = [(kind, body["tool"], body["by"]) for kind, body in written(tmp_path)]
    assert kinds == [("definition.pinned", "read", "first_use"), ("definition.pinned", "write", "first_use")]
    assert verify([tmp_path]).holds


def test_nothing_is_pinned_where_the_first_list_is_not_trusted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert compare(store, tool("read"), trust_first=False) == {"read": NEW}
        assert compare(store, tool("read"), trust_first=True) == {"read": NEW}
        assert store.accept_definitions("files", by="os:ada") == ["read"]
        assert compare(store, tool("read"), trust_first=False) == {"read": PINNED}
    assert [(kind, body.get("by")) for kind, body in written(tmp_path)] == [
        ("definition.changed", None),
        ("definition.pinned", "os:ada"),
    ]


def test_a_change_is_an_entry_once_with_where_it_differs_and_holds_until_accepted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        compare(store, tool("read"))
        for _ in range(3):
            assert compare(store, tool("read", "reads and sends")) == {"read": CHANGED}
        [pin] = store.list_pins()
        assert (pin.state, json.loads(pin.raw)["description"]) == (CHANGED, "reads")
        assert pin.seen_raw is not None
        assert json.loads(pin.seen_raw)["description"] == "reads and sends"
        assert store.accept_definitions("files", by="os:ada") == ["read"]
        assert store.accept_definitions("files", by="os:ada") == []
        assert compare(store, tool("read", "reads and sends")) == {"read": PINNED}
    [_, changed, pinned] = [body for _, body in written(tmp_path)]
    assert changed["paths"] == ["/description"]
    assert (changed["old"], changed["new"]) == (tool("read").digest, tool("read", "reads and sends").digest)
    assert pinned["by"] == "os:ada"


def test_a_definition_that_changes_back_is_pinned_again(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        compare(store, tool("read"))
        assert compare(store, tool("read", "other")) == {"read": CHANGED}
        assert compare(store, tool("read")) == {"read": PINNED}
        [pin] = store.list_pins()
        assert (pin.state, pin.seen, pin.seen_raw) == (PINNED, None, None)


def test_a_tool_that_comes_later_is_new_and_others_are_accepted_by_name(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        compare(store, tool("read"))
        assert compare(store, tool("read"), tool("write"), tool("send")) == {"read": PINNED, "write": NEW, "send": NEW}
        assert store.accept_definitions("files", ["write"], by="os:ada") == ["write"]
        assert compare(store, tool("write"), tool("send")) == {"write": PINNED, "send": NEW}


def test_another_program_under_a_declared_name_changes_every_tool(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        compare(store, tool("read"), tool("write"))
        for _ in range(2):
            assert compare(store, tool("read"), tool("write"), server=MOVED) == {"read": CHANGED, "write": CHANGED}
        assert store.accept_definitions("files", ["read"], by="os:ada") == ["read"]
        assert compare(store, tool("read"), tool("write"), server=MOVED) == {"read": PINNED, "write": CHANGED}
    changes = [body for kind, body in written(tmp_path) if kind == "server.changed"]
    assert [(body["server"], body["old"], body["new"]) for body in changes] == [("files", FILES.digest, MOVED.digest)]


def test_another_program_under_a_name_that_nobody_gave_is_another_server(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert compare(store, tool("read"), server=WRAPPED) == {"read": PINNED}
        assert compare(store, tool("read", "other"), server=OTHER) == {"read": PINNED}
        assert [pin.server for pin in store.list_pins()] == ["server@33333333", "server@abcdef01"]
    assert "server.changed" not in [kind for kind, _ in written(tmp_path)]


def test_pins_are_shared_by_all_who_open_the_folder(tmp_path: Path) -> None:
    with opened(tmp_path) as store, opened(tmp_path) as other:
        compare(store, tool("read"))
        assert compare(other, tool("read", "other")) == {"read": CHANGED}
        assert compare(store, tool("read", "other")) == {"read": CHANGED}
    assert [kind for kind, _ in written(tmp_path)].count("definition.changed") == 1


@pytest.mark.parametrize(
    ("old", "new", "paths"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1.0}, ["/a"]),
        ({"a": True}, {"a": 1}, ["/a"]),
        ({"a": {"b/c": 1, "~": 2}}, {"a": {"b/c": 2}}, ["/a/b~1c", "/a/~0"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["/a/1"]),
        ({"a": [1, 2]}, {"a": [1]}, ["/a"]),
        ({"a": 1}, [1], [""]),
        ({}, {str(number): number for number in range(80)}, [f"/{number}" for number in range(50)]),
    ],
)
def test_what_differs_is_named_by_pointers(old: Json, new: Json, paths: list[str]) -> None:
    assert changed_paths(compact(old), compact(new)) == paths


def test_what_does_not_parse_differs_as_a_whole() -> None:
    assert changed_paths(b"{", b"{}") == [""]


def test_a_list_that_is_just_what_is_pinned_costs_no_transaction(tmp_path: Path) -> None:
    statements: list[str] = []
    with opened(tmp_path) as store:
        compare(store, tool("read"), tool("write"))
        store._writer._db.set_trace_callback(statements.append)
        assert compare(store, tool("read"), tool("write")) == {"read": PINNED, "write": PINNED}
        assert compare(store, tool("read")) == {"read": PINNED}
        assert statements == []
        assert compare(store, tool("read", "deletes"), tool("write")) == {"read": CHANGED, "write": PINNED}
        assert compare(store, tool("read"), tool("write"), server=MOVED) == {"read": CHANGED, "write": CHANGED}
        store._writer._db.set_trace_callback(None)
    assert "COMMIT" in statements


# -- where a lock rules


def locked(*tools: SeenTool, server: ServerIdentity = FILES) -> Locked:
    return Lock().agreed(server, tools).of(server)


def test_a_lock_rules_over_what_the_store_has_pinned(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        compare(store, tool("read", "as it was"), tool("write"))
        store.pin_by(lambda _server: locked(tool("read"), tool("send")))
        listed = (tool("read"), tool("write"), tool("send", "sends more"))
        for _ in range(2):
            assert compare(store, *listed) == {"read": PINNED, "write": NEW, "send": CHANGED}
        pins = {pin.tool: (pin.state, pin.digest) for pin in store.list_pins()}
        assert pins == {
            "read": (PINNED, tool("read").digest),
            "send": (CHANGED, tool("send").digest),
            "write": (NEW, tool("write").digest),
        }
    by = [body["by"] for kind, body in written(tmp_path) if kind == "definition.pinned"]
    assert by == ["first_use", "first_use", "lock", "lock"]
    assert [kind for kind, _ in written(tmp_path)].count("definition.changed") == 2
    assert verify([tmp_path]).holds


def test_where_a_lock_rules_nothing_is_trusted_because_it_came_first(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.pin_by(lambda _server: NOT_LOCKED)
        assert compare(store, tool("read"), trust_first=True) == {"read": NEW}
        store.pin_by(lambda _server: locked(tool("read")))
        assert compare(store, tool("read")) == {"read": PINNED}
        store.pin_by(lambda _server: None)
        assert compare(store, tool("read")) == {"read": PINNED}


def test_accepting_in_the_store_alone_does_not_lift_a_lock(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.pin_by(lambda _server: locked(tool("read")))
        assert compare(store, tool("read", "other")) == {"read": CHANGED}
        assert store.accept_definitions("files", by="os:ada") == ["read"]
        assert compare(store, tool("read", "other")) == {"read": CHANGED}


def test_a_lock_of_another_program_pins_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.pin_by(lambda _server: locked(tool("read"), server=MOVED))
        assert compare(store, tool("read"), tool("write")) == {"read": CHANGED, "write": NEW}


def test_a_list_that_is_just_what_is_locked_costs_no_transaction(tmp_path: Path) -> None:
    statements: list[str] = []
    with opened(tmp_path) as store:
        store.pin_by(lambda _server: locked(tool("read"), tool("write")))
        assert compare(store, tool("read")) == {"read": PINNED}
        store._writer._db.set_trace_callback(statements.append)
        assert compare(store, tool("read")) == {"read": PINNED}
        store._writer._db.set_trace_callback(None)
    assert statements == []
