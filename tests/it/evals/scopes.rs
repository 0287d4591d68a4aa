//! Who may do what with evaluations, as a table that people can read.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{call, with_suite};
use crate::support::{Client, Setup};

const SUITE: &str = "id = 7\nname = \"looks\"\n[[cases]]\nname = \"looks\"\ntool = \"eval.testcase.list\"\narguments = { evaluationId = 7 }\n";

/// How a call ends over REST and over MCP, and what a simulation says of it.
async fn row(client: &Client, tool: &str, arguments: &Value) -> String {
    let answer = call(client, tool, arguments).await.json();
    let told = answer.get("error").map_or("ok", |error| error["code"].as_str().unwrap()).to_owned();
    let host = client.call(tool, arguments).await;
    let over_mcp = match host.json().get("error") {
        Some(error) => error["message"].as_str().unwrap().split(' ').take(2).collect::<Vec<_>>().join(" "),
        None => host.governance()["decision"].as_str().unwrap().to_owned(),
    };
    let report = client.simulate(&json!({"server": "toolgate", "tool": tool, "arguments": arguments})).await;
    let (decision, policy) = (report["decision"].as_str().unwrap(), report["policy"].as_str().unwrap());
    format!("{tool:<20} {told:<9} {over_mcp:<13} {decision} {policy}")
}

#[tokio::test]
async fn the_table_is_as_it_was_reviewed() {
    let gateway = with_suite(Setup::new(), "looks.toml", SUITE).start().await;
    let mut table = String::new();
    for profile in ["mcp_readonly", "agent", "operator", "admin"] {
        for role in ["no roles", "writer"] {
            let key = if role == "writer" { gateway.writer(profile).await } else { gateway.key(profile).await };
            let client = gateway.client(&key);
            for (tool, arguments) in [
                ("eval.run.create", json!({"evaluationId": 7})),
                ("eval.quality.latest", json!({"evaluationId": 7})),
                ("eval.testcase.list", json!({"evaluationId": 7})),
                ("eval.trace.create", json!({"name": "n"})),
            ] {
                writeln!(table, "{profile:<12} {role:<8} {}", row(&client, tool, &arguments).await).unwrap();
            }
        }
    }
    insta::assert_snapshot!(table, @r"
mcp_readonly no roles eval.run.create      FORBIDDEN unknown tool  deny profile:mcp_readonly
mcp_readonly no roles eval.quality.latest  FORBIDDEN unknown tool  deny profile:mcp_readonly
mcp_readonly no roles eval.testcase.list   FORBIDDEN unknown tool  deny profile:mcp_readonly
mcp_readonly no roles eval.trace.create    FORBIDDEN unknown tool  deny profile:mcp_readonly
mcp_readonly writer   eval.run.create      FORBIDDEN unknown tool  deny profile:mcp_readonly
mcp_readonly writer   eval.quality.latest  FORBIDDEN unknown tool  deny profile:mcp_readonly
mcp_readonly writer   eval.testcase.list   FORBIDDEN unknown tool  deny profile:mcp_readonly
mcp_readonly writer   eval.trace.create    FORBIDDEN unknown tool  deny profile:mcp_readonly
agent        no roles eval.run.create      FORBIDDEN unknown tool  deny profile:agent
agent        no roles eval.quality.latest  FORBIDDEN unknown tool  deny profile:agent
agent        no roles eval.testcase.list   FORBIDDEN unknown tool  deny profile:agent
agent        no roles eval.trace.create    FORBIDDEN unknown tool  deny profile:agent
agent        writer   eval.run.create      FORBIDDEN unknown tool  deny profile:agent
agent        writer   eval.quality.latest  FORBIDDEN unknown tool  deny profile:agent
agent        writer   eval.testcase.list   FORBIDDEN unknown tool  deny profile:agent
agent        writer   eval.trace.create    FORBIDDEN unknown tool  deny profile:agent
operator     no roles eval.run.create      FORBIDDEN deny          deny default-deny
operator     no roles eval.quality.latest  NOT_FOUND error         allow default-allow-read
operator     no roles eval.testcase.list   ok        allow         allow default-allow-read
operator     no roles eval.trace.create    FORBIDDEN deny          deny default-deny
operator     writer   eval.run.create      ok        allow         allow allow-write-to-writers
operator     writer   eval.quality.latest  ok        allow         allow default-allow-read
operator     writer   eval.testcase.list   ok        allow         allow default-allow-read
operator     writer   eval.trace.create    ok        allow         allow allow-write-to-writers
admin        no roles eval.run.create      FORBIDDEN deny          deny default-deny
admin        no roles eval.quality.latest  ok        allow         allow default-allow-read
admin        no roles eval.testcase.list   ok        allow         allow default-allow-read
admin        no roles eval.trace.create    FORBIDDEN deny          deny default-deny
admin        writer   eval.run.create      ok        allow         allow allow-write-to-writers
admin        writer   eval.quality.latest  ok        allow         allow default-allow-read
admin        writer   eval.testcase.list   ok        allow         allow default-allow-read
admin        writer   eval.trace.create    ok        allow         allow allow-write-to-writers
");
    gateway.finish().await;
}

/// None of them is in what an agent is listed; a profile that names one is.
#[tokio::test]
async fn an_agent_is_not_listed_them() {
    let body = "scopes = [\"tools:read\", \"evals:read\"]\nallowed_tools = [\"eval.quality.latest\", \"*\"]";
    let gateway = Setup::new().profile("named", body).start().await;
    for profile in ["agent", "operator", "admin", "mcp_readonly"] {
        let tools = gateway.client(&gateway.writer(profile).await).tools().await;
        assert!(!tools.iter().any(|name| name.starts_with("eval")), "{profile}: {tools:?}");
    }
    let named = gateway.client(&gateway.writer("named").await);
    let tools: Vec<String> = named.tools().await;
    assert!(
        tools.contains(&"eval.quality.latest".to_owned()) && !tools.contains(&"eval.testcase.list".to_owned()),
        "{tools:?}"
    );
    let definition = named.rpc("tools/list", &json!({})).await.result()["tools"].clone();
    let annotations: Vec<&Value> =
        definition.as_array().unwrap().iter().filter(|tool| tool["name"] == "eval.quality.latest").collect();
    assert_eq!(annotations[0]["annotations"]["readOnlyHint"], true);
    gateway.finish().await;
}
