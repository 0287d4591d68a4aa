"""The client that the official suite tests: a client of the gateway whose only backend is the suite's server.

The suite starts it with its server's URL as the last argument and the scenario in the environment. `--direct` before
it leaves the gateway out, to tell a fault of this program from one of the gateway's.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from client import Legacy, Modern
from gateway import Gateway

# Where the gateway serves one backend as if a client were connected to it.
ROUTE = "/v1/mcp/servers/{}"
SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"]
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
VERSION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")


def everything(client):
    """Lists what there is, then uses each once."""
    for tool in client.every("tools/list", "tools"):
        client.call(tool["name"])
    if "resources" in client.server["capabilities"]:
        for resource in client.every("resources/list", "resources"):
            client.ask("resources/read", {"uri": resource["uri"]})
    if "prompts" in client.server["capabilities"]:
        for prompt in client.every("prompts/list", "prompts"):
            client.ask("prompts/get", {"name": prompt["name"]})


def listed(client):
    client.every("tools/list", "tools")


def sums(client):
    listed(client)
    client.call("add_numbers", {"a": 5, "b": 3})


def calls_of_the_context(client):
    listed(client)
    for call in CONTEXT["toolCalls"]:
        client.call(call["name"], call["arguments"])


def only_what_is_listed(client):
    values = {"string": "x", "number": 1, "integer": 1, "boolean": True, "object": {}, "array": [], "null": None}
    for tool in client.every("tools/list", "tools"):
        properties = tool["inputSchema"].get("properties", {})
        client.call(tool["name"], {name: values[schema["type"]] for name, schema in properties.items()})


def echoes_a_schema(client):
    tools = {tool["name"]: tool for tool in client.every("tools/list", "tools")}
    client.call("json_schema_echo", {"schema": tools["json_schema_2020_12_tool"]["inputSchema"]})


STEPS = {
    "initialize": listed,
    "tools_call": sums,
    "request-metadata": listed,
    "json-schema-ref-no-deref": listed,
    "http-standard-headers": everything,
    "elicitation-sep1034-client-defaults": everything,
    "sse-retry": everything,
    "sep-2322-client-request-state": everything,
    "http-custom-headers": calls_of_the_context,
    "http-invalid-tool-headers": only_what_is_listed,
    "json-schema-2020-12-preservation": echoes_a_schema,
}


def talk(url, headers):
    modern = VERSION >= "2026-07-28"
    client = Modern(url, headers).open() if modern else Legacy(url, headers).open().listen()
    # Scenarios of authorization want to see a call carried out, whatever it is.
    STEPS.get(SCENARIO, everything)(client)


def main():
    *options, url = sys.argv[1:]
    if "--direct" in options:
        return talk(url, {})
    config = f"[servers.mock]\nurl = {json.dumps(url)}\n"
    with Gateway(config) as gateway:
        try:
            gateway.wait_ready(20)
            talk(gateway.url + ROUTE.format("mock"), {"X-API-Key": gateway.key("agent", "writer")})
        finally:
            print(gateway.logged(), file=sys.stderr)


main()
