"""What leaves by the side: addresses and headers of remote servers in what is said of them, and the doctor's words."""

import http.server
import json
import re
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fidelity.rig import ALLOWING, Rig, at, read
from soothsayer_mcp.__main__ import run as soothsay
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.testing.servers import Script, line, result, tool, wait_for

IN_PATH: Final = "canary-5a31-in-the-path"
IN_QUERY: Final = "canary-77e0-in-the-query"
IN_USER: Final = "canary-1c9d-in-the-user"
IN_HEADER: Final = "canary-0b6f-in-the-header"
IN_BODY: Final = "canary-c42a-in-an-error-page"
OPENING: Final[dict[str, object]] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "far"},
}
BROKEN: Final = ("failed", "moved", "signed out", "hung up", "no media", "cut")


@contextmanager
def far() -> Generator[int]:
    """A server over HTTP that fails in each way, by the name of the tool; its error pages repeat what it was sent."""

    class Far(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = message.get("params", {}).get("name", "")
            repeated = f"{IN_BODY} {self.path} {self.headers['X-Key']}".encode()
            if message["method"] == "tools/call" and name in BROKEN:
                if name == "hung up":
                    self.close_connection = True
                    return
                media = {"no media": "text/html", "cut": "application/json"}.get(name, "text/plain")
                status = {"failed": 500, "moved": 307, "signed out": 401}.get(name, 200)
                more = {"location": f"http://127.0.0.9/{IN_PATH}"} if name == "moved" else {}
                self.say(status, repeated, media, more)
                return
            tools = [{"name": each, "inputSchema": {"type": "object"}} for each in BROKEN]
            results: dict[str, object] = {"initialize": OPENING, "tools/list": {"tools": tools}}
            result = results.get(message["method"], {})
            answer: dict[str, object] = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
            self.say(200 if "id" in message else 202, json.dumps(answer).encode() if "id" in message else b"")

        def do_GET(self) -> None:
            self.say(405, b"")

        do_DELETE = do_GET  # noqa: N815 - the library's name

        def say(
            self, status: int, body: bytes, media: str = "application/json", more: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in {"content-type": media, "content-length": str(len(body)), **(more or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Far) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def bodies(state: Path) -> str:
    db = sqlite3.connect(state / "trace-000001.db")
    try:
        return " ".join(str(body) for (body,) in db.execute("SELECT body FROM entries"))
    finally:
        db.close()


@pytest.mark.pitfall("P-SECRET-06")
def test_an_address_a_header_and_an_error_page_of_a_remote_server_are_repeated_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    canaries = (IN_PATH, IN_QUERY, IN_USER, IN_HEADER, IN_BODY)
    words = ["--header-env", "X-Key=FAR_KEY"]
    with far() as port:
        url = f"http://{IN_USER}:x@127.0.0.1:{port}/{IN_PATH}/mcp?key={IN_QUERY}"
        with Rig(tmp_path, policy=ALLOWING, url=url, words=words, env={"FAR_KEY": IN_HEADER}) as rig:
            rig.host.initialize()
            for name in BROKEN:
                answer = rig.host.call(name)
                assert at(answer, "result", "isError") is True, name
                assert not any(canary in json.dumps(answer) for canary in canaries), name
            told = [raw.decode() for raw in rig.host.aside]
    with Rig(tmp_path, policy=ALLOWING, url=url, words=words, env={"FAR_KEY": IN_HEADER}) as gone:
        told.append(json.dumps(gone.host.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})))
        told.append(json.dumps(gone.host.call("failed")))
    report = tmp_path / "report.json"
    for command in (("log", "--entries", "-n0"), ("stats",), ("doctor", "--report", str(report))):
        soothsay(["--state", str(rig.state), *command])
    captured = capsys.readouterr()
    told += [rig.host.stderr, gone.host.stderr, bodies(rig.state), captured.out, captured.err, report.read_text()]
    for canary in canaries:
        assert [text for text in told if canary in text] == [], canary


@pytest.mark.pitfall("P-TRACE-06")
def test_the_doctor_names_the_library_and_what_the_record_lies_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    soothsay(["--state", str(tmp_path / "state"), "doctor"])
    told = capsys.readouterr().out
    assert f"SQLite {sqlite3.sqlite_version}" in told
    assert re.search(rf"state folder {re.escape(str(tmp_path))}/state: private, local \([^)]+\), writable", told)


OPENERS: Final = ("xdg-open", "open", "gio", "wslview", "sensible-browser", "firefox", "sh", "notify-send")


@pytest.mark.pitfall("P-SECRET-07")
@pytest.mark.parametrize("address", ["file:///x", "http://a/$(touch opened)", "javascript:alert(1)"])
def test_an_address_that_a_server_sends_is_shown_and_neither_opened_nor_run(address: str, tmp_path: Path) -> None:
    """Whatever could open it stands first on the path, and leaves a mark when it is started."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in OPENERS:
        (programs / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/opened\n", encoding="ascii")
        (programs / name).chmod(0o755)
    params: Json = {"mode": "url", "message": "Sign in.", "url": address, "elicitationId": "e"}
    asks = line(json.dumps({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": params}))
    script = Script(tools=[tool("ask")], on={"tool:ask": [asks, wait_for("q"), result('{"content":[]}')]})
    path = f"{programs}:/usr/bin:/bin"
    with Rig(tmp_path, script, policy=ALLOWING, env={"PATH": path, "BROWSER": str(programs / "firefox")}) as rig:
        rig.host.initialize(capabilities={"elicitation": {"url": {}}})
        asked = rig.host.ask("tools/call", {"name": "ask", "arguments": {}})
        question = read(rig.host.message("elicitation/create"))
        assert at(question, "params", "url") == address
        rig.host.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
        assert "result" in read(rig.host.answer(asked))
    assert not (tmp_path / "opened").exists()
