"""Rows of process and transport, on the real command."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fidelity.rig import ALLOWING, WATCHING, Rig, answered, at, call, read, request
from soothsayer_mcp.testing.servers import Script, result, tool

MIB = 1024 * 1024
LARGE = '{"content":[{"type":"text","text":"' + "\u00e9" * (4 * MIB) + '"}]}'
EVENT = {"content": [{"type": "text", "text": "x" * 1_200_000}]}


@pytest.fixture
def remote() -> Iterator[str]:
    """A server over HTTP whose answer to a call is one event of 1.2 MB."""

    class Remote(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "id" not in message:
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            answers: dict[str, object] = {
                "initialize": {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "remote", "version": "1"},
                },
                "tools/list": {"tools": [json.loads(tool("large"))]},
                "tools/call": EVENT,
            }
            answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answers[message["method"]]})
            body = f"event: message\ndata: {answer}\n\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
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

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Remote) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        server.shutdown()


@pytest.mark.pitfall("P-PROC-04")
@pytest.mark.parametrize("policy", [WATCHING, ALLOWING], ids=["observing", "enforcing"])
def test_eight_megabytes_pass_in_each_direction(policy: str, tmp_path: Path) -> None:
    with Rig(tmp_path, Script(on={"tool:large": [result(LARGE)]}, tools=[tool("large")]), policy=policy) as rig:
        rig.host.initialize()
        asked = call("large", '{"text":"' + "\u00e9" * (4 * MIB) + '"}', "7")
        rig.host.send(asked)
        assert rig.host.answer(7) == answered(LARGE, "7")
        assert rig.record.lines[-1] == asked.encode()


@pytest.mark.pitfall("P-PROC-04")
def test_an_event_of_more_than_a_megabyte_passes_over_http(remote: str, tmp_path: Path) -> None:
    with Rig(tmp_path, policy=ALLOWING, url=remote) as rig:
        rig.host.initialize()
        assert rig.host.call("large")["result"] == EVENT


@pytest.mark.pitfall("P-PROC-04")
def test_a_line_may_be_split_at_every_byte(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        rig.host.initialize()
        asked = call("echo", '{"text":"\u00e9\U0001f30d"}', "7").encode()
        for at_byte in range(1, len(asked)):
            rig.host.write(asked[:at_byte])
            rig.host.write(asked[at_byte:] + b"\n")
            assert b"result" in rig.host.answer(7)
            assert rig.record.lines[-1] == asked
        for byte in asked + b"\n":
            rig.host.write(bytes([byte]))
        assert b"result" in rig.host.answer(7)
        assert rig.record.lines[-1] == asked


@pytest.mark.pitfall("P-PROC-04")
def test_over_the_limit_that_request_gets_an_error_and_the_next_works(tmp_path: Path) -> None:
    """Either way, and the limit is ours and stated."""
    on = {"tool:large": [result('{"content":[{"type":"text","text":"' + "x" * MIB + '"}]}')]}
    script = Script(on=on, tools=[tool("large"), tool("echo")])
    argv = script.command(tmp_path)
    config = {
        "soothsayer": "config/v1",
        "policy": [str(tmp_path / "policy.yaml")],
        "limits": {"max_frame": "1MB"},
        "mcpServers": {"raw": {"command": argv[0], "args": argv[1:]}},
    }
    (tmp_path / "soothsayer.yaml").write_text(json.dumps(config), encoding="utf-8")
    with Rig(tmp_path, script, policy=ALLOWING, config=tmp_path / "soothsayer.yaml") as rig:
        rig.host.initialize()
        rig.host.send(call("echo", '{"text":"' + "x" * MIB + '"}', '"out"'))
        assert at(read(rig.host.answer("out")), "error", "code") == -32600
        rig.host.send(call("large", request_id='"in"'))
        answer = read(rig.host.answer("in"))
        assert at(answer, "result", "isError") is True
        assert at(answer, "result", "_meta", "dev.soothsayer/step", "acted") == "maybe"
        rig.host.send(request("tools/call", '{"name":"echo","arguments":{}}', "8"))
        assert b'"isError"' not in rig.host.answer(8)
        assert [params["name"] for params in rig.record.calls()] == ["large", "echo"]
