//! The answer to one HTTP request: a JSON body or an event stream, and exactly one response in it.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use serde_json::value::RawValue;

use super::client::Exchange;
use crate::backend::fault::{Fault, FaultKind};
use crate::domain::json::Json;
use crate::wire::reply::{self, Reply};
use crate::wire::sse::SseReader;

/// Largest body that is read beside a status that is no success.
const MAX_ERROR: usize = 64 << 10;

/// What comes on a stream beside the response.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A request of the backend, with its id as it came.
    Request {
        id: Json,
        method: String,
        params: Option<Json>,
    },
    Notification {
        method: String,
        params: Option<Json>,
    },
}

/// Where a stream that broke off can be taken up again (MCP 2025-11-25, "Resumability and Redelivery").
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub last: Option<String>,
    /// Milliseconds to wait before.
    pub retry: Option<u64>,
}

/// Reads the answer to the request `id` and gives the result. Everything else on the stream goes to `aside`.
pub(crate) async fn read(exchange: Exchange, id: u64, aside: impl FnMut(Heard)) -> Result<Json, Fault> {
    read_on(exchange, id, &mut Trail::default(), aside).await
}

/// Like [`read`]; `trail` says afterwards how far a stream came that ended too early.
pub(crate) async fn read_on(
    exchange: Exchange,
    id: u64,
    trail: &mut Trail,
    aside: impl FnMut(Heard),
) -> Result<Json, Fault> {
    let status = exchange.response.status();
    if !status.is_success() {
        return Err(Box::pin(refused(exchange, id, status)).await);
    }
    match body_kind(&exchange)? {
        BodyKind::Json => {
            let cap = exchange.cap;
            let bytes = exchange.body(cap).await?;
            match message(&bytes, id)? {
                Said::Result(result) => Ok(result),
                Said::Error(error) => Err(rpc(error)),
                Said::Heard(_) => Err(Fault::garbled("the answer is a message, but not a response")),
            }
        }
        // Apart, so that plain answers do not pay for its room.
        BodyKind::Events => Box::pin(events(exchange, id, trail, aside)).await,
    }
}

pub(super) enum BodyKind {
    Json,
    Events,
}

pub(super) fn body_kind(exchange: &Exchange) -> Result<BodyKind, Fault> {
    let headers = exchange.response.headers();
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Fault::garbled("the answer is compressed although that was not accepted"));
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return Err(Fault::garbled(format!("status {} without one content type", exchange.response.status())));
    };
    let essence = only.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        Ok(BodyKind::Json)
    } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Ok(BodyKind::Events)
    } else {
        Err(Fault::garbled("the content type is neither application/json nor text/event-stream"))
    }
}

/// The fault that a status which is no success stands for.
pub(super) async fn refused(exchange: Exchange, id: u64, status: StatusCode) -> Fault {
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FaultKind::Rejected,
        StatusCode::TOO_MANY_REQUESTS => {
            let after = exchange.response.headers().get(RETRY_AFTER);
            FaultKind::Busy(after.and_then(|value| value.to_str().ok()?.trim().parse().ok()))
        }
        status if status.is_server_error() => FaultKind::Status(status.as_u16()),
        status if status.is_client_error() => {
            let known = matches!(body_kind(&exchange), Ok(BodyKind::Json));
            let bytes = if known { exchange.body(MAX_ERROR).await.unwrap_or_default() } else { Bytes::new() };
            return match message(&bytes, id) {
                Ok(Said::Error(error)) => rpc(error),
                _ if status == StatusCode::NOT_FOUND => Fault::new(FaultKind::SessionLost, "HTTP 404"),
                _ => Fault::new(FaultKind::Unserved(status.as_u16()), format!("HTTP {}", status.as_u16())),
            };
        }
        status if status.is_redirection() => {
            return Fault::garbled(format!("HTTP {}: redirects are not followed", status.as_u16()));
        }
        status => return Fault::garbled(format!("HTTP {}", status.as_u16())),
    };
    Fault::new(kind, format!("HTTP {}", status.as_u16()))
}

