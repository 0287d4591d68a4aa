//! What outlives the process: requests, decisions, and that what was begun is never done twice.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use super::{Bench, asked};
use crate::support::{FakeUpstream, Program, Say, eventually};

#[tokio::test]
async fn requests_and_decisions_outlive_a_restart() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({"n": 1})).await;
    let Bench { upstream, gateway, agent, .. } = bench;
    let gateway = gateway.restart().await;
    let client = gateway.client(&agent);
    let bench = Bench { upstream, gateway, agent, client };
    assert_eq!(bench.ask(&json!({"n": 1})).await, id, "the same request");
    bench.approve(&id).await;
    let Bench { upstream, gateway, agent, .. } = bench;
    let gateway = gateway.restart().await;
    let client = gateway.client(&agent);
    let bench = Bench { upstream, gateway, agent, client };
    bench.run(&json!({"n": 1})).await;
    assert_eq!(bench.state(&id).await, "used");
    bench.finish().await;
}

/// Killed between taking the approval and the answer: nobody knows whether the call took effect, so it is not made again.
#[tokio::test]
async fn what_was_under_way_when_the_process_died_is_never_run_again() {
    let upstream = FakeUpstream::legacy().await;
    let folder = Arc::new(TempDir::new().unwrap());
    std::fs::write(folder.path().join("toolgate.toml"), upstream.section("up", "")).unwrap();
    let program = Program::start_in(Arc::clone(&folder), &[]).await;
    program.ready().await;
    let (client, key) =
        (program.client("agent"), program.keys().into_iter().find(|(name, _)| name == "agent").unwrap().1);
    let id = asked(&client, &json!({})).await;
    let approved = program.run(&["approvals", "approve", &id, "--json"]).await;
    assert_eq!((approved.code, approved.json()["state"].clone()), (Some(0), json!("approved")));
    upstream.on_call(|_| Say::Hang);
    let killing = async {
        eventually("the call is under way", async || (upstream.calls().len() == 1).then_some(())).await;
        let shown = program.run(&["approvals", "show", &id, "--json"]).await.json();
        assert_eq!(shown["state"], "executing");
        program.signal("KILL");
    };
    let call = client.request("tools/call", r#"{"name":"up:destroy","arguments":{}}"#);
    let (answer, ()) = tokio::join!(call.try_send(), killing);
    assert!(answer.is_none(), "nobody answers");
    program.ended().await;
    upstream.on_call(|_| Say::text("done"));
    let again = Program::start_in(Arc::clone(&folder), &[]).await;
    again.ready().await;
    let shown = again.run(&["approvals", "show", &id, "--json"]).await.json();
    assert_eq!((&shown["state"], &shown["outcome"]), (&json!("unknown"), &json!("interrupted")));
    let next = shown["next"].as_str().unwrap();
    assert!(next.contains("not made again") && next.contains("up:destroy"), "{next}");
    let client = crate::support::Client::new(again.address, Some(&key));
    let fresh = asked(&client, &json!({})).await;
    assert_ne!(fresh, id);
    let shown = again.run(&["approvals", "show", &fresh, "--json"]).await.json();
    assert_eq!(shown["earlier"], json!(id));
    let refused = again.run(&["approvals", "approve", &id]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("is unknown and cannot be decided"), "{refused:?}");
    assert_eq!(upstream.calls().len(), 1, "it ran once at most");
    // A person has looked, and lets it run.
    assert_eq!(again.run(&["approvals", "approve", &fresh]).await.code, Some(0));
    assert_eq!(client.call("up:destroy", &json!({})).await.told(), "done");
    again.stop().await;
}

/// A client that leaves takes nobody's approval with it.
#[tokio::test]
async fn who_leaves_in_the_middle_leaves_an_unknown_end() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({})).await;
    bench.approve(&id).await;
    bench.upstream.on_call(|_| Say::Hang);
    let modern = bench.client.modern();
    let call = modern.request("tools/call", r#"{"name":"up:destroy","arguments":{}}"#).try_send();
    let leaving = eventually("it is under way", async || (bench.upstream.calls().len() == 1).then_some(()));
    tokio::select! {
        _ = call => panic!("nobody answers"),
        () = leaving => {}
    }
    eventually("its end is unknown", async || (bench.state(&id).await == "unknown").then_some(())).await;
    assert_eq!(bench.show(&id).await["outcome"], "cancelled");
    bench.finish().await;
}
