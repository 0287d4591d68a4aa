//! What clients follow at one legacy server, and what they want to hear of its log: a session that is begun anew knows
//! nothing of either.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::iter;

use super::asides::Asides;
use super::ask::{Ask, Params};
use super::breaker::{backoff, jitter};
use super::fault::FaultKind;
use super::link::Link;
use super::peer::Peer;
use super::registry::Hub;
use super::server::Server;
use super::sessions::LISTENS;

/// Resources that one client may follow.
const MAX_OF_SESSION: usize = 256;
/// Subscriptions that are on their way at once, and how long all of a session's may take.
const AT_ONCE: usize = 8;
const ALL_TIMEOUT: Duration = Duration::from_secs(10);

/// By the names of sessions.
#[derive(Debug, Default)]
pub(crate) struct Followed(Mutex<HashMap<Arc<str>, Following>>);

#[derive(Debug)]
struct Following {
    /// The client, deaf.
    peer: Peer,
    uris: BTreeSet<String>,
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Following>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, peer: &Peer, change: impl FnOnce(&mut Following)) {
        // Who has a session for one subscription comes again by itself.
        if !peer.lasting || peer.session.contains(LISTENS) {
            return;
        }
        let (rest, meta) = Default::default();
        let new =
            || Following { peer: Peer { asides: Asides::deaf(), rest, meta, ..peer.clone() }, uris: BTreeSet::new() };
        change(self.lock().entry(Arc::clone(&peer.session)).or_insert_with(new));
    }

    /// A client was taken to follow a resource, or no more.
    pub(crate) fn follows(&self, peer: &Peer, uri: &str, on: bool) {
        self.with(peer, |following| {
            if !on {
                following.uris.remove(uri);
            } else if following.uris.len() < MAX_OF_SESSION {
                following.uris.insert(uri.to_owned());
            }
        });
    }

    /// A client was taken to hear log messages from this level on.
    pub(crate) fn level(&self, peer: &Peer) {
        self.with(peer, |following| following.peer.log_level.clone_from(&peer.log_level));
    }

    /// The client of a session that follows something.
    pub(crate) fn follower(&self, session: &str) -> Option<Peer> {
        let all = self.lock();
        all.get(session).filter(|following| !following.uris.is_empty()).map(|following| following.peer.clone())
    }

    /// Forgets all sessions but these.
    pub(crate) fn retain(&self, keep: impl Fn(&Arc<str>) -> bool) {
        self.lock().retain(|session, _| keep(session));
    }

    /// Tells a session that has just been begun what its client wants to hear.
    pub(crate) async fn restore(&self, link: &Link, session: &str) {
        let known =
            self.lock().get(session).map(|following| (following.peer.log_level.clone(), following.uris.clone()));
        let Some((level, uris)) = known else { return };
        let restoring = async {
            if let Some(level) = level {
                link.set_level(&level).await;
            }
            let each = async |uri: String| {
                let asked = link.ask(&Ask::plain("resources/subscribe", Params::Uri(&uri))).await;
                if let Err(fault) = asked {
                    tracing::debug!(session, fault = fault.word(), "a resource cannot be followed any more");
                    if let (FaultKind::Rpc(_), Some(following)) = (fault.kind, self.lock().get_mut(session)) {
                        following.uris.remove(&uri);
                    }
                }
            };
            iter(uris).for_each_concurrent(AT_ONCE, each).await;
        };
        if tokio::time::timeout(ALL_TIMEOUT, restoring).await.is_err() {
            tracing::debug!(session, "a session that was begun anew does not take what its client follows");
        }
        link.missed();
    }
}

/// Opens a session anew whose client follows something and hears what is said there: it has no reason to ask first.
pub(super) fn revive(server: Arc<Server>, hub: Arc<Hub>, session: Arc<str>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut attempt = 0;
        while server.sessions.attended().contains_key(&session)
            && let Some(peer) = server.sessions.followed.follower(&session)
        {
            let rest = tokio::time::sleep(backoff(attempt, jitter()));
            if server.stop.run_until_cancelled(rest).await.is_none() {
                return;
            }
            let ask = Ask { peer: Some(&peer), ..Ask::plain("ping", Params::None) };
            if server.reach(&ask, &hub).await.is_ok() {
                return;
            }
            attempt = attempt.saturating_add(1);
        }
    })
}
