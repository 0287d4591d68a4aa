"""The provider of `provider.mjs` while a suite runs, and a gateway's configuration that knows it."""

import contextlib
import json
import os
import socket
import subprocess

from gateway import HERE, NODE, environment

CONFIG = """
[providers.example]
title = "Example"
issuer = "http://127.0.0.1:{port}"
client_id = "toolgate"
client_secret = "a-secret-between-the-two"
scopes = ["openid"]
[servers.up]
url = "http://127.0.0.1:{port}/mcp"
provider = "example"
"""


def free_port():
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def provider(own):
    """The port of a provider that sends people back to the gateway on the port `own`."""
    port = free_port()
    script = os.path.join(HERE, "providers", "provider.mjs")
    command = [NODE, script, str(port), f"http://127.0.0.1:{own}/v1/providers/example/callback"]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"the provider said {line!r} instead of where it listens")
            yield port
        finally:
            process.kill()


def user(gateway, name, profile="operator", roles=""):
    """The secret of a new key of that user's."""
    roles = ["--roles", roles] if roles else []
    done = gateway.cli("keys", "create", "--name", name, "--profile", profile, "--user", name, *roles, "--json")
    if done.returncode:
        raise RuntimeError(f"no key: {done.stderr}")
    return json.loads(done.stdout)["key"]
