//! `gateway_search_tools`: what a hit is, and that nothing costs more than it should.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Setup, tool};

async fn search(client: &Client, arguments: Value) -> Value {
    client.call("gateway_search_tools", &arguments).await.result()
}

fn ids(result: &Value) -> Vec<String> {
    let tools = result["structuredContent"]["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn hits_say_how_to_call_them() {
    let gateway = Setup::demo().start().await;
    let client = gateway.agent().await;
    let found = search(&client, json!({"query": "open an issue in a repository"})).await;
    assert_eq!(ids(&found)[0], "github:create_issue");
    let (hit, others) = found["structuredContent"]["tools"].as_array().unwrap().split_first().unwrap();
    assert_eq!(
        (hit["server"].clone(), hit["name"].clone(), hit["risk"].clone()),
        (json!("github"), json!("create_issue"), json!("write"))
    );
    assert_eq!(hit["signature"], "create_issue(repo:str, title:str, body?:str)");
    assert!(hit["score"].is_number() && hit["description"].is_string());
    assert_eq!(hit["input_schema"]["required"], json!(["repo", "title"]), "the schema of the best hit");
    assert!(others.iter().all(|other| other.get("input_schema").is_none()));
    let content = found["content"].as_array().unwrap();
    assert_eq!((content.len(), content[0]["type"].clone()), (1, json!("text")), "one block");
    let text = content[0]["text"].as_str().unwrap();
    assert!(text.contains("github/create_issue(") && text.len() < 1200, "{text}");
    let full = search(&client, json!({"query": "repository", "detail": "full"})).await;
    assert!(full["structuredContent"]["tools"].as_array().unwrap().iter().all(|hit| hit["input_schema"].is_object()));
    let narrowed = search(&client, json!({"query": "list query repository", "server": "database"})).await;
    assert!(ids(&narrowed).iter().all(|id| id.starts_with("database:")), "{narrowed}");
    assert_eq!(ids(&search(&client, json!({"query": "repository", "limit": 1})).await).len(), 1);
    gateway.finish().await;
}

#[tokio::test]
async fn nothing_relevant_is_nothing() {
    let gateway = Setup::demo().start().await;
    let client = gateway.agent().await;
    for query in ["book a flight to Lisbon", "qwertyuiop", "", "the of and", "💩"] {
        let found = search(&client, json!({"query": query})).await;
        assert_eq!(found["structuredContent"]["tools"], json!([]), "{query}");
        assert!(found["content"][0]["text"].is_string());
    }
    let nowhere = search(&client, json!({"query": "repository", "server": "nowhere"})).await;
    assert_eq!(ids(&nowhere), Vec::<String>::new());
    gateway.finish().await;
}

/// The gateway's own tools are found where they may be called, but for those that everybody is listed anyway.
#[tokio::test]
async fn own_tools_are_found_by_those_who_may_call_them() {
    let setup = Setup::demo()
        .profile("looks", "scopes = [\"tools:read\", \"evals:read\", \"evals:write\"]\nread_only = true")
        .profile("bare", "scopes = [\"tools:read\", \"brain:read\"]");
    let gateway = setup.start().await;
    let first = async |client: &Client, query: &str| {
        ids(&search(client, json!({"query": query})).await).first().cloned().unwrap_or_default()
    };
    let own =
        async |client: &Client| ids(&search(client, json!({"query": "", "server": "toolgate", "limit": 50})).await);
    let operator = gateway.client(&gateway.writer("operator").await);
    for (query, id) in [
        ("start an evaluation run", "toolgate:eval.run.create"),
        ("list calls that wait for approval", "toolgate:approvals.list"),
        ("what does the company know about a customer", "toolgate:company_brain.query"),
        ("governance.readiness", "toolgate:governance.readiness"),
        ("open an issue in a repository", "github:create_issue"),
        ("run a query on the database", "database:query"),
    ] {
        assert_eq!(first(&operator, query).await, id, "{query}");
    }
    let found = search(&operator, json!({"query": "start an evaluation run", "limit": 1})).await;
    let hit = &found["structuredContent"]["tools"][0];
    assert_eq!(
        (&hit["server"], &hit["name"], &hit["risk"]),
        (&json!("toolgate"), &json!("eval.run.create"), &json!("write"))
    );
    assert_eq!(hit["input_schema"]["required"], json!(["evaluationId"]));
    assert!(found["content"][0]["text"].as_str().unwrap().starts_with("toolgate/eval.run.create("), "{found}");
    let cases = operator.invoke("toolgate", "eval.testcase.list", r#"{"evaluationId":42}"#).await;
    assert_ne!(cases.status, 404, "what is found can be called: {}", cases.text);
    let over_rest = operator.get("/v1/mcps?q=start%20an%20evaluation%20run").send().await.json();
    assert_eq!(over_rest["data"][0]["id"], "toolgate:eval.run.create");

    let all = own(&operator).await;
    assert!(all.contains(&"toolgate:executions.get".to_owned()), "{all:?}");
    for listed in ["gateway_search_tools", "gateway_invoke", "policy.simulate"] {
        assert!(!all.contains(&format!("toolgate:{listed}")), "{all:?}");
    }
    assert_eq!(own(&gateway.agent().await).await, ["toolgate:company_brain.query", "toolgate:preflight.check"]);
    let reader = own(&gateway.client(&gateway.key("operator").await)).await;
    assert!(!reader.contains(&"toolgate:eval.run.create".to_owned()), "no policy permits it: {reader:?}");
    let looks = gateway.client(&gateway.writer("looks").await);
    assert_eq!(own(&looks).await, ["toolgate:eval.quality.latest", "toolgate:eval.testcase.list"]);
    let run = looks.call("eval.run.create", &json!({"evaluationId": 42})).await;
    assert_eq!(run.refused(), (200, -32602), "what changes something lies outside a profile that only reads");
    assert_eq!(
        own(&gateway.client(&gateway.key("bare").await)).await,
        Vec::<String>::new(),
        "data of the company is granted"
    );
    gateway.finish().await;
}

/// The index follows the catalogue.
#[tokio::test]
async fn new_tools_are_found() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    assert_eq!(ids(&search(&client, json!({"query": "translate text"})).await), Vec::<String>::new());
    upstream.set_tools(json!([tool("translate_text", &json!({"readOnlyHint": true}))]));
    crate::support::eventually("the gateway listens", async || upstream.is_listened_to().then_some(())).await;
    upstream.tell_changed();
    crate::support::eventually("the new tool is found", async || {
        (ids(&search(&client, json!({"query": "translate text"})).await) == ["up:translate_text"]).then_some(())
    })
    .await;
    gateway.finish().await;
}

/// Whatever is asked is answered soon.
#[tokio::test]
async fn hostile_queries_are_cheap() {
    let gateway = Setup::demo().start().await;
    let client = gateway.agent().await;
    for query in [
        "a".repeat(1_000_000),
        "repo ".repeat(100_000),
        "(a+)+$".repeat(1000),
        "a b c d e f ".repeat(20_000),
        "é̂".repeat(50_000),
    ] {
        let searching = search(&client, json!({"query": query}));
        assert!(
            tokio::time::timeout(Duration::from_secs(5), searching).await.is_ok(),
            "{} bytes of {:?}",
            query.len(),
            &query[..4]
        );
    }
    gateway.finish().await;
}
