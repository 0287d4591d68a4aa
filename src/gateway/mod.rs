//! Floor 7: everything together. A [`Gateway`] is built from its sources, owns every task, and is what the doors call.

mod acts;
mod approvals;
pub mod brain;
pub mod control;
mod desk;
mod directory;
pub mod dlp;
mod evals;
mod exchange;
mod inflight;
mod keys;
mod list;
mod opening;
mod parking;
mod persistent;
mod policies;
mod providers;
mod readables;
mod records;
mod relay;
mod servers;
mod sessions;
mod shown;
pub mod sources;
mod surface;
mod tape;
mod token;
mod undertaking;
mod unread;
mod visitors;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::approvals::{ApprovalsCommand, Undecided, Viewer, waits_for};
pub use self::desk::Refused;
pub use self::directory::DirectoryEntry;
pub use self::evals::{Editor, EvalsCommand, SuiteRefused};
pub use self::exchange::TokenRefused;
pub use self::keys::{FirstKeys, KeyRefused};
pub use self::list::Listing;
pub use self::opening::{OpenError, Opening};
pub use self::parking::{Resumed, Underway, Waiting};
pub use self::policies::{PoliciesCommand, PolicyChange, PolicyRefused};
pub use self::providers::{Landing, ProviderRefused, ProvidersCommand};
pub use self::readables::Readables;
pub use self::records::Export;
pub use self::sessions::Visit;
pub use self::shown::ToolFilter;
pub use self::tape::{Tape, position};
pub use self::token::Resource;
pub use self::undertaking::{Carrying, LIFETIME_MS as TASK_LIFETIME_MS};
pub use self::unread::Uncalled;
pub use self::visitors::{MAX_FOLLOWED, Visitor};
pub use crate::authn::jwt::TokenFault;
pub use crate::authn::session::Session;
pub use crate::authn::{Credential, Keyring, NewKey, NotAdmitted, NotIssued};
pub use crate::backend::{
    Aside, Asides, Attending, Ear, Greeting, LISTENS, ListKind, ListVersions, MAX_QUESTIONS, Passed, Peer, Question,
    Returned, UPDATED, asides,
};
pub use crate::ledger::Standing;
pub use crate::own::EXECUTIONS_LISTED;
pub use crate::pipeline::{Line, State};
pub use crate::store::Filter as RecordFilter;

use self::desk::Desk;
use self::evals::Progress;
use self::inflight::Inflight;
use self::parking::Parking;
use self::persistent::Persistent;
use self::sessions::Sessions;
use self::undertaking::Undertakings;
use self::visitors::Visitors;
use crate::brain::Brain;
use crate::config::reachable;
use crate::domain::call::{CallRequest, Entrance};
use crate::domain::crowd::{Crowd, Seat};
use crate::domain::dlp::DlpResult;
use crate::domain::id::{EventId, KeyId, RequestId};
use crate::domain::outcome::{Carried, Governance, Outcome, Refusal};
use crate::domain::principal::Principal;
use crate::domain::tool::Kind;
use crate::journal::TurnedAway;
use crate::own::Surroundings;
use crate::own::eval::Library;
use crate::pipeline::{OwnTool, Pipeline};

/// Whether a call goes on when the client that asked for it goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// Closing the stream means cancel (MCP 2026-07-28, REST).
    Cancels,
    /// Only `notifications/cancelled` means cancel (MCP 2025-11-25).
    IsIgnored,
}

/// Streams that one key may hold open.
const MAX_STREAMS: usize = 32;
/// What cancelled calls get to close their records.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What a receiver of spans gets at most to take the last of them.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// The running gateway.
#[derive(Debug)]
pub struct Gateway {
    pipeline: Arc<Pipeline>,
    state: Arc<ArcSwap<State>>,
    keys: Arc<Keyring>,
    brain: Brain,
    sessions: Sessions,
    inflight: Inflight,
    visitors: Arc<Visitors>,
    parking: Parking,
    undertakings: Undertakings,
    /// Streams that stay open, by key.
    streams: Crowd<KeyId>,
    desk: Desk,
    surroundings: Arc<Surroundings>,
    evals: Library,
    /// How far the runs have come that the command line follows.
    runs_followed: Progress,
    tasks: TaskTracker,
    /// Falls when the gateway starts to stop: nothing new is taken, streams end.
    stopping: CancellationToken,
    /// Falls when the grace period is over: calls in flight are cancelled.
    giving_up: CancellationToken,
    /// Counts changes of what lists may show.
    changes: channel::Sender<u64>,
    metrics: Option<metrics_exporter_prometheus::PrometheusHandle>,
    /// Every server had been listed or had failed at some time.
    was_settled: AtomicBool,
}

