//! Grant hides: what lies outside the profile cannot be told from what is not there.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Response, Setup, TestGateway, tool, without_ids};

const NARROW: &str = "scopes = [\"tools:read\", \"tools:invoke\", \"policy:simulate\"]\nallowed_tools = [\"up:read\", \"up:destroy*\"]\nread_only = true\nsurface = \"both\"";

async fn start(upstream: &FakeUpstream) -> (TestGateway, Client) {
    upstream.set_tools(json!([
        tool("read", &json!({"readOnlyHint": true})),
        // Inside the globs, outside because it is not read-only.
        tool("destroy_a", &json!({"destructiveHint": true})),
        // Outside the globs.
        tool("secret_a", &json!({"readOnlyHint": true})),
    ]));
    let gateway = Setup::with(upstream).profile("narrow", NARROW).start().await;
    let client = gateway.client(&gateway.writer("narrow").await);
    (gateway, client)
}

/// Everything of an answer that a client could tell apart, with one name put in place of the other.
fn face(answer: &Response, name: &str) -> (u16, Vec<String>, String) {
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    headers.sort();
    let plain = |text: &str| without_ids(&text.replace(name, "NAME"));
    (answer.status, headers.iter().map(|line| plain(line)).collect(), plain(&answer.text))
}

#[tokio::test]
async fn outside_the_profile_is_as_good_as_absent() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    let kinds = [client.clone(), client.legacy().await, client.modern()];
    // The last of each pair is nowhere; each has as many letters as the first.
    for (hidden, absent) in [("destroy_a", "destroy_b"), ("secret_a", "secret_b")] {
        for client in &kinds {
            for mark in [":", "/", ".", "__"] {
                let call = async |name: &str| client.call(&format!("up{mark}{name}"), &json!({"x": 1})).await;
                assert_eq!(face(&call(hidden).await, hidden), face(&call(absent).await, absent), "up{mark}{hidden}");
            }
            let invoke = async |name: &str| client.invoke("up", name, "{\"x\":1}").await;
            assert_eq!(face(&invoke(hidden).await, hidden), face(&invoke(absent).await, absent), "{hidden}");
            let search = async |name: &str| client.call("gateway_search_tools", &json!({"query": name})).await;
            assert_eq!(face(&search(hidden).await, hidden), face(&search(absent).await, absent), "{hidden}");
        }
        let answer = client.invoke("up", hidden, "{}").await;
        assert_eq!(answer.refused(), (200, -32602));
        assert_eq!(answer.error()["message"], format!("unknown tool `up:{hidden}`"));
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert!(record.to_string().contains("outside the profile `narrow`"), "the record knows why: {record}");
    }
    let list = client.rpc("tools/list", &json!({})).await.text;
    assert!(!list.contains("secret_a") && !list.contains("destroy_a") && list.contains("up__read"), "{list}");
    assert_eq!(upstream.calls().len(), 0);
    gateway.finish().await;
}

/// Only simulate, for keys that hold its scope, may know.
#[tokio::test]
async fn simulate_names_the_profile() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, client) = start(&upstream).await;
    let report = client.simulate(&json!({"server": "up", "tool": "secret_a", "arguments": {}})).await;
    assert_eq!(report["decision"], "deny");
    assert_eq!(report["policies"][0]["id"], "profile:narrow");
    let absent = client.simulate(&json!({"action": "up:nowhere", "params": {"sql": "drop table x"}})).await;
    assert_eq!((absent["decision"].clone(), absent["code"].clone()), (json!("deny"), json!("unknown_tool")));
    assert_eq!(absent["effects"], json!(["sql.drop", "sql.write"]));
    gateway.finish().await;
}

/// Inside the profile, policy explains: not listed, but refused with the reason when called by name.
#[tokio::test]
async fn what_policy_can_never_permit_is_not_listed_but_explained() {
    let upstream = FakeUpstream::legacy().await;
    let open = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"direct\"";
    let gateway = Setup::with(&upstream).profile("direct", open).start().await;
    let reader = gateway.client(&gateway.key("direct").await);
    assert_eq!(reader.tools().await, ["up__read"]);
    let found = reader.call("gateway_search_tools", &json!({"query": "write"})).await.result();
    assert_eq!(found["structuredContent"]["tools"], json!([]));
    let refused = reader.invoke("up", "write", "{}").await;
    assert_eq!(refused.denied(), "default_deny");
    assert_eq!(refused.governance()["policy"], "default-deny");
    gateway.finish().await;
}

#[tokio::test]
async fn own_tools_outside_the_scopes_are_not_there() {
    let upstream = FakeUpstream::legacy().await;
    let setup = Setup::with(&upstream).profile("searcher", "scopes = [\"tools:read\"]\nallowed_tools = [\"*\"]");
    let gateway = setup
        .profile("caller", "scopes = [\"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"both\"")
        .start()
        .await;
    let searcher = gateway.client(&gateway.writer("searcher").await);
    assert_eq!(searcher.tools().await, ["gateway_search_tools"]);
    for name in ["policy.simulate", "policy_simulate", "invoke.policy.simulate", "toolgate:policy.simulate"] {
        let hidden = searcher.call(name, &json!({"action": "up.read"})).await;
        assert_eq!(hidden.error()["message"], format!("unknown tool `{name}`"));
        assert_eq!(hidden.refused(), (200, -32602));
    }
    assert_eq!(searcher.invoke("up", "read", "{}").await.refused(), (200, -32602), "no scope to invoke with");
    assert_eq!(searcher.call("up:read", &json!({})).await.refused(), (200, -32602));
    let caller = gateway.client(&gateway.writer("caller").await);
    assert_eq!(caller.tools().await, ["gateway_invoke"], "without tools:read nothing of the backends is listed");
    assert_eq!(caller.call("gateway_search_tools", &json!({"query": "read"})).await.refused(), (200, -32602));
    assert_eq!(caller.invoke("up", "read", "{}").await.told(), "done");
    assert_eq!(upstream.calls().len(), 1);
    gateway.finish().await;
}

#[tokio::test]
async fn unknown_tools_name_the_nearest_visible_ones() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, narrow) = start(&upstream).await;
    let agent = gateway.agent().await;
    let nearest =
        async |client: &Client, name: &str| client.invoke("up", name, "{}").await.error()["data"]["nearest"].clone();
    assert_eq!(nearest(&agent, "secret_b").await[0], "up:secret_a");
    assert_eq!(nearest(&narrow, "reed").await, json!(["up:read"]));
    assert!(!nearest(&narrow, "secret_b").await.to_string().contains("secret_a"));
    let unknown_server = agent.invoke("upp", "read", "{}").await;
    assert_eq!(unknown_server.refused(), (200, -32602));
    assert_eq!(unknown_server.error()["data"]["nearest"][0], "up:read");
    gateway.finish().await;
}

/// A server with `permissions = "explicit"` has the tools that are written down, and no others.
#[tokio::test]
async fn explicit_servers_have_what_is_written_down() {
    let upstream = FakeUpstream::legacy().await;
    let setup = Setup::new().config(&upstream.section("up", "permissions = \"explicit\"\n[servers.up.tools.read]"));
    let gateway = setup.start().await;
    let client = gateway.agent().await.at("/v1/mcp?surface=direct");
    assert_eq!(client.tools().await, ["up__read"]);
    assert_eq!(client.invoke("up", "write", "{}").await.refused(), (200, -32602));
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "done");
    assert_eq!(upstream.calls().len(), 1);
    let sim: Value = gateway.agent().await.simulate(&json!({"action": "up.write"})).await;
    assert_eq!(sim["code"], "unknown_tool");
    gateway.finish().await;
}
