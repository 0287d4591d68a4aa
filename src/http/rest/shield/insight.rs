//! `/v1/executions` and `/v1/observability`: what the own tools of these names answer, each a call of one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::super::super::caller::Caller;
use super::super::super::request::with_more_meta;
use super::super::Segments;
use super::super::call::{self, Done};
use super::No;
use super::query::Query;
use crate::domain::json::Json;
use crate::domain::principal::Scope;
use crate::gateway::{EXECUTIONS_LISTED, Gateway};
use crate::wire::rest::{Told, schema as shared, shield, shield_schema as schema};

/// Parameters of the list that are texts, as the own tool names them.
const TEXTS: [&str; 10] =
    ["since", "until", "server", "tool", "decision", "outcome", "key", "agent", "trace_id", "cursor"];
/// Of those, which are one of several words, so that an empty one is wrong.
const WORDS: [&str; 2] = ["decision", "outcome"];
/// Parameters of the summary that are texts.
const WINDOW: [&str; 4] = ["window", "server", "tool", "key"];
const NUMBER: &str = "a whole number";

#[utoipa::path(
    get, path = "/v1/executions", operation_id = "executions", tag = "Audit", summary = "Calls that were made, newest first",
    description = "Who may not read the audit log sees the calls of the same user. A page may be short and have a successor: go \
                   on until `next_cursor` is null.",
    params(
        ("limit" = Option<u32>, Query, description = "Items on the page", minimum = 1, maximum = 100, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", nullable = false),
        ("since" = Option<String>, Query, description = "Not before this time or day, or so long ago", nullable = false, example = "15m"),
        ("until" = Option<String>, Query, description = "Before this time or day, or so long ago", nullable = false),
        ("server" = Option<String>, Query, description = "A server's name", nullable = false),
        ("tool" = Option<String>, Query, description = "A tool's name, or its id", nullable = false),
        ("decision" = Option<shared::Decision>, Query, description = "What was decided", nullable = false),
        ("outcome" = Option<schema::RecordOutcome>, Query, description = "How it ended", nullable = false),
        ("key" = Option<String>, Query, description = "The id of a key", nullable = false),
        ("agent" = Option<String>, Query, description = "The id of an agent", nullable = false),
        ("min_latency_ms" = Option<u64>, Query, description = "Only calls that took at least so long", nullable = false, maximum = 86_400_000),
        ("trace_id" = Option<String>, Query, description = "A W3C trace id", nullable = false),
    ),
    responses((status = 200, description = "A page of them", body = schema::ObjectPage))
)]
/// `GET /v1/executions`.
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, No> {
    let known = [&TEXTS[..], &["limit", "min_latency_ms"]].concat();
    let query = Query::of_call(&gateway, &caller, Scope::TracesRead, &uri, &known);
    let arguments = query.and_then(|query| arguments(&query, &TEXTS, &["limit", "min_latency_ms"]))?;
    let limit = arguments.get("limit").cloned().unwrap_or(json!(EXECUTIONS_LISTED));
    let done = ask(&gateway, caller, &headers, "executions.list", arguments).await;
    Ok(answer(&done, |body, meta| {
        let next = body.get("next_cursor").cloned().unwrap_or_default();
        meta.extend([("limit".to_owned(), limit), ("next_cursor".to_owned(), next)]);
        body.get("executions").cloned().unwrap_or_default()
    }))
}

#[utoipa::path(
    get, path = "/v1/executions/{id}", operation_id = "execution", tag = "Audit", summary = "One call with the tree of what it did",
    params(("id" = String, Path, description = "`evt_…`")),
    responses((status = 200, description = "The call, and its tree", body = schema::ObjectAnswer))
)]
/// `GET /v1/executions/{id}`.
pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    Segments(id): Segments<String>,
) -> Response {
    let arguments = Map::from_iter([("id".to_owned(), json!(id))]);
    let done = ask(&gateway, caller, &headers, "executions.get", arguments).await;
    answer(&done, |body, _| body.clone())
}

#[utoipa::path(
    get, path = "/v1/observability/summary", operation_id = "observability_summary", tag = "Operation",
    summary = "What was called over a window",
    description = "Counts, errors, refusals, limits, latency percentiles by server, tool, key and decision; the history of breakers.",
    params(
        ("window" = Option<String>, Query, description = "How far back: from `1m` to `30d`, `1h` unless set", nullable = false, example = "15m"),
        ("server" = Option<String>, Query, description = "Only this server", nullable = false),
        ("tool" = Option<String>, Query, description = "Only this tool: its name, or its id", nullable = false),
        ("key" = Option<String>, Query, description = "Only the key with this id", nullable = false),
        ("limit" = Option<u32>, Query, description = "Rows of each list", minimum = 1, maximum = 100, nullable = false),
    ),
    responses((status = 200, description = "The figures", body = schema::ObjectAnswer))
)]
/// `GET /v1/observability/summary`.
pub(super) async fn summary(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, No> {
    let known = [&WINDOW[..], &["limit"]].concat();
    let query = Query::of_call(&gateway, &caller, Scope::ObservabilityRead, &uri, &known);
    let arguments = query.and_then(|query| arguments(&query, &WINDOW, &["limit"]))?;
    let done = ask(&gateway, caller, &headers, "observability.summary", arguments).await;
    Ok(answer(&done, |body, _| body.clone()))
}

/// The parameters as the own tool takes them.
fn arguments(query: &Query, texts: &[&str], numbers: &[&str]) -> Result<Map<String, Value>, No> {
    let mut members = Map::new();
    for name in texts {
        let text = if WORDS.contains(name) { query.given(name) } else { query.text(name) };
        members.extend(text.map(|text| ((*name).to_owned(), json!(text))));
    }
    for name in numbers {
        // As far as the description's 64 bits with a sign go.
        let number: Option<i64> = query.parsed(name, NUMBER, |text| text.parse().ok().filter(|number| *number >= 0))?;
        members.extend(number.map(|number| ((*name).to_owned(), json!(number))));
    }
    Ok(members)
}

async fn ask(
    gateway: &Arc<Gateway>,
    caller: Caller,
    headers: &HeaderMap,
    tool: &str,
    arguments: Map<String, Value>,
) -> Done {
    let arguments = Some(Json::of(&Value::Object(arguments)));
    call::ask_own(gateway, caller, headers, tool, Ok(arguments)).await
}

/// The answer of the own tool, of which `shape` makes `data` and what `meta` says besides.
fn answer(done: &Done, shape: impl FnOnce(&Value, &mut Map<String, Value>) -> Value) -> Response {
    let mut meta = Map::new();
    let told = shield::told_as_data(&done.carried);
    let told = match serde_json::from_str::<Value>(&told.body) {
        Ok(body) if told.status == StatusCode::OK.as_u16() => {
            let data = shape(body.get("data").unwrap_or(&Value::Null), &mut meta);
            Told { body: json!({"data": data}).to_string(), ..told }
        }
        _ => told,
    };
    call::answer_with(done, told, |status, text| with_more_meta(status, text, meta))
}
