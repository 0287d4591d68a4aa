//! What is held of a legacy client's session with one server: as little as can be, and only while it is used. The session
//! itself is sealed in its id and outlives all of this.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::tape::{Tape, Tapes};
use crate::authn::session::fingerprint;
use crate::backend::{Aside, Asides, PATIENCE, Question, asides};
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::{Json, hex};

/// Sessions that one key, and all keys, may have in use.
const MAX_OF_KEY: usize = 128;
const MAX: usize = 4096;
/// What a backend says while no stream is open waits, up to so many messages.
const WAITING: usize = 256;
/// Questions that one client may have before it at a time.
const MAX_QUESTIONS: usize = 64;
/// Resources that one client may follow.
const MAX_SUBSCRIPTIONS: usize = 256;
/// A session that nobody has used for so long is forgotten; it begins anew when its id comes again.
const IDLE: Duration = Duration::from_secs(1800);

/// A client's session with one server.
#[derive(Debug)]
pub struct Visitor {
    /// Names its session with the backend.
    pub session: Arc<str>,
    key: KeyId,
    /// What the client declared, an object.
    pub capabilities: Json,
    /// The level that it asked for with `logging/setLevel`.
    log_level: Mutex<Option<String>>,
    questions: Mutex<HashMap<u64, Question>>,
    next: AtomicU64,
    /// What the backend says outside of requests; the session's stream takes it.
    ambient: tokio::sync::Mutex<mpsc::Receiver<Aside>>,
    sink: Asides,
    followed: tokio::sync::Mutex<Followed>,
    tapes: Tapes,
    used: AtomicU64,
    /// Falls when the client ends the session.
    pub ended: CancellationToken,
}

/// The resources that a client follows at a backend where somebody has to listen for it.
#[derive(Debug, Default)]
pub struct Followed {
    uris: BTreeSet<String>,
    listener: Option<CancellationToken>,
}

