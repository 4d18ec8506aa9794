"""An MCP server on the SDK over HTTP, for tests: `python remote_server.py streamable|sse`. Prints its port."""

import os
import socket
import sys
from typing import Annotated

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel, Field

server = MCPServer("remote", version="1")


class Answer(BaseModel):
    word: str


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


@server.tool()
def big(size: int) -> str:
    return "x" * size


@server.tool()
def here(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    return region


@server.tool()
async def steps(count: int, ctx: Context) -> str:
    for number in range(count):
        await ctx.report_progress(number, count)
    return "done"


@server.tool()
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit("Which word?", Answer)
    return answer.data.word if answer.action == "accept" else answer.action


@server.tool()
async def die(ctx: Context) -> str:
    await ctx.report_progress(0, 1)
    os._exit(3)


@server.tool()
async def wait(ctx: Context) -> str:
    await ctx.report_progress(0, 1)
    await anyio.sleep_forever()
    return ""


def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    app = server.sse_app() if sys.argv[1] == "sse" else server.streamable_http_app()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
