//! `toolgate tools`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::Need;
use super::{Common, Ended, ask, print};
use crate::gateway::control;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List every tool
    List,
    /// Find tools by what they do
    Search {
        query: String,
        #[arg(long, default_value_t = 8)]
        limit: usize,
        /// Only tools of this server
        #[arg(long)]
        server: Option<String>,
    },
    /// Call a tool as the machine's owner, on the path that every call takes
    Call {
        /// server:tool
        id: String,
        /// The tool's arguments
        #[arg(long, default_value = "{}", value_name = "JSON")]
        args: String,
    },
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::List => {
            let answer = ask::ask(common, Need::Backends, control::Command::ToolsList).await?;
            if common.json {
                print::json(&answer);
            } else {
                let row = |tool: &Value| {
                    let description = print::text(tool, "description");
                    let line = description.lines().next().unwrap_or_default().chars().take(80).collect();
                    vec![print::text(tool, "id"), print::text(tool, "risk"), line]
                };
                print::table(&["id", "risk", "description"], print::list(&answer, "tools").iter().map(row));
            }
            Ok(Ended::Well)
        }
        Command::Search { query, limit, server } => {
            let mut arguments = json!({"query": query, "limit": limit});
            if let (Some(server), Some(members)) = (server, arguments.as_object_mut()) {
                members.insert("server".into(), json!(server));
            }
            call(common, "toolgate:gateway_search_tools".into(), arguments).await
        }
        Command::Call { id, args } => {
            let arguments = parse(&args)?;
            call(common, id, arguments).await
        }
    }
}

/// The arguments of a call: an object.
pub(super) fn parse(text: &str) -> anyhow::Result<Value> {
    let value: Value = serde_json::from_str(text).map_err(|error| anyhow::anyhow!("`--args` is not JSON: {error}"))?;
    anyhow::ensure!(value.is_object(), "`--args` must be a JSON object");
    Ok(value)
}

async fn call(common: &Common, tool: String, arguments: Value) -> anyhow::Result<Ended> {
    let answer = ask::ask(common, Need::Backends, control::Command::Call { tool, arguments }).await?;
    show(common, &answer);
    Ok(ended(&answer))
}

/// What an own tool answers to the machine's owner: its structure and its text.
///
/// # Errors
/// What it says where it does not.
pub(super) async fn own(common: &Common, need: Need, tool: &str, arguments: Value) -> anyhow::Result<(Value, String)> {
    let command = control::Command::Call { tool: format!("toolgate:{tool}"), arguments };
    answered(&ask::ask(common, need, command).await?)
}

/// The structure and the text in the answer of an own tool.
///
/// # Errors
/// What it says where it does not answer.
pub(super) fn answered(answer: &Value) -> anyhow::Result<(Value, String)> {
    let result = answer.get("result").cloned().unwrap_or_default();
    let texts = print::list(&result, "content").iter().map(|block| print::text(block, "text"));
    let text = texts.collect::<Vec<_>>().join("\n");
    match result.get("structuredContent") {
        Some(structured) if print::text(answer, "ended") == "answered" => Ok((structured.clone(), text)),
        _ => {
            let error = answer.get("error").map(|error| print::text(error, "message")).unwrap_or_default();
            let said = [error, text].into_iter().find(|said| !said.is_empty());
            anyhow::bail!("{}", print::clean(&said.unwrap_or_else(|| "the gateway did not answer".into())))
        }
    }
}

pub(super) fn show(common: &Common, answer: &Value) {
    if common.json {
        print::json(answer);
        return;
    }
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        print::note(&format!("error: {}", print::clean(&print::text(error, "message"))));
        for near in error.get("data").map(|data| print::list(data, "nearest")).unwrap_or_default() {
            print::note(&format!("  did you mean {}?", near.as_str().unwrap_or_default()));
        }
    }
    let result = answer.get("result").cloned().unwrap_or_default();
    for block in print::list(&result, "content") {
        match block.get("text").and_then(Value::as_str) {
            Some(text) => print::line(&print::clean(text)),
            None => print::json(block),
        }
    }
}

/// The exit code of a call: 2 where policy denied it, 3 where it needs approval.
pub(super) fn ended(answer: &Value) -> Ended {
    match print::text(answer, "ended").as_str() {
        "answered" => Ended::Well,
        "policy_denied" => Ended::Denied,
        "approval_required" => Ended::ApprovalNeeded,
        _ => Ended::Wrong,
    }
}
