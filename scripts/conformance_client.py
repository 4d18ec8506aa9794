"""The client that the conformance suite starts: does what a scenario names, directly or through `soothsayer proxy`.

The suite appends its server's address, and names scenario and revision in the environment. `THROUGH` holds the words
that start the proxy; without it the client speaks to the server itself.
"""

import json
import os
import shlex
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult, Tool

SAMPLES: dict[str, object] = {"string": "a", "integer": 5, "number": 3, "boolean": True, "array": [], "object": {}}


async def accept(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """Accept a form with the defaults that it states."""
    del context
    schema = params.requested_schema if isinstance(params, ElicitRequestFormParams) else {}
    fields: dict[str, Any] = schema.get("properties", {})
    return ElicitResult(
        action="accept", content={name: at["default"] for name, at in fields.items() if "default" in at}
    )


def sample(tool: Tool) -> dict[str, object]:
    """Arguments that fit what a tool requires."""
    schema: dict[str, Any] = tool.input_schema
    wanted: list[str] = schema.get("required", [])
    return {name: SAMPLES.get(schema["properties"][name].get("type"), "a") for name in wanted}


async def play(client: Client, scenario: str) -> None:
    """Do what a scenario asks of a client."""
    tools = (await client.list_tools()).tools
    match scenario:
        case "http-custom-headers":
            for call in json.loads(os.environ["MCP_CONFORMANCE_CONTEXT"])["toolCalls"]:
                await client.call_tool(call["name"], call["arguments"])
            return
        case "json-schema-2020-12-preservation":
            schemas = {tool.name: tool.input_schema for tool in tools}
            await client.call_tool("json_schema_echo", {"schema": schemas["json_schema_2020_12_tool"]})
            return
        case "http-standard-headers":
            for resource in (await client.list_resources()).resources:
                await client.read_resource(str(resource.uri))
            for prompt in (await client.list_prompts()).prompts:
                await client.get_prompt(prompt.name)
        case "json-schema-ref-no-deref" | "initialize":
            return
        case _:
            pass
    for tool in tools:
        await client.call_tool(tool.name, sample(tool))


async def main(url: str) -> None:
    """Reach the suite's server and play its scenario."""
    words = shlex.split(os.environ.get("THROUGH", ""))
    server = StdioServerParameters(command=words[0], args=[*words[1:], "--url", url]) if words else url
    version = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    mode = version if version == "2026-07-28" else "legacy"
    async with Client(server, mode=mode, elicitation_callback=accept) as client:
        await play(client, os.environ["MCP_CONFORMANCE_SCENARIO"])


if __name__ == "__main__":
    anyio.run(main, sys.argv[-1])
