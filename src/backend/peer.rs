//! The client on whose behalf a backend is asked: what it declared, and the way to it while it waits.

use std::sync::Arc;

use tokio::sync::Notify;

use super::asides::Asides;
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::wire::era::Era;
use crate::wire::hop;

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
        self.lasting || self.log_level.is_some() || self.may_be_asked()
    }

    /// Whether it declared that it can be asked anything.
    #[must_use]
    pub fn may_be_asked(&self) -> bool {
        ["sampling", "elicitation", "roots"].iter().any(|name| self.can(name))
    }

    /// Whether what it is answered depends on nothing but what was judged: it cannot be asked, and says nothing besides.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let says = !self.rest.is_empty() || !self.meta.is_empty();
        !self.lasting && !says && !self.may_be_asked()
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
