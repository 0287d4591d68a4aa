//! Evaluations: suites of test cases, run on the one path.

mod cli;
mod hostile;
mod page;
mod reload;
mod rest;
mod run;
mod scopes;
mod tasks;

use serde_json::{Value, json};

use crate::support::{Client, PROGRAM, Response, Setup};

const CALL: &str = "/api/mcp/call";

/// A suite in the gateway's folder of suites.
fn with_suite(setup: Setup, name: &str, text: &str) -> Setup {
    let folder = setup.folder().join("evals");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
    setup
}

/// The configuration of the demo servers, `github` in this release.
fn demo(release: u8) -> String {
    let server = |name: &str, more: &str| {
        format!("[servers.{name}]\ncommand = \"{PROGRAM}\"\nargs = [\"demo-server\", \"{name}\"{more}]\n")
    };
    server("github", &format!(", \"--release\", \"{release}\"")) + &server("database", "")
}

/// A call as the page of the evaluations' API has it.
async fn call(client: &Client, tool: &str, arguments: &Value) -> Response {
    client.post(CALL).json(&json!({"tool": tool, "arguments": arguments})).send().await
}

/// What a call answers that succeeds.
async fn told(client: &Client, tool: &str, arguments: &Value) -> Value {
    let answer = call(client, tool, arguments).await;
    assert_eq!(answer.status, 200, "{tool}: {}", answer.text);
    let content = answer.json()["content"].clone();
    assert_eq!(content.as_array().map(Vec::len), Some(1), "{}", answer.text);
    assert_eq!(content[0]["type"], "json", "{}", answer.text);
    content[0]["json"].clone()
}

/// Runs a suite and gives what is kept of the run.
async fn run(gateway: &crate::support::TestGateway, client: &Client, id: u64) -> Value {
    let run = told(client, "eval.run.create", &json!({"evaluationId": id})).await;
    let command = toolgate::gateway::EvalsCommand::Runs { suite: id.to_string(), limit: 1 };
    let runs = gateway.control(toolgate::gateway::control::Command::Evals(command)).await;
    let kept = runs["runs"][0].clone();
    assert_eq!((&kept["id"], &kept["score"]), (&run["runId"], &run["score"]));
    kept
}

/// The cases of a run that have failed, each with its first reason.
fn failures(run: &Value) -> Vec<(String, String)> {
    let cases = run["cases"].as_array().unwrap().iter().filter(|case| case["passed"] == false);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    cases.map(|case| (text(&case["name"]), text(&case["reasons"][0]))).collect()
}
