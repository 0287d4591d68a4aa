//! `preflight.check`: whether calls would pass, with nothing called and nothing charged.

use serde_json::{Value, json};
use toolgate::gateway::NewKey;
use toolgate::gateway::control::Command;

use crate::support::{Client, FakeUpstream, Issuer, Program, Say, Setup, TestGateway, tool};

const NAME: &str = "preflight.check";

/// What it says of each call.
async fn checked(client: &Client, calls: &Value) -> Value {
    client.call(NAME, &json!({"calls": calls})).await.result()["structuredContent"].clone()
}

fn blockers(call: &Value) -> Vec<&str> {
    call["blockers"].as_array().unwrap().iter().map(|blocker| blocker.as_str().unwrap()).collect()
}

async fn start(upstream: &FakeUpstream, rest: &str) -> TestGateway {
    let hints = json!({"readOnlyHint": true});
    let mut strict = tool("strict", &hints);
    strict["inputSchema"] = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    let (write, destroy) = (tool("write", &json!({})), tool("destroy", &json!({"destructiveHint": true})));
    upstream.set_tools(json!([tool("read", &hints), write, destroy, strict, tool("limited", &hints)]));
    Setup::new().config(&upstream.section("up", rest)).start().await
}

/// Calls of every kind.
fn run() -> Value {
    let limited = json!({"tool": "up:limited"});
    json!([
        {"server": "up", "tool": "read", "arguments": {"q": "x"}},
        {"tool": "up__write", "arguments": {"sql": "drop table x"}},
        {"tool": "up:destroy", "arguments": {}},
        {"tool": "up:strict", "arguments": {"m": 1}},
        {"tool": "up:nothing", "arguments": {}},
        limited, limited, limited,
        {"server": "toolgate", "tool": "gateway_invoke", "arguments": {"server": "up", "tool": "write"}},
        {"tool": "governance.readiness"},
    ])
}

