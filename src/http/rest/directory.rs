//! `/api/mcp/v1/servers`: the registered servers, as far as the caller's profile opens them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::caller::Caller;
use super::super::error::plain;
use super::{Params, Segments, enter};
use crate::domain::principal::Scope;
use crate::domain::tool::Tool;
use crate::gateway::{DirectoryEntry, Gateway};
use crate::wire::rest::schema;

/// Servers on one page.
const PAGE: usize = 100;

/// Which page: `first` servers behind the one whose id is `after`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    first: Option<usize>,
    after: Option<String>,
}

#[utoipa::path(
    get, path = "/api/mcp/v1/servers", operation_id = "servers", tag = "Directory", summary = "The registered servers",
    description = "Those of which the key's profile opens anything, with the tools that it may see.",
    params(
        ("first" = Option<u32>, Query, description = "Servers on the page", minimum = 1, maximum = 100, nullable = false),
        ("after" = Option<String>, Query, description = "The page behind this id", nullable = false),
    ),
    responses((status = 200, description = "A page of them", body = schema::ServerList))
)]
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, Params(page): Params<Page>) -> Response {
    if let Err(refused) = enter(&gateway, &caller, Scope::ToolsRead) {
        return *refused;
    }
    let first = page.first.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&first) {
        return plain(StatusCode::BAD_REQUEST, "invalid_request", &format!("`first` is a number from 1 to {PAGE}"));
    }
    let mut entries = gateway.directory(&caller.principal);
    entries.sort_by_cached_key(id);
    if let Some(after) = &page.after {
        entries.retain(|entry| id(entry) > *after);
    }
    let more = entries.len() > first;
    entries.truncate(first);
    let servers: Vec<Value> = entries.iter().map(|entry| view(entry, false)).collect();
    let last = entries.last().map(id);
    Json(json!({"servers": servers, "pageInfo": {"endCursor": last, "hasNextPage": more}})).into_response()
}

#[utoipa::path(
    get, path = "/api/mcp/v1/servers/{namespace}/{name}", operation_id = "server", tag = "Directory", summary = "One registered server",
    params(
        ("namespace" = String, Path, description = "From the configuration; `local` unless set", example = "local"),
        ("name" = String, Path, description = "The server's name", example = "github"),
    ),
    responses((status = 200, description = "The server, with the schemas of its tools", body = schema::ServerEntry))
)]
/// A server with the schemas of its tools. One that the profile does not open and one that is not there are the same.
pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments((namespace, name)): Segments<(String, String)>,
) -> Response {
    if let Err(refused) = enter(&gateway, &caller, Scope::ToolsRead) {
        return *refused;
    }
    let entries = gateway.directory(&caller.principal);
    let named = |entry: &&DirectoryEntry| entry.settings.namespace == namespace && entry.settings.name.as_str() == name;
    match entries.iter().find(named) {
        Some(entry) => Json(view(entry, true)).into_response(),
        None => plain(StatusCode::NOT_FOUND, "not_found", "there is no such server"),
    }
}

fn id(entry: &DirectoryEntry) -> String {
    format!("{}/{}", entry.settings.namespace, entry.settings.name)
}

fn view(entry: &DirectoryEntry, schemas: bool) -> Value {
    let DirectoryEntry { settings, title, state, stale, tools } = entry;
    let transport = settings.transport.kind();
    json!({
        "id": id(entry),
        "namespace": settings.namespace,
        "name": settings.name,
        "slug": settings.name,
        "title": title,
        "description": settings.description,
        "transport": transport,
        "state": state,
        "stale": stale,
        "attributes": [if transport == "stdio" { "hosting:local-only" } else { "hosting:remote-capable" }],
        "tools": tools.iter().map(|tool| tool_view(tool, schemas)).collect::<Vec<_>>(),
    })
}

fn tool_view(tool: &Tool, schema: bool) -> Value {
    let mut view = json!({
        "id": tool.id,
        "name": tool.id.tool,
        "title": tool.title,
        "description": tool.description,
        "risk": tool.risk,
    });
    if let (true, Some(members)) = (schema, view.as_object_mut()) {
        members.insert("inputSchema".into(), Value::clone(&tool.input_schema));
    }
    view
}
