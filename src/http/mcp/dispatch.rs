//! One message to one answer, method by method.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::pages::page;
use super::{Asked, SESSION, approval, call, failure, stream, tasks, told};
use crate::domain::call::ToolRef;
use crate::domain::json::Json;
use crate::domain::outcome::Refusal;
use crate::domain::tool::Kind;
use crate::gateway::{Gateway, ListKind};
use crate::wire::envelope::{Id, Message, call_params};
use crate::wire::era::{Era, SUPPORTED, negotiate};
use crate::wire::hop::{self, TASKS, client_capabilities};
use crate::wire::mcp::{SERVER_INFO, own_result};
use crate::wire::rpc::{self, RpcError};

/// How long a modern client may keep a list: short, since not every client comes back when a stream drops.
const LIST_TTL: [(&str, &str); 2] = [("ttlMs", "30000"), ("cacheScope", "\"private\"")];
const LIST_TTL_MS: u64 = 30_000;
const INSTRUCTIONS: &str = "Toolgate stands in front of many MCP servers. Find a tool with gateway_search_tools, call it \
                            with gateway_invoke (server, tool, arguments). A call that policy denies says why; \
                            policy.simulate tells beforehand.";

pub(super) async fn answer(
    gateway: Arc<Gateway>,
    asked: Box<Asked>,
    message: Message,
    headers: &HeaderMap,
) -> Response {
    match message {
        Message::Request { id, method, params } => request(gateway, asked, id, (&method, headers), params).await,
        Message::Notification { method, params } => {
            if method == "notifications/cancelled" {
                cancel(&gateway, &asked, params.as_ref());
            }
            StatusCode::ACCEPTED.into_response()
        }
        Message::Response { .. } => StatusCode::ACCEPTED.into_response(),
    }
}

/// Only a legacy client cancels by message; a modern one closes its stream.
pub(super) fn cancel(gateway: &Gateway, asked: &Asked, params: Option<&Json>) {
    let cancelled = hop::member(params, "requestId").as_ref().and_then(Id::of);
    if let (Era::Legacy, Some(session), Some(cancelled)) = (asked.era, told::session_name(asked), cancelled) {
        gateway.inflight().cancel(&session, &cancelled.plain());
    }
}

async fn request(
    gateway: Arc<Gateway>,
    mut asked: Box<Asked>,
    id: Id,
    (method, headers): (&str, &HeaderMap),
    params: Option<Json>,
) -> Response {
    asked.approval = match approval::read(&gateway, &asked, method, params.as_ref(), true) {
        Ok(approval) => approval,
        Err(message) => {
            let refused = Refusal::InvalidRequest { message: message.into() };
            return told::uncalled(&gateway, &asked, &id, told::kind_of(method), None, refused).await;
        }
    };
    match method {
        "tools/call" => call::answer(gateway, asked, id, params, headers).await,
        // What is rarer has its room apart, so that a call of a tool need not have it.
        "prompts/get" => Box::pin(prompt(gateway, asked, id, params.as_ref())).await,
        "resources/read" => Box::pin(resource(gateway, asked, id, params.as_ref())).await,
        _ => Box::pin(aside(gateway, asked, id, method, params)).await,
    }
}

