"""The official MCP conformance suite through the gateway: what `/v1/mcp/servers/NAME` loses is found here.

A fixture of our own (examples/conformance_server) answers everything that the suite calls. A cell is one way to have
it behind the gateway and one revision that the suite speaks in front:

    python3 .ci/through/run.py                                        every cell that has totals
    python3 .ci/through/run.py both-http                              one of them
    python3 .ci/through/run.py both-http --scenario tools-call-elicitation -v
    python3 .ci/through/run.py both-http --direct                     the fixture itself, without the gateway
    python3 .ci/through/run.py both-stdio --hold                      only what is tested, for curl, until it is stopped

A check that cannot pass stands in CELL-REVISION.yml with its reason; an entry that passes is a failure too. Totals are
asserted, and what the fixture was asked is counted, since some scenarios pass where nothing was called.
"""

import argparse
import collections
import contextlib
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from gateway import BIN, NODE, PACKAGES, Gateway, Tally, environment, request

# Where the gateway serves one backend as if a client were connected to it.
ROUTE = "/v1/mcp/servers/{}"

FIXTURE = os.path.join(os.path.dirname(BIN), "examples", "conformance_server")
SUITE = os.path.join(PACKAGES, "@modelcontextprotocol", "conformance", "dist", "index.js")
WITH_KEY = os.path.join(os.path.dirname(HERE), "conformance", "with-key.mjs")
LEGACY, MODERN = "2025-11-25", "2026-07-28"

# How the fixture stands behind the gateway, and which revisions are asked in front of it.
CELLS = {
    "direct": ("both", "http", [MODERN, LEGACY]),
    "both-http": ("both", "http", [MODERN, LEGACY]),
    "both-stdio": ("both", "stdio", [MODERN, LEGACY]),
    "legacy-http": ("legacy", "http", [MODERN]),
    "legacy-stdio": ("legacy", "stdio", [MODERN]),
    "modern-http": ("modern", "http", [LEGACY]),
    "modern-stdio": ("modern", "stdio", [LEGACY]),
}

Reached = collections.namedtuple("Reached", "scored passed failed")
# Per cell and revision: scored scenarios that pass, checks that pass, checks that fail as the baseline says.
TOTALS = {
    ("direct", MODERN): Reached(37, 197, 0),
    ("direct", LEGACY): Reached(30, 83, 0),
    ("both-http", MODERN): Reached(37, 197, 0),
    ("both-http", LEGACY): Reached(30, 83, 0),
    ("both-stdio", MODERN): Reached(37, 197, 0),
    ("both-stdio", LEGACY): Reached(30, 83, 0),
    ("legacy-http", MODERN): Reached(35, 185, 10),
    ("legacy-stdio", MODERN): Reached(35, 185, 10),
    ("modern-http", LEGACY): Reached(30, 83, 0),
    ("modern-stdio", LEGACY): Reached(30, 83, 0),
}


@contextlib.contextmanager
def fixture(era, transport, folder):
    """A running fixture: its URL or its command, and a function that counts what it was asked."""
    log = os.path.join(folder, "requests.log")
    if transport == "stdio":
        def lines():
            with contextlib.suppress(FileNotFoundError), open(log, encoding="utf-8") as text:
                return collections.Counter(text.read().splitlines())
            return collections.Counter()

        yield [FIXTURE, "--stdio", "--era", era, "--counts", log], lines
        return
    with open(os.path.join(folder, "fixture.stderr"), "w", encoding="utf-8") as stderr:
        server = subprocess.Popen([FIXTURE, "--listen", "127.0.0.1:0", "--era", era], stdout=subprocess.PIPE,
                                  stderr=stderr, env=environment(), text=True)
    try:
        found = re.fullmatch(r"listening on (http://(.+)/mcp)\n", server.stdout.readline())
        if not found:
            raise RuntimeError("the fixture does not listen")
        yield found.group(1), lambda: collections.Counter(json.loads(request(found.group(2), "GET", "/counts")[2]))
    finally:
        server.kill()
        server.wait()


def config(backend):
    """The gateway's configuration for a fixture at a URL or started by a command."""
    if isinstance(backend, str):
        return f"[servers.fixture]\nurl = {json.dumps(backend)}\n"
    command, *arguments = backend
    return f"[servers.fixture]\ncommand = {json.dumps(command)}\nargs = {json.dumps(arguments)}\n"


@contextlib.contextmanager
def keyed(gateway):
    """The address of a proxy that adds a key."""
    key = gateway.key("agent", "writer")
    proxy = subprocess.Popen([NODE, WITH_KEY, gateway.listen, key], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(proxy.stdout.readline())}"
    finally:
        proxy.kill()
        proxy.wait()


def scenarios(revision):
    """The scenarios that are scored, and those that only run."""
    listed = subprocess.run([NODE, SUITE, "list", "--server", "--requirements", revision], env=environment(),
                            capture_output=True, text=True, check=True).stdout
    required, others = listed.split("Run and reported, but never scored:")
    required = required.split("Client scenarios")[0]
    return re.findall(r"^  - (\S+)$", required, re.MULTILINE), re.findall(r"- (\S+) \[server\]", others)


