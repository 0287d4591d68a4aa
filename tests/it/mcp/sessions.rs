//! Legacy sessions: sealed ids that need no table.

use serde_json::json;

use crate::support::{Setup, without_ids};

fn hello(version: &str) -> serde_json::Value {
    json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}})
}

#[tokio::test]
async fn initialize_settles_on_a_legacy_revision() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    let changes = json!({"listChanged": true});
    for (asked, given) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2026-07-28", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
        ("nonsense", "2025-11-25"),
    ] {
        let answer = client.rpc("initialize", &hello(asked)).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("mcp-session-id").is_some());
        assert_eq!(answer.result()["protocolVersion"], given, "{asked}");
        assert_eq!(answer.result()["serverInfo"]["name"], "toolgate");
        assert_eq!(answer.result()["capabilities"], json!({"tools": changes, "prompts": {}, "resources": {}}));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_session_outlives_the_process_and_not_its_end() {
    let gateway = Setup::new().start().await;
    let key = gateway.writer("agent").await;
    let (kept, ended) = (gateway.client(&key).legacy().await, gateway.client(&key).legacy().await);
    assert_eq!(ended.delete("/v1/mcp").send().await.status, 204);
    assert_eq!(ended.rpc("ping", &json!({})).await.refused(), (404, -32600));
    assert_eq!(ended.delete("/v1/mcp").send().await.status, 404);
    let gateway = gateway.restart().await;
    let (kept, ended) =
        (gateway.client(&key).in_session(kept.session()), gateway.client(&key).in_session(ended.session()));
    assert_eq!(kept.rpc("ping", &json!({})).await.status, 200);
    assert_eq!(
        kept.tools().await,
        ["gateway_search_tools", "gateway_invoke", "policy_simulate"],
        "still a host's session"
    );
    assert_eq!(ended.rpc("ping", &json!({})).await.refused(), (404, -32600), "the end is remembered");
    gateway.finish().await;
}

#[tokio::test]
async fn a_session_is_worthless_to_anybody_else() {
    let gateway = Setup::new().start().await;
    let one = gateway.agent().await.legacy().await;
    let other = gateway.agent().await.in_session(one.session());
    assert_eq!(other.rpc("ping", &json!({})).await.refused(), (404, -32600));
    assert_eq!(other.delete("/v1/mcp").send().await.status, 404);
    let stream = other.get("/v1/mcp").header("accept", "text/event-stream").send().await;
    assert_eq!(stream.status, 404);
    let nobody = one.with_key(None);
    assert_eq!(nobody.rpc("ping", &json!({})).await.status, 401);
    assert_eq!(nobody.delete("/v1/mcp").send().await.status, 401);
    assert_eq!(nobody.get("/v1/mcp").header("accept", "text/event-stream").send().await.status, 401);
    assert_eq!(one.rpc("ping", &json!({})).await.status, 200, "nobody could end it");
    gateway.finish().await;
}

#[tokio::test]
async fn an_id_that_opens_nothing_is_a_fresh_session() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    let real = client.legacy().await.session().to_owned();
    let mut altered = real.clone().into_bytes();
    let last = altered.len() - 3;
    altered[last] = if altered[last] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    for id in ["garbage", "5f0c2f6e-0000-4000-8000-000000000000", &real[..real.len() - 1], &altered] {
        let session = client.in_session(id);
        assert_eq!(session.rpc("ping", &json!({})).await.status, 200, "{id}");
        assert_eq!(session.tools().await[2], "policy_simulate", "still a host");
    }
    let twice = client.post("/v1/mcp").header("mcp-session-id", "a").header("mcp-session-id", "b");
    let answer = twice.text(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).send().await;
    assert_eq!(answer.refused(), (400, -32600));
    assert_eq!(client.delete("/v1/mcp").send().await.status, 400, "which session?");
    gateway.finish().await;
}

#[tokio::test]
async fn ids_tell_nothing_and_differ() {
    let gateway = Setup::new().start().await;
    let key = gateway.writer("agent").await;
    let (one, two) = (gateway.client(&key).legacy().await, gateway.client(&key).legacy().await);
    assert_ne!(one.session(), two.session());
    for id in [one.session(), two.session()] {
        assert!(id.bytes().all(|b| b.is_ascii_graphic()), "{id}");
        assert!(!id.contains(&key.id) && without_ids(id) == *id);
    }
    gateway.finish().await;
}
