//! `POST /api/v1/mcp/invoke`.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Response, Say, Setup, tool, without_ids};

const PATH: &str = "/api/v1/mcp/invoke";

async fn invoke(client: &Client, server: &str, tool: &str, arguments: &Value) -> Response {
    client.post(PATH).json(&json!({"serverId": server, "toolName": tool, "arguments": arguments})).send().await
}

fn code(answer: &Response) -> (u16, String) {
    assert_eq!(answer.json()["success"], false, "{}", answer.text);
    (answer.status, answer.error()["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_result_passes_byte_for_byte() {
    let upstream = FakeUpstream::legacy().await;
    let result = r#"{ "content":[ {"type":"text","text":"a\u0041"} ],"x": 1.50e2,"_meta":{"k":null} }"#;
    upstream.on_call(move |_| Say::Result(result.into()));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let body = r#"{"serverId":"up","toolName":"read","arguments":{ "n" : 1.50e2 }}"#;
    let answer = client.post(PATH).text(body).send().await;
    assert_eq!(answer.status, 200);
    insta::assert_snapshot!(
        without_ids(&answer.text),
        @r#"{"success":true,"result":{ "content":[ {"type":"text","text":"a\u0041"} ],"x": 1.50e2,"_meta":{"k":null} },"invocationId":"evt_…","governance":{"decision":"allow","policy":"default-allow-read","dlp_result":"passed","audit_event_id":"evt_…"}}"#
    );
    assert_eq!(upstream.calls()[0].arguments().as_deref(), Some(r#"{ "n" : 1.50e2 }"#));
    let id = answer.json()["invocationId"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("toolgate-audit-id"), Some(id.as_str()));
    let record = gateway.record(&id).await;
    assert_eq!((record["entrance"].clone(), record["outcome"].clone()), (json!("rest"), json!("answered")));
    gateway.finish().await;
}

#[tokio::test]
async fn arguments_that_are_absent_stay_absent() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for body in [r#"{"serverId":"up","toolName":"read"}"#, r#"{"serverId":"up","toolName":"read","arguments":null}"#] {
        assert_eq!(client.post(PATH).text(body).send().await.status, 200, "{body}");
    }
    assert!(upstream.calls().iter().all(|call| call.arguments().is_none()));
    gateway.finish().await;
}

#[tokio::test]
async fn a_tools_own_error_is_no_error_of_the_gateways() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Result(r#"{"content":[{"type":"text","text":"no such repo"}],"isError":true}"#.into()));
    let gateway = Setup::with(&upstream).start().await;
    let answer = invoke(&gateway.agent().await, "up", "read", &json!({})).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!((body["success"].clone(), body["error"].clone()), (json!(false), Value::Null));
    assert_eq!(body["result"], json!({"content": [{"type": "text", "text": "no such repo"}], "isError": true}));
    gateway.finish().await;
}

/// What is refused, for whom, and how: status, code, message.
fn refusals() -> Vec<(&'static str, &'static str, Value, u16, &'static str, &'static str)> {
    vec![
        ("agent", "up:strict", json!({}), 400, "invalid_request", "`n` is required"),
        ("agent", "nowhere:read", json!({}), 404, "not_found", "unknown tool `nowhere:read`"),
        ("agent", "up:nothing", json!({}), 404, "not_found", "unknown tool `up:nothing`"),
        ("narrow", "up:write", json!({}), 404, "not_found", "unknown tool `up:write`"),
        ("blind", "up:read", json!({}), 403, "insufficient_scope", "the key lacks the scope `tools:invoke`"),
        (
            "narrow",
            "toolgate:policy.simulate",
            json!({"action": "up:read"}),
            403,
            "insufficient_scope",
            "the key lacks the scope `policy:simulate`",
        ),
        (
            "agent",
            "up:write",
            json!({"sql": "drop table x"}),
            403,
            "policy_denied",
            "request denied by policy: block-sql-drop: SQL that drops or truncates is blocked: use another statement, or ask a person to run it",
        ),
        (
            "agent",
            "up:destroy",
            json!({}),
            202,
            "approval_required",
            "approval needed: destructive-needs-approval: destructive tools run once a person has approved the call",
        ),
    ]
}

#[tokio::test]
async fn each_refusal_has_its_status_and_a_record() {
    let upstream = FakeUpstream::legacy().await;
    let mut strict = tool("strict", &json!({"readOnlyHint": true}));
    strict["inputSchema"] = json!({"type": "object", "required": ["n"]});
    let (read, write) = (tool("read", &json!({"readOnlyHint": true})), tool("write", &json!({})));
    let destroy = tool("destroy", &json!({"destructiveHint": true}));
    upstream.set_tools(json!([strict, read, write, destroy]));
    let gateway = Setup::with(&upstream)
        .profile("narrow", "scopes = [\"tools:invoke\"]\nallowed_tools = [\"up:read\"]")
        .profile("blind", "scopes = []\nallowed_tools = [\"*\"]")
        .start()
        .await;
    for (profile, id, arguments, status, word, message) in refusals() {
        let client = gateway.client(&gateway.writer(profile).await);
        let (server, name) = id.split_once(':').unwrap();
        let answer = invoke(&client, server, name, &arguments).await;
        assert_eq!(code(&answer), (status, word.to_owned()), "{profile} {id}: {}", answer.text);
        assert_eq!(answer.error()["message"], message, "{profile} {id}");
        let event = answer.json()["invocationId"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("toolgate-audit-id"), Some(event.as_str()), "{profile} {id}");
        let record = gateway.record(&event).await;
        let governance = &answer.json()["governance"];
        assert_eq!((&record["outcome"], &record["decision"]), (&json!("refused"), &governance["decision"]), "{id}");
    }
    assert_eq!(upstream.calls().len(), 0, "nothing was sent");
    gateway.finish().await;
}

/// Under `permissions = "explicit"` a tool without a row is not there.
#[tokio::test]
async fn a_tool_without_a_row_is_404() {
    let upstream = FakeUpstream::legacy().await;
    let rows = "permissions = \"explicit\"\n[servers.up.tools.read]\nallowed_roles = [\"finance\"]";
    let gateway = Setup::new().config(&upstream.section("up", rows)).start().await;
    let agent = gateway.agent().await;
    assert_eq!(code(&invoke(&agent, "up", "write", &json!({})).await), (404, "not_found".into()));
    let refused = invoke(&agent, "up", "read", &json!({})).await;
    assert_eq!(code(&refused), (403, "policy_denied".into()));
    assert_eq!(refused.error()["details"]["policy"], "roles:up:read");
    gateway.finish().await;
}

#[tokio::test]
async fn backends_that_fail_are_502_503_and_504() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::new().config(&upstream.section("up", "timeout = \"200ms\"")).start().await;
    let agent = gateway.agent().await;
    let cases = [
        (Say::Error(r#"{"code":-7,"message":"no","data":{"n":1.5}}"#.into()), 502, "backend_error"),
        (Say::Body("<html>".into()), 502, "backend_error"),
        (Say::Hang, 504, "backend_timeout"),
        (Say::Status(500), 502, "backend_error"),
        (Say::Status(429), 503, "backend_error"),
    ];
    for (say, status, word) in cases {
        upstream.on_call(move |_| say.clone());
        let answer = invoke(&agent, "up", "write", &json!({})).await;
        assert_eq!(code(&answer), (status, word.into()), "{}", answer.text);
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{}", answer.text);
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert_eq!(record["outcome"], "failed");
    }
    upstream.on_call(|_| Say::Error(r#"{"code":-7,"message":"no","data":{"n":1.5}}"#.into()));
    let passed = invoke(&agent, "up", "write", &json!({})).await;
    assert_eq!(passed.error()["details"]["error"], json!({"code": -7, "message": "no", "data": {"n": 1.5}}));
    gateway.finish().await;
}

/// What asks for no call that can be read is a 400 with a record, and tells nothing of the token in it.
#[tokio::test]
async fn bodies_that_are_no_call() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let agent = gateway.agent().await;
    for (body, message) in [
        ("{}", "serverId is required"),
        (r#"{"serverId":"up"}"#, "toolName is required"),
        (r#"{"serverId":"up","toolName":"read","arguments":"{}"}"#, "arguments must be an object"),
        (r#"{"serverId":"up","toolName":"read","jwt":["ey.secret"]}"#, "jwt must be a string"),
        (
            r#"{"serverId":"up","toolName":"read","serverId":"other"}"#,
            "the body cannot be read: the member `serverId` stands twice in one object",
        ),
        ("[]", "the body must be an object"),
    ] {
        let answer = agent.post(PATH).text(body).send().await;
        assert_eq!(code(&answer), (400, "invalid_request".into()), "{body}");
        assert_eq!(answer.error()["message"], message);
        let id = answer.json()["invocationId"].as_str().unwrap().to_owned();
        let record = gateway.record(&id).await;
        assert_eq!((record["decision"].clone(), record["outcome"].clone()), (json!("error"), json!("refused")));
        assert!(!record.to_string().contains("secret"));
    }
    let plain = agent.post(PATH).with("content-type", "text/plain").text("{}").send().await;
    assert_eq!(code(&plain), (415, "invalid_request".into()));
    let big = agent.post(PATH).json(&json!({"serverId": "x".repeat(5 << 20)})).send().await;
    assert_eq!(code(&big), (413, "invalid_request".into()));
    assert_eq!(gateway.records().await.len(), 8);
    gateway.finish().await;
}

#[tokio::test]
async fn strangers_are_told_in_the_same_shape() {
    let gateway = Setup::new().start().await;
    let answer = gateway.stranger().post(PATH).text("{").send().await;
    assert_eq!(code(&answer), (401, "unauthorized".into()));
    assert_eq!(answer.json()["invocationId"], Value::Null);
    assert!(answer.header("www-authenticate").is_some_and(|challenge| !challenge.contains("resource_metadata")));
    gateway.finish().await;
}

/// The trace of the caller goes on to the backend.
#[tokio::test]
async fn a_trace_travels_on() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = json!({"serverId": "up", "toolName": "read"});
    let agent = gateway.agent().await;
    assert_eq!(agent.post(PATH).header("traceparent", parent).json(&body).send().await.status, 200);
    assert_eq!(upstream.calls()[0].json["params"]["_meta"]["traceparent"], parent);
    gateway.finish().await;
}

/// Whoever hangs up cancels.
#[tokio::test]
async fn leaving_cancels() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Hang);
    let gateway = Setup::with(&upstream).start().await;
    let agent = gateway.agent().await;
    let body = json!({"serverId": "up", "toolName": "read"});
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(300), agent.post(PATH).json(&body).try_send());
    assert!(waiting.await.is_err(), "it hangs");
    drop(agent);
    let cancelled = crate::support::eventually("the record is closed", async || {
        gateway.records().await.into_iter().find(|record| record["outcome"] == "cancelled")
    });
    cancelled.await;
    gateway.finish().await;
}
