//! Prompts, resources and templates of one server: asked for when somebody wants them, kept until they change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ask::{Ask, Params};
use super::fault::{Fault, FaultKind};
use super::link::Link;
use super::peer::Peer;
use super::registry::{Backends, Hub};
use super::server::Server;
use crate::domain::id::ServerName;
use crate::domain::json::Json;
use crate::domain::principal::Principal;

/// How long a list is kept where the backend does not say.
const KEPT: Duration = Duration::from_secs(60);
/// How long a list is kept of a backend that does not tell of changes.
const KEPT_UNTOLD: Duration = Duration::from_secs(5);

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
    /// Whether it is the same for everybody.
    pub public: bool,
    /// The backend could not be asked: this is what it gave last.
    pub stale: bool,
}

#[derive(Debug, Default)]
struct Kept {
    items: Option<Arc<Items>>,
    /// Clock ticks until which it is fresh.
    until: u64,
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
        shelf.kept.lock().unwrap_or_else(PoisonError::into_inner).until = 0;
    }

    /// The list, from the backend where what is kept is too old. Whoever leaves does not stop it: the next one finds it.
    async fn get(kind: ListKind, server: &Arc<Server>, hub: &Arc<Hub>) -> Result<Arc<Items>, Fault> {
        let shelf = server.lists.shelf(kind);
        if let Some(fresh) = shelf.fresh(hub.clock.ticks()) {
            return Ok(fresh);
        }
        let one = Arc::clone(&shelf.asking).lock_owned().await;
        if let Some(fresh) = shelf.fresh(hub.clock.ticks()) {
            return Ok(fresh);
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
    fn fresh(&self, now: u64) -> Option<Arc<Items>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.items.clone().filter(|_| now < kept.until)
    }

    /// Asks the backend and keeps what it gives; the last known list where it gives none.
    async fn renew(&self, kind: ListKind, server: &Server, hub: &Hub) -> Result<Arc<Items>, Fault> {
        let turn = self.turns.load(Ordering::Acquire);
        let asked = match server.link().await {
            Ok(link) => ask(kind, server, &link).await,
            Err(fault) => Err(fault),
        };
        match asked {
            Ok((items, keep)) => {
                let items = Arc::new(items);
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.items = Some(Arc::clone(&items));
                if self.turns.load(Ordering::Acquire) == turn {
                    kept.until = hub.clock.ticks().saturating_add(u64::try_from(keep.as_micros()).unwrap_or(u64::MAX));
                }
                Ok(items)
            }
            Err(fault) => {
                let last = self.kept.lock().unwrap_or_else(PoisonError::into_inner).items.clone();
                last.map(|items| Arc::new(Items { stale: true, ..(*items).clone() })).ok_or(fault)
            }
        }
    }
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
    Ok((Items { items: listed.definitions, ttl_ms: listed.ttl_ms, public: listed.public, stale: false }, keep))
}

impl Backends {
    /// The list that a server gave last, if it ever gave one.
    #[must_use]
    pub fn last_items(&self, server: &ServerName, kind: ListKind) -> Option<Arc<Items>> {
        let server = self.hub.servers.load().get(server).cloned()?;
        server.lists.shelf(kind).kept.lock().unwrap_or_else(PoisonError::into_inner).items.clone()
    }

    /// A list of a server's, as this principal may know it; the last known one where the server cannot be asked, and `None`
    /// where nothing is known.
    pub async fn items(&self, server: &ServerName, kind: ListKind, who: &Principal) -> Option<Arc<Items>> {
        let server = self.hub.servers.load().get(server).cloned()?;
        let listed = match server.settings().provider {
            Some(_) => self.items_of_user(&server, kind, who).await,
            None => Lists::get(kind, &server, &self.hub).await,
        };
        match listed {
            Ok(items) => Some(items),
            Err(fault) => {
                tracing::debug!(server = %server.name, detail = fault.detail, "{} cannot be listed", kind.method().1);
                None
            }
        }
    }

    /// What a server has for the account of a user: shown to nobody else, so it is not kept.
    async fn items_of_user(&self, server: &Arc<Server>, kind: ListKind, who: &Principal) -> Result<Arc<Items>, Fault> {
        let peer = Peer::silent(&who.key, &who.user);
        let asking = Ask { peer: Some(&peer), ..Ask::plain(kind.method().0, Params::None) };
        let (link, _lease) = server.reach(&asking, &self.hub).await?;
        Ok(Arc::new(ask(kind, server, &link).await?.0))
    }
}
