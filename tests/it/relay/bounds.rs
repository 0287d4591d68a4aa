//! What one server or one client can cost: nobody else notices, and what waits has an end.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::support::{Act, FakeChannel, FakeUpstream, Say, Setup, eventually, result, soon, tool};

/// A body of so many mebibytes that never ends.
fn endless(mebibytes: usize) -> Response {
    let pieces = futures_util::stream::iter(std::iter::repeat_n(Bytes::from(vec![b' '; 1 << 20]), mebibytes));
    let body = Body::from_stream(pieces.map(Ok::<_, std::convert::Infallible>).chain(futures_util::stream::pending()));
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_to_one_key_have_a_bound_together_and_others_get_theirs() {
    let upstream = FakeUpstream::modern().await;
    upstream.gate(|parts| {
        let named = |name: &str| parts.headers.get("mcp-name").is_some_and(|given| given == name);
        named("read").then(|| endless(20))
    });
    let gateway = Setup::with(&upstream).start().await;
    let (ann, bob) = (gateway.agent().await.modern(), gateway.agent().await.modern());
    let calls = TaskTracker::new();
    let (ended, mut codes) = tokio::sync::mpsc::channel(8);
    let running: Vec<_> = (0..8)
        .map(|_| {
            let (call, ended) = (ann.request("tools/call", r#"{"name":"up:read","arguments":{}}"#), ended.clone());
            calls.spawn(async move { ended.send(call.send().await.denied().to_owned()).await.ok() })
        })
        .collect();
    for _ in 0..2 {
        assert_eq!(soon("one call too many ends", codes.recv()).await.as_deref(), Some("backend_busy"));
    }
    assert_eq!(ann.call("up:again", &json!({})).await.told(), "done", "a small answer takes no room");
    upstream.on_call(|_| Say::text(&"x".repeat(2 << 20)));
    assert_eq!(bob.call("up:write", &json!({})).await.told().len(), 2 << 20, "another key has room of its own");
    running.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("what was given up is closed", async || (gateway.gateway.open_entries() == 0).then_some(())).await;
    gateway.finish().await;
}

#[tokio::test]
async fn an_argument_that_is_too_long_for_its_header_is_told_before_anything_is_sent() {
    let upstream = FakeUpstream::modern().await;
    let mut mirrored = tool("read", &json!({"readOnlyHint": true}));
    mirrored["inputSchema"] =
        json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
    upstream.set_tools(json!([mirrored]));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let long = client.invoke("up", "read", &json!({"region": "x".repeat(5_000)}).to_string()).await;
    assert!(long.told().contains("/region") && long.told().contains("header"), "{}", long.text);
    assert_eq!(upstream.calls().len(), 0);
    let short = client.invoke("up", "read", &json!({"region": "x".repeat(4_000)}).to_string()).await;
    assert_eq!(short.told(), "done");
    gateway.finish().await;
}

#[tokio::test]
async fn a_list_that_takes_long_is_there_for_whoever_asks_next() {
    let upstream = FakeUpstream::legacy().await;
    let info = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"resources":{}},"serverInfo":{"name":"fake","version":"1"}}"#;
    let list = r#"{"resources":[{"uri":"file:///a","name":"a"}]}"#;
    upstream.script(move |seen| match seen.method() {
        "initialize" => Some(Say::Result(info.into())),
        "resources/list" => Some(Say::Held(Box::new(Say::Result(list.into())))),
        _ => None,
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at("/v1/mcp/servers/up");
    let asking = client.request("resources/list", "{}");
    let leaving = TaskTracker::new().spawn(async move { asking.try_send().await.is_some() });
    let lists = || upstream.seen().iter().filter(|seen| seen.method() == "resources/list").count();
    eventually("the list is asked for", async || (lists() == 1).then_some(())).await;
    leaving.abort();
    assert!(leaving.await.is_err());
    upstream.release(1);
    let answer = soon("the list", client.rpc("resources/list", &json!({}))).await.result();
    assert_eq!(answer["resources"][0]["uri"], "file:///a");
    assert_eq!(lists(), 1, "who left has not stopped it");
    gateway.finish().await;
}

#[tokio::test]
async fn an_answer_has_the_bound_that_its_server_is_given() {
    let (http, ws) = (FakeUpstream::legacy().await, FakeChannel::ws(false).await);
    let answer = |n: &Value| json!({"content": [{"type": "text", "text": "x".repeat(n.as_u64().unwrap() as usize)}]});
    http.on_call(move |seen| Say::Result(answer(&seen.json["params"]["arguments"]["n"]).to_string()));
    ws.on_call(move |heard| Act::Say(vec![result(heard, &answer(&heard["params"]["arguments"]["n"]).to_string())]));
    let config = http.section("http", "max_answer = 65536") + &ws.section("ws", "max_answer = 65536");
    let gateway = Setup::new().config(&config).start().await;
    let client = gateway.agent().await;
    for server in ["http", "ws"] {
        for (n, fits) in [(60_000, true), (70_000, false)] {
            let answer = client.invoke(server, "read", &json!({"n": n}).to_string()).await;
            assert_eq!(answer.result()["isError"] != json!(true), fits, "{server} {n}: {}", answer.status);
        }
    }
    gateway.finish().await;
}

#[tokio::test]
async fn large_answers_have_the_room_that_is_configured_and_another_after_a_change() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::text(&"x".repeat(9 << 20)));
    let config = |bytes: u64| format!("[gateway]\nmax_answers = {bytes}\n{}", upstream.section("up", ""));
    let gateway = Setup::new().config(&config(16 << 20)).start().await;
    let client = gateway.agent().await;
    assert_eq!(client.call("up:read", &json!({})).await.denied(), "backend_busy", "more than a key's half");
    gateway.write("toolgate.toml", &config(64 << 20));
    eventually("there is room", async || {
        let answer = client.call("up:read", &json!({})).await;
        (answer.result()["isError"] != json!(true)).then_some(())
    })
    .await;
    gateway.finish().await;
}

/// An answer that waits on a stream for its client takes room until that has taken it.
#[tokio::test]
async fn a_large_answer_that_waits_on_a_stream_counts_until_it_is_read() {
    const LARGE: usize = 5 << 20;
    const ROUTE: &str = "/v1/mcp/servers/up";
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| match seen.tool() {
        "read" => Say::Held(Box::new(Say::text(&"x".repeat(LARGE)))),
        _ => Say::text(&"x".repeat(LARGE)),
    });
    let config = format!("[gateway]\nmax_answers = {}\n{}", 16 << 20, upstream.section("up", ""));
    let gateway = Setup::new().config(&config).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    let mut stream = client.request("tools/call", r#"{"name":"read"}"#).open().await;
    soon("the first event", stream.next()).await.unwrap();
    let id = stream.last_id.clone().unwrap();
    drop(stream);
    upstream.release(1);
    let ended = || gateway.gateway.open_entries() == 0;
    eventually("the call ends", async || ended().then_some(())).await;
    let again = async || client.call("again", &json!({})).await;
    let refused = again().await;
    assert!(refused.text.contains("finds no room"), "{}", &refused.text[..refused.text.len().min(300)]);
    let mut rest = client.get(ROUTE).header("accept", "text/event-stream").header("last-event-id", &id).open().await;
    let answer = soon("the answer", rest.data()).await.unwrap();
    assert_eq!(answer["result"]["content"][0]["text"].as_str().unwrap().len(), LARGE);
    assert!(soon("the end", rest.data()).await.is_none());
    eventually("there is room again", async || (again().await.text.len() > LARGE).then_some(())).await;
    gateway.finish().await;
}
