//! `/v1/auth`: a key is exchanged for tokens, tokens are renewed, tokens are revoked.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::super::caller::{Caller, Peer, credential, source};
use super::super::super::error::{envelope, not_admitted, plain};
use super::super::super::request::Named;
use super::super::{charge, over_limit};
use super::{No, data, invalid, optional_body};
use crate::domain::secret::Secret;
use crate::gateway::control::Actor;
use crate::gateway::{Credential, Gateway, NotIssued, TokenRefused};
use crate::wire::rest::schema::ErrorEnvelope;
use crate::wire::rest::{Body as Members, shield_schema as schema};

/// Bytes of a body here at most; the refresh is open to everybody.
const MAX_BODY: usize = 4096;

#[utoipa::path(
    post, path = "/v1/auth/token", operation_id = "issue_token", tag = "Tokens", summary = "Exchange a key for a token",
    description = "The token works wherever the key does, ends soon, and ends with the key.",
    request_body = Option<schema::TokenRequest>,
    responses(
        (status = 200, description = "The token, and one to renew it with", body = schema::TokenAnswer),
        (status = 403, description = "A token is not exchanged for another", body = ErrorEnvelope),
        (status = 409, description = "The key has too many tokens", body = ErrorEnvelope),
    )
)]
/// `POST /v1/auth/token`: the key for a token that ends soon, and one to renew it with.
pub(super) async fn issue(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, No> {
    charge(&gateway, &caller)?;
    let wanted: schema::TokenRequest = read(&headers, body).await?.unwrap_or_default();
    let Credential::Key(key) = credential(&headers) else { return Err(invalid("send the key in a header")) };
    let service = matches!(wanted.r#type, Some(schema::TokenKind::Service));
    let actor = Actor::holder(&caller.principal, &caller.request);
    let tokens = gateway.issue_tokens(&actor, &key, service).await.map_err(|why| refused(&why))?;
    Ok(told(&tokens))
}

#[utoipa::path(
    post, path = "/v1/auth/refresh", operation_id = "refresh_token", tag = "Tokens", summary = "Renew a token",
    description = "The refresh token is its own credential, and is used up: a second use revokes what it was renewed to.",
    request_body = schema::RefreshRequest,
    responses(
        (status = 200, description = "A new pair; the old one is worth nothing", body = schema::TokenAnswer),
        (status = 401, description = "The refresh token is unknown, used, expired or revoked", body = ErrorEnvelope),
        (status = 408, description = "The body did not arrive in time", body = ErrorEnvelope),
        (status = 413, description = "The body is too large", body = ErrorEnvelope),
        (status = 415, description = "The body is not `application/json`", body = ErrorEnvelope),
        (status = 429, description = "Too many wrong tokens, or over the key's limit: wait as many seconds as `Retry-After` says", body = ErrorEnvelope),
        (status = 503, description = "Nothing can be recorded", body = ErrorEnvelope),
    )
)]
/// `POST /v1/auth/refresh`: a refresh token for a new pair. It is its own credential.
pub(super) async fn refresh(
    State(gateway): State<Arc<Gateway>>,
    Peer(peer): Peer,
    Named(request): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, No> {
    let renewal: Option<schema::RefreshRequest> = read(&headers, body).await?;
    let Some(schema::RefreshRequest { refresh_token }) = renewal else {
        return Err(invalid("missing field `refresh_token`"));
    };
    let source = source(&gateway, peer, &headers);
    let tokens = gateway.refresh_tokens(&Secret::new(refresh_token), source, &request).await;
    Ok(told(&tokens.map_err(|why| refused(&why))?))
}

#[utoipa::path(
    delete, path = "/v1/auth/token", operation_id = "revoke_token", tag = "Tokens", summary = "Revoke the token that is sent",
    description = "The very next request with it is refused, and it cannot be renewed.",
    responses((status = 200, description = "It is revoked", body = schema::RevokedAnswer))
)]
/// `DELETE /v1/auth/token`: the token that was sent opens nothing any more, nor can it be renewed.
pub(super) async fn revoke(State(gateway): State<Arc<Gateway>>, caller: Caller) -> Result<Response, No> {
    charge(&gateway, &caller)?;
    let actor = Actor::holder(&caller.principal, &caller.request);
    if gateway.revoke_tokens(&actor, &caller.principal).await? {
        return Ok(data(StatusCode::OK, &json!({"revoked": true})));
    }
    Err(invalid("this is a key and no token: send the token to be revoked, as the credential"))
}

/// Reads a small body, if there is one.
async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<Option<T>, No> {
    let bytes = optional_body(headers, body, MAX_BODY).await?;
    if bytes.is_empty() || bytes.trim_ascii() == b"null" {
        return Ok(None);
    }
    let members = Members::read(&bytes).map_err(|why| invalid(&why))?;
    // What stands in the body is not told: it may be a token.
    let misfit = |_| invalid("the body has a member too many, too few, or of the wrong type");
    members.typed().map(Some).map_err(misfit)
}

fn told(tokens: &Value) -> Response {
    let mut response = data(StatusCode::OK, tokens);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(why: &TokenRefused) -> No {
    let message = why.to_string();
    match why {
        TokenRefused::NotAdmitted(why) => not_admitted(why).into(),
        TokenRefused::OverLimit(refusal) => over_limit(refusal).into(),
        TokenRefused::NotIssued(NotIssued::NotAKey) => {
            envelope(StatusCode::FORBIDDEN, "insufficient_scope", &message, &json!({"needs": "key"})).into()
        }
        TokenRefused::NotIssued(NotIssued::TooMany(_)) => plain(StatusCode::CONFLICT, "conflict", &message).into(),
        TokenRefused::NotIssued(_) | TokenRefused::Failed(_) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "internal_error", &message).into()
        }
    }
}
