//! `/v1/brain`: what the company knows. A query is a call of the own tool, so it is judged, and recorded, as one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::super::super::caller::Caller;
use super::super::call;
use super::super::enter;
use super::{No, data, invalid, whole_body};
use crate::domain::json::Json;
use crate::domain::principal::Scope;
use crate::gateway::Gateway;
use crate::gateway::brain::{Entity, Relation, RowsOptions, entity_of, relation};
use crate::gateway::control::Actor;
use crate::wire::rest::{brain_schema as schema, shield};

/// The own tool that answers.
const QUERY: &str = "company_brain.query";
/// Entities of one request.
const MOST: usize = 5_000;

#[utoipa::path(
    post, path = "/v1/brain/query", operation_id = "query_brain", tag = "Company brain", summary = "Look up what the company knows",
    description = "What policy does not show is not there. Without members it lists the entity types.",
    request_body = schema::BrainQuery,
    responses((status = 200, description = "What was found", body = schema::BrainAnswer))
)]
/// `POST /v1/brain/query`.
pub(super) async fn query(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arguments = call::read(&gateway, &headers, body, shield::question).await;
    let done = call::ask_own(&gateway, caller, &headers, QUERY, arguments).await;
    call::enveloped(&done, shield::queried(&done.carried, None))
}

#[utoipa::path(
    get, path = "/v1/brain/types", operation_id = "brain_types", tag = "Company brain", summary = "The entity types",
    description = "Those that policy shows, with their fields and relations.",
    responses((status = 200, description = "The types", body = schema::BrainTypesAnswer))
)]
/// `GET /v1/brain/types`: a query for nothing.
pub(super) async fn types(State(gateway): State<Arc<Gateway>>, caller: Caller, headers: HeaderMap) -> Response {
    let arguments = Ok(Some(Json::of(&json!({}))));
    let done = call::ask_own(&gateway, caller, &headers, QUERY, arguments).await;
    call::enveloped(&done, shield::queried(&done.carried, Some("types")))
}

#[utoipa::path(
    post, path = "/v1/brain/entities", operation_id = "import_entities", tag = "Company brain", summary = "Import entities",
    description = "Each takes the place of the one of its type and key. One that does not fit is among the faults; all others \
                   are written.",
    request_body = schema::NewEntities,
    responses((status = 200, description = "What became of them", body = schema::ImportedAnswer))
)]
/// `POST /v1/brain/entities`.
pub(super) async fn import(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::BrainWrite)?;
    let bytes = whole_body(&gateway, &headers, body).await?;
    let (rows, faults, relations) = shield::entities(&bytes).and_then(sorted).map_err(|why| invalid(&why))?;
    let actor = Actor::holder(&caller.principal, &caller.request);
    let imported = gateway.import(&actor, rows, relations).await?;
    let mut faults: Vec<(u64, String)> = faults.into_iter().chain(imported.faults).collect();
    faults.sort_by_key(|(at, _)| *at);
    let faults: Vec<Value> = faults.iter().map(|(at, reason)| json!({"at": at, "reason": reason})).collect();
    Ok(data(
        StatusCode::OK,
        &json!({
            "created": imported.created, "updated": imported.updated, "unchanged": imported.unchanged,
            "faults": faults, "undeclared": imported.undeclared,
        }),
    ))
}

type Sorted = (Vec<(u64, Entity)>, Vec<(u64, String)>, Vec<Relation>);

/// Rows that are entities, rows that are none, each with its place; and relations.
fn sorted((values, relations): (Vec<Value>, Vec<String>)) -> Result<Sorted, String> {
    if values.len() > MOST {
        return Err(format!("entities holds at most {MOST} of them: send more in another request"));
    }
    let relations = relations.iter().map(|text| relation(text)).collect::<Result<Vec<_>, _>>();
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for (at, value) in values.into_iter().enumerate() {
        let at = at as u64;
        let entity = match value {
            Value::Object(members) => entity_of(members, &RowsOptions::default()),
            _ => Err("an entity is an object".into()),
        };
        match entity {
            Ok(entity) => rows.push((at, entity)),
            Err(reason) => faults.push((at, reason)),
        }
    }
    Ok((rows, faults, relations.map_err(|error| error.to_string())?))
}
