//! The scope of a policy, `permit(principal, action, resource)`: which tools, prompts and resources it can apply to.

use std::sync::Arc;

use cedar_policy::pst::{
    ActionConstraint, EntityOrSlot, EntityType, EntityUID, PrincipalConstraint, ResourceConstraint, Template,
};

use crate::domain::id::OWN_SERVER;
use crate::domain::principal::Principal;
use crate::domain::tool::{Kind, Tool};

use super::names::{AGENT, CALL, ENTITY, GROUPS, NAMESPACE, PROMPT, READ, RESOURCE, ROLE, SERVER, TOOL, nearest};
use super::source::{Piece, PolicyFault};

/// Which tools a policy's scope admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    principal: PrincipalScope,
    action: ActionScope,
    resource: ResourceScope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PrincipalScope {
    Any,
    Agent(Arc<str>),
    Role(Arc<str>),
    /// Something that is no agent.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ActionScope {
    Any,
    /// `action == …`: one tool, for a group is never equal to an action.
    Is(Arc<str>),
    /// `action in …`: tools and groups.
    Among(Vec<Arc<str>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ResourceScope {
    Any,
    Every(Kind),
    One(Kind, Arc<str>),
    /// What a server has, or what of one kind it has.
    Of(Option<Kind>, Arc<str>),
    /// Something that cannot be called.
    Nothing,
}

/// A tool or server that a policy needs in order to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Tool(Arc<str>),
    Server(Arc<str>),
}

impl Scope {
    pub(super) fn of(template: &Template) -> Self {
        let action = match &template.action {
            ActionConstraint::Any => ActionScope::Any,
            ActionConstraint::Eq(uid) => ActionScope::Is(uid.eid.as_str().into()),
            ActionConstraint::In(uids) => ActionScope::Among(uids.iter().map(|uid| uid.eid.as_str().into()).collect()),
        };
        let resource = match &template.resource {
            ResourceConstraint::Any => ResourceScope::Any,
            ResourceConstraint::Is(is) => kind_of(is).map_or(ResourceScope::Nothing, ResourceScope::Every),
            ResourceConstraint::Eq(EntityOrSlot::Entity(uid)) => match kind_of(&uid.ty) {
                Some(kind) => ResourceScope::One(kind, uid.eid.as_str().into()),
                None => ResourceScope::Nothing,
            },
            ResourceConstraint::Eq(EntityOrSlot::Slot(_)) => ResourceScope::Nothing,
            ResourceConstraint::In(within) => ancestor(within),
            ResourceConstraint::IsIn(is, within) => {
                kind_of(is).map_or(ResourceScope::Nothing, |kind| match ancestor(within) {
                    ResourceScope::Of(_, server) => ResourceScope::Of(Some(kind), server),
                    ResourceScope::One(one, label) if one == kind => ResourceScope::One(one, label),
                    _ => ResourceScope::Nothing,
                })
            }
        };
        Self { principal: PrincipalScope::of(&template.principal), action, resource }
    }

    /// Whether the policy can apply to this principal.
    pub(super) fn admits_principal(&self, who: &Principal) -> bool {
        match &self.principal {
            PrincipalScope::Any => true,
            PrincipalScope::Agent(id) => *id == who.agent,
            PrincipalScope::Role(id) => who.roles.contains(id),
            PrincipalScope::Nothing => false,
        }
    }

    /// The entities that the scope names.
    pub(super) fn literals(template: &Template) -> Vec<EntityUID> {
        let mut found = match &template.action {
            ActionConstraint::Any => Vec::new(),
            ActionConstraint::Eq(uid) => vec![uid.clone()],
            ActionConstraint::In(uids) => uids.clone(),
        };
        let principal = match &template.principal {
            PrincipalConstraint::Eq(one) | PrincipalConstraint::In(one) | PrincipalConstraint::IsIn(_, one) => {
                Some(one)
            }
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        };
        let resource = match &template.resource {
            ResourceConstraint::Eq(one) | ResourceConstraint::In(one) | ResourceConstraint::IsIn(_, one) => Some(one),
            ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        };
        for one in [principal, resource].into_iter().flatten() {
            if let EntityOrSlot::Entity(uid) = one {
                found.push(uid.clone());
            }
        }
        found
    }

    /// Scopes that Cedar takes and that never match anything.
    pub(super) fn fault(&self, piece: &Piece) -> Option<PolicyFault> {
        let (name, equal) = match &self.action {
            ActionScope::Any => return None,
            ActionScope::Is(name) => (name, true),
            // A tool id holds a `:`, so anything else must be a group.
            ActionScope::Among(names) => (names.iter().find(|name| !name.contains(':') && !is_group(name))?, false),
        };
        let at = piece.text.find(&format!("{name:?}")).unwrap_or(0);
        if equal && &**name == READ && self.is_of_readables() {
            return None;
        }
        if equal && is_group(name) {
            let message = format!("`action == {NAMESPACE}::Action::\"{name}\"` never matches a tool: it is a group");
            return Some(piece.fault(at, message, Some("write `action in` for a group".into())));
        }
        if name.contains(':') {
            return None;
        }
        let hint = match nearest(name, GROUPS) {
            Some(group) => format!("did you mean `{group}`?"),
            None => "a tool is `server:tool`; the groups are `call`, `read`, `write` and `destructive`".into(),
        };
        Some(piece.fault(at, format!("no action or group is called `{name}`"), Some(hint)))
    }

    /// Whether the policy can apply to a call of this tool.
    pub(super) fn admits(&self, tool: &Tool) -> bool {
        let action = match &self.action {
            ActionScope::Any => true,
            ActionScope::Is(name) => **name == *tool.label,
            ActionScope::Among(names) => {
                names.iter().any(|name| **name == *tool.label || &**name == tool.risk.as_str() || &**name == CALL)
            }
        };
        action
            && match &self.resource {
                ResourceScope::Any => true,
                ResourceScope::Every(kind) => *kind == tool.kind,
                ResourceScope::One(kind, label) => *kind == tool.kind && **label == *tool.label,
                ResourceScope::Of(kind, server) => {
                    kind.is_none_or(|kind| kind == tool.kind) && &**server == tool.id.server.as_str()
                }
                ResourceScope::Nothing => false,
            }
    }

    /// Whether the policy can apply to some prompt or resource of this server; of one that no policy names, for `None`.
    pub(super) fn admits_readable(&self, asked: Kind, of: Option<&str>) -> bool {
        let action = match &self.action {
            ActionScope::Any => true,
            ActionScope::Is(name) => &**name == READ,
            ActionScope::Among(names) => names.iter().any(|name| &**name == READ || &**name == CALL),
        };
        action
            && match &self.resource {
                ResourceScope::Any => true,
                ResourceScope::Every(kind) => *kind == asked,
                ResourceScope::One(kind, _) => *kind == asked && of.is_some() && self.server() == of,
                ResourceScope::Of(kind, _) => {
                    kind.is_none_or(|kind| kind == asked) && of.is_some() && self.server() == of
                }
                ResourceScope::Nothing => false,
            }
    }

    /// The server that the resource's scope names, by itself or in what it has.
    pub(super) fn server(&self) -> Option<&str> {
        match &self.resource {
            ResourceScope::Of(_, server) => Some(server),
            ResourceScope::One(Kind::Entity, _) => Some(OWN_SERVER),
            ResourceScope::One(_, label) => label.split_once(':').map(|(server, _)| server),
            ResourceScope::Any | ResourceScope::Every(_) | ResourceScope::Nothing => None,
        }
    }

    /// Whether it names one prompt, resource or entity: that is asked again each time, for no slice is of one alone.
    pub(super) const fn names_readable(&self) -> bool {
        matches!(self.resource, ResourceScope::One(Kind::Prompt | Kind::Resource | Kind::Entity, _))
    }

    /// Whether it is about nothing that is called by an action of its own.
    const fn is_of_readables(&self) -> bool {
        let (ResourceScope::Every(kind) | ResourceScope::One(kind, _) | ResourceScope::Of(Some(kind), _)) =
            &self.resource
        else {
            return false;
        };
        !matches!(kind, Kind::Tool)
    }

    /// The tools and servers that the scope names one by one.
    pub(super) fn named(&self) -> Vec<Named> {
        let mut found: Vec<Named> = match &self.action {
            ActionScope::Any => Vec::new(),
            ActionScope::Is(name) if is_group(name) => Vec::new(),
            ActionScope::Is(name) => vec![Named::Tool(Arc::clone(name))],
            ActionScope::Among(names) => {
                names.iter().filter(|name| !is_group(name)).map(|name| Named::Tool(Arc::clone(name))).collect()
            }
        };
        match &self.resource {
            ResourceScope::One(Kind::Tool, name) => found.push(Named::Tool(Arc::clone(name))),
            ResourceScope::Of(_, name) => found.push(Named::Server(Arc::clone(name))),
            ResourceScope::One(Kind::Entity, _) => {}
            ResourceScope::One(..) => found.extend(self.server().map(|name| Named::Server(name.into()))),
            ResourceScope::Any | ResourceScope::Every(_) | ResourceScope::Nothing => {}
        }
        found
    }
}

impl PrincipalScope {
    fn of(constraint: &PrincipalConstraint) -> Self {
        let within = match constraint {
            PrincipalConstraint::Any => return Self::Any,
            PrincipalConstraint::Is(kind) if is_kind(kind, AGENT) => return Self::Any,
            PrincipalConstraint::IsIn(kind, _) if !is_kind(kind, AGENT) => return Self::Nothing,
            PrincipalConstraint::Is(_) => return Self::Nothing,
            PrincipalConstraint::Eq(one) | PrincipalConstraint::In(one) | PrincipalConstraint::IsIn(_, one) => one,
        };
        match within {
            EntityOrSlot::Entity(uid) if is_kind(&uid.ty, AGENT) => Self::Agent(uid.eid.as_str().into()),
            // An agent is in its roles, and equal to none of them.
            EntityOrSlot::Entity(uid)
                if is_kind(&uid.ty, ROLE) && !matches!(constraint, PrincipalConstraint::Eq(_)) =>
            {
                Self::Role(uid.eid.as_str().into())
            }
            _ => Self::Nothing,
        }
    }
}

fn ancestor(within: &EntityOrSlot) -> ResourceScope {
    match within {
        EntityOrSlot::Entity(uid) if is_kind(&uid.ty, SERVER) => ResourceScope::Of(None, uid.eid.as_str().into()),
        // An entity is `in` itself.
        EntityOrSlot::Entity(uid) => match kind_of(&uid.ty) {
            Some(kind) => ResourceScope::One(kind, uid.eid.as_str().into()),
            None => ResourceScope::Nothing,
        },
        EntityOrSlot::Slot(_) => ResourceScope::Nothing,
    }
}

fn kind_of(name: &EntityType) -> Option<Kind> {
    let kinds = [(TOOL, Kind::Tool), (PROMPT, Kind::Prompt), (RESOURCE, Kind::Resource), (ENTITY, Kind::Entity)];
    kinds.into_iter().find_map(|(known, kind)| is_kind(name, known).then_some(kind))
}

fn is_group(name: &str) -> bool {
    GROUPS.contains(&name)
}

fn is_kind(kind: &EntityType, name: &str) -> bool {
    kind.0.id.as_str() == name
        && kind.0.namespace.len() == 1
        && kind.0.namespace.first().is_some_and(|namespace| namespace.as_str() == NAMESPACE)
}
