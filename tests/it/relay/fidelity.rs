//! Through the transparent route comes what the server said, and nothing else: bytes, lists, errors, and no credential.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::{FakeUpstream, Say, Setup, eventually};

const ROUTE: &str = "/v1/mcp/servers/up";

/// JSON as backends write it: unknown members, numbers in any notation, spaces.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1.50e2".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just("-0.0".to_owned()),
        "\"[a-zA-Z0-9 é\u{1f600}]{0,8}\"",
        Just(r#""\u00e9\/""#.to_owned()),
    ];
    leaf.prop_recursive(5, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[ {} ]", items.join(" ,"))),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn any_result_comes_out_as_it_went_in() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let agent = gateway.agent().await.at(ROUTE);
    let (legacy, modern) = (agent.legacy().await, agent.modern());
    let handle = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        TestRunner::new(ProptestConfig::with_cases(48)).run(&(value(), value()), |(content, vendor)| {
            let text = format!(r#"{{"content":[],"x-vendor": {vendor},"structuredContent":{content} }}"#);
            let said = text.clone();
            upstream.on_call(move |_| Say::Result(said.clone()));
            let params = r#"{"name":"read","arguments":{}}"#;
            let plain = handle.block_on(legacy.request("tools/call", params).send()).text;
            prop_assert!(plain.contains(&text), "{plain}");
            let stamped = handle.block_on(modern.request("tools/call", params).send()).text;
            let members = text.trim_start_matches('{').trim_end_matches(" }");
            prop_assert!(stamped.contains(members), "{stamped}");
            Ok(())
        })
    })
    .unwrap();
    gateway.finish().await;
}

