//! What a server says before and beside its answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::{FakeUpstream, Say, Setup, eventually, soon};

const ROUTE: &str = "/v1/mcp/servers/up";
const LOG: &str = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}"#;
const DONE: &str = r#"{"content":[{"type":"text","text":"done"}]}"#;

#[tokio::test]
async fn what_a_server_says_before_its_answer_comes_before_it() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| {
        let token = &seen.json["params"]["_meta"]["progressToken"];
        let progress = json!({"progressToken": token, "progress": 1, "message": "half"});
        let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}).to_string();
        Say::Events(vec![LOG.into(), progress], DONE.into())
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let params = json!({"name": "read", "_meta": {"progressToken": "mine"}});
    let mut stream = client.legacy().await.request("tools/call", &params.to_string()).open().await;
    let mut heard = Vec::new();
    while let Some(message) = soon("an event", stream.data()).await {
        heard.push(message);
    }
    let methods: Vec<&str> = heard.iter().map(|message| message["method"].as_str().unwrap_or("answer")).collect();
    assert_eq!(methods, ["notifications/message", "notifications/progress", "answer"]);
    assert_eq!(heard[1]["params"]["progressToken"], "mine");
    // A modern client hears log messages only where it asked for them, from its level on.
    for (level, hears) in [(None, false), (Some("warning"), false), (Some("debug"), true)] {
        let mut meta = json!({});
        if let Some(level) = level {
            meta["io.modelcontextprotocol/logLevel"] = json!(level);
        }
        let params = json!({"name": "read", "_meta": meta});
        let answer = client.modern().rpc("tools/call", &params).await;
        assert_eq!(answer.text.contains("notifications/message"), hears, "{level:?}: {}", answer.text);
        assert!(answer.text.contains("done"));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_stream_that_broke_off_is_taken_up_where_it_stopped() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Held(Box::new(Say::Result(DONE.into()))));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    let mut stream = client.request("tools/call", r#"{"name":"read"}"#).open().await;
    soon("the first event", stream.next()).await.unwrap();
    let id = stream.last_id.clone().expect("an event with an id");
    drop(stream);
    upstream.release(1);
    let again = || client.get(ROUTE).header("accept", "text/event-stream").header("last-event-id", &id);
    let mut rest = again().open().await;
    assert_eq!(soon("the answer", rest.data()).await.unwrap()["result"]["content"][0]["text"], "done");
    assert!(soon("the end", rest.data()).await.is_none());
    // Somebody else's stream is not there to be taken up.
    let other = gateway.agent().await.at(ROUTE).legacy().await;
    let mut foreign = other.get(ROUTE).header("accept", "text/event-stream").header("last-event-id", &id).open().await;
    assert!(!foreign.ends_within(Duration::from_millis(100)).await, "its own stream, which is silent");
    gateway.finish().await;
}

#[tokio::test]
async fn both_eras_hear_of_changed_tools_from_either() {
    for upstream in [FakeUpstream::legacy().await, FakeUpstream::modern().await] {
        let gateway = Setup::with(&upstream).start().await;
        let client = gateway.agent().await.at(ROUTE);
        let mut legacy = client.legacy().await.get(ROUTE).header("accept", "text/event-stream").open().await;
        let wanted = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
        let mut modern = client.modern().request("subscriptions/listen", &wanted.to_string()).open().await;
        let first = soon("the acknowledgement", modern.data()).await.unwrap();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}), "prompts are not offered");
        eventually("the gateway listens", async || upstream.is_listened_to().then_some(())).await;
        upstream.set_tools(json!([crate::support::tool("new", &json!({"readOnlyHint": true}))]));
        upstream.tell_changed();
        let told = soon("the legacy client hears", legacy.data()).await.unwrap();
        assert_eq!(told["method"], "notifications/tools/list_changed");
        let told = soon("the modern client hears", modern.data()).await.unwrap();
        assert_eq!(told["method"], "notifications/tools/list_changed");
        assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
        assert_eq!(client.tools().await, ["new"]);
        gateway.finish().await;
    }
}

/// What a server asks on the stream that belongs to no request, it forgets while there is no such stream.
#[tokio::test]
async fn a_session_hears_before_it_calls() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    eventually("the gateway listens", async || upstream.is_listened_to().then_some(())).await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    let _stream = client.get(ROUTE).header("accept", "text/event-stream").open().await;
    upstream.forget();
    let open = Arc::new(AtomicBool::new(false));
    let hears = Arc::clone(&open);
    upstream.script(move |seen| match (&*seen.verb, seen.method()) {
        ("GET", _) => Some(Say::Held(Box::new(Say::EventsThenHang(Vec::new())))),
        (_, "tools/call") => Some(Say::text(if hears.load(Ordering::SeqCst) { "heard" } else { "deaf" })),
        _ => None,
    });
    let opening = async {
        let asked = || upstream.seen().iter().any(|seen| seen.verb == "GET");
        eventually("the session's stream", async || asked().then_some(())).await;
        for _ in 0..3 {
            client.rpc("ping", &json!({})).await;
        }
        open.store(true, Ordering::SeqCst);
        upstream.release(1);
    };
    let call = json!({"name": "read"});
    let (answer, ()) = tokio::join!(client.rpc("tools/call", &call), opening);
    assert!(answer.text.contains("heard"), "{}", answer.text);
    gateway.finish().await;
}

/// A subscription whose session at the server has ended would hear of nothing: its stream ends, so that the client comes
/// again.
#[tokio::test]
async fn a_subscription_ends_with_its_session() {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(|seen| {
        Some(match (&*seen.verb, seen.method()) {
            (_, "initialize") => Say::Session(
                json!({
                    "protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "resources": {"subscribe": true}},
                    "serverInfo": {"name": "x", "version": "1"},
                })
                .to_string(),
            ),
            (_, "resources/subscribe") => Say::Result("{}".into()),
            ("GET", _) => Say::Held(Box::new(Say::Status(404))),
            _ => return None,
        })
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).modern();
    let wanted = json!({"notifications": {"resourceSubscriptions": ["x://a"]}}).to_string();
    let mut stream = client.request("subscriptions/listen", &wanted).open().await;
    let first = soon("the acknowledgement", stream.data()).await.unwrap();
    assert_eq!(first["params"]["notifications"], json!({"resourceSubscriptions": ["x://a"]}));
    upstream.release(16);
    assert!(stream.ends_within(Duration::from_secs(10)).await);
    gateway.finish().await;
}

/// A client's session with a server ends with the gateway, and its connections with it: the end waits for none of them.
#[tokio::test]
async fn a_session_holds_up_no_end() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    client.call("read", &json!({})).await.result();
    let began = Instant::now();
    gateway.finish().await;
    // A backend that is not done would be waited for longer.
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
}
