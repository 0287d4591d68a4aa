//! What is told of the registered servers and their tools: to everybody, and to somebody with a key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::Gateway;
use crate::backend::ServerState;
use crate::config::settings::ServerSettings;
use crate::domain::id::ServerName;
use crate::domain::principal::Principal;
use crate::domain::tool::Tool;

/// The own tools whose names begin so are public.
const PUBLIC_OWN: &str = "eval.";

/// A registered server, as far as somebody may see it.
#[derive(Debug)]
pub struct DirectoryEntry {
    pub settings: Arc<ServerSettings>,
    /// What the backend calls itself.
    pub title: Option<String>,
    pub state: ServerState,
    /// The tools are what it listed before it went away.
    pub stale: bool,
    pub tools: Vec<Arc<Tool>>,
}

impl Gateway {
    /// The tools that are listed without a key, under the names that calls give them: those marked `public`, own ones
    /// first.
    #[must_use]
    pub fn public_tools(&self) -> Vec<(Cow<'static, str>, Arc<Tool>)> {
        let state = self.state();
        let own = self.own_tools().iter().map(|own| &own.tool);
        let own = own.filter(|tool| tool.id.tool.starts_with(PUBLIC_OWN));
        let own = own.map(|tool| (Cow::Owned(tool.id.tool.to_string()), Arc::clone(tool)));
        let entries = state.catalog.entries().iter().map(|entry| entry.tool());
        let marked = entries.filter(|tool| tool.settings.public);
        own.chain(marked.map(|tool| (Cow::Owned(tool.label.to_string()), Arc::clone(tool)))).collect()
    }

    /// The registered servers that a principal may see, by name: those of which its profile opens anything.
    #[must_use]
    pub fn directory(&self, principal: &Principal) -> Vec<DirectoryEntry> {
        let state = self.state();
        let mut tools: HashMap<&ServerName, Vec<Arc<Tool>>> = HashMap::new();
        let view = state.policies.view(principal);
        for entry in state.catalog.entries() {
            let tool = entry.tool();
            if state.admits(principal, tool) && view.could_permit(tool) {
                tools.entry(&tool.id.server).or_default().push(Arc::clone(tool));
            }
        }
        let status: HashMap<ServerName, ServerState> =
            self.pipeline.backends.status().into_iter().map(|status| (status.name, status.state)).collect();
        let cards: HashMap<&ServerName, _> = state.catalog.servers().iter().map(|card| (&card.name, card)).collect();
        let mut found = Vec::new();
        for (name, settings) in &state.settings.servers {
            if !principal.profile.reaches(name) {
                continue;
            }
            let shown = tools.remove(name).unwrap_or_default();
            let card = cards.get(name);
            found.push(DirectoryEntry {
                settings: Arc::clone(settings),
                title: card.and_then(|card| card.title.clone()),
                state: status.get(name).copied().unwrap_or(ServerState::Connecting),
                stale: card.is_some_and(|card| card.stale),
                tools: shown,
            });
        }
        found
    }
}
