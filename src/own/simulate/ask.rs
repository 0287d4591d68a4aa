//! What a simulation is asked.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Simulation;
use crate::brain::is_type_name;
use crate::domain::call::ToolRef;
use crate::domain::outcome::Refusal;
use crate::domain::principal::Principal;
use crate::pipeline::{Pipeline, State};
use crate::policy::PermittedCall;

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

/// What a simulation is about.
pub(in crate::own) struct Question {
    pub(in crate::own) asked: ToolRef,
    pub(in crate::own) arguments: Option<Value>,
}

impl Question {
    /// The same about the call inside, where it is one of `gateway_invoke`, which does not call itself.
    pub(in crate::own) fn opened(self, pipeline: &Pipeline) -> Self {
        let opens = |asked: &ToolRef| pipeline.own.find(asked).is_some_and(|own| own.opens);
        let inner = pipeline.own.find(&self.asked).and_then(|own| own.unwrapped(self.arguments.as_ref()));
        match inner.filter(|(asked, _)| !opens(asked)) {
            Some((asked, arguments)) => Self { asked, arguments },
            None => self,
        }
    }
}

/// The answer to a question of a caller's. It may take long to scan and to parse what somebody made for that, so it is found
/// beside the threads that answer.
pub(in crate::own) async fn told(
    pipeline: &Arc<Pipeline>,
    state: &Arc<State>,
    call: &PermittedCall,
    who: &Arc<Principal>,
    question: &Arc<Question>,
) -> Result<Value, Refusal> {
    let long = pipeline.long.clone();
    let (pipeline, state, who, question) =
        (Arc::clone(pipeline), Arc::clone(state), Arc::clone(who), Arc::clone(question));
    let answer = long.work(&call.principal().key, move || {
        Simulation { pipeline: &pipeline, state: &state, who: &who }.of(&question.asked, question.arguments.as_ref())
    });
    answer.await.map_err(|_| Refusal::Internal)
}
