//! Prompts and resources of all servers in one list, where the surface shows what stands behind the gateway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::Gateway;
use super::list::{Listing, is_direct};
use super::relay::{Shown, item_name, sieved};
use crate::backend::{Items, ListKind, flat_name, may_be_of};
use crate::domain::call::ToolRef;
use crate::domain::id::ServerName;
use crate::domain::json::Json;
use crate::domain::outcome::UpstreamError;
use crate::domain::principal::Principal;
use crate::domain::secret::Secret;
use crate::wire::hop;

/// A slow server does not hold up a list for longer: what it gave last stands in for it. Who asks it alone for what it never
/// gave waits longer.
const PATIENCE: Duration = Duration::from_secs(3);
const FIRST_PATIENCE: Duration = Duration::from_secs(30);

/// Tells which servers are asked.
type At<'a> = dyn Fn(&ServerName) -> bool + Sync + 'a;

/// Tells which names at a server are meant.
type Meant<'a> = dyn Fn(&ServerName, &str) -> bool + Sync + 'a;

/// One item of a merged list.
struct Entry {
    server: ServerName,
    /// As its server names it.
    name: String,
    /// As it is listed here.
    listed: String,
    item: Json,
}

/// What a template of URIs begins with, whatever is put into it.
fn fixed(template: &str) -> &str {
    template.split_once('{').map_or(template, |(fixed, _)| fixed)
}

fn anywhere(_: &ServerName) -> bool {
    true
}

impl Gateway {
    /// The prompts, resources or templates of all servers that a surface shows to a principal: by server, then in the
    /// server's own order. Prompts have flat names; of resources with one URI the first server's is listed. Servers that ask
    /// for a token show nothing to whoever brings none that is theirs.
    pub async fn shown_items(
        &self,
        principal: &Principal,
        listing: Listing,
        kind: ListKind,
        jwt: Option<&Secret>,
    ) -> Shown {
        let state = self.state();
        let asking = state.settings.servers.values().filter(|server| server.jwt.is_some()).map(|server| &server.name);
        let asking: Vec<&ServerName> = asking.filter(|server| principal.profile.reaches(server)).collect();
        let admitted = join_all(asking.iter().map(|server| self.pipeline.admit_token(&state, server, jwt))).await;
        let closed = asking.into_iter().zip(admitted).filter_map(|(server, admitted)| admitted.err().map(|_| server));
        let closed: Vec<&ServerName> = closed.collect();
        let open = |server: &ServerName| !closed.contains(&server);
        let (entries, ttl_ms) = self.merged(principal, listing, kind, (&open, None)).await;
        let items = entries.into_iter().map(|entry| match kind {
            ListKind::Prompts => hop::with_member(&entry.item, "name", &Value::from(entry.listed).to_string()),
            ListKind::Resources | ListKind::Templates => entry.item,
        });
        Shown { items: items.collect(), ttl_ms }
    }

    /// What a principal means by the name of a prompt in such a list.
    pub async fn listed_prompt(&self, principal: &Principal, listing: Listing, name: &str) -> Option<ToolRef> {
        let meant = |server: &ServerName, prompt: &str| flat_name(server.as_str(), prompt) == name;
        let named = |server: &ServerName| may_be_of(server.as_str(), name);
        let (entries, _) = self.merged(principal, listing, ListKind::Prompts, (&named, Some(&meant))).await;
        let entry = entries.into_iter().find(|entry| entry.listed == name)?;
        Some(ToolRef::Prompt { server: entry.server.to_string(), name: entry.name })
    }

    /// What a principal means by a URI: a resource of such a list, or one that a template of it covers.
    pub async fn listed_resource(&self, principal: &Principal, listing: Listing, uri: &str) -> Option<ToolRef> {
        let mut found = self.listed_resources(principal, listing, &[uri]).await;
        found.pop().map(|(uri, server)| ToolRef::Resource { server: server.to_string(), uri: uri.to_owned() })
    }

