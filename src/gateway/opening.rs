//! From sources and a data folder to a running gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::desk::{Desk, tell};
use super::evals::Progress;
use super::inflight::Inflight;
use super::parking::Parking;
use super::sessions::Sessions;
use super::sources::{Inputs, Sources, of_policy};
use super::undertaking::Undertakings;
use super::{Gateway, watch};
use crate::approvals::{Approvals, Hooks};
use crate::authn::Keyring;
use crate::authn::jwt::Tokens;
use crate::authn::session::Sealer;
use crate::backend::Backends;
use crate::brain::Brain;
use crate::config::{Fault, Faults};
use crate::domain::clock::{Clock, Moment};
use crate::domain::crowd::Crowd;
use crate::domain::json::Json;
use crate::domain::secret::Secret;
use crate::domain::tool::Tool;
use crate::journal::{Journal, JournalConfig, JournalError};
use crate::ledger::Ledger;
use crate::own::eval::{Evals, Library};
use crate::own::{Own, Surroundings};
use crate::pipeline::{Long, Pipeline, State, Tallies};
use crate::policy::{PolicyFault, Report};
use crate::store::{Store, StoreError};
use crate::telemetry::Exporting;

/// What a gateway is made from.
#[derive(Debug)]
pub struct Opening {
    pub sources: Sources,
    pub data: PathBuf,
    /// Sets the admin key instead of making one.
    pub admin_key: Option<Secret>,
    /// Whether this gateway serves: it then makes the first keys, announces itself in the audit log, follows its files.
    pub serve: bool,
    /// Whether backends are started; some commands need none.
    pub backends: bool,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Config(#[from] Faults),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the system gives no random bytes")]
    Random,
}

/// Tells what there is to say of the bundle. Where it does not fit and calls were to be served under it, what was opened
/// already is closed.
async fn accepted(report: Report, serve: bool, backends: &Backends, journal: &Journal) -> Result<(), OpenError> {
    if report.acceptable || !serve {
        tell(&report);
        return Ok(());
    }
    backends.stop(Duration::ZERO).await;
    journal.close().await?;
    Err(OpenError::Config(unfit(report)))
}

impl Gateway {
    /// Opens the store, reads the configuration, starts the backends.
    ///
    /// # Errors
    /// Faults of the configuration, all of them; a store that is held elsewhere or cannot be used.
    pub async fn open(opening: Opening) -> Result<Arc<Self>, OpenError> {
        let (inputs, store) = read(&opening).await?;
        let (clock, demo) = (opening.clock, inputs.demo);
        let config = JournalConfig { arguments: inputs.settings.audit.arguments, announce: opening.serve };
        let (journal, _) = Journal::start(store.clone(), Arc::clone(&clock), config).await?;
        let keys = Arc::new(Keyring::load(store.clone(), Arc::clone(&clock), opening.admin_key).await?);
        let metrics = opening.serve.then(recorder).flatten();
        let (now, sealer) = (clock.now(), sealer(&inputs, &store)?);
        let sessions = Sessions::new(sealer, store.ended_sessions(now).await?, store.clone(), now);
        let (backends, surroundings) = backends(&inputs, &store, &clock, opening.backends).await?;
        let (approvals, hooks) =
            Approvals::start(store.clone(), Arc::clone(&clock), inputs.environment.clone()).await?;
        let (brain, tasks) = (store.brain(), TaskTracker::new());
        let telemetry = Arc::new(Exporting::new(Arc::clone(&clock), tasks.clone()));
        telemetry.follow(inputs.settings.telemetry.as_deref().filter(|_| opening.serve));
        let (own, definitions) = own_tools(&keys, &brain, &surroundings, &store, &tasks);
        let (state, report) = first_state(&inputs, &backends, &definitions);
        accepted(report, opening.serve, &backends, &journal).await?;
        let evals = library(&store, &state, demo && (opening.serve || opening.backends), now).await;
        let (changes, _) = channel::channel(0);
        let state = Arc::new(ArcSwap::from_pointee(state));
        surroundings.follows(&state);
        let desk = Desk::new(
            (opening.sources, inputs),
            Arc::clone(&state),
            Arc::clone(&telemetry),
            definitions,
            backends.clone(),
            store,
            changes.clone(),
        );
        let gateway = Arc::new(Self {
            pipeline: Arc::new(pipeline(clock, journal, approvals, backends, own, telemetry)),
            state,
            keys,
            brain,
            sessions,
            inflight: Inflight::default(),
            visitors: Arc::default(),
            parking: Parking::default(),
            undertakings: Undertakings::default(),
            streams: Crowd::default(),
            desk,
            surroundings,
            tasks,
            evals,
            evaluations: Progress::default(),
            stopping: CancellationToken::new(),
            giving_up: CancellationToken::new(),
            changes,
            metrics,
            was_settled: AtomicBool::new(false),
        });
        if opening.serve && demo {
            gateway.know_the_demo().await;
        }
        gateway.follow(opening.serve, hooks);
        Ok(gateway)
    }

    /// Whether a store was ever made in this folder.
    #[must_use]
    pub fn has_store(data: &Path) -> bool {
        Store::exists(data)
    }

