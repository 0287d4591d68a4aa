//! What travels beside what is judged, and what completions look through.

use serde_json::{Value, json};

use super::judged::upstream;
use crate::support::{FakeUpstream, Say, Setup, eventually};

const ROUTE: &str = "/v1/mcp/servers/up";

#[tokio::test]
async fn what_nobody_judges_carries_nothing_of_the_client_s_own() {
    let upstream = upstream(false).await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    client.call("read", &json!({})).await;
    upstream.forget();
    let more = json!({"level": "debug", "x": {"exfil": "planted"}, "_meta": {"note": "planted"}});
    assert_eq!(client.rpc("logging/setLevel", &more).await.status, 200);
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed", "params": more}).to_string();
    assert_eq!(client.post(ROUTE).text(&changed).send().await.status, 202);
    eventually("the server hears both", async || (upstream.seen().len() >= 2).then_some(())).await;
    let sent: Vec<String> = upstream.seen().iter().map(|seen| seen.text.clone()).collect();
    assert!(sent.iter().any(|text| text.contains("\"level\":\"debug\"")), "{sent:?}");
    assert!(sent.iter().any(|text| text.contains("roots/list_changed")), "{sent:?}");
    assert!(!sent.iter().any(|text| text.contains("planted")), "{sent:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn completions_look_through_nothing_that_may_not_be_read() {
    let upstream = upstream(false).await;
    let profile = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"up:file:///public/*\", \"up:x:*\"]";
    let policy = r#"
        @id("all") permit(principal, action, resource);
        @id("no") forbid(principal, action, resource == Toolgate::Resource::"up:x://a/secret");
    "#;
    let gateway = Setup::with(&upstream).profile("public", profile).policy("all", policy).start().await;
    let client = gateway.client(&gateway.key("public").await).at(ROUTE).legacy().await;
    upstream.forget();
    for (template, value, passes) in [
        ("file:///public/{path}", "a", true),
        ("file:///public/{+path}", "../etc/pass", false),
        ("file:///{+path}", "etc/pass", false),
        ("x://a/{path}", "open", true),
        ("x://a/{path}", "secret", false),
    ] {
        let params = json!({
            "ref": {"type": "ref/resource", "uri": template}, "argument": {"name": "path", "value": value},
        });
        let answer = client.rpc("completion/complete", &params).await;
        assert_eq!(answer.json().get("result").is_some(), passes, "{template} {value}: {}", answer.text);
    }
    let seen = upstream.seen().into_iter().filter(|seen| seen.method() == "completion/complete");
    let sent: Vec<Value> = seen.map(|seen| seen.json["params"]["ref"]["uri"].clone()).collect();
    assert_eq!(sent, ["file:///public/{path}", "x://a/{path}"], "the template travels as it came");
    gateway.finish().await;
}

#[tokio::test]
async fn a_list_that_its_server_cannot_give_is_no_empty_one() {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(|seen| {
        let capabilities = json!({"tools": {}, "prompts": {}});
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {"name": "x", "version": "1"},
        });
        match seen.method() {
            "initialize" => Some(Say::Result(hello.to_string())),
            "prompts/list" => Some(Say::Error(json!({"code": -32000, "message": "the shelf is gone"}).to_string())),
            _ => None,
        }
    });
    let gateway = Setup::with(&upstream).start().await;
    for client in [gateway.agent().await.at(ROUTE).legacy().await, gateway.agent().await.at(ROUTE).modern()] {
        let answer = client.rpc("prompts/list", &json!({})).await;
        assert_eq!(answer.error()["message"], "the shelf is gone", "{}", answer.text);
        let answer = client.rpc("resources/list", &json!({})).await;
        assert_eq!(answer.result()["resources"], json!([]), "it offers none: {}", answer.text);
    }
    gateway.finish().await;
}
