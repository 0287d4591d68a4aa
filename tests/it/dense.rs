//! Texts that are made to be dense with what takes long to look at: they hold nobody up.

use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{FakeUpstream, Say, Setup, TestGateway};

/// Does something, and says how long that took, and how long the longest answer of `/healthz` took meanwhile. The gateway of
/// a test has one thread.
async fn beside<T>(gateway: &TestGateway, work: impl Future<Output = T>) -> (T, Duration, Duration) {
    let (client, done) = (gateway.stranger(), CancellationToken::new());
    let probe = async {
        let mut longest = Duration::ZERO;
        while !done.is_cancelled() {
            let began = Instant::now();
            assert_eq!(client.get("/healthz").send().await.status, 200);
            longest = longest.max(began.elapsed());
        }
        longest
    };
    let timed = async {
        let began = Instant::now();
        let answer = work.await;
        done.cancel();
        (answer, began.elapsed())
    };
    let (longest, (answer, whole)) = tokio::join!(probe, timed);
    (answer, longest, whole)
}

#[track_caller]
fn held_nobody_up(longest: Duration, whole: Duration) {
    assert!(longest * 4 < whole, "of {whole:?} somebody waited {longest:?}");
}

fn dense(bytes: usize) -> String {
    "-----BEGIN RSA PRIVATE KEY-----Ab1+Ab1+".repeat(bytes / 39)
}

/// Lists of values, in which each dialect has to be tried.
fn lists() -> Value {
    let text = |of: &str| format!("{of}1 -- `");
    json!([text(&format!("SELECT {}", "1,".repeat(8000))), text(&format!("VALUES {}", "((1)),".repeat(3000)))])
}

#[tokio::test]
async fn a_preflight_and_a_simulation() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let call = json!({"server": "up", "tool": "write", "arguments": {"a": dense(16_000)}});
    let calls = Value::Array(vec![call.clone(); 25]);
    let asked = json!({ "calls": calls });
    let (answer, longest, whole) = beside(&gateway, client.call("preflight.check", &asked)).await;
    assert_eq!(answer.result()["structuredContent"]["counts"]["calls"], 25);
    held_nobody_up(longest, whole);
    let question = json!({"server": "up", "tool": "write", "arguments": {"a": dense(300_000), "sql": lists()}});
    let (report, longest, whole) = beside(&gateway, client.simulate(&question)).await;
    assert!(report["effects"].to_string().contains("sql.unparsed"), "{report}");
    held_nobody_up(longest, whole);
    gateway.finish().await;
}

#[tokio::test]
async fn calls_and_what_comes_back() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::text(&dense(60_000)));
    let modes = "dlp = { arguments = \"redact\", results = \"redact\" }";
    let gateway = Setup::new().config(&upstream.section("up", modes)).start().await;
    let client = gateway.agent().await;
    let arguments = json!({"sql": lists(), "a": dense(60_000)}).to_string();
    let call = || client.invoke("up", "read", &arguments);
    let (answers, longest, whole) = beside(&gateway, join_all((0..4).map(|_| call()))).await;
    assert_eq!(answers[0].status, 200, "{}", answers[0].text);
    held_nobody_up(longest, whole);
    let call = || client.invoke("up", "read", "{}");
    let (answers, longest, whole) = beside(&gateway, join_all((0..4).map(|_| call()))).await;
    assert_eq!(answers[0].governance()["dlp_result"], "blocked", "what cannot be scanned whole");
    held_nobody_up(longest, whole);
    gateway.finish().await;
}
