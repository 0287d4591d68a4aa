//! Links of single clients to one legacy backend: what it does for one client must never reach another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::asides::Asides;
use super::breaker::{backoff, jitter};
use super::fault::{Fault, FaultKind};
use super::followed::{Followed, revive};
use super::link::{Destination, Link};
use super::oauth::Authorization;
use super::peer::{Audience, Peer};
use super::registry::Hub;
use super::server::Server;
use crate::config::Transport;
use crate::wire::era::Era;

/// Links that one server may have beside the shared one: sessions with a remote server, child processes.
const MAX_REMOTE: usize = 256;
const MAX_CHILDREN: usize = 32;
/// The part of them that is left to others when one key has all that it may: of so many, one.
const OF_OTHERS: usize = 4;
/// Of these, as many may belong to one client at once.
const MAX_LANES: usize = 16;
/// A link that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// Failed openings are forgotten after so long.
const FORGIVEN: Duration = Duration::from_secs(60);

/// A client's session, and which of its links.
type Lane = (Arc<str>, usize);
type Slots = HashMap<Lane, Arc<Slot>>;

/// The links of single clients.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slots: Mutex<Slots>,
    /// Who hears what a session's backend says outside of a request.
    listeners: Mutex<HashMap<Arc<str>, Asides>>,
    /// Sessions whose client hears what is said there, and how often.
    attended: Mutex<HashMap<Arc<str>, usize>>,
    /// Openings that failed in a row, by key, and the clock tick until which the next one waits.
    failed: Mutex<HashMap<Box<str>, (u32, u64)>>,
    /// What has to be said again in a session that is begun anew.
    pub(crate) followed: Followed,
}

/// Somebody hears what a session's backend says outside of requests: while this lives, the session is not idle.
#[derive(Debug)]
pub struct Attending {
    server: Arc<Server>,
    session: Arc<str>,
}

impl Drop for Attending {
    fn drop(&mut self) {
        let mut attended = self.server.sessions.attended();
        if let Some((session, count)) = attended.remove_entry(&self.session).filter(|(_, count)| *count > 1) {
            attended.insert(session, count - 1);
        }
    }
}

/// Stands in the name of a session that one subscription has for itself.
pub const LISTENS: &str = " listen ";

/// Whose a session is: its name begins with the key.
fn owner(session: &str) -> &str {
    session.split(' ').next().unwrap_or(session)
}

#[derive(Debug)]
struct Slot {
    /// Whose account it is opened with, where it is.
    user: Option<Arc<str>>,
    link: OnceCell<Arc<Link>>,
    in_flight: AtomicUsize,
    /// Clock ticks of the last use.
    used: AtomicU64,
    gone: AtomicBool,
    stop: CancellationToken,
}

