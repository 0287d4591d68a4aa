"""The page "MCP endpoint" followed line by line with real curl against the demo: only host and key are replaced."""

import json
import os
import re
import subprocess

from gateway import BIN, ROOT, Gateway, Tally, environment

CREATE_KEY = """
curl -sS -w '\\n%{http_code}' -X POST "$INVOKE_BASE_URL/v1/beta/users/$USER_ID/keys" \
  -H "Content-Type: application/json" \
  -H "X-API-Key: $INVOKE_ADMIN_KEY" \
  -d '{
    "name": "Claude desktop MCP",
    "profile": "mcp_readonly"
  }'
"""
PROFILES = """
curl -sS -w '\\n%{http_code}' $INVOKE_BASE_URL/v1/mcp/key-profiles
"""
LIST_TOOLS = """
curl -sS -w '\\n%{http_code}' -X POST $INVOKE_BASE_URL/v1/mcp \
  -H "Content-Type: application/json" \
  -H "X-API-Key: $INVOKE_API_KEY" \
  -d '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}'
"""
SIMULATE = """
curl -sS -w '\\n%{http_code}' -X POST $INVOKE_BASE_URL/v1/mcp \
  -H "Content-Type: application/json" \
  -H "X-API-Key: $INVOKE_API_KEY" \
  -d '{
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {
      "name": "invoke.policy.simulate",
      "arguments": {
        "agent_id": "finance_agent",
        "action": "database.execute",
        "params": {"sql": "drop table invoices"}
      }
    }
  }'
"""
KEYS = """
curl -sS -w '\\n%{http_code}' "$INVOKE_BASE_URL/v1/beta/users/$USER_ID/keys" -H "X-API-Key: $INVOKE_ADMIN_KEY"
"""
REVOKE = """
curl -sS -w '\\n%{http_code}' -X DELETE "$INVOKE_BASE_URL/v1/beta/users/$USER_ID/keys/$KEY_ID" \
  -H "X-API-Key: $INVOKE_ADMIN_KEY"
"""
READONLY = {
    "scopes": ["tools:read", "brain:read", "policy:simulate", "traces:read", "approvals:read", "observability:read",
               "governance:read"],
    "allowed_tools": ["invoke.company_brain.query"],
    "read_only": True,
}


