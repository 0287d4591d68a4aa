//! One request: its id is the same in the answer, in the log, and in the record of whatever it did.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::domain::clock::Moment;
use crate::domain::id::RequestId;

/// The id of the request that is being answered.
#[derive(Debug, Clone)]
pub(super) struct Named(pub(super) RequestId);

impl<S: Sync> FromRequestParts<S> for Named {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // One that came by no door of ours is named here.
        Ok(parts.extensions.get_or_insert_with(|| Self(RequestId::fresh())).clone())
    }
}

/// The members of an answer that still wants its `meta`.
#[derive(Debug, Clone)]
struct Unfinished(Value);

/// A JSON answer of REST: an object, to which [`finish`] adds `meta`.
pub(super) fn with_meta(status: StatusCode, body: Value) -> Response {
    let mut response = status.into_response();
    response.extensions_mut().insert(Unfinished(body));
    response
}

/// Gives a request its name, and the span in which all that it does is logged.
pub(super) fn begin(request: &mut Request) -> (RequestId, tracing::Span) {
    let id = RequestId::fresh();
    request.extensions_mut().insert(Named(id.clone()));
    let path = request.uri().path();
    let span = tracing::debug_span!("request", request_id = %id, method = %request.method(), path);
    (id, span)
}

/// Logs the answer, and adds `meta` where it is wanted: `request_id` and `timestamp`.
pub(super) fn finish(mut response: Response, id: &RequestId, now: impl FnOnce() -> Moment) -> Response {
    tracing::debug!(status = response.status().as_u16(), "answered");
    let Some(Unfinished(mut body)) = response.extensions_mut().remove() else { return response };
    if let Some(members) = body.as_object_mut() {
        members.insert("meta".into(), json!({"request_id": id, "timestamp": now().rfc3339()}));
    }
    *response.body_mut() = Body::from(body.to_string());
    // The router has put down that there was no body.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
