//! Floor 8: the doors over HTTP. Every route stands in [`ROUTES`]; a test walks that list.

mod body;
mod caller;
pub mod control;
mod door;
mod error;
mod guard;
mod health;
mod keys;
mod mcp;
mod oauth;
mod request;
mod rest;
mod server;
mod stall;
mod trace;

use std::sync::Arc;

use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};

pub use server::{Deadlines, Listening, serve, serve_socket};

use self::door::Door;
use crate::domain::principal::Scope;
use crate::gateway::Gateway;

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Needs a key; the handler takes a `Caller`, which cannot be had without one.
    Key,
    /// Needs an access token; not there at all without `[oauth]`.
    Token,
    /// Needs a key whose profile grants this.
    Scope(Scope),
    /// A call of a tool: it needs the same, but one of a tool that the profile hides is 404 first.
    Call(Scope),
    /// Open to everybody.
    Public,
    /// Open to everybody on this machine, else needs a key.
    Local,
}

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub access: Access,
}

const fn route(method: &'static str, path: &'static str, access: Access) -> Route {
    Route { method, path, access }
}

/// Every route of the gateway.
pub const ROUTES: &[Route] = &[
    route("GET", "/v1/mcp", Access::Public),
    route("POST", "/v1/mcp", Access::Key),
    route("DELETE", "/v1/mcp", Access::Key),
    route("GET", "/mcp", Access::Public),
    route("POST", "/mcp", Access::Key),
    route("DELETE", "/mcp", Access::Key),
    route("GET", "/v1/mcp/servers/{server}", Access::Key),
    route("POST", "/v1/mcp/servers/{server}", Access::Key),
    route("DELETE", "/v1/mcp/servers/{server}", Access::Key),
    route("GET", "/v1/mcp-oauth", Access::Token),
    route("POST", "/v1/mcp-oauth", Access::Token),
    route("DELETE", "/v1/mcp-oauth", Access::Token),
    route("GET", "/v1/mcp-oauth/servers/{server}", Access::Token),
    route("POST", "/v1/mcp-oauth/servers/{server}", Access::Token),
    route("DELETE", "/v1/mcp-oauth/servers/{server}", Access::Token),
    route("GET", oauth::METADATA, Access::Public),
    route("POST", "/api/mcp/tools", Access::Key),
    route("GET", "/api/mcp/tools", Access::Public),
    route("POST", "/api/mcp/call", Access::Call(Scope::ToolsInvoke)),
    route("POST", "/api/v1/mcp/invoke", Access::Call(Scope::ToolsInvoke)),
    route("GET", "/api/mcp/v1/servers", Access::Scope(Scope::ToolsRead)),
    route("GET", "/api/mcp/v1/servers/{namespace}/{name}", Access::Scope(Scope::ToolsRead)),
    route("GET", "/llms.txt", Access::Public),
    route("GET", "/openapi.json", Access::Public),
    route("GET", "/docs", Access::Public),
    route("GET", "/v1/mcp/key-profiles", Access::Public),
    route("POST", "/v1/beta/users/{user}/keys", Access::Scope(Scope::KeysAdmin)),
    route("GET", "/v1/beta/users/{user}/keys", Access::Scope(Scope::KeysAdmin)),
    route("DELETE", "/v1/beta/users/{user}/keys/{id}", Access::Scope(Scope::KeysAdmin)),
    route("POST", "/v1/auth/token", Access::Key),
    route("DELETE", "/v1/auth/token", Access::Key),
    route("POST", "/v1/auth/refresh", Access::Public),
    route("GET", "/v1/mcps", Access::Scope(Scope::ToolsRead)),
    route("GET", "/v1/mcps/{id}", Access::Scope(Scope::ToolsRead)),
    route("POST", "/v1/mcps/{id}/invoke", Access::Call(Scope::ToolsInvoke)),
    route("GET", "/v1/providers", Access::Scope(Scope::ProvidersConnect)),
    route("POST", "/v1/providers/{slug}/connect", Access::Scope(Scope::ProvidersConnect)),
    route("GET", "/v1/providers/{slug}/callback", Access::Public),
    route("POST", "/v1/providers/{slug}/callback", Access::Public),
    route("DELETE", "/v1/providers/{id}", Access::Scope(Scope::ProvidersConnect)),
    route("POST", "/v1/providers/{id}/refresh", Access::Scope(Scope::ProvidersConnect)),
    route("GET", "/v1/policies", Access::Scope(Scope::PolicyRead)),
    route("POST", "/v1/policies", Access::Scope(Scope::PolicyWrite)),
    route("GET", "/v1/policies/{id}", Access::Scope(Scope::PolicyRead)),
    route("PUT", "/v1/policies/{id}", Access::Scope(Scope::PolicyWrite)),
    route("DELETE", "/v1/policies/{id}", Access::Scope(Scope::PolicyWrite)),
    route("POST", "/v1/policies/simulate", Access::Call(Scope::PolicySimulate)),
    route("POST", "/v1/preflight", Access::Call(Scope::PolicySimulate)),
    route("GET", "/v1/governance/readiness", Access::Call(Scope::GovernanceRead)),
    route("POST", "/v1/brain/entities", Access::Scope(Scope::BrainWrite)),
    route("GET", "/v1/brain/types", Access::Call(Scope::BrainRead)),
    route("POST", "/v1/brain/query", Access::Call(Scope::BrainRead)),
    route("GET", "/v1/approvals", Access::Scope(Scope::ApprovalsRead)),
    route("GET", "/v1/approvals/{id}", Access::Scope(Scope::ApprovalsRead)),
    route("POST", "/v1/approvals/{id}", Access::Scope(Scope::ApprovalsRead)),
    route("POST", "/v1/approvals/{id}/approve", Access::Scope(Scope::ApprovalsDecide)),
    route("POST", "/v1/approvals/{id}/deny", Access::Scope(Scope::ApprovalsDecide)),
    route("GET", "/v1/audit/events", Access::Scope(Scope::AuditRead)),
    route("GET", "/v1/audit/events/{id}", Access::Scope(Scope::AuditRead)),
    route("GET", "/v1/audit/export", Access::Scope(Scope::AuditRead)),
    route("GET", "/v1/executions", Access::Call(Scope::TracesRead)),
    route("GET", "/v1/executions/{id}", Access::Call(Scope::TracesRead)),
    route("GET", "/v1/observability/summary", Access::Call(Scope::ObservabilityRead)),
    route("GET", "/v1/evals", Access::Scope(Scope::EvalsRead)),
    route("POST", "/v1/evals", Access::Scope(Scope::EvalsWrite)),
    route("GET", "/v1/evals/{id}", Access::Scope(Scope::EvalsRead)),
    route("DELETE", "/v1/evals/{id}", Access::Scope(Scope::EvalsWrite)),
    route("GET", "/v1/evals/{id}/quality", Access::Call(Scope::EvalsRead)),
    route("GET", "/v1/evals/{id}/runs", Access::Scope(Scope::EvalsRead)),
    route("POST", "/v1/evals/{id}/runs", Access::Call(Scope::EvalsWrite)),
    route("GET", "/v1/evals/{id}/runs/{run}", Access::Scope(Scope::EvalsRead)),
    route("POST", "/v1/evals/{id}/runs/{run}/publish", Access::Scope(Scope::EvalsWrite)),
    route("GET", "/healthz", Access::Local),
    route("GET", "/readyz", Access::Local),
    route("GET", "/metrics", Access::Local),
    route("POST", "/register", Access::Public),
    route("GET", "/.well-known/{*path}", Access::Public),
    route("GET", "/v1/mcp/.well-known/{*path}", Access::Public),
];

