//! The local command line's door: one path on a socket that only the owner can open.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;

use crate::gateway::Gateway;
use crate::gateway::control::Command;

/// Where commands are posted.
pub const PATH: &str = "/control";

/// Where the gateway says under which URL it serves.
pub const URL_PATH: &str = "/url";

/// Bytes of a command: a batch of an import.
const MAX_BODY: usize = 64 << 20;

/// The router of the socket of a gateway that serves at `url`.
pub fn router(gateway: Arc<Gateway>, url: String) -> Router {
    Router::new()
        .route(PATH, post(command))
        .route(URL_PATH, get(move || async { url }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(gateway)
}

async fn command(State(gateway): State<Arc<Gateway>>, Json(command): Json<Command>) -> Response {
    match gateway.control(command).await {
        Ok(answer) => Json(answer).into_response(),
        Err(failed) => (StatusCode::UNPROCESSABLE_ENTITY, Json(failed)).into_response(),
    }
}
