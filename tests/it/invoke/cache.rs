//! The response cache: only where configured, only for reading, never between keys, never older than a write.

use serde_json::json;

use crate::support::{Client, FakeUpstream, Say, Setup, TestGateway};

const CACHED: &str =
    "[servers.up.tools.read]\ncache = \"60s\"\n[servers.up.tools.write]\ncache = \"60s\"\n[servers.up.tools.again]";

async fn start(upstream: &FakeUpstream) -> (TestGateway, Client) {
    let gateway = Setup::new().config(&upstream.section("up", CACHED)).start().await;
    let client = gateway.agent().await;
    (gateway, client)
}

#[tokio::test]
async fn a_read_is_kept_for_its_key_and_arguments() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    let first = client.invoke("up", "read", r#"{"a":1,"b":2}"#).await;
    let second = client.invoke("up", "read", r#"{ "b":2, "a":1 }"#).await;
    assert_eq!(upstream.calls().len(), 1, "the same question");
    assert_eq!(first.told(), second.told());
    assert_ne!(first.header("toolgate-audit-id"), second.header("toolgate-audit-id"), "each call has its record");
    client.invoke("up", "read", r#"{"a":1,"b":3}"#).await;
    assert_eq!(upstream.calls().len(), 2, "other arguments");
    gateway.agent().await.invoke("up", "read", r#"{"a":1,"b":2}"#).await;
    assert_eq!(upstream.calls().len(), 3, "another key");
    gateway.finish().await;
}

#[tokio::test]
async fn a_write_empties_it() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    client.invoke("up", "read", "{}").await;
    client.invoke("up", "write", "{}").await;
    client.invoke("up", "read", "{}").await;
    let tools: Vec<_> = upstream.calls().iter().map(|call| call.tool().to_owned()).collect();
    assert_eq!(tools, ["read", "write", "read"]);
    client.invoke("up", "write", "{}").await;
    client.invoke("up", "write", "{}").await;
    assert_eq!(upstream.calls().len(), 5, "a write is never answered from the cache, whatever is configured");
    client.invoke("up", "read", "{}").await;
    upstream.on_call(|_| Say::Status(500));
    client.invoke("up", "write", "{}").await;
    upstream.on_call(|_| Say::text("new"));
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "new", "a write that failed may have been one");
    gateway.finish().await;
}

#[tokio::test]
async fn faults_and_errors_are_not_kept() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    upstream
        .on_call(|_| Say::Result(json!({"content": [{"type": "text", "text": "sorry"}], "isError": true}).to_string()));
    client.invoke("up", "read", "{}").await;
    upstream.on_call(|_| Say::Error(r#"{"code":1,"message":"no"}"#.into()));
    client.invoke("up", "read", "{}").await;
    upstream.on_call(|_| Say::text("well"));
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "well");
    assert_eq!(upstream.calls().len(), 3);
    gateway.finish().await;
}

/// A kept answer is still judged: what policy denies now, it denies.
#[tokio::test]
async fn a_kept_answer_is_still_judged() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::new().config(&upstream.section("up", CACHED)).shipped_policies().start().await;
    let client = gateway.agent().await;
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "done");
    let before = gateway.gateway.state().policies.bundle().version().clone();
    gateway.write("policies/closed.cedar", "@id(\"closed\")\nforbid (principal, action, resource);\n");
    crate::support::eventually("the policy is active", async || {
        (*gateway.gateway.state().policies.bundle().version() != before).then_some(())
    })
    .await;
    let refused = client.invoke("up", "read", "{}").await;
    assert_eq!((refused.denied().as_str(), upstream.calls().len()), ("policy_denied", 1));
    gateway.finish().await;
}
