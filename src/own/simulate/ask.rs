//! What a simulation is asked.

use serde::Deserialize;
use serde_json::Value;

use crate::brain::is_type_name;
use crate::domain::call::ToolRef;
use crate::domain::outcome::Refusal;

#[derive(Deserialize)]
pub(super) struct Arguments {
    pub(super) agent_id: Option<String>,
    pub(super) action: Option<String>,
    pub(super) params: Option<Value>,
    pub(super) server: Option<String>,
    pub(super) tool: Option<String>,
    pub(super) arguments: Option<Value>,
    pub(super) prompt: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) entity: Option<String>,
}

impl Arguments {
    /// The type of entities that is asked about, and its field where it is about one.
    pub(super) fn entity(&self) -> Result<Option<(&str, Option<&str>)>, Refusal> {
        let Some(name) = &self.entity else { return Ok(None) };
        let Self { action, server, tool, prompt, resource, params, arguments, .. } = self;
        let alone = [action, server, tool, prompt, resource].into_iter().all(Option::is_none)
            && params.is_none()
            && arguments.is_none();
        if !alone {
            return Err(Refusal::InvalidRequest { message: "give `entity` alone, or with `agent_id`".into() });
        }
        let (entity_type, field) = name.split_once('.').map_or((&**name, None), |(of, field)| (of, Some(field)));
        if !is_type_name(entity_type) || field.is_some_and(str::is_empty) {
            let message = "`entity` is a type (`customer`) or a field of one (`customer.email`)".into();
            return Err(Refusal::InvalidRequest { message });
        }
        Ok(Some((entity_type, field)))
    }

    /// The call that is asked about.
    pub(super) fn asked(&self) -> Result<ToolRef, Refusal> {
        let Self { action, server, tool, prompt, resource, .. } = self;
        let server = server.clone();
        match (action, server, tool, prompt, resource) {
            (Some(action), None, None, None, None) => Ok(ToolRef::Text(action.clone())),
            (None, Some(server), Some(tool), None, None) => Ok(ToolRef::Pair { server, tool: tool.clone() }),
            (None, None, Some(tool), None, None) => Ok(ToolRef::Text(tool.clone())),
            (None, Some(server), None, Some(name), None) => Ok(ToolRef::Prompt { server, name: name.clone() }),
            (None, Some(server), None, None, Some(uri)) => Ok(ToolRef::Resource { server, uri: uri.clone() }),
            _ => Err(Refusal::InvalidRequest {
                message: "say what to simulate: `action` and `params`, or `server`, `tool` and `arguments`, `server` \
                     and `prompt` or `resource`, or `entity`"
                    .into(),
            }),
        }
    }
}
