//! Servers and clients that mean ill cost bounded memory, connections and places.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Response, Say, Setup, eventually, soon, tool};

const ROUTE: &str = "/v1/mcp/servers/up";

fn request(id: usize, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": format!("q{id}"), "method": method, "params": params}).to_string()
}

/// A call of a modern client that can be asked.
async fn call(client: &Client, tool: &str) -> Response {
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    client.modern().rpc("tools/call", &json!({"name": tool, "_meta": meta})).await
}

/// Answers whatever a parked call asks, and leaves where it asks nothing more: that cancels it.
async fn leave(client: &Client, tool: &str, mut answer: Response) {
    loop {
        let result = answer.result();
        let answers =
            result["inputRequests"].as_object().unwrap().keys().map(|key| (key.clone(), json!({"action": "decline"})));
        let answers: serde_json::Map<String, Value> = answers.collect();
        let meta = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
        let params = json!({
            "name": tool, "requestState": result["requestState"], "inputResponses": answers, "_meta": meta,
        });
        let modern = client.modern();
        match tokio::time::timeout(std::time::Duration::from_millis(500), modern.rpc("tools/call", &params)).await {
            Ok(next) if next.result()["requestState"].is_string() => answer = next,
            _ => return,
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_without_end_has_a_few_connections_for_it() {
    let (upstream, other) = (FakeUpstream::legacy().await, FakeUpstream::legacy().await);
    let posts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&posts);
    upstream.script(move |seen| match seen.method() {
        "tools/call" => {
            let pings = (0..3000).map(|id| request(id, "ping", &json!({}))).collect();
            Some(Say::Events(pings, r#"{"content":[]}"#.into()))
        }
        "" if seen.json["id"].is_string() => {
            counted.fetch_add(1, Ordering::SeqCst);
            Some(Say::Hang)
        }
        _ => None,
    });
    let gateway = Setup::new().config(&upstream.section("up", "")).config(&other.section("other", "")).start().await;
    let client = gateway.agent().await;
    let called = client.at(ROUTE).legacy().await.call("read", &json!({})).await;
    assert!(called.text.contains("\"content\":[]"), "{}", called.text);
    eventually("answers are posted", async || (posts.load(Ordering::SeqCst) > 0).then_some(())).await;
    assert_eq!(client.invoke("other", "read", "{}").await.told(), "done");
    assert!(posts.load(Ordering::SeqCst) <= 4, "{}", posts.load(Ordering::SeqCst));
    gateway.finish().await;
}

#[tokio::test]
async fn so_many_questions_are_put_before_a_client_and_no_more() {
    let upstream = FakeUpstream::legacy().await;
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    upstream.script(move |seen| match seen.method() {
        "tools/call" => {
            let text = "x".repeat(64 << 10);
            let asks = (0..200).map(|id| request(id, "elicitation/create", &json!({"message": text})));
            Some(Say::EventsThenHang(asks.collect()))
        }
        "" if seen.json["error"].is_object() => {
            counted.fetch_add(1, Ordering::SeqCst);
            Some(Say::Status(202))
        }
        _ => None,
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let answer = call(&client, "read").await;
    let asked = answer.result()["inputRequests"].as_object().unwrap_or_else(|| panic!("{}", answer.text)).len();
    assert!((1..=16).contains(&asked), "{asked}");
    eventually("the others are refused", async || (refused.load(Ordering::SeqCst) >= 40).then_some(())).await;
    leave(&client, "read", answer).await;
    gateway.finish().await;
}

#[tokio::test]
async fn calls_that_wait_for_their_client_leave_their_places_to_others() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| match seen.tool() {
        "read" => Say::EventsThenHang(vec![request(1, "elicitation/create", &json!({"message": "?"}))]),
        _ => Say::text("served"),
    });
    let gateway = Setup::new().config(&upstream.section("up", "concurrency = 2")).start().await;
    let (one, other) = (gateway.agent().await.at(ROUTE), gateway.agent().await);
    let mut parked = Vec::new();
    for _ in 0..2 {
        let answer = call(&one, "read").await;
        assert_eq!(answer.result()["resultType"], "input_required", "{}", answer.text);
        parked.push(answer);
    }
    assert_eq!(soon("another's call", other.invoke("up", "again", "{}")).await.told(), "served");
    for answer in parked {
        leave(&one, "read", answer).await;
    }
    gateway.finish().await;
}

#[tokio::test]
async fn nothing_is_opened_at_a_server_for_a_call_that_is_refused() {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(|seen| {
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": "x", "version": "1"},
        });
        match seen.method() {
            "initialize" => Some(Say::Result(hello.to_string())),
            "logging/setLevel" => Some(Say::Result("{}".into())),
            _ => None,
        }
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).modern();
    upstream.forget();
    let at = async |tool: &str, level: &str| {
        let meta = json!({"io.modelcontextprotocol/logLevel": level});
        client.rpc("tools/call", &json!({"name": tool, "_meta": meta})).await
    };
    assert_eq!(at("absent", "debug").await.json()["error"]["code"], -32602);
    assert_eq!(at("read", "loud").await.json()["error"]["code"], -32602);
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    assert_eq!(at("read", "debug").await.told(), "done");
    let sent: Vec<String> = upstream.seen().iter().map(|seen| seen.method().to_owned()).collect();
    assert!(sent.contains(&"logging/setLevel".to_owned()), "{sent:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_for_a_server_says_nothing_of_its_health() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| if seen.tool() == "read" { Say::Status(431) } else { Say::text("served") });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for _ in 0..8 {
        assert_eq!(client.invoke("up", "read", "{}").await.result()["isError"], true);
    }
    assert_eq!(client.invoke("up", "again", "{}").await.told(), "served");
    gateway.finish().await;
}

#[tokio::test]
async fn a_list_ends_where_it_becomes_too_large() {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(|seen| match seen.method() {
        "initialize" => Some(Say::Result(
            json!({
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "resources": {}},
                "serverInfo": {"name": "x", "version": "1"},
            })
            .to_string(),
        )),
        "resources/list" => {
            let filler = "x".repeat(400 << 10);
            let item = |n: usize| json!({"uri": format!("x://{n}"), "name": "n", "description": filler});
            let items: Vec<Value> = (0..10).map(item).collect();
            Some(Say::Result(json!({"resources": items, "nextCursor": seen.json["id"].to_string()}).to_string()))
        }
        _ => None,
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let listed = eventually("a list", async || {
        let items = client.rpc("resources/list", &json!({})).await.result()["resources"].as_array().unwrap().len();
        (items > 0).then_some(items)
    })
    .await;
    assert!((20..=42).contains(&listed), "{listed}");
    gateway.finish().await;
}

#[tokio::test]
async fn streams_end_with_the_session_and_with_the_grant() {
    let upstream = FakeUpstream::legacy().await;
    upstream.set_tools(json!([tool("read", &json!({"readOnlyHint": true}))]));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let legacy = client.legacy().await;
    let mut stream = legacy.get(ROUTE).header("accept", "text/event-stream").open().await;
    soon("the stream opens", stream.next()).await;
    assert_eq!(legacy.delete(ROUTE).send().await.status, 204);
    assert!(stream.ends_within(std::time::Duration::from_secs(2)).await, "the session has ended");
    let wanted = json!({"notifications": {"toolsListChanged": true}}).to_string();
    let mut stream = client.modern().request("subscriptions/listen", &wanted).open().await;
    soon("the acknowledgement", stream.data()).await.unwrap();
    let profiles = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles.toml")).unwrap();
    let other = profiles.replace("allowed_tools = [\"*\"]", "allowed_tools = [\"other:*\"]");
    gateway.write("profiles.toml", &other);
    assert!(
        stream.ends_within(std::time::Duration::from_secs(10)).await,
        "the profile does not open the server any more"
    );
    gateway.finish().await;
}
