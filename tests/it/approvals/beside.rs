//! What a client of the transparent route says beside the arguments: shown to whoever approves, and approved with them.

use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{Bench, holder};
use crate::support::{FakeUpstream, Response, Say, Setup, eventually};

const ROUTE: &str = "/v1/mcp/servers/up";
const TASKS: &str = "io.modelcontextprotocol/tasks";

async fn bench() -> Bench {
    let upstream = FakeUpstream::modern().await;
    let setup = Setup::with(&upstream);
    Bench::over(upstream, setup).await
}

/// A modern client's call of `destroy`, its params with these members besides.
async fn call(bench: &Bench, more: &Value) -> Response {
    let mut params = json!({"name": "destroy", "arguments": {"n": 1}});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bench.client.modern().at(ROUTE).rpc("tools/call", &params).await
}

async fn asked(bench: &Bench, more: &Value) -> String {
    let answer = call(bench, more).await;
    assert_eq!(answer.denied(), "approval_required", "{}", answer.text);
    answer.result()["structuredContent"]["error"]["approval"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_sent_beside_the_arguments_is_a_part_of_the_call() {
    let bench = bench().await;
    let plain = bench.ask(&json!({"n": 1})).await;
    assert_eq!(asked(&bench, &json!({})).await, plain, "by whatever door, where nothing stands beside them");
    bench.approve(&plain).await;
    let dry = json!({"mode": "dry-run", "_meta": {"vendor/x": "safe"}});
    let answers = json!({"confirm": {"action": "accept", "content": {"amount": 1_000_000}}});
    let mut ids = vec![plain.clone(), asked(&bench, &dry).await];
    ids.push(asked(&bench, &json!({"mode": "DELETE-EVERYTHING"})).await);
    ids.push(asked(&bench, &json!({"inputResponses": answers})).await);
    ids.push(asked(&bench, &json!({"mode": "dry-run", "inputResponses": answers})).await);
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), bench.upstream.calls().len()), (5, 0));
    // Who decides sees all of it, and the approval lets exactly it go, byte for byte.
    let id = asked(&bench, &dry).await;
    let shown = bench.show(&id).await;
    assert_eq!((&shown["arguments"], &shown["beside"]), (&json!({"n": 1}), &dry));
    assert!(shown["beside_digest"].is_string() && shown["meta_digest"].is_string(), "{shown}");
    bench.approve(&id).await;
    assert_eq!(call(&bench, &dry).await.told(), "done");
    let sent = &bench.upstream.calls()[0].json["params"];
    assert_eq!((&sent["mode"], &sent["_meta"]["vendor/x"]), (&json!("dry-run"), &json!("safe")));
    assert_eq!((bench.state(&id).await.as_str(), bench.state(&plain).await.as_str()), ("used", "approved"));
    assert_eq!(bench.run(&json!({"n": 1})).await["decision"], "allow");
    bench.finish().await;
}

/// Hosts number their calls in `_meta`: that makes no other call, but does not travel unseen either.
#[tokio::test]
async fn another_meta_than_was_approved_does_not_travel() {
    let bench = bench().await;
    let numbered = |n: u32| json!({"mode": "real", "_meta": {"host/callId": n}});
    let id = asked(&bench, &numbered(1)).await;
    assert_eq!(asked(&bench, &numbered(2)).await, id);
    assert_eq!(bench.show(&id).await["beside"]["_meta"], json!({"host/callId": 1}));
    bench.approve(&id).await;
    let done = call(&bench, &json!({"mode": "real", "_meta": {"host/callId": 3, "confirm": true}})).await;
    assert_eq!(done.told(), "done", "{}", done.text);
    let sent = &bench.upstream.calls()[0];
    assert_eq!(sent.json["params"]["mode"], "real");
    assert!(!sent.text.contains("callId") && !sent.text.contains("confirm"), "{}", sent.text);
    let record = bench.gateway.record(done.header("toolgate-audit-id").unwrap()).await;
    assert!(record["notes"].to_string().contains("`_meta` left out"), "{record}");
    bench.finish().await;
}

/// Each round of a call whose server asks is a call of its own, with the answers that go with it.
#[tokio::test]
async fn the_answers_of_a_second_round_are_approved_too() {
    let bench = bench().await;
    bench.upstream.on_call(|seen| match seen.json["params"].get("inputResponses") {
        Some(_) => Say::text("paid"),
        None => Say::Result(
            r#"{"resultType":"input_required","inputRequests":{"sure":{"method":"elicitation/create","params":{"message":"how much?"}}},"requestState":"s"}"#.into(),
        ),
    });
    let able = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}});
    let first = json!({"_meta": able});
    let id = asked(&bench, &first).await;
    bench.approve(&id).await;
    let state = call(&bench, &first).await.result()["requestState"].clone();
    let answers = json!({"sure": {"action": "accept", "content": {"amount": 5}}});
    let second = json!({"requestState": state, "inputResponses": answers, "_meta": able});
    let id = asked(&bench, &second).await;
    assert_eq!(bench.show(&id).await["beside"], json!({"inputResponses": answers, "requestState": "s"}));
    bench.approve(&id).await;
    let mut other = second.clone();
    other["inputResponses"]["sure"]["content"]["amount"] = json!(1_000_000);
    assert_ne!(asked(&bench, &other).await, id);
    let paid = call(&bench, &second).await;
    assert_eq!(paid.told(), "paid");
    assert!(noted(&bench, &paid).await.contains("\"answers sha256:"));
    bench.finish().await;
}

