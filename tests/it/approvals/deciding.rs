//! Who decides, and that one decision counts.

use futures_util::future::join_all;
use serde_json::{Value, json};
use toolgate::domain::approval::ApprovalState;
use toolgate::gateway::Undecided;

use super::{Bench, holder};
use crate::support::{Client, Say, eventually};

const BY_ROLE: &str = r#"
@id("two-keys") @reason("the office decides") @requires("approval") @approvers("office, board")
permit(principal, action in Toolgate::Action::"destructive", resource);
"#;

#[tokio::test]
async fn the_requester_does_not_decide_nor_who_lacks_the_scope() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({})).await;
    let same = bench.gateway.create(holder("operator", "alice", &[])).await;
    let agent = bench.gateway.create(holder("agent", "bob", &["writer"])).await;
    assert_eq!(bench.decide(&same, &id, true).await.unwrap_err(), Undecided::Requester);
    assert_eq!(bench.decide(&same, &id, false).await.unwrap_err(), Undecided::Requester);
    assert_eq!(bench.decide(&agent, &id, true).await.unwrap_err(), Undecided::Scope);
    let bob = bench.gateway.create(holder("operator", "bob", &[])).await;
    assert_eq!(bench.decide(&bob, "apr_nothing", true).await.unwrap_err(), Undecided::Missing("apr_nothing".into()));
    // A key that asks with the scope of its own is a requester too.
    let own = bench.gateway.create(holder("operator", "carol", &["writer"])).await;
    let theirs = super::asked(&bench.gateway.client(&own), &json!({})).await;
    assert_eq!(bench.decide(&own, &theirs, true).await.unwrap_err(), Undecided::Requester);
    let shown = bench.decide(&bob, &id, true).await.unwrap();
    assert_eq!((&shown["state"], &shown["decided_by"]["user"]), (&json!("approved"), &json!("bob")));
    bench.run(&json!({})).await;
    // Every try is an act with a name.
    let records = bench.gateway.records().await;
    let acts: Vec<&Value> = records
        .iter()
        .filter(|record| record["tool"].as_str().is_some_and(|tool| tool.starts_with("approvals.")))
        .collect();
    let told: Vec<(&str, &str, &str)> = acts
        .iter()
        .map(|act| (act["user"].as_str().unwrap(), act["tool"].as_str().unwrap(), act["outcome"].as_str().unwrap()))
        .collect();
    let expected = [
        ("alice", "approvals.approve", "failed"),
        ("alice", "approvals.deny", "failed"),
        ("bob", "approvals.approve", "failed"),
        ("carol", "approvals.approve", "failed"),
        ("bob", "approvals.approve", "answered"),
    ];
    assert_eq!(told, expected);
    assert!(acts[4]["intent"].is_object() && acts[4].to_string().contains(&format!("approval {id}")), "{}", acts[4]);
    bench.finish().await;
}

#[tokio::test]
async fn a_policy_names_who_approves() {
    let bench = Bench::with(|setup| setup.policy("p", BY_ROLE)).await;
    let id = bench.ask(&json!({})).await;
    assert_eq!(bench.show(&id).await["approvers"], json!(["board", "office"]));
    let plain = bench.gateway.create(holder("operator", "bob", &["writer"])).await;
    let role = Undecided::Role(vec!["board".into(), "office".into()]);
    assert_eq!(bench.decide(&plain, &id, true).await.unwrap_err(), role);
    let office = bench.gateway.create(holder("operator", "carol", &["office"])).await;
    assert_eq!(bench.decide(&office, &id, true).await.unwrap()["state"], "approved");
    let other = bench.ask(&json!({"n": 2})).await;
    let admin = bench.gateway.create(holder("admin", "root", &[])).await;
    assert_eq!(bench.decide(&admin, &other, false).await.unwrap()["state"], "denied");
    let asked = bench.client.simulate(&json!({"action": "up.destroy", "params": {"n": 3}})).await;
    let approval = &asked["approval"];
    assert_eq!((&asked["decision"], &approval["approvers"]), (&json!("approval"), &json!(["board", "office"])));
    assert_eq!((&approval["scope"], &approval["expires_in_seconds"]), (&json!("approvals:decide"), &json!(3600)));
    bench.finish().await;
}

