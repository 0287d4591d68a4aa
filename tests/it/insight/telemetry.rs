//! Spans and metrics over OTLP, as a receiver gets them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::audit_id;
use crate::support::{FakeUpstream, Say, Setup, eventually, soon};

/// Answers nothing.
const HANG: u16 = 0;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A receiver of OTLP over HTTP that keeps what it gets.
pub(super) struct Collector {
    address: SocketAddr,
    inner: Arc<Inner>,
    _stop: DropGuard,
}

struct Inner {
    status: AtomicU16,
    seen: Mutex<Vec<(String, HeaderMap, Bytes)>>,
    refused: AtomicUsize,
    stop: CancellationToken,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            status: AtomicU16::new(200),
            seen: Mutex::default(),
            refused: AtomicUsize::new(0),
            stop: stop.clone(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(receive).with_state(Arc::clone(&inner));
        let ended = stop.clone().cancelled_owned();
        let serving = axum::serve(listener, router).with_graceful_shutdown(ended);
        TaskTracker::new().spawn(async move { serving.await.unwrap() });
        Self { address, inner, _stop: stop.drop_guard() }
    }

    /// From now on answers so.
    fn answer(&self, status: u16) {
        self.inner.status.store(status, Ordering::SeqCst);
    }

    /// What the configuration says of it.
    pub(super) fn section(&self, more: &str) -> String {
        format!("[telemetry]\notlp_endpoint = \"http://{}/\"\n{more}\n", self.address)
    }