def curl(line, variables):
    """Runs the line as a person pastes it: `(status, the answer decoded)`."""
    done = subprocess.run(["bash", "-c", line], env=environment(**variables), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer, status = done.stdout.rsplit("\n", 1)
    return int(status), json.loads(answer) if answer else None


def first_start(tally, gateway):
    """What the first start prints works as it is pasted: a curl line per key, and the block for Claude Desktop."""
    lines = gateway.stderr.splitlines()
    for name in ["admin", "agent", "mcp_readonly"]:
        shown = [n for n, line in enumerate(lines) if line.startswith(f"{name} key (shown this once): inv_live_")]
        tally.equal(f"first start: the {name} key, once", len(shown), 1)
        done = subprocess.run(["bash", "-c", lines[shown[0] + 1]], env=environment(), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=30, check=False)
        tally.check(f"first start: the {name} key's curl line", '"gateway_search_tools"' in done.stdout, done)
    block = gateway.stderr[gateway.stderr.index("{\n") : gateway.stderr.rindex("\n}") + 2]
    server = json.loads(block)["mcpServers"]["toolgate"]
    wanted = ["-y", "mcp-remote", f"{gateway.url}/v1/mcp"]
    tally.equal("first start: the Claude Desktop block", server["args"][:3], wanted)
    before = gateway.stderr
    gateway.restart()
    gateway.wait_ready()
    tally.check("second start: no key is shown", "inv_live_" not in gateway.stderr.removeprefix(before))


def create_key(tally, variables):
    status, made = curl(CREATE_KEY, variables)
    tally.equal("create a key: status", status, 201)
    granted = {name: made.get(name) for name in READONLY}
    tally.equal("create a key: what the profile grants", granted, READONLY)
    tally.check("create a key: the secret", re.fullmatch(r"inv_live_[0-9A-Za-z]{40,}", made["key"]), made["key"])
    return made


def profiles(tally, variables):
    status, answer = curl(PROFILES, variables)
    tally.equal("key-profiles: status, without a key", status, 200)
    shown = answer["profiles"]["mcp_readonly"]
    tally.equal("key-profiles: mcp_readonly", {name: shown.get(name) for name in READONLY}, READONLY)
    tally.check("key-profiles: the shipped ones", {"agent", "operator", "admin"} <= set(answer["profiles"]), answer)


def list_tools(tally, variables):
    status, answer = curl(LIST_TOOLS, variables)
    tally.equal("tools/list: status", status, 200)
    tally.equal("tools/list: the id", answer["id"], 1)
    names = [tool["name"] for tool in answer["result"]["tools"]]
    tally.check("tools/list: dotted names for scripts", "policy.simulate" in names, names)
    tally.check("tools/list: nothing that calls, for a key that only looks", "gateway_invoke" not in names, names)


def simulate(tally, variables):
    status, answer = curl(SIMULATE, variables)
    tally.equal("simulate: status", status, 200)
    judged = answer["result"]["structuredContent"]
    tally.equal("simulate: the decision", judged["decision"], "deny")
    tally.check("simulate: what the SQL does", "sql.drop" in judged["effects"], judged["effects"])
    ids = [policy["id"] for policy in judged["policies"]]
    tally.check("simulate: the policy", "block-sql-drop" in ids, ids)
    policy = next(policy for policy in judged["policies"] if policy["id"] == "block-sql-drop")
    tally.check("simulate: its file and line", policy["file"].endswith("block-sql-drop.cedar") and policy["line"] > 0)
    tally.check("simulate: no error in the arguments", judged["schema_errors"] == [], judged["schema_errors"])


def smoke(tally, variables):
    for name, command in [("examples/smoke.sh", ["bash", os.path.join(ROOT, "examples", "smoke.sh")]),
                          ("toolgate smoke", [BIN, "smoke"])]:
        env = environment(INVOKE_BASE_URL=variables["INVOKE_BASE_URL"], INVOKE_API_KEY=variables["INVOKE_API_KEY"])
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
        tally.check(f"{name} with INVOKE_BASE_URL, INVOKE_API_KEY", done.returncode == 0, done.stdout + done.stderr)
        env["INVOKE_API_KEY"] = "inv_live_wrong"
        wrong = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
        tally.check(f"{name} with a wrong key fails", wrong.returncode == 1, wrong.stdout + wrong.stderr)


def revoke(tally, variables, made):
    status, listed = curl(KEYS, variables)
    tally.equal("list keys", (status, [key["id"] for key in listed["keys"]]), (200, [made["id"]]))
    tally.check("list keys: no secret", made["key"] not in json.dumps(listed))
    tally.equal("revoke", curl(REVOKE, variables | {"KEY_ID": made["id"]})[0], 204)
    tally.equal("revoke again", curl(REVOKE, variables | {"KEY_ID": "key_unknown"})[0], 404)
    tally.equal("the revoked key's next request", curl(LIST_TOOLS, variables)[0], 401)


def main():
    tally = Tally("seed")
    with Gateway() as gateway:
        gateway.wait_ready()
        with tally.part("first start"):
            first_start(tally, gateway)
        admin = re.search(r"admin key.*: (inv_live_\w+)", gateway.stderr).group(1)
        variables = {"INVOKE_BASE_URL": gateway.url, "USER_ID": "u1", "INVOKE_ADMIN_KEY": admin}
        made = create_key(tally, variables)
        variables["INVOKE_API_KEY"] = made["key"]
        for step in [profiles, list_tools, simulate, smoke]:
            with tally.part(step.__name__):
                step(tally, variables)
        with tally.part("revoke"):
            revoke(tally, variables, made)
    tally.finish()


main()