#[tokio::test]
async fn of_two_who_decide_at_once_one_does() {
    let bench = Bench::start().await;
    let bob = bench.gateway.create(holder("operator", "bob", &[])).await;
    let carol = bench.gateway.create(holder("operator", "carol", &[])).await;
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(bench.ask(&json!({"n": n})).await);
    }
    for id in ids {
        let (yes, no) = tokio::join!(bench.decide(&bob, &id, true), bench.decide(&carol, &id, false));
        let state = if yes.is_ok() { ApprovalState::Approved } else { ApprovalState::Denied };
        assert_ne!(yes.is_ok(), no.is_ok());
        let late = yes.err().or(no.err()).unwrap();
        assert!(matches!(late, Undecided::Over { state: found, .. } if found == state), "{late:?}");
        assert_eq!(bench.state(&id).await, state.as_str());
    }
    bench.finish().await;
}

/// Nobody is worn down: who was refused often asks anew once a minute, with whatever key.
#[tokio::test]
async fn who_was_refused_often_waits() {
    let bench = Bench::start().await;
    let bob = bench.gateway.create(holder("operator", "bob", &[])).await;
    for n in 0..3 {
        let id = bench.ask(&json!({"n": n})).await;
        bench.decide(&bob, &id, false).await.unwrap();
    }
    let other = bench.gateway.client(&bench.gateway.create(holder("agent", "alice", &["writer"])).await);
    for client in [&bench.client, &other] {
        let answer = client.call("up:destroy", &json!({"n": 3})).await;
        assert!(answer.text.contains("one a minute"), "{}", answer.text);
    }
    assert_eq!(bench.client.call("up:destroy", &json!({"n": 0})).await.denied(), "approval_denied");
    let carol = bench.gateway.client(&bench.gateway.create(holder("agent", "carol", &["writer"])).await);
    assert_eq!(carol.call("up:destroy", &json!({"n": 3})).await.denied(), "approval_required");
    bench.finish().await;
}

#[tokio::test]
async fn of_many_identical_calls_at_once_one_runs() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({})).await;
    bench.approve(&id).await;
    bench.upstream.on_call(|_| Say::Held(Box::new(Say::text("done"))));
    let clients: Vec<Client> = (0..8).map(|_| bench.client.clone()).collect();
    let arguments = json!({});
    let calls = join_all(clients.iter().map(|client| client.call("up:destroy", &arguments)));
    let releasing = async {
        eventually("one call is under way", async || (bench.upstream.calls().len() == 1).then_some(())).await;
        eventually("the others have been told", async || {
            let records = bench.gateway.records().await;
            let waiting = records.iter().filter(|record| record["decision"] == "approval").count();
            (waiting == 8).then_some(())
        })
        .await;
        assert_eq!(bench.state(&id).await, "executing");
        bench.upstream.release(8);
    };
    let (answers, ()) = tokio::join!(calls, releasing);
    let done = answers.iter().filter(|answer| answer.result()["isError"] != json!(true)).count();
    assert_eq!((done, bench.upstream.calls().len()), (1, 1));
    let ids: std::collections::BTreeSet<String> = answers
        .iter()
        .filter_map(|answer| {
            answer.result()["structuredContent"]["error"]["approval"]["id"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(ids.len(), 1, "they wait for one new approval");
    assert!(!ids.contains(&id));
    bench.finish().await;
}

#[test]
fn a_policy_says_who_approves_only_where_something_is_approved() {
    use toolgate::policy::{Bundle, PolicySource};
    let compile = |text: &str| {
        let source = PolicySource { file: "a.cedar".into(), text: text.into() };
        Bundle::compile(&[source]).map(|_| ()).map_err(|faults| faults[0].message.to_string())
    };
    let rest = "permit(principal, action, resource);";
    assert_eq!(compile(&format!(r#"@requires("approval") @approvers("a,b") {rest}"#)), Ok(()));
    for (head, why) in [
        (r#"@approvers("a")"#, "`@approvers` where nothing is approved"),
        (
            r#"@requires("approval") @approvers("")"#,
            "`@approvers` holds a name that is empty, too long or not plain text",
        ),
        (
            r#"@requires("approval") @approvers("a,,b")"#,
            "`@approvers` holds a name that is empty, too long or not plain text",
        ),
        (r#"@aprovers("a")"#, "unknown annotation `@aprovers`"),
    ] {
        assert_eq!(compile(&format!("{head} {rest}")).unwrap_err(), why);
    }
}
