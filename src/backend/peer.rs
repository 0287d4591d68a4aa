//! The client on whose behalf a backend is asked: what it declared, and the way to it while it waits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, oneshot};

use super::deadline::Deadline;
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::wire::era::Era;
use crate::wire::hop;

/// How long a client, and the person before it, may take to answer a question of a backend.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// A larger message of a backend is not passed on: what is buffered for a slow client stays bounded. Bytes; a question may
/// hold an image.
const MAX_NOTICE: usize = 256 << 10;
const MAX_QUESTION: usize = 4 << 20;

/// Kibibytes that may wait for one client, and for all of them: a hostile backend fills no more.
const ROOM: usize = 6 << 10;
const ROOM_OF_ALL: usize = 256 << 10;
static ALL: Semaphore = Semaphore::const_new(ROOM_OF_ALL);

/// What a backend says before it answers.
#[derive(Debug)]
pub enum Aside {
    Notification { method: String, params: Option<Json>, room: Room },
    Question(Question),
}

/// The room that something takes while it waits for its client.
#[derive(Debug)]
pub struct Room {
    _own: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'static>,
}

/// Where what a backend says waits for its client: so many messages, and so many bytes.
#[derive(Debug, Clone)]
pub struct Asides {
    sender: mpsc::Sender<Aside>,
    room: Arc<Semaphore>,
}

/// A way for so many messages at a time.
#[must_use]
pub fn asides(messages: usize) -> (Asides, mpsc::Receiver<Aside>) {
    let (sender, receiver) = mpsc::channel(messages);
    (Asides { sender, room: Arc::new(Semaphore::new(ROOM)) }, receiver)
}

impl Asides {
    /// One that nobody hears.
    #[must_use]
    pub fn deaf() -> Self {
        asides(1).0
    }

    fn room(&self, params: Option<&Json>) -> Option<Room> {
        let bytes = params.map_or(0, |params| params.bytes().len());
        let size = u32::try_from(bytes.div_ceil(1 << 10) + 1).ok()?;
        let own = Arc::clone(&self.room).try_acquire_many_owned(size).ok()?;
        Some(Room { _own: own, _of_all: ALL.try_acquire_many(size).ok()? })
    }

    /// Passes on what has waited elsewhere. False where there is no place for it.
    #[must_use]
    pub fn pass(&self, aside: Aside) -> bool {
        self.sender.try_send(aside).is_ok()
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
        let told = fits
            .then(|| self.room(params.as_ref()))
            .flatten()
            .is_some_and(|room| self.pass(Aside::Notification { method: method.to_owned(), params, room }));
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
        let (question, reply) = Question::new(method, params, room);
        if question.room.is_none() || !self.pass(Aside::Question(question)) {
            return Err(error(-32603, "the client cannot be asked now"));
        }
        Ok(reply)
    }
}

/// A request of a backend to the client: `sampling/createMessage`, `elicitation/create`, `roots/list`.
#[derive(Debug)]
pub struct Question {
    pub method: String,
    pub params: Option<Json>,
    answer: oneshot::Sender<Result<Json, Json>>,
    /// Held until it is answered.
    room: Option<Room>,
}

/// The answer to a question: its result, or its JSON-RPC error object.
pub(crate) type Reply = oneshot::Receiver<Result<Json, Json>>;

impl Question {
    fn new(method: &str, params: Option<Json>, room: Option<Room>) -> (Self, Reply) {
        let (answer, reply) = oneshot::channel();
        (Self { method: method.to_owned(), params, answer, room }, reply)
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

/// A client that can hear and answer while its request is carried.
#[derive(Debug, Clone)]
pub struct Peer {
    pub era: Era,
    /// Names the backend session that this client's requests share: never the same for two principals.
    pub session: Arc<str>,
    /// Whose accounts are used for it.
    pub user: Arc<str>,
    /// Whether the session is one that the client opened and will use again.
    pub lasting: bool,
    /// The client's capabilities, an object: declared to the backend as they are.
    pub capabilities: Json,
    /// The level from which on the client wants log messages.
    pub log_level: Option<String>,
    /// Members of the client's params that travel on beside those that are judged, such as `,"task":{}`.
    pub rest: String,
    /// Members of the client's `_meta` that travel on, in the same form.
    pub meta: String,
    /// What the backend says goes here; where there is no room, notifications are lost and questions refused.
    pub asides: Asides,
}

impl Peer {
    /// A principal that hears nothing: its calls are only kept apart from those of others.
    pub(crate) fn silent(key: &KeyId, user: &Arc<str>) -> Self {
        Self {
            era: Era::Legacy,
            session: format!("{key} calls").into(),
            user: Arc::clone(user),
            lasting: true,
            capabilities: Json::from_parts(String::from("{}")),
            log_level: None,
            rest: String::new(),
            meta: String::new(),
            asides: Asides::deaf(),
        }
    }

    /// Whether the client declared a capability such as `sampling`.
    #[must_use]
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.value().get(capability).is_some_and(|value| !value.is_null())
    }

    /// Whether what a legacy backend does for it depends on the session it is done in.
    pub(crate) fn needs_session(&self) -> bool {
        self.lasting
            || self.log_level.is_some()
            || ["sampling", "elicitation", "roots"].iter().any(|name| self.can(name))
    }

    /// Whether what it is answered depends on nothing but what was judged: it cannot be asked, and says nothing besides.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let says = !self.rest.is_empty() || !self.meta.is_empty();
        !self.lasting && !says && !["sampling", "elicitation", "roots"].iter().any(|name| self.can(name))
    }

