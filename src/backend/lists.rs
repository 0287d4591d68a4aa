//! Prompts, resources and templates of one server: asked for when somebody wants them, kept until they change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ask::{Ask, Params};
use super::fault::{Fault, FaultKind};
use super::link::Link;
use super::peer::Peer;
use super::registry::{Backends, Hub};
use super::send::{gone, worded};
use super::server::Server;
use crate::domain::id::ServerName;
use crate::domain::json::Json;
use crate::domain::outcome::UpstreamError;
use crate::domain::principal::Principal;

/// How long a list is kept where the backend does not say.
const KEPT: Duration = Duration::from_secs(60);
/// How long a list is kept of a backend that does not tell of changes.
const KEPT_UNTOLD: Duration = Duration::from_secs(5);

/// How long a list that could not be had is not asked for again: what was known of it has to do.
const UNASKED: Duration = Duration::from_secs(10);

/// A list other than that of the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListKind {
    Prompts,
    Resources,
    Templates,
}

impl ListKind {
    /// The method that asks for it, and the member of the result that holds it.
    #[must_use]
    pub const fn method(self) -> (&'static str, &'static str) {
        match self {
            Self::Prompts => ("prompts/list", "prompts"),
            Self::Resources => ("resources/list", "resources"),
            Self::Templates => ("resources/templates/list", "resourceTemplates"),
        }
    }

    /// The capability that a backend must declare to have such a list.
    const fn capability(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// The member that names an item.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

/// A list as the backend gave it.
#[derive(Debug, Clone, Default)]
pub struct Items {
    /// Each item's own bytes.
    pub items: Vec<Json>,
    /// How long it may be kept, in milliseconds, where the backend says so.
    pub ttl_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    items: Option<Arc<Items>>,
    /// Clock ticks until which it is fresh.
    until: u64,
    /// Why it could not be had when it was last asked for, and the clock ticks until which that stands.
    failed: Option<(Fault, u64)>,
    /// Clock ticks since which it is asked for.
    asked: Option<u64>,
}

/// The lists of one server.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    prompts: Shelf,
    resources: Shelf,
    templates: Shelf,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: Mutex<Kept>,
    /// Of several that want it one asks.
    asking: Arc<tokio::sync::Mutex<()>>,
    /// Counts how often it was forgotten: what was asked for before is not kept after.
    turns: AtomicU64,
}

impl Lists {
    const fn shelf(&self, kind: ListKind) -> &Shelf {
        match kind {
            ListKind::Prompts => &self.prompts,
            ListKind::Resources => &self.resources,
            ListKind::Templates => &self.templates,
        }
    }

    /// It has changed: the next one who wants it asks again.
    pub(crate) fn forget(&self, kind: ListKind) {
        let shelf = self.shelf(kind);
        shelf.turns.fetch_add(1, Ordering::AcqRel);
        let mut kept = shelf.kept();
        (kept.until, kept.failed) = (0, None);
    }

    /// The list, from the backend where what is kept is too old. Whoever leaves does not stop it: the next one finds it.
    async fn get(kind: ListKind, server: &Arc<Server>, hub: &Arc<Hub>) -> Result<Arc<Items>, Fault> {
        let shelf = server.lists.shelf(kind);
        if let Some(known) = shelf.known(hub.clock.ticks()) {
            return known;
        }
        let one = Arc::clone(&shelf.asking).lock_owned().await;
        if let Some(known) = shelf.known(hub.clock.ticks()) {
            return known;
        }
        let (asked, at) = (Arc::clone(server), Arc::clone(hub));
        let asking = hub.tracker.spawn(server.stop.clone().run_until_cancelled_owned(async move {
            let _one = one;
            asked.lists.shelf(kind).renew(kind, &asked, &at).await
        }));
        match asking.await {
            Ok(Some(renewed)) => renewed,
            _ => Err(Fault::new(FaultKind::Stopped, "the server is stopping")),
        }
    }
}

impl Shelf {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What needs no asking: a fresh list, or that there was none to be had a moment ago.
    fn known(&self, now: u64) -> Option<Result<Arc<Items>, Fault>> {
        let kept = self.kept();
        if let Some(fresh) = kept.items.clone().filter(|_| now < kept.until) {
            return Some(Ok(fresh));
        }
        let (fault, until) = kept.failed.as_ref()?;
        (now < *until).then(|| kept.last(fault))
    }

