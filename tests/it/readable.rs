//! Prompts and resources of a backend take the path of its tools: resolved, decided, charged, sent, recorded.

use serde_json::{Value, json};
use toolgate::domain::call::ToolRef;
use toolgate::domain::json::Json;
use toolgate::domain::outcome::Carried;
use toolgate::gateway::NewKey;
use toolgate::wire::era::Era;
use toolgate::wire::mcp::{Reply, tell};

use crate::support::{FakeUpstream, Key, Say, Seen, Setup, TestGateway};

const PROMPT: &str =
    r#"{"description":"d","messages":[{"role":"user","content":{"type":"text","text":"1.50e2"}}],"x":1.0}"#;
const RESOURCE: &str = r#"{"contents":[{"uri":"file:///a","text":"hello"}],"ttlMs":99,"_meta":{"own":1}}"#;

fn prompt(server: &str, name: &str) -> ToolRef {
    ToolRef::Prompt { server: server.into(), name: name.into() }
}

fn resource(server: &str, uri: &str) -> ToolRef {
    ToolRef::Resource { server: server.into(), uri: uri.into() }
}

fn exact(server: &str, tool: &str) -> ToolRef {
    ToolRef::Exact { server: server.into(), tool: tool.into() }
}

fn answering(upstream: &FakeUpstream) {
    upstream.script(|seen| match seen.method() {
        "prompts/get" => Some(Say::Result(PROMPT.into())),
        "resources/read" => Some(Say::Result(RESOURCE.into())),
        _ => None,
    });
}

/// What was asked of the backend's prompts and resources.
fn asked(upstream: &FakeUpstream) -> Vec<Seen> {
    upstream.seen().into_iter().filter(|seen| ["prompts/get", "resources/read"].contains(&seen.method())).collect()
}

fn error(reply: &Reply) -> Value {
    reply.body.as_ref().expect_err("an error").value()
}

fn code(carried: &Carried, era: Era) -> i64 {
    let reply = tell(carried, era, true);
    assert_eq!(reply.status, 200);
    error(&reply)["code"].as_i64().unwrap()
}

async fn record(gateway: &TestGateway, carried: &Carried) -> Value {
    gateway.record(carried.governance.audit_event_id.as_str()).await
}

fn params(seen: &Seen) -> Value {
    let mut params = seen.json["params"].clone();
    params.as_object_mut().unwrap().remove("_meta");
    params
}

#[tokio::test]
async fn both_are_sent_as_they_came_and_recorded() {
    for upstream in [FakeUpstream::legacy().await, FakeUpstream::modern().await] {
        answering(&upstream);
        let gateway = Setup::with(&upstream).start().await;
        let key = gateway.key("agent").await;
        let arguments = json!({"text": "a secret text", "n": "5"});
        let got = gateway.carry(&key, prompt("up", "re view"), Some(&arguments)).await;
        let bare = gateway.carry(&key, prompt("up", "bare"), None).await;
        let read = gateway.carry(&key, resource("up", "file:///a?token=hush"), Some(&json!({"no": "use"}))).await;
        let seen = asked(&upstream);
        assert_eq!(params(&seen[0]), json!({"name": "re view", "arguments": arguments}));
        assert_eq!(params(&seen[1]), json!({"name": "bare"}), "absent stays absent");
        assert_eq!((seen[2].method(), params(&seen[2])), ("resources/read", json!({"uri": "file:///a?token=hush"})));
        if let Some(name) = seen[2].headers.get("mcp-name") {
            assert_eq!(name, "file:///a?token=hush");
            assert_eq!(seen[0].headers["mcp-name"], "re view");
        }

        let legacy = tell(&got, Era::Legacy, true).body.unwrap();
        let members = PROMPT.strip_suffix('}').unwrap();
        assert!(legacy.as_str().starts_with(members), "byte for byte: {}", legacy.as_str());
        assert_eq!(legacy.value()["_meta"]["toolgate/governance"]["policy"], "default-allow-read");
        let modern = tell(&read, Era::Modern, true).body.unwrap().value();
        assert_eq!(
            (&modern["resultType"], &modern["ttlMs"], &modern["cacheScope"]),
            (&json!("complete"), &json!(0), &json!("private"))
        );
        assert_eq!(modern["_meta"]["own"], 1);
        assert!(tell(&bare, Era::Modern, true).body.unwrap().value().get("ttlMs").is_none());

        let got = record(&gateway, &got).await;
        for (member, expected) in [
            ("kind", json!("prompt")),
            ("server", json!("up")),
            ("tool", json!("re view")),
            ("decision", json!("allow")),
            ("outcome", json!("answered")),
            ("policies", json!(["default-allow-read"])),
            ("arguments", json!({"text": "[redacted 13 chars]", "n": "[redacted 1 chars]"})),
        ] {
            assert_eq!(got[member], expected, "{member}");
        }
        let read = record(&gateway, &read).await;
        assert_eq!((&read["kind"], &read["tool"]), (&json!("resource"), &json!("file:///a?[redacted 10 chars]")));
        assert_eq!((&read["arguments"], &read["arguments_digest"]), (&Value::Null, &Value::Null));
        gateway.finish().await;
    }
}

