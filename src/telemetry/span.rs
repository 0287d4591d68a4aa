//! Spans of a call that has ended, by OpenTelemetry's conventions for MCP: a server's for what the client asked, and
//! below it a client's for each attempt at the backend.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::Ended;
use crate::domain::clock::Clock;
use crate::domain::tool::Kind;
use crate::domain::trace::{Attempt, Context};
use crate::wire::era::MODERN;

/// Says in a span's flags that it is known whether its parent is elsewhere, and that it is.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// The two clocks at one moment, to tell the time of any other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    nanos: u64,
    ticks: u64,
}

impl Anchor {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        let nanos = u64::try_from(clock.now().0).unwrap_or(0).saturating_mul(1_000_000);
        Self { nanos, ticks: clock.ticks() }
    }

    /// Nanoseconds since 1970.
    fn at(&self, ticks: u64) -> u64 {
        self.nanos.saturating_sub(self.ticks.saturating_sub(ticks).saturating_mul(1000))
    }
}

/// The request's method.
pub(super) const fn method(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool | Kind::Entity => "tools/call",
        Kind::Prompt => "prompts/get",
        Kind::Resource => "resources/read",
    }
}

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

/// What a tool or a prompt is called; the names of resources are many, and stay out.
pub(super) fn target(kind: Kind, name: &str) -> Option<(&'static str, String)> {
    match kind {
        Kind::Tool => Some(("gen_ai.tool.name", name.to_owned())),
        Kind::Prompt => Some(("gen_ai.prompt.name", name.to_owned())),
        Kind::Resource | Kind::Entity => None,
    }
}

/// What every span of a call says.
fn common(kind: Kind, name: Option<&str>) -> (String, Vec<KeyValue>) {
    let method = method(kind);
    let mut attributes = vec![text("mcp.method.name", method)];
    if kind == Kind::Tool {
        attributes.push(text("gen_ai.operation.name", "execute_tool"));
    }
    match name.and_then(|name| target(kind, name)) {
        Some((key, name)) => {
            let whole = format!("{method} {name}");
            attributes.push(text(key, name));
            (whole, attributes)
        }
        None => (method.to_owned(), attributes),
    }
}

/// The span of the call, and those of its attempts.
pub(super) fn of(call: &Ended, anchor: &Anchor) -> Vec<Span> {
    let mut spans = Vec::with_capacity(1 + call.noted.attempts.len());
    spans.push(server(call, anchor));
    spans.extend(call.noted.attempts.iter().filter_map(|attempt| client(call, attempt, anchor)));
    spans
}

fn server(call: &Ended, anchor: &Anchor) -> Span {
    let Ended { context, parent, provenance, .. } = call;
    let (name, mut attributes) = common(call.kind, call.tool.as_ref().map(|tool| &*tool.label));
    let also = [
        ("mcp.session.id", provenance.session.clone()),
        ("mcp.protocol.version", provenance.protocol.clone()),
        ("jsonrpc.request.id", provenance.rpc_id.clone()),
        ("error.type", call.error.map(str::to_owned)),
        ("toolgate.parent_event_id", provenance.parent.as_ref().map(ToString::to_string)),
    ];
    attributes.extend(also.into_iter().filter_map(|(key, value)| Some(text(key, value?))));
    attributes.extend([
        text("toolgate.audit_event_id", call.event.as_str()),
        text("toolgate.entrance", call.entrance.as_str()),
        text("toolgate.decision", call.decision),
        text("toolgate.policy", &*call.policy),
    ]);
    let remote = parent.is_some() && provenance.within.is_none();
    let link = provenance.beside.map(|beside| Link {
        trace_id: beside.trace.to_vec(),
        span_id: beside.span.to_vec(),
        flags: flags(&beside, true),
        ..Link::default()
    });
    Span {
        links: link.into_iter().collect(),
        flags: flags(context, remote),
        ..span(
            name,
            SpanKind::Server,
            *context,
            *parent,
            (anchor.at(call.began), anchor.at(call.ended)),
            attributes,
            call.error.is_some(),
        )
    }
}

/// One attempt; what never ended ended with the call.
fn client(call: &Ended, attempt: &Attempt, anchor: &Anchor) -> Option<Span> {
    let (tool, context) = (call.tool.as_ref()?, attempt.span?);
    let (name, mut attributes) = common(call.kind, Some(&tool.id.tool));
    let error = (attempt.ending != "ok").then_some(attempt.ending);
    let (transport, protocol) = match call.noted.transport {
        Some("stdio") => (Some("pipe"), None),
        Some("ws") => (Some("tcp"), Some("websocket")),
        Some(_) => (Some("tcp"), Some("http")),
        None => (None, None),
    };
    let also = [
        ("error.type", error),
        ("network.transport", transport),
        ("network.protocol.name", protocol),
        ("mcp.protocol.version", call.noted.era.filter(|era| *era == "modern").map(|_| MODERN)),
        ("toolgate.again", attempt.again),
        ("toolgate.server", Some(tool.id.server.as_str())),
    ];
    attributes.extend(also.into_iter().filter_map(|(key, value)| Some(text(key, value?))));
    let times = (anchor.at(attempt.began), anchor.at(attempt.ended.unwrap_or(call.ended)));
    Some(span(name, SpanKind::Client, context, Some(call.context), times, attributes, error.is_some()))
}

fn span(
    name: String,
    kind: SpanKind,
    context: Context,
    parent: Option<Context>,
    (start, end): (u64, u64),
    attributes: Vec<KeyValue>,
    failed: bool,
) -> Span {
    let status = failed.then(|| Status { code: StatusCode::Error.into(), message: String::new() });
    Span {
        trace_id: context.trace.to_vec(),
        span_id: context.span.to_vec(),
        parent_span_id: parent.map(|parent| parent.span.to_vec()).unwrap_or_default(),
        flags: flags(&context, false),
        name,
        kind: kind.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end.max(start),
        attributes,
        status,
        ..Span::default()
    }
}

fn flags(context: &Context, remote: bool) -> u32 {
    u32::from(context.sampled) | KNOWN | if remote { REMOTE } else { 0 }
}
