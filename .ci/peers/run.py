"""Real servers and real clients at `/v1/mcp/servers/NAME`: what comes through is what a direct connection gives.

server-everything (stdio, Streamable HTTP, HTTP+SSE) and a server made with fastmcp (HTTP, HTTP+SSE): all that can be
listed, called, read, got and completed is compared with a connection that has no gateway in it. Then the SDKs as
clients whose user and model are asked, through the gateway, by server-everything and by the fixture of the
conformance suite.

    python3 .ci/peers/run.py                          all of it
    python3 .ci/peers/run.py everything-stdio         one server, or `asking`: the clients
    python3 .ci/peers/run.py --direct                 without the gateway, to see what these programs make of it
"""

import argparse
import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from client import Legacy, Modern, RpcError
from gateway import BIN, NODE, PACKAGES, Gateway, Stdio, Tally, environment, python, request

# Where the gateway serves one backend as if a client were connected to it.
ROUTE = "/v1/mcp/servers/{}"
EVERYTHING = [NODE, os.path.join(PACKAGES, "@modelcontextprotocol", "server-everything", "dist", "index.js")]
FAST = [python("fastmcp"), os.path.join(HERE, "fast.py")]
FIXTURE = os.path.join(os.path.dirname(BIN), "examples", "conformance_server")

# A server's program, and how it is reached. `{}` is a free port.
SERVERS = {
    "everything-stdio": ([*EVERYTHING, "stdio"], None),
    "everything-http": ([*EVERYTHING, "streamableHttp"], "http://127.0.0.1:{}/mcp"),
    "everything-sse": ([*EVERYTHING, "sse"], "http://127.0.0.1:{}/sse"),
    "fast-http": ([*FAST, "http", "{}"], "http://127.0.0.1:{}/mcp"),
    "fast-sse": ([*FAST, "sse", "{}"], "http://127.0.0.1:{}/sse"),
}
# HTTP+SSE is reached directly by no client here: the same program over another transport gives the same.
SAME_AS = {"everything-sse": "everything-stdio", "fast-sse": "fast-http"}

# What a whole run through the gateway checks: less would be a comparison that did not take place.
CHECKS = 272

