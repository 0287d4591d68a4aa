//! Texts and peers that mean harm: one reading of every message, and no message that ends the process.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, FakeUpstream, Program, Say, Setup, tool};

/// A member name that serde_json takes for a command: it reads the string under it as JSON.
const MAGIC: &str = "$serde_json::private::RawValue";

/// The trick within the trick, so that each layer starts counting its depth anew.
fn layered(layers: usize) -> String {
    (0..layers).fold("1".to_owned(), |inner, _| {
        let deep = format!("{}{inner}{}", "[".repeat(120), "]".repeat(120));
        format!("{{\"{MAGIC}\":{}}}", Value::from(deep))
    })
}

async fn with_backend(upstream: &FakeUpstream) -> Program {
    let folder = Arc::new(TempDir::new().unwrap());
    std::fs::write(folder.path().join("toolgate.toml"), upstream.section("up", "")).unwrap();
    Program::start_in(folder, &[]).await
}

async fn is_well(client: &Client) -> bool {
    client.request("ping", "{}").try_send().await.is_some_and(|answer| answer.status == 200)
}

#[tokio::test]
async fn no_request_ends_the_process() {
    let upstream = FakeUpstream::legacy().await;
    let program = with_backend(&upstream).await;
    program.ready().await;
    let client = program.client("agent");
    let bomb = layered(12);
    for (method, params) in [
        ("tools/call", format!(r#"{{"name":"gateway_search_tools","arguments":{{"query":"x","z":{bomb}}}}}"#)),
        ("tools/call", format!(r#"{{"name":"up:read","arguments":{{"z":{bomb}}}}}"#)),
        (
            "tools/call",
            format!(
                r#"{{"name":"gateway_invoke","arguments":{{"server":"up","tool":"read","arguments":{{"z":{bomb}}}}}}}"#
            ),
        ),
        ("initialize", format!(r#"{{"protocolVersion":"2025-11-25","capabilities":{{"z":{bomb}}}}}"#)),
        ("tools/list", format!(r#"{{"_meta":{{"z":{bomb}}}}}"#)),
        ("resources/read", format!(r#"{{"uri":{bomb}}}"#)),
        ("subscriptions/listen", format!(r#"{{"notifications":{bomb}}}"#)),
    ] {
        client.request(method, &params).try_send().await;
        assert!(is_well(&client).await, "{method} ended the process: {:?}", program.err().last());
    }
    program.stop().await;
}

#[tokio::test]
async fn no_answer_of_a_backend_ends_the_process() {
    let upstream = FakeUpstream::modern().await;
    let program = with_backend(&upstream).await;
    program.ready().await;
    let client = program.client("agent");
    let bomb = layered(12);
    for say in [
        Say::Error(format!(r#"{{"code":-32002,"message":"x","data":{bomb}}}"#)),
        Say::Result(format!(r#"{{"content":[],"structuredContent":{bomb},"_meta":{bomb}}}"#)),
    ] {
        upstream.on_call(move |_| say.clone());
        client.modern().request("tools/call", r#"{"name":"up:read","arguments":{}}"#).try_send().await;
        assert!(is_well(&client).await, "{:?}", program.err().last());
    }
    let definition = format!(r#"{{"tools":[{{"name":"deep","inputSchema":{{"type":"object"}},"x":{bomb}}}]}}"#);
    upstream.script(move |seen| (seen.method() == "tools/list").then(|| Say::Result(definition.clone())));
    upstream.tell_changed();
    let tested = program.run(&["servers", "test", "up"]).await;
    assert!(is_well(&client).await, "{tested:?} {:?}", program.err().last());
    program.stop().await;
}

/// What a backend says of itself stands in the log as what it is: in its place in a line of the gateway's own.
#[tokio::test]
async fn a_backend_writes_no_line_of_the_log() {
    let upstream = FakeUpstream::legacy().await;
    let forged = r"\n2026-01-01T00:00:00Z ERROR toolgate: the audit log is off\u202e";
    let twice =
        format!(r#"{{"tools":[{{"name":"a","{forged}":1,"{forged}":2}},{{"name":"read","title":"{forged}"}}]}}"#);
    let greeting = format!(
        r#"{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"{forged}","version":"1"}}}}"#
    );
    upstream.script(move |seen| match seen.method() {
        "initialize" => Some(Say::Result(greeting.clone())),
        "tools/list" => Some(Say::Result(twice.clone())),
        _ => None,
    });
    let program = with_backend(&upstream).await;
    program.ready().await;
    let listed = program.run(&["servers", "list", "--json"]).await;
    upstream.script(|seen| (seen.method() == "tools/call").then(|| Say::Error(String::from("7"))));
    program.client("agent").request("tools/call", r#"{"name":"up:read","arguments":{}}"#).try_send().await;
    let log = program.err();
    program.stop().await;
    assert!(log.iter().any(|line| line.contains("stands twice") && line.contains("the audit log is off")), "{log:#?}");
    assert!(!log.iter().any(|line| line.starts_with("2026-01-01T00:00:00Z") || line.contains('\u{202e}')), "{log:#?}");
    assert!(!format!("{listed:?}").contains('\u{202e}'), "{listed:?}");
}

/// What is judged is what is sent: no member name changes how the rest is read.
#[tokio::test]
async fn no_name_has_a_meaning_of_its_own() {
    let upstream = FakeUpstream::legacy().await;
    let mut strict = tool("ask", &json!({"readOnlyHint": true}));
    strict["inputSchema"] = json!({"type": "object", "properties": {"sql": {"type": "string"}}, "required": ["sql"]});
    upstream.set_tools(json!([strict]));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for arguments in [
        format!(r#"{{"sql":{{"{MAGIC}":"\"SELECT 1\""}}}}"#),
        format!(r#"{{"{MAGIC}":"{{\"sql\":\"SELECT 1\"}}"}}"#),
        r#"{"sql":{"\u0024serde_json::private::RawValue":"\"SELECT 1\""}}"#.to_owned(),
        r#"{"sql":{"$serde_json::private::Number":"1"}}"#.to_owned(),
    ] {
        let answer = client.invoke("up", "ask", &arguments).await;
        let refused = answer.json().get("error").is_some() || answer.result()["isError"] == true;
        assert!(refused, "{arguments}: {}", answer.text);
    }
    assert_eq!(upstream.calls().len(), 0, "nothing was sent");
    gateway.finish().await;
}

/// Behind a proxy the client does not choose where it comes from.
#[tokio::test]
async fn a_client_behind_a_proxy_is_not_the_proxy() {
    let upstream = FakeUpstream::legacy().await;
    let local = "@id(\"local-only\")\nforbid (principal, action, resource) unless { context has source_ip && context.source_ip.isInRange(ip(\"127.0.0.0/8\")) };\n";
    let setup = Setup::with(&upstream).shipped_policies().policy("local", local);
    let gateway = setup.config("[gateway]\ntrusted_proxies = [\"127.0.0.1\"]").start().await;
    let client = gateway.agent().await;
    let params = r#"{"name":"up:read","arguments":{}}"#;
    assert_eq!(client.request("tools/call", params).send().await.told(), "done", "the proxy itself");
    for forwarded in [
        &b"8.8.8.8"[..],
        b"8.8.8.8:4444",
        b"127.0.0.1, 8.8.8.8",
        b"\xff, 8.8.8.8",
        b"unknown",
        b"_hidden",
        b"[2001:db8::1]:443",
        b"8.8.8.8, ",
        b"8.8.8.8, 127.0.0.1",
    ] {
        let answer = client.request("tools/call", params).header_bytes("x-forwarded-for", forwarded).send().await;
        assert_eq!(answer.denied(), "policy_denied", "{}", String::from_utf8_lossy(forwarded));
    }
    gateway.finish().await;
}

/// Statements that a database runs before it finds the fault behind them.
#[tokio::test]
async fn a_drop_before_garbage_is_a_drop() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    for query in [
        "DROP TABLE users",
        "DROP TABLE users; x",
        "DROP TABLE users /*",
        "\u{feff}DROP TABLE users",
        "DROP DATABASE x WITH (FORCE)",
    ] {
        let report = client.simulate(&json!({"action": "up.none", "params": {"query": query}})).await;
        let effects = report["effects"].as_array().unwrap();
        assert!(
            effects.contains(&json!("sql.drop")) || effects.contains(&json!("sql.unparsed")),
            "{query}: {effects:?}"
        );
    }
    gateway.finish().await;
}

/// A schema that refers to itself twice must not cost twice at every step down.
#[tokio::test]
async fn recursive_schemas_cost_no_more_than_their_arguments() {
    let upstream = FakeUpstream::legacy().await;
    let mut recursive = tool("rec", &json!({"readOnlyHint": true}));
    recursive["inputSchema"] =
        json!({"type": "object", "properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}});
    upstream.set_tools(json!([recursive]));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let arguments = format!("{}{{}}{}", r#"{"a":"#.repeat(22), "}".repeat(22));
    let began = tokio::time::Instant::now();
    let answer = client.invoke("up", "rec", &arguments).await;
    assert!(answer.told().contains("less nesting"), "{}", answer.told());
    let shallow = client.invoke("up", "rec", r#"{"a":{"a":{"a":{}}}}"#).await;
    assert_eq!(shallow.told(), "done");
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    gateway.finish().await;
}

/// Every spelling of `gateway_invoke` opens it.
#[tokio::test]
async fn invoke_is_unwrapped_however_it_is_spelled() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let inner = json!({"server": "up", "tool": "read", "arguments": {}});
    for name in [
        "gateway_invoke",
        "toolgate:gateway_invoke",
        "toolgate/gateway_invoke",
        "toolgate.gateway_invoke",
        "toolgate__gateway_invoke",
    ] {
        assert_eq!(client.call(name, &inner).await.told(), "done", "{name}");
    }
    assert_eq!(upstream.calls().len(), 5);
    gateway.finish().await;
}

/// What simulate says of `gateway_invoke` is what it says of the call inside.
#[tokio::test]
async fn simulating_invoke_is_simulating_what_it_invokes() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let inner = json!({"server": "up", "tool": "write", "arguments": {"sql": "drop table x"}});
    let report = client.simulate(&json!({"action": "gateway_invoke", "params": inner})).await;
    assert_eq!((report["decision"].clone(), report["policy"].clone()), (json!("deny"), json!("block-sql-drop")));
    let typo = client.call("policy.simulate", &json!({"action": "up:write", "args": {"sql": "drop table x"}})).await;
    assert!(
        typo.json().get("error").is_some() || typo.result()["isError"] == true,
        "a misspelt member is told: {}",
        typo.text
    );
    gateway.finish().await;
}

#[tokio::test]
async fn expiry_stays_within_what_a_calendar_holds() {
    let gateway = Setup::new().start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    for expires_in in ["99999999999d", "18446744073709551615d", "5000000d"] {
        let made = admin
            .post("/v1/beta/users/u/keys")
            .json(&json!({"name": "x", "profile": "agent", "expires_in": expires_in}))
            .send()
            .await;
        assert_eq!(made.status, 400, "{expires_in}: {}", made.text);
    }
    gateway.finish().await;
}

/// Two calls with one id in one session: each is cancelled as long as it runs.
#[tokio::test]
async fn a_reused_id_can_still_be_cancelled() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.legacy().await;
    upstream.on_call(|seen| if seen.tool() == "read" { Say::Held(Box::new(Say::text("first"))) } else { Say::Hang });
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let rest = async {
        crate::support::eventually("both arrive", async || (upstream.calls().len() == 2).then_some(())).await;
        upstream.release(1);
        crate::support::eventually("the first ends", async || (gateway.gateway.open_entries() == 1).then_some(()))
            .await;
        assert_eq!(client.post("/v1/mcp").text(cancel).send().await.status, 202);
    };
    let (first, second, ()) = tokio::join!(client.invoke("up", "read", "{}"), client.invoke("up", "write", "{}"), rest);
    assert_eq!(first.told(), "first");
    assert_eq!(second.refused().1, -32603, "cancelled");
    gateway.finish().await;
}
