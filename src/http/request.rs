//! One request: its id is the same in the answer, in the log, and in the record of whatever it did.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

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

/// An answer that still wants its `meta`.
#[derive(Debug, Clone)]
struct Unfinished {
    /// The text of an object.
    object: String,
    /// What `meta` says besides.
    meta: Map<String, Value>,
}

/// A JSON answer of REST: an object, to which [`finish`] adds `meta`.
pub(super) fn with_meta(status: StatusCode, body: &Value) -> Response {
    with_more_meta(status, body.to_string(), Map::new())
}

/// The same for the text of an object, with what `meta` says besides.
pub(super) fn with_more_meta(status: StatusCode, object: String, meta: Map<String, Value>) -> Response {
    let mut response = status.into_response();
    response.extensions_mut().insert(Unfinished { object, meta });
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
    let Some(Unfinished { mut object, mut meta }) = response.extensions_mut().remove() else { return response };
    meta.insert("request_id".into(), json!(id));
    meta.insert("timestamp".into(), json!(now().rfc3339()));
    if object.ends_with('}') {
        object.pop();
        object.push_str(if object == "{" { "" } else { "," });
        object.push_str(&format!("\"meta\":{}}}", Value::Object(meta)));
    }
    *response.body_mut() = Body::from(object);
    // The router has put down that there was no body.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
