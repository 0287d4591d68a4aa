//! `executions.list` and `executions.get`.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use toolgate::authn::Credential;
use toolgate::domain::call::{CallRequest, Entrance, ToolRef};
use toolgate::domain::id::{EventId, RequestId};
use toolgate::domain::principal::Surface;
use toolgate::domain::secret::Secret;
use toolgate::gateway::{Leaving, NewKey};

use super::{GET, LIST, at_the_command_line, audit_id, ids, listed, of_user, operator, structure};
use crate::support::{FakeUpstream, Key, Say, Setup, TestGateway, eventually, soon};

#[tokio::test]
async fn every_door_shows_the_same_calls() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = operator(&gateway).await;
    for tool in ["read", "write", "destroy"] {
        client.invoke("up", tool, "{}").await;
    }
    let arguments = json!({"server": "up"});
    let bare = structure(&client.call(LIST, &arguments).await);
    assert_eq!(bare["executions"].as_array().unwrap().len(), 3);
    let (legacy, modern) = (client.legacy().await, client.modern());
    for (what, same) in [
        ("legacy", structure(&legacy.call("executions_list", &arguments).await)),
        ("modern", structure(&modern.call("executions_list", &arguments).await)),
        ("alias", structure(&client.call("invoke.executions.list", &arguments).await)),
        ("invoke", structure(&client.invoke("toolgate", LIST, &arguments.to_string()).await)),
        ("command line", at_the_command_line(&gateway, LIST, &arguments).await),
    ] {
        assert_eq!(same["executions"], bare["executions"], "{what}");
        assert_eq!(same["next_cursor"], bare["next_cursor"], "{what}");
    }
    // A call without arguments asks for all, as one with empty ones does.
    let params = json!({"name": LIST});
    let all = structure(&client.rpc("tools/call", &params).await);
    assert!(all["executions"].as_array().is_some_and(|calls| calls.len() > 3), "{all}");
    let newest = &bare["executions"][0];
    assert_eq!(
        (newest["tool"].clone(), newest["decision"].clone(), newest["outcome"].clone()),
        (json!("destroy"), json!("approval"), json!("refused"))
    );
    assert_eq!(
        (newest["code"].clone(), newest["rule"].clone()),
        (json!("approval_required"), json!("destructive-needs-approval"))
    );
    let id = json!({"id": newest["id"]});
    let whole = structure(&client.call(GET, &id).await);
    assert_eq!(whole, structure(&legacy.call("executions_get", &id).await));
    assert_eq!(whole, structure(&modern.call("executions_get", &id).await));
    assert_eq!(whole, at_the_command_line(&gateway, GET, &id).await);
    gateway.finish().await;
}

#[tokio::test]
async fn a_tree_shows_retries_eras_and_transports() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let tries = AtomicUsize::new(0);
    upstream
        .on_call(move |_| if tries.fetch_add(1, Ordering::SeqCst) == 0 { Say::Status(502) } else { Say::text("ok") });
    let client = operator(&gateway).await;
    let answer = client.modern().invoke("up", "read", "{}").await;
    let whole = structure(&client.call(GET, &json!({"id": audit_id(&answer)})).await);
    let tree = &whole["tree"];
    assert_eq!(
        (tree["part"].clone(), tree["name"].clone(), tree["ended"].clone(), tree["era"].clone(), tree["at_ms"].clone()),
        (json!("call"), json!("up:read"), json!("answered"), json!("modern"), json!(0.0))
    );
    let attempts = tree["children"].as_array().unwrap();
    let seen: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            (
                attempt["part"].clone(),
                attempt["ended"].clone(),
                attempt["again"].clone(),
                attempt["transport"].clone(),
                attempt["era"].clone(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (json!("attempt"), json!("http_status"), Value::Null, json!("http"), json!("legacy")),
            (json!("attempt"), json!("ok"), json!("retry"), json!("http"), json!("legacy")),
        ]
    );
    let began: Vec<f64> = attempts.iter().map(|attempt| attempt["at_ms"].as_f64().unwrap()).collect();
    assert!(began[0] <= began[1], "{began:?}");
    let text = client.call(GET, &json!({"id": audit_id(&answer)})).await.told();
    let shapes: Vec<&str> = text.lines().map(|line| line.split(' ').find(|word| !word.is_empty()).unwrap()).collect();
    assert_eq!(shapes, ["call", "attempt", "attempt"], "{text}");
    // What was never sent has no attempt; what was cut off has one without an end.
    let refused = client.invoke("up", "destroy", "{}").await;
    let whole = structure(&client.call(GET, &json!({"id": audit_id(&refused)})).await);
    assert_eq!(whole["tree"]["children"], Value::Null);
    gateway.finish().await;
}