impl Followed {
    /// What is followed with this one, or without it; `None` where nothing changes by it.
    ///
    /// # Errors
    /// Where it would be too many.
    pub fn with(&self, uri: &str, on: bool) -> Result<Option<Vec<String>>, &'static str> {
        if self.uris.contains(uri) == on {
            return Ok(None);
        }
        if on && self.uris.len() >= MAX_SUBSCRIPTIONS {
            return Err("this session follows as many resources as it may");
        }
        let others = self.uris.iter().filter(|other| **other != uri).cloned();
        Ok(Some(others.chain(on.then(|| uri.to_owned())).collect()))
    }

    /// Another listener is there for these; the one before ends.
    pub fn replace(&mut self, uris: Vec<String>, listener: Option<CancellationToken>) {
        self.uris = uris.into_iter().collect();
        if let Some(before) = std::mem::replace(&mut self.listener, listener) {
            before.cancel();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Visitor {
    fn new(session: Arc<str>, key: KeyId, capabilities: Json) -> Self {
        let (sink, ambient) = asides(WAITING);
        Self {
            session,
            key,
            capabilities,
            log_level: Mutex::default(),
            questions: Mutex::default(),
            next: AtomicU64::new(1),
            ambient: tokio::sync::Mutex::new(ambient),
            sink,
            followed: tokio::sync::Mutex::default(),
            tapes: Tapes::default(),
            used: AtomicU64::new(0),
            ended: CancellationToken::new(),
        }
    }

    #[must_use]
    pub fn log_level(&self) -> Option<String> {
        lock(&self.log_level).clone()
    }

    pub fn set_log_level(&self, level: String) {
        *lock(&self.log_level) = Some(level);
    }

    /// Where what the backend says outside of requests goes.
    #[must_use]
    pub fn sink(&self) -> Asides {
        self.sink.clone()
    }

    /// Takes what the backend says outside of requests; one stream at a time has it.
    #[must_use]
    pub fn ambient(&self) -> Option<tokio::sync::MutexGuard<'_, mpsc::Receiver<Aside>>> {
        self.ambient.try_lock().ok()
    }

    /// Puts a question before the client: the request's id, under which the answer will come.
    #[must_use]
    pub fn put(&self, question: Question) -> Option<u64> {
        let mut questions = lock(&self.questions);
        questions.retain(|_, question| question.is_wanted());
        if questions.len() >= MAX_QUESTIONS {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        questions.insert(id, question);
        Some(id)
    }

    /// The question before the client under `id`, a JSON text: whoever takes it answers it.
    #[must_use]
    pub fn take(&self, id: &str) -> Option<Question> {
        id.parse().ok().and_then(|id: u64| lock(&self.questions).remove(&id))
    }

    /// Forgets a question that its backend has taken back; gives its id, where the client has not answered.
    #[must_use]
    pub fn withdrawn(&self, number: u64) -> Option<u64> {
        let mut questions = lock(&self.questions);
        let id = *questions.iter().find(|(_, question)| question.number == number)?.0;
        questions.remove(&id).map(|_| id)
    }

    /// A stream that this client can take up again; `None` where it has too many of them. `ambient`: it belongs to no
    /// request.
    #[must_use]
    pub fn tape(&self, now: u64, ambient: bool) -> Option<Arc<Tape>> {
        self.tapes.begin(now, ambient)
    }

    /// A stream of this client's that was taken up again.
    #[must_use]
    pub fn taped(&self, number: u64) -> Option<Arc<Tape>> {
        self.tapes.get(number)
    }

    /// What it follows where somebody has to listen for it; one at a time changes it.
    pub async fn followed(&self) -> tokio::sync::MutexGuard<'_, Followed> {
        self.followed.lock().await
    }

    /// Whether it follows nothing, as far as can be told now.
    fn follows_nothing(&self) -> bool {
        self.followed.try_lock().is_ok_and(|followed| followed.uris.is_empty())
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.followed.get_mut().replace(Vec::new(), None);
    }
}

/// The session of a key that was not used for longest, of those with nothing that would be missed.
fn dispensable(all: &HashMap<Arc<str>, Arc<Visitor>>, key: &KeyId) -> Option<Arc<str>> {
    let free =
        |visitor: &Arc<Visitor>| visitor.key == *key && Arc::strong_count(visitor) == 1 && visitor.follows_nothing();
    let free = all.iter().filter(|(_, visitor)| free(visitor));
    let (session, _) = free.min_by_key(|(_, visitor)| visitor.used.load(Ordering::Relaxed))?;
    Some(Arc::clone(session))
}

/// The sessions in use.
#[derive(Debug, Default)]
pub(super) struct Visitors(Mutex<HashMap<Arc<str>, Arc<Visitor>>>);

impl Visitors {
    /// The visitor of a session at a server, or at all of them. Where the key has too many, one that is not in use goes: it
    /// begins anew when it comes again. `None` where there is none that could.
    pub(super) fn get(
        &self,
        id: &str,
        key: &KeyId,
        server: Option<&ServerName>,
        capabilities: &Json,
        now: u64,
    ) -> Option<Arc<Visitor>> {
        let server = server.map_or("", ServerName::as_str);
        let session: Arc<str> = format!("{key} {} {server}", hex(&fingerprint(key, id))).into();
        let mut all = lock(&self.0);
        if let Some(visitor) = all.get(&session) {
            visitor.used.store(now, Ordering::Relaxed);
            return Some(Arc::clone(visitor));
        }
        all.retain(|_, visitor| Arc::strong_count(visitor) > 1 || !visitor.is_idle(now));
        let own = all.values().filter(|visitor| visitor.key == *key).count();
        if all.len() >= MAX || own >= MAX_OF_KEY {
            let dispensable = dispensable(&all, key)?;
            all.remove(&dispensable);
        }
        let visitor = Arc::new(Visitor::new(Arc::clone(&session), key.clone(), capabilities.clone()));
        visitor.used.store(now, Ordering::Relaxed);
        all.insert(session, Arc::clone(&visitor));
        Some(visitor)
    }

    /// Forgets an ended session, at every server; gives the names of its sessions with backends.
    pub(super) fn end(&self, id: &str, key: &KeyId) -> Vec<Arc<str>> {
        let prefix = format!("{key} {} ", hex(&fingerprint(key, id)));
        let mut all = lock(&self.0);
        let ended: Vec<Arc<str>> = all.keys().filter(|session| session.starts_with(&prefix)).cloned().collect();
        for session in &ended {
            if let Some(visitor) = all.remove(session) {
                visitor.ended.cancel();
            }
        }
        ended
    }

    /// Forgets what nobody has used for a while.
    pub(super) fn sweep(&self, now: u64) {
        let mut all = lock(&self.0);
        all.retain(|_, visitor| Arc::strong_count(visitor) > 1 || !visitor.is_idle(now));
        for visitor in all.values() {
            visitor.tapes.sweep(now);
        }
    }
}

impl Visitor {
    fn is_idle(&self, now: u64) -> bool {
        let unused = Duration::from_micros(now.saturating_sub(self.used.load(Ordering::Relaxed)));
        unused >= IDLE.max(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_one_visitor_at_each_server_and_never_another_key_s() {
        let visitors = Visitors::default();
        let (up, down): (ServerName, ServerName) = ("up".parse().unwrap(), "down".parse().unwrap());
        let none = Json::from_parts("{}".into());
        let get = |id: &str, key: &str, server| visitors.get(id, &KeyId::from(key), Some(server), &none, 0).unwrap();
        assert!(Arc::ptr_eq(&get("a", "k", &up), &get("a", "k", &up)));
        assert!(!Arc::ptr_eq(&get("a", "k", &up), &get("a", "k", &down)));
        assert!(!Arc::ptr_eq(&get("a", "k", &up), &get("a", "l", &up)));
        assert_eq!(visitors.end("a", &KeyId::from("k")).len(), 2);
        assert_eq!(visitors.end("a", &KeyId::from("k")).len(), 0);
    }

    #[test]
    fn a_key_holds_no_more_than_its_share_and_idle_sessions_make_room() {
        let visitors = Visitors::default();
        let up: ServerName = "up".parse().unwrap();
        let none = Json::from_parts("{}".into());
        let get = |n: usize, now: u64| visitors.get(&n.to_string(), &KeyId::from("k"), Some(&up), &none, now);
        let mut held: Vec<_> = (0..MAX_OF_KEY).map(|n| get(n, n as u64).unwrap()).collect();
        assert!(get(MAX_OF_KEY, 1000).is_none(), "all are in use");
        held[0].followed.try_lock().unwrap().replace(vec!["x://y".into()], None);
        held.truncate(3);
        let (zero, three) = (Arc::clone(&held[0].session), get(3, 3).unwrap().session.clone());
        drop(held);
        assert!(get(MAX_OF_KEY, 1000).is_some(), "the longest unused that follows nothing makes room");
        let kept = lock(&visitors.0).contains_key(&zero);
        assert!(kept && lock(&visitors.0).contains_key(&three));
        assert_eq!(lock(&visitors.0).len(), MAX_OF_KEY);
        let later = u64::try_from(IDLE.as_micros()).unwrap() + 2000;
        assert!(get(MAX_OF_KEY + 1, later).is_some());
        assert_eq!(lock(&visitors.0).len(), 1);
    }

    #[test]
    fn so_many_resources_are_followed_and_the_listener_before_ends() {
        let mut followed = Followed::default();
        assert_eq!(followed.with("a", false), Ok(None), "nobody follows it");
        let listener = CancellationToken::new();
        followed.replace(followed.with("a", true).unwrap().unwrap(), Some(listener.clone()));
        assert_eq!(followed.with("a", true), Ok(None), "it is followed already");
        assert_eq!(followed.with("b", true), Ok(Some(vec!["a".into(), "b".into()])));
        assert!(!listener.is_cancelled());
        followed.replace((0..MAX_SUBSCRIPTIONS).map(|n| n.to_string()).collect(), None);
        assert!(listener.is_cancelled() && followed.with("a", true).is_err());
        assert_eq!(followed.with("0", false).unwrap().unwrap().len(), MAX_SUBSCRIPTIONS - 1);
    }

    #[test]
    fn what_has_ended_is_forgotten_though_nobody_comes_again() {
        let visitors = Visitors::default();
        let (up, none): (ServerName, Json) = ("up".parse().unwrap(), Json::from_parts("{}".into()));
        let visitor = visitors.get("a", &KeyId::from("k"), Some(&up), &none, 0).unwrap();
        let tape = visitor.tape(0, false).unwrap();
        tape.end(Some(b"data: x\n\n"), 0);
        let kept = u64::try_from(Duration::from_secs(60).as_micros()).unwrap();
        visitors.sweep(kept - 1);
        assert_eq!(Arc::strong_count(&tape), 2);
        visitors.sweep(kept);
        assert_eq!(Arc::strong_count(&tape), 1);
        assert_eq!(visitors.end("a", &KeyId::from("k")).len(), 1);
        assert!(visitor.ended.is_cancelled());
    }
}
