//! Approved is exactly one call: this principal's, of this tool as it was, with these arguments, once, in time.

use serde_json::{Value, json};
use toolgate::domain::approval::Decision;
use toolgate::domain::clock::{ManualClock, Moment};
use toolgate::gateway::ApprovalsCommand;

use super::{Bench, asked, holder};
use crate::support::{FakeUpstream, Issuer, Say, Setup, eventually, tool};

const HOUR: i64 = 3_600_000;

#[tokio::test]
async fn exactly_the_approved_call_runs_once() {
    let bench = Bench::start().await;
    let call = json!({"what": "x", "n": 1});
    let id = bench.ask(&call).await;
    assert_eq!(bench.ask(&call).await, id, "asked twice, it is one request");
    bench.approve(&id).await;
    // Other arguments, another key of the same user, and numbers that only look alike are other calls.
    let other = bench.gateway.create(holder("agent", "alice", &["writer"])).await;
    let mut ids = vec![id.clone()];
    ids.push(bench.ask(&json!({"what": "y", "n": 1})).await);
    ids.push(bench.ask(&json!({"what": "x", "n": 1, "more": null})).await);
    ids.push(bench.ask(&json!({"what": "x", "n": 1.0})).await);
    ids.push(asked(&bench.gateway.client(&other), &call).await);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(bench.upstream.calls().len(), 0);
    // The order of members and the way through `gateway_invoke` make no other call.
    let answer = bench.client.invoke("up", "destroy", r#"{ "n" : 1, "what" : "\u0078" }"#).await;
    assert_eq!(answer.told(), "done", "{}", answer.text);
    let governance = answer.governance();
    assert_eq!(governance["decision"], "allow");
    let record = bench.gateway.record(governance["audit_event_id"].as_str().unwrap()).await;
    assert_eq!(record["policies"], json!(["destructive-needs-approval", format!("approval:{id}")]));
    assert!(record["intent"].is_object(), "{record}");
    let shown = bench.show(&id).await;
    assert_eq!((&shown["state"], &shown["outcome"]), (&json!("used"), &json!("answered")));
    assert_eq!(shown["used_event_id"], governance["audit_event_id"]);
    assert!(!ids.contains(&bench.ask(&call).await), "what was used is asked for anew");
    assert_eq!(bench.upstream.calls().len(), 1);
    assert_eq!(bench.upstream.calls()[0].arguments().unwrap(), r#"{ "n" : 1, "what" : "\u0078" }"#, "as it came");
    bench.finish().await;
}

/// Several people may share a key, each with a token of their own for the server: what one of them asked for is approved for
/// that one.
#[tokio::test]
async fn another_subject_of_the_same_key_asks_anew() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let jwt = format!("[jwt]\nissuer = \"{0}\"\naudience = \"toolgate\"\njwks_url = \"{0}/keys\"\n", issuer.url);
    let setup = Setup::new().config(&upstream.section("up", "auth_type = \"jwt\"")).config(&jwt);
    let bench = Bench::over(upstream, setup).await;
    let call = async |subject: &str| {
        let mut claims = issuer.claims("toolgate");
        claims["sub"] = json!(subject);
        let params = json!({"name": "up:destroy", "arguments": {}}).to_string();
        bench.client.request("tools/call", &params).header("x-server-jwt", &issuer.sign(&claims)).send().await
    };
    let asked = call("alice").await;
    let id = asked.result()["structuredContent"]["error"]["approval"]["id"].as_str().unwrap().to_owned();
    let shown = bench.show(&id).await;
    assert_eq!((&shown["subject"], &shown["issuer"]), (&json!("alice"), &json!(issuer.url)));
    bench.approve(&id).await;
    let other = call("mallory").await;
    assert_eq!(other.denied(), "approval_required", "{}", other.text);
    assert_ne!(other.result()["structuredContent"]["error"]["approval"]["id"], json!(id));
    assert_eq!(bench.upstream.calls().len(), 0);
    assert_eq!(call("alice").await.told(), "done");
    bench.finish().await;
}

#[tokio::test]
async fn numbers_beyond_a_tree_are_other_calls() {
    let bench = Bench::start().await;
    let call =
        |n: &str| bench.client.request("tools/call", &format!(r#"{{"name":"up:destroy","arguments":{{"n":{n}}}}}"#));
    let first = call("100000000000000000000001").send().await;
    let id = first.result()["structuredContent"]["error"]["approval"]["id"].as_str().unwrap().to_owned();
    bench.approve(&id).await;
    assert_eq!(call("100000000000000000000002").send().await.denied(), "approval_required");
    assert_eq!(call("100000000000000000000001").send().await.told(), "done");
    bench.finish().await;
}

/// A tool that is defined otherwise is another tool, whatever its name.
#[tokio::test]
async fn a_changed_tool_is_approved_anew() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({})).await;
    bench.approve(&id).await;
    let mut changed = tool("destroy", &json!({"destructiveHint": true}));
    changed["description"] = json!("Now it destroys more");
    eventually("changes are listened to", async || bench.upstream.is_listened_to().then_some(())).await;
    bench.upstream.set_tools(json!([changed]));
    bench.upstream.tell_changed();
    eventually("the tool has changed", async || {
        let state = bench.gateway.gateway.state();
        let found = state.catalog.entries().iter().any(|entry| entry.tool().description.starts_with("Now"));
        found.then_some(())
    })
    .await;
    assert_ne!(bench.ask(&json!({})).await, id);
    assert_eq!(bench.upstream.calls().len(), 0);
    bench.finish().await;
}

/// The call is judged again when it is made.
#[tokio::test]
async fn a_changed_policy_has_its_say() {
    let bench = Bench::with(Setup::shipped_policies).await;
    let id = bench.ask(&json!({})).await;
    bench.approve(&id).await;
    let change = async |name: &str, text: &str| {
        let before = bench.gateway.gateway.state().policies.bundle().version().clone();
        bench.gateway.write(&format!("policies/{name}.cedar"), text);
        eventually("the policies change", async || {
            (*bench.gateway.gateway.state().policies.bundle().version() != before).then_some(())
        })
        .await;
    };
    change("zz", r#"@id("frozen") @reason("not today") forbid(principal, action, resource);"#).await;
    assert_eq!(bench.client.call("up:destroy", &json!({})).await.denied(), "policy_denied");
    assert_eq!(bench.state(&id).await, "approved");
    // Another circle of approvers has not approved anything yet.
    change("zz", "").await;
    let two = r#"@id("destructive-needs-approval") @reason("r") @requires("approval") @approvers("cfo")
        permit(principal, action in Toolgate::Action::"destructive", resource);"#;
    change("destructive-needs-approval", two).await;
    assert_ne!(bench.ask(&json!({})).await, id);
    // Where nobody is asked any more, the approval is not used either.
    change("zz", r#"@id("free") permit(principal, action, resource);"#).await;
    assert_eq!(bench.run(&json!({})).await["policy"], "free");
    assert_eq!((bench.state(&id).await.as_str(), bench.upstream.calls().len()), ("approved", 1));
    bench.finish().await;
}

/// What was approved under one rule is not approved under another; what else is written nearby does not matter.
#[tokio::test]
async fn another_text_of_the_policy_that_asks_is_another_approval() {
    let asks = |reason: &str| {
        format!(
            r#"@id("asks") @reason("{reason}") @requires("approval")
            permit(principal, action in Toolgate::Action::"destructive", resource);"#
        )
    };
    let bench = Bench::with(|setup| setup.policy("asks", &asks("in a fire"))).await;
    let id = bench.ask(&json!({"n": 1})).await;
    let two = bench.ask(&json!({"n": 2})).await;
    bench.approve(&id).await;
    bench.approve(&two).await;
    let change = async |name: &str, text: &str| {
        let before = bench.gateway.gateway.state().policies.bundle().version().clone();
        bench.gateway.write(&format!("policies/{name}.cedar"), text);
        eventually("the policies change", async || {
            (*bench.gateway.gateway.state().policies.bundle().version() != before).then_some(())
        })
        .await;
    };
    change("other", r#"@id("other") permit(principal, action == Toolgate::Action::"up:read", resource);"#).await;
    bench.run(&json!({"n": 1})).await;
    change("asks", &asks("only on a Sunday")).await;
    assert_ne!(bench.ask(&json!({"n": 2})).await, two);
    assert_eq!((bench.state(&two).await.as_str(), bench.upstream.calls().len()), ("approved", 1));
    bench.finish().await;
}

/// The same name may be staging today and production tomorrow.
#[tokio::test]
async fn another_place_of_the_server_is_another_approval() {
    let production = FakeUpstream::legacy().await;
    let bench = Bench::start().await;
    let (one, two) = (bench.ask(&json!({"n": 1})).await, bench.ask(&json!({"n": 2})).await);
    bench.approve(&one).await;
    bench.approve(&two).await;
    let reload = async |section: String, seen: &str| {
        let text = std::fs::read_to_string(bench.gateway.file("toolgate.toml")).unwrap();
        let kept = text.split("[servers.").next().unwrap();
        bench.gateway.write("toolgate.toml", &format!("{kept}{section}"));
        eventually("the configuration is read", async || {
            let settings = bench.gateway.gateway.state().settings.clone();
            let server = settings.servers.values().next()?;
            format!("{server:?}").contains(seen).then_some(())
        })
        .await;
        eventually("its tools can be called", async || bench.gateway.gateway.settled().then_some(())).await;
    };
    reload(bench.upstream.section("up", "timeout = \"17s\""), "17s").await;
    bench.run(&json!({"n": 1})).await;
    reload(production.section("up", "timeout = \"17s\""), &production.address.to_string()).await;
    assert_ne!(bench.ask(&json!({"n": 2})).await, two);
    assert_eq!((bench.upstream.calls().len(), production.calls().len()), (1, 0));
    bench.finish().await;
}

#[tokio::test]
async fn what_was_approved_expires() {
    let clock = ManualClock::at(Moment(1_800_000_000_000));
    let bench = Bench::at(&clock).await;
    let (one, two) = (bench.ask(&json!({"n": 1})).await, bench.ask(&json!({"n": 2})).await);
    bench.approve(&one).await;
    clock.advance(HOUR - 1);
    bench.run(&json!({"n": 1})).await;
    let again = bench.ask(&json!({"n": 1})).await;
    clock.advance(1);
    assert_eq!(bench.state(&two).await, "expired");
    let late = toolgate::gateway::control::Command::Approvals(ApprovalsCommand::Decide {
        id: two.clone(),
        decision: Decision::Approve,
        comment: None,
    });
    let refused = bench.gateway.gateway.control(late).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("the approval `{two}` is expired and cannot be decided"));
    bench.approve(&again).await;
    clock.advance(HOUR);
    assert_ne!(bench.ask(&json!({"n": 1})).await, again);
    assert_eq!((bench.state(&again).await.as_str(), bench.upstream.calls().len()), ("expired", 1));
    bench.finish().await;
}

/// A refusal stands as long as the request would have: an agent does not ask until somebody gives in.
#[tokio::test]
async fn what_was_refused_stays_refused_for_a_while() {
    let clock = ManualClock::at(Moment(1_800_000_000_000));
    let bench = Bench::at(&clock).await;
    let id = bench.ask(&json!({})).await;
    let comment = Some("  not on a Friday \n".to_owned());
    let denied = bench.command(ApprovalsCommand::Decide { id: id.clone(), decision: Decision::Deny, comment }).await;
    assert_eq!((&denied["state"], &denied["comment"]), (&json!("denied"), &json!("not on a Friday")));
    let answer = bench.client.call("up:destroy", &json!({})).await;
    assert_eq!(answer.denied(), "approval_denied");
    let told = answer.told();
    assert!(told.contains("`admin` has refused this call: not on a Friday"), "{told}");
    assert_eq!(answer.governance()["policy"], format!("approval:{id}"));
    assert_eq!(answer.governance()["decision"], "deny");
    clock.advance(HOUR);
    assert_ne!(bench.ask(&json!({})).await, id);
    bench.finish().await;
}

/// Where nothing was sent, nothing is used up.
#[tokio::test]
async fn a_call_that_was_not_sent_leaves_its_approval() {
    let upstream = FakeUpstream::legacy().await;
    let section = upstream.section("up", "[servers.up.tools.destroy]\nrate_limit = \"1/h\"");
    let bench = Bench::over(upstream, Setup::new().config(&section)).await;
    let (one, two) = (bench.ask(&json!({"n": 1})).await, bench.ask(&json!({"n": 2})).await);
    bench.approve(&one).await;
    bench.approve(&two).await;
    bench.run(&json!({"n": 1})).await;
    let answer = bench.client.call("up:destroy", &json!({"n": 2})).await;
    assert_eq!(answer.refused(), (429, 429), "{}", answer.text);
    assert_eq!((bench.state(&one).await.as_str(), bench.state(&two).await.as_str()), ("used", "approved"));
    bench.finish().await;
}

#[tokio::test]
async fn a_call_whose_end_is_not_known_is_not_made_again() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({})).await;
    bench.approve(&id).await;
    bench.upstream.on_call(|_| Say::Status(502));
    let broken = bench.client.call("up:destroy", &json!({})).await;
    assert_eq!(broken.denied(), "backend_down");
    let shown = bench.show(&id).await;
    assert_eq!((&shown["state"], &shown["outcome"]), (&json!("unknown"), &json!("failed")));
    assert!(shown["next"].as_str().unwrap().contains("whether it took effect is not known"), "{shown}");
    let again = bench.ask(&json!({})).await;
    let shown = bench.show(&again).await;
    assert_eq!(shown["earlier"], json!(id));
    assert!(shown["next"].as_str().unwrap().contains(&id), "{shown}");
    assert_eq!(bench.upstream.calls().len(), 1);
    // An error of the tool's own is an end.
    bench.approve(&again).await;
    bench.upstream.on_call(|_| Say::Error(r#"{"code":-32000,"message":"no"}"#.into()));
    assert_eq!(bench.client.call("up:destroy", &json!({})).await.error()["code"], -32000);
    assert_eq!(bench.show(&again).await["outcome"], json!("failed"));
    assert_eq!(bench.state(&again).await, "used");
    bench.finish().await;
}

/// Credentials and searches of a URI are for whoever decides, and for no list, hook or file.
#[tokio::test]
async fn a_resource_is_named_as_the_log_names_it() {
    // Put together here, so that no file holds a password.
    let uri = |search: &str| format!("https://u:{}@h/p?q={search}", "PASSW0RD");
    let policy = r#"@id("ask") @requires("approval")
        permit(principal, action in Toolgate::Action::"read", resource is Toolgate::Resource);"#;
    let bench = Bench::with(|setup| setup.policy("ask", policy)).await;
    bench.upstream.script(|seen| (seen.method() == "resources/read").then(|| Say::Result(r#"{"contents":[]}"#.into())));
    let read =
        async |uri: &str| bench.client.at("/v1/mcp/servers/up").rpc("resources/read", &json!({"uri": uri})).await;
    let asked = read(&uri("SECRET")).await;
    assert_eq!(asked.error()["data"]["code"], "approval_required", "{}", asked.text);
    let list = bench.command(ApprovalsCommand::List { state: None, limit: 9, cursor: None }).await;
    assert!(!list.to_string().contains("PASSW0RD") && !list.to_string().contains("SECRET"), "{list}");
    let one = &list["approvals"][0];
    assert_eq!(one["tool"], "up:https://[redacted 10 chars]@h/p?[redacted 8 chars]");
    assert!(one["reason"].as_str().unwrap().contains("[redacted 8 chars]"), "{one}");
    let id = one["id"].as_str().unwrap().to_owned();
    let shown = bench.show(&id).await;
    assert_eq!(shown["arguments"], json!({"uri": uri("SECRET")}), "who decides sees all of it");
    bench.approve(&id).await;
    assert_eq!(read(&uri("OTHER")).await.error()["data"]["code"], "approval_required");
    assert!(read(&uri("SECRET")).await.json()["result"].is_object());
    let folder = bench.gateway.file("data");
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(8).any(|window| window == b"PASSW0RD"), "nowhere in the clear");
    }
    bench.finish().await;
}

#[tokio::test]
async fn what_a_request_shows() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({"what": "secret words", "n": 5})).await;
    let shown = bench.show(&id).await;
    let expected = json!({
        "state": "pending", "tool": "up:destroy", "kind": "tool", "user": "alice", "key": bench.agent.id,
        "policy": "destructive-needs-approval", "approvers": null,
        "reason": "destructive tools run once a person has approved the call",
        "arguments": {"n": 5, "what": "secret words"},
        "preview": {"n": 5, "what": "[redacted 12 chars]"},
        "url": format!("http://{}/v1/approvals/{id}", bench.gateway.address),
        "decided_by": null, "used_at": null,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
    let state = bench.gateway.gateway.state();
    let digest =
        state.catalog.entries().iter().find(|entry| &*entry.tool().id.tool == "destroy").unwrap().tool().digest.clone();
    assert_eq!(shown["tool_digest"], json!(digest));
    let list = bench.command(ApprovalsCommand::List { state: None, limit: 9, cursor: None }).await;
    assert_eq!(list["approvals"][0].get("arguments"), None::<&Value>, "a list holds none");
    bench.finish().await;
}
