"""Rows of the wire on the real command: event streams, rewritten names, results with a schema, a pending ask."""

import hashlib
import http.server
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest

from asks.test_asking_a_host import ASKING, OFFERS, respond
from fidelity.rig import Rig, at, read, step
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.testing.servers import Script, result, tool

QUICK_S = 0.1
LISTED = json.dumps({"tools": [json.loads(tool("secret")), json.loads(tool("plain"))]})
HEADERED = tool(
    "here", inputSchema={"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
)
OPENING: JsonObject = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "r", "version": "1"},
}
HIDING = """\
soothsayer: policy/v1
name: hiding
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {deny: "Nobody may.", id: nobody, tools: "*.secret"}
  - {deny: "Not there.", id: etc, tools: "*.here", args: {region: {is: "/etc/a"}}}
"""


def two_lines(answer: str) -> str:
    half = answer.index(",") + 1
    return f"event: message\ndata: {answer[:half]}\ndata: {answer[half:]}\n\n"


def after_a_notice(answer: str) -> str:
    said = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
    return f"data: {said}\n\ndata: {answer}\n\n"


def mixed_ends(answer: str) -> str:
    half = answer.index(",") + 1
    return f": hello\r\revent: message\rdata: {answer[:half]}\r\ndata: {answer[half:]}\n\r\n"


def with_a_mark(answer: str) -> str:
    return f"\ufeffdata: {answer}\n\n"


Form = Callable[[str], str]
FORMS: tuple[Form, ...] = (two_lines, after_a_notice, mixed_ends, with_a_mark)


@contextmanager
def far(listed: str = LISTED, forms: Sequence[Form] = ()) -> Generator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A server over HTTP; gives its address, and the headers and bodies that reach it.

    Its lists after the first come as event streams in these forms, in turn.
    """
    heard: list[tuple[dict[str, str], bytes]] = []
    waiting = list(forms)

    class Far(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(({name.lower(): value for name, value in self.headers.items()}, raw))
            message = json.loads(raw)
            made = {"initialize": json.dumps(OPENING), "tools/list": listed, "server/discover": ""}
            text = made.get(message["method"], '{"resultType":"complete","content":[]}')
            answer = f'{{"jsonrpc":"2.0","id":{json.dumps(message.get("id"))},"result":{text}}}'
            media = "application/json"
            if message["method"] == "tools/list" and forms:
                media = "text/event-stream"
                form = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                answer = form(answer)
            body = answer.encode() if "id" in message else b""
            self.send_response(200 if body else 202)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_response(405)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_DELETE = do_GET  # noqa: N815 - the library's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Far) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp", heard
        server.shutdown()


def names(answer: JsonObject) -> list[object]:
    return [at(each, "name") for each in cast("list[object]", at(answer, "result", "tools"))]


@pytest.mark.pitfall("P-PARSE-07")
@pytest.mark.parametrize("form", FORMS)
def test_a_list_in_an_event_stream_of_any_spelling_is_filtered(form: Form, tmp_path: Path) -> None:
    with far(forms=[form]) as (url, heard), Rig(tmp_path, policy=HIDING, url=url) as rig:
        rig.host.initialize()
        for _ in range(2):
            assert names(rig.host.request("tools/list")) == ["plain"]
        denied = rig.host.call("secret")
        assert step(denied)["reason"] == "rule_denied"
        assert not any(b'"tools/call"' in raw for _, raw in heard)


@pytest.mark.pitfall("P-PARSE-03")
def test_what_is_rewritten_is_decided_on_recorded_and_sent_as_the_same_call(tmp_path: Path) -> None:
    """The one thing that is rewritten is the name, which the host knows with its server's before it."""
    config = tmp_path / "soothsayer.yaml"
    with far('{"tools":[' + HEADERED + "]}") as (url, heard):
        argv = Script(name="near").command(tmp_path)
        servers = {"far": {"url": url}, "near": {"command": argv[0], "args": argv[1:]}}
        text = {"soothsayer": "config/v1", "policy": [str(tmp_path / "policy.yaml")], "mcpServers": servers}
        config.write_text(json.dumps(text), encoding="utf-8")
        with Rig(tmp_path, policy=HIDING, config=config) as rig:
            rig.host.initialize()
            denied = rig.host.call("far__here", {"region": "/etc/a"})
            assert step(denied)["reason"] == "rule_denied"
            assert not any(b'"tools/call"' in raw for _, raw in heard)
            assert "result" in rig.host.call("far__here", {"region": "a"})
    [(headers, raw)] = [(headers, raw) for headers, raw in heard if b'"tools/call"' in raw]
    sent = read(raw)
    assert at(sent, "params", "name") == "here"
    assert headers["content-length"] == str(len(raw))
    assert "far__here" not in json.dumps(headers)
    [intent] = [entry for entry in rig.entries("step.intent") if entry["server"] == "far"]
    assert intent["tool"] == "here"
    arguments = raw[raw.index(b'"arguments":') + len(b'"arguments":') :]
    arguments = arguments[: len(json.dumps({"region": "a"}, separators=(",", ":")))]
    assert arguments == b'{"region":"a"}'
    assert at(intent, "args", "digest") in digests(rig.state, arguments)


