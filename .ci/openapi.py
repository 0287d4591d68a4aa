"""The description of REST: fuzzed against the gateway with every check there is, and a client generated from it.

schemathesis sends what the description allows and what it forbids, and holds the answers against it. Then
openapi-python-client writes a client, which calls the gateway.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

from gateway import HERE, Gateway, Tally, environment, python

EXAMPLES = os.environ.get("EXAMPLES", "25")
SEED = os.environ.get("SEED", "1")


def run(command, **more):
    done = subprocess.run(
        command, env=environment(**more), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def fuzz(tally, gateway, key):
    command = [
        os.path.join(os.path.dirname(python("schemathesis")), "schemathesis"),
        "--config-file", os.path.join(HERE, "schemathesis.toml"),
        "run", f"{gateway.url}/openapi.json",
        "--checks", "all", "--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure",
        "--request-timeout", "20",
    ]
    code, said = run(command, TOOLGATE_KEY=key, HOOKS=os.path.join(HERE, "schemathesis_hooks.py"))
    tested = re.search(r"(\d+) (?:generated|passed)", said)
    if not tally.check("schemathesis finds nothing", code == 0, f"exit {code}"):
        print(said)
    tally.check("schemathesis did something", tested is not None, said[-2000:])
    for path in gateway_errors(gateway):
        tally.check("the gateway logs no error", False, path)


def gateway_errors(gateway):
    return [line for line in gateway.stderr.splitlines() if " ERROR " in line or "panicked" in line]


CLIENT = """
import json, sys
from toolgate_client import AuthenticatedClient, Client
from toolgate_client.api.audit import audit_event
from toolgate_client.api.calls import call, invoke, invoke_tool
from toolgate_client.api.directory import public_tools, server, servers, tools
from toolgate_client.api.keys import create_key, list_keys, revoke_key
from toolgate_client.api.tokens import issue_token
from toolgate_client.models import InvokeInput, InvokeRequest, NewKey, TokenRequest, ToolCallRequest

url, key = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
tell = lambda name, value: print(json.dumps([name, value]))

request = InvokeRequest.from_dict({"serverId": "github", "toolName": "list_repos", "arguments": {"limit": 1}})
answer = invoke.sync(client=client, body=request)
tell("invoke", [type(answer).__name__, answer.success, answer.result.to_dict()["structuredContent"]["repositories"][0]["name"]])
request = InvokeRequest.from_dict({"serverId": "github", "toolName": "nothing"})
refused = invoke.sync_detailed(client=client, body=request)
tell("refused", [refused.status_code, type(refused.parsed).__name__, refused.parsed.error.code])
answer = call.sync(client=client, body=ToolCallRequest.from_dict({"tool": "github:list_repos", "arguments": {"limit": 1}}))
tell("call", [answer.ok, answer.content[0].type_])
answer = invoke_tool.sync("github:list_repos", client=client, body=InvokeInput.from_dict({"input": {"limit": 1}}))
tell("invoke_tool", [answer.governance.decision, answer.result["repositories"][0]["name"]])
record = audit_event.sync(answer.governance.audit_event_id, client=client)
tell("record", [record.data["tool"], record.data["outcome"]])
listed = tools.sync(client=client, limit=1)
tell("tools", [listed.data[0].id, listed.meta.limit, listed.meta.next_cursor is not None])
token = issue_token.sync(client=client, body=TokenRequest.from_dict({"type": "user"})).data
holder = AuthenticatedClient(base_url=url, token=token.access_token)
tell("token", [token.access_token[:9], tools.sync(client=holder, limit=1).data[0].id])
page = servers.sync(client=client, first=1)
tell("servers", [page.servers[0].id, page.page_info.has_next_page])
one = server.sync("local", "github", client=client)
tell("server", sorted(tool.name for tool in one.tools))
tell("public", [tool.name for tool in public_tools.sync(client=Client(base_url=url)).tools])
made = create_key.sync("ana", client=client, body=NewKey.from_dict({"name": "made", "profile": "agent"}))
tell("made", [made.profile, made.key.startswith("inv_live_")])
tell("listed", [item.id == made.id for item in list_keys.sync("ana", client=client).keys])
tell("revoked", revoke_key.sync_detailed("ana", made.id, client=client).status_code)
stranger = invoke.sync_detailed(client=AuthenticatedClient(base_url=url, token="wrong"), body=request)
tell("stranger", [stranger.status_code, stranger.parsed.error.code])
"""

EXPECTED = [
    ["invoke", ["InvokeAnswer", True, "demo/project-a"]],
    ["refused", [404, "InvokeError", "not_found"]],
    ["call", [True, "json"]],
    ["invoke_tool", ["allow", "demo/project-a"]],
    ["record", ["list_repos", "answered"]],
    ["tools", ["database:execute", 1, True]],
    ["token", ["mcp_live_", "database:execute"]],
    ["servers", ["local/database", True]],
    ["server", ["create_issue", "get_repo", "list_repos"]],
    ["public", ["eval.quality.latest", "eval.run.create", "eval.trace.create", "eval.testcase.list"]],
    ["made", ["agent", True]],
    ["listed", [True]],
    ["revoked", 204],
    ["stranger", [401, "unauthorized"]],
]


def generate(tally, gateway, key, folder):
    settings = os.path.join(folder, "client.yml")
    with open(settings, "w", encoding="utf-8") as file:
        file.write("project_name_override: toolgate-client\npackage_name_override: toolgate_client\n")
    tools = os.path.dirname(python("openapi-client"))
    command = [
        os.path.join(tools, "openapi-python-client"), "generate", "--url", f"{gateway.url}/openapi.json",
        "--config", settings, "--output-path", os.path.join(folder, "client"), "--fail-on-warning",
    ]
    code, said = run(command, PATH=tools + os.pathsep + os.environ["PATH"])
    if not tally.check("a client is generated without a warning", code == 0, said):
        return
    script = os.path.join(folder, "use.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(CLIENT)
    code, said = run([python("openapi-client"), script, gateway.url, key], PYTHONPATH=os.path.join(folder, "client"))
    if not tally.check("the client runs", code == 0, said):
        return
    got = [json.loads(line) for line in said.splitlines()]
    for want, have in zip(EXPECTED, got):
        tally.equal(f"the client: {want[0]}", have, want)
    tally.equal("the client did all of it", len(got), len(EXPECTED))


def main():
    tally = Tally("openapi")
    with Gateway() as gateway, tempfile.TemporaryDirectory() as folder:
        gateway.wait_ready()
        key = gateway.key("admin", "writer")
        with tally.part("a client"):
            generate(tally, gateway, key, folder)
        with tally.part("fuzzing"):
            fuzz(tally, gateway, key)
    tally.finish()


if __name__ == "__main__":
    sys.exit(main())
