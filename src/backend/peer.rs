//! The client on whose behalf a backend is asked: what it declared, and the way to it while it waits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use super::deadline::Deadline;
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::wire::era::Era;

/// How long a client, and the person before it, may take to answer a question of a backend.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// A larger message of a backend is not passed on: what is buffered for a slow client stays bounded. Bytes; a question may
/// hold an image.
const MAX_NOTICE: usize = 256 << 10;
const MAX_QUESTION: usize = 4 << 20;

/// What a backend says before it answers.
#[derive(Debug)]
pub enum Aside {
    Notification { method: String, params: Option<Json> },
    Question(Question),
}

/// A request of a backend to the client: `sampling/createMessage`, `elicitation/create`, `roots/list`.
#[derive(Debug)]
pub struct Question {
    pub method: String,
    pub params: Option<Json>,
    answer: oneshot::Sender<Result<Json, Json>>,
}

/// The answer to a question: its result, or its JSON-RPC error object.
pub(crate) type Reply = oneshot::Receiver<Result<Json, Json>>;

impl Question {
    pub(crate) fn new(method: impl Into<String>, params: Option<Json>) -> (Self, Reply) {
        let (answer, reply) = oneshot::channel();
        (Self { method: method.into(), params, answer }, reply)
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
    /// What the backend says goes here; a full channel loses notifications and refuses questions.
    pub asides: mpsc::Sender<Aside>,
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
            asides: mpsc::channel(1).0,
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

    /// Whether a client may be asked by this method.
    pub(crate) fn takes(&self, method: &str) -> bool {
        capability_of(method).is_some_and(|capability| self.can(capability))
    }

    pub(crate) fn tell(&self, method: &str, params: Option<Json>) {
        tell(&self.asides, method, params);
    }
}

/// The capability that a client must have declared to be asked by this method.
#[must_use]
pub fn capability_of(method: &str) -> Option<&'static str> {
    match method {
        "sampling/createMessage" => Some("sampling"),
        "elicitation/create" => Some("elicitation"),
        "roots/list" => Some("roots"),
        _ => None,
    }
}

/// Passes a notification on, where there is room for it.
pub(crate) fn tell(asides: &mpsc::Sender<Aside>, method: &str, params: Option<Json>) {
    if params.as_ref().is_some_and(|params| params.bytes().len() > MAX_NOTICE) {
        tracing::debug!(method, "a notification is too large to be passed on");
        return;
    }
    if asides.try_send(Aside::Notification { method: method.to_owned(), params }).is_err() {
        tracing::debug!(method, "a notification is lost: nobody takes it");
    }
}

/// Asks the client, holding the call's deadline meanwhile; gives the result or the error object.
pub(crate) async fn ask(
    asides: &mpsc::Sender<Aside>,
    method: &str,
    params: Option<Json>,
    deadline: Option<&Deadline>,
) -> Result<Json, Json> {
    if params.as_ref().is_some_and(|params| params.bytes().len() > MAX_QUESTION) {
        return Err(error(-32603, "the request is too large to be passed on"));
    }
    let (question, reply) = Question::new(method, params);
    if asides.try_send(Aside::Question(question)).is_err() {
        return Err(error(-32603, "the client cannot be asked now"));
    }
    let _held = deadline.map(Deadline::hold);
    match tokio::time::timeout(PATIENCE, reply).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(error(-32603, "the client has gone")),
        Err(_) => Err(error(-32603, "the client did not answer in time")),
    }
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
    pub ambient: Option<mpsc::Sender<Aside>>,
    pub changes: Arc<Changes>,
}

impl Audience {
    /// Whether the backend may send this request outside of any of the client's.
    pub(crate) fn declares(&self, method: &str) -> bool {
        self.ambient.is_some()
            && capability_of(method)
                .is_some_and(|name| self.capabilities.value().get(name).is_some_and(|it| !it.is_null()))
    }

    /// Of a link that many clients share: it declares nothing, and hears only of changes.
    pub(crate) fn shared(changes: Arc<Changes>) -> Self {
        Self { capabilities: Json::from_parts(String::from("{}")), ambient: None, changes }
    }
}