#[tokio::test]
async fn an_exact_tool_has_one_reading() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let key = gateway.key("agent").await;
    let called = gateway.carry(&key, exact("up", "read"), Some(&json!({}))).await;
    assert!(tell(&called, Era::Legacy, true).body.is_ok());
    assert_eq!(record(&gateway, &called).await["kind"], "tool");
    for (server, tool) in [("up", "up:read"), ("up", "up__read"), ("toolgate", "policy.simulate"), ("up", "raed")] {
        let carried = gateway.carry(&key, exact(server, tool), None).await;
        let error = error(&tell(&carried, Era::Legacy, true));
        assert_eq!(
            error,
            json!({"code": -32602, "message": format!("unknown tool `{tool}`"), "data": {"nearest": []}})
        );
    }
    gateway.finish().await;
}

/// A server that is not there, one that is shut, and a profile that holds neither: the same words.
#[tokio::test]
async fn what_does_not_exist_for_somebody_does_not_exist() {
    let upstream = FakeUpstream::modern().await;
    answering(&upstream);
    let gateway = Setup::new()
        .config(&upstream.section("up", ""))
        .config(&upstream.section("shut", "permissions = \"explicit\"\n[servers.shut.tools.read]"))
        .profile(
            "other",
            "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"other:*\", \"up:one\", \"up:file:///a\"]",
        )
        .profile("mute", "scopes = [\"tools:read\"]\nallowed_tools = [\"*\"]")
        .profile(
            "part",
            "scopes = [\"tools:invoke\"]\nallowed_tools = [\"up:o*\", \"up:file:///a/*\"]\nread_only = true",
        )
        .start()
        .await;
    let (agent, other, mute, part) =
        (gateway.key("agent").await, gateway.key("other").await, gateway.key("mute").await, gateway.key("part").await);
    let hidden: [(&Key, &str); 5] =
        [(&agent, "nowhere"), (&agent, "shut"), (&agent, "b a d"), (&other, "up"), (&mute, "up")];
    for (key, server) in hidden {
        let got = gateway.carry(key, prompt(server, "one"), None).await;
        let read = gateway.carry(key, resource(server, "file:///a"), None).await;
        for (era, number) in [(Era::Legacy, -32002), (Era::Modern, -32602)] {
            let unknown = json!({"code": -32602, "message": "unknown prompt `one`"});
            assert_eq!(error(&tell(&got, era, true)), unknown, "{server}");
            let unknown = json!({"code": number, "message": "resource not found", "data": {"uri": "file:///a"}});
            assert_eq!(error(&tell(&read, era, false)), unknown, "{server}");
        }
        let record = record(&gateway, &read).await;
        assert_eq!(
            (&record["decision"], &record["outcome"], &record["kind"]),
            (&json!("deny"), &json!("refused"), &json!("resource"))
        );
    }
    let outside = gateway.carry(&other, prompt("up", "one"), None).await;
    assert_eq!(record(&gateway, &outside).await["notes"], json!(["the prompt lies outside the profile `other`"]));
    assert_eq!(asked(&upstream).len(), 0, "nothing was asked");
    let climbing = gateway.carry(&agent, resource("up", "file:///a/../b"), None).await;
    assert!(tell(&climbing, Era::Modern, true).body.is_ok(), "where all of a server is open, policy alone decides");

    for (what, opened) in [
        (prompt("up", "one"), true),
        (prompt("up", "two"), false),
        (resource("up", "file:///a/b"), true),
        (resource("up", "file:///a"), false),
        (resource("up", "file:///a/../b"), false),
        (resource("up", "file:///a/%2e%2e%2fb"), false),
        (resource("up", "file:///a/b?../d"), false),
        (resource("up", "file:///a/b?c=d"), true),
    ] {
        let carried = gateway.carry(&part, what.clone(), None).await;
        assert_eq!(tell(&carried, Era::Modern, true).body.is_ok(), opened, "{what:?}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_name_and_arguments_are_checked_before_anything_is_asked() {
    let upstream = FakeUpstream::legacy().await;
    answering(&upstream);
    let gateway = Setup::with(&upstream).start().await;
    let key = gateway.key("agent").await;
    let long = format!("file:///{}", "x".repeat(8 * 1024 - 8));
    assert!(tell(&gateway.carry(&key, resource("up", &long), None).await, Era::Legacy, true).body.is_ok());
    let longer = format!("{long}x");
    for what in
        [resource("up", &longer), resource("nowhere", &longer), resource("up", "x:a\nb"), prompt("up", "a\u{7}")]
    {
        assert_eq!(code(&gateway.carry(&key, what, None).await, Era::Legacy), -32602);
    }
    for arguments in [json!({"n": 5}), json!({"n": {"a": "b"}}), json!(["a"]), json!("a"), Value::Null] {
        let carried = gateway.carry(&key, prompt("up", "x"), Some(&arguments)).await;
        let error = error(&tell(&carried, Era::Legacy, true));
        assert_eq!(error["message"], "the arguments of a prompt are an object of strings", "{arguments}");
    }
    assert_eq!(asked(&upstream).len(), 1);
    gateway.finish().await;
}

const POLICIES: &str = r#"
@id("secret-files") @reason("keep out")
forbid (principal, action, resource is Toolgate::Resource) when { context.effects.containsAny(["path.secret", "path.traversal"]) };

@id("ask") @reason("a person decides") @requires("approval")
permit (principal, action in Toolgate::Action::"read", resource == Toolgate::Prompt::"up:ask");

@id("others")
permit (principal, action in Toolgate::Action::"read", resource) when { resource.name != "ask" };

@id("watched") @mode("shadow")
forbid (principal, action, resource in Toolgate::Server::"up") when { resource is Toolgate::Resource && resource.scheme == "memo" };
"#;

#[tokio::test]
async fn a_refusal_is_an_error_in_the_words_of_a_tools() {
    let upstream = FakeUpstream::legacy().await;
    answering(&upstream);
    let gateway = Setup::with(&upstream).policy("p", POLICIES).start().await;
    let key = gateway.key("agent").await;
    for uri in ["file:///home/me/.ssh/id_rsa", "file:///a/../b", "memo://a/%2e%2e/b"] {
        let carried = gateway.carry(&key, resource("up", uri), None).await;
        let error = error(&tell(&carried, Era::Modern, true));
        assert_eq!((&error["code"], &error["data"]["policy"]), (&json!(403), &json!("secret-files")));
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("Denied by policy secret-files (")
                && message.contains("policies/p.cedar:2): Keep out. Nothing was called."),
            "{message}"
        );
        let record = record(&gateway, &carried).await;
        assert_eq!((&record["decision"], &record["policies"]), (&json!("deny"), &json!(["secret-files"])));
    }
    let pending = gateway.carry(&key, prompt("up", "ask"), None).await;
    let told = error(&tell(&pending, Era::Legacy, false));
    assert_eq!((&told["code"], &told["data"]["code"]), (&json!(409), &json!("approval_required")));
    assert_eq!(asked(&upstream).len(), 0, "nothing was asked");
    let watched = gateway.carry(&key, resource("up", "memo:x"), None).await;
    assert!(tell(&watched, Era::Legacy, true).body.is_ok());
    let notes = record(&gateway, &watched).await["notes"].to_string();
    assert!(notes.contains("shadow: `watched` would forbid"), "{notes}");
    gateway.finish().await;
}

#[tokio::test]
async fn windows_count_them_like_calls() {
    let upstream = FakeUpstream::legacy().await;
    answering(&upstream);
    let gateway = Setup::new()
        .config(&upstream.section("up", "rate_limit = \"3/min\""))
        .config("[plans.tiny]\nrequests_per_minute = 100\ninvocations_per_minute = 1")
        .start()
        .await;
    let new = NewKey {
        name: "t".into(),
        profile: "agent".into(),
        user: "u".into(),
        plan: Some("tiny".into()),
        ..NewKey::default()
    };
    let (tiny, key) = (gateway.create(new).await, gateway.key("agent").await);
    let ok = |carried: &Carried| tell(carried, Era::Legacy, true).body.is_ok();
    assert!(ok(&gateway.carry(&tiny, prompt("up", "a"), None).await));
    let over = gateway.carry(&tiny, resource("up", "x:y"), None).await;
    assert_eq!(code(&over, Era::Legacy), 429);
    let bare = tell(&over, Era::Legacy, false);
    assert!(bare.status == 429 && bare.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)));
    assert!(ok(&gateway.carry(&key, resource("up", "x:y"), None).await));
    assert!(ok(&gateway.carry(&key, exact("up", "read"), None).await));
    let over = gateway.carry(&key, prompt("up", "a"), None).await;
    let told = error(&tell(&over, Era::Modern, true));
    assert_eq!((&told["code"], &told["data"]["limit"]), (&json!(429), &json!("3/min")));
    assert_eq!(over.governance.decision, "deny");
    gateway.finish().await;
}