LISTS = {
    "tools/list": "tools", "prompts/list": "prompts", "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


def completion(reference, name, value, **context):
    params = {"ref": reference, "argument": {"name": name, "value": value}}
    return "completion/complete", params | ({"context": {"arguments": context}} if context else {})


def call(name, **arguments):
    return "tools/call", {"name": name, "arguments": arguments}


def prompt(name, **arguments):
    return "prompts/get", {"name": name} | ({"arguments": arguments} if arguments else {})


def read(uri):
    return "resources/read", {"uri": uri}


TEAM = {"type": "ref/prompt", "name": "completable-prompt"}
TEMPLATE = {"type": "ref/resource", "uri": "demo://resource/dynamic/text/{resourceId}"}
ASKED = {
    "everything": [
        call("echo", message="\u2028 \U0001f98a \\u0041"),
        call("get-sum", a=0.1, b=2),
        call("get-tiny-image"),
        call("get-structured-content", location="Chicago"),
        call("get-resource-links", count=3),
        call("get-resource-reference", resourceType="Blob", resourceId=2),
        call("get-annotated-message", messageType="error", includeImage=True),
        call("trigger-long-running-operation", duration=0.2, steps=2),
        prompt("simple-prompt"),
        prompt("args-prompt", city="Paris", state="Texas"),
        prompt("resource-prompt", resourceType="Text", resourceId="1"),
        prompt("no-such-prompt"),
        read("demo://resource/static/document/architecture.md"),
        read("demo://resource/dynamic/text/1"),
        read("demo://resource/dynamic/blob/1"),
        read("demo://resource/nowhere"),
        completion(TEAM, "department", "E"),
        completion(TEAM, "name", "", department="Sales"),
        completion(TEMPLATE, "resourceId", "7"),
    ],
    "fast": [
        call("add", a=1, b=2),
        call("forecast", city="Oslo"),
        call("steps"),
        prompt("review", code="fn main() {}"),
        read("fast://motto"),
        read("fast://numbers"),
        read("fast://logo"),
        read("fast://square/12"),
        read("fast://nowhere"),
    ],
}

TYPESCRIPT, PYTHON = [NODE, os.path.join(HERE, "asks.mjs")], os.path.join(HERE, "asks.py")
LEGACY_CLIENTS = {
    "TypeScript SDK 1.x": [*TYPESCRIPT, "v1"],
    "TypeScript SDK 2.x, legacy": [*TYPESCRIPT, "legacy"],
    "Python mcp 1.30": [python("mcp1"), PYTHON, "mcp1"],
    "Python mcp 2.x, legacy": [python("mcp2"), PYTHON, "legacy"],
}
MODERN_CLIENTS = {
    "TypeScript SDK 2.x, auto": [*TYPESCRIPT, "auto"],
    "TypeScript SDK 2.x, modern": [*TYPESCRIPT, "modern"],
    "Python mcp 2.x, auto": [python("mcp2"), PYTHON, "auto"],
    "Python mcp 2.x, modern": [python("mcp2"), PYTHON, "modern"],
    "fastmcp": [python("fastmcp"), PYTHON, "fastmcp"],
}
# What is apart, and why. A place that is apart no more is a failure.
APART = {
    # The tasks of 2025-11-25 are not the extension of 2026-07-28: they are not carried, and so not claimed.
    "everything": ["/capabilities/tasks"],
}
# Which clients are asked by which server, by which calls, and what the answers hold.
SAMPLING = [["test_sampling", {"prompt": "hello"}], ["test_elicitation", {"message": "who?"}]]
OF_EVERYTHING = [["trigger-sampling-request", {"prompt": "hello"}], ["trigger-elicitation-request", {}]]
ASKING = {
    "fixture-http": (LEGACY_CLIENTS | MODERN_CLIENTS, SAMPLING, ["LLM response: model: hello", '"username":"text"']),
    "fixture-stdio": (LEGACY_CLIENTS | MODERN_CLIENTS, SAMPLING, ["LLM response: model: hello", '"username":"text"']),
    "everything-http": (LEGACY_CLIENTS, OF_EVERYTHING, ["context: hello", "User provided the requested information"]),
    "everything-stdio": (LEGACY_CLIENTS, OF_EVERYTHING, ["context: hello", "User provided the requested information"]),
}
# server-everything has the tools that ask only in sessions of clients that can be asked. The gateway knows the tools of
# a session that declares nothing, and refuses the others: only without the gateway.
ONLY_DIRECTLY = ["everything-http", "everything-stdio"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def running(command, url):
    """Starts a server that listens; its URL once it does."""
    port = free_port()
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen([part.format(port) for part in command], env=environment(PORT=str(port)),
                                  stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            for _ in range(600):
                try:
                    # Any path: a stream of server-sent events would not end.
                    request(f"127.0.0.1:{port}", "GET", "/")
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                said.seek(0)
                raise RuntimeError(f"`{command}` does not listen\n{said.read().decode()[-2000:]}")
            yield url.format(port)
        finally:
            server.kill()
            server.wait()


@contextlib.contextmanager
def behind(name, command, url):
    """A running server: what the configuration says of it, and its URL where it has one."""
    if url is None:
        program, *arguments = command
        yield f"[servers.{name}]\ncommand = {json.dumps(program)}\nargs = {json.dumps(arguments)}\n", None
        return
    with running(command, url) as there:
        transport = 'transport = "sse"\n' if there.endswith("/sse") else ""
        yield f"[servers.{name}]\nurl = {json.dumps(there)}\n{transport}", there


class OverStdio:
    """A direct connection over stdio, with the moves of `Legacy`."""

    def __init__(self, stdio):
        self.stdio, self.server = stdio, stdio.open()["result"]

    def ask(self, method, params=None):
        answer = json.loads(self.stdio.ask(method, params or {}))
        return Legacy._result(answer)

    every = Legacy.every


@contextlib.contextmanager
def directly(name):
    """A client connected to a server of its own, without the gateway."""
    command, url = SERVERS[SAME_AS.get(name, name)]
    if url is None:
        with Stdio(command) as stdio:
            yield OverStdio(stdio)
        return
    with running(command, url) as there:
        # Each is spoken to as the gateway does: fastmcp says other things of itself in each era.
        client = Modern(there) if name == "fast-http" else Legacy(there)
        client.capabilities = {}
        yield client.open()


ERA = {"resultType", "ttlMs", "cacheScope"}
SERVER_INFO = "io.modelcontextprotocol/serverInfo"


def told(client, method, params):
    """What a client is answered, without what depends on the era or on the clock."""
    try:
        answer = {LISTS[method]: client.every(method, LISTS[method])} if method in LISTS else client.ask(method, params)
    except RpcError as error:
        # A resource that is not there has another code in each era.
        return ["error", -32602 if error.code == -32002 else error.code]
    answer = {name: value for name, value in answer.items() if name not in ERA}
    if "_meta" in answer:
        answer["_meta"] = {name: value for name, value in answer["_meta"].items() if name != SERVER_INFO}
        answer = {name: value for name, value in answer.items() if name != "_meta" or value}
    return clockless(answer)


def clockless(value, name=None):
    """A value without the time of day, which server-everything puts into texts and blobs."""
    if isinstance(value, dict):
        return {name: clockless(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [clockless(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if name == "blob":
        value = base64.b64decode(value).decode("latin-1")
    return re.sub(r"\b\d{1,2}:\d{2}:\d{2}(\s[AP]M)?", "CLOCK", value)


def differences(expected, got, at=""):
    """Where two values part, a line for each place."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in expected | got:
            if name not in got:
                yield f"{at}/{name} is missing: {short(expected[name])}"
            elif name not in expected:
                yield f"{at}/{name} is more: {short(got[name])}"
            else:
                yield from differences(expected[name], got[name], f"{at}/{name}")
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, (left, right) in enumerate(zip(expected, got)):
            yield from differences(left, right, f"{at}/{index}")
    elif expected != got:
        yield f"{at} is {short(got)}, directly {short(expected)}"


def short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 200 else text[:200] + "…"


def hello(client):
    """What a server says of itself."""
    said = {name: client.server.get(name) for name in ["serverInfo", "capabilities", "instructions"]}
    return said | {"serverInfo": client.server.get("_meta", {}).get(SERVER_INFO, said["serverInfo"])}


def compared(tally, name, direct, through, era):
    """Every list and every question, asked on both sides."""

    def same(what, expected, got, known=()):
        apart = list(differences(expected, got))
        told = [place for place in known if not any(line.startswith(place + " ") for line in apart)]
        apart = [line for line in apart if not line.startswith(tuple(place + " " for place in known))]
        apart += [f"{place} is apart no more" for place in told]
        tally.check(f"{name}, {era}: {what}", not apart, "\n    " + "\n    ".join(apart[:20]))

    known = [] if era == "direct" else APART.get(name.split("-")[0], [])
    same("the server's own words", hello(direct), hello(through), known)
    for method, params in [(method, None) for method in LISTS] + ASKED[name.split("-")[0]]:
        what = f"{method} {json.dumps(params)[:70] if params else ''}".strip()
        with tally.part(f"{name}, {era}: {what}"):
            same(what, told(direct, method, params), told(through, method, params))


def servers(tally, names, options):
    for name in names:
        with tally.part(name), contextlib.ExitStack() as stack:
            direct = stack.enter_context(directly(name))
            if options.direct:
                compared(tally, name, direct, stack.enter_context(directly(name)), "direct")
                continue
            config, _ = stack.enter_context(behind(name, *SERVERS[name]))
            gateway = stack.enter_context(Gateway(config))
            gateway.wait_ready()
            url, key = gateway.url + ROUTE.format(name), {"X-API-Key": gateway.key("agent", "writer")}
            for era, kind in {"legacy": Legacy, "modern": Modern}.items():
                client = kind(url, key)
                client.capabilities = {}
                compared(tally, name, direct, client.open(), era)


def asking(tally, options):
    """Each client is asked for a name and for a model's words."""
    for name, (clients, calls, expected) in ASKING.items():
        if name in ONLY_DIRECTLY and not options.direct:
            continue
        kind, transport = name.split("-")
        command, url = SERVERS.get(name, ([FIXTURE, "--stdio"], None))
        if kind == "fixture" and transport == "http":
            command, url = [FIXTURE, "--listen", "127.0.0.1:{}"], "http://127.0.0.1:{}/mcp"
        with tally.part(f"{name}: asking"), contextlib.ExitStack() as stack:
            config, there = stack.enter_context(behind(name, command, url))
            if options.direct and there is None:
                continue
            where, key = there, "none"
            if not options.direct:
                gateway = stack.enter_context(Gateway(config))
                gateway.wait_ready()
                where, key = gateway.url + ROUTE.format(name), gateway.key("agent", "writer")
            for client, program in clients.items():
                with tally.part(f"{client} asked by {name}"):
                    done = subprocess.run([*program, where, "X-API-Key", key, json.dumps(calls)], env=environment(),
                                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                                          check=False)
                    answered(tally, f"{client} asked by {name}", done, expected)


def answered(tally, what, done, expected):
    if not tally.check(f"{what}: ends in order", done.returncode == 0, done.stderr[-1500:]):
        return
    said = json.loads(done.stdout)
    tally.equal(f"{what}: what was asked", said["asked"], ["sampling", "elicitation"])
    for answer, part in zip(said["answers"], expected):
        tally.check(f"{what}: the tool got the answer", part in answer, answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=", ".join([*SERVERS, "asking"]))
    parser.add_argument("--direct", action="store_true", help="without the gateway")
    options = parser.parse_args()
    parts = options.parts or [*SERVERS, "asking"]
    tally = Tally("peers")
    servers(tally, [name for name in parts if name in SERVERS], options)
    if "asking" in parts:
        asking(tally, options)
    if not options.parts and not options.direct:
        tally.equal("checks in all", tally.passed + tally.failed, CHECKS)
    tally.finish()


main()
