//! A script: one POST with a key and a content type, and nothing else.

use serde_json::json;

use crate::support::{FakeUpstream, Setup, TestGateway};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;

#[tokio::test]
async fn one_post_is_enough() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    for path in ["/v1/mcp", "/v1/mcp/", "/mcp", "/mcp/"] {
        let answer = client.post(path).text(LIST).send().await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{path}");
        assert_eq!(answer.header("mcp-session-id"), None);
        let names: Vec<_> =
            answer.result()["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
        assert_eq!(names, ["gateway_search_tools", "gateway_invoke", "policy.simulate"]);
    }
    let without_params = client.post("/v1/mcp").text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).send().await;
    assert_eq!(without_params.status, 200);
    let with_bearer = client.post("/v1/mcp").without("x-api-key");
    let key = gateway.key("mcp_readonly").await;
    let answer = with_bearer.header("authorization", &format!("Bearer {}", key.text)).text(LIST).send().await;
    assert_eq!(answer.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn ids_come_back_as_they_were_written() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    for id in ["0", "-7", "\"0\"", "\"\"", "\"\\u0061\"", "\"listen:0\"", "12345678901234567890123", " 5 "] {
        let answer =
            client.post("/v1/mcp").text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).send().await;
        assert_eq!(answer.text, format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, id.trim()));
        let error =
            client.post("/v1/mcp").text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"nope"}}"#)).send().await;
        assert!(
            error.text.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"#, id.trim())),
            "{}",
            error.text
        );
    }
    gateway.finish().await;
}

#[tokio::test]
async fn lists_that_are_empty_and_cursors_that_are_nobodys() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    for (method, member) in [
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ] {
        assert_eq!(client.rpc(method, &json!({})).await.result(), json!({member: []}));
        for cursor in [json!("x"), json!(""), json!(7)] {
            assert_eq!(
                client.rpc(method, &json!({"cursor": cursor})).await.refused(),
                (200, -32602),
                "{method} {cursor}"
            );
        }
    }
    assert_eq!(client.rpc("tools/list", &json!({"cursor": "x"})).await.refused(), (200, -32602));
    assert_eq!(client.rpc("prompts/get", &json!({"name": "x"})).await.refused(), (200, -32602));
    assert_eq!(client.rpc("resources/read", &json!({"uri": "x://y"})).await.refused(), (200, -32002));
    gateway.finish().await;
}

#[tokio::test]
async fn notifications_are_taken_and_unknown_methods_are_named() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    for text in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/made_up","params":{"a":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#,
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"up:write"}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":3,"error":{"code":1,"message":"no"}}"#,
    ] {
        let answer = client.post("/v1/mcp").text(text).send().await;
        assert_eq!((answer.status, answer.text.as_str()), (202, ""), "{text}");
    }
    assert_eq!(gateway.records().await.len(), 0, "a notification calls nothing");
    let answer = client.rpc("tools/nope", &json!({})).await;
    assert_eq!(answer.refused(), (200, -32601));
    assert_eq!(answer.error()["message"], "method `tools/nope` is not known");
    gateway.finish().await;
}

#[tokio::test]
async fn the_card_is_there_for_everybody() {
    let gateway = Setup::new().config("[gateway]\npublic_url = \"https://gw.example/\"").start().await;
    let card = gateway.stranger().get("/v1/mcp").send().await;
    assert_eq!(card.status, 200);
    let card = card.json();
    assert_eq!(card["name"], "toolgate");
    assert_eq!(card["protocolVersions"], json!(["2026-07-28", "2025-11-25", "2025-06-18"]));
    assert_eq!(card["url"], "https://gw.example/v1/mcp");
    assert_eq!(card["key_profiles_url"], "https://gw.example/v1/mcp/key-profiles");
    assert_eq!(gateway.stranger().get("/mcp").header("accept", "application/json").send().await.status, 200);
    gateway.finish().await;
}

/// The tools that a call without the right params names.
#[tokio::test]
async fn calls_need_a_name_and_an_object() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for params in [
        json!({}),
        json!({"name": 3}),
        json!({"name": "up:read", "arguments": []}),
        json!({"name": "up:read", "arguments": null}),
    ] {
        assert_eq!(client.rpc("tools/call", &params).await.refused(), (200, -32602), "{params}");
    }
    let no_params = client.post("/v1/mcp").text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#).send().await;
    assert_eq!(no_params.refused(), (200, -32602));
    assert_eq!(upstream.calls().len(), 0);
    one_call_has_one_record(&gateway, &client).await;
    gateway.finish().await;
}

async fn one_call_has_one_record(gateway: &TestGateway, client: &crate::support::Client) {
    let before = gateway.records().await.len();
    let answer = client.call("up:read", &json!({})).await;
    let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
    assert_eq!((record["outcome"].as_str(), record["tool"].as_str()), (Some("answered"), Some("read")));
    assert_eq!(gateway.records().await.len(), before + 1);
}
