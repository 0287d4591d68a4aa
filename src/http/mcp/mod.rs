//! The MCP endpoint: both eras and bare requests on one URL (Streamable HTTP).

mod approval;
mod call;
mod card;
mod dispatch;
mod filter;
mod follow;
mod pages;
mod relayed;
mod server;
mod stream;
mod subscribe;
mod tasks;
mod told;
mod wanted;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::body;
use super::caller::{Peer, source};
use super::door::Door;
use super::error::challenge;
use super::request::Named;
use super::trace;
use crate::config::settings::ToolNames;
use crate::domain::id::RequestId;
use crate::domain::principal::{Principal, Surface};
use crate::domain::secret::Secret;
use crate::domain::trace::{Context, Provenance};
use crate::gateway::{Gateway, Listing, NotAdmitted, Session, TokenFault, Visit};
use crate::wire::envelope::{BadMessage, Id, Message, decode};
use crate::wire::era::{self, Era, Header, Mirrored};
use crate::wire::meta::Meta;
use crate::wire::rpc::{self, RpcError};

pub(super) use card::{card_or_stream, server_stream};

/// The header of a legacy session.
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// `?surface=` and `?names=`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wishes {
    surface: Option<String>,
    names: Option<String>,
}

/// What is known of a request once its envelope has been read. Passed on in a box: each future on the way would hold it twice.
#[derive(Debug)]
pub(super) struct Asked {
    principal: Principal,
    request: RequestId,
    era: Era,
    /// Opened with `initialize`, carries a session, or is modern: its answers go to a model.
    host: bool,
    session: Option<String>,
    /// What the session's id says, where it could be opened.
    opened: Option<Session>,
    surface: Option<Surface>,
    names: Option<ToolNames>,
    source: Option<std::net::IpAddr>,
    /// Whether the client takes `text/event-stream`.
    streams: bool,
    /// Whether it would rather have that than JSON: it names it first.
    prefers_stream: bool,
    meta: Meta,
    /// The caller's token for the server that it calls.
    jwt: Option<Secret>,
    /// The trace that the headers name, where `_meta` names another.
    beside: Option<Context>,
    /// Whether it was charged to the plan already, before it was known what is called.
    charged: bool,
    /// What this client can do about a call that a person has to approve.
    approval: Option<Box<approval::Approval>>,
}

impl Asked {
    /// The list that this client is shown.
    fn listing(&self) -> Listing {
        Listing { surface: self.surface, names: self.names, host: self.host }
    }

