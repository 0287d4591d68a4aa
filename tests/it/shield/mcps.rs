//! `/v1/mcps`: who is shown what, page by page and one by one; and calls.

use serde_json::{Value, json};

use super::{all, code, data};
use crate::support::{Client, FakeUpstream, Response, Say, Setup, eventually, tool};

async fn invoke(client: &Client, id: &str, input: &str) -> Response {
    client.post(&format!("/v1/mcps/{id}/invoke")).text(&format!("{{\"input\":{input}}}")).send().await
}

fn ids(tools: &[Value]) -> Vec<&str> {
    tools.iter().map(|tool| tool["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_hold_every_tool_once_in_one_order() {
    let upstream = FakeUpstream::legacy().await;
    let read = json!({"readOnlyHint": true});
    let named = |from: u32, to: u32| -> Vec<Value> { (from..to).map(|n| tool(&format!("t{n:03}"), &read)).collect() };
    upstream.set_tools(json!(named(0, 25)));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let (tools, pages) = all(&client, "/v1/mcps", 7).await;
    assert_eq!(pages, 4);
    let mut expected = vec!["toolgate:gateway_invoke", "toolgate:gateway_search_tools", "toolgate:policy.simulate"];
    let labels: Vec<String> = (0..25).map(|n| format!("up:t{n:03}")).collect();
    expected.extend(labels.iter().map(String::as_str));
    assert_eq!(ids(&tools), expected);
    // A tool that comes or goes meanwhile moves no other over the border of a page.
    let first = client.get("/v1/mcps?server=up&limit=10").send().await;
    upstream.set_tools(json!(named(3, 30)));
    eventually("the gateway listens", async || upstream.is_listened_to().then_some(())).await;
    upstream.tell_changed();
    let Value::String(cursor) = first.json()["meta"]["next_cursor"].clone() else { panic!("{}", first.text) };
    let rest = eventually("the new list is taken in", async || {
        let answer = client.get(&format!("/v1/mcps?server=up&limit=50&cursor={cursor}")).send().await;
        let tools = data(&answer);
        tools.as_array().unwrap().iter().any(|tool| tool["name"] == "t029").then_some(tools)
    })
    .await;
    let after: Vec<String> = (10..30).map(|n| format!("up:t{n:03}")).collect();
    assert_eq!(ids(rest.as_array().unwrap()), after);
    gateway.finish().await;
}

#[tokio::test]
async fn filters_and_words_narrow_the_list() {
    let gateway = Setup::demo().start().await;
    let client = gateway.agent().await;
    let list =
        async |query: &str| data(&client.get(&format!("/v1/mcps{query}")).send().await).as_array().unwrap().clone();
    assert_eq!(ids(&list("?server=database").await), ["database:execute", "database:query"]);
    assert_eq!(ids(&list("?risk=destructive").await), ["database:execute"]);
    assert_eq!(ids(&list("?server=github&risk=read").await), ["github:get_repo", "github:list_repos"]);
    assert_eq!(list("?server=nowhere").await, Vec::<Value>::new());
    let found = list("?q=list%20repositories").await;
    assert_eq!(ids(&found)[0], "github:list_repos");
    assert!(found[0]["score"].as_f64().unwrap() > 0.0, "{}", found[0]);
    assert_eq!(ids(&list("?q=list+repositories&server=database").await), Vec::<&str>::new());
    let (paged, pages) = all(&client, "/v1/mcps?q=repository", 1).await;
    assert_eq!(paged, list("?q=repository").await);
    assert_eq!(pages, paged.len());
    for bad in ["?limit=0", "?limit=201", "?limit=x", "?risk=some", "?cursor=!", "?cursor=YQ", "?wat=1", "?q=a&q=b"] {
        let answer = client.get(&format!("/v1/mcps{bad}")).send().await;
        assert_eq!(code(&answer), (400, "invalid_request".into()), "{bad}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_tool_is_told_with_its_schemas_as_they_are() {
    let upstream = FakeUpstream::legacy().await;
    let mut rich = tool("rich", &json!({"readOnlyHint": true}));
    rich["inputSchema"] = json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}});
    rich["outputSchema"] = json!({"type": "object"});
    upstream.set_tools(json!([rich.clone()]));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for spelling in ["up:rich", "up.rich", "up__rich", "up%2Frich"] {
        let told = data(&client.get(&format!("/v1/mcps/{spelling}")).send().await);
        assert_eq!((&told["id"], &told["risk"]), (&json!("up:rich"), &json!("read")), "{spelling}");
        assert_eq!(told["input_schema"], rich["inputSchema"]);
        assert_eq!(told["output_schema"], rich["outputSchema"]);
        assert_eq!(told["annotations"], rich["annotations"]);
    }
    let own = data(&client.get("/v1/mcps/toolgate:policy.simulate").send().await);
    assert_eq!((&own["server"], &own["name"]), (&json!("toolgate"), &json!("policy.simulate")));
    gateway.finish().await;
}

/// What a caller may not see is not there.
#[tokio::test]
async fn what_is_hidden_is_as_what_is_not_there() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream)
        .profile("narrow", "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"up:read\"]")
        .profile("knows", "scopes = [\"tools:read\", \"brain:read\"]\nallowed_tools = [\"company_brain.query\"]")
        .profile("forgets", "scopes = [\"tools:read\", \"brain:read\"]\nallowed_tools = [\"up:read\"]")
        .profile("blind", "scopes = [\"tools:invoke\"]\nallowed_tools = [\"*\"]")
        .start()
        .await;
    let narrow = gateway.client(&gateway.key("narrow").await);
    let shown = data(&narrow.get("/v1/mcps").send().await);
    assert_eq!(ids(shown.as_array().unwrap()), ["toolgate:gateway_invoke", "toolgate:gateway_search_tools", "up:read"]);
    let strip = |answer: &Response, name: &str| (answer.status, answer.error().to_string().replace(name, "X"));
    let hidden = narrow.get("/v1/mcps/up:again").send().await;
    let absent = narrow.get("/v1/mcps/up:agaim").send().await;
    assert_eq!(hidden.status, 404);
    assert_eq!(strip(&hidden, "up:again"), strip(&absent, "up:agaim"));
    let hidden = invoke(&narrow, "up:again", "{}").await;
    let absent = invoke(&narrow, "up:agaim", "{}").await;
    assert_eq!(code(&hidden), (404, "not_found".into()));
    assert_eq!(strip(&hidden, "up:again"), strip(&absent, "up:agaim"));
    assert!(upstream.calls().is_empty());
    for (profile, status) in [("knows", 200), ("forgets", 404)] {
        let client = gateway.client(&gateway.key(profile).await);
        assert_eq!(client.get("/v1/mcps/company_brain.query").send().await.status, status, "{profile}");
    }
    // No policy permits a write without the role: hidden from lists, refused by name.
    let reader = gateway.client(&gateway.key("agent").await);
    assert_eq!(reader.get("/v1/mcps/up:write").send().await.status, 404);
    assert_eq!(code(&invoke(&reader, "up:write", "{}").await), (403, "policy_denied".into()));
    let blind = gateway.client(&gateway.key("blind").await);
    assert_eq!(code(&blind.get("/v1/mcps").send().await), (403, "insufficient_scope".into()));
    assert_eq!(blind.get("/v1/mcps").send().await.error()["details"], json!({"scope": "tools:read"}));
    assert_eq!(invoke(&blind, "up:read", "{}").await.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn a_result_is_given_in_short_byte_for_byte() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let text = |text: &str| json!({"type": "text", "text": text}).to_string();
    for (result, short) in [
        (
            r#"{"content":[],"structuredContent":{ "n": 1.50e2,"a":"\u0041" }}"#.to_owned(),
            r#"{ "n": 1.50e2,"a":"\u0041" }"#.to_owned(),
        ),
        (format!(r#"{{"content":[{}]}}"#, text("[1, 2.0]")), "[1, 2.0]".into()),
        (format!(r#"{{"content":[{}]}}"#, text("done")), format!(r#"{{"content":[{}]}}"#, text("done"))),
        (
            format!(r#"{{"content":[{},{}]}}"#, text("1"), text("2")),
            format!(r#"{{"content":[{},{}]}}"#, text("1"), text("2")),
        ),
    ] {
        let said = result.clone();
        upstream.on_call(move |_| Say::Result(said.clone()));
        let answer = invoke(&client, "up:read", r#"{ "n" : 1.50e2 }"#).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.text.starts_with(&format!("{{\"result\":{short},\"governance\":{{")),
            "{result}: {}",
            answer.text
        );
        assert_eq!(upstream.calls().last().unwrap().arguments().as_deref(), Some(r#"{ "n" : 1.50e2 }"#));
    }
    upstream.on_call(|_| Say::Result(r#"{"content":[{"type":"text","text":"no such repo"}],"isError":true}"#.into()));
    let answer = invoke(&client, "up:read", "{}").await;
    assert_eq!((answer.status, &answer.json()["meta"]["is_error"]), (200, &json!(true)));
    assert_eq!(answer.json()["result"]["content"][0]["text"], "no such repo");
    gateway.finish().await;
}

#[tokio::test]
async fn the_input_may_be_absent() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let path = "/v1/mcps/up:read/invoke";
    assert_eq!(client.post(path).text("{}").send().await.status, 200);
    assert_eq!(client.draft("POST", path).send().await.status, 200, "no body needs no type");
    assert!(upstream.calls().iter().all(|call| call.arguments().is_none()));
    for body in ["[]", "7", "{", r#"{"input":[]}"#, r#"{"inputs":{}}"#, r#"{"input":{"a":1,"a":2}}"#] {
        let answer = client.post(path).text(body).send().await;
        assert_eq!(code(&answer), (400, "invalid_request".into()), "{body}");
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert_eq!(record["outcome"], "refused", "{body}");
    }
    assert_eq!(client.post(path).with("content-type", "text/plain").text("{}").send().await.status, 415);
    assert_eq!(upstream.calls().len(), 2);
    gateway.finish().await;
}

/// Each way of not getting a result: its status, its code, and the governance beside it.
#[tokio::test]
async fn every_refusal_has_its_code() {
    let upstream = FakeUpstream::legacy().await;
    let mut strict = tool("strict", &json!({"readOnlyHint": true}));
    strict["inputSchema"] = json!({"type": "object", "required": ["n"]});
    let mut tools = vec![strict, tool("slow", &json!({"readOnlyHint": true}))];
    tools.push(tool("limited", &json!({"readOnlyHint": true})));
    tools.push(tool("read", &json!({"readOnlyHint": true})));
    tools.push(tool("destroy", &json!({"destructiveHint": true})));
    upstream.set_tools(json!(tools));
    upstream.on_call(|seen| match seen.tool() {
        "slow" => Say::Hang,
        "limited" => Say::text("done"),
        _ => Say::Status(500),
    });
    let rows = "[servers.up.tools.limited]\nrate_limit = \"1/h\"\n[servers.up.tools.slow]\ntimeout = \"200ms\"";
    let gateway = Setup::new().config(&upstream.section("up", rows)).start().await;
    let client = gateway.agent().await;
    assert_eq!(invoke(&client, "up:limited", "{}").await.status, 200);
    for (id, status, word, decision) in [
        ("up:strict", 400, "invalid_request", "error"),
        ("up:destroy", 202, "approval_required", "approval"),
        ("up:limited", 429, "rate_limited", "deny"),
        ("up:read", 502, "backend_error", "allow"),
        ("up:slow", 504, "backend_timeout", "allow"),
        ("up:none", 404, "not_found", "deny"),
    ] {
        let answer = invoke(&client, id, "{}").await;
        assert_eq!(code(&answer), (status, word.to_owned()), "{id}: {}", answer.text);
        let governance = answer.json()["governance"].clone();
        assert_eq!(governance["decision"], decision, "{id}");
        assert_eq!(governance["audit_event_id"].as_str(), answer.header("toolgate-audit-id"), "{id}");
        assert_eq!(
            answer.header("retry-after").is_some(),
            status == 429 || answer.error()["details"]["retry_after"].is_u64(),
            "{id}"
        );
    }
    let misfit = invoke(&client, "up:strict", "{}").await.error();
    assert!(misfit["message"].as_str().unwrap().contains("`n` is required"), "{misfit}");
    assert!(misfit["details"]["faults"].is_array() && misfit["details"]["input_schema"].is_object(), "{misfit}");
    gateway.finish().await;
}
