"""The gateway in front of servers from the registry: what a call returns through it is what it returns directly.

server-everything over stdio and over Streamable HTTP, server-filesystem over stdio. Each result is compared with that
of a stdio client that talks to the same server without the gateway: member by member, as bytes, in order.
"""

import glob
import json
import os
import re
import socket
import subprocess
import tempfile
import time

from gateway import NODE, PACKAGES, Gateway, Stdio, Tally, environment, request

EVERYTHING = os.path.join(PACKAGES, "@modelcontextprotocol", "server-everything", "dist", "index.js")
FILESYSTEM = os.path.join(PACKAGES, "@modelcontextprotocol", "server-filesystem", "dist", "index.js")

# Every kind of content, plain and structured, and the server's own error.
CALLS = [
    ("echo", {"message": "plain \u2028 \U0001f98a \\u0041 \"quoted\""}),
    ("get-sum", {"a": 0.1, "b": 12345678901234567890}),
    ("get-tiny-image", {}),
    ("get-annotated-message", {"messageType": "error", "includeImage": True}),
    ("get-annotated-message", {"messageType": "debug"}),
    ("get-structured-content", {"location": "New York"}),
    ("get-resource-links", {"count": 3}),
    ("get-resource-reference", {"resourceType": "Text", "resourceId": 1}),
    ("get-resource-reference", {"resourceType": "Blob", "resourceId": 2}),
    ("get-resource-reference", {"resourceType": "Text", "resourceId": -1}),
]
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
# Members that the gateway or the revision adds to a result.
ADDED = {"_meta", "resultType", "ttlMs", "cacheScope"}


def members(text):
    """An object's members in order, each value as it is written."""
    decoder, found, at = json.JSONDecoder(), [], text.index("{") + 1
    while (at := re.compile(r"[\s,]*").match(text, at).end()) < len(text) and text[at] == '"':
        name, at = decoder.raw_decode(text, at)
        start = re.compile(r"\s*:\s*").match(text, at).end()
        _, at = decoder.raw_decode(text, start)
        found.append((name, text[start:at]))
    return found


def result_of(answer):
    """The members of a JSON-RPC answer's result, but for those that are added."""
    result = dict(members(answer)).get("result")
    if result is None:
        raise RuntimeError(f"no result: {answer[:500]}")
    return [(name, value) for name, value in members(result) if name not in ADDED]


def through(gateway, key, server, tool, arguments, modern):
    """The answer's text of `gateway_invoke`, bare or as a client of 2026-07-28 asks."""
    params = {"name": "gateway_invoke", "arguments": {"server": server, "tool": tool, "arguments": arguments}}
    headers = {"Content-Type": "application/json", "X-API-Key": key}
    if modern:
        params["_meta"] = MODERN
        headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "gateway_invoke",
                    "Accept": "application/json, text/event-stream"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    status, _, answer = gateway.request("POST", "/v1/mcp", body, headers)
    if status != 200:
        raise RuntimeError(f"HTTP {status}: {answer[:500]}")
    return answer.decode()


def same_results(tally, gateway, key, direct, server):
    for tool, arguments in CALLS:
        for era in ["bare", "modern"]:
            name = f"{server}: {tool} {json.dumps(arguments)[:40]}, {era}"
            with tally.part(name):
                # Some results carry the second at which they were made: ask again where it has just turned.
                for _ in range(3):
                    expected = result_of(direct.ask("tools/call", {"name": tool, "arguments": arguments}))
                    got = result_of(through(gateway, key, server, tool, arguments, era == "modern"))
                    if got == expected:
                        break
                tally.equal(name, got, expected)


def catalogue(tally, gateway, key):
    """The servers are ready and search finds their tools."""
    listed = json.loads(gateway.cli("servers", "list", "--json").stdout)
    listed = listed.get("servers", listed) if isinstance(listed, dict) else listed
    states = {server["name"]: server["state"] for server in listed}
    tally.equal("servers list", states, {"everything": "ready", "remote": "ready", "files": "ready"})
    for query, tool in [
        ("echo a message back", "everything:echo"),
        ("write content to a file", "files:write_file"),
        ("directory tree", "files:directory_tree"),
        ("add two numbers", "everything:get-sum"),
    ]:
        hits = gateway.call("gateway_search_tools", {"query": query}, key)["structuredContent"]["tools"]
        ids = [hit["id"] for hit in hits[:4]]
        tally.check(f"search `{query}`", tool in ids, ids)


def environment_of_children(tally, gateway, key):
    """A child sees what its configuration gives it and nothing of the gateway's own."""
    answer = through(gateway, key, "everything", "get-env", {}, False)
    seen = json.loads(json.loads(answer)["result"]["content"][0]["text"])
    tally.equal("a child has its own variable", seen.get("GIVEN"), "given")
    tally.check("a child has none of the gateway's", "TOOLGATE_LOG" not in seen, sorted(seen))


