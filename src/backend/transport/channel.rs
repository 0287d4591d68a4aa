//! Requests in flight on one channel, and what the other end says: an answer, a question, a notification.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asking::{Asking, CANCELLED};
use super::duplex::Outgoing;
use crate::backend::ask;
use crate::backend::deadline::{Deadline, PROGRESS, Progress};
use crate::backend::fault::{Fault, FaultKind};
use crate::backend::peer::{Audience, Peer};
use crate::domain::json::Json;
use crate::domain::plain::plain;
use crate::wire::reply::{self, Reply};

const LOG: &str = "notifications/message";
/// Messages that are none, of which the log speaks; of a flood of them it does not.
const MAX_NOISE_LOGGED: u32 = 10;

/// What the tasks of one link share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ids: AtomicU64,
    pending: Mutex<Pending>,
    pub(super) writer: mpsc::Sender<Outgoing>,
    /// How the link ended.
    pub(super) ended: OnceLock<String>,
    pub(super) gone: CancellationToken,
    pub(super) audience: Audience,
    tracker: TaskTracker,
    noise: AtomicU32,
    /// What the backend has asked.
    asking: Asking,
}

/// Requests that wait for an answer; `None` once the link is over.
#[derive(Debug)]
struct Pending(Option<HashMap<u64, Waiter>>);

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) answer: oneshot::Sender<Result<Json, Fault>>,
    pub(super) progress: Option<Progress>,
    pub(super) peer: Option<Peer>,
    pub(super) deadline: Option<Deadline>,
    /// The gateway's own subscription to changes: nobody else waits for it.
    pub(super) listens: bool,
}

impl Shared {
    pub(super) fn new(writer: mpsc::Sender<Outgoing>, audience: Audience, tracker: TaskTracker) -> Self {
        Self {
            ids: AtomicU64::new(1),
            pending: Mutex::new(Pending(Some(HashMap::new()))),
            writer,
            ended: OnceLock::new(),
            gone: CancellationToken::new(),
            audience,
            tracker,
            noise: AtomicU32::new(0),
            asking: Asking::default(),
        }
    }

    /// False where the link is over already.
    pub(super) fn register(&self, id: u64, waiter: Waiter) -> bool {
        match &mut self.lock().0 {
            Some(pending) => {
                pending.insert(id, waiter);
                true
            }
            None => false,
        }
    }

