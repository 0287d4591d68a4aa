//! Streamable HTTP, both eras (MCP 2026-07-28 and 2025-11-25, basic/transports).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, Method, StatusCode};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Place;
use super::answer::{self, Heard, Trail};
use super::asking::{Asking, CANCELLED};
use super::client::{Exchange, HttpClient};
use super::greet::{Talk, discover, initialize, mirror, modern_headers};
use super::held::Held;
use super::wire::{EVENTS, Outbox, Wire};
use crate::backend::ask::{self, Ask, Params};
use crate::backend::deadline::PROGRESS;
use crate::backend::fault::{Fault, FaultKind};
use crate::backend::peer::{Audience, Peer};
use crate::backend::probe::{self, Hello, Probed};
use crate::domain::json::Json;
use crate::wire::era::Era;
use crate::wire::mirror::header_value;

/// How long a session's first call waits for the stream of notifications.
const HEAR_GRACE: Duration = Duration::from_secs(2);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a stream that broke off before its answer is taken up again, and how long that waits unless it says.
const TAKE_UPS: u32 = 20;
const TAKE_UP_AFTER: u64 = 500;

/// A backend at a URL, greeted and ready.
#[derive(Debug)]
pub(crate) struct HttpLink {
    wire: Wire,
    outbox: Outbox,
    talk: ArcSwap<Talk>,
    ids: AtomicU64,
    renewing: tokio::sync::Mutex<()>,
    hello: Hello,
    contradicted: AtomicBool,
    pub(crate) contradiction: Notify,
    /// Cancelled once the stream of notifications was answered, whatever the answer.
    hears: CancellationToken,
    audience: Audience,
    /// What the backend has asked.
    asking: Asking,
    /// Falls when a session was opened in place of a lost one.
    pub(crate) renewed: Notify,
    /// How far the stream of notifications came.
    trail: Mutex<Trail>,
}

impl HttpLink {
    /// Greets the backend: modern first, unless it was legacy when last seen.
    pub(crate) async fn open(
        place: Place<'_>,
        before: Option<Era>,
        tracker: &TaskTracker,
        audience: Audience,
    ) -> Result<Self, Fault> {
        let wire = Wire::new(place, tracker)?;
        let ids = AtomicU64::new(1);
        let known_legacy =
            if before == Some(Era::Legacy) { initialize(&wire, &ids, &audience.capabilities).await.ok() } else { None };
        let (hello, talk) = match known_legacy {
            Some(greeted) => greeted,
            None => match discover(&wire, &ids).await {
                Probed::Modern(hello) => {
                    let talk = Talk { era: Era::Modern, headers: modern_headers(&wire), session: false };
                    (hello, talk)
                }
                Probed::Failed(fault) => return Err(fault),
                Probed::TryLegacy => initialize(&wire, &ids, &audience.capabilities).await?,
            },
        };
        Ok(Self {
            outbox: Outbox::new(&wire),
            wire,
            talk: ArcSwap::from_pointee(talk),
            ids,
            renewing: tokio::sync::Mutex::default(),
            hello,
            contradicted: AtomicBool::new(false),
            contradiction: Notify::new(),
            hears: CancellationToken::new(),
            audience,
            asking: Asking::default(),
            renewed: Notify::new(),
            trail: Mutex::default(),
        })
    }

    /// Who hears what belongs to no request.
    pub(crate) fn audience(&self) -> &Audience {
        &self.audience
    }

    pub(crate) const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Sends one request and waits for its result. Dropping the future cancels the call at the backend.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Json, Fault> {
        let talk = self.talk.load_full();
        let first = self.ask_once(ask, &talk).await;
        let Err(fault) = first else { return first };
        if fault.kind == FaultKind::SessionLost && talk.session {
            Box::pin(self.renew(&talk)).await?;
            if ask.repeatable {
                return Box::pin(self.ask_once(ask, &self.talk.load_full())).await;
            }
            return Err(fault);
        }
        if let Some(authorization) = self.wire.authorization.as_ref().filter(|_| fault.is_unauthorized()) {
            // Whoever cannot renew the token says why. The call had no effect; but only what may be repeated anyway is.
            authorization.header().await?;
            if ask.repeatable {
                return self.ask_once(ask, &talk).await;
            }
        }
        if probe::contradicts(&fault, talk.era) {
            self.note_contradiction();
        }
        Err(if fault.kind == FaultKind::SessionLost { Fault::garbled(fault.detail) } else { fault })
    }

    /// It speaks another revision than it did: the link is of no use any more.
    fn note_contradiction(&self) {
        if !self.contradicted.swap(true, Ordering::Relaxed) {
            self.contradiction.notify_one();
        }
    }

