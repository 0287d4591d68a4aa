//! Streams that stay open: a legacy session's, and a modern client's subscription.
//!
//! Both say when the caller's list has changed. They end when the gateway stops or the key no longer opens it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Interval;

use super::follow::tagged as with_tag;
use super::relayed::notification;
use super::subscribe::{Followed, UPDATED};
use super::told::event;
use super::{Asked, failure};
use crate::domain::crowd::Seat;
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::domain::principal::Principal;
use crate::gateway::{Gateway, ListVersions, Listing, Tape, Visitor};
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
pub(super) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

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
    let resource_subscriptions = Vec::new();
    let all = Wanted {
        tools_list_changed: true,
        prompts_list_changed: true,
        resources_list_changed: true,
        resource_subscriptions,
    };
    let Some(seat) = gateway.stream_seat(&principal.key) else { return failure(None, &too_many()) };
    let mut watching = Watching::new(Arc::clone(gateway), principal, listing, all.events(&json!({})));
    if before.missed {
        watching.missed();
    }
    let ended = visitor.as_ref().map(|visitor| visitor.ended.clone()).unwrap_or_default();
    let events = Box::pin(watching.events().take_until(ended.cancelled_owned()));
    response(ambient(gateway, (visitor.as_ref(), before.resumes), seat, events))
}

/// What a subscription asks for; what is not offered stays out of the acknowledgement.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tools_list_changed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    prompts_list_changed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resources_list_changed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resource_subscriptions: Vec<String>,
}

/// The events that say that a list has changed, for the lists that somebody wants to hear of.
#[derive(Debug)]
struct Events {
    tools: Option<Bytes>,
    prompts: Option<Bytes>,
    resources: Option<Bytes>,
}

impl Wanted {
    fn events(&self, params: &Value) -> Events {
        let told = |wanted: bool, list: &str| {
            wanted.then(|| event(&rpc_text(&format!("notifications/{list}/list_changed"), params)))
        };
        Events {
            tools: told(self.tools_list_changed, "tools"),
            prompts: told(self.prompts_list_changed, "prompts"),
            resources: told(self.resources_list_changed, "resources"),
        }
    }
}

/// `subscriptions/listen` (MCP 2026-07-28): the acknowledgement first, then what was asked for, the result at the end.
pub(super) async fn of_subscription(gateway: Arc<Gateway>, asked: Asked, id: &Id, params: Option<&Json>) -> Response {
    #[derive(Deserialize)]
    struct Params {
        notifications: Wanted,
    }
    let Some(Ok(Params { notifications: mut wanted })) = params.map(Json::decode::<Params>) else {
        return failure(Some(id), &RpcError::new(200, -32602, "`params.notifications` says what to listen to"));
    };
    let tag = serde_json::from_str::<Value>(id.text()).unwrap_or_default();
    let tagged = |mut params: Value| {
        if let Some(members) = params.as_object_mut() {
            members.insert("_meta".into(), json!({SUBSCRIPTION: tag}));
        }
        params
    };
    let direct = gateway.shows_servers(&asked.principal, asked.listing());
    wanted.prompts_list_changed &= direct;
    wanted.resources_list_changed &= direct;
    let changed = wanted.events(&tagged(json!({})));
    let Some(seat) = gateway.stream_seat(&asked.principal.key) else { return failure(Some(id), &too_many()) };
    let watching = Watching::new(Arc::clone(&gateway), asked.principal.clone(), asked.listing(), changed);
    let followed = Followed::begin(&gateway, (&asked, id), std::mem::take(&mut wanted.resource_subscriptions)).await;
    wanted.resource_subscriptions = followed.resources.iter().map(|(_, uri)| uri.clone()).collect();
    let acknowledged = rpc_text("notifications/subscriptions/acknowledged", &tagged(json!({"notifications": wanted})));
    let result = own_result(&Json::of(&tagged(json!({}))), Era::Modern, &[]);
    let last = event(&rpc::result(id, &result));
    let watching = Watching { last: Some(last), followed: Some(followed), tag: Some(tag), ..watching };
    let first = futures_util::stream::iter([event(&acknowledged)]);
    response(body_of(first.chain(watching.events()), seat))
}

pub(super) fn too_many() -> RpcError {
    RpcError::new(429, 429, "this key holds as many open streams as it may: close one first")
}

fn rpc_text(method: &str, params: &Value) -> String {
    rpc::notification(method, params)
}

async fn updated(followed: &mut Option<Followed>) -> Option<Option<Json>> {
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
    readables: watch::Receiver<ListVersions>,
    known: ListVersions,
    seen: String,
    looks: Interval,
    quiet: u32,
    /// Sent when a list has changed.
    changed: Events,
    followed: Option<Followed>,
    /// The id of the subscription.
    tag: Option<Value>,
    /// Events that are due.
    due: Vec<Bytes>,
    /// Sent when the gateway stops.
    last: Option<Bytes>,
    done: bool,
}

impl Watching {
    fn new(gateway: Arc<Gateway>, principal: Principal, listing: Listing, changed: Events) -> Self {
        let changes = gateway.changes();
        let mut readables = gateway.readable_changes();
        let known = *readables.borrow_and_update();
        let seen = gateway.list_fingerprint(&principal, listing);
        Self {
            changes,
            readables,
            known,
            due: Vec::new(),
            principal,
            listing,
            seen,
            looks: tokio::time::interval(LOOK),
            quiet: 0,
            changed,
            followed: None,
            tag: None,
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
            if let Some(event) = self.due.pop() {
                return Some(event);
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    self.done = true;
                    return self.last.take();
                }
                changed = self.readables.changed() => {
                    changed.ok()?;
                    self.read_anew();
                }
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    if let Some(event) = self.news() {
                        return Some(event);
                    }
                }
                params = updated(&mut self.followed) => {
                    let params = params?;
                    return Some(event(&notification(UPDATED, with_tag(self.tag.as_ref(), params).as_ref())));
                }
                _ = self.looks.tick() => {
                    self.principal = self.gateway.still_admitted(&self.principal)?;
                    if !self.may_follow() {
                        return None;
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

    /// Whether everything that is followed could be begun now: who comes again is told what is left of it.
    fn may_follow(&self) -> bool {
        let mut all = self.followed.iter().flat_map(|followed| &followed.resources);
        all.all(|(server, uri)| self.gateway.may_follow(&self.principal, server, uri))
    }

    /// The event, where this caller's list really is another now.
    fn news(&mut self) -> Option<Bytes> {
        let Some(principal) = self.gateway.still_admitted(&self.principal) else {
            self.done = true;
            return None;
        };
        self.principal = principal;
        let now = self.gateway.list_fingerprint(&self.principal, self.listing);
        if now == self.seen {
            return None;
        }
        self.seen = now;
        self.changed.tools.clone()
    }

    /// Whatever may have changed is due.
    fn missed(&mut self) {
        if self.gateway.shows_servers(&self.principal, self.listing) {
            self.due.extend([self.changed.prompts.clone(), self.changed.resources.clone()].into_iter().flatten());
        }
        self.due.extend(self.changed.tools.clone());
    }

    /// Prompts or resources have changed somewhere: whoever is shown them lists again.
    fn read_anew(&mut self) {
        let now = *self.readables.borrow_and_update();
        let before = std::mem::replace(&mut self.known, now);
        if self.gateway.shows_servers(&self.principal, self.listing) {
            self.due.extend(self.changed.prompts.clone().filter(|_| now.prompts != before.prompts));
            self.due.extend(self.changed.resources.clone().filter(|_| now.resources != before.resources));
        }
    }
}
