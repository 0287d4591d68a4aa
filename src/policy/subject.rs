//! What is called, as Cedar is asked about it, and the policies that can apply to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};

use crate::domain::tool::{Hints, Kind, Risk, Tool};

use super::input::InputPlan;
use super::names::{ACTIONS, CALL, ENTITIES, READ, SERVERS, called};
use super::slice::Slice;
use super::who::{text, texts};

/// A tool, a prompt, a resource, or a type or field of entities.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// Its number in the snapshot; prompts and resources, of which nobody knows how many there are, have none.
    pub(super) number: Option<usize>,
    pub(super) action: EntityUid,
    pub(super) resource: EntityUid,
    /// Itself and its action.
    pub(super) entities: Entities,
    pub(super) slice: Arc<Slice>,
    pub(super) plan: InputPlan,
    /// Which of a principal's outlooks is its own, where one is.
    pub(super) outlook: Option<usize>,
}

/// A tool's action is its own; everything else is read.
pub(super) fn action(tool: &Tool) -> EntityUid {
    match tool.kind {
        Kind::Tool => ACTIONS.uid(&tool.label),
        Kind::Prompt | Kind::Resource | Kind::Entity => ACTIONS.uid(READ),
    }
}

pub(super) fn resource(tool: &Tool) -> EntityUid {
    called(tool.kind).uid(&tool.label)
}

/// What is called and its action as entities. What a backend's hints do not say is as MCP's defaults have it.
///
/// # Errors
/// What Cedar says where it does not take them.
pub(super) fn entities(tool: &Tool) -> Result<Entities, String> {
    let Hints { idempotent, open_world, .. } = tool.hints;
    let flag = RestrictedExpression::new_bool;
    let mut attributes = HashMap::from([
        ("server".to_owned(), text(tool.id.server.as_str())),
        ("name".to_owned(), text(&tool.id.tool)),
        ("read_only".to_owned(), flag(tool.risk == Risk::Read)),
        ("destructive".to_owned(), flag(tool.risk == Risk::Destructive)),
        ("idempotent".to_owned(), flag(idempotent.unwrap_or(false))),
        ("open_world".to_owned(), flag(open_world.unwrap_or(true))),
        ("tags".to_owned(), texts(tool.settings.tags.iter().map(|tag| &**tag))),
        ("digest".to_owned(), text(&tool.digest)),
    ]);
    if tool.kind == Kind::Resource {
        let uri = &*tool.id.tool;
        let scheme = uri.split_once(':').map_or_else(String::new, |(scheme, _)| scheme.to_ascii_lowercase());
        attributes.insert("uri".to_owned(), text(uri));
        attributes.insert("scheme".to_owned(), text(&scheme));
    }
    let mut parents = HashSet::from([SERVERS.uid(tool.id.server.as_str())]);
    if tool.kind == Kind::Entity {
        // No name of a type has a dot in it.
        let (entity_type, field) =
            tool.label.split_once('.').map_or((&*tool.label, None), |(of, name)| (of, Some(name)));
        attributes.insert("type".to_owned(), text(entity_type));
        if let Some(field) = field {
            attributes.insert("field".to_owned(), text(field));
            parents.insert(ENTITIES.uid(entity_type));
        }
    }
    let resource = Entity::new(resource(tool), attributes, parents).map_err(|error| error.to_string())?;
    let mut groups = HashSet::from([ACTIONS.uid(CALL)]);
    groups.extend((tool.kind == Kind::Tool).then(|| ACTIONS.uid(tool.risk.as_str())));
    let action = Entity::new_no_attrs(action(tool), groups);
    Entities::from_entities([resource, action], None).map_err(|error| error.to_string())
}
