//! `company_brain.query`: what the company knows, as far as policy shows it.
//!
//! Policy is asked about a type once and about a field once in a query, as about resources: both are read.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Description, arguments};
use crate::brain::{
    Answered, Brain, MAX_JOINED, MAX_LIMIT, MAX_QUERY, QUERY_TIME, Query, QueryError, READINGS_OF_KEY, Sight,
    run as answer,
};
use crate::domain::decision::Verdict;
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::{Principal, Scope};
use crate::domain::tool::{Hints, Tool};
use crate::pipeline::{OwnTool, State, own_answer};
use crate::policy::{Facts, PermittedCall};

pub(super) const NAME: &str = "company_brain.query";

pub(super) fn tool() -> OwnTool {
    let filter = |of: &str| {
        json!({
            "type": "object",
            "description": format!("Conditions on {of}: {{field: value}}, or {{field: {{gte, gt, lte, lt, in, ne, contains: value}}}}; null means empty"),
        })
    };
    let fields =
        json!({"type": "array", "items": {"type": "string"}, "maxItems": 200, "description": "Only these fields"});
    let aggregate = |of: &str| {
        json!({
            "type": "object",
            "description": format!("Work out over all {of} that match, not only those shown"),
            "properties": {
                "count": {"type": "boolean", "description": "How many there are"},
                "sum": {"type": "array", "items": {"type": "string"}, "maxItems": 200, "description": "Fields to add up"},
            },
            "additionalProperties": false,
        })
    };
    Description {
        name: NAME,
        title: NAME,
        description: "Look up what the company knows: customers, invoices, tickets and the like, with what belongs to \
                      them. Without arguments it lists the entity types and their fields.",
        scope: Scope::BrainRead,
        hints: Hints { read_only: Some(true), open_world: Some(false), ..Hints::default() },
        input_schema: json!({
            "type": "object",
            "properties": {
                "query": {"type": "string", "maxLength": MAX_QUERY, "description": "Words to find, such as a name"},
                "entity_type": {"type": "string", "description": "Type of the entities, such as customer"},
                "join_to": {
                    "type": "object",
                    "description": "Entities of another type that belong to each one found",
                    "properties": {
                        "entity_type": {"type": "string", "description": "Their type, such as invoice"},
                        "on": {"type": "string", "description": "How they belong, where it is not known: invoice.customer_id=customer.id"},
                        "fields": fields,
                        "filter": filter("them"),
                        "limit": {"type": "integer", "minimum": 0, "maximum": MAX_JOINED, "default": 5, "description": "Most of them for each one"},
                        "aggregate": aggregate("of them"),
                    },
                    "required": ["entity_type"],
                    "additionalProperties": false,
                },
                "filter": filter("the entities"),
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 10, "description": "Most entities"},
                "cursor": {"type": "string", "description": "next_cursor of the answer before, for more of the same query"},
                "fields": fields,
                "aggregate": aggregate("entities"),
            },
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

pub(super) async fn run(brain: &Brain, state: &Arc<State>, call: &PermittedCall) -> Result<Answer, Refusal> {
    let query: Query = arguments(call)?;
    let mut sight = Judged::new(state, call.principal(), call.facts());
    let brain = brain.of(&call.principal().key);
    let answered = brain.read(QUERY_TIME, move |reading| answer(reading, &query, &mut sight)).await;
    match answered {
        Ok(Answered { text, structured, types }) => {
            call.note(format!("entity types: {}", if types.is_empty() { "none".into() } else { types.join(", ") }));
            Ok(own_answer(&text, &structured))
        }
        Err(QueryError::Invalid(message)) => Ok(refused("invalid_query", &message)),
        Err(error @ QueryError::TooLong) => Ok(refused("query_too_long", &error.to_string())),
        Err(QueryError::Busy) => Err(Refusal::LimitReached {
            scope: "the queries under way of this key".into(),
            limit: READINGS_OF_KEY.to_string(),
            retry_after: 1,
        }),
        Err(QueryError::Store(error)) => {
            tracing::error!(%error, "the entities cannot be read");
            Err(Refusal::Internal)
        }
    }
}

/// A query that cannot be answered is the tool's own error: the model reads it and asks in another way.
fn refused(code: &str, message: &str) -> Answer {
    let result = json!({
        "content": [{"type": "text", "text": message}],
        "structuredContent": {"error": {"code": code, "message": message}},
        "isError": true,
    });
    Answer { result: Json::of(&result), is_error: true, cached: false, partial: false }
}

/// What policy shows to one principal. Anything but a plain permit hides.
#[derive(Debug)]
struct Judged {
    state: Arc<State>,
    who: Principal,
    facts: Facts<'static>,
    told: HashMap<String, bool>,
}

impl Judged {
    fn new(state: &Arc<State>, who: &Principal, facts: Facts<'static>) -> Self {
        Self { state: Arc::clone(state), who: who.clone(), facts, told: HashMap::new() }
    }
}

impl Sight for Judged {
    fn shows(&mut self, entity_type: &str, field: Option<&str>) -> bool {
        let entity = Tool::entity(entity_type, field);
        if let Some(told) = self.told.get(&*entity.label) {
            return *told;
        }
        let judgement = self.state.policies.judge(&self.who, &entity, None::<&Value>, &self.facts);
        let shows = judgement.verdict == Verdict::Allow;
        self.told.insert(entity.label.to_string(), shows);
        shows
    }
}
