//! Streams that stay open: a legacy session's, and a modern client's subscription.
//!
//! Both say when the caller's list has changed. They end when the gateway stops or the key no longer opens it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderName, HeaderValue, header};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Interval;

use super::filter::{Filter, Lists, over, updated, uri_of};
use super::subscribe::Followed;
use super::told::event;
use super::{Asked, failure};
use crate::domain::crowd::Seat;
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::principal::Principal;
use crate::gateway::{Gateway, ListVersions, Listing, Readables, Tape, Visitor};
use crate::wire::envelope::Id;
use crate::wire::era::Era;
use crate::wire::mcp::own_result;
use crate::wire::rpc::{self, RpcError};

/// How often a stream looks whether its key still opens the gateway.
pub(super) const LOOK: Duration = Duration::from_secs(3);
/// Looks between two comments that keep the connection alive.
pub(super) const LOOKS_PER_COMMENT: u32 = 5;
/// A silent stream is kept alive by comments.
const COMMENT: Duration = Duration::from_secs(15);

/// An event stream: never compressed, never buffered by a proxy.
pub(super) fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// The events of a tape after a position, with comments while it is silent.
fn read(tape: &Arc<Tape>, after: Option<u64>) -> impl Stream<Item = Bytes> + Send + 'static {
    futures_util::stream::unfold((tape.reader(), after), |(tape, after)| async move {
        tokio::select! {
            read = tape.read(after) => {
                let (event, at) = read?;
                Some((event, (tape, Some(at))))
            }
            () = tokio::time::sleep(COMMENT) => Some((Bytes::from_static(b":\n\n"), (tape, after))),
        }
    })
}

/// The body of a tape.
pub(super) fn taped(tape: &Arc<Tape>) -> Body {
    body_of(read(tape, None), ())
}

/// The body of these events; `held` lives as long as it does.
pub(super) fn body_of(events: impl Stream<Item = Bytes> + Send + 'static, held: impl Send + 'static) -> Body {
    Body::from_stream(futures_util::stream::unfold((Box::pin(events), held), |(mut events, held)| async move {
        let event = events.next().await?;
        Some((Ok::<_, Infallible>(event), (events, held)))
    }))
}

/// What the client of a session knows of the stream before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// It can take a stream up again.
    pub(super) resumes: bool,
    /// It wanted to, and there is nothing to take up: anything may have changed meanwhile.
    pub(super) missed: bool,
}

/// The body of a stream that belongs to no request: taken up again by clients that know how, where `visitor` has room.
pub(super) fn ambient(
    gateway: &Arc<Gateway>,
    (visitor, resumes): (Option<&Arc<Visitor>>, bool),
    seat: Seat<KeyId>,
    mut events: impl Stream<Item = Bytes> + Send + Unpin + 'static,
) -> Body {
    let held = visitor.cloned();
    let Some(tape) = visitor.filter(|_| resumes).and_then(|visitor| visitor.tape(gateway.ticks(), true)) else {
        let first = futures_util::stream::iter([Bytes::from_static(b":\n\n")]);
        return body_of(first.chain(events), (seat, held));
    };
    let body = body_of(read(&tape, None), seat);
    let clock = Arc::clone(gateway);
    gateway.tasks().spawn(async move {
        let _held = held;
        let mut left = pin!(tape.left());
        loop {
            tokio::select! {
                biased;
                () = &mut left => break,
                event = events.next() => match event {
                    None => break,
                    // Whoever reads is kept awake by comments of its own.
                    Some(event) if event.starts_with(b":") => {}
                    Some(event) => tape.say(&event),
                }
            }
        }
        tape.end(None, clock.ticks());
    });
    body
}

/// The same for somebody who comes back for it.
pub(super) fn taken_up(
    gateway: Arc<Gateway>,
    principal: Principal,
    visitor: &Visitor,
    tape: &Arc<Tape>,
    after: u64,
) -> Response {
    let Some(seat) = gateway.stream_seat(&principal.key) else { return failure(None, &too_many()) };
    let (ended, stopping) = (visitor.ended.clone(), gateway.stopping());
    let over = async move {
        let _seat = seat;
        let mut looks = tokio::time::interval(LOOK);
        while gateway.still_admitted(&principal).is_some() {
            tokio::select! {
                _ = looks.tick() => {}
                () = ended.cancelled() => return,
                () = stopping.cancelled() => return,
            }
        }
    };
    response(body_of(read(tape, Some(after)).take_until(Box::pin(over)), ()))
}

/// The stream of a legacy session (`GET`).
pub(super) fn of_session(
    gateway: &Arc<Gateway>,
    principal: Principal,
    listing: Listing,
    (visitor, before): (Option<Arc<Visitor>>, Before),
) -> Response {
    let Some(seat) = gateway.stream_seat(&principal.key) else { return failure(None, &too_many()) };
    let mut watching = Watching::new(Arc::clone(gateway), principal, listing, Filter::EVERYTHING);
    if before.missed {
        watching.missed();
    }
    let ended = visitor.as_ref().map(|visitor| visitor.ended.clone()).unwrap_or_default();
    let events = Box::pin(watching.events().take_until(ended.cancelled_owned()));
    response(ambient(gateway, (visitor.as_ref(), before.resumes), seat, events))
}

