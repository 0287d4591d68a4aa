//! `/v1/mcps`: the tools that the caller may see, one by one, and a call of one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, json};

use super::super::super::caller::Caller;
use super::super::super::request::with_more_meta;
use super::super::call::{self, Asked};
use super::super::{Segments, enter};
use super::query::{Query, cursor, cut};
use super::{No, data_text, is_empty, page, unresolved};
use crate::domain::call::ToolRef;
use crate::domain::json::Json;
use crate::domain::principal::Scope;
use crate::domain::tool::{Risk, Tool};
use crate::gateway::{Gateway, ToolFilter};
use crate::wire::rest::{shield, shield_schema as schema};

/// The lists that cursors belong to.
const LIST: &str = "mcps";
const SEARCH: &str = "mcps search";

/// A tool as it is told.
#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    server: &'a str,
    name: &'a str,
    title: Option<&'a str>,
    description: &'a str,
    risk: Risk,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    whole: Option<Whole<'a>>,
}

/// What only the details of a tool say; schemas and annotations as the backend wrote them.
#[derive(Serialize, Deserialize)]
struct Whole<'a> {
    #[serde(borrow, rename(deserialize = "inputSchema"))]
    input_schema: Option<&'a RawValue>,
    #[serde(borrow, rename(deserialize = "outputSchema"))]
    output_schema: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[utoipa::path(
    get, path = "/v1/mcps", operation_id = "tools", tag = "Directory", summary = "The tools that the key may see",
    params(
        ("limit" = Option<u32>, Query, description = "Items on the page", minimum = 1, maximum = 200, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", nullable = false),
        ("server" = Option<String>, Query, description = "Only tools of this server", nullable = false),
        ("risk" = Option<schema::ToolRisk>, Query, description = "Only tools of this risk", nullable = false),
        ("q" = Option<String>, Query, description = "Words that the tools are found by, best first", nullable = false),
    ),
    responses((status = 200, description = "A page of them, by id", body = schema::ToolPage))
)]
/// `GET /v1/mcps`: by id, or by words, best first.
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, uri: Uri) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::ToolsRead)?;
    let query = Query::read(&uri, &["limit", "cursor", "server", "risk", "q"])?;
    let limit = query.limit()?;
    let risk = query.parsed("risk", "one of `read`, `write`, `destructive`", Risk::parse)?;
    let filter = ToolFilter { server: query.text("server").map(str::to_owned), risk };
    let (items, next) = match query.text("q") {
        Some(words) => {
            // The order is that of the answer: a place in it is a number.
            let from = query.place(SEARCH)?.unwrap_or(0);
            let found = gateway.found_tools(&caller.principal, &filter, words);
            let items: Vec<Json> =
                found.iter().skip(from).take(limit).map(|(tool, score)| view(tool, Some(*score), false)).collect();
            let end = from.saturating_add(items.len());
            (items, (end < found.len()).then(|| cursor(SEARCH, &end.to_string())))
        }
        None => {
            let mut tools = gateway.shown_tools(&caller.principal, &filter);
            if let Some(after) = query.place::<String>(LIST)? {
                tools.retain(|tool| place(tool) > after);
            }
            let (tools, next) = cut(tools, limit, LIST, |tool| place(tool));
            (tools.iter().map(|tool| view(tool, None, false)).collect(), next)
        }
    };
    let items: Vec<&str> = items.iter().map(Json::as_str).collect();
    Ok(page(&items, limit, next.as_deref(), Map::new()))
}

/// Orders as ids do: by server, then by name.
fn place(tool: &Tool) -> String {
    format!("{}\0{}", tool.id.server, tool.id.tool)
}

fn view(tool: &Tool, score: Option<f32>, whole: bool) -> Json {
    let round = |score: f32| (f64::from(score) * 1000.0).round() / 1000.0;
    Json::of(&View {
        id: &tool.label,
        server: tool.id.server.as_str(),
        name: &tool.id.tool,
        title: tool.title.as_deref(),
        description: &tool.description,
        risk: tool.risk,
        score: score.map(round),
        whole: whole.then(|| serde_json::from_slice(tool.definition.bytes()).ok()).flatten(),
    })
}

#[utoipa::path(
    get, path = "/v1/mcps/{id}", operation_id = "tool", tag = "Directory", summary = "One tool with its schemas",
    params(("id" = String, Path, description = "`server:tool`", example = "github:list_repos")),
    responses((status = 200, description = "The tool", body = schema::ToolAnswer))
)]
/// `GET /v1/mcps/{id}`: with its schemas. One that the caller may not see is as one that is not there.
pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::ToolsRead)?;
    let tool = gateway.shown_tool(&caller.principal, &id).map_err(|refusal| unresolved(&refusal))?;
    Ok(data_text(view(&tool, None, true).as_str()))
}

#[utoipa::path(
    post, path = "/v1/mcps/{id}/invoke", operation_id = "invoke_tool", tag = "Calls", summary = "Call a tool by its id",
    description = "A tool's own error is a result too, with `meta.is_error`.",
    params(("id" = String, Path, description = "`server:tool`", example = "github:list_repos")),
    request_body = Option<schema::InvokeInput>,
    responses((status = 200, description = "What the tool gave", body = schema::GovernedAnswer))
)]
/// `POST /v1/mcps/{id}/invoke`.
pub(super) async fn invoke(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arguments =
        if is_empty(&headers) { Ok(None) } else { call::read(&gateway, &headers, body, shield::input).await };
    let asked = arguments.map(|arguments| Asked { tool: ToolRef::Text(id), arguments, jwt: None });
    let done = call::carry(&gateway, caller, &headers, asked).await;
    let finished = shield::invoked(&done.carried);
    let meta = finished.is_error.then(|| ("is_error".to_owned(), json!(true)));
    call::answer_with(&done, finished.told, |status, text| with_more_meta(status, text, meta.into_iter().collect()))
}
