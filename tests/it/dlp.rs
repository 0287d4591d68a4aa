//! Secrets and personal data on their way through the gateway: noted, taken out, or kept back.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Program, Response, Say, Setup, TestGateway, tool};

/// A key as Stripe makes them, put together here so that no file holds one.
fn key() -> String {
    ["sk", "live", "4eC39HqLyjWDarjtT1zdp7dcQx"].join("_")
}

async fn start(upstream: &FakeUpstream, modes: &str) -> (TestGateway, Client) {
    let gateway = Setup::new().config(&upstream.section("up", modes)).start().await;
    let client = gateway.agent().await;
    (gateway, client)
}

fn echo(upstream: &FakeUpstream) {
    upstream.on_call(|seen| Say::text(&format!("you said {}", seen.arguments().unwrap_or_default())));
}

async fn recorded(gateway: &TestGateway, answer: &Response) -> Value {
    gateway.record(answer.header("toolgate-audit-id").unwrap()).await
}

/// No file of the data folder holds the key.
fn nowhere_kept(gateway: &TestGateway, secret: &str) {
    not_in(&gateway.file("data"), secret);
}

fn not_in(folder: &Path, secret: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
    }
}

#[tokio::test]
async fn findings_are_noted_and_travel_unless_something_else_is_said() {
    let upstream = FakeUpstream::legacy().await;
    echo(&upstream);
    let (gateway, client) = start(&upstream, "").await;
    let clean = client.invoke("up", "read", r#"{"a":1}"#).await;
    assert_eq!(clean.governance()["dlp_result"], "passed");
    let arguments = json!({"note": format!("use {}", key())}).to_string();
    let answer = client.invoke("up", "write", &arguments).await;
    assert_eq!(answer.governance()["dlp_result"], "flagged");
    assert_eq!(upstream.calls()[1].arguments().unwrap(), arguments, "byte for byte");
    assert!(answer.told().contains(&key()));
    let record = recorded(&gateway, &answer).await;
    assert_eq!(record["dlp_result"], "flagged");
    let notes = record["notes"].to_string();
    assert!(notes.contains("dlp: arguments flagged: stripe-key ×1"), "{notes}");
    assert!(notes.contains("dlp: results flagged: stripe-key ×1"), "{notes}");
    nowhere_kept(&gateway, &key());
    gateway.finish().await;
}

#[tokio::test]
async fn redaction_changes_the_findings_and_nothing_else() {
    let upstream = FakeUpstream::legacy().await;
    echo(&upstream);
    let (gateway, client) = start(&upstream, "dlp = { arguments = \"redact\", results = \"off\" }").await;
    let arguments = format!(r#"{{ "n":1.50e2, "note":"use\u00e9 {} now\n" , "z":[] }}"#, key());
    let answer = client.invoke("up", "write", &arguments).await;
    assert_eq!(answer.governance()["dlp_result"], "redacted");
    let sent = upstream.calls()[0].arguments().unwrap();
    assert_eq!(sent, r#"{ "n":1.50e2, "note":"use\u00e9 [redacted:stripe-key] now\n" , "z":[] }"#);
    let record = recorded(&gateway, &answer).await;
    let digest = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        let canonical = toolgate::domain::json::canonical(&value);
        format!("sha256:{}", toolgate::domain::json::sha256_hex(canonical.as_bytes()))
    };
    assert_eq!(record["arguments_digest"], digest(&sent), "what was sent is what is recorded");
    let shapes = format!(r#"{{"{}":"a name cannot be rewritten"}}"#, key());
    assert_eq!(client.invoke("up", "write", &shapes).await.denied(), "policy_denied");
    assert_eq!(upstream.calls().len(), 1);
    gateway.finish().await;

    let (gateway, client) = start(&upstream, "dlp = { results = \"redact\" }").await;
    let result =
        format!(r#"{{"content":[{{"type":"text","text":"{{\"k\":\"{}\"}}"}}],"x":1E+2,"isError":false}}"#, key());
    upstream.on_call(move |_| Say::Result(result.clone()));
    let answer = client.invoke("up", "read", "{}").await;
    let expected =
        r#"{"content":[{"type":"text","text":"{\"k\":\"[redacted:stripe-key]\"}"}],"x":1E+2,"isError":false,"_meta""#;
    assert!(answer.text.contains(expected), "{}", answer.text);
    assert_eq!(answer.governance()["dlp_result"], "redacted");
    gateway.finish().await;
}

#[tokio::test]
async fn blocked_arguments_reach_nobody() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream, "dlp = { arguments = \"block\" }").await;
    let arguments = json!({"note": key()}).to_string();
    for client in [client.clone(), client.legacy().await, client.modern()] {
        let refused = client.invoke("up", "write", &arguments).await;
        assert_eq!((refused.status, refused.denied().as_str()), (200, "policy_denied"));
        assert!(refused.told().contains("stripe-key") && !refused.text.contains(&key()), "{}", refused.text);
        let error = &refused.result()["structuredContent"]["error"];
        assert_eq!(error["dlp"], json!({"direction": "arguments", "rules": ["stripe-key"]}));
        let governance = refused.governance();
        assert_eq!(governance["decision"], "deny");
        assert_eq!(governance["policy"], "dlp:arguments");
        assert_eq!(governance["dlp_result"], "blocked");
        let record = recorded(&gateway, &refused).await;
        assert_eq!((record["decision"].as_str(), record["outcome"].as_str()), (Some("deny"), Some("refused")));
        assert_eq!(
            (record["policies"][0].as_str(), record["dlp_result"].as_str()),
            (Some("dlp:arguments"), Some("blocked"))
        );
    }
    assert!(upstream.calls().is_empty());
    nowhere_kept(&gateway, &key());
    gateway.finish().await;
}

#[tokio::test]
async fn the_doors_over_rest_tell_of_it_in_their_own_words() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream, "dlp = { arguments = \"block\", results = \"block\" }").await;
    let doors = async |arguments: &Value| {
        let invoke = json!({"serverId": "up", "toolName": "write", "arguments": arguments});
        let call = json!({"tool": "up:write", "arguments": arguments});
        [
            client.post("/api/v1/mcp/invoke").json(&invoke).send().await,
            client.post("/api/mcp/call").json(&call).send().await,
        ]
    };
    let refused = |answers: [Response; 2], direction: &str| {
        for (answer, code) in answers.iter().zip(["policy_denied", "FORBIDDEN"]) {
            assert_eq!(answer.status, 403, "{}", answer.text);
            let body = answer.json();
            assert_eq!(body["error"]["code"], code);
            assert!(answer.text.contains(&format!("dlp:{direction}")), "{}", answer.text);
            assert!(!answer.text.contains("4eC39"), "{}", answer.text);
            let id = answer.header("toolgate-audit-id").unwrap();
            assert!(id.starts_with("evt_"), "{id}");
        }
    };
    refused(doors(&json!({"note": key()})).await, "arguments");
    assert!(upstream.calls().is_empty());
    upstream.on_call(|_| Say::text(&key()));
    refused(doors(&json!({})).await, "results");
    nowhere_kept(&gateway, &key());
    gateway.finish().await;
}

