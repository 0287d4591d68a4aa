//! One configured server: its link, its limits, its health, and what it last listed.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::ask::Ask;
use super::breaker::BreakerCell;
use super::catalog::Part;
use super::deadline::Deadline;
use super::definition;
use super::facts::{Facts, Greeting, ListVersions};
use super::fault::{Fault, FaultKind};
use super::known::Known;
use super::link::{Link, Listed, usable};
use super::lists::Lists;
use super::meters::Meters;
use super::oauth::Authorization;
use super::pace::Pace;
use super::peer::Changes;
use super::places::Places;
use super::registry::Hub;
use super::sessions::{Lease, Sessions};
use super::status::{ServerState, ServerStatus, era_word};
use super::transport::Tail;
use crate::config::ServerSettings;
use crate::domain::clock::Clock;
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::plain::plain;
use crate::wire::era::Era;

/// How long a call waits for a server that is just being connected.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Server {
    pub name: ServerName,
    /// The gateway's own credentials there.
    pub authorization: Option<Arc<Authorization>>,
    settings: ArcSwap<ServerSettings>,
    link: ArcSwapOption<Link>,
    pub breaker: BreakerCell,
    places: Places,
    pace: Option<Pace>,
    /// Grows with every call that may have written: what was cached before is old.
    pub writes: AtomicU64,
    phase: watch::Sender<ServerState>,
    settled: AtomicBool,
    /// How often it has been listed, or could not be.
    rounds: AtomicU64,
    facts: Mutex<Facts>,
    /// The tools should be listed again.
    pub refresh: Notify,
    /// What the backend says has changed.
    pub changes: Arc<Changes>,
    /// Counts what has changed, once it has been taken note of.
    pub versions: watch::Sender<ListVersions>,
    pub lists: Lists,
    pub sessions: Sessions,
    pub tail: Tail,
    pub stop: CancellationToken,
    pub meters: Meters,
}

impl Server {
    pub(crate) fn new(settings: Arc<ServerSettings>, stop: CancellationToken, clock: &Arc<dyn Clock>) -> Self {
        let pace = settings.pace.and_then(|pace| Pace::new(pace, clock));
        let facts = Facts::new(clock.now());
        Self {
            name: settings.name.clone(),
            authorization: None,
            link: ArcSwapOption::empty(),
            breaker: BreakerCell::default(),
            places: Places::new(settings.concurrency),
            pace,
            writes: AtomicU64::new(0),
            phase: watch::Sender::new(ServerState::Connecting),
            settled: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
            facts: Mutex::new(facts),
            refresh: Notify::new(),
            changes: Arc::default(),
            versions: watch::Sender::default(),
            lists: Lists::default(),
            sessions: Sessions::default(),
            tail: Tail::default(),
            stop,
            meters: Meters::new(settings.name.as_str()),
            settings: ArcSwap::new(settings),
        }
    }

    pub(crate) fn settings(&self) -> arc_swap::Guard<Arc<ServerSettings>> {
        self.settings.load()
    }

