"""The official MCP conformance suite against `/v1/mcp`, both revisions, keys on.

Only the scenarios that need no fixture: the others call tools, prompts and resources by the suite's own names.
A check that cannot pass stands in expected-REVISION.yml with its reason; an entry that passes is a failure too.
The totals are asserted, since a scenario that stops checking would pass.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from gateway import NODE, PACKAGES, Gateway, Tally, environment

HERE = os.path.dirname(os.path.abspath(__file__))
SUITE = os.path.join(PACKAGES, "@modelcontextprotocol", "conformance", "dist", "index.js")

COMMON = ["tools-list", "prompts-list", "resources-list", "dns-rebinding-protection", "server-sse-multiple-streams"]
SCENARIOS = {
    "2025-11-25": [*COMMON, "server-initialize", "ping", "logging-set-level", "server-session-lifecycle"],
    "2026-07-28": [*COMMON, "server-stateless", "caching", "http-header-validation", "sep-2164-resource-not-found"],
}
# Checks that pass and that fail as the baseline says, per revision.
TOTALS = {"2025-11-25": (20, 0), "2026-07-28": (60, 5)}


def run(url, revision, scenario, out):
    """One scenario: the suite's exit status, what it said, and its checks."""
    baseline = os.path.join(HERE, f"expected-{revision}.yml")
    command = [NODE, SUITE, "server", "--url", url, "--scenario", scenario, "--spec-version", revision,
               "--expected-failures", baseline, "-o", out]
    done = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=120, check=False)
    checks = []
    for file in glob.glob(os.path.join(out, "**", "checks.json"), recursive=True):
        with open(file, encoding="utf-8") as text:
            checks += json.load(text)
    return done.returncode, done.stdout + done.stderr, checks


def main():
    tally = Tally("conformance")
    with Gateway() as gateway, tempfile.TemporaryDirectory() as out:
        gateway.wait_ready()
        key = gateway.key("agent", "writer")
        proxy = subprocess.Popen([NODE, os.path.join(HERE, "with-key.mjs"), gateway.listen, key],
                                 stdout=subprocess.PIPE, text=True)
        try:
            url = f"http://127.0.0.1:{int(proxy.stdout.readline())}/v1/mcp"
            for revision, scenarios in SCENARIOS.items():
                passed = failed = 0
                for scenario in scenarios:
                    status, said, checks = run(url, revision, scenario, os.path.join(out, revision, scenario))
                    good = sum(check["status"] == "SUCCESS" for check in checks)
                    bad = [check for check in checks if check["status"] in ("FAILURE", "WARNING")]
                    passed, failed = passed + good, failed + len(bad)
                    print(f"  {revision} {scenario}: {good} passed, {len(bad)} as the baseline says")
                    if not tally.check(f"{revision} {scenario}", status == 0 and checks, said):
                        for check in bad:
                            print(f"    {check['id']}: {check.get('errorMessage', '')[:500]}")
                tally.equal(f"{revision} checks in total", (passed, failed), TOTALS[revision])
        finally:
            proxy.kill()
    tally.finish()


main()