#[tokio::test]
async fn a_call_that_nobody_waited_for_shows_how_far_it_came() {
    let upstream = FakeUpstream::modern().await;
    let gateway = Setup::with(&upstream).start().await;
    upstream.on_call(|_| Say::Hang);
    let key = gateway.writer("operator").await;
    let credential = Credential::Key(Secret::new(key.text.clone()));
    let principal = gateway.gateway.admit(&credential, Entrance::Mcp, None, &RequestId::fresh()).await.unwrap();
    let line = gateway.gateway.line(None, None);
    let (cancel, request) = (line.cancel.clone(), request("read"));
    let event = request.event.to_string();
    let calling = gateway.gateway.carry(principal, request, line, Leaving::Cancels);
    let watching = async {
        eventually("the backend is asked", async || (!upstream.calls().is_empty()).then_some(())).await;
        cancel.cancel();
    };
    soon("the call ends", async { tokio::join!(calling, watching) }).await;
    let whole = structure(&gateway.client(&key).call(GET, &json!({"id": event})).await);
    assert_eq!(whole["execution"]["outcome"], "cancelled");
    assert_eq!(whole["tree"]["children"][0]["ended"], "unfinished");
    assert_eq!(whole["tree"]["children"][0]["latency_ms"], Value::Null);
    gateway.finish().await;
}

fn request(tool: &str) -> CallRequest {
    CallRequest {
        id: RequestId::fresh(),
        event: EventId::fresh(),
        entrance: Entrance::Mcp,
        tool: ToolRef::Pair { server: "up".into(), tool: tool.into() },
        arguments: None,
        jwt: None,
        trace: Vec::new(),
        surface: Surface::Search,
        source: None,
        timeout: None,
        metered: true,
    }
}

/// A call that was made by another, as an own tool makes them.
async fn nested(gateway: &TestGateway, key: &Key, parent: &str) -> String {
    let credential = Credential::Key(Secret::new(key.text.clone()));
    let principal = gateway.gateway.admit(&credential, Entrance::Mcp, None, &RequestId::fresh()).await.unwrap();
    let mut line = gateway.gateway.line(None, None);
    line.provenance.parent = Some(EventId::from(parent));
    let request = request("read");
    let event = request.event.to_string();
    soon("a call ends", gateway.gateway.carry(principal, request, line, Leaving::Cancels)).await;
    event
}

#[tokio::test]
async fn calls_that_a_call_made_stand_below_it() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let (key, other) = (gateway.writer("operator").await, gateway.create(of_user("somebody", "agent")).await);
    let client = gateway.client(&key);
    let parent = audit_id(&client.call("policy.simulate", &json!({"action": "up:read"})).await);
    let first = nested(&gateway, &key, &parent).await;
    let second = nested(&gateway, &key, &parent).await;
    let below = nested(&gateway, &key, &first).await;
    let foreign = nested(&gateway, &other, &parent).await;
    let tree = structure(&client.call(GET, &json!({"id": parent})).await)["tree"].clone();
    let children = tree["children"].as_array().unwrap();
    assert_eq!(ids(children), [first.clone(), second, foreign]);
    let grandchildren = children[0]["children"].as_array().unwrap();
    assert_eq!(grandchildren.iter().map(|node| node["part"].clone()).collect::<Vec<_>>(), ["attempt", "call"]);
    assert_eq!(grandchildren[1]["id"], below);
    let shown = structure(&client.call(GET, &json!({"id": first})).await);
    assert_eq!(shown["execution"]["parent"], parent);
    // After a restart too, and where the blocks of the log are full.
    let gateway = gateway.restart().await;
    let again = structure(&gateway.client(&key).call(GET, &json!({"id": parent})).await);
    assert_eq!(again["tree"], tree);
    gateway.finish().await;
}

