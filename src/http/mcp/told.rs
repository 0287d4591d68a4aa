//! Answers and events as they are written.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{failure, json};
use crate::domain::id::EventId;
use crate::domain::outcome::Refusal;
use crate::wire::envelope::Id;
use crate::wire::mcp::Reply;
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

/// One server-sent event. JSON has no raw line breaks in strings; breaks between tokens would end the line.
pub(super) fn event(text: &str) -> Bytes {
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.split(['\n', '\r']) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
    Bytes::from(out)
}
