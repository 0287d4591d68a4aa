//! What keeps clients with a key out of OAuth: nothing is found at the well-known places, and registering says why. The
//! one exception is the metadata of the endpoint for tokens, where `[oauth]` is configured.
//!
//! Several clients, turned away for a wrong key, look for an authorization server and show its answer to the user
//! instead of ours. So the answer is ours.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::caller::{Peer, credential, source};
use super::error::plain;
use super::request::Named;
use crate::config::tokens::OAUTH_PATH;
use crate::domain::call::Entrance;
use crate::gateway::Gateway;
use crate::wire::rest::schema;

/// Where the metadata of the endpoint for tokens is (RFC 9728): there alone, so that clients with a key never meet it.
pub(super) const METADATA: &str = "/.well-known/oauth-protected-resource/v1/mcp-oauth";

/// Who issues the tokens that the endpoint for tokens takes; nothing where there is no such endpoint.
pub(super) async fn metadata(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let Some(resource) = gateway.resource() else { return nothing().await };
    Json(json!({
        "resource": format!("{}{OAUTH_PATH}", base(&gateway, &headers)),
        "resource_name": "Toolgate",
        "authorization_servers": resource.authorization_servers,
        "scopes_supported": resource.scopes,
        "bearer_methods_supported": ["header"],
    }))
    .into_response()
}

/// Where the client reaches this gateway. The guard has checked the host.
pub(super) fn base(gateway: &Gateway, headers: &HeaderMap) -> String {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080");
    gateway.state().settings.gateway.base_url(host)
}

/// There is no authorization server.
pub(super) async fn nothing() -> Response {
    plain(StatusCode::NOT_FOUND, "not_found", "this gateway takes API keys; there is no authorization server")
}

#[utoipa::path(
    post, path = "/register", operation_id = "register", tag = "MCP", summary = "No registration: a key is enough",
    description = "Clients that look for an authorization server are told what is wrong with their key.",
    responses((status = 400, description = "Always", body = schema::RegistrationError))
)]
/// Dynamic client registration (RFC 7591, section 3.2.2): always refused, with what is wrong with the key.
pub(super) async fn register(
    State(gateway): State<Arc<Gateway>>,
    Peer(peer): Peer,
    Named(id): Named,
    headers: HeaderMap,
) -> Response {
    let address: Option<IpAddr> = source(&gateway, peer, &headers);
    let why = match gateway.admit(&credential(&headers), Entrance::Rest, address, &id).await {
        Ok(_) => "the key is valid; this gateway needs no registration: connect with the key alone".to_owned(),
        Err(why) => format!("{why}. This gateway takes API keys and no OAuth"),
    };
    (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_client_metadata", "error_description": why})))
        .into_response()
}