    /// Where a call of this client comes from; what only spans tell, where there are any.
    fn provenance(&self, gateway: &Gateway, id: &Id) -> Provenance {
        let plain = Provenance { era: self.host.then_some(self.era.as_str()), ..Provenance::default() };
        if !gateway.makes_spans() {
            return plain;
        }
        let protocol = match self.era {
            Era::Modern => Some(era::MODERN.to_owned()),
            Era::Legacy => self.opened.as_ref().map(|session| session.version.clone()),
        };
        let (session, rpc_id) = (self.session.clone(), Some(id.text().to_owned()));
        Provenance { session, protocol, rpc_id, beside: self.beside, ..plain }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Wishes {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let query = Query::<Self>::from_request_parts(parts, state).await;
        let why = "the query string cannot be read";
        query.map(|Query(wishes)| wishes).map_err(|_| failure(None, &RpcError::new(400, -32602, why)))
    }
}

impl Wishes {
    /// What the query string asks for.
    ///
    /// # Errors
    /// Where it asks for something that is not there.
    fn read(&self) -> Result<(Option<Surface>, Option<ToolNames>), RpcError> {
        let surface = wish(self.surface.as_deref(), "surface", Surface::parse)?;
        Ok((surface, wish(self.names.as_deref(), "names", ToolNames::parse)?))
    }
}

/// `POST`: one message.
pub(super) async fn post(
    State(gateway): State<Arc<Gateway>>,
    wishes: Wishes,
    Peer(peer): Peer,
    Named(id): Named,
    door: Door,
    request: Request,
) -> Response {
    take(gateway, None, &wishes, peer, (id, door), request).await
}

/// `POST` to one server.
pub(super) async fn post_to_server(
    State(gateway): State<Arc<Gateway>>,
    Path(server): Path<String>,
    wishes: Wishes,
    Peer(peer): Peer,
    Named(id): Named,
    door: Door,
    request: Request,
) -> Response {
    take(gateway, Some(server), &wishes, peer, (id, door), request).await
}

async fn take(
    gateway: Arc<Gateway>,
    server: Option<String>,
    wishes: &Wishes,
    peer: Option<std::net::SocketAddr>,
    (request, door): (RequestId, Door),
    asked: Request,
) -> Response {
    let (Parts { headers, .. }, body) = asked.into_parts();
    let headers = &headers;
    let source = source(&gateway, peer, headers);
    let principal = match door.admit(&gateway, headers, source, &request).await {
        Ok(principal) => principal,
        Err(refused) => return *refused,
    };
    let server = match server.map(|name| gateway.server(&principal, &name)) {
        None => None,
        Some(Some(server)) => Some(server),
        Some(None) => return failure(None, &unknown_server()),
    };
    let limit = gateway.state().settings.gateway.max_body;
    let bytes = match body::read(headers, body, limit).await {
        Ok(bytes) => bytes,
        Err((status, why)) => return failure(None, &RpcError::new(status.as_u16(), -32600, why)),
    };
    let message = match decode(&bytes) {
        Ok(message) => message,
        Err(BadMessage::Parse(why)) => {
            return failure(None, &RpcError::new(400, -32700, format!("parse error: {why}")));
        }
        Err(BadMessage::Invalid { id, reason }) => {
            return failure(id.as_ref(), &RpcError::new(400, -32600, format!("invalid request: {reason}")));
        }
    };
    match (read(&gateway, (principal, request), &message, headers, wishes, source), server) {
        (Ok(asked), Some(server)) => server::answer(gateway, asked, server, message, headers).await,
        (Ok(asked), None) => dispatch::answer(gateway, asked, message, headers).await,
        (Err(refused), _) => *refused,
    }
}

/// A server that is not there, or that the key's profile does not open.
fn unknown_server() -> RpcError {
    RpcError::new(404, -32600, "there is no such server here")
}

/// Decides how the message is to be treated: its era, its session, what was wished for.
fn read(
    gateway: &Gateway,
    (principal, request): (Principal, RequestId),
    message: &Message,
    headers: &HeaderMap,
    wishes: &Wishes,
    source: Option<std::net::IpAddr>,
) -> Result<Box<Asked>, Box<Response>> {
    let (id, method, params) = match message {
        Message::Request { id, method, params } => (Some(id), Some(method.as_str()), params.as_ref()),
        Message::Notification { method, params } => (None, Some(method.as_str()), params.as_ref()),
        Message::Response { .. } => (None, None, None),
    };
    let refuse = |error: &RpcError| Box::new(failure(id, error));
    let mut meta = Meta::of(params);
    let mirrored = Mirrored {
        version: one(headers, "mcp-protocol-version"),
        method: one(headers, "mcp-method"),
        name: one(headers, "mcp-name"),
    };
    let era = era::of(&mirrored, &meta).map_err(|error| refuse(&error))?;
    match (era, message) {
        (Era::Legacy, _) => Ok(()),
        (Era::Modern, Message::Request { method, params, .. }) => {
            era::check_modern(&mirrored, method, params.as_ref(), &meta)
        }
        (Era::Modern, Message::Notification { .. }) => era::check_notification(&mirrored, &meta),
        (Era::Modern, Message::Response { .. }) => Err(RpcError::new(400, -32600, "nothing was asked of this client")),
    }
    .map_err(|error| refuse(&error))?;
    let (session, opened) = match era {
        Era::Modern => None,
        Era::Legacy => session_of(gateway, &principal, headers)
            .map_err(|gone| if gone { refuse(&ended()) } else { refuse(&two_sessions()) })?,
    }
    .unzip();
    let opened = opened.flatten();
    let (surface, names) = wishes.read().map_err(|error| refuse(&error))?;
    let host = era == Era::Modern || session.is_some() || method == Some("initialize");
    let accepts: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let streams = accepts.iter().any(|text| text.contains("text/event-stream"));
    let prefers_stream = accepts.first().is_some_and(|text| text.trim_start().starts_with("text/event-stream"));
    let jwt = server_jwt(headers, &meta).map_err(|error| refuse(&error))?;
    let beside = trace::beside(headers, &mut meta.trace);
    Ok(Box::new(Asked {
        principal,
        request,
        era,
        host,
        session,
        opened,
        surface,
        names,
        source,
        streams,
        prefers_stream,
        meta,
        jwt,
        beside,
        charged: false,
        approval: None,
    }))
}

/// The session that a request names, if it is one of this principal's; true in the error where it is gone.
fn session_of(
    gateway: &Gateway,
    principal: &Principal,
    headers: &HeaderMap,
) -> Result<Option<(String, Option<Session>)>, bool> {
    match one(headers, SESSION.as_str()) {
        Header::Absent => Ok(None),
        Header::Malformed => Err(false),
        Header::One(id) => match gateway.visit(id, principal) {
            Visit::Open(session) => Ok(Some((id.to_owned(), session))),
            Visit::Gone => Err(true),
        },
    }
}

/// The caller's token for the server that it calls: in the header or in `_meta`.
fn server_jwt(headers: &HeaderMap, meta: &Meta) -> Result<Option<Secret>, RpcError> {
    let header = match one(headers, "x-server-jwt") {
        Header::Absent => None,
        Header::One(text) => Some(Secret::new(text.strip_prefix("Bearer ").unwrap_or(text).trim())),
        Header::Malformed => {
            return Err(RpcError::new(400, -32600, "`X-Server-JWT` is sent twice or is not plain text"));
        }
    };
    match (header, &meta.jwt) {
        (Some(header), Some(member)) if header != *member => {
            Err(RpcError::new(400, -32600, "two tokens for the server that differ: send one"))
        }
        (header, member) => Ok(header.or_else(|| member.clone())),
    }
}

fn ended() -> RpcError {
    RpcError::new(404, -32600, "this session has ended or is not yours: start a new one with `initialize`")
}

fn two_sessions() -> RpcError {
    RpcError::new(400, -32600, "`Mcp-Session-Id` is sent twice or is not plain text")
}

fn wish<T>(text: Option<&str>, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, RpcError> {
    match text.map(|text| parse(text).ok_or(text)) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(text)) => Err(RpcError::new(400, -32602, format!("`?{name}={text}` is not known here"))),
    }
}