async fn noted(bench: &Bench, answer: &Response) -> String {
    bench.gateway.record(answer.header("toolgate-audit-id").unwrap()).await["notes"].to_string()
}

/// What a task is told belongs to the call that began it: its answers alone travel, and the log knows them again.
#[tokio::test]
async fn a_task_of_an_approved_call_is_told_its_answers_and_nothing_else() {
    let upstream = FakeUpstream::modern().await;
    upstream.script(|seen| {
        let result = match seen.method() {
            "server/discover" => {
                let capabilities = json!({"tools": {}, "extensions": {TASKS: {}}});
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities})
            }
            "tools/call" => json!({"resultType": "task", "taskId": "raw", "status": "input_required"}),
            "tasks/get" | "tasks/update" => json!({"resultType": "complete", "taskId": "raw", "status": "working"}),
            _ => return None,
        };
        Some(Say::Result(result.to_string()))
    });
    let setup = Setup::with(&upstream);
    let bench = Bench::over(upstream, setup).await;
    let able = json!({"_meta": {"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}}});
    let id = asked(&bench, &able).await;
    bench.approve(&id).await;
    let task = call(&bench, &able).await.result()["taskId"].as_str().unwrap().to_owned();
    let tell = async |method: &str, amount: u32| {
        let mut params = able.clone();
        params["taskId"] = json!(task);
        params["amount"] = json!(1_000_000);
        params["inputResponses"] = json!({"sure": {"action": "accept", "content": {"amount": amount}}});
        let client = bench.client.modern().at(ROUTE);
        let answer = client.request(method, &params.to_string()).header("mcp-name", &task).send().await;
        assert!(answer.json()["result"].is_object(), "{}", answer.text);
        let sent = bench.upstream.seen().into_iter().rfind(|seen| seen.method() == method).unwrap();
        let mut names: Vec<String> = sent.json["params"].as_object().unwrap().keys().cloned().collect();
        names.retain(|name| name != "_meta");
        names.sort();
        (names, noted(&bench, &answer).await)
    };
    let (sent, first) = tell("tasks/update", 5).await;
    assert_eq!(sent, ["inputResponses", "taskId"]);
    assert!(first.contains("\"answers sha256:"), "{first}");
    let ((_, again), (_, other)) = (tell("tasks/update", 5).await, tell("tasks/update", 6).await);
    assert!(first == again && first != other, "{first} {again} {other}");
    let (sent, got) = tell("tasks/get", 5).await;
    assert_eq!((sent, got.contains("answers")), (vec!["taskId".to_owned()], false));
    bench.finish().await;
}

/// Nobody approves what they cannot be shown, and numbers are shown as they are written.
#[tokio::test]
async fn what_is_approved_is_seen_whole() {
    let bench = bench().await;
    let long = json!({"memo": "send all to evil", "pad": "x".repeat(66_000)});
    let refused = bench.client.call("up:destroy", &long).await;
    assert_eq!(refused.denied(), "policy_denied", "{}", refused.text);
    assert!(refused.told().contains("a person is shown 65536 at most"), "{}", refused.told());
    assert_eq!(refused.governance()["policy"], "approval");
    let beside = call(&bench, &json!({"pad": "x".repeat(66_000)})).await;
    assert_eq!(beside.denied(), "policy_denied", "{}", beside.text);
    let bob = bench.gateway.client(&bench.gateway.create(holder("operator", "bob", &[])).await);
    let none = bob.get("/v1/approvals").send().await.json();
    assert_eq!(none["data"], json!([]), "nothing waits that nobody can see");
    let exact = r#"{"account":12345678901234567890123456,"amount":0.1000000000000000055}"#;
    let params = format!(r#"{{"name":"up:destroy","arguments":{exact}}}"#);
    let answer = bench.client.request("tools/call", &params).send().await;
    let id = answer.result()["structuredContent"]["error"]["approval"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/approvals/{id}");
    assert_eq!(bob.get(&path).send().await.json()["data"]["exact"]["arguments"], exact);
    let page = bob.get(&path).header("accept", "text/html").send().await.text;
    for number in ["12345678901234567890123456", "0.1000000000000000055"] {
        assert!(page.contains(number), "{page}");
    }
    bench.finish().await;
}

/// A call of `destroy` at a legacy server that asks its client something on the way: what takes it up again.
async fn parked(bench: &Bench, more: &Value) -> Value {
    let asked = call(bench, more).await.result();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let mut again = more.clone();
    again["requestState"] = asked["requestState"].clone();
    again["inputResponses"] = json!({"1": {"action": "accept"}});
    again
}

/// A bench whose server asks on the way, and what its client says beside the arguments.
async fn asking(change: impl FnOnce(Setup) -> Setup) -> (Bench, Value) {
    let upstream = FakeUpstream::legacy().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    upstream.set_tools(json!([{"name": "destroy", "inputSchema": schema, "annotations": {"destructiveHint": true}}]));
    let asks = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"sure?"}}"#;
    upstream.on_call(move |_| Say::EventsThenHang(vec![asks.into()]));
    let setup = change(Setup::with(&upstream));
    let able = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}});
    (Bench::over(upstream, setup).await, json!({"_meta": able}))
}

