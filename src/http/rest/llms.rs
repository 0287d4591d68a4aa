//! `/llms.txt`: what an agent has to know of this gateway, and where to read on.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use super::base_url;
use crate::gateway::Gateway;

const TEXT: &str = include_str!("llms.txt");

#[utoipa::path(
    get, path = "/llms.txt", operation_id = "llms", tag = "Operation", summary = "What an agent has to know",
    responses((status = 200, description = "An index of the documentation", body = String, content_type = "text/plain"))
)]
pub(super) async fn text(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let text = TEXT.replace("{base}", &base_url(&gateway, &headers));
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