def files(tally, gateway, writer, folder):
    """Writing is for writers, destroying waits for a person, reading is open."""
    reader = gateway.key("agent")
    path = os.path.join(folder, "note.txt")
    write = {"server": "files", "tool": "write_file", "arguments": {"path": path, "content": "hello"}}
    refused = gateway.call("gateway_invoke", write, reader)
    tally.check("write_file, reader: refused", refused.get("isError"), refused)
    tally.check("write_file, reader: nothing written", not os.path.exists(path))
    written = gateway.call("gateway_invoke", write, writer)
    tally.check("write_file, writer: answered", "isError" not in written, written)
    with open(path, encoding="utf-8") as file:
        tally.equal("write_file, writer: written", file.read(), "hello")
    read = {"server": "files", "tool": "read_text_file", "arguments": {"path": path}}
    tally.equal("read_text_file, reader", gateway.call("gateway_invoke", read, reader)["content"][0]["text"], "hello")
    move = {"source": path, "destination": path + "2"}
    moved = gateway.call("gateway_invoke", {"server": "files", "tool": "move_file", "arguments": move}, writer)
    tally.check("move_file, writer: needs approval", moved.get("isError") and os.path.exists(path), moved)
    outside = {"server": "files", "tool": "read_text_file", "arguments": {"path": "/etc/passwd"}}
    denied = gateway.call("gateway_invoke", outside, reader)
    tally.check("read_text_file outside the folder: the server's own error", denied.get("isError"), denied)


def reloading(tally, gateway, key):
    """The configuration is followed while the gateway runs; a faulty one is refused once, and changes nothing."""
    path = os.path.join(gateway.folder, "toolgate.toml")
    with open(path, encoding="utf-8") as file:
        before = file.read()
    echo = {"server": "again", "tool": "echo", "arguments": {"message": "x"}}

    def write(text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    write(before + f"""
[servers.again]
command = {json.dumps(NODE)}
args = [{json.dumps(EVERYTHING)}, "stdio"]
""")
    added = eventually(lambda: "content" in gateway.call("gateway_invoke", echo, key))
    tally.check("reload: a server that was added is called", added)
    write(before + "[servers.faulty]\n")
    refused = "the changed configuration is refused"
    tally.check("reload: a faulty file is refused", eventually(lambda: refused in gateway.stderr))
    time.sleep(2)
    tally.equal("reload: and that is said once", gateway.stderr.count(refused), 1)
    tally.check("reload: and the old one stays", "content" in gateway.call("gateway_invoke", echo, key))
    write(before)
    gone = eventually(lambda: "code" in gateway.call("gateway_invoke", echo, key))
    tally.check("reload: a server that was taken out is gone", gone)


def eventually(holds, seconds=15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def stopping(tally, gateway):
    """SIGTERM ends the gateway with 0, and its children with it."""
    children = []
    for thread in glob.glob(f"/proc/{gateway.process.pid}/task/*/children"):
        with open(thread, encoding="utf-8") as file:
            children += file.read().split()
    tally.equal("the gateway's children", len(children), 2)
    tally.equal("the gateway stops with 0", gateway.stop(), 0)
    left = [child for child in children if os.path.exists(f"/proc/{child}")]
    tally.equal("children left", left, [])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            request(f"127.0.0.1:{port}", "GET", "/mcp")
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("server-everything does not listen")


def main():
    tally = Tally("backends")
    port = free_port()
    remote = subprocess.Popen([NODE, EVERYTHING, "streamableHttp"], env=environment(PORT=str(port)),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        with tempfile.TemporaryDirectory() as folder:
            folder = os.path.realpath(folder)
            quoted = json.dumps
            config = f"""
[servers.everything]
command = {quoted(NODE)}
args = [{quoted(EVERYTHING)}, "stdio"]
env = {{ GIVEN = "given" }}

[servers.remote]
url = "http://127.0.0.1:{port}/mcp"

[servers.files]
command = {quoted(NODE)}
args = [{quoted(FILESYSTEM)}, {quoted(folder)}]

[servers.files.tools.write_file]
risk = "write"
"""
            with Gateway(config) as gateway, Stdio([NODE, EVERYTHING, "stdio"]) as direct:
                direct.open()
                gateway.wait_ready()
                key = gateway.key("agent", "writer")
                catalogue(tally, gateway, key)
                for server in ["everything", "remote"]:
                    same_results(tally, gateway, key, direct, server)
                environment_of_children(tally, gateway, key)
                files(tally, gateway, key, folder)
                reloading(tally, gateway, key)
                stopping(tally, gateway)
    finally:
        remote.kill()
    tally.finish()


main()
