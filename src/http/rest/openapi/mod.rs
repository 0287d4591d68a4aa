//! `/openapi.json`, and `/docs`, which shows the same to people.
//!
//! Each door says beside its handler what it takes and gives. What all have in common is put in here, from
//! [`ROUTES`](crate::http::ROUTES): who may come in, what goes wrong, which headers there are.

mod common;
mod mcp;
mod page;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::Value;
use utoipa::OpenApi;

use super::call::json;
use crate::wire::rest::{schema, shield_schema};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Toolgate",
        description = "One governed MCP endpoint in front of every tool. Every call, over MCP or REST, passes the key's \
                       profile, the tool's schema, policy and limits, and leaves an audit record that the header \
                       `Toolgate-Audit-Id` names. Agents find a shorter account in `/llms.txt`."
    ),
    servers((url = "/", description = "This gateway")),
    tags(
        (name = "Calls", description = "One tool, one call"),
        (name = "Directory", description = "What there is"),
        (name = "Keys", description = "Who may do what"),
        (name = "Tokens", description = "What keys are exchanged for"),
        (name = "Policies", description = "What is allowed, and why"),
        (name = "Governance", description = "Whether calls would pass, and whether the gateway is as it should be"),
        (name = "Company brain", description = "What the company knows"),
        (name = "Approvals", description = "Calls that wait for a person"),
        (name = "Providers", description = "Accounts that users connect, with which servers are asked in their name"),
        (name = "Evaluations", description = "Whether tools still do what they should"),
        (name = "Audit", description = "What was asked, decided and answered"),
        (name = "MCP", description = "Streamable HTTP, revisions 2026-07-28, 2025-11-25 and 2025-06-18"),
        (name = "Operation", description = "Health, metrics, documentation"),
    ),
    paths(
        super::invoke::invoke,
        super::tools::list,
        super::tools::call,
        super::directory::list,
        super::directory::one,
        super::llms::text,
        super::shield::auth::issue,
        super::shield::auth::refresh,
        super::shield::auth::revoke,
        super::shield::mcps::list,
        super::shield::mcps::one,
        super::shield::mcps::invoke,
        super::shield::providers::list,
        super::shield::providers::connect,
        super::shield::callback::callback,
        super::shield::callback::connect,
        super::shield::providers::disconnect,
        super::shield::providers::refresh,
        super::shield::policies::list,
        super::shield::policies::one,
        super::shield::policies::create,
        super::shield::policies::replace,
        super::shield::policies::remove,
        super::shield::policies::simulate,
        super::shield::brain::import,
        super::shield::brain::types,
        super::shield::brain::query,
        super::shield::approvals::list,
        super::shield::approvals::one,
        super::shield::approvals::reveal,
        super::shield::approvals::approve,
        super::shield::approvals::deny,
        super::shield::evals::list,
        super::shield::evals::one,
        super::shield::evals::create,
        super::shield::evals::remove,
        super::shield::evals::quality,
        super::shield::evals::runs,
        super::shield::evals::run,
        super::shield::evals::one_run,
        super::shield::evals::publish,
        super::shield::audit::list,
        super::shield::audit::one,
        super::shield::audit::export,
        super::shield::insight::list,
        super::shield::insight::one,
        super::shield::insight::summary,
        super::governance::preflight,
        super::governance::readiness,
        self::document,
        self::docs,
        crate::http::keys::profiles,
        crate::http::keys::create,
        crate::http::keys::list,
        crate::http::keys::revoke,
        crate::http::health::alive,
        crate::http::health::ready,
        crate::http::health::metrics,
        crate::http::oauth::register,
    ),
    components(schemas(
        schema::ErrorEnvelope,
        schema::InvokeError,
        shield_schema::GovernedError,
        shield_schema::ApprovalStates,
        shield_schema::ExportFormat,
        shield_schema::RecordOutcome,
        crate::wire::rest::evals::EvalBaseline,
        schema::ToolCallError,
        schema::JsonRpcMessage,
        schema::JsonRpcAnswer,
    ))
)]
struct Doors;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Doors::openapi()).unwrap_or_default();
    mcp::add(&mut document);
    common::complete(&mut document);
    document
});
static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(DOCUMENT.to_string()));
static PAGE: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(page::render(&DOCUMENT)));

#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "Operation", summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
pub(super) async fn document() -> Response {
    json(StatusCode::OK, TEXT.clone())
}

#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "Operation", summary = "This document for people",
    responses((status = 200, description = "A page that needs nothing from elsewhere", body = String, content_type = "text/html"))
)]
pub(super) async fn docs() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ];
    (headers, PAGE.clone()).into_response()
}
