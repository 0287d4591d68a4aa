//! The same approval at every door: each says where it is decided, and how to go on.

use serde_json::{Value, json};
use toolgate::domain::approval::Decision;
use toolgate::gateway::control::Command;

use super::{Bench, holder};
use crate::support::{Client, Program, Response, eventually};

const CAPABLE: &str = "io.modelcontextprotocol/clientCapabilities";

/// A modern call by a client that can send its user to a page.
fn visiting(rest: &Value) -> Value {
    let mut params =
        json!({"name": "up:destroy", "arguments": {"n": 1}, "_meta": {CAPABLE: {"elicitation": {"url": {}}}}});
    params.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    params
}

fn accepted(state: &Value) -> Value {
    visiting(&json!({"requestState": state, "inputResponses": {"approval": {"action": "accept"}}}))
}

/// The question and the state of an answer that asks.
fn asking(answer: &Response) -> (Value, Value) {
    let result = answer.result();
    assert_eq!(result["resultType"], "input_required", "{}", answer.text);
    (result["inputRequests"]["approval"].clone(), result["requestState"].clone())
}

#[tokio::test]
async fn a_modern_client_sends_its_user_and_is_answered_once_that_has_decided() {
    let bench = Bench::start().await;
    let modern = bench.client.modern();
    let first = modern.rpc("tools/call", &visiting(&json!({}))).await;
    let (question, state) = asking(&first);
    assert_eq!((&question["method"], &question["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
    let url = question["params"]["url"].as_str().unwrap();
    let id = url.rsplit('/').next().unwrap();
    assert_eq!(url, format!("http://{}/v1/approvals/{id}", bench.gateway.address));
    assert!(question["params"]["message"].as_str().unwrap().contains("destructive-needs-approval"), "{question}");
    assert_eq!(first.governance()["decision"], "approval");
    // Whoever asks again without having been there is asked again.
    let (_, again) = asking(&modern.rpc("tools/call", &visiting(&json!({"requestState": state}))).await);
    // Whoever has been there waits for the decision.
    let deciding = async {
        eventually("the retry waits", async || (bench.gateway.gateway.waiting_for_decisions() == 1).then_some(()))
            .await;
        bench.approve(id).await;
    };
    let accepted = accepted(&again);
    let (answer, ()) = tokio::join!(modern.rpc("tools/call", &accepted), deciding);
    assert_eq!(answer.told(), "done", "{}", answer.text);
    assert_eq!(answer.governance()["audit_event_id"], bench.show(id).await["used_event_id"]);
    assert_eq!((bench.state(id).await.as_str(), bench.upstream.calls().len()), ("used", 1));
    bench.finish().await;
}

#[tokio::test]
async fn a_state_is_good_for_its_own_request_alone() {
    let bench = Bench::start().await;
    let modern = bench.client.modern();
    let (_, state) = asking(&modern.rpc("tools/call", &visiting(&json!({}))).await);
    let state = state.as_str().unwrap();
    let other = bench.gateway.client(&bench.gateway.create(holder("agent", "bob", &["writer"])).await).modern();
    assert_eq!(other.rpc("tools/call", &accepted(&json!(state))).await.refused(), (200, -32602));
    let mut changed = accepted(&json!(state));
    changed["arguments"] = json!({"n": 2});
    assert_eq!(modern.rpc("tools/call", &changed).await.refused(), (200, -32602));
    for bad in [json!(format!("{state}x")), json!("x"), json!(7)] {
        assert_eq!(modern.rpc("tools/call", &accepted(&bad)).await.refused(), (200, -32602), "{bad}");
    }
    // Who declines is told in words, and is not asked again.
    let declined = visiting(&json!({"requestState": state, "inputResponses": {"approval": {"action": "decline"}}}));
    assert_eq!(modern.rpc("tools/call", &declined).await.denied(), "approval_required");
    assert_eq!(bench.upstream.calls().len(), 0);
    bench.finish().await;
}

/// A client that cannot send anybody anywhere gets the words, in either era.
#[tokio::test]
async fn who_cannot_be_asked_gets_the_id_and_the_url() {
    let bench = Bench::start().await;
    let legacy = bench.client.legacy().await;
    let modern = bench.client.modern();
    let form = json!({"name": "up:destroy", "arguments": {}, "_meta": {CAPABLE: {"elicitation": {"form": {}}}}});
    let answers = [
        legacy.call("up:destroy", &json!({})).await,
        modern.call("up:destroy", &json!({})).await,
        modern.rpc("tools/call", &form).await,
    ];
    for answer in answers {
        assert_eq!(answer.denied(), "approval_required");
        let approval = &answer.result()["structuredContent"]["error"]["approval"];
        let told = answer.told();
        for part in ["id", "url", "expires_at"] {
            assert!(told.contains(approval[part].as_str().unwrap()), "{part}: {told}");
        }
        assert!(told.contains("make the identical call again"), "{told}");
    }
    let id = bench.ask(&json!({})).await;
    bench.approve(&id).await;
    assert_eq!(legacy.call("up:destroy", &json!({})).await.told(), "done");
    bench.finish().await;
}

/// The transparent route asks alike, and adds nothing of its own.
#[tokio::test]
async fn the_transparent_route_asks_too() {
    let bench = Bench::start().await;
    let modern = bench.client.modern().at("/v1/mcp/servers/up");
    let call = |rest: Value| {
        let mut params = visiting(&rest);
        params["name"] = json!("destroy");
        params
    };
    let first = modern.rpc("tools/call", &call(json!({}))).await;
    let (question, state) = asking(&first);
    assert_eq!(first.result().get("_meta"), None, "{}", first.text);
    let id = question["params"]["elicitationId"].as_str().unwrap();
    bench.approve(id).await;
    let done = call(json!({"requestState": state, "inputResponses": {"approval": {"action": "accept"}}}));
    assert_eq!(modern.rpc("tools/call", &done).await.told(), "done");
    let sent = &bench.upstream.calls()[0].text;
    assert!(!sent.contains("requestState") && !sent.contains("inputResponses"), "they go no further: {sent}");
    let legacy = bench.client.at("/v1/mcp/servers/up").legacy().await;
    assert_eq!(legacy.call("destroy", &json!({"n": 1})).await.denied(), "approval_required");
    bench.finish().await;
}

fn rest_call(client: &Client) -> [crate::support::Draft; 3] {
    [
        client
            .post("/api/v1/mcp/invoke")
            .json(&json!({"serverId": "up", "toolName": "destroy", "arguments": {"n": 1}})),
        client.post("/api/mcp/call").json(&json!({"tool": "up:destroy", "arguments": {"n": 1}})),
        client.post("/v1/mcps/up:destroy/invoke").json(&json!({"input": {"n": 1}})),
    ]
}

#[tokio::test]
async fn over_rest_one_may_come_again_or_wait() {
    let bench = Bench::start().await;
    let mut ids = Vec::new();
    for draft in rest_call(&bench.client) {
        let answer = draft.header("prefer", "wait=0").send().await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let error = answer.error();
        let approval = error.pointer("/details/approval").or(error.get("approval")).unwrap().clone();
        assert_eq!(answer.header("location"), approval["url"].as_str());
        ids.push(approval["id"].as_str().unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one request, by whatever door");
    for (at, draft) in rest_call(&bench.client).into_iter().enumerate() {
        let id = bench.ask(&json!({"n": 1})).await;
        let deciding = async {
            eventually("it waits", async || (bench.gateway.gateway.waiting_for_decisions() == 1).then_some(())).await;
            bench.approve(&id).await;
        };
        let (answer, ()) = tokio::join!(draft.header("prefer", "respond-async, wait=30").send(), deciding);
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["governance"]["audit_event_id"], bench.show(&id).await["used_event_id"]);
        assert_eq!(bench.upstream.calls().len(), at + 1);
    }
    let [draft, ..] = rest_call(&bench.client);
    let id = bench.ask(&json!({"n": 1})).await;
    let refusing = async {
        eventually("it waits", async || (bench.gateway.gateway.waiting_for_decisions() == 1).then_some(())).await;
        let deny = toolgate::gateway::ApprovalsCommand::Decide { id, decision: Decision::Deny, comment: None };
        bench.command(deny).await;
    };
    let (answer, ()) = tokio::join!(draft.header("prefer", "wait=30").send(), refusing);
    assert_eq!((answer.status, &answer.error()["code"]), (403, &json!("policy_denied")));
    bench.finish().await;
}

/// A call that waits is made as whom its caller is when it is made.
#[tokio::test]
async fn who_is_gone_when_the_decision_comes_calls_nothing() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({"n": 1})).await;
    let revoking = async {
        eventually("it waits", async || (bench.gateway.gateway.waiting_for_decisions() == 1).then_some(())).await;
        bench.gateway.control(Command::KeysRevoke { id: bench.agent.id.clone() }).await;
        bench.approve(&id).await;
    };
    let [draft, ..] = rest_call(&bench.client);
    let (answer, ()) = tokio::join!(draft.header("prefer", "wait=30").send(), revoking);
    assert_eq!((answer.status, &answer.error()["code"]), (401, &json!("unauthorized")), "{}", answer.text);
    let record = bench.gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
    assert_eq!((&record["decision"], &record["key"]), (&json!("deny"), &json!(bench.agent.id)), "{record}");
    assert_eq!((bench.state(&id).await.as_str(), bench.upstream.calls().len()), ("approved", 0));

    let agent = bench.gateway.create(holder("agent", "carol", &["writer"])).await;
    let modern = bench.gateway.client(&agent).modern();
    let (question, state) = asking(&modern.rpc("tools/call", &visiting(&json!({}))).await);
    let id = question["params"]["elicitationId"].as_str().unwrap();
    let revoking = async {
        eventually("the retry waits", async || (bench.gateway.gateway.waiting_for_decisions() == 1).then_some(()))
            .await;
        bench.gateway.control(Command::KeysRevoke { id: agent.id.clone() }).await;
        bench.approve(id).await;
    };
    let retry = accepted(&state);
    let (answer, ()) = tokio::join!(modern.rpc("tools/call", &retry), revoking);
    assert_eq!(answer.denied(), "unauthorized", "{}", answer.text);
    assert_eq!((bench.state(id).await.as_str(), bench.upstream.calls().len()), ("approved", 0));
    bench.finish().await;
}

#[tokio::test]
async fn own_tools_show_what_one_may_see() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({"what": "x"})).await;
    let profile_of =
        async |profile: &str, user: &str| bench.gateway.client(&bench.gateway.create(holder(profile, user, &[])).await);
    let (decides, own, stranger) = (
        profile_of("operator", "bob").await,
        profile_of("mcp_readonly", "alice").await,
        profile_of("mcp_readonly", "carol").await,
    );
    let list = async |client: &Client, arguments: Value| {
        client.call("approvals.list", &arguments).await.result()["structuredContent"].clone()
    };
    for client in [&decides, &own] {
        let found = list(client, json!({"state": "pending"})).await;
        assert_eq!((&found["approvals"][0]["id"], &found["next_cursor"]), (&json!(id), &json!(null)));
        let one = client.call("toolgate:approvals.get", &json!({"id": id})).await.result();
        // Only who decides is shown what is sent: the user's other keys are not.
        let sent = one["structuredContent"].get("arguments").cloned();
        assert_eq!(sent, std::ptr::eq(client, &decides).then(|| json!({"what": "x"})));
    }
    assert_eq!(list(&stranger, json!({})).await["approvals"], json!([]));
    let hidden = stranger.call("approvals_get", &json!({"id": id})).await;
    let unknown = stranger.call("approvals_get", &json!({"id": "apr_0"})).await;
    assert_eq!((hidden.denied(), unknown.denied()), ("not_found".into(), "not_found".into()));
    assert_eq!(hidden.told().replace(&id, "apr_0"), unknown.told(), "hidden is as good as absent");
    let invoke = json!({"serverId": "toolgate", "toolName": "approvals.get", "arguments": {"id": "apr_0"}});
    let absent = stranger.post("/api/v1/mcp/invoke").json(&invoke).send().await;
    assert_eq!((absent.status, &absent.error()["code"]), (404, &json!("not_found")), "{}", absent.text);
    assert_eq!(list(&decides, json!({"state": "denied"})).await["approvals"], json!([]));
    bench.ask(&json!({"what": "y"})).await;
    let page = list(&decides, json!({"limit": 1})).await;
    let rest = list(&decides, json!({"limit": 1, "cursor": page["next_cursor"]})).await;
    assert_eq!((&rest["approvals"][0]["id"], &rest["next_cursor"]), (&json!(id), &json!(null)));
    // The agent's profile does not open them.
    assert_eq!(bench.client.call("approvals.list", &json!({})).await.refused(), (200, -32602));
    bench.finish().await;
}

