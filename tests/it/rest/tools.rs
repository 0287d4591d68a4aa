//! `GET /api/mcp/tools` and `POST /api/mcp/call`.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Response, Say, Setup, tool, without_ids};

const CALL: &str = "/api/mcp/call";
/// The own tools that everybody may know of; `evals::page` looks at them.
const OWN: [&str; 4] = ["eval.quality.latest", "eval.run.create", "eval.trace.create", "eval.testcase.list"];

async fn call(client: &Client, tool: &str, arguments: &Value) -> Response {
    client.post(CALL).json(&json!({"tool": tool, "arguments": arguments})).send().await
}

/// What is not marked public is not there for strangers.
#[tokio::test]
async fn the_list_holds_what_is_public() {
    let upstream = FakeUpstream::legacy().await;
    let mut slow = tool("slow tool", &json!({}));
    slow["execution"] = json!({"taskSupport": "optional"});
    slow["description"] = json!("Says \"so\"");
    let schema = r#"{"type":"object","properties":{"n":{"maximum":1.50e2}}}"#;
    let text = format!(
        r#"{{"tools":[{slow},{},{{"name":"read","inputSchema":{schema}}}]}}"#,
        tool("secret", &json!({"readOnlyHint": true}))
    );
    upstream.script(move |seen| (seen.method() == "tools/list").then(|| Say::Result(text.clone())));
    let rows = "[servers.up.tools.read]\npublic = true\n[servers.up.tools.\"slow tool\"]\npublic = true";
    let gateway = Setup::new().config(&upstream.section("up", rows)).start().await;
    let answer = gateway.stranger().get("/api/mcp/tools").send().await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let (begin, rest) = answer.text.split_once('[').unwrap();
    let of_the_backend = rest.find(r#"{"name":"up:"#).unwrap();
    insta::assert_snapshot!(
        format!("{begin}[{}", &rest[of_the_backend..]),
        @r#"{"mcpVersion":"1","tools":[{"name":"up:read","description":"","inputSchema":{"type":"object","properties":{"n":{"maximum":1.50e2}}},"version":"1.0","longRunning":false},{"name":"up:slow tool","description":"Says \"so\"","inputSchema":{"type":"object"},"version":"1.0","longRunning":true}]}"#
    );
    gateway.finish().await;
}

#[tokio::test]
async fn no_tool_of_a_backend_is_public_by_itself() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let list = gateway.stranger().get("/api/mcp/tools").send().await.json();
    let names: Vec<&str> = list["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, OWN);
    gateway.finish().await;
}

#[tokio::test]
async fn text_is_text_and_all_else_json() {
    let upstream = FakeUpstream::legacy().await;
    let result = r#"{"content":[{"type":"text","text":"done"},{ "type":"image","data":"eA==","mimeType":"image/png" }],"structuredContent":{ "score" : 8.50e1 }}"#;
    upstream.on_call(move |_| Say::Result(result.into()));
    let gateway = Setup::with(&upstream).start().await;
    let agent = gateway.agent().await;
    let body = r#"{"tool":"up:read","arguments":{ "n" : 1.50e2 }}"#;
    let answer = agent.post(CALL).text(body).send().await;
    assert_eq!(answer.status, 200);
    insta::assert_snapshot!(
        without_ids(&answer.text),
        @r#"{"ok":true,"content":[{"type":"json","json":{ "score" : 8.50e1 }},{"type":"text","text":"done"},{"type":"json","json":{ "type":"image","data":"eA==","mimeType":"image/png" }}],"governance":{"decision":"allow","policy":"default-allow-read","dlp_result":"passed","audit_event_id":"evt_…"}}"#
    );
    assert_eq!(upstream.calls()[0].arguments().as_deref(), Some(r#"{ "n" : 1.50e2 }"#));
    for spelling in ["up/read", "up.read", "up__read"] {
        assert_eq!(call(&agent, spelling, &json!({})).await.json()["ok"], true, "{spelling}");
    }
    gateway.finish().await;
}

/// For whom, which tool, what its backend says, and how that is told: status, code, message.
fn errors() -> Vec<(&'static str, &'static str, Value, Say, u16, &'static str, &'static str)> {
    let failing = r#"{"content":[{"type":"text","text":"no such"},{"type":"text","text":"repo"}],"isError":true}"#;
    let done = || Say::text("done");
    let none = || json!({});
    vec![
        ("agent", "up:strict", none(), done(), 400, "VALIDATION_ERROR", "evaluationId is required"),
        ("agent", "up:nothing", none(), done(), 404, "NOT_FOUND", "unknown tool `up:nothing`"),
        ("blind", "up:read", none(), done(), 403, "FORBIDDEN", "the key lacks the scope `tools:invoke`"),
        (
            "agent",
            "up:write",
            json!({"sql": "truncate table x"}),
            done(),
            403,
            "FORBIDDEN",
            "request denied by policy: block-sql-drop: SQL that drops or truncates is blocked: use another statement, or ask a person to run it",
        ),
        (
            "agent",
            "up:destroy",
            none(),
            done(),
            202,
            "APPROVAL_REQUIRED",
            "approval needed: destructive-needs-approval: destructive tools run once a person has approved the call",
        ),
        ("agent", "up:limited", none(), done(), 429, "RATE_LIMITED", ""),
        ("agent", "up:read", none(), Say::Result(failing.into()), 502, "TOOL_ERROR", "no such\nrepo"),
        (
            "agent",
            "up:write",
            none(),
            Say::Body("<html>".into()),
            502,
            "TOOL_ERROR",
            "the server `up` answered something that is not MCP; tell the operator",
        ),
        ("agent", "up:read", none(), Say::Hang, 504, "TOOL_ERROR", ""),
    ]
}

#[tokio::test]
async fn each_error_has_its_code() {
    let upstream = FakeUpstream::legacy().await;
    let hints = json!({"readOnlyHint": true});
    let mut strict = tool("strict", &hints);
    strict["inputSchema"] = json!({"type": "object", "required": ["evaluationId"]});
    let (write, destroy) = (tool("write", &json!({})), tool("destroy", &json!({"destructiveHint": true})));
    upstream.set_tools(json!([strict, tool("read", &hints), tool("limited", &hints), write, destroy]));
    let rows = "timeout = \"200ms\"\n[servers.up.tools.limited]\nrate_limit = \"1/h\"";
    let gateway = Setup::new()
        .config(&upstream.section("up", rows))
        .profile("blind", "scopes = []\nallowed_tools = [\"*\"]")
        .start()
        .await;
    assert_eq!(call(&gateway.agent().await, "up:limited", &json!({})).await.status, 200);
    for (profile, name, arguments, say, status, code, message) in errors() {
        let client = gateway.client(&gateway.writer(profile).await);
        upstream.on_call(move |_| say.clone());
        let answer = call(&client, name, &arguments).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (status, Some(code)), "{name}: {}", answer.text);
        assert_eq!(answer.json()["ok"], false, "{name}");
        assert!(message.is_empty() || answer.error()["message"] == message, "{name}: {}", answer.text);
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        let request = answer.error()["requestId"].as_str().unwrap().to_owned();
        assert_eq!(uuid::Uuid::parse_str(&request).unwrap().hyphenated().to_string(), request);
        assert_eq!(record["request_id"], format!("req_{}", request.replace('-', "")), "{name}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn both_members_are_required() {
    let gateway = Setup::new().start().await;
    let agent = gateway.agent().await;
    for (body, message) in [
        (r#"{"tool":"up:read"}"#, "arguments is required"),
        (r#"{"arguments":{}}"#, "tool is required"),
        (r#"{"tool":"up:read","arguments":[]}"#, "arguments must be an object"),
        ("3", "the body must be an object"),
    ] {
        let answer = agent.post(CALL).text(body).send().await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (400, Some("VALIDATION_ERROR")), "{body}");
        assert_eq!(answer.error()["message"], message);
        assert!(answer.header("toolgate-audit-id").is_some());
    }
    let stranger = gateway.stranger().post(CALL).text("{").send().await;
    assert_eq!((stranger.status, stranger.error()["code"].as_str()), (401, Some("UNAUTHORIZED")));
    assert!(uuid::Uuid::parse_str(stranger.error()["requestId"].as_str().unwrap()).is_ok());
    gateway.finish().await;
}
