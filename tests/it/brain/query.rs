//! Asking through MCP: both eras, bare and through `gateway_invoke`; who may ask; what hostile queries cost.

use serde_json::{Value, json};
use toolgate::domain::call::ToolRef;
use toolgate::gateway::control::Command;

use super::{TOOL, acme, ask, filled, import, keys, wrong};
use crate::support::{Program, Setup};

/// As the documentation prints it.
const SEED: &str = r#"{
    "jsonrpc": "2.0",
    "id": 3,
    "method": "tools/call",
    "params": {
      "name": "invoke.company_brain.query",
      "arguments": {
        "query": "Acme",
        "entity_type": "customer",
        "join_to": {"entity_type": "invoice"}
      }
    }
  }"#;

#[tokio::test]
async fn the_printed_example_works_without_a_configuration() {
    let program = Program::start().await;
    for name in ["mcp_readonly", "agent", "admin"] {
        let answer = program.client(name).post("/v1/mcp").text(SEED).send().await;
        let result = answer.result();
        let first = &result["structuredContent"]["entities"][0];
        assert_eq!(
            (&first["key"], &first["attributes"]["name"]),
            (&json!("c-1001"), &json!("Acme")),
            "{}",
            answer.text
        );
        let joined: Vec<&str> =
            first["joined"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
        assert_eq!(joined, ["inv-2001", "inv-2002", "inv-2003"]);
        assert_eq!(answer.governance()["policy"], "default-allow-read");
        assert!(answer.told().starts_with("customer c-1001: name=Acme"), "{}", answer.told());
    }
    program.stop().await;
}

#[tokio::test]
async fn every_spelling_and_era_gives_the_same_answer() {
    let gateway = Setup::new().start().await;
    filled(&gateway).await;
    let bare = gateway.agent().await;
    let expected = ask(&bare, &acme()).await;
    assert_eq!(keys(&expected), ["c-1001", "c-1002"]);
    for client in [&bare, &bare.legacy().await, &bare.modern()] {
        for name in
            ["company_brain.query", "invoke.company_brain.query", "company_brain_query", "toolgate:company_brain.query"]
        {
            let answer = client.call(name, &acme()).await;
            assert_eq!(answer.result()["structuredContent"], expected, "{name}");
        }
        let answer = client.invoke("toolgate", TOOL, &acme().to_string()).await;
        assert_eq!(answer.result()["structuredContent"], expected);
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert_eq!((&record["server"], &record["tool"]), (&json!("toolgate"), &json!(TOOL)));
        assert_eq!(record["notes"], json!(["entity types: customer, invoice"]));
        assert!(record["arguments_digest"].is_string() && !record.to_string().contains("Acme"), "{record}");
    }
    let owner = Command::Call { tool: format!("toolgate:{TOOL}"), arguments: acme() };
    assert_eq!(gateway.control(owner).await["result"]["structuredContent"], expected);
    gateway.finish().await;
}

#[tokio::test]
async fn it_is_listed_where_it_is_named_and_open_where_it_is_granted() {
    let gateway = Setup::new()
        .profile("no_scope", "scopes = [\"tools:read\"]\nallowed_tools = [\"*\"]")
        .profile(
            "no_grant",
            "scopes = [\"tools:read\", \"brain:read\", \"policy:simulate\"]\nallowed_tools = [\"github:*\"]",
        )
        .profile("glob", "scopes = [\"brain:read\"]\nallowed_tools = [\"toolgate:company*\"]")
        .start()
        .await;
    filled(&gateway).await;
    let client = async |profile: &str| gateway.client(&gateway.key(profile).await);
    for (profile, listed, open) in [
        ("mcp_readonly", true, true),
        ("agent", false, true),
        ("operator", false, true),
        ("admin", false, true),
        ("glob", false, true),
        ("no_scope", false, false),
        ("no_grant", false, false),
    ] {
        let client = client(profile).await;
        assert_eq!(client.tools().await.contains(&TOOL.to_owned()), listed, "{profile}");
        assert_eq!(
            client.legacy().await.tools().await.contains(&"company_brain_query".to_owned()),
            listed,
            "{profile}"
        );
        let answer = client.call(TOOL, &acme()).await;
        if open {
            assert_eq!(answer.result()["structuredContent"]["total"], 2, "{profile}");
        } else {
            assert_eq!(answer.error()["message"], format!("unknown tool `{TOOL}`"), "{profile}");
        }
    }
    let report = client("no_grant").await.simulate(&json!({"action": TOOL, "params": acme()})).await;
    assert_eq!((&report["decision"], &report["policy"]), (&json!("deny"), &json!("profile:no_grant")));
    let report = client("mcp_readonly").await.simulate(&json!({"action": TOOL, "params": acme()})).await;
    assert_eq!((&report["decision"], &report["policy"]), (&json!("allow"), &json!("default-allow-read")));
    gateway.finish().await;
}

#[tokio::test]
async fn a_policy_about_the_tool_decides_it_like_any_other() {
    let gateway = Setup::new()
        .shipped_policies()
        .policy(
            "no-brain",
            "@id(\"no-brain\") @reason(\"ask a colleague\")\n\
             forbid (principal, action == Toolgate::Action::\"toolgate:company_brain.query\", resource)\n\
             when { context.input has entity_type && context.input.entity_type == \"invoice\" };",
        )
        .start()
        .await;
    filled(&gateway).await;
    let client = gateway.agent().await;
    assert_eq!(client.call(TOOL, &json!({"entity_type": "invoice"})).await.denied(), "policy_denied");
    assert_eq!(ask(&client, &json!({"entity_type": "customer"})).await["total"], 6);
    let report = client.simulate(&json!({"action": TOOL, "params": {"entity_type": "invoice"}})).await;
    assert_eq!((&report["decision"], &report["policy"]), (&json!("deny"), &json!("no-brain")));
    gateway.finish().await;
}

#[tokio::test]
async fn it_says_what_there_is_and_what_is_wrong() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    let empty = client.call(TOOL, &json!({})).await;
    assert_eq!(empty.result()["structuredContent"]["types"], json!([]));
    assert_eq!(empty.told(), "there are no entities: `toolgate brain import FILE` brings some");
    assert!(!gateway.file("data/brain.db").exists(), "looking makes no file");
    let answer = client.call(TOOL, &json!({"entity_type": "customer"})).await;
    assert_eq!(wrong(&answer), "there is no entity type `customer`: nothing was imported yet");
    filled(&gateway).await;
    let types = ask(&client, &json!({})).await;
    assert_eq!(types["types"][1]["relations"], json!([{"on": "invoice.customer_id=customer.id", "declared": false}]));
    let answer = client.call(TOOL, &json!({"entity_type": "custumer"})).await;
    assert_eq!(wrong(&answer), "there is no entity type `custumer`: known are customer, invoice, ticket");
    for (arguments, path) in [
        (json!({"limit": 0}), "/limit"),
        (json!({"limit": 101}), "/limit"),
        (json!({"query": 7}), "/query"),
        (json!({"query": "x".repeat(1001)}), "/query"),
        (json!({"nonsense": 1}), ""),
        (json!({"join_to": {}}), "/join_to"),
        (json!({"join_to": {"entity_type": "invoice", "x": 1}}), "/join_to"),
        (json!({"filter": []}), "/filter"),
        (json!({"aggregate": {"avg": ["x"]}}), "/aggregate"),
    ] {
        let answer = client.call(TOOL, &arguments).await;
        assert_eq!(answer.denied(), "invalid_arguments", "{arguments}");
        assert!(answer.text.contains(path), "{}", answer.text);
    }
    gateway.finish().await;
}

