//! `/v1/providers`: the accounts that a user connects, with which servers are asked in the user's name.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::{Map, Value};

use super::super::super::caller::Caller;
use super::super::super::error::plain;
use super::super::{Segments, base_url, enter};
use super::query::{Query, cut};
use super::{No, data, invalid, missing, optional_body, page};
use crate::domain::principal::Scope;
use crate::gateway::control::Actor;
use crate::gateway::{Gateway, ProviderRefused};
use crate::wire::rest::schema::ErrorEnvelope;
use crate::wire::rest::{Body as Members, provider_schema as schema};

/// The list that cursors belong to.
const LIST: &str = "providers";
/// Bytes of a body that says nothing.
const MAX_BODY: usize = 4096;

#[utoipa::path(
    get, path = "/v1/providers", operation_id = "providers", tag = "Providers",
    summary = "The providers, and how your accounts with them stand",
    params(
        ("limit" = Option<u32>, Query, description = "Items on the page", minimum = 1, maximum = 200, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", nullable = false),
    ),
    responses((status = 200, description = "A page of them, by slug", body = schema::ProviderPage))
)]
/// `GET /v1/providers`.
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, uri: Uri) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::ProvidersConnect)?;
    let query = Query::read(&uri, &["limit", "cursor"])?;
    let (limit, after) = (query.limit()?, query.place::<String>(LIST)?);
    let mut found = gateway.providers(&caller.principal).await?;
    let slug = |provider: &Value| provider.get("slug").and_then(Value::as_str).unwrap_or_default().to_owned();
    found.retain(|provider| after.as_ref().is_none_or(|after| slug(provider) > *after));
    let (found, next) = cut(found, limit, LIST, slug);
    let items: Vec<String> = found.iter().map(Value::to_string).collect();
    Ok(page(&items, limit, next.as_deref(), Map::new()))
}

#[utoipa::path(
    post, path = "/v1/providers/{slug}/connect", operation_id = "connect_provider", tag = "Providers",
    summary = "Connect an account: where to go",
    description = "Open `url` in your own browser, and let the gateway in. You are sent back to a page that says what came of it. \
                   The link is good once, for ten minutes, and whoever follows it connects an account of theirs to you.",
    params(("slug" = String, Path, description = "The provider", example = "github")),
    request_body = Option<schema::NothingAsked>,
    responses(
        (status = 200, description = "Where to go", body = schema::ConnectAnswer),
        (status = 502, description = "The provider cannot be asked", body = ErrorEnvelope),
    )
)]
/// `POST /v1/providers/{slug}/connect`.
pub(super) async fn connect(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(slug): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::ProvidersConnect)?;
    nothing_asked(&headers, body).await?;
    let actor = Actor::holder(&caller.principal, &caller.request);
    let base = base_url(&gateway, &headers);
    let begun = gateway.connect_provider(&actor, &caller.principal, &slug, &base).await?;
    let mut response = data(StatusCode::OK, &begun);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[utoipa::path(
    delete, path = "/v1/providers/{id}", operation_id = "disconnect_provider", tag = "Providers",
    summary = "Disconnect an account",
    description = "The gateway forgets it and, where the provider can be told, revokes its tokens.",
    params(("id" = String, Path, description = "`prv_…`, or the provider's slug", example = "github")),
    responses((status = 200, description = "It is forgotten", body = schema::DisconnectedAnswer))
)]
/// `DELETE /v1/providers/{id}`.
pub(super) async fn disconnect(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::ProvidersConnect)?;
    let actor = Actor::holder(&caller.principal, &caller.request);
    Ok(data(StatusCode::OK, &gateway.disconnect_provider(&actor, &caller.principal, &id).await?))
}

#[utoipa::path(
    post, path = "/v1/providers/{id}/refresh", operation_id = "refresh_provider", tag = "Providers",
    summary = "Renew the credentials of an account",
    description = "The gateway renews them by itself before they end; this does so now. Of many that ask at once one does.",
    params(("id" = String, Path, description = "`prv_…`, or the provider's slug", example = "github")),
    request_body = Option<schema::NothingAsked>,
    responses(
        (status = 200, description = "How the account stands", body = schema::ProviderAnswer),
        (status = 409, description = "It cannot be renewed: connect it anew", body = ErrorEnvelope),
        (status = 502, description = "The provider cannot be asked", body = ErrorEnvelope),
    )
)]
/// `POST /v1/providers/{id}/refresh`.
pub(super) async fn refresh(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::ProvidersConnect)?;
    nothing_asked(&headers, body).await?;
    let actor = Actor::holder(&caller.principal, &caller.request);
    Ok(data(StatusCode::OK, &gateway.renew_provider(&actor, &caller.principal, &id).await?))
}

/// There is nothing to say in the body yet, and what is said all the same is not passed over.
async fn nothing_asked(headers: &HeaderMap, body: Body) -> Result<(), No> {
    let bytes = optional_body(headers, body, MAX_BODY).await?;
    if bytes.is_empty() || bytes.trim_ascii() == b"null" {
        return Ok(());
    }
    match Members::read(&bytes) {
        Ok(members) if members.is_empty() => Ok(()),
        _ => Err(invalid("the body must be empty, or `{}`")),
    }
}

impl From<ProviderRefused> for No {
    fn from(refused: ProviderRefused) -> Self {
        let message = refused.to_string();
        let told = |status, code| plain(status, code, &message).into();
        match refused {
            ProviderRefused::Unknown(_) | ProviderRefused::NotConnected(_) => missing(&message),
            ProviderRefused::LoginNeeded { .. } => told(StatusCode::CONFLICT, "conflict"),
            ProviderRefused::Unreachable(_) => told(StatusCode::BAD_GATEWAY, "backend_error"),
            ProviderRefused::Busy(_) | ProviderRefused::Failed(_) => {
                told(StatusCode::SERVICE_UNAVAILABLE, "internal_error")
            }
        }
    }
}
