//! A run as a task: its client asks how it goes on, and has the result when it has ended.

use std::sync::Arc;

use serde_json::{Value, json};

use super::with_suite;
use crate::support::{Client, FakeUpstream, Program, Response, Say, Setup, eventually};

const TASKS: &str = "io.modelcontextprotocol/tasks";
const SUITE: &str = "id = 7\nname = \"slow\"\nconcurrency = 1\n[[cases]]\nname = \"one\"\ntool = \"up:read\"\n\
                     [[cases]]\nname = \"two\"\ntool = \"up:write\"\n";

fn knows_tasks() -> Value {
    json!({"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}})
}

/// A call by a client that knows tasks.
async fn begin(client: &Client, name: &str, arguments: &Value) -> Response {
    client.modern().rpc("tools/call", &json!({"name": name, "arguments": arguments, "_meta": knows_tasks()})).await
}

async fn begun(client: &Client) -> Value {
    let task = begin(client, "eval_run_create", &json!({"evaluationId": 7})).await.result();
    assert_eq!((&task["resultType"], &task["status"]), (&json!("task"), &json!("working")), "{task}");
    assert!(task["ttlMs"].is_u64() && task["pollIntervalMs"].is_u64() && task["createdAt"].is_string(), "{task}");
    task
}

async fn about(client: &Client, method: &str, task: &Value) -> Response {
    let params = json!({"taskId": task["taskId"], "_meta": knows_tasks()}).to_string();
    client.modern().request(method, &params).header("mcp-name", task["taskId"].as_str().unwrap()).send().await
}

/// The task, once it stands so.
async fn comes_to(client: &Client, task: &Value, status: &str) -> Value {
    eventually(status, async || {
        let seen = about(client, "tasks/get", task).await.result();
        assert_eq!((&seen["taskId"], &seen["resultType"]), (&task["taskId"], &json!("complete")), "{seen}");
        assert_eq!((&seen["ttlMs"], &seen["createdAt"]), (&task["ttlMs"], &task["createdAt"]), "{seen}");
        (seen["status"] == status).then_some(seen)
    })
    .await
}

/// A backend that never answers what writes.
async fn slow() -> FakeUpstream {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|call| if call.tool() == "read" { Say::text("ok") } else { Say::Hang });
    upstream
}

#[tokio::test]
async fn a_run_goes_on_without_its_client() {
    let upstream = slow().await;
    let gateway = with_suite(Setup::with(&upstream), "slow.toml", SUITE).start().await;
    let key = gateway.writer("operator").await;
    let client = gateway.client(&key);
    let task = begun(&client).await;
    let working = eventually("a case has ended", async || {
        let seen = about(&client, "tasks/get", &task).await.result();
        seen["statusMessage"].is_string().then_some(seen)
    })
    .await;
    assert_eq!((&working["status"], &working["statusMessage"]), (&json!("working"), &json!("slow: 1 of 2 cases")));
    assert_eq!(about(&client, "tasks/update", &task).await.result()["resultType"], "complete");
    // It is nobody else's, and nothing that somebody made up.
    let other = gateway.client(&gateway.writer("operator").await);
    for (client, task) in [(&other, &task), (&client, &json!({"taskId": "made-up"}))] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            assert_eq!(about(client, method, task).await.refused(), (200, -32602), "{method}");
        }
    }
    assert_eq!(about(&client, "tasks/cancel", &task).await.result()["resultType"], "complete");
    let cancelled = comes_to(&client, &task, "cancelled").await;
    assert_eq!((cancelled.get("result"), cancelled.get("error")), (None, None));
    gateway.finish().await;
}

