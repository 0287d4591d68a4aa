//! What a preflight says of accounts.

use std::sync::Arc;

use toolgate::domain::clock::{ManualClock, Moment};
use toolgate::gateway::control::Command;

use super::*;
use crate::support::Program;

const NAME: &str = "preflight.check";
const NOON: Moment = Moment(1_700_000_000_000);

/// What `who` needs, at each door alike.
async fn needed(client: &Client) -> (Value, Value) {
    let asked = json!({"calls": [{"tool": "up:who"}]});
    let told = client.call(NAME, &asked).await.result();
    let report = told["structuredContent"].clone();
    assert_eq!(data(&client.post("/v1/preflight").json(&asked).send().await), report);
    let call = &report["calls"][0];
    let fault = call["credentials"]["needed"][0]["fault"].as_str();
    let text = told["content"][0]["text"].as_str().unwrap();
    match fault {
        Some(fault) => assert!(text.contains(&format!("up:who: credentials: {fault}")), "{text}"),
        None => assert!(text.contains("up:who: would pass"), "{text}"),
    }
    (call["credentials"].clone(), call["blockers"].clone())
}

#[tokio::test]
async fn a_preflight_says_how_the_account_stands() {
    let (clock, upstream, idp) = (ManualClock::at(NOON), FakeUpstream::legacy().await, Idp::start().await);
    let gateway = setup(&idp, &upstream, "").clock(&clock).start().await;
    let bench = Bench { gateway, idp, upstream };
    let (ada, bob) = (bench.client("ada", "operator").await, bench.client("bob", "operator").await);
    let (without, blockers) = needed(&ada).await;
    let fault = "`ada` has connected no account with Example: connect one with `POST /v1/providers/example/connect`";
    assert_eq!(
        (&without, &blockers),
        (
            &json!({"present": false, "needed": [
                {"kind": "account", "provider": "example", "state": "disconnected", "present": false, "fault": fault},
            ]}),
            &json!(["credentials"])
        )
    );
    assert_eq!(ada.call("up:who", &json!({})).await.denied(), "account_required", "as the call itself");

    bench.connect(&ada, "A").await;
    let (with, blockers) = needed(&ada).await;
    assert_eq!((&with["present"], &with["needed"][0]["state"]), (&json!(true), &json!("connected")));
    assert_eq!(blockers, json!([]));
    assert_eq!(needed(&bob).await.0["needed"][0]["state"], "disconnected", "it is hers alone");

    bench.idp.state().renews = false;
    clock.advance(3_600_000);
    assert_eq!(needed(&ada).await.0["needed"][0]["state"], "connected", "the provider is not asked");
    assert_eq!(ada.call("up:who", &json!({})).await.denied(), "account_required");
    let (expired, blockers) = needed(&ada).await;
    let fault =
        "the account of `ada` with Example has expired: connect it anew with `POST /v1/providers/example/connect`";
    assert_eq!(
        (&expired["needed"][0]["state"], &expired["needed"][0]["fault"], &blockers),
        (&json!("expired"), &json!(fault), &json!(["credentials"]))
    );
    assert!(bench.upstream.calls().is_empty());

    // Whoever is judged: the machine's owner asks about the key of an agent of hers.
    let key = NewKey {
        name: "k".into(),
        profile: "agent".into(),
        user: "ada".into(),
        agent: Some("ada_agent".into()),
        ..NewKey::default()
    };
    bench.gateway.create(key).await;
    let arguments = json!({"calls": [{"tool": "up:who"}], "agent_id": "ada_agent"});
    let command = Command::Call { tool: format!("toolgate:{NAME}"), arguments };
    let told = bench.gateway.control(command).await;
    assert_eq!(told["result"]["structuredContent"]["calls"][0]["credentials"], expired);
    bench.gateway.finish().await;
}

#[tokio::test]
async fn the_command_line_says_it_in_the_same_words() {
    let upstream = FakeUpstream::legacy().await;
    upstream.set_tools(json!([tool("who", &json!({"readOnlyHint": true}))]));
    let folder = Arc::new(tempfile::TempDir::new().unwrap());
    let provider = "[providers.example]\ntitle = \"Example\"\nauthorize_url = \"https://id.example/authorize\"\n\
                    token_url = \"https://id.example/token\"\nclient_id = \"c\"\n";
    let config = format!("{provider}{}", upstream.section("up", "provider = \"example\""));
    std::fs::write(folder.path().join("toolgate.toml"), config).unwrap();
    let program = Program::start_in(folder, &[]).await;
    program.ready().await;
    let ended = program.run(&["preflight", "--tool", "up:who"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let fault = "`admin` has connected no account with Example: connect one with `POST /v1/providers/example/connect`";
    assert!(ended.out.lines().any(|line| line == format!("up:who: {fault}")), "{}", ended.out);
    program.stop().await;
}