/// Answers what is no call.
async fn aside(gateway: Arc<Gateway>, asked: Box<Asked>, id: Id, method: &str, params: Option<Json>) -> Response {
    let bare = !asked.host;
    if bare && let Err(refusal) = gateway.charge_request(&asked.principal) {
        return told::over_limit(&id, &refusal);
    }
    match (asked.era, method) {
        (Era::Legacy, "initialize") => initialize(&gateway, &asked, &id, params.as_ref()),
        (Era::Legacy, "ping" | "logging/setLevel") => reply(&id, &asked, &json!({}), &[]),
        (Era::Modern, "server/discover") => reply(&id, &asked, &discovery(&gateway, &asked), &LIST_TTL),
        (Era::Modern, "tasks/get" | "tasks/update" | "tasks/cancel") if gateway.offers_tasks(&asked.principal) => {
            tasks::answer(&gateway, &asked, &id, method, params.as_ref()).await
        }
        (Era::Modern, "subscriptions/listen") if tasks::listens(params.as_ref()) && !tasks::declared(&asked) => {
            failure(Some(&id), &tasks::undeclared())
        }
        (Era::Modern, "subscriptions/listen") => stream::of_subscription(gateway, asked, &id, params.as_ref()).await,
        (_, "tools/list") => tools(&gateway, &asked, &id, params.as_ref()),
        (_, "prompts/list") => list(&gateway, &asked, &id, params.as_ref(), ListKind::Prompts).await,
        (_, "resources/list") => list(&gateway, &asked, &id, params.as_ref(), ListKind::Resources).await,
        (_, "resources/templates/list") => list(&gateway, &asked, &id, params.as_ref(), ListKind::Templates).await,
        (Era::Modern, _) => failure(Some(&id), &unknown(404, method)),
        (Era::Legacy, _) => failure(Some(&id), &unknown(200, method)),
    }
}

pub(super) fn unknown(status: u16, method: &str) -> RpcError {
    let method: String = method.chars().take(100).collect();
    RpcError::new(status, -32601, format!("method `{method}` is not known"))
}

fn reply(id: &Id, asked: &Asked, result: &Value, extra: &[(&str, &str)]) -> Response {
    let result = own_result(&Json::of(result), asked.era, extra);
    super::json(StatusCode::OK, rpc::result(id, &result))
}

/// Lists that are always empty never change.
fn capabilities(gateway: &Gateway, asked: &Asked) -> Value {
    let direct = gateway.shows_servers(&asked.principal, asked.listing());
    let readable = if direct { json!({"listChanged": true}) } else { json!({}) };
    // A legacy session has no server of its own here that it could follow resources of.
    let resources = match asked.era {
        Era::Modern if direct => json!({"listChanged": true, "subscribe": true}),
        _ => readable.clone(),
    };
    json!({"tools": {"listChanged": true}, "prompts": readable, "resources": resources})
}

fn discovery(gateway: &Gateway, asked: &Asked) -> Value {
    let mut capabilities = capabilities(gateway, asked);
    if let (true, Some(members)) = (gateway.offers_tasks(&asked.principal), capabilities.as_object_mut()) {
        members.insert("extensions".into(), json!({TASKS: {}}));
    }
    json!({"supportedVersions": SUPPORTED, "capabilities": capabilities, "instructions": INSTRUCTIONS})
}

/// What a client says in `initialize`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hello {
    pub(super) protocol_version: Option<String>,
    #[serde(default)]
    pub(super) capabilities: serde_json::Map<String, Value>,
}

/// Reads the params of `initialize`.
///
/// # Errors
/// 400 where they are malformed.
pub(super) fn hello(params: Option<&Json>) -> Result<Hello, RpcError> {
    let malformed = |_| RpcError::new(400, -32602, "`params` of `initialize` are malformed");
    params.map_or_else(|| Ok(Hello::default()), |params| params.decode().map_err(malformed))
}

fn initialize(gateway: &Gateway, asked: &Asked, id: &Id, params: Option<&Json>) -> Response {
    let hello = match hello(params) {
        Ok(hello) => hello,
        Err(error) => return failure(Some(id), &error),
    };
    let version = negotiate(hello.protocol_version.as_deref());
    let declared = client_capabilities(Some(&Value::Object(hello.capabilities)), Era::Legacy);
    let session = gateway.begin_session(&asked.principal, version, declared);
    let server: Value = serde_json::from_str(SERVER_INFO).unwrap_or_default();
    let result = json!({"protocolVersion": version, "capabilities": capabilities(gateway, asked), "serverInfo": server, "instructions": INSTRUCTIONS});
    let mut response = reply(id, asked, &result, &[]);
    if let Some(value) = session.and_then(|session| HeaderValue::from_str(&session).ok()) {
        response.headers_mut().insert(SESSION, value);
    }
    response
}