/// `subscriptions/listen` (MCP 2026-07-28): the acknowledgement first, then what was asked for, the result at the end.
pub(super) async fn of_subscription(
    gateway: Arc<Gateway>,
    asked: Box<Asked>,
    id: &Id,
    params: Option<&Json>,
) -> Response {
    let Some(wanted) = Filter::read(params) else {
        return failure(Some(id), &RpcError::new(200, -32602, "`params.notifications` says what to listen to"));
    };
    let Some(seat) = gateway.stream_seat(&asked.principal.key) else { return failure(Some(id), &too_many()) };
    let (principal, listing) = (asked.principal.clone(), asked.listing());
    // Lists that are always empty never change.
    let shows = gateway.shows_servers(&principal, listing);
    let mut wanted = wanted.of(Lists { tools: true, prompts: shows, resources: shows });
    let uris = std::mem::take(&mut wanted.resource_subscriptions);
    let watching = Watching::new(Arc::clone(&gateway), principal, listing, wanted);
    let followed = Followed::begin(gateway, asked, id.clone(), uris).await;
    let tag = serde_json::from_str::<Value>(id.text()).unwrap_or_default();
    let wanted = watching.wanted.clone().following(followed.uris.clone());
    let first = futures_util::stream::iter([wanted.acknowledged(&tag)]);
    let last = Some(event(&rpc::result(id, &own_result(&over(&tag), Era::Modern, &[]))));
    let watching = Watching { last, followed: Some(followed), tag: Some(tag), ..watching };
    response(body_of(first.chain(watching.events()), seat))
}

pub(super) fn too_many() -> RpcError {
    RpcError::new(429, 429, "this key holds as many open streams as it may: close one first")
}

/// What the servers tell of resources that are followed.
async fn told(followed: &mut Option<Followed>) -> (ServerName, Json) {
    match followed {
        Some(followed) => followed.next().await,
        None => std::future::pending().await,
    }
}

/// A stream's state between two events.
struct Watching {
    gateway: Arc<Gateway>,
    principal: Principal,
    listing: Listing,
    changes: watch::Receiver<u64>,
    read_anew: watch::Receiver<ListVersions>,
    /// What the client was told of last.
    tools: String,
    readables: Readables,
    looks: Interval,
    quiet: u32,
    wanted: Filter,
    followed: Option<Followed>,
    /// The id of the subscription.
    tag: Option<Value>,
    /// Events that are due.
    due: VecDeque<Bytes>,
    /// Sent when the stream ends by itself.
    last: Option<Bytes>,
    done: bool,
}

impl Watching {
    fn new(gateway: Arc<Gateway>, principal: Principal, listing: Listing, wanted: Filter) -> Self {
        let (changes, read_anew) = (gateway.changes(), gateway.readable_changes());
        let tools = gateway.list_fingerprint(&principal, listing);
        let readables = gateway.readables(&principal, listing);
        Self {
            changes,
            read_anew,
            principal,
            listing,
            tools,
            readables,
            looks: tokio::time::interval(LOOK),
            quiet: 0,
            wanted,
            followed: None,
            tag: None,
            due: VecDeque::new(),
            last: None,
            done: false,
            gateway,
        }
    }

    fn events(self) -> impl Stream<Item = Bytes> {
        futures_util::stream::unfold(self, |mut watching| async move {
            watching.next().await.map(|event| (event, watching))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        let stopping = self.gateway.stopping();
        while !self.done {
            if let Some(event) = self.due.pop_front() {
                return Some(event);
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return self.end(),
                changed = self.read_anew.changed() => {
                    if changed.is_err() {
                        return self.end();
                    }
                    self.news(false);
                }
                changed = self.changes.changed() => {
                    if changed.is_err() || !self.is_open() {
                        return self.end();
                    }
                    self.news(true);
                }
                (server, params) = told(&mut self.followed) => {
                    let uri = uri_of(&params);
                    // What was withdrawn is told of no more; the rest goes on.
                    if uri.is_some_and(|uri| self.gateway.may_follow(&self.principal, &server, &uri)) {
                        return Some(updated(self.tag.as_ref(), params));
                    }
                }
                _ = self.looks.tick() => {
                    if !self.is_open() {
                        return self.end();
                    }
                    self.quiet += 1;
                    if self.quiet >= LOOKS_PER_COMMENT {
                        self.quiet = 0;
                        return Some(Bytes::from_static(b":\n\n"));
                    }
                }
            }
        }
        None
    }

    /// Ends the stream; gives the last event.
    fn end(&mut self) -> Option<Bytes> {
        self.done = true;
        self.last.take()
    }

    /// Whether the key still opens the gateway, with what profile it may be.
    fn is_open(&mut self) -> bool {
        let now = self.gateway.still_admitted(&self.principal);
        now.map(|principal| self.principal = principal).is_some()
    }

    /// Whatever may have changed is due.
    fn missed(&mut self) {
        let shows = self.gateway.shows_servers(&self.principal, self.listing);
        let lists = Lists { tools: true, prompts: shows, resources: shows };
        self.due.extend(self.wanted.changed(lists, self.tag.as_ref()));
    }

    /// Tells of the lists that are others now for this caller.
    fn news(&mut self, of_tools: bool) {
        let mut lists = Lists::default();
        if of_tools {
            let tools = self.gateway.list_fingerprint(&self.principal, self.listing);
            lists.tools = tools != self.tools;
            self.tools = tools;
        }
        let readables = self.gateway.readables(&self.principal, self.listing);
        (lists.prompts, lists.resources) = readables.changed_since(&self.readables);
        self.readables = readables;
        self.due.extend(self.wanted.changed(lists, self.tag.as_ref()));
    }
}
