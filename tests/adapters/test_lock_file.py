"""The lock: it reads back as it was written, shows what eyes miss, and does not load where it reads two ways."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soothsayer_mcp.adapters.lock_file import (
    FORMAT,
    Lock,
    LockWatch,
    load_lock,
    lock_path,
    read_lock,
    render_lock,
    write_lock,
)
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.model.json import Digest, Json, canonical, compact, digest
from soothsayer_mcp.ports import SeenTool, ServerIdentity

FILES = ServerIdentity(name="files", digest=Digest("sha256:" + "1" * 64), declared=True)
MOVED = ServerIdentity(name="files", digest=Digest("sha256:" + "2" * 64), declared=True)
ELSEWHERE = ServerIdentity(
    name="files", digest=Digest("sha256:" + "3" * 64), declared=True, spelled=Digest("sha256:" + "1" * 64)
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def seen(name: str, description: Json = "reads", **more: Json) -> SeenTool:
    value: Json = {"name": name, "description": description, **more}
    return SeenTool(name=name, digest=digest(canonical(value)), raw=compact(value))


def digests(lock: Lock, server: ServerIdentity = FILES) -> dict[str, Digest]:
    return {name: tool.digest for name, tool in lock.of(server).tools.items()}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the lock's
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=2))
def test_every_definition_reads_back_with_the_digest_it_had(definitions: dict[str, Json]) -> None:
    tools = [seen(name, inner) for name, inner in definitions.items()]
    lock = read_lock(render_lock(Lock().agreed(FILES, tools)), Path("soothsayer.lock"))
    assert digests(lock) == {tool.name: tool.digest for tool in tools}


def test_a_changed_word_is_one_changed_line() -> None:
    before = render_lock(Lock().agreed(FILES, [seen("b"), seen("a", "reads a file", inputSchema={"type": "object"})]))
    after = render_lock(Lock().agreed(FILES, [seen("a", "sends a file", inputSchema={"type": "object"}), seen("b")]))
    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert changed == [
        (b'          "description": "reads a file",', b'          "description": "sends a file",'),
    ]


def test_what_an_eye_misses_is_an_escape_and_what_it_reads_is_not() -> None:
    text = render_lock(Lock().agreed(FILES, [seen("a", "grüßt 日本 \u202e\u200b\U000e0041\u2800\x1b\ud800")])).decode()
    assert '"grüßt 日本 \\u202e\\u200b\\udb40\\udc41\\u2800\\u001b\\ud800"' in text


def test_the_lock_is_the_same_on_each_machine_that_fills_something_in() -> None:
    """The identity in it is that of the configuration as it is spelled."""
    lock = Lock().agreed(ELSEWHERE, [seen("a")])
    assert lock == Lock().agreed(FILES, [seen("a")])
    assert lock.of(ELSEWHERE).pinned_as(ELSEWHERE) == ELSEWHERE.digest
    assert lock.of(FILES).pinned_as(FILES) == FILES.digest
    assert lock.of(MOVED).pinned_as(MOVED) == FILES.digest


def test_agreeing_on_some_tools_keeps_the_others_unless_they_are_gone_or_the_program_is_another() -> None:
    lock = Lock().agreed(FILES, [seen("a"), seen("b"), seen("c")])
    assert digests(lock.agreed(FILES, [seen("a", "new")], frozenset({"c"}))) == {
        "a": seen("a", "new").digest,
        "b": seen("b").digest,
    }
    assert digests(lock.agreed(MOVED, [seen("a")])) == {"a": seen("a").digest}


@pytest.mark.parametrize(
    ("text", "id", "place"),
    [
        ("{", "lock-json", "1:2"),
        ('{"soothsayer":"lock/v1",\n"servers":{},}', "lock-json", "2:"),
        ('{"soothsayer":"lock/v1","servers":{},"servers":{}}', "lock-json", "1:1"),
        ('{"soothsayer":"lock/v1","servers":NaN}', "lock-json", "1:1"),
        ('{"soothsayer":"lock/v2","servers":{}}', "lock-form", "1:1"),
        ('{"soothsayer":"lock/v1"}', "lock-form", "1:1"),
        ('{"soothsayer":"lock/v1","servers":{},"pins":1}', "lock-form", "1:1"),
        ('{"soothsayer":"lock/v1","servers":{"files":{"tools":{}}}}', "lock-form", "1:1"),
        ('{"soothsayer":"lock/v1","servers":{"files":{"server":"sha256:1","tools":{}}}}', "lock-form", "1:1"),
        ('{"soothsayer":"lock/v1","servers":{"files":{"server":"%s","tools":[]}}}', "lock-form", "1:1"),
        ('{"soothsayer":"lock/v1","servers":{"files":{"server":"%s","tools":{"a":{"name":"b"}}}}}', "lock-form", "1:1"),
    ],
)
def test_what_is_no_lock_does_not_load_and_says_where(tmp_path: Path, text: str, id: str, place: str) -> None:  # noqa: A002 - the word of `Problem`
    path = tmp_path / "soothsayer.lock"
    path.write_text(text.replace("%s", FILES.digest), encoding="utf-8")
    with pytest.raises(LoadErrors) as raised:
        load_lock(path)
    [problem] = raised.value.problems
    assert problem.id == id
    assert f"{problem.mark.line}:{problem.mark.column}".startswith(place)


def test_it_stands_beside_the_configuration_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = lock_path(tmp_path / "soothsayer.yaml")
    assert load_lock(path) is None
    write_lock(path, Lock().agreed(FILES, [seen("a")]))
    write_lock(path, Lock().agreed(FILES, [seen("b")]))
    assert [each.name for each in tmp_path.iterdir()] == ["soothsayer.lock"]
    assert json.loads(path.read_bytes())["soothsayer"] == FORMAT
    lock = load_lock(path)
    assert lock is not None
    assert [*lock.of(FILES).tools] == ["b"]


def test_a_change_counts_at_once_and_one_that_does_not_load_leaves_what_was(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "soothsayer.lock"
    watch = LockWatch(path, log=said.append)
    assert watch.of(FILES) is None
    write_lock(path, Lock().agreed(FILES, [seen("a")]))
    found = watch.of(FILES)
    assert found is not None
    assert [*found.tools] == ["a"]
    path.write_text("{", encoding="utf-8")
    assert watch.of(FILES) == found
    assert watch.of(FILES) == found
    assert len(said) == 1
    assert "the lock before stays in force" in said[0]
    path.unlink()
    assert watch.of(FILES) is None


def test_a_lock_rules_over_servers_that_people_named(tmp_path: Path) -> None:
    """A server that is wrapped without a name is no part of what was agreed on; one that is not in the lock is."""
    path = tmp_path / "soothsayer.lock"
    write_lock(path, Lock().agreed(FILES, [seen("a")]))
    watch = LockWatch(path, log=lambda _text: None)
    wrapped = ServerIdentity(name="files", digest=FILES.digest, declared=False)
    other = ServerIdentity(name="mail", digest=FILES.digest, declared=True)
    assert watch.of(wrapped) is None
    found = watch.of(other)
    assert found is not None
    assert dict(found.tools) == {}
