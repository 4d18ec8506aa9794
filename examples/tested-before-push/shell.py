"""A small MCP server over stdio: it runs commands in a folder, pushes, and tells what the remote holds.

python shell.py FOLDER
"""

import json
import shlex
import subprocess
import sys
from typing import Any

TEXT = {"type": "string"}
COMMIT = {"type": "object", "properties": {"commit": TEXT}, "required": ["commit"]}
TOOLS = [
    {
        "name": "run",
        "description": "Run a command in the project, without a shell.",
        "inputSchema": {"type": "object", "properties": {"command": TEXT}, "required": ["command"]},
        "outputSchema": {
            "type": "object",
            "properties": {"exit_code": {"type": "integer"}, "output": TEXT},
            "required": ["exit_code", "output"],
        },
    },
    {
        "name": "push",
        "description": "Push a branch.",
        "inputSchema": {
            "type": "object",
            "properties": {"remote": TEXT, "branch": TEXT},
            "required": ["remote", "branch"],
        },
        "outputSchema": COMMIT,
    },
    {
        "name": "remote_head",
        "description": "Tell which commit a branch of a remote stands on.",
        "inputSchema": {
            "type": "object",
            "properties": {"remote": TEXT, "branch": TEXT},
            "required": ["remote", "branch"],
        },
        "outputSchema": COMMIT,
    },
]


def done(folder: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )


def called(folder: str, name: str, arguments: dict[str, str]) -> dict[str, Any]:
    """Do what a tool does."""
    if name == "run":
        ended = done(folder, *shlex.split(arguments["command"]))
        return {"exit_code": ended.returncode, "output": ended.stdout}
    remote, branch = arguments["remote"], arguments["branch"]
    if name == "push":
        done(folder, "git", "push", "--quiet", "--", remote, branch).check_returncode()
        return {"commit": done(folder, "git", "rev-parse", "--verify", branch).stdout.strip()}
    return {"commit": done(folder, "git", "ls-remote", "--", remote, f"refs/heads/{branch}").stdout.partition("\t")[0]}


def answer(folder: str, message: dict[str, Any]) -> dict[str, Any]:
    """The result of a request."""
    params = message.get("params", {})
    if message["method"] == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "shell", "version": "1"},
        }
    if message["method"] == "tools/list":
        return {"tools": TOOLS}
    if message["method"] != "tools/call":
        return {}
    try:
        said = called(folder, params["name"], params["arguments"])
    except (OSError, subprocess.SubprocessError) as error:
        return {"isError": True, "content": [{"type": "text", "text": str(error)}]}
    return {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said}


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            result = answer(sys.argv[1], message)
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()