/// Whatever is logged and recorded, and however much of it.
#[tokio::test]
async fn no_secret_reaches_the_log_or_the_record() {
    let upstream = FakeUpstream::legacy().await;
    echo(&upstream);
    let folder = Arc::new(tempfile::TempDir::new().unwrap());
    let modes = ["observe", "redact", "block"]
        .map(|mode| upstream.section(mode, &format!("dlp = {{ arguments = \"{mode}\", results = \"{mode}\" }}")));
    let config = format!("[audit]\narguments = \"plain\"\n{}", modes.join("\n"));
    std::fs::write(folder.path().join("toolgate.toml"), config).unwrap();
    let program = Program::start_in(Arc::clone(&folder), &[("TOOLGATE_LOG", "trace")]).await;
    program.ready().await;
    let client = program.client("agent");
    let arguments = json!({"note": format!("use {}", key()), "n": 1}).to_string();
    for mode in ["observe", "redact", "block"] {
        let answer = client.invoke(mode, "write", &arguments).await;
        assert_eq!(answer.text.contains(&key()), mode == "observe", "{}", answer.text);
    }
    upstream.on_call(|_| Say::Error(json!({"code": -32000, "message": format!("bad key {}", key())}).to_string()));
    client.invoke("redact", "write", "{}").await;
    upstream.on_call(|_| Say::Body(format!("no JSON: {}", key())));
    client.invoke("observe", "write", "{}").await;
    let records = program.run(&["audit", "export", "--format", "jsonl"]).await;
    assert!(records.out.contains("[redacted:stripe-key]") && !records.out.contains(&key()), "{}", records.out);
    let log = program.err().join("\n");
    assert!(log.contains("DEBUG") && log.contains("call failed"), "the log is a full one: {log}");
    assert!(!log.contains(&key()), "{log}");
    program.stop().await;
    not_in(&folder.path().join(".toolgate"), &key());
}

