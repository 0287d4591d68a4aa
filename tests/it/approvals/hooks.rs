//! Who hears of new requests: signed, beside the call, and never in its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Bench;
use crate::support::{FakeUpstream, Say, eventually};

const SECRET: &str = "a secret of this very test";

fn webhook(receiver: &FakeUpstream) -> String {
    format!("[approvals]\nwebhook = \"http://{}/hook\"\nwebhook_secret = \"{SECRET}\"", receiver.address)
}

#[tokio::test]
async fn a_webhook_gets_each_new_request_once_and_signed() {
    let receiver = FakeUpstream::legacy().await;
    let bench = Bench::with(|setup| setup.config(&webhook(&receiver))).await;
    let id = bench.ask(&json!({"what": "secret words"})).await;
    assert_eq!(bench.ask(&json!({"what": "secret words"})).await, id);
    let seen = eventually("the webhook is told", async || receiver.seen().into_iter().next()).await;
    let body: Value = serde_json::from_str(&seen.text).unwrap();
    assert_eq!((&body["event"], &body["approval"]["id"]), (&json!("approval.requested"), &json!(id)));
    assert_eq!(body["approval"]["preview"], json!({"what": "[redacted 12 chars]"}));
    assert!(!seen.text.contains("secret words"), "the arguments stay here");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = seen.headers["toolgate-signature"].to_str().unwrap().strip_prefix("sha256=").unwrap().to_owned();
    let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&signature[at * 2..at * 2 + 2], 16).unwrap()).collect();
    ring::hmac::verify(&key, seen.text.as_bytes(), &bytes).unwrap();
    // What comes of it is no new request.
    bench.approve(&id).await;
    bench.run(&json!({"what": "secret words"})).await;
    bench.ask(&json!({"what": "other"})).await;
    eventually("the next one is told", async || (receiver.seen().len() == 2).then_some(())).await;
    bench.finish().await;
}

#[tokio::test]
async fn a_webhook_that_fails_is_tried_again_and_one_that_refuses_is_not() {
    let receiver = FakeUpstream::legacy().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    receiver.gate(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Some(http::StatusCode::SERVICE_UNAVAILABLE.into_response()),
        1 => None,
        _ => Some(http::StatusCode::FORBIDDEN.into_response()),
    });
    let bench = Bench::with(|setup| setup.config(&webhook(&receiver))).await;
    bench.ask(&json!({"n": 1})).await;
    eventually("it is told at last", async || (receiver.seen().len() == 1).then_some(())).await;
    bench.ask(&json!({"n": 2})).await;
    eventually("it is told once more", async || (tries.load(Ordering::SeqCst) == 3).then_some(())).await;
    bench.finish().await;
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

/// A receiver that never answers costs the call nothing.
#[tokio::test]
async fn a_webhook_that_hangs_holds_nothing_up() {
    let receiver = FakeUpstream::legacy().await;
    receiver.script(|_| Some(Say::Hang));
    let bench = Bench::with(|setup| setup.config(&webhook(&receiver))).await;
    for n in 0..20 {
        bench.ask(&json!({"n": n})).await;
    }
    eventually("some are on their way", async || (receiver.seen().len() == 4).then_some(())).await;
    let id = bench.ask(&json!({"n": 0})).await;
    bench.approve(&id).await;
    bench.run(&json!({"n": 0})).await;
    receiver.gate(|_| Some(http::StatusCode::FORBIDDEN.into_response()));
    bench.finish().await;
}

#[tokio::test]
async fn a_program_gets_the_request_on_its_standard_input() {
    let folder = tempfile::TempDir::new().unwrap();
    let (out, done) = (folder.path().join("out"), folder.path().join("done"));
    let script = format!("cat > {}; env > {}.env; mv {0} {1}", out.display(), done.display());
    let config = format!("[approvals]\ncommand = [\"/bin/sh\", \"-c\", {}]", Value::from(script));
    let bench = Bench::with(|setup| setup.config(&config)).await;
    let id = bench.ask(&json!({"what": "$(touch /tmp/never)"})).await;
    let text = eventually("the program has run", async || std::fs::read_to_string(&done).ok()).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["approval"]["id"], json!(id));
    let environment = std::fs::read_to_string(folder.path().join("done.env")).unwrap();
    assert!(!environment.contains("CARGO"), "little of the environment: {environment}");
    bench.finish().await;
}
