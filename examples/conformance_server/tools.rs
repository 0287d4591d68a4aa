//! The tools that answer by themselves, and the way to those that ask or become tasks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, LoggingLevel,
    LoggingMessageNotificationParam, ProgressNotificationParam, ResourceContents,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use crate::ask::{self, is_modern, lacking};
use crate::contents::{PNG, WAV};
use crate::fixture::Session;
use crate::shared::{Change, Shared};
use crate::tasks;

/// What a call ends with.
pub(crate) type Answer = Result<CallToolResponse, ErrorData>;

/// A call, and what belongs to it.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
    pub(crate) params: CallToolRequestParams,
    pub(crate) context: RequestContext<RoleServer>,
}

impl Call {
    /// The tool's name.
    pub(crate) fn name(&self) -> &str {
        &self.params.name
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.params.arguments.as_ref()?.get(name)
    }

    /// An argument that is a text, empty where there is none.
    pub(crate) fn argument(&self, name: &str) -> &str {
        self.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// An argument that is a number, 0 where there is none.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.value(name).and_then(Value::as_f64).unwrap_or_default()
    }

    /// Whether the client takes tasks.
    pub(crate) fn takes_tasks(&self) -> bool {
        self.context.client_capabilities().is_some_and(|declared| declared.supports_tasks())
    }

    /// The least level that the client wants to be told.
    fn level(&self) -> Option<LoggingLevel> {
        if is_modern(&self.context) {
            return self.context.meta.log_level();
        }
        *self.session.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer of one text.
pub(crate) fn text(text: impl Into<String>) -> CallToolResponse {
    contents(vec![ContentBlock::text(text)])
}

fn contents(contents: Vec<ContentBlock>) -> CallToolResponse {
    CallToolResult::success(contents).into()
}

fn embedded(uri: &str, mime: &str, text: &str) -> ContentBlock {
    ContentBlock::resource(ResourceContents::text(text, uri).with_mime_type(mime))
}

/// Answers a call.
pub(crate) async fn call(call: &Call) -> Answer {
    Ok(match call.name() {
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => contents(vec![ContentBlock::image(PNG, "image/png")]),
        "test_audio_content" => contents(vec![ContentBlock::audio(WAV, "audio/wav")]),
        "test_embedded_resource" => {
            let resource = embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.");
            contents(vec![resource])
        }
        "test_multiple_content_types" => contents(vec![
            ContentBlock::text("Multiple content types test:"),
            ContentBlock::image(PNG, "image/png"),
            embedded("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ]),
        "test_error_handling" => {
            let why = ContentBlock::text("This tool intentionally returns an error for testing");
            CallToolResult::error(vec![why]).into()
        }
        "test_tool_with_logging" | "test_logging_tool" => logging(call).await?,
        "test_tool_with_progress" => progress(call).await?,
        "test_reconnection" => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            text("Reconnection test completed")
        }
        "test_missing_capability" => {
            if call.context.client_capabilities().unwrap_or_default().sampling.is_none() {
                return Err(lacking(json!({"sampling": {}})));
            }
            text("The client declares sampling.")
        }
        "test_trigger_tool_change" => announce(call, Change::Tools),
        "test_trigger_prompt_change" => announce(call, Change::Prompts),
        "test_trigger_resource_change" => announce(call, Change::WatchedResource),
        "test_custom_header" | "json_schema_2020_12_tool" => text(json!(call.params.arguments).to_string()),
        "test_passing_tool" => text("Still here."),
        "greet"
        | "slow_compute"
        | "failing_job"
        | "protocol_error_job"
        | "confirm_delete"
        | "multi_input"
        | "test_tool_with_task" => tasks::call(call).await?,
        _ => ask::call(call).await?,
    })
}

fn announce(call: &Call, change: Change) -> CallToolResponse {
    call.shared.announce(change);
    text("Changed.")
}

async fn logging(call: &Call) -> Answer {
    for (at, message) in
        ["Tool execution started", "Tool processing data", "Tool execution completed"].into_iter().enumerate()
    {
        if at > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if call.level().is_some_and(|least| severity(LoggingLevel::Info) >= severity(least)) {
            let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(message));
            told(call.context.peer.notify_logging_message(message.with_logger("fixture")).await)?;
        }
    }
    Ok(text("Tool with logging executed successfully"))
}

async fn progress(call: &Call) -> Answer {
    for (at, done) in [0.0, 50.0, 100.0].into_iter().enumerate() {
        if at > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if let Some(token) = call.context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, done).with_total(100.0);
            let progress = progress.with_message(format!("Completed step {done} of 100"));
            told(call.context.peer.notify_progress(progress).await)?;
        }
    }
    Ok(text("Tool with progress executed successfully"))
}

fn told(sent: Result<(), rmcp::ServiceError>) -> Result<(), ErrorData> {
    sent.map_err(|error| ErrorData::internal_error(format!("the client cannot be told: {error}"), None))
}

/// From what may be passed over to what may not.
fn severity(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}
