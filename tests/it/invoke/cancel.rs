//! Calls that somebody waits for, hears of, or gives up.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Say, Setup, TestGateway, eventually};

async fn start(upstream: &FakeUpstream) -> (TestGateway, Client) {
    let gateway = Setup::with(upstream).start().await;
    let client = gateway.agent().await;
    (gateway, client)
}

/// The one record of a call, once it is closed.
async fn only_record(gateway: &TestGateway) -> Value {
    eventually("the record is closed", async || gateway.records().await.into_iter().next()).await
}

/// Starts a call and leaves once the backend has it.
async fn call_and_leave(client: &Client, upstream: &FakeUpstream) {
    let arrived = eventually("the call arrives", async || (!upstream.calls().is_empty()).then_some(()));
    tokio::select! {
        answer = client.invoke("up", "write", "{}") => panic!("answered: {}", answer.text),
        () = arrived => {}
    }
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels() {
    for upstream in [FakeUpstream::modern().await, FakeUpstream::legacy().await] {
        let (gateway, client) = start(&upstream).await;
        upstream.on_call(|_| Say::Hang);
        call_and_leave(&client.modern(), &upstream).await;
        let record = only_record(&gateway).await;
        assert_eq!((record["decision"].clone(), record["outcome"].clone()), (json!("allow"), json!("cancelled")));
        eventually("the backend is left", async || (upstream.left() == 1).then_some(())).await;
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_legacy_client_that_leaves_does_not() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    upstream.on_call(|_| Say::Held(Box::new(Say::text("late"))));
    call_and_leave(&client.legacy().await, &upstream).await;
    upstream.release(1);
    assert_eq!(only_record(&gateway).await["outcome"], "answered");
    assert_eq!(upstream.left(), 0);
    gateway.finish().await;
}

#[tokio::test]
async fn a_legacy_client_cancels_by_message_and_only_its_own() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    upstream.on_call(|_| Say::Hang);
    let client = client.legacy().await;
    let stranger = gateway.agent().await.legacy().await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"enough"}}"#;
    let cancelling = async {
        eventually("the call arrives", async || (!upstream.calls().is_empty()).then_some(())).await;
        assert_eq!(stranger.post("/v1/mcp").text(cancel).send().await.status, 202);
        let other_id = cancel.replace("\"requestId\":1", "\"requestId\":\"1\"");
        assert_eq!(client.post("/v1/mcp").text(&other_id).send().await.status, 202);
        assert_eq!(gateway.gateway.open_entries(), 1, "neither was a name of this call");
        assert_eq!(client.post("/v1/mcp").text(cancel).send().await.status, 202);
    };
    let (answer, ()) = tokio::join!(client.invoke("up", "write", "{}"), cancelling);
    assert_eq!(answer.refused().1, -32603);
    assert_eq!(gateway.record(answer.header("toolgate-audit-id").unwrap()).await["outcome"], "cancelled");
    eventually("the backend is left", async || (upstream.left() == 1).then_some(())).await;
    gateway.finish().await;
}

/// Encoders differ in what they escape, and a long integer is no float.
#[tokio::test]
async fn a_cancellation_finds_its_call_however_the_id_is_written() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    upstream.on_call(|_| Say::Hang);
    let client = client.legacy().await;
    for (sent, named) in [
        (r#""\u00e9""#, "\"\u{e9}\""),
        ("\"\u{e9}\"", r#""\u00e9""#),
        (r#""a\/b""#, r#""a/b""#),
        ("12345678901234567890123", "12345678901234567890123"),
    ] {
        upstream.forget();
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":{sent},"method":"tools/call","params":{}}}"#,
            crate::support::invoke_params("up", "write", "{}")
        );
        let cancel =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{named}}}}}"#);
        let cancelling = async {
            eventually("the call arrives", async || (!upstream.calls().is_empty()).then_some(())).await;
            assert_eq!(client.post("/v1/mcp").text(&cancel).send().await.status, 202);
        };
        let (answer, ()) = tokio::join!(client.post("/v1/mcp").text(&call).send(), cancelling);
        assert_eq!(answer.refused().1, -32603, "{sent} {named}");
        assert!(answer.text.contains(&format!("\"id\":{sent}")), "the id as it was written: {}", answer.text);
    }
    gateway.finish().await;
}

