"""The files in examples/ are what they say: they parse, the configuration loads, and it names every setting there is."""

import glob
import json
import os
import re
import subprocess
import tempfile

from gateway import BIN, ROOT, Tally, environment

EXAMPLES = os.path.join(ROOT, "examples")


def settings_of_the_program():
    """Every key that the configuration's reader asks for."""
    code = ""
    for name in ["file.rs", "transport.rs", "tokens.rs", "telemetry.rs"]:
        with open(os.path.join(ROOT, "src", "config", name), encoding="utf-8") as file:
            code += file.read().split("#[cfg(test)]")[0]
    reader = r"\.(?:text|texts|text_map|flag|number|duration|rate|ratio|parsed|section|sections)\(\s*\"(\w+)\""
    return set(re.findall(reader, code))


def main():
    tally = Tally("examples")
    for path in glob.glob(os.path.join(EXAMPLES, "*.json")):
        with tally.part(os.path.basename(path)), open(path, encoding="utf-8") as file:
            text = file.read()
            tally.check(os.path.basename(path), "/v1/mcp" in text and json.loads(text), text)
    config = os.path.join(EXAMPLES, "toolgate.toml")
    with tempfile.TemporaryDirectory() as data:
        command = [BIN, "servers", "list", "--json", "--config", config, "--data-dir", data]
        # Nothing is in this path, so no server is started.
        done = subprocess.run(command, env=environment(PATH=data), capture_output=True, text=True, timeout=60, check=False)
    tally.check("toolgate.toml loads", done.returncode == 0, done.stderr)
    with open(config, encoding="utf-8") as file:
        text = file.read()
    missing = sorted(key for key in settings_of_the_program() if not re.search(rf"\b{key}\b", text))
    tally.equal("toolgate.toml has every setting", missing, [])
    tally.finish()


main()
