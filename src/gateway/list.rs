//! What `tools/list` shows to a principal.

use std::sync::Arc;

use serde_json::Value;

use super::Gateway;
use crate::config::settings::ToolNames;
use crate::domain::json::{Json, sha256_hex};
use crate::domain::principal::{Principal, Surface};
use crate::domain::tool::Tool;
use crate::own::{is_listed, safe_name};
use crate::pipeline::{OwnTool, State};
use crate::wire::splice::{Additions, splice};

/// Characters of a definition that make up about one token of a model's context.
const CHARS_PER_TOKEN: usize = 4;

/// How a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    /// What the query string asks for instead of the profile's surface.
    pub surface: Option<Surface>,
    pub names: Option<ToolNames>,
    /// Whether a host asks, whose model takes only safe names.
    pub host: bool,
}

impl Gateway {
    /// The members of `tools` as one JSON array, own tools first, then the backends' in the catalogue's order.
    #[must_use]
    pub fn tools(&self, principal: &Principal, listing: Listing) -> Json {
        let state = self.state();
        let names = listing.names.unwrap_or(state.settings.gateway.tool_names);
        let safe = matches!((names, listing.host), (ToolNames::Safe, _) | (ToolNames::Auto, true));
        let direct = direct_tools(&state, principal, listing.surface.unwrap_or(principal.profile.surface));
        let mut out = String::from("[");
        let mut put = |definition: &Json| {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(definition.as_str());
        };
        if !matches!(listing.surface.unwrap_or(principal.profile.surface), Surface::Direct) {
            for own in self.own_tools().iter().filter(|own| is_listed(own, &principal.profile)) {
                put(&own_definition(own, safe));
            }
        }
        for (tool, flat) in direct {
            let name = Value::from(flat).to_string();
            put(&splice(&tool.definition, Additions { members: &[("name", &name)], meta: &[] }));
        }
        out.push(']');
        Json::from_parts(out)
    }

    /// Changes when, and only when, such a list of the principal's changes.
    #[must_use]
    pub fn list_fingerprint(&self, principal: &Principal, listing: Listing) -> String {
        sha256_hex(self.tools(principal, listing).bytes())
    }
}

fn own_definition(own: &OwnTool, safe: bool) -> Json {
    let name = &own.tool.id.tool;
    if !safe || safe_name(name) == **name {
        return own.tool.definition.clone();
    }
    let spelled = Value::from(safe_name(name)).to_string();
    splice(&own.tool.definition, Additions { members: &[("name", &spelled)], meta: &[] })
}

/// Whether a surface shows what stands behind the gateway.
pub(super) fn is_direct(state: &State, principal: &Principal, surface: Surface) -> bool {
    match surface {
        Surface::Search => false,
        Surface::Direct | Surface::Both => true,
        Surface::Auto => {
            let sight = state.sight(principal);
            let shown = state.catalog.entries().iter().filter(|entry| sight.shows(entry.tool()));
            shown.map(|entry| entry.tool().definition.bytes().len()).sum::<usize>() / CHARS_PER_TOKEN
                <= state.settings.gateway.surface_budget
        }
    }
}

/// The backend tools that a surface shows, with their flat names.
fn direct_tools(state: &State, principal: &Principal, surface: Surface) -> Vec<(Arc<Tool>, String)> {
    if !is_direct(state, principal, surface) {
        return Vec::new();
    }
    let sight = state.sight(principal);
    let shown = state.catalog.entries().iter().filter(|entry| sight.shows(entry.tool()));
    shown.map(|entry| (Arc::clone(entry.tool()), entry.flat.to_string())).collect()
}
