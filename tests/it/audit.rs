//! No record, no call: what happens while the audit log cannot be written.

use rusqlite::Connection;
use serde_json::{Value, json};

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
    let question = json!({"action": "up.read"});
    let (read, simulated) = tokio::join!(client.invoke("up", "read", "{}"), client.call("policy.simulate", &question));
    assert_eq!(read.denied(), "audit_unavailable", "reading too");
    assert_eq!(simulated.denied(), "audit_unavailable");
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

/// The acts on the gateway itself: the request, and how to see that nothing came of it.
#[tokio::test]
async fn without_a_record_nothing_is_changed() {
    let gateway = Setup::new().start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let entity = |key: &str| json!({"entities": [{"type": "client", "id": key, "name": "n"}]});
    let suite =
        json!({"id": 7, "name": "s", "cases": [{"name": "c", "tool": "toolgate:policy.simulate", "arguments": {}}]});
    let key = json!({"name": "a", "profile": "agent"});
    let policy = json!({"name": "p", "text": "forbid (principal, action, resource);"});
    let victim = gateway.key("agent").await;
    let made = admin.post("/v1/brain/entities").json(&entity("before")).send().await;
    assert_eq!((made.status, &made.json()["data"]["created"]), (200, &json!(1)), "{}", made.text);
    let blocker = block(&gateway);
    let refused = async |path: &str, body: &Value| {
        let refused = admin.post(path).json(body).send().await;
        assert_eq!((refused.status, refused.error()["code"].as_str()), (503, Some("internal_error")), "{path}");
    };
    // The first of them finds a log that is healthy still; its data stands in a file of its own.
    refused("/v1/brain/entities", &entity("after")).await;
    // Each waits for the store, so they wait together.
    let nothing = json!({});
    let kept = async {
        let kept = admin.delete(&format!("/v1/beta/users/tester/keys/{}", victim.id)).send().await;
        assert_eq!(kept.status, 503, "{}", kept.text);
    };
    tokio::join!(
        refused("/v1/beta/users/ada/keys", &key),
        refused("/v1/policies", &policy),
        refused("/v1/evals", &suite),
        refused("/v1/auth/token", &nothing),
        kept
    );
    blocker.execute_batch("ROLLBACK").unwrap();
    eventually("the log can be written again", async || (ready(&admin).await == 200).then_some(())).await;
    assert_eq!(gateway.client(&victim).rpc("ping", &json!({})).await.status, 200);
    let keys = admin.get("/v1/beta/users/ada/keys").send().await;
    assert_eq!(keys.json()["keys"], json!([]));
    for path in ["/v1/policies/p", "/v1/evals/7"] {
        assert_eq!(admin.get(path).send().await.status, 404, "{path}");
    }
    let again = admin.post("/v1/brain/entities").json(&entity("after")).send().await;
    assert_eq!(again.json()["data"]["created"], 1, "it was not there: {}", again.text);
    gateway.finish().await;
}

/// Each act is written down before it is done: the keys of the first start are no other.
#[tokio::test]
async fn acts_have_an_intent() {
    let gateway = Setup::new().start().await;
    let first = gateway.gateway.first_keys().await.unwrap();
    assert_eq!(first.keys.len(), 3);
    let admin = gateway.stranger().with_key(Some(first.keys[0].1.expose()));
    let made = admin.post("/v1/beta/users/ada/keys").json(&json!({"name": "a", "profile": "agent"})).send().await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(admin.delete(&format!("/v1/beta/users/ada/keys/{id}")).send().await.status, 204);
    let tokens = admin.post("/v1/auth/token").json(&json!({})).send().await.json()["data"].clone();
    let renewed = admin.post("/v1/auth/refresh").json(&json!({"refresh_token": tokens["refresh_token"]})).send().await;
    let access = renewed.json()["data"]["access_token"].as_str().unwrap().to_owned();
    let holder = gateway.stranger().with_key(Some(&access));
    assert_eq!(holder.delete("/v1/auth/token").send().await.status, 200);
    let entity = json!({"entities": [{"type": "client", "id": "1", "name": "n"}]});
    assert_eq!(admin.post("/v1/brain/entities").json(&entity).send().await.status, 200);
    assert_eq!(admin.get("/v1/audit/export").send().await.status, 200);
    let acts: Vec<_> = gateway.records().await;
    let told: Vec<_> = acts.iter().map(|act| (act["tool"].as_str().unwrap(), act["intent"].is_object())).collect();
    let expected = [
        ("keys.create", true),
        ("keys.create", true),
        ("keys.create", true),
        ("keys.create", true),
        ("keys.revoke", true),
        ("tokens.create", true),
        ("tokens.refresh", true),
        ("tokens.revoke", true),
        ("brain.import", true),
        ("audit.export", false),
    ];
    assert_eq!(told, expected);
    assert!(acts.iter().all(|act| act["outcome"] == "answered" && act["decision"] == "allow"));
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