    fn follow(&self, serve: bool, hooks: Hooks) {
        self.tasks.spawn(hooks.run(self.stopping.clone()));
        let catalogue = self.pipeline.backends.changes();
        self.tasks.spawn(watch::catalogue(self.desk.clone(), catalogue, self.stopping.clone()));
        if serve {
            self.tasks.spawn(watch::files(self.desk.clone(), self.stopping.clone()));
            self.tasks.spawn(watch::hangups(self.desk.clone(), self.stopping.clone()));
            if let Some(metrics) = self.metrics.clone() {
                let fold = move || metrics.run_upkeep();
                self.tasks.spawn(watch::now_and_then(fold, watch::UPKEEP_EVERY, self.stopping.clone()));
            }
            self.tasks.spawn(watch::approvals(self.pipeline.approvals.clone(), self.stopping.clone()));
            let (visitors, clock) = (Arc::clone(&self.visitors), Arc::clone(&self.pipeline.clock));
            let sweep = move || visitors.sweep(clock.ticks());
            self.tasks.spawn(watch::now_and_then(sweep, watch::SWEEP_EVERY, self.stopping.clone()));
            self.tasks.spawn(watch::uses(Arc::clone(&self.keys), self.stopping.clone()));
            self.tasks.spawn(watch::rollups(self.pipeline.journal.clone(), self.stopping.clone()));
        }
    }
}

/// The own tools, and their definitions.
fn own_tools(
    keys: &Arc<Keyring>,
    brain: &Brain,
    surroundings: &Arc<Surroundings>,
    store: &Store,
    tasks: &TaskTracker,
) -> (Own, Vec<Arc<Tool>>) {
    let evals = Evals::new(store.clone(), tasks.clone(), Arc::clone(keys), Arc::clone(surroundings));
    let own = Own::new(Arc::clone(keys), brain.clone(), Arc::clone(surroundings), evals);
    let definitions = own.definitions();
    (own, definitions)
}

fn pipeline(
    clock: Arc<dyn Clock>,
    journal: Journal,
    approvals: Approvals,
    backends: Backends,
    own: Own,
    telemetry: Arc<Exporting>,
) -> Pipeline {
    Pipeline {
        tokens: Arc::new(Tokens::new(Arc::clone(&clock))),
        clock,
        journal,
        ledger: Ledger::default(),
        approvals,
        in_flight: Crowd::default(),
        long: Long::default(),
        backends,
        own: Box::new(own),
        tallies: Tallies::default(),
        telemetry,
    }
}

/// The suites and their runs; `demo` says whether those that ship are among them.
async fn library(store: &Store, state: &State, demo: bool, now: Moment) -> Library {
    let library = Library::new(store.clone());
    if demo && library.seed(state, now).await.is_err() {
        tracing::warn!("the recorded runs of the demo suite could not be stored");
    }
    library
}

/// What the sources say, with the policies that the store holds; how durable that is, the sources say.
async fn read(opening: &Opening) -> Result<(Inputs, Store), OpenError> {
    let inputs = opening.sources.read()?;
    let store = Store::open(&opening.data, inputs.settings.audit.durability)?;
    let api = store.policies().await?;
    let inputs = if api.is_empty() { inputs } else { opening.sources.read_with(api)? };
    Ok((inputs, store))
}

/// The backends, and what was known of them before any was asked.
async fn backends(
    inputs: &Inputs,
    store: &Store,
    clock: &Arc<dyn Clock>,
    start: bool,
) -> Result<(Backends, Arc<Surroundings>), StoreError> {
    let backends = Backends::with_store(Arc::clone(clock), inputs.environment.clone(), Some(store.clone()));
    backends.seal_with(&inputs.settings.gateway.credentials_keys).await;
    if !start {
        return Ok((backends, Arc::default()));
    }
    let mut kept = Vec::new();
    for name in inputs.settings.servers.keys() {
        let definitions = store.definitions(name).await?;
        kept.extend(definitions.and_then(|bytes| Json::parse(bytes).ok()).map(|json| (name.clone(), json)));
    }
    backends.bound_answers(inputs.settings.gateway.max_answers);
    if let Err(stopping) = backends.apply(&inputs.settings.servers) {
        tracing::error!("{stopping}");
    }
    for server in backends.seed(&kept) {
        tracing::warn!(%server, "the kept tool definitions cannot be read");
    }
    let surroundings = Arc::new(Surroundings::new(&backends.catalog()));
    Ok((backends, surroundings))
}

fn first_state(inputs: &Inputs, backends: &Backends, own: &[Arc<Tool>]) -> (State, Report) {
    let (settings, profiles) = (Arc::clone(&inputs.settings), Arc::clone(&inputs.profiles));
    State::build(settings, profiles, &inputs.bundle, backends.catalog(), own, None)
}

/// The faults of a bundle that does not fit the tools as they were last seen; it may be the tools that have changed.
fn unfit(report: Report) -> Faults {
    let fault = |fault: PolicyFault| {
        let seen = fault.tool.as_ref().map(|tool| {
            format!("this is `{tool}` as it was last seen; where it has changed since, `toolgate policy check` asks its server")
        });
        let hint: Vec<String> = fault.hint.clone().into_iter().chain(seen).collect();
        Fault { hint: (!hint.is_empty()).then(|| hint.join("; ")), ..of_policy(fault) }
    };
    Faults(report.faults.into_iter().map(fault).collect())
}

fn sealer(inputs: &Inputs, store: &Store) -> Result<Sealer, OpenError> {
    let sealer = match &inputs.settings.gateway.session_key {
        Some(key) => Sealer::new(key.expose().as_bytes()),
        None => Sealer::new(store.secret("session")?.as_ref()),
    };
    sealer.map_err(|_| OpenError::Random)
}

fn recorder() -> Option<metrics_exporter_prometheus::PrometheusHandle> {
    // A second gateway in one process, as in tests, shares nothing and has none.
    PrometheusBuilder::new().install_recorder().ok()
}