/// Whatever a query holds is text: it breaks nothing, shows nothing, and ends soon.
#[tokio::test]
async fn hostile_queries_are_text() {
    let gateway = Setup::new().start().await;
    filled(&gateway).await;
    let client = gateway.agent().await;
    let deep = (0..50).fold(json!("x"), |inner, _| json!({"gte": inner}));
    let wide: Value = (0..40).map(|n| (format!("f{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    for arguments in [
        json!({"query": "acme\" OR words:*"}),
        json!({"query": "NEAR(acme invoice, 5) AND NOT ^x*"}),
        json!({"query": "' OR 1=1; select * from keys; --"}),
        json!({"query": "*"}),
        json!({"query": "\u{0}\u{202e}acme"}),
        json!({"query": "a ".repeat(500)}),
        json!({"entity_type": "customer'; DROP TABLE entities; --"}),
        json!({"entity_type": "customer", "filter": {"name'": 1}}),
        json!({"entity_type": "customer", "filter": {"name": "' OR '1'='1"}}),
        json!({"entity_type": "customer", "filter": {"name": deep}}),
        json!({"entity_type": "customer", "filter": wide}),
        json!({"entity_type": "customer", "filter": {"name": {"in": vec!["x"; 1000]}}}),
        json!({"entity_type": "customer", "fields": ["*"]}),
        json!({"entity_type": "customer", "join_to": {"entity_type": "invoice", "on": "1=1"}}),
        json!({"entity_type": "customer", "cursor": "../../etc/passwd"}),
        json!({"entity_type": "customer", "cursor": "x".repeat(10_000)}),
    ] {
        let answer = client.call(TOOL, &arguments).await;
        assert_eq!(answer.status, 200, "{arguments}: {}", answer.text);
        let result = answer.result();
        let told = result["content"][0]["text"].as_str().unwrap();
        for leak in ["SQL", "sqlite", "syntax", "fts", "no such column", "rusqlite", "internal"] {
            assert!(!told.contains(leak), "{arguments}: {told}");
        }
    }
    assert_eq!(ask(&client, &json!({"entity_type": "customer"})).await["total"], 6, "nothing is lost");
    gateway.finish().await;
}

/// A join of everything with everything is bounded, in rows and in bytes.
#[tokio::test]
async fn a_huge_join_is_bounded() {
    let gateway = Setup::new().start().await;
    let mut text = String::new();
    for n in 0..300 {
        text.push_str(&format!("{{\"type\":\"left\",\"id\":{n},\"of\":\"same\",\"pad\":\"{}\"}}\n", "x".repeat(300)));
        for m in 0..8 {
            text.push_str(&format!("{{\"type\":\"right\",\"id\":\"{n}-{m}\",\"of\":\"same\",\"n\":{m}}}\n"));
        }
    }
    import(&gateway, &text).await;
    let client = gateway.agent().await;
    let huge = json!({
        "entity_type": "left", "limit": 100,
        "join_to": {"entity_type": "right", "on": "left.of=right.of", "limit": 100, "filter": {"n": {"gte": 0}}},
    });
    let answer = client.call(TOOL, &huge).await;
    assert!(answer.text.len() < 2 << 20, "{}", answer.text.len());
    let result = answer.result();
    if result["isError"] == true {
        assert_eq!(result["structuredContent"]["error"]["code"], "query_too_long");
    } else {
        let told = result["structuredContent"]["omitted"].to_string();
        assert!(told.contains("at least") && told.contains("are shown"), "{told}");
    }
    assert_eq!(ask(&client, &json!({"entity_type": "left", "limit": 1})).await["total"], 300);
    gateway.finish().await;
}

#[tokio::test]
async fn an_import_is_an_act_in_the_record() {
    let gateway = Setup::new().start().await;
    filled(&gateway).await;
    let records = gateway.records().await;
    let act = records.iter().find(|record| record["tool"] == "brain.import").unwrap();
    assert_eq!((&act["decision"], &act["outcome"]), (&json!("allow"), &json!("answered")));
    assert_eq!(
        act["notes"],
        json!(["entity types: customer, invoice, ticket", "18 created, 0 updated, 0 unchanged, 0 refused"])
    );
    // It is not a tool.
    let asked = ToolRef::Text("toolgate:brain.import".into());
    let carried = gateway.carry(&gateway.key("admin").await, asked, None).await;
    assert_eq!(carried.governance.decision, "deny");
    gateway.finish().await;
}