    /// Asks the backend and keeps what it gives; the last known list where it gives none.
    async fn renew(&self, kind: ListKind, server: &Server, hub: &Hub) -> Result<Arc<Items>, Fault> {
        let turn = self.turns.load(Ordering::Acquire);
        self.kept().asked = Some(hub.clock.ticks());
        let asked = match server.link().await {
            Ok(link) => ask(kind, server, &link).await,
            // Nothing was asked: the next one may find it connected.
            Err(fault) => {
                let mut kept = self.kept();
                kept.asked = None;
                return kept.last(&fault);
            }
        };
        let after = |time: Duration| hub.clock.ticks().saturating_add(ticks(time));
        let mut kept = self.kept();
        (kept.asked, kept.failed) = (None, None);
        let unchanged = self.turns.load(Ordering::Acquire) == turn;
        match asked {
            Ok((items, keep)) => {
                let items = Arc::new(items);
                kept.items = Some(Arc::clone(&items));
                if unchanged {
                    kept.until = after(keep);
                }
                Ok(items)
            }
            Err(fault) => {
                kept.failed = unchanged.then(|| (fault.clone(), after(UNASKED)));
                kept.last(&fault)
            }
        }
    }
}

impl Kept {
    /// The last known list, in place of one that could not be had.
    fn last(&self, fault: &Fault) -> Result<Arc<Items>, Fault> {
        self.items.clone().ok_or_else(|| fault.clone())
    }
}

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Asks the backend; gives the list and how long to keep it.
async fn ask(kind: ListKind, server: &Server, link: &Link) -> Result<(Items, Duration), Fault> {
    let capabilities = link.hello().capabilities.value();
    let Some(capability) = capabilities.get(kind.capability()) else { return Ok((Items::default(), KEPT)) };
    let told = capability.get("listChanged").and_then(serde_json::Value::as_bool).unwrap_or(false);
    let (method, member) = kind.method();
    let listed = link.list(method, member).await?;
    if let Some(warning) = listed.warning {
        tracing::warn!(server = %server.name, warning, "a list was not read as it came");
    }
    let longest = if told { KEPT } else { KEPT_UNTOLD };
    let keep = listed.ttl_ms.map_or(longest, |ttl| Duration::from_millis(ttl).min(longest));
    Ok((Items { items: listed.definitions, ttl_ms: listed.ttl_ms }, keep))
}

impl Backends {
    /// The list that a server gave last, if it ever gave one.
    #[must_use]
    pub fn last_items(&self, server: &ServerName, kind: ListKind) -> Option<Arc<Items>> {
        let server = self.hub.servers.load().get(server).cloned()?;
        let kept = server.lists.shelf(kind).kept();
        kept.items.clone()
    }

    /// Whether somebody has waited for this list for longer than that already.
    #[must_use]
    pub fn takes_longer(&self, server: &ServerName, kind: ListKind, than: Duration) -> bool {
        let servers = self.hub.servers.load();
        let asked = servers.get(server).and_then(|server| server.lists.shelf(kind).kept().asked);
        asked.is_some_and(|asked| self.hub.clock.ticks().saturating_sub(asked) >= ticks(than))
    }

    /// A list of a server's, as this principal may know it; the last known one where the server cannot be asked.
    ///
    /// # Errors
    /// Why there is none, where nothing is known.
    pub async fn items(
        &self,
        server: &ServerName,
        kind: ListKind,
        who: &Principal,
    ) -> Result<Arc<Items>, UpstreamError> {
        let Some(server) = self.hub.servers.load().get(server).cloned() else { return Err(gone(server)) };
        let listed = match server.settings().provider {
            Some(_) => self.items_of_user(&server, kind, who).await,
            None => Lists::get(kind, &server, &self.hub).await,
        };
        listed.map_err(|fault| {
            tracing::debug!(server = %server.name, detail = fault.detail, "{} cannot be listed", kind.method().1);
            worded(&server, kind.method().0, true, fault)
        })
    }

    /// What a server has for the account of a user: shown to nobody else, so it is not kept.
    async fn items_of_user(&self, server: &Arc<Server>, kind: ListKind, who: &Principal) -> Result<Arc<Items>, Fault> {
        let peer = Peer::silent(&who.key, &who.user);
        let asking = Ask { peer: Some(&peer), ..Ask::plain(kind.method().0, Params::None) };
        let (link, _lease) = server.reach(&asking, &self.hub).await?;
        Ok(Arc::new(ask(kind, server, &link).await?.0))
    }
}
