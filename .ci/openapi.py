"""The description of REST, fuzzed against the gateway with every check there is.

schemathesis sends what the description allows and what it forbids, and holds the answers against it. `generated` calls the
gateway with clients that are generated from the description.
"""

import os
import re
import subprocess
import sys

from gateway import HERE, Gateway, Tally, environment, python

EXAMPLES = os.environ.get("EXAMPLES", "25")
SEED = os.environ.get("SEED", "1")


def run(command, **more):
    done = subprocess.run(
        command, env=environment(**more), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def fuzz(tally, gateway, key):
    command = [
        os.path.join(os.path.dirname(python("schemathesis")), "schemathesis"),
        "--config-file", os.path.join(HERE, "schemathesis.toml"),
        "run", f"{gateway.url}/openapi.json",
        "--checks", "all", "--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure",
        "--request-timeout", "20",
    ]
    code, said = run(command, TOOLGATE_KEY=key, HOOKS=os.path.join(HERE, "schemathesis_hooks.py"))
    tested = re.search(r"(\d+) (?:generated|passed)", said)
    if not tally.check("schemathesis finds nothing", code == 0, f"exit {code}"):
        print(said)
    tally.check("schemathesis did something", tested is not None, said[-2000:])
    for path in gateway_errors(gateway):
        tally.check("the gateway logs no error", False, path)


def gateway_errors(gateway):
    return [line for line in gateway.stderr.splitlines() if " ERROR " in line or "panicked" in line]


def main():
    tally = Tally("openapi")
    with Gateway() as gateway:
        gateway.wait_ready()
        key = gateway.key("admin", "writer")
        with tally.part("fuzzing"):
            fuzz(tally, gateway, key)
    tally.finish()


if __name__ == "__main__":
    sys.exit(main())
