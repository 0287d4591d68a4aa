//! Nothing escapes: every route asks for a key unless it is on the list, every call leaves one closed record.

use serde_json::{Value, json};
use toolgate::domain::principal::Scope;
use toolgate::gateway::NewKey;
use toolgate::http::{Access, ROUTES};

use crate::support::{Client, FakeUpstream, Response, Say, Setup};

/// What may be asked for without a key. A route that joins it has to join it here too.
const PUBLIC: [&str; 14] = [
    "GET /v1/mcp",
    "GET /mcp",
    "GET /api/mcp/tools",
    "GET /llms.txt",
    "GET /openapi.json",
    "POST /v1/auth/refresh",
    "GET /v1/providers/{slug}/callback",
    "POST /v1/providers/{slug}/callback",
    "GET /docs",
    "GET /v1/mcp/key-profiles",
    "POST /register",
    "GET /.well-known/oauth-protected-resource/v1/mcp-oauth",
    "GET /.well-known/{*path}",
    "GET /v1/mcp/.well-known/{*path}",
];

fn filled(path: &str) -> String {
    path.replace("/v1/mcps/{id}", "/v1/mcps/up:read")
        .replace("{user}", "ada")
        .replace("{slug}", "example")
        .replace("{id}", "key_x")
        .replace("{run}", "run_x")
        .replace("{*path}", "x")
        .replace("{server}", "up")
        .replace("{namespace}", "local")
        .replace("{name}", "x")
}

#[tokio::test]
async fn every_route_that_needs_a_key_is_401_without_one() {
    let gateway = Setup::new().start().await;
    let stranger = gateway.stranger();
    for route in ROUTES {
        let name = format!("{} {}", route.method, route.path);
        assert_eq!(route.access == Access::Public, PUBLIC.contains(&name.as_str()), "{name}");
        let path = filled(route.path);
        for key in [None, Some("inv_live_wrong")] {
            let answer = stranger
                .with_key(key)
                .draft(route.method, &path)
                .header("content-type", "application/json")
                .text("{}")
                .send()
                .await;
            let expected = match route.access {
                Access::Key | Access::Scope(_) | Access::Call(_) => answer.status == 401 || answer.status == 429,
                // What it says with `[oauth]` stands in `tokens::endpoint`.
                Access::Token => answer.status == 404,
                // A stranger from elsewhere is asked for a key; see `mcp::doors`.
                Access::Public | Access::Local => answer.status != 401,
            };
            assert!(expected, "{name}: {} {}", answer.status, answer.text);
        }
    }
    gateway.finish().await;
}

/// 403 for a key without the scope of a route, and never for one that has it.
#[tokio::test]
async fn every_route_wants_its_scope() {
    let upstream = FakeUpstream::legacy().await;
    let mut setup = Setup::with(&upstream).profile("none", "scopes = []\nallowed_tools = [\"*\"]");
    for (n, scope) in Scope::ALL.into_iter().enumerate() {
        let body = format!("scopes = [\"{}\"]\nallowed_tools = [\"*\"]", scope.as_str());
        setup = setup.profile(&format!("only_{n}"), &body);
    }
    let gateway = setup.start().await;
    let none = gateway.client(&gateway.writer("none").await);
    // One body for every door of calls; the others are refused before theirs is read.
    let body = json!({"serverId": "up", "toolName": "read", "tool": "up:read", "arguments": {}});
    let mut seen = 0;
    for route in ROUTES {
        let (Access::Scope(scope) | Access::Call(scope)) = route.access else { continue };
        seen += 1;
        let n = Scope::ALL.into_iter().position(|other| other == scope).unwrap();
        let holder = gateway.client(&gateway.writer(&format!("only_{n}")).await);
        let is_strict = route.path.starts_with("/v1/mcps") || route.path.ends_with("/runs");
        let body = if is_strict { json!({}) } else { body.clone() };
        let ask = async |client: &Client| {
            let draft = client.draft(route.method, &filled(route.path)).header("content-type", "application/json");
            draft.json(&body).send().await
        };
        let name = format!("{} {}", route.method, route.path);
        let refused = ask(&none).await;
        assert_eq!(refused.status, 403, "{name}: {}", refused.text);
        let let_in = ask(&holder).await;
        assert!(!matches!(let_in.status, 401 | 403), "{name}: {} {}", let_in.status, let_in.text);
        // A call names its record, and nothing else does.
        let is_call = matches!(route.access, Access::Call(_));
        assert_eq!(let_in.header("toolgate-audit-id").is_some(), is_call, "{name}");
    }
    assert!(seen >= 7, "{seen}");
    gateway.finish().await;
}

