//! Refusals over HTTP that are no call's: one envelope for all of them.

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::request::with_meta;
use crate::gateway::NotAdmitted;

/// `{"error":{"code","message","details"},"meta":{"request_id","timestamp"}}`.
pub(super) fn envelope(status: StatusCode, code: &str, message: &str, details: &Value) -> Response {
    with_meta(status, &json!({"error": {"code": code, "message": message, "details": details}}))
}

/// An error without details.
pub(super) fn plain(status: StatusCode, code: &str, message: &str) -> Response {
    envelope(status, code, message, &json!({}))
}

/// The status of a credential that was not admitted, and the headers that go with it: 401 with a challenge that names
/// no OAuth server, or 429 for a source that tried too often.
pub(super) fn challenge(why: &NotAdmitted, response: &mut Response) {
    if let NotAdmitted::Throttled { retry_after } = why {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
        return;
    }
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let challenge = match why {
        NotAdmitted::Missing => "Bearer realm=\"mcp\"",
        _ => "Bearer realm=\"mcp\", error=\"invalid_token\"",
    };
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
}

/// What REST calls it when a credential was not admitted.
pub(super) const fn code(why: &NotAdmitted) -> &'static str {
    if matches!(why, NotAdmitted::Throttled { .. }) { "rate_limited" } else { "unauthorized" }
}

/// The answer to a REST request whose credential was not admitted.
pub(super) fn not_admitted(why: &NotAdmitted) -> Response {
    let mut response = plain(StatusCode::UNAUTHORIZED, code(why), &why.to_string());
    challenge(why, &mut response);
    response
}

pub(super) async fn no_such_path(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(200).collect();
    plain(StatusCode::NOT_FOUND, "not_found", &format!("there is nothing at `{path}`"))
}

pub(super) async fn no_such_method(request: Request) -> Response {
    plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &format!("`{}` is not possible here", request.method()))
}
