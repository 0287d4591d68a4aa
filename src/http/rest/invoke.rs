//! `POST /api/v1/mcp/invoke`: one tool of one server.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use super::super::caller::{Caller, Stranger};
use super::call::{self, Asked};
use crate::domain::call::ToolRef;
use crate::gateway::{Gateway, NotAdmitted};
use crate::wire::rest::invoke::{Invocation, read, refusal, tell};

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
        let Invocation { server, tool, arguments, .. } = invocation;
        Asked { tool: ToolRef::Pair { server, tool }, arguments }
    });
    let done = call::carry(&gateway, caller, &headers, asked).await;
    let told = tell(&done.carried);
    call::answer(&done, told)
}

fn stranger(why: &NotAdmitted) -> String {
    let code = if matches!(why, NotAdmitted::Throttled { .. }) { "rate_limited" } else { "unauthorized" };
    refusal(code, &why.to_string())
}
