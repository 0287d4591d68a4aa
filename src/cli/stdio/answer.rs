//! The answer to one HTTP request, message by message, and what can be wrong with it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::cli::remote::{NoResponse, causes};
use crate::domain::json::Json;
use crate::wire::envelope::Id;
use crate::wire::reply::{self, Reply};
use crate::wire::rpc::RpcError;
use crate::wire::sse::{Event, SseReader};

/// Largest message that is read from the gateway, in bytes.
const MAX_MESSAGE: usize = 64 << 20;
/// Largest body that is read beside a status that is no success.
const MAX_ERROR: usize = 1 << 20;

/// Why a request has no answer that could be passed on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nothing was sent.
    Unreachable(String),
    /// The connection ended before the head of an answer.
    Broken(String),
    /// The answer ended before the response was in it.
    Unfinished(String),
    /// The answer is no MCP.
    Garbled(String),
    /// A status, and no error of MCP's.
    Status(StatusCode),
    /// The gateway's own error object, which came without the request's id.
    Told(Json),
    /// The gateway does not know the session any more.
    SessionLost,
}

impl Trouble {
    /// The error object that the host reads.
    pub(super) fn object(&self, endpoint: &str) -> Json {
        let (code, message) = match self {
            Self::Told(object) => return object.clone(),
            Self::Unreachable(why) => (
                503,
                format!(
                    "the gateway at {endpoint} cannot be reached ({why}): start it with `toolgate serve`, or name another with `--url`"
                ),
            ),
            Self::Broken(why) | Self::Unfinished(why) => (
                502,
                format!(
                    "the connection to the gateway at {endpoint} ended before the answer ({why}): a call may have been carried out, `toolgate audit tail` shows it"
                ),
            ),
            Self::Garbled(why) => (502, format!("what answers at {endpoint} is no MCP endpoint of a gateway: {why}")),
            Self::Status(StatusCode::NOT_FOUND) => {
                (404, format!("there is no MCP endpoint at {endpoint} (HTTP 404): look at `--url` and `--server`"))
            }
            Self::Status(status) => {
                (i32::from(status.as_u16()), format!("the gateway at {endpoint} answered HTTP {status}"))
            }
            Self::SessionLost => (404, "the session has ended: start a new one with `initialize`".to_owned()),
        };
        RpcError::new(0, code, message).object()
    }

    /// The code of the gateway's own error.
    pub(super) fn code(&self) -> Option<i64> {
        #[derive(serde::Deserialize)]
        struct Code {
            code: i64,
        }
        match self {
            Self::Told(object) => object.decode::<Code>().ok().map(|error| error.code),
            _ => None,
        }
    }
}

impl From<NoResponse> for Trouble {
    fn from(error: NoResponse) -> Self {
        match error {
            NoResponse::Unreachable(why) => Self::Unreachable(why),
            NoResponse::Broken(why) => Self::Broken(why),
        }
    }
}

/// What a message is to the request whose answer it came in.
#[derive(Debug)]
pub(super) enum Kind {
    /// The result.
    Result(Json),
    /// The error, as it came or without an id.
    Error(Json),
    /// A notification, or a request of the gateway's.
    Aside,
}

/// What `message` is in the answer to the request `id`.
///
/// # Errors
/// [`Trouble::Garbled`] where it is no message, or answers another request.
pub(super) fn kind(message: &Bytes, id: &Id) -> Result<Kind, Trouble> {
    match reply::decode(message).map_err(|error| Trouble::Garbled(error.to_string()))? {
        Reply::Response { id: theirs, result } if theirs.get() == id.text() => {
            Ok(Kind::Result(Json::slice_of(message, result)))
        }
        Reply::Error { id: theirs, error } if theirs.is_none_or(|theirs| theirs.get() == id.text()) => {
            Ok(Kind::Error(Json::slice_of(message, error)))
        }
        Reply::Response { .. } | Reply::Error { .. } => Err(Trouble::Garbled("it answered another request".into())),
        Reply::Request { .. } | Reply::Notification { .. } => Ok(Kind::Aside),
    }
}

/// The messages of one answer, in turn.
#[derive(Debug)]
pub(super) struct Messages {
    source: Source,
    /// The last event's id, from which the stream can be taken up again.
    last: Option<String>,
}

#[derive(Debug)]
enum Source {
    Body(Option<Bytes>),
    Events { body: Incoming, reader: Box<SseReader>, ready: VecDeque<Event> },
}

