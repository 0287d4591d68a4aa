//! The tools of the tasks extension.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult, InputRequest};
use rmcp::task_manager::{TaskContext, TaskExit, TaskFuture, TaskOptions};
use serde_json::{Value, json};

use crate::ask::{Asked, ask, form, lacking, named};
use crate::tools::{Answer, Call, text};

/// How long a tool may take without a task.
const LONGEST: f64 = 5.0;

/// Answers a call of one of these tools.
pub(crate) async fn call(call: &Call) -> Answer {
    Ok(match call.name() {
        "greet" => {
            let name = Some(call.argument("name")).filter(|name| !name.is_empty()).unwrap_or("World");
            text(format!("Hello, {name}!"))
        }
        "slow_compute" if call.takes_tasks() => slow_compute(call),
        "slow_compute" => {
            tokio::time::sleep(Duration::from_secs_f64(call.number("seconds").clamp(0.0, LONGEST))).await;
            text(computed(call))
        }
        "test_tool_with_task" => asks_first(call).await?,
        _ if !call.takes_tasks() => {
            return Err(lacking(json!({"extensions": {"io.modelcontextprotocol/tasks": {}}})));
        }
        "failing_job" => task(call, |_| {
            Box::pin(async { Ok(CallToolResult::error(vec![ContentBlock::text("the job has failed")])) })
        }),
        "protocol_error_job" => task(call, |_| {
            Box::pin(async { Err(TaskExit::Error(ErrorData::internal_error("the job cannot be done", None))) })
        }),
        "confirm_delete" => {
            let file = call.argument("filename").to_owned();
            task(call, move |running| {
                Box::pin(async move {
                    let confirmed = confirmed(&running, "confirm", &format!("Delete {file}?")).await?;
                    done(format!("{file}: {confirmed}"))
                })
            })
        }
        "multi_input" => task(call, |running| {
            Box::pin(async move {
                let first = confirmed(&running, "first", "The first one?");
                let (first, second) = tokio::try_join!(first, confirmed(&running, "second", "The second one?"))?;
                done(format!("{first}, {second}"))
            })
        }),
        name => return Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None)),
    })
}

fn task(call: &Call, work: impl FnOnce(TaskContext) -> TaskFuture) -> CallToolResponse {
    let options = TaskOptions::new().with_poll_interval_ms(100);
    CreateTaskResult::new(call.shared.tasks.spawn(options, work)).into()
}

fn done(said: String) -> Result<CallToolResult, TaskExit> {
    Ok(CallToolResult::success(vec![ContentBlock::text(said)]))
}

fn computed(call: &Call) -> String {
    format!("Computed `{}` in {} s", call.argument("label"), call.number("seconds"))
}

fn slow_compute(call: &Call) -> CallToolResponse {
    let (time, said) = (Duration::from_secs_f64(call.number("seconds").clamp(0.0, 600.0)), computed(call));
    task(call, move |running| {
        Box::pin(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => done(said),
                () = running.cancelled() => Err(TaskExit::Cancelled),
            }
        })
    })
}

/// Whether the user confirms, asked by the task.
async fn confirmed(running: &TaskContext, key: &str, message: &str) -> Result<bool, TaskExit> {
    let request = form(message, &json!({"confirm": {"type": "boolean"}}), &["confirm"]);
    let request: InputRequest = serde_json::from_value(request)
        .map_err(|error| TaskExit::Error(ErrorData::internal_error(error.to_string(), None)))?;
    let answer = running.request_input(key, request).await?;
    Ok(answer.pointer("/content/confirm").and_then(Value::as_bool).unwrap_or_default())
}

/// Asks before there is a task, then becomes one.
async fn asks_first(call: &Call) -> Answer {
    let question = ("user_name", form("What is your name?", &json!({"name": {"type": "string"}}), &["name"]));
    let name = match ask(&call.context, call.params.input_responses.as_ref(), &[question], None).await? {
        Asked::Answered(answers) => named(&answers, "user_name"),
        Asked::Required(required) => return Ok(CallToolResponse::InputRequired(required)),
    };
    let said = format!("Hello, {name}!");
    if !call.takes_tasks() {
        return Ok(text(said));
    }
    Ok(task(call, move |_| Box::pin(async move { done(said) })))
}
