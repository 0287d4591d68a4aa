"""Posts as JSON on stdin, with their bodies in base64; the same on stdout, with what the bodies say."""

import base64
import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


def named(value):
    """Ids in hexadecimal, as OTLP's JSON has them and protobuf's has not."""
    if isinstance(value, list):
        return [named(one) for one in value]
    if not isinstance(value, dict):
        return value
    ids = {"traceId", "spanId", "parentSpanId"}
    return {key: base64.b64decode(one).hex() if key in ids else named(one) for key, one in value.items()}


posts = json.load(sys.stdin)
for post in posts:
    message = KINDS[post["path"]]()
    body = base64.b64decode(post.pop("body"))
    message.ParseFromString(body)
    # Whatever is not known would be kept apart and lost on the way out.
    assert len(message.SerializeToString()) == len(body), "the body holds more than is known"
    post["message"] = named(MessageToDict(message))
json.dump(posts, sys.stdout)
