"""Spans and metrics as OpenTelemetry's own definitions (PyPI `opentelemetry-proto`) read them, behind the demo servers.

A receiver keeps what the gateway posts; `decode.py` reads it in an environment of its own, all of it, strictly.
"""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from gateway import Gateway, Tally, environment, python

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET = "planted-7f3a"


class Receiver(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.posts = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        post = {"path": self.path, "type": self.headers["Content-Type"], "token": self.headers["X-Token"]}
        self.server.posts.append(post | {"body": base64.b64encode(body).decode()})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def decoded(posts):
    """The posts with `message`, what their bodies say."""
    command = [python("otlp"), os.path.join(HERE, "decode.py")]
    done = subprocess.run(
        command, input=json.dumps(posts), env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def said(attributes):
    return {one["key"]: one["value"].get("stringValue") for one in attributes}


def spans(messages):
    found = []
    for message in messages:
        for resource in message.get("resourceSpans", []):
            for scope in resource["scopeSpans"]:
                found += [span | {"said": said(span["attributes"])} for span in scope["spans"]]
    return found


def points(messages):
    """The points of every metric as they were told last."""
    last = {}
    for message in messages:
        for resource in message.get("resourceMetrics", []):
            for scope in resource["scopeMetrics"]:
                last |= {metric["name"]: metric["histogram"] for metric in scope["metrics"]}
    return last


def calls(gateway, key):
    """A call in a client's trace, one that policy denies, one of a tool that is not there."""
    meta = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"}
    invoke = {"server": "github", "tool": "get_repo", "arguments": {"repo": SECRET}}
    gateway.rpc("tools/call", {"name": "gateway_invoke", "arguments": invoke, "_meta": meta}, key)
    gateway.call("database:execute", {"sql": f"drop table {SECRET}"}, key)
    gateway.call(f"github:{SECRET}", {}, key)


def check_spans(tally, found):
    servers = [span for span in found if span["kind"] == "SPAN_KIND_SERVER"]
    clients = [span for span in found if span["kind"] == "SPAN_KIND_CLIENT"]
    tally.equal("one span of a server for each call", len(servers), 3)
    traced = [span for span in servers if span["traceId"] == TRACE]
    tally.equal("the client's trace goes on", [span["parentSpanId"] for span in traced], [PARENT])
    tally.equal("its name", traced[0]["name"], "tools/call github:get_repo")
    below = [span for span in clients if span["parentSpanId"] == traced[0]["spanId"]]
    tally.equal("the attempt stands below it", [span["name"] for span in below], ["tools/call get_repo"])
    tally.equal("in one trace", [span["traceId"] for span in below], [TRACE])
    tally.equal("over a pipe", below[0]["said"]["network.transport"], "pipe")
    errors = sorted(span["said"].get("error.type") or "" for span in servers)
    tally.equal("what went wrong", errors, ["policy_denied", "tool_error", "unknown_tool"])
    for span in found:
        name = span["name"]
        tally.check(f"{name} has a method", span["said"]["mcp.method.name"] == "tools/call", span)
        tally.check(f"{name} ends after it began", int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]), span)


def main():
    tally = Tally("telemetry")
    receiver = Receiver()
    # The configuration is the environment's: the demo servers run without a file.
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-token=t%200k",
        "OTEL_SERVICE_NAME": "ci",
    }
    os.environ.update(settings)
    with Gateway() as gateway:
        gateway.wait_ready()
        calls(gateway, gateway.key("agent", "writer"))
        tally.equal("it stops in order", gateway.stop(), 0)
    posts = decoded(receiver.posts)
    tally.check("something came", posts)
    for post in posts:
        tally.check(post["path"], post["path"] in ["/v1/traces", "/v1/metrics"], post)
        tally.equal("type and header", (post["type"], post["token"]), ("application/x-protobuf", "t 0k"))
        tally.check("nothing of arguments", SECRET not in json.dumps(post["message"]), post["message"])
    messages = [post["message"] for post in posts]
    first = next(message for message in messages if "resourceSpans" in message)
    tally.equal("service.name", said(first["resourceSpans"][0]["resource"]["attributes"])["service.name"], "ci")
    check_spans(tally, spans(messages))
    metrics = points(messages)
    for name, count in [("mcp.server.operation.duration", 3), ("mcp.client.operation.duration", 1)]:
        told = metrics[name]["dataPoints"]
        tally.equal(f"{name} counts", sum(int(point["count"]) for point in told), count)
        tally.equal(f"{name} grows", metrics[name]["aggregationTemporality"], "AGGREGATION_TEMPORALITY_CUMULATIVE")
        tally.check(f"{name} adds up", all(sum(map(int, point["bucketCounts"])) == int(point["count"]) for point in told))
    receiver.shutdown()
    tally.finish()


main()