async fn changed(bench: &Bench, file: &str, policy: &str) {
    let before = bench.gateway.gateway.state().policies.bundle().version().clone();
    bench.gateway.write(file, policy);
    eventually("the policy is active", async || {
        (*bench.gateway.gateway.state().policies.bundle().version() != before).then_some(())
    })
    .await;
}

async fn taken_up(bench: &Bench) -> Value {
    let records = bench.gateway.records().await;
    let record = records.into_iter().find(|record| record["notes"].to_string().contains("taken up again"));
    record.expect("a record of its going on")
}

/// What a client answers to a question on the way belongs to the call, which goes on under the approval that let it go.
#[tokio::test]
async fn an_approved_call_goes_on_once_its_client_has_answered() {
    let (bench, first) = asking(|setup| setup).await;
    let id = asked(&bench, &first).await;
    bench.approve(&id).await;
    let again = parked(&bench, &first).await;
    let mut params = json!({"name": "destroy", "arguments": {"n": 1}});
    params.as_object_mut().unwrap().extend(again.as_object().unwrap().clone());
    let going_on = bench.client.modern().at(ROUTE).request("tools/call", &params.to_string());
    let going_on = TaskTracker::new().spawn(async move { going_on.try_send().await.is_some() });
    eventually("the answer goes to the backend", async || {
        bench.upstream.seen().into_iter().find(|seen| seen.json["id"] == "q" && seen.text.contains("accept"))
    })
    .await;
    let record = taken_up(&bench).await;
    assert_eq!(record["decision"], "allow", "{record}");
    assert!(record["policies"].to_string().contains(&format!("approval:{id}")), "{record}");
    going_on.abort();
    bench.finish().await;
}

/// What goes on is judged as it would be now, its arguments too, and has no approval but the one that let it go.
#[tokio::test]
async fn a_call_that_waited_for_its_client_is_judged_whole_before_it_goes_on() {
    let forbids = r#"@id("late") forbid (principal, action == Toolgate::Action::"up:destroy", resource)
        when { context.input.n == 1 };"#;
    let (bench, first) = asking(|setup| setup).await;
    let id = asked(&bench, &first).await;
    bench.approve(&id).await;
    let again = parked(&bench, &first).await;
    changed(&bench, "policies/late.cedar", forbids).await;
    let refused = call(&bench, &again).await;
    assert!(refused.denied() == "policy_denied" && refused.text.contains("late"), "{}", refused.text);
    assert_eq!(bench.gateway.gateway.parked_calls(), 0);
    bench.finish().await;

    // The word of others is another word.
    let asks = |of: &str| {
        format!(r#"@id("asks") @requires("approval") @approvers("{of}") permit (principal, action, resource);"#)
    };
    let (bench, first) = asking(|setup| setup.policy("all", &asks("office"))).await;
    let id = asked(&bench, &first).await;
    bench.approve(&id).await;
    let again = parked(&bench, &first).await;
    changed(&bench, "policies/all.cedar", &asks("board")).await;
    let refused = call(&bench, &again).await;
    assert_eq!(refused.denied(), "policy_denied", "{}", refused.text);
    bench.finish().await;

    let (bench, first) = asking(|setup| setup.policy("all", "permit (principal, action, resource);")).await;
    let again = parked(&bench, &first).await;
    let wants = r#"@id("since") @requires("approval") permit (principal, action, resource);"#;
    changed(&bench, "policies/all.cedar", wants).await;
    let refused = call(&bench, &again).await;
    assert_eq!(refused.denied(), "policy_denied", "{}", refused.text);
    assert_eq!(taken_up(&bench).await["decision"], "deny");
    assert!(!bench.upstream.seen().iter().any(|seen| seen.text.contains("accept")));
    bench.finish().await;
}
