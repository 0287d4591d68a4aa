//! What keeps clients with a key out of OAuth: nothing is found at the well-known places, and registering says why.
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
use crate::domain::call::Entrance;
use crate::gateway::Gateway;
use crate::wire::rest::schema;

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
