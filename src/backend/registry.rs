//! All backends of the gateway.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::breaker::BreakerView;
use super::cache::ResponseCache;
use super::catalog::{Catalog, Part};
use super::facts::ListVersions;
use super::known::Known;
use super::oauth::{Accounts, Authorization, Subject};
use super::server::Server;
use super::status::ServerStatus;
use super::supervisor::supervise;
use super::transport;
use crate::config::ServerSettings;
use crate::domain::clock::Clock;
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::room::Room;
use crate::store::Store;

/// Servers that are connected at the same time.
const CONNECTING: usize = 16;
/// How long calls in flight on a server that was removed may take.
const REMOVAL_GRACE: Duration = Duration::from_secs(60);
/// More writes than one server ever sees.
const GENERATION: u64 = 1 << 40;
/// What a child gets to end, on top of the calls' grace.
const CHILD_GRACE: Duration = Duration::from_secs(6);

/// The servers behind the gateway, and the catalogue of their tools. Clones share everything.
#[derive(Debug, Clone)]
pub struct Backends {
    pub(crate) hub: Arc<Hub>,
}

/// What all servers share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub clock: Arc<dyn Clock>,
    pub environment: Vec<(OsString, OsString)>,
    /// Where the gateway's own credentials at backends are kept.
    pub store: Option<Store>,
    /// The accounts of users; there are none without a store.
    pub accounts: Option<Accounts>,
    pub tracker: TaskTracker,
    pub connecting: Semaphore,
    pub servers: ArcSwap<HashMap<ServerName, Arc<Server>>>,
    pub catalog: ArcSwap<Catalog>,
    pub cache: ResponseCache,
    /// What large answers take in memory, by key.
    pub answers: Room<KeyId>,
    stop: CancellationToken,
    /// The catalogue's epoch.
    epoch: watch::Sender<u64>,
    /// Moves whenever a server comes or goes.
    progress: watch::Sender<u64>,
    /// Counts changes of prompts and of resources, anywhere.
    pub readables: watch::Sender<ListVersions>,
    /// Held while the set of servers or the catalogue is replaced.
    changing: Mutex<()>,
    /// Kept listings of servers that are not there yet.
    seeds: Mutex<HashMap<ServerName, Known>>,
    grace: AtomicU64,
    /// Where the next server begins to count its writes: what another gave is never taken for its own.
    writes: AtomicU64,
}

impl Hub {
    /// A server came, went or listed other tools.
    pub(crate) fn progressed(&self, changed: bool) {
        if changed {
            self.publish();
        }
        self.progress.send_modify(|count| *count += 1);
    }

    fn publish(&self) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let parts: Vec<Part> = self.servers.load().values().map(|server| server.part()).collect();
        let epoch = self.catalog.load().epoch() + 1;
        let catalog = Catalog::build(parts, epoch);
        for warning in catalog.warnings() {
            tracing::warn!(warning, "a tool goes without a flat name");
        }
        self.catalog.store(Arc::new(catalog));
        self.epoch.send_replace(epoch);
    }

    /// The credentials with which a server is asked for its lists: the gateway's, or those of the user who lists.
    fn authorization(&self, settings: &ServerSettings) -> Option<Arc<Authorization>> {
        if let (Some(provider), Some(user)) = (&settings.provider, &settings.list_as) {
            return Some(self.accounts.as_ref()?.of(user, provider));
        }
        let (oauth, store) = (settings.oauth.as_ref()?, self.store.as_ref()?);
        let url = settings.transport.http_url()?;
        let (clock, tracker) = (Arc::clone(&self.clock), self.tracker.clone());
        let subject = Subject::Server { name: settings.name.clone(), url, settings: Arc::clone(oauth) };
        Some(Arc::new(Authorization::new(subject, store.clone(), clock, tracker)))
    }

    #[cfg(test)]
    pub(crate) fn progress_for_tests(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace.load(Ordering::Relaxed))
    }
}

/// No server is started any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is stopping")]
pub struct Stopping;

