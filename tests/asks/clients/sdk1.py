"""A client on the 1.x SDK: for each line, calls one tool, answers each question as it says, and prints what came."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, cast

import mcp.types
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def meanwhile(folder: str) -> None:
    """Say that a question came, and wait until the test has done what it wants to happen before the answer."""
    if folder:
        Path(folder, "asked").touch()  # noqa: ASYNC240 - nothing else goes on here
        while not Path(folder, "go").exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.02)


async def serve(line: str) -> None:
    """Call the tool `send` of the server that the command starts."""
    wanted = json.loads(line)
    action, command = wanted["action"], wanted["command"]
    asked: list[str] = []

    async def elicit(context: object, params: Any) -> Any:
        del context
        asked.append(params.message)
        await meanwhile(wanted["meanwhile"])
        return cast("Any", mcp.types).ElicitResult(action=action, content={} if action == "accept" else None)

    server = StdioServerParameters(command=command[0], args=command[1:])
    async with (
        stdio_client(server) as (read, write),
        cast("Any", ClientSession)(read, write, elicitation_callback=elicit) as session,
    ):
        await session.initialize()
        result = await session.call_tool("send", wanted["arguments"])
    blocks = [block.type for block in result.content]
    told = {"asked": asked, "error": result.isError, "text": result.content[0].text, "blocks": blocks}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


for each in sys.stdin:
    asyncio.run(serve(each))
