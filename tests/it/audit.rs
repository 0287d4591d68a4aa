//! No record, no call: what happens while the audit log cannot be written.

use rusqlite::Connection;
use serde_json::json;

use crate::support::{Client, FakeUpstream, Program, Say, Setup, TestGateway, eventually};

/// Keeps everybody else from writing the store, as a backup gone wrong does.
fn block(gateway: &TestGateway) -> Connection {
    let connection = Connection::open(gateway.file("data/toolgate.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

async fn ready(client: &Client) -> u16 {
    client.get("/readyz").send().await.status
}

#[tokio::test]
async fn without_a_record_nothing_runs() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    assert_eq!(ready(&client).await, 200);
    let blocker = block(&gateway);
    let refused = client.invoke("up", "write", "{}").await;
    assert_eq!((refused.status, refused.denied().as_str()), (200, "audit_unavailable"));
    assert_eq!(ready(&client).await, 503);
    let read = client.invoke("up", "read", "{}").await;
    assert_eq!(read.denied(), "audit_unavailable", "reading too");
    assert_eq!(client.call("policy.simulate", &json!({"action": "up.read"})).await.denied(), "audit_unavailable");
    assert_eq!(upstream.calls().len(), 0, "nothing reached the backend");
    blocker.execute_batch("ROLLBACK").unwrap();
    eventually("calls run again, without a restart", async || {
        let answer = client.invoke("up", "write", "{}").await;
        (answer.told() == "done").then_some(())
    })
    .await;
    assert_eq!(ready(&client).await, 200);
    gateway.finish().await;
}

/// An answer whose outcome cannot be recorded is withheld.
#[tokio::test]
async fn an_answer_without_a_record_is_withheld() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    upstream.on_call(|_| Say::Held(Box::new(Say::text("the secret answer"))));
    let blocking = async {
        eventually("the call arrives", async || (upstream.calls().len() == 1).then_some(())).await;
        let blocker = block(&gateway);
        upstream.release(1);
        blocker
    };
    let (answer, blocker) = tokio::join!(client.invoke("up", "write", "{}"), blocking);
    assert_eq!(answer.denied(), "audit_unavailable");
    assert!(!answer.text.contains("the secret answer"), "{}", answer.text);
    blocker.execute_batch("ROLLBACK").unwrap();
    let gateway = gateway.restart().await;
    let records = gateway.records().await;
    let outcomes: Vec<_> = records.iter().map(|record| (record["tool"].as_str(), record["outcome"].as_str())).collect();
    assert_eq!(outcomes, [(Some("write"), Some("failed"))], "one record, and it does not say `answered`");
    gateway.finish().await;
}

/// An operator can be told that something is missing from the log.
#[tokio::test]
async fn lost_entries_are_a_metric() {
    let program = Program::start().await;
    let metrics = program.client("admin").get("/metrics").send().await.text;
    assert!(metrics.lines().any(|line| line == "toolgate_audit_entries_lost_total 0"), "{metrics}");
    program.stop().await;
}