    pub(crate) fn state(&self) -> ServerState {
        *self.phase.borrow()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    pub(crate) fn era(&self) -> Option<Era> {
        self.facts().era
    }

    /// The era of the link that there is.
    pub(crate) fn link_era(&self) -> Option<Era> {
        self.link.load().as_ref().map(|link| link.hello().era)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, state: ServerState, clock: &dyn Clock) {
        self.facts().since = clock.now();
        self.phase.send_replace(state);
        self.meters.up(state == ServerState::Ready);
    }

    // === what the supervisor tells ===

    pub(crate) fn connecting(&self, clock: &dyn Clock) {
        self.enter(ServerState::Connecting, clock);
    }

    /// Connected and listed. True where the catalogue has to change.
    pub(crate) fn ready(&self, link: Arc<Link>, listed: Listed, clock: &dyn Clock) -> bool {
        self.facts().greeted(link.hello());
        let changed = self.listed(listed);
        self.link.store(Some(link));
        self.breaker.reset();
        self.meters.circuit(super::BreakerState::Closed);
        self.settled.store(true, Ordering::Release);
        self.enter(ServerState::Ready, clock);
        changed
    }

    /// Takes a new list of tools. True where the catalogue has to change.
    pub(crate) fn listed(&self, listed: Listed) -> bool {
        let mut facts = self.facts();
        self.rounds.fetch_add(1, Ordering::AcqRel);
        facts.definitions = listed.definitions;
        facts.warning = listed.warning;
        facts.ttl_ms = listed.ttl_ms;
        let fresh = !std::mem::replace(&mut facts.stale, false) && facts.listed;
        facts.listed = true;
        self.reindex(&mut facts) || !fresh
    }

    /// Tells whoever follows the list of tools, where it is another.
    pub(crate) fn tools_listed(&self, changed: bool) {
        if changed {
            self.versions.send_modify(|versions| versions.tools += 1);
        }
    }

    /// Reads the definitions as the settings want them now. True where a tool changed.
    fn reindex(&self, facts: &mut Facts) -> bool {
        let index = definition::index(&self.settings.load(), &facts.definitions, &facts.tools);
        let same = index.tools.len() == facts.tools.len()
            && index.tools.iter().zip(&facts.tools).all(|(one, other)| Arc::ptr_eq(one, other));
        for warning in index.warnings.iter().filter(|warning| !facts.warnings.contains(warning)) {
            tracing::warn!(server = %self.name, warning, "a list of tools is not as it should be");
        }
        facts.tools = index.tools;
        facts.warnings = index.warnings;
        self.meters.tools(facts.tools.len());
        !same
    }

    /// No link, for this reason. True where the catalogue has to change.
    pub(crate) fn down(&self, why: &str, clock: &dyn Clock) -> bool {
        self.link.store(None);
        self.settled.store(true, Ordering::Release);
        self.failed(why);
        self.enter(ServerState::Down, clock);
        !std::mem::replace(&mut self.facts().stale, true)
    }

    /// It could not be listed, for this reason.
    pub(crate) fn failed(&self, why: &str) {
        self.rounds.fetch_add(1, Ordering::AcqRel);
        self.note(why);
    }

    /// Keeps the last thing that went wrong, for operators.
    pub(crate) fn note(&self, why: &str) {
        self.facts().last_error = Some(plain(why.chars().take(500).collect::<String>()));
    }

    pub(crate) fn stopped(&self, clock: &dyn Clock) -> Option<Arc<Link>> {
        let link = self.link.swap(None);
        self.settled.store(true, Ordering::Release);
        self.enter(ServerState::Stopped, clock);
        link
    }

    /// Waits until no call is in flight.
    pub(crate) async fn drained(&self) {
        self.places.drained().await;
    }

    // === what the registry asks ===

    /// Takes settings that need no other connection.
    pub(crate) fn adopt(&self, settings: Arc<ServerSettings>) {
        self.settings.store(settings);
        self.reindex(&mut self.facts());
    }

    /// What was known before, until it is listed itself.
    pub(crate) fn seed(&self, known: Known) -> bool {
        let mut facts = self.facts();
        if facts.listed {
            return false;
        }
        facts.era = known.era;
        facts.title = known.title;
        facts.instructions = known.instructions;
        facts.definitions = known.definitions;
        self.reindex(&mut facts)
    }

    /// What it last listed.
    pub(crate) fn known(&self) -> Known {
        let facts = self.facts();
        Known {
            era: facts.era,
            title: facts.title.clone(),
            instructions: facts.instructions.clone(),
            definitions: facts.definitions.clone(),
        }
    }

    /// What it said when it was greeted last, if it ever was.
    pub(crate) fn greeting(&self) -> Option<Greeting> {
        self.facts().greeting.clone()
    }

    /// How long its list of tools may be kept, in milliseconds, where it says so.
    pub(crate) fn ttl_ms(&self) -> Option<u64> {
        self.facts().ttl_ms
    }

    pub(crate) fn has_listed(&self) -> bool {
        self.facts().listed
    }

    pub(crate) fn part(&self) -> Part {
        let facts = self.facts();
        Part {
            settings: self.settings.load_full(),
            title: facts.title.clone(),
            instructions: facts.instructions.clone(),
            tools: facts.tools.clone(),
            stale: facts.stale,
        }
    }

    pub(crate) fn status(&self, now: u64) -> ServerStatus {
        let settings = self.settings.load();
        let facts = self.facts();
        let mut warnings: Vec<String> = facts.warning.iter().cloned().collect();
        warnings.extend(facts.warnings.iter().cloned());
        ServerStatus {
            name: self.name.clone(),
            transport: settings.transport.kind(),
            state: self.state(),
            since: facts.since.0,
            era: facts.era.map(era_word),
            version: facts.version.clone(),
            title: facts.title.clone(),
            tools: facts.tools.len(),
            stale: facts.stale,
            last_error: facts.last_error.clone(),
            stderr: self.tail.lines(),
            breaker: self.breaker.view(now),
            in_flight: self.places.taken(),
            warnings,
        }
    }

    // === what a call needs ===

    /// The deadline of a call that has a place among those in flight, at the server's pace.
    pub(crate) async fn placed(&self, deadline: Deadline, key: Option<&KeyId>) -> Result<Deadline, Fault> {
        let places = key.map_or_else(|| self.places.clone(), |key| self.places.of(key));
        let waiting = async {
            let place = places.take().await?;
            if let Some(pace) = &self.pace {
                pace.turn().await;
            }
            Some(place)
        };
        let placed = deadline.bound(pin!(waiting)).await;
        match placed {
            Ok(Some(place)) => Ok(deadline.at(places, place)),
            Ok(None) => Err(Fault::new(FaultKind::Busy(Some(1)), "too many calls wait already")),
            Err(_) => Err(Fault::new(FaultKind::Busy(Some(1)), "no place among the calls in flight in time")),
        }
    }

    /// The link, where it stands.
    pub(crate) fn linked(&self) -> Option<Arc<Link>> {
        self.link.load_full()
    }

    /// The link; while the server is being connected, waits for it a while.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, Fault> {
        if let Some(link) = self.linked() {
            return Ok(link);
        }
        let mut phase = self.phase.subscribe();
        let connected = phase.wait_for(|state| *state != ServerState::Connecting);
        let state =
            tokio::time::timeout(CONNECT_PATIENCE, connected).await.ok().and_then(Result::ok).map(|state| *state);
        match (self.linked(), state) {
            (Some(link), _) => Ok(link),
            (None, Some(ServerState::Stopped)) => Err(Fault::new(FaultKind::Stopped, "the server is stopping")),
            (None, _) => Err(Fault::new(FaultKind::Connect, "not connected")),
        }
    }

