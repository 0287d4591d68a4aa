//! `GET /api/mcp/tools`: what is public, for everybody. `POST /api/mcp/call`: any tool by its name, with a key.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::super::caller::{Caller, Stranger};
use super::super::error;
use super::super::request::Named;
use super::call::{self, Asked};
use crate::domain::call::ToolRef;
use crate::domain::id::RequestId;
use crate::gateway::{Gateway, NotAdmitted};
use crate::wire::rest::{schema, tools as wire};

#[utoipa::path(
    get, path = "/api/mcp/tools", operation_id = "public_tools", tag = "Directory", summary = "Tools that are listed without a key",
    responses((status = 200, description = "Those marked public", body = schema::ToolList))
)]
pub(super) async fn list(State(gateway): State<Arc<Gateway>>) -> Response {
    let tools = gateway.public_tools();
    let named = tools.iter().map(|(name, tool)| (Cow::Borrowed(name.as_ref()), &**tool));
    call::json(StatusCode::OK, wire::list(named))
}

#[utoipa::path(
    post, path = "/api/mcp/call", operation_id = "call", tag = "Calls", summary = "Call a tool by its name",
    description = "Text stays text; structured content and every other block become `json`. A tool's own error is 502, `TOOL_ERROR`.",
    request_body = schema::ToolCallRequest,
    responses((
        status = 200, description = "The tool's result", body = schema::ToolCallAnswer,
        example = json!({
            "ok": true,
            "content": [{"type": "json", "json": {"score": 85}}],
            "governance": {
                "decision": "allow", "policy": "default-allow-read", "dlp_result": "passed",
                "audit_event_id": "evt_0192f0c1a2b37c4d8e5f60718293a4b5",
            },
        })
    ))
)]
pub(super) async fn call(
    State(gateway): State<Arc<Gateway>>,
    Named(request): Named,
    caller: Result<Caller, Stranger>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let caller = match caller {
        Ok(caller) => caller,
        Err(Stranger(why)) => return call::turned_away(&why, stranger(&why, &request)),
    };
    let asked = call::read(&gateway, &headers, body, wire::read).await;
    let asked = asked.map(|call| Asked { tool: ToolRef::Text(call.tool), arguments: Some(call.arguments), jwt: None });
    let done = call::carry(&gateway, caller, &headers, asked).await;
    let told = wire::tell(&done.carried, &done.id);
    call::answer(&done, told)
}

fn stranger(why: &NotAdmitted, request: &RequestId) -> String {
    wire::refusal(&error::code(why).to_ascii_uppercase(), &why.to_string(), request)
}
