//! Legacy sessions: sealed ids need no table; the only ones remembered are those that their client ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::Gateway;
use crate::authn::session::{LIFETIME_MS, Opened, Sealer, Session, fingerprint, names_of};
use crate::domain::clock::Moment;
use crate::domain::json::Json;
use crate::domain::principal::Principal;
use crate::store::Store;

/// Ended sessions that are remembered for one key, and for all keys together. Of more the oldest is forgotten: its id
/// would open a fresh session of the same key, until it expires.
const MAX_ENDED_OF_KEY: usize = 256;
const MAX_ENDED: usize = 65_536;

/// The sealer, and the ended ids until they would have expired anyway.
#[derive(Debug)]
pub(super) struct Sessions {
    sealer: Sealer,
    ended: Mutex<Ended>,
    store: Store,
}

/// What [`fingerprint`] gives.
type Name = [u8; 32];

/// The names of ended sessions, with the time at which they would have expired.
#[derive(Debug)]
struct Ended {
    by_name: BTreeMap<Name, Moment>,
    by_end: BTreeSet<(Moment, Name)>,
    most_of_key: usize,
    most: usize,
}

impl Ended {
    const fn new(most_of_key: usize, most: usize) -> Self {
        Self { by_name: BTreeMap::new(), by_end: BTreeSet::new(), most_of_key, most }
    }

    fn contains(&self, name: &Name) -> bool {
        self.by_name.contains_key(name)
    }

    /// Remembers a session; gives those that had to be forgotten for it. What has expired is forgotten in silence.
    fn remember(&mut self, name: Name, until: Moment, now: Moment) -> Vec<Name> {
        while let Some((_, expired)) = self.by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.forget(&expired);
        }
        self.forget(&name);
        let mut forgotten = Vec::new();
        let of_key = self.by_name.range(names_of(&name));
        if of_key.clone().count() >= self.most_of_key {
            forgotten.extend(of_key.min_by_key(|(_, end)| **end).map(|(oldest, _)| *oldest));
        } else if self.by_end.len() >= self.most {
            forgotten.extend(self.by_end.first().map(|(_, oldest)| *oldest));
        }
        for oldest in &forgotten {
            self.forget(oldest);
        }
        self.by_name.insert(name, until);
        self.by_end.insert((until, name));
        forgotten
    }

    fn forget(&mut self, name: &Name) {
        if let Some(end) = self.by_name.remove(name) {
            self.by_end.remove(&(end, *name));
        }
    }
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
    pub(super) fn new(sealer: Sealer, kept: Vec<(Name, Moment)>, store: Store, now: Moment) -> Self {
        let mut ended = Ended::new(MAX_ENDED_OF_KEY, MAX_ENDED);
        for (name, until) in kept {
            ended.remember(name, until, now);
        }
        Self { sealer, ended: Mutex::new(ended), store }
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
        let name = fingerprint(&principal.key, id);
        if self.sessions.ended.lock().unwrap_or_else(PoisonError::into_inner).contains(&name) {
            return Visit::Gone;
        }
        match self.sessions.sealer.open(id, &principal.key, self.now()) {
            Opened::Valid(session) => Visit::Open(Some(session)),
            Opened::Unreadable => Visit::Open(None),
            Opened::Foreign => Visit::Gone,
        }
    }

    /// Ends a session for good, over restarts too.
    pub async fn end_session(&self, id: &str, session: &Session) {
        self.forget_visitors(id, &session.key);
        let (name, now) = (fingerprint(&session.key, id), self.now());
        let until = Moment(session.issued.0.saturating_add(LIFETIME_MS));
        let forgotten = self.sessions.ended.lock().unwrap_or_else(PoisonError::into_inner).remember(name, until, now);
        if let Err(error) = self.sessions.store.end_session(name, until, forgotten, now).await {
            tracing::warn!(%error, "an ended session could not be written down; it is forgotten at the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::KeyId;

    fn name(key: &str, number: i64) -> Name {
        fingerprint(&KeyId::from(key), &number.to_string())
    }

    #[test]
    fn a_key_ends_many_sessions_at_its_own_cost() {
        let mut ended = Ended::new(3, 100);
        ended.remember(name("other", 0), Moment(10), Moment(0));
        for number in 0..3 {
            assert!(ended.remember(name("a", number), Moment(20 + number), Moment(0)).is_empty());
        }
        assert!(ended.remember(name("a", 1), Moment(21), Moment(0)).is_empty(), "twice is once");
        assert_eq!(ended.remember(name("a", 3), Moment(23), Moment(0)), [name("a", 0)]);
        assert!(ended.contains(&name("other", 0)) && ended.contains(&name("a", 3)) && !ended.contains(&name("a", 0)));
        assert_eq!((ended.by_name.len(), ended.by_end.len()), (4, 4));
    }

    #[test]
    fn all_keys_together_are_bounded_and_the_oldest_goes_first() {
        let mut ended = Ended::new(100, 3);
        for (number, key) in ["a", "b", "c"].into_iter().enumerate() {
            ended.remember(name(key, 0), Moment(10 + i64::try_from(number).unwrap()), Moment(0));
        }
        assert_eq!(ended.remember(name("d", 0), Moment(20), Moment(0)), [name("a", 0)]);
        assert!(ended.remember(name("e", 0), Moment(30), Moment(12)).is_empty(), "what expired makes room");
        assert_eq!((ended.by_name.len(), ended.by_end.len()), (2, 2));
    }
}
