//! `/v1/policies`: those of the files to read, those of the API to change, and what they would decide.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, json};
use utoipa::ToSchema;

use super::super::super::caller::Caller;
use super::super::super::error::{envelope, plain};
use super::super::call;
use super::super::{Segments, enter};
use super::query::{Query, cut};
use super::{No, data, invalid, missing, page, whole_body};
use crate::domain::principal::Scope;
use crate::gateway::control::Actor;
use crate::gateway::{Gateway, PolicyChange, PolicyRefused};
use crate::wire::rest::schema::ErrorEnvelope;
use crate::wire::rest::{Body as Members, judged_schema, shield, shield_schema as schema};

/// The list that cursors belong to.
const LIST: &str = "policies";
/// The own tool that simulates.
const SIMULATE: &str = "policy.simulate";

/// A policy that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPolicy, example = json!({"name": "no-writes", "text": "forbid (principal, action in Toolgate::Action::\"write\", resource);"}))]
struct New {
    /// That of its `@id`, unless the text has none.
    name: Option<String>,
    /// One policy in Cedar.
    text: String,
}

/// What a policy shall say instead.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PolicyText)]
struct Other {
    /// One policy in Cedar.
    text: String,
    /// The version that it replaces; another one is a conflict.
    version: Option<i64>,
}

#[utoipa::path(
    get, path = "/v1/policies", operation_id = "policies", tag = "Policies", summary = "Every active policy",
    params(
        ("limit" = Option<u32>, Query, description = "Items on the page", minimum = 1, maximum = 200, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", nullable = false),
    ),
    responses((status = 200, description = "A page of them, by id", body = schema::PolicyPage))
)]
/// `GET /v1/policies`: every active policy, by id.
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, uri: Uri) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::PolicyRead)?;
    let query = Query::read(&uri, &["limit", "cursor"])?;
    let (limit, after) = (query.limit()?, query.place::<String>(LIST)?);
    let (mut policies, version) = gateway.policies().await?;
    policies.retain(|(id, _)| after.as_ref().is_none_or(|after| id > after));
    let (policies, next) = cut(policies, limit, LIST, |(id, _)| id.clone());
    let items: Vec<String> = policies.iter().map(|(_, view)| view.to_string()).collect();
    Ok(page(&items, limit, next.as_deref(), Map::from_iter([("policy_version".to_owned(), json!(version))])))
}

#[utoipa::path(
    get, path = "/v1/policies/{id}", operation_id = "policy", tag = "Policies", summary = "One policy with its text",
    params(("id" = String, Path, description = "The policy's `@id`", example = "block-sql-drop")),
    responses((status = 200, description = "The policy", body = schema::PolicyAnswer))
)]
/// `GET /v1/policies/{id}`: with its text.
pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::PolicyRead)?;
    let policy = gateway.policy(&id).await?.ok_or_else(|| unknown(&id))?;
    Ok(data(StatusCode::OK, &policy))
}

#[utoipa::path(
    post, path = "/v1/policies", operation_id = "create_policy", tag = "Policies", summary = "Make a policy",
    description = "It is checked against the live tools; one that does not fit is refused with file, line and hint, and is never \
                   active. It counts from the answer on, together with those of the files.",
    request_body = New,
    responses(
        (status = 201, description = "The policy", body = schema::PolicyAnswer),
        (status = 409, description = "The name is taken", body = ErrorEnvelope),
    )
)]
/// `POST /v1/policies`: 201 with the new policy, which counts from now on.
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::PolicyWrite)?;
    let New { name, text } = read(&gateway, &headers, body).await?;
    change(&gateway, &caller, PolicyChange::Create { name, text }, StatusCode::CREATED).await
}

#[utoipa::path(
    put, path = "/v1/policies/{id}", operation_id = "replace_policy", tag = "Policies", summary = "Replace a policy",
    params(("id" = String, Path, description = "The policy's `@id`", example = "block-sql-drop")),
    request_body = Other,
    responses(
        (status = 200, description = "The new version", body = schema::PolicyAnswer),
        (status = 409, description = "It stands in a file, or has another version", body = ErrorEnvelope),
    )
)]
/// `PUT /v1/policies/{id}`: another text; with `version`, only in the place of that one.
pub(super) async fn replace(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(name): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::PolicyWrite)?;
    let Other { text, version } = read(&gateway, &headers, body).await?;
    change(&gateway, &caller, PolicyChange::Replace { name, text, version }, StatusCode::OK).await
}

#[utoipa::path(
    delete, path = "/v1/policies/{id}", operation_id = "remove_policy", tag = "Policies", summary = "Take a policy out",
    params(("id" = String, Path, description = "The policy's `@id`", example = "block-sql-drop")),
    responses(
        (status = 200, description = "It is gone", body = schema::PolicyRemovedAnswer),
        (status = 409, description = "It stands in a file", body = ErrorEnvelope),
    )
)]
/// `DELETE /v1/policies/{id}`.
pub(super) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::PolicyWrite)?;
    change(&gateway, &caller, PolicyChange::Remove { name }, StatusCode::OK).await
}

async fn change(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    change: PolicyChange,
    status: StatusCode,
) -> Result<Response, No> {
    let actor = Actor::holder(&caller.principal, &caller.request);
    match gateway.change_policy(actor, change).await {
        Ok(policy) => Ok(data(status, &policy)),
        Err(refused) => Err(no(refused)),
    }
}

fn no(refused: PolicyRefused) -> No {
    let message = refused.to_string();
    match refused {
        PolicyRefused::Unfit { faults, .. } => {
            envelope(StatusCode::BAD_REQUEST, "invalid_request", &message, &json!({"faults": faults})).into()
        }
        PolicyRefused::Conflict(_) => plain(StatusCode::CONFLICT, "conflict", &message).into(),
        PolicyRefused::NotTaken => plain(StatusCode::FORBIDDEN, "policy_denied", &message).into(),
        PolicyRefused::Missing(_) => missing(&message),
        PolicyRefused::Failed(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "internal_error", &message).into(),
    }
}

fn unknown(id: &str) -> No {
    let id: String = id.chars().take(200).collect();
    missing(&PolicyRefused::Missing(id).to_string())
}

async fn read<T: DeserializeOwned>(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<T, No> {
    let bytes = whole_body(gateway, headers, body).await?;
    Members::read(&bytes).and_then(|members| members.typed()).map_err(|why| invalid(&why))
}

#[utoipa::path(
    post, path = "/v1/policies/simulate", operation_id = "simulate", tag = "Policies", summary = "What would be decided",
    description = "Asked of the code that decides; nothing is called and nothing is charged but the request.",
    request_body = judged_schema::SimulateRequest,
    responses((status = 200, description = "The report", body = schema::ObjectAnswer))
)]
/// `POST /v1/policies/simulate`: a call of the own tool, so it is judged, and recorded, as one.
pub(super) async fn simulate(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arguments = call::read(&gateway, &headers, body, shield::question).await;
    call::own_data(&gateway, caller, &headers, SIMULATE, arguments).await
}
