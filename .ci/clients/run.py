"""Real clients against `/v1/mcp`, each with a static key as X-API-Key and as Bearer.

Each lists the tools, asks `policy_simulate`, calls a backend through `gateway_invoke`, and calls again in the same
session after the gateway restarted. None may ever turn to OAuth: a browser opened is a failure.
"""

import glob
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from backend import Backend
from gateway import BIN, NODE, PACKAGES, Gateway, Stdio, Tally, environment, python

OWN_TOOLS = ["gateway_search_tools", "gateway_invoke", "policy_simulate"]
SIMULATE = {"server": "notes", "tool": "write_note", "arguments": {"text": "x"}}

TYPESCRIPT = [NODE, os.path.join(HERE, "sdk.mjs")]
PYTHON = os.path.join(HERE, "sdk.py")
SDKS = {
    "TypeScript SDK 1.x": [*TYPESCRIPT, "v1"],
    "TypeScript SDK 2.x, legacy": [*TYPESCRIPT, "legacy"],
    "TypeScript SDK 2.x, auto": [*TYPESCRIPT, "auto"],
    "TypeScript SDK 2.x, modern": [*TYPESCRIPT, "modern"],
    "Python mcp 1.30": [python("mcp1"), PYTHON, "mcp1"],
    "Python mcp 2.x, legacy": [python("mcp2"), PYTHON, "legacy"],
    "Python mcp 2.x, auto": [python("mcp2"), PYTHON, "auto"],
    "Python mcp 2.x, modern": [python("mcp2"), PYTHON, "modern"],
    "fastmcp": [python("fastmcp"), PYTHON, "fastmcp"],
}
MCP_REMOTE = [NODE, os.path.join(PACKAGES, "mcp-remote", "dist", "proxy.js")]
INSPECTOR = [NODE, os.path.join(PACKAGES, "@modelcontextprotocol", "inspector", "clients", "launcher", "build",
                                "index.js"), "--cli"]
HEADERS = {"X-API-Key": "{}", "Authorization": "Bearer {}"}


class Sdk:
    """A client of sdk.mjs or sdk.py: a line of JSON after the first round, and one for each line it is sent."""

    def __init__(self, command, env):
        self.child = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, bufsize=1)
        self.lines, self.stderr = queue.Queue(), ""
        for stream, keep in [(self.child.stdout, self.lines.put), (self.child.stderr, self._keep_stderr)]:
            threading.Thread(target=self._read, args=(stream, keep), daemon=True).start()

    def _read(self, stream, keep):
        for line in stream:
            keep(line)
        if stream is self.child.stdout:
            self.lines.put(None)

    def _keep_stderr(self, line):
        self.stderr += line

    def line(self):
        line = self.lines.get(timeout=60)
        if line is None:
            raise RuntimeError(self.stderr[-1500:])
        return json.loads(line)

    def invoke(self, text):
        self.child.stdin.write(text + "\n")
        return self.line()["invoked"]

    def close(self):
        self.child.stdin.close()
        try:
            return self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()


class Remote:
    """An agent host that starts mcp-remote or `toolgate stdio`, with the same moves as `Sdk`."""

    def __init__(self, command, env):
        self.host = Stdio(command, env)

    def call(self, name, arguments):
        return json.loads(self.host.ask("tools/call", {"name": name, "arguments": arguments}))["result"]

    def line(self):
        self.host.open()
        tools = json.loads(self.host.ask("tools/list", {}))["result"]["tools"]
        decision = self.call("policy_simulate", SIMULATE)["structuredContent"]["decision"]
        return {"tools": [tool["name"] for tool in tools], "decision": decision, "invoked": self.invoke("one")}

    def invoke(self, text):
        arguments = {"server": "notes", "tool": "write_note", "arguments": {"text": text}}
        return self.call("gateway_invoke", arguments)["content"][0]["text"]

    def close(self):
        self.host.__exit__()
        return 0


def sessions(tally, gateway, key, env):
    """Every client opens a session, the gateway restarts, every session goes on."""
    url, clients = gateway.url + "/v1/mcp", {}
    for header, form in HEADERS.items():
        value = form.format(key)
        for name, command in SDKS.items():
            clients[f"{name}, {header}"] = Sdk([*command, url, header, value], env)
        for protocol in ["legacy", "auto"]:
            command = [*MCP_REMOTE, url, "--protocol", protocol, "--header", f"{header}:{value}"]
            clients[f"mcp-remote {protocol}, {header}"] = Remote(command, env)
        clients["toolgate stdio"] = Remote([BIN, "stdio", "--url", url], env | {"TOOLGATE_KEY": key})
        open_sessions = {}
        for name, client in clients.items():
            with tally.part(name):
                first = client.line()
                tally.equal(f"{name}: tools/list", first["tools"], OWN_TOOLS)
                tally.equal(f"{name}: policy_simulate", first["decision"], "allow")
                tally.equal(f"{name}: gateway_invoke", first["invoked"], "write_note: one")
                open_sessions[name] = client
        gateway.restart()
        gateway.wait_ready()
        for name, client in open_sessions.items():
            with tally.part(f"{name}: the session survives a restart"):
                tally.equal(f"{name}: after a restart", client.invoke("two"), "write_note: two")
        for name, client in clients.items():
            tally.check(f"{name}: ends in order", client.close() == 0, getattr(client, "stderr", ""))
        clients.clear()