    /// Sends one request within the deadline, and tells the breaker how it went.
    ///
    /// `by_caller`: the caller's own impatience set the deadline, so running into it says nothing of the server.
    pub(crate) async fn attempt(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        deadline: &Deadline,
        by_caller: bool,
        hub: &Arc<Hub>,
    ) -> Result<Json, Fault> {
        let clock = &*hub.clock;
        let (link, lease) = self.reach_in_time(ask, deadline, hub).await?;
        let ticket = self.breaker.admit(clock.ticks()).map_err(|rest| {
            let seconds = u64::try_from(rest.retry_after.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
            Fault::new(FaultKind::Resting(seconds), "the breaker is open")
        })?;
        let answer = asked_in_time(&link, ask, deadline).await;
        drop(lease);
        self.learn(&answer, ticket, by_caller, hub);
        answer
    }

    /// Sends one request of which the breaker hears nothing: what becomes of it is in the client's hands.
    pub(crate) async fn attempt_aside(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        deadline: &Deadline,
        hub: &Arc<Hub>,
    ) -> Result<Json, Fault> {
        let (link, _lease) = self.reach_in_time(ask, deadline, hub).await?;
        asked_in_time(&link, ask, deadline).await
    }

    async fn reach_in_time(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        deadline: &Deadline,
        hub: &Arc<Hub>,
    ) -> Result<(Arc<Link>, Option<Lease>), Fault> {
        if let Some(link) = self.at_hand(ask) {
            return Ok((link, None));
        }
        let late = |_| Fault::new(FaultKind::Timeout, "not connected in time");
        deadline.bound(Box::pin(self.reach(ask, hub))).await.map_err(late)?
    }
}

async fn asked_in_time(link: &Link, ask: &Ask<'_>, deadline: &Deadline) -> Result<Json, Fault> {
    let asking = pin!(link.ask(ask));
    match deadline.bound(asking).await {
        Ok(answer) => answer.and_then(usable),
        Err(_) => Err(Fault::new(FaultKind::Timeout, "no answer in time")),
    }
}