#[tokio::test]
async fn blocked_answers_leave_nothing_behind() {
    let upstream = FakeUpstream::legacy().await;
    let rows = "dlp = { results = \"block\" }\n[servers.up.tools.read]\ncache = \"60s\"\n[servers.up.tools.again]\ndlp = { results = \"off\" }";
    let (gateway, client) = start(&upstream, rows).await;
    upstream.on_call(|_| Say::text(&format!("the key is {}", key())));
    for calls in [1, 1] {
        let refused = client.invoke("up", "read", "{}").await;
        assert_eq!(refused.denied(), "policy_denied");
        assert!(!refused.text.contains("4eC39"), "{}", refused.text);
        assert_eq!(refused.governance()["dlp_result"], "blocked", "a kept answer is scanned as a new one is");
        assert_eq!(refused.governance()["decision"], "allow", "what was decided stands");
        assert_eq!(upstream.calls().len(), calls);
    }
    assert!(client.invoke("up", "again", "{}").await.told().contains(&key()), "a tool's own row goes before");
    upstream.on_call(|_| Say::Error(json!({"code": -32000, "message": format!("bad key {}", key())}).to_string()));
    let refused = client.invoke("up", "write", "{}").await;
    assert_eq!(refused.denied(), "policy_denied", "errors are answers");
    assert!(!refused.text.contains("4eC39"), "{}", refused.text);
    gateway.finish().await;

    let (gateway, client) = start(&upstream, "dlp = { results = \"redact\" }").await;
    let failed = client.invoke("up", "write", "{}").await;
    assert_eq!(failed.error()["message"], "bad key [redacted:stripe-key]");
    assert_eq!(recorded(&gateway, &failed).await["dlp_result"], "redacted");
    gateway.finish().await;
}

