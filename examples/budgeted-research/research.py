"""A scripted agent reads a library of pages through Soothsayer until its budget is used up.

python research.py [-- SERVER COMMAND...]: without a command, the server of soothsayer.yaml is started.
"""

import http.server
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
GUIDE = "<p>" + "</p><p>".join(f"Paragraph {number} of a long guide to bees." for number in range(1, 1_500)) + "</p>"
NOTE = "<p>" + "A note of middling length about hives. " * 120 + "</p>"


class Library(http.server.BaseHTTPRequestHandler):
    """A long guide, and notes."""

    def do_GET(self) -> None:
        """Serve a page."""
        body = (GUIDE if self.path == "/guide" else NOTE).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


class Host:
    """As much of an MCP host as a script needs."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._last = 0

    def __enter__(self) -> Self:
        client = {"name": "research", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
        self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer."""
        assert self._process.stdout is not None
        self._last += 1
        self._say({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params})
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == self._last and "method" not in answer:
                return answer
        raise SystemExit("the proxy ended")

    def call(self, tool: str, **arguments: object) -> list[str]:
        """Call a tool; the texts that the model reads."""
        answer = self.ask("tools/call", {"name": tool, "arguments": arguments})
        texts = [block["text"] for block in answer["result"]["content"] if block["type"] == "text"]
        shown = ", ".join(f"{name}={value}" for name, value in arguments.items())
        print(f"\n> {tool} {shown}")
        for text in texts:
            lines = text.splitlines()
            print("\n".join(f"  {line[:150]}" for line in lines[:12]))
            if len(lines) > len(lines[:12]):
                print("  ...")
        return texts


def main() -> None:
    """Read until there is no more to be spent."""
    words = sys.argv[1:]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Library) as library, tempfile.TemporaryDirectory() as state:
        threading.Thread(target=library.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{library.server_address[1]}"
        proxy = [sys.executable, "-m", "soothsayer_mcp", "proxy", "--state", state]
        if words[:1] == ["--"]:
            proxy += ["--control-tools", "--name", "web", "--policy", "policy.yaml", *words]
        else:
            proxy += ["-c", "soothsayer.yaml"]
        with Host(proxy) as host:
            host.call("soothsayer_open", intent="find out how bees are kept")
            texts = host.call("fetch", url=f"{home}/guide", max_length=500_000)
            step = texts[1].rpartition("step ")[2].rstrip("]")
            host.call("soothsayer_result", step=step, offset=1_000, size=2_000)
            host.call("fetch", url="https://example.com/")
            for number in range(4):
                host.call("fetch", url=f"{home}/note/{number}", max_length=50_000)
            host.call("soothsayer_run")
        library.shutdown()


if __name__ == "__main__":
    main()
