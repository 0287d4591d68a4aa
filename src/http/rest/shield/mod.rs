//! The doors under `/v1`: tokens, tools one by one, policies, approvals, accounts of users, the company brain, evaluations,
//! the audit log and what it comes to. Every answer is `data` or `error` with `meta`; a call's has its `governance` besides.

mod approval_page;
pub(super) mod approvals;
pub(super) mod audit;
pub(super) mod auth;
pub(super) mod brain;
pub(super) mod callback;
pub(super) mod evals;
pub(super) mod insight;
mod markup;
pub(super) mod mcps;
pub(super) mod policies;
pub(super) mod providers;
mod query;

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

use super::super::body;
use super::super::error::{envelope, plain};
use super::super::request::{with_meta, with_more_meta};
use crate::domain::outcome::Refusal;
use crate::gateway::Gateway;
use crate::gateway::control::Failed;

/// The doors of this module.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Arc<Gateway>>)> {
    vec![
        ("/v1/auth/token", post(auth::issue).delete(auth::revoke)),
        ("/v1/auth/refresh", post(auth::refresh)),
        ("/v1/mcps", get(mcps::list)),
        ("/v1/mcps/{id}", get(mcps::one)),
        ("/v1/mcps/{id}/invoke", post(mcps::invoke)),
        ("/v1/policies", get(policies::list).post(policies::create)),
        ("/v1/policies/{id}", get(policies::one).put(policies::replace).merge(delete(policies::remove))),
        ("/v1/policies/simulate", post(policies::simulate)),
        ("/v1/brain/entities", post(brain::import)),
        ("/v1/brain/types", get(brain::types)),
        ("/v1/brain/query", post(brain::query)),
        ("/v1/approvals", get(approvals::list)),
        ("/v1/approvals/{id}", get(approvals::one).post(approvals::reveal)),
        ("/v1/approvals/{id}/approve", post(approvals::approve)),
        ("/v1/approvals/{id}/deny", post(approvals::deny)),
        ("/v1/providers", get(providers::list)),
        ("/v1/providers/{slug}/connect", post(providers::connect)),
        ("/v1/providers/{slug}/callback", get(callback::callback).post(callback::connect)),
        ("/v1/providers/{id}", delete(providers::disconnect)),
        ("/v1/providers/{id}/refresh", post(providers::refresh)),
        ("/v1/evals", get(evals::list).post(evals::create)),
        ("/v1/evals/{id}", get(evals::one).delete(evals::remove)),
        ("/v1/evals/{id}/quality", get(evals::quality)),
        ("/v1/evals/{id}/runs", get(evals::runs).post(evals::run)),
        ("/v1/evals/{id}/runs/{run}", get(evals::one_run)),
        ("/v1/evals/{id}/runs/{run}/publish", post(evals::publish)),
        ("/v1/audit/events", get(audit::list)),
        ("/v1/audit/events/{id}", get(audit::one)),
        ("/v1/audit/export", get(audit::export)),
        ("/v1/executions", get(insight::list)),
        ("/v1/executions/{id}", get(insight::one)),
        ("/v1/observability/summary", get(insight::summary)),
    ]
}

/// An answer that says no.
#[derive(Debug)]
struct No(Box<Response>);

impl IntoResponse for No {
    fn into_response(self) -> Response {
        *self.0
    }
}

impl From<Box<Response>> for No {
    fn from(response: Box<Response>) -> Self {
        Self(response)
    }
}

impl From<Failed> for No {
    fn from(failed: Failed) -> Self {
        plain(StatusCode::SERVICE_UNAVAILABLE, "internal_error", &failed.to_string()).into()
    }
}

impl From<Response> for No {
    fn from(response: Response) -> Self {
        Self(response.into())
    }
}

/// 400 with a sentence.
fn invalid(message: &str) -> No {
    plain(StatusCode::BAD_REQUEST, "invalid_request", message).into()
}

/// 404 with a sentence.
fn missing(message: &str) -> No {
    plain(StatusCode::NOT_FOUND, "not_found", message).into()
}

/// A name that stands for no tool, or for several.
fn unresolved(refusal: &Refusal) -> No {
    match refusal {
        Refusal::Ambiguous { readings, .. } => {
            let details = json!({"readings": readings});
            envelope(StatusCode::BAD_REQUEST, "invalid_request", &refusal.to_string(), &details).into()
        }
        Refusal::UnknownTool { nearest, .. } => {
            let details = json!({"nearest": nearest});
            envelope(StatusCode::NOT_FOUND, "not_found", &refusal.to_string(), &details).into()
        }
        _ => missing(&refusal.to_string()),
    }
}

/// An answer with `data`.
fn data(status: StatusCode, data: &Value) -> Response {
    with_meta(status, &json!({"data": data}))
}

/// An answer whose `data` is this text.
fn data_text(text: &str) -> Response {
    with_more_meta(StatusCode::OK, format!("{{\"data\":{text}}}"), Map::new())
}

/// A page of a list. `more` is where the next begins, if there is one; `extra` is what `meta` says besides.
fn page<T: AsRef<str>>(items: &[T], limit: usize, next: Option<&str>, extra: Map<String, Value>) -> Response {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    let mut meta = extra;
    meta.insert("limit".into(), json!(limit));
    meta.insert("next_cursor".into(), json!(next));
    with_more_meta(StatusCode::OK, format!("{{\"data\":[{}]}}", items.join(",")), meta)
}

/// Whether the headers announce no body at all: then it needs no type either.
fn is_empty(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    length.map_or_else(|| !headers.contains_key(header::TRANSFER_ENCODING), |length| length == "0")
}

/// The body of at most `limit` bytes, where there is one.
async fn optional_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, No> {
    if is_empty(headers) {
        return Ok(Bytes::new());
    }
    bounded_body(headers, body, limit).await
}

/// The body, as long as any may be.
async fn whole_body(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<Bytes, No> {
    bounded_body(headers, body, gateway.state().settings.gateway.max_body).await
}

async fn bounded_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, No> {
    body::read(headers, body, limit).await.map_err(|(status, why)| plain(status, "invalid_request", why).into())
}
