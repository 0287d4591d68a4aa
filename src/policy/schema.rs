//! The Cedar schema of one tool: the fixed vocabulary, the tool's action, and the actions that policies name.
//!
//! Prompts, resources and entities have a schema of their own, for all of them: what there is, no schema can list.
//! It is built as JSON values, never as text, so a tool's name may hold any characters.

use cedar_policy::Schema;
use serde_json::{Map, Value, json};

use crate::domain::tool::Risk;

use super::input::InputPlan;
use super::names::{AGENT, CALL, ENTITY, GROUPS, NAMESPACE, PROMPT, READ, RESOURCE, ROLE, SERVER, TOOL};

/// The schema for checking policies against one tool.
///
/// `named` are other actions that the policies mention, with their risk where they are known; they exist, and
/// nothing is judged under them.
///
/// # Errors
/// What Cedar says of a schema that it does not take.
pub(super) fn schema_of(
    label: &str,
    risk: Risk,
    plan: &InputPlan,
    named: &[(&str, Option<Risk>)],
) -> Result<Schema, String> {
    let mut actions = groups();
    mention(&mut actions, named);
    actions.insert(label.to_owned(), action(risk, plan));
    finish(&actions)
}

/// The schema for checking policies against prompts and resources.
///
/// # Errors
/// What Cedar says of a schema that it does not take.
pub(super) fn readable_schema(named: &[(&str, Option<Risk>)]) -> Result<Schema, String> {
    let mut actions = groups();
    mention(&mut actions, named);
    actions.insert(READ.to_owned(), reading());
    finish(&actions)
}

/// The schema for checking a policy that reads no input: one action in each group, and those that the policy names.
///
/// # Errors
/// What Cedar says of a schema that it does not take.
pub(super) fn general_schema(named: &[(&str, Option<Risk>)]) -> Result<Schema, String> {
    let mut actions = groups();
    let plan = InputPlan::default();
    for risk in [Risk::Read, Risk::Write, Risk::Destructive] {
        actions.insert(format!("any:{}", risk.as_str()), action(risk, &plan));
    }
    for (name, risk) in named {
        actions.insert((*name).to_owned(), action(risk.unwrap_or(Risk::Write), &plan));
    }
    actions.insert(READ.to_owned(), reading());
    finish(&actions)
}

/// Adds actions under which nothing is judged.
fn mention(actions: &mut Map<String, Value>, named: &[(&str, Option<Risk>)]) {
    for (name, risk) in named {
        let group = risk.map_or(CALL, Risk::as_str);
        actions.insert((*name).to_owned(), json!({ "memberOf": [{ "id": group }] }));
    }
}

fn finish(actions: &Map<String, Value>) -> Result<Schema, String> {
    let schema = json!({ NAMESPACE: { "entityTypes": entity_types(), "actions": actions } });
    Schema::from_json_value(schema).map_err(|error| error.to_string())
}

fn groups() -> Map<String, Value> {
    GROUPS
        .into_iter()
        .map(|group| {
            let within = if group == CALL { json!([]) } else { json!([{ "id": CALL }]) };
            (group.to_owned(), json!({ "memberOf": within }))
        })
        .collect()
}

fn action(risk: Risk, plan: &InputPlan) -> Value {
    applied(risk.as_str(), &[TOOL], plan)
}

/// The group `read` as an action of its own. Nothing is in `context.input`, so what tests for a member of it fits.
fn reading() -> Value {
    applied(CALL, &[PROMPT, RESOURCE, ENTITY], &InputPlan::default())
}

fn applied(group: &str, resources: &[&str], plan: &InputPlan) -> Value {
    json!({
        "memberOf": [{ "id": group }],
        "appliesTo": {
            "principalTypes": [AGENT],
            "resourceTypes": resources,
            "context": { "type": "Record", "attributes": {
                "input": plan.cedar_type(),
                "effects": texts(),
                "surface": { "type": "String" },
                "time": { "type": "Extension", "name": "datetime" },
                "source_ip": { "type": "Extension", "name": "ipaddr", "required": false },
            } },
        },
    })
}

fn texts() -> Value {
    json!({ "type": "Set", "element": { "type": "String" } })
}

/// What a policy may ask of a tool; of a prompt and of a resource too, so that a policy about every call fits them.
fn called(more: &[&str]) -> Value {
    let (text, flag) = (json!({ "type": "String" }), json!({ "type": "Boolean" }));
    let mut attributes = json!({
        "server": text,
        "name": text,
        "read_only": flag,
        "destructive": flag,
        "idempotent": flag,
        "open_world": flag,
        "tags": texts(),
        "digest": text,
    });
    if let Some(attributes) = attributes.as_object_mut() {
        attributes.extend(more.iter().map(|name| ((*name).to_owned(), text.clone())));
    }
    json!({ "memberOfTypes": [SERVER], "shape": { "type": "Record", "attributes": attributes } })
}

/// A type of entities, or a field of one, which is a member of its type.
fn entity() -> Value {
    let mut entity = called(&["type"]);
    if let Some(attributes) = entity.pointer_mut("/shape/attributes").and_then(Value::as_object_mut) {
        attributes.insert("field".into(), json!({ "type": "String", "required": false }));
    }
    if let Some(parents) = entity.get_mut("memberOfTypes").and_then(Value::as_array_mut) {
        parents.push(json!(ENTITY));
    }
    entity
}

fn entity_types() -> Value {
    let (text, flag) = (json!({ "type": "String" }), json!({ "type": "Boolean" }));
    json!({
        AGENT: {
            "memberOfTypes": [ROLE],
            "shape": { "type": "Record", "attributes": {
                "agent": text,
                "profile": text,
                "scopes": texts(),
                "roles": texts(),
                "user": text,
                "read_only": flag,
                "key": { "type": "String", "required": false },
            } },
        },
        ROLE: {},
        SERVER: {},
        TOOL: called(&[]),
        PROMPT: called(&[]),
        RESOURCE: called(&["uri", "scheme"]),
        ENTITY: entity(),
    })
}
