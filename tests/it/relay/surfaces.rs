//! What stands behind the gateway in one list: `surface = direct`, `both`.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Say, Setup};

/// A backend with a prompt, a resource and a template.
async fn library(name: &'static str) -> FakeUpstream {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(move |seen| {
        let result = match seen.method() {
            "initialize" => json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
                "serverInfo": {"name": name, "version": "1"},
            }),
            "prompts/list" => json!({"prompts": [{"name": "re view", "x-vendor": 1}]}),
            "resources/list" => json!({"resources": [
                {"uri": format!("{name}://own"), "name": "own"}, {"uri": "test://shared", "name": name},
            ]}),
            "resources/templates/list" => {
                json!({"resourceTemplates": [{"uriTemplate": format!("{name}://{{id}}"), "name": "t"}]})
            }
            "prompts/get" => json!({"messages": [], "server": name}),
            "resources/read" => json!({"contents": [], "server": name}),
            _ => return None,
        };
        Some(Say::Result(result.to_string()))
    });
    upstream
}

async fn list(client: &Client, method: &str, member: &str, key: &str) -> Vec<String> {
    let items = client.rpc(method, &json!({})).await.result()[member].clone();
    items.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn everything_is_in_one_list_and_found_under_its_name() {
    let (one, two) = (library("one").await, library("two").await);
    let gateway = Setup::new().config(&one.section("one", "")).config(&two.section("two", "")).start().await;
    let plain = gateway.agent().await;
    assert!(list(&plain, "prompts/list", "prompts", "name").await.is_empty(), "the surface is `search`");
    for client in [plain.at("/v1/mcp?surface=both"), plain.at("/v1/mcp?surface=direct").modern()] {
        assert_eq!(list(&client, "prompts/list", "prompts", "name").await, ["one__re_view", "two__re_view"]);
        // Two servers with one URI: the first one's, and no doubles.
        let uris = list(&client, "resources/list", "resources", "uri").await;
        assert_eq!(uris, ["one://own", "test://shared", "two://own"]);
        let templates = list(&client, "resources/templates/list", "resourceTemplates", "uriTemplate").await;
        assert_eq!(templates, ["one://{id}", "two://{id}"]);
        let server = async |method: &str, params: Value| client.rpc(method, &params).await.result()["server"].clone();
        assert_eq!(server("prompts/get", json!({"name": "two__re_view"})).await, "two");
        assert_eq!(server("resources/read", json!({"uri": "two://own"})).await, "two");
        assert_eq!(server("resources/read", json!({"uri": "test://shared"})).await, "one");
        assert_eq!(server("resources/read", json!({"uri": "two://anything"})).await, "two");
        let unknown = client.rpc("prompts/get", &json!({"name": "three__re_view"})).await;
        assert_eq!(unknown.json()["error"]["code"], -32602);
    }
    let kinds: Vec<Value> = gateway.records().await.iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "resource").count(), 6);
    assert_eq!(kinds.iter().filter(|kind| **kind == "prompt").count(), 2);
    gateway.finish().await;
}

#[tokio::test]
async fn one_broken_backend_never_shrinks_the_rest() {
    let (one, two) = (library("one").await, library("two").await);
    let gateway = Setup::new().config(&one.section("one", "")).config(&two.section("two", "")).start().await;
    let client = gateway.agent().await.at("/v1/mcp?surface=direct");
    assert_eq!(list(&client, "prompts/list", "prompts", "name").await.len(), 2);
    let tools = client.tools().await;
    drop(two);
    crate::support::eventually("the second is down", async || {
        let answer = client.call("two__read", &json!({})).await;
        (answer.result()["isError"] == true).then_some(())
    })
    .await;
    assert_eq!(client.tools().await, tools, "the last known ones");
    assert_eq!(list(&client, "prompts/list", "prompts", "name").await, ["one__re_view", "two__re_view"]);
    gateway.finish().await;
}