fn rpc(error: Json) -> Fault {
    Fault::new(FaultKind::Rpc(error), "JSON-RPC error")
}

enum Said {
    Result(Json),
    Error(Json),
    Heard(Heard),
}

/// One message, which must be meant for the request `id` where it is a response.
fn message(bytes: &Bytes, id: u64) -> Result<Said, Fault> {
    match reply::decode(bytes).map_err(|error| Fault::garbled(error.to_string()))? {
        Reply::Response { id: theirs, result } if is_id(theirs, id) => Ok(Said::Result(Json::slice_of(bytes, result))),
        Reply::Error { id: theirs, error } if theirs.is_none_or(|theirs| is_id(theirs, id)) => {
            Ok(Said::Error(Json::slice_of(bytes, error)))
        }
        Reply::Response { .. } | Reply::Error { .. } => Err(Fault::garbled("the response carries another id")),
        Reply::Request { id, method, params } => {
            let params = params.map(|params| Json::slice_of(bytes, params));
            Ok(Said::Heard(Heard::Request { id: Json::slice_of(bytes, id), method: method.into_owned(), params }))
        }
        Reply::Notification { method, params } => {
            let params = params.map(|params| Json::slice_of(bytes, params));
            Ok(Said::Heard(Heard::Notification { method: method.into_owned(), params }))
        }
    }
}

fn is_id(theirs: &RawValue, ours: u64) -> bool {
    let text = theirs.get();
    text.len() <= 20 && !text.starts_with(['0', '+']) && text.parse() == Ok(ours)
}

/// Reads an event stream up to the response.
async fn events(
    mut exchange: Exchange,
    id: u64,
    trail: &mut Trail,
    mut aside: impl FnMut(Heard),
) -> Result<Json, Fault> {
    let mut reader = SseReader::new(exchange.cap);
    let mut events = Vec::new();
    while let Some(piece) = exchange.piece().await {
        reader.push(&piece?, &mut events).map_err(|error| Fault::garbled(error.to_string()))?;
        exchange.held.reaches(reader.waiting())?;
        trail.last = reader.last_id().map(str::to_owned).or(trail.last.take());
        trail.retry = reader.retry().or(trail.retry);
        let mut answer: Option<Result<Json, Fault>> = None;
        for event in events.drain(..) {
            if event.data.is_empty() || !matches!(event.kind.as_str(), "" | "message") {
                continue;
            }
            exchange.held.reaches(event.data.len())?;
            match message(&exchange.held.keep(event.data), id)? {
                Said::Heard(other) => aside(other),
                Said::Result(_) | Said::Error(_) if answer.is_some() => {
                    return Err(Fault::garbled("two responses to one request"));
                }
                Said::Result(result) => answer = Some(Ok(result)),
                Said::Error(error) => answer = Some(Err(rpc(error))),
            }
        }
        if let Some(answer) = answer {
            finish(exchange).await;
            return answer;
        }
    }
    Err(Fault::broken("the event stream ended without a response"))
}

/// Most servers end the stream with the response; then the connection is kept. A stream that goes on is closed.
async fn finish(mut exchange: Exchange) {
    if !exchange.is_finished() {
        tokio::select! {
            biased;
            piece = exchange.piece() => if piece.is_some() { return },
            () = tokio::task::yield_now() => return,
        }
    }
    exchange.give_back();
}

/// Follows a stream of notifications until it ends, or a response to `id` comes; `trail` says how far it came.
pub(crate) async fn follow(
    exchange: Exchange,
    id: u64,
    trail: &mut Trail,
    aside: impl FnMut(Heard),
) -> Result<(), Fault> {
    if !exchange.response.status().is_success() {
        let status = exchange.response.status();
        return Err(refused(exchange, id, status).await);
    }
    match body_kind(&exchange)? {
        BodyKind::Events => events(exchange, id, trail, aside).await.map(|_| ()),
        BodyKind::Json => read(exchange, id, aside).await.map(|_| ()),
    }
}