def inspector(tally, gateway, key, env):
    """The Inspector's command line in each era, and with a wrong key."""

    def run(era, header, *arguments):
        command = [*INSPECTOR, "--server-url", gateway.url + "/v1/mcp", "--transport", "http",
                   "--protocol-era", era, "--header", header, *arguments]
        return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, check=False)

    call = ["--method", "tools/call", "--tool-name"]
    simulate = [*call, "policy_simulate", "--tool-arg", "action=notes.write_note", 'params={"text":"x"}']
    invoke = [*call, "gateway_invoke", "--tool-arg", "server=notes", "tool=write_note", 'arguments={"text":"one"}']
    for era, header in [("legacy", f"X-API-Key: {key}"), ("modern", f"Authorization: Bearer {key}"),
                        ("auto", f"X-API-Key: {key}")]:
        name = f"Inspector {era}"
        with tally.part(name):
            listed = json.loads(run(era, header, "--method", "tools/list").stdout)
            tally.equal(f"{name}: tools/list", [tool["name"] for tool in listed["tools"]], OWN_TOOLS)
            decision = json.loads(run(era, header, *simulate).stdout)["structuredContent"]["decision"]
            tally.equal(f"{name}: policy_simulate", decision, "allow")
            invoked = json.loads(run(era, header, *invoke).stdout)["content"][0]["text"]
            tally.equal(f"{name}: gateway_invoke", invoked, "write_note: one")
    refused = run("legacy", "X-API-Key: inv_live_wrong", "--method", "tools/list")
    tally.equal("Inspector, wrong key: exit status", refused.returncode, 3)


def wrong_keys(tally, gateway, env):
    """mcp-remote with a key that is none: it ends at once with the gateway's own sentence."""
    cases = {
        "X-API-Key:inv_live_wrong": "the key is mistyped",
        "Authorization:Bearer inv_live_wrong": "the key is mistyped",
        "X-API-Key:${NOT_SET}": "your client did not expand ${NOT_SET}",
    }
    for header, sentence in cases.items():
        with tally.part(f"mcp-remote with {header}"):
            command = [*MCP_REMOTE, gateway.url + "/v1/mcp", "--header", header]
            done = subprocess.run(command, env=env, input="", capture_output=True, text=True, timeout=30,
                                  check=False)
            tally.check(f"mcp-remote with {header}: ends", done.returncode not in (0, None), done.returncode)
            tally.check(f"mcp-remote with {header}: says why", sentence in done.stderr, done.stderr)
            tally.check(f"mcp-remote with {header}: opens nothing", "browser" not in done.stderr.lower(), done.stderr)
    for name in ["TypeScript SDK 1.x", "Python mcp 1.30", "Python mcp 2.x, auto", "fastmcp"]:
        command = [*SDKS[name], gateway.url + "/v1/mcp", "X-API-Key", "inv_live_wrong"]
        done = subprocess.run(command, env=env, input="", capture_output=True, text=True, timeout=30, check=False)
        tally.check(f"{name}, wrong key: fails", done.returncode not in (0, None), done.stdout)


def changes(tally, gateway, key):
    """A backend's new tool is announced to a session that shows backend tools, and is listed."""
    url = gateway.url + "/v1/mcp?surface=direct"
    change(tally, "mcp-remote, list_changed", [*MCP_REMOTE, url, "--header", f"X-API-Key:{key}"])
    change(tally, "toolgate stdio, list_changed", [BIN, "stdio", "--url", url, "--key", key])


def change(tally, name, command):
    with tally.part(name), Stdio(command) as host:
        host.open()

        def names():
            return {tool["name"] for tool in json.loads(host.ask("tools/list", {}))["result"]["tools"]}

        before = names()
        host.ask("tools/call", {"name": "notes__add_tool", "arguments": {}})
        announced = host.wait_for("notifications/tools/list_changed")
        tally.check(f"{name}: the client is told", announced)
        tally.equal(f"{name}: one tool more", len(names() - before), 1)


def browser_trap(folder):
    """Programs that would open a browser, replaced by one that leaves a mark."""
    mark = os.path.join(folder, "browser-opened")
    for name in ["xdg-open", "open", "sensible-browser", "x-www-browser", "firefox", "chromium"]:
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\necho \"$@\" >> '{mark}'\n")
        os.chmod(path, 0o755)
    return mark


def main():
    tally = Tally("clients")
    with tempfile.TemporaryDirectory() as home, Backend() as backend:
        mark = browser_trap(home)
        env = environment(HOME=home, MCP_REMOTE_CONFIG_DIR=os.path.join(home, "mcp-remote"))
        env["PATH"] = home + os.pathsep + env["PATH"]
        with Gateway(f'[servers.notes]\nurl = "{backend.url}"\n') as gateway:
            gateway.wait_ready()
            key = gateway.key("agent", "writer")
            sessions(tally, gateway, key, env)
            inspector(tally, gateway, key, env)
            changes(tally, gateway, key)
            wrong_keys(tally, gateway, env)
        tally.check("no browser was opened", not os.path.exists(mark))
        kept = glob.glob(os.path.join(home, "mcp-remote", "**", "*tokens*"), recursive=True)
        tally.equal("mcp-remote keeps no OAuth tokens", kept, [])
    tally.finish()


main()