/// Progress of a backend reaches the client under the client's own token, and the result comes last.
#[tokio::test]
async fn progress_is_streamed_under_the_clients_token() {
    for (upstream, modern) in [(FakeUpstream::legacy().await, false), (FakeUpstream::modern().await, true)] {
        let (gateway, client) = start(&upstream).await;
        upstream.on_call(|seen| {
            let token = seen.json["params"]["_meta"]["progressToken"].clone();
            let progress = |n: u64| {
                let params = json!({"progressToken": token, "progress": n, "total": 2, "message": format!("step {n}")});
                json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string()
            };
            let foreign = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "forged", "progress": 9}});
            Say::Events(vec![progress(1), foreign.to_string(), progress(2)], json!({"content": []}).to_string())
        });
        let client = if modern { client.modern() } else { client.legacy().await };
        for token in [json!("mine"), json!(7)] {
            let params = json!({"name": "up:read", "arguments": {}, "_meta": {"progressToken": token}});
            let mut stream = client.request("tools/call", &params.to_string()).open().await;
            assert_eq!(stream.headers["content-type"], "text/event-stream");
            let id = stream.headers.get("toolgate-audit-id").expect("a stream names its record too").clone();
            for n in [1, 2] {
                let heard = stream.data().await.unwrap();
                assert_eq!(heard["method"], "notifications/progress");
                assert_eq!(
                    heard["params"],
                    json!({"progressToken": token, "progress": n, "total": 2, "message": format!("step {n}")})
                );
            }
            let last = stream.data().await.unwrap();
            assert_eq!((last["id"].clone(), last["result"]["content"].clone()), (json!(1), json!([])));
            assert_eq!(last["result"]["_meta"]["toolgate/governance"]["audit_event_id"], id.to_str().unwrap());
            assert_eq!(stream.next().await, None);
        }
        let sent = &upstream.calls()[0];
        assert_ne!(sent.json["params"]["_meta"]["progressToken"], "mine", "the backend sees the gateway's token");
        gateway.finish().await;
    }
}

#[tokio::test]
async fn without_a_token_or_a_stream_there_is_no_progress() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    let with_token = json!({"name": "up:read", "arguments": {}, "_meta": {"progressToken": 1}});
    let answer = client.rpc("tools/call", &with_token).await;
    assert_eq!(answer.header("content-type"), Some("application/json"), "a script that takes no streams gets none");
    let answer = client.legacy().await.call("up:read", &json!({})).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(upstream.calls().iter().all(|call| call.json["params"]["_meta"].get("progressToken").is_none()));
    gateway.finish().await;
}

/// A client that leaves in the middle of a stream.
#[tokio::test]
async fn leaving_a_stream_cancels_too() {
    let upstream = FakeUpstream::modern().await;
    let (gateway, client) = start(&upstream).await;
    upstream.on_call(|seen| {
        let token = seen.json["params"]["_meta"]["progressToken"].clone();
        let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
        Say::EventsThenHang(vec![progress.to_string()])
    });
    let params = json!({"name": "up:write", "arguments": {}, "_meta": {"progressToken": "t"}});
    let mut stream = client.modern().request("tools/call", &params.to_string()).open().await;
    assert_eq!(stream.data().await.unwrap()["params"]["progress"], 1);
    assert!(!stream.ends_within(Duration::from_millis(50)).await);
    drop(stream);
    assert_eq!(only_record(&gateway).await["outcome"], "cancelled");
    gateway.finish().await;
}

/// An id may be written with escapes in one message and without in the other; a number may be longer than any machine's.
#[tokio::test]
async fn an_id_is_the_same_in_every_spelling() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    upstream.on_call(|_| Say::Hang);
    let client = client.legacy().await;
    let spellings =
        [(r#""\u00e9""#, "\"é\""), ("\"a/b\"", r#""a\/b""#), ("12345678901234567890123", "12345678901234567890123")];
    for (n, (asked, cancelled)) in spellings.into_iter().enumerate() {
        let params = crate::support::invoke_params("up", "write", "{}");
        let call = format!(r#"{{"jsonrpc":"2.0","id":{asked},"method":"tools/call","params":{params}}}"#);
        let cancel =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{cancelled}}}}}"#);
        let cancelling = async {
            eventually("the call arrives", async || (upstream.calls().len() == n + 1).then_some(())).await;
            assert_eq!(client.post("/v1/mcp").text(&cancel).send().await.status, 202);
        };
        let (_answer, ()) = tokio::join!(client.post("/v1/mcp").text(&call).send(), cancelling);
        let records = gateway.records().await;
        assert_eq!(records.iter().filter(|record| record["outcome"] == "cancelled").count(), n + 1, "{asked}");
    }
    gateway.finish().await;
}
