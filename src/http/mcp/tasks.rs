//! The extension of tasks on `/v1/mcp`: what its client asks about calls that it does not wait for.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Asked, failure, told};
use crate::domain::id::EventId;
use crate::domain::json::Json;
use crate::domain::outcome::Refusal;
use crate::domain::principal::Principal;
use crate::gateway::{Carrying, Ear, Gateway, TASK_LIFETIME_MS};
use crate::wire::envelope::Id;
use crate::wire::era::Era;
use crate::wire::hop;
use crate::wire::mcp::{begun_task, own_result};
use crate::wire::rpc::{self, RpcError};

/// What makes a task of a call, where its client takes one.
#[derive(Debug)]
pub(super) struct Beginning {
    /// Says that the call takes a while from here.
    pub(super) begun: Arc<Notify>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) principal: Principal,
}

/// Waits for the word that a call takes a while.
pub(super) async fn heard_of(begun: Option<&Notify>) {
    if let Some(begun) = begun {
        begun.notified().await;
    }
}

/// Lets a call go on as a task: its client does not wait, but asks how it goes on.
pub(super) fn begin(
    id: &Id,
    beginning: Option<Box<Beginning>>,
    (event, cancel): (EventId, CancellationToken),
    carrying: Carrying,
    heard: Ear,
) -> Response {
    let begun = beginning.ok_or(Refusal::Internal).and_then(|beginning| {
        beginning.gateway.begin_task(&beginning.principal, event.clone(), cancel, carrying, heard)
    });
    let mut response = match begun {
        Ok(task) => super::json(StatusCode::OK, rpc::result(id, &begun_task(&Json::of(&task), TASK_LIFETIME_MS))),
        Err(refusal) => failure(Some(id), &RpcError::new(200, -32603, refusal.to_string())),
    };
    told::name(&mut response, &event);
    response
}

/// Whether a client says that it knows tasks.
pub(super) fn declared(asked: &Asked) -> bool {
    let capabilities = asked.meta.client_capabilities.as_ref().filter(|_| asked.era == Era::Modern);
    capabilities.is_some_and(|it| it.get("extensions").is_some_and(|all| all.get(hop::TASKS).is_some()))
}

/// The answer to a client that does not.
pub(super) fn undeclared() -> RpcError {
    let required = json!({"requiredCapabilities": {"extensions": {hop::TASKS: {}}}});
    RpcError::new(400, -32021, "the client has not declared the extension of tasks").with(required)
}

/// The name of the task that is asked about.
pub(super) fn named(params: Option<&Json>) -> Option<String> {
    hop::member(params, "taskId").and_then(|name| name.decode().ok())
}

pub(super) fn unknown() -> RpcError {
    RpcError::new(200, -32602, "`params.taskId` is not a task of yours")
}

/// `tasks/get`, `tasks/update` and `tasks/cancel`. No task of the gateway's own asks for anything, so an update is
/// acknowledged and changes nothing.
pub(super) async fn answer(gateway: &Gateway, asked: &Asked, id: &Id, method: &str, params: Option<&Json>) -> Response {
    if !declared(asked) {
        return failure(Some(id), &undeclared());
    }
    let Some(name) = named(params) else { return failure(Some(id), &unknown()) };
    let found = match method {
        "tasks/cancel" => Ok(gateway.cancel_task(&asked.principal, &name).then(|| json!({}))),
        method => {
            let task = gateway.task(&asked.principal, &name).await;
            task.map(|task| if method == "tasks/get" { task } else { task.map(|_| json!({})) })
        }
    };
    match found {
        Ok(Some(result)) => {
            let lifetime = TASK_LIFETIME_MS.to_string();
            // An acknowledgement is of no task, and is not kept.
            let extra = [("ttlMs", &*lifetime)];
            let extra = if result.get("taskId").is_some() { extra.as_slice() } else { &[] };
            let result = own_result(&Json::of(&result), Era::Modern, extra);
            super::json(StatusCode::OK, rpc::result(id, &result))
        }
        Ok(None) => failure(Some(id), &unknown()),
        Err(refusal) => failure(Some(id), &RpcError::new(200, -32603, refusal.to_string())),
    }
}

/// Whether a subscription asks to hear of tasks.
pub(super) fn listens(params: Option<&Json>) -> bool {
    hop::member(hop::member(params, "notifications").as_ref(), "taskIds").is_some()
}
