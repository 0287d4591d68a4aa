"""kill -9 under load, 20 times: what was answered is recorded, and the chain holds.

Workers call a write tool through `gateway_invoke` all the time, each call with a text of its own. The gateway is killed
in the middle and started again. After each start `audit verify` must exit 0, and every call of which a worker has seen
the answer must have its record in `audit export`. Every call that the backend carried out must have one too, for a
write is recorded before it is sent, and none may have been sent twice.

    python3 .ci/long/kill.py [ROUNDS]
"""

import http.client
import json
import os
import random
import sys
import threading
import time
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from backend import Backend
from gateway import Gateway, Tally

WORKERS = 16
# Arguments stand in the records as they came, so that each call is known by its own text.
CONFIG = """
[audit]
arguments = "plain"

[servers.notes]
url = "{url}"
"""


class Load:
    """Workers that call until they are told to stop, over connections that they open again when they break."""

    def __init__(self, listen, key):
        self.listen, self.key = listen, key
        self.stop, self.answered, self.lost = threading.Event(), [], 0
        self.threads = [threading.Thread(target=self.work, args=(n,), daemon=True) for n in range(WORKERS)]
        for thread in self.threads:
            thread.start()

    def work(self, worker):
        count, connection = 0, None
        while not self.stop.is_set():
            count += 1
            text = f"w{worker}-{id(self):x}-{count}"
            try:
                connection = connection or http.client.HTTPConnection(self.listen, timeout=20)
                self.answered.append((self.call(connection, text), text))
            except (OSError, http.client.HTTPException, ValueError):
                self.lost += 1
                connection = None
                self.stop.wait(0.02)

    def call(self, connection, text):
        arguments = {"server": "notes", "tool": "write_note", "arguments": {"text": text}}
        params = {"name": "gateway_invoke", "arguments": arguments}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        connection.request("POST", "/v1/mcp", body, {"Content-Type": "application/json", "X-API-Key": self.key})
        answer = connection.getresponse()
        result = json.loads(answer.read()).get("result", {})
        if result.get("isError") or not result.get("content"):
            raise ValueError("not carried out")
        return result["_meta"]["toolgate/governance"]["audit_event_id"]

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
        return self.answered


def check(tally, gateway, name, answered, backend):
    verified = gateway.cli("audit", "verify")
    tally.equal(f"{name}: audit verify", verified.returncode, 0) or print(verified.stdout + verified.stderr)
    records = [json.loads(line) for line in gateway.cli("audit", "export", "--format", "jsonl").stdout.splitlines()]
    known = {record["id"]: record for record in records}
    missing = [audit_id for audit_id, _ in answered if audit_id not in known]
    tally.equal(f"{name}: answered calls without a record", missing, [])
    wrong = [text for audit_id, text in answered if told(known.get(audit_id, {})) != ("answered", text)]
    tally.equal(f"{name}: answered calls whose record says something else", wrong, [])
    carried_out = [arguments["text"] for _, arguments in backend.calls]
    tally.equal(f"{name}: calls that the backend saw twice", len(carried_out) - len(set(carried_out)), 0)
    recorded = {told(record)[1] for record in records}
    tally.equal(f"{name}: calls that the backend saw without a record", sorted(set(carried_out) - recorded), [])
    outcomes = Counter(record["outcome"] for record in records)
    print(f"  {name}: {len(answered)} answered, {len(carried_out)} carried out, {dict(outcomes)}", flush=True)


def told(record):
    """How the call ended and which one it was, as its record says."""
    return record.get("outcome"), (record.get("arguments") or {}).get("text")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    tally, answered = Tally("kill"), []
    with Backend() as backend, Gateway(CONFIG.format(url=backend.url), log="error") as gateway:
        gateway.wait_ready()
        key = gateway.key("agent", "writer")
        for number in range(1, rounds + 1):
            load = Load(gateway.listen, key)
            time.sleep(0.5 + random.random())
            gateway.kill()
            answered += load.end()
            gateway.start()
            gateway.wait_ready()
            check(tally, gateway, f"kill {number}", answered, backend)
        tally.check("there was load", len(answered) > 10 * rounds, len(answered))
    tally.finish()


main()