    fn seen(&self) -> Vec<(String, HeaderMap, Bytes)> {
        self.inner.seen.lock().unwrap().clone()
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let bodies = self.seen().into_iter().filter(|(path, ..)| path == "/v1/traces").map(|(.., body)| body);
        let requests = bodies.map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The points of a metric as they were told last.
    fn points(&self, name: &str) -> Vec<HistogramDataPoint> {
        let bodies = self.seen().into_iter().filter(|(path, ..)| path == "/v1/metrics").map(|(.., body)| body);
        let last = bodies.map(|body| ExportMetricsServiceRequest::decode(body).unwrap()).last().unwrap();
        let scopes = last.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let metric = scopes.flat_map(|scope| scope.metrics).find(|metric| metric.name == name);
        match metric.and_then(|metric| metric.data) {
            Some(Data::Histogram(histogram)) => histogram.data_points,
            _ => Vec::new(),
        }
    }
}

async fn receive(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let (status, path) = (inner.status.load(Ordering::SeqCst), parts.uri.path().to_owned());
    if status >= 400 && path == "/v1/traces" {
        inner.refused.fetch_add(1, Ordering::SeqCst);
    }
    if status == 200 {
        inner.seen.lock().unwrap().push((path, parts.headers, body));
    }
    if status == HANG {
        inner.stop.cancelled().await;
    }
    StatusCode::from_u16(status).unwrap_or(StatusCode::OK).into_response()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<Span> {
    spans.iter().filter(|span| span.kind == i32::from(kind)).cloned().collect()
}

#[tokio::test]
async fn a_call_is_a_servers_span_with_a_clients_below_it() {
    let (upstream, collector) = (FakeUpstream::modern().await, Collector::start().await);
    let gateway = Setup::with(&upstream)
        .config(&collector.section("service_name = \"gw\"\nheaders = { x-token = \"s3cret\" }"))
        .start()
        .await;
    let client = gateway.agent().await.legacy().await;
    let params = json!({"name": "gateway_invoke", "arguments": {"server": "up", "tool": "read", "arguments": {"q": "PLANTED"}},
                        "_meta": {"traceparent": PARENT, "tracestate": "a=b", "baggage": "c=d"}});
    upstream.on_call(|_| Say::text("PLANTED TOO"));
    let answer = client.rpc("tools/call", &params).await;
    let (event, session) = (audit_id(&answer), client.session().to_owned());
    let record = gateway.record(&event).await;
    let sent = upstream.calls()[0].json["params"]["_meta"].clone();
    gateway.finish().await;

    let spans = collector.spans();
    let (servers, clients) = (of_kind(&spans, SpanKind::Server), of_kind(&spans, SpanKind::Client));
    let ([server], [below]) = (&servers[..], &clients[..]) else { panic!("{spans:?}") };
    assert_eq!((hex(&server.trace_id).as_str(), hex(&server.parent_span_id).as_str()), (TRACE, "b7ad6b7169203331"));
    assert_eq!((&below.trace_id, &below.parent_span_id), (&server.trace_id, &server.span_id));
    assert_eq!((server.name.as_str(), below.name.as_str()), ("tools/call up:read", "tools/call read"));
    assert!(server.start_time_unix_nano <= below.start_time_unix_nano);
    assert!(below.end_time_unix_nano <= server.end_time_unix_nano);
    let said = attributes(&server.attributes);
    for (name, value) in [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", "up:read"),
        ("mcp.protocol.version", "2025-11-25"),
        ("mcp.session.id", &session),
        ("jsonrpc.request.id", "1"),
        ("toolgate.audit_event_id", &event),
        ("toolgate.decision", "allow"),
        ("toolgate.policy", "default-allow-read"),
        ("toolgate.entrance", "mcp"),
    ] {
        assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!said.contains_key("error.type") && server.status.is_none());
    let said = attributes(&below.attributes);
    for (name, value) in [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.tool.name", "read"),
        ("mcp.protocol.version", "2026-07-28"),
        ("network.transport", "tcp"),
        ("toolgate.server", "up"),
    ] {
        assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}");
    }
    // The backend is told of the attempt, and of what else the client sent.
    assert_eq!(sent["traceparent"], format!("00-{TRACE}-{}-01", hex(&below.span_id)));
    assert_eq!((sent["tracestate"].clone(), sent["baggage"].clone()), (json!("a=b"), json!("c=d")));
    // The record knows its place in the trace.
    assert_eq!((record["trace_id"].clone(), record["span_id"].clone()), (json!(TRACE), json!(hex(&server.span_id))));
    assert_eq!(record["backend"]["attempts"][0]["span_id"], hex(&below.span_id));
    for (_, headers, body) in collector.seen() {
        assert_eq!(headers["x-token"], "s3cret");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert!(!body.windows(7).any(|window| window == b"PLANTED"), "nothing of arguments or results");
    }
    let first = ExportTraceServiceRequest::decode(collector.seen()[0].2.clone()).unwrap();
    let resource = attributes(&first.resource_spans[0].resource.as_ref().unwrap().attributes);
    assert_eq!(resource["service.name"], "gw");
}

/// How many calls a histogram holds, by tool and error.
fn summed(collector: &Collector, name: &str) -> BTreeMap<(String, Option<String>), u64> {
    let point = |point: &HistogramDataPoint| {
        let mut said = attributes(&point.attributes);
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert_eq!((said.remove("mcp.method.name").as_deref(), point.explicit_bounds.len()), (Some("tools/call"), 14));
        ((said.remove("gen_ai.tool.name").unwrap(), said.remove("error.type")), point.count)
    };
    collector.points(name).iter().map(point).collect()
}

#[tokio::test]
async fn retries_refusals_and_faults_are_told() {
    let (upstream, collector) = (FakeUpstream::legacy().await, Collector::start().await);
    let gateway = Setup::with(&upstream).config(&collector.section("")).start().await;
    let client = gateway.agent().await;
    upstream.on_call(|_| Say::Status(503));
    client.invoke("up", "read", "{}").await;
    upstream.on_call(|_| Say::Result(json!({"content": [], "isError": true}).to_string()));
    client.invoke("up", "write", "{}").await;
    client.invoke("up", "destroy", "{}").await;
    client.invoke("up", "made-up-name", "{}").await;
    gateway.finish().await;

    let spans = collector.spans();
    let errors: Vec<(String, Option<String>)> = of_kind(&spans, SpanKind::Server)
        .iter()
        .map(|span| (span.name.clone(), attributes(&span.attributes).remove("error.type")))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        errors,
        [
            ("tools/call up:read".into(), some("backend_down")),
            ("tools/call up:write".into(), some("tool_error")),
            ("tools/call up:destroy".into(), some("approval_required")),
            ("tools/call".into(), some("unknown_tool")),
        ]
    );
    assert!(of_kind(&spans, SpanKind::Server).iter().all(|span| span.status.as_ref().unwrap().code == 2));
    let clients = of_kind(&spans, SpanKind::Client);
    let tried: Vec<_> = clients
        .iter()
        .map(|span| {
            let mut said = attributes(&span.attributes);
            (said.remove("gen_ai.tool.name").unwrap(), said.remove("error.type"), said.remove("toolgate.again"))
        })
        .collect();
    assert_eq!(
        tried,
        [
            ("read".into(), some("http_status"), None),
            ("read".into(), some("http_status"), some("retry")),
            ("write".into(), None, None),
        ]
    );
    assert_eq!(clients[0].trace_id, clients[1].trace_id);
    assert_ne!(clients[0].span_id, clients[1].span_id);
    assert_ne!(clients[0].trace_id, clients[2].trace_id, "each call without a trace begins its own");

    // The metrics tell the same, summed up; names that callers make up are none of their own.
    let points = |name: &str| summed(&collector, name);
    assert_eq!(
        points("mcp.server.operation.duration"),
        BTreeMap::from([
            (("_OTHER".into(), some("unknown_tool")), 1),
            (("up:destroy".into(), some("approval_required")), 1),
            (("up:read".into(), some("backend_down")), 1),
            (("up:write".into(), some("tool_error")), 1),
        ])
    );
    assert_eq!(
        points("mcp.client.operation.duration"),
        BTreeMap::from([(("read".into(), some("http_status")), 2), (("write".into(), None), 1)])
    );
}

