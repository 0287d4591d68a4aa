//! `GET`: a card of the endpoint for people and scripts, a stream for legacy sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::super::caller::{Peer, credential, source};
use super::super::request::Named;
use super::{Header, SESSION, Wishes, ended, failure, follow, one, stream, two_sessions, unauthorized, unknown_server};
use crate::domain::call::Entrance;
use crate::gateway::{Gateway, Listing, Visit, position};
use crate::wire::era::SUPPORTED;
use crate::wire::rpc::RpcError;

/// `GET /v1/mcp`: the card, unless `text/event-stream` is asked for.
pub(in crate::http) async fn card_or_stream(
    State(gateway): State<Arc<Gateway>>,
    wishes: Wishes,
    Peer(peer): Peer,
    Named(request): Named,
    headers: HeaderMap,
) -> Response {
    let wants_stream = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains("text/event-stream")));
    if !wants_stream {
        return card(&gateway, &headers);
    }
    let id = match one(&headers, SESSION.as_str()) {
        Header::One(id) => id,
        // At once: clients open this before anything else and wait for it.
        Header::Absent => return no_stream(),
        Header::Malformed => return failure(None, &two_sessions()),
    };
    let source = source(&gateway, peer, &headers);
    let principal = match gateway.admit(&credential(&headers), Entrance::Mcp, source, &request).await {
        Ok(principal) => principal,
        Err(why) => return unauthorized(&why),
    };
    match gateway.visit(id, &principal) {
        Visit::Gone => failure(None, &ended()),
        Visit::Open(_) => match wishes.read() {
            Ok((surface, names)) => stream::of_session(gateway, principal, Listing { surface, names, host: true }),
            Err(error) => failure(None, &error),
        },
    }
}

/// `GET` of one server: the stream of a legacy session with it.
pub(in crate::http) async fn server_stream(
    State(gateway): State<Arc<Gateway>>,
    Path(server): Path<String>,
    Peer(peer): Peer,
    Named(request): Named,
    headers: HeaderMap,
) -> Response {
    let source = source(&gateway, peer, &headers);
    let principal = match gateway.admit(&credential(&headers), Entrance::Mcp, source, &request).await {
        Ok(principal) => principal,
        Err(why) => return unauthorized(&why),
    };
    let Some(server) = gateway.server(&principal, &server) else { return failure(None, &unknown_server()) };
    let id = match one(&headers, SESSION.as_str()) {
        Header::One(id) => id,
        Header::Absent => return no_stream(),
        Header::Malformed => return failure(None, &two_sessions()),
    };
    let Visit::Open(session) = gateway.visit(id, &principal) else { return failure(None, &ended()) };
    let visitor = gateway.visitor(&principal, id, session.as_ref(), &server);
    if let (Header::One(last), Some(visitor)) = (one(&headers, "last-event-id"), &visitor)
        && let Some((number, at)) = position(last)
        && let Some(tape) = visitor.taped(number)
    {
        return stream::response(stream::taped(tape, Some(at)));
    }
    match visitor {
        Some(visitor) => follow::of_visitor(gateway, principal, &server, visitor),
        None => failure(None, &stream::too_many()),
    }
}

fn no_stream() -> Response {
    let mut response = failure(None, &RpcError::new(405, -32600, "a stream needs a session: `initialize` first"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, DELETE"));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

fn card(gateway: &Gateway, headers: &HeaderMap) -> Response {
    let state = gateway.state();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080");
    let base = state.settings.gateway.base_url(host);
    let card = json!({
        "name": "toolgate",
        "title": "Toolgate",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "One governed MCP endpoint in front of every tool",
        "transport": "streamable-http",
        "url": format!("{base}/v1/mcp"),
        "protocolVersions": SUPPORTED,
        "auth": {"type": "api_key", "headers": ["X-API-Key: KEY", "Authorization: Bearer KEY"]},
        "tools_url": format!("{base}/v1/mcp"),
        "key_profiles_url": format!("{base}/v1/mcp/key-profiles"),
    });
    Json(card).into_response()
}
