//! The tools that a principal is shown one by one, the gateway's own among them: as a list, by words, by name.

use std::sync::Arc;

use super::Gateway;
use crate::backend::Resolved;
use crate::domain::call::ToolRef;
use crate::domain::outcome::Refusal;
use crate::domain::principal::Principal;
use crate::domain::tool::{Risk, Tool};
use crate::own::is_listed;
use crate::search::{MOST_MATCHES, SearchOptions};

/// Which tools are wanted; what is absent matches everything.
#[derive(Debug, Clone, Default)]
pub struct ToolFilter {
    pub server: Option<String>,
    pub risk: Option<Risk>,
}

impl ToolFilter {
    fn fits(&self, tool: &Tool) -> bool {
        self.server.as_deref().is_none_or(|server| tool.id.server.as_str() == server)
            && self.risk.is_none_or(|risk| tool.risk == risk)
    }
}

impl Gateway {
    /// The tools that a list shows to a principal, by id.
    #[must_use]
    pub fn shown_tools(&self, principal: &Principal, filter: &ToolFilter) -> Vec<Arc<Tool>> {
        let state = self.state();
        let sight = state.sight(principal);
        let own = self.own_tools().iter().filter(|own| is_listed(own, &principal.profile)).map(|own| &own.tool);
        let entries = state.catalog.entries().iter().map(|entry| entry.tool()).filter(|tool| sight.shows(tool));
        let mut tools: Vec<Arc<Tool>> = own.chain(entries).filter(|tool| filter.fits(tool)).cloned().collect();
        tools.sort_by(|one, other| one.id.cmp(&other.id));
        tools
    }

    /// The tools that are found for a principal by words, best first, with their scores.
    #[must_use]
    pub fn found_tools(&self, principal: &Principal, filter: &ToolFilter, words: &str) -> Vec<(Arc<Tool>, f32)> {
        let state = self.state();
        let sight = state.sight(principal);
        let at = |number: u32| sight.numbered(self.own_tools(), number).filter(|tool| filter.fits(tool));
        let options = SearchOptions { limit: MOST_MATCHES, server: filter.server.as_deref() };
        let found = state.index.search(words, &options, |number| at(number).is_some());
        found.hits.iter().filter_map(|hit| Some((Arc::clone(at(hit.tool)?), hit.score))).collect()
    }

    /// The one tool that a name stands for among those that a principal is shown.
    ///
    /// # Errors
    /// Where it stands for none, or for several.
    pub fn shown_tool(&self, principal: &Principal, name: &str) -> Result<Arc<Tool>, Refusal> {
        let asked = ToolRef::Text(name.to_owned());
        if let Some(own) = self.pipeline.own.find(&asked) {
            let known = principal.profile.has(own.scope);
            let unknown = || Refusal::UnknownTool { asked: asked.label(), nearest: Vec::new() };
            return known.then(|| Arc::clone(&own.tool)).ok_or_else(unknown);
        }
        let state = self.state();
        let sight = state.sight(principal);
        match state.catalog.resolve(&asked, |tool| sight.shows(tool)) {
            Resolved::One(tool) => Ok(tool),
            Resolved::None => {
                let nearest = state.catalog.nearest(&asked, |tool| sight.shows(tool));
                Err(Refusal::UnknownTool { asked: asked.label(), nearest })
            }
            Resolved::Several(ids) => {
                let readings = ids.iter().map(ToString::to_string).collect();
                Err(Refusal::Ambiguous { asked: asked.label(), readings })
            }
        }
    }
}