impl Gateway {
    /// What a request that comes now sees.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    #[must_use]
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    #[must_use]
    pub fn own_tools(&self) -> &[OwnTool] {
        self.pipeline.own.all()
    }

    /// Notes where the gateway is served: for whoever asks how it stands, and for links, where no public URL is configured.
    pub fn listens(&self, address: SocketAddr, tls: bool) {
        self.surroundings.listens(address, tls);
        self.pipeline.approvals.listens_at(reachable(address).to_string());
    }

    /// Says who holds a credential. Whoever is turned away is recorded, within limits.
    ///
    /// # Errors
    /// Why nobody holds it.
    pub async fn admit(
        &self,
        credential: &Credential,
        entrance: Entrance,
        source: Option<IpAddr>,
        request: &RequestId,
    ) -> Result<Principal, NotAdmitted> {
        let admitted = self.keys.admit(credential, &self.state.load().profiles, source);
        match &admitted {
            Ok(principal) => self.keys.note_use(&principal.key),
            Err(why) => self.turn_away(why, entrance, source, request).await,
        }
        admitted
    }

    /// Records who was turned away; nobody is who brought nothing.
    async fn turn_away(&self, why: &NotAdmitted, entrance: Entrance, source: Option<IpAddr>, request: &RequestId) {
        if matches!(why, NotAdmitted::Missing | NotAdmitted::NoToken) {
            return;
        }
        metrics::counter!("toolgate_auth_failures_total", "reason" => why.code()).increment(1);
        let stranger = TurnedAway { request_id: request.clone(), entrance, source, reason: why.to_string() };
        if let Err(error) = self.pipeline.journal.turn_away(stranger).await {
            tracing::warn!(%error, "a refused login could not be recorded");
        }
    }

    /// A place for a stream that stays open; a key has a few dozen of them.
    #[must_use]
    pub fn stream_seat(&self, key: &KeyId) -> Option<Seat<KeyId>> {
        self.streams.seat(key.clone(), MAX_STREAMS)
    }

    /// The line of a new call.
    #[must_use]
    pub fn line(&self, progress: Option<Asides>, peer: Option<Arc<Peer>>) -> Line {
        let cancel = self.giving_up.child_token();
        Line { cancel, progress, peer, ..Line::default() }
    }

    /// Carries a call to its end, whatever becomes of the client: where the client leaves, and this future is dropped, the
    /// call moves to a task of the gateway's own, so that its record is closed.
    pub fn carry(
        &self,
        principal: Principal,
        request: CallRequest,
        line: Line,
        leaving: Leaving,
    ) -> impl Future<Output = Carried> + Send + use<> {
        let (event, kind) = (request.event.clone(), request.tool.kind());
        let begun = (!self.stopping.is_cancelled()).then(|| {
            let guard = (leaving == Leaving::Cancels).then(|| line.cancel.clone().drop_guard());
            (self.start(principal, request, line), guard)
        });
        async move {
            let Some((call, guard)) = begun else { return unfinished(event, kind, Refusal::Stopping) };
            let carried = call.await.unwrap_or_else(|_| unfinished(event, kind, Refusal::Internal));
            if let Some(guard) = guard {
                guard.disarm();
            }
            carried
        }
    }

    /// The call as work of its own: a caller holds no more of it than a pointer.
    fn start(
        &self,
        principal: Principal,
        request: CallRequest,
        line: Line,
    ) -> Persistent<impl Future<Output = std::thread::Result<Carried>> + Send + use<>> {
        let (pipeline, state) = (Arc::clone(&self.pipeline), self.state());
        let span = tracing::debug_span!("call", request_id = %request.id, entrance = request.entrance.as_str());
        let call = async move {
            let id = request.id.clone();
            let carried = pipeline.carry(&state, principal, request, line).await;
            tell(&id, &carried);
            carried
        };
        Persistent::new(AssertUnwindSafe(tracing::Instrument::instrument(call, span)).catch_unwind(), &self.tasks)
    }

    /// Whether calls become spans that somebody collects.
    #[must_use]
    pub fn makes_spans(&self) -> bool {
        self.pipeline.telemetry.current().is_some()
    }

