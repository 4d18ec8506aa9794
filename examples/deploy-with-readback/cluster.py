"""A small MCP server over stdio: a cluster that takes every deployment, and starts what it took a moment later.

Version 1.3 never comes up. The cluster says ok all the same, as clusters do.
"""

import json
import sys
import time
from typing import Any

TEXT = {"type": "string"}
STARTS_AFTER_S = 1.0
NEVER_STARTS = "1.3"
TOOLS = [
    {
        "name": "deploy",
        "description": "Deploy a version of a service.",
        "inputSchema": {
            "type": "object",
            "properties": {"service": TEXT, "version": TEXT},
            "required": ["service", "version"],
        },
    },
    {
        "name": "running",
        "description": "Tell which version of a service is running.",
        "inputSchema": {"type": "object", "properties": {"service": TEXT}, "required": ["service"]},
        "outputSchema": {"type": "object", "properties": {"version": TEXT}, "required": ["version"]},
    },
]


class Cluster:
    """What was asked for, and when; what runs."""

    def __init__(self) -> None:
        self._running: dict[str, str] = {}
        self._wanted: dict[str, tuple[str, float]] = {}

    def deploy(self, service: str, version: str) -> dict[str, Any]:
        """Take a deployment."""
        self._wanted[service] = version, time.monotonic() + STARTS_AFTER_S
        text = f"ok: {service} {version} is being deployed"
        return {"content": [{"type": "text", "text": text}]}

    def running(self, service: str) -> dict[str, Any]:
        """Tell what runs now."""
        version, starts = self._wanted.get(service, ("", 0.0))
        if version and version != NEVER_STARTS and time.monotonic() >= starts:
            self._running[service] = version
        said = {"version": self._running.get(service, "none")}
        return {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said}

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The result of a request."""
        params = message.get("params", {})
        match message["method"]:
            case "initialize":
                return {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "cluster", "version": "1"},
                }
            case "tools/list":
                return {"tools": TOOLS}
            case "tools/call":
                tool = self.deploy if params["name"] == "deploy" else self.running
                return tool(**params["arguments"])
            case _:
                return {}


def main() -> None:
    """Serve until the input ends."""
    cluster = Cluster()
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            result = cluster.answer(message)
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()
