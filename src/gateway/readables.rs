//! Whether the lists of prompts and resources that somebody is shown may be others than they were.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::Gateway;
use super::list::Listing;
use crate::backend::ListVersions;
use crate::domain::id::ServerName;
use crate::domain::principal::{Principal, Profile};

/// What decides which prompts and which resources a principal is shown: what its servers have said of their lists, and the
/// rules by which they are judged. Nothing of it tells of a server that the principal does not reach.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Readables {
    versions: BTreeMap<ServerName, ListVersions>,
    rules: Option<(Arc<str>, Arc<Profile>)>,
}

impl Readables {
    /// Whether the prompts, and whether the resources, may be others than before.
    #[must_use]
    pub fn changed_since(&self, before: &Self) -> (bool, bool) {
        let others = |list: fn(&ListVersions) -> u64| {
            let (now, then) = (self.versions.values().map(list), before.versions.values().map(list));
            self.rules != before.rules || !self.versions.keys().eq(before.versions.keys()) || !now.eq(then)
        };
        (others(|versions| versions.prompts), others(|versions| versions.resources))
    }
}

impl Gateway {
    /// Wakes whenever a server says that its prompts or resources have changed.
    #[must_use]
    pub fn readable_changes(&self) -> watch::Receiver<ListVersions> {
        self.pipeline.backends.readable_changes()
    }

    /// What decides which prompts and resources of all servers together a principal is shown; nothing where none are shown.
    #[must_use]
    pub fn readables(&self, principal: &Principal, listing: Listing) -> Readables {
        if !self.shows_servers(principal, listing) {
            return Readables::default();
        }
        let state = self.state.load();
        self.judged(principal, state.settings.servers.keys().filter(|server| principal.profile.reaches(server)))
    }

    /// The same of one server.
    #[must_use]
    pub fn server_readables(&self, principal: &Principal, server: &ServerName) -> Readables {
        self.judged(principal, [server].into_iter())
    }

    fn judged<'a>(&self, principal: &Principal, servers: impl Iterator<Item = &'a ServerName>) -> Readables {
        let backends = &self.pipeline.backends;
        let versions = servers.filter_map(|server| Some((server.clone(), *backends.versions(server)?.borrow())));
        let rules = (Arc::clone(self.state.load().policies.bundle().version()), Arc::clone(&principal.profile));
        Readables { versions: versions.collect(), rules: Some(rules) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_another_where_a_server_of_it_says_so() {
        let of = |servers: &[(&str, u64, u64)]| Readables {
            versions: servers
                .iter()
                .map(|(name, prompts, resources)| {
                    let versions = ListVersions { prompts: *prompts, resources: *resources, tools: 0 };
                    (name.parse().unwrap(), versions)
                })
                .collect(),
            rules: None,
        };
        let before = of(&[("a", 1, 1), ("b", 0, 0)]);
        for (now, prompts, resources) in [
            (of(&[("a", 1, 1), ("b", 0, 0)]), false, false),
            (of(&[("a", 2, 1), ("b", 0, 0)]), true, false),
            (of(&[("a", 1, 1), ("b", 0, 4)]), false, true),
            (of(&[("a", 1, 1), ("c", 0, 0)]), true, true),
            (of(&[("a", 1, 1)]), true, true),
        ] {
            assert_eq!(now.changed_since(&before), (prompts, resources), "{now:?}");
        }
    }
}