/// The router behind the guard, which [`serve`] puts before it.
fn router(gateway: Arc<Gateway>) -> Router {
    let endpoint = || get(mcp::card_or_stream).post(mcp::post).delete(mcp::end);
    let one_server = || get(mcp::server_stream).post(mcp::post_to_server).delete(mcp::end);
    let with_token = |methods: MethodRouter<Arc<Gateway>>| methods.layer(Extension(Door::Tokens));
    let routes: [(&str, MethodRouter<Arc<Gateway>>); 17] = [
        ("/v1/mcp", endpoint()),
        ("/v1/mcp/", endpoint()),
        ("/mcp", endpoint()),
        ("/mcp/", endpoint()),
        ("/v1/mcp/servers/{server}", one_server()),
        ("/v1/mcp-oauth", with_token(endpoint())),
        ("/v1/mcp-oauth/", with_token(endpoint())),
        ("/v1/mcp-oauth/servers/{server}", with_token(one_server())),
        (oauth::METADATA, get(oauth::metadata)),
        ("/api/mcp/tools", post(mcp::post)),
        ("/v1/mcp/key-profiles", get(keys::profiles)),
        ("/healthz", get(health::alive)),
        ("/readyz", get(health::ready)),
        ("/metrics", get(health::metrics)),
        ("/register", post(oauth::register)),
        ("/.well-known/{*path}", get(oauth::nothing)),
        ("/v1/mcp/.well-known/{*path}", get(oauth::nothing)),
    ];
    let mut router = Router::new();
    for (path, methods) in routes {
        router = router.route(path, methods);
    }
    router
        .merge(rest::router(&gateway))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .with_state(gateway)
}