    /// Of these URIs those that a principal can mean anything by, with the servers that are meant.
    pub async fn listed_resources<'a>(
        &self,
        principal: &Principal,
        listing: Listing,
        uris: &[&'a str],
    ) -> Vec<(&'a str, ServerName)> {
        let meant = |_: &ServerName, name: &str| uris.contains(&name);
        let (entries, _) = self.merged(principal, listing, ListKind::Resources, (&anywhere, Some(&meant))).await;
        let listed: HashMap<String, ServerName> =
            entries.into_iter().rev().map(|entry| (entry.name, entry.server)).collect();
        let left = |uri: &&&str| !listed.contains_key(**uri);
        let covers = |_: &ServerName, name: &str| {
            !fixed(name).is_empty() && uris.iter().filter(left).any(|uri| uri.starts_with(fixed(name)))
        };
        let templates = match uris.iter().any(|uri| left(&uri)) {
            true => self.merged(principal, listing, ListKind::Templates, (&anywhere, Some(&covers))).await.0,
            false => Vec::new(),
        };
        let covered = |uri: &str| {
            let covering = templates.iter().filter(|template| uri.starts_with(fixed(&template.name)));
            // Of several the closest; the first server's where they are alike.
            covering.rev().max_by_key(|template| fixed(&template.name).len()).map(|template| template.server.clone())
        };
        uris.iter().filter_map(|uri| Some((*uri, listed.get(*uri).cloned().or_else(|| covered(uri))?))).collect()
    }

    /// Whether such a list shows what stands behind the gateway.
    #[must_use]
    pub fn shows_servers(&self, principal: &Principal, listing: Listing) -> bool {
        is_direct(&self.state.load(), principal, listing.surface.unwrap_or(principal.profile.surface))
    }

    /// What is meant of the lists of these servers together; where nothing is said, all of it. Policies are asked of nothing
    /// else.
    async fn merged(
        &self,
        principal: &Principal,
        listing: Listing,
        kind: ListKind,
        (at, meant): (&At<'_>, Option<&Meant<'_>>),
    ) -> (Vec<Entry>, Option<u64>) {
        let state = self.state();
        if !is_direct(&state, principal, listing.surface.unwrap_or(principal.profile.surface)) {
            return (Vec::new(), None);
        }
        let reached = |server: &&ServerName| principal.profile.reaches(server) && at(server);
        let servers: Vec<&ServerName> = state.settings.servers.keys().filter(reached).collect();
        let lists = join_all(servers.iter().map(|server| self.items_soon(server, kind, principal))).await;
        let sight = state.sight(principal);
        let mut taken: HashMap<String, usize> = HashMap::new();
        let mut entries = Vec::new();
        let mut ttl: Option<u64> = None;
        for (server, items) in servers.into_iter().zip(lists) {
            let Some(items) = items else { continue };
            ttl = ttl.into_iter().chain(items.ttl_ms).min();
            let named = |item: &&Json| {
                let name = item_name(item, kind).filter(|name| meant.is_some_and(|meant| meant(server, name)));
                let readable = name.and_then(|name| state.readable(&super::relay::reference(server, kind, &name)));
                readable.is_some_and(|readable| sight.shows(&readable))
            };
            let shown: Vec<&Json> = match meant {
                Some(_) => items.items.iter().filter(named).collect(),
                None => {
                    let places = sieved(&state, principal, (server, kind), &items).await;
                    places.iter().filter_map(|place| items.items.get(*place)).collect()
                }
            };
            for item in shown {
                let Some(name) = item_name(item, kind) else { continue };
                let listed = if kind == ListKind::Prompts { flat_name(server.as_str(), &name) } else { name.clone() };
                let before = taken.entry(listed.clone()).or_default();
                *before += 1;
                if *before > 1 {
                    tracing::debug!(%server, listed, "another server has the same; it is read at its own URL");
                    continue;
                }
                entries.push(Entry { server: server.clone(), name, listed, item: item.clone() });
            }
        }
        (entries, ttl)
    }

    /// The list of one server, or what it gave last where it takes long.
    pub(super) async fn items_of(
        &self,
        server: &ServerName,
        kind: ListKind,
        who: &Principal,
    ) -> Result<Option<Arc<Items>>, UpstreamError> {
        let known = self.pipeline.backends.last_items(server, kind).is_some();
        self.items_within(if known { PATIENCE } else { FIRST_PATIENCE }, server, kind, who).await
    }

    /// The same beside those of other servers: whoever comes while it takes long does not wait for it too.
    async fn items_soon(&self, server: &ServerName, kind: ListKind, who: &Principal) -> Option<Arc<Items>> {
        let backends = &self.pipeline.backends;
        if backends.takes_longer(server, kind, PATIENCE) {
            return backends.last_items(server, kind);
        }
        self.items_within(PATIENCE, server, kind, who).await.ok().flatten()
    }

    async fn items_within(
        &self,
        patience: Duration,
        server: &ServerName,
        kind: ListKind,
        who: &Principal,
    ) -> Result<Option<Arc<Items>>, UpstreamError> {
        let backends = &self.pipeline.backends;
        match tokio::time::timeout(patience, backends.items(server, kind, who)).await {
            Ok(items) => items.map(Some),
            Err(_) => Ok(backends.last_items(server, kind)),
        }
    }
}
