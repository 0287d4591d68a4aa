"""The pages for people in a real Chromium: accounts with a real OpenID provider, approvals, and `/docs`.

A person's way from end to end: what the pages say and do, that a browser holds them to their policy of content, that they
ask nothing of another host, and that nothing secret stands in them. `.ci/long/browser/run` installs what this needs.

    python3 .ci/long/browser/run.py CHROMIUM
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CI = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [CI, os.path.join(CI, "providers")]

from gateway import BIN, NODE, Gateway, Tally, environment  # noqa: E402
from provider import CONFIG, free_port, provider, user  # noqa: E402

DATABASE = f"""
[servers.database]
command = {json.dumps(BIN)}
args = ["demo-server", "database"]
"""


def drive(tally, gateway, chromium):
    keys = {
        "ada": user(gateway, "ada", roles="writer"),
        "bob": user(gateway, "bob"),
        "visitor": user(gateway, "visitor", "agent"),
    }
    done = subprocess.run(
        [NODE, os.path.join(HERE, "person.mjs"), chromium], env=environment(),
        input=json.dumps({"gateway": gateway.url, "keys": keys}), capture_output=True, text=True, timeout=300, check=False,
    )
    for line in done.stdout.splitlines():
        tally.check(*json.loads(line))
    tally.check("the person came to the end", done.returncode == 0 and done.stdout, done.stderr)
    return keys


def main():
    tally = Tally("browser")
    own = free_port()
    with provider(own) as port:
        gateway = Gateway(CONFIG.format(port=port) + DATABASE, log="debug")
        gateway.listen = f"127.0.0.1:{own}"
        with gateway:
            gateway.wait_ready()
            with tally.part("a person"):
                keys = drive(tally, gateway, sys.argv[1])
                shown = [name for name, key in keys.items() if key in gateway.stderr]
                tally.equal("no key stands in the log", shown, [])
                faults = [line for line in gateway.stderr.splitlines() if " ERROR " in line or "panicked" in line]
                tally.equal("the gateway logs no error", faults, [])
    tally.finish()


if __name__ == "__main__":
    sys.exit(main())
