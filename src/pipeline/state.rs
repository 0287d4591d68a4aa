//! What one request sees: settings, profiles, policies and the catalogue of one moment.

use std::collections::HashMap;
use std::sync::Arc;

use super::own::{OwnTool, OwnTools};
use crate::authn::Keyring;
use crate::backend::{Catalog, Resolved, ServerCard};
use crate::config::{Permissions, Profiles, Settings};
use crate::domain::call::ToolRef;
use crate::domain::clock::Moment;
use crate::domain::dlp::DlpMode;
use crate::domain::id::{ServerName, ToolId};
use crate::domain::outcome::Refusal;
use crate::domain::principal::{Principal, Scope};
use crate::domain::tool::{Kind, Rate, Tool};
use crate::ledger::{Charge, LimitScope, Over};
use crate::policy::effects::climbs;
use crate::policy::{Bundle, Policies, Report, View};
use crate::search::{Index, ToolText};

/// One immutable moment of the gateway. A reload or a change of the catalogue makes another.
#[derive(Debug)]
pub struct State {
    pub settings: Arc<Settings>,
    pub profiles: Arc<Profiles>,
    pub catalog: Arc<Catalog>,
    pub policies: Arc<Policies>,
    pub index: Arc<Index>,
}

/// The one judgement of what may be shown to a principal: by lists, by searches, among the names that are near.
#[derive(Debug)]
pub struct Sight<'a> {
    state: &'a State,
    principal: &'a Principal,
    view: View<'a>,
}

impl<'a> Sight<'a> {
    /// Whether the tool may be shown.
    #[must_use]
    pub fn shows(&self, tool: &Tool) -> bool {
        self.principal.profile.has(Scope::ToolsRead)
            && self.state.admits(self.principal, tool)
            && (self.state.vouches(tool) || self.view.could_permit(tool))
    }

    /// Whether one of the gateway's own tools may be found. Those that their scope alone opens are listed anyway.
    #[must_use]
    pub fn shows_own(&self, own: &OwnTool) -> bool {
        let profile = &self.principal.profile;
        !own.by_scope
            && profile.has(Scope::ToolsRead)
            && profile.has(own.scope)
            && own.lies_in(profile)
            && self.view.could_permit(&own.tool)
    }

    /// The tool that the index knows by this number, where it may be shown; `own` are all of the gateway's own.
    #[must_use]
    pub fn numbered<'t>(&self, own: &'t [OwnTool], number: u32) -> Option<&'t Arc<Tool>>
    where
        'a: 't,
    {
        let (place, tools) = (usize::try_from(number).ok()?, self.state.catalog.entries());
        match place.checked_sub(tools.len()) {
            None => tools.get(place).map(|entry| entry.tool()).filter(|tool| self.shows(tool)),
            Some(place) => own.get(place).filter(|own| self.shows_own(own)).map(|own| &own.tool),
        }
    }
}

impl State {
    /// Puts a moment together. Takes a while with many tools, so not on a thread that serves requests.
    #[must_use]
    pub fn build(
        settings: Arc<Settings>,
        profiles: Arc<Profiles>,
        bundle: &Arc<Bundle>,
        catalog: Arc<Catalog>,
        own: &[Arc<Tool>],
        previous: Option<&Self>,
    ) -> (Self, Report) {
        let mut tools: Vec<Arc<Tool>> = catalog.entries().iter().map(|entry| Arc::clone(entry.tool())).collect();
        tools.extend(own.iter().cloned());
        let (policies, report) = Policies::build(bundle, &tools, previous.map(|state| &*state.policies));
        let index = match previous.filter(|state| Arc::ptr_eq(&state.catalog, &catalog)) {
            Some(same) => Arc::clone(&same.index),
            None => Arc::new(index(&catalog, own)),
        };
        (Self { settings, profiles, catalog, policies: Arc::new(policies), index }, report)
    }

    /// What is done about secrets in what a client says to a server outside of a call.
    #[must_use]
    pub fn answers_mode(&self, server: &ServerName) -> DlpMode {
        self.settings.servers.get(server).map_or(DlpMode::Block, |server| server.dlp.arguments)
    }

    /// The prompt or the resource that a reference names, as it is judged. Any name of a configured server is one, for only
    /// the backend knows which it has; a server whose permissions are explicit has none.
    #[must_use]
    pub fn readable(&self, asked: &ToolRef) -> Option<Arc<Tool>> {
        let (server, name) = match asked {
            ToolRef::Prompt { server, name } | ToolRef::Resource { server, uri: name } => (server, name),
            ToolRef::Pair { .. } | ToolRef::Text(_) | ToolRef::Exact { .. } => return None,
        };
        let settings = self.settings.servers.get(&server.parse::<ServerName>().ok()?)?;
        let open = settings.permissions == Permissions::Open;
        open.then(|| {
            let readable = Tool::readable(asked.kind(), ToolId::new(settings.name.clone(), name));
            Arc::new(Tool { settings: Arc::clone(&settings.default_tool), ..readable })
        })
    }

