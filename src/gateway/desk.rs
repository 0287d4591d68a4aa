//! Where moments are made: one change at a time, built beside the running one and put in its place whole.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};

use super::policies::{Changed, PolicyChange, PolicyRefused};
use super::sources::{API, Inputs, Sources, of_policy};
use crate::backend::{Backends, Catalog};
use crate::config::settings::AuditSettings;
use crate::config::{Fault, Faults};
use crate::domain::clock::Moment;
use crate::domain::id::KeyId;
use crate::domain::secret::Secret;
use crate::domain::tool::Tool;
use crate::pipeline::State;
use crate::policy::{PolicyFault, Report};
use crate::store::{PolicyRecord, Store, StoreError};
use crate::telemetry::Exporting;

/// Why a change was refused; the old state stays.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub Faults);

/// Makes new states. Held by the gateway and by the tasks that follow files and backends.
#[derive(Debug, Clone)]
pub(super) struct Desk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: Sources,
    /// The inputs that are active. The lock keeps changes in a row; requests never take it.
    inputs: Mutex<Inputs>,
    state: Arc<ArcSwap<State>>,
    telemetry: Arc<Exporting>,
    own: Vec<Arc<Tool>>,
    backends: Backends,
    store: Store,
    changes: watch::Sender<u64>,
}

impl Desk {
    pub(super) fn new(
        (sources, inputs): (Sources, Inputs),
        state: Arc<ArcSwap<State>>,
        telemetry: Arc<Exporting>,
        own: Vec<Arc<Tool>>,
        backends: Backends,
        store: Store,
        changes: watch::Sender<u64>,
    ) -> Self {
        let inputs = Mutex::new(inputs);
        Self(Arc::new(Inner { sources, inputs, state, telemetry, own, backends, store, changes }))
    }

    /// The folders in which a change may matter.
    pub(super) async fn folders(&self) -> Vec<PathBuf> {
        self.0.sources.folders(&*self.0.inputs.lock().await)
    }

    pub(super) async fn is_demo(&self) -> bool {
        self.0.inputs.lock().await.demo
    }

    /// Reads the sources anew. True where something changed and is active now.
    ///
    /// # Errors
    /// Every fault; nothing has changed then.
    pub(super) async fn reload(&self) -> Result<bool, Refused> {
        let mut active = self.0.inputs.lock().await;
        let sources = self.0.sources.clone();
        let api = self.0.store.policies().await.map_err(|error| internal(&error.to_string()))?;
        let read = tokio::task::spawn_blocking(move || sources.read_with(api)).await;
        let inputs = read.map_err(|error| internal(&error.to_string()))?.map_err(Refused)?;
        let lost = inputs.lost_since(&active);
        if !lost.is_empty() {
            return Err(Refused(Faults(lost)));
        }
        if inputs.same_as(&active) {
            return Ok(false);
        }
        if inputs.bundle.policies().is_empty() {
            tracing::warn!("there is no policy: every call of a backend is denied");
        }
        // Judged before anything changes, by the tools as they are.
        let (_, report) = self.build(&inputs, self.0.backends.catalog()).await?;
        if inputs.bundle.version() != active.bundle.version() && !report.acceptable {
            return Err(Refused(Faults(report.faults.into_iter().map(of_policy).collect())));
        }
        let keys = &inputs.settings.gateway.credentials_keys;
        if *keys != active.settings.gateway.credentials_keys {
            self.0.backends.seal_with(keys).await;
        }
        self.0.backends.bound_answers(inputs.settings.gateway.max_answers);
        let applied = self.0.backends.apply(&inputs.settings.servers);
        applied.map_err(|stopping| internal(&stopping.to_string()))?;
        // Built again by the tools as the new settings have them: one moment takes the place of the other whole.
        let (state, report) = self.build(&inputs, self.0.backends.catalog()).await?;
        tell(&report);
        self.0.state.store(Arc::new(state));
        if active.settings.telemetry != inputs.settings.telemetry {
            self.0.telemetry.follow(inputs.settings.telemetry.as_deref());
            let to = inputs.settings.telemetry.as_ref().and_then(|settings| settings.endpoint.host());
            tracing::info!(
                to = to.unwrap_or("nowhere"),
                "spans and metrics of calls that begin now go by the new `[telemetry]`"
            );
        }
        if fixed(&active) != fixed(&inputs) {
            tracing::warn!(
                "`[audit]`, `session_key`, `max_connections`, and whether there is `tls`, take effect at the next start"
            );
        }
        *active = inputs;
        self.0.changes.send_modify(|count| *count += 1);
        Ok(true)
    }