    fn take(&self, id: u64) -> Option<Waiter> {
        self.lock().0.as_mut()?.remove(&id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message that has no answer; one that finds the queue full is lost.
    pub(super) fn tell(&self, text: String) {
        if self.writer.try_send(Outgoing { id: None, text }).is_err() {
            tracing::debug!("a backend does not take its messages; a notification is lost");
        }
    }

    pub(super) fn over(&self) -> Fault {
        let how = self.ended.get().map_or("it takes no messages", String::as_str);
        Fault::broken(how)
    }

    /// Where the link has ended already.
    pub(super) fn is_over(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Completes when the link is over.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Ends the link: every request in flight fails, at once.
    pub(super) fn end(&self, how: String) {
        let waiting = self.lock().0.take();
        let how = self.ended.get_or_init(|| plain(how));
        for waiter in waiting.unwrap_or_default().into_values() {
            drop(waiter.answer.send(Err(Fault::broken(how))));
        }
        self.gone.cancel();
    }

    /// Fails one request that was not taken.
    pub(super) fn fail(&self, id: u64, fault: Fault) {
        if let Some(waiter) = self.take(id) {
            drop(waiter.answer.send(Err(fault)));
        }
    }

    /// Takes in one message. The log speaks of what is none.
    pub(super) fn hear(self: &Arc<Self>, message: &Bytes) {
        if !self.understand(message) && self.noise.fetch_add(1, Ordering::Relaxed) < MAX_NOISE_LOGGED {
            tracing::warn!(bytes = message.len(), "a backend said something that is no message");
        }
    }

    fn understand(self: &Arc<Self>, message: &Bytes) -> bool {
        match reply::decode(message) {
            Ok(Reply::Response { id, result }) => self.answer(id, Ok(Json::slice_of(message, result))),
            Ok(Reply::Error { id: Some(id), error }) => {
                self.answer(id, Err(Fault::new(FaultKind::Rpc(Json::slice_of(message, error)), "JSON-RPC error")));
            }
            Ok(Reply::Error { id: None, .. }) => {}
            Ok(Reply::Request { id, method, params }) => {
                let params = params.map(|params| Json::slice_of(message, params));
                self.asked(Json::slice_of(message, id), &method, params);
            }
            Ok(Reply::Notification { method, params }) => self.notice(&method, params, message),
            Err(_) => return self.misheard(message),
        }
        true
    }

    fn answer(&self, id: &RawValue, answer: Result<Json, Fault>) {
        let waiter = id.get().parse().ok().and_then(|id| self.take(id));
        match waiter {
            Some(waiter) => drop(waiter.answer.send(answer)),
            None => tracing::debug!("a backend answered a request that nobody waits for"),
        }
    }

    fn notice(&self, method: &str, params: Option<&RawValue>, message: &Bytes) {
        #[derive(serde::Deserialize, Default)]
        struct Meta {
            #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
            subscription: Option<u64>,
        }
        #[derive(serde::Deserialize, Default)]
        struct Marks {
            #[serde(rename = "progressToken")]
            token: Option<u64>,
            #[serde(rename = "_meta", default)]
            meta: Option<Meta>,
        }
        let marks: Marks = params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default();
        let params = params.map(|params| Json::slice_of(message, params));
        if method == PROGRESS {
            let progress = marks.token.and_then(|token| self.with(token, |waiter| waiter.progress.clone()));
            if let (Some(progress), Some(token), Some(params)) = (progress, marks.token, params) {
                progress.take(token, params);
            }
            return;
        }
        if method == CANCELLED {
            return self.asking.withdraw(params.as_ref());
        }
        let subscriber = marks.meta.and_then(|meta| meta.subscription);
        if let Some(peer) = subscriber.and_then(|id| self.with(id, |waiter| waiter.peer.clone())) {
            return peer.asides.tell(method, params);
        }
        if self.audience.changes.take(method) {
            return;
        }
        match self.hearer(|peer| method != LOG || peer.log_level.is_some() || peer.lasting) {
            Some((peer, _)) => peer.asides.tell(method, params),
            None => {
                if let Some(ambient) = &self.audience.ambient {
                    ambient.tell(method, params);
                }
            }
        }
    }

    fn with<T>(&self, id: u64, read: impl FnOnce(&Waiter) -> Option<T>) -> Option<T> {
        self.lock().0.as_ref().and_then(|pending| pending.get(&id)).and_then(read)
    }

    /// The client that waits here, where all that wait are one: nothing says whose request a message belongs to.
    fn hearer(&self, takes: impl Fn(&Peer) -> bool) -> Option<(Peer, Option<Deadline>)> {
        let lock = self.lock();
        let waiting = || lock.0.iter().flatten().filter(|(_, waiter)| !waiter.listens);
        let (_, latest) = waiting().max_by_key(|(id, _)| **id)?;
        let session = &latest.peer.as_ref()?.session;
        // Whoever waits without a client, or cannot be asked, may be the one that is meant.
        let one = waiting().all(|(_, other)| other.peer.as_ref().is_some_and(|it| it.session == *session));
        let able = waiting().filter(|(_, waiter)| one && waiter.peer.as_ref().is_some_and(&takes));
        let (_, latest) = able.max_by_key(|(id, _)| **id)?;
        Some((latest.peer.clone()?, latest.deadline.clone()))
    }

    /// A request of the backend's.
    fn asked(self: &Arc<Self>, id: Json, method: &str, params: Option<Json>) {
        // Where it was not told that it may ask, nobody has declared anything here; a modern server must not ask at all.
        let hearer = self
            .audience
            .declares(method, params.as_ref())
            .then(|| self.hearer(|peer| peer.takes(method, params.as_ref())));
        let (sink, deadline) = match (hearer, &self.audience.ambient) {
            (Some(Some((peer, deadline))), _) => (peer.asides, deadline),
            (Some(None), Some(ambient)) => (ambient.clone(), None),
            _ => return self.tell(ask::answer_to(&id, method)),
        };
        let reply = match sink.put(method, params) {
            Ok(reply) => reply,
            Err(error) => return self.tell(ask::answered(&id, &Err(error))),
        };
        let (shared, open) = (Arc::clone(self), self.asking.open(&id, reply));
        self.tracker.spawn(async move {
            let answering = open.answer(deadline.as_ref());
            if let Some(Some(answer)) = shared.gone.run_until_cancelled(answering).await {
                shared.tell(ask::answered(&id, &answer));
            }
        });
    }

    /// Something that is no message: if it was meant as the answer to one of our requests, that one fails now and not at
    /// its timeout.
    fn misheard(&self, message: &Bytes) -> bool {
        #[derive(serde::Deserialize)]
        struct Id {
            id: u64,
        }
        let Ok(Id { id }) = serde_json::from_slice(message) else { return false };
        if let Some(waiter) = self.take(id) {
            drop(waiter.answer.send(Err(Fault::garbled("its answer is no JSON-RPC response"))));
        }
        true
    }
}

/// Forgets a request whose answer nobody waits for, and tells the backend so.
#[derive(Debug)]
pub(super) struct PendingGuard<'a> {
    pub(super) shared: &'a Shared,
    pub(super) id: u64,
    pub(super) sent: bool,
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        let waited = self.shared.take(self.id).is_some();
        if waited && self.sent {
            self.shared.tell(ask::cancelled(self.id));
        }
    }
}