    /// What a filter of records means by a tool: its server, where the text is an id in any spelling, and its name. A tool
    /// that is gone still has records, and a name alone may be that of any server's.
    #[must_use]
    pub fn named(&self, own: &dyn OwnTools, text: &str) -> (Option<String>, String) {
        let asked = ToolRef::Text(text.to_owned());
        let known = own.find(&asked).map(|own| Arc::clone(&own.tool)).or_else(|| {
            let Resolved::One(tool) = self.catalog.resolve(&asked, |_| true) else { return None };
            Some(tool)
        });
        if let Some(tool) = known {
            return (Some(tool.id.server.to_string()), tool.id.tool.to_string());
        }
        let apart = |mark: &'static str| text.split_once(mark);
        let gone = ["/", ".", "__"].into_iter().filter_map(apart).find(|(server, _)| {
            server.parse::<ServerName>().is_ok_and(|server| self.settings.servers.contains_key(&server))
        });
        match apart(":").or(gone) {
            Some((server, tool)) => (Some(server.to_owned()), tool.to_owned()),
            None => (None, text.to_owned()),
        }
    }

    /// Whether a backend tool exists for this principal: what decides list, search and call alike. Policies that can
    /// never permit it hide it from lists and search, not from a call by name; see [`Sight`]. A glob for a part of a
    /// server's URIs says nothing of where one with a `..` leads.
    #[must_use]
    pub fn admits(&self, principal: &Principal, tool: &Tool) -> bool {
        let profile = &principal.profile;
        profile.admits(tool)
            && (tool.kind != Kind::Resource || profile.opens(&tool.id.server) || !climbs(&tool.id.tool))
    }

    /// Somebody who was admitted, as the profile is now; `None` where they would not be admitted any more.
    #[must_use]
    pub fn still_admitted(&self, principal: &Principal, keys: &Keyring, now: Moment) -> Option<Principal> {
        let live = match principal.until {
            Some(until) => now < until && self.settings.oauth.is_some(),
            None => keys.is_live(principal),
        };
        let profile = self.profiles.get(&principal.profile.name).filter(|_| live)?;
        let profile = match principal.until {
            None => Arc::clone(profile),
            // What the token left out stays out.
            Some(_) => Arc::new(profile.within(&principal.profile.scopes)),
        };
        Some(Principal { profile, ..principal.clone() })
    }

    /// Whether callers of the tool bring a token that may give them more roles: then no list knows what they may.
    #[must_use]
    pub fn vouches(&self, tool: &Tool) -> bool {
        self.settings.servers.get(&tool.id.server).is_some_and(|server| server.jwt.is_some())
    }

    /// What a principal may be shown of the backends' tools.
    #[must_use]
    pub fn sight<'a>(&'a self, principal: &'a Principal) -> Sight<'a> {
        Sight { state: self, principal, view: self.policies.view(principal) }
    }

    /// The windows that a call of `tool` by `principal` is charged to.
    #[must_use]
    pub fn charges(&self, principal: &Principal, tool: &Tool) -> Vec<Charge> {
        let own = tool.settings.rate_limit.map(|rate| Charge { scope: LimitScope::Tool(tool.id.clone()), rate });
        let mut charges = Vec::from_iter(own);
        charges.extend(self.server_charges(principal, &tool.id.server));
        charges
    }

    /// Those of anything that a principal asks of a server.
    #[must_use]
    pub fn server_charges(&self, principal: &Principal, server: &ServerName) -> Vec<Charge> {
        let rate = self.settings.servers.get(server).and_then(|server| server.rate_limit);
        let charge = rate.map(|rate| Charge { scope: LimitScope::Server(server.clone()), rate });
        charge.into_iter().chain(self.invocation_charge(principal)).collect()
    }

    /// The windows of a principal's plan.
    #[must_use]
    pub fn plan_charges(&self, principal: &Principal) -> Vec<Charge> {
        self.request_charge(principal).into_iter().chain(self.invocation_charge(principal)).collect()
    }

    fn invocation_charge(&self, principal: &Principal) -> Option<Charge> {
        let plan = self.settings.plans.get(principal.plan.as_ref()?)?;
        let rate = per_minute(plan.invocations_per_minute?);
        Some(Charge { scope: LimitScope::PlanInvocations(principal.key.clone()), rate })
    }

    /// The window of a principal's requests, where its plan has one.
    #[must_use]
    pub fn request_charge(&self, principal: &Principal) -> Option<Charge> {
        let plan = self.settings.plans.get(principal.plan.as_ref()?)?;
        let rate = per_minute(plan.requests_per_minute?);
        Some(Charge { scope: LimitScope::PlanRequests(principal.key.clone()), rate })
    }
}

fn per_minute(count: u32) -> Rate {
    Rate { count, window: std::time::Duration::from_secs(60) }
}

/// The catalogue's tools in its order, and the gateway's own beside them.
fn index(catalog: &Catalog, own: &[Arc<Tool>]) -> Index {
    let texts: HashMap<&ServerName, String> =
        catalog.servers().iter().map(|card| (&card.name, server_text(card))).collect();
    let tools = catalog.entries().iter().map(|entry| entry.tool());
    Index::build(tools.map(|tool| tool_text(tool, texts.get(&tool.id.server).map_or("", String::as_str))))
        .beside(own.iter().map(|tool| tool_text(tool, "")))
}

fn tool_text<'t>(tool: &'t Tool, server_text: &'t str) -> ToolText<'t> {
    ToolText {
        server: tool.id.server.as_str(),
        server_text,
        name: &tool.id.tool,
        title: tool.title.as_deref(),
        description: &tool.description,
        input_schema: &tool.input_schema,
    }
}

/// What is searched of a server beside its name.
fn server_text(card: &ServerCard) -> String {
    let parts = [&card.title, &card.description, &card.instructions];
    parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// A full window as a refusal.
pub(super) fn over(over: &Over) -> Refusal {
    let (scope, limit) = (over.scope.to_string(), over.rate.to_string());
    Refusal::LimitReached { scope, limit, retry_after: over.retry_after_seconds() }
}
