//! What is held of a legacy client's session with one server: as little as can be, and only while it is used. The session
//! itself is sealed in its id and outlives all of this.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

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
pub const MAX_FOLLOWED: usize = 256;
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
    followed: Mutex<Followed>,
    /// Held while that is being changed.
    following: tokio::sync::Mutex<()>,
    tapes: Tapes,
    used: AtomicU64,
    /// Falls when the client ends the session.
    pub ended: CancellationToken,
}

/// The resources that a client follows, and whoever listens for it at a backend that needs that.
#[derive(Debug, Default)]
struct Followed {
    uris: BTreeSet<String>,
    _listener: Option<DropGuard>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Visitor {
    fn new(session: Arc<str>, key: KeyId, capabilities: Json) -> Self {
        let (sink, ambient) = asides(WAITING);
        let sink = sink.of(&key);
        Self {
            session,
            key,
            capabilities,
            log_level: Mutex::default(),
            questions: Mutex::default(),
            next: AtomicU64::new(1),
            ambient: tokio::sync::Mutex::new(ambient),
            sink,
            followed: Mutex::default(),
            following: tokio::sync::Mutex::default(),
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
    pub fn put(&self, mut question: Question) -> Option<u64> {
        question.asked();
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

    /// Wakes once a change of a resource that it follows may have been lost.
    pub async fn missed(&self) {
        self.sink.missed().notified().await;
    }

    /// Waits until nobody else changes what it follows, and keeps others from it.
    pub async fn following(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.following.lock().await
    }

    /// The resources that it follows.
    #[must_use]
    pub fn followed(&self) -> BTreeSet<String> {
        lock(&self.followed).uris.clone()
    }

    /// From now on it follows these, and `listener` listens for it. Whoever did before ends.
    pub fn follows(&self, uris: BTreeSet<String>, listener: Option<DropGuard>) {
        *lock(&self.followed) = Followed { uris, _listener: listener };
    }

    /// It follows one more, or one less, at a backend that tells its session.
    pub fn notes(&self, uri: &str, on: bool) {
        let uris = &mut lock(&self.followed).uris;
        if !on {
            uris.remove(uri);
        } else if uris.len() < MAX_FOLLOWED {
            uris.insert(uri.to_owned());
        }
    }
}

/// The session of a key that was not used for longest, of those with nothing that would be missed.
fn dispensable(all: &HashMap<Arc<str>, Arc<Visitor>>, key: &KeyId) -> Option<Arc<str>> {
    let free = |visitor: &Arc<Visitor>| {
        visitor.key == *key && Arc::strong_count(visitor) == 1 && lock(&visitor.followed).uris.is_empty()
    };
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
        held[0].notes("x://y", true);
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
    fn a_client_follows_so_many_resources_and_whoever_listened_before_ends() {
        let visitor = Visitor::new("s".into(), KeyId::from("k"), Json::from_parts("{}".into()));
        let listener = CancellationToken::new();
        visitor.follows(["x://0".to_owned()].into(), Some(listener.clone().drop_guard()));
        for number in 0..2 * MAX_FOLLOWED {
            visitor.notes(&format!("x://{number}"), true);
        }
        assert_eq!(visitor.followed().len(), MAX_FOLLOWED);
        visitor.notes("x://0", false);
        assert_eq!(visitor.followed().len(), MAX_FOLLOWED - 1);
        assert!(!listener.is_cancelled());
        visitor.follows(BTreeSet::new(), None);
        assert!(listener.is_cancelled() && visitor.followed().is_empty());
    }

    #[test]
    fn what_has_ended_is_forgotten_though_nobody_comes_again() {
        let visitors = Visitors::default();
        let (up, none): (ServerName, Json) = ("up".parse().unwrap(), Json::from_parts("{}".into()));
        let visitor = visitors.get("a", &KeyId::from("k"), Some(&up), &none, 0).unwrap();
        let tape = visitor.tape(0, false).unwrap();
        tape.end(Some(bytes::Bytes::from_static(b"data: x\n\n")), 0);
        let kept = u64::try_from(Duration::from_secs(60).as_micros()).unwrap();
        visitors.sweep(kept - 1);
        assert_eq!(Arc::strong_count(&tape), 2);
        visitors.sweep(kept);
        assert_eq!(Arc::strong_count(&tape), 1);
        assert_eq!(visitors.end("a", &KeyId::from("k")).len(), 1);
        assert!(visitor.ended.is_cancelled());
    }
}
