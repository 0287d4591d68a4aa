//! `[telemetry]` that changes while the gateway runs.

use super::audit_id;
use super::telemetry::{Collector, attributes};
use crate::support::{FakeUpstream, Setup, eventually};

#[tokio::test]
async fn another_receiver_takes_over_from_the_next_call_on() {
    let (upstream, one, other) = (FakeUpstream::modern().await, Collector::start().await, Collector::start().await);
    let gateway = Setup::with(&upstream).config(&one.section("")).start().await;
    let client = gateway.agent().await;
    let has = |collector: &Collector, event: &str| {
        let spans = collector.spans();
        spans
            .iter()
            .any(|span| attributes(&span.attributes).get("toolgate.audit_event_id").is_some_and(|id| id == event))
    };
    let first = audit_id(&client.invoke("up", "read", "{}").await);
    let config = |telemetry: &str| format!("{}\n{telemetry}", upstream.section("up", ""));
    gateway.write("toolgate.toml", &config(&other.section("")));
    let mut later = Vec::new();
    let second = eventually("the other receiver hears of a call", async || {
        later.push(audit_id(&client.invoke("up", "read", "{}").await));
        later.iter().find(|event| has(&other, event)).cloned()
    })
    .await;
    eventually("what was begun before is sent where it began", async || has(&one, &first).then_some(())).await;
    assert!(!has(&one, &second) && !has(&other, &first));
    gateway.write("toolgate.toml", &config(""));
    eventually("nothing is made any more", async || (!gateway.gateway.makes_spans()).then_some(())).await;
    gateway.finish().await;
}
