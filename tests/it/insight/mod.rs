//! Looking back at what happened: calls one by one, what they come to.

mod executions;
mod rest;
mod retuned;
mod sight;
mod summary;
mod telemetry;

use serde_json::Value;
use toolgate::gateway::NewKey;

use crate::support::{Client, Response, TestGateway};

const LIST: &str = "executions.list";
const GET: &str = "executions.get";

/// The structure of an own tool's answer.
fn structure(answer: &Response) -> Value {
    answer.result()["structuredContent"].clone()
}

/// What an own tool answers at the command line.
async fn at_the_command_line(gateway: &TestGateway, tool: &str, arguments: &Value) -> Value {
    let command =
        toolgate::gateway::control::Command::Call { tool: format!("toolgate:{tool}"), arguments: arguments.clone() };
    gateway.control(command).await["result"]["structuredContent"].clone()
}

fn audit_id(answer: &Response) -> String {
    answer.header("toolgate-audit-id").unwrap().to_owned()
}

async fn listed(client: &Client, arguments: &Value) -> Vec<Value> {
    structure(&client.call(LIST, arguments).await)["executions"].as_array().unwrap().clone()
}

fn ids(calls: &[Value]) -> Vec<String> {
    calls.iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect()
}

/// A key with the profile `operator`, which may read the audit log.
async fn operator(gateway: &TestGateway) -> Client {
    gateway.client(&gateway.writer("operator").await)
}

/// A writer of this user.
fn of_user(user: &str, profile: &str) -> NewKey {
    NewKey {
        name: "k".into(),
        profile: profile.into(),
        user: user.into(),
        roles: vec!["writer".into()],
        ..NewKey::default()
    }
}
