//! Nobody's arguments, answers or credentials reach anybody else.

use serde_json::json;

use crate::support::{Client, FakeUpstream, Say, Setup};

/// Answers with the nonce that it was asked with, and its own name.
fn echo(upstream: &FakeUpstream, name: &'static str) {
    upstream.on_call(move |seen| {
        Say::text(&format!("{name}:{}", seen.json["params"]["arguments"]["nonce"].as_str().unwrap()))
    });
}

async fn ask(client: &Client, who: usize, server: &'static str, n: usize) {
    let nonce = format!("{who}-{n}");
    let tool = if n.is_multiple_of(3) { "write" } else { "read" };
    let answer = client.invoke(server, tool, &json!({"nonce": nonce}).to_string()).await;
    assert_eq!(answer.told(), format!("{server}:{nonce}"));
}

#[tokio::test]
async fn interleaved_calls_never_mix() {
    let (legacy, modern) = (FakeUpstream::legacy().await, FakeUpstream::modern().await);
    echo(&legacy, "old");
    echo(&modern, "new");
    let gateway = Setup::new()
        .config(&legacy.section("old", "concurrency = 16"))
        .config(&modern.section("new", ""))
        .start()
        .await;
    let (one, two) = (gateway.agent().await, gateway.agent().await);
    let clients = [one.clone(), two.clone(), one.legacy().await, two.modern()];
    let calls = (0..600).map(|n| {
        let server = if n % 2 == 0 { "old" } else { "new" };
        let client = clients[n % 4].clone();
        async move { ask(&client, n % 4, server, n).await }
    });
    let stream = futures_util::stream::iter(calls);
    futures_util::StreamExt::for_each_concurrent(stream, 48, |call| call).await;
    let nonces = |upstream: &FakeUpstream| {
        let mut nonces: Vec<String> =
            upstream.calls().iter().map(|call| call.json["params"]["arguments"]["nonce"].to_string()).collect();
        let all = nonces.len();
        nonces.sort();
        nonces.dedup();
        (all, nonces.len())
    };
    assert_eq!(nonces(&legacy), (300, 300), "each call arrived once");
    assert_eq!(nonces(&modern), (300, 300));
    assert_eq!(gateway.records().await.len(), 600);
    gateway.finish().await;
}

/// The backend sees the gateway and its configured headers, and nothing that a client sent about itself.
#[tokio::test]
async fn no_credential_of_a_client_reaches_a_backend() {
    for upstream in [FakeUpstream::legacy().await, FakeUpstream::modern().await] {
        let other = FakeUpstream::legacy().await;
        let config = upstream.section("up", "headers = { Authorization = \"Bearer ${TEST_TOKEN}\" }");
        let gateway = Setup::new().config(&config).config(&other.section("other", "")).start().await;
        let key = gateway.writer("agent").await;
        let bare = gateway.client(&key);
        let host = bare.legacy().await;
        for client in [&bare, &host, &bare.modern()] {
            for server in ["up", "other"] {
                let params = crate::support::invoke_params(server, "write", "{}");
                let draft = client.request("tools/call", &params);
                let marked = draft
                    .header("authorization", &format!("Bearer {}", key.text))
                    .header("cookie", "session=client-cookie")
                    .header("x-forwarded-for", "203.0.113.7")
                    .header("x-internal-auth", "client-mark")
                    .header("mcp-param-x", "client-mark")
                    .header("user-agent", "client-mark")
                    .header("traceparent", "client-mark");
                assert_eq!(marked.send().await.told(), "done");
            }
        }
        let secrets =
            [key.text.as_str(), &key.id, host.session(), "client-cookie", "client-mark", "203.0.113.7", "tester"];
        for (backend, seen) in
            upstream.seen().iter().map(|seen| ("up", seen)).chain(other.seen().iter().map(|seen| ("other", seen)))
        {
            let all = format!("{:?} {}", seen.headers, seen.text);
            for secret in secrets {
                assert!(!all.contains(secret), "{backend} was sent `{secret}`: {all}");
            }
            let token = seen.headers.get("authorization").map(|value| value.to_str().unwrap());
            assert_eq!(token, (backend == "up").then_some("Bearer a-secret-of-the-gateway"));
        }
        assert_eq!(upstream.calls().len() + other.calls().len(), 6);
        let records = gateway.records().await;
        assert!(!json!(records).to_string().contains("a-secret-of-the-gateway"));
        gateway.finish().await;
    }
}

/// Two keys with different grants ask for lists in turn: each always gets its own.
#[tokio::test]
async fn lists_are_never_shared() {
    let upstream = FakeUpstream::legacy().await;
    let setup = Setup::with(&upstream)
        .profile("one", "scopes = [\"tools:read\"]\nallowed_tools = [\"up:read\"]\nsurface = \"direct\"");
    let gateway = setup
        .profile("two", "scopes = [\"tools:read\"]\nallowed_tools = [\"up:write\"]\nsurface = \"direct\"")
        .start()
        .await;
    let (one, two) = (gateway.client(&gateway.writer("one").await), gateway.client(&gateway.writer("two").await));
    for _ in 0..100 {
        let (first, second) = tokio::join!(one.tools(), two.tools());
        assert_eq!((first, second), (vec!["up__read".to_owned()], vec!["up__write".to_owned()]));
    }
    gateway.finish().await;
}

/// Trace context travels in `_meta` where the client puts it there, and nothing else of its `_meta` does.
#[tokio::test]
async fn of_the_clients_meta_only_the_trace_travels() {
    let upstream = FakeUpstream::modern().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let params = json!({"name": "up:read", "arguments": {}, "_meta": {"traceparent": trace, "baggage": "a=b", "vendor/secret": "client-mark"}});
    client.rpc("tools/call", &params).await.result();
    let meta = upstream.calls()[0].json["params"]["_meta"].clone();
    assert_eq!((meta["traceparent"].clone(), meta["baggage"].clone()), (json!(trace), json!("a=b")));
    assert!(!meta.to_string().contains("client-mark"), "{meta}");
    gateway.finish().await;
}
