//! Prompts, resources and templates of one server: asked for when somebody wants them, kept until they change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::fault::Fault;
use super::registry::{Backends, Hub};
use super::server::Server;
use crate::domain::id::ServerName;
use crate::domain::json::Json;

/// How long a list is kept where the backend does not say.
const KEPT: Duration = Duration::from_secs(60);
/// How long a list is kept of a backend that does not tell of changes.
const KEPT_UNTOLD: Duration = Duration::from_secs(5);

/// A list other than that of the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    asking: tokio::sync::Mutex<()>,
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

    async fn get(&self, kind: ListKind, server: &Server, hub: &Hub) -> Result<Arc<Items>, Fault> {
        let shelf = self.shelf(kind);
        if let Some(fresh) = shelf.fresh(hub.clock.ticks()) {
            return Ok(fresh);
        }
        let _one = shelf.asking.lock().await;
        if let Some(fresh) = shelf.fresh(hub.clock.ticks()) {
            return Ok(fresh);
        }
        let turn = shelf.turns.load(Ordering::Acquire);
        match ask(kind, server).await {
            Ok((items, keep)) => {
                let items = Arc::new(items);
                let mut kept = shelf.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.items = Some(Arc::clone(&items));
                if shelf.turns.load(Ordering::Acquire) == turn {
                    kept.until = hub.clock.ticks().saturating_add(u64::try_from(keep.as_micros()).unwrap_or(u64::MAX));
                }
                Ok(items)
            }
            Err(fault) => {
                let last = shelf.kept.lock().unwrap_or_else(PoisonError::into_inner).items.clone();
                last.map(|items| Arc::new(Items { stale: true, ..(*items).clone() })).ok_or(fault)
            }
        }
    }
}

impl Shelf {
    fn fresh(&self, now: u64) -> Option<Arc<Items>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.items.clone().filter(|_| now < kept.until)
    }
}

/// Asks the backend; gives the list and how long to keep it.
async fn ask(kind: ListKind, server: &Server) -> Result<(Items, Duration), Fault> {
    let link = server.link().await?;
    let capabilities = link.hello().capabilities.value();
    let Some(capability) = capabilities.get(kind.capability()) else { return Ok((Items::default(), KEPT)) };
    let told = capability.get("listChanged").and_then(serde_json::Value::as_bool).unwrap_or(false);
    let (method, member) = kind.method();
    let listed = link.list(method, member).await?;
    if let Some(warning) = listed.warning {
        tracing::warn!(server = %server.name, warning, "a list is not whole");
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

    /// A list of a server's; the last known one where the server cannot be asked, and `None` where nothing is known.
    pub async fn items(&self, server: &ServerName, kind: ListKind) -> Option<Arc<Items>> {
        let server = self.hub.servers.load().get(server).cloned()?;
        match server.lists.get(kind, &server, &self.hub).await {
            Ok(items) => Some(items),
            Err(fault) => {
                tracing::debug!(server = %server.name, detail = fault.detail, "{} cannot be listed", kind.method().1);
                None
            }
        }
    }
}
