"""A server over HTTP on loopback, whose answer to a call is one event of 1.2 MB, or a status."""

import http.server
import json
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from soothsayer_mcp.testing.servers import tool

EVENT = {"content": [{"type": "text", "text": "x" * 1_200_000}]}
ANSWERS: dict[str, object] = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "remote", "version": "1"},
    },
    "tools/list": {"tools": [json.loads(tool("large"))]},
    "tools/call": EVENT,
}


@contextmanager
def serve(statuses: Mapping[str, int] | None = None) -> Generator[str]:
    """Serve, and give the address; `statuses` are answered in place of a method's answer."""

    class Remote(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = (statuses or {}).get(message["method"], 200 if "id" in message else 202)
            if status != 200:
                self.answer(status, b"")
                return
            answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": ANSWERS[message["method"]]})
            self.answer(status, f"event: message\ndata: {answer}\n\n".encode())

        def do_GET(self) -> None:
            self.answer(405, b"")

        do_DELETE = do_GET  # noqa: N815 - the library's name

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Remote) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        server.shutdown()


@contextmanager
def listing(tools: Sequence[str]) -> Generator[tuple[str, list[str]]]:
    """Serve these literal tools; gives the address, and the names that are called."""
    called: list[str] = []

    class Remote(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if message["method"] == "tools/call":
                called.append(message["params"]["name"])
            result = {
                "initialize": json.dumps(ANSWERS["initialize"]),
                "tools/list": '{"tools":[' + ",".join(tools) + "]}",
            }.get(message["method"], '{"content":[]}')
            body = f'{{"jsonrpc":"2.0","id":{json.dumps(message.get("id"))},"result":{result}}}'.encode()
            self.send_response(200 if "id" in message else 202)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body) if "id" in message else 0))
            self.end_headers()
            if "id" in message:
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
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp", called
        server.shutdown()