    async fn ask_once(&self, ask: &Ask<'_>, talk: &Arc<Talk>) -> Result<Json, Fault> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let body = ask.body(id, talk.era);
        let mut headers = talk.headers.clone();
        if talk.era == Era::Modern {
            mirror(&mut headers, ask);
        }
        let mut guard = CancelGuard { link: self, talk, id: (talk.era == Era::Legacy).then_some(id) };
        let answer = match self.wire.post(headers, body).await {
            // Whatever stands in the body: some servers explain, most do not.
            Ok(exchange) if talk.session && exchange.response.status() == StatusCode::NOT_FOUND => {
                Err(Fault::new(FaultKind::SessionLost, "HTTP 404"))
            }
            Ok(mut exchange) => {
                exchange.held = Held::new(ask.allowance.cloned());
                self.hear(exchange, id, ask, talk).await
            }
            Err(fault) => Err(fault),
        };
        guard.id = None;
        answer
    }

    /// Reads the answer; a legacy stream that breaks off before it is taken up where it stopped.
    async fn hear(&self, exchange: Exchange, id: u64, ask: &Ask<'_>, talk: &Arc<Talk>) -> Result<Json, Fault> {
        let mut trail = Trail::default();
        let mut aside = |heard| match heard {
            Heard::Notification { method, params: Some(params) } if method == PROGRESS => {
                if let Some(progress) = ask.progress {
                    progress.take(id, params);
                }
            }
            other => self.aside(talk, Some(ask), other),
        };
        let mut answer = answer::read_on(exchange, id, &mut trail, &mut aside).await;
        for _ in 0..TAKE_UPS {
            let lost = matches!(&answer, Err(Fault { kind: FaultKind::Broken, .. }));
            let (true, Era::Legacy, Some(last)) = (lost, talk.era, trail.last.take()) else { break };
            tokio::time::sleep(Duration::from_millis(trail.retry.unwrap_or(TAKE_UP_AFTER).min(30_000))).await;
            let Ok(mut exchange) = Box::pin(self.take_up(talk, &last)).await else { break };
            // Whether the call was done is not known: another status says nothing of it.
            if !exchange.response.status().is_success() {
                break;
            }
            exchange.held = Held::new(ask.allowance.cloned());
            trail.last = Some(last);
            answer = Box::pin(answer::read_on(exchange, id, &mut trail, &mut aside)).await;
        }
        answer
    }

    async fn take_up(&self, talk: &Talk, last: &str) -> Result<Exchange, Fault> {
        let mut headers = talk.headers.clone();
        headers.insert(ACCEPT, EVENTS);
        headers.remove(CONTENT_TYPE);
        headers.insert(LAST_EVENT_ID, header_value(last));
        self.wire.request(Method::GET, headers, Bytes::new()).await
    }

    /// What a backend says beside an answer: to the client that waits for it, else to whoever hears the rest.
    fn aside(&self, talk: &Talk, ask: Option<&Ask<'_>>, heard: Heard) {
        let peer = ask.and_then(|ask| ask.peer);
        let sink = peer.map(|peer| &peer.asides).or(self.audience.ambient.as_ref());
        match heard {
            Heard::Notification { method, params } if method == CANCELLED => self.asking.withdraw(params.as_ref()),
            Heard::Notification { method, params } => {
                if !self.audience.changes.take(&method)
                    && let Some(sink) = sink
                {
                    sink.tell(&method, params);
                }
            }
            // A modern server must not send requests; there is nowhere to answer them.
            Heard::Request { .. } if talk.era == Era::Modern => {}
            Heard::Request { id, method, params } => {
                let put =
                    sink.filter(|_| self.may_ask(peer, &method, params.as_ref())).map(|sink| sink.put(&method, params));
                let headers = talk.headers.clone();
                match put {
                    Some(Ok(reply)) => {
                        let (outbox, deadline) = (self.outbox.clone(), ask.and_then(|ask| ask.deadline).cloned());
                        let open = self.asking.open(&id, reply);
                        self.wire.tracker.spawn(async move {
                            if let Some(answer) = open.answer(deadline.as_ref()).await {
                                outbox.send(headers, ask::answered(&id, &answer)).await;
                            }
                        });
                    }
                    Some(Err(error)) => self.outbox.tell(headers, ask::answered(&id, &Err(error))),
                    None => self.outbox.tell(headers, ask::answer_to(&id, &method)),
                }
            }
        }
    }

    /// Whether the client of this link may be asked by this method.
    fn may_ask(&self, peer: Option<&Peer>, method: &str, params: Option<&Json>) -> bool {
        self.audience.declares(method, params) && peer.is_none_or(|peer| peer.takes(method, params))
    }