def suite(url, revision, scenario, baseline, out):
    """The suite's exit status, what it said, and the checks of each scenario."""
    chosen = ["--scenario", scenario, "--spec-version", revision] if scenario else ["--requirements", revision]
    expected = ["--expected-failures", baseline] if baseline else []
    command = [NODE, SUITE, "server", "--url", url, *chosen, *expected, "-o", out]
    done = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=600, check=False)
    checks = {}
    for file in sorted(glob.glob(os.path.join(out, "*", "checks.json"))):
        name = re.fullmatch(r"server-(.+?)-\d{4}-\d{2}-\d{2}T.*", os.path.basename(os.path.dirname(file)))
        with open(file, encoding="utf-8") as text:
            checks[name.group(1) if name else file] = json.load(text)
    return done.returncode, done.stdout + done.stderr, checks


def bad(checks):
    return [check for check in checks if check["status"] in ("FAILURE", "WARNING")]


def show(scenario, checks, verbose):
    """What failed, or with `verbose` everything that the suite noted."""
    for check in checks if verbose else bad(checks):
        print(f"    {check['status']:7} {scenario}:{check['id']}  {check.get('description', '')}")
        if check.get("errorMessage"):
            print(f"            {check['errorMessage'][:1500]}")
        if check in bad(checks) and check.get("details"):
            print(f"            {json.dumps(check['details'])[:3000 if verbose else 600]}")


def differences(said):
    """What the suite says of the baseline, or its last lines."""
    lines = said.splitlines()
    told = [at for at, line in enumerate(lines) if re.search(r"Stale baseline|Unexpected failures \(", line)]
    return "\n".join(lines[told[0] :] if told else lines[-5:])


def measure(tally, cell, url, revision, options, folder):
    """Runs the suite against a URL and compares with the table."""
    name = f"{cell} {revision}"
    baseline = os.path.join(HERE, f"{cell}-{revision}.yml")
    baseline = baseline if os.path.exists(baseline) and not options.no_baseline else None
    status, said, checks = suite(url, revision, options.scenario, baseline, os.path.join(folder, revision))
    scored, others = scenarios(revision)
    failing = {scenario for scenario, found in checks.items() if bad(found)}
    reached = Reached(
        sum(scenario in checks and scenario not in failing for scenario in scored),
        sum(check["status"] == "SUCCESS" for found in checks.values() for check in found),
        sum(len(bad(found)) for found in checks.values()),
    )
    unscored = sum(scenario in checks and scenario not in failing for scenario in others)
    passed = f"{reached.passed} checks passed, {reached.failed} failed"
    if options.scenario:
        print(f"  {name} {options.scenario}: {passed}")
    else:
        print(f"  {name}: {reached.scored}/{len(scored)} scored scenarios, {unscored}/{len(others)} others, {passed}")
    for scenario in checks:
        show(scenario, checks[scenario], options.verbose)
    if options.verbose > 1:
        print(said)
    if options.scenario:
        tally.check(f"{name} {options.scenario}", checks and not failing, said[-3000:] if not checks else "")
        return
    tally.check(f"{name}: as the baseline says", status == 0, differences(said))
    tally.equal(f"{name}: totals", reached, TOTALS.get((cell, revision)))


def asked(tally, name, counts, revision, options):
    """What scenarios call was really called."""
    if options.verbose:
        print("    the fixture was asked: " + json.dumps(counts, sort_keys=True))
    if options.scenario:
        return
    with open(os.path.join(HERE, f"calls-{revision}.txt"), encoding="utf-8") as text:
        missing = [line for line in text.read().splitlines() if line and not counts[line]]
    tally.equal(f"{name}: calls that the fixture never saw", missing, [])


def hold(url, counts):
    """Leaves what is tested running for somebody with curl."""
    print(f"  {url}\n  Ctrl-C ends it", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    print("\n  the fixture was asked: " + json.dumps(counts(), sort_keys=True))


def run(tally, cell, options):
    era, transport, revisions = CELLS[cell]
    for revision in [revision for revision in revisions if options.revision in (None, revision)]:
        # A fixture and a gateway for each revision, so that each has counts of its own.
        with tally.part(f"{cell} {revision}"), contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="through-"))
            if direct := options.direct or cell == "direct":
                url, counts = stack.enter_context(fixture(era, "http", folder))
            else:
                backend, counts = stack.enter_context(fixture(era, transport, folder))
                gateway = stack.enter_context(Gateway(config(backend), log=options.log))
                gateway.wait_ready()
                url = stack.enter_context(keyed(gateway)) + ROUTE.format("fixture")
            if options.hold:
                return hold(url, counts)
            measure(tally, "direct" if direct else cell, url, revision, options, folder)
            asked(tally, f"{cell} {revision}", counts(), revision, options)
            if options.verbose and not direct:
                print("    the gateway's log:\n" + gateway.logged())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help=", ".join(CELLS))
    parser.add_argument("--scenario", help="one scenario instead of all that the revision requires")
    parser.add_argument("--revision", choices=[MODERN, LEGACY], help="one revision in front")
    parser.add_argument("--direct", action="store_true", help="the cell's fixture over HTTP, without the gateway")
    parser.add_argument("--hold", action="store_true", help="start what is tested, print its URL and wait")
    parser.add_argument("--no-baseline", action="store_true", help="show what the baseline excuses")
    parser.add_argument("--log", default="warn", help="the gateway's log filter")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="every check; twice: what the suite says")
    options = parser.parse_args()
    if unknown := [cell for cell in options.cells if cell not in CELLS]:
        parser.error(f"no such cell: {', '.join(unknown)}; there are {', '.join(CELLS)}")
    tally = Tally("through")
    for cell in options.cells or [cell for cell in CELLS if any(cell == measured for measured, _ in TOTALS)]:
        run(tally, cell, options)
    tally.finish()


main()