#[tokio::test]
async fn each_call_is_judged_and_none_is_made() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = start(&upstream, "[servers.up.tools.limited]\nrate_limit = \"3/h\"").await;
    let client = gateway.agent().await;
    client.invoke("up", "limited", "{}").await;
    client.invoke("up", "read", "{}").await;
    upstream.forget();
    let calls = run();
    let report = checked(&client, &calls).await;
    let found = report["calls"].as_array().unwrap();
    let verdicts: Vec<(Vec<&str>, &str, bool)> = found
        .iter()
        .map(|call| (blockers(call), call["policy"].as_str().unwrap(), call["visible"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        verdicts,
        [
            (vec![], "default-allow-read", true),
            (vec!["denied"], "block-sql-drop", true),
            (vec!["approval"], "destructive-needs-approval", true),
            (vec!["schema"], "default-allow-read", true),
            (vec!["denied"], "default-deny", false),
            (vec![], "default-allow-read", true),
            (vec![], "default-allow-read", true),
            (vec!["limit"], "default-allow-read", true),
            (vec![], "allow-write-to-writers", true),
            (vec!["denied"], "profile:agent", false),
        ]
    );
    assert_eq!(
        report["counts"],
        json!({"calls": 10, "would_pass": 4, "denied": 3, "approval": 1, "schema": 1, "credentials": 0, "backend": 0, "limit": 1})
    );
    assert_eq!(report["would_pass"], false);
    assert_eq!(found[3]["schema"]["valid"], false);
    assert_eq!(found[3]["schema"]["errors"].as_array().unwrap().len(), 2, "{}", found[3]);
    assert_eq!(found[2]["approval"]["policy"], "destructive-needs-approval");
    assert!(found[2]["approval"]["of"].as_str().unwrap().contains("person"), "{}", found[2]);
    let left: Vec<&Value> = found[5..8].iter().map(|call| &call["limit_left"]).collect();
    assert_eq!(left, [&json!(2), &json!(1), &json!(0)], "what the calls before would take is taken");
    assert_eq!(found[0]["limit_left"], Value::Null);
    assert_eq!(found[0]["backend"]["state"], "ready");
    assert_eq!(found[0]["credentials"], json!({"present": true, "needed": []}));
    assert_eq!(found[0]["expected_latency"]["samples"], 1, "{}", found[0]);
    assert!(found[0]["expected_latency"]["p95_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(found[1]["expected_latency"], Value::Null, "never called");
    for (call, report) in calls.as_array().unwrap().iter().zip(found) {
        let simulated = client.simulate(call).await;
        assert_eq!(simulated["decision"], report["decision"], "{call}");
        assert_eq!(simulated["policy"], report["policy"], "{call}");
    }
    assert!(upstream.calls().is_empty(), "{:?}", upstream.calls());
    let simulated = client.simulate(&json!({"tool": "up:limited"})).await;
    assert_eq!(simulated["limits"][0]["used"], 1, "nothing was charged");
    gateway.finish().await;
}

#[tokio::test]
async fn each_door_has_the_same_answer() {
    let upstream = FakeUpstream::legacy().await;
    let admin = "the admin key of this very test: 0123456789";
    let gateway = Setup::with(&upstream).admin_key(admin).start().await;
    let bare = gateway.stranger().with_key(Some(admin));
    let asked = json!({"calls": [{"tool": "up:read"}, {"tool": "up:destroy"}]});
    let expected = bare.call(NAME, &asked).await.result()["structuredContent"].clone();
    assert_eq!(expected["calls"][1]["blockers"], json!(["approval"]));
    for client in [bare.legacy().await, bare.modern()] {
        for name in ["preflight_check", "toolgate:preflight.check", "invoke.preflight.check"] {
            let answer = client.call(name, &asked).await;
            assert_eq!(answer.result()["structuredContent"], expected, "{name}");
        }
        let answer = client.invoke("toolgate", NAME, &asked.to_string()).await;
        assert_eq!(answer.result()["structuredContent"], expected);
    }
    let rest = bare.post("/v1/preflight").json(&asked).send().await;
    assert_eq!((rest.status, &rest.json()["data"]), (200, &expected), "{}", rest.text);
    assert!(rest.header("toolgate-audit-id").is_some() && rest.json()["meta"]["request_id"].is_string());
    let bad = bare.post("/v1/preflight").json(&json!({"calls": []})).send().await;
    assert_eq!((bad.status, &bad.json()["error"]["code"]), (400, &json!("invalid_request")));
    let command = Command::Call { tool: "toolgate:preflight.check".into(), arguments: asked };
    assert_eq!(gateway.control(command).await["result"]["structuredContent"], expected);
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_asked_is_bounded() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = start(&upstream, "").await;
    let client = gateway.agent().await;
    let calls = |count: usize| Value::Array(vec![json!({"tool": "up:read"}); count]);
    assert_eq!(checked(&client, &calls(100)).await["counts"]["would_pass"], 100);
    for bad in [
        json!({"calls": calls(101)}),
        json!({"calls": []}),
        json!({}),
        json!({"calls": [{"server": "up"}]}),
        json!({"calls": [{"tool": "up:read", "args": {}}]}),
    ] {
        assert_eq!(client.call(NAME, &bad).await.denied(), "invalid_arguments", "{bad}");
    }
    let mute =
        gateway.create(NewKey { name: "m".into(), profile: "agent".into(), user: "m".into(), ..NewKey::default() });
    let mute = gateway.client(&mute.await);
    let report = checked(&mute, &json!([{"tool": "up:write"}])).await;
    assert_eq!(report["calls"][0]["blockers"], json!(["denied"]), "without the role");
    gateway.finish().await;
}

/// `gateway_invoke` does not call itself, so nobody is told that it would.
#[tokio::test]
async fn a_call_inside_a_call_inside_a_call_would_not_pass() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = start(&upstream, "").await;
    let client = gateway.agent().await;
    let of = |inner: Value| json!({"server": "toolgate", "tool": "gateway_invoke", "arguments": inner});
    let once = of(json!({"server": "up", "tool": "read"}));
    let report = checked(&client, &json!([once, of(once.clone())])).await;
    assert_eq!(report["calls"][0]["would_pass"], true, "{report}");
    assert_eq!((&report["calls"][1]["blockers"], &report["calls"][1]["tool"]), (&json!(["denied"]), &Value::Null));
    let simulated = client.simulate(&of(once.clone())).await;
    assert_eq!((&simulated["decision"], &simulated["code"]), (&json!("deny"), &json!("invalid_request")));
    assert_eq!(client.call("gateway_invoke", &once).await.refused().1, -32602, "as the call itself");
    gateway.finish().await;
}

#[tokio::test]
async fn credentials_that_a_server_asks_for_are_checked() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let jwt = format!("[jwt]\nissuer = \"{0}\"\naudience = \"toolgate\"\njwks_url = \"{0}/keys\"\n", issuer.url);
    let rest = "auth_type = \"jwt\"\n[servers.up.tools.write]\nallowed_roles = [\"finance\"]";
    let gateway = Setup::new().config(&jwt).config(&upstream.section("up", rest)).start().await;
    let client = gateway.agent().await;
    let asked = json!({"name": NAME, "arguments": {"calls": [{"tool": "up:read"}, {"tool": "up:write"}]}}).to_string();
    let ask = async |token: Option<&str>| {
        let request = client.request("tools/call", &asked);
        let request = token.map_or(request.clone(), |token| request.header("x-server-jwt", token));
        request.send().await.result()["structuredContent"]["calls"].clone()
    };
    let without = ask(None).await;
    assert_eq!(without[0]["blockers"], json!(["credentials"]), "{without}");
    assert_eq!(without[0]["credentials"]["needed"][0]["kind"], "jwt");
    assert_eq!(without[1]["blockers"], json!(["denied", "credentials"]), "roles come with the token: {without}");
    let mut claims = issuer.claims("toolgate");
    claims["roles"] = json!(["finance"]);
    let with = ask(Some(&issuer.sign(&claims))).await;
    assert_eq!((&with[0]["would_pass"], &with[1]["would_pass"]), (&json!(true), &json!(true)), "{with}");
    claims["aud"] = json!("somebody else");
    let wrong = ask(Some(&issuer.sign(&claims))).await;
    assert_eq!(wrong[0]["blockers"], json!(["credentials"]), "{wrong}");
    assert!(!wrong[0]["credentials"]["needed"][0]["fault"].as_str().unwrap().is_empty());
    assert!(upstream.calls().is_empty());
    gateway.finish().await;
}

#[tokio::test]
async fn a_backend_that_is_not_well_stands_in_the_way() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let asked = json!([{"tool": "up:read"}]);
    assert_eq!(checked(&client, &asked).await["would_pass"], true);
    upstream.on_call(|_| Say::Status(500));
    for _ in 0..5 {
        client.invoke("up", "write", "{}").await;
    }
    upstream.forget();
    let report = checked(&client, &asked).await;
    let call = &report["calls"][0];
    assert_eq!(blockers(call), ["backend"], "{call}");
    assert_eq!(call["backend"]["breaker"]["state"], "open", "{call}");
    assert_eq!(call["backend"]["healthy"], false);
    assert!(upstream.calls().is_empty());
    gateway.finish().await;
}

