//! Backends that are slow, broken or gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::{FakeUpstream, Say, Setup, eventually};

#[tokio::test]
async fn a_slow_backend_is_given_up_and_told() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::new().config(&upstream.section("up", "timeout = \"200ms\"")).start().await;
    upstream.on_call(|_| Say::Hang);
    let client = gateway.agent().await;
    let answer = client.invoke("up", "write", "{}").await;
    assert_eq!((answer.status, answer.denied().as_str()), (200, "backend_timeout"));
    let error = answer.result()["structuredContent"]["error"].clone();
    assert_eq!((error["retryable"].clone(), error["breaker"].clone()), (json!(false), json!("closed")));
    assert!(answer.told().contains("whether the call took effect is not known"), "{}", answer.told());
    let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
    assert_eq!((record["decision"].clone(), record["outcome"].clone()), (json!("allow"), json!("failed")));
    eventually("the backend is left", async || (upstream.left() == 1).then_some(())).await;
    eventually("a legacy backend is told", async || {
        upstream.seen().iter().any(|seen| seen.method() == "notifications/cancelled").then_some(())
    })
    .await;
    let read = client.invoke("up", "read", "{}").await;
    assert_eq!(read.result()["structuredContent"]["error"]["retryable"], true, "reading again is safe");
    gateway.finish().await;
}

/// A backend's numbers are those of the client's era; what is about the gateway's own request is no news about the client's.
#[tokio::test]
async fn numbers_are_those_of_the_clients_era() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| {
        let code = &seen.json["params"]["arguments"]["code"];
        Say::Error(format!(r#"{{"code":{code},"message":"said so","data":{{"n":1.50}}}}"#))
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for (code, legacy, modern) in [
        (-32002, Some(-32002), Some(-32602)),
        (-32042, Some(-32042), Some(-32603)),
        (-32602, Some(-32602), Some(-32602)),
        (-32000, Some(-32000), Some(-32000)),
        (-32020, None, None),
        (-32021, None, None),
    ] {
        for (client, number) in [(client.legacy().await, legacy), (client.modern(), modern)] {
            // A server that speaks of the other era is greeted anew, which takes a moment.
            let answer = eventually("the server answers", async || {
                let answer = client.call("up:read", &json!({"code": code})).await;
                (number.is_some() || answer.denied() != "backend_down").then_some(answer)
            })
            .await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            match number {
                Some(number) => {
                    assert_eq!(answer.error()["code"], number, "{}", answer.text);
                    assert!(answer.text.contains(r#""data":{"n":1.50}"#), "{}", answer.text);
                }
                None => assert_eq!(answer.denied(), "backend_error", "{code}"),
            }
        }
    }
    gateway.finish().await;
}

/// Calls seen at the backend, for a tool that fails every time.
async fn attempts(tool: &str) -> usize {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    upstream.on_call(|_| Say::Status(503));
    let client = gateway.agent().await;
    let answer = client.invoke("up", tool, "{}").await;
    assert_eq!(answer.denied(), "backend_down");
    gateway.finish().await;
    upstream.calls().len()
}

#[tokio::test]
async fn only_what_may_be_repeated_is_sent_again() {
    assert_eq!(attempts("read").await, 2);
    assert_eq!(attempts("again").await, 2);
    assert_eq!(attempts("write").await, 1);
}

#[tokio::test]
async fn a_second_try_that_succeeds_is_the_answer() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    upstream.on_call(
        move |_| if counted.fetch_add(1, Ordering::SeqCst) == 0 { Say::Status(502) } else { Say::text("second") },
    );
    let answer = gateway.agent().await.invoke("up", "read", "{}").await;
    assert_eq!(answer.told(), "second");
    assert_eq!(gateway.records().await.len(), 1, "one call, one record");
    gateway.finish().await;
}

#[tokio::test]
async fn after_five_failures_a_backend_is_left_alone() {
    let (sick, well) = (FakeUpstream::legacy().await, FakeUpstream::legacy().await);
    let gateway = Setup::new().config(&sick.section("sick", "")).config(&well.section("well", "")).start().await;
    sick.on_call(|_| Say::Status(500));
    let client = gateway.agent().await;
    for _ in 0..5 {
        assert_eq!(client.invoke("sick", "write", "{}").await.denied(), "backend_down");
    }
    let before = sick.calls().len();
    let refused = client.invoke("sick", "write", "{}").await;
    assert_eq!(refused.denied(), "backend_down");
    let error = refused.result()["structuredContent"]["error"].clone();
    assert_eq!((error["breaker"].clone(), error["retryable"].clone()), (json!("open"), json!(true)));
    assert!(error["retry_after"].is_u64());
    assert_eq!(sick.calls().len(), before, "it was not asked");
    let report = client.simulate(&json!({"action": "sick:write"})).await;
    assert_eq!((report["decision"].clone(), report["breaker"]["state"].clone()), (json!("allow"), json!("open")));
    assert_eq!(client.invoke("well", "write", "{}").await.told(), "done", "nobody else is concerned");
    sick.on_call(|_| Say::text("recovered"));
    eventually("the breaker closes", async || {
        let answer = client.invoke("sick", "read", "{}").await;
        (answer.told() == "recovered").then_some(())
    })
    .await;
    gateway.finish().await;
}

/// 429 is an answer in good order: it opens no breaker.
#[tokio::test]
async fn a_busy_backend_is_not_a_broken_one() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    upstream.on_call(|_| Say::Status(429));
    let client = gateway.agent().await;
    for _ in 0..8 {
        let answer = client.invoke("up", "write", "{}").await;
        assert_eq!(answer.denied(), "backend_busy");
        assert_eq!(answer.result()["structuredContent"]["error"]["breaker"], "closed");
    }
    assert_eq!(upstream.calls().len(), 8);
    gateway.finish().await;
}

#[tokio::test]
async fn a_backend_that_is_gone_is_said_to_be_down() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    drop(upstream);
    let answer = eventually("the backend stops", async || {
        let answer = client.invoke("up", "write", "{}").await;
        (answer.result()["isError"] == true).then_some(answer)
    })
    .await;
    assert_eq!(answer.denied(), "backend_down");
    assert!(!answer.told().contains("127.0.0.1"), "nothing of its inside: {}", answer.told());
    gateway.finish().await;
}

/// A backend that is not there at the start does not hold up the others, and is taken in when it comes.
#[tokio::test]
async fn late_backends_are_taken_in() {
    let (here, late) = (FakeUpstream::legacy().await, FakeUpstream::legacy().await);
    late.script(|_| Some(Say::Status(503)));
    let gateway = Setup::new().config(&here.section("here", "")).config(&late.section("late", "")).start().await;
    let client = gateway.agent().await;
    assert_eq!(client.get("/readyz").send().await.status, 200, "it has failed once, which is settled");
    assert_eq!(client.invoke("here", "read", "{}").await.told(), "done");
    assert_eq!(client.invoke("late", "read", "{}").await.refused(), (200, -32602));
    late.script(|_| None);
    eventually("the late one is indexed", async || {
        let answer = client.invoke("late", "read", "{}").await;
        (answer.json().get("result").is_some()).then_some(())
    })
    .await;
    gateway.finish().await;
}