#[tokio::test]
async fn a_context_comes_in_the_header_too() {
    let (upstream, collector) = (FakeUpstream::legacy().await, Collector::start().await);
    let gateway = Setup::with(&upstream).config(&collector.section("")).start().await;
    let client = gateway.agent().await;
    let other = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01";
    let plain = json!({"name": "up:read", "arguments": {}});
    client
        .request("tools/call", &plain.to_string())
        .header("traceparent", PARENT)
        .header("baggage", "k=v")
        .send()
        .await;
    let both = json!({"name": "up:write", "arguments": {}, "_meta": {"traceparent": PARENT}});
    client.request("tools/call", &both.to_string()).header("traceparent", other).send().await;
    let rest = json!({"serverId": "up", "toolName": "again", "arguments": {}});
    client.post("/api/v1/mcp/invoke").header("traceparent", PARENT).json(&rest).send().await;
    client.request("tools/call", &plain.to_string()).header("traceparent", "nonsense").send().await;
    assert_eq!(upstream.calls()[0].json["params"]["_meta"]["baggage"], "k=v");
    gateway.finish().await;
    let spans = of_kind(&collector.spans(), SpanKind::Server);
    let parents: Vec<_> = spans.iter().map(|span| hex(&span.parent_span_id)).collect();
    assert_eq!(parents, ["b7ad6b7169203331", "b7ad6b7169203331", "b7ad6b7169203331", ""]);
    let links: Vec<_> =
        spans.iter().map(|span| span.links.iter().map(|link| hex(&link.span_id)).collect::<Vec<_>>()).collect();
    assert_eq!(links, [vec![], vec!["bbbbbbbbbbbbbbbb".to_owned()], vec![], vec![]]);
    assert_eq!(attributes(&spans[2].attributes)["toolgate.entrance"], "rest");
}

#[tokio::test]
async fn what_is_not_sampled_is_counted_and_told_on() {
    let (upstream, collector) = (FakeUpstream::legacy().await, Collector::start().await);
    let gateway = Setup::with(&upstream).config(&collector.section("sampling = 0.0")).start().await;
    let client = gateway.agent().await;
    for _ in 0..5 {
        client.invoke("up", "read", "{}").await;
    }
    let chosen = json!({"name": "up:read", "arguments": {}, "_meta": {"traceparent": PARENT}});
    client.rpc("tools/call", &chosen).await;
    let unchosen = json!({"name": "up:read", "arguments": {}, "_meta": {"traceparent": PARENT.replace("-01", "-00")}});
    client.rpc("tools/call", &unchosen).await;
    let flags: Vec<_> = upstream
        .calls()
        .iter()
        .map(|call| call.json["params"]["_meta"]["traceparent"].as_str().unwrap()[53..].to_owned())
        .collect();
    assert_eq!(flags, ["00", "00", "00", "00", "00", "01", "00"]);
    gateway.finish().await;
    assert_eq!(of_kind(&collector.spans(), SpanKind::Server).len(), 1, "the choice of who began the trace counts");
    let points = collector.points("mcp.server.operation.duration");
    assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 7, "metrics count everything");
}

#[tokio::test]
async fn without_a_receiver_nothing_is_made_up() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    client.invoke("up", "read", "{}").await;
    let params = json!({"name": "up:read", "arguments": {}, "_meta": {"traceparent": PARENT}});
    let traced = client.rpc("tools/call", &params).await;
    assert_eq!(upstream.calls()[0].json["params"]["_meta"], json!(null));
    assert_eq!(upstream.calls()[1].json["params"]["_meta"]["traceparent"], PARENT, "the client's own passes as it is");
    let record = gateway.record(&audit_id(&traced)).await;
    assert_eq!((record["trace_id"].clone(), record.get("span_id")), (json!(TRACE), None));
    gateway.finish().await;
}

#[tokio::test]
async fn a_receiver_that_comes_back_gets_what_waited() {
    let (upstream, collector) = (FakeUpstream::legacy().await, Collector::start().await);
    collector.answer(503);
    let gateway = Setup::with(&upstream).config(&collector.section("")).start().await;
    let client = gateway.agent().await;
    client.invoke("up", "read", "{}").await;
    eventually("it is asked while it is away", async || {
        (collector.inner.refused.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
    collector.answer(200);
    client.invoke("up", "write", "{}").await;
    let spans = eventually("the spans arrive", async || {
        let spans = of_kind(&collector.spans(), SpanKind::Server);
        (spans.len() >= 2).then_some(spans)
    })
    .await;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["tools/call up:read", "tools/call up:write"], "each once, in order");
    gateway.finish().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_neither_calls_nor_the_end() {
    let (upstream, collector) = (FakeUpstream::legacy().await, Collector::start().await);
    collector.answer(HANG);
    let gateway = Setup::with(&upstream).config(&collector.section("")).start().await;
    let client = gateway.agent().await;
    for _ in 0..20 {
        assert_eq!(client.invoke("up", "read", "{}").await.told(), "done");
    }
    // `finish` fails where this takes longer than the grace period and a little.
    Box::pin(soon("the gateway stops", gateway.finish())).await;
    let dead = Setup::with(&upstream).config("[telemetry]\notlp_endpoint = \"http://127.0.0.1:9\"\n").start().await;
    dead.agent().await.invoke("up", "read", "{}").await;
    Box::pin(soon("the gateway stops", dead.finish())).await;
}
