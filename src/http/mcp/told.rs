//! Answers and events as they are written.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::relayed::plain;
use super::{Asked, failure, json};
use crate::domain::call::{Entrance, ToolRef};
use crate::domain::id::EventId;
use crate::domain::outcome::{Carried, Outcome, Refusal};
use crate::domain::tool::Kind;
use crate::gateway::{Gateway, Uncalled};
use crate::wire::envelope::Id;
use crate::wire::mcp::{Reply, tell_as};
use crate::wire::rpc::{self, RpcError};

/// Names the audit record of a call on every answer.
pub(super) const AUDIT_ID: HeaderName = HeaderName::from_static("toolgate-audit-id");

/// A request over its plan's limit: 429 for a script.
pub(super) fn over_limit(id: &Id, refusal: &Refusal) -> Response {
    let Refusal::LimitReached { retry_after, .. } = refusal else {
        return failure(Some(id), &RpcError::new(503, -32603, refusal.to_string()));
    };
    let error = RpcError::new(429, 429, refusal.to_string()).with(serde_json::json!({"retry_after": retry_after}));
    let mut response = failure(Some(id), &error);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
    response
}

/// How calls of this client are named for cancellation; without a session nobody can tell whose they are.
pub(super) fn session_name(asked: &Asked) -> Option<String> {
    asked.session.as_ref().map(|session| format!("{}\n{session}", asked.principal.key))
}

/// The text of an answer.
pub(super) fn text(id: &Id, reply: &Reply) -> String {
    match &reply.body {
        Ok(result) => rpc::result(id, result),
        Err(error) => rpc::error(Some(id), error),
    }
}

/// An answer that is no stream.
pub(super) fn answered(reply: &Reply, text: impl Into<Bytes>) -> Response {
    let mut response = json(StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK), text);
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Names the record of a call.
pub(super) fn name(response: &mut Response, event: &EventId) {
    if let Ok(id) = HeaderValue::from_str(event.as_str()) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
}

/// What kind of thing a method that calls asks for: but for a tool's no result can say no.
pub(super) fn kind_of(method: &str) -> Kind {
    match method {
        "tools/call" => Kind::Tool,
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Kind::Resource,
        _ => Kind::Prompt,
    }
}

/// Charges and records a request that asks for a call and comes to none.
async fn end_uncalled(gateway: &Gateway, asked: &Asked, id: &Id, tool: Option<ToolRef>, outcome: Outcome) -> Carried {
    let uncalled = Uncalled {
        principal: &asked.principal,
        request: &asked.request,
        entrance: Entrance::Mcp,
        provenance: asked.provenance(gateway, id),
        tool,
        metered: !asked.charged,
    };
    // What is rare has its room apart, so that each call need not have it.
    Box::pin(gateway.end_uncalled(uncalled, outcome)).await
}

/// Refuses such a request, as calls of its kind are refused.
pub(super) async fn uncalled(
    gateway: &Gateway,
    asked: &Asked,
    id: &Id,
    kind: Kind,
    tool: Option<ToolRef>,
    refusal: Refusal,
) -> Response {
    let carried = end_uncalled(gateway, asked, id, tool, Outcome::Refused(refusal)).await;
    let reply = tell_as(&carried, kind, asked.era, asked.host);
    let mut response = answered(&reply, text(id, &reply));
    name(&mut response, &carried.governance.audit_event_id);
    response
}

/// The same, told as `reply`, unless the charge or the record stands in the way.
pub(super) async fn uncalled_as(
    gateway: &Gateway,
    asked: &Asked,
    (id, method): (&Id, &str),
    tool: Option<ToolRef>,
    outcome: Outcome,
    reply: Reply,
) -> Response {
    let carried = end_uncalled(gateway, asked, id, tool, outcome).await;
    let reply = match &carried.outcome {
        Outcome::Refused(Refusal::LimitReached { .. } | Refusal::Unrecorded(_)) => {
            plain(tell_as(&carried, kind_of(method), asked.era, asked.host))
        }
        _ => reply,
    };
    let mut response = answered(&reply, text(id, &reply));
    name(&mut response, &carried.governance.audit_event_id);
    response
}

/// One server-sent event. JSON has no raw line breaks in strings; breaks between tokens would end the line.
pub(super) fn event(text: &str) -> Bytes {
    labelled("", text)
}

/// One that begins with its id, as a tape gives it.
pub(super) fn labelled(label: &str, text: &str) -> Bytes {
    let mut out = String::with_capacity(label.len() + text.len() + 8);
    out.push_str(label);
    for line in text.split(['\n', '\r']) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
    Bytes::from(out)
}