impl Messages {
    /// Reads the head, and the whole of a body that is no stream.
    ///
    /// # Errors
    /// Where the status is no success, or there is no message in it.
    pub(super) async fn of(response: Response<Incoming>) -> Result<Self, Trouble> {
        let status = response.status();
        let essence = response.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
        let is = |kind: &str| essence.as_deref().is_some_and(|essence| essence.starts_with(kind.as_bytes()));
        if !status.is_success() {
            let body = if is("application/json") {
                whole(response, MAX_ERROR).await.unwrap_or_default()
            } else {
                Bytes::new()
            };
            return Err(match reply::decode(&body) {
                Ok(Reply::Error { error, .. }) => Trouble::Told(Json::slice_of(&body, error)),
                _ => Trouble::Status(status),
            });
        }
        let source = if is("text/event-stream") {
            let reader = Box::new(SseReader::new(MAX_MESSAGE));
            Source::Events { body: response.into_body(), reader, ready: VecDeque::new() }
        } else if is("application/json") {
            Source::Body(Some(whole(response, MAX_MESSAGE).await?))
        } else {
            return Err(Trouble::Garbled(format!("HTTP {} without a message", status.as_u16())));
        };
        Ok(Self { source, last: None })
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// Where the connection breaks off, or an event is too large.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        match &mut self.source {
            Source::Body(body) => Ok(body.take()),
            Source::Events { body, reader, ready } => loop {
                while let Some(event) = ready.pop_front() {
                    if event.id.is_some() {
                        self.last = event.id;
                    }
                    if !event.data.is_empty() && matches!(event.kind.as_str(), "" | "message") {
                        return Ok(Some(event.data));
                    }
                }
                let Some(frame) = body.frame().await else { return Ok(None) };
                let frame = frame.map_err(|error| Trouble::Unfinished(causes(&error)))?;
                let mut events = Vec::new();
                if let Some(data) = frame.data_ref() {
                    reader.push(data, &mut events).map_err(|error| Trouble::Garbled(error.to_string()))?;
                }
                ready.extend(events);
            },
        }
    }

    /// The same messages, as those that come after the event `last`.
    pub(super) fn after(mut self, last: String) -> Self {
        self.last.get_or_insert(last);
        self
    }

    /// How long the gateway wants to be left alone once the stream has ended.
    pub(super) fn retry(&self) -> Option<Duration> {
        match &self.source {
            Source::Events { reader, .. } => reader.retry().map(Duration::from_millis),
            Source::Body(_) => None,
        }
    }

    /// The id from which the stream can be taken up again.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref().filter(|id| !id.is_empty())
    }
}

async fn whole(response: Response<Incoming>, cap: usize) -> Result<Bytes, Trouble> {
    let mut body = response.into_body();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::Unfinished(causes(&error)))?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > cap {
                return Err(Trouble::Garbled(format!("the answer is larger than {cap} bytes")));
            }
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.freeze())
}

/// A message as one line: breaks can only stand between its tokens.
pub(super) fn one_line(message: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    message.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{Message, decode};

    fn id(text: &str) -> Id {
        let line = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"ping"}}"#));
        let Ok(Message::Request { id, .. }) = decode(&line) else { panic!("a request") };
        id
    }

    #[test]
    fn a_message_keeps_its_bytes_but_for_line_breaks() {
        let plain = Bytes::from_static(br#"{ "a" : "\n" }"#);
        assert_eq!(one_line(plain.clone()).as_ptr(), plain.as_ptr());
        assert_eq!(one_line(Bytes::from_static(b"{ \"a\":\r\n\t1.50e2\n}")), &b"{ \"a\":\t1.50e2}"[..]);
    }

    #[test]
    fn an_answer_is_told_from_what_comes_beside_it() {
        let of = |text: &'static str, of: &str| kind(&Bytes::from_static(text.as_bytes()), &id(of));
        assert!(matches!(of(r#"{"jsonrpc":"2.0","id":"1","result":{}}"#, "\"1\""), Ok(Kind::Result(_))));
        assert!(matches!(of(r#"{"jsonrpc":"2.0","id":"1","result":{}}"#, "1"), Err(Trouble::Garbled(_))));
        assert!(matches!(of(r#"{"jsonrpc":"2.0","id":7,"error":{}}"#, "7"), Ok(Kind::Error(_))));
        assert!(matches!(of(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, "7"), Ok(Kind::Error(_))));
        assert!(matches!(of(r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#, "7"), Ok(Kind::Aside)));
        assert!(matches!(of("<html>", "7"), Err(Trouble::Garbled(_))));
    }
}
