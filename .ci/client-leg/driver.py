"""The client that the official suite tests: a client of the gateway whose only backend is the suite's server.

The suite starts it with its server's URL as the last argument and the scenario in the environment. `--direct` before
it leaves the gateway out, to tell a fault of this program from one of the gateway's.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from client import Legacy, Modern
from gateway import BIN, Gateway, environment

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


def issuer_of(url):
    """The authorization server that a backend names: who configures a secret says whom it is for."""
    parts = urllib.parse.urlsplit(url)
    for path in [parts.path.rstrip("/"), ""]:
        known = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{path}"
        with contextlib.suppress(urllib.error.URLError, ValueError), urllib.request.urlopen(known, timeout=5) as answer:
            return json.load(answer)["authorization_servers"][0]
    return None


def oauth(url):
    """What an operator writes for a server that asks for a login."""
    settings = {}
    if "client_id" in CONTEXT and "client_secret" in CONTEXT:
        settings = {name: CONTEXT[name] for name in ["client_id", "client_secret"]}
        settings["issuer"] = CONTEXT.get("issuer") or issuer_of(url)
    if SCENARIO == "auth/basic-cimd":
        # The document that describes the client, which the operator has published.
        settings["client_id"] = "https://conformance-test.local/client-metadata.json"
    if SCENARIO.startswith("auth/client-credentials"):
        settings["grant"] = "client_credentials"
    members = ", ".join(f"{name} = {json.dumps(value)}" for name, value in settings.items() if value)
    return f"oauth = {{ {members} }}\n"


def log_in(gateway):
    """`toolgate servers login`, and a person with a browser who says yes to everything."""
    command = [BIN, "servers", "login", "mock"]
    with subprocess.Popen(command, cwd=gateway.folder, env=environment(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as login:
        try:
            for line in login.stdout:
                print(line, end="", file=sys.stderr)
                if line.strip().startswith(("http://", "https://")):
                    with contextlib.suppress(urllib.error.URLError), \
                            urllib.request.urlopen(line.strip(), timeout=20) as page:
                        page.read()
                    break
            # Whoever was not let in sits there until the patience is over.
            with contextlib.suppress(subprocess.TimeoutExpired):
                return login.wait(5) == 0
            return False
        finally:
            login.kill()


def connected(gateway, seconds=8):
    """Waits until the backend has been listed; whether it was."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done = gateway.cli("servers", "list", "--json")
        if done.returncode == 0 and '"ready"' in done.stdout:
            return True
        time.sleep(0.1)
    return False


def main():
    *options, url = sys.argv[1:]
    if "--direct" in options:
        return talk(url, {})
    auth = SCENARIO.startswith("auth/")
    config = f"[servers.mock]\nurl = {json.dumps(url)}\n" + (oauth(url) if auth else "")
    with Gateway(config) as gateway:
        try:
            gateway.wait_ready(20)
            if auth and not SCENARIO.startswith("auth/client-credentials"):
                if not log_in(gateway):
                    sys.exit("not logged in")
            if auth and not connected(gateway) and "run `toolgate servers login mock`" in gateway.logged():
                # Such as where the server has gone to another authorization server.
                log_in(gateway)
                connected(gateway)
            talk(gateway.url + ROUTE.format("mock"), {"X-API-Key": gateway.key("agent", "writer")})
        finally:
            print(gateway.logged(), file=sys.stderr)


main()