/// What is taken out of a call does not make it another that policy would let pass, nor one that its tool cannot take.
#[tokio::test]
async fn what_is_rewritten_is_judged_before_and_after() {
    let upstream = FakeUpstream::legacy().await;
    let schema = json!({"type": "object", "properties": {"to": {"type": "string"}, "mode": {"enum": ["x"]}, "code": {"type": "string", "maxLength": 20}}});
    let mut write = tool("write", &json!({}));
    write["inputSchema"] = schema;
    upstream.set_tools(json!([write]));
    let forbid = "@id(\"never-jane\")\nforbid (principal, action == Toolgate::Action::\"up:write\", resource) when { context.input has to && context.input.to like \"*jane*\" };\n\
                  @id(\"never-redacted\")\nforbid (principal, action == Toolgate::Action::\"up:write\", resource) when { context.input has to && context.input.to like \"*redacted:iban*\" };\n";
    let modes = "dlp = { arguments = \"redact\" }";
    let setup = Setup::new().config(&upstream.section("up", modes)).shipped_policies().policy("jane", forbid);
    let gateway = setup.start().await;
    let client = gateway.agent().await;
    let policy = async |arguments: &Value| {
        let answer = client.invoke("up", "write", &arguments.to_string()).await;
        let simulated = client.simulate(&json!({"server": "up", "tool": "write", "arguments": arguments})).await;
        let enforced = answer.governance();
        assert_eq!(simulated["decision"], enforced["decision"], "{arguments}");
        assert_eq!(simulated["policy"], enforced["policy"], "{arguments}");
        if enforced["decision"] == "allow" {
            assert_eq!(simulated["dlp"]["result"], enforced["dlp_result"], "{arguments}");
        }
        enforced["policy"].as_str().unwrap().to_owned()
    };
    assert_eq!(policy(&json!({"to": "jane@corp.io"})).await, "never-jane", "as it came");
    assert_eq!(policy(&json!({"to": "DE89370400440532013000"})).await, "never-redacted", "as it would go");
    assert_eq!(policy(&json!({"to": "bob@corp.io"})).await, "allow-write-to-writers");
    assert_eq!(policy(&json!({"code": "mary.m@corp.io"})).await, "allow-write-to-writers");
    assert_eq!(policy(&json!({"code": "4111 1111 1111 1111"})).await, "allow-write-to-writers");
    assert_eq!(policy(&json!({"code": "415-555-2671 phone"})).await, "allow-write-to-writers");
    assert_eq!(policy(&json!({"code": "GB29NWBK60161331926819".get(..20)})).await, "allow-write-to-writers");
    let sent: Vec<_> = upstream.calls().iter().filter_map(|call| call.arguments()).collect();
    assert_eq!(sent[0], r#"{"to":"[redacted:email]"}"#);
    assert!(
        sent.iter().all(|text| !text.contains("jane") && !text.contains("corp.io") && !text.contains("4111")),
        "{sent:?}"
    );
    gateway.finish().await;
}

#[tokio::test]
async fn progress_is_an_answer_too() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| {
        let token = seen.json["params"]["_meta"]["progressToken"].clone();
        let progress = |n: u64, message: &str| {
            let params = json!({"progressToken": token, "progress": n, "message": message});
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string()
        };
        let events = vec![progress(1, "step 1"), progress(2, &format!("using {}", key())), progress(3, "step 3")];
        Say::Events(events, json!({"content": []}).to_string())
    });
    for (mode, expected) in [("redact", "using [redacted:stripe-key]"), ("block", "step 3")] {
        let (gateway, client) = start(&upstream, &format!("dlp = {{ results = \"{mode}\" }}")).await;
        let client = client.legacy().await;
        let params = json!({"name": "up:read", "arguments": {}, "_meta": {"progressToken": "p"}});
        let answer = client.request("tools/call", &params.to_string()).send().await;
        assert!(answer.text.contains("step 1") && answer.text.contains(expected), "{}", answer.text);
        assert!(!answer.text.contains("4eC39"), "{}", answer.text);
        gateway.finish().await;
    }
}

#[tokio::test]
async fn what_is_too_much_to_scan_may_not_travel_where_findings_may_not() {
    let upstream = FakeUpstream::legacy().await;
    let many = "ann@corp.io ".repeat(2000);
    upstream.on_call(move |_| Say::text(&many));
    for (mode, dlp_result) in [("observe", "flagged"), ("redact", "blocked"), ("block", "blocked")] {
        let (gateway, client) = start(&upstream, &format!("dlp = {{ results = \"{mode}\" }}")).await;
        let answer = client.invoke("up", "read", "{}").await;
        assert_eq!(answer.governance()["dlp_result"], dlp_result, "{mode}");
        assert_eq!(answer.text.contains("ann@corp.io"), mode == "observe");
        assert!(recorded(&gateway, &answer).await["notes"].to_string().contains("incomplete"));
        gateway.finish().await;
    }
}

