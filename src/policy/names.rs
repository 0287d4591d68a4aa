//! The names of the vocabulary, as Cedar's own types.

use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};

use crate::domain::tool;

/// Everything in the generated schema lives here.
pub(super) const NAMESPACE: &str = "Toolgate";
pub(super) const AGENT: &str = "Agent";
pub(super) const ROLE: &str = "Role";
pub(super) const TOOL: &str = "Tool";
pub(super) const PROMPT: &str = "Prompt";
pub(super) const RESOURCE: &str = "Resource";
pub(super) const ENTITY: &str = "Entity";
pub(super) const SERVER: &str = "Server";
pub(super) const ACTION: &str = "Action";
/// The group that every action is in.
pub(super) const CALL: &str = "call";
/// The group of the tools that only read, and the action that prompts, resources and entities are got by.
pub(super) const READ: &str = "read";
/// The action groups, outermost first.
pub(super) const GROUPS: [&str; 4] = [CALL, READ, "write", "destructive"];

/// A qualified entity type.
#[derive(Debug)]
pub(super) struct Kind(LazyLock<EntityTypeName>);

impl Kind {
    /// The entity of this type with this id, whatever characters the id holds.
    pub(super) fn uid(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.0.clone(), EntityId::new(id))
    }
}

#[expect(clippy::expect_used, reason = "constant text, parsed by a test")]
fn name(text: &str) -> EntityTypeName {
    EntityTypeName::from_str(text).expect("a constant type name")
}

pub(super) static AGENTS: Kind = Kind(LazyLock::new(|| name("Toolgate::Agent")));
pub(super) static ROLES: Kind = Kind(LazyLock::new(|| name("Toolgate::Role")));
pub(super) static TOOLS: Kind = Kind(LazyLock::new(|| name("Toolgate::Tool")));
pub(super) static PROMPTS: Kind = Kind(LazyLock::new(|| name("Toolgate::Prompt")));
pub(super) static RESOURCES: Kind = Kind(LazyLock::new(|| name("Toolgate::Resource")));
pub(super) static ENTITIES: Kind = Kind(LazyLock::new(|| name("Toolgate::Entity")));
pub(super) static SERVERS: Kind = Kind(LazyLock::new(|| name("Toolgate::Server")));
pub(super) static ACTIONS: Kind = Kind(LazyLock::new(|| name("Toolgate::Action")));

/// The entity type of what is called.
pub(super) fn called(kind: tool::Kind) -> &'static Kind {
    match kind {
        tool::Kind::Tool => &TOOLS,
        tool::Kind::Prompt => &PROMPTS,
        tool::Kind::Resource => &RESOURCES,
        tool::Kind::Entity => &ENTITIES,
    }
}

/// The nearest of `known` to what was written, where one is near enough to be meant.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&written.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_type_of_the_namespace() {
        for (kind, text) in [
            (&AGENTS, AGENT),
            (&ROLES, ROLE),
            (&TOOLS, TOOL),
            (&PROMPTS, PROMPT),
            (&RESOURCES, RESOURCE),
            (&ENTITIES, ENTITY),
            (&SERVERS, SERVER),
            (&ACTIONS, ACTION),
        ] {
            let uid = kind.uid("a\"::b");
            assert_eq!(uid.type_name().to_string(), format!("{NAMESPACE}::{text}"));
            assert_eq!(uid.id().unescaped(), "a\"::b");
        }
    }

    #[test]
    fn only_a_near_miss_is_suggested() {
        assert_eq!(nearest("github:list_repo", ["db:query", "github:list_repos"]), Some("github:list_repos"));
        assert_eq!(nearest("Raed", GROUPS), Some("read"));
        assert_eq!(nearest("zebra", GROUPS), None);
    }
}
