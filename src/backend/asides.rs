//! What a backend says to a client before it answers: notifications and questions, and how many of them wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::deadline::Deadline;
use crate::domain::dlp::{DlpMode, DlpResult};
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::domain::room::{Room as Shares, Taken};

/// How long a client, and the person before it, may take to answer a question of a backend.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// A larger message of a backend is not passed on: what is buffered for a slow client stays bounded. Bytes; a question may
/// hold an image.
const MAX_NOTICE: usize = 256 << 10;
const MAX_QUESTION: usize = 4 << 20;

/// Kibibytes that may wait for one client: a hostile backend fills no more.
const ROOM: usize = 6 << 10;
/// Bytes that may wait for the clients of one key, and for all clients.
const ROOM_OF_KEY: usize = 32 << 20;
const ROOM_OF_ALL: usize = 256 << 20;
static ALL: LazyLock<Shares<Option<KeyId>>> = LazyLock::new(|| Shares::new(ROOM_OF_KEY, ROOM_OF_ALL));

/// What a backend says when a resource that is followed has changed.
pub const UPDATED: &str = "notifications/resources/updated";

/// What a backend says before it answers.
#[derive(Debug)]
pub enum Aside {
    Notification {
        method: String,
        params: Option<Json>,
        room: Room,
    },
    Question(Question),
    /// Nobody waits for the answer to this question any more, and why, where the backend says.
    Withdrawn {
        question: u64,
        reason: Option<String>,
    },
}

/// What is done about secrets in the answers of a call's client, and what was found there.
#[derive(Debug)]
pub struct Scrutiny {
    pub mode: DlpMode,
    found: Mutex<Findings>,
}

