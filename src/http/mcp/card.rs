//! `GET`: a card of the endpoint for people and scripts, a stream for legacy sessions. Where tokens are asked for, the card
//! is too: a client that is turned away learns where they are.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::super::caller::{Peer, source};
use super::super::door::Door;
use super::super::oauth;
use super::super::request::Named;
use super::relayed::resumes;
use super::{Header, SESSION, Wishes, ended, failure, follow, one, stream, two_sessions, unknown_server};
use crate::config::tokens::OAUTH_PATH;
use crate::domain::principal::Principal;
use crate::gateway::{Gateway, Listing, Session, Visit, Visitor, position};
use crate::wire::era::SUPPORTED;
use crate::wire::rpc::RpcError;

/// `GET /v1/mcp`: the card, unless `text/event-stream` is asked for.
pub(in crate::http) async fn card_or_stream(
    State(gateway): State<Arc<Gateway>>,
    wishes: Wishes,
    Peer(peer): Peer,
    Named(request): Named,
    door: Door,
    headers: HeaderMap,
) -> Response {
    let wants_stream = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains("text/event-stream")));
    let session = one(&headers, SESSION.as_str());
    if door == Door::Keys {
        if !wants_stream {
            return card(&gateway, &headers, door);
        }
        // At once: clients open this before anything else and wait for it.
        if matches!(session, Header::Absent) {
            return no_stream();
        }
    }
    let source = source(&gateway, peer, &headers);
    let principal = match door.admit(&gateway, &headers, source, &request).await {
        Ok(principal) => principal,
        Err(refused) => return *refused,
    };
    if !wants_stream {
        return card(&gateway, &headers, door);
    }
    let id = match session {
        Header::One(id) => id,
        Header::Absent => return no_stream(),
        Header::Malformed => return failure(None, &two_sessions()),
    };
    let Visit::Open(session) = gateway.visit(id, &principal) else { return failure(None, &ended()) };
    let (surface, names) = match wishes.read() {
        Ok(wished) => wished,
        Err(error) => return failure(None, &error),
    };
    let visitor = gateway.session_visitor(&principal, id);
    if let Some(response) = resumed(&gateway, &principal, visitor.as_ref(), &headers) {
        return response;
    }
    let of = (visitor, before(session.as_ref(), &headers));
    stream::of_session(&gateway, principal, Listing { surface, names, host: true }, of)
}

/// `GET` of one server: the stream of a legacy session with it.
pub(in crate::http) async fn server_stream(
    State(gateway): State<Arc<Gateway>>,
    Path(server): Path<String>,
    Peer(peer): Peer,
    Named(request): Named,
    door: Door,
    headers: HeaderMap,
) -> Response {
    let source = source(&gateway, peer, &headers);
    let principal = match door.admit(&gateway, &headers, source, &request).await {
        Ok(principal) => principal,
        Err(refused) => return *refused,
    };
    let Some(server) = gateway.server(&principal, &server) else { return failure(None, &unknown_server()) };
    let id = match one(&headers, SESSION.as_str()) {
        Header::One(id) => id,
        Header::Absent => return no_stream(),
        Header::Malformed => return failure(None, &two_sessions()),
    };
    let Visit::Open(session) = gateway.visit(id, &principal) else { return failure(None, &ended()) };
    let visitor = gateway.visitor(&principal, id, session.as_ref(), &server);
    if let Some(response) = resumed(&gateway, &principal, visitor.as_ref(), &headers) {
        return response;
    }
    match visitor {
        Some(visitor) => follow::of_visitor(&gateway, principal, &server, &visitor, before(session.as_ref(), &headers)),
        None => failure(None, &stream::too_many()),
    }
}

/// What is known of the stream before a new one.
fn before(session: Option<&Session>, headers: &HeaderMap) -> stream::Before {
    let missed = !matches!(one(headers, "last-event-id"), Header::Absent);
    stream::Before { resumes: resumes(session), missed }
}

/// The rest of the stream that `Last-Event-ID` names, where it is one of this session's.
fn resumed(
    gateway: &Arc<Gateway>,
    principal: &Principal,
    visitor: Option<&Arc<Visitor>>,
    headers: &HeaderMap,
) -> Option<Response> {
    let Header::One(last) = one(headers, "last-event-id") else { return None };
    let (number, at) = position(last)?;
    let (visitor, tape) = (visitor?, visitor?.taped(number).filter(|tape| tape.goes_on(at))?);
    Some(stream::taken_up(Arc::clone(gateway), principal.clone(), visitor, &tape, at))
}

fn no_stream() -> Response {
    let mut response = failure(None, &RpcError::new(405, -32600, "a stream needs a session: `initialize` first"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, DELETE"));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

fn card(gateway: &Gateway, headers: &HeaderMap, door: Door) -> Response {
    let base = oauth::base(gateway, headers);
    let (path, auth) = match door {
        Door::Keys => {
            ("/v1/mcp", json!({"type": "api_key", "headers": ["X-API-Key: KEY", "Authorization: Bearer KEY"]}))
        }
        Door::Tokens => {
            (OAUTH_PATH, json!({"type": "oauth2", "resource_metadata": format!("{base}{}", oauth::METADATA)}))
        }
    };
    let card = json!({
        "name": "toolgate",
        "title": "Toolgate",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "One governed MCP endpoint in front of every tool",
        "transport": "streamable-http",
        "url": format!("{base}{path}"),
        "protocolVersions": SUPPORTED,
        "auth": auth,
        "tools_url": format!("{base}{path}"),
        "key_profiles_url": format!("{base}/v1/mcp/key-profiles"),
    });
    Json(card).into_response()
}