/// Lists are one page, so that no cursor is ours.
fn cursor_is_ours(params: Option<&Json>) -> bool {
    #[derive(serde::Deserialize)]
    struct Page {
        cursor: Option<Value>,
    }
    params.is_none_or(|params| params.decode::<Page>().is_ok_and(|page| page.cursor.is_none()))
}

fn bad_cursor(id: &Id) -> Response {
    failure(Some(id), &RpcError::new(200, -32602, "`cursor` is not one of this list's"))
}

fn tools(gateway: &Gateway, asked: &Asked, id: &Id, params: Option<&Json>) -> Response {
    if !cursor_is_ours(params) {
        return bad_cursor(id);
    }
    let tools = gateway.tools(&asked.principal, asked.listing());
    let result = Json::from_parts(format!("{{\"tools\":{}}}", tools.as_str()));
    let mut response = Response::new(Body::from(rpc::result(id, &own_result(&result, asked.era, &LIST_TTL))));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn list(gateway: &Gateway, asked: &Asked, id: &Id, params: Option<&Json>, kind: ListKind) -> Response {
    let shown = gateway.shown_items(&asked.principal, asked.listing(), kind, asked.jwt.as_ref()).await;
    let page = match page(params, &shown.items) {
        Ok(page) => page,
        Err(error) => return failure(Some(id), &error),
    };
    let result = Json::from_parts(format!("{{\"{}\":{page}}}", kind.method().1));
    let ttl = shown.ttl_ms.unwrap_or(LIST_TTL_MS).min(LIST_TTL_MS).to_string();
    let result = own_result(&result, asked.era, &[("ttlMs", &ttl), ("cacheScope", "\"private\"")]);
    super::json(StatusCode::OK, rpc::result(id, &result))
}

/// A prompt of one of the servers, under the name by which it is listed.
async fn prompt(gateway: Arc<Gateway>, mut asked: Box<Asked>, id: Id, params: Option<&Json>) -> Response {
    let (name, arguments) = match call_params(params) {
        Ok(call) => (call.name, call.arguments),
        Err(message) => {
            let refused = Refusal::InvalidRequest { message };
            return told::uncalled(&gateway, &asked, &id, Kind::Prompt, None, refused).await;
        }
    };
    let refused = match charge(&gateway, &mut asked) {
        Ok(()) => match gateway.listed_prompt(&asked.principal, asked.listing(), &name).await {
            Some(prompt) => return call::plain(gateway, asked, id, prompt, arguments).await,
            None => Refusal::UnknownPrompt { name: name.clone() },
        },
        Err(over_limit) => over_limit,
    };
    let nowhere = ToolRef::Prompt { server: String::new(), name };
    told::uncalled(&gateway, &asked, &id, Kind::Prompt, Some(nowhere), refused).await
}

/// A resource of one of the servers.
async fn resource(gateway: Arc<Gateway>, mut asked: Box<Asked>, id: Id, params: Option<&Json>) -> Response {
    let uri = named(params, "uri");
    let refused = match charge(&gateway, &mut asked) {
        Ok(()) => match gateway.listed_resource(&asked.principal, asked.listing(), &uri).await {
            Some(resource) => return call::plain(gateway, asked, id, resource, None).await,
            None => Refusal::UnknownResource { uri: uri.clone() },
        },
        Err(over_limit) => over_limit,
    };
    let nowhere = ToolRef::Resource { server: String::new(), uri };
    told::uncalled(&gateway, &asked, &id, Kind::Resource, Some(nowhere), refused).await
}

/// Charges a request before it is known what it names: to find that out is work at the servers.
fn charge(gateway: &Gateway, asked: &mut Asked) -> Result<(), Refusal> {
    asked.charged = true;
    gateway.charge_request(&asked.principal)
}

/// The member of the params that says what is asked for.
fn named(params: Option<&Json>, member: &str) -> String {
    let name = params.map(Json::value).and_then(|params| params.get(member)?.as_str().map(str::to_owned));
    name.unwrap_or_default()
}