/// One header as revision 2026-07-28 reads it.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Header<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Header::Absent,
        (Some(value), None) => value.to_str().map_or(Header::Malformed, |text| Header::One(text.trim())),
        _ => Header::Malformed,
    }
}

/// `DELETE`: the client ends its session; the id is 404 from then on.
pub(super) async fn end(
    State(gateway): State<Arc<Gateway>>,
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
    match one(&headers, SESSION.as_str()) {
        Header::One(id) => match gateway.visit(id, &principal) {
            Visit::Open(Some(session)) => {
                gateway.end_session(id, &session).await;
                StatusCode::NO_CONTENT.into_response()
            }
            // Sealed with a key of before: nobody else could have used it.
            Visit::Open(None) => {
                gateway.forget_visitors(id, &principal.key);
                StatusCode::NO_CONTENT.into_response()
            }
            Visit::Gone => failure(None, &ended()),
        },
        _ => failure(None, &RpcError::new(400, -32600, "`Mcp-Session-Id` says which session to end")),
    }
}

/// The answer to a credential that was not admitted: hosts show its sentence to the user.
pub(super) fn unauthorized(why: &NotAdmitted) -> Response {
    let code = match why {
        NotAdmitted::Throttled { .. } => 429,
        NotAdmitted::TokenScope(_) => 403,
        NotAdmitted::Token(TokenFault::Unavailable) => 503,
        _ => 401,
    };
    let mut response = failure(None, &RpcError::new(401, code, why.to_string()));
    challenge(why, &mut response);
    response
}

/// A protocol error.
fn failure(id: Option<&Id>, error: &RpcError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    json(status, rpc::error(id, &error.object()))
}

fn json(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    /// Bytes of the future that a handler with six parts gives.
    fn room<A, B, C, D, E, F, Fut: Future>(_handler: impl Fn(A, B, C, D, E, F) -> Fut) -> usize {
        size_of::<Fut>()
    }

    /// Each request has a future of this size, which is copied into its box, and cold in every cache: what is rare in it
    /// belongs into a box of its own.
    #[test]
    fn the_future_of_a_request_is_small() {
        let post = room(super::post);
        assert!(post < 6_600, "{post} bytes");
    }
}