/// The list is whole: whatever is not on it is not served.
#[tokio::test]
async fn no_method_is_served_that_is_not_listed() {
    let gateway = Setup::new().start().await;
    let client = gateway.client(&gateway.writer("admin").await);
    for route in ROUTES {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let listed = ROUTES.iter().any(|other| other.method == method && other.path == route.path);
            let answer = client
                .draft(method, &filled(route.path))
                .header("content-type", "application/json")
                .text("{}")
                .send()
                .await;
            assert_eq!(answer.status == 405, !listed, "{method} {}: {}", route.path, answer.status);
        }
    }
    gateway.finish().await;
}

/// One call of each kind, and what its record must say.
fn calls() -> Vec<(&'static str, Value, Say, [&'static str; 2])> {
    let call = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    let invoke = |tool: &str, arguments: Value| json!({"name": "gateway_invoke", "arguments": {"server": "up", "tool": tool, "arguments": arguments}});
    let done = || Say::text("done");
    vec![
        ("a read", call("up:read", json!({})), done(), ["allow", "answered"]),
        ("a read through invoke", invoke("read", json!({})), done(), ["allow", "answered"]),
        ("a write", invoke("write", json!({})), done(), ["allow", "answered"]),
        (
            "a tool's own error",
            invoke("read", json!({})),
            Say::Result(r#"{"content":[],"isError":true}"#.into()),
            ["allow", "answered"],
        ),
        (
            "a JSON-RPC error",
            invoke("read", json!({})),
            Say::Error(r#"{"code":-1,"message":"no"}"#.into()),
            ["allow", "failed"],
        ),
        ("a broken backend", invoke("write", json!({})), Say::Status(500), ["allow", "failed"]),
        ("garbage", invoke("write", json!({})), Say::Body("<html>".into()), ["allow", "failed"]),
        ("a misfit", invoke("strict", json!({})), done(), ["error", "refused"]),
        ("an unknown tool", invoke("nowhere", json!({})), done(), ["deny", "refused"]),
        ("an unknown name", call("nowhere", json!({})), done(), ["deny", "refused"]),
        ("a denial", invoke("write", json!({"sql": "drop table x"})), done(), ["deny", "refused"]),
        ("an approval", invoke("destroy", json!({})), done(), ["approval", "refused"]),
        ("a search", call("gateway_search_tools", json!({"query": "read"})), done(), ["allow", "answered"]),
        ("a search that misfits", call("gateway_search_tools", json!({})), done(), ["error", "refused"]),
        ("a simulation", call("policy.simulate", json!({"action": "up.write"})), done(), ["allow", "answered"]),
        ("a misfit of invoke", call("gateway_invoke", json!({"server": "up"})), done(), ["error", "refused"]),
        (
            "invoke of invoke",
            call("gateway_invoke", json!({"server": "toolgate", "tool": "gateway_invoke"})),
            done(),
            ["error", "refused"],
        ),
        ("a limit", call("up:limited", json!({})), done(), ["deny", "refused"]),
    ]
}

/// The doors of calls, and what the record calls the entrance.
#[derive(Clone, Copy)]
enum Door {
    Mcp,
    Invoke,
    Call,
}

impl Door {
    fn entrance(self) -> &'static str {
        if matches!(self, Self::Mcp) { "mcp" } else { "rest" }
    }

    async fn send(self, client: &Client, params: &Value) -> Response {
        let (name, arguments) = (params["name"].as_str().unwrap(), &params["arguments"]);
        match self {
            Self::Mcp => client.rpc("tools/call", params).await,
            Self::Invoke => {
                let (server, tool) = name.split_once(':').unwrap_or(("toolgate", name));
                let body = json!({"serverId": server, "toolName": tool, "arguments": arguments});
                client.post("/api/v1/mcp/invoke").json(&body).send().await
            }
            Self::Call => {
                client.post("/api/mcp/call").json(&json!({"tool": name, "arguments": arguments})).send().await
            }
        }
    }
}

#[tokio::test]
async fn every_call_leaves_one_closed_record() {
    let upstream = FakeUpstream::legacy().await;
    let hints = json!({"readOnlyHint": true});
    let mut strict = crate::support::tool("strict", &hints);
    strict["inputSchema"] = json!({"type": "object", "required": ["n"]});
    let mut tools = vec![strict, crate::support::tool("limited", &hints)];
    for (name, hints) in [("read", hints.clone()), ("write", json!({})), ("destroy", json!({"destructiveHint": true}))]
    {
        tools.push(crate::support::tool(name, &hints));
    }
    upstream.set_tools(json!(tools));
    let gateway =
        Setup::new().config(&upstream.section("up", "[servers.up.tools.limited]\nrate_limit = \"1/h\"")).start().await;
    let bare = gateway.agent().await;
    Door::Mcp.send(&bare, &json!({"name": "up:limited"})).await;
    let mut expected = gateway.records().await.len();
    assert_eq!(expected, 1);
    let (legacy, modern) = (bare.legacy().await, bare.modern());
    let doors =
        [(Door::Mcp, &bare), (Door::Mcp, &legacy), (Door::Mcp, &modern), (Door::Invoke, &bare), (Door::Call, &bare)];
    for (door, client) in doors {
        for (what, params, say, [decision, outcome]) in calls() {
            upstream.on_call(move |_| say.clone());
            let answer = door.send(client, &params).await;
            let id = answer
                .header("toolgate-audit-id")
                .unwrap_or_else(|| panic!("{what}: no audit id: {}", answer.text))
                .to_owned();
            expected += 1;
            let records = gateway.records().await;
            assert_eq!(records.len(), expected, "{what}");
            let record = records.last().unwrap();
            assert_eq!(record["id"], id, "{what}");
            assert_eq!(
                (record["decision"].as_str(), record["outcome"].as_str()),
                (Some(decision), Some(outcome)),
                "{what}: {record}"
            );
            for member in [
                "time",
                "request_id",
                "entrance",
                "key",
                "user",
                "agent",
                "policy_version",
                "latency_ms",
                "prev",
                "hash",
            ] {
                assert!(!record[member].is_null(), "{what}: `{member}` is missing: {record}");
            }
            assert_eq!(record["entrance"], door.entrance());
        }
        upstream.on_call(|_| Say::text("done"));
        door.send(client, &json!({"name": "up:read", "arguments": {}})).await;
        expected += 1;
    }
    gateway.finish().await;
}

/// What asks for a call and comes to none: the method, its params, and the decision of its record.
fn uncalled(on_one_server: bool) -> Vec<(&'static str, Value, &'static str)> {
    let mut all = vec![
        ("tools/call", json!({}), "error"),
        ("tools/call", json!({"name": "read", "arguments": []}), "error"),
        ("prompts/get", json!({"name": 7}), "error"),
        ("resources/read", json!({}), if on_one_server { "error" } else { "deny" }),
    ];
    if on_one_server {
        all.push(("completion/complete", json!({"ref": {"type": "ref/prompt"}}), "error"));
    } else {
        all.push(("prompts/get", json!({"name": "up__nothing"}), "deny"));
        all.push(("resources/read", json!({"uri": "file:///etc/passwd"}), "deny"));
    }
    all
}

/// Whoever probes for prompts and resources, or sends what cannot be read, leaves a record and is charged.
#[tokio::test]
async fn what_comes_to_no_call_is_recorded_and_charged_too() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).config("[plans.tight]\nrequests_per_minute = 1").start().await;
    let bare = gateway.agent().await;
    let legacy = bare.legacy().await;
    let mut expected = gateway.records().await.len();
    for (path, on_one_server) in [("/v1/mcp", false), ("/v1/mcp/servers/up", true)] {
        for client in [bare.at(path), legacy.at(path)] {
            for (method, params, decision) in uncalled(on_one_server) {
                let answer = client.rpc(method, &params).await;
                assert_eq!(answer.status, 200, "{path} {method}: {}", answer.text);
                assert!(answer.error()["code"].as_i64().is_some(), "{path} {method}: {}", answer.text);
                expected += 1;
                let records = gateway.records().await;
                assert_eq!(records.len(), expected, "{path} {method} {params}");
                let record = records.last().unwrap();
                assert_eq!(Some(record["id"].as_str().unwrap()), answer.header("toolgate-audit-id"), "{method}");
                assert_eq!(
                    (record["decision"].as_str(), record["outcome"].as_str(), record["entrance"].as_str()),
                    (Some(decision), Some("refused"), Some("mcp")),
                    "{path} {method}: {record}"
                );
                assert!(record["server"].as_str() != Some(""), "{record}");
            }
        }
        for (method, params, _) in uncalled(on_one_server) {
            let key = NewKey {
                name: "p".into(),
                profile: "agent".into(),
                user: "u".into(),
                plan: Some("tight".into()),
                ..NewKey::default()
            };
            let client = gateway.client(&gateway.create(key).await).at(path);
            let statuses = [client.rpc(method, &params).await.status, client.rpc(method, &params).await.status];
            assert_eq!(statuses, [200, 429], "{path} {method} {params}");
        }
        expected = gateway.records().await.len();
    }
    let modern = bare.modern();
    let unknown = modern.rpc("resources/read", &json!({"uri": "file:///nothing"})).await;
    assert_eq!(unknown.refused(), (200, -32602));
    let record = gateway.record(unknown.header("toolgate-audit-id").unwrap()).await;
    assert_eq!((record["kind"].as_str(), record["code"].as_str()), (Some("resource"), Some("unknown_resource")));
    gateway.finish().await;
}

