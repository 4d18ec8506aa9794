"""What policy masks, through the real command: in every place a message has, and in the record."""

import json
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fidelity.rig import Rig, at, call, notice, read, request
from soothsayer_mcp.policy.detectors import marker
from soothsayer_mcp.testing.servers import Script, error, line, result, tool
from store.test_masking import jwt

POLICY: Final = """\
soothsayer: policy/v1
name: masking
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
labels:
  - {tools: raw.login, secret: args.words}
trace:
  mask: [{matches: "CANARY-[0-9]+", with: "[canary]"}]
rules:
  - also: "Secrets are masked before a model reads them."
    redact: [{in: result, find: secret}]
  - also: "Accounts are masked in mail."
    tools: "raw.mail"
    redact: [{in: result, find: [iban, card_number], with: "[account]"}, {in: trace, at: args.to}]
  - {also: "Only watched.", mode: observe, tools: raw.watched, redact: [{in: result, find: email}]}
"""
TOKEN: Final = "ghp_" + "a1B2" * 9
IBAN: Final = "DE02120300000000202051"
SECRETS: Final = {"token": TOKEN, "HS256": jwt("HS256"), "RS256": jwt("RS256")}
PLACES: Final = {
    "text": result('{"content":[{"type":"text","text":"it is @, keep it"}]}'),
    "structured": result('{"content":[],"structuredContent":{"deep":[{"value":"@","@":1}]}}'),
    "embedded": result('{"content":[{"type":"resource","resource":{"uri":"a:b","text":"@"}}]}'),
    "link": result('{"content":[{"type":"resource_link","uri":"https://h.test/@","name":"x","description":"@"}]}'),
    "json": result('{"content":[{"type":"text","text":"{\\"a\\":[\\"@\\"]}"}]}'),
    "failed": result('{"content":[{"type":"text","text":"no: @"}],"isError":true}'),
    "message": error('{"code":-32050,"message":"no: @"}'),
    "data": error('{"code":-32050,"message":"no","data":{"trace":["@"]}}'),
}
TEXT: Final = '{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"%s"}]}}'


class Masking(Rig):
    """A proxy whose server says each secret wherever something can be said."""

    def __init__(self, folder: Path) -> None:
        acts = {
            f"tool:{kind}-{place}": [line(str(act["text"]).replace("@", secret))]
            for kind, secret in SECRETS.items()
            for place, act in PLACES.items()
        }
        progress = f'{{"progressToken":$TOKEN,"progress":1,"message":"now {TOKEN}"}}'
        acts |= {
            "tool:progress": [
                line(notice("notifications/progress", progress)),
                line(notice("notifications/message", f'{{"level":"info","data":{{"deep":["{TOKEN}"]}}}}')),
                result('{"content":[]}'),
            ],
            "tool:task": [
                result('{"task":{"taskId":"t1","status":"working","createdAt":"2026-01-01T00:00:00Z","ttl":null}}')
            ],
            "tasks/result": [result(f'{{"content":[{{"type":"text","text":"late {TOKEN}"}}]}}')],
            "tool:mail": [line(TEXT % f"from {IBAN}, card 4111 1111 1111 1111, CANARY-7")],
            "tool:watched": [line(TEXT % "ann@acme.test")],
            "tool:login": [line(TEXT % "welcome CANARY-12")],
            "tool:twice": [line(f'{{"jsonrpc":"2.0","id":$ID,"result":{{"content":[],"a":"x","a":"{TOKEN}"}}}}')],
            "prompts/get": [result(f'{{"messages":[{{"role":"user","content":{{"type":"text","text":"{TOKEN}"}}}}]}}')],
            "resources/read": [result(f'{{"contents":[{{"uri":"a:b","text":"{TOKEN}"}}]}}')],
            "prompts/list": [result(f'{{"prompts":[{{"name":"p","description":"{TOKEN}"}}]}}')],
            "completion/complete": [error(f'{{"code":-32602,"message":"{TOKEN}"}}')],
        }
        names = [name.removeprefix("tool:") for name in acts if name.startswith("tool:")]
        script = Script(
            tools=[tool("described", description=f"use {TOKEN}"), *(tool(name) for name in names)],
            capabilities='{"tools":{},"prompts":{},"resources":{},"logging":{},"completions":{},"tasks":{}}',
            on=acts,
        )
        super().__init__(folder, script, policy=POLICY)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Generator[Masking]:
    with Masking(tmp_path_factory.mktemp("masking")) as masking:
        masking.host.initialize()
        yield masking


def ask(rig: Rig, line_: str, request_id: str) -> str:
    rig.host.send(line_)
    return rig.host.answer(request_id).decode()


