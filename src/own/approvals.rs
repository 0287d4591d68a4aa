//! `approvals.list` and `approvals.get`: calls that wait for a person, and what became of them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Description, arguments};
use crate::approvals::Viewer;
use crate::domain::approval::ApprovalState;
use crate::domain::id::ApprovalId;
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::Scope;
use crate::domain::tool::Hints;
use crate::pipeline::{OwnTool, Pipeline, State, own_answer};
use crate::policy::PermittedCall;
use crate::store::StoreError;

pub(super) const LIST: &str = "approvals.list";
pub(super) const GET: &str = "approvals.get";
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;
const HINTS: Hints = Hints { read_only: Some(true), open_world: Some(false), destructive: None, idempotent: None };

pub(super) fn list() -> OwnTool {
    Description {
        name: LIST,
        title: LIST,
        description: "List calls that wait for a person's approval, and those decided, newest first.",
        scope: Scope::ApprovalsRead,
        hints: HINTS,
        input_schema: json!({
            "type": "object",
            "properties": {
                "state": {"type": "string", "enum": ApprovalState::ALL.map(ApprovalState::as_str), "description": "Only these"},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT, "description": "Most on a page"},
                "cursor": {"type": "string", "description": "next_cursor of the page before"},
            },
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

pub(super) fn get() -> OwnTool {
    Description {
        name: GET,
        title: GET,
        description: "Show one approval: its state, who decided, and what to do next.",
        scope: Scope::ApprovalsRead,
        hints: HINTS,
        input_schema: json!({
            "type": "object",
            "properties": {"id": {"type": "string", "description": "apr_…"}},
            "required": ["id"],
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

#[derive(Deserialize)]
struct Page {
    state: Option<ApprovalState>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A store that cannot be read: the reason is the log's.
fn unread(error: &StoreError) -> Refusal {
    tracing::error!(%error, "approvals could not be read");
    Refusal::Internal
}

pub(super) async fn run_list(pipeline: &Pipeline, state: &Arc<State>, call: &PermittedCall) -> Result<Answer, Refusal> {
    let page: Page = arguments(call)?;
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let before = page.cursor.as_deref().map(ApprovalId::from);
    let viewer = Viewer::Holder(call.principal());
    let found = pipeline.approvals.page(viewer, page.state, before, limit, &state.settings).await;
    let (approvals, next) = found.map_err(|error| unread(&error))?;
    let line = |approval: &Value| {
        let text = |name: &str| approval.get(name).and_then(Value::as_str).unwrap_or_default();
        format!(
            "{} {}: {} for {}, until {}",
            text("id"),
            text("state"),
            text("tool"),
            text("agent"),
            text("expires_at")
        )
    };
    let lines: Vec<String> = approvals.iter().map(line).collect();
    let text = if lines.is_empty() { "There are no such approvals.".to_owned() } else { lines.join("\n") };
    Ok(own_answer(&text, &json!({"approvals": approvals, "next_cursor": next})))
}

pub(super) async fn run_get(pipeline: &Pipeline, state: &Arc<State>, call: &PermittedCall) -> Result<Answer, Refusal> {
    #[derive(Deserialize)]
    struct One {
        id: String,
    }
    let One { id } = arguments(call)?;
    let id = ApprovalId::from(id.as_str());
    let found = pipeline.approvals.one(Viewer::Holder(call.principal()), &id, &state.settings).await;
    let found = found.map_err(|error| unread(&error))?;
    let approval = found.ok_or_else(|| Refusal::NotFound { message: format!("there is no approval `{id}`") })?;
    let text = |name: &str| approval.get(name).and_then(Value::as_str).unwrap_or_default();
    let summary =
        format!("{} is {}: {} for {}. {}.", text("id"), text("state"), text("tool"), text("agent"), text("next"));
    Ok(own_answer(&summary, &approval))
}