#[tokio::test]
async fn a_backends_failure_is_an_error_and_its_own_errors_pass() {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(|seen| {
        let uri = seen.json["params"]["uri"].as_str().unwrap_or_default();
        (seen.method() == "resources/read").then(|| match uri {
            "x:gone" => Say::Error(r#"{"code":-32002,"message":"Resource not found","data":{"uri":"x:gone"}}"#.into()),
            "x:own" => Say::Error(r#"{"code":-31000,"message":"mine","data":1.50}"#.into()),
            "x:garbage" => Say::Result("[]".into()),
            _ => Say::Status(500),
        })
    });
    let gateway = Setup::with(&upstream).start().await;
    let key = gateway.key("agent").await;
    let read = async |uri: &str| gateway.carry(&key, resource("up", uri), None).await;
    let gone = read("x:gone").await;
    assert_eq!((code(&gone, Era::Legacy), code(&gone, Era::Modern)), (-32002, -32602));
    let own: Json = tell(&read("x:own").await, Era::Modern, true).body.unwrap_err();
    assert_eq!(own.as_str(), r#"{"code":-31000,"message":"mine","data":1.50}"#);
    assert_eq!(code(&read("x:garbage").await, Era::Legacy), 502);
    let before = asked(&upstream).len();
    let failed = read("x:down").await;
    assert_eq!(asked(&upstream).len() - before, 2, "reading is repeated once");
    let told = error(&tell(&failed, Era::Legacy, true));
    assert_eq!((&told["code"], &told["data"]["code"]), (&json!(502), &json!("backend_down")));
    assert_eq!(record(&gateway, &failed).await["outcome"], "failed");
    gateway.finish().await;
}
