"""Runs the examples of README.md and of pages in docs/ against a fresh gateway and compares what they answer.

In a ```console block a line that starts with `$ ` is typed (it goes on where it ends with a backslash or inside quotes);
what follows is the answer, stdout and stderr together, runs of blanks alike, `…` standing for anything. A ```cedar,
```json or ```toml block whose first line is a comment with nothing but a path is that file, written before it goes on.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from gateway import BIN, ROOT, environment

FILES = ["README.md", "docs/policies.md", "docs/brain.md", "docs/observability.md", "docs/evals.md", "docs/dlp.md"]
DONE = "--done--"


def plain(text):
    lines = text.strip("\n").split("\n")
    return "\n".join(re.sub(r"[ \t]+", " ", line).strip() for line in lines)


def fits(want, got):
    pattern = ".*?".join(re.escape(part) for part in want.split("…"))
    pattern = pattern.replace(r"\ .*?\ ", r"\ .*?").replace("\\\n.*?\\\n", "\\\n.*?")
    return re.match(rf"\A{pattern}\Z", got, re.S) is not None


def wait_for(what, deadline=20):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.1)
    sys.exit("the gateway did not get ready")


class Bench:
    """A gateway with the shipped files in its folder, and a shell beside it."""

    def __init__(self, work):
        self.folder = os.path.join(work, "folder")
        tools = os.path.join(work, "bin")
        os.makedirs(tools)
        os.makedirs(self.folder)
        os.symlink(BIN, os.path.join(tools, "toolgate"))
        shutil.copytree(os.path.join(ROOT, "policies"), os.path.join(self.folder, "policies"))
        shutil.copy(os.path.join(ROOT, "profiles.toml"), self.folder)
        env = environment()
        env["PATH"] = tools + os.pathsep + env["PATH"]
        out, err = os.path.join(work, "out"), os.path.join(work, "err")
        with open(out, "w") as stdout, open(err, "w") as stderr:
            command = [BIN, "serve", "--listen", "127.0.0.1:0"]
            self.server = subprocess.Popen(command, cwd=self.folder, env=env, stdout=stdout, stderr=stderr)
        wait_for(lambda: "listening" in open(out).read())
        env["URL"] = open(out).read().split()[-1]
        names = {"admin": "ADMIN_KEY", "agent": "AGENT_KEY", "mcp_readonly": "READ_KEY"}
        for name, key in re.findall(r"^(\w+) key \(shown this once\): (\S+)", open(err).read(), re.M):
            env[names[name]] = key
        ready = ["curl", "-sf", "-o", os.devnull, env["URL"] + "/readyz"]
        wait_for(lambda: subprocess.run(ready, check=False).returncode == 0)
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.shell = subprocess.Popen(["bash"], cwd=self.folder, env=env, **pipe)

    def run(self, command):
        self.shell.stdin.write(f"{command}\nprintf '\\n{DONE}\\n'\n")
        self.shell.stdin.flush()
        got = ""
        while not got.endswith(f"\n{DONE}\n"):
            line = self.shell.stdout.readline()
            if not line:
                return got + "(the shell has ended)"
            got += line
        return got[: -len(f"\n{DONE}\n")]

    def write(self, path, text):
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        time.sleep(1.5)  # the gateway waits until a file has settled

    def close(self):
        self.shell.stdin.close()
        self.server.terminate()
        self.server.wait()


def commands(block):
    lines = block.split("\n")
    while lines:
        line = lines.pop(0)
        if not line.startswith("$ "):
            continue
        command, answer = line[2:], []
        while (command.endswith("\\") or command.count("'") % 2) and lines:
            command += "\n" + lines.pop(0)
        while lines and not lines[0].startswith("$ "):
            answer.append(lines.pop(0))
        yield command, plain("\n".join(answer))


def check(name):
    text = open(os.path.join(ROOT, name)).read()
    passed, failed = 0, 0
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(work)
        try:
            for kind, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S):
                path = re.match(r"(?://|#) ([\w./-]+\.(?:cedar|json|toml))\n", body)
                if path and kind != "console":
                    bench.write(path[1], body)
                if kind != "console":
                    continue
                for command, want in commands(body):
                    got = plain(bench.run(command))
                    if fits(want, got):
                        passed += 1
                    else:
                        failed += 1
                        print(f"{name}: $ {command}\n-- want\n{want}\n-- got\n{got}\n")
        finally:
            bench.close()
    return passed, failed


totals = [check(name) for name in FILES]
passed, failed = (sum(column) for column in zip(*totals))
print(f"docs: {passed} passed, {failed} failed")
sys.exit(failed > 0)
