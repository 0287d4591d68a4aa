//! Resources that are followed at a modern server: what it has taken, and nothing missed in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{FakeUpstream, Say, Seen, Setup, Stream, eventually, soon};

const ROUTE: &str = "/v1/mcp/servers/up";
const UPDATED: &str = "notifications/resources/updated";

/// A modern server whose resources can be followed, as `taken` says.
async fn library(taken: impl Fn(&Seen, &[Value]) -> Say + Send + Sync + 'static) -> FakeUpstream {
    let upstream = FakeUpstream::modern().await;
    upstream.script(move |seen| match seen.method() {
        "server/discover" => {
            let capabilities = json!({"tools": {}, "resources": {"subscribe": true}});
            let offers =
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities});
            Some(Say::Result(offers.to_string()))
        }
        "subscriptions/listen" => {
            let asked = seen.json["params"]["notifications"]["resourceSubscriptions"].as_array().cloned();
            asked.map(|asked| taken(seen, &asked))
        }
        _ => None,
    });
    upstream
}

fn told(seen: &Seen, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": seen.json["id"]});
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

fn acknowledges(seen: &Seen, uris: &[Value]) -> String {
    let notifications = json!({"resourceSubscriptions": uris});
    told(seen, "notifications/subscriptions/acknowledged", json!({"notifications": notifications}))
}

async fn updates(stream: &mut Stream) -> Value {
    loop {
        let message = soon("an update", stream.data()).await.expect("the stream goes on");
        if message["method"] == UPDATED {
            return message["params"]["uri"].clone();
        }
    }
}

#[tokio::test]
async fn a_client_is_told_what_the_server_has_taken_and_no_more() {
    let upstream = library(|seen, asked| Say::EventsThenHang(vec![acknowledges(seen, &asked[..1])])).await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let wanted = json!({"notifications": {"resourceSubscriptions": ["x://a", "x://b"]}}).to_string();
    let mut stream = client.modern().request("subscriptions/listen", &wanted).open().await;
    let first = soon("the acknowledgement", stream.data()).await.unwrap();
    assert_eq!(first["params"]["notifications"], json!({"resourceSubscriptions": ["x://a"]}));
    let legacy = client.legacy().await;
    legacy.rpc("resources/subscribe", &json!({"uri": "x://a"})).await.result();
    let refused = legacy.rpc("resources/subscribe", &json!({"uri": "x://b"})).await;
    assert_eq!(refused.refused(), (200, -32603), "{}", refused.text);
    gateway.finish().await;
}

/// Nobody waits for an acknowledgement that cannot come.
#[tokio::test]
async fn a_server_that_takes_no_subscription_says_so_at_once() {
    let upstream = library(|_, _| Say::Error(r#"{"code":-32601,"message":"no"}"#.into())).await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let wanted = json!({"notifications": {"resourceSubscriptions": ["x://a"]}});
    let began = tokio::time::Instant::now();
    let modern = client.modern().rpc("subscriptions/listen", &wanted).await;
    let legacy = client.legacy().await.rpc("resources/subscribe", &json!({"uri": "x://a"})).await;
    for refused in [modern, legacy] {
        assert_eq!(refused.refused(), (200, -32603), "{}", refused.text);
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    gateway.finish().await;
}

/// What changes after its answer a client hears of.
#[tokio::test]
async fn a_legacy_client_is_answered_once_somebody_listens() {
    let upstream =
        library(|seen, asked| Say::Held(Box::new(Say::EventsThenHang(vec![acknowledges(seen, asked)])))).await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    for (n, uri) in ["x://a", "x://b"].into_iter().enumerate() {
        let answered = std::cell::Cell::new(false);
        let asking = async {
            client.rpc("resources/subscribe", &json!({"uri": uri})).await.result();
            answered.set(true);
        };
        let listens = || upstream.seen().iter().filter(|seen| seen.text.contains("resourceSubscriptions")).count();
        let acknowledging = async {
            eventually("somebody listens", async || (listens() == n + 1).then_some(())).await;
            assert!(!answered.get(), "{uri}: nobody is heard yet");
            upstream.release(1);
        };
        tokio::join!(asking, acknowledging);
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_listener_that_comes_back_tells_of_what_it_may_have_missed() {
    let count = Arc::new(AtomicUsize::new(0));
    let nth = Arc::clone(&count);
    let upstream = library(move |seen, asked| {
        let first = acknowledges(seen, asked);
        match nth.fetch_add(1, Ordering::SeqCst) {
            // Ends at once: what changes then nobody hears.
            0 => Say::Events(vec![first], r#"{"resultType":"complete"}"#.into()),
            _ => Say::EventsThenHang(vec![first]),
        }
    })
    .await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).modern();
    let wanted = json!({"notifications": {"resourceSubscriptions": ["x://a"]}}).to_string();
    let mut stream = client.request("subscriptions/listen", &wanted).open().await;
    assert_eq!(updates(&mut stream).await, "x://a");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    gateway.finish().await;
}
