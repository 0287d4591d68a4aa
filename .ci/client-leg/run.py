"""The client leg of the official MCP conformance suite: what the gateway says to a backend, judged by the suite.

The suite plays the backend and starts driver.py, a client that speaks to it through `/v1/mcp/servers/mock`.

    python3 .ci/client-leg/run.py                                  every scenario of both revisions
    python3 .ci/client-leg/run.py tools_call http-custom-headers   some of them, with all that the suite noted
    python3 .ci/client-leg/run.py --direct                         without the gateway

A scenario that cannot pass stands in expected-REVISION.yml with its reason; one that passes is a failure too.
"""

import argparse
import concurrent.futures
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from gateway import BIN, NODE, PACKAGES, Tally, environment

SUITE = os.path.join(PACKAGES, "@modelcontextprotocol", "conformance", "dist", "index.js")
DRIVER = os.path.join(HERE, "driver.py")
REVISIONS = ["2026-07-28", "2025-11-25"]
# Scored scenarios that pass, and checks that pass, each once a scenario, per revision.
TOTALS = {"2026-07-28": (30, 361), "2025-11-25": (17, 235)}
# Each has a gateway of its own.
AT_ONCE = 4


def scenarios(revision):
    """The scenarios that are scored, and those that only run."""
    listed = subprocess.run([NODE, SUITE, "list", "--client", "--requirements", revision], env=environment(),
                            capture_output=True, text=True, check=True).stdout
    required, others = listed.split("Run and reported, but never scored:")
    required = required.split("Client scenarios")[1]
    return re.findall(r"^  - (\S+)$", required, re.MULTILINE), re.findall(r"- (\S+) \[client\]", others)


def run(revision, scenario, direct, out):
    """One scenario: the suite's exit status with the baseline, what was said, and the checks."""
    out = os.path.join(out, revision, scenario.replace("/", "-"))
    command = f"{sys.executable} {DRIVER}{' --direct' if direct else ''}"
    baseline = [] if direct else ["--expected-failures", os.path.join(HERE, f"expected-{revision}.yml")]
    done = subprocess.run(
        [NODE, SUITE, "client", "--command", command, "--scenario", scenario, "--spec-version", revision, "--force",
         "--timeout", "60000", *baseline, "-o", out],
        env=environment(TOOLGATE_BIN=BIN), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180,
        check=False)
    checks = []
    for file in glob.glob(os.path.join(out, "**", "checks.json"), recursive=True):
        with open(file, encoding="utf-8") as text:
            checks += json.load(text)
    return done.returncode, done.stdout + done.stderr, checks


def bad(checks):
    return [check for check in checks if check["status"] in ("FAILURE", "WARNING")]


def show(checks):
    """What the suite noted."""
    for check in checks:
        print(f"    {check['status']:7} {check['id']}  {check.get('description', '')}")
        if check.get("errorMessage"):
            print(f"            {check['errorMessage'][:1000]}")
        if check in bad(checks):
            print(f"            {json.dumps(check.get('details'))[:1500]}")


def measure(tally, revision, options, out):
    scored, others = scenarios(revision)
    chosen = [name for name in scored + others if not options.scenarios or name in options.scenarios]
    if options.direct:
        # The driver logs in nowhere: that is the gateway's.
        chosen = [name for name in chosen if not name.startswith("auth/")]
    passing = checks_passed = 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = pool.map(lambda scenario: run(revision, scenario, options.direct, out), chosen)
        for scenario, (status, said, checks) in zip(chosen, results):
            # Each once: how often a request is sent depends on how fast the gateway is connected.
            good = len({check["id"] for check in checks if check["status"] == "SUCCESS"})
            checks_passed += good
            passes = bool(checks) and not bad(checks)
            passing += passes and scenario in scored
            print(f"  {revision} {scenario}: {good} passed, {len(bad(checks))} failed", flush=True)
            held = passes if options.direct else status == 0
            tally.check(f"{revision} {scenario}", held, "" if bad(checks) else said[-1500:])
            show(checks if options.scenarios else [] if held else bad(checks))
            if options.scenarios:
                print(said)
    print(f"  {revision}: {passing}/{len(scored)} scored scenarios, {checks_passed} checks passed")
    if not options.scenarios and not options.direct:
        tally.equal(f"{revision}: totals", (passing, checks_passed), TOTALS.get(revision))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="only these")
    parser.add_argument("--revision", choices=REVISIONS, help="only this one")
    parser.add_argument("--direct", action="store_true", help="the driver alone, without the gateway")
    options = parser.parse_args()
    tally = Tally("client-leg")
    with tempfile.TemporaryDirectory(prefix="client-leg-") as out:
        for revision in [revision for revision in REVISIONS if options.revision in (None, revision)]:
            measure(tally, revision, options, out)
    tally.finish()


main()
