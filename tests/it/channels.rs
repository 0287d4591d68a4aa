//! Backends over the old HTTP with server-sent events, and over WebSocket.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use toolgate::gateway::control::Command;

use crate::support::{Act, Client, FakeChannel, Setup, TestGateway, eventually, result, tool};

async fn start(backend: &FakeChannel) -> (TestGateway, Client) {
    start_with(&backend.section("up", "headers = { Authorization = \"Bearer t0k\" }")).await
}

async fn start_with(section: &str) -> (TestGateway, Client) {
    let gateway = Setup::new().config(section).start().await;
    let client = gateway.agent().await;
    (gateway, client)
}

async fn status(gateway: &TestGateway) -> Value {
    gateway.control(Command::ServersList).await["servers"][0].clone()
}

async fn down_because(gateway: &TestGateway, why: &str) {
    let status = status(gateway).await;
    let error = status["last_error"].as_str().unwrap_or_default();
    assert!(status["state"] == "down" && error.contains(why), "{why}: {status}");
}

#[tokio::test]
async fn a_backend_is_greeted_listed_and_called() {
    for backend in FakeChannel::all().await {
        backend.on_call(|heard| {
            let token = &heard["params"]["arguments"]["n"];
            Act::Say(vec![result(
                heard,
                &format!("{{ \"content\" : [], \"structuredContent\":{{\"n\":{token}, \"x\":1.50e2}} }}"),
            )])
        });
        let (gateway, client) = start(&backend).await;
        let answer = client.invoke("up", "read", r#"{"n":7}"#).await;
        assert!(answer.text.contains(r#"{"content" : [],"structuredContent":{"n":7, "x":1.50e2}"#), "{}", answer.text);
        let status = status(&gateway).await;
        assert_eq!(status["transport"], backend.kind());
        assert_eq!(status["tools"], 2);
        assert!(backend.headers().iter().all(|headers| headers["authorization"] == "Bearer t0k"));
        assert_eq!(backend.opened(), 1, "one channel for everything");
        gateway.finish().await;
    }
}

#[tokio::test]
async fn answers_come_in_any_order_and_messages_that_are_none_do_no_harm() {
    for backend in FakeChannel::all().await {
        let held = std::sync::Mutex::new(Vec::new());
        backend.on_call(move |heard| {
            let mut held = held.lock().unwrap();
            held.push(result(
                heard,
                &json!({"content": [], "structuredContent": heard["params"]["arguments"]}).to_string(),
            ));
            let noise = ["nonsense", "[]", r#"{"jsonrpc":"2.0","id":99999,"result":{}}"#].map(str::to_owned);
            if held.len() < 8 {
                Act::Silence
            } else {
                Act::Say(noise.into_iter().chain(held.drain(..).rev()).collect())
            }
        });
        let (gateway, client) = start(&backend).await;
        let calls = (0..8).map(|n| {
            let client = client.clone();
            async move { client.invoke("up", "read", &format!("{{\"n\":{n}}}")).await.result() }
        });
        for (n, answer) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
            assert_eq!(answer["structuredContent"]["n"], n);
        }
        gateway.finish().await;
    }
}

#[tokio::test]
async fn progress_and_requests_of_the_backend() {
    for backend in FakeChannel::all().await {
        backend.script(|heard| match heard["method"].as_str() {
            Some("tools/call") => {
                let token = &heard["params"]["_meta"]["progressToken"];
                let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
                let ping = json!({"jsonrpc": "2.0", "id": format!("p{}", heard["id"]), "method": "ping"});
                Some(Act::Say(vec![progress.to_string(), ping.to_string()]))
            }
            // The answer to the ping sets the call's answer free.
            None => {
                let id = heard["id"].as_str().unwrap().strip_prefix('p').unwrap();
                Some(Act::Say(vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)]))
            }
            _ => None,
        });
        let (gateway, client) = start(&backend).await;
        let params = json!({"name": "up:read", "arguments": {}, "_meta": {"progressToken": "mine"}});
        let mut stream = client.modern().request("tools/call", &params.to_string()).open().await;
        assert_eq!(stream.data().await.unwrap()["params"], json!({"progressToken": "mine", "progress": 1}));
        assert_eq!(stream.data().await.unwrap()["result"]["content"], json!([]));
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_channel_that_ends_fails_what_is_in_flight_at_once_and_is_opened_again() {
    for backend in FakeChannel::all().await {
        let (gateway, client) = start(&backend).await;
        backend.on_call(|heard| if heard["params"]["name"] == "write" { Act::HangUp } else { Act::Silence });
        let began = Instant::now();
        let (one, other) = tokio::join!(client.invoke("up", "read", "{}"), async {
            eventually("the first call arrives", async || (!backend.heard("tools/call").is_empty()).then_some(()))
                .await;
            client.invoke("up", "write", "{}").await
        });
        assert!(began.elapsed() < Duration::from_secs(5), "not at the timeout");
        // What reads is sent once more, into the same silence or a channel that is not there yet; what writes is not.
        assert_eq!((one.result()["isError"].clone(), other.result()["isError"].clone()), (json!(true), json!(true)));
        assert_eq!(backend.heard("tools/call").iter().filter(|call| call["params"]["name"] == "write").count(), 1);
        backend.on_call(|heard| Act::Say(vec![result(heard, r#"{"content":[]}"#)]));
        eventually("it is connected again", async || (status(&gateway).await["state"] == "ready").then_some(())).await;
        assert!(backend.opened() >= 2);
        eventually("calls go through again", async || {
            client.invoke("up", "write", "{}").await.result()["isError"].is_null().then_some(())
        })
        .await;
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled() {
    for backend in FakeChannel::all().await {
        backend.on_call(|_| Act::Silence);
        let (gateway, client) = start_with(&backend.section("up", "timeout = \"100ms\"")).await;
        assert_eq!(client.invoke("up", "write", "{}").await.result()["isError"], true);
        let told = eventually("it is told", async || backend.heard("notifications/cancelled").pop()).await;
        assert_eq!(told["params"]["requestId"], backend.heard("tools/call")[0]["id"]);
        assert_eq!(backend.opened(), 1);
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_changed_list_is_listed_again() {
    for backend in FakeChannel::all().await {
        let (gateway, client) = start(&backend).await;
        backend.set_tools(json!([tool("other", &json!({"readOnlyHint": true}))]));
        backend.tell(Some(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#));
        eventually("the new tool", async || client.invoke("up", "other", "{}").await.json().get("result").cloned())
            .await;
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_message_without_end_ends_the_channel() {
    for backend in [FakeChannel::sse().await, FakeChannel::ws(false).await] {
        let (gateway, client) = start(&backend).await;
        backend.on_call(|heard| Act::Say(vec![result(heard, &format!("{{\"x\":\"{}\"}}", "x".repeat(17 << 20)))]));
        let answer = client.invoke("up", "write", "{}").await.result();
        assert_eq!(answer["isError"], true);
        eventually("it is connected again", async || (backend.opened() >= 2).then_some(())).await;
        gateway.finish().await;
    }
}

#[tokio::test]
async fn messages_are_never_posted_to_another_origin() {
    let backend = FakeChannel::sse().await;
    let other = FakeChannel::sse().await;
    for endpoint in
        [format!("http://{}/messages", other.address), "https://127.0.0.1/messages".into(), "//e.example".into()]
    {
        backend.set_endpoint(&endpoint);
        let (gateway, _) = start(&backend).await;
        down_because(&gateway, "leads to another origin").await;
        gateway.finish().await;
    }
    assert!(other.headers().is_empty() && backend.heard("initialize").is_empty());
    backend.set_endpoint(&format!("http://{}/messages", backend.address));
    let (gateway, client) = start(&backend).await;
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "done", "its own, written out");
    gateway.finish().await;
}

#[tokio::test]
async fn a_post_that_is_refused_fails_its_call_alone() {
    let backend = FakeChannel::sse().await;
    let (gateway, client) = start(&backend).await;
    backend.on_call(|heard| match heard["params"]["name"] == "write" {
        true => Act::Status(500),
        false => Act::Say(vec![result(heard, r#"{"content":[]}"#)]),
    });
    assert_eq!(client.invoke("up", "write", "{}").await.result()["isError"], true);
    assert_eq!(client.invoke("up", "read", "{}").await.result()["content"], json!([]));
    assert_eq!(backend.opened(), 1);
    // A server that has lost the session will never answer on the stream.
    backend.on_call(|_| Act::Status(404));
    assert_eq!(client.invoke("up", "write", "{}").await.result()["isError"], true);
    eventually("another stream", async || (backend.opened() == 2).then_some(())).await;
    gateway.finish().await;
}

/// A plain `url` leads to an old server too: it takes no posts there, and a GET gives its stream.
#[tokio::test]
async fn an_old_server_is_found_without_being_named() {
    let backend = FakeChannel::sse().await;
    let section = backend.section("up", "").replace("transport = \"sse\"\n", "");
    let (gateway, client) = start_with(&section).await;
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "done");
    assert_eq!(status(&gateway).await["state"], "ready");
    gateway.finish().await;
    // Where nothing is of either kind, what is told is what Streamable HTTP met.
    let (gateway, _) = start_with(&section.replace("/mcp", "/elsewhere")).await;
    down_because(&gateway, "HTTP 404").await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_handshake_that_fails_says_why() {
    for (act, why) in [
        (Act::Status(401), "HTTP 401"),
        (Act::Status(404), "HTTP 404"),
        (Act::Silence, "does not speak the subprotocol `mcp`"),
    ] {
        let backend = FakeChannel::ws(true).await;
        backend.script(move |heard| (heard["method"] == "handshake").then(|| act.clone()));
        let (gateway, _) = start(&backend).await;
        down_because(&gateway, why).await;
        gateway.finish().await;
    }
    let backend = FakeChannel::ws(true).await;
    let (gateway, _) = start_with(&backend.section("up", "").replace("ws://", "wss://")).await;
    assert_eq!(status(&gateway).await["state"], "down", "no TLS there");
    gateway.finish().await;
}

/// A modern server may end the subscription to its changes: it is begun again, and what may have changed is listed anew.
#[tokio::test]
async fn a_subscription_that_a_server_ends_is_begun_again() {
    let backend = FakeChannel::ws(true).await;
    let listens = std::sync::atomic::AtomicUsize::new(0);
    let log =
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "hello"}});
    backend.script(move |heard| match heard["method"].as_str() {
        Some("subscriptions/listen") if listens.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
            Some(Act::Say(vec![result(heard, r#"{"resultType":"complete"}"#)]))
        }
        Some("tools/call") => Some(Act::Say(vec![log.to_string(), result(heard, r#"{"content":[]}"#)])),
        _ => None,
    });
    let (gateway, client) = start(&backend).await;
    backend.set_tools(json!([tool("newer", &json!({"readOnlyHint": true}))]));
    eventually("it is begun again", async || (backend.heard("subscriptions/listen").len() == 2).then_some(())).await;
    let client = client.at("/v1/mcp/servers/up");
    eventually("the tools are listed anew", async || (client.tools().await == ["newer"]).then_some(())).await;
    // The subscription is nobody's call: what is said beside one is still heard by who waits for it.
    let params = json!({"name": "newer", "_meta": {"io.modelcontextprotocol/logLevel": "debug"}});
    let answer = client.modern().rpc("tools/call", &params).await;
    assert!(answer.text.contains("notifications/message"), "{}", answer.text);
    gateway.finish().await;
}
