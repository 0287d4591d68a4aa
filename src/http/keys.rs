//! Keys and their profiles.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::body;
use super::caller::Caller;
use super::error::plain;
use super::rest::{Segments, enter};
use crate::config::reader::parse_duration;
use crate::domain::principal::Scope;
use crate::gateway::control::Actor;
use crate::gateway::{Gateway, KeyRefused, NewKey};
use crate::wire::rest::{Body as Members, schema};

/// `GET /v1/mcp/key-profiles`: what each profile grants.
#[utoipa::path(
    get, path = "/v1/mcp/key-profiles", operation_id = "key_profiles", tag = "Keys", summary = "What each kind of key grants",
    responses((status = 200, description = "Every profile", body = schema::Profiles))
)]
pub(super) async fn profiles(State(gateway): State<Arc<Gateway>>) -> Response {
    Json(json!({"profiles": &*gateway.state().profiles})).into_response()
}

/// A key that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey, example = json!({"name": "Claude desktop MCP", "profile": "mcp_readonly"}))]
struct Wanted {
    /// For people: 1 to 200 characters.
    name: String,
    /// One of those that `GET /v1/mcp/key-profiles` lists.
    profile: String,
    /// What policies know the key by.
    #[serde(default)]
    roles: Vec<String>,
    /// How much the key may ask; without one there is no limit.
    plan: Option<String>,
    /// Whom policies judge; the key's own id unless set.
    agent_id: Option<String>,
    /// A duration such as `30d`; without one the key does not expire.
    expires_in: Option<String>,
}

/// `POST /v1/beta/users/{user}/keys`: 201 with the key, this once.
#[utoipa::path(
    post, path = "/v1/beta/users/{user}/keys", operation_id = "create_key", tag = "Keys", summary = "Make a key",
    description = "The answer is the only place where its text stands.",
    params(("user" = String, Path, description = "Whose key")),
    request_body = Wanted,
    responses((status = 201, description = "The key, with its text in `key`", body = schema::KeyView))
)]
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(user): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if let Err(refused) = enter(&gateway, &caller, Scope::KeysAdmin) {
        return *refused;
    }
    let invalid = |message: &str| plain(StatusCode::BAD_REQUEST, "invalid_request", message);
    let limit = gateway.state().settings.gateway.max_body;
    let bytes = match body::read(&headers, body, limit).await {
        Ok(bytes) => bytes,
        Err((status, why)) => return plain(status, "invalid_request", why),
    };
    let wanted: Wanted = match Members::read(&bytes).and_then(|members| members.typed()) {
        Ok(wanted) => wanted,
        Err(why) => return invalid(&why),
    };
    let expires_in = match wanted.expires_in.as_deref().map(parse_duration) {
        Some(None) => return invalid("`expires_in` must be a duration such as `30d`"),
        expires => expires.flatten(),
    };
    let Wanted { name, profile, roles, plan, agent_id, .. } = wanted;
    match gateway
        .create_key(
            &Actor::holder(&caller.principal, &caller.request),
            NewKey { name, profile, user, roles, agent: agent_id, plan, expires_in },
        )
        .await
    {
        Ok(view) => (StatusCode::CREATED, Json(view)).into_response(),
        Err(KeyRefused::Unfit(message)) => invalid(&message),
        Err(KeyRefused::Failed(failed)) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "internal_error", &failed.to_string())
        }
    }
}

/// `GET /v1/beta/users/{user}/keys`: empty for a user who has none.
#[utoipa::path(
    get, path = "/v1/beta/users/{user}/keys", operation_id = "list_keys", tag = "Keys", summary = "The keys of a user",
    params(("user" = String, Path, description = "Whose keys")),
    responses((status = 200, description = "All of them, revoked ones too; empty for a user who has none", body = schema::KeyList))
)]
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(user): Segments<String>,
) -> Response {
    if let Err(refused) = enter(&gateway, &caller, Scope::KeysAdmin) {
        return *refused;
    }
    let keys: Vec<_> =
        gateway.keys().list().iter().filter(|key| key.user == user).map(|key| gateway.key_view(key)).collect();
    Json(json!({"keys": keys})).into_response()
}

/// `DELETE /v1/beta/users/{user}/keys/{id}`: 204, or 404 where this user has no such live key.
#[utoipa::path(
    delete, path = "/v1/beta/users/{user}/keys/{id}", operation_id = "revoke_key", tag = "Keys", summary = "Revoke a key",
    description = "The very next request with it is refused.",
    params(("user" = String, Path, description = "Whose key"), ("id" = String, Path, description = "`key_…`")),
    responses((status = 204, description = "It is revoked"))
)]
pub(super) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments((user, id)): Segments<(String, String)>,
) -> Response {
    if let Err(refused) = enter(&gateway, &caller, Scope::KeysAdmin) {
        return *refused;
    }
    let theirs = gateway.keys().list().into_iter().find(|key| key.user == user && key.id.as_str() == id);
    match theirs {
        None => plain(StatusCode::NOT_FOUND, "not_found", "this user has no such key"),
        Some(key) => match gateway.revoke_key(&Actor::holder(&caller.principal, &caller.request), &key.id).await {
            Ok(true) => StatusCode::NO_CONTENT.into_response(),
            Ok(false) => plain(StatusCode::NOT_FOUND, "not_found", "this user has no such live key"),
            Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, "internal_error", &error.to_string()),
        },
    }
}