#[tokio::test]
async fn a_pipeline_can_wait_for_its_exit_code() {
    let program = Program::start().await;
    program.ready().await;
    let ask = async |tool: &str, args: &str| program.run(&["preflight", "--tool", tool, "--args", args]).await;
    for (tool, args, code) in [
        ("github:list_repos", "{}", 0),
        ("database:query", r#"{"sql":"drop table customers"}"#, 2),
        ("github:nothing", "{}", 2),
        ("database:execute", r#"{"sql":"update tickets set status = 'closed'"}"#, 3),
        ("github:get_repo", r#"{"repo":1}"#, 1),
    ] {
        let ended = ask(tool, args).await;
        assert_eq!(ended.code, Some(code), "{tool} {args}: {ended:?}");
    }
    let table = ask("github:list_repos", "{}").await.out;
    assert!(table.contains("would pass") && table.contains("default-allow-read"), "{table}");
    let list = program.path("calls.json");
    std::fs::write(&list, r#"[{"tool":"github:list_repos"},{"server":"database","tool":"execute","arguments":{"sql":"drop table customers"}}]"#).unwrap();
    let ended = program.run(&["preflight", "calls.json", "--json"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.json()["counts"]["would_pass"], 1);
    std::fs::write(
        &list,
        r#"{"calls":[{"tool":"github:create_issue","arguments":{"repo":"demo/project-a","title":"x"}}]}"#,
    )
    .unwrap();
    assert_eq!(program.run(&["preflight", "calls.json"]).await.code, Some(0));
    assert_eq!(
        program.run(&["preflight", "calls.json", "--agent", "stranger"]).await.code,
        Some(2),
        "without the role"
    );
    std::fs::write(&list, "{}").unwrap();
    let nothing = program.run(&["preflight", "calls.json"]).await;
    assert!(nothing.code == Some(1) && nothing.err.contains("calls"), "{nothing:?}");
    assert_eq!(program.run(&["preflight", "nowhere.json"]).await.code, Some(1));
    assert_eq!(program.run(&["preflight"]).await.code, Some(1));
    program.stop().await;
}