def digests(state: Path, raw: bytes) -> set[str]:
    """The digest of these bytes under each salt of the record."""
    found: set[str] = set()
    for segment in state.glob("trace-*.db"):
        with closing(sqlite3.connect(f"file:{segment}?mode=ro", uri=True)) as db:
            salts = db.execute("SELECT salt FROM payloads WHERE part = 'args'")
            found |= {"sha256:" + hashlib.sha256(salt + raw).hexdigest() for (salt,) in salts}
    return found


SHAPED = tool(
    "shaped",
    outputSchema={
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": "^[a-z.@]+$"}, "text": {"type": "string"}},
        "required": ["name", "text"],
    },
)
LIMITED = """\
soothsayer: policy/v1
name: limited
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {allow: "Short answers.", id: short, tools: "raw.*", limit: {result_bytes: 900}}
  - {also: "No addresses.", id: mail, tools: "raw.*", redact: [{in: result, find: email}]}
"""


def shaped(name: str, text: str) -> JsonObject:
    made: dict[str, Json] = {"name": name, "text": text}
    return {"content": [{"type": "text", "text": json.dumps(made)}], "structuredContent": made}


@pytest.mark.pitfall("P-PROTO-09")
def test_a_result_that_its_schema_would_refuse_is_withheld_and_the_call_ran(tmp_path: Path) -> None:
    answers = {
        "big": shaped("ann", "x" * 2_000),
        "spoilt": shaped("ann@example.com", "hello"),
        "masked": shaped("ann", "write to ann@example.com"),
        "plain": shaped("ann", "hello"),
    }
    definition = json.loads(SHAPED)
    script = Script(
        tools=[json.dumps({**definition, "name": name}) for name in answers],
        on={f"tool:{name}": [result(json.dumps(answer))] for name, answer in answers.items()},
    )
    with Rig(tmp_path, script, policy=LIMITED) as rig:
        rig.host.initialize()
        for name, reason in (("big", "result_too_big"), ("spoilt", "not_masked")):
            answer = rig.host.call(name)
            assert at(answer, "result", "isError") is True
            assert (step(answer)["reason"], step(answer)["acted"]) == (reason, "yes")
            assert str(at(answer, "result", "content", 0, "text")).startswith("It ran")
            assert "structuredContent" not in cast("JsonObject", answer["result"])
            assert "example.com" not in json.dumps(answer)
        told = rig.host.call("masked")
        assert "example.com" not in json.dumps(told)
        assert at(told, "result", "structuredContent", "name") == "ann"
        assert at(rig.host.call("plain"), "result") == answers["plain"]
        assert len(rig.record.calls()) == len(answers)


@pytest.mark.pitfall("P-PROC-06")
def test_while_a_person_is_asked_everything_else_is_answered_at_once(tmp_path: Path) -> None:
    script = Script(
        tools=[tool("send"), tool("plain")],
        capabilities='{"tools":{},"resources":{}}',
        on={"resources/read": [result('{"contents":[{"uri":"a:b","text":"x"}]}')]},
    )
    with Rig(tmp_path, script, policy=ASKING) as rig:
        rig.host.initialize(capabilities=OFFERS)
        name = rig.host.ask("tools/call", {"name": "send", "arguments": {}})
        question = read(rig.host.message("elicitation/create"))
        took: list[float] = []
        for _ in range(10):
            began = time.monotonic()
            rig.host.request("ping")
            assert "result" in rig.host.request("resources/read", {"uri": "a:b"})
            took.append(time.monotonic() - began)
        # The best of ten: the machine may be busy with something else, the read loop may not.
        assert min(took) < QUICK_S
        assert rig.record.calls() == []
        respond(rig, question, "accept")
        assert "result" in read(rig.host.answer(name))
    assert len(rig.record.calls()) == 1