/// What a person at the terminal does, with a server running and without one.
#[tokio::test]
async fn the_command_line_lists_shows_and_decides() {
    let program = Program::start().await;
    program.ready().await;
    let agent = program.client("agent");
    let call = json!({"sql": "delete from tickets"});
    let first = agent.call("database:execute", &call).await;
    let id = first.result()["structuredContent"]["error"]["approval"]["id"].as_str().unwrap().to_owned();
    let table = program.run(&["approvals", "list"]).await;
    assert!(table.out.contains("STATE") && table.out.contains(&id) && table.out.contains("pending"), "{table:?}");
    let none = program.run(&["approvals", "list", "--state", "denied", "--json"]).await;
    assert_eq!(none.json(), json!({"approvals": [], "next_cursor": null}));
    let shown = program.run(&["approvals", "show", &id]).await;
    assert!(shown.out.contains("delete from tickets"), "who decides sees what: {shown:?}");
    let done = program.run(&["approvals", "approve", &id, "--comment", "go on"]).await;
    assert!(done.code == Some(0) && done.out.starts_with(&format!("approved {id}: the requester makes")), "{done:?}");
    let twice = program.run(&["approvals", "deny", &id]).await;
    assert!(twice.code == Some(1) && twice.err.contains("is approved and cannot be decided"), "{twice:?}");
    assert_ne!(agent.call("database:execute", &call).await.result()["isError"], json!(true));
    let other = agent.call("database:execute", &json!({"sql": "delete from customers"})).await;
    let other = other.result()["structuredContent"]["error"]["approval"]["id"].as_str().unwrap().to_owned();
    let folder = program.folder();
    program.stop().await;
    let denied = crate::support::toolgate_in(folder.path(), &["approvals", "deny", &other, "--json"], &[]).await;
    assert_eq!((denied.code, denied.json()["state"].clone()), (Some(0), json!("denied")));
    let missing = crate::support::toolgate_in(folder.path(), &["approvals", "show", "apr_0"], &[]).await;
    assert!(missing.code == Some(1) && missing.err.contains("there is no approval `apr_0`"), "{missing:?}");
    let odd = crate::support::toolgate_in(folder.path(), &["approvals", "list", "--state", "odd"], &[]).await;
    assert!(odd.code == Some(1) && odd.err.contains("known are pending"), "{odd:?}");
}