/// The gravest result, and how often each rule found something.
type Findings = (DlpResult, BTreeMap<&'static str, usize>);

impl Scrutiny {
    #[must_use]
    pub fn new(mode: DlpMode) -> Self {
        Self { mode, found: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Findings> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what one answer came to.
    pub fn note(&self, result: DlpResult, counts: &BTreeMap<&'static str, usize>) {
        let mut found = self.lock();
        found.0 = found.0.max(result);
        for (rule, count) in counts {
            *found.1.entry(rule).or_default() += count;
        }
    }

    /// What all answers so far came to.
    #[must_use]
    pub fn found(&self) -> Findings {
        self.lock().clone()
    }
}

/// The room that something takes while it waits for its client.
#[derive(Debug)]
pub struct Room {
    _own: OwnedSemaphorePermit,
    _of_all: Taken<Option<KeyId>>,
}

/// Where what a backend says waits for its client: so many messages, and so many bytes.
#[derive(Debug, Clone)]
pub struct Asides {
    sender: mpsc::Sender<Aside>,
    room: Arc<Semaphore>,
    /// Of the call that its questions belong to.
    scrutiny: Option<Arc<Scrutiny>>,
    /// Whose client it is.
    key: Option<KeyId>,
    /// Wakes whoever hears it once a change of a resource was lost.
    missed: Arc<Notify>,
}

/// Where a client hears what backends say. Most have nothing to hear, and need no channel.
#[derive(Debug, Default)]
pub struct Ear(Option<mpsc::Receiver<Aside>>);

impl From<mpsc::Receiver<Aside>> for Ear {
    fn from(heard: mpsc::Receiver<Aside>) -> Self {
        Self(Some(heard))
    }
}

impl Ear {
    /// What is said next; `None` once nobody says anything any more.
    pub async fn recv(&mut self) -> Option<Aside> {
        match &mut self.0 {
            Some(heard) => heard.recv().await,
            None => None,
        }
    }

    /// What was said already.
    #[must_use]
    pub fn said(&mut self) -> Option<Aside> {
        self.0.as_mut()?.try_recv().ok()
    }
}

/// A way for so many messages at a time.
#[must_use]
pub fn asides(messages: usize) -> (Asides, mpsc::Receiver<Aside>) {
    let (sender, receiver) = mpsc::channel(messages);
    let room = Arc::new(Semaphore::new(ROOM));
    (Asides { sender, room, scrutiny: None, key: None, missed: Arc::default() }, receiver)
}

impl Asides {
    /// One that nobody hears.
    #[must_use]
    pub fn deaf() -> Self {
        static DEAF: LazyLock<Asides> = LazyLock::new(|| asides(1).0);
        DEAF.clone()
    }

    /// The same way for what a backend asks while this is what is done about the answers.
    #[must_use]
    pub fn under(&self, scrutiny: Arc<Scrutiny>) -> Self {
        Self { scrutiny: Some(scrutiny), ..self.clone() }
    }

    /// The same way, to a client of this key: with others of its own it has a share of what may wait.
    #[must_use]
    pub fn of(self, key: &KeyId) -> Self {
        Self { key: Some(key.clone()), ..self }
    }

    fn room(&self, params: Option<&Json>) -> Option<Room> {
        let bytes = params.map_or(0, |params| params.bytes().len());
        let size = bytes.div_ceil(1 << 10) + 1;
        let own = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(size).ok()?).ok()?;
        Some(Room { _own: own, _of_all: ALL.take(&self.key, size << 10)? })
    }

    /// Another way, for so many messages, that leads here: what is lost on it counts as lost here.
    #[must_use]
    pub fn before(&self, messages: usize) -> (Self, mpsc::Receiver<Aside>) {
        let (way, receiver) = asides(messages);
        (Self { missed: self.missed(), key: self.key.clone(), ..way }, receiver)
    }

    /// Wakes once a change of a resource may have been missed here: progress may be lost, a change may not, so whoever hears
    /// it then tells of all that are followed.
    #[must_use]
    pub fn missed(&self) -> Arc<Notify> {
        Arc::clone(&self.missed)
    }

    /// Passes on what has waited elsewhere. False where there is no place for it.
    #[must_use]
    pub fn pass(&self, aside: Aside) -> bool {
        let Err(TrySendError::Full(lost) | TrySendError::Closed(lost)) = self.sender.try_send(aside) else {
            return true;
        };
        if matches!(&lost, Aside::Notification { method, .. } if method == UPDATED) {
            self.missed.notify_one();
        }
        false
    }

    /// Completes when nobody hears it any more.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Passes a notification on, where there is room for it.
    pub(crate) fn tell(&self, method: &str, params: Option<Json>) {
        let fits = params.as_ref().is_none_or(|params| params.bytes().len() <= MAX_NOTICE);
        let told = fits.then(|| self.room(params.as_ref())).flatten().is_some_and(|room| {
            let params = params.map(Json::apart);
            self.pass(Aside::Notification { method: method.to_owned(), params, room })
        });
        if !told && method == UPDATED {
            self.missed.notify_one();
        }
        if !told {
            tracing::debug!(method, fits, "a notification is lost: it is too large, or nobody takes it");
        }
    }

    /// Puts a question to the client.
    ///
    /// # Errors
    /// The error object for the backend, where there is no room for it.
    pub(crate) fn put(&self, method: &str, params: Option<Json>) -> Result<Reply, Json> {
        if params.as_ref().is_some_and(|params| params.bytes().len() > MAX_QUESTION) {
            return Err(error(-32603, "the request is too large to be passed on"));
        }
        let room = self.room(params.as_ref());
        let params = params.map(Json::apart);
        let (sender, answer) = oneshot::channel();
        let number = QUESTIONS.fetch_add(1, Ordering::Relaxed);
        let (method, scrutiny, has_room) = (method.to_owned(), self.scrutiny.clone(), room.is_some());
        let question = Question { number, method, params, scrutiny, answer: sender, room };
        if !has_room || !self.pass(Aside::Question(question)) {
            return Err(error(-32603, "the client cannot be asked now"));
        }
        Ok(Reply { number, answer, asides: self.clone(), reason: None })
    }
}

/// A request of a backend to the client: `sampling/createMessage`, `elicitation/create`, `roots/list`.
#[derive(Debug)]
pub struct Question {
    /// Its own among all questions of this process.
    pub number: u64,
    pub method: String,
    pub params: Option<Json>,
    /// What its call does about what is answered; none where it belongs to no call.
    pub scrutiny: Option<Arc<Scrutiny>>,
    answer: oneshot::Sender<Result<Json, Json>>,
    /// Held until it is with the client.
    room: Option<Room>,
}

static QUESTIONS: AtomicU64 = AtomicU64::new(1);

/// The answer to a question: its result, or its JSON-RPC error object. Given up before it came, the client is told so.
#[derive(Debug)]
pub(crate) struct Reply {
    number: u64,
    answer: oneshot::Receiver<Result<Json, Json>>,
    asides: Asides,
    reason: Option<String>,
}

impl Reply {
    /// The number of the question.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Gives the question up, as its backend says.
    pub(crate) fn withdraw(&mut self, reason: Option<String>) {
        self.reason = reason;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // Closed, or with an answer in it, where nobody has the question any more.
        if matches!(self.answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            self.answer.close();
            let told = self.asides.pass(Aside::Withdrawn { question: self.number, reason: self.reason.take() });
            tracing::debug!(told, "a question to a client was given up");
        }
    }
}

impl Question {
    /// It is with the client: what waits for the answer takes no room any more.
    pub fn asked(&mut self) {
        (self.params, self.room) = (None, None);
    }

    /// Takes the client's answer: a result, or a JSON-RPC error object.
    pub fn answer(self, answer: Result<Json, Json>) {
        drop(self.answer.send(answer));
    }

    /// Whether the backend still waits for the answer.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// Waits for the client's answer, holding the call's deadline meanwhile; gives the result or the error object.
pub(crate) async fn answer(reply: &mut Reply, deadline: Option<&Deadline>) -> Result<Json, Json> {
    // So long for all that one call asks, or a backend that asks again and again would keep it for ever.
    let patience = deadline.map_or(PATIENCE, |deadline| PATIENCE.saturating_sub(deadline.was_held()));
    let held = deadline.map(Deadline::hold);
    let answer = match tokio::time::timeout(patience, &mut reply.answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(error(-32603, "the client has gone")),
        Err(_) => Err(error(-32603, "the client did not answer in time")),
    };
    if let Some(held) = held {
        held.over().await;
    }
    answer
}

/// A JSON-RPC error object.
pub(crate) fn error(code: i32, message: &str) -> Json {
    Json::of(&serde_json::json!({"code": code, "message": Value::from(message)}))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_waits_for_one_key_leaves_room_for_others() {
        let large = || Some(Json::from_parts(format!("\"{}\"", "x".repeat(MAX_QUESTION - 2))));
        let ask = |key: &str| {
            let (sink, heard) = asides(8);
            sink.of(&KeyId::from(key)).put("sampling/createMessage", large()).ok().map(|reply| (reply, heard))
        };
        let mut waiting: Vec<_> = (0..64).map_while(|_| ask("a key of many")).collect();
        assert_eq!(waiting.len(), 7, "its share is 32 MiB");
        assert!(ask("another key").is_some());
        // What is with the client waits for nothing but the answer.
        let Ok(Aside::Question(mut question)) = waiting[0].1.try_recv() else { panic!("a question") };
        question.asked();
        assert!(ask("a key of many").is_some() && question.is_wanted());
    }

    #[test]
    fn what_waits_keeps_nothing_of_the_answer_that_it_came_with() {
        let whole = bytes::Bytes::from(format!("{{\"params\":{{}},\"pad\":\"{}\"}}", "x".repeat(1 << 20)));
        let params = || Some(Json::parse(whole.slice(10..12)).unwrap());
        let (sink, _heard) = asides(8);
        sink.tell("notifications/message", params());
        let _reply = sink.put("roots/list", params()).unwrap();
        assert!(whole.is_unique());
    }

    #[test]
    fn a_change_of_a_resource_that_is_lost_is_noted_and_nothing_else_is() {
        let large = || Some(Json::from_parts(format!("\"{}\"", "x".repeat(MAX_NOTICE))));
        let missed = |asides: &Asides| asides.missed().notified().now_or_never().is_some();
        let (asides, _heard) = asides(1);
        let (way, mut before) = asides.before(1);
        asides.tell(UPDATED, None);
        assert!(!missed(&asides), "there was room for it");
        asides.tell("notifications/progress", None);
        assert!(!missed(&asides));
        asides.tell(UPDATED, None);
        assert!(missed(&asides) && !missed(&asides));
        way.tell(UPDATED, large());
        assert!(missed(&asides), "on the way here");
        way.tell(UPDATED, None);
        assert!(!asides.pass(before.try_recv().unwrap()) && missed(&asides));
    }
}
