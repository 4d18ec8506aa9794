"""A tool server whose calls are on disk before it acts.

Each call's nonce is a line of the file that the variable `RECEIVED` names, synced before the answer is written. (A name
on the command line would make it another server each time, whose tools nobody pinned.) The file is locked for as long
as the server lives, so that a test can wait until all that a dead proxy had sent has been read.
"""

import fcntl
import json
import os
import sys


def main() -> None:
    record = os.open(os.environ["RECEIVED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    fcntl.flock(record, fcntl.LOCK_SH)
    answers = True
    result: dict[str, object]
    for line in sys.stdin.buffer:
        message = json.loads(line)
        match message.get("method"):
            case "initialize":
                result = {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "synced", "version": "1"},
                }
            case "tools/list":
                result = {"tools": [{"name": "act", "inputSchema": {"type": "object"}}]}
            case "tools/call":
                nonce = message["params"]["arguments"]["nonce"]
                os.write(record, f"{nonce}\n".encode())
                os.fsync(record)
                result = {"content": [{"type": "text", "text": f"did {nonce}"}]}
            case _:
                continue
        answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        if answers:
            try:
                os.write(1, f"{answer}\n".encode())
            except BrokenPipeError:
                # The proxy is dead. What it has sent is read all the same: it has reached the tool.
                answers = False


if __name__ == "__main__":
    main()
