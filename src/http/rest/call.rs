//! What the doors of calls have in common: from a body that was read to an answer that names its record.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Map;

use super::super::body;
use super::super::caller::Caller;
use super::super::error::challenge;
use super::super::request::with_more_meta;
use super::super::trace;
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::id::{EventId, OWN_SERVER, RequestId};
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Outcome, Refusal};
use crate::domain::secret::Secret;
use crate::domain::trace::Provenance;
use crate::gateway::{Gateway, Leaving, NotAdmitted, Uncalled, waits_for};
use crate::wire::rest::Told;
use crate::wire::rest::shield::told_as_data;

/// Names the audit record of a call on every answer.
const AUDIT_ID: HeaderName = HeaderName::from_static("toolgate-audit-id");
/// Seconds that a caller may wait for a person's decision.
const MAX_WAIT: u64 = 60;

/// A call as a body asks for it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) tool: ToolRef,
    pub(super) arguments: Option<Json>,
    /// The caller's token for the server, where the body brings one.
    pub(super) jwt: Option<Secret>,
}

impl Asked {
    /// A call of one of the gateway's own tools.
    fn own(tool: &str, arguments: Option<Json>) -> Self {
        Self { tool: ToolRef::Pair { server: OWN_SERVER.into(), tool: tool.into() }, arguments, jwt: None }
    }
}

/// A body that is no call: the status and a sentence.
#[derive(Debug)]
pub(super) struct Unread {
    status: StatusCode,
    why: String,
}

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) id: RequestId,
    pub(super) carried: Carried,
    /// Where the body was no call: the status of that.
    unread: Option<StatusCode>,
}

/// Reads a body whole, then as `read` takes it.
pub(super) async fn read<T>(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: Body,
    read: impl Fn(&Bytes) -> Result<T, String>,
) -> Result<T, Unread> {
    let limit = gateway.state().settings.gateway.max_body;
    let bytes =
        body::read(headers, body, limit).await.map_err(|(status, why)| Unread { status, why: why.to_owned() })?;
    read(&bytes).map_err(|why| Unread { status: StatusCode::BAD_REQUEST, why })
}

/// Carries a call, or refuses what is none; either way there is a record.
pub(super) async fn carry(
    gateway: &Arc<Gateway>,
    caller: Caller,
    headers: &HeaderMap,
    asked: Result<Asked, Unread>,
) -> Done {
    let Caller { principal, source, request: id } = caller;
    let asked = match asked {
        Ok(asked) => asked,
        Err(Unread { status, why }) => {
            let uncalled = Uncalled {
                principal: &principal,
                request: &id,
                entrance: Entrance::Rest,
                provenance: Provenance::default(),
                tool: None,
                metered: true,
            };
            let outcome = Outcome::Refused(Refusal::InvalidRequest { message: why });
            let carried = gateway.end_uncalled(uncalled, outcome).await;
            return Done { id, carried, unread: Some(status) };
        }
    };
    let surface = principal.profile.surface;
    let request = |asked: Asked, metered| CallRequest {
        id: id.clone(),
        event: EventId::fresh(),
        entrance: Entrance::Rest,
        tool: asked.tool,
        arguments: asked.arguments,
        jwt: asked.jwt.or_else(|| server_jwt(headers)),
        trace: trace::of(headers),
        surface,
        source,
        timeout: None,
        metered,
    };
    let line = || gateway.line(None, None);
    let Some(patience) = wait(headers) else {
        let request = request(asked, true);
        return Done { carried: gateway.carry(principal, request, line(), Leaving::Cancels).await, id, unread: None };
    };
    let first = request(asked.clone(), true);
    let mut carried = gateway.carry(principal.clone(), first, line(), Leaving::Cancels).await;
    if let Some(ticket) = waits_for(&carried)
        && gateway.await_decision(&principal, &ticket.id, patience).await
    {
        let again = request(asked, false);
        carried = gateway.carry_on(principal, again, line(), Leaving::Cancels).await;
    }
    Done { id, carried, unread: None }
}

/// Asks one of the gateway's own tools.
pub(super) async fn ask_own(
    gateway: &Arc<Gateway>,
    caller: Caller,
    headers: &HeaderMap,
    tool: &str,
    arguments: Result<Option<Json>, Unread>,
) -> Done {
    let asked = arguments.map(|arguments| Asked::own(tool, arguments));
    carry(gateway, caller, headers, asked).await
}

/// Asks one of the gateway's own tools, and answers with what it answers as `data`.
pub(super) async fn own_data(
    gateway: &Arc<Gateway>,
    caller: Caller,
    headers: &HeaderMap,
    tool: &str,
    arguments: Result<Option<Json>, Unread>,
) -> Response {
    let done = ask_own(gateway, caller, headers, tool, arguments).await;
    enveloped(&done, told_as_data(&done.carried))
}

/// What an own tool answered, as `told` has it, in the envelope of `/v1`.
pub(super) fn enveloped(done: &Done, told: Told) -> Response {
    answer_with(done, told, |status, text| with_more_meta(status, text, Map::new()))
}

/// How long the caller would rather wait than be told to come again (`Prefer: wait=N`, RFC 7240).
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split(','));
    let seconds: u64 = preferences.find_map(|text| {
        let (name, value) = text.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().parse().ok())?
    })?;
    Some(Duration::from_secs(seconds.min(MAX_WAIT)))
}

/// The token of `X-Server-JWT`; one that is sent twice is none.
fn server_jwt(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all("x-server-jwt").iter();
    let (Some(one), None) = (values.next(), values.next()) else { return None };
    Some(Secret::new(one.to_str().ok()?.trim()))
}

/// The answer to a call, in the words of its door.
pub(super) fn answer(done: &Done, told: Told) -> Response {
    answer_with(done, told, |status, text| json(status, done.carried.outcome.beside(text)))
}

/// The same, where `body` makes the response.
pub(super) fn answer_with(done: &Done, told: Told, body: impl FnOnce(StatusCode, String) -> Response) -> Response {
    let status = StatusCode::from_u16(told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let status = done.unread.filter(|_| status == StatusCode::BAD_REQUEST).unwrap_or(status);
    let mut response = body(status, told.body);
    if let Some(seconds) = told.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let page = waits_for(&done.carried).and_then(|ticket| HeaderValue::from_str(&ticket.url).ok());
    response.headers_mut().extend(page.map(|page| (header::LOCATION, page)));
    if let Ok(id) = HeaderValue::from_str(done.carried.governance.audit_event_id.as_str()) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    response
}

/// The answer to somebody without a valid key, in the words of a door.
pub(super) fn turned_away(why: &NotAdmitted, body: String) -> Response {
    let mut response = json(StatusCode::UNAUTHORIZED, body);
    challenge(why, &mut response);
    response
}

/// Text that is JSON already.
pub(super) fn json(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