#[tokio::test]
async fn a_server_is_shown_as_it_shows_itself() {
    for upstream in [FakeUpstream::legacy().await, FakeUpstream::modern().await] {
        let gateway = Setup::with(&upstream).start().await;
        let client = gateway.agent().await.at(ROUTE);
        let hello = client.rpc("initialize", &crate::support::hello("2025-11-25")).await.result();
        assert_eq!(hello["serverInfo"], json!({"name": "fake", "version": "1"}));
        assert_eq!(hello["capabilities"], json!({"tools": {"listChanged": true}}));
        let found = client.modern().rpc("server/discover", &json!({})).await.result();
        assert_eq!(found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "fake");
        // Its own names, in its own order; what policy can never permit to this key is missing.
        assert_eq!(client.legacy().await.tools().await, ["read", "write", "again", "destroy"]);
        let reader = gateway.client(&gateway.key("agent").await).at(ROUTE);
        assert_eq!(reader.tools().await, ["read"]);
        let denied = reader.call("write", &json!({})).await;
        assert_eq!(denied.denied(), "default_deny");
        assert!(denied.result().get("_meta").is_none(), "{}", denied.text);
        assert!(denied.header("toolgate-audit-id").is_some());
        assert_eq!(upstream.calls().len(), 0);
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_server_outside_the_profile_is_as_one_that_is_not_there() {
    let upstream = FakeUpstream::legacy().await;
    let setup = Setup::with(&upstream)
        .profile("narrow", "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"other:*\"]");
    let gateway = setup.start().await;
    let client = gateway.client(&gateway.key("narrow").await);
    let hidden = client.at(ROUTE).rpc("tools/list", &json!({})).await;
    let absent = client.at("/v1/mcp/servers/nowhere").rpc("tools/list", &json!({})).await;
    assert_eq!((hidden.status, &hidden.text), (404, &absent.text));
    assert_eq!(client.get(ROUTE).header("accept", "text/event-stream").send().await.status, 404);
    let bare = gateway.agent().await.at(ROUTE);
    assert_eq!(bare.with_key(None).rpc("tools/list", &json!({})).await.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn no_credential_of_a_client_reaches_a_server() {
    let upstream = FakeUpstream::modern().await;
    let gateway = Setup::with(&upstream).start().await;
    let key = gateway.writer("agent").await;
    let client = gateway.client(&key).at(ROUTE);
    let meta = json!({"vendor/x": 1.5, "toolgate/jwt": "a.b.c", "progressToken": "mine"});
    let params = json!({"name": "read", "arguments": {}, "extra": [1], "_meta": meta});
    for client in [client.clone(), client.legacy().await, client.modern()] {
        let draft =
            client.request("tools/call", &params.to_string()).header("authorization", &format!("Bearer {}", key.text));
        assert_eq!(draft.header("cookie", "a=b").send().await.status, 200);
    }
    for call in upstream.calls() {
        let head = format!("{:?}", call.headers);
        for secret in [&*key.text, "a.b.c", "a=b"] {
            assert!(!head.contains(secret) && !call.text.contains(secret), "{} {head}", call.text);
        }
        let params = &call.json["params"];
        assert_eq!((&params["extra"], &params["_meta"]["vendor/x"]), (&json!([1]), &json!(1.5)));
        assert_ne!(params["_meta"].get("progressToken"), Some(&json!("mine")));
    }
    assert_eq!(upstream.calls().len(), 3);
    gateway.finish().await;
}

#[tokio::test]
async fn errors_keep_their_number_but_for_the_era_s_own() {
    let legacy = FakeUpstream::legacy().await;
    legacy.script(|seen| {
        let code = match seen.method() {
            "resources/read" => -32002,
            "prompts/get" => -32099,
            _ => return None,
        };
        Some(Say::Error(json!({"code": code, "message": "no", "data": {"n": 1}}).to_string()))
    });
    let gateway = Setup::with(&legacy).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let (old, new) = (client.legacy().await, client.modern());
    let read = json!({"uri": "test://a"});
    assert_eq!(old.rpc("resources/read", &read).await.json()["error"]["code"], -32002);
    assert_eq!(
        new.rpc("resources/read", &read).await.json()["error"],
        json!({"code": -32602, "message": "no", "data": {"n": 1}})
    );
    assert_eq!(old.rpc("prompts/get", &json!({"name": "p"})).await.json()["error"]["code"], -32099);
    gateway.finish().await;
}

fn cancelled(upstream: &FakeUpstream) -> bool {
    upstream.seen().iter().any(|seen| seen.method() == "notifications/cancelled")
}

#[tokio::test]
async fn leaving_cancels_in_one_era_and_a_message_in_the_other() {
    for upstream in [FakeUpstream::legacy().await, FakeUpstream::modern().await] {
        upstream.on_call(|_| Say::Hang);
        let gateway = Setup::with(&upstream).start().await;
        let client = gateway.agent().await.at(ROUTE);
        let gone = async |calls: usize| {
            let told = || cancelled(&upstream) || upstream.left() >= calls;
            eventually("the backend is told", async || told().then_some(())).await;
        };
        let modern = client.modern();
        let leaving = tokio_util::task::TaskTracker::new().spawn({
            let draft = modern.request("tools/call", r#"{"name":"read"}"#);
            async move { draft.try_send().await.is_some() }
        });
        eventually("the call arrives", async || (upstream.calls().len() == 1).then_some(())).await;
        leaving.abort();
        gone(1).await;
        upstream.forget();
        let legacy = client.legacy().await;
        let waiting = tokio_util::task::TaskTracker::new().spawn({
            let draft = legacy.request("tools/call", r#"{"name":"read"}"#);
            async move { draft.send().await.text }
        });
        eventually("the call arrives", async || (upstream.calls().len() == 1).then_some(())).await;
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        assert_eq!(legacy.post(ROUTE).text(cancel).send().await.status, 202);
        gone(2).await;
        assert!(waiting.await.unwrap().contains("cancelled"));
        let outcomes: Vec<Value> = gateway.records().await.iter().map(|record| record["outcome"].clone()).collect();
        assert_eq!(outcomes, ["cancelled", "cancelled"]);
        gateway.finish().await;
    }
}

/// A server that took a call for a task would act, and a legacy client never hear of it.
#[tokio::test]
async fn a_server_is_told_of_no_extension_that_the_way_does_not_carry() {
    let upstream = FakeUpstream::modern().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let (ui, tasks) = ("io.modelcontextprotocol/ui", "io.modelcontextprotocol/tasks");
    let declared = json!({"sampling": {}, "extensions": {ui: {}, tasks: {}, "vendor/x": {}}});
    let mut hello = crate::support::hello("2025-11-25");
    hello["capabilities"] = declared.clone();
    let session = client.rpc("initialize", &hello).await;
    let legacy = client.in_session(session.header("mcp-session-id").unwrap());
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": declared});
    for (client, meta, extensions) in
        [(legacy, json!({}), json!({ui: {}})), (client.modern(), meta, json!({ui: {}, tasks: {}}))]
    {
        upstream.forget();
        let params = json!({"name": "read", "arguments": {}, "_meta": meta});
        assert_eq!(client.rpc("tools/call", &params).await.status, 200);
        let told = &upstream.calls()[0].json["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"];
        assert_eq!(*told, json!({"sampling": {}, "extensions": extensions}));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn sessions_with_a_server_are_shared_or_kept_apart_as_configured() {
    // Per principal even where a call comes through gateway_invoke; shared even where a client opened a session.
    for (setting, expected) in [("sessions = \"principal\"", 3), ("sessions = \"shared\"", 1), ("", 3)] {
        let upstream = FakeUpstream::legacy().await;
        let gateway = Setup::new().config(&upstream.section("up", setting)).start().await;
        for _ in 0..2 {
            let client = gateway.agent().await;
            client.invoke("up", "read", "{}").await.result();
            let host = client.at(ROUTE).legacy().await;
            if setting.is_empty() {
                host.call("read", &json!({})).await.result();
            }
        }
        let opened = upstream.seen().iter().filter(|seen| seen.method() == "initialize").count();
        assert_eq!(opened, expected, "{setting}");
        gateway.finish().await;
    }
}

#[tokio::test]
async fn arguments_on_many_lines_are_one_message_to_a_child() {
    let gateway = Setup::demo().start().await;
    let client = gateway.agent().await;
    let answer = client.invoke("github", "get_repo", "{\n  \"repo\":\r\n  \"demo/project-a\"\n}").await;
    assert_eq!(answer.result()["structuredContent"]["name"], "demo/project-a", "{}", answer.text);
    gateway.finish().await;
}
