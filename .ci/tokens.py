"""What the gateway costs an agent in tokens: the default list of tools, and a search answer of five hits."""

import json
import os
import subprocess

from gateway import HERE, NODE, PACKAGES, Gateway, Tally, environment

FILESYSTEM = os.path.join(PACKAGES, "@modelcontextprotocol", "server-filesystem", "dist", "index.js")
CONFIG = f"""
[servers.files]
command = {json.dumps(NODE)}
args = [{json.dumps(FILESYSTEM)}, "."]
"""

# A host opens with `initialize` and is listed the safe names; a bare request is listed the dotted ones.
HOST = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def under(tally, name, limit, text):
    counter = [NODE, os.path.join(HERE, "tokens.mjs"), name, str(limit)]
    done = subprocess.run(counter, input=text, env=environment(), capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    tally.check(name, done.returncode == 0, done.stderr)


def listed(gateway, key, host):
    """The tools of the default list as a client gets them: each definition, compact."""
    headers = {"Content-Type": "application/json", "X-API-Key": key}
    params = {}
    if host:
        params["_meta"] = HOST
        headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
    answer = json.loads(gateway.request("POST", "/v1/mcp", body, headers)[2])
    return answer["result"]["tools"]


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def main():
    tally = Tally("tokens")
    with Gateway(CONFIG) as gateway:
        gateway.wait_ready()
        key = gateway.key("agent", "writer")
        for client in ["script", "host"]:
            tools = listed(gateway, key, client == "host")
            tally.equal(f"tools/list for a {client}: three tools", len(tools), 3)
            under(tally, f"tools/list for a {client}", 700, compact(tools))
        found = gateway.call("gateway_search_tools", {"query": "read or write a text file", "limit": 5}, key)
        tally.equal("search: five hits", len(found["structuredContent"]["tools"]), 5)
        print(found["content"][0]["text"])
        under(tally, "the text of five hits", 200, found["content"][0]["text"])
    tally.finish()


main()
