//! `/v1/preflight` and `/v1/governance/readiness`: calls of the own tools behind them, so they are judged, and recorded,
//! as such.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use super::super::caller::Caller;
use super::call;
use crate::gateway::Gateway;
use crate::wire::rest::{judged_schema, shield, shield_schema as schema};

#[utoipa::path(
    post, path = "/v1/preflight", operation_id = "preflight", tag = "Governance", summary = "Whether calls would pass now",
    description = "Says of each call whether it would pass, and what stands in its way: policy, approval, schema, \
                   credentials, backend, limit. Nothing is called and nothing is charged but the request. The caller's \
                   token for a server goes into `X-Server-JWT`, as with a call.",
    request_body = judged_schema::PreflightRequest,
    responses((status = 200, description = "A report on each call, in their order", body = schema::ObjectAnswer))
)]
pub(super) async fn preflight(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arguments = call::read(&gateway, &headers, body, shield::question).await;
    call::own_data(&gateway, caller, &headers, "preflight.check", arguments).await
}

#[utoipa::path(
    get, path = "/v1/governance/readiness", operation_id = "readiness", tag = "Governance",
    summary = "How well this gateway is governed",
    description = "Checks of policies, keys, servers, limits and the audit log, each `pass`, `warn` or `fail` with its \
                   evidence and what to do.",
    responses((status = 200, description = "Every check, always in the same order", body = schema::ObjectAnswer))
)]
pub(super) async fn readiness(State(gateway): State<Arc<Gateway>>, caller: Caller, headers: HeaderMap) -> Response {
    call::own_data(&gateway, caller, &headers, "governance.readiness", Ok(None)).await
}
