//! Streams that stay open: a legacy session's and a modern subscription.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Event, FakeUpstream, Setup, Stream, eventually, tool};

async fn open_session_stream(client: &Client) -> Stream {
    client.get("/v1/mcp").header("accept", "text/event-stream").open().await
}

fn other_tools() -> Value {
    json!([tool("read", &json!({"readOnlyHint": true})), tool("newer", &json!({"readOnlyHint": true}))])
}

#[tokio::test]
async fn a_stream_without_a_session_is_refused_at_once() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    for caller in [client.clone(), gateway.stranger()] {
        let answer = caller.get("/v1/mcp").header("accept", "text/event-stream").send().await;
        assert_eq!(answer.status, 405);
        assert!(answer.header("allow").unwrap().contains("POST"));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_session_hears_when_its_list_changes_and_only_then() {
    let upstream = FakeUpstream::legacy().await;
    let open = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"direct\"";
    let gateway = Setup::with(&upstream).profile("direct", open).start().await;
    let direct = gateway.client(&gateway.key("direct").await).legacy().await;
    let mut stream = open_session_stream(&direct).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    assert_eq!(stream.next().await, Some(Event::Comment), "something at once, so that proxies pass the head on");
    eventually("the gateway listens to the backend", async || upstream.is_listened_to().then_some(())).await;
    upstream.set_tools(other_tools());
    upstream.tell_changed();
    let heard = stream.data().await;
    assert_eq!(heard, Some(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {}})));
    assert_eq!(direct.tools().await, ["up__newer", "up__read"]);
    gateway.finish().await;
    assert!(stream.ends_within(Duration::from_secs(5)).await, "a stopping gateway ends its streams");
}

#[tokio::test]
async fn a_subscription_acknowledges_tells_and_ends() {
    let upstream = FakeUpstream::modern().await;
    let open = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"both\"";
    let gateway = Setup::with(&upstream).profile("both", open).start().await;
    let client = gateway.client(&gateway.key("both").await).modern();
    let params =
        r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["x://y"]}}"#;
    let draft = client.request("subscriptions/listen", params);
    let mut stream = draft.open().await;
    let tag = json!({"io.modelcontextprotocol/subscriptionId": 1});
    assert_eq!(
        stream.next().await,
        Some(Event::Data(json!({
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": {"notifications": {"toolsListChanged": true, "promptsListChanged": true}, "_meta": tag},
        }))),
        "what is offered, first of all"
    );
    eventually("the gateway listens to the backend", async || upstream.is_listened_to().then_some(())).await;
    upstream.set_tools(other_tools());
    upstream.tell_changed();
    let heard = stream.data().await;
    assert_eq!(
        heard,
        Some(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": tag}}))
    );
    gateway.finish().await;
    let last = stream.data().await.unwrap();
    assert_eq!((last["id"].clone(), last["result"]["resultType"].clone()), (json!(1), json!("complete")));
    assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_subscription_says_what_it_wants() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await.modern();
    assert_eq!(client.rpc("subscriptions/listen", &json!({})).await.refused(), (200, -32602));
    let mut nothing = client.request("subscriptions/listen", r#"{"notifications":{}}"#).open().await;
    assert_eq!(nothing.data().await.unwrap()["params"]["notifications"], json!({}));
    // Where no server shows through, no prompt and no resource changes.
    let all = r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}"#;
    for (surface, offered) in [
        ("search", json!({"toolsListChanged": true})),
        ("both", json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true})),
    ] {
        let client = client.at(&format!("/v1/mcp?surface={surface}"));
        let mut stream = client.request("subscriptions/listen", all).open().await;
        assert_eq!(stream.data().await.unwrap()["params"]["notifications"], offered, "{surface}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await.legacy().await;
    let mut stream = open_session_stream(&client).await;
    assert_eq!(stream.next().await, Some(Event::Comment));
    assert_eq!(client.delete("/v1/mcp").send().await.status, 204);
    assert!(stream.ends_within(Duration::from_secs(5)).await);
    gateway.finish().await;
}

#[tokio::test]
async fn one_key_holds_only_so_many_streams() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await.legacy().await;
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(open_session_stream(&client).await);
    }
    let refused = client.get("/v1/mcp").header("accept", "text/event-stream").send().await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    let other = gateway.agent().await.legacy().await;
    held.push(open_session_stream(&other).await);
    held.remove(0);
    eventually("a place is free again", async || {
        let answer = client.get("/v1/mcp").header("accept", "text/event-stream").open().await;
        (answer.status == 200).then_some(())
    })
    .await;
    drop(held);
    gateway.finish().await;
}