/// A server that cannot be reached is told as before, and recorded as failed.
#[tokio::test]
async fn a_call_to_a_server_that_is_down_leaves_a_record_on_the_transparent_route_too() {
    let gateway = Setup::new().config("[servers.up]\nurl = \"http://127.0.0.1:9/mcp\"").start().await;
    let client = gateway.agent().await.at("/v1/mcp/servers/up");
    let answer = client.rpc("tools/call", &json!({"name": "read"})).await;
    assert_eq!(answer.refused(), (200, -32603));
    let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
    assert_eq!((record["tool"].as_str(), record["outcome"].as_str()), (Some("read"), Some("failed")));
    gateway.finish().await;
}

/// A record of a write has its intent, committed before; a read has none.
#[tokio::test]
async fn only_writes_have_an_intent() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for tool in ["read", "write", "again"] {
        let answer = client.invoke("up", tool, r#"{"password":"hunter2-secret","n":7}"#).await;
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert_eq!(record["intent"].is_object(), tool != "read", "{record}");
        assert!(!record.to_string().contains("hunter2"), "arguments are redacted: {record}");
        assert!(record["arguments_digest"].as_str().unwrap().starts_with("sha256:"));
    }
    // The gateway's own tools are no other.
    let operator = gateway.client(&gateway.writer("operator").await);
    let trace = json!({"name": "checkout"});
    for (tool, arguments) in [("eval.trace.create", trace), ("policy.simulate", json!({"action": "up.read"}))] {
        let answer = operator.call(tool, &arguments).await;
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert_eq!(record["outcome"], "answered", "{record}");
        assert_eq!(record["intent"].is_object(), tool == "eval.trace.create", "{record}");
    }
    gateway.finish().await;
}

/// Strangers are recorded, but cannot fill the disk.
#[tokio::test]
async fn refused_logins_are_capped() {
    let gateway = Setup::new().start().await;
    for n in 0..300 {
        let client = gateway.stranger().with_key(Some(&format!("inv_live_wrong{n}")));
        client.rpc("ping", &json!({})).await;
    }
    let records = gateway.records().await;
    assert!((1..=100).contains(&records.len()), "{} records", records.len());
    assert!(!json!(records).to_string().contains("inv_live_wrong"), "never the credential");
    assert!(
        records.iter().all(|record| record["decision"] == "error" || record["decision"] == "deny"),
        "{}",
        records[0]
    );
    let missing = gateway.records().await.len();
    for _ in 0..20 {
        gateway.stranger().rpc("ping", &json!({})).await;
    }
    assert_eq!(gateway.records().await.len(), missing, "a missing key is no login");
    gateway.finish().await;
}