#[tokio::test]
async fn a_large_tree_says_what_it_leaves_out() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let key = gateway.writer("operator").await;
    let client = gateway.client(&key);
    let parent = audit_id(&client.call("policy.simulate", &json!({"action": "up:read"})).await);
    for _ in 0..203 {
        nested(&gateway, &key, &parent).await;
    }
    let tree = structure(&client.call(GET, &json!({"id": parent})).await)["tree"].clone();
    assert_eq!(tree["children"].as_array().unwrap().len(), 200);
    assert_eq!(tree["left_out"], 3);
    assert!(client.call(GET, &json!({"id": parent})).await.told().contains("and 3 more calls"));
    // A chain of calls ends somewhere, too.
    let mut last = audit_id(&client.call("policy.simulate", &json!({"action": "up:read"})).await);
    let first = last.clone();
    for _ in 0..12 {
        last = nested(&gateway, &key, &last).await;
    }
    let text = client.call(GET, &json!({"id": first})).await.told();
    assert!(text.contains("and 1 more call"), "{text}");
    gateway.finish().await;
}

#[tokio::test]
async fn filters_narrow_and_pages_are_stable() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = operator(&gateway).await;
    let agent = gateway.create(NewKey { agent: Some("finance_agent".into()), ..of_user("u2", "agent") }).await;
    let other = gateway.client(&agent);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(audit_id(&client.invoke("up", "read", "{}").await));
    }
    let denied = audit_id(&client.invoke("up", "destroy", "{}").await);
    upstream.on_call(|_| Say::Status(500));
    let failed = audit_id(&client.invoke("up", "write", "{}").await);
    upstream.on_call(|_| Say::text("ok"));
    let by_agent = audit_id(&other.invoke("up", "read", "{}").await);
    let traced = "0af7651916cd43dd8448eb211c80319c";
    let params = json!({"name": "gateway_invoke", "arguments": {"server": "up", "tool": "read", "arguments": {}},
                        "_meta": {"traceparent": format!("00-{traced}-b7ad6b7169203331-01")}});
    let in_trace = audit_id(&client.rpc("tools/call", &params).await);
    for (arguments, wanted) in [
        (json!({"decision": "approval"}), vec![&denied]),
        (json!({"outcome": "failed"}), vec![&failed]),
        (json!({"tool": "up:destroy"}), vec![&denied]),
        (json!({"tool": "up/destroy"}), vec![&denied]),
        (json!({"tool": "up.destroy"}), vec![&denied]),
        (json!({"tool": "up__destroy"}), vec![&denied]),
        (json!({"server": "up", "tool": "write"}), vec![&failed]),
        (json!({"agent": "finance_agent"}), vec![&by_agent]),
        (json!({"key": agent.id}), vec![&by_agent]),
        (json!({"trace_id": traced.to_uppercase()}), vec![&in_trace]),
        (json!({"server": "up", "min_latency_ms": 3_600_000}), vec![]),
        (json!({"server": "up", "until": "1h"}), vec![]),
        (json!({"server": "nowhere"}), vec![]),
        (json!({"server": "up", "since": "2999-01-01"}), vec![]),
        (json!({"agent": "a\"b\\c"}), vec![]),
    ] {
        let found = listed(&client, &arguments).await;
        assert_eq!(ids(&found).iter().collect::<Vec<_>>(), wanted, "{arguments}");
    }
    assert_eq!(
        listed(&client, &json!({"server": "up", "since": "1h", "min_latency_ms": 0, "limit": 100})).await.len(),
        9
    );
    // Page by page, while others are made.
    let all = ids(&listed(&client, &json!({"server": "up", "limit": 100})).await);
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut arguments = json!({"server": "up", "limit": 2});
        if !cursor.is_null() {
            arguments["cursor"] = cursor.clone();
        }
        let page = structure(&client.call(LIST, &arguments).await);
        seen.extend(ids(page["executions"].as_array().unwrap()));
        client.invoke("up", "read", "{}").await;
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, all);
    gateway.finish().await;
}
