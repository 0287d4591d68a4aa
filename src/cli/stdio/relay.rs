//! What each line of the host means, and where it goes.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::annotated::Annotated;
use super::answer::{Trouble, one_line};
use super::flights::Flights;
use super::session::{Session, Sessions};
use super::wire::{Wire, first_headers};
use crate::domain::json::Json;
use crate::wire::envelope::{BadMessage, Id, Message, decode};
use crate::wire::era::{self, Era, Header, Mirrored};
use crate::wire::meta::Meta;
use crate::wire::mirror::header_value;
use crate::wire::rpc::{self, RpcError};

const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// A request of the host.
#[derive(Debug)]
pub(super) struct Asked {
    /// The line as it came.
    pub(super) line: Bytes,
    pub(super) id: Id,
    pub(super) method: String,
    pub(super) params: Option<Json>,
    pub(super) meta: Meta,
    pub(super) era: Era,
}

/// Carries messages between a host and a gateway.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) wire: Wire,
    /// Lines for the host.
    out: mpsc::Sender<Bytes>,
    pub(super) sessions: Sessions,
    flights: Arc<Flights>,
    pub(super) annotated: Annotated,
    /// Requests whose answers come by themselves.
    pub(super) calls: TaskTracker,
    /// What goes on until it is stopped.
    pub(super) streams: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Relay {
    pub(super) fn new(wire: Wire, out: mpsc::Sender<Bytes>, stop: CancellationToken) -> Self {
        Self {
            wire,
            out,
            sessions: Sessions::default(),
            flights: Arc::default(),
            annotated: Annotated::default(),
            calls: TaskTracker::new(),
            streams: TaskTracker::new(),
            stop,
        }
    }

    /// Takes the host's lines, in their order, until there are no more.
    pub(super) async fn work(self: Arc<Self>, mut lines: mpsc::Receiver<Bytes>) {
        while let Some(Some(line)) = self.stop.run_until_cancelled(lines.recv()).await {
            self.stop.run_until_cancelled(self.take(line)).await;
        }
    }

    /// Ends the session.
    pub(super) async fn end(&self) {
        if let Some(session) = self.sessions.current().filter(|session| session.has_id()) {
            self.wire.end(session.headers.clone()).await;
        }
    }

    /// One line of the host's. What has an answer waits for it elsewhere; what has none is taken before the next line.
    async fn take(self: &Arc<Self>, line: Bytes) {
        match decode(&line) {
            Ok(Message::Request { id, method, params }) => {
                let (meta, era) = era_of(params.as_ref());
                self.request(Asked { line, id, method, params, meta, era }).await;
            }
            Ok(Message::Notification { method, params }) if method == "notifications/cancelled" => {
                self.cancel(line, params.as_ref()).await;
            }
            Ok(Message::Notification { method, params }) => {
                let (meta, era) = era_of(params.as_ref());
                let session = self.tell(line, &method, era, &meta).await;
                if let Some(session) = session.filter(|_| method == "notifications/initialized") {
                    self.follow(session, false);
                }
            }
            Ok(Message::Response { .. }) => {
                self.tell(line, "a response", Era::Legacy, &Meta::default()).await;
            }
            Err(BadMessage::Parse(why)) => self.refuse(None, -32700, format!("parse error: {why}")).await,
            Err(BadMessage::Invalid { id, reason }) => {
                self.refuse(id.as_ref(), -32600, format!("invalid request: {reason}")).await;
            }
        }
    }

    async fn request(self: &Arc<Self>, asked: Asked) {
        if asked.method == "initialize" && asked.era == Era::Legacy {
            // Whatever follows needs the session.
            return self.open(&asked).await;
        }
        let Some(aloft) = self.flights.take(asked.id.text(), asked.era) else {
            return self.refuse(Some(&asked.id), 429, "too many requests wait for an answer already".into()).await;
        };
        let tracker = if asked.method == "subscriptions/listen" { &self.streams } else { &self.calls };
        let relay = Arc::clone(self);
        tracker.spawn(async move {
            let stop = relay.stop.clone();
            stop.run_until_cancelled(relay.carry(&asked, &aloft.flight)).await
        });
    }

    async fn open(&self, asked: &Asked) {
        match Session::open(&self.wire, &asked.line, &asked.id).await {
            Ok((answer, session)) => {
                self.sessions.put(session);
                self.say(answer).await;
            }
            Err(trouble) => self.fail(&asked.id, &trouble).await,
        }
    }

    /// Sends a message without an answer; gives the session that took it.
    async fn tell(&self, line: Bytes, method: &str, era: Era, meta: &Meta) -> Option<Arc<Session>> {
        let session = self.session(era);
        let mut headers = session.as_ref().map_or_else(first_headers, |session| session.headers.clone());
        if era == Era::Modern {
            mirror(&mut headers, method, None, meta);
        }
        match self.wire.tell(headers, line).await {
            Ok(()) => session,
            Err(trouble) => {
                tracing::warn!(
                    what = method,
                    why = self.object(&trouble).as_str(),
                    "the gateway did not take a message"
                );
                None
            }
        }
    }

    /// A modern request is cancelled by leaving its answer, a legacy one by telling the gateway.
    async fn cancel(&self, line: Bytes, params: Option<&Json>) {
        #[derive(serde::Deserialize)]
        struct Cancelled<'a> {
            #[serde(rename = "requestId", borrow)]
            id: &'a RawValue,
        }
        let cancelled = params.and_then(|params| serde_json::from_str::<Cancelled<'_>>(params.as_str()).ok());
        if cancelled.and_then(|cancelled| self.flights.cancel(cancelled.id.get())) == Some(Era::Legacy) {
            self.tell(line, "notifications/cancelled", Era::Legacy, &Meta::default()).await;
        }
    }

    /// The session that requests of this era go in.
    pub(super) fn session(&self, era: Era) -> Option<Arc<Session>> {
        if era == Era::Legacy { self.sessions.current() } else { None }
    }

    /// Gives the host a message.
    pub(super) async fn say(&self, message: Bytes) {
        if self.out.send(one_line(message)).await.is_err() {
            self.stop.cancel();
        }
    }

    /// Tells the host that its request has no answer.
    pub(super) async fn fail(&self, id: &Id, trouble: &Trouble) {
        self.say(Bytes::from(rpc::error(Some(id), &self.object(trouble)))).await;
    }

    /// Answers a line that the gateway does not get to see.
    pub(super) async fn refuse(&self, id: Option<&Id>, code: i32, why: String) {
        self.say(Bytes::from(rpc::error(id, &RpcError::new(400, code, why).object()))).await;
    }

    fn object(&self, trouble: &Trouble) -> Json {
        trouble.object(&self.wire.uri.to_string())
    }
}

/// The headers that revision 2026-07-28 repeats from the body.
pub(super) fn mirror(headers: &mut HeaderMap, method: &str, params: Option<&Json>, meta: &Meta) {
    let version = meta.protocol_version.as_deref().map(header_value);
    headers.extend(version.map(|version: HeaderValue| (VERSION, version)));
    headers.insert(MCP_METHOD, header_value(method));
    let name = params.and_then(|params| era::named(method, params));
    headers.extend(name.map(|name| (MCP_NAME, header_value(&name))));
}

/// The era of a message; on this transport only its `_meta` tells.
fn era_of(params: Option<&Json>) -> (Meta, Era) {
    let meta = Meta::of(params);
    let headers = Mirrored { version: Header::Absent, method: Header::Absent, name: Header::Absent };
    let era = era::of(&headers, &meta).unwrap_or(Era::Legacy);
    (meta, era)
}
