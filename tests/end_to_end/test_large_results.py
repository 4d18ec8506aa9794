"""Large results on the real command: stored, shown in part, and read back in parts that count."""

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from fidelity.rig import Rig, at
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script, result, tool

POLICY = """
soothsayer: policy/v1
name: large
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {also: "Much is read in parts.", id: parts, large_results: {over: 4kB, keep: 1kB}}
  - {also: "Names stay here.", id: names, tools: raw.named, redact: {in: result, matches: "Ada Lovelace"}}
"""
WORDS = [f"word-{number:05d} é" for number in range(20_000)]
TEXT = " ".join(WORDS)
"""Enough to be kept in a file of its own."""
SIZE = len(TEXT.encode())
FAILED = json.dumps({"content": [{"type": "text", "text": TEXT}], "isError": True}, ensure_ascii=False)


def said(text: str) -> str:
    return json.dumps({"content": [{"type": "text", "text": text}]}, ensure_ascii=False)


SCRIPT = Script(
    tools=(tool("big"), tool("small"), tool("named"), tool("fails"), tool("rows", outputSchema={"type": "object"})),
    capabilities='{"tools":{}}',
    on={
        "tool:big": [result(said(TEXT))],
        "tool:small": [result(said("x" * 3_000))],
        "tool:named": [result(said("Ada Lovelace wrote this. " + TEXT))],
        "tool:fails": [result(FAILED)],
        "tool:rows": [result(json.dumps({"content": [], "structuredContent": {"rows": WORDS}}))],
    },
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Generator[Rig]:
    with Rig(tmp_path_factory.mktemp("large"), SCRIPT, policy=POLICY, words=["--control-tools"]) as made:
        made.host.initialize()
        yield made


def blocks(answer: JsonObject) -> list[JsonObject]:
    return cast("list[JsonObject]", at(answer, "result", "content"))


def link_of(answer: JsonObject) -> str:
    [link] = [block for block in blocks(answer) if block["type"] == "resource_link"]
    return str(link["uri"])


def bytes_returned(host: RawHost) -> int:
    counted = at(host.call("soothsayer_run"), "result", "structuredContent", "counted", "bytes_returned")
    assert isinstance(counted, int)
    return counted


@pytest.mark.parametrize("stateless", [False, True])
def test_the_agent_gets_the_beginning_and_a_link_and_only_that_counts(rig: Rig, *, stateless: bool) -> None:
    before = bytes_returned(rig.host)
    answer = rig.host.call("big", stateless=stateless)
    beginning, note, link = blocks(answer)
    assert TEXT.startswith(str(beginning["text"]))
    assert 990 < len(str(beginning["text"]).encode()) <= 1_000
    assert f"of {SIZE:,} bytes; all of them are stored. To read on: soothsayer_result" in str(note["text"])
    assert (link["size"], link["mimeType"]) == (SIZE, "text/plain")
    assert cast("JsonObject", at(answer, "result")).keys() == {"content"} | ({"resultType"} if stateless else set())
    assert bytes_returned(rig.host) - before == len(str(beginning["text"]).encode())


@pytest.mark.parametrize("stateless", [False, True])
def test_the_link_reads_the_whole_or_a_part_and_is_on_record(rig: Rig, *, stateless: bool) -> None:
    uri = link_of(rig.host.call("big", stateless=stateless))
    before = bytes_returned(rig.host)
    whole = rig.host.request("resources/read", {"uri": uri}, stateless=stateless)
    assert at(whole, "result", "contents", 0) == {"uri": uri, "mimeType": "text/plain", "text": TEXT}
    assert bytes_returned(rig.host) - before == len(TEXT.encode())
    part = rig.host.request("resources/read", {"uri": f"{uri}?offset=100&size=7"}, stateless=stateless)
    assert at(part, "result", "contents", 0, "text") == TEXT.encode()[100:107].decode()
    checked = [entry for entry in rig.entries("message.checked") if entry.get("of_step") == uri.rpartition("/")[2]]
    assert [entry["bytes"] for entry in checked] == [len(TEXT.encode()), 7]


def test_the_tool_reads_it_part_by_part_to_its_end(rig: Rig) -> None:
    link = link_of(rig.host.call("big"))
    run, _, no = link.rpartition("/")[2].partition(".")
    offset, found = 0, ""
    while True:
        answer = rig.host.call("soothsayer_result", {"step": f"{run[:4]}.{no}", "offset": offset, "size": 64_000})
        told = cast("JsonObject", at(answer, "result", "structuredContent"))
        found += str(blocks(answer)[0]["text"])
        if told["end"] == told["of"]:
            break
        offset = cast("int", told["end"])
    assert found == TEXT


def test_small_results_and_those_with_a_schema_pass_whole(rig: Rig) -> None:
    assert blocks(rig.host.call("small")) == [{"type": "text", "text": "x" * 3_000}]
    assert at(rig.host.call("rows"), "result", "structuredContent", "rows") == WORDS


def test_a_large_failure_stays_a_failure(rig: Rig) -> None:
    answer = rig.host.call("fails")
    assert at(answer, "result", "isError") is True
    assert len(str(answer)) < 2_000


def test_what_policy_masks_is_masked_in_what_is_stored(rig: Rig) -> None:
    answer = rig.host.call("named")
    whole = rig.host.request("resources/read", {"uri": link_of(answer)})
    for told in (answer, whole):
        assert "Ada Lovelace" not in str(told)
    assert str(at(whole, "result", "contents", 0, "text")).endswith(TEXT)


def test_nothing_else_is_read_under_our_addresses(rig: Rig) -> None:
    uri = link_of(rig.host.call("big"))
    run = uri.rpartition("/")[2].partition(".")[0]
    for wrong in (
        f"soothsayer://result/{'0' * 32}.1",
        f"soothsayer://result/{run}.999",
        f"soothsayer://result/{run[:4]}.1",
        f"{uri}?offset=1&of=2",
        f"{uri}?offset=-1",
        "soothsayer://result/../../etc/passwd",
    ):
        assert "error" in rig.host.request("resources/read", {"uri": wrong})
    assert at(rig.host.call("soothsayer_result", {"step": "999"}), "result", "isError") is True


def test_the_opening_and_the_lists_tell_of_them(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY) as own:
        opened = own.host.initialize()
        assert at(opened, "result", "capabilities") == {"tools": {}, "resources": {}}
        assert at(own.host.request("resources/list", {}), "result", "resources", 0, "uri") == "soothsayer://run/digest"
        [template] = cast(
            "list[JsonObject]", at(own.host.request("resources/templates/list", {}), "result", "resourceTemplates")
        )
        assert template["uriTemplate"] == "soothsayer://result/{step}{?offset,size}"
        note = str(blocks(own.host.call("big"))[1]["text"])
        assert "To read on: the resource soothsayer://result/" in note


def test_versions_without_links_get_none(tmp_path: Path) -> None:
    with Rig(tmp_path, replace(SCRIPT, version=""), policy=POLICY) as own:
        own.host.initialize("2025-03-26")
        assert [block["type"] for block in blocks(own.host.call("big"))] == ["text", "text"]


@pytest.mark.parametrize(
    ("extra", "shown"),
    [
        ("trace: {payloads: full}\nbudgets: {bytes_returned: 2kB}\n", 1_000),
        ("mode: observe\n", SIZE),
    ],
)
def test_reading_back_stops_at_the_budget_and_observing_stores_nothing_apart(
    tmp_path: Path, extra: str, shown: int
) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY + extra, words=["--control-tools"]) as own:
        own.host.initialize()
        answer = own.host.call("big")
        assert len(str(blocks(answer)[0]["text"]).encode()) <= shown
        if shown == 1_000:
            asked: JsonObject = {"uri": link_of(answer)}
            refused = own.host.request("resources/read", asked)
            assert at(refused, "error", "data", "reason") == "budget_spent"
            told = own.host.call("soothsayer_result", {"step": "1", "size": 5_000})
            assert "the budget bytes_returned" in str(at(told, "result", "content", 0, "text"))
            assert "error" not in own.host.request("resources/read", {"uri": f"{asked['uri']}?offset=1000&size=500"})
        else:
            assert at(answer, "result", "content") == [{"type": "text", "text": TEXT}]
    assert verify([tmp_path / "state"]).holds


def test_a_policy_that_keeps_digests_only_has_nothing_to_read_back(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY + "trace: {payloads: digest}\n") as own:
        assert own.host.exit_code() == 2
        assert "large_results needs results to be kept" in own.host.stderr


def test_what_another_run_was_given_taints_the_run_that_reads_it(rig: Rig) -> None:
    uri = link_of(rig.host.call("big"))
    held = [entry for entry in rig.entries("message.checked") if "read" in entry]
    rig.host.request("resources/read", {"uri": uri})
    assert [entry for entry in rig.entries("message.checked") if "read" in entry] == held
    run = next(str(entry["run"]) for entry in rig.entries("run.opened"))  # that of the self-test
    assert run not in uri
    rig.host.request("resources/read", {"uri": uri, "_meta": {"dev.soothsayer/run": run}})
    given = [entry for entry in rig.entries("message.checked") if "read" in entry][-1]
    assert (given["run"], given["read"], given["server"]) == (run, "untrusted", "soothsayer")