#[tokio::test]
async fn rules_can_be_turned_off_and_values_allowed() {
    let upstream = FakeUpstream::legacy().await;
    echo(&upstream);
    let rules = format!("[dlp]\ndisable = [\"email\"]\nallow = [\"{}\"]\n", key());
    let gateway = Setup::new()
        .config(&rules)
        .config(&upstream.section("up", "dlp = { arguments = \"block\", results = \"block\" }"))
        .start()
        .await;
    let client = gateway.agent().await;
    let arguments = json!({"to": "jane@corp.io", "key": key()}).to_string();
    assert_eq!(client.invoke("up", "write", &arguments).await.governance()["dlp_result"], "passed");
    gateway.write("toolgate.toml", &upstream.section("up", "dlp = { arguments = \"block\", results = \"block\" }"));
    crate::support::eventually("the rules are back", async || {
        let answer = client.invoke("up", "write", &arguments).await;
        (answer.governance()["dlp_result"] == "blocked").then_some(())
    })
    .await;
    gateway.finish().await;
}

/// On the transparent route a client says more than arguments: what cannot be rewritten is not sent.
#[tokio::test]
async fn what_travels_beside_the_arguments_is_scanned_too() {
    let upstream = FakeUpstream::modern().await;
    let found = key();
    let said = [
        json!({"extra": [found]}),
        json!({"_meta": {"vendor/note": found}}),
        json!({"inputResponses": {"a": {"action": "accept", "content": {"key": found}}}}),
    ];
    for (mode, dlp_result) in [("block", "blocked"), ("redact", "blocked"), ("observe", "flagged"), ("off", "off")] {
        upstream.forget();
        let modes = format!("dlp = {{ arguments = \"{mode}\", results = \"off\" }}");
        let (gateway, client) = start(&upstream, &modes).await;
        let client = client.modern().at("/v1/mcp/servers/up");
        for more in &said {
            let mut params = json!({"name": "read", "arguments": {"n": 1}});
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = client.rpc("tools/call", &params).await;
            let record = recorded(&gateway, &answer).await;
            assert_eq!(record["dlp_result"], dlp_result, "{mode} {more}");
            assert_eq!(answer.text.contains("dlp:arguments"), dlp_result == "blocked", "{}", answer.text);
            assert_eq!(record["notes"].to_string().contains("stripe-key"), mode != "off", "{record}");
        }
        let travelled = upstream.calls().iter().filter(|call| call.text.contains(&found)).count();
        assert_eq!(travelled, if dlp_result == "blocked" { 0 } else { said.len() }, "{mode}");
        let clean = client.rpc("tools/call", &json!({"name": "read", "extra": 1, "_meta": {"vendor/n": 1.0}})).await;
        assert_eq!(recorded(&gateway, &clean).await["dlp_result"], if mode == "off" { "off" } else { "passed" });
        assert!(upstream.calls().last().unwrap().text.contains("\"extra\":1"), "it travels on as it came");
        gateway.finish().await;
    }
}

/// A legacy server is told nothing by a client's answer that it may not be told.
#[tokio::test]
async fn answers_to_questions_are_scanned_too() {
    const ASKS: &str = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"who?"}}"#;
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::EventsThenHang(vec![ASKS.into()]));
    let (gateway, client) = start(&upstream, "dlp = { arguments = \"block\" }").await;
    let client = client.modern().at("/v1/mcp/servers/up");
    let able = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}});
    let asked = client.rpc("tools/call", &json!({"name": "read", "_meta": able})).await.result();
    let answer = json!({"1": {"action": "accept", "content": {"key": key()}}});
    let again = json!({"name": "read", "requestState": asked["requestState"], "inputResponses": answer, "_meta": able});
    let refused = client.rpc("tools/call", &again).await;
    assert_eq!(refused.denied(), "policy_denied", "{}", refused.text);
    assert_eq!(gateway.gateway.parked_calls(), 0);
    assert!(!upstream.seen().iter().any(|seen| seen.text.contains(&key())), "it goes no further");
    gateway.finish().await;
}