#[tokio::test]
async fn what_has_ended_is_told_after_a_restart_too() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = with_suite(Setup::with(&upstream), "slow.toml", SUITE).start().await;
    let key = gateway.writer("operator").await;
    let client = gateway.client(&key);
    let task = begun(&client).await;
    let done = comes_to(&client, &task, "completed").await;
    let result = &done["result"];
    assert_eq!(
        (&result["structuredContent"]["score"], &result["structuredContent"]["total"], result.get("isError")),
        (&json!(100), &json!(2), None)
    );
    let governance = &result["_meta"]["toolgate/governance"];
    assert_eq!((&governance["decision"], &governance["policy"]), (&json!("allow"), &json!("allow-write-to-writers")));
    let record = gateway.record(governance["audit_event_id"].as_str().unwrap()).await;
    assert_eq!((&record["outcome"], &record["tool"]), (&json!("answered"), &json!("eval.run.create")));
    assert!(record["intent"].is_object(), "it was written down before the first case: {record}");
    // What would have been answered, word for word.
    let plain = client.modern().call("eval_run_create", &json!({"evaluationId": 7})).await.result();
    let names = |result: &Value| result.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((names(&plain), &plain["resultType"]), (names(result), &json!("complete")));
    // Through the tool that calls others it is the same.
    let arguments = json!({"server": "toolgate", "tool": "eval.run.create", "arguments": {"evaluationId": 7}});
    let through = begin(&client, "gateway_invoke", &arguments).await.result();
    comes_to(&client, &through, "completed").await;
    let gateway = gateway.restart().await;
    let again = about(&gateway.client(&key), "tasks/get", &task).await.result();
    assert_eq!(again, done);
    gateway.finish().await;
}

#[tokio::test]
async fn tasks_are_for_those_who_can_have_them() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = with_suite(Setup::with(&upstream), "slow.toml", SUITE).start().await;
    let operator = gateway.client(&gateway.writer("operator").await);
    let (agent, reader) = (gateway.agent().await, gateway.client(&gateway.key("operator").await));
    let offered = async |client: &Client| {
        client.modern().rpc("server/discover", &json!({})).await.result()["capabilities"]["extensions"].clone()
    };
    assert_eq!((offered(&operator).await, offered(&agent).await), (json!({TASKS: {}}), Value::Null));
    assert_eq!(
        operator.legacy().await.call("eval_run_create", &json!({"evaluationId": 7})).await.result()["structuredContent"]
            ["score"],
        100
    );
    // What is refused, or cannot begin, is answered at once.
    assert_eq!(begin(&reader, "eval_run_create", &json!({"evaluationId": 7})).await.denied(), "default_deny");
    assert_eq!(begin(&operator, "eval_run_create", &json!({"evaluationId": 8})).await.denied(), "not_found");
    assert_eq!(begin(&agent, "eval_run_create", &json!({"evaluationId": 7})).await.refused(), (200, -32602));
    // Everything else is answered as ever.
    let read = begin(&operator, "up:read", &json!({})).await.result();
    assert_eq!(read["resultType"], "complete");
    // Nothing is told to a client that does not say that it knows them.
    let task = begun(&operator).await;
    let name = task["taskId"].as_str().unwrap();
    let undeclared = operator.modern().request("tasks/get", &json!({"taskId": name}).to_string());
    assert_eq!(undeclared.header("mcp-name", name).send().await.refused(), (400, -32021));
    let listening = json!({"notifications": {"taskIds": [name]}});
    assert_eq!(operator.modern().rpc("subscriptions/listen", &listening).await.refused(), (400, -32021));
    assert_eq!(about(&agent, "tasks/get", &task).await.refused(), (404, -32601));
    comes_to(&operator, &task, "completed").await;
    gateway.finish().await;
}

/// Killed in the middle of a run: nobody waits for ever.
#[tokio::test]
async fn a_run_that_was_interrupted_has_failed() {
    let upstream = slow().await;
    let folder = Arc::new(tempfile::TempDir::new().unwrap());
    std::fs::create_dir_all(folder.path().join("evals")).unwrap();
    std::fs::write(folder.path().join("toolgate.toml"), upstream.section("up", "")).unwrap();
    std::fs::write(folder.path().join("evals/slow.toml"), SUITE).unwrap();
    let program = Program::start_in(Arc::clone(&folder), &[]).await;
    program.ready().await;
    let client = program.client("admin");
    let task = begun(&client).await;
    eventually("the second case is under way", async || (upstream.calls().len() == 2).then_some(())).await;
    program.signal("KILL");
    program.ended().await;
    let again = Program::start_in(folder, &[]).await;
    again.ready().await;
    let client = Client::new(again.address, client.key());
    let failed = comes_to(&client, &task, "failed").await;
    assert_eq!(failed["error"]["code"], -32603);
    again.stop().await;
}
