"""The Python SDKs as clients: sdk.py mcp1|auto|legacy|modern|fastmcp URL HEADER VALUE

Speaks the protocol of clients/run.py: one JSON line after the first round, one after each line on stdin.
"""

import asyncio
import contextlib
import json
import sys

KIND, URL, HEADERS = sys.argv[1], sys.argv[2], {sys.argv[3]: sys.argv[4]}


@contextlib.asynccontextmanager
async def connected():
    if KIND == "mcp1":
        import httpx
        from mcp import ClientSession
        from mcp.client.streamable_http import streamable_http_client

        async with (
            httpx.AsyncClient(headers=HEADERS, timeout=30) as http,
            streamable_http_client(URL, http_client=http) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            yield session
    elif KIND == "fastmcp":
        from fastmcp import Client
        from fastmcp.client.transports import StreamableHttpTransport

        async with Client(StreamableHttpTransport(URL, headers=HEADERS)) as client:
            yield client
    else:
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        mode = "2026-07-28" if KIND == "modern" else KIND
        async with (
            httpx2.AsyncClient(headers=HEADERS, timeout=30) as http,
            Client(streamable_http_client(URL, http_client=http), mode=mode) as client,
        ):
            yield client


def structured(result):
    for name in ("structured_content", "structuredContent"):
        if hasattr(result, name):
            return getattr(result, name)
    return None


async def main():
    async with connected() as client:

        async def invoke(text):
            arguments = {"server": "notes", "tool": "write_note", "arguments": {"text": text}}
            return (await client.call_tool("gateway_invoke", arguments)).content[0].text

        listed = await client.list_tools()
        names = [tool.name for tool in getattr(listed, "tools", listed)]
        asked = {"server": "notes", "tool": "write_note", "arguments": {"text": "x"}}
        decision = structured(await client.call_tool("policy_simulate", asked))["decision"]
        print(json.dumps({"tools": names, "decision": decision, "invoked": await invoke("one")}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps({"invoked": await invoke(line.strip())}), flush=True)


asyncio.run(main())
