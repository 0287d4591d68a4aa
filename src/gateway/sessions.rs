//! Legacy sessions: sealed ids need no table; the only ones remembered are those that their client ended.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Gateway;
use crate::authn::session::{LIFETIME_MS, Opened, Sealer, Session, fingerprint};
use crate::domain::clock::Moment;
use crate::domain::json::Json;
use crate::domain::principal::Principal;
use crate::store::Store;

/// The sealer, and the ended ids until they would have expired anyway.
#[derive(Debug)]
pub(super) struct Sessions {
    sealer: Sealer,
    ended: Mutex<HashMap<[u8; 32], Moment>>,
    store: Store,
}

/// What a request's session id makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visit {
    /// A session of this principal; a fresh one where the id cannot be opened.
    Open(Option<Session>),
    /// Ended by its client, or somebody else's: 404.
    Gone,
}

impl Sessions {
    pub(super) fn new(sealer: Sealer, ended: Vec<([u8; 32], Moment)>, store: Store) -> Self {
        Self { sealer, ended: Mutex::new(ended.into_iter().collect()), store }
    }

    pub(super) const fn sealer(&self) -> &Sealer {
        &self.sealer
    }
}

impl Gateway {
    /// A new session id for a principal.
    #[must_use]
    pub fn begin_session(&self, principal: &Principal, version: &str, capabilities: Json) -> Option<String> {
        let session =
            Session { key: principal.key.clone(), version: version.to_owned(), capabilities, issued: self.now() };
        self.sessions.sealer.seal(&session).ok()
    }

    /// What a presented session id means for this principal.
    #[must_use]
    pub fn visit(&self, id: &str, principal: &Principal) -> Visit {
        if self.sessions.ended.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&fingerprint(id)) {
            return Visit::Gone;
        }
        match self.sessions.sealer.open(id, &principal.key, self.now()) {
            Opened::Valid(session) => Visit::Open(Some(session)),
            Opened::Unreadable => Visit::Open(None),
            Opened::Foreign => Visit::Gone,
        }
    }

    /// Ends a session for good, over restarts too.
    pub async fn end_session(&self, id: &str, principal: &Principal) {
        self.forget_visitors(id, principal);
        let (name, now) = (fingerprint(id), self.now());
        let until = Moment(now.0 + LIFETIME_MS);
        {
            let mut ended = self.sessions.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.retain(|_, until| *until > now);
            ended.insert(name, until);
        }
        if let Err(error) = self.sessions.store.end_session(name, until, now).await {
            tracing::warn!(%error, "an ended session could not be written down; it is forgotten at the next start");
        }
    }
}