    /// Opens a new legacy session in place of a lost one; of several callers one does it.
    async fn renew(&self, lost: &Arc<Talk>) -> Result<(), Fault> {
        let _one = self.renewing.lock().await;
        if !Arc::ptr_eq(&self.talk.load(), lost) {
            return Ok(());
        }
        let (_, talk) = match initialize(&self.wire, &self.ids, &self.audience.capabilities).await {
            Ok(greeted) => greeted,
            // What it says to the greeting is no answer to what was asked; and that was not done.
            Err(fault) if matches!(fault.kind, FaultKind::Rpc(_)) => {
                self.note_contradiction();
                return Err(Fault::new(FaultKind::SessionLost, "it takes no `initialize` any more"));
            }
            Err(fault) => return Err(fault.unsent()),
        };
        self.talk.store(Arc::new(talk));
        self.audience.changes.tools.notify_one();
        self.renewed.notify_one();
        Ok(())
    }

    /// Sends a notification.
    pub(crate) fn notify(&self, message: String) {
        self.outbox.tell(self.talk.load().headers.clone(), message);
    }

    /// Whether there is something to hear outside of requests, and somebody to hear it.
    pub(crate) fn follows(&self) -> bool {
        self.hello.listen.is_some() || (self.audience.ambient.is_some() && self.hello.era == Era::Legacy)
    }

    /// Waits, though not for long, until the stream of notifications is open: what a backend asks outside of requests
    /// before that, it may forget.
    pub(crate) async fn heard(&self) {
        if self.follows() {
            drop(tokio::time::timeout(HEAR_GRACE, self.hears.cancelled()).await);
        }
    }

    /// Follows the backend's notifications until the stream ends. `Ok(false)`: it offers none.
    pub(crate) async fn listen(&self) -> Result<bool, Fault> {
        let answered = self.hears.clone().drop_guard();
        let talk = self.talk.load_full();
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut headers = talk.headers.clone();
        // Where that is refused, the next stream begins anew.
        let mut trail = std::mem::take(&mut *self.trail());
        let exchange = if talk.era == Era::Modern {
            let Some(filter) = &self.hello.listen else { return Ok(false) };
            let ask = Ask::plain("subscriptions/listen", Params::Members(filter));
            mirror(&mut headers, &ask);
            self.wire.post(headers, ask.body(id, talk.era)).await?
        } else {
            headers.insert(ACCEPT, EVENTS);
            headers.remove(CONTENT_TYPE);
            if let Some(last) = &trail.last {
                headers.insert(LAST_EVENT_ID, header_value(last));
            }
            match self.wire.request(Method::GET, headers, Bytes::new()).await {
                Ok(exchange) => exchange,
                Err(fault) => {
                    self.came_to(&talk, trail);
                    return Err(fault);
                }
            }
        };
        drop(answered);
        match exchange.response.status() {
            StatusCode::NOT_FOUND if talk.session => {
                self.renew(&talk).await?;
                return Err(Fault::new(FaultKind::SessionLost, "HTTP 404"));
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND => return Ok(false),
            _ => {}
        }
        let opened = exchange.response.status().is_success();
        let followed = answer::follow(exchange, id, &mut trail, |heard| self.aside(&talk, None, heard)).await;
        if opened {
            self.came_to(&talk, trail);
        }
        match followed {
            Err(Fault { kind: FaultKind::Rpc(_), .. }) if talk.era == Era::Legacy => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn trail(&self) -> MutexGuard<'_, Trail> {
        self.trail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers where the stream of notifications goes on, in the session that it belongs to.
    fn came_to(&self, talk: &Arc<Talk>, trail: Trail) {
        if talk.era == Era::Legacy && Arc::ptr_eq(&self.talk.load(), talk) {
            *self.trail() = trail;
        }
    }

    /// How long the backend wants the stream of notifications left alone.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.trail().retry.map(Duration::from_millis)
    }

    /// Ends the session, where there is one, and the idle connections.
    pub(crate) async fn close(&self) {
        let talk = self.talk.load_full();
        if talk.session {
            let ended = async {
                let exchange = self.wire.request(Method::DELETE, talk.headers.clone(), Bytes::new()).await?;
                exchange.body(64 << 10).await
            };
            let ended = tokio::time::timeout(Duration::from_secs(2), ended).await;
            tracing::debug!(ended = matches!(ended, Ok(Ok(_))), "session with a backend");
        }
        if let HttpClient::Plain(pool) = &self.wire.client {
            pool.clear();
        }
    }
}

/// Tells a legacy backend that nobody waits any more. (Closing the stream tells a modern one.)
struct CancelGuard<'a> {
    link: &'a HttpLink,
    talk: &'a Talk,
    /// Set while the answer is awaited.
    id: Option<u64>,
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.link.outbox.tell(self.talk.headers.clone(), ask::cancelled(id));
        }
    }
}
