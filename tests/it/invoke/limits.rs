//! Limits: exact windows, told in the way that the caller understands.

use serde_json::json;
use toolgate::domain::call::ToolRef;
use toolgate::gateway::NewKey;

use crate::support::{Client, FakeUpstream, Say, Setup, TestGateway, eventually};

async fn planned(gateway: &TestGateway, plan: &str) -> Client {
    let key = NewKey {
        name: "p".into(),
        profile: "agent".into(),
        user: "u".into(),
        roles: vec!["writer".into()],
        plan: Some(plan.into()),
        ..NewKey::default()
    };
    gateway.client(&gateway.create(key).await)
}

#[tokio::test]
async fn a_tools_window_is_shared_and_exact() {
    let upstream = FakeUpstream::legacy().await;
    let rows = "[servers.up.tools.read]\nrate_limit = \"2/min\"\n[servers.up.tools.write]";
    let gateway = Setup::new().config(&upstream.section("up", rows)).start().await;
    let (one, other) = (gateway.agent().await, gateway.agent().await);
    for arguments in ["[]", "3"] {
        one.invoke("up", "read", arguments).await;
    }
    assert_eq!(one.invoke("up", "read", "{}").await.told(), "done", "what was not sent is not counted");
    assert_eq!(other.invoke("up", "read", "{}").await.told(), "done");
    let bare = one.invoke("up", "read", "{}").await;
    assert_eq!(bare.status, 429);
    let seconds: u64 = bare.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(bare.error()["data"]["retry_after"], seconds);
    for host in [other.legacy().await, other.modern()] {
        let told = host.invoke("up", "read", "{}").await;
        assert_eq!((told.status, told.denied().as_str()), (200, "rate_limited"));
        assert!(told.told().contains("2/min") && told.told().contains("seconds"), "{}", told.told());
        assert_eq!(told.governance()["decision"], "deny");
        let record = gateway.record(told.header("toolgate-audit-id").unwrap()).await;
        assert_eq!(record["outcome"], "refused");
    }
    assert_eq!(one.invoke("up", "write", "{}").await.told(), "done", "another tool");
    let report = one.simulate(&json!({"action": "up:read"})).await;
    assert_eq!((report["limits"][0]["used"].clone(), report["limits"][0]["remaining"].clone()), (json!(2), json!(0)));
    assert_eq!(upstream.calls().len(), 3);
    gateway.finish().await;
}

#[tokio::test]
async fn a_servers_window_counts_all_its_tools() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::new().config(&upstream.section("up", "rate_limit = \"2/min\"")).start().await;
    let client = gateway.agent().await;
    assert_eq!(client.invoke("up", "read", "{}").await.status, 200);
    assert_eq!(client.invoke("up", "write", "{}").await.status, 200);
    assert_eq!(client.invoke("up", "again", "{}").await.status, 429);
    assert_eq!(upstream.calls().len(), 2);
    gateway.finish().await;
}

#[tokio::test]
async fn a_plan_counts_requests_and_invocations() {
    let upstream = FakeUpstream::legacy().await;
    let plans = "[plans.calls]\ninvocations_per_minute = 2\n[plans.asks]\nrequests_per_minute = 3";
    let gateway = Setup::with(&upstream).config(plans).start().await;
    let calls = planned(&gateway, "calls").await;
    for _ in 0..5 {
        assert_eq!(calls.rpc("tools/list", &json!({})).await.status, 200, "lists are no invocations");
        assert_eq!(calls.simulate(&json!({"action": "up:write"})).await["decision"], "allow", "nothing is charged");
    }
    assert_eq!(calls.invoke("up", "read", "{}").await.status, 200);
    assert_eq!(calls.invoke("up", "read", "{}").await.status, 200);
    assert_eq!(calls.invoke("up", "read", "{}").await.status, 429);
    let asks = planned(&gateway, "asks").await;
    let host = asks.legacy().await;
    // `initialize` of a session's host is free, and so are its lists.
    for _ in 0..10 {
        assert_eq!(host.rpc("tools/list", &json!({})).await.status, 200);
        assert_eq!(host.rpc("ping", &json!({})).await.status, 200);
    }
    for _ in 0..3 {
        assert_eq!(asks.rpc("tools/list", &json!({})).await.status, 200);
    }
    let over = asks.rpc("tools/list", &json!({})).await;
    assert_eq!(over.status, 429);
    assert!(over.header("retry-after").is_some());
    let refused = asks.invoke("up", "read", "{}").await;
    assert_eq!(refused.status, 429);
    let record = gateway.record(refused.header("toolgate-audit-id").expect("a refused call is recorded")).await;
    assert_eq!((record["decision"].clone(), record["outcome"].clone()), (json!("deny"), json!("refused")));
    let told = host.invoke("up", "read", "{}").await;
    assert_eq!((told.status, told.denied().as_str()), (200, "rate_limited"), "a host's tools/call counts");
    assert_eq!(upstream.calls().len(), 2);
    gateway.finish().await;
}

/// Many at once: never more than the window holds.
#[tokio::test]
async fn a_window_holds_under_a_crowd() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::new().config(&upstream.section("up", "rate_limit = \"10/min\"")).start().await;
    let clients = [gateway.agent().await, gateway.agent().await];
    let calls = (0..60).map(|n| {
        let client = clients[n % 2].clone();
        async move { client.invoke("up", "write", "{}").await.status }
    });
    let statuses = futures_util::future::join_all(calls).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 50);
    assert_eq!(upstream.calls().len(), 10);
    gateway.finish().await;
}

/// One key has a few hundred calls in flight and no more, so that it cannot hold everything.
#[tokio::test]
async fn calls_in_flight_of_one_key_are_bounded() {
    const MOST: usize = 512;
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Held(Box::new(Say::text("at last"))));
    // Most of them wait for a place, and none for a socket.
    let gateway = Setup::new().config(&upstream.section("up", "concurrency = 44")).start().await;
    let (key, other) = (gateway.writer("agent").await, gateway.agent().await);
    let client = gateway.client(&key);
    let calls = (0..MOST).map(|_| gateway.carry(&key, ToolRef::Text("up:read".into()), None));
    let asking = async {
        eventually("all of them are in flight", async || {
            // A quarter of the places is for others.
            (upstream.calls().len() == 33 && gateway.gateway.open_entries() == MOST).then_some(())
        })
        .await;
        let refused = client.invoke("up", "read", "{}").await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.text);
        let judged = other.simulate(&json!({"action": "up:read"})).await;
        assert_eq!(judged["decision"], "allow", "others are not concerned");
        upstream.release(MOST + 1);
    };
    tokio::join!(futures_util::future::join_all(calls), asking);
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "at last");
    gateway.finish().await;
}