/// A link in use; it is not idle while this lives.
#[derive(Debug)]
pub(crate) struct Lease {
    slot: Arc<Slot>,
    pub link: Arc<Link>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A place that was taken, before the link is open.
struct Taken(Option<Arc<Slot>>);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            slot.in_flight.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Sessions {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names who hears what the backend says to a session outside of its requests.
    pub(crate) fn listen(&self, session: &Arc<str>, sink: Asides) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(session), sink);
    }

    /// A session has ended, and its link goes with its connections. What was subscribed to in it is told no more, so who has
    /// it for that alone is let go, to come again.
    fn unheard(&self, session: &str) {
        // A link can speak to the listener too.
        self.slots().retain(|_, slot| !slot.gone.load(Ordering::Acquire));
        if session.contains(LISTENS) {
            self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
        }
    }

    pub(super) fn attended(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.attended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a session while somebody hears what is said there.
    pub(crate) fn attend(server: &Arc<Server>, session: &Arc<str>) -> Attending {
        *server.sessions.attended().entry(Arc::clone(session)).or_default() += 1;
        Attending { server: Arc::clone(server), session: Arc::clone(session) }
    }

    /// Where there are too many, of one key or of all, the slot that was not used for longest goes: of the same key if it
    /// can be, and of another's only one that nobody hears.
    fn make_room(&self, slots: &mut Slots, session: &str, most: usize) -> Result<Option<Arc<Slot>>, Fault> {
        let mine = |session_of: &str| owner(session_of) == owner(session);
        let own = slots.keys().filter(|(other, _)| mine(other)).count();
        let full = own >= most - most / OF_OTHERS;
        if !full && slots.len() < most {
            return Ok(None);
        }
        let attended = self.attended();
        let free = |(other, _): &Lane| !attended.contains_key(other);
        let evicted = idlest(slots, |lane| mine(&lane.0) && free(lane))
            .or_else(|| idlest(slots, |lane| mine(&lane.0)))
            .or_else(|| if full { None } else { idlest(slots, free) });
        let busy = || Fault::new(FaultKind::Busy(Some(5)), "as many clients have a session with the server as may");
        evicted.map(Some).ok_or_else(busy)
    }

    /// The link for a client; opened where there is none yet.
    ///
    /// # Errors
    /// Where it cannot be opened, or too many clients have one.
    pub(crate) async fn lease(
        &self,
        server: &Arc<Server>,
        hub: &Arc<Hub>,
        peer: &Peer,
        account: Option<&Arc<Authorization>>,
    ) -> Result<Lease, Fault> {
        loop {
            let now = hub.clock.ticks();
            self.rested(peer, now)?;
            let (slot, evicted) = self.place(server, peer, account.is_some(), now)?;
            if let Some(evicted) = evicted {
                evicted.stop.cancel();
            }
            slot.used.store(now, Ordering::Relaxed);
            if let Some(leased) = self.leased(slot, (server, hub), peer, account).await? {
                return Ok(leased);
            }
        }
    }

    /// The link of a slot; `None` where somebody who was before at it has failed, and it is of no use any more.
    async fn leased(
        &self,
        slot: Arc<Slot>,
        (server, hub): (&Arc<Server>, &Arc<Hub>),
        peer: &Peer,
        account: Option<&Arc<Authorization>>,
    ) -> Result<Option<Lease>, Fault> {
        let mut taken = Taken(Some(Arc::clone(&slot)));
        let opening = async {
            if slot.gone.load(Ordering::Acquire) {
                return Err(None);
            }
            let opened = self.open(server, hub, peer, account, &slot).await;
            // Before the next one who waits has its turn: what that one opened would be nobody's to close.
            opened.map_err(|fault| {
                slot.gone.store(true, Ordering::Release);
                Some(fault)
            })
        };
        let link = match slot.link.get_or_try_init(|| opening).await {
            Ok(link) => Arc::clone(link),
            Err(None) => return Ok(None),
            Err(Some(fault)) => {
                // An account that is not taken is no process that fails to start.
                let of_account = account.is_some() && fault.kind == FaultKind::Rejected;
                if !of_account && !matches!(fault.kind, FaultKind::Resting(_)) {
                    self.has_failed(peer, hub.clock.ticks());
                }
                return Err(fault);
            }
        };
        taken.0 = None;
        Ok(Some(Lease { slot, link }))
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<Box<str>, (u32, u64)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key whose links cannot be opened waits before the next, whatever it declares: each may start a process.
    fn rested(&self, peer: &Peer, now: u64) -> Result<(), Fault> {
        let until = self.failed().get(owner(&peer.session)).map_or(0, |(_, until)| *until);
        let left = Duration::from_micros(until.saturating_sub(now));
        if left.is_zero() {
            return Ok(());
        }
        let seconds = u64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        Err(Fault::new(FaultKind::Resting(seconds), "this client's sessions could not be opened"))
    }

    fn has_failed(&self, peer: &Peer, now: u64) {
        let mut failed = self.failed();
        let forgiven = u64::try_from(FORGIVEN.as_micros()).unwrap_or(u64::MAX);
        failed.retain(|_, (_, until)| until.saturating_add(forgiven) > now);
        let (attempts, until) = failed.entry(owner(&peer.session).into()).or_default();
        let rest = u64::try_from(backoff(*attempts, jitter()).as_micros()).unwrap_or(u64::MAX);
        (*attempts, *until) = (attempts.saturating_add(1), now.saturating_add(rest));
    }

    /// The link that a session has already.
    pub(crate) fn existing(&self, session: &Arc<str>) -> Option<Lease> {
        let slots = self.slots();
        let slot = slots.get(&(Arc::clone(session), 0)).filter(|slot| !slot.gone.load(Ordering::Acquire))?;
        let link = Arc::clone(slot.link.get()?);
        slot.in_flight.fetch_add(1, Ordering::AcqRel);
        Some(Lease { slot: Arc::clone(slot), link })
    }

    /// A slot for the client, counted as in flight; with the one that had to make room for it.
    fn place(
        &self,
        server: &Server,
        peer: &Peer,
        with_account: bool,
        now: u64,
    ) -> Result<(Arc<Slot>, Option<Arc<Slot>>), Fault> {
        // On one pipe nothing says which request a question belongs to: a client that keeps no session gets one link a call.
        let settings = server.settings();
        let piped = !matches!(settings.transport, Transport::Http { .. });
        let lanes = if piped && !peer.lasting { MAX_LANES } else { 1 };
        let child = matches!(settings.transport, Transport::Stdio { .. });
        let most = if child { MAX_CHILDREN } else { MAX_REMOTE };
        let mut slots = self.slots();
        slots.retain(|_, slot| !slot.gone.load(Ordering::Acquire));
        for lane in 0..lanes {
            match slots.get(&(Arc::clone(&peer.session), lane)) {
                Some(slot) if lanes > 1 && slot.in_flight.load(Ordering::Acquire) > 0 => {}
                Some(slot) => {
                    slot.in_flight.fetch_add(1, Ordering::AcqRel);
                    return Ok((Arc::clone(slot), None));
                }
                None => {
                    let evicted = self.make_room(&mut slots, &peer.session, most)?;
                    let slot = Arc::new(Slot {
                        user: with_account.then(|| Arc::clone(&peer.user)),
                        link: OnceCell::new(),
                        in_flight: AtomicUsize::new(1),
                        used: AtomicU64::new(now),
                        gone: AtomicBool::new(false),
                        stop: server.stop.child_token(),
                    });
                    slots.insert((Arc::clone(&peer.session), lane), Arc::clone(&slot));
                    return Ok((slot, evicted));
                }
            }
        }
        Err(Fault::new(FaultKind::Busy(Some(1)), "this client has as many sessions with the server as it may"))
    }

    async fn open(
        &self,
        server: &Arc<Server>,
        hub: &Arc<Hub>,
        peer: &Peer,
        account: Option<&Arc<Authorization>>,
        slot: &Arc<Slot>,
    ) -> Result<Arc<Link>, Fault> {
        // Of several that wait for one link each would try.
        self.rested(peer, hub.clock.ticks())?;
        let ambient = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).get(&peer.session).cloned();
        let audience =
            Audience { capabilities: peer.capabilities.clone(), ambient, changes: Arc::clone(&server.changes) };
        let settings = Arc::clone(&server.settings());
        let authorization = account.or(server.authorization.as_ref());
        let to = Destination { settings: &settings, authorization };
        // Without an account only legacy servers keep sessions.
        let before = if account.is_some() { server.era() } else { Some(Era::Legacy) };
        let open = Link::open(to, before, &hub.environment, &hub.tracker, &server.tail, audience);
        let link = Arc::new(Box::pin(open).await?);
        self.failed().remove(owner(&peer.session));
        if let (Some(level), Era::Legacy) = (&peer.log_level, link.hello().era) {
            // A modern client says it with each request; its sessions are kept apart by it.
            link.set_level(level).await;
        }
        let of = (Arc::clone(server), Arc::clone(hub), Arc::clone(&peer.session));
        hub.tracker.spawn(tend(Arc::clone(&link), Arc::clone(slot), of));
        if link.hello().era == Era::Legacy {
            link.heard().await;
            self.followed.restore(&link, &peer.session).await;
        }
        Ok(link)
    }

    /// Closes every link that was opened with the account of this user.
    pub(crate) fn end_account(&self, user: &str) {
        self.slots().retain(|_, slot| {
            let over = slot.user.as_deref() == Some(user);
            if over {
                slot.stop.cancel();
            }
            !over
        });
    }

    /// Closes what nobody has used for a while and has nothing in flight; all of a session's where it is named.
    pub(crate) fn sweep(&self, now: u64, ended: Option<&str>) {
        let mut slots = self.slots();
        let attended = self.attended();
        slots.retain(|(session, _), slot| {
            let idle = Duration::from_micros(now.saturating_sub(slot.used.load(Ordering::Relaxed))) >= IDLE;
            let free = slot.in_flight.load(Ordering::Acquire) == 0 && !attended.contains_key(session);
            let over =
                ended.is_some_and(|ended| ended == &**session) || (idle && free) || slot.gone.load(Ordering::Acquire);
            if over {
                slot.stop.cancel();
            }
            !over
        });
        drop(attended);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|session, sink| !sink.is_closed() && ended.is_none_or(|ended| ended != &**session));
        self.followed.retain(|session| listeners.contains_key(session));
    }
}

