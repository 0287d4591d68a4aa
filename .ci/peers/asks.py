"""The Python SDKs as clients that can be asked: asks.py mcp1|auto|legacy|modern|fastmcp URL HEADER VALUE CALLS

CALLS is a list of [tool, arguments]. Prints one line of JSON: the tools, the text of each answer, what was asked.
"""

import asyncio
import contextlib
import json
import sys

KIND, URL, HEADERS, CALLS = sys.argv[1], sys.argv[2], {sys.argv[3]: sys.argv[4]}, json.loads(sys.argv[5])
ASKED = []
BLANKS = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": []}


def filled(schema):
    """Defaults, else something that fits; only what is required of a long form."""
    fields = schema["properties"]
    wanted = schema.get("required", []) if len(fields) > 4 else fields
    return {
        name: field.get("default", (field.get("enum") or [BLANKS[field["type"]]])[0])
        for name, field in fields.items()
        if name in wanted
    }


def either(value, *names):
    return next(getattr(value, name) for name in names if hasattr(value, name))


async def sampled(context, params):
    from mcp import types

    ASKED.append("sampling")
    text = f"model: {params.messages[0].content.text}"
    return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text=text), model="ci")


async def elicited(context, params):
    from mcp import types

    ASKED.append("elicitation")
    return types.ElicitResult(action="accept", content=filled(either(params, "requested_schema", "requestedSchema")))


@contextlib.asynccontextmanager
async def connected():
    if KIND == "fastmcp":
        from fastmcp import Client
        from fastmcp.client.elicitation import ElicitResult
        from fastmcp.client.transports import StreamableHttpTransport

        async def sampling_handler(messages, params, context):
            ASKED.append("sampling")
            return f"model: {messages[0].content.text}"

        async def elicitation_handler(message, response_type, params, context):
            ASKED.append("elicitation")
            schema = either(params, "requested_schema", "requestedSchema")
            return ElicitResult(action="accept", content=filled(schema))

        transport = StreamableHttpTransport(URL, headers=HEADERS)
        async with Client(
            transport, sampling_handler=sampling_handler, elicitation_handler=elicitation_handler
        ) as client:
            yield client
        return
    from mcp.client.streamable_http import streamable_http_client

    asking = {"sampling_callback": sampled, "elicitation_callback": elicited}
    if KIND == "mcp1":
        import httpx
        from mcp import ClientSession

        async with (
            httpx.AsyncClient(headers=HEADERS, timeout=30) as http,
            streamable_http_client(URL, http_client=http) as (read, write, _),
            ClientSession(read, write, **asking) as session,
        ):
            await session.initialize()
            yield session
    else:
        import httpx2
        from mcp import Client

        mode = "2026-07-28" if KIND == "modern" else KIND
        async with (
            httpx2.AsyncClient(headers=HEADERS, timeout=30) as http,
            Client(streamable_http_client(URL, http_client=http), mode=mode, **asking) as client,
        ):
            yield client


async def main():
    async with connected() as client:
        listed = await client.list_tools()
        names, answers = [tool.name for tool in getattr(listed, "tools", listed)], []
        for tool, arguments in CALLS:
            content = (await client.call_tool(tool, arguments)).content
            answers.append("\n".join(getattr(block, "text", block.type) for block in content))
        print(json.dumps({"tools": names, "answers": answers, "asked": ASKED}), flush=True)


asyncio.run(main())
