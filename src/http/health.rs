//! Is it alive, is it ready, how is it doing: open on this machine, with a key elsewhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, header};
use serde_json::json;

use super::caller::{Caller, Peer, Stranger};
use crate::gateway::Gateway;
use crate::wire::rest::schema;

/// What a proxy puts on a request that it passes on.
const FORWARDED: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Somebody on this machine, or somebody with a key.
#[derive(Debug)]
pub(super) struct Near;

impl FromRequestParts<Arc<Gateway>> for Near {
    type Rejection = Stranger;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Stranger> {
        let local =
            parts.extensions.get::<Peer>().is_some_and(|peer| peer.0.is_none_or(|peer| peer.ip().is_loopback()));
        // Behind a proxy on this machine everybody would be local.
        let forwarded = FORWARDED.iter().any(|name| parts.headers.contains_key(*name));
        let settings = gateway.state();
        let behind = &settings.settings.gateway;
        let proxied = behind.public_url.is_some() || !behind.trusted_proxies.is_empty();
        if local && !forwarded && !proxied {
            return Ok(Self);
        }
        Caller::from_request_parts(parts, gateway).await.map(|_| Self)
    }
}

#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "Operation", summary = "Whether it runs",
    responses((status = 200, description = "It does", body = schema::Alive))
)]
pub(super) async fn alive(_: Near) -> Response {
    Json(json!({"status": "ok"})).into_response()
}

#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "Operation", summary = "Whether calls can be served",
    responses(
        (status = 200, description = "Every configured server has been listed or has failed once", body = schema::Ready),
        (status = 503, description = "Not yet, or not any more", body = schema::Ready),
    )
)]
/// 200 once every configured backend has been listed or has failed once, and while calls can be recorded.
pub(super) async fn ready(_: Near, State(gateway): State<Arc<Gateway>>) -> Response {
    let reasons = gateway.unready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": reasons.is_empty(), "reasons": reasons}))).into_response()
}

#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "Operation", summary = "Metrics for Prometheus",
    responses((status = 200, description = "The text format 0.0.4", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(_: Near, State(gateway): State<Arc<Gateway>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], gateway.metrics()).into_response()
}
