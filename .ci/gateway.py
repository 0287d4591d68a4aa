"""What the suites share: a gateway to test, a plain HTTP client, a stdio MCP client, and a tally.

`TOOLGATE_BIN` names the program (target/debug/toolgate unless set). `.ci/tools` installs what the suites run.
Only the standard library is used.
"""

import contextlib
import http.client
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BIN = os.path.abspath(os.environ.get("TOOLGATE_BIN", os.path.join(ROOT, "target", "debug", "toolgate")))
PACKAGES = os.path.join(HERE, "node_modules")
NODE = os.path.join(PACKAGES, "node", "bin", "node")
OWN_VARIABLES = [name for name in os.environ if name.startswith(("TOOLGATE_", "INVOKE_"))]

# A suite that is told to end still stops its gateways: `with` blocks see it as an exception.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def environment(**more):
    """This process's environment without the gateway's own variables, with Node 22 first in the path."""
    env = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    env["PATH"] = os.path.dirname(NODE) + os.pathsep + env["PATH"]
    return env | more


def python(venv):
    """The interpreter of a virtual environment that `.ci/tools` made."""
    return os.path.join(HERE, ".venv", venv, "bin", "python")


class Gateway:
    """A gateway in a folder of its own, on a port of its own, that ends with the `with` block.

    Without `config` it serves the demo. `restart` keeps the port, the store and the keys.
    """

    def __init__(self, config=None, log="warn"):
        self.config, self.log = config, log
        self.folder = tempfile.mkdtemp(prefix="toolgate-")
        self.listen, self.process, self.stderr = "127.0.0.1:0", None, ""

    def __enter__(self):
        if self.config is not None:
            with open(os.path.join(self.folder, "toolgate.toml"), "w", encoding="utf-8") as file:
                file.write(self.config)
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        self.process = subprocess.Popen(
            [BIN, "serve", "--listen", self.listen],
            cwd=self.folder,
            env=environment(TOOLGATE_LOG=self.log),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._keep_stderr, args=(self.process,), daemon=True).start()
        line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on http://(.+)\n", line)
        if not found:
            self.process.kill()
            raise RuntimeError(f"the gateway said {line!r} instead of where it listens\n{self.stderr}")
        self.listen = found.group(1)
        self.url = f"http://{self.listen}"

    def _keep_stderr(self, process):
        for line in process.stderr:
            self.stderr += line

    def stop(self):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def restart(self):
        self.stop()
        self.start()

    def logged(self):
        """What it logged, without what it prints at a first start."""
        return "".join(line for line in self.stderr.splitlines(True) if re.match(r"\d{4}-\d\d-\d\dT", line))

    def cli(self, *arguments):
        """A command of the same program, speaking to this gateway's store."""
        return subprocess.run(
            [BIN, *arguments], cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )

    def key(self, profile="agent", roles=""):
        """The secret of a new key."""
        roles = ["--roles", roles] if roles else []
        done = self.cli("keys", "create", "--name", "ci", "--profile", profile, *roles, "--json")
        if done.returncode:
            raise RuntimeError(f"no key: {done.stderr}")
        return json.loads(done.stdout)["key"]

    def wait_ready(self, seconds=60):
        """Waits until every backend has been listed or has failed once."""
        deadline = time.monotonic() + seconds
        while self.request("GET", "/readyz")[0] != 200:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not ready after {seconds} s\n{self.stderr}")
            time.sleep(0.05)

    def request(self, method, path, body=None, headers=None):
        """One request as it is given: `(status, headers, bytes)`."""
        return request(self.listen, method, path, body, headers)

    def rpc(self, method, params, key, path="/v1/mcp"):
        """One bare JSON-RPC request, as a script sends it: the decoded answer."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers = {"Content-Type": "application/json", "X-API-Key": key}
        status, _, answer = self.request("POST", path, body, headers)
        try:
            return json.loads(answer)
        except ValueError:
            raise RuntimeError(f"HTTP {status} with {answer[:500]!r}") from None

    def call(self, tool, arguments, key):
        """A tool call's result, or the JSON-RPC error object."""
        answer = self.rpc("tools/call", {"name": tool, "arguments": arguments}, key)
        return answer.get("result", answer.get("error"))


def request(address, method, path, body=None, headers=None, timeout=60):
    connection = http.client.HTTPConnection(address, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


class Stdio:
    """An MCP client over a child's stdin and stdout that keeps every answer's text."""

    def __init__(self, command, env=None, version="2025-11-25"):
        self.child = subprocess.Popen(
            command, env=env or environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, bufsize=1,
        )
        self.lines, self.stderr, self.last, self.told = queue.Queue(), "", 0, []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._keep_stderr, daemon=True).start()
        self.version = version

    def _read(self):
        for line in self.child.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _keep_stderr(self):
        for line in self.child.stderr:
            self.stderr += line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(5)
        self.child.kill()
        self.child.wait()

    def _send(self, message):
        self.child.stdin.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")

    def open(self, seconds=60):
        """The handshake: the server's answer to `initialize`."""
        client = {"name": "ci", "version": "1"}
        parameters = {"protocolVersion": self.version, "capabilities": {}, "clientInfo": client}
        answer = json.loads(self.ask("initialize", parameters, seconds))
        self._send({"method": "notifications/initialized"})
        return answer

    def ask(self, method, params, seconds=60):
        """The text of the answer to one request. Requests of the server are answered with -32601."""
        self.last += 1
        self._send({"id": self.last, "method": method, "params": params})
        while (line := self.lines.get(timeout=seconds)) is not None:
            message = json.loads(line)
            if message.get("id") == self.last and "method" not in message:
                return line
            self._take(message)
        raise RuntimeError(f"the server ended\n{self.stderr}")

    def _take(self, message):
        if "method" in message and "id" in message:
            self._send({"id": message["id"], "error": {"code": -32601, "message": "not here"}})
        elif "method" in message:
            self.told.append(message["method"])

    def wait_for(self, notification, seconds=20):
        """Whether that notification has come or comes in time."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while notification not in self.told:
                line = self.lines.get(timeout=max(deadline - time.monotonic(), 0.01))
                if line is None:
                    break
                self._take(json.loads(line))
        return notification in self.told


class Tally:
    """Counts checks and says what failed; `finish` prints the suite's line and ends the program."""

    def __init__(self, name):
        self.name, self.passed, self.failed = name, 0, 0

    def check(self, what, holds, detail=""):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"  FAILED {what}" + (f": {str(detail)[:2000]}" if detail != "" else ""), flush=True)
        return bool(holds)

    def equal(self, what, got, expected):
        return self.check(what, got == expected, f"expected {expected!r}, got {got!r}")

    @contextlib.contextmanager
    def part(self, what):
        """A part of the suite whose exception is one failure, not the end of the suite."""
        try:
            yield
        except Exception as error:  # whatever it is, the other parts still run
            self.check(what, False, f"{type(error).__name__}: {error}")

    def finish(self):
        print(f"{self.name}: {self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)