    /// Takes a changed catalogue in.
    pub(super) async fn catalogue_changed(&self) {
        let active = self.0.inputs.lock().await;
        if self.0.state.load().catalog.epoch() == self.0.backends.catalog().epoch() {
            return self.keep_definitions(&self.0.backends.catalog()).await;
        }
        match self.build(&active, self.0.backends.catalog()).await {
            Ok((state, report)) => {
                tell(&report);
                let catalog = Arc::clone(&state.catalog);
                self.0.state.store(Arc::new(state));
                self.0.changes.send_modify(|count| *count += 1);
                self.keep_definitions(&catalog).await;
            }
            Err(refused) => tracing::error!(%refused, "the changed catalogue could not be taken in"),
        }
    }

    /// The policies that were made over the API.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) async fn api_policies(&self) -> Result<Vec<PolicyRecord>, StoreError> {
        self.0.store.policies().await
    }

    /// Makes, replaces or removes a policy of the API: judged together with everything else, stored, and only then
    /// active. Gives its version and what is worth a warning.
    ///
    /// # Errors
    /// Where it is not there or not wanted as it is, does not fit, or cannot be stored; nothing has changed then.
    pub(super) async fn change_policy(
        &self,
        change: PolicyChange,
        who: KeyId,
        now: Moment,
    ) -> Result<Changed, PolicyRefused> {
        let mut active = self.0.inputs.lock().await;
        let base = active.clone();
        let compiling = tokio::task::spawn_blocking(move || {
            let (api, stored) = change.apply(&base, &who, now)?;
            let inputs = base.with_api(api).map_err(|faults| PolicyRefused::unfit(&faults))?;
            Ok::<_, PolicyRefused>((inputs, stored))
        });
        let (inputs, stored) = compiling.await.map_err(|error| internal(&error.to_string()))??;
        let (state, report) = self.build(&inputs, self.0.backends.catalog()).await?;
        let name = stored.name.clone();
        let of_this = |fault: &&PolicyFault| fault.file.strip_prefix(API) == Some(name.as_str());
        // What ails other policies is not made worse by this one, and removing one mends.
        let faults: Vec<PolicyFault> = report.faults.iter().filter(of_this).cloned().collect();
        if !faults.is_empty() {
            return Err(PolicyRefused::unfit(&faults));
        }
        let version =
            self.0.store.put_policy(stored).await.map_err(|error| PolicyRefused::Failed(error.to_string()))?;
        tell(&report);
        let warnings = report.warnings.iter().filter(of_this).cloned().collect();
        let bundle = Arc::clone(inputs.bundle.version());
        *active = inputs;
        if let Some(record) = active.api.iter_mut().find(|record| record.name == name) {
            record.version = version;
        }
        self.0.state.store(Arc::new(state));
        self.0.changes.send_modify(|count| *count += 1);
        Ok(Changed { name, version, bundle, warnings })
    }

    async fn build(&self, inputs: &Inputs, catalog: Arc<Catalog>) -> Result<(State, Report), Refused> {
        let previous = self.0.state.load_full();
        let (settings, profiles, bundle) =
            (Arc::clone(&inputs.settings), Arc::clone(&inputs.profiles), Arc::clone(&inputs.bundle));
        let own = self.0.own.clone();
        let build = move || State::build(settings, profiles, &bundle, catalog, &own, Some(&previous));
        tokio::task::spawn_blocking(build).await.map_err(|error| internal(&error.to_string()))
    }

    /// Keeps the definitions for the next start, whose policies are checked before any backend has answered.
    async fn keep_definitions(&self, catalog: &Catalog) {
        for card in catalog.servers().iter().filter(|card| !card.stale) {
            let server = &card.name;
            let Some(listing) = self.0.backends.listing(server) else { continue };
            if let Err(error) = self.0.store.put_definitions(server, listing.bytes().clone()).await {
                tracing::warn!(%server, %error, "the tool definitions could not be kept");
            }
        }
    }
}

/// What a running gateway cannot change.
fn fixed(inputs: &Inputs) -> (AuditSettings, Option<&Secret>, usize, bool) {
    let gateway = &inputs.settings.gateway;
    (inputs.settings.audit, gateway.session_key.as_ref(), gateway.max_connections, gateway.tls.is_some())
}

fn internal(message: &str) -> Refused {
    Refused(Faults(vec![internal_fault(message)]))
}

/// A fault that stands in no file.
fn internal_fault(message: &str) -> Fault {
    Fault { file: "toolgate".into(), line: 1, column: 1, message: message.to_owned(), hint: None }
}

/// Says what a build found.
pub(super) fn tell(report: &Report) {
    for fault in &report.faults {
        tracing::error!(file = %fault.file, line = fault.line, policy = fault.policy.as_deref(), tool = fault.tool.as_deref(), "{}", fault.message);
    }
    for warning in &report.warnings {
        tracing::warn!(file = %warning.file, line = warning.line, policy = warning.policy.as_deref(), "{}", warning.message);
    }
}