/// Takes out the slot that was not used for longest, of those that may go and have nothing in flight.
fn idlest(slots: &mut Slots, may_go: impl Fn(&Lane) -> bool) -> Option<Arc<Slot>> {
    let free = slots.iter().filter(|(lane, slot)| slot.in_flight.load(Ordering::Acquire) == 0 && may_go(lane));
    let key = free.min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed)).map(|(key, _)| key.clone())?;
    slots.remove(&key)
}

/// Keeps a client's link until it ends or is not wanted any more.
async fn tend(link: Arc<Link>, slot: Arc<Slot>, (server, hub, session): (Arc<Server>, Arc<Hub>, Arc<str>)) {
    // What a modern server says outside of requests, it says to everybody.
    let follow = async {
        match link.hello().era {
            // A session that is begun anew knows nothing of what was subscribed to.
            Era::Legacy => link.follow(&server.changes, !session.contains(LISTENS)).await,
            Era::Modern => std::future::pending().await,
        }
    };
    let renewing = async {
        loop {
            link.renewed().await;
            server.sessions.followed.restore(&link, &session).await;
        }
    };
    let lost = tokio::select! {
        () = slot.stop.cancelled() => false,
        why = link.ended() => {
            tracing::debug!(why, "a client's session with a backend ended");
            true
        }
        () = follow => false,
        () = renewing => false,
    };
    slot.gone.store(true, Ordering::Release);
    server.sessions.unheard(&session);
    link.close().await;
    if lost {
        revive(server, hub, session).await;
    }
}