    /// What it says beside what is judged, as one object; `None` where that is nothing.
    #[must_use]
    pub fn beside(&self) -> Option<Json> {
        let meta = self.meta.strip_prefix(',').map(|meta| format!(",\"_meta\":{{{meta}}}")).unwrap_or_default();
        let members = format!("{}{meta}", self.rest);
        Some(Json::from_parts(format!("{{{}}}", members.strip_prefix(',')?)))
    }

    /// What it answers to questions of the backend's, an object.
    #[must_use]
    pub fn answers(&self) -> Option<Json> {
        const ANSWERS: &str = "inputResponses";
        let says = self.rest.contains(ANSWERS);
        hop::member(self.beside().filter(|_| says).as_ref(), ANSWERS)
    }

    /// Whether the client may be asked so.
    pub(crate) fn takes(&self, method: &str, params: Option<&Json>) -> bool {
        hop::may_ask(&self.capabilities.value(), method, params)
    }
}

/// Waits for the client's answer, holding the call's deadline meanwhile; gives the result or the error object.
pub(crate) async fn answer(reply: Reply, deadline: Option<&Deadline>) -> Result<Json, Json> {
    // So long for all that one call asks, or a backend that asks again and again would keep it for ever.
    let patience = deadline.map_or(PATIENCE, |deadline| PATIENCE.saturating_sub(deadline.was_held()));
    let held = deadline.map(Deadline::hold);
    let answer = match tokio::time::timeout(patience, reply).await {
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

/// Falls when a backend says that a list of its has changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub tools: Notify,
    pub prompts: Notify,
    pub resources: Notify,
}

impl Changes {
    /// Anything may have changed.
    pub(crate) fn all(&self) {
        for list in [&self.tools, &self.prompts, &self.resources] {
            list.notify_one();
        }
    }

    /// True where the notification is one of these.
    pub(crate) fn take(&self, method: &str) -> bool {
        match method {
            "notifications/tools/list_changed" => self.tools.notify_one(),
            "notifications/prompts/list_changed" => self.prompts.notify_one(),
            "notifications/resources/list_changed" => self.resources.notify_one(),
            _ => return false,
        }
        true
    }
}

/// What a link is opened with: what the gateway declares there, and who hears what belongs to no request.
#[derive(Debug, Clone)]
pub(crate) struct Audience {
    /// An object: the client's capabilities, or none.
    pub capabilities: Json,
    /// Takes what the backend says outside of any request.
    pub ambient: Option<Asides>,
    pub changes: Arc<Changes>,
}

impl Audience {
    /// Whether the backend was told that it may ask so.
    pub(crate) fn declares(&self, method: &str, params: Option<&Json>) -> bool {
        hop::may_ask(&self.capabilities.value(), method, params)
    }

    /// Of a link that many clients share: it declares nothing, and hears only of changes.
    pub(crate) fn shared(changes: Arc<Changes>) -> Self {
        Self { capabilities: Json::from_parts(String::from("{}")), ambient: None, changes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_beside_what_is_judged_is_one_object() {
        let peer = Peer { lasting: false, ..Peer::silent(&KeyId::from("k"), &Arc::from("u")) };
        let of = |rest: &str, meta: &str| Peer { rest: rest.into(), meta: meta.into(), ..peer.clone() };
        for (rest, meta, beside) in [
            (r#","x":1.0"#, "", r#"{"x":1.0}"#),
            ("", r#","y":[]"#, r#"{"_meta":{"y":[]}}"#),
            (r#","x":1,"z":2"#, r#","y":3"#, r#"{"x":1,"z":2,"_meta":{"y":3}}"#),
        ] {
            let peer = of(rest, meta);
            assert_eq!(peer.beside().unwrap().as_str(), beside);
            assert!(!peer.is_plain(), "its answer may be another's");
        }
        assert!(peer.is_plain() && peer.beside().is_none());
    }
}
