//! The REST doors: each decodes a request, asks [`Gateway`], and encodes what came of it, in a shape of its own.
//!
//! A door takes a [`Caller`], so that it cannot be reached without a key, and every answer to a caller with limits says
//! where it stands. A door of calls hands them to [`Gateway::carry`], which charges the request; every other begins with
//! [`enter`].

mod call;
mod directory;
mod extract;
mod governance;
mod invoke;
mod llms;
mod openapi;
mod shield;
mod tools;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

pub(super) use self::extract::{Params, Segments};
use super::caller::{Admitted, Caller};
use super::error::{envelope, plain};
use super::keys;
use crate::domain::outcome::Refusal;
use crate::domain::principal::{Principal, Scope};
use crate::gateway::Gateway;

/// The doors of this module. They stand in [`ROUTES`](super::ROUTES) too.
pub(super) fn router(gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    let mut routes: Vec<(&str, MethodRouter<Arc<Gateway>>)> = vec![
        ("/v1/beta/users/{user}/keys", get(keys::list).post(keys::create)),
        ("/v1/beta/users/{user}/keys/{id}", delete(keys::revoke)),
        ("/api/v1/mcp/invoke", post(invoke::invoke)),
        ("/api/mcp/tools", get(tools::list)),
        ("/api/mcp/call", post(tools::call)),
        ("/api/mcp/v1/servers", get(directory::list)),
        ("/api/mcp/v1/servers/{namespace}/{name}", get(directory::one)),
        ("/llms.txt", get(llms::text)),
        ("/openapi.json", get(openapi::document)),
        ("/docs", get(openapi::docs)),
        ("/v1/preflight", post(governance::preflight)),
        ("/v1/governance/readiness", get(governance::readiness)),
    ];
    routes.extend(shield::routes());
    let router = routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    router.route_layer(from_fn_with_state(Arc::clone(gateway), tell_limits))
}

/// A request that is no call: charged to the caller's plan, and only for keys with the scope.
///
/// # Errors
/// The answer that says why not.
pub(super) fn enter(gateway: &Gateway, caller: &Caller, scope: Scope) -> Result<(), Box<Response>> {
    charge(gateway, caller)?;
    if caller.principal.profile.has(scope) {
        return Ok(());
    }
    let message = format!("this needs a key with the scope `{}`", scope.as_str());
    Err(envelope(StatusCode::FORBIDDEN, "insufficient_scope", &message, &json!({"scope": scope})).into())
}

/// A request that is no call and needs no scope: charged to the caller's plan.
///
/// # Errors
/// 429 where that is full.
fn charge(gateway: &Gateway, caller: &Caller) -> Result<(), Box<Response>> {
    gateway.charge_request(&caller.principal).map_err(|refusal| over_limit(&refusal).into())
}

/// Where this gateway is reached: as configured, else as the request says, which the guard has checked.
fn base_url(gateway: &Gateway, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080");
    gateway.state().settings.gateway.base_url(host)
}

/// 429 with the seconds to wait.
fn over_limit(refusal: &Refusal) -> Response {
    let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "rate_limited", &refusal.to_string());
    put_retry_after(refusal, &mut response);
    response
}

fn put_retry_after(refusal: &Refusal, response: &mut Response) {
    if let Refusal::LimitReached { retry_after, .. } = refusal {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
    }
}

/// Puts the caller's limits on every answer of a door, whatever it says.
async fn tell_limits(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    let admitted = Admitted::default();
    request.extensions_mut().insert(admitted.clone());
    let mut response = next.run(request).await;
    if let Some(principal) = admitted.0.get() {
        put_limits(&gateway, principal, &mut response);
    }
    response
}

/// `X-RateLimit-*` of the window that is nearest to its end, where the caller has one.
fn put_limits(gateway: &Gateway, principal: &Principal, response: &mut Response) {
    let Some(standing) = gateway.standing(principal) else { return };
    let wait = i64::try_from(standing.reset_after_seconds()).unwrap_or(0);
    let reset = gateway.now().0 / 1000 + wait + 1;
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(standing.rate.count));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(standing.remaining()));
    headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
}