impl Backends {
    /// No servers yet. `environment` is the gateway's own: children inherit a few harmless variables of it. Install the
    /// metrics recorder before this.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, environment: Vec<(OsString, OsString)>) -> Self {
        Self::with_store(clock, environment, None)
    }

    /// The same, with a place for the credentials of backends that ask for OAuth.
    #[must_use]
    pub fn with_store(clock: Arc<dyn Clock>, environment: Vec<(OsString, OsString)>, store: Option<Store>) -> Self {
        let tracker = TaskTracker::new();
        let accounts = store.clone().map(|store| Accounts::new(store, Arc::clone(&clock), tracker.clone()));
        let grace = u64::try_from(REMOVAL_GRACE.as_millis()).unwrap_or(u64::MAX);
        Self {
            hub: Arc::new(Hub {
                clock,
                environment,
                store,
                accounts,
                tracker,
                connecting: Semaphore::new(CONNECTING),
                servers: ArcSwap::default(),
                catalog: ArcSwap::default(),
                cache: ResponseCache::default(),
                answers: Room::new(transport::OF_KEY, transport::OF_ALL),
                stop: CancellationToken::new(),
                epoch: watch::Sender::new(0),
                progress: watch::Sender::new(0),
                readables: watch::Sender::default(),
                changing: Mutex::new(()),
                seeds: Mutex::default(),
                grace: AtomicU64::new(grace),
                writes: AtomicU64::new(0),
            }),
        }
    }

    /// Makes the servers be these. Unchanged ones keep their connections, and so do those of which only tools,
    /// permissions or descriptions changed; calls in flight on the others finish. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the gateway stops; nothing has changed then.
    pub fn apply(&self, wanted: &BTreeMap<ServerName, Arc<ServerSettings>>) -> Result<(), Stopping> {
        let hub = &self.hub;
        if hub.stop.is_cancelled() {
            return Err(Stopping);
        }
        {
            let _one = hub.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let old = hub.servers.load_full();
            let mut servers = HashMap::with_capacity(wanted.len());
            for (name, settings) in wanted {
                servers.insert(name.clone(), self.server(old.get(name), settings));
            }
            hub.servers.store(Arc::new(servers.clone()));
            for (name, server) in old.iter() {
                if !servers.get(name).is_some_and(|kept| Arc::ptr_eq(kept, server)) {
                    server.stop.cancel();
                }
            }
        }
        hub.progressed(true);
        Ok(())
    }

    /// The server for these settings: the one there is, where it can stay, else a new one that is started.
    fn server(&self, old: Option<&Arc<Server>>, settings: &Arc<ServerSettings>) -> Arc<Server> {
        if let Some(old) = old {
            if **old.settings() == **settings {
                return Arc::clone(old);
            }
            if same_connection(&old.settings(), settings) {
                old.adopt(Arc::clone(settings));
                return Arc::clone(old);
            }
        }
        let hub = &self.hub;
        let mut server = Server::new(Arc::clone(settings), hub.stop.child_token(), &hub.clock);
        if let Some(old) = old {
            // Another one in its place may list anything.
            let ListVersions { tools, prompts, resources } = *old.versions.borrow();
            let versions = ListVersions { tools: tools + 1, prompts: prompts + 1, resources: resources + 1 };
            server.versions = watch::Sender::new(versions);
        }
        server.authorization = hub.authorization(settings);
        server.writes = AtomicU64::new(hub.writes.fetch_add(GENERATION, Ordering::Relaxed));
        let server = Arc::new(server);
        let kept = hub.seeds.lock().unwrap_or_else(PoisonError::into_inner).remove(&settings.name);
        if let Some(known) = old.map(|old| old.known()).or(kept) {
            server.seed(known);
        }
        hub.tracker.spawn(supervise(Arc::clone(&server), Arc::clone(hub)));
        server
    }

    /// Large answers may have so many bytes in memory from now on; those of one key half of them.
    pub fn bound_answers(&self, bytes: usize) {
        self.hub.answers.resize(bytes / 2, bytes);
    }

    /// The catalogue as it is now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.hub.catalog.load_full()
    }

    /// The catalogue's epoch, whenever it changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.hub.epoch.subscribe()
    }

    /// Counts changes of prompts and of resources, anywhere.
    #[must_use]
    pub fn readable_changes(&self) -> watch::Receiver<ListVersions> {
        self.hub.readables.subscribe()
    }

    /// All servers, by name.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        let now = self.hub.clock.ticks();
        let mut all: Vec<ServerStatus> = self.hub.servers.load().values().map(|server| server.status(now)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The breaker of one server; `None` where there is no such server.
    #[must_use]
    pub fn breaker(&self, server: &ServerName) -> Option<BreakerView> {
        Some(self.hub.servers.load().get(server)?.breaker.view(self.hub.clock.ticks()))
    }

    /// Whether the gateway has credentials for a server that asks for OAuth; `None` where it asks for none.
    #[must_use]
    pub fn has_credentials(&self, server: &ServerName) -> Option<bool> {
        Some(self.hub.servers.load().get(server)?.authorization.as_ref()?.has_token())
    }

    /// True once every server has been listed or has failed once.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.hub.servers.load().values().all(|server| server.is_settled())
    }

    /// Waits for [`Self::settled`].
    pub async fn wait_settled(&self) {
        self.wait_until(Self::settled).await;
    }

    async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let mut progress = self.hub.progress.subscribe();
        while !holds(self) {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Has servers listed again and waits until each has been, or has failed, for at most `patience`.
    pub async fn relist(&self, names: &[ServerName], patience: Duration) {
        let servers = self.hub.servers.load_full();
        let asked: Vec<(&Arc<Server>, u64)> =
            names.iter().filter_map(|name| servers.get(name)).map(|server| (server, server.rounds())).collect();
        for (server, _) in &asked {
            server.refresh.notify_one();
        }
        let done = self.wait_until(|_| asked.iter().all(|(server, before)| server.rounds() > *before));
        if tokio::time::timeout(patience, done).await.is_err() {
            tracing::debug!("a server takes longer to be listed again; it is shown as it is");
        }
    }

    /// Has a server's tools listed again soon; one that is down is tried at once.
    pub fn refresh(&self, server: &ServerName) {
        if let Some(server) = self.hub.servers.load().get(server) {
            server.refresh.notify_one();
        }
    }

    /// What a server last listed, to be kept over a restart; `None` where it has not been listed since it was configured.
    #[must_use]
    pub fn listing(&self, server: &ServerName) -> Option<Json> {
        let server = self.hub.servers.load().get(server).cloned()?;
        if !server.has_listed() {
            return None;
        }
        Some(server.known().json())
    }

    /// Takes kept listings for servers that have not been listed yet, best before [`Self::apply`]: their tools are there
    /// at once, marked stale until they are listed, and the era need not be probed. Gives the names whose listing could
    /// not be read.
    pub fn seed(&self, listings: &[(ServerName, Json)]) -> Vec<ServerName> {
        let servers = self.hub.servers.load_full();
        let mut bad = Vec::new();
        let mut changed = false;
        for (name, json) in listings {
            match (Known::read(json), servers.get(name)) {
                (Some(known), Some(server)) => changed |= server.seed(known),
                (Some(known), None) => {
                    self.hub.seeds.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), known);
                }
                (None, _) => bad.push(name.clone()),
            }
        }
        self.hub.progressed(changed);
        bad
    }

    /// Begins a login at a server that asks for OAuth; gives the page to which a person goes. The person is sent back to
    /// `redirect`.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn begin_login(&self, server: &str, redirect: &str) -> Result<String, String> {
        self.authorized(server)?.1.begin(redirect).await
    }

    /// Ends a login with the URL to which the person was sent back, and connects with what it gave.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn finish_login(&self, server: &str, callback: &str) -> Result<(), String> {
        let (server, authorization) = self.authorized(server)?;
        authorization.finish(callback).await?;
        server.refresh.notify_one();
        Ok(())
    }

    /// Forgets the credentials at a server. True where there were some.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn logout(&self, server: &str) -> Result<bool, String> {
        self.authorized(server)?.1.forget().await
    }

    fn authorized(&self, name: &str) -> Result<(Arc<Server>, Arc<Authorization>), String> {
        let servers = self.hub.servers.load();
        let server = servers.values().find(|server| server.name.as_str() == name);
        let server = server.ok_or_else(|| format!("there is no server `{name}`: see `toolgate servers list`"))?;
        let authorization = server.authorization.clone();
        let authorization = authorization.ok_or_else(|| format!("`{name}` has no `oauth` in the configuration"))?;
        Ok((Arc::clone(server), authorization))
    }

    /// Takes no more calls, gives those in flight `grace` to finish, and ends every child and connection.
    pub async fn stop(&self, grace: Duration) {
        let hub = &self.hub;
        hub.grace.store(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        hub.stop.cancel();
        hub.tracker.close();
        if tokio::time::timeout(grace + CHILD_GRACE, hub.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = hub.tracker.len(), "stopped before every backend was done");
        }
    }
}

/// Whether a server can go on with its connection and its limits as they are.
fn same_connection(old: &ServerSettings, new: &ServerSettings) -> bool {
    old.transport == new.transport
        && old.oauth == new.oauth
        && old.provider == new.provider
        && old.list_as == new.list_as
        && old.concurrency == new.concurrency
        && old.pace == new.pace
        && old.max_answer == new.max_answer
        && old.ca == new.ca
}
