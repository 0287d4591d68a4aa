//! `POST /api/v1/mcp/invoke`: one tool of one server.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use super::super::caller::{Caller, Stranger};
use super::super::error;
use super::call::{self, Asked};
use crate::domain::call::ToolRef;
use crate::gateway::{Gateway, NotAdmitted};
use crate::wire::rest::invoke::{Invocation, read, refusal, tell};
use crate::wire::rest::schema;

#[utoipa::path(
    post, path = "/api/v1/mcp/invoke", operation_id = "invoke", tag = "Calls", summary = "Call a tool of a server",
    description = "The result is the backend's, byte for byte. A tool's own error is a result too, with `success` false.",
    request_body = schema::InvokeRequest,
    responses((
        status = 200, description = "The tool's result", body = schema::InvokeAnswer,
        example = json!({
            "success": true,
            "result": {"content": [{"type": "text", "text": "done"}]},
            "invocationId": "evt_0192f0c1a2b37c4d8e5f60718293a4b5",
            "governance": {
                "decision": "allow", "policy": "default-allow-read", "dlp_result": "passed",
                "audit_event_id": "evt_0192f0c1a2b37c4d8e5f60718293a4b5",
            },
        })
    ))
)]
pub(super) async fn invoke(
    State(gateway): State<Arc<Gateway>>,
    caller: Result<Caller, Stranger>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let caller = match caller {
        Ok(caller) => caller,
        Err(Stranger(why)) => return call::turned_away(&why, stranger(&why)),
    };
    let asked = call::read(&gateway, &headers, body, read).await.map(|invocation| {
        let Invocation { server, tool, arguments, jwt } = invocation;
        Asked { tool: ToolRef::Pair { server, tool }, arguments, jwt }
    });
    let done = call::carry(&gateway, caller, &headers, asked).await;
    let told = tell(&done.carried);
    call::answer(&done, told)
}

fn stranger(why: &NotAdmitted) -> String {
    refusal(error::code(why), &why.to_string())
}