    /// Charges a request that is no call to its principal's plan: REST and bare requests.
    ///
    /// # Errors
    /// Where the plan's window is full.
    pub fn charge_request(&self, principal: &Principal) -> Result<(), Refusal> {
        let state = self.state.load();
        let Some(charge) = state.request_charge(principal) else { return Ok(()) };
        self.pipeline.charge(&[charge])
    }

    /// Where the nearest of a principal's windows stands, for `X-RateLimit-*`; `None` for a key without limits.
    #[must_use]
    pub fn standing(&self, principal: &Principal) -> Option<Standing> {
        self.pipeline.standing(&self.state.load(), principal)
    }

    /// Wakes whenever what lists show may have changed.
    #[must_use]
    pub fn changes(&self) -> channel::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Ends when the gateway starts to stop.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Tasks of connections and streams, which stopping waits for.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Legacy calls that may be cancelled by name.
    #[must_use]
    pub fn inflight(&self) -> &Inflight {
        &self.inflight
    }

    #[must_use]
    pub fn now(&self) -> crate::domain::clock::Moment {
        self.pipeline.clock.now()
    }

    /// Microseconds on the gateway's clock.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.pipeline.clock.ticks()
    }

    /// Why the gateway is not ready, in one line for each reason; empty where it is.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.stopping.is_cancelled() {
            reasons.push("stopping".into());
        }
        if !self.pipeline.journal.healthy() {
            reasons.push("the audit log cannot be written".into());
        }
        // Once is enough: a server that is listed again later does not make the gateway unready.
        if !self.was_settled.load(Ordering::Relaxed) && !self.settled() {
            reasons.push("a server has neither been listed nor failed yet".into());
        } else {
            self.was_settled.store(true, Ordering::Relaxed);
        }
        reasons
    }

    /// Calls whose record is not closed yet.
    #[must_use]
    pub fn open_entries(&self) -> usize {
        self.pipeline.journal.open_entries()
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics::counter!("toolgate_audit_entries_lost_total").absolute(self.pipeline.journal.lost_entries());
        self.metrics.as_ref().map(metrics_exporter_prometheus::PrometheusHandle::render).unwrap_or_default()
    }

    /// Whether every server has been listed or has failed, and what was listed can be called.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.pipeline.backends.settled()
            && self.state.load().catalog.epoch() == self.pipeline.backends.catalog().epoch()
    }

    /// Whether the demo servers run because no configuration file was found.
    pub async fn is_demo(&self) -> bool {
        self.desk.is_demo().await
    }

    /// Stops: nothing new is taken, calls in flight end within `grace`, children stop, the store closes.
    pub async fn stop(&self, grace: Duration) {
        let end = tokio::time::Instant::now() + grace;
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.giving_up.cancel();
            tracing::warn!(
                calls = self.pipeline.journal.open_entries(),
                "calls were still in flight when the grace period ended"
            );
        }
        // Calls that were given up close their records before the store does.
        let _closed = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
        self.pipeline.backends.stop(Duration::ZERO).await;
        self.pipeline.approvals.sweep().await;
        if let Some(telemetry) = self.pipeline.telemetry.current() {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            telemetry.stop(left.clamp(LAST_WORDS, LAST_SPANS)).await;
        }
        if let Err(error) = self.keys.write_uses().await {
            tracing::warn!(%error, "the last uses of keys could not be written");
        }
        if let Err(error) = self.pipeline.journal.close().await {
            tracing::error!(%error, "the store could not be closed cleanly");
        }
    }
}

/// A call that was given up without a record of its own making.
pub(crate) fn unfinished(audit_event_id: EventId, kind: Kind, refusal: Refusal) -> Carried {
    let governance =
        Governance { decision: "error", policy: "none".into(), dlp_result: DlpResult::Off, audit_event_id };
    Carried { outcome: Outcome::Refused(refusal), governance, kind, tool: None }
}

/// Logs a call whose backend failed, with the ids by which its record is found.
fn tell(id: &RequestId, carried: &Carried) {
    if let (Outcome::Failed(error), Some(tool)) = (&carried.outcome, &carried.tool) {
        let event = &carried.governance.audit_event_id;
        tracing::info!(request_id = %id, audit_event_id = %event, tool = &*tool.shown(), why = error.message, "a call failed");
    }
}