@pytest.mark.pitfall("P-SECRET-05")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", SECRETS)
def test_no_place_of_an_answer_is_exempt(rig: Masking, kind: str, place: str) -> None:
    name = f"{kind}-{place}"
    said = ask(rig, call(name, "{}", f'"{name}"'), name)
    mark = marker("token" if kind == "token" else "jwt")
    assert SECRETS[kind] not in said
    template = str(PLACES[place]["text"]).replace("$ID", f'"{name}"')
    assert said == template.replace("@", mark)


@pytest.mark.pitfall("P-SECRET-05")
def test_progress_and_log_notices_are_masked(rig: Masking) -> None:
    rig.host.send(request("tools/call", '{"name":"progress","arguments":{},"_meta":{"progressToken":"tk"}}', '"pg"'))
    progress = rig.host.message("notifications/progress")
    log = rig.host.message("notifications/message")
    rig.host.answer("pg")
    assert at(read(progress), "params", "message") == f"now {marker('token')}"
    assert at(read(progress), "params", "progressToken") == "tk"
    assert at(read(log), "params", "data", "deep", 0) == marker("token")


@pytest.mark.pitfall("P-SECRET-05")
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/list", "{}"),
        ("prompts/list", "{}"),
        ("prompts/get", '{"name":"p"}'),
        ("resources/read", '{"uri":"a:b"}'),
        ("completion/complete", '{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":""}}'),
    ],
)
def test_lists_prompts_resources_and_errors_are_masked(rig: Masking, method: str, params: str) -> None:
    said = ask(rig, request(method, params, f'"{method}"'), method)
    assert TOKEN not in said
    assert marker("token") in said


@pytest.mark.pitfall("P-SECRET-05")
def test_the_result_of_a_task_is_masked_and_recorded_so(rig: Masking) -> None:
    ask(rig, request("tools/call", '{"name":"task","arguments":{},"task":{"ttl":1}}', '"mk"'), "mk")
    said = ask(rig, request("tasks/result", '{"taskId":"t1"}', '"tr"'), "tr")
    assert at(read(said.encode()), "result", "content", 0, "text") == f"late {marker('token')}"
    [settled] = rig.entries("step.settled")
    assert settled["how"] == "task_result"
    assert TOKEN not in last_kept(rig, "result")


def test_an_answer_that_reads_two_ways_is_withheld(rig: Masking) -> None:
    said = ask(rig, call("twice", "{}", '"tw"'), "tw")
    assert TOKEN not in said
    assert at(read(said.encode()), "result", "_meta", "dev.soothsayer/step", "reason") == "not_masked"
    assert at(read(said.encode()), "result", "_meta", "dev.soothsayer/step", "acted") == "yes"


def test_an_answer_without_a_match_keeps_its_bytes(rig: Masking) -> None:
    said = ask(rig, call("described", '{"a":1}', '"pl"'), "pl")
    assert marker("")[:-1] not in said
    assert at(read(said.encode()), "id") == "pl"


def test_a_rule_that_only_observes_masks_nothing_and_says_what_it_would(rig: Masking) -> None:
    said = ask(rig, call("watched", "{}", '"ob"'), "ob")
    assert "ann@acme.test" in said
    assert rig.entries("step.outcome")[-1]["would_mask"] == {"email": 1}


def test_what_a_rule_masks_is_masked_in_the_record_and_counted(rig: Masking) -> None:
    said = ask(rig, call("mail", f'{{"to":"{IBAN}","n":1}}', '"ma"'), "ma")
    assert at(read(said.encode()), "result", "content", 0, "text") == "from [account], card [account], CANARY-7"
    assert rig.entries("step.outcome")[-1]["masked"] == {"card": 1, "iban": 1}
    intent = rig.entries("step.intent")[-1]
    assert intent["obligations"] == ["redact:card_number+iban", "redact:secret"]
    assert json.loads(last_kept(rig, "args")) == {"to": marker("value"), "n": 1}
    assert "[account], card [account], [canary]" in last_kept(rig, "result")


def test_a_secret_argument_reaches_the_server_and_stays_out_of_the_record(rig: Masking) -> None:
    ask(rig, call("login", '{"words":"correct horse CANARY-99","user":"ann"}', '"lo"'), "lo")
    assert rig.record.calls("login")[-1]["arguments"] == {"words": "correct horse CANARY-99", "user": "ann"}
    kept = json.loads(last_kept(rig, "args"))
    assert kept["user"] == "ann"
    assert kept["words"].startswith(marker("secret sha256:")[:-1])
    for path in rig.state.rglob("*"):
        if path.is_file():
            assert b"correct horse" not in path.read_bytes(), path


def last_kept(rig: Rig, part: str) -> str:
    """The newest payload of a sort, as it is kept."""
    with closing(sqlite3.connect(f"file:{rig.state / 'trace-000001.db'}?mode=ro", uri=True)) as db:
        row = db.execute("SELECT text FROM payloads WHERE part = ? ORDER BY id DESC LIMIT 1", (part,)).fetchone()
    return str(row[0])
